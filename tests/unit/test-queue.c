/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Writes that are on their way: all of them arrive, from buffers that are used again two turns later, and none that failed
 * is forgotten. Each case also without a queue, as where the kernel allows none. */
#include "base/queue.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io.h"
#include "suite.h"

#define TURNS 200
#define PIECE 5000

static struct io_queue *queue_of(int i)
{
        struct io_queue *q = NULL;
        int r = i ? io_queue_new(&q) : 0;

        if (r < 0) /* a container may forbid it: then there is nothing else to test here */
                printf("test-queue: io_uring is not allowed here: %s\n", strerror(-r));
        return q;
}

static uint8_t byte_at(unsigned turn, unsigned piece)
{
        return (uint8_t)(turn * 7 + piece * 3 + 1);
}

/* More pieces than a queue has room for, each from its own part of the turn's buffer. */
START_TEST(all_of_it_arrives)
{
        static uint8_t buffers[2][100 * PIECE], found[PIECE], expected[PIECE];
        const unsigned pieces = 100;
        _cleanup_close_ int fd = memfd_create("queue", MFD_CLOEXEC);
        struct io_queue *q = queue_of(_i);

        for (unsigned turn = 0; turn < TURNS; turn++) {
                uint8_t *buffer = buffers[turn % 2];

                ck_assert_int_eq(io_queue_turn(q), 0);
                for (unsigned i = 0; i < pieces; i++) {
                        memset(buffer + i * PIECE, byte_at(turn, i), PIECE);
                        ck_assert_int_eq(
                                io_queue_pwrite(q, fd, buffer + i * PIECE, PIECE, PIECE * (turn + (uint64_t)TURNS * i)), 0);
                }
        }
        ck_assert_int_eq(io_queue_finish(q), 0);
        memset(buffers, 0, sizeof(buffers)); /* nobody reads them any more */
        ck_assert_ptr_null(io_queue_free(q));
        for (unsigned turn = 0; turn < TURNS; turn++)
                for (unsigned i = 0; i < pieces; i++) {
                        memset(expected, byte_at(turn, i), PIECE);
                        ck_assert_int_eq(io_pread(fd, found, PIECE, PIECE * (turn + (uint64_t)TURNS * i)), 0);
                        ck_assert_int_eq(memcmp(found, expected, PIECE), 0);
                }
}
END_TEST

START_TEST(a_failure_is_told)
{
        static const uint8_t data[PIECE];
        _cleanup_close_ int fd = memfd_create("queue", MFD_CLOEXEC), full = open("/dev/full", O_WRONLY | O_CLOEXEC);
        struct io_queue *q = queue_of(_i);
        int r;

        ck_assert_int_eq(io_queue_turn(q), 0);
        ck_assert_int_eq(io_queue_pwrite(q, fd, data, sizeof(data), 0), 0);
        r = io_queue_pwrite(q, full, data, sizeof(data), 0);
        for (unsigned i = 0; i < 2 && r == 0; i++)
                r = io_queue_turn(q);
        ck_assert_int_eq(r, -ENOSPC);
        if (q) {
                ck_assert_int_eq(io_queue_pwrite(q, fd, data, sizeof(data), 0), -ENOSPC);
                ck_assert_int_eq(io_queue_turn(q), -ENOSPC);
                ck_assert_int_eq(io_queue_finish(q), -ENOSPC);
        }
        io_queue_free(q);
}
END_TEST

START_TEST(the_last_one_fails)
{
        static const uint8_t data[PIECE];
        _cleanup_close_ int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
        struct io_queue *q = queue_of(_i);
        int r;

        ck_assert_int_eq(io_queue_turn(q), 0);
        r = io_queue_pwrite(q, full, data, sizeof(data), 0);
        ck_assert_int_eq(r ?: io_queue_finish(q), -ENOSPC);
        io_queue_free(q);
}
END_TEST

/* The kernel writes as much as the limit allows; the rest is asked for again, and says why it cannot be. */
START_TEST(a_short_one_is_gone_on_with)
{
        static uint8_t data[4 * 4096], found[3 * 4096];
        _cleanup_close_ int fd = memfd_create("queue", MFD_CLOEXEC);
        struct io_queue *q = queue_of(_i);
        int r;

        memset(data, 'x', sizeof(data));
        signal(SIGXFSZ, SIG_IGN);
        ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &(struct rlimit){ sizeof(found), sizeof(found) }), 0);
        ck_assert_int_eq(io_queue_turn(q), 0);
        r = io_queue_pwrite(q, fd, data, sizeof(data), 0);
        ck_assert_int_eq(r ?: io_queue_finish(q), -EFBIG);
        ck_assert_int_eq(io_pread(fd, found, sizeof(found), 0), 0);
        ck_assert_int_eq(memcmp(found, data, sizeof(found)), 0);
        io_queue_free(q);
}
END_TEST

START_TEST(left_in_the_middle)
{
        static const uint8_t data[PIECE];
        _cleanup_close_ int fd = memfd_create("queue", MFD_CLOEXEC);
        struct io_queue *q = queue_of(_i);

        for (unsigned i = 0; i < 10; i++)
                ck_assert_int_eq(io_queue_pwrite(q, fd, data, sizeof(data), sizeof(data) * i), 0);
        ck_assert_ptr_null(io_queue_free(q));
        ck_assert_ptr_null(io_queue_free(NULL));
        ck_assert_int_eq(lseek(fd, 0, SEEK_END), 10 * PIECE);
}
END_TEST

/* As containers and services with SystemCallFilter= have it. */
START_TEST(where_it_is_not_allowed)
{
        struct sock_filter filter[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        const struct sock_fprog program = { ARRAY_SIZE(filter), filter };
        struct io_queue *q = (struct io_queue *)filter;

        ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        ck_assert_int_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
        ck_assert_int_eq(io_queue_new(&q), -EPERM);
        ck_assert_ptr_null(q);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("queue");
        TCase *t = tcase_create("queue");

        tcase_set_timeout(t, 60);
        tcase_add_loop_test(t, all_of_it_arrives, 0, 2);
        tcase_add_loop_test(t, a_failure_is_told, 0, 2);
        tcase_add_loop_test(t, the_last_one_fails, 0, 2);
        tcase_add_loop_test(t, a_short_one_is_gone_on_with, 0, 2);
        tcase_add_loop_test(t, left_in_the_middle, 0, 2);
        tcase_add_test(t, where_it_is_not_allowed);
        suite_add_tcase(s, t);
        return suite_run(s);
}
