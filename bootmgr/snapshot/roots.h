/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where the nodes of a sequence lie, or are to lie, in file systems. */
#pragma once

#include "base/util.h"

struct root {
        const char *prefix; /* nodes with this path and below … */
        int parent;         /* … are `name` in this directory, and what is below it */
        const char *name;
};

struct roots {
        const struct root *items;
        size_t n;
};

/* The directory of a node, found component by component and through no symbolic link, and its name there. fd, -ENXIO
 * when it is under no root, or -errno. */
int roots_open_parent(const struct roots *roots, const char *path, const char **ret_name);
bool roots_has(const struct roots *roots, const char *path); /* it is one */
