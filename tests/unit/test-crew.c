/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Threads that take slots in order: what they made comes back in order, the first failure in that order is the one that is
 * told, and nothing is begun after it. */
#include "base/crew.h"

#include <check.h>
#include "suite.h"
#undef fail

#define SLOTS 5
#define WORK  500

static struct {
        unsigned number[SLOTS];
        unsigned results[SLOTS];
        unsigned done, begun; /* begun: by threads */
        unsigned fails, fails_too, stops;
} state;

static unsigned threads_of(int i)
{
        return (const unsigned[]){ 0, 1, 4 }[i];
}

static int work(void *userdata, unsigned worker, unsigned slot, struct error *e)
{
        unsigned number = state.number[slot];

        ck_assert_ptr_eq(userdata, &state);
        __atomic_add_fetch(&state.begun, 1, __ATOMIC_RELAXED);
        if (number == state.fails || number == state.fails_too) {
                if (number == state.fails) /* the later one is found first */
                        usleep(20000);
                return (fail)(e, -EBADMSG, NULL, "number %u", number);
        }
        if (number % 7 == 0)
                usleep(300); /* the others overtake it */
        state.results[slot] = number * 3;
        return 0;
}

static int done(void *userdata, unsigned slot, struct error *e)
{
        ck_assert_uint_eq(state.number[slot], state.done);
        ck_assert_uint_eq(state.results[slot], 3 * state.done);
        return state.done++ == state.stops ? -ECANCELED : 0;
}

static const struct crew_ops ops = { .work = work, .done = done };

static void begin(void)
{
        memset(&state, 0, sizeof(state));
        state.fails = state.fails_too = state.stops = UINT32_MAX;
}

static int run(unsigned threads, struct error *e)
{
        _cleanup_crew_ struct crew *crew = NULL;
        int r = crew_new(&ops, &state, threads, SLOTS, &crew);

        for (unsigned i = 0; r >= 0 && i < WORK; i++) {
                unsigned slot;

                r = crew_next(crew, &slot, e);
                if (r < 0)
                        break;
                ck_assert_uint_lt(slot, SLOTS);
                ck_assert_uint_le(i - state.done, SLOTS - 1); /* of so many not more is remembered */
                state.number[slot] = i;
                r = crew_hand(crew, e);
        }
        return r < 0 ? r : crew_finish(crew, e);
}

START_TEST(all_of_it_in_order)
{
        begin();
        ck_assert_int_eq(run(threads_of(_i), NULL), 0);
        ck_assert_uint_eq(state.done, WORK);
        ck_assert_uint_eq(state.begun, WORK);
}
END_TEST

START_TEST(the_first_failure_is_told)
{
        static const unsigned places[] = { 0, 1, 100, WORK - 1 };

        for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
                _cleanup_error_ struct error e = {};
                char message[32];

                begin();
                state.fails = places[i];
                state.fails_too = places[i] + 2;
                ck_assert_int_eq(run(threads_of(_i), &e), -EBADMSG);
                snprintf(message, sizeof(message), "number %u", places[i]);
                ck_assert_str_eq(e.message, message);
                ck_assert_uint_eq(state.done, places[i]);
                ck_assert_uint_le(state.begun, places[i] + SLOTS);
        }
        begin();
        state.fails = 3;
        ck_assert_int_eq(run(threads_of(_i), NULL), -EBADMSG);
}
END_TEST

START_TEST(who_looks_on_can_stop_it)
{
        begin();
        state.stops = 50;
        ck_assert_int_eq(run(threads_of(_i), NULL), -ECANCELED);
        ck_assert_uint_eq(state.done, 51);
        ck_assert_uint_le(state.begun, 51 + SLOTS);
}
END_TEST

START_TEST(left_in_the_middle)
{
        struct crew *crew;
        unsigned slot;

        begin();
        ck_assert_int_eq(crew_new(&ops, &state, threads_of(_i), SLOTS, &crew), 0);
        for (unsigned i = 0; i < SLOTS - 1; i++) {
                ck_assert_int_eq(crew_next(crew, &slot, NULL), 0);
                state.number[slot] = i;
                ck_assert_int_eq(crew_hand(crew, NULL), 0);
        }
        ck_assert_ptr_null(crew_free(crew));
        ck_assert_uint_le(state.begun, SLOTS - 1);
        ck_assert_ptr_null(crew_free(NULL));
}
END_TEST

START_TEST(processors)
{
        ck_assert_uint_ge(crew_processors(64), 1);
        ck_assert_uint_eq(crew_processors(1), 1);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("crew");
        TCase *t = tcase_create("crew");

        tcase_set_timeout(t, 60);
        tcase_add_loop_test(t, all_of_it_in_order, 0, 3);
        tcase_add_loop_test(t, the_first_failure_is_told, 0, 3);
        tcase_add_loop_test(t, who_looks_on_can_stop_it, 0, 3);
        tcase_add_loop_test(t, left_in_the_middle, 0, 3);
        tcase_add_test(t, processors);
        suite_add_tcase(s, t);
        return suite_run(s);
}
