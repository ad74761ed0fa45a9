/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* For verbs, which wait: what the store says, and what somebody decides over it, until it is written. */
#pragma once

#include "cluster/replica.h"

/* Everything that a view needs, as of now. */
int ask_view(struct store *store, struct cluster_view *ret, struct error *e);

/* Decides over a view. An empty plan: there is nothing to be done. */
typedef int (*ask_decide)(const struct cluster_view *view, void *userdata, struct plan *plan, struct error *e);

/* Reads, decides and writes, again when something changed between. -EAGAIN, kind_store: too often. Where an answer of the
 * store was lost, it is read again, too: what is decided so must be idempotent. */
int ask_commit(struct store *store, ask_decide decide, void *userdata, struct error *e);
