/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One file of a tree, wherever it comes from: a file system (walk.h) or an archive (archive.h). What
 * holds between the two directions, sealing and restoring, is that a node says everything: the same node
 * read, sealed, unpacked and read again is equal.
 *
 *      walk ──────▶ node ──────▶ tar_writer      seal
 *      tar_reader ▶ node ──────▶ unpack          restore
 *      walk ──────▶ node ──────▶ unpack          carry
 *      tar_reader ▶ node ◀─same?─▶ node ◀ walk   diff
 */
#pragma once

#include <sys/stat.h>

#include "base/error.h"
#include "snapshot/xattr.h"

struct extent {
        uint64_t offset, length;
};

struct node {
        char *path;  /* "data/app/x": neither begins nor ends with a slash */
        mode_t mode; /* type and permissions */
        uid_t uid;
        gid_t gid;
        struct timespec mtime;
        uint64_t size;        /* of a regular file; 0 for every other type */
        char *target;         /* what a symbolic link says; NULL for every other type */
        char *hardlink;       /* the path of the node that this is another name of; NULL: its first name */
        struct xattr *xattrs; /* the ACLs are among them, in the kernel's form */
        bool sparse;          /* it has holes: */
        struct extent *data;  /* what lies between them, in order */
        size_t n_data;
        /* Of the file system, not part of what is sealed. */
        uint64_t dev, ino, blocks; /* blocks of 512 bytes */
        uint32_t nlink;
        bool whiteout; /* character device 0:0: what overlayfs puts where a lower file was removed */
};

void node_done(struct node *n);
#define _cleanup_node_ _cleanup_(node_done)

/* Only type and identity, from one statx(2): mode, owner, mtime, size, dev, ino. -ENOENT is not recorded in
 * `e`. A mount point is refused (kind_config_path). `path` is copied. */
int node_stat(int dirfd, const char *name, const char *path, struct node *ret, struct error *e);
/* Opens a regular file or directory that was just looked at: *ret_fd; -1 for every other type. */
int node_open(int dirfd, const char *name, const struct node *n, int *ret_fd, struct error *e);
/* The rest: link target, extended attributes, extents. `fd` as from node_open(). */
int node_load(int dirfd, const char *name, int fd, struct node *n, struct error *e);

/* Owner, mode, extended attributes and ACLs, then mtime, on a file that was just made. `fd` is -1 for what cannot
 * be opened. What a new file inherited from its directory and the node does not have is taken away. */
int node_apply(const struct node *n, int dirfd, const char *name, int fd, struct error *e);

static inline bool node_same_type(const struct node *a, const struct node *b)
{
        return (a->mode & S_IFMT) == (b->mode & S_IFMT);
}
/* Type, permissions, owner, extended attributes, ACLs, link target; not times, not content, not the attributes
 * that overlayfs keeps for itself. */
bool node_same_metadata(const struct node *a, const struct node *b);

/* Bytes that reading its content yields, holes not counted. */
uint64_t node_data_bytes(const struct node *n);
