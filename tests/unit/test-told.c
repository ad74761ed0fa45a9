/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What controllers tell nodes, the view that a watch keeps up to date, the offset of clocks, and an operation as rows. */
#include "cluster/offset.h"
#include "cluster/progress.h"
#include "cluster/replica.h"
#include "cluster/told.h"
#include "cluster.h"

static struct replica replica;

static void put(const char *key, enum record_type type, const void *record, uint64_t revision)
{
        char *text = record_encode(type, record);
        struct store_entry entry = { .key = (char *)key, .value = text, .size = strlen(text), .modified = revision };
        struct store_change change = { .entry = &entry };

        ck_assert_int_eq(replica_change(&replica, &change, 1, revision, false), 0);
        free(text);
}

static void take(const char *key, uint64_t revision)
{
        struct store_entry entry = { .key = (char *)key, .modified = revision };
        struct store_change change = { .entry = &entry, .deleted = true };

        ck_assert_int_eq(replica_change(&replica, &change, 1, revision, false), 0);
}

static void put_member(const char *name, enum node_role role, uint64_t joined, uint64_t revision)
{
        struct member m = { .role = role, .joined = joined };
        char key[128];

        strcpy(m.name, name);
        if (role == ROLE_CONTROLLER)
                snprintf(m.address, sizeof(m.address), "https://%s:8443", name);
        snprintf(key, sizeof(key), KEY_NODES "%s", name);
        put(key, RECORD_MEMBER, &m, revision);
}

static void put_status(const char *name, const char *role, unsigned v, const char *message, uint64_t revision)
{
        struct member_status s = { .epoch = 4, .settled = true, .confirmed = true, .running = version(v) };
        char key[128];

        strcpy(s.message, message);
        snprintf(key, sizeof(key), KEY_STATUS "%s/%s", role, name);
        put(key, RECORD_STATUS, &s, revision);
}

/* Epoch 4, version 2; a controller, and engines of which e3 joined after the snapshot that was gone back to. In no order. */
static void setup(void)
{
        struct cluster_record record = { .epoch = 4, .running = version(2), .previous = version(1), .written = 1000 };
        struct cluster_operation op = { .id = { 7 },
                                        .kind = OPERATION_ROLLBACK,
                                        .phase = PHASE_PREPARE,
                                        .from = version(2),
                                        .to = version(1),
                                        .opened = 500,
                                        .deadline = 900,
                                        .before = { .epoch = 3, .running = version(2) } };

        replica = (struct replica){};
        ck_assert_int_eq(cluster_record_add_fence(&record, 3, 3), 0);
        put(KEY_RECORD, RECORD_CLUSTER, &record, 5);
        put_member("e3", ROLE_ENGINE, 3, 6);
        put_member("e1", ROLE_ENGINE, 0, 7);
        put_member("c1", ROLE_CONTROLLER, 0, 8);
        put_member("e2", ROLE_ENGINE, 1, 9);
        put(KEY_OPERATION, RECORD_OPERATION, &op, 10);
        put(KEY_LOG "00000000000000000004", RECORD_CLUSTER, &record, 11);
        put(KEY_HISTORY "07", RECORD_OPERATION, &op, 11);
}

static void teardown(void)
{
        replica_done(&replica);
}

static struct cluster_view view_now(void)
{
        struct cluster_view view;
        struct error e = {};

        ck_assert_msg(replica_view(&replica, &view, &e) == 0, "%s", e.message ?: "");
        return view;
}

static struct told tell(const struct cluster_view *view, const char *name, uint64_t now)
{
        _cleanup_free_ char *of_all = told_of_all(view), *line = NULL;
        struct error e = {};
        struct told told;

        line = told_format(of_all, view, name ? cluster_view_node(view, name) : NULL, now);
        ck_assert_msg(told_parse(line, strlen(line), &told, &e) == 0, "%s", e.message ?: "");
        ck_assert_ptr_null(strchr(line, '\n'));
        return told;
}

START_TEST(what_is_told_comes_back)
{
        _cleanup_cluster_view_ struct cluster_view view = view_now();
        _cleanup_told_ struct told t = tell(&view, "e2", 123), fenced = tell(&view, "e3", 1), nobody = tell(&view, NULL, 1);

        ck_assert_uint_eq(t.revision, 11);
        ck_assert_uint_eq(t.now, 123);
        ck_assert_uint_eq(t.record.epoch, 4);
        ck_assert(version_id_equal(&t.record.running, &view.record.running));
        ck_assert(t.open && t.operation.phase == PHASE_PREPARE && t.operation.kind == OPERATION_ROLLBACK);
        ck_assert_int_eq(t.operation.id[0], 7);
        ck_assert(t.member && !t.fenced && !t.voted && t.role == ROLE_ENGINE && t.order == 0);
        ck_assert(fenced.member && fenced.fenced && !nobody.member);
        ck_assert_str_eq(t.controllers, "https://c1:8443\n");
}
END_TEST

/* A rollback goes back to before epoch 1, in which e2 joined. */
START_TEST(who_joined_after_the_snapshot_is_not_asked)
{
        _cleanup_cluster_view_ struct cluster_view view = view_now(), later = {};
        _cleanup_free_ char *of_all = told_of_all(&view),
                            *line = told_format(of_all, &view, cluster_view_node(&view, "e2"), 1);
        _cleanup_told_ struct told e1 = tell(&view, "e1", 1), e2 = tell(&view, "e2", 1), old = {}, again = {};
        char *asked = strstr(line, "\"asked\":false,");

        ck_assert(e1.asked && !e2.asked);
        ck_assert_ptr_nonnull(asked);
        memset(asked, ' ', strlen("\"asked\":false,")); /* of an older controller */
        ck_assert_int_eq(told_parse(line, strlen(line), &old, NULL), 0);
        ck_assert(old.asked);
        put_member("e2", ROLE_ENGINE, 0, 12);
        put_member("c3", ROLE_CONTROLLER, 3, 13); /* refused: nobody is sent there */
        put_status("c1", "controller", 2, "", 14);
        later = view_now();
        again = tell(&later, "e2", 1);
        ck_assert_str_eq(again.controllers, "https://c1:8443\n");
        ck_assert(told_mark(&view, cluster_view_node(&view, "e2")).asked !=
                  told_mark(&later, cluster_view_node(&later, "e2")).asked);
}
END_TEST

START_TEST(a_vote_and_an_order_are_told)
{
        const struct vote yes = { .yes = true };
        const struct order order = { .at = 77 };
        _cleanup_cluster_view_ struct cluster_view before = view_now(), after = {};
        _cleanup_told_ struct told t = {}, other = {};
        struct told_mark one, two;

        put(KEY_VOTES "07000000000000000000000000000000/e1", RECORD_VOTE, &yes, 12);
        after = view_now();
        one = told_mark(&before, cluster_view_node(&before, "e1"));
        two = told_mark(&after, cluster_view_node(&after, "e1"));
        ck_assert(told_mark_equal(&one, &two)); /* that its vote is there it knows */
        cluster_view_done(&after);
        put(KEY_ORDERS "07000000000000000000000000000000/e1", RECORD_ORDER, &order, 13);
        put(KEY_VOTES "08000000000000000000000000000000/e2", RECORD_VOTE, &yes, 14);
        after = view_now();
        t = tell(&after, "e1", 1);
        other = tell(&after, "e2", 1);
        ck_assert(t.voted && t.order == 77 && !other.voted);
        one = told_mark(&before, cluster_view_node(&before, "e1"));
        two = told_mark(&after, cluster_view_node(&after, "e1"));
        ck_assert(!told_mark_equal(&one, &two));
        one = told_mark(&before, cluster_view_node(&before, "c1"));
        two = told_mark(&after, cluster_view_node(&after, "c1"));
        ck_assert(told_mark_equal(&one, &two)); /* what the others do is nothing to it … */
        put_member("c2", ROLE_CONTROLLER, 2, 15);
        cluster_view_done(&after);
        after = view_now();
        two = told_mark(&after, cluster_view_node(&after, "c1"));
        ck_assert(!told_mark_equal(&one, &two)); /* … but for a new controller, which can be asked */
}
END_TEST

/* What it said last may have been overtaken by what it said before: it hears which of them the store has, in a while. */
START_TEST(a_node_hears_what_the_store_has_of_it)
{
        const struct member_status was = { .epoch = 4, .message = "was" }, is = { .epoch = 4, .settled = true };
        _cleanup_free_ char *said = record_encode(RECORD_STATUS, &is), *line = NULL, *later = NULL, *other = NULL;
        _cleanup_cluster_view_ struct cluster_view view = view_now(), after = {};
        _cleanup_free_ char *of_all = told_of_all(&view);
        _cleanup_json_ json_t *status = json_loads(said, 0, NULL);
        struct told_mark one, two;

        line = told_format(of_all, &view, cluster_view_node(&view, "e1"), 1);
        ck_assert(!told_has_status(line, status)); /* it has not said anything */
        put(KEY_STATUS "engine/e1", RECORD_STATUS, &is, 12);
        one = told_mark(&view, cluster_view_node(&view, "e1"));
        ck_assert_int_eq(replica_update(&replica, &view, NULL), 0);
        two = told_mark(&view, cluster_view_node(&view, "e1"));
        ck_assert(told_mark_equal(&one, &two)); /* not at once */
        ck_assert_uint_ne(one.status, two.status);
        later = told_format(of_all, &view, cluster_view_node(&view, "e1"), 2);
        ck_assert(told_has_status(later, status) && told_is_same(line, later));

        put(KEY_STATUS "engine/e1", RECORD_STATUS, &was, 13);
        ck_assert_int_eq(replica_update(&replica, &view, NULL), 0);
        one = told_mark(&view, cluster_view_node(&view, "e1"));
        ck_assert_uint_ne(one.status, two.status);
        other = told_format(of_all, &view, cluster_view_node(&view, "e1"), 3);
        ck_assert(!told_has_status(other, status) && told_is_same(other, later));

        put_member("c2", ROLE_CONTROLLER, 2, 15);
        after = view_now();
        free(TAKE_PTR(of_all));
        free(TAKE_PTR(other));
        of_all = told_of_all(&after);
        other = told_format(of_all, &after, cluster_view_node(&after, "e1"), 3);
        ck_assert(!told_is_same(other, later)); /* that there is another controller is news */
        ck_assert(!told_is_same("", later) && !told_is_same(later, "") && !told_is_same("", ""));
        ck_assert(!told_has_status("{", status) && !told_has_status(later, NULL));
}
END_TEST

START_TEST(what_is_deleted_is_gone)
{
        _cleanup_cluster_view_ struct cluster_view view = {}, fresh = {};
        _cleanup_told_ struct told t = {};

        take(KEY_NODES "e2", 12);
        take(KEY_NODES "nobody", 13);
        take(KEY_OPERATION, 14);
        view = view_now();
        t = tell(&view, "e2", 1);
        ck_assert_uint_eq(view.n_nodes, 3);
        ck_assert(!t.member && !t.open);
        ck_assert_int_eq(replica_change(&replica, NULL, 0, 20, true), 0);
        fresh = view_now();
        ck_assert_uint_eq(fresh.n_nodes, 0);
        ck_assert_uint_eq(fresh.record_revision, 0);
        ck_assert_uint_eq(fresh.revision, 20);
}
END_TEST

/* One sentence each; the whole line as it is told is the valid one. */
static const char *const bad[] = {
        "",
        "{}",
        "[]",
        "{\"format\":2,\"minor\":0}",
        "{\"format\":1,\"revision\":1,\"now_usec\":1,\"cluster\":{},\"operation\":null,\"you\":{}}",
        "{\"format\":1,\"revision\":-1,\"now_usec\":1,\"cluster\":{},\"operation\":null,\"you\":{}}",
};

START_TEST(what_cannot_be_read_is_refused)
{
        struct error e = {};
        struct told t;

        ck_assert_int_lt(told_parse(bad[_i], strlen(bad[_i]), &t, &e), 0);
        ck_assert_ptr_nonnull(e.message);
        error_done(&e);
}
END_TEST

/* Every line that is cut is refused, and no line with a changed word is read as another role. */
START_TEST(a_line_that_is_cut_is_refused)
{
        _cleanup_cluster_view_ struct cluster_view view = view_now();
        _cleanup_free_ char *of_all = told_of_all(&view), *line = told_format(of_all, &view, &view.nodes[0], 5);
        char *role = strstr(line, "\"role\":\"controller\",\"fenced\""), *url = strstr(line, "https://");
        struct told t;

        for (size_t n = 0; n < strlen(line); n++)
                ck_assert_int_lt(told_parse(line, n, &t, NULL), 0);
        ck_assert_ptr_nonnull(role);
        *url = ' ';
        ck_assert_int_lt(told_parse(line, strlen(line), &t, NULL), 0);
        *url = 'h';
        memcpy(role, "\"role\":\"operator\",  ", 20);
        ck_assert_int_lt(told_parse(line, strlen(line), &t, NULL), 0);
}
END_TEST

/* Answered at once. */
static void hear(struct clock_offset *o, int64_t theirs, uint64_t received, uint64_t delay, uint64_t at)
{
        clock_offset_add(o, &(struct clock_answer){ 0, theirs, theirs, received, delay, at });
}

START_TEST(the_quickest_answer_counts)
{
        struct clock_offset o = {};

        ck_assert_int_eq(clock_offset_get(&o), 0);
        ck_assert_uint_eq(clock_offset_error(&o), UINT64_MAX);
        hear(&o, 2000000, 1000400, 800, 1); /* read at 1000000 of ours */
        ck_assert_int_eq(clock_offset_get(&o), 1000000);
        ck_assert_uint_eq(clock_offset_error(&o), 401);
        hear(&o, 2300000, 1500000, 500000, 1);
        ck_assert_int_eq(clock_offset_get(&o), 1000000);
        hear(&o, 1500, 2000, 100, 1);
        ck_assert_int_eq(clock_offset_get(&o), 1500 - 1950);
        hear(&o, 0, 2000, 10, 1);
        hear(&o, -5, 2000, 10, 1);
        hear(&o, 5, 2000, 3000, 1);
        ck_assert_int_eq(clock_offset_get(&o), -450);
        for (int i = 0; i < OFFSET_SAMPLES; i++) /* what is old counts no longer: clocks drift */
                hear(&o, 5000, 1000, 400, 1);
        ck_assert_int_eq(clock_offset_get(&o), 4200);
        hear(&o, 9000, 1000, 900, OFFSET_AGE + 1); /* they have drifted apart by no more than its delay … */
        ck_assert_int_eq(clock_offset_get(&o), 4200);
        hear(&o, 9000, 1000, 900, OFFSET_AGE + 2); /* … by how much now nobody knows */
        ck_assert_int_eq(clock_offset_get(&o), 8450);
}
END_TEST

/* A controller that has kept the question for a second, while the store was busy: the answer is as good as a quick one. */
START_TEST(what_an_answer_was_kept_for_is_no_delay)
{
        struct clock_offset o = {};

        clock_offset_add(&o, &(struct clock_answer){ 0, 5000100, 6000100, 2000200, 1000200, 1 });
        ck_assert_int_eq(clock_offset_get(&o), 4000000);
        ck_assert_uint_eq(clock_offset_error(&o), 101);
        /* What cannot be: it went before it came. And a clock that goes faster than ours. */
        clock_offset_add(&o, &(struct clock_answer){ 0, 5000100, 5000099, 2000200, 10, 1 });
        ck_assert_int_eq(clock_offset_get(&o), 4000000);
        clock_offset_add(&o, &(struct clock_answer){ 0, 1000, 1021, 2020, 20, 1 });
        ck_assert_int_eq(clock_offset_get(&o), 1010 - 2010);
        ck_assert_uint_eq(clock_offset_error(&o), 1);
}
END_TEST

/* After a failover: the clocks of two controllers are not the same, and the quicker answer may be the other one's. */
START_TEST(what_another_machine_has_answered_is_dropped)
{
        struct clock_offset o = {};

        hear(&o, 2000000, 1000005, 10, 1);
        ck_assert_int_eq(clock_offset_get(&o), 1000000);
        clock_offset_add(&o, &(struct clock_answer){ 1, 1600000, 1600000, 1000400, 800, 2 });
        ck_assert_int_eq(clock_offset_get(&o), 600000);
        ck_assert_uint_eq(clock_offset_error(&o), 401);
        hear(&o, 2000000, 1000400, 800, 3); /* and back */
        ck_assert_int_eq(clock_offset_get(&o), 1000000);
        ck_assert_uint_eq(clock_offset_error(&o), 401);
        clock_offset_add(&o, &(struct clock_answer){ 1, 5, 1, 2000, 10, 4 }); /* none */
        ck_assert_int_eq(clock_offset_get(&o), 1000000);
}
END_TEST

static const char *message_of(const struct operation *o, const char *step)
{
        for (size_t i = 0; i < o->n_steps; i++)
                if (streq(o->steps[i].name, step))
                        return o->steps[i].message ?: "";
        return "no such step";
}

static const char *states(const struct operation *o)
{
        static char text[128];

        *text = '\0';
        for (size_t i = 0; i < o->n_steps; i++)
                sprintf(text + strlen(text), "%s%s", i ? " " : "", step_state_to_string(o->steps[i].state));
        return text;
}

START_TEST(the_rows_of_an_operation)
{
        const struct vote yes = { .yes = true }, no = { .kind = "no-space", .message = "there is no room" };
        _cleanup_cluster_view_ struct cluster_view view = {};
        _cleanup_free_ char *lags = NULL;
        _cleanup_operation_ struct operation o = {};

        put_member("e4", ROLE_ENGINE, 2, 11); /* would be fenced: it is not asked either */
        put(KEY_VOTES "07000000000000000000000000000000/e1", RECORD_VOTE, &yes, 12);
        put(KEY_VOTES "07000000000000000000000000000000/e2", RECORD_VOTE, &no, 13);
        view = view_now();
        ck_assert_int_eq(progress_of(&view, &view.operation, &o), 0);
        lags = progress_laggards(&view, &view.operation);
        ck_assert_str_eq(states(&o), "DONE RUNNING WAITING WAITING WAITING WAITING");
        ck_assert_str_eq(message_of(&o, "PREPARE"), "2 of 3 nodes"); /* e3 is fenced: it is not asked */
        ck_assert_str_eq(lags, "e2: there is no room\ne3: it joined after the snapshot: refused until it is deleted\n");
        ck_assert_str_eq(o.from_version, "2");
        ck_assert_int_eq(o.result, RESULT_IN_PROGRESS);
}
END_TEST

START_TEST(the_rows_of_one_that_is_committed)
{
        _cleanup_cluster_view_ struct cluster_view view = {};
        _cleanup_free_ char *lags = NULL;
        _cleanup_operation_ struct operation o = {};
        _cleanup_json_ json_t *j = NULL;

        put_status("c1", "controller", 2, "", 12);
        put_status("e1", "engine", 2, "", 13);
        put_status("e2", "engine", 1, "it switched, and came back", 14);
        view = view_now();
        view.operation.phase = PHASE_ENGINES;
        view.operation.epoch = 4;
        view.operation.lead = 10;
        view.operation.engines_at = 2010;
        ck_assert_int_eq(progress_of(&view, &view.operation, &o), 0);
        lags = progress_laggards(&view, &view.operation);
        j = progress_to_json(&view, &view.operation, PROGRESS_ALL_NODES);
        ck_assert_str_eq(states(&o), "DONE DONE DONE DONE RUNNING WAITING");
        ck_assert_str_eq(message_of(&o, "SWITCH_CONTROLLERS"), "1 of 1 nodes");
        ck_assert_str_eq(message_of(&o, "SWITCH_ENGINES"), "1 of 2 nodes");
        ck_assert_str_eq(message_of(&o, "COMMIT"), "epoch 4");
        ck_assert_str_eq(lags,
                         "e2: it switched, and came back\ne3: it joined after the snapshot: refused until it is deleted\n");
        ck_assert_int_eq(json_integer_value(json_object_get(j, "epoch")), 4);
        ck_assert_uint_eq(json_array_size(json_object_get(j, "nodes")), 4);
        ck_assert_uint_eq(json_array_size(json_object_get(j, "nodes_failed")), 2);
}
END_TEST

START_TEST(the_rows_of_one_that_was_aborted)
{
        _cleanup_cluster_view_ struct cluster_view view = view_now();
        _cleanup_operation_ struct operation o = {};

        view.operation.phase = PHASE_IDLE;
        view.operation.result = CLUSTER_ABORTED;
        view.operation.ended = 800;
        strcpy(view.operation.reason, "aborted by root");
        ck_assert_int_eq(progress_of(&view, &view.operation, &o), 0);
        ck_assert_str_eq(states(&o), "DONE FAILED SKIPPED SKIPPED SKIPPED SKIPPED");
        ck_assert_str_eq(o.reason, "aborted by root");
        ck_assert_int_eq(o.result, RESULT_ABORTED);
        ck_assert_uint_eq(o.steps[1].end, 800);
}
END_TEST

START_TEST(the_rows_of_one_that_is_taken_back)
{
        _cleanup_cluster_view_ struct cluster_view view = {};
        _cleanup_operation_ struct operation o = {}, over = {};

        put_status("c1", "controller", 2, "", 12);
        put_status("e1", "engine", 1, "it is about to switch", 13);
        view = view_now();
        view.operation.phase = PHASE_TAKE_BACK;
        view.operation.epoch = 4;
        view.operation.lead = 10;
        view.operation.engines_at = 2010;
        strcpy(view.operation.reason, "c2 did not come up with version 2");
        ck_assert_int_eq(progress_of(&view, &view.operation, &o), 0);
        ck_assert_str_eq(states(&o), "DONE DONE DONE FAILED SKIPPED RUNNING");
        ck_assert_str_eq(message_of(&o, "SWITCH_CONTROLLERS"), "c2 did not come up with version 2");
        ck_assert_uint_eq(o.steps[3].end, 2000);
        ck_assert_str_eq(message_of(&o, "SWITCH_ENGINES"), "");
        ck_assert_str_eq(message_of(&o, "FINISH"), "1 of 3 nodes");
        ck_assert_uint_eq(o.steps[5].start, 2000);

        view.operation.phase = PHASE_IDLE;
        view.operation.result = CLUSTER_FAILED;
        view.operation.ended = 3000;
        ck_assert_int_eq(progress_of(&view, &view.operation, &over), 0);
        ck_assert_str_eq(states(&over), "DONE DONE DONE FAILED SKIPPED DONE");
        ck_assert_uint_eq(over.steps[5].end, 3000);
        ck_assert_int_eq(over.result, RESULT_FAILED);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("told");
        TCase *t = tcase_create("told");

        tcase_add_checked_fixture(t, setup, teardown);
        tcase_add_test(t, what_is_told_comes_back);
        tcase_add_test(t, who_joined_after_the_snapshot_is_not_asked);
        tcase_add_test(t, a_vote_and_an_order_are_told);
        tcase_add_test(t, a_node_hears_what_the_store_has_of_it);
        tcase_add_test(t, what_is_deleted_is_gone);
        tcase_add_loop_test(t, what_cannot_be_read_is_refused, 0, ARRAY_SIZE(bad));
        tcase_add_test(t, a_line_that_is_cut_is_refused);
        tcase_add_test(t, the_quickest_answer_counts);
        tcase_add_test(t, what_an_answer_was_kept_for_is_no_delay);
        tcase_add_test(t, what_another_machine_has_answered_is_dropped);
        tcase_add_test(t, the_rows_of_an_operation);
        tcase_add_test(t, the_rows_of_one_that_is_committed);
        tcase_add_test(t, the_rows_of_one_that_was_aborted);
        tcase_add_test(t, the_rows_of_one_that_is_taken_back);
        suite_add_tcase(s, t);
        return suite_run(s);
}
