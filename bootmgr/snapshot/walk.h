/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A tree of a file system as a sequence of nodes: a directory before what it holds, names in the order
 * of their bytes, so that equal trees give equal sequences. Never follows a symbolic link, never
 * enters another file system: a mount point is a failure. */
#pragma once

#include "snapshot/links.h"
#include "snapshot/node.h"

#define WALK_MAX_DEPTH 512 /* directories; one open descriptor each */

struct walk {
        /* `fd` is open for regular files and directories, else -1. `node` may be emptied by the visitor.
         * A further name of a file that was visited before has ->hardlink set. */
        int (*visit)(struct walk *w, struct node *node, int dirfd, const char *name, int fd, struct error *e);
        void *userdata;
        bool shallow;     /* no link targets, attributes and extents: only what node_stat() says */
        bool whiteouts;   /* they are visited too, as nodes with ->whiteout */
        bool changing;    /* services run: what vanishes or changes under the walk is passed over */
        bool quiet;       /* no word in the log about what is left out */
        uint64_t skipped; /* sockets and devices that were left out */
        /* private */
        struct links links;
        int depth;
};

/* Visits `name` in `dirfd` and everything below; `path` is what the first node's path becomes. -ENOENT without
 * a record in `e` when it is not there. Several trees walked with one `walk` share their hard links. */
int walk_tree(struct walk *w, int dirfd, const char *name, const char *path, struct error *e);
void walk_done(struct walk *w);
#define _cleanup_walk_ _cleanup_(walk_done)

/* The names in a directory, sorted, NULL-terminated; both levels owned by the caller. */
int directory_names(int fd, char ***ret);
void names_free(char **names);
static inline void names_freep(char ***names)
{
        names_free(*names);
}
#define _cleanup_names_ _cleanup_(names_freep)
