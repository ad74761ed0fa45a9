/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "crash.h"

#define TABLE 65536

void trace_init(struct trace *t)
{
        *t = (struct trace){ .table = calloc(TABLE, sizeof(size_t)) };
        if (!t->table)
                die("no memory");
}

static void cell_free(struct cell *c)
{
        for (unsigned i = 0; i < c->n; i++)
                free(c->v[i].data);
        free(c->v);
        free(c->m);
        free(c);
}

void trace_done(struct trace *t)
{
        for (size_t i = 0; i < t->n_cells; i++)
                cell_free(t->cells[i]);
        for (unsigned i = 0; t->stories && i < t->n_events; i++)
                free(t->stories[i]);
        free(t->stories);
        free(t->barriers);
        free(t->cells);
        free(t->table);
        vfat_free(t->vfat);
        ext4_free(t->ext4[DATA]);
        ext4_free(t->ext4[SHARED]);
        *t = (struct trace){};
}

static size_t *slot_of(struct trace *t, enum volume volume, uint64_t key)
{
        size_t i = (size_t)((key * N_VOLUMES + volume) * UINT64_C(0x9e3779b97f4a7c15) >> 48);

        for (;; i = (i + 1) % TABLE) {
                const struct cell *c = t->table[i] ? t->cells[t->table[i] - 1] : NULL;

                if (!c || (c->volume == volume && c->key == key))
                        return &t->table[i];
        }
}

struct cell *trace_find(struct trace *t, enum volume volume, uint64_t key)
{
        size_t *slot = slot_of(t, volume, key);

        return *slot ? t->cells[*slot - 1] : NULL;
}

static void add_version(struct cell *c, unsigned event, const void *data, size_t size)
{
        c->v = reallocarray(c->v, c->n + 1, sizeof(*c->v));
        if (!c->v)
                die("no memory");
        c->v[c->n] = (struct version){ .event = event, .size = (uint32_t)size };
        if (data) {
                c->v[c->n].data = malloc(size + 1);
                if (!c->v[c->n].data)
                        die("no memory");
                memcpy(c->v[c->n].data, data, size);
        }
        c->n++;
}

struct cell *trace_cell(struct trace *t, enum volume volume, uint64_t key, const void *initial, size_t size)
{
        size_t *slot = slot_of(t, volume, key);
        struct cell *c = *slot ? NULL : calloc(1, sizeof(*c));

        if (*slot)
                return t->cells[*slot - 1];
        t->cells = reallocarray(t->cells, t->n_cells + 1, sizeof(*t->cells));
        if (!c || !t->cells || t->n_cells + 1 >= TABLE / 2)
                die("too many cells");
        c->volume = volume;
        c->key = key;
        add_version(c, 0, initial, size);
        t->cells[t->n_cells++] = c;
        *slot = t->n_cells;
        return c;
}

const struct version *cell_newest(const struct cell *c)
{
        return &c->v[c->n - 1];
}

void cell_write(struct trace *t, struct cell *c, const void *data, size_t size)
{
        const struct version *newest = cell_newest(c);

        if (data && newest->size == size && memcmp(newest->data, data, size) == 0)
                return;
        add_version(c, t->n_events, data, size);
}

void cell_mark(struct trace *t, struct cell *c, unsigned version)
{
        if (c->n_m > 0 ? c->m[c->n_m - 1].version >= version : version == 0)
                return;
        c->m = reallocarray(c->m, c->n_m + 1, sizeof(*c->m));
        if (!c->m)
                die("no memory");
        c->m[c->n_m++] = (struct mark){ t->n_events, version };
}

unsigned cell_newest_at(const struct cell *c, unsigned event)
{
        unsigned i = c->n - 1;

        while (i > 0 && c->v[i].event > event)
                i--;
        return i;
}

unsigned cell_durable_at(const struct cell *c, unsigned event)
{
        for (unsigned i = c->n_m; i > 0; i--)
                if (c->m[i - 1].event <= event)
                        return c->m[i - 1].version;
        return 0;
}
