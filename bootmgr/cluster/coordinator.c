/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cluster/coordinator.h"

#include "base/text.h"
#include "cluster/prune.h"
#include "cluster/stragglers.h"

#define ORDERS_AT_ONCE 64 /* engines in one transaction */

static const char *const events[_EVENT_MAX] = {
        [EVENT_WAITING] = "waiting", [EVENT_COMPLETE] = "complete",
        [EVENT_ENOUGH] = "enough",   [EVENT_REFUSED] = "refused",
        [EVENT_LATE] = "late",       [EVENT_FORMED] = "formed",
        [EVENT_ROOM] = "room",       [EVENT_MAJORITY_LEFT] = "majority-left",
};
static const char *const actions[_COORDINATOR_ACTION_MAX] = {
        [COORDINATOR_NOTHING] = "nothing", [COORDINATOR_COMMIT] = "commit", [COORDINATOR_ABORT] = "abort",
        [COORDINATOR_GO_ON] = "go-on",     [COORDINATOR_ORDER] = "order",   [COORDINATOR_GO_BACK] = "go-back",
        [COORDINATOR_FINISH] = "finish",   [COORDINATOR_FOLLOW] = "follow",
};

/* A cell that is not there is NOTHING: the event means nothing in that phase, or does not arise in it. */
static const enum coordinator_action table[_PHASE_MAX][_EVENT_MAX] = {
        [PHASE_IDLE] = { [EVENT_MAJORITY_LEFT] = COORDINATOR_FOLLOW },
        [PHASE_PREPARE] = { [EVENT_COMPLETE] = COORDINATOR_COMMIT,
                            [EVENT_ENOUGH] = COORDINATOR_COMMIT,
                            [EVENT_REFUSED] = COORDINATOR_ABORT,
                            [EVENT_LATE] = COORDINATOR_ABORT },
        [PHASE_CONTROLLERS] = { [EVENT_COMPLETE] = COORDINATOR_GO_ON,
                                [EVENT_REFUSED] = COORDINATOR_GO_BACK,
                                [EVENT_LATE] = COORDINATOR_GO_BACK },
        [PHASE_ENGINES] = { [EVENT_COMPLETE] = COORDINATOR_FINISH,
                            [EVENT_REFUSED] = COORDINATOR_GO_BACK,
                            [EVENT_LATE] = COORDINATOR_FINISH,
                            [EVENT_FORMED] = COORDINATOR_GO_ON,
                            [EVENT_ROOM] = COORDINATOR_ORDER },
        [PHASE_TAKE_BACK] = { [EVENT_COMPLETE] = COORDINATOR_FINISH, [EVENT_LATE] = COORDINATOR_FINISH },
};

const char *coordinator_action_to_string(enum coordinator_action action)
{
        return action < _COORDINATOR_ACTION_MAX ? actions[action] : "unknown";
}

const char *coordinator_event_to_string(enum coordinator_event event)
{
        return event < _EVENT_MAX ? events[event] : "unknown";
}

enum coordinator_action coordinator_next(enum cluster_phase phase, enum coordinator_event event)
{
        return table[phase][event];
}

/* ---- the time ---- */

void phase_watch_done(struct phase_watch *watch)
{
        free(watch->orders);
        *watch = (struct phase_watch){};
}

/* Without memory for it no order was seen for long: nobody is overdue too early. */
static void see_orders(struct phase_watch *watch, struct cluster_view *view, uint64_t monotonic)
{
        if (watch->n_orders != view->n_nodes) {
                free(watch->orders);
                watch->orders = calloc(view->n_nodes + 1, sizeof(*watch->orders));
                watch->n_orders = watch->orders ? view->n_nodes : 0;
        }
        for (size_t i = 0; i < watch->n_orders; i++) {
                struct order_watch *o = &watch->orders[i];

                if (o->order != view->nodes[i].order)
                        *o = (struct order_watch){ view->nodes[i].order, monotonic };
                view->nodes[i].order_seen = monotonic - o->since;
        }
}

uint64_t coordinator_seen(struct phase_watch *watch, struct cluster_view *view, uint64_t monotonic)
{
        const struct cluster_operation *op = &view->operation;
        bool same = watch->phase == op->phase && watch->deadline == op->deadline &&
                    memcmp(watch->id, op->id, sizeof(op->id)) == 0;

        if (!operation_is_open(view)) {
                phase_watch_done(watch);
                return 0;
        }
        if (!same) {
                phase_watch_done(watch);
                *watch = (struct phase_watch){ .phase = op->phase, .deadline = op->deadline, .since = monotonic };
                memcpy(watch->id, op->id, sizeof(op->id));
        }
        see_orders(watch, view, monotonic);
        return monotonic - watch->since;
}

/* From the write that began the phase to its deadline. */
static uint64_t phase_limit(const struct cluster_operation *op)
{
        return op->phase == PHASE_PREPARE ? op->prepare_limit : op->lead + op->switch_limit;
}

/* When the whole of it was seen twice, whatever the clocks say: who wrote `end` may have had one that was ahead by a year.
 * `limit` 0: it is not known. */
static bool has_passed(uint64_t end, uint64_t limit, uint64_t now, uint64_t seen)
{
        return (now >= end && seen >= limit) || (limit > 0 && seen / 2 >= limit);
}

static bool is_late(const struct cluster_operation *op, uint64_t now, uint64_t seen)
{
        return has_passed(op->deadline, phase_limit(op), now, seen);
}

/* Rolling: an engine's own time is over. */
static bool is_overdue(const struct cluster_operation *op, const struct cluster_node *n, uint64_t now)
{
        return has_passed(n->order + op->switch_limit, op->switch_limit, now, n->order_seen);
}

/* ---- what has happened ---- */

static enum coordinator_event event_prepare(const struct cluster_view *view, uint64_t now, uint64_t seen)
{
        bool all = true, enough = true;

        for (size_t i = 0; i < view->n_nodes; i++) {
                const struct cluster_node *n = &view->nodes[i];
                bool veto = node_decides(n) || view->operation.strict;

                if (node_is_fenced(view, n))
                        continue;
                if (node_decides(n) && joined_after_snapshot(view, n))
                        return EVENT_REFUSED;
                if (joined_after_snapshot(view, n))
                        continue;
                if (veto && n->voted && !n->vote.yes)
                        return EVENT_REFUSED;
                /* A NO that is no veto is an answer as well: nobody waits for another. */
                all = all && n->voted;
                enough = enough && (!veto || n->voted);
        }
        if (all)
                return EVENT_COMPLETE;
        if (!is_late(&view->operation, now, seen))
                return EVENT_WAITING;
        return enough ? EVENT_ENOUGH : EVENT_LATE;
}

struct tally {
        bool controllers_reached, controller_left, engines_settled, room;
};

/* Rolling: it was ordered, and is neither there nor overdue. */
static bool is_at_work(const struct cluster_view *view, const struct cluster_node *n, uint64_t now)
{
        return n->order && !node_is_settled(view, n) && !is_overdue(&view->operation, n, now);
}

/* Rolling: it is to be ordered. A straggler too, once it is heard of: at the end of the operation it would go at the same
 * moment as all others that were left out. */
static bool waits_for_order(const struct cluster_view *view, const struct cluster_node *n)
{
        bool heard = n->has_status && n->status.epoch == view->record.epoch;

        return !node_decides(n) && !node_is_fenced(view, n) && !n->order && !node_is_settled(view, n) &&
               (heard || !is_straggler(view, n));
}

static struct tally count(const struct cluster_view *view, uint64_t now)
{
        const struct cluster_operation *op = &view->operation;
        struct tally t = { .controllers_reached = true, .engines_settled = true };
        uint64_t at_work = 0, waiting = 0;

        for (size_t i = 0; i < view->n_nodes; i++) {
                const struct cluster_node *n = &view->nodes[i];
                bool settled = node_is_settled(view, n);

                if (node_is_fenced(view, n))
                        continue;
                if (node_decides(n)) {
                        t.controllers_reached = t.controllers_reached && node_has_reached(view, n);
                        t.controller_left = t.controller_left || node_has_left(view, n);
                } else if (op->engines == ENGINES_ROLLING && op->phase == PHASE_ENGINES && !op->one_instant) {
                        at_work += is_at_work(view, n, now);
                        waiting += waits_for_order(view, n);
                } else if (!is_straggler(view, n)) {
                        t.engines_settled = t.engines_settled && settled;
                }
        }
        t.engines_settled = t.engines_settled && at_work == 0 && waiting == 0;
        t.room = waiting > 0 && at_work < MAX(op->max_unavailable, UINT64_C(1));
        return t;
}

static enum coordinator_event event_switch(const struct cluster_view *view, uint64_t now, uint64_t seen)
{
        const struct cluster_operation *op = &view->operation;
        struct tally t = count(view, now);
        bool late = is_late(op, now, seen);

        if (op->phase == PHASE_CONTROLLERS)
                return t.controller_left       ? EVENT_REFUSED
                       : t.controllers_reached ? EVENT_COMPLETE
                       : late                  ? EVENT_LATE
                                               : EVENT_WAITING;
        if (op->phase == PHASE_TAKE_BACK)
                return t.controllers_reached && t.engines_settled ? EVENT_COMPLETE : late ? EVENT_LATE : EVENT_WAITING;
        /* With one instant for all there was no look at the controllers before: it is made here, until they have formed. Who
         * leaves then is one that was taken off by hand. */
        if (op->one_instant && !op->formed && (t.controller_left || (late && !t.controllers_reached)))
                return EVENT_REFUSED;
        if (t.room)
                return EVENT_ROOM;
        if (t.engines_settled && t.controllers_reached)
                return EVENT_COMPLETE;
        if (op->one_instant && !op->formed && t.controllers_reached)
                return EVENT_FORMED;
        /* Engines in turn have a limit for each. */
        if (op->engines == ENGINES_ROLLING && !op->one_instant)
                return late && t.engines_settled ? EVENT_LATE : EVENT_WAITING;
        return late ? EVENT_LATE : EVENT_WAITING;
}

/* The version on which more than half of the controllers have settled, away from the record; or NULL. */
static const struct version_id *majority_version(const struct cluster_view *view)
{
        size_t controllers = 0;

        for (size_t i = 0; i < view->n_nodes; i++)
                controllers += node_decides(&view->nodes[i]) && !node_is_fenced(view, &view->nodes[i]);
        for (size_t i = 0; i < view->n_nodes; i++) {
                const struct version_id *v = &view->nodes[i].status.running;
                size_t same = 0;

                if (!node_decides(&view->nodes[i]))
                        continue;
                for (size_t k = 0; k < view->n_nodes; k++) {
                        const struct cluster_node *n = &view->nodes[k];

                        same += node_decides(n) && !node_is_fenced(view, n) && node_has_left(view, n) &&
                                version_id_equal(&n->status.running, v);
                }
                if (2 * same > controllers)
                        return v;
        }
        return NULL;
}

enum coordinator_event coordinator_event(const struct cluster_view *view, uint64_t now, uint64_t seen)
{
        if (view->record_revision == 0)
                return EVENT_WAITING;
        if (!operation_is_open(view))
                return majority_version(view) ? EVENT_MAJORITY_LEFT : EVENT_WAITING;
        return view->operation.phase == PHASE_PREPARE ? event_prepare(view, now, seen) : event_switch(view, now, seen);
}

/* When has_passed() comes to be so, which it is not yet. */
static uint64_t when_passed(uint64_t end, uint64_t limit, uint64_t now, uint64_t seen)
{
        uint64_t both = MAX(end, seen < limit ? now + (limit - seen) : now);

        return limit > 0 ? MIN(both, now + (2 * limit - seen)) : both;
}

uint64_t coordinator_deadline(const struct cluster_view *view, uint64_t now, uint64_t seen)
{
        const struct cluster_operation *op = &view->operation;
        uint64_t next = UINT64_MAX;

        if (!operation_is_open(view))
                return next;
        if (!is_late(op, now, seen))
                next = when_passed(op->deadline, phase_limit(op), now, seen);
        /* Rolling: an order that is overdue makes room for another. */
        for (size_t i = 0; i < view->n_nodes; i++) {
                const struct cluster_node *n = &view->nodes[i];

                if (is_at_work(view, n, now))
                        next = MIN(next, when_passed(n->order + op->switch_limit, op->switch_limit, now, n->order_seen));
        }
        return next;
}

/* ---- what is written ---- */

/* Ranges in which nobody has joined who is still a member refuse nobody. */
static void drop_fences(const struct cluster_view *view, struct cluster_record *record)
{
        size_t kept = 0;

        for (size_t i = 0; i < record->n_fences; i++) {
                bool any = false;

                for (size_t k = 0; k < view->n_nodes; k++)
                        any = any || (view->nodes[k].member.joined >= record->fences[i].from &&
                                      view->nodes[k].member.joined <= record->fences[i].to);
                if (any)
                        record->fences[kept++] = record->fences[i];
        }
        record->n_fences = kept;
}

/* The next record: its epoch and where it comes from. */
static void next_record(struct cluster_record *record, enum record_origin origin, const uint8_t *id, uint64_t now)
{
        record->epoch++;
        record->origin = origin;
        record->written = now;
        record->finalized = false;
        memset(record->operation, 0, sizeof(record->operation));
        if (id)
                memcpy(record->operation, id, sizeof(record->operation));
}

static void put_record(const struct cluster_record *record, struct plan *plan)
{
        plan_put(plan, RECORD_CLUSTER, record, KEY_RECORD);
        plan_put(plan, RECORD_CLUSTER, record, KEY_LOG "%020llu", (unsigned long long)record->epoch);
        prune_log(record->epoch, plan);
}

/* To the previous version: who joined since its last epoch is no part of the snapshot. There is nothing to go back to then.
 */
static int to_previous(const struct cluster_view *view, struct cluster_record *record)
{
        drop_fences(view, record);
        record->previous = (struct version_id){};
        return cluster_record_add_fence(record, record->previous_epoch + 1, record->epoch);
}

static int commit(const struct cluster_view *view, struct cluster_record *record, struct cluster_operation *op, uint64_t now,
                  struct plan *plan)
{
        char id[CLUSTER_ID_TEXT_SIZE];
        int r = 0;

        if (op->kind == OPERATION_ROLLBACK) {
                r = to_previous(view, record);
        } else {
                record->previous = record->running;
                record->previous_epoch = record->epoch;
        }
        if (r >= 0)
                r = name_stragglers(view, op, true);
        if (r < 0)
                return r;
        record->running = op->to;
        next_record(record, ORIGIN_COMMIT, op->id, now);
        op->epoch = record->epoch;
        op->phase = op->one_instant ? PHASE_ENGINES : PHASE_CONTROLLERS;
        op->controllers_at = now + op->lead;
        op->engines_at = op->one_instant ? op->controllers_at : 0;
        op->deadline = op->controllers_at + op->switch_limit;
        /* A power cut before this write: nothing was decided, and another controller decides. After it: this is the
         * decision, and every node that hears of it, then or later, goes there. */
        plan_compare(plan, STORE_REVISION, view->operation_revision, KEY_OPERATION);
        plan_compare(plan, STORE_REVISION, view->record_revision, KEY_RECORD);
        plan_compare(plan, STORE_QUIET, view->revision, KEY_VOTES "%s/", id_to_text(op->id, id));
        plan_compare(plan, STORE_QUIET, view->revision, KEY_NODES);
        plan_put(plan, RECORD_OPERATION, op, KEY_OPERATION);
        put_record(record, plan);
        return 0;
}

/* `late`: it is closed because who has not voted had the time to. */
static void close_operation(const struct cluster_view *view, enum cluster_result result, const char *reason, bool late,
                            uint64_t now, struct plan *plan)
{
        char id[CLUSTER_ID_TEXT_SIZE];
        struct cluster_operation op;

        if (record_copy(RECORD_OPERATION, &view->operation, &op) < 0) {
                plan->failed = -ENOMEM;
                return;
        }
        if (name_stragglers(view, &op, late) < 0)
                plan->failed = -ENOMEM;
        /* Engines in turn had no instant: from when on, for who looks back. */
        if (op.phase == PHASE_ENGINES && op.engines_at == 0)
                op.engines_at = op.deadline - MIN(op.deadline, op.switch_limit);
        op.phase = PHASE_IDLE;
        op.result = result == CLUSTER_DONE && op.n_stragglers > 0 ? CLUSTER_PARTIAL : result;
        op.ended = now;
        op.deadline = 0;
        if (reason)
                snprintf(op.reason, sizeof(op.reason), "%s", reason);
        id_to_text(op.id, id);
        plan_compare(plan, STORE_REVISION, view->operation_revision, KEY_OPERATION);
        plan_put(plan, RECORD_OPERATION, &op, KEY_HISTORY "%s", id);
        plan_delete(plan, false, KEY_OPERATION);
        plan_delete(plan, true, KEY_VOTES "%s/", id);
        plan_delete(plan, true, KEY_ORDERS "%s/", id);
        record_done(RECORD_OPERATION, &op);
}

void coordinator_close(const struct cluster_view *view, enum cluster_result result, const char *reason, uint64_t now,
                       struct plan *plan)
{
        close_operation(view, result, reason, false, now, plan);
}

static void abort_operation(const struct cluster_view *view, uint64_t now, uint64_t seen, struct plan *plan)
{
        char reason[CLUSTER_TEXT_SIZE] = "";

        for (size_t i = 0; i < view->n_nodes; i++) {
                const struct cluster_node *n = &view->nodes[i];

                if (node_is_fenced(view, n) || !(node_decides(n) || view->operation.strict))
                        continue;
                if (node_decides(n) && joined_after_snapshot(view, n)) {
                        snprintf(reason, sizeof(reason), "the controller %s joined after the snapshot", n->member.name);
                        break;
                }
                if (joined_after_snapshot(view, n))
                        continue;
                if (n->voted && !n->vote.yes) {
                        text_format(reason, sizeof(reason), "%s: %s", n->member.name, n->vote.message);
                        break;
                }
                /* A veto further on says more. */
                if (!n->voted && !*reason)
                        snprintf(reason, sizeof(reason), "%s did not answer in time", n->member.name);
        }
        close_operation(view, CLUSTER_ABORTED, reason, is_late(&view->operation, now, seen), now, plan);
}

static void go_on(const struct cluster_view *view, struct cluster_operation *op, uint64_t now, struct plan *plan)
{
        op->formed = true;
        /* With one instant for all the engines have had their turn. */
        if (op->phase == PHASE_CONTROLLERS) {
                op->phase = PHASE_ENGINES;
                op->engines_at = op->engines == ENGINES_TOGETHER ? now + op->lead : 0;
                op->deadline = now + op->lead + op->switch_limit;
        }
        plan_compare(plan, STORE_REVISION, view->operation_revision, KEY_OPERATION);
        plan_put(plan, RECORD_OPERATION, op, KEY_OPERATION);
}

static void order(const struct cluster_view *view, const struct cluster_operation *op, uint64_t now, struct plan *plan)
{
        const struct order turn = { .at = now + op->lead };
        uint64_t room = MAX(op->max_unavailable, UINT64_C(1));
        char id[CLUSTER_ID_TEXT_SIZE];

        for (size_t i = 0; i < view->n_nodes; i++)
                room -= room > 0 && is_at_work(view, &view->nodes[i], now);
        room = MIN(room, (uint64_t)ORDERS_AT_ONCE);
        id_to_text(op->id, id);
        plan_compare(plan, STORE_REVISION, view->operation_revision, KEY_OPERATION);
        /* Two coordinators that both find room would order twice as many. */
        plan_compare(plan, STORE_QUIET, view->revision, KEY_ORDERS "%s/", id);
        /* Stragglers last: they may take all the time that there is. */
        for (size_t i = 0; i < 2 * view->n_nodes && room > 0; i++) {
                const struct cluster_node *n = &view->nodes[i % view->n_nodes];

                if (!waits_for_order(view, n) || is_straggler(view, n) != (i >= view->n_nodes))
                        continue;
                plan_put(plan, RECORD_ORDER, &turn, KEY_ORDERS "%s/%s", id, n->member.name);
                room--;
        }
}

static const char *who_is_missing(const struct cluster_view *view)
{
        for (size_t i = 0; i < view->n_nodes; i++)
                if (node_decides(&view->nodes[i]) && !node_is_fenced(view, &view->nodes[i]) &&
                    !node_has_reached(view, &view->nodes[i]))
                        return view->nodes[i].member.name;
        return "a controller";
}

/* A new decision: the record is again as the operation found it, in a new epoch. What an upgrade has overwritten is no way
 * back any more. */
static int go_back(const struct cluster_view *view, struct cluster_record *record, struct cluster_operation *op,
                   uint64_t now, struct plan *plan)
{
        const struct cluster_record *before = &op->before;

        record->running = before->running;
        record->previous = before->previous;
        if (op->kind == OPERATION_UPGRADE)
                record->previous = (struct version_id){};
        record->previous_epoch = before->previous_epoch;
        memcpy(record->fences, before->fences, sizeof(record->fences));
        record->n_fences = before->n_fences;
        next_record(record, ORIGIN_GO_BACK, op->id, now);
        snprintf(op->reason, sizeof(op->reason), "%s did not come up with version %s", who_is_missing(view), op->to.version);
        op->phase = PHASE_TAKE_BACK;
        op->controllers_at = op->engines_at = now + op->lead;
        op->deadline = op->controllers_at + op->switch_limit;
        plan_compare(plan, STORE_REVISION, view->operation_revision, KEY_OPERATION);
        plan_compare(plan, STORE_REVISION, view->record_revision, KEY_RECORD);
        plan_put(plan, RECORD_OPERATION, op, KEY_OPERATION);
        put_record(record, plan);
        return 0;
}

/* The engines follow the record, never a controller: so the record follows the majority of the controllers. */
static int follow(const struct cluster_view *view, struct cluster_record *record, uint64_t now, struct plan *plan)
{
        const struct version_id *version = majority_version(view);
        int r = 0;

        if (!version)
                return -EINVAL;
        if (version_id_equal(version, &record->previous))
                r = to_previous(view, record);
        if (r < 0)
                return r;
        record->previous = (struct version_id){};
        record->running = *version;
        next_record(record, ORIGIN_FOLLOW, NULL, now);
        plan_compare(plan, STORE_ABSENT, 0, KEY_OPERATION);
        plan_compare(plan, STORE_REVISION, view->record_revision, KEY_RECORD);
        plan_compare(plan, STORE_QUIET, view->revision, KEY_CONTROLLER);
        plan_compare(plan, STORE_QUIET, view->revision, KEY_NODES);
        put_record(record, plan);
        return 0;
}

static int carry_out(enum coordinator_action action, const struct cluster_view *view, struct cluster_record *record,
                     struct cluster_operation *op, uint64_t now, uint64_t seen, struct plan *plan)
{
        switch (action) {
        case COORDINATOR_COMMIT:
                return commit(view, record, op, now, plan);
        case COORDINATOR_ABORT:
                abort_operation(view, now, seen, plan);
                return 0;
        case COORDINATOR_GO_ON:
                go_on(view, op, now, plan);
                return 0;
        case COORDINATOR_ORDER:
                order(view, op, now, plan);
                return 0;
        case COORDINATOR_GO_BACK:
                return go_back(view, record, op, now, plan);
        case COORDINATOR_FINISH:
                coordinator_close(view, op->phase == PHASE_TAKE_BACK ? CLUSTER_FAILED : CLUSTER_DONE, NULL, now, plan);
                return 0;
        case COORDINATOR_FOLLOW:
                return follow(view, record, now, plan);
        case COORDINATOR_NOTHING:
        case _COORDINATOR_ACTION_MAX:
                break;
        }
        return 0;
}

int coordinator_decide(const struct cluster_view *view, uint64_t now, uint64_t seen, enum coordinator_action *ret,
                       struct plan *plan, struct error *e)
{
        _cleanup_cluster_record_ struct cluster_record record = {};
        _cleanup_cluster_operation_ struct cluster_operation op = {};
        enum coordinator_event event = coordinator_event(view, now, seen);
        enum coordinator_action action = coordinator_next(view->operation.phase, event);
        int r;

        *ret = COORDINATOR_NOTHING;
        if (action == COORDINATOR_NOTHING)
                return 0;
        r = record_copy(RECORD_CLUSTER, &view->record, &record);
        if (r >= 0)
                r = record_copy(RECORD_OPERATION, &view->operation, &op);
        if (r >= 0)
                r = carry_out(action, view, &record, &op, now, seen, plan);
        if (r == -ENOSPC)
                return fail(e, r, NULL, "too many groups of nodes are refused: delete those that will not come back");
        if (r < 0)
                return fail_errno(e, r, "the cluster's operation");
        *ret = action;
        return plan_failed(plan, e);
}
