/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The members of a cluster as `show nodes` and GET /api/cluster/nodes tell of them: Nodes in docs/openapi.json. Pure. */
#pragma once

#include "cluster/view.h"

/* Of a cluster; `self`: the name of this node; `connected`: an object whose members are the names of those that a controller
 * hears of at the moment, NULL: not known. NULL: no memory. New references. */
json_t *nodes_of_view(const struct cluster_view *view, const char *self, const json_t *connected);
/* Of a machine that stands alone, from what `bootmgr status --json` prints. */
json_t *nodes_of_status(const json_t *status, const char *self);
