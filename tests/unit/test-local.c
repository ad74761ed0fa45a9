/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The store of one machine: what every store does, and what is its own: the file, other processes, failing disks. */
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/io.h"
#include "cluster/table.h"
#include "scratch.h"
#include "store-cases.h"
#include "suite.h"

static struct store *open_store(sd_event *loop)
{
        struct store *s;

        ck_assert_int_eq(store_open_local(".", loop, &s, NULL), 0);
        return s;
}

static void begin(void)
{
        scratch_begin();
        cases_begin();
}

static void end(void)
{
        cases_end();
        scratch_end();
}

static void reopen(void)
{
        store_close(store);
        store = open_store(event);
}

START_TEST(it_is_on_disk)
{
        uint64_t base = put("a", "1") - 1;
        _cleanup_free_ char *state = NULL, *again = NULL;
        struct stat st;
        struct answered a = {};

        put("b", "two\nlines");
        put("a", "\x01\xff");
        put("c", "");
        state = state_at(0, base);
        reopen();
        again = state_at(0, base);
        ck_assert_str_eq(state, again);
        ck_assert_int_eq(stat("store.json", &st), 0);
        ck_assert_uint_eq(st.st_mode & 0777, 0600);
        /* What was before is not. */
        ck_assert_int_eq(store_range(store, &(struct store_range){ prefix, true, base + 1 }, note_answer, &a, NULL, NULL),
                         0);
        run_until(&a.done);
        ck_assert_int_eq(a.result, -ESTALE);
}
END_TEST

START_TEST(a_watch_that_missed_too_much_begins_anew)
{
        struct watcher w = {}, late = {};
        uint64_t first = put("a", "0");

        for (unsigned i = 0; i < 20; i++)
                put("a", "1");
        watch(&w, first);
        run_until_changes(&w, 21);
        ck_assert_uint_eq(w.fresh, 0);
        store_watch_end(w.watch);
        reopen();
        watch(&late, first);
        run_until_changes(&late, 1);
        ck_assert_str_eq(late.seen.data, "![a=1]");
        buf_done(&w.seen);
        buf_done(&late.seen);
}
END_TEST

/* The n-th write or flush fails. */
static unsigned fail_at;
static int failing_fsync(int fd)
{
        return fail_at && --fail_at == 0 ? -EIO : io_system_ops.fsync(fd);
}
static int failing_rename(int olddir, const char *old, int newdir, const char *new, unsigned flags)
{
        return fail_at && --fail_at == 0 ? -EIO : io_system_ops.rename(olddir, old, newdir, new, flags);
}
static ssize_t failing_pwrite(int fd, const void *data, size_t n, uint64_t offset)
{
        return fail_at && --fail_at == 0 ? -ENOSPC : io_system_ops.pwrite(fd, data, n, offset);
}

START_TEST(a_disk_that_fails)
{
        static const struct {
                int result;
                const char *state;
        } rows[] = {
                { -ENOSPC, "a=1:1/1" },    /* the new file */
                { -EIO, "a=1:1/1" },       /* its flush */
                { -EIO, "a=1:1/1" },       /* its rename */
                { -EREMOTEIO, "a=2:1/2" }, /* the directory's flush: the file is there, if the power stays */
        };
        struct io_ops ops = io_system_ops;
        uint64_t base = put("a", "1") - 1;
        _cleanup_free_ char *key = full("a"), *state = NULL;
        struct store_write w = { key, false, "2", 1 };
        struct watcher watcher = {};
        uint64_t revision;
        bool made;

        watch(&watcher, 0);
        run_until_changes(&watcher, 1);
        ops.fsync = failing_fsync;
        ops.rename = failing_rename;
        ops.pwrite = failing_pwrite;
        io_set_ops(&ops);
        fail_at = (unsigned)_i + 1;
        ck_assert_int_eq(commit(&(struct store_txn){ .writes = &w, .n_writes = 1 }, &made, &revision), rows[_i].result);
        ck_assert_uint_eq(fail_at, 0);
        state = state_at(0, base);
        ck_assert_str_eq(state, rows[_i].state);
        put("b", "3");
        run_until_changes(&watcher, _i == 3 ? 3 : 2);
        ck_assert_str_eq(watcher.seen.data, _i == 3 ? "![a=1][a=2][b=3]" : "![a=1][b=3]");
        io_set_ops(NULL);
        buf_done(&watcher.seen);
}
END_TEST

START_TEST(a_damaged_file_is_no_empty_store)
{
        static const char *const texts[] = {
                "",
                "{}",
                "{\"format\":1,\"revision\":0,\"keys\":[]}",
                "{\"format\":2,\"revision\":5,\"keys\":[]}",
                "{\"format\":1,\"revision\":5,\"keys\":[{\"key\":\"a\",\"created\":2,\"modified\":6,\"text\":\"x\"}]}",
                "{\"format\":1,\"revision\":5,\"keys\":[{\"key\":\"a\",\"created\":2,\"modified\":3}]}",
                "{\"format\":1,\"revision\":5,\"keys\":[{\"key\":\"a\",\"created\":2,\"modified\":3,\"base64\":\"x\"}]}",
                "{\"format\":1,\"revision\":5,\"keys\":[{\"key\":\"b\",\"created\":2,\"modified\":3,\"text\":\"x\"},"
                "{\"key\":\"a\",\"created\":2,\"modified\":3,\"text\":\"x\"}]}",
        };
        _cleanup_error_ struct error e = {};
        struct store *s;

        ck_assert_int_eq(file_replace(AT_FDCWD, "store.json", texts[_i], strlen(texts[_i]), 0600), 0);
        ck_assert_int_lt(store_open_local(".", NULL, &s, &e), 0);
        ck_assert_ptr_nonnull(strstr(e.hint, "store.json"));
}
END_TEST

START_TEST(a_file_of_before_is_noticed)
{
        struct watcher w = {};
        _cleanup_free_ char *old = NULL;
        size_t size;

        put("a", "1");
        ck_assert_int_eq(file_read(AT_FDCWD, "store.json", 10000, &old, &size), 0);
        put("a", "2");
        put("b", "3");
        watch(&w, 0);
        run_until_changes(&w, 2);
        w.revision = 0;
        ck_assert_int_eq(file_replace(AT_FDCWD, "store.json", old, size, 0600), 0);
        run_until_changes(&w, 3);
        ck_assert_str_eq(w.seen.data, "![a=2 b=3]![a=1]");
        buf_done(&w.seen);
}
END_TEST

START_TEST(who_holds_the_lock_is_not_waited_for_long)
{
        int fd = open("store.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        _cleanup_free_ char *key = full("a");
        struct store_write w = { key, false, "2", 1 };
        uint64_t revision;
        bool made;

        ck_assert_int_eq(flock(fd, LOCK_EX), 0);
        ck_assert_int_eq(commit(&(struct store_txn){ .writes = &w, .n_writes = 1 }, &made, &revision), -EBUSY);
        close(fd);
        ck_assert_int_eq(commit(&(struct store_txn){ .writes = &w, .n_writes = 1 }, &made, &revision), 0);
}
END_TEST

/* Two processes, one counter: no step is lost. */
START_TEST(two_processes_count)
{
        unsigned total = 0;
        pid_t child;
        int status;

        put("n", "0");
        child = fork();
        if (child == 0) { /* a loop is of one process */
                sd_event_new(&event);
                store = open_store(event);
        }
        for (unsigned i = 0; i < 50; i++) {
                bool made = false;

                while (!made) {
                        _cleanup_free_ char *key = full("n"), *next = NULL;
                        struct answered a = {};
                        uint64_t revision;

                        ck_assert_int_eq(store_range(store, &(struct store_range){ key }, note_answer, &a, NULL, NULL), 0);
                        run_until(&a.done);
                        total = (unsigned)atoi(strchr(a.state.data, '=') + 1);
                        next = xasprintf("%u", total + 1);
                        *strrchr(a.state.data, ':') = '\0';
                        ck_assert_int_eq(
                                commit(&(struct store_txn){ &(struct store_compare){ STORE_VALUE, key, 0,
                                                                                     strchr(a.state.data, '=') + 1,
                                                                                     strlen(strchr(a.state.data, '=') + 1) },
                                                            1, &(struct store_write){ key, false, next, strlen(next) }, 1 },
                                       &made, &revision),
                                0);
                        buf_done(&a.state);
                }
        }
        if (child == 0)
                _exit(0);
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert_int_eq(status, 0);
        _cleanup_free_ char *state = state_at(0, 0);
        ck_assert(startswith(state, "n=100:"));
}
END_TEST

/* What is remembered is bounded, and its oldest goes revision by revision. */
START_TEST(the_history_is_bounded)
{
        static struct table t;
        struct store_write two[] = { { "a", false, "1", 1 }, { "b", false, "1", 1 } };
        struct table_change *changes;
        size_t n;

        table_init(&t);
        for (unsigned i = 0; i < TABLE_HISTORY; i++)
                ck_assert_int_eq(table_commit(&t, &(struct store_txn){ .writes = two, .n_writes = 2 }), 1);
        ck_assert_uint_eq(t.n_history, TABLE_HISTORY);
        ck_assert_uint_eq(t.revision, TABLE_HISTORY + 1);
        ck_assert_uint_eq(t.known, TABLE_HISTORY / 2 + 1);
        ck_assert_int_eq(table_changes(&t, "", t.known, &changes, &n), -ESTALE);
        ck_assert_int_eq(table_changes(&t, "", t.known + 1, &changes, &n), 0);
        ck_assert_uint_eq(n, TABLE_HISTORY);
        table_changes_done(changes, n);
        ck_assert_int_eq(table_changes(&t, "b", t.revision, &changes, &n), 0);
        ck_assert_uint_eq(n, 1);
        table_changes_done(changes, n);
        table_done(&t);
}
END_TEST

/* What could not be taken back is not begun. */
START_TEST(a_deletion_fits_into_the_history)
{
        static struct table t;
        struct store_write all = { "k", true, .prefix = true }, one = { "k0000", true };
        _cleanup_reply_ struct store_reply reply = {};

        table_init(&t);
        for (unsigned i = 0; i <= TABLE_HISTORY; i++) {
                char key[8];

                snprintf(key, sizeof(key), "k%04u", i);
                ck_assert_int_eq(table_commit(&t, &(struct store_txn){ .writes = &(struct store_write){ key, false, "1", 1 },
                                                                       .n_writes = 1 }),
                                 1);
        }
        ck_assert_int_eq(table_commit(&t, &(struct store_txn){ .writes = &all, .n_writes = 1 }), -E2BIG);
        ck_assert_int_eq(table_range(&t, &(struct store_range){ "k", true }, &reply), 0);
        ck_assert_uint_eq(reply.n_entries, TABLE_HISTORY + 1);
        store_reply_done(&reply);
        ck_assert_int_eq(table_commit(&t, &(struct store_txn){ .writes = &one, .n_writes = 1 }), 1);
        ck_assert_int_eq(table_commit(&t, &(struct store_txn){ .writes = &all, .n_writes = 1 }), 1);
        ck_assert_uint_eq(t.n_items, 0);
        table_take_back(&t);
        ck_assert_uint_eq(t.n_items, TABLE_HISTORY);
        table_done(&t);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("local");
        TCase *t = tcase_create("every store"), *own = tcase_create("the local one");

        tcase_add_checked_fixture(t, scratch_begin, scratch_end);
        add_cases(t);
        tcase_set_timeout(t, 60);
        suite_add_tcase(s, t);
        tcase_add_checked_fixture(own, begin, end);
        tcase_set_timeout(own, 60);
        tcase_add_test(own, it_is_on_disk);
        tcase_add_test(own, a_watch_that_missed_too_much_begins_anew);
        tcase_add_loop_test(own, a_disk_that_fails, 0, 4);
        tcase_add_loop_test(own, a_damaged_file_is_no_empty_store, 0, 8);
        tcase_add_test(own, a_file_of_before_is_noticed);
        tcase_add_test(own, who_holds_the_lock_is_not_waited_for_long);
        tcase_add_test(own, two_processes_count);
        tcase_add_test(own, the_history_is_bounded);
        tcase_add_test(own, a_deletion_fits_into_the_history);
        suite_add_tcase(s, own);
        return suite_run(s);
}
