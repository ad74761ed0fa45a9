/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is asked of a controller: operations, membership, votes; what is refused, and what is written. */
#include "cluster/request.h"

#include "coordinator-case.h"
#include "slot/kinds.h"

static const struct open_request rollback = { .id = { 9 }, .kind = OPERATION_ROLLBACK };

static const struct error_kind *refused(const struct open_request *request)
{
        struct error e = {};
        const struct error_kind *kind = request_check(&view, request, &e) < 0 ? e.kind : NULL;

        error_done(&e);
        return kind;
}

/* One that is dead says nothing any more: without a way out nothing could ever be opened. */
START_TEST(who_keeps_it_back_is_named_with_the_way_out)
{
        const struct open_request upgrade = { .kind = OPERATION_UPGRADE, .to = version(3) };
        struct error e = {};

        view.nodes[1].has_status = false;
        ck_assert_int_eq(request_check(&view, &upgrade, &e), -EAGAIN);
        ck_assert_ptr_eq(e.kind, &kind_unhealthy);
        ck_assert_ptr_nonnull(e.hint);
        ck_assert_ptr_nonnull(strstr(e.hint, "bootmgr node delete c1"));
        error_done(&e);
}
END_TEST

START_TEST(opening_is_refused_with_its_reason)
{
        struct open_request upgrade = { .id = { 8 }, .kind = OPERATION_UPGRADE, .to = version(2) };

        ck_assert_ptr_null(refused(&rollback));
        ck_assert_ptr_eq(refused(&upgrade), &kind_failed); /* it runs already */
        view.record.finalized = true;
        ck_assert_ptr_eq(refused(&rollback), &kind_finalized);
        view.record.finalized = false;
        view.nodes[1].member.joined = 4;
        ck_assert_ptr_eq(refused(&rollback), &kind_joined_after_snapshot);
        view.nodes[1].member.joined = 3;
        settle(1, 1);
        ck_assert_ptr_eq(refused(&rollback), &kind_unhealthy);
        settle(1, 2);
        view.record.previous = (struct version_id){};
        ck_assert_ptr_eq(refused(&rollback), &kind_no_previous);
        open_in(OPERATION_UPGRADE, PHASE_PREPARE);
        ck_assert_ptr_eq(refused(&rollback), &kind_busy);
}
END_TEST

START_TEST(a_controller_that_is_fenced_decides_nothing)
{
        struct error e = {};

        view.nodes[1].member.joined = 4;
        ck_assert_int_eq(request_control(&view, "c1", NULL), 0);
        ck_assert_int_eq(cluster_record_add_fence(&view.record, 4, 5), 0);
        ck_assert_int_eq(request_control(&view, "c1", &e), -EPERM);
        ck_assert_ptr_eq(e.kind, &kind_joined_after_snapshot);
        ck_assert_int_eq(request_control(&view, "c0", NULL), 0);
        view.nodes[0].member.joined = view.nodes[2].member.joined = 5;
        ck_assert_int_eq(request_control(&view, "c1", NULL), 0); /* no other is left */
        error_done(&e);
}
END_TEST

/* Else one that is fenced would have everything back once it is deleted. */
START_TEST(a_controller_that_was_deleted_decides_nothing)
{
        const char *const former[] = { "nobody", "e3" }; /* or joined anew as an engine */
        _cleanup_error_ struct error e = {};

        ck_assert_int_eq(request_control(&view, former[_i], &e), -EPERM);
        ck_assert_ptr_eq(e.kind, &kind_not_authorized);
        ck_assert_ptr_nonnull(e.hint);
        ck_assert_ptr_nonnull(strstr(e.hint, "bootmgr cluster token --role controller"));
        view.record_revision = 0; /* the first, before it is a member */
        ck_assert_int_eq(request_control(&view, former[_i], NULL), 0);
}
END_TEST

START_TEST(opening_is_idempotent_by_its_id)
{
        _cleanup_plan_ struct plan p = {}, q = {};

        ck_assert_int_eq(request_open(&view, &rollback, 7, &p, NULL), 0);
        ck_assert(compares(&p, STORE_ABSENT, KEY_OPERATION, 0));
        ck_assert(compares(&p, STORE_ABSENT, KEY_HISTORY "09000000000000000000000000000000", 0));
        ck_assert(compares(&p, STORE_QUIET, KEY_NODES, 50) && write_of(&p, KEY_OPERATION));
        open_in(OPERATION_ROLLBACK, PHASE_CONTROLLERS);
        ck_assert_int_eq(request_open(&view, &rollback, 8, &q, NULL), 0);
        ck_assert_uint_eq(q.n_writes, 0);
}
END_TEST

/* An engine of that name with that key joins. */
static int join(const char *name, uint8_t key, struct plan *p, struct error *e)
{
        struct member who = { .role = ROLE_ENGINE, .key = { key } };

        strcpy(who.name, name);
        return request_join(&view, &who, 1, p, e);
}

START_TEST(membership_is_frozen_while_an_operation_is_open)
{
        _cleanup_plan_ struct plan p = {}, q = {}, s = {};

        ck_assert_int_eq(join("e6", 1, &p, NULL), 0);
        ck_assert(compares(&p, STORE_ABSENT, KEY_OPERATION, 0) && compares(&p, STORE_REVISION, KEY_RECORD, 40));
        ck_assert_int_eq(request_delete(&view, "e5", &q, NULL), 0);
        ck_assert(compares(&q, STORE_ABSENT, KEY_OPERATION, 0));
        ck_assert(write_of(&q, KEY_NODES "e5") && write_of(&q, KEY_STATUS "engine/e5"));
        ck_assert_ptr_nonnull(write_of(&q, KEY_DELETED)); /* whoever counted it fails */
        open_in(OPERATION_ROLLBACK, PHASE_PREPARE);
        ck_assert_int_eq(join("e6", 1, &s, NULL), -EBUSY);
        ck_assert_int_eq(request_delete(&view, "e5", &s, NULL), -EBUSY);
        ck_assert_int_eq(request_finalize(&view, 1, &s, NULL), -EBUSY);
        ck_assert_int_eq(join("e4", 0, &s, NULL), 0); /* is there already */
        ck_assert_int_eq(join("../x", 1, &s, NULL), -EINVAL);
        ck_assert_uint_eq(s.n_writes, 0);
}
END_TEST

START_TEST(a_name_belongs_to_a_key)
{
        struct member who = { .name = "e4", .role = ROLE_CONTROLLER, .key = { 7 } };
        _cleanup_plan_ struct plan p = {};
        _cleanup_error_ struct error e = {};

        memcpy(view.nodes[4].member.key, who.key, sizeof(who.key));
        ck_assert_int_eq(join("e4", 7, &p, NULL), 0);
        ck_assert_int_eq(join("e4", 8, &p, &e), -EEXIST);
        ck_assert_ptr_eq(e.kind, &kind_usage);
        ck_assert_ptr_nonnull(e.hint);
        ck_assert_int_eq(request_join(&view, &who, 1, &p, NULL), -EEXIST); /* with another role */
        ck_assert_uint_eq(p.n_writes, 0);
        who = (struct member){ .name = "c9", .role = ROLE_CONTROLLER, .address = "https://c9:1", .key = { 7 } };
        error_done(&e);
        ck_assert_int_eq(request_join(&view, &who, 1, &p, &e), -E2BIG); /* there are three */
        ck_assert_ptr_eq(e.kind, &kind_usage);
        ck_assert_uint_eq(p.n_writes, 0);
        view.nodes[2].member.role = ROLE_ENGINE;
        ck_assert_int_eq(request_join(&view, &who, 1, &p, NULL), 0);
        ck_assert_ptr_nonnull(strstr(write_of(&p, KEY_NODES "c9")->value, "\"address\":\"https://c9:1\""));
        ck_assert_ptr_nonnull(strstr(write_of(&p, KEY_NODES "c9")->value, "\"key\":\"0700"));
}
END_TEST

START_TEST(a_node_is_let_in_by_its_key)
{
        const uint8_t key[DIGEST_SIZE] = { 7 }, other[DIGEST_SIZE] = { 8 };
        const struct cluster_node *n = NULL;
        _cleanup_error_ struct error e = {};

        ck_assert_int_eq(request_admit_key(&view, "e4", other, &n, NULL), 0); /* it was made by hand: no key is known */
        memcpy(view.nodes[4].member.key, key, sizeof(key));
        ck_assert_int_eq(request_admit_key(&view, "e4", key, &n, NULL), 0);
        ck_assert_ptr_eq(n, &view.nodes[4]);
        ck_assert_int_lt(request_admit_key(&view, "e4", other, &n, &e), 0);
        ck_assert_ptr_eq(e.kind, &kind_not_authorized);
        ck_assert_int_lt(request_admit_key(&view, "nobody", key, &n, NULL), 0);
}
END_TEST

START_TEST(a_fenced_node_is_told_so)
{
        const struct vote yes = { .yes = true };
        _cleanup_plan_ struct plan p = {};
        _cleanup_error_ struct error e = {};

        open_in(OPERATION_ROLLBACK, PHASE_CONTROLLERS);
        ck_assert_int_eq(request_status(&view, "e5", &view.nodes[5].status, &p, &e), -EPERM);
        ck_assert_ptr_eq(e.kind, &kind_joined_after_snapshot);
        ck_assert_ptr_nonnull(e.hint);
        ck_assert_int_eq(request_vote(&view, "e5", view.operation.id, &yes, &p, NULL), -EPERM);
        ck_assert_int_eq(join("e5", 0, &p, NULL), -EPERM);
        ck_assert_int_eq(request_status(&view, "nobody", &view.nodes[5].status, &p, NULL), -ENOENT);
        ck_assert_uint_eq(p.n_writes, 0);
}
END_TEST

START_TEST(a_status_is_of_the_epoch_or_comes_again)
{
        struct member_status status = view.nodes[3].status;
        _cleanup_plan_ struct plan p = {}, q = {};
        _cleanup_error_ struct error e = {};

        status.epoch = view.record.epoch - 1;
        ck_assert_int_eq(request_status(&view, "e3", &status, &q, NULL), 0);
        status.epoch = view.record.epoch + 1;
        ck_assert_int_eq(request_status(&view, "e3", &status, &q, &e), -EAGAIN);
        ck_assert_ptr_eq(e.kind, &kind_store);
        ck_assert_uint_eq(q.n_writes, 0);
        status.epoch = view.record.epoch;
        ck_assert_int_eq(request_status(&view, "e3", &status, &p, NULL), 0);
        ck_assert_uint_eq(p.n_writes, 1);
}
END_TEST

START_TEST(a_vote_is_written_once_and_only_in_time)
{
        const struct vote yes = { .yes = true };
        const uint8_t other[CLUSTER_ID_SIZE] = { 1 };
        _cleanup_plan_ struct plan p = {}, q = {};
        _cleanup_error_ struct error e = {};

        open_in(OPERATION_ROLLBACK, PHASE_PREPARE);
        ck_assert_int_eq(request_vote(&view, "e3", view.operation.id, &yes, &p, NULL), 0);
        ck_assert(compares(&p, STORE_REVISION, KEY_OPERATION, 45) && compares(&p, STORE_ABSENT, VOTES_9 "e3", 0));
        /* An operation that another controller has opened, as far as can be told here. */
        ck_assert_int_eq(request_vote(&view, "e3", other, &yes, &q, &e), -EAGAIN);
        ck_assert_ptr_eq(e.kind, &kind_store);
        vote(3, false);
        ck_assert_int_eq(request_vote(&view, "e3", view.operation.id, &yes, &q, NULL), 0);
        view.operation.phase = PHASE_CONTROLLERS;
        ck_assert_int_eq(request_vote(&view, "e4", view.operation.id, &yes, &q, NULL), 0);
        ck_assert_int_eq(request_abort(&view, "ann", 1, &q, NULL), -EBUSY); /* the way is forward */
        memcpy(view.record.operation, other, sizeof(other));
        ck_assert_int_eq(request_vote(&view, "e4", other, &yes, &q, NULL), 0); /* decided */
        ck_assert_uint_eq(q.n_writes, 0);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("cluster-request");
        TCase *t = tcase_create("cluster-request");

        tcase_add_checked_fixture(t, setup, teardown);
        tcase_add_test(t, who_keeps_it_back_is_named_with_the_way_out);
        tcase_add_test(t, opening_is_refused_with_its_reason);
        tcase_add_test(t, a_controller_that_is_fenced_decides_nothing);
        tcase_add_loop_test(t, a_controller_that_was_deleted_decides_nothing, 0, 2);
        tcase_add_test(t, opening_is_idempotent_by_its_id);
        tcase_add_test(t, membership_is_frozen_while_an_operation_is_open);
        tcase_add_test(t, a_name_belongs_to_a_key);
        tcase_add_test(t, a_node_is_let_in_by_its_key);
        tcase_add_test(t, a_fenced_node_is_told_so);
        tcase_add_test(t, a_status_is_of_the_epoch_or_comes_again);
        tcase_add_test(t, a_vote_is_written_once_and_only_in_time);
        suite_add_tcase(s, t);
        return suite_run(s);
}
