/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is written once and never again has an end all the same: the oldest goes in the transaction that adds to it, so that
 * no store grows for ever and nothing else has to run. By number, never by age: which is older is what the store's own
 * revisions say, and no clock. What is promised of an id (docs/cluster.md, docs/openapi.json) are these numbers. */
#pragma once

#include "cluster/view.h"

#define PRUNE_OPERATIONS 100  /* in the history, with the open one; all of them go into one answer (STORE_ANSWER_MAX) */
#define PRUNE_REQUESTS   1000 /* aborts, finalizes and deletions of nodes that had an id */
#define PRUNE_LOG        1000 /* epochs */

/* Adds to `plan`, which writes the log of this epoch, that of the one that has to go for it. */
void prune_log(uint64_t epoch, struct plan *plan);
/* Of the history, for one that is opened over this view: the operation that wrote the record stays, however old. */
int prune_history(struct store *s, const struct cluster_view *view, struct plan *plan, struct error *e);
/* Of what was asked for with an id, for one more. */
int prune_requests(struct store *s, struct plan *plan, struct error *e);
