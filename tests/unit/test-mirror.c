/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which server is asked. */
#include <check.h>

#include "base/clock.h"
#include "image/mirror.h"
#include "suite.h"

#define NOW (1000 * USEC_PER_SEC)

static const struct {
        const char *what;
        struct mirror m[3];
        size_t n;
        int expected;
        uint64_t wait;
} picks[] = {
        { "the only one", { {} }, 1, 0 },
        { "the first of the untried", { {}, {} }, 2, 0 },
        { "an untried one, while another is tried", { { .users = 1 }, {} }, 2, 1 },
        { "the first again, when each is tried", { { .users = 1 }, { .users = 1 } }, 2, 0 },
        { "an untried one rather than a known one", { { .speed = 9 }, {} }, 2, 1 },
        { "a known one rather than one that is tried", { { .users = 1 }, { .speed = 9 } }, 2, 1 },
        { "the fastest", { { .speed = 9 }, { .speed = 11 }, { .speed = 10 } }, 3, 1 },
        { "one that did not fail", { { .speed = 99, .failures = 1 }, { .speed = 11 } }, 2, 1 },
        { "one that failed less", { { .speed = 99, .failures = 2 }, { .speed = 11, .failures = 1 } }, 2, 1 },
        { "not a dead one", { { .speed = 99, .dead = true }, { .failures = 7 } }, 2, 1 },
        { "not one that was wrong", { { .speed = 99, .wrong = true }, { .failures = 7 } }, 2, 1 },
        { "nor when the other one rests", { { .wrong = true }, { .again = NOW + 3 } }, 2, -EAGAIN, 3 },
        { "unless there is no other one", { { .wrong = true }, { .dead = true } }, 2, 0 },
        { "not one that rests", { { .speed = 99, .again = NOW + 1 }, { .speed = 1 } }, 2, 1 },
        { "one that has rested", { { .speed = 99, .again = NOW }, { .speed = 1 } }, 2, 0 },
        { "the next one that has rested", { { .again = NOW + 7 }, { .again = NOW + 5 }, { .dead = true } }, 3, -EAGAIN, 5 },
        { "none, when all are dead", { { .dead = true }, { .dead = true } }, 2, -ENOENT },
};

START_TEST(every_pick)
{
        uint64_t wait = 0;

        ck_assert_msg(mirror_pick(picks[_i].m, picks[_i].n, NOW, &wait) == picks[_i].expected, "%s", picks[_i].what);
        ck_assert_msg(wait == picks[_i].wait, "%s", picks[_i].what);
}
END_TEST

START_TEST(it_waits_longer_and_longer)
{
        static const unsigned seconds[] = { 0, 1, 2, 4, 8, 16, 32, 32, 32 };
        struct mirror m = {};

        for (size_t i = 0; i < ARRAY_SIZE(seconds); i++) {
                mirror_failed(&m, false, NOW);
                ck_assert_uint_eq(m.again, NOW + seconds[i] * USEC_PER_SEC);
        }
        mirror_failed(&m, true, NOW); /* it gave something before it broke */
        ck_assert_uint_eq(m.again, NOW);
        mirror_failed(&m, false, NOW);
        ck_assert_uint_eq(m.again, NOW + USEC_PER_SEC);
        mirror_measured(&m, 1000, USEC_PER_SEC);
        ck_assert_uint_eq(m.failures, 0);
        ck_assert_uint_eq(m.again, 0); /* for the others, which wait */
}
END_TEST

START_TEST(one_event_is_one_failure)
{
        struct mirror m = {};

        ck_assert(mirror_fails_anew(&m, 0));
        mirror_failed(&m, false, NOW);
        ck_assert(!mirror_fails_anew(&m, NOW - 1)); /* it was at work when another one failed */
        ck_assert(!mirror_fails_anew(&m, NOW));
        ck_assert(mirror_fails_anew(&m, NOW + 1));
        mirror_measured(&m, 1000, USEC_PER_SEC);
        ck_assert(mirror_fails_anew(&m, NOW - 1)); /* it has been well since */
}
END_TEST

START_TEST(it_says_when_to_ask_again)
{
        struct mirror m[2] = {};
        uint64_t wait = 0;

        ck_assert(!mirror_is_there(m, 2));
        mirror_failed(&m[1], false, NOW);
        ck_assert(!mirror_is_there(m, 2));
        mirror_rests(&m[1], 7, NOW);
        ck_assert(mirror_is_there(m, 2));
        ck_assert_int_eq(mirror_pick(&m[1], 1, NOW, &wait), -EAGAIN);
        ck_assert_uint_eq(wait, 7);
        mirror_failed(&m[1], false, NOW);
        mirror_rests(&m[1], 7, NOW); /* less than it rests anyway */
        ck_assert_uint_eq(m[1].again, NOW + USEC_PER_SEC);
        m[1].dead = true;
        ck_assert(!mirror_is_there(m, 2));
        m[0].seen = true;
        ck_assert(mirror_is_there(m, 2));
}
END_TEST

START_TEST(speeds)
{
        struct mirror m[2] = {};

        mirror_measured(&m[0], 4000, 2 * USEC_PER_SEC);
        ck_assert_uint_eq(m[0].speed, 2000);
        mirror_measured(&m[0], 1000, USEC_PER_SEC);
        ck_assert_uint_eq(m[0].speed, 1500);
        ck_assert(!mirror_is_slow(m, 1, 0, 1, NOW));
        ck_assert(!mirror_is_slow(m, 2, 1, 375, NOW)); /* not less than a quarter */
        ck_assert(mirror_is_slow(m, 2, 1, 374, NOW));
        ck_assert(!mirror_is_slow(m, 2, 0, 374, NOW)); /* the other one is not known to be faster */
        m[0].again = NOW + 1;
        ck_assert(!mirror_is_slow(m, 2, 1, 1, NOW));
        ck_assert(!mirror_has_other(m, 2, 1, NOW));
        ck_assert(mirror_has_other(m, 2, 1, NOW + 1));
        m[0].dead = true;
        ck_assert(!mirror_has_other(m, 2, 1, NOW + 1));
        mirror_measured(&m[1], 0, 0);
        ck_assert_uint_eq(m[1].speed, 1); /* 0 is: not known */
}
END_TEST

int main(void)
{
        Suite *s = suite_create("mirror");
        TCase *t = tcase_create("mirror");

        tcase_add_loop_test(t, every_pick, 0, (int)ARRAY_SIZE(picks));
        tcase_add_test(t, it_waits_longer_and_longer);
        tcase_add_test(t, one_event_is_one_failure);
        tcase_add_test(t, it_says_when_to_ask_again);
        tcase_add_test(t, speeds);
        suite_add_tcase(s, t);
        return suite_run(s);
}
