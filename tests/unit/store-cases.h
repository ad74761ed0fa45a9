/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What every store must do, whatever is behind it: the same cases for the local one and for etcd. Each works under a prefix
 * of its own, since those before it have left their keys. */
#pragma once

#include <check.h>
#include <inttypes.h>

#include "base/buf.h"
#include "base/clock.h"
#include "cluster/store.h"

/* Check has a macro of this name. */
#undef fail

#define PATIENCE (60 * USEC_PER_SEC) /* machines that test are busy */

/* Opens another store on the same keys. */
static struct store *open_store(sd_event *event);

static sd_event *event;
static struct store *store;
static char prefix[32];

static void cases_begin(void)
{
        static unsigned count;

        snprintf(prefix, sizeof(prefix), "case-%d-%u/", getpid(), count++);
        ck_assert_int_ge(sd_event_new(&event), 0);
        store = open_store(event);
}

static void cases_end(void)
{
        store = store_close(store);
        event = sd_event_unref(event);
}

/* Runs the loop until `*done`. */
static void run_until(const bool *done)
{
        uint64_t end = now_monotonic() + PATIENCE;

        while (!*done) {
                ck_assert_msg(now_monotonic() < end, "nothing came");
                ck_assert_int_ge(sd_event_run(event, 100000), 0);
        }
}

static void run_for(uint64_t usec)
{
        for (uint64_t end = now_monotonic() + usec; now_monotonic() < end;)
                ck_assert_int_ge(sd_event_run(event, 10000), 0);
}

static char *full(const char *key)
{
        char *s = xasprintf("%s%s", prefix, key);

        ck_assert_ptr_nonnull(s);
        return s;
}

struct answered {
        bool done;
        int result;
        bool made;
        uint64_t revision;
        struct buf state; /* "a=1:C/M b=…", revisions counted from `base` */
        uint64_t base;
        size_t n;
};

static void note_answer(int result, const struct store_reply *reply, const struct error *e, void *userdata)
{
        struct answered *a = userdata;

        ck_assert(!a->done);
        ck_assert_msg(result == 0 || (e && e->message), "%d without a reason", result);
        a->done = true;
        a->result = result;
        a->made = reply->done;
        a->revision = reply->revision;
        a->n = reply->n_entries;
        for (size_t i = 0; i < reply->n_entries; i++) {
                const struct store_entry *entry = &reply->entries[i];

                ck_assert(startswith(entry->key, prefix));
                buf_printf(&a->state, "%s%s=%s:%" PRIu64 "/%" PRIu64, a->state.size ? " " : "", entry->key + strlen(prefix),
                           (const char *)entry->value, entry->created - a->base, entry->modified - a->base);
        }
}

static _unused_ int range_result(void)
{
        struct answered a = {};

        ck_assert_int_eq(store_range(store, &(struct store_range){ prefix, true }, note_answer, &a, NULL, NULL), 0);
        run_until(&a.done);
        buf_done(&a.state);
        return a.result;
}

static int commit(const struct store_txn *txn, bool *made, uint64_t *revision)
{
        struct answered a = {};
        int r = store_commit(store, txn, note_answer, &a, NULL, NULL);

        if (r < 0)
                return r;
        ck_assert(!a.done);
        run_until(&a.done);
        *made = a.made;
        *revision = a.revision;
        return a.result;
}

static uint64_t put(const char *key, const char *value)
{
        _cleanup_free_ char *k = full(key);
        uint64_t revision;
        bool made;

        ck_assert_int_eq(commit(&(struct store_txn){ .writes = &(struct store_write){ .key = k,
                                                                                      .delete = !value,
                                                                                      .value = value,
                                                                                      .size = value ? strlen(value) : 0 },
                                                     .n_writes = 1 },
                                &made, &revision),
                         0);
        ck_assert(made);
        return revision;
}

/* The caller's. */
static char *state_at(uint64_t revision, uint64_t base)
{
        struct answered a = { .base = base };

        ck_assert_int_eq(store_range(store, &(struct store_range){ prefix, true, revision }, note_answer, &a, NULL, NULL),
                         0);
        run_until(&a.done);
        ck_assert_int_eq(a.result, 0);
        return a.state.data ?: strdup("");
}

/* ---- transactions ---- */

/* Made one after the other; revisions are counted from the one before the first. */
static const struct step {
        struct store_compare compares[2];
        struct store_write writes[3];
        bool made;
        unsigned revision;
        const char *state;
} steps[] = {
        { { {} }, { { "a", false, "1", 1 } }, true, 1, "a=1:1/1" },
        { { { STORE_ABSENT, "a" } }, { { "a", false, "2", 1 } }, false, 1, "a=1:1/1" },
        { { { STORE_REVISION, "a", 1 } }, { { "a", false, "2", 1 } }, true, 2, "a=2:1/2" },
        { { { STORE_REVISION, "a", 1 } }, { { "a", false, "3", 1 } }, false, 2, "a=2:1/2" },
        { { { STORE_VALUE, "a", 0, "2", 1 } }, { { "b", false, "1", 1 } }, true, 3, "a=2:1/2 b=1:3/3" },
        { { { STORE_VALUE, "a", 0, "1", 1 } }, { { "b", false, "2", 1 } }, false, 3, "a=2:1/2 b=1:3/3" },
        { { { STORE_VALUE, "a", 0, "22", 2 } }, { { "b", false, "2", 1 } }, false, 3, "a=2:1/2 b=1:3/3" },
        { { { STORE_VALUE, "none", 0, "", 0 } }, { { "b", false, "2", 1 } }, false, 3, "a=2:1/2 b=1:3/3" },
        { { { STORE_ABSENT, "none" } }, { { "c", false, "", 0 } }, true, 4, "a=2:1/2 b=1:3/3 c=:4/4" },
        { { { STORE_VALUE, "c", 0, "", 0 } }, { { "c", false, "x", 1 } }, true, 5, "a=2:1/2 b=1:3/3 c=x:4/5" },
        { { { STORE_QUIET, "", 4 } }, { { "b", true } }, false, 5, "a=2:1/2 b=1:3/3 c=x:4/5" },
        { { { STORE_QUIET, "", 5 } }, { { "b", true } }, true, 6, "a=2:1/2 c=x:4/5" },
        /* A deletion leaves nothing that could be newer: as store.h says. */
        { { { STORE_QUIET, "b", 1 } }, { { "b", true } }, true, 6, "a=2:1/2 c=x:4/5" },
        { { { STORE_ABSENT, "b" }, { STORE_ABSENT, "a" } }, { { "b", false, "3", 1 } }, false, 6, "a=2:1/2 c=x:4/5" },
        { { { STORE_ABSENT, "b" }, { STORE_REVISION, "a", 2 } },
          { { "b", false, "3", 1 }, { "a", true }, { "d", false, "4", 1 } },
          true,
          7,
          "b=3:7/7 c=x:4/5 d=4:7/7" },
        { { { STORE_REVISION, "a", 0 } }, { { "a", false, "9", 1 } }, true, 8, "a=9:8/8 b=3:7/7 c=x:4/5 d=4:7/7" },
        { { { STORE_QUIET, "d", 7 }, { STORE_QUIET, "c", 5 } }, { {} }, true, 8, "a=9:8/8 b=3:7/7 c=x:4/5 d=4:7/7" },
        { { { STORE_QUIET, "d", 6 } }, { {} }, false, 8, "a=9:8/8 b=3:7/7 c=x:4/5 d=4:7/7" },
        { { {} },
          { { "e/1", false, "1", 1 }, { "e/2", false, "2", 1 }, { "e", false, "3", 1 } },
          true,
          9,
          "a=9:8/8 b=3:7/7 c=x:4/5 d=4:7/7 e=3:9/9 e/1=1:9/9 e/2=2:9/9" },
        { { {} }, { { "e/", true, .prefix = true }, { "a", true } }, true, 10, "b=3:7/7 c=x:4/5 d=4:7/7 e=3:9/9" },
        { { {} }, { { "e/", true, .prefix = true } }, true, 10, "b=3:7/7 c=x:4/5 d=4:7/7 e=3:9/9" },
};

START_TEST(transactions_hold_or_do_nothing)
{
        struct answered empty = {};
        uint64_t base, revision;
        bool made;

        ck_assert_int_eq(store_range(store, &(struct store_range){ prefix, true }, note_answer, &empty, NULL, NULL), 0);
        run_until(&empty.done);
        base = empty.revision;
        for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
                struct step step = steps[i];
                struct store_txn txn = { .compares = step.compares, .writes = step.writes };
                _cleanup_free_ char *state = NULL;

                while (txn.n_compares < ARRAY_SIZE(step.compares) && step.compares[txn.n_compares].key) {
                        struct store_compare *c = &step.compares[txn.n_compares++];

                        c->key = full(c->key);
                        c->revision += c->test == STORE_QUIET || c->revision ? base : 0;
                }
                while (txn.n_writes < ARRAY_SIZE(step.writes) && step.writes[txn.n_writes].key) {
                        struct store_write *w = &step.writes[txn.n_writes++];

                        w->key = full(w->key);
                }
                ck_assert_int_eq(commit(&txn, &made, &revision), 0);
                ck_assert_msg(made == step.made, "step %zu: %d", i, made);
                ck_assert_msg(revision - base == step.revision, "step %zu: %" PRIu64, i, revision - base);
                state = state_at(0, base);
                ck_assert_msg(streq(state, step.state), "step %zu: %s", i, state);
                for (size_t k = 0; k < txn.n_compares; k++)
                        free((char *)step.compares[k].key);
                for (size_t k = 0; k < txn.n_writes; k++)
                        free((char *)step.writes[k].key);
        }
        /* And as it was at each of these revisions. */
        for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
                _cleanup_free_ char *state = state_at(base + steps[i].revision, base);

                ck_assert_msg(streq(state, steps[i].state), "at step %zu: %s", i, state);
        }
}
END_TEST

START_TEST(a_revision_to_come_is_not_there)
{
        uint64_t revision = put("a", "1");
        struct answered a = {};

        ck_assert_int_eq(
                store_range(store, &(struct store_range){ prefix, true, revision + 1000 }, note_answer, &a, NULL, NULL), 0);
        run_until(&a.done);
        ck_assert_int_eq(a.result, -ESTALE);
}
END_TEST

START_TEST(one_key_is_not_a_prefix)
{
        _cleanup_free_ char *key = full("ab");
        struct answered a = {}, b = {};

        put("ab", "1");
        put("abc", "2");
        ck_assert_int_eq(store_range(store, &(struct store_range){ key }, note_answer, &a, NULL, NULL), 0);
        ck_assert_int_eq(store_range(store, &(struct store_range){ key, true }, note_answer, &b, NULL, NULL), 0);
        run_until(&a.done);
        run_until(&b.done);
        ck_assert_uint_eq(a.n, 1);
        ck_assert_uint_eq(b.n, 2);
        buf_done(&a.state);
        buf_done(&b.state);
}
END_TEST

START_TEST(bounds_are_refused_before_anything)
{
        static const char *const keys[] = { "", "a b", "a\n", "ä", "a\"", "\x7f" };
        _cleanup_free_ char *large = calloc(1, STORE_TXN_MAX), *letters = NULL;
        struct store_write many[STORE_WRITES + 1], two[2] = { { "a", false, "1", 1 }, { "a", true } };
        char names[STORE_WRITES + 1][16], longest[STORE_KEY_MAX + 2];
        struct store_txn txn = { .writes = many };
        uint64_t revision;
        bool made;

        for (size_t i = 0; i <= STORE_WRITES; i++) {
                snprintf(names[i], sizeof(names[i]), "case/m%zu", i);
                many[i] = (struct store_write){ .key = names[i], .value = "1", .size = 1 };
        }
        txn.n_writes = STORE_WRITES + 1;
        ck_assert_int_eq(commit(&txn, &made, &revision), -EINVAL);
        txn.n_writes = STORE_WRITES;
        ck_assert_int_eq(commit(&txn, &made, &revision), 0);
        txn = (struct store_txn){ .writes = two, .n_writes = 2 };
        ck_assert_int_eq(commit(&txn, &made, &revision), -EINVAL);
        two[0] = (struct store_write){ "case/", true, .prefix = true };
        two[1] = (struct store_write){ "case/a", false, "1", 1 };
        ck_assert_int_eq(commit(&txn, &made, &revision), -EINVAL);
        two[0].delete = false;
        txn.n_writes = 1;
        ck_assert_int_eq(commit(&txn, &made, &revision), -EINVAL);
        two[0] = (struct store_write){ "case/a", false, large, STORE_VALUE_MAX + 1 };
        ck_assert_int_eq(commit(&txn, &made, &revision), -EINVAL);
        txn = (struct store_txn){ .writes = many, .n_writes = 5 };
        for (size_t i = 0; i < 5; i++)
                many[i] = (struct store_write){ names[i], false, large, STORE_VALUE_MAX - (i == 0 ? 0 : 64) };
        ck_assert_int_eq(commit(&txn, &made, &revision), -EINVAL);
        txn.n_writes = 3;
        ck_assert_int_eq(commit(&txn, &made, &revision), 0);
        txn = (struct store_txn){ .writes = two, .n_writes = 1 };
        for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
                two[0] = (struct store_write){ keys[i], false, "1", 1 };
                ck_assert_msg(commit(&txn, &made, &revision) == -EINVAL, "'%s'", keys[i]);
        }
        memset(longest, 'k', sizeof(longest));
        longest[sizeof(longest) - 1] = '\0';
        two[0] = (struct store_write){ longest, false, "1", 1 };
        ck_assert_int_eq(commit(&txn, &made, &revision), -EINVAL);
        longest[sizeof(longest) - 2] = '\0';
        ck_assert_int_eq(commit(&txn, &made, &revision), 0);
}
END_TEST

struct bytes {
        bool done;
        const uint8_t *data;
        size_t size;
};

static void compare_bytes(int result, const struct store_reply *reply, const struct error *e, void *userdata)
{
        struct bytes *b = userdata;

        ck_assert_int_eq(result, 0);
        ck_assert_uint_eq(reply->n_entries, 1);
        ck_assert_uint_eq(reply->entries[0].size, b->size);
        ck_assert_mem_eq(reply->entries[0].value, b->data, b->size);
        b->done = true;
}

START_TEST(values_are_any_bytes)
{
        static const size_t sizes[] = { 1, 2, 3, 255, 256, 4096, STORE_VALUE_MAX };
        _cleanup_free_ uint8_t *data = malloc(STORE_VALUE_MAX);
        _cleanup_free_ char *key = full("bytes");

        for (size_t i = 0; i < STORE_VALUE_MAX; i++)
                data[i] = (uint8_t)(i * 7 + i / 251);
        for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
                struct bytes b = { .data = data, .size = sizes[i] };
                struct store_write w = { key, false, data, sizes[i] };
                uint64_t revision;
                bool made;

                ck_assert_int_eq(commit(&(struct store_txn){ .writes = &w, .n_writes = 1 }, &made, &revision), 0);
                ck_assert_int_eq(store_range(store, &(struct store_range){ key }, compare_bytes, &b, NULL, NULL), 0);
                run_until(&b.done);
        }
}
END_TEST

START_TEST(what_is_cancelled_is_not_answered)
{
        struct answered a = {}, b = {}, c = {};
        struct store_call *first, *second;

        ck_assert_int_eq(store_range(store, &(struct store_range){ prefix, true }, note_answer, &a, &first, NULL), 0);
        ck_assert_int_eq(store_range(store, &(struct store_range){ prefix, true }, note_answer, &b, &second, NULL), 0);
        store_cancel(second);
        ck_assert_int_eq(store_range(store, &(struct store_range){ prefix, true }, note_answer, &c, NULL, NULL), 0);
        run_until(&a.done);
        run_until(&c.done);
        ck_assert(!b.done);
        /* Closing cancels what is left. */
        ck_assert_int_eq(store_range(store, &(struct store_range){ prefix, true }, note_answer, &b, &second, NULL), 0);
}
END_TEST

START_TEST(waiting_needs_a_loop_of_its_own)
{
        _cleanup_store_ struct store *own = open_store(NULL);
        _cleanup_reply_ struct store_reply reply = {};
        _cleanup_free_ char *key = full("a");
        struct store_write w = { key, false, "1", 1 };
        struct store_compare absent = { STORE_ABSENT, key };
        struct store_txn txn = { &absent, 1, &w, 1 };

        ck_assert_int_eq(store_range_wait(store, &(struct store_range){ prefix, true }, &reply, NULL), -EDEADLK);
        ck_assert_int_eq(store_commit_wait(own, &txn, &reply, NULL), 0);
        ck_assert(reply.done);
        ck_assert_int_eq(store_commit_wait(own, &txn, &reply, NULL), 0);
        ck_assert(!reply.done);
        ck_assert_int_eq(store_range_wait(own, &(struct store_range){ prefix, true }, &reply, NULL), 0);
        ck_assert_uint_eq(reply.n_entries, 1);
        ck_assert_str_eq(reply.entries[0].value, "1");
}
END_TEST

/* ---- watches ---- */

/* Writes down what it is told: "!" before everything anew, "[…]" for each call. */
struct watcher {
        struct store_watch *watch;
        struct buf seen;
        unsigned calls, changes, fresh;
        unsigned end_after; /* calls */
        bool done;
        unsigned until; /* changes, then done */
        uint64_t revision;
};

static void note_changes(const struct store_change *changes, size_t n, uint64_t revision, bool fresh, void *userdata)
{
        struct watcher *w = userdata;

        ck_assert(fresh || n > 0);
        buf_printf(&w->seen, "%s[", fresh ? "!" : "");
        for (size_t i = 0; i < n; i++) {
                const struct store_entry *entry = changes[i].entry;

                ck_assert(startswith(entry->key, prefix));
                ck_assert_uint_le(entry->modified, revision);
                ck_assert(fresh || entry->modified > w->revision);
                buf_printf(&w->seen, "%s%s", i ? " " : "", entry->key + strlen(prefix));
                if (!changes[i].deleted)
                        buf_printf(&w->seen, "=%s", (const char *)entry->value);
        }
        buf_puts(&w->seen, "]");
        ck_assert_uint_ge(revision, w->revision);
        w->revision = revision;
        w->changes += (unsigned)n;
        w->fresh += fresh;
        if (++w->calls == w->end_after)
                w->watch = store_watch_end(w->watch);
        w->done = w->calls > 0 && w->changes >= w->until;
}

static void watch(struct watcher *w, uint64_t from)
{
        ck_assert_int_eq(store_watch(store, prefix, from, note_changes, w, &w->watch, NULL), 0);
        ck_assert_uint_eq(w->calls, 0);
}

static void run_until_changes(struct watcher *w, unsigned n)
{
        w->until = n;
        w->done = w->calls > 0 && w->changes >= n;
        run_until(&w->done);
}

START_TEST(a_watch_begins_with_what_is_there)
{
        struct watcher w = {}, empty = {};
        _cleanup_free_ char *key = full("both"), *other = full("too");
        struct store_write two[] = { { key, false, "x", 1 }, { other, false, "y", 1 } };
        uint64_t revision;
        bool made;

        watch(&empty, 0);
        run_until_changes(&empty, 0);
        ck_assert_str_eq(empty.seen.data, "![]");
        put("b", "2");
        put("a", "1");
        watch(&w, 0);
        run_until_changes(&w, 2);
        ck_assert_str_eq(w.seen.data, "![a=1 b=2]");
        put("a", "3");
        run_until_changes(&w, 3);
        put("b", NULL);
        run_until_changes(&w, 4);
        ck_assert_int_eq(commit(&(struct store_txn){ .writes = two, .n_writes = 2 }, &made, &revision), 0);
        run_until_changes(&w, 6);
        ck_assert_str_eq(w.seen.data, "![a=1 b=2][a=3][b][both=x too=y]");
        ck_assert_uint_eq(w.revision, revision);
        ck_assert(store_watch_is_live(w.watch));
        run_until_changes(&empty, 6);
        buf_done(&w.seen);
        buf_done(&empty.seen);
}
END_TEST

START_TEST(a_watch_goes_on_from_a_revision)
{
        struct watcher w = {};
        uint64_t first = put("a", "1");
        char *all;

        put("b", "2");
        put("a", NULL);
        watch(&w, first + 1);
        run_until_changes(&w, 2);
        put("c", "3");
        run_until_changes(&w, 3);
        all = w.seen.data;
        ck_assert_uint_eq(w.fresh, 0);
        for (char *p = all, *q = all;; p++) { /* in how many calls they come is open */
                *q = *p;
                q += *p && *p != '[' && *p != ']' && *p != ' ';
                if (!*p)
                        break;
        }
        ck_assert_str_eq(all, "b=2ac=3");
        buf_done(&w.seen);
}
END_TEST

START_TEST(a_watch_may_end_itself)
{
        struct watcher w = { .end_after = 2 }, other = {};

        put("a", "1");
        watch(&w, 0);
        watch(&other, 0);
        run_until_changes(&w, 1);
        run_until_changes(&other, 1);
        put("b", "2");
        run_until_changes(&w, 2);
        ck_assert_ptr_null(w.watch);
        put("c", "3");
        run_until_changes(&other, 3);
        ck_assert_uint_eq(w.calls, 2);
        store_watch_end(other.watch);
        put("d", "4");
        run_for(200 * USEC_PER_MSEC);
        ck_assert_uint_eq(other.changes, 3);
        buf_done(&w.seen);
        buf_done(&other.seen);
}
END_TEST

/* Of another opening of the same store. */
START_TEST(a_watch_sees_what_others_write)
{
        struct store *mine = store;
        struct watcher w = {};

        put("a", "1");
        watch(&w, 0);
        run_until_changes(&w, 1);
        store = open_store(event);
        put("a", "2");
        run_until_changes(&w, 2);
        put("a", NULL);
        run_until_changes(&w, 3);
        ck_assert_str_eq(w.seen.data, "![a=1][a=2][a]");
        store_close(store);
        store = mine;
        put("a", "4");
        run_until_changes(&w, 4);
        buf_done(&w.seen);
}
END_TEST

static _unused_ void add_cases(TCase *t)
{
        tcase_add_checked_fixture(t, cases_begin, cases_end);
        tcase_add_test(t, transactions_hold_or_do_nothing);
        tcase_add_test(t, a_revision_to_come_is_not_there);
        tcase_add_test(t, one_key_is_not_a_prefix);
        tcase_add_test(t, bounds_are_refused_before_anything);
        tcase_add_test(t, values_are_any_bytes);
        tcase_add_test(t, what_is_cancelled_is_not_answered);
        tcase_add_test(t, waiting_needs_a_loop_of_its_own);
        tcase_add_test(t, a_watch_begins_with_what_is_there);
        tcase_add_test(t, a_watch_goes_on_from_a_revision);
        tcase_add_test(t, a_watch_may_end_itself);
        tcase_add_test(t, a_watch_sees_what_others_write);
}
