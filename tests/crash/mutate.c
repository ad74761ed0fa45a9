/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An enumeration that stays green says nothing until it is known to turn red: barriers are taken out, one site in the source
 * after the other. */
#include "enumerate.h"

#define SITES_MAX 256

struct sites {
        char *names[SITES_MAX];
        bool caught[SITES_MAX];
        size_t n;
};

static struct sites all, *passed; /* of all operations so far; of this one, in order */

static size_t find_site(struct sites *s, const char *name)
{
        for (size_t i = 0; i < s->n; i++)
                if (streq(s->names[i], name))
                        return i;
        if (s->n == SITES_MAX)
                die("too many barriers");
        s->names[s->n] = strdup(name);
        return s->n++;
}

static void note_site(struct trace *t, const char *name)
{
        if (startswith(name, "bootmgr/"))
                find_site(passed, name);
}

static bool is_caught(const struct operation_test *op, const struct limits *limits, struct trace *original, const char *site,
                      struct figures *f)
{
        _cleanup_error_ struct error e = {};
        struct figures own = {};
        struct trace t;
        struct enumeration n = {
                .op = op, .limits = limits, .f = &own, .t = &t, .label = site, .random = limits->seed, .original = original
        };

        enter(op, &n.expected);
        trace_init(&t);
        t.skip = site;
        if (record_operation_test(op, &t, &e) < 0)
                die("%s: %s", op->name, e.message ?: "failed");
        if (t.n_events != original->n_events)
                die("%s does not write the same twice", op->name);
        n.succeeded = true;
        cuts_of(&n, t.skipped, t.n_events);
        raw_restore(&t);
        trace_done(&t);
        f->states += own.states;
        return own.failures > 0;
}

void mutate(const struct operation_test *op, const struct limits *limits, const char *only, struct figures *f)
{
        _cleanup_error_ struct error e = {};
        struct limits few = *limits;
        struct expectation x;
        struct sites here = {};
        struct trace t;

        few.stop = true;
        few.nested = few.errors = 0;
        passed = &here;
        enter(op, &x);
        trace_init(&t);
        t.barrier = note_site;
        if (record_operation_test(op, &t, &e) < 0)
                die("%s: %s", op->name, e.message ?: "failed");
        raw_restore(&t);
        for (size_t i = 0; i < here.n; i++) {
                size_t k = find_site(&all, here.names[i]);
                unsigned long before = f->states;

                if (all.caught[k] || (only && !streq(only, here.names[i])))
                        continue;
                all.caught[k] = is_caught(op, &few, &t, here.names[i], f);
                f->mutations++;
                f->caught += all.caught[k];
                printf("%s %s by %s, %lu states\n", all.caught[k] ? "CAUGHT" : "GREEN", here.names[i], op->name,
                       f->states - before);
                fflush(stdout);
        }
        for (size_t i = 0; i < here.n; i++)
                free(here.names[i]);
        trace_done(&t);
}
