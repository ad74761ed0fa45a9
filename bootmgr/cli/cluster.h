/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The verbs for the whole system, where the machine is a member of a cluster: there they mean the cluster. Asked of the
 * store, on a controller. */
#pragma once

#include "cli/cli.h"
#include "cluster/home.h"

/* Whether this machine is a member. */
bool is_member(const struct machine *m);
/* Options that mean a cluster, on a machine that is none: kind_usage. */
int refuse_alone(const struct verb_args *args, struct error *e);

int cluster_upgrade(struct verb_args *args, struct machine *m, struct error *e);
int cluster_rollback(struct verb_args *args, struct machine *m, struct error *e);
/* `id`: of the request, or "". Done once for each. */
int cluster_abort(struct machine *m, const char *id, struct error *e);
int cluster_finalize(struct machine *m, const char *id, struct error *e);

/* check_rollback(), with what the cluster has to do with it where the machine is a member of one. */
int cluster_check_rollback(struct machine *m, const struct rollback_options *options, struct check_list *ret,
                           struct error *e);

/* The cluster's newest operation, as rows and as JSON (a new reference), and who lags in it (malloc'ed). -ENOENT: there was
 * none. */
int cluster_load_current(struct machine *m, struct operation *ret, json_t **ret_json, char **ret_laggards, struct error *e);

/* All that are kept, newest first: an array, a new reference. */
int cluster_load_history(struct machine *m, json_t **ret, struct error *e);

/* For a dry run: what the cluster has against a rollback, as a check ("cluster"), and the names of those that it would
 * refuse afterwards (a new reference). On an engine it says that the cluster is not asked here, and leaves the names NULL.
 */
int cluster_dry_run(struct machine *m, struct check_list *checks, json_t **ret_fenced, struct error *e);
