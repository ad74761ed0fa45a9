/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cluster/stragglers.h"

#define STRAGGLERS_BYTES KIB(160) /* of names and reasons, as they are stored: a value of the store has STORE_VALUE_MAX */

/* They are named in the order of the members, which is that of the keys. */
static int compare_stragglers(const void *name, const void *straggler)
{
        return strcmp(name, ((const struct straggler *)straggler)->name);
}

const struct straggler *find_straggler(const struct cluster_operation *op, const char *name)
{
        return op->n_stragglers == 0
                       ? NULL
                       : bsearch(name, op->stragglers, op->n_stragglers, sizeof(*op->stragglers), compare_stragglers);
}

/* For whom the list has no room the vote tells it: until the operation is over it is as it was then. */
bool is_straggler(const struct cluster_view *view, const struct cluster_node *n)
{
        const struct cluster_operation *op = &view->operation;

        if (find_straggler(op, n->member.name))
                return true;
        return op->stragglers_more > 0 && !(n->voted && n->vote.yes);
}

bool joined_after_snapshot(const struct cluster_view *view, const struct cluster_node *n)
{
        return view->operation.kind == OPERATION_ROLLBACK && n->member.joined > view->record.previous_epoch;
}

static const char *why_not(const struct cluster_view *view, const struct cluster_node *n)
{
        if (view->operation.phase == PHASE_PREPARE)
                return !n->voted ? "it did not answer" : n->vote.message;
        if (!n->has_status || n->status.epoch != view->record.epoch)
                return "it was not heard of since the decision";
        if (*n->status.message)
                return n->status.message;
        return n->status.settled ? "it runs another version" : "it is still at work";
}

/* As JSON, at most: a character of a reason may need a second one to be written. */
static size_t straggler_bytes(const struct straggler *s)
{
        return strlen("{\"name\":\"\",\"reason\":\"\"},") + strlen(s->name) + 2 * strlen(s->reason);
}

int name_stragglers(const struct cluster_view *view, struct cluster_operation *op, bool silent)
{
        size_t bytes = 0;

        free(TAKE_PTR(op->stragglers));
        op->n_stragglers = op->stragglers_more = 0;
        op->stragglers = calloc(view->n_nodes + 1, sizeof(*op->stragglers));
        if (!op->stragglers)
                return -ENOMEM;
        for (size_t i = 0; i < view->n_nodes; i++) {
                const struct cluster_node *n = &view->nodes[i];
                bool voting = view->operation.phase == PHASE_PREPARE;
                bool good = voting ? n->voted ? n->vote.yes : !silent : node_has_reached(view, n);
                struct straggler *s = &op->stragglers[op->n_stragglers];

                if (good || node_is_fenced(view, n) || (voting && joined_after_snapshot(view, n)))
                        continue;
                snprintf(s->name, sizeof(s->name), "%s", n->member.name);
                snprintf(s->reason, sizeof(s->reason), "%s", why_not(view, n));
                bytes += straggler_bytes(s);
                if (bytes > STRAGGLERS_BYTES)
                        op->stragglers_more++;
                else
                        op->n_stragglers++;
        }
        return 0;
}
