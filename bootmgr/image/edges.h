/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Blocks that several chunks share: chunks end anywhere, and a device is written in blocks. What one chunk has of such a
 * block waits here for the rest, whichever comes first and from whichever thread. Inside image/ only. */
#pragma once

#include <pthread.h>

#include "image/bundle.h"

#define EDGES_MAX 1024 /* that wait; more are to be settled with what lies on the device */

struct edge {
        struct edge *next;
        uint64_t offset; /* of the block */
        size_t got;      /* bytes */
        uint8_t data[SINK_BLOCK];
        uint64_t mask[SINK_BLOCK / 64]; /* which bytes those are */
};

struct edges {
        pthread_mutex_t lock;
        struct edge *first, **last; /* oldest first */
        size_t n;
        uint64_t size; /* of the image: its last block ends there */
};

void edges_begin(struct edges *s, uint64_t size);
void edges_end(struct edges *s);
/* n bytes of one block that come once, NULL: zeros. *whole: the block, if these were the last ones missing; the caller frees
 * it. */
int edges_add(struct edges *s, uint64_t offset, const uint8_t *data, size_t n, struct edge **whole);
/* The oldest one, for who frees it, if there are more than `max`; NULL: there are not. */
struct edge *edges_take(struct edges *s, size_t max);
/* What is missing is as in `old`. */
void edge_complete(struct edge *edge, const uint8_t old[static SINK_BLOCK]);
