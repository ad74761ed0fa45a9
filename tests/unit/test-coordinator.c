/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The coordinator: its table cell by cell, what it takes for which event, and what each of its transactions compares and
 * writes. */
#include "cluster/coordinator.h"

#include "cluster/request.h"
#include "cluster/told.h"
#include "coordinator-case.h"

/* ---- the table ---- */

START_TEST(every_cell_is_as_the_header_says)
{
        static const struct {
                enum cluster_phase phase;
                enum coordinator_event event;
                enum coordinator_action action;
        } cells[] = {
                { PHASE_IDLE, EVENT_MAJORITY_LEFT, COORDINATOR_FOLLOW },
                { PHASE_PREPARE, EVENT_COMPLETE, COORDINATOR_COMMIT },
                { PHASE_PREPARE, EVENT_ENOUGH, COORDINATOR_COMMIT },
                { PHASE_PREPARE, EVENT_REFUSED, COORDINATOR_ABORT },
                { PHASE_PREPARE, EVENT_LATE, COORDINATOR_ABORT },
                { PHASE_CONTROLLERS, EVENT_COMPLETE, COORDINATOR_GO_ON },
                { PHASE_CONTROLLERS, EVENT_REFUSED, COORDINATOR_GO_BACK },
                { PHASE_CONTROLLERS, EVENT_LATE, COORDINATOR_GO_BACK },
                { PHASE_ENGINES, EVENT_COMPLETE, COORDINATOR_FINISH },
                { PHASE_ENGINES, EVENT_REFUSED, COORDINATOR_GO_BACK },
                { PHASE_ENGINES, EVENT_LATE, COORDINATOR_FINISH },
                { PHASE_ENGINES, EVENT_FORMED, COORDINATOR_GO_ON },
                { PHASE_ENGINES, EVENT_ROOM, COORDINATOR_ORDER },
                { PHASE_TAKE_BACK, EVENT_COMPLETE, COORDINATOR_FINISH },
                { PHASE_TAKE_BACK, EVENT_LATE, COORDINATOR_FINISH },
        };

        for (int p = 0; p < _PHASE_MAX; p++)
                for (int v = 0; v < _EVENT_MAX; v++) {
                        enum coordinator_action expected = COORDINATOR_NOTHING;

                        for (size_t i = 0; i < ARRAY_SIZE(cells); i++)
                                if ((int)cells[i].phase == p && (int)cells[i].event == v)
                                        expected = cells[i].action;
                        ck_assert_msg(coordinator_next((enum cluster_phase)p, (enum coordinator_event)v) == expected,
                                      "%s x %s", cluster_phase_to_string((enum cluster_phase)p),
                                      coordinator_event_to_string((enum coordinator_event)v));
                }
}
END_TEST

/* ---- events: every combination of what the members may have said ---- */

/* Votes: 0 none, 1 NO, 2 YES, for the controllers and two engines (the third would be fenced, and is not asked). */
START_TEST(every_combination_of_votes)
{
        open_in(OPERATION_ROLLBACK, PHASE_PREPARE);
        for (int strict = 0; strict < 2; strict++)
                for (int late = 0; late < 2; late++)
                        for (int c = 0; c < 3 * 3 * 3 * 3 * 3; c++) {
                                int n_no[2] = {}, n_silent[2] = {};
                                enum coordinator_event event, expected;

                                view.operation.strict = strict;
                                for (int i = 0, rest = c; i < 5; i++, rest /= 3) {
                                        view.nodes[i].voted = false;
                                        if (rest % 3 > 0)
                                                vote(i, rest % 3 == 2);
                                        n_no[i >= 3] += rest % 3 == 1;
                                        n_silent[i >= 3] += rest % 3 == 0;
                                }
                                event = coordinator_event(&view, late ? 1000 : 999, SEEN);
                                if (n_no[0] || (strict && n_no[1]))
                                        expected = EVENT_REFUSED;
                                else if (!n_silent[0] && !n_silent[1])
                                        expected = EVENT_COMPLETE;
                                else if (!late)
                                        expected = EVENT_WAITING;
                                else
                                        expected = n_silent[0] || (strict && n_silent[1]) ? EVENT_LATE : EVENT_ENOUGH;
                                ck_assert_msg(event == expected, "strict %d, late %d, votes %d: %s", strict, late, c,
                                              coordinator_event_to_string(event));
                        }
}
END_TEST

/* Where no other controller is left, one that joined after the snapshot is none that is fenced: it decides, votes and goes
 * along. */
START_TEST(where_all_controllers_would_be_fenced_none_is)
{
        for (int i = 0; i < 3; i++)
                view.nodes[i].member.joined = 4;
        ck_assert_int_eq(cluster_record_add_fence(&view.record, 4, 4), 0);
        open_in(OPERATION_UPGRADE, PHASE_PREPARE);
        vote(3, true);
        vote(4, true);
        ck_assert(!node_is_fenced(&view, &view.nodes[0]) && node_is_fenced(&view, &view.nodes[5]));
        ck_assert(!told_mark(&view, &view.nodes[0]).fenced && told_mark(&view, &view.nodes[5]).fenced);
        ck_assert_int_eq(coordinator_event(&view, 999, SEEN), EVENT_WAITING);
        vote(0, true);
        vote(1, true);
        ck_assert_int_eq(coordinator_event(&view, 1000, SEEN), EVENT_LATE);
        vote(2, false);
        ck_assert_int_eq(coordinator_event(&view, 999, SEEN), EVENT_REFUSED);
        vote(2, true);
        ck_assert_int_eq(coordinator_event(&view, 999, SEEN), EVENT_COMPLETE);
        view.nodes[0].member.joined = 3; /* one was let in since, and was not heard of yet */
        view.nodes[0].has_status = false;
        ck_assert(!node_is_fenced(&view, &view.nodes[1]) && !told_mark(&view, &view.nodes[1]).fenced);
        view.nodes[0].has_status = true; /* whatever it has said: one is left */
        ck_assert(node_is_fenced(&view, &view.nodes[1]) && told_mark(&view, &view.nodes[1]).fenced);
        view.nodes[1].voted = view.nodes[2].voted = false;
        ck_assert_int_eq(coordinator_event(&view, 999, SEEN), EVENT_COMPLETE);
}
END_TEST

/* 0 nothing, 1 there, 2 settled on the version before, 3 there but not confirmed; before they had formed, or since. */
START_TEST(every_combination_of_controllers)
{
        for (int phase = PHASE_CONTROLLERS; phase <= PHASE_TAKE_BACK; phase++)
                for (int one = 0; one < 2; one++)
                        for (int late = 0; late < 2; late++)
                                for (int c = 0; c < 4 * 4 * 4 * 2; c++) {
                                        bool engines = c / 64, all = true, left = false;
                                        enum coordinator_event event, expected;

                                        teardown();
                                        setup();
                                        open_in(OPERATION_ROLLBACK, (enum cluster_phase)phase);
                                        view.operation.one_instant = one;
                                        view.operation.formed = _i;
                                        for (int i = 0, rest = c % 64; i < 3; i++, rest /= 4) {
                                                unsigned there = view.record.running.digest[0];

                                                view.nodes[i].has_status = false;
                                                if (rest % 4 > 0)
                                                        settle(i, rest % 4 == 2 ? 3 - there : there);
                                                view.nodes[i].status.confirmed = rest % 4 != 3;
                                                all = all && rest % 4 == 1;
                                                left = left || rest % 4 == 2;
                                        }
                                        for (int i = 3; engines && i < N; i++)
                                                settle(i, view.record.running.digest[0]);
                                        event = coordinator_event(&view, late ? 1000 : 999, SEEN);
                                        expected = late ? EVENT_LATE : EVENT_WAITING;
                                        if (phase == PHASE_CONTROLLERS)
                                                expected = left ? EVENT_REFUSED : all ? EVENT_COMPLETE : expected;
                                        else if (all && engines)
                                                expected = EVENT_COMPLETE;
                                        else if (phase == PHASE_ENGINES && one && !_i && (left || (late && !all)))
                                                expected = EVENT_REFUSED;
                                        else if (phase == PHASE_ENGINES && one && !_i && all)
                                                expected = EVENT_FORMED;
                                        ck_assert_msg(event == expected, "phase %d, one instant %d, late %d, %d: %s, not %s",
                                                      phase, one, late, c, coordinator_event_to_string(event),
                                                      coordinator_event_to_string(expected));
                                }
}
END_TEST

START_TEST(only_a_majority_is_followed)
{
        /* How many controllers settled on version 1, on version 3; whether that is a majority. */
        static const struct {
                int on1, on3;
                bool majority;
        } rows[] = { { 0, 0, false }, { 1, 0, false }, { 1, 1, false }, { 2, 0, true }, { 3, 0, true }, { 1, 2, true } };

        for (int i = 0; i < rows[_i].on1; i++)
                settle(i, 1);
        for (int i = 0; i < rows[_i].on3; i++)
                settle(rows[_i].on1 + i, 3);
        settle(3, 1); /* engines are not asked */
        settle(4, 1);
        settle(5, 1);
        ck_assert_int_eq(coordinator_event(&view, 1, SEEN) == EVENT_MAJORITY_LEFT, rows[_i].majority);
        /* What was said in an earlier epoch says nothing now. */
        view.record.epoch = 6;
        ck_assert_int_eq(coordinator_event(&view, 1, SEEN), EVENT_WAITING);
        view.record.epoch = 5;
        open_in(OPERATION_UPGRADE, PHASE_PREPARE);
        ck_assert_int_ne(coordinator_event(&view, 1, SEEN), EVENT_MAJORITY_LEFT);
}
END_TEST

/* ---- transactions ---- */

static void decide(uint64_t now, enum coordinator_action expected, struct plan *plan)
{
        enum coordinator_action action;

        ck_assert_int_eq(coordinator_decide(&view, now, SEEN, &action, plan, NULL), 0);
        ck_assert_str_eq(coordinator_action_to_string(action), coordinator_action_to_string(expected));
}

static void read_record(const struct plan *p, const char *key, struct cluster_record *ret)
{
        const struct store_write *w = write_of(p, key);

        ck_assert_ptr_nonnull(w);
        ck_assert_int_eq(record_decode(RECORD_CLUSTER, w->value, w->size, ret, NULL), 0);
}

static void read_operation(const struct plan *p, const char *key, struct cluster_operation *ret)
{
        const struct store_write *w = write_of(p, key);

        ck_assert_ptr_nonnull(w);
        ck_assert_int_eq(record_decode(RECORD_OPERATION, w->value, w->size, ret, NULL), 0);
}

START_TEST(a_commit_is_decision_epoch_and_log_at_once)
{
        _cleanup_plan_ struct plan p = {};
        _cleanup_cluster_operation_ struct cluster_operation op = {};
        _cleanup_cluster_record_ struct cluster_record r = {}, log = {};

        open_in(OPERATION_ROLLBACK, PHASE_PREPARE);
        for (int i = 0; i < 4; i++)
                vote(i, true);
        decide(1000, COORDINATOR_COMMIT, &p);
        ck_assert(compares(&p, STORE_REVISION, KEY_OPERATION, 45) && compares(&p, STORE_REVISION, KEY_RECORD, 40));
        ck_assert(compares(&p, STORE_QUIET, VOTES_9, 50) && compares(&p, STORE_QUIET, KEY_NODES, 50));
        read_record(&p, KEY_RECORD, &r);
        read_record(&p, KEY_LOG "00000000000000000006", &log);
        read_operation(&p, KEY_OPERATION, &op);
        ck_assert_uint_eq(r.epoch, 6);
        ck_assert_uint_eq(log.epoch, 6);
        ck_assert_str_eq(r.running.version, "1");
        ck_assert(!version_id_is(&r.previous) && r.n_fences == 1 && r.fences[0].from == 4 && r.fences[0].to == 5);
        ck_assert(op.phase == PHASE_CONTROLLERS && op.epoch == 6 && op.controllers_at == 1010 && op.engines_at == 0);
        ck_assert(op.n_stragglers == 1 && streq(op.stragglers[0].name, "e4"));
}
END_TEST

START_TEST(the_log_does_not_grow_for_ever)
{
        _cleanup_plan_ struct plan p = {}, q = {};

        open_in(OPERATION_ROLLBACK, PHASE_PREPARE);
        for (int i = 0; i < 4; i++)
                vote(i, true);
        view.record.epoch = view.operation.before.epoch = 999;
        decide(1000, COORDINATOR_COMMIT, &p);
        for (size_t i = 0; i < p.n_writes; i++)
                ck_assert(!p.writes[i].delete);
        view.record.epoch = view.operation.before.epoch = 1000;
        decide(1000, COORDINATOR_COMMIT, &q);
        ck_assert(write_of(&q, KEY_LOG "00000000000000001001") && write_of(&q, KEY_LOG "00000000000000000001")->delete);
}
END_TEST

/* Thousands of engines that are silent: the decision fits into the store all the same, names as many as there is room for,
 * counts the others, and waits for none of them. */
START_TEST(no_list_is_too_long_for_the_store)
{
        const size_t n = CLUSTER_MEMBERS_MAX;
        _cleanup_cluster_operation_ struct cluster_operation op = {};
        _cleanup_plan_ struct plan p = {};
        struct store_txn txn;
        size_t bytes = 0;

        open_in(OPERATION_ROLLBACK, PHASE_PREPARE);
        view.nodes = reallocarray(view.nodes, n, sizeof(*view.nodes));
        ck_assert_ptr_nonnull(view.nodes);
        memset(view.nodes + 3, 0, (n - 3) * sizeof(*view.nodes));
        view.n_nodes = n;
        for (size_t i = 3; i < n; i++) {
                snprintf(view.nodes[i].member.name, NODE_NAME_SIZE, "e%05zu.of-a-site-with-a-longer-name", i);
                view.nodes[i].member.role = ROLE_ENGINE;
        }
        for (int i = 0; i < 3; i++)
                vote(i, true);
        vote(3, true);
        decide(1000, COORDINATOR_COMMIT, &p);
        read_operation(&p, KEY_OPERATION, &op);
        ck_assert_uint_eq(op.n_stragglers + op.stragglers_more, n - 4);
        ck_assert_uint_gt(op.n_stragglers, 1000);
        ck_assert_uint_gt(op.stragglers_more, 0);
        txn = plan_txn(&p);
        for (size_t i = 0; i < txn.n_writes; i++) {
                ck_assert_uint_le(txn.writes[i].size, STORE_VALUE_MAX);
                bytes += txn.writes[i].size;
        }
        ck_assert_uint_le(bytes, STORE_TXN_MAX);
        /* Of those who are not named nobody is waited for: all that voted YES are there. */
        cluster_operation_done(&view.operation);
        ck_assert_int_eq(record_copy(RECORD_OPERATION, &op, &view.operation), 0);
        view.operation.phase = PHASE_ENGINES;
        view.record.epoch = 6;
        view.record.running = view.operation.to;
        for (int i = 0; i < 4; i++)
                settle(i, 1);
        ck_assert_int_eq(coordinator_event(&view, 100, SEEN), EVENT_COMPLETE);
        view.nodes[3].has_status = false;
        ck_assert_int_eq(coordinator_event(&view, 100, SEEN), EVENT_WAITING);
}
END_TEST

START_TEST(an_upgrade_keeps_the_way_back)
{
        _cleanup_plan_ struct plan p = {};
        _cleanup_cluster_record_ struct cluster_record r = {};

        open_in(OPERATION_UPGRADE, PHASE_PREPARE);
        view.operation.one_instant = true;
        for (int i = 0; i < N; i++)
                vote(i, true);
        decide(1, COORDINATOR_COMMIT, &p);
        read_record(&p, KEY_RECORD, &r);
        ck_assert(r.running.digest[0] == 3 && r.previous.digest[0] == 2 && r.previous_epoch == 5 && r.n_fences == 0);
}
END_TEST

START_TEST(an_abort_changes_no_record)
{
        _cleanup_plan_ struct plan p = {};
        _cleanup_cluster_operation_ struct cluster_operation op = {};

        open_in(OPERATION_ROLLBACK, PHASE_PREPARE);
        vote(1, false);
        decide(1, COORDINATOR_ABORT, &p);
        ck_assert(compares(&p, STORE_REVISION, KEY_OPERATION, 45));
        ck_assert_ptr_null(write_of(&p, KEY_RECORD));
        ck_assert(write_of(&p, KEY_OPERATION) && !write_of(&p, KEY_OPERATION)->value && write_of(&p, VOTES_9)->prefix);
        read_operation(&p, KEY_HISTORY "09000000000000000000000000000000", &op);
        ck_assert_int_eq(op.result, CLUSTER_ABORTED);
        ck_assert_str_eq(op.reason, "c1: no room");
}
END_TEST

/* e3 joined after the snapshot: it is not asked, be it silent or one that has answered all the same. */
START_TEST(who_was_not_asked_is_no_reason)
{
        _cleanup_plan_ struct plan p = {};
        _cleanup_cluster_operation_ struct cluster_operation op = {};

        view.nodes[3].member.joined = 4;
        view.nodes[5].member.joined = 0;
        open_in(OPERATION_ROLLBACK, PHASE_PREPARE);
        view.operation.strict = true;
        for (int i = 0; i < 3; i++)
                vote(i, true);
        if (_i)
                vote(3, false);
        decide(1000, COORDINATOR_ABORT, &p);
        read_operation(&p, KEY_HISTORY "09000000000000000000000000000000", &op);
        ck_assert_str_eq(op.reason, "e4 did not answer in time");
}
END_TEST

/* Cut within a character it could not be read back, and nobody could close the operation. */
START_TEST(a_reason_that_is_too_long_is_cut_between_characters)
{
        _cleanup_plan_ struct plan p = {}, q = {}, s = {};
        _cleanup_cluster_operation_ struct cluster_operation op = {}, by = {}, opened = {};
        char who[4 * CLUSTER_TEXT_SIZE] = "";
        struct open_request request = { .id = { 9 }, .kind = OPERATION_ROLLBACK, .requested_by = who };

        for (size_t i = 0; i < (size_t)_i; i++)
                strcat(who, "x");
        while (strlen(who) < 2 * CLUSTER_TEXT_SIZE)
                strcat(who, "\u00e9");
        ck_assert_int_eq(request_open(&view, &request, 1, &p, NULL), 0);
        read_operation(&p, KEY_OPERATION, &opened);
        ck_assert_uint_ge(strlen(opened.requested_by), NODE_NAME_SIZE - 2);
        open_in(OPERATION_ROLLBACK, PHASE_PREPARE);
        ck_assert_int_eq(request_abort(&view, who, 1, &q, NULL), 0);
        read_operation(&q, KEY_HISTORY "09000000000000000000000000000000", &by);
        ck_assert_uint_ge(strlen(by.reason), CLUSTER_TEXT_SIZE - 2);
        vote(1, false);
        memcpy(view.nodes[1].vote.message, who, CLUSTER_TEXT_SIZE - 2 - (size_t)_i);
        decide(1, COORDINATOR_ABORT, &s);
        read_operation(&s, KEY_HISTORY "09000000000000000000000000000000", &op);
        ck_assert_uint_ge(strlen(op.reason), CLUSTER_TEXT_SIZE - 3);
}
END_TEST

START_TEST(a_controller_that_joined_after_the_snapshot_stops_a_rollback)
{
        _cleanup_plan_ struct plan p = {};

        view.nodes[2].member.joined = 4;
        open_in(OPERATION_ROLLBACK, PHASE_PREPARE);
        for (int i = 0; i < N; i++)
                vote(i, true);
        decide(1, COORDINATOR_ABORT, &p);
}
END_TEST

START_TEST(a_take_back_is_a_new_epoch)
{
        enum operation_kind kind = _i ? OPERATION_UPGRADE : OPERATION_ROLLBACK;
        _cleanup_plan_ struct plan p = {};
        _cleanup_cluster_operation_ struct cluster_operation op = {};
        _cleanup_cluster_record_ struct cluster_record r = {};

        open_in(kind, PHASE_CONTROLLERS);
        settle(0, (unsigned)view.operation.to.digest[0]);
        settle(1, 2); /* it came back */
        decide(1, COORDINATOR_GO_BACK, &p);
        ck_assert(compares(&p, STORE_REVISION, KEY_OPERATION, 45) && compares(&p, STORE_REVISION, KEY_RECORD, 40));
        read_record(&p, KEY_RECORD, &r);
        read_operation(&p, KEY_OPERATION, &op);
        ck_assert(r.epoch == 7 && r.running.digest[0] == 2 && r.n_fences == 0 && r.origin == ORIGIN_GO_BACK);
        /* What an upgrade has overwritten is gone. */
        ck_assert_int_eq(version_id_is(&r.previous), kind == OPERATION_ROLLBACK);
        ck_assert(op.phase == PHASE_TAKE_BACK && op.epoch == 6 && op.controllers_at == 11 && op.engines_at == 11);
}
END_TEST

/* With one instant for all: once they have formed, one that is taken off by hand takes nobody with it, as in an operation
 * that has two. What the engines are ordered to do stays as it is. */
START_TEST(controllers_that_have_formed_are_not_taken_back_by_one)
{
        _cleanup_plan_ struct plan p = {}, q = {}, s = {};
        _cleanup_cluster_operation_ struct cluster_operation op = {};

        open_in(OPERATION_UPGRADE, PHASE_ENGINES);
        view.operation.one_instant = true;
        view.operation.controllers_at = view.operation.engines_at = 500;
        for (int i = 0; i < 3; i++)
                settle(i, 3);
        decide(600, COORDINATOR_GO_ON, &p);
        ck_assert(compares(&p, STORE_REVISION, KEY_OPERATION, 45) && p.n_writes == 1);
        read_operation(&p, KEY_OPERATION, &op);
        ck_assert(op.formed && op.phase == PHASE_ENGINES && op.engines_at == 500 && op.deadline == 1000);
        view.operation.formed = true;
        settle(1, 2);
        decide(601, COORDINATOR_NOTHING, &q);
        decide(1000, COORDINATOR_FINISH, &s);
        cluster_operation_done(&op);
        read_operation(&s, KEY_HISTORY "09000000000000000000000000000000", &op);
        ck_assert_int_eq(op.result, CLUSTER_PARTIAL);
        ck_assert(op.n_stragglers == 4 && streq(op.stragglers[0].name, "c1"));
}
END_TEST

START_TEST(the_end_names_who_lags)
{
        _cleanup_plan_ struct plan p = {};
        _cleanup_cluster_operation_ struct cluster_operation op = {};

        open_in(OPERATION_ROLLBACK, PHASE_ENGINES);
        for (int i = 0; i < 4 + _i; i++)
                settle(i, 1);
        decide(1000, COORDINATOR_FINISH, &p);
        read_operation(&p, KEY_HISTORY "09000000000000000000000000000000", &op);
        /* e5 is fenced: it neither lags nor counts. */
        ck_assert_int_eq(op.result, _i ? CLUSTER_DONE : CLUSTER_PARTIAL);
        ck_assert_uint_eq(op.n_stragglers, _i ? 0 : 1);
        ck_assert(_i || streq(op.stragglers[0].name, "e4"));
}
END_TEST

START_TEST(rolling_orders_no_more_than_may_be_away)
{
        _cleanup_plan_ struct plan p = {}, q = {}, s = {};

        open_in(OPERATION_UPGRADE, PHASE_ENGINES);
        view.operation.engines = ENGINES_ROLLING;
        view.operation.max_unavailable = 2;
        for (int i = 0; i < 3; i++)
                settle(i, 3);
        decide(1, COORDINATOR_ORDER, &p);
        ck_assert_uint_eq(p.n_writes, 2);
        ck_assert(compares(&p, STORE_QUIET, KEY_ORDERS "09000000000000000000000000000000/", 50));
        view.nodes[3].order = view.nodes[4].order = 100;
        view.nodes[3].order_seen = view.nodes[4].order_seen = SEEN;
        ck_assert_int_eq(coordinator_event(&view, 200, SEEN), EVENT_WAITING);
        settle(3, 3);
        decide(200, COORDINATOR_ORDER, &q);
        ck_assert_uint_eq(q.n_writes, 1);
        /* One that is lost does not stop the others for ever. */
        view.nodes[5].order = 200;
        settle(5, 3);
        ck_assert_int_eq(coordinator_event(&view, 599, SEEN), EVENT_WAITING);
        ck_assert_uint_eq(coordinator_deadline(&view, 500, SEEN), 600);
        ck_assert_uint_eq(coordinator_deadline(&view, 600, SEEN), 1000);
        ck_assert_uint_eq(coordinator_deadline(&view, 1000, SEEN), UINT64_MAX);
        decide(600, COORDINATOR_FINISH, &s);
}
END_TEST

/* At the end it would go at once with all others who were left out. One that is silent is not waited for. */
START_TEST(rolling_orders_stragglers_that_are_heard_of_last)
{
        struct straggler named[] = { { .name = "e3" }, { .name = "e4" } };
        _cleanup_plan_ struct plan p = {}, q = {}, s = {};

        open_in(OPERATION_UPGRADE, PHASE_ENGINES);
        view.operation.engines = ENGINES_ROLLING;
        view.operation.max_unavailable = 1;
        view.operation.stragglers = named;
        view.operation.n_stragglers = 2;
        for (int i = 0; i < 3; i++)
                settle(i, 3);
        settle(3, 2);
        view.nodes[3].status.settled = false; /* heard of in this epoch; e4 is not */
        decide(1, COORDINATOR_ORDER, &p);
        ck_assert(p.n_writes == 1 && write_of(&p, KEY_ORDERS "09000000000000000000000000000000/e5"));
        settle(5, 3);
        decide(1, COORDINATOR_ORDER, &q);
        ck_assert(q.n_writes == 1 && write_of(&q, KEY_ORDERS "09000000000000000000000000000000/e3"));
        view.nodes[3].order = 10;
        ck_assert_int_eq(coordinator_event(&view, 20, SEEN), EVENT_WAITING);
        settle(3, 3);
        decide(20, COORDINATOR_FINISH, &s);
        view.operation.stragglers = NULL;
        view.operation.n_stragglers = 0;
}
END_TEST

START_TEST(a_manual_rollback_is_followed)
{
        _cleanup_plan_ struct plan p = {};
        _cleanup_cluster_record_ struct cluster_record r = {};

        settle(0, 1);
        settle(2, 1);
        decide(1, COORDINATOR_FOLLOW, &p);
        ck_assert(compares(&p, STORE_ABSENT, KEY_OPERATION, 0) && compares(&p, STORE_REVISION, KEY_RECORD, 40));
        ck_assert(compares(&p, STORE_QUIET, KEY_CONTROLLER, 50));
        read_record(&p, KEY_RECORD, &r);
        ck_assert(r.epoch == 6 && r.running.digest[0] == 1 && !version_id_is(&r.previous) && r.origin == ORIGIN_FOLLOW);
        ck_assert(cluster_record_fences(&r, 4) && !cluster_record_fences(&r, 3) && !cluster_record_fences(&r, 6));
}
END_TEST
int main(void)
{
        Suite *s = suite_create("coordinator");
        TCase *t = tcase_create("coordinator");

        tcase_set_timeout(t, 60);
        tcase_add_checked_fixture(t, setup, teardown);
        tcase_add_test(t, every_cell_is_as_the_header_says);
        tcase_add_test(t, every_combination_of_votes);
        tcase_add_test(t, where_all_controllers_would_be_fenced_none_is);
        tcase_add_loop_test(t, every_combination_of_controllers, 0, 2);
        tcase_add_loop_test(t, only_a_majority_is_followed, 0, 6);
        tcase_add_test(t, a_commit_is_decision_epoch_and_log_at_once);
        tcase_add_test(t, the_log_does_not_grow_for_ever);
        tcase_add_test(t, no_list_is_too_long_for_the_store);
        tcase_add_test(t, an_upgrade_keeps_the_way_back);
        tcase_add_test(t, an_abort_changes_no_record);
        tcase_add_loop_test(t, who_was_not_asked_is_no_reason, 0, 2);
        tcase_add_loop_test(t, a_reason_that_is_too_long_is_cut_between_characters, 0, 2);
        tcase_add_test(t, a_controller_that_joined_after_the_snapshot_stops_a_rollback);
        tcase_add_loop_test(t, a_take_back_is_a_new_epoch, 0, 2);
        tcase_add_test(t, controllers_that_have_formed_are_not_taken_back_by_one);
        tcase_add_loop_test(t, the_end_names_who_lags, 0, 2);
        tcase_add_test(t, rolling_orders_no_more_than_may_be_away);
        tcase_add_test(t, rolling_orders_stragglers_that_are_heard_of_last);
        tcase_add_test(t, a_manual_rollback_is_followed);
        suite_add_tcase(s, t);
        return suite_run(s);
}
