/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "image/places.h"

#define EMPTY UINT32_MAX

struct places {
        uint64_t mask;
        struct place {
                uint32_t tag;    /* of the digest */
                uint32_t number; /* of the chunk; EMPTY */
        } * table;
        uint64_t *offsets; /* of each chunk, and behind the last one */
};

static uint32_t tag_of(const uint8_t *digest)
{
        return get_le32(digest + 8);
}

static void add(struct places *p, const struct chunk_walk *w)
{
        const uint8_t *digest = w->entry + I_DIGEST;
        uint64_t at = get_le64(digest) & p->mask;

        for (; p->table[at].number != EMPTY; at = (at + 1) & p->mask)
                if (p->table[at].tag == tag_of(digest))
                        return; /* the first one of those that are the same */
        p->table[at] = (struct place){ tag_of(digest), (uint32_t)w->number };
}

static struct places *places_new(uint64_t n)
{
        struct places *p = calloc(1, sizeof(*p));

        if (!p)
                return NULL;
        p->mask = 1;
        while (p->mask <= n + n / 4) /* one is EMPTY: where a search ends */
                p->mask *= 2;
        p->table = malloc(p->mask * sizeof(*p->table));
        p->offsets = calloc(n + 1, sizeof(*p->offsets));
        if (!p->table || !p->offsets)
                return places_free(p);
        for (uint64_t i = 0; i < p->mask; i++)
                p->table[i].number = EMPTY;
        p->mask--;
        return p;
}

struct places *places_free(struct places *p)
{
        if (!p)
                return NULL;
        free(p->table);
        free(p->offsets);
        free(p);
        return NULL;
}

int places_read(const struct bundle_image *image, int index, struct places **ret)
{
        struct places *p = places_new(image->n_chunks);
        struct chunk_walk w = { .fd = -1 };
        int r = p ? chunk_walk_begin_file(&w, image, index) : -ENOMEM;

        if (r < 0) {
                places_free(p);
                return r;
        }
        for (; w.entry; chunk_walk_next(&w)) {
                p->offsets[w.number] = w.offset;
                if (!entry_is_zeros(w.entry))
                        add(p, &w);
        }
        p->offsets[w.number] = w.offset;
        *ret = chunk_walk_complete(&w) ? p : places_free(p);
        chunk_walk_done(&w);
        return 0;
}

uint64_t places_find(const struct places *p, const uint8_t digest[static DIGEST_SIZE], uint32_t size)
{
        uint64_t at = get_le64(digest) & p->mask;

        for (; p->table[at].number != EMPTY; at = (at + 1) & p->mask) {
                const struct place *place = &p->table[at];

                if (place->tag == tag_of(digest) && p->offsets[place->number + 1] - p->offsets[place->number] == size)
                        return p->offsets[place->number];
        }
        return UINT64_MAX;
}
