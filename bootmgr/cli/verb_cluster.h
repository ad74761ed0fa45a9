/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the verbs of a cluster share. */
#pragma once

#include "base/verb.h"
#include "cluster/join.h"
#include "operation/machine.h"

/* The configuration, and the data directory. That needs no disk: a cluster is none of the slots' business. */
int cluster_load(struct verb_args *args, struct config *config, const char **ret_data, struct error *e);
/* Opens the machine that is to become a node: 1. 0: with --data= it may be one that does not run here, and is not known.
 * Else kind_no_machine: without slots of bootmgr no version could come to it. */
int cluster_open_machine(struct verb_args *args, struct machine *m, struct error *e);
/* The values of --address. */
int cluster_addresses(struct verb_args *args, const char *addresses[static JOIN_ADDRESSES + 1], struct error *e);
/* Where others reach the interface that Listen= asks for. */
unsigned cluster_api_port(const struct config *config);
