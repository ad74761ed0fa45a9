/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a cluster writes down: bounds of every member, what is not known, ownership; transactions; what a store is read into.
 */
#include "cluster/view.h"

#include "cluster.h"

#define D1 "0101010101010101010101010101010101010101010101010101010101010101"
#define D2 "0202020202020202020202020202020202020202020202020202020202020202"
#define ID "0b0000000000000000000000000000ff"

static const char record_text[] = "{\"format\":1,\"minor\":0,\"epoch\":3,\"running\":{\"version\":\"1\",\"digest\":\"" D1
                                  "\"},\"previous\":null,\"previous_epoch\":1,\"finalized\":false,\"origin\":\"commit\","
                                  "\"operation\":\"" ID "\",\"written_usec\":7,\"fences\":[{\"from\":2,\"to\":2}]}";
static const char operation_text[] =
        "{\"format\":1,\"minor\":0,\"id\":\"" ID "\",\"kind\":\"ROLLBACK\",\"phase\":\"ENGINES\",\"result\":\"IN_PROGRESS\","
        "\"from\":{\"version\":\"2\",\"digest\":\"" D2 "\"},\"to\":{\"version\":\"1\",\"digest\":\"" D1
        "\"},\"epoch\":3,\"strict\":true,\"one_instant\":false,\"formed\":true,\"engines\":\"rolling\","
        "\"max_unavailable\":4,\"opened_usec\":1,"
        "\"ended_usec\":0,\"prepare_limit_usec\":2,\"switch_limit_usec\":3,\"lead_usec\":4,\"deadline_usec\":5,"
        "\"controllers_at_usec\":6,\"engines_at_usec\":0,\"reason\":\"\",\"requested_by\":\"ann\",\"before\":{\"format\":1,"
        "\"minor\":0,\"epoch\":2,\"running\":{\"version\":\"2\",\"digest\":\"" D2
        "\"},\"previous\":{\"version\":\"1\",\"digest\":\"" D1
        "\"},\"previous_epoch\":1,\"finalized\":false,\"origin\":\"commit\","
        "\"operation\":null,\"written_usec\":3,\"fences\":[]},\"stragglers\":[{\"name\":\"e1\",\"reason\":\"full\"}],"
        "\"stragglers_more\":2}";

static const struct sample {
        enum record_type type;
        const char *text;
} samples[] = {
        { RECORD_CLUSTER, record_text },
        { RECORD_OPERATION, operation_text },
        { RECORD_MEMBER, "{\"format\":1,\"minor\":0,\"name\":\"e-1.x\",\"role\":\"engine\",\"joined\":2,\"added_usec\":9,"
                         "\"address\":\"https://c1:8443\",\"key\":\"" D2 "\"}" },
        { RECORD_VOTE,
          "{\"format\":1,\"minor\":0,\"yes\":false,\"kind\":\"no-space\",\"message\":\"full\",\"clock_error_usec\":9}" },
        { RECORD_ORDER, "{\"format\":1,\"minor\":0,\"at_usec\":77}" },
        { RECORD_STATUS,
          "{\"format\":1,\"minor\":0,\"epoch\":3,\"settled\":true,\"confirmed\":true,\"running\":{\"version\":\"1\","
          "\"digest\":\"" D1 "\"},\"generation\":8,\"message\":\"\"}" },
        { RECORD_JOURNAL,
          "{\"format\":1,\"minor\":0,\"prepared\":\"" ID "\",\"prepared_revision\":4,\"over\":null,"
          "\"over_revision\":0,\"attempted\":2,\"attempted_generation\":7,\"reached\":2,\"staged\":\"" ID "\"}" },
};

static char *again(enum record_type type, const char *text)
{
        union any_record a, b;
        char *out;

        if (record_decode(type, text, strlen(text), &a, NULL) < 0)
                return NULL;
        ck_assert_int_eq(record_copy(type, &a, &b), 0);
        record_done(type, &a);
        out = record_encode(type, &b);
        record_done(type, &b);
        return out;
}

static bool same_json(const char *a, const char *b)
{
        json_t *x = json_loads(a, 0, NULL), *y = json_loads(b, 0, NULL);
        bool same = x && y && json_equal(x, y);

        json_decref(x);
        json_decref(y);
        return same;
}

START_TEST(every_kind_goes_round)
{
        const struct sample *s = &samples[_i];
        char *text = again(s->type, s->text);

        ck_assert_ptr_nonnull(text);
        ck_assert_msg(same_json(text, s->text), "%s", text);
        free(text);
}
END_TEST

/* The text with one member replaced, or taken out. */
static char *with(const char *text, const char *name, const char *value)
{
        json_t *o = json_loads(text, 0, NULL), *v = value ? json_loads(value, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL) : NULL;
        char *out;

        ck_assert_ptr_nonnull(o);
        ck_assert(!value || v);
        if (value)
                json_object_set_new(o, name, v);
        else
                json_object_del(o, name);
        out = json_dumps(o, JSON_COMPACT);
        json_decref(o);
        return out;
}

/* A newer program's members come back as they were, also those in the record that an operation keeps; and so does its minor.
 */
START_TEST(unknown_members_are_kept)
{
        const struct sample *s = &samples[_i];
        char *newer = with(s->text, "colour", "{\"deep\":[1,null]}"), *minor = with(newer, "minor", "7"),
             *text = again(s->type, minor);

        ck_assert_ptr_nonnull(text);
        ck_assert_msg(same_json(text, minor), "%s", text);
        free(text);
        free(minor);
        free(newer);
}
END_TEST

START_TEST(unknown_members_have_a_bound)
{
        const struct sample *s = &samples[_i];
        char *text = strdup(s->text), name[16];

        for (int i = 0; i <= CLUSTER_UNKNOWN_MAX; i++) {
                char *more, *out = again(s->type, text);

                ck_assert_ptr_nonnull(out);
                free(out);
                snprintf(name, sizeof(name), "x%d", i);
                more = with(text, name, "1");
                free(text);
                text = more;
        }
        ck_assert_ptr_null(again(s->type, text));
        free(text);
}
END_TEST

/* Every member of every kind: taken out, or with a value that it cannot have. What may miss is named here. */
START_TEST(every_member_is_checked)
{
        static const char *const may_miss[] = { "previous",   "operation", "fences",  "reason",  "requested_by",
                                                "stragglers", "kind",      "message", "running", "id",
                                                "prepared",   "over",      "address", "key",     "stragglers_more",
                                                "staged",     "formed",    NULL };
        static const char *const never[] = { "-1", "1.5", "[[]]", "{\"version\":\"1\"}", "\"\\u0000\"", "\"\\u001b\"" };
        const struct sample *s = &samples[_i];
        json_t *o = json_loads(s->text, 0, NULL), *v;
        const char *name;

        json_object_foreach(o, name, v)
        {
                bool optional = strstr(name, "_usec") != NULL;
                char *text = with(s->text, name, NULL), *out;

                for (size_t i = 0; may_miss[i]; i++)
                        optional = optional || streq(may_miss[i], name);
                out = again(s->type, text);
                ck_assert_msg(optional || !out, "without %s", name);
                free(out);
                free(text);
                for (size_t i = 0; i < ARRAY_SIZE(never); i++) {
                        text = with(s->text, name, never[i]);
                        ck_assert_msg(!(out = again(s->type, text)), "%s", text);
                        free(text);
                }
        }
        json_decref(o);
}
END_TEST

static const struct {
        int sample;
        const char *name, *value;
} refused[] = {
        { 0, "format", "2" },
        { 0, "epoch", "0" },
        { 0, "epoch", "4611686018427387905" },
        { 0, "previous_epoch", "3" },
        { 0, "fences", "[{\"from\":3,\"to\":2}]" },
        { 0, "running", "{\"version\":\"1 2\",\"digest\":\"" D1 "\"}" },
        { 0, "running", "{\"version\":\"1\",\"digest\":\"0101\"}" },
        { 0, "running", "null" },
        { 0, "origin", "\"magic\"" },
        { 1, "id", "null" },
        { 1, "kind", "\"NONE\"" },
        { 1, "kind", "\"ACTIVATE\"" },
        { 1, "phase", "\"PREPARE\"" }, /* and yet with an epoch */
        { 1, "phase", "\"IDLE\"" },    /* and yet without a result */
        { 1, "result", "\"DONE\"" },
        { 1, "epoch", "4" },
        { 1, "epoch", "0" },
        { 1, "max_unavailable", "10001" },
        { 1, "stragglers", "[{\"name\":\"../x\",\"reason\":\"\"}]" },
        { 1, "before", "{}" },
        { 2, "name", "\"\"" },
        { 2, "name", "\"a/b\"" },
        { 2, "name", "\"A\"" },
        { 2, "name", "\"-a\"" },
        { 2, "name", "\"a..b\"" },
        { 2, "role", "\"king\"" },
        { 3, "kind", "\"0123456789012345678901234567890123456789\"" },
        { 5, "generation", "4611686018427387905" },
        { 6, "prepared", "\"00\"" },
};

START_TEST(values_out_of_bounds_are_refused)
{
        const struct sample *s = &samples[refused[_i].sample];
        char *text = with(s->text, refused[_i].name, refused[_i].value);
        union any_record a, before;
        struct error e = {};
        int r;

        memset(&a, 0x5a, sizeof(a));
        before = a;
        r = record_decode(s->type, text, strlen(text), &a, &e);
        ck_assert_msg(r < 0, "%s", text);
        ck_assert_int_eq(r == -EPROTONOSUPPORT, streq(refused[_i].name, "format"));
        ck_assert_ptr_nonnull(e.message);
        ck_assert_msg(memcmp(&a, &before, sizeof(a)) == 0, "the output was touched");
        error_done(&e);
        free(text);
}
END_TEST

START_TEST(broken_text_is_refused)
{
        const char *text = samples[_i].text;
        char *large = calloc(1, CLUSTER_VALUE_MAX + 2);
        union any_record a;

        for (size_t n = 0; n < strlen(text); n++)
                ck_assert_int_lt(record_decode(samples[_i].type, text, n, &a, NULL), 0);
        memset(large, ' ', CLUSTER_VALUE_MAX + 1);
        memcpy(large, text, strlen(text));
        ck_assert_int_eq(record_decode(samples[_i].type, large, CLUSTER_VALUE_MAX + 1, &a, NULL), -E2BIG);
        free(large);
}
END_TEST

START_TEST(fences_are_ranges)
{
        struct cluster_record r = {};

        ck_assert(!cluster_record_fences(&r, 0));
        ck_assert_int_eq(cluster_record_add_fence(&r, 3, 4), 0);
        ck_assert_int_eq(cluster_record_add_fence(&r, 5, 5), 0); /* touches it */
        ck_assert_uint_eq(r.n_fences, 1);
        ck_assert_int_eq(cluster_record_add_fence(&r, 8, 8), 0);
        ck_assert_uint_eq(r.n_fences, 2);
        for (uint64_t epoch = 0; epoch < 12; epoch++)
                ck_assert_int_eq(cluster_record_fences(&r, epoch), (epoch >= 3 && epoch <= 5) || epoch == 8);
        for (uint64_t i = 2; i < CLUSTER_FENCES_MAX; i++)
                ck_assert_int_eq(cluster_record_add_fence(&r, 10 * i, 10 * i), 0);
        ck_assert_int_eq(cluster_record_add_fence(&r, 9000, 9001), -ENOSPC);
}
END_TEST

START_TEST(plans_have_bounds)
{
        const struct order order = { .at = 1 };
        const struct cluster_operation nameless = { .kind = OPERATION_ROLLBACK };
        struct plan p = {};
        struct error e = {};

        for (int i = 0; i < STORE_WRITES; i++)
                plan_put(&p, RECORD_ORDER, &order, "k%d", i);
        ck_assert_int_eq(plan_failed(&p, NULL), 0);
        plan_delete(&p, true, "k");
        ck_assert_int_eq(plan_failed(&p, NULL), -E2BIG);
        plan_done(&p);
        plan_compare(&p, STORE_ABSENT, 0, "%0*d", STORE_KEY_MAX + 1, 1);
        ck_assert_int_eq(plan_failed(&p, NULL), -EINVAL);
        plan_done(&p);
        for (int i = 0; i <= PLAN_COMPARES_MAX; i++)
                plan_compare(&p, STORE_ABSENT, 0, "k");
        ck_assert_int_eq(plan_failed(&p, NULL), -E2BIG);
        plan_done(&p);
        /* What nobody could read would stand there for ever. */
        plan_put(&p, RECORD_OPERATION, &nameless, KEY_OPERATION);
        ck_assert_int_eq(plan_failed(&p, &e), -EINVAL);
        ck_assert_ptr_nonnull(e.message);
        ck_assert_uint_eq(plan_txn(&p).n_writes, 0);
        error_done(&e);
        plan_done(&p);
}
END_TEST

static int add(struct cluster_view *view, const char *key, int sample)
{
        const char *text = samples[sample].text;

        return cluster_view_add(view, key, text, strlen(text), 5, NULL);
}

START_TEST(a_view_takes_what_belongs_together)
{
        struct cluster_view view = {};
        struct cluster_node *n;

        ck_assert_int_eq(add(&view, "bootmgr/log/3", 0), 0);
        ck_assert_int_eq(add(&view, KEY_DELETED, 2), 0);
        ck_assert_int_eq(add(&view, KEY_NODES "e-1.x", 2), 0);
        ck_assert_int_lt(add(&view, KEY_NODES "e-1.x", 2), 0); /* twice */
        ck_assert_int_lt(add(&view, KEY_NODES "other", 2), 0); /* under another's name */
        ck_assert_int_eq(add(&view, KEY_OPERATION, 1), 0);
        ck_assert_int_lt(add(&view, KEY_OPERATION, 1), 0);
        ck_assert_int_eq(add(&view, KEY_ORDERS ID "/e-1.x", 4), 0);
        ck_assert_int_eq(add(&view, KEY_ORDERS "0c0000000000000000000000000000ff/e-1.x", 4), 0);
        ck_assert_int_eq(add(&view, KEY_RECORD, 0), 0);
        ck_assert_int_eq(add(&view, KEY_STATUS "controller/e-1.x", 5), 0); /* it is an engine */
        n = cluster_view_node(&view, "e-1.x");
        ck_assert_ptr_nonnull(n);
        ck_assert(!n->has_status && !n->voted);
        ck_assert_int_eq(add(&view, KEY_STATUS "engine/e-1.x", 5), 0);
        ck_assert_int_eq(add(&view, KEY_STATUS "engine/nobody", 5), 0);
        ck_assert_int_eq(add(&view, KEY_VOTES "0c0000000000000000000000000000ff/e-1.x", 3), 0);
        ck_assert(!n->voted);
        ck_assert_int_eq(add(&view, KEY_VOTES ID "/e-1.x", 3), 0);
        ck_assert_int_eq(add(&view, "bootmgr/zebra", 0), 0);
        ck_assert(n->voted && !n->vote.yes && n->has_status && n->order == 77);
        ck_assert(node_is_fenced(&view, n) && node_has_reached(&view, n) && !node_has_left(&view, n) && !node_decides(n));
        ck_assert_ptr_null(cluster_view_node(&view, "nobody"));
        ck_assert(operation_is_open(&view) && view.operation_revision == 5);
        cluster_view_done(&view);
}
END_TEST

START_TEST(words_go_round)
{
        enum node_role role;

        for (int i = 0; i < _NODE_ROLE_MAX; i++) {
                ck_assert_int_eq(node_role_from_string(node_role_to_string((enum node_role)i), &role), 0);
                ck_assert_int_eq(role, i);
        }
        ck_assert_int_eq(node_role_from_string("king", &role), -EINVAL);
        for (int i = 0; i < _PHASE_MAX; i++)
                ck_assert_uint_gt(strlen(cluster_phase_to_string((enum cluster_phase)i)), 0);
        for (int i = 0; i < _CLUSTER_RESULT_MAX; i++)
                ck_assert_uint_gt(strlen(cluster_result_to_string((enum cluster_result)i)), 0);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("cluster-record");
        TCase *t = tcase_create("cluster-record");
        int n = ARRAY_SIZE(samples);

        tcase_add_loop_test(t, every_kind_goes_round, 0, n);
        tcase_add_loop_test(t, unknown_members_are_kept, 0, n);
        tcase_add_loop_test(t, unknown_members_have_a_bound, 0, n);
        tcase_add_loop_test(t, every_member_is_checked, 0, n);
        tcase_add_loop_test(t, values_out_of_bounds_are_refused, 0, ARRAY_SIZE(refused));
        tcase_add_loop_test(t, broken_text_is_refused, 0, n);
        tcase_add_test(t, fences_are_ranges);
        tcase_add_test(t, plans_have_bounds);
        tcase_add_test(t, a_view_takes_what_belongs_together);
        tcase_add_test(t, words_go_round);
        suite_add_tcase(s, t);
        return suite_run(s);
}
