/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which chunks of a root need not come from the bundle. Inside image/ only.
 *
 *      reuse_look()     what the slot held and what the running one holds, by the indexes kept on data: hints only
 *      reuse_guess()    where there is none, whether it holds something like the image itself
 *      root_begin()
 *      reuse_begin()    what lies in its place is left there, what lies in the running slot is copied:
 *                       each is read and hashed, since a slot may have been written to
 *      bundle_extract() the others: sink.present says which. Those that no hint names come while the search goes on
 *      reuse_end()
 *      bundle_extract_rest()   those that a hint names falsely
 */
#pragma once

#include "image/bundle.h"
#include "image/root.h"

/* Behind the name of a slot on data while it is written: slots/b.part. */
#define SLOT_PART ".part"

/* What a slot held when it was installed, or was to hold when that was cut. */
struct hint {
        struct bundle_image image;
        int index; /* its file; negative: nothing is known */
};

struct reuse {
        struct hint target, running;
        bool alike;               /* no index says what the target holds: it is taken for the image itself */
        struct places *places;    /* of chunks in the running slot, by their digests; NULL: as in the image itself */
        const struct range *from; /* the running slot's root; NULL: none */
        uint8_t *present;         /* of each chunk: 1, a hint names it; behind reuse_end(), it need not come any more */
        uint64_t named;           /* bytes of content that hints name */
        uint64_t kept, copied;    /* bytes of content; atomic */
        uint64_t boot_files;      /* the same of kernel and initrd, which an earlier try brought; the caller's */
        uint64_t time;            /* µs that the search took */
        struct search *search;    /* behind reuse_begin(): it may be at work */
};

/* data: the data directory, negative: none. Finds nothing rather than fail, but for want of memory. reuse_done() afterwards.
 */
int reuse_look(struct reuse *u, int data, int slot, const struct range *running, int running_slot);
/* Where no index says what the target or the running slot holds: that is like the image, or it is not worth looking. Both
 * may have been written by something else, or the data partition is new. */
void reuse_guess(struct reuse *u, const struct range *target, const struct range *running, const struct bundle_image *image,
                 const uint8_t *index);
bool reuse_has_hints(const struct reuse *u);
/* `index` of the image that is installed. beside: in threads of its own, and nothing is reported; else it has ended when
 * this returns. All must outlive the search. */
int reuse_begin(struct reuse *u, struct root_sink *root, const struct bundle_image *image, const uint8_t *index, bool beside,
                struct progress *progress, struct error *e);
/* From any thread: whether it has ended, and how: -EAGAIN, not yet. */
int reuse_result(const struct reuse *u);
uint64_t reuse_found(const struct reuse *u); /* bytes of content so far */
/* Waits for the end, and goes on reporting `done` of `total` meanwhile; r: how the work beside it went, if that failed it is
 * what is returned, and soon. */
int reuse_end(struct reuse *u, int r, struct progress *progress, uint64_t done, uint64_t total, struct error *e);
void reuse_done(struct reuse *u);
