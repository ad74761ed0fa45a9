/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cluster/role.h"

const char *const node_roles[_NODE_ROLE_MAX] = {
        [ROLE_STANDALONE] = "standalone",
        [ROLE_CONTROLLER] = "controller",
        [ROLE_ENGINE] = "engine",
        [ROLE_OPERATOR] = "operator",
};

const char *node_role_to_string(enum node_role role)
{
        return role >= 0 && role < _NODE_ROLE_MAX ? node_roles[role] : "unknown";
}

int node_role_from_string(const char *s, enum node_role *ret)
{
        for (size_t i = 0; i < ARRAY_SIZE(node_roles); i++)
                if (streq(s, node_roles[i])) {
                        *ret = (enum node_role)i;
                        return 0;
                }
        return -EINVAL;
}

static bool is_alphanumeric(char c)
{
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

bool node_name_valid(const char *name)
{
        size_t n = strnlen(name, NODE_NAME_SIZE);

        if (n == 0 || n >= NODE_NAME_SIZE || !is_alphanumeric(name[0]) || !is_alphanumeric(name[n - 1]))
                return false;
        return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789.-") == n && !strstr(name, "..");
}
