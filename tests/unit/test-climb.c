/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How many connections a fetch ends with, on links that are simulated. */
#include "image/climb.h"

#include <check.h>

#include "base/clock.h"
#include "suite.h"

#define MAX_CONNECTIONS 16

/* A link of which `all` bytes per second arrive at most, and of each connection `each`; the reader takes `sink`. */
struct link {
        uint64_t all, each, sink;
        bool easy; /* nothing is lost of what comes in the first five seconds */
};

static uint64_t passes(const struct link *l, unsigned n, uint64_t now)
{
        return MIN(l->easy && now < 5 * USEC_PER_SEC ? l->all : MIN(l->all, n * l->each), l->sink);
}

/* For two minutes, with a look every 0.3 s. Returns how many there are for most of the time; *most: at any time. */
static unsigned climbs(const struct link *l, unsigned *most)
{
        struct climb c = climb_begin(4, MAX_CONNECTIONS);
        struct climb_state at = { .now = 77 };
        unsigned looks[MAX_CONNECTIONS + 1] = {};

        *most = c.n;
        for (unsigned i = 0; i < 400; i++) {
                uint64_t step = 3 * USEC_PER_SEC / 10, rate = passes(l, c.n, at.now);

                at.now += step;
                at.bytes += rate * step / USEC_PER_SEC;
                at.waited += rate < l->sink ? step : 0;
                climb_look(&c, at);
                *most = MAX(*most, c.n);
                ck_assert_uint_le(c.n, MAX_CONNECTIONS);
                looks[c.n]++;
        }
        for (unsigned n = 0; n <= MAX_CONNECTIONS; n++)
                if (looks[n] > 300)
                        return n;
        return 0;
}

START_TEST(as_many_as_bring_more)
{
        static const struct {
                struct link link;
                unsigned n, most;
        } cases[] = {
                { { 1250000, 1250000, UINT64_MAX }, 4, 8 },       /* one fills it */
                { { 1250000, 170000, UINT64_MAX, true }, 8, 16 }, /* it seems so at first */
                { { 1250000, 312500, UINT64_MAX }, 4, 8 },        /* four do */
                { { 1250000, 170000, UINT64_MAX }, 8, 16 },       /* eight do */
                { { 1250000, 80000, UINT64_MAX }, 16, 16 },       /* more than there may be would */
                { { 1250000, 280000, UINT64_MAX }, 4, 8 },        /* a ninth more is not worth it */
                { { 100000000, 1000000, 3000000 }, 4, 4 },        /* the disk is what is waited for */
                { { 100000000, 25000000, UINT64_MAX }, 4, 8 }     /* a fast one */
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                unsigned most, n = climbs(&cases[i].link, &most);

                ck_assert_msg(n == cases[i].n && most == cases[i].most, "link %zu: %u connections, at most %u", i, n, most);
        }
}
END_TEST

/* A number that somebody asked for. */
START_TEST(not_beyond_what_is_allowed)
{
        struct climb c = climb_begin(4, 4);

        for (uint64_t now = 1; now < 20 * USEC_PER_SEC; now += USEC_PER_SEC / 3)
                climb_look(&c, (struct climb_state){ .now = now, .bytes = now, .waited = now });
        ck_assert_uint_eq(c.n, 4);
}
END_TEST

/* Rates are compared of the same link only: what came while the disk was slow does not count. */
START_TEST(a_slow_reader_says_nothing)
{
        struct climb c = climb_begin(4, MAX_CONNECTIONS);
        struct climb_state at = { .now = 1 };

        for (unsigned i = 0; i < 300; i++) {
                bool slow = i / 7 % 2 == 0; /* for 2.1 s each: in no window is it waited for half of the time */

                at.now += 3 * USEC_PER_SEC / 10;
                at.bytes += slow ? 1000 : 300000;
                at.waited += slow ? 0 : USEC_PER_SEC / 10;
                climb_look(&c, at);
                ck_assert_uint_eq(c.n, 4);
        }
}
END_TEST

int main(void)
{
        Suite *s = suite_create("climb");
        TCase *t = tcase_create("climb");

        tcase_add_test(t, as_many_as_bring_more);
        tcase_add_test(t, not_beyond_what_is_allowed);
        tcase_add_test(t, a_slow_reader_says_nothing);
        suite_add_tcase(s, t);
        return suite_run(s);
}
