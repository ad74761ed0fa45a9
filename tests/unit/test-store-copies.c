/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The state record's two copies: which one is read, which one is written, and what is left when a write, a flush or a byte
 * goes wrong. */
#include <fcntl.h>

#include "base/io.h"
#include "slot/kinds.h"

#include "state-case.h"
#include "suite.h"

static struct state_place place;

static void set_up(void)
{
        char name[] = "/tmp/test-store.XXXXXX";
        int fd = mkstemp(name);

        ck_assert_int_ge(fd, 0);
        unlink(name);
        ck_assert_int_eq(ftruncate(fd, 2 * STATE_COPY_DISTANCE), 0);
        place = (struct state_place){ .fd = { fd, fd }, .offset = { 0, STATE_COPY_DISTANCE } };
}

static void tear_down(void)
{
        io_set_ops(NULL);
        state_place_close(&place);
        ck_assert_int_eq(place.fd[0], -1);
        ck_assert_int_eq(place.fd[1], -1);
}

static void put_copy(int i, const uint8_t *copy)
{
        ck_assert_int_eq(io_pwrite(place.fd[i], copy, STATE_COPY_SIZE, place.offset[i]), 0);
}

static void get_copy(int i, uint8_t *copy)
{
        ck_assert_int_eq(io_pread(place.fd[i], copy, STATE_COPY_SIZE, place.offset[i]), 0);
}

static struct state formatted(void)
{
        struct state a = sample(), s;

        ck_assert_int_eq(state_format(&place, &a.set, NULL), 0);
        ck_assert_int_eq(state_load(&place, &s, NULL), 0);
        return s;
}

START_TEST(a_new_record_has_two_copies)
{
        struct state s = formatted();

        ck_assert_int_eq(s.n_valid, 2);
        ck_assert_uint_eq(s.sequence, 2);
        ck_assert_int_eq(s.copy, 1);
        ck_assert_uint_eq(s.set.floor, sample().set.floor);
}
END_TEST

START_TEST(both_copies_are_written)
{
        struct state s = formatted(), again;
        uint8_t before[STATE_COPY_SIZE], after[STATE_COPY_SIZE];

        for (int i = 0; i < 6; i++) {
                s.set.floor = (uint64_t)i;
                for (int copy = 0; copy < 2; copy++) {
                        struct state t = s;

                        get_copy(copy, before);
                        ck_assert_int_eq(state_save(&place, &t, NULL), 0);
                        get_copy(copy, after);
                        ck_assert_mem_ne(before, after, STATE_COPY_SIZE);
                        ck_assert_int_eq(t.copy, s.copy); /* the older one first, so this is the last again */
                        ck_assert_uint_eq(t.sequence, s.sequence + 2);
                        s = t;
                }
                ck_assert_int_eq(state_load(&place, &again, NULL), 0);
                ck_assert_uint_eq(again.set.floor, (uint64_t)i);
                ck_assert_uint_eq(again.sequence, s.sequence);
                ck_assert_int_eq(again.copy, s.copy);
                ck_assert_int_eq(again.n_valid, 2);
        }
}
END_TEST

/* Whatever the save found there, the same record can be read without either copy. */
START_TEST(one_copy_destroyed_is_no_difference)
{
        static const uint8_t zeros[STATE_COPY_SIZE];
        int lost = _i % 2, before = _i / 2; /* the copy destroyed before the save; 2: none, 3: both */
        struct state s = formatted(), again;

        for (int i = 0; i < 2; i++)
                if (before == i || before == 3)
                        put_copy(i, zeros);
        ck_assert_int_eq(state_load(&place, &s, NULL), before == 3 ? -ENODATA : 0);
        for (uint64_t floor = 70; floor < 73; floor++) {
                s.set.floor = floor;
                ck_assert_int_eq(state_save(&place, &s, NULL), 0);
        }
        put_copy(lost, zeros);
        ck_assert_int_eq(state_load(&place, &again, NULL), 0);
        ck_assert_int_eq(again.n_valid, 1);
        ck_assert_int_eq(memcmp(&again.set, &s.set, sizeof(s.set)), 0);
        again.set.floor = 80;
        ck_assert_int_eq(state_save(&place, &again, NULL), 0);
        put_copy(!lost, zeros);
        ck_assert_int_eq(state_load(&place, &again, NULL), 0);
        ck_assert_uint_eq(again.set.floor, 80);
}
END_TEST

START_TEST(one_copy_is_enough_and_is_made_two_again)
{
        struct state s = formatted();
        uint8_t copy[STATE_COPY_SIZE];

        get_copy(_i, copy);
        copy[100] ^= 1;
        put_copy(_i, copy);
        ck_assert_int_eq(state_load(&place, &s, NULL), 0);
        ck_assert_int_eq(s.n_valid, 1);
        ck_assert_int_eq(s.copy, !_i);
        ck_assert_uint_eq(s.sequence, _i ? 1 : 2);
        ck_assert_int_eq(state_save(&place, &s, NULL), 0);
        ck_assert_int_eq(s.copy, !_i); /* over the damaged one first */
        ck_assert_int_eq(s.n_valid, 2);
        ck_assert_int_eq(state_load(&place, &s, NULL), 0);
        ck_assert_int_eq(s.n_valid, 2);
        ck_assert_int_eq(s.copy, !_i);
}
END_TEST

/* Both copies are lost, by damage to the copies themselves or by a read error that passes. What is rebuilt wins over
 * whatever comes back, and both copies are made at once. */
START_TEST(both_lost)
{
        static const uint64_t far = UINT64_C(1) << 55; /* above any clock */
        static const struct {
                uint64_t sequence; /* in the damaged headers; 0: nothing but zeros there */
                uint64_t at_least;
        } rows[] = {
                { 0, UINT64_C(1) << 40 },
                { 7, UINT64_C(1) << 40 },
                { far, far },
                { UINT64_MAX, UINT64_C(1) << 40 }, /* no sequence that ever was: it would leave no room above */
        };
        uint8_t copy[STATE_COPY_SIZE] = {};
        struct state s = formatted(), again;
        struct error e = {};

        for (int i = 0; i < 2; i++) {
                get_copy(i, copy);
                put_le64(copy + 16, rows[_i].sequence - (uint64_t)i);
                copy[100] ^= 1;
                if (rows[_i].sequence == 0)
                        memset(copy, 0, sizeof(copy));
                put_copy(i, copy);
        }
        ck_assert_int_eq(state_load(&place, &s, &e), -ENODATA);
        ck_assert_ptr_eq(e.kind, &kind_state_unreadable);
        error_done(&e);
        ck_assert_int_eq(s.n_valid, 0);
        ck_assert_uint_ge(s.sequence, rows[_i].at_least);
        ck_assert_uint_lt(s.sequence, UINT64_C(1) << 62);
        ck_assert_int_eq(slot_set_check(&s.set, NULL), 0);
        ck_assert_int_eq(slot_set_selectable(&s.set), 0);
        s.set.floor = 77;
        ck_assert_int_eq(state_save(&place, &s, NULL), 0); /* and it can begin again */
        ck_assert_int_eq(state_load(&place, &again, NULL), 0);
        ck_assert_int_eq(again.n_valid, 2);
        ck_assert_uint_eq(again.sequence, s.sequence);
        ck_assert_uint_gt(again.sequence, rows[_i].at_least);
        ck_assert_uint_eq(again.set.floor, 77);
}
END_TEST

static ssize_t no_pread(int fd, void *data, size_t n, uint64_t offset)
{
        return -EIO;
}

/* A cable that was loose for a moment: the copies are whole, and old. One of them can still not be written (`_i`; 2: both
 * can), so it comes back. */
START_TEST(what_was_rebuilt_wins_over_what_comes_back)
{
        struct state s = formatted(), again;
        struct io_ops ops = io_system_ops;
        uint8_t old[STATE_COPY_SIZE];

        s.sequence = UINT64_C(1) << 39; /* a record of a long life */
        ck_assert_int_eq(state_save(&place, &s, NULL), 0);
        get_copy(_i % 2, old);
        ops.pread = no_pread;
        io_set_ops(&ops);
        ck_assert_int_eq(state_load(&place, &s, NULL), -ENODATA);
        io_set_ops(NULL);
        s.set.floor = 77;
        ck_assert_int_eq(state_save(&place, &s, NULL), 0);
        ck_assert_int_eq(s.n_valid, 2);
        if (_i < 2)
                put_copy(_i, old);
        ck_assert_int_eq(state_load(&place, &again, NULL), 0);
        ck_assert_uint_eq(again.set.floor, 77);
        ck_assert_int_eq(again.n_valid, 2);
}
END_TEST

/* A newer program wrote the copy `newer` in a format of its own: earlier than ours, later, or nobody can tell. */
START_TEST(a_newer_format_is_not_undone)
{
        int newer = _i % 2;
        uint64_t sequence = (uint64_t[]){ 0, 9, newer ? 1 : 2 }[_i / 2];
        struct state s = formatted();
        struct error e = {};
        uint8_t copy[STATE_COPY_SIZE];

        get_copy(newer, copy);
        put_le16(copy + 8, 2);
        put_le64(copy + 16, sequence);
        seal(copy);
        put_copy(newer, copy);
        s.sequence = 77;
        if (sequence == 0) {
                ck_assert_int_eq(state_load(&place, &s, &e), 0);
                ck_assert_int_eq(s.copy, !newer);
                ck_assert_int_eq(s.n_valid, 1);
                return;
        }
        ck_assert_int_eq(state_load(&place, &s, &e), -EPROTONOSUPPORT);
        ck_assert_ptr_eq(e.kind, &kind_state_unreadable);
        ck_assert_msg(strstr(e.message, "newer"), "%s", e.message);
        error_done(&e);
        ck_assert_uint_eq(s.sequence, 77);
}
END_TEST

START_TEST(unknown_trailing_bytes_are_kept)
{
        static const size_t sizes[] = { 1, 100, STATE_COPY_SIZE - HEADER - PAYLOAD };
        size_t n = sizes[_i];
        struct state s = sample();
        uint8_t copy[STATE_COPY_SIZE];

        fill(s.extra, n, 7);
        s.n_extra = n;
        state_encode(&s, copy);
        ck_assert_uint_eq(get_le32(copy + 12), PAYLOAD + n);
        put_copy(0, copy);
        ck_assert_int_eq(state_load(&place, &s, NULL), 0);
        ck_assert_uint_eq(s.n_extra, n);
        s.set.floor = 5;
        ck_assert_int_eq(state_save(&place, &s, NULL), 0);
        memset(copy, 0, sizeof(copy));
        put_copy(0, copy);
        ck_assert_int_eq(state_load(&place, &s, NULL), 0);
        ck_assert_int_eq(s.copy, 1);
        ck_assert_uint_eq(s.n_extra, n);
        for (size_t i = 0; i < n; i++)
                ck_assert_int_eq(s.extra[i], (uint8_t)(7 + i));
}
END_TEST

/* Bytes that are no header say nothing of a sequence, however high. */
START_TEST(what_never_was_a_record_says_nothing)
{
        uint8_t copy[STATE_COPY_SIZE];
        struct state s;

        memset(copy, 0x11, sizeof(copy));
        put_le64(copy + 16, UINT64_C(1) << 61);
        put_copy(0, copy);
        put_copy(1, copy);
        ck_assert_int_eq(state_load(&place, &s, NULL), -ENODATA);
        ck_assert_uint_lt(s.sequence, UINT64_C(1) << 61);
}
END_TEST

START_TEST(what_is_broken_is_not_written)
{
        struct state s = formatted(), again;
        struct error e = {};

        s.set.slots[2].tries = 0;
        ck_assert_int_eq(state_save(&place, &s, &e), -EINVAL);
        ck_assert_msg(strstr(e.message, "slot c"), "%s", e.message);
        error_done(&e);
        ck_assert_int_eq(state_format(&place, &s.set, NULL), -EINVAL);
        ck_assert_uint_eq(s.sequence, 2);
        ck_assert_int_eq(state_load(&place, &again, NULL), 0);
        ck_assert_uint_eq(again.sequence, 2);
        ck_assert_int_eq(again.set.slots[2].tries, 3);
}
END_TEST

/* An I/O layer whose call number `fault.at` fails, and that lists what was called. */
static struct {
        int at, calls, error, again; /* again: so many after it, too */
        ssize_t half;                /* > 0: the write tears after so many bytes */
        char log[16];
} fault;

static bool fails(char what)
{
        if (fault.calls < (int)sizeof(fault.log) - 1)
                fault.log[fault.calls] = what;
        fault.calls++;
        return fault.calls > fault.at && fault.calls <= fault.at + 1 + fault.again && fault.at >= 0;
}

static ssize_t faulty_pwrite(int fd, const void *data, size_t n, uint64_t offset)
{
        if (!fails('w'))
                return io_system_ops.pwrite(fd, data, n, offset);
        if (fault.half > 0)
                io_system_ops.pwrite(fd, data, (size_t)fault.half, offset);
        return fault.error;
}

static ssize_t faulty_pread(int fd, void *data, size_t n, uint64_t offset)
{
        return fails('r') ? fault.error : io_system_ops.pread(fd, data, n, offset);
}

static int faulty_fsync(int fd)
{
        return fails('f') ? fault.error : io_system_ops.fsync(fd);
}

static void break_call(int at, int error, ssize_t half)
{
        static struct io_ops ops;

        ops = io_system_ops;
        ops.pwrite = faulty_pwrite;
        ops.pread = faulty_pread;
        ops.fsync = faulty_fsync;
        fault = (typeof(fault)){ .at = at, .error = error, .half = half };
        io_set_ops(&ops);
}

/* Before the first, the copy that stays is flushed: who wrote it may have been killed before that. */
START_TEST(saving_is_write_flush_read_back)
{
        struct state s = formatted();

        break_call(-1, 0, 0);
        ck_assert_int_eq(state_save(&place, &s, NULL), 0);
        ck_assert_str_eq(fault.log, "fwfrwfr");
        break_call(-1, 0, 0);
        ck_assert_int_eq(state_save(&place, &s, NULL), 0);
        ck_assert_str_eq(fault.log, "wfrwfr");
}
END_TEST

/* The write, the flush, the read-back of the second copy fail: the record is the new one. Where its place stays broken the
 * next save fails, and the copy that is whole is not written over. */
START_TEST(a_second_copy_that_cannot_be_written)
{
        struct state s = formatted(), again;
        uint8_t whole[STATE_COPY_SIZE], after[STATE_COPY_SIZE];

        s.set.floor = 99;
        break_call(4 + _i, -EIO, 512);
        ck_assert_int_eq(state_save(&place, &s, NULL), 0);
        ck_assert_int_eq(fault.calls, 5 + _i);
        ck_assert_int_eq(s.copy, 0);
        ck_assert_int_eq(s.n_valid, 1);
        io_set_ops(NULL);
        ck_assert_int_eq(state_load(&place, &again, NULL), 0);
        ck_assert_uint_eq(again.set.floor, 99);
        get_copy(0, whole);
        s.set.floor = 100;
        break_call(0, -EIO, 512);
        ck_assert_int_eq(state_save(&place, &s, NULL), -EIO);
        ck_assert_str_eq(fault.log, "w");
        io_set_ops(NULL);
        get_copy(0, after);
        ck_assert_mem_eq(whole, after, STATE_COPY_SIZE);
        ck_assert_int_eq(state_save(&place, &s, NULL), 0);
        ck_assert_int_eq(s.n_valid, 2);
        ck_assert_int_eq(state_load(&place, &again, NULL), 0);
        ck_assert_uint_eq(again.set.floor, 100);
        ck_assert_int_eq(again.n_valid, 2);
}
END_TEST

START_TEST(a_new_record_with_one_copy_is_none)
{
        struct state a = sample();

        for (int at = 0; at < 6; at += 3) {
                break_call(at, -EIO, 0); /* the write of the first, of the second */
                ck_assert_int_eq(state_format(&place, &a.set, NULL), -EIO);
                ck_assert_int_gt(fault.calls, at);
        }
}
END_TEST

/* The first flush, the write, the flush, the read-back fail; the write also torn at every 512 bytes: the other copy is
 * valid. */
START_TEST(a_failed_write_leaves_the_other_copy)
{
        static const int errors[] = { -EIO, -ENOSPC, -EROFS };
        int call = _i % 4, error = errors[_i / 4];

        for (ssize_t half = 0; half < STATE_COPY_SIZE; half += 512) {
                struct state s = formatted(), again;
                struct error e = {};

                s.set.floor = 99; /* in the first sector; the last one that is used: */
                memset(s.set.slots[SLOT_MAX - 1].snapshot, 99, DIGEST_SIZE);
                break_call(call, error, half);
                ck_assert_int_eq(state_save(&place, &s, &e), error);
                ck_assert_msg(strstr(e.message, "state record"), "%s", e.message);
                error_done(&e);
                io_set_ops(NULL);
                ck_assert_uint_eq(s.sequence, 2); /* so that a second try writes the same copy */
                ck_assert_int_eq(s.copy, 1);
                ck_assert_int_eq(state_load(&place, &again, NULL), 0);
                /* The old record, or with all its bytes on the disk the new one: never a mixture. */
                if (call == 0 || (call == 1 && half < HEADER + PAYLOAD)) {
                        ck_assert_int_eq(again.n_valid, call == 1 && half > 0 ? 1 : 2);
                        ck_assert_uint_eq(again.set.floor, sample().set.floor);
                } else {
                        ck_assert_uint_eq(again.set.floor, 99);
                        ck_assert_int_eq(again.set.slots[SLOT_MAX - 1].snapshot[0], 99);
                }
                ck_assert_int_eq(state_save(&place, &s, NULL), 0);
                ck_assert_int_eq(state_load(&place, &again, NULL), 0);
                ck_assert_uint_eq(again.set.floor, 99);
                ck_assert_int_eq(again.n_valid, 2);
        }
}
END_TEST

/* After the loss of both one place that can be written is enough; with none it is an error. */
START_TEST(rebuilding_where_one_place_is_broken)
{
        static const uint8_t zeros[STATE_COPY_SIZE];
        struct state s = formatted(), again;
        uint64_t sequence;

        put_copy(0, zeros);
        put_copy(1, zeros);
        ck_assert_int_eq(state_load(&place, &s, NULL), -ENODATA);
        sequence = s.sequence;
        break_call(_i ? 3 : 0, -EIO, 0); /* wfrwfr: the second write; the first one ends its copy: wwfr */
        ck_assert_int_eq(state_save(&place, &s, NULL), 0);
        ck_assert_str_eq(fault.log, _i ? "wfrw" : "wwfr");
        io_set_ops(NULL);
        ck_assert_int_eq(s.n_valid, 1);
        ck_assert_int_eq(s.copy, !_i);
        ck_assert_int_eq(state_load(&place, &again, NULL), 0);
        ck_assert_int_eq(again.copy, !_i);
        ck_assert_int_eq(again.n_valid, 1);
        ck_assert_uint_eq(again.sequence, sequence + 1);
}
END_TEST

/* A disk that says yes and keeps the old bytes. */
static ssize_t lying_pwrite(int fd, const void *data, size_t n, uint64_t offset)
{
        return (ssize_t)n;
}

START_TEST(a_lying_disk_is_found_out)
{
        struct state s = formatted();
        struct io_ops ops = io_system_ops;

        ops.pwrite = lying_pwrite;
        io_set_ops(&ops);
        ck_assert_int_eq(state_save(&place, &s, NULL), -EIO);
        ck_assert_uint_eq(s.sequence, 2);
        s.set.floor = 5;
        ck_assert_int_eq(state_format(&place, &s.set, NULL), -EIO);
        ck_assert_int_eq(ftruncate(place.fd[0], 0), 0);
        ck_assert_int_eq(state_load(&place, &s, NULL), -ENODATA);
        ck_assert_int_eq(state_save(&place, &s, NULL), -EIO);
        ck_assert_int_eq(s.n_valid, 0);
}
END_TEST

START_TEST(an_unreadable_copy_counts_as_invalid)
{
        struct state s = formatted();

        break_call(_i, -EIO, 0);
        fault.again = 1;
        ck_assert_int_eq(state_load(&place, &s, NULL), 0);
        ck_assert_int_eq(s.n_valid, 1);
        ck_assert_int_eq(s.copy, !_i);
        /* Read at the second try: it is not gone back to the older one. */
        break_call(_i, -EIO, 0);
        ck_assert_int_eq(state_load(&place, &s, NULL), 0);
        ck_assert_int_eq(s.n_valid, 2);
        ck_assert_int_eq(s.copy, 1);
}
END_TEST

/* Damaged is one thing, unreadable another: that copy may be whole. */
START_TEST(whether_a_lost_one_could_be_read)
{
        static const uint8_t zeros[STATE_COPY_SIZE];
        struct state s = formatted();
        struct io_ops ops = io_system_ops;

        ck_assert(!s.unread);
        put_copy(0, zeros);
        break_call(_i, -EIO, 0); /* with 0 it is the damaged one, with 1 the other, with 2 neither */
        fault.again = 1;
        ck_assert_int_eq(state_load(&place, &s, NULL), _i == 1 ? -ENODATA : 0);
        ck_assert_int_eq(s.unread, _i == 1);
        io_set_ops(NULL);
        put_copy(1, zeros);
        ck_assert_int_eq(state_load(&place, &s, NULL), -ENODATA);
        ck_assert(!s.unread);
        ops.pread = no_pread;
        io_set_ops(&ops);
        ck_assert_int_eq(state_load_patiently(&place, &s, _i == 0), -ENODATA);
        ck_assert(s.unread);
        io_set_ops(NULL);
}
END_TEST

static unsigned n_failing;

static ssize_t pread_in_time(int fd, void *data, size_t n, uint64_t offset)
{
        return n_failing > 0 ? (n_failing--, -EIO) : io_system_ops.pread(fd, data, n, offset);
}

START_TEST(patience_finds_it_again)
{
        struct state s = formatted();
        struct io_ops ops = io_system_ops;

        ops.pread = pread_in_time;
        n_failing = 4; /* twice each copy */
        io_set_ops(&ops);
        ck_assert_int_eq(state_load_patiently(&place, &s, 3), 0);
        ck_assert_int_eq(s.n_valid, 2);
        io_set_ops(NULL);
}
END_TEST

START_TEST(two_files)
{
        struct state a = sample(), s;
        int one = place.fd[0], two = dup(one);

        place.fd[1] = two;
        ck_assert_int_eq(state_format(&place, &a.set, NULL), 0);
        ck_assert_int_eq(state_load(&place, &s, NULL), 0);
        ck_assert_int_eq(s.n_valid, 2);
        state_place_close(&place);
        ck_assert_int_lt(fcntl(one, F_GETFD), 0);
        ck_assert_int_lt(fcntl(two, F_GETFD), 0);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("store-copies");
        TCase *t = tcase_create("store");

        tcase_set_timeout(t, 60);
        tcase_add_checked_fixture(t, set_up, tear_down);
        tcase_add_test(t, a_new_record_has_two_copies);
        tcase_add_test(t, both_copies_are_written);
        tcase_add_loop_test(t, one_copy_destroyed_is_no_difference, 0, 8);
        tcase_add_loop_test(t, a_second_copy_that_cannot_be_written, 0, 3);
        tcase_add_loop_test(t, one_copy_is_enough_and_is_made_two_again, 0, 2);
        tcase_add_loop_test(t, both_lost, 0, 4);
        tcase_add_loop_test(t, what_was_rebuilt_wins_over_what_comes_back, 0, 3);
        tcase_add_loop_test(t, rebuilding_where_one_place_is_broken, 0, 2);
        tcase_add_loop_test(t, a_newer_format_is_not_undone, 0, 6);
        tcase_add_loop_test(t, unknown_trailing_bytes_are_kept, 0, 3);
        tcase_add_test(t, what_never_was_a_record_says_nothing);
        tcase_add_test(t, what_is_broken_is_not_written);
        tcase_add_test(t, saving_is_write_flush_read_back);
        tcase_add_test(t, a_new_record_with_one_copy_is_none);
        tcase_add_loop_test(t, a_failed_write_leaves_the_other_copy, 0, 12);
        tcase_add_test(t, a_lying_disk_is_found_out);
        tcase_add_loop_test(t, an_unreadable_copy_counts_as_invalid, 0, 2);
        tcase_add_loop_test(t, whether_a_lost_one_could_be_read, 0, 3);
        tcase_add_test(t, patience_finds_it_again);
        tcase_add_test(t, two_files);
        suite_add_tcase(s, t);
        return suite_run(s);
}
