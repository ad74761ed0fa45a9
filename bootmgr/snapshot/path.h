/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Configured paths ("/data/app/config"), the names they have in archives ("data/app/config"), and the failures
 * that all of snapshot/ shares. */
#pragma once

#include "snapshot/snapshot.h"

/* Beside a configured path: its new content before the exchange, its old one after. */
#define BESIDE_PREFIX ".bootmgr-new."

/* Why a path cannot be configured, or NULL when it can: absolute, normalised, not "/", text. */
const char *path_problem(const char *path);

/* Whether `path` is `root` or lies below it, by the names alone; both in the same form. Returns what
 * follows ("" when they are equal, "x/y"), or NULL. */
const char *path_below(const char *path, const char *root);

/* Opens the directory in which a configured path lies. Symbolic links among its parents are followed
 * within `root`, never out of it. *ret_name points at the last component. fd, -ENOENT when the
 * directory is not there, or another -errno. `create`: makes what is missing, mode 0755. */
int path_open_parent(int root, const char *path, bool create, const char **ret_name);

/* Follows `path` ("x/y/z") from `dir`, component by component and no symbolic link, to the
 * directory that holds its last component. Nothing can lead out of `dir`. fd or -errno: -ENOTDIR or -ELOOP where
 * a component is no directory. */
int path_open_beneath(int dir, const char *path, const char **ret_name);

/* Whether an archive may name a file so: no empty, "." or ".." component. */
bool path_is_clean(const char *path);

/* Records a failed write; no room has its own kind and way out. */
int fail_write(struct error *e, int code, const char *fmt, ...) _printf_(3, 4);
int fail_mount_point(struct error *e, const char *path);
int fail_changed(struct error *e, const char *path);
