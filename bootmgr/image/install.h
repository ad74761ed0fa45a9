/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A bundle becomes a slot. The caller (operation/upgrade.c) has recorded the slot as incomplete and
 * removed its entries before install_images() writes the first byte. */
#pragma once

#include "image/bundle.h"
#include "loader/loader.h"

/* What an install did, for who asks: bytes and µs. */
struct install_report {
        uint64_t written, zeroed;
        uint64_t kept, copied; /* chunks that lay in their place, or in the running slot */
        uint64_t fetched;
        struct full_use full; /* that a delta lacked */
        struct extract_times times;
        uint64_t reuse, flush;
};

struct install_target {
        struct range *root;    /* open for writing */
        struct loader *loader; /* open for writing; takes kernel and initrd */
        int data;              /* DATA directory: manifest and chunk digests are kept in slots/<slot>/; -1: not kept */
        int slot;
        const struct range *running; /* root of another slot, whose chunks may be copied; NULL: none */
        int running_slot;
        struct install_report *report; /* filled in by install_images(); may be NULL */
};

/* Everything that can be refused before the first byte: compatible, floor, minimum versions, images
 * present, root image fits the range (kind_bundle_incompatible), room on the ESP. */
struct install_limits {
        const char *compatible; /* NULL: anything */
        const char *bootmgr_version;
        uint64_t floor;
        uint64_t root_size; /* of the range */
        bool writable_root; /* of the slot, as it will be mounted */
        uint64_t esp_free;  /* UINT64_MAX: the loader keeps no boot files, the bundle needs none */
};
int install_check(const struct manifest *m, const struct install_limits *limits, struct error *e);

/* Of a delta without a URL, or whose full bundle cannot be fetched: what it refers to is what it was, in the base
 * (bundle_use_base()) and on the ESP. It is read once more by install_images(): sooner twice than to leave a slot half
 * written. kind_content. */
int install_check_base(struct bundle *b, const struct install_target *t, struct progress *progress, struct error *e);

/* Bytes that install_images() takes in t->data at most: kernel and initrd until they lie on the ESP, and the chunk index. */
uint64_t install_data_room(const struct bundle *b, const struct install_target *t);

/* Writes root (its first block zeroed and flushed first, written last), kernel and initrd; flushed.
 * kind_no_space: t->data is full. */
int install_images(struct bundle *b, const struct install_target *t, struct progress *progress, struct error *e);

/* Reads the root back from the device past the page cache, against the chunk digests. */
int install_verify(const struct bundle *b, const struct install_target *t, struct progress *progress, struct error *e);

/* Whether a slot still holds what was installed: reads its root against slots/<slot>/ on DATA.
 * kind_previous_altered names the first difference. */
int install_check_slot(const struct range *root, int data, int slot, const uint8_t digest[static DIGEST_SIZE],
                       struct progress *progress, struct error *e);
