/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the verbs of a cluster share. */
#pragma once

#include "base/verb.h"
#include "slot/config.h"

/* The configuration, and the data directory. That needs no disk: a cluster is none of the slots' business. */
int cluster_load(struct verb_args *args, struct config *config, const char **ret_data, struct error *e);
