/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An enumeration that stays green says nothing until it is known to turn red: barriers are taken out, one site in the source
 * after the other. */
#include "enumerate.h"

#define SITES_MAX 256

struct sites {
        const char *names[SITES_MAX];
        bool caught[SITES_MAX];
        size_t n;
};

static struct sites removed, exchanged; /* of all operations so far */

static size_t find_site(struct sites *s, const char *name)
{
        for (size_t i = 0; i < s->n; i++)
                if (streq(s->names[i], name))
                        return i;
        if (s->n == SITES_MAX)
                die("too many barriers");
        s->names[s->n] = name;
        return s->n++;
}

static int without(struct enumeration *n, const char *site)
{
        _cleanup_error_ struct error e = {};
        struct trace *original = n->t, t;

        enter(n->op, &n->expected);
        trace_init(&t);
        t.skip = site;
        n->t = &t;
        n->original = original;
        if (record_operation_test(n->op, &t, &e) < 0)
                die("%s: %s", n->op->name, e.message ?: "failed");
        if (t.n_events != original->n_events)
                die("%s does not write the same twice", n->op->name);
        n->succeeded = true;
        cuts_of(n, t.skipped, t.n_events);
        raw_restore(&t);
        trace_done(&t);
        return n->f->failures > 0;
}

/* One of these changes to the operation that `t` is of, at every barrier that it passes and that was not found out yet. */
static void at_each(const struct operation_test *op, const struct limits *limits, struct trace *t,
                    const struct expectation *x, const char *only, struct sites *all, const char *what,
                    int (*change)(struct enumeration *n, const char *site), struct figures *f)
{
        struct sites here = {};

        for (size_t i = 0; i < t->n_barriers; i++)
                if (t->barriers[i].site && startswith(t->barriers[i].site, "bootmgr/"))
                        find_site(&here, t->barriers[i].site);
        for (size_t i = 0; i < here.n; i++) {
                size_t k = find_site(all, here.names[i]);
                struct figures own = {};
                struct enumeration n = { .op = op,
                                         .limits = limits,
                                         .f = &own,
                                         .t = t,
                                         .label = here.names[i],
                                         .expected = *x,
                                         .random = limits->seed };
                int r;

                if (all->caught[k] || (only && !streq(only, here.names[i])))
                        continue;
                r = change(&n, here.names[i]);
                all->caught[k] = r > 0;
                f->states += own.states;
                f->mutations++;
                f->caught += r > 0;
                printf("%s %s %s by %s, %lu states\n",
                       r < 0 ? "LAST"
                       : r   ? "CAUGHT"
                             : "GREEN",
                       what, here.names[i], op->name, own.states);
                fflush(stdout);
        }
}

void mutate(const struct operation_test *op, const struct limits *limits, const char *only, struct figures *f)
{
        _cleanup_error_ struct error e = {};
        struct limits few = *limits;
        struct expectation x;
        struct trace t;

        few.stop = true;
        few.nested = few.errors = 0;
        enter(op, &x);
        trace_init(&t);
        if (record_operation_test(op, &t, &e) < 0)
                die("%s: %s", op->name, e.message ?: "failed");
        at_each(op, &few, &t, &x, only, &exchanged, "exchanged", is_order_caught, f);
        raw_restore(&t);
        at_each(op, &few, &t, &x, only, &removed, "removed", without, f);
        trace_done(&t);
}
