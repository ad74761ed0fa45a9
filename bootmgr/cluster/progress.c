/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cluster/progress.h"

#include "base/buf.h"
#include "cluster/plan.h"
#include "cluster/stragglers.h"

enum { OPEN, PREPARE, COMMIT, SWITCH_CONTROLLERS, SWITCH_ENGINES, FINISH, N_STEPS };

static const char *const names[N_STEPS] = {
        [OPEN] = "OPEN",     [PREPARE] = "PREPARE",
        [COMMIT] = "COMMIT", [SWITCH_CONTROLLERS] = "SWITCH_CONTROLLERS",
        [FINISH] = "FINISH", [SWITCH_ENGINES] = "SWITCH_ENGINES",
};

struct counted {
        size_t done, all;
};

static bool is_open(const struct cluster_operation *op)
{
        return op->phase != PHASE_IDLE;
}

/* Whether what the nodes say is about this operation. */
static bool is_current(const struct cluster_view *view, const struct cluster_operation *op)
{
        return is_open(op) || (op->epoch > 0 && op->epoch == view->record.epoch);
}

/* Or is being taken back: the controllers did not come up with its version. Engines had no turn then, or go back with them.
 */
static bool is_taken_back(const struct cluster_operation *op)
{
        return is_open(op) ? op->phase == PHASE_TAKE_BACK : op->result == CLUSTER_FAILED;
}

/* Of those that are asked, or have answered all the same: an older node did. */
static struct counted count_votes(const struct cluster_view *view)
{
        struct counted c = {};

        for (size_t i = 0; i < view->n_nodes; i++) {
                const struct cluster_node *n = &view->nodes[i];

                if (node_is_fenced(view, n) || (!n->voted && joined_after_snapshot(view, n)))
                        continue;
                c.all++;
                c.done += n->voted;
        }
        return c;
}

static struct counted count_reached(const struct cluster_view *view, bool engines)
{
        struct counted c = {};

        for (size_t i = 0; i < view->n_nodes; i++)
                if (!node_is_fenced(view, &view->nodes[i]) && node_decides(&view->nodes[i]) != engines) {
                        c.all++;
                        c.done += node_has_reached(view, &view->nodes[i]);
                }
        return c;
}

static struct counted count_back(const struct cluster_view *view)
{
        const struct counted controllers = count_reached(view, false), engines = count_reached(view, true);

        return (struct counted){ controllers.done + engines.done, controllers.all + engines.all };
}

static void set(struct step_record *s, enum step_state state, uint64_t start, uint64_t end)
{
        s->state = state;
        s->start = state == STEP_WAITING || state == STEP_SKIPPED ? 0 : start;
        s->end = state == STEP_DONE || state == STEP_FAILED ? end : 0;
        s->progress = state == STEP_DONE ? 100 : 0;
}

static void set_counted(struct step_record *s, struct counted c)
{
        s->message = xasprintf("%zu of %zu nodes", c.done, c.all);
        if (s->state == STEP_RUNNING && c.all > 0)
                s->progress = (unsigned)(c.done * 100 / c.all);
}

/* The phase that is at work, or was the last one. */
static int step_of(const struct cluster_operation *op)
{
        switch (op->phase) {
        case PHASE_PREPARE:
                return PREPARE;
        case PHASE_CONTROLLERS:
                return SWITCH_CONTROLLERS;
        case PHASE_ENGINES:
                return SWITCH_ENGINES;
        case PHASE_TAKE_BACK:
        case PHASE_IDLE:
        case _PHASE_MAX:
                break;
        }
        return op->result == CLUSTER_ABORTED ? PREPARE : FINISH;
}

/* When the engines' phase was begun. In turn they have no instant in common: its deadline tells; coordinator_close() keeps
 * it. */
static uint64_t engines_from(const struct cluster_operation *op)
{
        uint64_t at = op->engines_at;

        if (at == 0 && op->phase == PHASE_ENGINES)
                at = op->deadline - MIN(op->deadline, op->switch_limit);
        return at - MIN(at, op->lead);
}

static uint64_t start_of(const struct cluster_operation *op, uint64_t committed, int step)
{
        switch (step) {
        case COMMIT:
        case SWITCH_CONTROLLERS:
                return committed;
        case SWITCH_ENGINES:
                return engines_from(op);
        case FINISH:
                if (is_taken_back(op)) /* the way back is its end */
                        return start_of(op, committed, SWITCH_ENGINES);
                return op->ended;
        default:
                return op->opened;
        }
}

static void fill_steps(const struct cluster_operation *op, uint64_t committed, struct operation *o)
{
        int now = step_of(op);
        bool aborted = !is_open(op) && op->result == CLUSTER_ABORTED;

        o->n_steps = N_STEPS;
        for (int i = 0; i < N_STEPS; i++) {
                struct step_record *s = &o->steps[i];
                uint64_t start = start_of(op, committed, i);
                uint64_t end = i == OPEN         ? op->opened
                               : i == PREPARE    ? (committed ?: op->ended)
                               : i + 1 < N_STEPS ? start_of(op, committed, i + 1)
                                                 : op->ended;

                strcpy(s->name, names[i]);
                if (i == COMMIT)
                        end = start;
                if (aborted)
                        set(s, i < now ? STEP_DONE : i == now ? STEP_FAILED : STEP_SKIPPED, start, end);
                else if (is_taken_back(op) && (i == SWITCH_CONTROLLERS || i == SWITCH_ENGINES))
                        set(s, i == SWITCH_CONTROLLERS ? STEP_FAILED : STEP_SKIPPED, start, end);
                else if (i < now || !is_open(op))
                        set(s, STEP_DONE, start, end);
                else
                        set(s, i == now ? STEP_RUNNING : STEP_WAITING, start, 0);
        }
}

int progress_of(const struct cluster_view *view, const struct cluster_operation *op, struct operation *ret)
{
        static const enum operation_result results[_CLUSTER_RESULT_MAX] = {
                [CLUSTER_IN_PROGRESS] = RESULT_IN_PROGRESS, [CLUSTER_DONE] = RESULT_DONE,
                [CLUSTER_PARTIAL] = RESULT_PARTIAL,         [CLUSTER_FAILED] = RESULT_FAILED,
                [CLUSTER_ABORTED] = RESULT_ABORTED,
        };
        bool ours = memcmp(view->record.operation, op->id, CLUSTER_ID_SIZE) == 0;
        struct operation o = { .kind = op->kind,
                               .from_slot = SLOT_NONE,
                               .to_slot = SLOT_NONE,
                               .result = results[op->result],
                               .start = op->opened,
                               .end = op->ended };

        id_to_text(op->id, o.id);
        strcpy(o.from_version, op->from.version);
        strcpy(o.to_version, op->to.version);
        o.reason = *op->reason ? strdup(op->reason) : NULL;
        fill_steps(op,
                   op->epoch == 0 ? 0
                   : ours         ? view->record.written
                                  : op->controllers_at - MIN(op->controllers_at, op->lead),
                   &o);
        if (is_open(op)) /* the votes are kept until it is over */
                set_counted(&o.steps[PREPARE], count_votes(view));
        if (is_taken_back(op)) {
                o.steps[SWITCH_CONTROLLERS].message = *op->reason ? strdup(op->reason) : NULL;
                if (is_open(op))
                        set_counted(&o.steps[FINISH], count_back(view));
        } else if (is_current(view, op) && op->epoch > 0) {
                set_counted(&o.steps[SWITCH_CONTROLLERS], count_reached(view, false));
                set_counted(&o.steps[SWITCH_ENGINES], count_reached(view, true));
        }
        if (op->epoch > 0)
                o.steps[COMMIT].message = xasprintf("epoch %llu", (unsigned long long)op->epoch);
        *ret = o;
        return 0;
}

/* ---- the nodes ---- */

/* Why it lags or failed; NULL: it does not. */
static const char *why(const struct cluster_view *view, const struct cluster_operation *op, const struct cluster_node *n)
{
        const struct straggler *named = find_straggler(op, n->member.name);

        if (!is_current(view, op)) /* how the node stands now is not about it */
                return named ? named->reason : NULL;
        if (node_is_fenced(view, n))
                return "it joined after the snapshot: refused until it is deleted";
        if (named && !node_has_reached(view, n))
                return named->reason;
        if (op->phase == PHASE_PREPARE)
                return n->voted && !n->vote.yes ? n->vote.message : NULL;
        if (node_has_reached(view, n))
                return NULL;
        if (n->has_status && *n->status.message)
                return n->status.message;
        return is_open(op) ? NULL : "nothing was heard of it";
}

/* Who lags or failed, one after the other; NULL: nobody more. Of an operation after which there was another one, that is who
 * was named at its end: nodes were deleted since, and others have joined. */
static const char *next_failed(const struct cluster_view *view, const struct cluster_operation *op, size_t *i,
                               const char **ret_reason)
{
        while (is_current(view, op) && *i < view->n_nodes) {
                const struct cluster_node *n = &view->nodes[(*i)++];

                *ret_reason = why(view, op, n);
                if (*ret_reason)
                        return n->member.name;
        }
        if (is_current(view, op) || *i >= op->n_stragglers)
                return NULL;
        *ret_reason = op->stragglers[*i].reason;
        return op->stragglers[(*i)++].name;
}

static const char *state(const struct cluster_view *view, const struct cluster_operation *op, const struct cluster_node *n,
                         const char *reason)
{
        if (op->phase == PHASE_PREPARE)
                return n->voted && !n->vote.yes ? "FAILED" : "IN_PROGRESS";
        if (is_current(view, op) && node_has_reached(view, n))
                return "DONE";
        if (!is_open(op))
                return op->result == CLUSTER_ABORTED ? "ABORTED" : reason ? "FAILED" : "DONE";
        return node_is_settled(view, n) ? "FAILED" : "IN_PROGRESS";
}

static json_t *node_to_json(const struct cluster_node *n, const char *is, const char *reason)
{
        return json_pack("{s:s, s:s, s:s, s:i, s:o}", "name", n->member.name, "role", node_role_to_string(n->member.role),
                         "state", is, "progress", streq(is, "DONE") ? 100 : 0, "message", json_string_or_null(reason));
}

json_t *progress_to_json(const struct cluster_view *view, const struct cluster_operation *op, enum progress_nodes which)
{
        _cleanup_operation_ struct operation o = {};
        json_t *j, *nodes = json_array(), *failed = json_array();
        const char *name, *reason;
        size_t next = 0;

        if (progress_of(view, op, &o) < 0)
                return NULL;
        j = operation_to_json(&o);
        for (size_t i = 0; i < view->n_nodes && which == PROGRESS_ALL_NODES; i++) {
                const struct cluster_node *n = &view->nodes[i];

                reason = why(view, op, n);
                json_array_append_new(nodes, node_to_json(n, state(view, op, n, reason), reason));
        }
        while ((name = next_failed(view, op, &next, &reason)))
                json_array_append_new(failed, json_pack("{s:s, s:s}", "name", name, "reason", reason));
        json_object_set_new(j, "epoch", json_integer((json_int_t)(op->epoch ?: view->record.epoch)));
        json_object_set_new(j, "strict", json_boolean(op->strict));
        json_object_set_new(j, "one_instant", json_boolean(op->one_instant));
        json_object_set_new(j, "engines", json_string(op->engines == ENGINES_ROLLING ? "rolling" : "together"));
        json_object_set_new(j, "max_unavailable", json_integer((json_int_t)op->max_unavailable));
        json_object_set_new(j, "nodes", nodes);
        json_object_set_new(j, "nodes_failed", failed);
        return j;
}

char *progress_laggards(const struct cluster_view *view, const struct cluster_operation *op)
{
        _cleanup_buf_ struct buf b = {};
        const char *name, *reason;
        size_t next = 0;

        buf_puts(&b, "");
        while ((name = next_failed(view, op, &next, &reason)))
                buf_printf(&b, "%s: %s\n", name, reason);
        return b.size ? buf_take(&b) : strdup("");
}
