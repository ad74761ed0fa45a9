/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An operation of the cluster as `show upgrade status` prints one: the steps are the phases, with how many nodes are
 * through.
 *
 *      OPEN  PREPARE  COMMIT  SWITCH_CONTROLLERS  SWITCH_ENGINES  FINISH */
#pragma once

#include "cluster/view.h"
#include "operation/operation.h"

/* Where a member could not ask its cluster, what is printed is an operation of its own, and has this member besides: why. */
#define CLUSTER_UNREACHABLE "cluster_unreachable"

/* `op` may be over; of one whose votes and epoch are no more, the nodes are not counted. -ENOMEM. */
int progress_of(const struct cluster_view *view, const struct cluster_operation *op, struct operation *ret);

/* Of the nodes of an operation that is over, "nodes" has none where there is a list of operations: all nodes in each of them
 * would be more than an answer holds. */
enum progress_nodes { PROGRESS_ALL_NODES, PROGRESS_FAILED_NODES };

/* operation_to_json() of it, with "epoch", "nodes" and "nodes_failed", and how it was asked for. New reference; NULL: no
 * memory. */
json_t *progress_to_json(const struct cluster_view *view, const struct cluster_operation *op, enum progress_nodes which);

/* Who lags or failed, and why: "NAME: REASON" a line; "" when nobody does. malloc'ed; NULL: no memory. */
char *progress_laggards(const struct cluster_view *view, const struct cluster_operation *op);
