/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The cluster as a whole, simulated: nodes that are made of the pure functions, real slot sets and journals, and a store in
 * memory. A schedule is a seed: it crashes, delays, repeats, overtakes, joins, takes back by hand; then it lets everything
 * come to rest and looks at the properties of tests/model. BOOTMGR_SEED=N runs one, BOOTMGR_SCHEDULES=N that many. */
#include "cluster-world.h"
#include "cluster/request.h"
#include "cluster/stragglers.h"

#define CHAOS 400
#define REST  5000
#define QUIET 400 /* steps without a change */

/* The sanitizers make it ten times as slow. */
#ifdef __SANITIZE_ADDRESS__
#define SCHEDULES 1000
#else
#define SCHEDULES 10000
#endif
#define PARTS 10 /* each a process, with a time limit of its own */

/* ---- a machine ---- */

/* What is only in memory is gone; a switch that was not durable is dropped or finished by the boot. */
static void crash(struct machine *m)
{
        m->going = SLOT_NONE;
        if (m->set.phase == SWITCH_SWITCHING)
                slot_set_drop_switch(&m->set);
        if (dice(2) && m->has_pending) {
                plan_done(&m->pending);
                m->has_pending = false;
        }
}

/* As operation/switch.c does: an upgrade leaves a way back, a rollback and what is booted by name do not, but for a rollback
 * that the cluster has taken back. */
static int previous_of(const struct machine *m, int slot, bool way_back)
{
        bool upgrade = m->set.slots[slot].state == SLOT_INSTALLED;

        if (!way_back && (slot == m->set.previous || !upgrade))
                return SLOT_NONE;
        return m->set.slots[m->slot].state == SLOT_CONFIRMED ? m->slot : SLOT_NONE;
}

static void boot(struct machine *m, int slot, bool way_back)
{
        int previous = previous_of(m, slot, way_back);
        bool fails = !w.calm && dice(16) == 0;

        w.changes++;
        slot_set_begin_switch(&m->set, slot, 0);
        if (!w.calm && dice(10) == 0) {
                crash(m);
                return;
        }
        slot_set_end_switch(&m->set, SLOT_DEFAULT_TRIES);
        if (fails) {
                slot_set_mark_bad(&m->set, slot, REASON_HEALTH);
                m->set.previous = SLOT_NONE;
                m->came_back = m->epoch;
                return;
        }
        m->set.previous = previous;
        m->slot = slot;
}

/* It goes on by itself: switches, or confirms what it has booted. */
static void step_machine(struct machine *m)
{
        if (m->set.slots[m->slot].state == SLOT_TRIAL) {
                slot_set_confirm(&m->set, m->slot);
                w.changes++;
                return;
        }
        if (m->going == SLOT_NONE)
                return;
        hold(m->set.slots[m->going].digest[0] == w.committed[m->epoch], "%s switches to %s in epoch %lu", m->name,
             m->set.slots[m->going].version, (unsigned long)m->epoch);
        boot(m, TAKE(m->going, SLOT_NONE), m->way_back);
}

static void send(const struct message *message)
{
        if (w.n_messages < MESSAGES_MAX)
                w.messages[w.n_messages++] = *message;
        else
                w.messages[dice(MESSAGES_MAX)] = *message;
}

static void send_vote(const struct machine *m, const struct cluster_view *view, bool yes)
{
        struct message message = { .is_vote = true, .vote = { .yes = yes, .message = "because" } };

        strcpy(message.from, m->name);
        memcpy(message.id, view->operation.id, sizeof(message.id));
        send(&message);
}

static bool holds(const struct machine *m, int slot, const struct version_id *v)
{
        return slot != SLOT_NONE && version_id_is(v) && m->set.slots[slot].digest[0] == v->digest[0];
}

/* A rollback goes to the previous slot, as node.c checks. */
static bool can_go(const struct machine *m, const struct cluster_operation *op)
{
        return op->kind != OPERATION_ROLLBACK || holds(m, m->set.previous, &op->to);
}

/* It was in place with another version after the cluster ran this one. */
static bool has_left(const struct machine *m, const struct cluster_record *record)
{
        uint64_t reached = m->journal.reached;

        for (uint64_t e = 1; e < reached; e++)
                if (w.committed[e] == record->running.digest[0] && w.committed[reached] != w.committed[e])
                        return true;
        return false;
}

static void act(struct machine *m, const struct participant_input *in, const struct participant_decision *d,
                const struct cluster_view *view)
{
        struct journal j = {};

        switch (d->action) {
        case PARTICIPANT_PREPARE:
                if ((!w.calm && dice(8) == 0) || !can_go(m, &view->operation)) {
                        send_vote(m, view, false);
                        return;
                }
                if (view->operation.kind == OPERATION_UPGRADE)
                        put_slot(m, !m->slot, view->operation.to.digest[0]);
                participant_prepared(in, &j);
                save_journal(m, &j);
                send_vote(m, view, true);
                return;
        case PARTICIPANT_VOTE:
        case PARTICIPANT_DECLINE:
                send_vote(m, view, d->action == PARTICIPANT_VOTE);
                return;
        case PARTICIPANT_SWITCH:
                m->going = d->slot;
                m->way_back = d->way_back;
                m->epoch = view->record.epoch;
                return;
        case PARTICIPANT_FETCH:
                hold(m->journal.reached == 0 || runs(m) < view->record.running.digest[0] ||
                             (version_id_is(&view->record.previous) ? holds(m, m->slot, &view->record.previous)
                                                                    : !has_left(m, &view->record)),
                     "%s installs version %s anew on what version %u has left", m->name, view->record.running.version,
                     runs(m));
                put_slot(m, !m->slot, view->record.running.digest[0]);
                return;
        case PARTICIPANT_FINALIZE:
                m->set.finalized = true;
                return;
        default:
                return;
        }
}

static void fill_input(struct machine *m, const struct cluster_view *view, struct participant_input *in)
{
        const struct cluster_node *n = cluster_view_node(view, m->name);

        *in = (struct participant_input){
                .member = n != NULL,
                .fenced = n && node_is_fenced(view, n),
                .asked = n && operation_is_open(view) && !joined_after_snapshot(view, n),
                .role = m->role,
                .revision = view->revision,
                .record = &view->record,
                .operation = operation_is_open(view) ? &view->operation : NULL,
                .voted = n && n->voted,
                .order = n ? n->order : 0,
                .set = &m->set,
                .slot = m->slot,
                .journal = &m->journal,
        };
}

static bool same_status(const struct member_status *a, const struct member_status *b)
{
        return a->epoch == b->epoch && a->settled == b->settled && a->confirmed == b->confirmed &&
               a->generation == b->generation && memcmp(&a->running, &b->running, sizeof(a->running)) == 0;
}

static void step_node(struct machine *m, const struct cluster_view *view)
{
        const struct cluster_node *n = cluster_view_node(view, m->name);
        struct message message = {};
        struct participant_decision d;
        struct participant_input in;

        if (!m->there || view->record_revision == 0 || m->going != SLOT_NONE)
                return;
        fill_input(m, view, &in);
        participant_decide(&in, &d);
        if (d.action != PARTICIPANT_NOTHING && d.action != PARTICIPANT_REFUSED)
                hold(!m->outsider || view != &w.views[0], "%s does %s, and joined after the snapshot", m->name,
                     participant_action_to_string(d.action));
        if (d.save)
                save_journal(m, &d.journal);
        /* Between the journal and what it announces. */
        if (w.calm || dice(12) > 0) {
                act(m, &in, &d, view);
                if (n && d.hears != HEARS_OLD && d.stand != STANDS_NOWHERE && !same_status(&n->status, &d.status)) {
                        strcpy(message.from, m->name);
                        message.status = d.status;
                        send(&message);
                }
        } else {
                crash(m);
        }
}

static void deliver(void)
{
        _cleanup_plan_ struct plan plan = {};
        size_t i = w.n_messages ? dice((unsigned)w.n_messages) : 0;
        struct message *m = &w.messages[i];
        const struct cluster_view *view = &w.views[w.calm ? 0 : dice(2)];
        const struct cluster_node *n;
        int r;

        if (w.n_messages == 0 || view->record_revision == 0)
                return;
        if (m->is_vote)
                r = request_vote(view, m->from, m->id, &m->vote, &plan, NULL);
        else
                r = request_status(view, m->from, &m->status, &plan, NULL);
        n = cluster_view_node(view, m->from);
        if (n && !m->is_vote && n->has_status && same_status(&n->status, &m->status))
                plan_done(&plan); /* said already */
        if (n && node_is_fenced(view, n))
                hold(r == -EPERM && plan.n_writes == 0, "%s gets in", m->from);
        apply(&plan);
        if (w.calm || dice(4) > 0)
                *m = w.messages[--w.n_messages];
}

/* Who looks has seen each phase and order for all of its limit, and not for twice that: it is late by its deadline. */
static uint64_t seen(struct cluster_view *view)
{
        const struct cluster_operation *op = &view->operation;

        for (size_t i = 0; i < view->n_nodes; i++)
                view->nodes[i].order_seen = op->switch_limit;
        return op->phase == PHASE_PREPARE ? op->prepare_limit : op->lead + op->switch_limit;
}

static void step_coordinator(struct machine *m)
{
        struct cluster_view *view;
        enum coordinator_action action;
        struct error e = {};

        if (m->role == ROLE_ENGINE || !m->there || w.views[0].record_revision == 0)
                return;
        if (m->has_pending) {
                apply(&m->pending);
                m->has_pending = false;
                return;
        }
        view = &w.views[w.calm ? 0 : dice(2)];
        hold(coordinator_decide(view, w.now, seen(view), &action, &m->pending, &e) >= 0, "%s", e.message);
        m->has_pending = action != COORDINATOR_NOTHING;
}

/* ---- people ---- */

static void open_one(enum operation_kind kind)
{
        _cleanup_plan_ struct plan plan = {};
        struct open_request request = { .kind = kind,
                                        .to = version(2 + dice(5)),
                                        .strict = dice(4) == 0,
                                        .one_instant = dice(4) == 0,
                                        .engines = dice(3) ? ENGINES_TOGETHER : ENGINES_ROLLING,
                                        .max_unavailable = 1,
                                        .prepare_limit = 60,
                                        .switch_limit = 150,
                                        .lead = 5 };

        if (w.opened >= OPERATIONS)
                return;
        request.id[0] = (uint8_t)(w.opened + 1);
        if (request_open(&w.views[0], &request, w.now, &plan, NULL) >= 0 && apply(&plan))
                w.opened++;
}

/* Off the version that the record says: who comes back by hand before he is heard of was never away for the others. */
static void by_hand(void)
{
        struct machine *m = &w.machines[dice((unsigned)w.n)];
        const struct slot *other = &m->set.slots[!m->slot];

        if (m->role == ROLE_ENGINE || m->going != SLOT_NONE || m->set.phase != SWITCH_NONE ||
            other->state != SLOT_CONFIRMED || m->set.slots[m->slot].state != SLOT_CONFIRMED ||
            runs(m) != w.views[0].record.running.digest[0])
                return;
        m->by_hand = true;
        boot(m, !m->slot, false);
}

/* It, as a member that joins. */
static struct member joining(const struct machine *m)
{
        struct member member = { .role = m->role };

        strcpy(member.name, m->name);
        return member;
}

static void join_one(void)
{
        _cleanup_plan_ struct plan plan = {};
        struct machine *m = &w.machines[w.n - 1];
        const struct member who = joining(m);

        if (cluster_view_node(&w.views[0], m->name))
                return;
        if (request_join(&w.views[dice(2)], &who, w.now, &plan, NULL) < 0 || !apply(&plan))
                return;
        m->there = true;
        m->outsider = false;
        m->slot = 0;
        slot_set_init(&m->set, 2);
        put_slot(m, 0, dice(2) ? w.views[0].record.running.digest[0] : 1);
        m->set.slots[0].state = SLOT_CONFIRMED;
        record_done(RECORD_JOURNAL, &m->journal);
}

static void delete_one(void)
{
        _cleanup_plan_ struct plan plan = {};
        struct machine *m = &w.machines[w.n - 1];

        if (m->outsider && request_delete(&w.views[0], m->name, &plan, NULL) >= 0 && apply(&plan))
                m->there = m->outsider = false;
}

static void local_abort(void)
{
        struct machine *m = &w.machines[dice((unsigned)w.n)];
        struct journal j = m->journal;

        if (m->role == ROLE_ENGINE && !is_all_zero(j.prepared, sizeof(j.prepared))) {
                participant_abort_local(&j);
                save_journal(m, &j);
        }
}

static void people(void)
{
        _cleanup_plan_ struct plan plan = {};

        /* In some schedules they take the controllers back by hand, one after the other. */
        if (w.seed % 4 == 0 && dice(2)) {
                by_hand();
                return;
        }
        switch (dice(16)) {
        case 0:
        case 1:
        case 2:
        case 3:
                open_one(dice(3) ? OPERATION_ROLLBACK : OPERATION_UPGRADE);
                break;
        case 4:
                if (request_abort(&w.views[0], "somebody", w.now, &plan, NULL) >= 0)
                        apply(&plan);
                break;
        case 5:
        case 6:
                by_hand();
                break;
        case 7:
        case 8:
                join_one();
                break;
        case 9:
                delete_one();
                break;
        case 10:
                local_abort();
                break;
        case 11:
                if (dice(8) == 0 && request_finalize(&w.views[0], w.now, &plan, NULL) >= 0)
                        apply(&plan);
                break;
        default:
                crash(&w.machines[dice((unsigned)w.n)]);
        }
}

/* ---- a schedule ---- */

static void step(void);

static void begin(unsigned seed)
{
        _cleanup_plan_ struct plan plan = {}, more = {};
        const struct version_id first = version(1);
        unsigned controllers;

        w.seed = seed;
        random_state = UINT64_C(0x9e3779b97f4a7c15) * (seed + 1);
        controllers = dice(3) ? 3 : 1 + dice(2);
        table_init(&w.table);
        w.now = 1;
        w.n = controllers + 1 + dice(NODES_MAX - controllers);
        for (size_t i = 0; i < w.n; i++) {
                struct machine *m = &w.machines[i];

                *m = (struct machine){ .role = i < controllers ? ROLE_CONTROLLER : ROLE_ENGINE,
                                       .there = i + 1 < w.n || i < controllers,
                                       .going = SLOT_NONE };
                snprintf(m->name, sizeof(m->name), "n%zu", i);
                slot_set_init(&m->set, 2);
                put_slot(m, 0, 1);
                m->set.slots[0].state = SLOT_CONFIRMED;
        }
        w.committed[1] = 1;
        const struct member zero = joining(&w.machines[0]);
        ck_assert_int_eq(request_init(&w.views[0], &zero, &first, w.now, &plan, NULL), 0);
        ck_assert(apply(&plan));
        for (size_t i = 1; i + 1 < w.n; i++) {
                const struct member who = joining(&w.machines[i]);

                ck_assert_int_eq(request_join(&w.views[0], &who, w.now, &more, NULL), 0);
                /* Before the first upgrade: part of its snapshot. */
                ck_assert(apply(&more));
        }
}

/* Most schedules begin on a version that was upgraded to, so that there is something to go back to. */
static void begin_upgraded(void)
{
        w.calm = true;
        for (int i = 0; i < REST && w.opened == 0; i++) {
                step();
                open_one(OPERATION_UPGRADE);
        }
        for (int i = 0; i < REST && operation_is_open(&w.views[0]); i++)
                step();
        w.calm = false;
}

static void end(void)
{
        table_done(&w.table);
        for (size_t i = 0; i < VIEWS; i++)
                cluster_view_done(&w.views[i]);
        for (size_t i = 0; i < w.n; i++) {
                record_done(RECORD_JOURNAL, &w.machines[i].journal);
                plan_done(&w.machines[i].pending);
        }
        memset(&w, 0, offsetof(typeof(w), commits));
}

static void step(void)
{
        struct machine *m = &w.machines[dice((unsigned)w.n)];

        w.now += dice(4) == 0;
        switch (dice(6)) {
        case 0:
        case 1:
                step_node(m, &w.views[w.calm ? 0 : dice(VIEWS)]);
                break;
        case 2:
                step_machine(m);
                break;
        case 3:
                step_coordinator(m);
                break;
        case 4:
                deliver();
                break;
        default:
                if (w.calm)
                        w.now += 3;
                else if (dice(3) == 0)
                        people();
        }
}

/* Who holds what the cluster would go back to can go back there; but who was taken elsewhere by hand. */
static void check_way_back(const struct machine *m, const struct cluster_record *record)
{
        int other = !m->slot;

        if (m->by_hand || !holds(m, m->slot, &record->running) || !holds(m, other, &record->previous) ||
            m->set.slots[other].state != SLOT_CONFIRMED)
                return;
        w.ways_back += m->set.previous == other;
        hold(m->set.previous == other, "%s cannot go back to version %s", m->name, record->previous.version);
}

static bool has_way(const struct machine *m, const struct cluster_record *record)
{
        return holds(m, !m->slot, &record->running) && slot_is_selectable(&m->set.slots[!m->slot]);
}

static void check_rest(void)
{
        struct cluster_view *view = &w.views[0];

        hold(!operation_is_open(view), "an operation stays open");
        for (size_t i = 0; i < w.n; i++) {
                struct machine *m = &w.machines[i];
                struct participant_decision d;
                struct participant_input in;

                if (!m->there)
                        continue;
                fill_input(m, view, &in);
                participant_decide(&in, &d);
                if (m->outsider)
                        hold(d.stand == STANDS_FENCED, "%s stands %s", m->name, participant_stand_to_string(d.stand));
                else if (d.stand == STANDS_FAILED || d.stand == STANDS_LEFT)
                        /* Its one time was tried, or somebody took it away: and the majority is not there. */
                        hold(coordinator_event(view, w.now, seen(view)) == EVENT_WAITING, "%s stays where the majority is",
                             m->name);
                else if (d.stand == STANDS_STRANDED)
                        /* What it would go back to was written over, by an upgrade that came to nothing, or has failed. */
                        hold(!has_way(m, &view->record) && is_all_zero(m->journal.prepared, CLUSTER_ID_SIZE) &&
                                     (has_left(m, &view->record) || runs(m) > view->record.running.digest[0]),
                             "%s does not go back to version %s", m->name, view->record.running.version);
                else
                        hold(d.stand == STANDS_IN_PLACE && runs(m) == view->record.running.digest[0] &&
                                     is_all_zero(m->journal.prepared, CLUSTER_ID_SIZE),
                             "%s stands %s with version %u, the cluster has %s", m->name,
                             participant_stand_to_string(d.stand), runs(m), view->record.running.version);
                check_way_back(m, &view->record);
                hold(d.stand != STANDS_LEFT || m->by_hand, "%s left by itself", m->name);
                hold(d.stand != STANDS_FAILED || m->by_hand || m->came_back == view->record.epoch, "%s never tried",
                     m->name);
        }
}

static void schedule(unsigned seed)
{
        unsigned long changes = 0;

        begin(seed);
        if (seed % 8 > 0)
                begin_upgraded();
        for (int i = 0; i < CHAOS; i++)
                step();
        w.calm = true;
        w.now += 300; /* every deadline of the chaos has passed */
        for (int i = 0; i < REST; i++) {
                if (i % QUIET == 0 && i > 0 && w.changes == changes && w.n_messages == 0)
                        break;
                if (i % QUIET == 0)
                        changes = w.changes;
                step();
        }
        check_rest();
        end();
}

START_TEST(schedules_keep_the_promises)
{
        const char *one = getenv("BOOTMGR_SEED"), *many = getenv("BOOTMGR_SCHEDULES");
        unsigned n = (many ? (unsigned)atoi(many) : SCHEDULES) / PARTS, first = (unsigned)_i * n + 1;

        if (one) {
                schedule((unsigned)atoi(one));
                return;
        }
        for (unsigned seed = first; seed < first + n; seed++)
                schedule(seed);
        printf("seeds %u to %u: %lu commits, %lu aborts, %lu taken back, %lu followed, %lu fenced\n", first, first + n - 1,
               w.commits, w.aborts, w.backs, w.follows, w.fences);
        /* A simulation in which nothing happens would find nothing. */
        ck_assert(w.commits > n / 4 && w.aborts > n / 10 && w.backs > n / 50 && w.follows > n / 200 && w.fences > n / 100);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("cluster");
        TCase *t = tcase_create("cluster");

        tcase_set_timeout(t, 250);
        tcase_add_loop_test(t, schedules_keep_the_promises, 0, PARTS);
        suite_add_tcase(s, t);
        return suite_run(s);
}
