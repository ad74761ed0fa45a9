/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whole files and the I/O layer (the order of writes and flushes is what survives a power cut), and other programs. */
#include "base/file.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/process.h"
#include "base/text.h"

#include <check.h>
#include "suite.h"
#undef fail

static char path[] = "/tmp/test-file.XXXXXX";
static int dir = -1;

static void set_up(void)
{
        strcpy(strrchr(path, '.'), ".XXXXXX"); /* each test has its own */
        ck_assert_ptr_nonnull(mkdtemp(path));
        dir = dir_open(AT_FDCWD, path);
        ck_assert_int_ge(dir, 0);
}

static void tear_down(void)
{
        io_set_ops(NULL);
        dir = fd_close(dir);
        ck_assert_int_eq(remove_tree(AT_FDCWD, path), 0);
}

static void check_content(const char *name, const char *text)
{
        _cleanup_free_ char *content = NULL;
        size_t size;

        ck_assert_int_eq(file_read(dir, name, 1000000, &content, &size), 0);
        ck_assert_uint_eq(size, strlen(text));
        ck_assert_str_eq(content, text);
}

static int count_entries(void)
{
        _cleanup_closedir_ DIR *d = opendir(path);
        int n = -2;

        while (readdir(d))
                n++;
        return n;
}

/* An I/O layer that lists its calls, and fails number `fail_at`. */
static struct {
        char log[64];
        int n, fail_at, error;
} calls;

static int call(char what)
{
        if (calls.n < (int)sizeof(calls.log) - 1)
                calls.log[calls.n] = what;
        return calls.n++ == calls.fail_at ? calls.error : 0;
}

static ssize_t logged_pwrite(int fd, const void *data, size_t n, uint64_t offset)
{
        int r = call('w');

        return r < 0 ? r : io_system_ops.pwrite(fd, data, n, offset);
}

static int logged_fsync(int fd)
{
        struct stat st;
        int r;

        ck_assert_int_eq(fstat(fd, &st), 0);
        r = call(S_ISDIR(st.st_mode) ? 'd' : 'f');
        return r < 0 ? r : io_system_ops.fsync(fd);
}

static int logged_rename(int from, const char *old, int to, const char *new, unsigned flags)
{
        int r = call(flags == RENAME_NOREPLACE ? 'n' : 'r');

        return r < 0 ? r : io_system_ops.rename(from, old, to, new, flags);
}

static void log_calls(int fail_at, int error)
{
        static struct io_ops ops;

        ops = io_system_ops;
        ops.pwrite = logged_pwrite;
        ops.fsync = logged_fsync;
        ops.rename = logged_rename;
        memset(&calls, 0, sizeof(calls));
        calls.fail_at = fail_at;
        calls.error = error;
        io_set_ops(&ops);
}

static const struct {
        int (*write)(int dirfd, const char *name, const void *data, size_t size, mode_t mode);
        const char *order;
        int renamed; /* from this call on the new name is there */
} ways[] = {
        { file_create, "wfnfd", 3 },
        { file_replace, "wfrd", 3 },
        { file_replace_volatile, "wr", 2 },
};

START_TEST(writes_are_in_order)
{
        struct stat st;

        log_calls(-1, 0);
        ck_assert_int_eq(ways[_i].write(dir, "name", "content", 7, 0600), 0);
        ck_assert_str_eq(calls.log, ways[_i].order);
        check_content("name", "content");
        ck_assert_int_eq(fstatat(dir, "name", &st, 0), 0);
        ck_assert_int_eq(st.st_mode & 07777, 0600);
        ck_assert_int_eq(count_entries(), 1);
}
END_TEST

/* Whatever fails, its error is told, and nothing lies around. */
START_TEST(failed_writes_leave_nothing)
{
        for (int at = 0; at < (int)strlen(ways[_i].order); at++) {
                bool there;

                log_calls(at, at % 2 ? -EIO : -ENOSPC);
                ck_assert_int_eq(ways[_i].write(dir, "name", "content", 7, 0600), at % 2 ? -EIO : -ENOSPC);
                there = faccessat(dir, "name", F_OK, 0) == 0;
                ck_assert_int_eq(there, at >= ways[_i].renamed);
                ck_assert_int_eq(count_entries(), there);
                unlinkat(dir, "name", 0);
        }
}
END_TEST

START_TEST(existing_names)
{
        ck_assert_int_eq(file_create(dir, "name", "one", 3, 0600), 0);
        ck_assert_int_eq(file_create(dir, "name", "two", 3, 0600), -EEXIST);
        ck_assert_int_eq(symlinkat("nowhere", dir, "link"), 0);
        ck_assert_int_eq(file_create(dir, "link", "two", 3, 0600), -EEXIST);
        check_content("name", "one");
        ck_assert_int_eq(file_replace(dir, "name", "two", 3, 0600), 0);
        check_content("name", "two");
        ck_assert_int_eq(file_replace(dir, "name", "", 0, 0600), 0);
        check_content("name", "");
        ck_assert_int_eq(mkdir_parents(dir, "a/b", 0755), 0);
        ck_assert_int_eq(file_create(dir, "a/b/c", "x", 1, 0600), 0);
        check_content("a/b/c", "x");
        ck_assert_int_eq(file_create(dir, "a/no/c", "x", 1, 0600), -ENOENT);
        ck_assert_int_eq(file_replace(dir, "name/c", "x", 1, 0600), -ENOTDIR);
        ck_assert_int_eq(count_entries(), 3);
}
END_TEST

START_TEST(reading_has_a_bound)
{
        char *content = NULL;
        size_t size = 77;

        ck_assert_int_eq(file_replace_volatile(dir, "name", "12345", 5, 0600), 0);
        ck_assert_int_eq(file_read(dir, "name", 4, &content, &size), -EFBIG);
        ck_assert_int_eq(file_read(dir, "missing", 4, &content, &size), -ENOENT);
        ck_assert_int_eq(file_read(dir, ".", 4, &content, &size), -EISDIR);
        ck_assert_ptr_null(content);
        ck_assert_uint_eq(size, 77);
        /* Nobody ever writes into it. */
        ck_assert_int_eq(mkfifoat(dir, "pipe", 0600), 0);
        ck_assert_int_eq(file_read(dir, "pipe", 4, &content, &size), -EINVAL);
        ck_assert_int_eq(file_read(dir, "name", 5, &content, NULL), 0);
        ck_assert_str_eq(content, "12345");
        free(TAKE_PTR(content));
        /* Files in /proc have no size. */
        ck_assert_int_eq(file_read(AT_FDCWD, "/proc/self/status", 65536, &content, &size), 0);
        ck_assert_uint_eq(strlen(content), size);
        free(TAKE_PTR(content));
        ck_assert_int_eq(file_read(AT_FDCWD, "/proc/self/status", 10, &content, &size), -EFBIG);
        ck_assert_ptr_null(content);
}
END_TEST

START_TEST(directories)
{
        struct stat st;

        ck_assert_int_eq(mkdir_parents(dir, "a/b/c", 0755), 0);
        ck_assert_int_eq(mkdir_parents(dir, "a/b/c", 0755), 0);
        ck_assert_int_eq(mkdir_parents(dir, "a//d/", 0755), 0);
        ck_assert_int_eq(fstatat(dir, "a/d", &st, 0), 0);
        ck_assert_int_eq(mkdir_parents(dir, "", 0755), -ENOENT);
        ck_assert_int_eq(file_replace_volatile(dir, "file", "", 0, 0600), 0);
        ck_assert_int_eq(mkdir_parents(dir, "file", 0755), -EEXIST);
        ck_assert_int_eq(mkdir_parents(dir, "file/x", 0755), -ENOTDIR);
        ck_assert_int_eq(dir_open(dir, "file"), -ENOTDIR);
        ck_assert_int_eq(dir_open(dir, "missing"), -ENOENT);
}
END_TEST

START_TEST(trees_are_removed_but_links_not_followed)
{
        ck_assert_int_eq(mkdir_parents(dir, "tree/a/b", 0755), 0);
        ck_assert_int_eq(mkdir_parents(dir, "outside", 0755), 0);
        ck_assert_int_eq(file_replace_volatile(dir, "outside/kept", "x", 1, 0600), 0);
        ck_assert_int_eq(file_replace_volatile(dir, "tree/a/file", "x", 1, 0400), 0);
        ck_assert_int_eq(symlinkat("../outside", dir, "tree/link"), 0);
        ck_assert_int_eq(symlinkat("outside", dir, "link"), 0);
        ck_assert_int_eq(remove_tree(dir, "tree"), 0);
        ck_assert_int_eq(remove_tree(dir, "tree"), 0);
        ck_assert_int_eq(remove_tree(dir, "link"), 0);
        ck_assert_int_eq(count_entries(), 1);
        check_content("outside/kept", "x");
}
END_TEST

/* Also a bind mount, which has the device of what it shows. Needs a namespace of its own: not everywhere. */
START_TEST(mounts_are_not_removed)
{
        char at[sizeof(path) + 16], from[sizeof(path) + 16];

        if (unshare(CLONE_NEWNS) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0) {
                fprintf(stderr, "mounts_are_not_removed: skipped, no mount namespace: %m\n");
                return;
        }
        ck_assert_int_eq(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
        fd_close(dir);
        dir = dir_open(AT_FDCWD, path); /* the old one sees the mounts of the old namespace */
        ck_assert_int_eq(mkdir_parents(dir, "tree/at", 0755), 0);
        ck_assert_int_eq(mkdir_parents(dir, "from", 0755), 0);
        ck_assert_int_eq(file_replace_volatile(dir, "from/kept", "x", 1, 0600), 0);
        snprintf(at, sizeof(at), "%s/tree/at", path);
        snprintf(from, sizeof(from), "%s/from", path);
        ck_assert_int_eq(mount(from, at, NULL, MS_BIND, NULL), 0);
        ck_assert_int_eq(remove_tree(dir, "tree"), -EXDEV);
        ck_assert_int_eq(remove_tree(dir, "tree/at"), -EXDEV);
        check_content("from/kept", "x");
        ck_assert_int_eq(umount(at), 0);
        ck_assert_int_eq(remove_tree(dir, "tree"), 0);
}
END_TEST

START_TEST(lines)
{
        char text[] = "one\n\nthree", empty[] = "", *cursor = text;

        ck_assert_str_eq(line_next(&cursor), "one");
        ck_assert_str_eq(line_next(&cursor), "");
        ck_assert_str_eq(line_next(&cursor), "three");
        ck_assert_ptr_null(line_next(&cursor));
        cursor = empty;
        ck_assert_ptr_null(line_next(&cursor));
}
END_TEST

static ssize_t short_pwrite(int fd, const void *data, size_t n, uint64_t offset)
{
        static int turn;

        return turn++ % 2 ? -EINTR : io_system_ops.pwrite(fd, data, MIN(n, (size_t)3), offset);
}

static ssize_t short_pread(int fd, void *data, size_t n, uint64_t offset)
{
        static int turn;

        return turn++ % 2 ? -EINTR : io_system_ops.pread(fd, data, MIN(n, (size_t)3), offset);
}

static ssize_t full_pwrite(int fd, const void *data, size_t n, uint64_t offset)
{
        return 0;
}

START_TEST(short_calls_are_continued)
{
        struct io_ops ops = io_system_ops;
        int one = io_open(dir, "one", O_RDWR | O_CREAT, 0600), two = io_open(dir, "two", O_RDWR | O_CREAT, 0600);
        char back[10];

        ops.pwrite = short_pwrite;
        ops.pread = short_pread;
        ck_assert_ptr_eq(io_set_ops(&ops), &io_system_ops);
        ck_assert_int_eq(io_pwrite(one, "0123456789", 10, 5), 0);
        ck_assert_int_eq(io_pread(one, back, 10, 5), 0);
        ck_assert_mem_eq(back, "0123456789", 10);
        ck_assert_int_eq(io_pread(one, back, 10, 6), -EIO); /* the file ends before */
        ck_assert_int_eq(io_copy(one, 7, two, 1, 8), 0);
        ck_assert_int_eq(io_pread(two, back, 8, 1), 0);
        ck_assert_mem_eq(back, "23456789", 8);
        ck_assert_int_eq(io_copy(one, 7, two, 1, 9), -EIO);
        ck_assert_int_eq(io_copy(one, 5, two, 0, UINT64_MAX), 0);
        ck_assert_int_eq(io_pread(two, back, 10, 0), 0);
        ck_assert_mem_eq(back, "0123456789", 10);
        ops.pwrite = full_pwrite;
        ck_assert_int_eq(io_pwrite(one, "x", 1, 0), -ENOSPC);
        ck_assert_int_eq(io_copy(one, 5, two, 0, 1), -ENOSPC);
        ck_assert_ptr_eq(io_set_ops(NULL), &ops);
        fd_close(one);
        fd_close(two);
}
END_TEST

START_TEST(zeros_and_sizes)
{
        int fd = io_open(dir, "file", O_RDWR | O_CREAT, 0600);
        uint8_t data[300], back[300];

        memset(data, 1, sizeof(data));
        ck_assert_int_eq(io_pwrite(fd, data, sizeof(data), UINT64_C(5) << 30), 0); /* beyond 4 GiB */
        ck_assert_int_eq(io_zero(fd, (UINT64_C(5) << 30) + 10, 100), 0);
        ck_assert_int_eq(io_zero(fd, 0, 0), 0);
        memset(data + 10, 0, 100);
        ck_assert_int_eq(io_pread(fd, back, sizeof(back), UINT64_C(5) << 30), 0);
        ck_assert_mem_eq(data, back, sizeof(back));
        ck_assert_int_eq(io_truncate(fd, 5), 0);
        ck_assert_int_eq(io_pread(fd, back, 6, 0), -EIO);
        ck_assert_int_lt(io_discard(fd, 0, 1), 0); /* not a block device */
        ck_assert_int_eq(io_discard(fd, 0, 0), 0);
        fd_close(fd);
        ck_assert_int_eq(io_pwrite(-1, "x", 1, 0), -EBADF);
        ck_assert_int_eq(io_pread(-1, back, 1, 0), -EBADF);
        ck_assert_int_eq(io_fsync(-1), -EBADF);
        ck_assert_int_eq(io_truncate(-1, 0), -EBADF);
        ck_assert_int_eq(io_zero(-1, 0, 1), -EBADF);
        ck_assert_int_eq(io_rename(dir, "missing", dir, "x", 0), -ENOENT);
        ck_assert_int_eq(io_unlink(dir, "missing", 0), -ENOENT);
        ck_assert_int_eq(io_fsync_dir(dir, "missing"), -ENOENT);
        ck_assert_int_eq(io_fsync_dir(dir, "."), 0);
}
END_TEST

static uint64_t run(const char *script, uint64_t timeout, struct process_result *result)
{
        const char *const argv[] = { "sh", "-c", script, NULL }, *const env[] = { "GIVEN=yes", NULL };
        uint64_t start = now_monotonic();

        ck_assert_int_eq(process_run(argv, env, timeout, result), 0);
        return now_monotonic() - start;
}

START_TEST(programs_run)
{
        static const struct {
                const char *script, *output;
                int status;
        } cases[] = {
                { "echo out; echo err >&2; echo $GIVEN", "out\nerr\nyes\n", 0 },
                { "exit 3", "", 3 },
                { "kill -9 $$", "", 137 },
                { "kill -15 $$", "", 143 },
                { "cat", "", 0 },                                     /* stdin is empty */
                { "ls /proc/self/fd | wc -l", "4\n", 0 },             /* 0, 1, 2 and ls's own */
                { "trap '' HUP; sleep 30 & echo gone", "gone\n", 0 }, /* does not wait for what was left behind */
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                _cleanup_process_ struct process_result result = {};
                uint64_t took = run(cases[i].script, 20 * USEC_PER_SEC, &result);

                ck_assert_str_eq(result.output, cases[i].output);
                ck_assert_int_eq(result.exit_status, cases[i].status);
                ck_assert(!result.timed_out);
                ck_assert_uint_lt(took, 15 * USEC_PER_SEC);
        }
}
END_TEST

/* Whatever the caller has on its stdin, ignores or blocks. */
START_TEST(programs_begin_afresh)
{
        static const struct {
                const char *script, *output;
                int status;
        } cases[] = { { "cat", "", 0 }, { "kill -PIPE $$; echo alive", "", 141 }, { "kill -TERM $$; echo alive", "", 143 } };
        sigset_t blocked;
        int fds[2];

        ck_assert_int_eq(pipe(fds), 0);
        ck_assert_int_eq(write(fds[1], "typed", 5), 5);
        close(fds[1]);
        ck_assert_int_eq(dup2(fds[0], STDIN_FILENO), STDIN_FILENO);
        ck_assert(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
        sigemptyset(&blocked);
        sigaddset(&blocked, SIGTERM);
        ck_assert_int_eq(sigprocmask(SIG_BLOCK, &blocked, NULL), 0);
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                _cleanup_process_ struct process_result result = {};

                run(cases[i].script, 20 * USEC_PER_SEC, &result);
                ck_assert_str_eq(result.output, cases[i].output);
                ck_assert_int_eq(result.exit_status, cases[i].status);
        }
}
END_TEST

/* However far the characters of two and three bytes are pushed. */
START_TEST(lines_are_cut_between_characters)
{
        for (int pushed = 0; pushed < 5; pushed++) {
                _cleanup_free_ char *line = NULL;
                struct buf b = {};

                buf_printf(&b, "before\n%.*s", pushed, "xxxxx");
                while (b.size < 3 * PROCESS_LINE_MAX)
                        buf_puts(&b, "ä€");
                line = process_last_line(b.data);
                ck_assert(text_is_printable(line, strlen(line)));
                ck_assert_uint_le(strlen(line), PROCESS_LINE_MAX);
                ck_assert_uint_gt(strlen(line), PROCESS_LINE_MAX - 3);
                ck_assert_str_eq(line + strlen(line) - strlen("…"), "…");
                buf_done(&b);
        }
}
END_TEST

START_TEST(output_is_bounded)
{
        _cleanup_process_ struct process_result result = {};

        run("head -c 300000 /dev/zero | tr '\\0' x; exit 4", 0, &result);
        ck_assert_uint_eq(strlen(result.output), 65536);
        ck_assert_int_eq(result.exit_status, 4);
}
END_TEST

/* The deadline counts for one that is silent, one that never stops talking, one that leaves a talker behind. */
START_TEST(time_is_bounded)
{
        static const char *const scripts[] = { "sleep 60", "yes", "sleep 60 & wait", "yes & exec sleep 60" };
        _cleanup_process_ struct process_result result = {};
        uint64_t took = run(scripts[_i], USEC_PER_SEC / 2, &result);

        ck_assert(result.timed_out);
        ck_assert_int_eq(result.exit_status, 128 + SIGTERM);
        ck_assert_uint_ge(took, USEC_PER_SEC / 2);
        ck_assert_uint_lt(took, 5 * USEC_PER_SEC);
}
END_TEST

START_TEST(who_ignores_sigterm_is_killed)
{
        _cleanup_process_ struct process_result result = {};

        run("trap '' TERM; while :; do sleep 1; done", USEC_PER_SEC / 2, &result);
        ck_assert(result.timed_out);
        ck_assert_int_eq(result.exit_status, 128 + SIGKILL);
}
END_TEST

/* What ignores SIGTERM in the group of a program that obeyed it must not go on writing. */
START_TEST(the_whole_group_ends)
{
        _cleanup_process_ struct process_result result = {};
        pid_t left;

        run("(trap '' TERM; exec sleep 60) & echo $!; exec sleep 60", USEC_PER_SEC / 2, &result);
        ck_assert(result.timed_out);
        left = (pid_t)atoi(result.output);
        ck_assert_int_gt(left, 1);
        for (int i = 0; i < 100; i++) {
                char name[64], *stat = NULL;
                bool gone;

                snprintf(name, sizeof(name), "/proc/%d/stat", left);
                gone = file_read(AT_FDCWD, name, 4096, &stat, NULL) < 0 || strstr(stat, ") Z ");
                free(stat);
                if (gone)
                        return;
                usleep(20000);
        }
        ck_abort_msg("process %d still runs", left);
}
END_TEST

START_TEST(programs_that_must_succeed)
{
        const char *const fine[] = { "true", NULL }, *const missing[] = { "no-such-program-here", NULL };
        const char *const loud[] = { "sh", "-c", "echo first; echo the reason; echo; exit 5", NULL };
        const char *const slow[] = { "sleep", "60", NULL };
        struct error e = {};

        ck_assert_int_eq(process_must(fine, 0, &e), 0);
        ck_assert_int_eq(process_must(loud, 0, &e), -EIO);
        ck_assert_str_eq(e.message, "sh failed with status 5: the reason");
        error_done(&e);
        ck_assert_int_eq(process_must(missing, 0, &e), -ENOENT);
        ck_assert_msg(strstr(e.message, "no-such-program-here: No such file"), "%s", e.message);
        error_done(&e);
        ck_assert_int_eq(process_must(slow, USEC_PER_SEC / 5, &e), -ETIMEDOUT);
        ck_assert_str_eq(e.message, "sleep did not end in time");
        error_done(&e);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("file");
        TCase *t = tcase_create("file"), *p = tcase_create("process");

        tcase_add_checked_fixture(t, set_up, tear_down);
        tcase_set_timeout(t, 60);
        tcase_add_loop_test(t, writes_are_in_order, 0, (int)ARRAY_SIZE(ways));
        tcase_add_loop_test(t, failed_writes_leave_nothing, 0, (int)ARRAY_SIZE(ways));
        tcase_add_test(t, existing_names);
        tcase_add_test(t, reading_has_a_bound);
        tcase_add_test(t, directories);
        tcase_add_test(t, trees_are_removed_but_links_not_followed);
        tcase_add_test(t, mounts_are_not_removed);
        tcase_add_test(t, lines);
        tcase_add_test(t, short_calls_are_continued);
        tcase_add_test(t, zeros_and_sizes);
        suite_add_tcase(s, t);
        tcase_set_timeout(p, 60);
        tcase_add_test(p, programs_run);
        tcase_add_test(p, programs_begin_afresh);
        tcase_add_test(p, lines_are_cut_between_characters);
        tcase_add_test(p, output_is_bounded);
        tcase_add_loop_test(p, time_is_bounded, 0, 4);
        tcase_add_test(p, who_ignores_sigterm_is_killed);
        tcase_add_test(p, the_whole_group_ends);
        tcase_add_test(p, programs_that_must_succeed);
        suite_add_tcase(s, p);
        return suite_run(s);
}
