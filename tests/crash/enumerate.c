/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One operation: recorded, then every cut and what of the unflushed may have reached the disk. */
#include "crash.h"

#include <fcntl.h>
#include <sys/stat.h>

#define SEEN (1u << 20)

struct cell_range {
        size_t cell;
        unsigned low, high;
};

struct enumeration {
        const struct operation_test *op;
        const struct limits *limits;
        struct figures *f;
        struct trace *t;
        struct expectation expected;
        unsigned event;                 /* of the cut */
        bool succeeded;                 /* the operation had, before it */
        unsigned *versions, *effective; /* of each cell; of those that matter */
        struct cell_range *pending;
        size_t n_pending;
        uint64_t *seen;
        uint64_t random;
        const char *label; /* what makes this recording another one: "fail 17 EIO once" */
        unsigned depth;
        bool thorough;
};

static uint64_t mix(uint64_t x)
{
        x ^= x >> 31;
        x *= UINT64_C(0x7fb5d329728ea185);
        x ^= x >> 27;
        x *= UINT64_C(0x81dadef4bc2dd44d);
        return x ^ x >> 33;
}

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

static void explain(const struct enumeration *n, const char *name, const char *why)
{
        static const char *const volumes[] = { "disk.img sector", "ESP sector", "data" };

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

static void check_state(struct enumeration *n);

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

static void cuts_of(struct enumeration *n);

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
        trace_init(&t);
        vfat_import(&t);
        ext4_import(&t);
        record_begin(&t);
        boot_once(&e);
        record_end();
        in.expected.completed = n->succeeded ? n->expected.completed : 0;
        in.expected.after = NULL;
        cuts_of(&in);
        raw_restore(&t);
        trace_done(&t);
        n->f->nested += n->f->states - before;
}

static void check_state(struct enumeration *n)
{
        _cleanup_error_ struct error e = {};
        _cleanup_free_ char *name = NULL;
        bool alone = n->limits->only != NULL;

        if (!is_new(n) || (n->limits->stop && n->f->failures))
                return;
        name = state_name(n);
        if (alone && n->depth == 0 && !streq(name, n->limits->only) && !strstr(n->limits->only, "in the recovery"))
                return;
        n->f->states++;
        state_put(n->t, n->versions);
        if (check_here(n, &e) < 0) {
                n->f->failures++;
                explain(n, name, e.message ?: "failed");
        }
        if (n->limits->nested && n->depth == 0 && !n->op->check && n->f->states % n->limits->nested == 0)
                check_nested(n, name);
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

static void cut_at(struct enumeration *n, unsigned event)
{
        uint64_t combinations = 1;

        n->event = event;
        n->n_pending = 0;
        n->f->cuts++;
        for (size_t i = 0; i < n->t->n_cells; i++) {
                const struct cell *c = n->t->cells[i];
                unsigned low = cell_durable_at(c, event), high = cell_newest_at(c, event);

                n->versions[i] = MAX(low, high);
                if (low >= high)
                        continue;
                n->pending[n->n_pending++] = (struct cell_range){ i, low, high };
                combinations = MIN(combinations * (high - low + 1), UINT64_C(1) << 40);
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

static void begin(struct enumeration *n)
{
        n->versions = calloc(n->t->n_cells + 1, sizeof(*n->versions));
        n->effective = calloc(n->t->n_cells + 1, sizeof(*n->versions));
        n->pending = calloc(n->t->n_cells + 1, sizeof(*n->pending));
        n->seen = calloc(SEEN, sizeof(*n->seen));
        if (!n->versions || !n->effective || !n->pending || !n->seen)
                die("no memory");
}

static void end(struct enumeration *n)
{
        free(n->versions);
        free(n->effective);
        free(n->pending);
        free(n->seen);
}

static void cuts_of(struct enumeration *n)
{
        bool succeeded = n->succeeded;

        begin(n);
        n->succeeded = false;
        /* Without a barrier only what comes behind it is another disk. */
        for (unsigned event = n->t->skipped; event <= n->t->n_events; event++) {
                n->succeeded = succeeded && event == n->t->n_events;
                cut_at(n, event);
        }
        end(n);
}

/* Records the operation. Its result. */
static int record_operation_test(const struct operation_test *op, struct trace *t, const struct expectation *x,
                                 struct error *e)
{
        int r;

        vfat_import(t);
        ext4_import(t);
        record_begin(t);
        r = op->run(e);
        record_end();
        return r;
}

static void enter(const struct operation_test *op, struct expectation *x)
{
        _cleanup_error_ struct error e = {};
        struct machine m;

        stage_enter(op->stage);
        if (op->prepare && op->prepare(&e) < 0)
                die("%s: %s", op->name, e.message ?: "cannot be prepared");
        *x = op->expected;
        if (open_machine(&m, "", NULL) >= 0) {
                x->generation = m.state_lost ? 0 : m.state.set.generation;
                machine_close(&m);
        }
}

/* The operation with one event that fails: it ends in whatever way, and the machine goes on or is cut then. */
static bool with_error(const struct operation_test *op, const struct limits *limits, struct figures *f, unsigned event,
                       int code, bool on)
{
        _cleanup_error_ struct error e = {};
        char label[64];
        struct enumeration n = { .op = op, .limits = limits, .f = f, .label = label, .random = limits->seed };
        struct trace t;
        bool reached;
        int r;

        snprintf(label, sizeof(label), "%s at %u%s", code == -EIO ? "EIO" : "ENOSPC", event, on ? " on" : "");
        enter(op, &n.expected);
        trace_init(&t);
        t.fail_at = event;
        t.fail_with = code;
        t.fail_on = on;
        n.t = &t;
        r = record_operation_test(op, &t, &n.expected, &e);
        reached = t.n_events >= event;
        n.succeeded = r >= 0;
        begin(&n);
        if (reached)
                cut_at(&n, t.n_events);
        end(&n);
        raw_restore(&t);
        trace_done(&t);
        return reached;
}

static void errors(const struct operation_test *op, const struct limits *limits, struct figures *f)
{
        static const int codes[] = { -EIO, -ENOSPC };
        struct limits few = *limits;
        unsigned long before = f->states;

        few.bits = MIN(few.bits, 2u);
        few.samples = 2;
        few.nested = 0;
        for (unsigned event = 1 + limits->seed % limits->errors;; event += limits->errors)
                for (unsigned i = 0; i < 4; i++) {
                        if (limits->stop && f->failures)
                                return;
                        if (!with_error(op, &few, f, event, codes[i % 2], i >= 2)) {
                                f->errors += f->states - before;
                                return;
                        }
                }
}

int enumerate(const struct operation_test *op, const struct limits *limits, const char *skip, struct figures *f)
{
        _cleanup_error_ struct error e = {};
        struct enumeration n = { .op = op, .limits = limits, .f = f, .label = "", .random = limits->seed };
        struct trace t;
        int r;

        enter(op, &n.expected);
        trace_init(&t);
        t.skip = skip;
        n.t = &t;
        r = record_operation_test(op, &t, &n.expected, &e);
        if (r < 0) {
                printf("FAILED %s: it does not succeed by itself: %s\n", op->name, e.message ?: "");
                f->failures++;
                trace_done(&t);
                return r;
        }
        n.succeeded = true;
        cuts_of(&n);
        raw_restore(&t);
        trace_done(&t);
        if (limits->errors && !skip)
                errors(op, limits, f);
        return 0;
}

static const char *present;

static void print_barrier(struct trace *t, const char *site)
{
        printf("%s %s\n", present, site);
}

void print_barriers(const struct operation_test *op)
{
        _cleanup_error_ struct error e = {};
        struct expectation x;
        struct trace t;

        enter(op, &x);
        present = op->name;
        trace_init(&t);
        t.barrier = print_barrier;
        if (record_operation_test(op, &t, &x, &e) < 0)
                die("%s: %s", op->name, e.message ?: "failed");
        trace_done(&t);
}
