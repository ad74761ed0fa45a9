/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Blocks that several chunks share: chunks end anywhere, and a device is written in blocks. What one chunk has of such a
 * block waits here for the rest, whichever comes first and from whichever thread. Inside image/ only. */
#pragma once

#include <pthread.h>

#include "image/bundle.h"

#define EDGES_MAX     4096 /* that wait, about 8 MiB; more are to be settled with what lies on the device */
#define EDGES_BUCKETS 1024

struct edge;

struct edges {
        pthread_mutex_t lock;
        struct edge *buckets[EDGES_BUCKETS];
        size_t n, next; /* where edges_take() goes on */
        uint64_t size;  /* of the image: its last block ends there */
        bool begun;
};

void edges_begin(struct edges *s, uint64_t size);
void edges_end(struct edges *s);
/* n bytes of one block that come once, NULL: zeros. *whole: they were the last ones missing, and the others are now in
 * `block`; else they are kept here. */
int edges_add(struct edges *s, uint64_t offset, const uint8_t *data, size_t n, uint8_t block[static SINK_BLOCK],
              bool *whole);
/* One of them, for who frees it, if there are more than `max`; NULL: there are not. */
struct edge *edges_take(struct edges *s, size_t max);
/* Gives one back. True: with what came meanwhile all of the block is there, and it stays the caller's. */
bool edges_return(struct edges *s, struct edge *edge);
uint64_t edge_offset(const struct edge *edge);
/* What there is of it goes over what `block` holds. */
void edge_put(const struct edge *edge, uint8_t block[static SINK_BLOCK]);
struct edge *edge_free(struct edge *edge);
