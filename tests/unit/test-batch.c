/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What many nodes say at once, over a local store: it is there, in few transactions, and one whose compares do not hold
 * stands in nobody's way. */
#include "daemon/cluster.h"

#include "cluster.h"
#include "scratch.h"

#define WORDS 500

static sd_event *event;
static struct cluster c;
static int results[WORDS];
static unsigned answered, alone;

/* The daemon's own; here it counts. */
struct waiting {
        control_made made;
        void *userdata;
        struct plan plan;
};

static void on_alone(int result, const struct store_reply *reply, const struct error *e, void *userdata)
{
        struct waiting *w = userdata;

        w->made(&c, result < 0 ? result : reply->done ? 0 : -EAGAIN, e, w->userdata);
        plan_done(&w->plan);
        free(w);
}

void control_commit(struct cluster *cluster, struct plan *plan, control_made made, void *userdata)
{
        struct waiting *w = calloc(1, sizeof(*w));
        struct store_txn txn;

        alone++;
        *w = (struct waiting){ made, userdata, TAKE(*plan, (struct plan){}) };
        txn = plan_txn(&w->plan);
        ck_assert_int_eq(store_commit(cluster->store, &txn, on_alone, w, NULL, NULL), 0);
}

static void made(struct cluster *cluster, int result, const struct error *e, void *userdata)
{
        *(int *)userdata = result;
        answered++;
}

/* Of node `i`: its order, of which the key says whose it is. A compare of revision 99 does not hold. */
static void say(unsigned i, uint64_t at, uint64_t revision)
{
        const struct order order = { .at = at };
        struct plan plan = {};

        plan_compare(&plan, revision ? STORE_REVISION : STORE_ABSENT, revision, KEY_OPERATION);
        plan_compare(&plan, STORE_ABSENT, 0, KEY_ORDERS "01/other%u", i);
        plan_put(&plan, RECORD_ORDER, &order, KEY_ORDERS "01/e%05u", i);
        ck_assert_int_eq(plan_failed(&plan, NULL), 0);
        results[i] = 1; /* no answer yet */
        control_commit_together(&c, &plan, made, &results[i]);
}

static void run(unsigned n)
{
        while (answered < n)
                ck_assert_int_ge(sd_event_run(event, UINT64_MAX), 0);
        ck_assert(!control_is_writing(&c));
}

static uint64_t value_of(unsigned i)
{
        _cleanup_reply_ struct store_reply reply = {};
        _cleanup_store_ struct store *s = NULL;
        char key[64];
        union any_record order;
        uint64_t at;

        snprintf(key, sizeof(key), KEY_ORDERS "01/e%05u", i);
        ck_assert_int_eq(store_open_local(".", NULL, &s, NULL), 0);
        ck_assert_int_eq(store_range_wait(s, &(struct store_range){ .key = key }, &reply, NULL), 0);
        if (reply.n_entries == 0)
                return 0;
        ck_assert_int_eq(record_decode(RECORD_ORDER, reply.entries[0].value, reply.entries[0].size, &order, NULL), 0);
        at = order.order.at;
        record_done(RECORD_ORDER, &order);
        return at;
}

static uint64_t revision(void)
{
        _cleanup_reply_ struct store_reply reply = {};
        _cleanup_store_ struct store *s = NULL;

        ck_assert_int_eq(store_open_local(".", NULL, &s, NULL), 0);
        ck_assert_int_eq(store_range_wait(s, &(struct store_range){ .key = "none" }, &reply, NULL), 0);
        return reply.revision;
}

START_TEST(many_words_are_few_transactions)
{
        uint64_t before = revision();

        for (unsigned i = 0; i < WORDS; i++)
                say(i, i + 1, 0);
        run(WORDS);
        for (unsigned i = 0; i < WORDS; i++) {
                ck_assert_int_eq(results[i], 0);
                ck_assert_uint_eq(value_of(i), i + 1);
        }
        ck_assert_uint_eq(alone, 0);
        ck_assert_uint_le(revision() - before, 2 + WORDS / (STORE_COMPARES - 1));
        ck_assert_uint_ge(c.written, revision());
}
END_TEST

START_TEST(one_that_does_not_hold_stands_in_nobodys_way)
{
        for (unsigned i = 0; i < 20; i++)
                say(i, 5, i == 7 ? 99 : 0);
        run(20);
        for (unsigned i = 0; i < 20; i++) {
                ck_assert_int_eq(results[i], i == 7 ? -EAGAIN : 0);
                ck_assert_uint_eq(value_of(i), i == 7 ? 0 : 5);
        }
}
END_TEST

/* A key that nobody compares with another revision, but that is there already: the whole transaction fails, each word does
 * not. */
START_TEST(a_batch_that_fails_is_made_word_by_word)
{
        const struct store_write there = { .key = KEY_ORDERS "01/other3", .value = "x", .size = 1 };
        _cleanup_store_ struct store *s = NULL;
        struct store_reply reply = {};

        ck_assert_int_eq(store_open_local(".", NULL, &s, NULL), 0);
        ck_assert_int_eq(store_commit_wait(s, &(struct store_txn){ NULL, 0, &there, 1 }, &reply, NULL), 0);
        store_reply_done(&reply);
        for (unsigned i = 0; i < 8; i++)
                say(i, 5, 0);
        run(8);
        for (unsigned i = 0; i < 8; i++)
                ck_assert_int_eq(results[i], i == 3 ? -EAGAIN : 0);
        ck_assert_uint_gt(alone, 1);
}
END_TEST

START_TEST(what_a_node_says_last_is_there_last)
{
        for (unsigned k = 1; k <= 5; k++)
                say(1, k, 0);
        run(5);
        ck_assert_uint_eq(value_of(1), 5);
}
END_TEST

START_TEST(what_waits_is_dropped_at_the_end)
{
        for (unsigned i = 0; i < WORDS; i++)
                say(i, 1, 0);
        c.store = store_close(c.store);
        batch_done(&c);
        ck_assert(!control_is_writing(&c));
}
END_TEST

static void setup(void)
{
        scratch_begin();
        c = (struct cluster){};
        answered = alone = 0;
        ck_assert_int_ge(sd_event_new(&event), 0);
        ck_assert_int_eq(store_open_local(".", event, &c.store, NULL), 0);
}

static void teardown(void)
{
        store_close(c.store);
        sd_event_unref(event);
        scratch_end();
}

int main(void)
{
        Suite *s = suite_create("batch");
        TCase *t = tcase_create("words");

        tcase_set_timeout(t, 120);
        tcase_add_checked_fixture(t, setup, teardown);
        tcase_add_test(t, many_words_are_few_transactions);
        tcase_add_test(t, one_that_does_not_hold_stands_in_nobodys_way);
        tcase_add_test(t, a_batch_that_fails_is_made_word_by_word);
        tcase_add_test(t, what_a_node_says_last_is_there_last);
        tcase_add_test(t, what_waits_is_dropped_at_the_end);
        suite_add_tcase(s, t);
        return suite_run(s);
}
