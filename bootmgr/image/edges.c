/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "image/edges.h"

struct bytes {
        struct bytes *next;
        size_t start, n; /* in the block */
        uint8_t data[];
};

struct edge {
        struct edge *next;
        uint64_t offset; /* of the block */
        size_t got;
        struct bytes *bytes;
};

void edges_begin(struct edges *s, uint64_t size)
{
        *s = (struct edges){ .size = size, .begun = true };
        pthread_mutex_init(&s->lock, NULL);
}

void edges_end(struct edges *s)
{
        struct edge *edge;

        if (!s->begun)
                return;
        while ((edge = edges_take(s, 0)))
                edge_free(edge);
        pthread_mutex_destroy(&s->lock);
        s->begun = false;
}

struct edge *edge_free(struct edge *edge)
{
        while (edge && edge->bytes) {
                struct bytes *next = edge->bytes->next;

                free(edge->bytes);
                edge->bytes = next;
        }
        free(edge);
        return NULL;
}

uint64_t edge_offset(const struct edge *edge)
{
        return edge->offset;
}

void edge_put(const struct edge *edge, uint8_t block[static SINK_BLOCK])
{
        for (const struct bytes *b = edge->bytes; b; b = b->next)
                memcpy(block + b->start, b->data, b->n);
}

/* With the lock. */
static struct edge *unlink_edge(struct edges *s, struct edge **at)
{
        struct edge *edge = *at;

        *at = edge->next;
        s->n--;
        return edge;
}

/* With the lock: where the block is in its list, or would be. */
static struct edge **find_edge(struct edges *s, uint64_t offset)
{
        struct edge **at = &s->buckets[offset / SINK_BLOCK % EDGES_BUCKETS];

        while (*at && (*at)->offset != offset)
                at = &(*at)->next;
        return at;
}

/* What `from` has becomes that of `edge`, too. */
static void join(struct edge *edge, struct edge *from)
{
        struct bytes **end = &edge->bytes;

        while (*end)
                end = &(*end)->next;
        *end = TAKE_PTR(from->bytes);
        edge->got += from->got;
        edge_free(from);
}

/* With the lock. */
static int keep(struct edges *s, struct edge **at, uint64_t block, struct bytes *bytes)
{
        if (!*at) {
                *at = calloc(1, sizeof(**at));
                if (!*at)
                        return -ENOMEM;
                (*at)->offset = block;
                s->n++;
        }
        bytes->next = (*at)->bytes;
        (*at)->bytes = bytes;
        (*at)->got += bytes->n;
        return 0;
}

int edges_add(struct edges *s, uint64_t offset, const uint8_t *data, size_t n, uint8_t block[static SINK_BLOCK], bool *whole)
{
        uint64_t start = offset - offset % SINK_BLOCK;
        _cleanup_free_ struct bytes *bytes = malloc(sizeof(*bytes) + n);
        struct edge **at, *edge = NULL;
        int r = 0;

        if (!bytes)
                return -ENOMEM;
        *bytes = (struct bytes){ .start = (size_t)(offset - start), .n = n };
        if (data)
                memcpy(bytes->data, data, n);
        else
                memset(bytes->data, 0, n);
        pthread_mutex_lock(&s->lock);
        at = find_edge(s, start);
        if (*at && (*at)->got + n == MIN(s->size - start, (uint64_t)SINK_BLOCK)) {
                edge = unlink_edge(s, at);
        } else {
                r = keep(s, at, start, bytes);
                bytes = r < 0 ? bytes : NULL;
        }
        pthread_mutex_unlock(&s->lock);
        *whole = edge != NULL;
        if (edge)
                edge_put(edge, block);
        edge_free(edge);
        return r;
}

struct edge *edges_take(struct edges *s, size_t max)
{
        struct edge *edge = NULL;

        pthread_mutex_lock(&s->lock);
        if (s->n > max) {
                while (!s->buckets[s->next])
                        s->next = (s->next + 1) % EDGES_BUCKETS;
                edge = unlink_edge(s, &s->buckets[s->next]);
                s->next = (s->next + 1) % EDGES_BUCKETS;
        }
        pthread_mutex_unlock(&s->lock);
        return edge;
}

bool edges_return(struct edges *s, struct edge *edge)
{
        struct edge **at;
        bool whole;

        pthread_mutex_lock(&s->lock);
        at = find_edge(s, edge->offset);
        if (*at)
                join(edge, unlink_edge(s, at));
        whole = edge->got == MIN(s->size - edge->offset, (uint64_t)SINK_BLOCK);
        if (!whole) {
                edge->next = *at;
                *at = edge;
                s->n++;
        }
        pthread_mutex_unlock(&s->lock);
        return whole;
}
