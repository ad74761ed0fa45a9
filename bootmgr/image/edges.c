/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "image/edges.h"

void edges_begin(struct edges *s, uint64_t size)
{
        *s = (struct edges){ .last = &s->first, .size = size };
        pthread_mutex_init(&s->lock, NULL);
}

void edges_end(struct edges *s)
{
        struct edge *edge;

        if (!s->last)
                return;
        while ((edge = edges_take(s, 0)))
                free(edge);
        pthread_mutex_destroy(&s->lock);
        s->last = NULL;
}

/* With the lock. */
static struct edge *unlink_edge(struct edges *s, struct edge **at)
{
        struct edge *edge = *at;

        *at = edge->next;
        if (s->last == &edge->next)
                s->last = at;
        s->n--;
        return edge;
}

/* With the lock: the place of the block in the list, made if it was not there. */
static struct edge **find_edge(struct edges *s, uint64_t offset)
{
        struct edge **at = &s->first;

        while (*at && (*at)->offset != offset)
                at = &(*at)->next;
        if (*at)
                return at;
        *at = calloc(1, sizeof(**at));
        if (!*at)
                return NULL;
        (*at)->offset = offset;
        s->last = &(*at)->next;
        s->n++;
        return at;
}

int edges_add(struct edges *s, uint64_t offset, const uint8_t *data, size_t n, struct edge **whole)
{
        uint64_t block = offset - offset % SINK_BLOCK;
        size_t first = (size_t)(offset - block);
        struct edge **at, *edge;

        *whole = NULL;
        pthread_mutex_lock(&s->lock);
        at = find_edge(s, block);
        if (!at) {
                pthread_mutex_unlock(&s->lock);
                return -ENOMEM;
        }
        edge = *at;
        if (data)
                memcpy(edge->data + first, data, n);
        for (size_t i = first; i < first + n; i++)
                edge->mask[i / 64] |= UINT64_C(1) << (i % 64);
        edge->got += n;
        if (edge->got == MIN(s->size - block, (uint64_t)SINK_BLOCK))
                *whole = unlink_edge(s, at);
        pthread_mutex_unlock(&s->lock);
        return 0;
}

struct edge *edges_take(struct edges *s, size_t max)
{
        struct edge *edge = NULL;

        pthread_mutex_lock(&s->lock);
        if (s->n > max)
                edge = unlink_edge(s, &s->first);
        pthread_mutex_unlock(&s->lock);
        return edge;
}

void edge_complete(struct edge *edge, const uint8_t old[static SINK_BLOCK])
{
        for (size_t i = 0; i < SINK_BLOCK; i++)
                if (!(edge->mask[i / 64] >> (i % 64) & 1))
                        edge->data[i] = old[i];
}
