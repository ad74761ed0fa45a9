/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The root of a slot while it is written. Its first block is zeroed and flushed first and written last, so that it does not
 * mount in between. Inside image/ only.
 *
 *      root_begin()      the first block goes; what it was is kept in memory
 *      sink.write()      everything else, from any thread
 *      root_finish()     flushed; the first block; flushed
 */
#pragma once

#include "image/bundle.h"
#include "image/edges.h"
#include "storage/disk.h"

#define FIRST_BLOCK SINK_BLOCK

struct root_sink {
        struct chunk_sink sink;
        const struct range *range;
        int direct;   /* the same without the page cache; negative: there is no such thing */
        bool refused; /* direct writes are: the device's blocks are larger; atomic */
        bool taken;   /* one was not; atomic */
        bool compare; /* what is there is like what comes: only blocks that differ are written */
        uint8_t first[FIRST_BLOCK], old_first[FIRST_BLOCK];
        size_t first_size;
        struct edges edges;
        pthread_mutex_t settling;
        uint64_t written, zeroed; /* bytes; atomic */
        uint64_t flush;           /* µs */
};

/* size: of the image. keep: what was there is of use, root_read() is going to be called. */
int root_begin(struct root_sink *s, const struct range *range, uint64_t size, bool keep, struct error *e);
/* These bytes of the image lie there already: what of them belongs into the first block is to come back with it. */
void root_keep(struct root_sink *s, uint64_t offset, const uint8_t *data, size_t size);
/* What lies there, the first block as it was. `data` is aligned for direct reads. */
int root_read(struct root_sink *s, uint64_t offset, void *data, size_t size);
int root_finish(struct root_sink *s, struct error *e);
/* It is not going to be finished: what waits in memory is written, for the next try. */
void root_give_up(struct root_sink *s);
void root_done(struct root_sink *s);
