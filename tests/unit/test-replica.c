/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A view that is kept up to date value by value is the one that reading everything would make: after thousands of random
 * changes, of every kind of key, one by one and many at once. */
#include "base/buf.h"
#include "cluster/replica.h"
#include "cluster/told.h"
#include "cluster.h"

#define MEMBERS 6
#define BATCH   8
#define ROUNDS  4000
#define ID_TEXT "0%u000000000000000000000000000000"

static struct replica replica;
static struct cluster_view kept;
static uint64_t revision;
static unsigned seed;

static unsigned draw(unsigned below)
{
        seed = seed * 1103515245 + 12345;
        return (seed >> 16) % below;
}

/* One change, to be applied with others. */
struct one {
        struct store_entry entry;
        struct store_change change;
        char key[128];
};

static void set(struct one *o, enum record_type type, const void *record)
{
        free((void *)o->entry.value);
        o->entry.value = record_encode(type, record);
        ck_assert_ptr_nonnull(o->entry.value);
        o->entry.size = strlen(o->entry.value);
}

static void draw_member(struct one *o, unsigned i)
{
        struct member m = { .role = i < 2 ? ROLE_CONTROLLER : ROLE_ENGINE, .joined = draw(4) };

        snprintf(m.name, sizeof(m.name), "m%u", i);
        snprintf(m.address, sizeof(m.address), i < 2 ? "https://m%u:%u" : "", i, 8443 + draw(2));
        snprintf(o->key, sizeof(o->key), KEY_NODES "m%u", i);
        set(o, RECORD_MEMBER, &m);
}

static void draw_operation(struct one *o)
{
        struct cluster_operation op = { .id = { (uint8_t)(1 + draw(2)) },
                                        .kind = OPERATION_ROLLBACK,
                                        .phase = PHASE_PREPARE,
                                        .from = version(2),
                                        .to = version(1),
                                        .opened = draw(100),
                                        .before = { .epoch = 3, .running = version(2) } };

        strcpy(o->key, KEY_OPERATION);
        set(o, RECORD_OPERATION, &op);
}

static void draw_record(struct one *o)
{
        struct cluster_record r = { .epoch = 2 + draw(3), .running = version(2), .written = draw(100) };

        if (draw(3) == 0)
                ck_assert_int_eq(cluster_record_add_fence(&r, 1, 1), 0);
        strcpy(o->key, KEY_RECORD);
        set(o, RECORD_CLUSTER, &r);
}

static void draw_word(struct one *o, unsigned i)
{
        struct member_status s = { .epoch = 2 + draw(3), .settled = draw(2), .running = version(1 + draw(2)) };
        struct vote v = { .yes = draw(2) };
        struct order order = { .at = 1 + draw(9) };
        unsigned id = 1 + draw(2);

        switch (draw(3)) {
        case 0:
                snprintf(o->key, sizeof(o->key), KEY_STATUS "%s/m%u",
                         draw(8) == 0 ? "standalone"
                         : i < 2      ? "controller"
                                      : "engine",
                         i);
                set(o, RECORD_STATUS, &s);
                break;
        case 1:
                snprintf(o->key, sizeof(o->key), KEY_VOTES ID_TEXT "/m%u", id, i);
                set(o, RECORD_VOTE, &v);
                break;
        default:
                snprintf(o->key, sizeof(o->key), KEY_ORDERS ID_TEXT "/m%u", id, i);
                set(o, RECORD_ORDER, &order);
        }
}

static void draw_change(struct one *o)
{
        unsigned i = draw(MEMBERS), what = draw(20);

        *o = (struct one){};
        if (what < 3)
                draw_member(o, i);
        else if (what == 3)
                draw_operation(o);
        else if (what == 4)
                draw_record(o);
        else
                draw_word(o, i);
        o->entry.key = o->key;
        o->entry.modified = ++revision;
        o->change = (struct store_change){ &o->entry, draw(6) == 0 };
}

static bool is_among(const struct one *all, size_t n, const char *key)
{
        for (size_t i = 0; i < n; i++)
                if (streq(all[i].key, key))
                        return true;
        return false;
}

/* One to BATCH keys, each once, as a transaction has them. */
static void change(void)
{
        struct one all[BATCH];
        struct store_change changes[BATCH];
        size_t n = 0, wanted = 1 + draw(BATCH);

        while (n < wanted) {
                draw_change(&all[n]);
                if (is_among(all, n, all[n].key)) {
                        free((void *)all[n].entry.value);
                        continue;
                }
                n++;
        }
        for (size_t i = 0; i < n; i++)
                changes[i] = all[i].change;
        ck_assert_int_eq(replica_change(&replica, changes, n, revision, draw(100) == 0), 0);
        for (size_t i = 0; i < n; i++)
                free((void *)all[i].entry.value);
}

/* Everything in it, as text. */
static char *text_of(const struct cluster_view *view)
{
        _cleanup_free_ char *of_all = told_of_all(view);
        struct buf b = {};

        buf_printf(&b, "%llu %llu %llu %u %s\n", (unsigned long long)view->revision,
                   (unsigned long long)view->record_revision, (unsigned long long)view->operation_revision,
                   view->controllers, of_all);
        for (size_t i = 0; i < view->n_nodes; i++) {
                const struct cluster_node *n = &view->nodes[i];
                _cleanup_free_ char *member = record_encode(RECORD_MEMBER, &n->member),
                                    *vote = record_encode(RECORD_VOTE, &n->vote),
                                    *status = record_encode(RECORD_STATUS, &n->status),
                                    *line = told_format(of_all, view, n, 1);

                buf_printf(&b, "%s %d %s %d %s %s\n", member, n->voted, n->voted ? vote : "", n->has_status,
                           n->has_status ? status : "", line);
        }
        return buf_take(&b);
}

/* What nodes are told of it, but for its revision. */
static void mark_all(const struct cluster_view *view, struct told_mark *marks)
{
        char name[8];

        for (unsigned i = 0; i < MEMBERS; i++) {
                snprintf(name, sizeof(name), "m%u", i);
                marks[i] = told_mark(view, cluster_view_node(view, name));
        }
}

START_TEST(it_is_the_view_of_everything)
{
        struct told_mark before[MEMBERS], after[MEMBERS];
        unsigned long quiet = 0;

        seed = 1 + (unsigned)_i;
        for (int round = 0; round < ROUNDS; round++) {
                _cleanup_cluster_view_ struct cluster_view whole = {};
                _cleanup_free_ char *one = NULL, *other = NULL;
                uint64_t news = kept.news;

                mark_all(&kept, before);
                change();
                ck_assert_int_eq(replica_view(&replica, &whole, NULL), 0);
                ck_assert_int_eq(replica_update(&replica, &kept, NULL), 0);
                one = text_of(&kept);
                other = text_of(&whole);
                ck_assert_msg(streq(one, other), "round %d:\n%s\nis not\n%s", round, one, other);
                mark_all(&kept, after);
                quiet += kept.news == news;
                for (unsigned i = 0; kept.news == news && i < MEMBERS; i++)
                        ck_assert_msg(told_mark_equal(&before[i], &after[i]), "round %d: m%u was not told", round, i);
        }
        ck_assert_uint_gt(quiet, ROUNDS / 50); /* votes and statuses alone are no news */
}
END_TEST

/* A value that nobody can read leaves the view as it was, until it is gone; what came meanwhile is there then. */
START_TEST(what_cannot_be_read_changes_nothing)
{
        struct one o = {};
        struct store_change bad;
        _cleanup_free_ char *before = NULL, *after = NULL;
        struct error e = {};

        seed = 7;
        while (!kept.record_revision || kept.n_nodes < MEMBERS) {
                change();
                ck_assert_int_eq(replica_update(&replica, &kept, NULL), 0);
        }
        before = text_of(&kept);
        draw_member(&o, 3);
        o.entry.key = o.key;
        o.entry.modified = ++revision;
        bad = (struct store_change){
                &(struct store_entry){ .key = (char *)KEY_RECORD, .value = "{}", .size = 2, .modified = revision }, false
        };
        ck_assert_int_eq(replica_change(&replica, &(struct store_change){ &o.entry, false }, 1, revision, false), 0);
        ck_assert_int_eq(replica_change(&replica, &bad, 1, revision, false), 0);
        ck_assert_int_lt(replica_update(&replica, &kept, &e), 0);
        ck_assert_ptr_nonnull(e.message);
        error_done(&e);
        after = text_of(&kept);
        ck_assert_str_eq(before, after);
        free((void *)o.entry.value);
        o.entry.value = NULL;
        draw_record(&o);
        o.entry.modified = ++revision;
        ck_assert_int_eq(replica_change(&replica, &(struct store_change){ &o.entry, false }, 1, revision, false), 0);
        ck_assert_int_eq(replica_update(&replica, &kept, NULL), 0);
        ck_assert_uint_eq(kept.revision, revision);
        free((void *)o.entry.value);
}
END_TEST

static void setup(void)
{
        replica = (struct replica){};
        kept = (struct cluster_view){};
        revision = 0;
}

static void teardown(void)
{
        cluster_view_done(&kept);
        replica_done(&replica);
}

int main(void)
{
        Suite *s = suite_create("replica");
        TCase *t = tcase_create("update");

        tcase_set_timeout(t, 120);
        tcase_add_checked_fixture(t, setup, teardown);
        tcase_add_loop_test(t, it_is_the_view_of_everything, 0, 4);
        tcase_add_test(t, what_cannot_be_read_changes_nothing);
        suite_add_tcase(s, t);
        return suite_run(s);
}
