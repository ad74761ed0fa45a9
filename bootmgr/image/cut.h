/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where an image is cut into chunks by its content: a byte that is inserted moves the cuts behind it along, and most chunks
 * stay what they were. Only who makes a bundle cuts; who reads one is told the lengths. Inside image/ only. */
#pragma once

#include "base/util.h"

#define CUT_BLOCK      4096                     /* runs of zeros begin at a multiple of it in the image */
#define CUT_ZEROS      (64 * 1024)              /* a shorter run is content */
#define CUT_AHEAD(cut) ((cut)->max + CUT_ZEROS) /* what has to be seen of an image to find the end of a chunk */

/* A gear hash over the last 64 bytes (Xia and others, FastCDC, USENIX ATC 2016): a chunk ends where it is below a limit,
 * which is low up to the average length and high behind it, so that most chunks are nearly of that length. */
struct cut {
        uint32_t min, average, max; /* bytes: a quarter of the average, and four times of it */
        uint64_t low, high;
        uint64_t gear[256];
};

/* average: a power of two, at least 4096. */
void cut_init(struct cut *c, uint32_t average);

/* How long the chunk is that begins with `data`, at `offset` of the image. `size`: bytes that are there, at least
 * CUT_AHEAD() unless the image ends with them. *zeros: it is a run of zeros, at least CUT_ZEROS or up to the end, of whole
 * blocks unless it ends with the image, as long as is to be seen. */
size_t cut_next(const struct cut *c, const uint8_t *data, size_t size, uint64_t offset, bool *zeros);
