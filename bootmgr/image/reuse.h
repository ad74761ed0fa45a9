/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which chunks of a root need not come from the bundle. Inside image/ only.
 *
 *      reuse_look()     what the slot held and what the running one holds, by the indexes kept on data: hints only
 *      root_begin()
 *      reuse_chunks()   what lies in its place is left there, what lies in the running slot is copied:
 *                       each is read and hashed, since a slot may have been written to
 *      bundle_extract() the others: sink.present says which
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
        struct places *places;    /* of chunks in the running slot, by their digests */
        const struct range *from; /* the running slot's root; NULL: none */
        uint8_t *present;         /* of each chunk: 1, it is in its place */
        uint64_t kept, copied;    /* bytes of content */
};

/* data: the data directory, negative: none. Finds nothing rather than fail, but for want of memory. reuse_done() afterwards.
 */
int reuse_look(struct reuse *u, int data, int slot, const struct range *running, int running_slot);
bool reuse_has_hints(const struct reuse *u);
/* `index` of the image that is installed. */
int reuse_chunks(struct reuse *u, struct root_sink *root, const struct bundle_image *image, const uint8_t *index,
                 struct progress *progress, struct error *e);
void reuse_done(struct reuse *u);
