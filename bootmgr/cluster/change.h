/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The store as verbs use it, which wait: all that a view holds, read at one revision, and decisions over it that are written
 * as transactions. Only for a store with a loop of its own. */
#pragma once

#include "cluster/view.h"

/* Everything as of one revision. The caller's: cluster_view_done(). */
int cluster_read(struct store *s, struct cluster_view *ret, struct error *e);

/* The store of this controller, for who changes something in it or lets somebody in. kind_usage: it is none; as
 * request_control(): it is refused itself. */
int cluster_open_to_change(const char *data, struct store **ret, struct error *e);

/* What is to be written, as request.h has it: an empty plan is success. */
typedef int (*cluster_decide)(const struct cluster_view *view, struct plan *plan, void *userdata, struct error *e);
/* Reads, decides and writes, and again when somebody else was quicker (always: -EAGAIN) or it is not known whether it was
 * written. So deciding again what was written already must be success. */
int cluster_change(struct store *s, cluster_decide decide, void *userdata, struct error *e);
