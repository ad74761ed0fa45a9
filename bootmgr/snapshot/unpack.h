/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Makes files from nodes, whose names may be hostile: everything happens below the roots, by descriptors
 * and component by component, never through a symbolic link, and never onto a name that exists.
 *
 *         struct unpack u = { .roots = roots, .bytes_max = …, .nodes_max = … };
 *         unpack_add() for every node, a directory before what it holds
 *         unpack_finish(): the directories get their owners, modes and times
 *         tree_flush() for every root
 *         unpack_done(): in any case
 */
#pragma once

#include "snapshot/node.h"
#include "snapshot/roots.h"

struct unpack {
        struct roots roots;            /* all in them is borrowed */
        uint64_t bytes_max, nodes_max; /* more is refused: a bomb (kind_snapshot_altered) */
        /* private */
        struct unpack_directory *directories; /* the newest first */
        int parent;                           /* the directory that was used last, valid if parent_path is set */
        char *parent_path;
};

/* Writes the content of a regular file; holes are left out. */
typedef int (*unpack_content)(void *userdata, const struct node *n, int fd, struct error *e);

/* -EBADMSG (kind_snapshot_altered) when its name is under no root. A directory's node moves into `u`. */
int unpack_add(struct unpack *u, struct node *n, unpack_content content, void *userdata, struct error *e);
int unpack_finish(struct unpack *u, struct error *e);
void unpack_done(struct unpack *u);
#define _cleanup_unpack_ _cleanup_(unpack_done)

/* Everything of a tree reaches the disk; not the name `name` itself: flush its directory for that. */
int tree_flush(int dirfd, const char *name, struct error *e);
