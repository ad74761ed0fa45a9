/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Making the reference layout through libfdisk (the only user of it). */
#pragma once

#include "storage/disk.h"

struct layout_spec {
        uint64_t esp_size;    /* bytes; 0: 512 MiB */
        uint64_t root_size;   /* bytes, each; 0: a third of what is left, at most 16 GiB */
        int n_slots;          /* 0: 2 */
        unsigned sector_size; /* images: 512 (0) or 4096; ignored for devices */
        uint64_t image_size;  /* images that do not exist yet: size to make, in whole MiB; 0: the file must exist */
        bool force;           /* also when the disk holds something */
        bool dry_run;         /* say what would be done, or refuse alike, and change nothing */
        const volatile bool *cancelled; /* ends it between two steps with -EINTR; may be NULL */
};

/* What was made or would be made, in order; sizes in bytes. */
struct layout_part {
        const char *what; /* "ESP" … */
        char label[37];
        const char *type;
        uint64_t offset, size;
};
struct layout {
        struct layout_part parts[3 + SLOT_MAX];
        size_t n_parts;
        unsigned sector_size;
        uint64_t disk_size;
        char *found; /* what the disk holds already, and where; NULL: nothing; owned */
};

/* GPT with ESP, bootmgr-state, root-a…, data; NoAuto on what discovery must not mount; both file
 * systems made (mkfs.vfat, mkfs.ext4); both copies of the state record; fsync and read-back of every
 * part. Under the disk's lock. Refusals before the first write: kind_disk_not_empty, too small, mounted. An image file that
 * was made here is gone after a failure. */
int layout_make(const char *path, const struct layout_spec *spec, struct layout *ret, struct error *e);
void layout_done(struct layout *l);
