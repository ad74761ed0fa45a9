/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* For targets that read a bundle out of memory, and look at what reaches the sinks. */
#pragma once

#include "fuzz.h"

#include "base/sha256.h"
#include "image/format.h"
#include "image/source.h"

#define CONTENT_MAX MIB(32) /* more takes too long, not too much */

static ssize_t memory_read(struct source *s, void *data, size_t n, struct error *e)
{
        struct input *in = s->http;

        n = MIN(n, in->size);
        memcpy(data, in->data, n);
        in->data += n;
        in->size -= n;
        return (ssize_t)n;
}

static void memory_close(struct source *s) {}

static const struct source_ops memory_ops = { .read = memory_read, .close = memory_close };

static struct source *memory_source(struct input *in, uint64_t size)
{
        struct source *s = calloc(1, sizeof(*s));

        must(s);
        *s = (struct source){ .ops = &memory_ops, .where = strdup("memory"), .size = size, .fd = -1, .http = in };
        return s;
}

struct check {
        struct chunk_sink sink;
        const struct bundle_image *image;
        const struct bundle *bundle;
        size_t number;
        uint64_t taken; /* bytes; from several threads */
};

/* Chunks that follow each other in the index, and nothing else. */
static int check_write(struct chunk_sink *sink, uint64_t offset, void *data, size_t size, struct io_queue *queue,
                       struct error *e)
{
        struct check *c = (struct check *)sink;
        uint8_t digest[DIGEST_SIZE], *at = data;
        struct chunk_walk w;
        uint64_t index_size, end = offset + size;

        must(size > 0 && offset <= c->image->size && size <= c->image->size - offset);
        must(!data || (uintptr_t)data % SINK_BLOCK == offset % SINK_BLOCK);
        chunk_walk_begin(&w, c->image, bundle_chunk_index(c->bundle, c->number, &index_size));
        while (w.entry && w.offset < offset)
                chunk_walk_next(&w);
        for (; w.entry && w.offset < end; chunk_walk_next(&w)) {
                must(w.offset == offset && entry_is_zeros(w.entry) == !data);
                if (data) {
                        must(sha256_data(at, w.size, digest) >= 0 && memcmp(digest, w.entry + I_DIGEST, DIGEST_SIZE) == 0);
                        memset(at - offset % SINK_BLOCK, 'x', w.size + offset % SINK_BLOCK); /* it is the sink's */
                        at += w.size;
                }
                offset += w.size;
        }
        must(offset == end);
        __atomic_add_fetch(&c->taken, size, __ATOMIC_RELAXED);
        return 0;
}

static void extract(struct bundle *b)
{
        const struct manifest *m = bundle_manifest(b);
        struct chunk_sink *sinks[BUNDLE_MAX_IMAGES] = {};
        struct check checks[BUNDLE_MAX_IMAGES];
        uint64_t content = 0;
        int r;

        for (size_t i = 0; i < m->n_images; i++) {
                checks[i] = (struct check){ .sink.write = check_write, .image = &m->images[i], .bundle = b, .number = i };
                sinks[i] = &checks[i].sink;
                content += m->images[i].size;
        }
        if (content > CONTENT_MAX)
                return;
        r = bundle_extract(b, sinks, NULL, NULL);
        for (size_t i = 0; r >= 0 && i < m->n_images; i++)
                must(checks[i].taken == m->images[i].size);
}
