/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How often a member may have something written: each has its own share, which comes back with the time. */
#include "daemon/pace.h"

#include "base/clock.h"

#include <check.h>
#include "suite.h"

#define START (1000 * USEC_PER_SEC)

static unsigned take_all(struct pace *p, const char *name, uint64_t now)
{
        unsigned n = 0;

        while (n < 1000 && pace_take(p, name, now))
                n++;
        return n;
}

START_TEST(a_share_is_used_up_and_comes_back)
{
        struct pace p = {};

        ck_assert_uint_eq(take_all(&p, "e1", START), PACE_BURST);
        ck_assert(!pace_take(&p, "e1", START + PACE_INTERVAL - 1));
        ck_assert_uint_eq(take_all(&p, "e1", START + PACE_INTERVAL), 1);
        ck_assert_uint_eq(take_all(&p, "e1", START + 5 * PACE_INTERVAL), 4);
        ck_assert_uint_eq(take_all(&p, "e1", START + 1000 * PACE_INTERVAL), PACE_BURST);
        pace_done(&p);
}
END_TEST

START_TEST(nobody_uses_that_of_another)
{
        struct pace p = {};
        char name[16];

        take_all(&p, "e0", START);
        for (int i = 1; i < 1000; i++) { /* more than there are buckets */
                snprintf(name, sizeof(name), "e%d", i);
                ck_assert(pace_take(&p, name, START));
        }
        ck_assert(!pace_take(&p, "e0", START));
        pace_done(&p);
        ck_assert_uint_eq(p.n, 0);
}
END_TEST

/* Going away and coming back is no way to get more; and who has all of it needs no memory. */
START_TEST(what_is_forgotten_makes_no_difference)
{
        struct pace p = {};

        take_all(&p, "e1", START);
        pace_take(&p, "e2", START);
        pace_forget(&p, START + PACE_INTERVAL);
        ck_assert_uint_eq(p.n, 1);
        ck_assert_uint_eq(take_all(&p, "e1", START + PACE_INTERVAL), 1);
        pace_forget(&p, START + 1000 * PACE_INTERVAL);
        ck_assert_uint_eq(p.n, 0);
        pace_done(&p);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("pace");
        TCase *t = tcase_create("pace");

        tcase_add_test(t, a_share_is_used_up_and_comes_back);
        tcase_add_test(t, nobody_uses_that_of_another);
        tcase_add_test(t, what_is_forgotten_makes_no_difference);
        suite_add_tcase(s, t);
        return suite_run(s);
}
