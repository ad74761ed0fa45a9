/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a node, or whoever shows a certificate, is to the cluster, and what it is called. */
#pragma once

#include "base/util.h"

#define NODE_NAME_SIZE 64 /* with the NUL */

enum node_role {
        ROLE_STANDALONE,
        ROLE_CONTROLLER,
        ROLE_ENGINE,
        ROLE_OPERATOR, /* a person: no member */
        _NODE_ROLE_MAX,
};

extern const char *const node_roles[_NODE_ROLE_MAX]; /* "controller" … */
const char *node_role_to_string(enum node_role role);
int node_role_from_string(const char *s, enum node_role *ret); /* -EINVAL */

/* A host name label or several: 1 to 63 of [a-z0-9.-], first and last a letter or digit. It stands in host names, keys of
 * the store, paths and URLs. */
bool node_name_valid(const char *name);
