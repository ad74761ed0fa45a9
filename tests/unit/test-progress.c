/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How an operation of the cluster is shown: the times of its steps, how many nodes are through, and who failed. */
#include "cluster/progress.h"

#include "cluster/coordinator.h"
#include "cluster/request.h"
#include "coordinator-case.h"

enum { OPEN, PREPARE, COMMIT, SWITCH_CONTROLLERS, SWITCH_ENGINES, FINISH };

/* "STATE START-END" of each step, apart by blanks; "-" for a time that is not known. */
static const char *shown(const struct operation *o)
{
        static char text[512];

        *text = '\0';
        for (size_t i = 0; i < o->n_steps; i++) {
                const struct step_record *s = &o->steps[i];
                char *at = text + strlen(text);

                at += sprintf(at, "%s%s ", i ? " " : "", step_state_to_string(s->state));
                at += s->start ? sprintf(at, "%llu-", (unsigned long long)s->start) : sprintf(at, "?-");
                sprintf(at, s->end ? "%llu" : "?", (unsigned long long)s->end);
        }
        return text;
}

/* Takes the votes of all, opens at 100 and commits at 200; the engines are told at 300 and it ends at 400. */
static void timed(struct cluster_operation *op)
{
        op->opened = 100;
        op->lead = 10;
        op->switch_limit = 500;
        op->controllers_at = op->epoch ? 210 : 0;
        memcpy(view.record.operation, op->id, sizeof(op->id));
        view.record.written = 200;
}

/* What a plan writes of the operation when it is over. */
static struct cluster_operation closed_by(const struct plan *plan)
{
        const struct store_write *w = write_of(plan, KEY_HISTORY "09000000000000000000000000000000");
        struct cluster_operation op = {};

        ck_assert_ptr_nonnull(w);
        ck_assert_int_eq(record_decode(RECORD_OPERATION, w->value, w->size, &op, NULL), 0);
        return op;
}

static struct cluster_operation decide_end(uint64_t now, enum coordinator_action expected)
{
        _cleanup_plan_ struct plan plan = {};
        enum coordinator_action action;

        ck_assert_int_eq(coordinator_decide(&view, now, SEEN, &action, &plan, NULL), 0);
        ck_assert_int_eq(action, expected);
        return closed_by(&plan);
}

static void expect(const struct cluster_operation *op, const char *expected)
{
        _cleanup_operation_ struct operation o = {};

        ck_assert_int_eq(progress_of(&view, op, &o), 0);
        ck_assert_str_eq(shown(&o), expected);
}

static void expect_message(const struct cluster_operation *op, int step, const char *expected)
{
        _cleanup_operation_ struct operation o = {};

        ck_assert_int_eq(progress_of(&view, op, &o), 0);
        if (expected)
                ck_assert_str_eq(o.steps[step].message, expected);
        else
                ck_assert_ptr_null(o.steps[step].message);
}

/* ---- times ---- */

START_TEST(the_times_while_it_is_open)
{
        static const struct {
                enum cluster_phase phase;
                enum engines_mode engines;
                const char *expected;
        } rows[] = {
                { PHASE_PREPARE, ENGINES_TOGETHER,
                  "DONE 100-100 RUNNING 100-? WAITING ?-? WAITING ?-? WAITING ?-? WAITING ?-?" },
                { PHASE_CONTROLLERS, ENGINES_TOGETHER,
                  "DONE 100-100 DONE 100-200 DONE 200-200 RUNNING 200-? WAITING ?-? WAITING ?-?" },
                { PHASE_CONTROLLERS, ENGINES_ROLLING,
                  "DONE 100-100 DONE 100-200 DONE 200-200 RUNNING 200-? WAITING ?-? WAITING ?-?" },
                { PHASE_ENGINES, ENGINES_TOGETHER,
                  "DONE 100-100 DONE 100-200 DONE 200-200 DONE 200-300 RUNNING 300-? WAITING ?-?" },
                { PHASE_ENGINES, ENGINES_ROLLING,
                  "DONE 100-100 DONE 100-200 DONE 200-200 DONE 200-300 RUNNING 300-? WAITING ?-?" },
                { PHASE_TAKE_BACK, ENGINES_ROLLING,
                  "DONE 100-100 DONE 100-200 DONE 200-200 FAILED 200-300 SKIPPED ?-? RUNNING 300-?" },
        };
        struct cluster_operation *op = &view.operation;

        open_in(OPERATION_ROLLBACK, rows[_i].phase);
        timed(op);
        op->engines = rows[_i].engines;
        op->deadline = op->phase == PHASE_ENGINES ? 300 + op->lead + op->switch_limit : 1000;
        op->engines_at = op->phase == PHASE_TAKE_BACK || (op->phase == PHASE_ENGINES && op->engines == ENGINES_TOGETHER)
                                 ? 310
                                 : 0;
        expect(op, rows[_i].expected);
}
END_TEST

/* Engines in turn have no instant in common: when their phase began is still told when it is over. */
START_TEST(the_times_when_it_is_over)
{
        struct cluster_operation *op = &view.operation, over;

        open_in(OPERATION_ROLLBACK, PHASE_ENGINES);
        timed(op);
        op->engines = _i ? ENGINES_ROLLING : ENGINES_TOGETHER;
        op->engines_at = _i ? 0 : 310;
        op->deadline = 300 + op->lead + op->switch_limit;
        for (int i = 0; i < N; i++)
                settle(i, 1);
        over = decide_end(400, COORDINATOR_FINISH);
        expect(&over, "DONE 100-100 DONE 100-200 DONE 200-200 DONE 200-300 DONE 300-400 DONE 400-400");
        cluster_operation_done(&over);
}
END_TEST

START_TEST(an_operation_that_comes_after_it_changes_no_times)
{
        struct cluster_operation *op = &view.operation, over;

        open_in(OPERATION_ROLLBACK, PHASE_ENGINES);
        timed(op);
        op->engines_at = 310;
        for (int i = 0; i < N; i++)
                settle(i, 1);
        over = decide_end(400, COORDINATOR_FINISH);
        view.record.epoch++;
        view.record.operation[0]++;
        view.record.written = 5000;
        expect(&over, "DONE 100-100 DONE 100-200 DONE 200-200 DONE 200-300 DONE 300-400 DONE 400-400");
        expect_message(&over, SWITCH_ENGINES, NULL); /* what nodes say is not about it any more */
        cluster_operation_done(&over);
}
END_TEST

/* ---- how many ---- */

START_TEST(who_has_voted_is_told_until_it_is_over)
{
        static const enum cluster_phase phases[] = { PHASE_PREPARE, PHASE_CONTROLLERS, PHASE_ENGINES, PHASE_TAKE_BACK };

        open_in(OPERATION_UPGRADE, phases[_i]);
        for (int i = 0; i < 4; i++)
                vote(i, true);
        expect_message(&view.operation, PREPARE, "4 of 6 nodes");
        if (phases[_i] == PHASE_ENGINES) {
                settle(0, 3);
                settle(3, 3);
                expect_message(&view.operation, SWITCH_CONTROLLERS, "1 of 3 nodes");
                expect_message(&view.operation, SWITCH_ENGINES, "1 of 3 nodes");
                expect_message(&view.operation, COMMIT, "epoch 6");
        }
}
END_TEST

/* ---- who failed ---- */

static void expect_failed(const struct cluster_operation *op, const char *expected)
{
        _cleanup_json_ json_t *j = progress_to_json(&view, op, PROGRESS_ALL_NODES),
                              *listed = progress_to_json(&view, op, PROGRESS_FAILED_NODES);
        _cleanup_free_ char *text = NULL;

        ck_assert_ptr_nonnull(j);
        text = json_dumps(json_object_get(j, "nodes_failed"), JSON_COMPACT);
        ck_assert_str_eq(text, expected);
        /* A history has who failed, and not all others a hundred times. */
        ck_assert_uint_eq(json_array_size(json_object_get(j, "nodes")), N);
        ck_assert(json_is_array(json_object_get(listed, "nodes")));
        ck_assert_uint_eq(json_array_size(json_object_get(listed, "nodes")), 0);
        ck_assert(json_equal(json_object_get(listed, "nodes_failed"), json_object_get(j, "nodes_failed")));
}

START_TEST(a_veto_is_named_in_what_was_aborted)
{
        struct cluster_operation over;

        open_in(OPERATION_UPGRADE, PHASE_PREPARE);
        vote(1, false);
        vote(3, false);
        vote(0, true);
        over = decide_end(10, COORDINATOR_ABORT);
        expect_failed(&over, "[{\"name\":\"c1\",\"reason\":\"no room\"},{\"name\":\"e3\",\"reason\":\"no room\"}]");
        cluster_operation_done(&over);
}
END_TEST

START_TEST(who_was_silent_is_named_where_that_was_the_reason)
{
        struct cluster_operation over;

        open_in(OPERATION_UPGRADE, PHASE_PREPARE);
        for (int i = 0; i < N; i++)
                if (i != 2)
                        vote(i, true);
        over = decide_end(view.operation.deadline, COORDINATOR_ABORT);
        expect_failed(&over, "[{\"name\":\"c2\",\"reason\":\"it did not answer\"}]");
        cluster_operation_done(&over);
}
END_TEST

/* Who had no time to answer did not fail. */
START_TEST(an_operator_s_abort_names_only_who_said_no)
{
        _cleanup_plan_ struct plan plan = {};
        struct cluster_operation over;

        open_in(OPERATION_UPGRADE, PHASE_PREPARE);
        vote(4, false);
        ck_assert_int_eq(request_abort(&view, "ada", 20, &plan, NULL), 0);
        over = closed_by(&plan);
        ck_assert_str_eq(over.reason, "aborted by ada");
        expect_failed(&over, "[{\"name\":\"e4\",\"reason\":\"no room\"}]");
        cluster_operation_done(&over);
}
END_TEST

/* Who was deleted since stays named, and who has joined since, and is refused now, was no part of it. */
START_TEST(what_is_past_names_who_failed_then)
{
        struct cluster_operation over;

        open_in(OPERATION_UPGRADE, PHASE_ENGINES);
        for (int i = 0; i < N; i++)
                settle(i, i == 3 ? 2 : 3);
        over = decide_end(400, COORDINATOR_FINISH);
        expect_failed(&over, "[{\"name\":\"e3\",\"reason\":\"it runs another version\"}]");
        view.record.epoch++;
        view.record.operation[0]++;
        strcpy(view.nodes[3].member.name, "f3");
        view.nodes[3].member.joined = 6;
        ck_assert_int_eq(cluster_record_add_fence(&view.record, 6, 6), 0);
        ck_assert(node_is_fenced(&view, &view.nodes[3]));
        expect_failed(&over, "[{\"name\":\"e3\",\"reason\":\"it runs another version\"}]");
        cluster_operation_done(&over);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("progress");
        TCase *t = tcase_create("progress");

        tcase_add_checked_fixture(t, setup, teardown);
        tcase_add_loop_test(t, the_times_while_it_is_open, 0, 6);
        tcase_add_loop_test(t, the_times_when_it_is_over, 0, 2);
        tcase_add_test(t, an_operation_that_comes_after_it_changes_no_times);
        tcase_add_loop_test(t, who_has_voted_is_told_until_it_is_over, 0, 4);
        tcase_add_test(t, a_veto_is_named_in_what_was_aborted);
        tcase_add_test(t, who_was_silent_is_named_where_that_was_the_reason);
        tcase_add_test(t, an_operator_s_abort_names_only_who_said_no);
        tcase_add_test(t, what_is_past_names_who_failed_then);
        suite_add_tcase(s, t);
        return suite_run(s);
}
