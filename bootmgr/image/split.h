/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An image in a file, chunk by chunk, for who makes a bundle. The same content gives the same chunks, whether its zeros are
 * holes or written. Inside image/ only. */
#pragma once

#include "image/cut.h"
#include "image/format.h"

struct split {
        int fd; /* the caller's */
        const struct bundle_image *image;
        const struct cut *cut; /* NULL: all chunks are of one length */
        uint64_t offset, size; /* of the chunk where it stands; size 0: behind the last one */
        bool zeros;            /* it is known to hold nothing else */
        uint8_t *window;       /* what is there of the image from window_offset on */
        uint64_t window_offset;
        size_t window_size;
};

/* Stands at the first chunk. split_end() also after a failure. */
int split_begin(struct split *s, int fd, const struct bundle_image *image, const struct cut *cut);
int split_next(struct split *s);
void split_end(struct split *s);
