/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a store keeps of operations and requests that are over, and of epochs: the newest, and what is still needed. */
#include "cluster/prune.h"

#include "base/buf.h"
#include "cluster/once.h"
#include "scratch.h"
#include "slot/kinds.h"
#include "suite.h"

static struct store *store;

static void write_all(const struct plan *plan)
{
        struct store_txn txn = plan_txn(plan);
        struct store_reply reply = {};

        ck_assert_int_eq(plan->failed, 0);
        ck_assert_int_eq(store_commit_wait(store, &txn, &reply, NULL), 0);
        ck_assert(reply.done);
}

/* Keys PREFIX + 32 digits, from `first` on. The numbers of later ones are lower: no order but that of the revisions. */
static void fill(const char *prefix, unsigned first, unsigned n)
{
        for (unsigned i = 0; i < n;) {
                _cleanup_plan_ struct plan plan = {};
                unsigned end = i < 5 ? i + 1 : MIN(n, i + STORE_WRITES);

                for (; i < end; i++)
                        plan_put_text(&plan, "{\"format\":1,\"minor\":0,\"verb\":\"abort\"}", "%s%032u", prefix,
                                      99999 - first - i);
                write_all(&plan);
        }
}

static bool is_there(const char *prefix, unsigned number)
{
        char *key = NULL;
        struct store_reply reply = {};
        bool there;

        ck_assert_int_gt(asprintf(&key, "%s%032u", prefix, 99999 - number), 0);
        ck_assert_int_eq(store_range_wait(store, &(struct store_range){ .key = key }, &reply, NULL), 0);
        there = reply.n_entries == 1;
        store_reply_done(&reply);
        free(key);
        return there;
}

static size_t count(const char *prefix)
{
        struct store_reply reply = {};
        const struct store_range range = { .key = prefix, .prefix = true, .keys_only = true };
        size_t n;

        ck_assert_int_eq(store_range_wait(store, &range, &reply, NULL), 0);
        n = reply.n_entries;
        for (size_t i = 0; i < n; i++)
                ck_assert_uint_eq(reply.entries[i].size, 0);
        store_reply_done(&reply);
        return n;
}

/* As an operation is opened over this view, and closed. */
static void open_and_close(const struct cluster_view *view, unsigned number)
{
        _cleanup_plan_ struct plan plan = {};

        ck_assert_int_eq(prune_history(store, view, &plan, NULL), 0);
        plan_put_text(&plan, "{}", KEY_HISTORY "%032u", 99999 - number);
        write_all(&plan);
}

START_TEST(the_history_has_an_end)
{
        const struct cluster_view view = {};

        fill(KEY_HISTORY, 0, 98);
        open_and_close(&view, 98);
        ck_assert_uint_eq(count(KEY_HISTORY), 99);
        open_and_close(&view, 99);
        ck_assert_uint_eq(count(KEY_HISTORY), 100);
        ck_assert(is_there(KEY_HISTORY, 0)); /* the hundredth back */
        open_and_close(&view, 100);
        ck_assert_uint_eq(count(KEY_HISTORY), 100);
        ck_assert(!is_there(KEY_HISTORY, 0) && is_there(KEY_HISTORY, 1) && is_there(KEY_HISTORY, 100));
}
END_TEST

START_TEST(what_wrote_the_record_stays)
{
        struct cluster_view view = {};

        fill(KEY_HISTORY, 0, 101);
        ck_assert_int_eq(hex_decode("00000000000000000000000000099999", view.record.operation, CLUSTER_ID_SIZE), 0);
        open_and_close(&view, 101);
        ck_assert(is_there(KEY_HISTORY, 0) && !is_there(KEY_HISTORY, 1));
        view = (struct cluster_view){};
        open_and_close(&view, 102);
        ck_assert(!is_there(KEY_HISTORY, 0)); /* another operation has */
}
END_TEST

/* One that has grown under an older bootmgr. */
START_TEST(what_is_far_too_much_goes_bit_by_bit)
{
        const struct cluster_view view = {};

        fill(KEY_HISTORY, 0, 250);
        open_and_close(&view, 250);
        ck_assert_uint_eq(count(KEY_HISTORY), 250 + 1 - 64);
        ck_assert(!is_there(KEY_HISTORY, 0) && is_there(KEY_HISTORY, 249));
        open_and_close(&view, 251);
        open_and_close(&view, 252);
        ck_assert_uint_eq(count(KEY_HISTORY), 100);
        ck_assert(!is_there(KEY_HISTORY, 4) && is_there(KEY_HISTORY, 252));
}
END_TEST

static int decide_nothing(const struct cluster_view *view, struct plan *plan, void *userdata, struct error *e)
{
        return 0;
}

static void ask(struct once *o, unsigned number)
{
        const struct cluster_view view = {};
        _cleanup_plan_ struct plan plan = {};
        char id[CLUSTER_ID_TEXT_SIZE];

        snprintf(id, sizeof(id), "%032u", 99999 - number);
        ck_assert_int_eq(hex_decode(id, o->id, sizeof(o->id)), 0);
        ck_assert_int_eq(once_decide(&view, &plan, o, NULL), 0);
        if (plan.n_writes > 0)
                write_all(&plan);
}

START_TEST(so_have_the_ids_of_requests)
{
        struct once o = { .store = store, .verb = "abort", .decide = decide_nothing };

        fill(KEY_REQUESTS, 0, 999);
        ask(&o, 999);
        ask(&o, 0); /* it is known, and nothing is written */
        ck_assert_uint_eq(count(KEY_REQUESTS), 1000);
        ask(&o, 1000);
        ck_assert_uint_eq(count(KEY_REQUESTS), 1000);
        ck_assert(!is_there(KEY_REQUESTS, 0) && is_there(KEY_REQUESTS, 1) && is_there(KEY_REQUESTS, 1000));
        for (unsigned i = 1; i <= 1000; i += 111)
                ck_assert_int_eq(once_find(store, o.id, "abort", NULL), 1);
        o.verb = "finalize";
        ck_assert_int_eq(once_find(store, o.id, "finalize", NULL), -EEXIST);
}
END_TEST

START_TEST(so_has_the_log)
{
        _cleanup_plan_ struct plan few = {}, many = {};

        prune_log(1000, &few);
        ck_assert_uint_eq(few.n_writes, 0);
        prune_log(1001, &many);
        ck_assert_uint_eq(many.n_writes, 1);
        ck_assert(many.writes[0].delete &&!many.writes[0].prefix);
        ck_assert_str_eq(many.writes[0].key, KEY_LOG "00000000000000000001");
}
END_TEST

static void setup(void)
{
        scratch_begin();
        ck_assert_int_eq(store_open_local(".", NULL, &store, NULL), 0);
}

static void teardown(void)
{
        store = store_close(store);
        scratch_end();
}

int main(void)
{
        Suite *s = suite_create("prune");
        TCase *t = tcase_create("newest");

        tcase_set_timeout(t, 120);
        tcase_add_checked_fixture(t, setup, teardown);
        tcase_add_test(t, the_history_has_an_end);
        tcase_add_test(t, what_wrote_the_record_stays);
        tcase_add_test(t, what_is_far_too_much_goes_bit_by_bit);
        tcase_add_test(t, so_have_the_ids_of_requests);
        tcase_add_test(t, so_has_the_log);
        suite_add_tcase(s, t);
        return suite_run(s);
}
