/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "snapshot/roots.h"

#include "base/buf.h"
#include "snapshot/path.h"

bool roots_has(const struct roots *roots, const char *path)
{
        for (size_t i = 0; i < roots->n; i++)
                if (streq(path, roots->items[i].prefix))
                        return true;
        return false;
}

int roots_open_parent(const struct roots *roots, const char *path, const char **ret_name)
{
        for (size_t i = 0; i < roots->n; i++) {
                const struct root *root = &roots->items[i];
                const char *below = path_below(path, root->prefix), *ignored;
                _cleanup_free_ char *full = NULL;

                if (!below)
                        continue;
                *ret_name = *below ? strrchr(path, '/') + 1 : root->name;
                full = *below ? xasprintf("%s/%s", root->name, below) : strdup(root->name);
                return full ? path_open_beneath(root->parent, full, &ignored) : -ENOMEM;
        }
        return -ENXIO;
}
