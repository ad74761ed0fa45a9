/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A barrier keeps two steps apart: what it makes durable, and what is written behind it. Here the second comes first: each
 * cut of the two is looked at, with nothing of the first while the second is on its way, and with all of the second up to
 * each later barrier while the first is. */
#include "enumerate.h"

#include <limits.h>

struct steps {
        unsigned begin, barrier;   /* events: the first that the barrier makes durable, and the barrier */
        unsigned end;              /* of the second step */
        bool exchanged[N_VOLUMES]; /* what the journal has of them */
};

/* A version that does not exist: what the second step has changed is as of `second`, the rest as of `first`. */
static unsigned make_up(struct cell *c, const struct version *first, const struct version *middle,
                        const struct version *second)
{
        size_t size = second->size != middle->size ? second->size : first->size;
        uint8_t *data = calloc(1, size + 1);

        c->v = reallocarray(c->v, c->n + 1, sizeof(*c->v));
        if (!data || !c->v)
                die("no memory");
        for (size_t i = 0; i < size; i++) {
                int old = i < middle->size ? middle->data[i] : -1, new = i < second->size ? second->data[i] : -1;

                data[i] = (uint8_t)(new >= 0 && new != old ? new : i < first->size ? first->data[i] : 0);
        }
        c->v[c->n] = (struct version){ .event = first->event, .size = (uint32_t)size, .data = data };
        return c->n++;
}

static unsigned durable_before(const struct cell *c, const struct steps *s)
{
        return cell_durable_at(c, s->barrier - 1);
}

/* The version of a cell when the first step has come to event `first`, and the second to event `second`. */
static unsigned version_of(struct cell *c, const struct steps *s, unsigned first, unsigned second)
{
        unsigned before = durable_before(c, s), middle = cell_durable_at(c, s->barrier);
        unsigned a = MIN(MAX(cell_newest_at(c, first), before), middle), b = cell_newest_at(c, second);

        if (middle == before) /* not the first step's */
                return b;
        if (ext4_is_journal(c)) /* its versions count changes: the second step's come first, where they can */
                return s->exchanged[c->volume] ? a + (b - middle) : b;
        if (b == middle)
                return a;
        return make_up(c, &(struct version){ c->v[a].event, c->v[a].size, c->v[a].data },
                       &(struct version){ c->v[middle].event, c->v[middle].size, c->v[middle].data },
                       &(struct version){ c->v[b].event, c->v[b].size, c->v[b].data });
}

static void look_at(struct enumeration *n, const struct steps *s, unsigned first, unsigned second)
{
        n->event = MAX(first, second);
        for (size_t i = 0; i < n->t->n_cells; i++) {
                struct cell *c = n->t->cells[i];
                unsigned real = c->n;

                n->versions[i] = version_of(c, s, first, second);
                n->pending[i] = (struct cell_range){ i, real, real };
        }
        check_state(n);
        for (size_t i = 0; i < n->t->n_cells; i++)
                for (struct cell *c = n->t->cells[i]; c->n > n->pending[i].low; c->n--)
                        free(c->v[c->n - 1].data);
}

/* What the second step needs of the first, a file that it renames, say, stays before it, and all that the journal has of
 * that step: then only what is in no journal changes places. */
static void exchange_journals(struct trace *t, struct steps *s, bool back)
{
        for (enum volume v = DATA; v <= SHARED; v++) {
                const struct cell *c = trace_find(t, v, 0);
                unsigned from = durable_before(c, s), middle = cell_durable_at(c, s->barrier);
                unsigned n = middle - from, m = cell_newest_at(c, s->end) - middle;

                if (!back)
                        s->exchanged[v] = ext4_exchange(t, v, from, n, m);
                else if (s->exchanged[v])
                        ext4_exchange(t, v, from, m, n);
        }
}

/* The second step grows from barrier to barrier: the first may be missed by what comes much later only. */
static void exchange(struct enumeration *n, struct steps *s, size_t next)
{
        const struct trace *t = n->t;

        for (unsigned event = s->barrier + 1; next <= t->n_barriers && !n->f->failures; next++) {
                s->end = next < t->n_barriers ? t->barriers[next].event : t->n_events;
                exchange_journals(n->t, s, false);
                for (; event <= s->end; event++)
                        look_at(n, s, 0, event);
                for (unsigned first = s->begin; first < s->barrier; first++)
                        look_at(n, s, first, s->end);
                exchange_journals(n->t, s, true);
        }
}

/* False: nothing is made durable there. */
static bool find_first_step(struct trace *t, size_t barrier, struct steps *ret)
{
        *ret = (struct steps){ .begin = UINT_MAX, .barrier = t->barriers[barrier].event };
        for (size_t i = 0; i < t->n_cells; i++) {
                const struct cell *c = t->cells[i];
                unsigned before = durable_before(c, ret);

                if (cell_durable_at(c, ret->barrier) > before)
                        ret->begin = MIN(ret->begin, c->v[before + 1].event);
        }
        return ret->begin != UINT_MAX;
}

static bool has_second_step(struct trace *t, size_t barrier)
{
        for (size_t i = 0; i < t->n_cells; i++)
                if (cell_newest(t->cells[i])->event > t->barriers[barrier].event)
                        return true;
        return false;
}

int is_order_caught(struct enumeration *n, const char *site)
{
        struct trace *t = n->t;
        bool exchanged = false;

        n->made_up = true;
        enumeration_begin(n);
        for (size_t i = 0; i < t->n_barriers && !n->f->failures; i++) {
                struct steps s;

                if (!t->barriers[i].site || !streq(t->barriers[i].site, site) || !find_first_step(t, i, &s) ||
                    !has_second_step(t, i))
                        continue;
                exchange(n, &s, i + 1);
                exchanged = true;
        }
        enumeration_end(n);
        return n->f->failures ? 1 : exchanged ? 0 : -ENOENT;
}
