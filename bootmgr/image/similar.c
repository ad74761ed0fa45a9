/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A gear hash (image/cut.h) over the last 32 bytes picks places by their content, one of 2^shift on average, and remembers
 * them by the hash. The places of a piece then say where it would begin, and the most of them are right. */
#include "image/similar.h"

#include "image/cut.h"

#define WINDOW     32
#define SHIFT_MIN  6 /* places of an image are that far apart on average: 64 bytes */
#define PLACES_MAX (4 * 1024 * 1024)
#define FOUND_MAX  2048 /* places of a piece that are asked for */
#define NEAR       4096 /* places that lie so far from each other mean the same */
#define EMPTY      UINT64_MAX

struct similar {
        struct cut cut;
        unsigned shift;
        uint64_t mask;
        struct place {
                uint64_t offset;
                uint32_t hash;
        } * table;
};

struct scan {
        const struct similar *s;
        const uint8_t *data;
        uint64_t size, at;
        uint32_t hash;
};

/* The next place; at: behind it. */
static bool next_place(struct scan *w)
{
        while (w->at < w->size) {
                w->hash = (w->hash << 1) + (uint32_t)w->s->cut.gear[w->data[w->at++]];
                if (w->at >= WINDOW && w->hash >> (32 - w->s->shift) == 1) /* 0 is what runs of one byte are like to have */
                        return true;
        }
        return false;
}

static struct place *find_place(const struct similar *s, uint32_t hash)
{
        uint64_t at = (hash * UINT64_C(0x9e3779b97f4a7c15) >> 20) & s->mask;

        while (s->table[at].offset != EMPTY && s->table[at].hash != hash)
                at = (at + 1) & s->mask;
        return &s->table[at];
}

int similar_new(const uint8_t *data, uint64_t size, struct similar **ret)
{
        struct similar *s = calloc(1, sizeof(*s));
        struct scan w = { .s = s, .data = data, .size = size };
        uint64_t n = 0, room = 1;

        if (!s)
                return -ENOMEM;
        cut_init(&s->cut, 4096);
        s->shift = SHIFT_MIN;
        while (size >> s->shift > PLACES_MAX)
                s->shift++;
        while (room < 4 * (size >> s->shift))
                room *= 2;
        s->mask = room - 1;
        s->table = malloc(room * sizeof(*s->table));
        if (!s->table) {
                similar_free(s);
                return -ENOMEM;
        }
        for (uint64_t i = 0; i < room; i++)
                s->table[i].offset = EMPTY;
        while (n < room / 2 && next_place(&w)) {
                struct place *p = find_place(s, w.hash);

                if (p->offset == EMPTY) { /* the first one of those that are the same */
                        *p = (struct place){ w.at, w.hash };
                        n++;
                }
        }
        *ret = s;
        return 0;
}

struct similar *similar_free(struct similar *s)
{
        if (!s)
                return NULL;
        free(s->table);
        free(s);
        return NULL;
}

static int compare(const void *a, const void *b)
{
        int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

        return (x > y) - (x < y);
}

bool similar_find(const struct similar *s, const uint8_t *piece, size_t size, int64_t *ret)
{
        struct scan w = { .s = s, .data = piece, .size = size };
        int64_t begins[FOUND_MAX];
        size_t n = 0, most = 0;

        while (n < FOUND_MAX && next_place(&w)) {
                const struct place *p = find_place(s, w.hash);

                if (p->offset != EMPTY)
                        begins[n++] = (int64_t)(p->offset - w.at);
        }
        if (n == 0)
                return false;
        qsort(begins, n, sizeof(*begins), compare);
        for (size_t first = 0, end = 0; first < n; first++) {
                while (end < n && begins[end] - begins[first] < NEAR)
                        end++;
                if (end - first > most) {
                        most = end - first;
                        *ret = begins[first + most / 2];
                }
        }
        return true;
}
