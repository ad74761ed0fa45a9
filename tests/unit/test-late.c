/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is late for the coordinator, and since when it has seen it: the clocks of controllers may be off, by a year as well.
 */
#include "cluster/coordinator.h"
#include "coordinator-case.h"

/* Nothing but the time ends that phase. */
static void open_with_silent_nodes(enum cluster_phase phase)
{
        open_in(OPERATION_ROLLBACK, phase);
        if (phase == PHASE_PREPARE)
                vote(0, true);
        else
                for (int i = 0; i < N; i++)
                        view.nodes[i].has_status = false;
}

/* The deadline is 1000 on the clock of who opened it; this controller's is far ahead. */
START_TEST(a_clock_that_is_ahead_makes_nothing_late)
{
        open_with_silent_nodes((enum cluster_phase)_i);
        ck_assert_int_eq(coordinator_event(&view, 9000, 0), EVENT_WAITING);
        ck_assert_uint_eq(coordinator_deadline(&view, 9000, 0), _i == PHASE_PREPARE ? 9500 : 9510);
        ck_assert_int_eq(coordinator_event(&view, 9000, _i == PHASE_PREPARE ? 499 : 509), EVENT_WAITING);
        ck_assert_int_eq(coordinator_event(&view, 9000, _i == PHASE_PREPARE ? 500 : 510), EVENT_LATE);
        /* Nor does it make another one's later. */
        ck_assert_int_eq(coordinator_event(&view, 999, 999), EVENT_WAITING);
        ck_assert_uint_eq(coordinator_deadline(&view, 999, 999), 1000);
        ck_assert_uint_eq(coordinator_deadline(&view, 999, 100), _i == PHASE_PREPARE ? 1399 : 1409);
}
END_TEST

/* Who wrote the deadline had a clock that was ahead, by a year as well, and was set right since. */
START_TEST(a_deadline_that_is_far_off_ends_after_twice_the_limit)
{
        uint64_t limit = _i == PHASE_PREPARE ? 500 : 510, now = 700;

        open_with_silent_nodes((enum cluster_phase)_i);
        view.operation.deadline = UINT64_C(1) << 60;
        ck_assert_int_eq(coordinator_event(&view, now, 2 * limit - 1), EVENT_WAITING);
        ck_assert_uint_eq(coordinator_deadline(&view, now, 2 * limit - 1), now + 1);
        ck_assert_uint_eq(coordinator_deadline(&view, now, 0), now + 2 * limit);
        ck_assert_int_eq(coordinator_event(&view, now, 2 * limit), EVENT_LATE);
        ck_assert_uint_eq(coordinator_deadline(&view, now, 2 * limit), UINT64_MAX);
}
END_TEST

START_TEST(nor_an_engine_overdue)
{
        open_in(OPERATION_UPGRADE, PHASE_ENGINES);
        view.operation.engines = ENGINES_ROLLING;
        view.operation.max_unavailable = 1;
        for (int i = 0; i < 3; i++)
                settle(i, 3);
        view.nodes[3].order = 100;
        view.nodes[3].order_seen = 499; /* the phase was seen for longer: others were ordered before */
        ck_assert_int_eq(coordinator_event(&view, 9000, SEEN), EVENT_WAITING);
        ck_assert_uint_eq(coordinator_deadline(&view, 9000, SEEN), 9001);
        view.nodes[3].order_seen = 500;
        ck_assert_int_eq(coordinator_event(&view, 9000, SEEN), EVENT_ROOM);
        view.nodes[3].order = UINT64_C(1) << 60; /* by a clock that was ahead */
        view.nodes[3].order_seen = 999;
        ck_assert_int_eq(coordinator_event(&view, 9000, SEEN), EVENT_WAITING);
        ck_assert_uint_eq(coordinator_deadline(&view, 9000, SEEN), 9001);
        view.nodes[3].order_seen = 1000;
        ck_assert_int_eq(coordinator_event(&view, 9000, SEEN), EVENT_ROOM);
}
END_TEST

START_TEST(a_phase_is_seen_from_its_first_view_on)
{
        struct phase_watch watch = {};

        ck_assert_uint_eq(coordinator_seen(&watch, &view, 70), 0);
        open_in(OPERATION_ROLLBACK, PHASE_PREPARE);
        ck_assert_uint_eq(coordinator_seen(&watch, &view, 100), 0);
        view.revision++;
        view.operation_revision++; /* of another minor: it is the same phase */
        ck_assert_uint_eq(coordinator_seen(&watch, &view, 160), 60);
        view.operation.phase = PHASE_CONTROLLERS;
        ck_assert_uint_eq(coordinator_seen(&watch, &view, 170), 0);
        view.operation.id[0]++;
        ck_assert_uint_eq(coordinator_seen(&watch, &view, 180), 0);
        view.operation.deadline++;
        ck_assert_uint_eq(coordinator_seen(&watch, &view, 190), 0);
        view.operation_revision = 0;
        ck_assert_uint_eq(coordinator_seen(&watch, &view, 200), 0);
        view.operation_revision = 60;
        ck_assert_uint_eq(coordinator_seen(&watch, &view, 210), 0);
        phase_watch_done(&watch);
}
END_TEST

START_TEST(so_is_an_order)
{
        struct phase_watch watch = {};

        open_in(OPERATION_UPGRADE, PHASE_ENGINES);
        coordinator_seen(&watch, &view, 100);
        view.nodes[3].order = 70;
        coordinator_seen(&watch, &view, 150);
        ck_assert_uint_eq(view.nodes[3].order_seen, 0);
        view.nodes[4].order = 70;
        view.nodes[3].order_seen = 0; /* a view that was made anew */
        ck_assert_uint_eq(coordinator_seen(&watch, &view, 180), 80);
        ck_assert(view.nodes[3].order_seen == 30 && view.nodes[4].order_seen == 0);
        view.operation.deadline++; /* another phase, and nobody was ordered in it before */
        ck_assert_uint_eq(coordinator_seen(&watch, &view, 190), 0);
        ck_assert_uint_eq(view.nodes[3].order_seen, 0);
        phase_watch_done(&watch);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("late");
        TCase *t = tcase_create("late");

        tcase_add_checked_fixture(t, setup, teardown);
        tcase_add_loop_test(t, a_clock_that_is_ahead_makes_nothing_late, PHASE_PREPARE, _PHASE_MAX);
        tcase_add_loop_test(t, a_deadline_that_is_far_off_ends_after_twice_the_limit, PHASE_PREPARE, _PHASE_MAX);
        tcase_add_test(t, nor_an_engine_overdue);
        tcase_add_test(t, a_phase_is_seen_from_its_first_view_on);
        tcase_add_test(t, so_is_an_order);
        suite_add_tcase(s, t);
        return suite_run(s);
}
