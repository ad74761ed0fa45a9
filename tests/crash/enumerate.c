/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One operation: recorded, then every cut and what of the unflushed may have reached the disk. */
#include "enumerate.h"

#include <fcntl.h>
#include <sys/stat.h>

#define SEEN (1u << 20)

static unsigned next_random(struct enumeration *n)
{
        n->random = n->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        return (unsigned)(n->random >> 33);
}

/* Whether this state was checked already: an earlier cut can leave the same. */
static bool is_new(struct enumeration *n)
{
        uint64_t hash = 1 + n->succeeded;

        memcpy(n->effective, n->versions, n->t->n_cells * sizeof(*n->versions));
        ext4_forget_unnamed(n->t, n->effective);
        for (size_t i = 0; i < n->t->n_cells; i++)
                if (n->effective[i])
                        hash += mix((uint64_t)(i + 1) << 20 | n->effective[i]);
        hash = mix(hash) ?: 1;
        for (size_t at = hash % SEEN;; at = (at + 1) % SEEN) {
                if (n->seen[at] == hash)
                        return false;
                if (n->seen[at] == 0) {
                        n->seen[at] = hash;
                        return true;
                }
        }
}

/* "17:-:3=1,5=0": the cut, and of each pending cell its version. */
static char *state_name(const struct enumeration *n)
{
        struct buf b = {};

        buf_printf(&b, "%u%s%s:", n->event, *n->label ? "/" : "", n->label);
        for (size_t i = 0; i < n->n_pending; i++)
                buf_printf(&b, "%s%zu=%u", i ? "," : "", n->pending[i].cell, n->versions[n->pending[i].cell]);
        return buf_take(&b);
}

/* Of this state alone: the same whether others were looked at before or not. */
static uint64_t stream_of(const char *name)
{
        uint64_t hash = 0;

        for (; *name; name++)
                hash = mix(hash ^ (uint8_t)*name);
        return hash;
}

/* Whether only another one was asked for, and this is not the one in whose recovery that lies. */
static bool is_passed_over(const struct enumeration *n, const char *name)
{
        static const char within[] = "in the recovery from ";
        const char *only = n->limits->only, *outer = only ? strstr(only, within) : NULL, *rest;

        if (!only || streq(name, only))
                return false;
        rest = outer && n->depth == 0 ? startswith(outer + strlen(within), name) : NULL;
        return !rest || *rest != ':';
}

/* Whether something is older than the operation, as it is, would leave it. */
static bool is_late(const struct enumeration *n)
{
        for (size_t i = 0; i < n->t->n_cells; i++)
                if (n->t->cells[i]->v[n->versions[i]].event < n->durable[i])
                        return true;
        return false;
}

static void explain(const struct enumeration *n, const char *name, const char *why)
{
        static const char *const volumes[] = { "disk.img sector", "ESP sector", "data", "data/root" };

        printf("FAILED %s, seed %u, state %s\n", n->op->name, n->limits->seed, name);
        if (n->event > 0)
                printf("  cut behind event %u of %u: %s\n", n->event, n->t->n_events, n->t->stories[n->event - 1]);
        for (size_t i = 0; i < n->n_pending; i++) {
                const struct cell *c = n->t->cells[n->pending[i].cell];
                unsigned v = n->versions[n->pending[i].cell];

                printf("    %s %llu: version %u of %u..%u", volumes[c->volume], (unsigned long long)c->key, v,
                       n->pending[i].low, n->pending[i].high);
                if (c->v[v].event > 0)
                        printf(", by event %u: %s", c->v[v].event, n->t->stories[c->v[v].event - 1]);
                printf("\n");
        }
        printf("  then: %s\n  alone: %s --operation %s --seed %u --state '%s'\n", why, "build/tests/crash/crash",
               n->op->name, n->limits->seed, name);
        fflush(stdout);
}

static int remove_at(const char *path)
{
        return remove_tree(AT_FDCWD, path);
}

void state_put(struct trace *t, choice versions)
{
        raw_put(t, versions);
        if (remove_at(volume_path(ESP)) < 0 || remove_at(volume_path(DATA)) < 0)
                die("cannot remove the last state");
        vfat_put(t, versions);
        ext4_put(t, versions);
}

/* Runs the check with the image's changes undone afterwards. */
static int check_here(struct enumeration *n, struct error *e)
{
        struct trace undo;
        int r;

        trace_init(&undo);
        record_undo_begin(&undo);
        if (n->op->check)
                r = n->op->check(&n->expected, n->succeeded, e);
        else
                r = boot_and_check(&n->expected, n->succeeded, n->thorough, e);
        record_end();
        raw_restore(&undo);
        trace_done(&undo);
        return r;
}

/* The recovery from this state is an operation itself: its boot is recorded and cut, too. */
static void check_nested(struct enumeration *n, const char *name)
{
        _cleanup_error_ struct error e = {};
        struct trace t;
        struct limits limits = *n->limits;
        struct enumeration in = { .op = n->op,
                                  .limits = &limits,
                                  .f = n->f,
                                  .t = &t,
                                  .expected = n->expected,
                                  .random = n->random,
                                  .depth = n->depth + 1 };
        _cleanup_free_ char *label = NULL;
        unsigned long before = n->f->states;

        if (asprintf(&label, "in the recovery from %s", name) < 0)
                die("no memory");
        in.label = label;
        limits.bits = MIN(limits.bits, 3u);
        limits.samples = 2;
        limits.nested = 0;
        state_put(n->t, n->versions);
        chance_begin(stream_of(name), n->depth + 2);
        trace_init(&t);
        vfat_import(&t);
        ext4_import(&t);
        record_begin(&t);
        boot_once(&e);
        record_end();
        in.expected.completed = n->succeeded ? n->expected.completed : 0;
        in.expected.after = NULL;
        cuts_of(&in, 0, t.n_events);
        raw_restore(&t);
        trace_done(&t);
        n->f->nested += n->f->states - before;
}

void check_state(struct enumeration *n)
{
        _cleanup_error_ struct error e = {};
        _cleanup_free_ char *name = NULL;

        if ((n->original && !is_late(n)) || (!n->made_up && !is_new(n)) || (n->limits->stop && n->f->failures))
                return;
        name = state_name(n);
        n->number++;
        if (is_passed_over(n, name))
                return;
        n->f->states++;
        state_put(n->t, n->versions);
        chance_begin(stream_of(name), n->depth + 2);
        if (check_here(n, &e) < 0) {
                n->f->failures++;
                explain(n, name, e.message ?: "failed");
        }
        if (n->limits->nested && n->depth == 0 && !n->op->check && n->number % n->limits->nested == 0)
                check_nested(n, name);
}

/* Everything that is only late by the mutation. */
static void set_late(struct enumeration *n, bool newest)
{
        for (size_t i = 0; i < n->n_pending; i++) {
                const struct cell_range *p = &n->pending[i];
                bool late = n->t->cells[p->cell]->v[p->low].event < n->durable[p->cell];

                n->versions[p->cell] = late || !newest ? p->low : p->high;
        }
}

static void set_all(struct enumeration *n, bool newest)
{
        for (size_t i = 0; i < n->n_pending; i++)
                n->versions[n->pending[i].cell] = newest ? n->pending[i].high : n->pending[i].low;
}

static void every_combination(struct enumeration *n)
{
        set_all(n, false);
        for (;;) {
                size_t i = 0;

                check_state(n);
                for (; i < n->n_pending; i++) {
                        unsigned *v = &n->versions[n->pending[i].cell];

                        if (*v < n->pending[i].high) {
                                (*v)++;
                                break;
                        }
                        *v = n->pending[i].low;
                }
                if (i == n->n_pending)
                        return;
        }
}

static int by_event(const void *a, const void *b, void *userdata)
{
        const struct trace *t = userdata;
        const struct cell_range *x = a, *y = b;
        unsigned p = t->cells[x->cell]->v[x->high].event, q = t->cells[y->cell]->v[y->high].event;

        return p != q ? (p > q) - (p < q) : (x->cell > y->cell) - (x->cell < y->cell);
}

/* In the order of writing, all but one, only one, and a few at random. */
static void some_combinations(struct enumeration *n)
{
        struct cell_range *p = n->pending;

        qsort_r(p, n->n_pending, sizeof(*p), by_event, n->t);
        set_all(n, false);
        check_state(n);
        for (size_t i = 0; i < n->n_pending; i++)
                for (; n->versions[p[i].cell] < p[i].high; check_state(n))
                        n->versions[p[i].cell]++;
        for (size_t i = 0; i < n->n_pending; i++) {
                set_all(n, true);
                n->versions[p[i].cell] = p[i].low;
                check_state(n);
                set_all(n, false);
                n->versions[p[i].cell] = p[i].high;
                check_state(n);
        }
        for (unsigned k = 0; k < n->limits->samples; k++) {
                for (size_t i = 0; i < n->n_pending; i++)
                        n->versions[p[i].cell] = p[i].low + next_random(n) % (p[i].high - p[i].low + 1);
                check_state(n);
        }
}

static unsigned durable_in(struct trace *t, const struct cell *like, unsigned event)
{
        const struct cell *c = trace_find(t, like->volume, like->key);

        return c ? c->v[cell_durable_at(c, event)].event : 0;
}

static void cut_at(struct enumeration *n, unsigned event)
{
        uint64_t combinations = 1;
        bool late = false;

        n->event = event;
        n->n_pending = 0;
        n->f->cuts++;
        for (size_t i = 0; i < n->t->n_cells; i++) {
                const struct cell *c = n->t->cells[i];
                unsigned low = cell_durable_at(c, event), high = cell_newest_at(c, event);

                n->versions[i] = MAX(low, high);
                n->durable[i] = n->original ? durable_in(n->original, c, event) : 0;
                late |= c->v[low].event < n->durable[i];
                if (low >= high)
                        continue;
                n->pending[n->n_pending++] = (struct cell_range){ i, low, high };
                combinations = MIN(combinations * (high - low + 1), UINT64_C(1) << 40);
        }
        if (n->original && !late)
                return;
        if (late) {
                set_late(n, true);
                check_state(n);
        }
        /* Everything there: the process was killed, the machine was not. */
        n->thorough = n->depth == 0 && event % 7 == 3;
        set_all(n, true);
        check_state(n);
        n->thorough = false;
        if (combinations <= UINT64_C(1) << n->limits->bits)
                every_combination(n);
        else
                some_combinations(n);
}

void enumeration_begin(struct enumeration *n)
{
        n->versions = calloc(n->t->n_cells + 1, sizeof(*n->versions));
        n->effective = calloc(n->t->n_cells + 1, sizeof(*n->versions));
        n->pending = calloc(n->t->n_cells + 1, sizeof(*n->pending));
        n->seen = calloc(SEEN, sizeof(*n->seen));
        n->durable = calloc(n->t->n_cells + 1, sizeof(*n->durable));
        if (!n->durable || !n->versions || !n->effective || !n->pending || !n->seen)
                die("no memory");
}

void enumeration_end(struct enumeration *n)
{
        free(n->versions);
        free(n->effective);
        free(n->pending);
        free(n->seen);
        free(n->durable);
}

void cuts_of(struct enumeration *n, unsigned first, unsigned last)
{
        bool succeeded = n->succeeded;

        enumeration_begin(n);
        n->succeeded = false;
        for (unsigned event = first; event <= last; event++) {
                if (n->limits->stop && n->f->failures)
                        break;
                n->succeeded = succeeded && event == n->t->n_events;
                cut_at(n, event);
        }
        enumeration_end(n);
}

int record_operation_test(const struct operation_test *op, struct trace *t, struct error *e)
{
        int r;

        vfat_import(t);
        ext4_import(t);
        t->fail_in = op->fails;
        record_begin(t);
        r = op->run(e);
        record_end();
        if (!op->fails || t->fail_at)
                return r;
        error_done(e);
        return r < 0 && !t->fail_in ? 0 : fail(e, -EIO, NULL, "it succeeds where it should fail");
}

void enter(const struct operation_test *op, struct expectation *x)
{
        _cleanup_error_ struct error e = {};
        struct machine m;

        stage_enter(op->stage);
        chance_begin(0, 1);
        if (op->prepare && op->prepare(&e) < 0)
                die("%s: %s", op->name, e.message ?: "cannot be prepared");
        *x = op->expected;
        if (open_machine(&m, "", NULL) >= 0) {
                x->generation = m.state_lost ? 0 : m.state.set.generation;
                machine_close(&m);
        }
}

/* What fails in a run of the operation: an event, or a call that changes nothing (`quiet`). */
struct failure {
        unsigned at;
        bool quiet;
        bool on;    /* all later events, too */
        bool gone;  /* all later calls, too */
        bool blind; /* all later calls that change nothing, too */
        int code;   /* of an event */
};

/* The operation with that: it ends in whatever way, and the machine goes on or is cut then. */
static bool with_error(const struct operation_test *op, const struct limits *limits, struct figures *f,
                       const struct failure *failure)
{
        _cleanup_error_ struct error e = {};
        char label[64];
        struct enumeration n = { .op = op, .limits = limits, .f = f, .label = label, .random = limits->seed };
        struct trace t;
        bool reached;
        int r;

        snprintf(label, sizeof(label), "%s at %u%s",
                 failure->quiet          ? "failed read"
                 : failure->code == -EIO ? "EIO"
                                         : "ENOSPC",
                 failure->at,
                 failure->gone    ? " gone"
                 : failure->blind ? " blind"
                 : failure->on    ? " on"
                                  : "");
        enter(op, &n.expected);
        trace_init(&t);
        t.fail_at = failure->quiet ? 0 : failure->at;
        t.quiet_at = failure->quiet ? failure->at : 0;
        t.fail_with = failure->code;
        t.fail_on = failure->on;
        t.fail_gone = failure->gone;
        t.fail_blind = failure->blind;
        n.t = &t;
        r = record_operation_test(op, &t, &e);
        reached = (failure->quiet ? t.n_quiet : t.n_events) >= failure->at;
        n.succeeded = r >= 0;
        enumeration_begin(&n);
        if (reached)
                cut_at(&n, t.n_events);
        enumeration_end(&n);
        raw_restore(&t);
        trace_done(&t);
        return reached;
}

static void event_errors(const struct operation_test *op, const struct limits *limits, struct figures *f)
{
        static const int codes[] = { -EIO, -ENOSPC };

        for (unsigned event = 1 + limits->seed % limits->errors;; event += limits->errors)
                for (unsigned i = 0; i < 5; i++) {
                        struct failure failure = { .at = event, .on = i / 2 == 1, .gone = i == 4, .code = codes[i % 2] };

                        if ((limits->stop && f->failures) || !with_error(op, limits, f, &failure))
                                return;
                }
}

/* Of an operation's reads, and room that is kept: each once, with it the whole disk, and with it all later ones of a disk
 * that can be written all the same. Not where the record is lost before: what is made from what can be read then is all
 * there is. */
static void quiet_errors(const struct operation_test *op, const struct limits *limits, struct figures *f, unsigned n_quiet)
{
        for (unsigned at = 1 + limits->seed % limits->errors; at <= n_quiet && !op->expected.record_lost;
             at += limits->errors) {
                for (unsigned i = 0; i < 3; i++) {
                        struct failure failure = { .at = at, .quiet = true, .gone = i == 1, .blind = i == 2 };

                        if ((limits->stop && f->failures) || !with_error(op, limits, f, &failure))
                                return;
                }
        }
}

static void errors(const struct operation_test *op, const struct limits *limits, struct figures *f, unsigned n_quiet)
{
        struct limits few = *limits;
        unsigned long before = f->states;

        few.bits = MIN(few.bits, 2u);
        few.samples = 2;
        few.nested = 0;
        event_errors(op, &few, f);
        quiet_errors(op, &few, f, n_quiet);
        f->errors += f->states - before;
}

int enumerate(const struct operation_test *op, const struct limits *limits, struct figures *f)
{
        _cleanup_error_ struct error e = {};
        struct enumeration n = { .op = op, .limits = limits, .f = f, .label = "", .random = limits->seed };
        struct trace t;
        unsigned n_quiet;
        int r;

        enter(op, &n.expected);
        trace_init(&t);
        n.t = &t;
        r = record_operation_test(op, &t, &e);
        if (r < 0) {
                printf("FAILED %s: it does not succeed by itself: %s\n", op->name, e.message ?: "");
                f->failures++;
                trace_done(&t);
                return r;
        }
        n.succeeded = true;
        cuts_of(&n, 0, t.n_events);
        n_quiet = t.n_quiet;
        raw_restore(&t);
        trace_done(&t);
        if (limits->errors)
                errors(op, limits, f, n_quiet);
        return 0;
}
