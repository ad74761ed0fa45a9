/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who lags behind an operation, and is named in it: at the commit, and again at its end. Pure. */
#pragma once

#include "cluster/view.h"

/* Names all that are not fenced and not there. Thousands have room; the others are counted. `silent`: who has not voted
 * lags, too. -ENOMEM. */
int name_stragglers(const struct cluster_view *view, struct cluster_operation *op, bool silent);
/* NULL: it is not named. */
const struct straggler *find_straggler(const struct cluster_operation *op, const char *name);
/* Whether it was one at the commit of the open operation. */
bool is_straggler(const struct cluster_view *view, const struct cluster_node *n);

/* Whether the rollback that is open would refuse it afterwards. */
bool joined_after_snapshot(const struct cluster_view *view, const struct cluster_node *n);
