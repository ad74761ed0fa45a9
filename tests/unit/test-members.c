/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Three etcd servers that die, stop and come back during a watch and during transactions. */
#include <fcntl.h>
#include <limits.h>

#include "base/file.h"
#include "etcd.h"
#include "suite.h"

static void start_three(void)
{
        cluster_start(3);
        cases_begin();
}

static void stop_three(void)
{
        cases_end();
        cluster_stop();
}

/* Whatever dies: every change is told, once, in order. */
START_TEST(a_watch_outlives_members)
{
        struct watcher w = {};
        unsigned n = 1;

        put("n", "1");
        watch(&w, 0);
        run_until_changes(&w, 1);
        put("n", "2"); /* it streams */
        run_until_changes(&w, ++n);
        for (unsigned i = 0; i < 3; i++) {
                char value[16];

                member_kill(i, SIGKILL);
                snprintf(value, sizeof(value), "%u", n + 1);
                for (int r = -1; r < 0;) {
                        _cleanup_free_ char *key = full("n");
                        uint64_t revision;
                        bool made;

                        /* It may be written twice, where an answer is lost. */
                        r = commit(&(struct store_txn){ .writes = &(struct store_write){ key, false, value, strlen(value) },
                                                        .n_writes = 1 },
                                   &made, &revision);
                }
                while (!w.seen.data || !strstr(w.seen.data, value))
                        run_until_changes(&w, w.changes + 1);
                n = w.changes;
                member_start(i);
                cluster_wait();
        }
        ck_assert_uint_eq(w.fresh, 1);
        buf_done(&w.seen);
}
END_TEST

START_TEST(a_member_that_stands_still)
{
        struct watcher w = {};
        uint64_t begin;

        put("n", "1");
        watch(&w, 0);
        run_until_changes(&w, 1);
        put("n", "2");
        run_until_changes(&w, 2);
        /* Every first question goes there; the watch hears nothing from it until it asks. */
        member_kill(0, SIGSTOP);
        begin = now_monotonic();
        while (range_result() != 0)
                ck_assert(now_monotonic() - begin < PATIENCE);
        for (int r = -1; r < 0;) {
                _cleanup_free_ char *key = full("n");
                uint64_t revision;
                bool made;

                r = commit(&(struct store_txn){ .writes = &(struct store_write){ key, false, "3", 1 }, .n_writes = 1 },
                           &made, &revision);
                ck_assert(r == 0 || r == -EREMOTEIO);
        }
        run_until_changes(&w, 3);
        ck_assert_uint_eq(w.fresh, 1);
        member_kill(0, SIGCONT);
        put("n", "4");
        while (!strstr(w.seen.data, "n=4"))
                run_until_changes(&w, w.changes + 1);
        buf_done(&w.seen);
}
END_TEST

START_TEST(without_a_majority_nothing_is_decided)
{
        _cleanup_free_ char *key = full("n");
        struct store_write write = { key, false, "2", 1 };
        struct watcher w = {};
        uint64_t revision, end;
        bool made;
        int r;

        put("n", "1");
        watch(&w, 0);
        run_until_changes(&w, 1);
        member_kill(1, SIGKILL);
        member_kill(2, SIGKILL);
        r = commit(&(struct store_txn){ .writes = &write, .n_writes = 1 }, &made, &revision);
        ck_assert_msg(r == -EREMOTEIO || r == -EHOSTUNREACH, "%d", r);
        ck_assert_int_eq(range_result(), -EHOSTUNREACH);
        for (end = now_monotonic() + PATIENCE; store_watch_is_live(w.watch) && now_monotonic() < end;)
                run_for(USEC_PER_MSEC * 100);
        ck_assert(!store_watch_is_live(w.watch));
        member_start(1);
        member_start(2);
        cluster_wait();
        put("n", "3");
        while (!strstr(w.seen.data, "n=3"))
                run_until_changes(&w, w.changes + 1);
        ck_assert_uint_eq(w.fresh, 1);
        ck_assert(store_watch_is_live(w.watch));
        buf_done(&w.seen);
}
END_TEST

/* A counter that is raised by compare and write while members die: it holds no more than what was made or may have been. */
START_TEST(transactions_while_members_die)
{
        unsigned made_count = 0, unknown = 0, value = 0, killed = 0;
        _cleanup_free_ char *key = full("n");

        put("n", "0");
        for (unsigned i = 0; i < 60; i++) {
                struct answered a = {};
                char now[16], next[16];
                uint64_t revision;
                bool made = false;
                int r;

                if (i % 10 == 5)
                        member_kill(killed = i / 10 % 3, SIGKILL);
                if (i % 10 == 9)
                        member_start(killed);
                ck_assert_int_eq(store_range(store, &(struct store_range){ key }, note_answer, &a, NULL, NULL), 0);
                run_until(&a.done);
                ck_assert_int_eq(a.result, 0); /* two of three are there: it is asked until a leader is */
                value = (unsigned)atoi(strchr(a.state.data, '=') + 1);
                buf_done(&a.state);
                snprintf(now, sizeof(now), "%u", value);
                snprintf(next, sizeof(next), "%u", value + 1);
                r = commit(&(struct store_txn){ &(struct store_compare){ STORE_VALUE, key, 0, now, strlen(now) }, 1,
                                                &(struct store_write){ key, false, next, strlen(next) }, 1 },
                           &made, &revision);
                ck_assert_msg(r == 0 || r == -EREMOTEIO || r == -EHOSTUNREACH, "%d", r);
                made_count += r == 0 && made;
                unknown += r == -EREMOTEIO;
        }
        _cleanup_free_ char *state = state_at(0, 0);
        value = (unsigned)atoi(strchr(state, '=') + 1);
        ck_assert_msg(value >= made_count && value <= made_count + unknown, "%u, made %u, unknown %u", value, made_count,
                      unknown);
        ck_assert_uint_ge(made_count, 40);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("members");
        TCase *t = tcase_create("three members");

        tcase_add_checked_fixture(t, start_three, stop_three);
        tcase_set_timeout(t, 200);
        tcase_add_test(t, a_watch_outlives_members);
        tcase_add_test(t, a_member_that_stands_still);
        tcase_add_test(t, without_a_majority_nothing_is_decided);
        tcase_add_test(t, transactions_while_members_die);
        suite_add_tcase(s, t);
        return suite_run(s);
}
