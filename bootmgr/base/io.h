/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Every persistent write of bootmgr goes through these calls.
 *
 * They are thin: one call is one system call (or its loop for short writes), results are 0 or a
 * negative errno. A test replaces the table with one that records, cuts or fails calls, so the order
 * of writes and flushes can be enumerated (design section 9). Reads go through io_pread as well, so
 * that faults can be injected there.
 */
#pragma once

#include <sys/types.h>

#include "base/util.h"

struct io_ops {
        int (*open)(int dirfd, const char *path, int flags, mode_t mode); /* fd or -errno; O_CLOEXEC is added */
        ssize_t (*pwrite)(int fd, const void *buf, size_t n, uint64_t offset);
        ssize_t (*pread)(int fd, void *buf, size_t n, uint64_t offset);
        int (*fsync)(int fd); /* a file, a directory or a block device */
        int (*truncate)(int fd, uint64_t size);
        int (*rename)(int olddir, const char *old, int newdir, const char *new, unsigned flags); /* renameat2(2) */
        int (*unlink)(int dirfd, const char *path, int flags);                                   /* unlinkat(2) */
        int (*mkdir)(int dirfd, const char *path, mode_t mode);
        int (*zero)(int fd, uint64_t offset, uint64_t length);    /* reads as zeros afterwards */
        int (*discard)(int fd, uint64_t offset, uint64_t length); /* a hint only */
};

extern const struct io_ops io_system_ops;

/* Replaces the table; NULL restores io_system_ops. For tests. Returns the one in force before. */
const struct io_ops *io_set_ops(const struct io_ops *ops);

int io_open(int dirfd, const char *path, int flags, mode_t mode);
/* Writes or reads all of it; -EIO on end of file, -ENOSPC when nothing more can be written. */
int io_pwrite(int fd, const void *buf, size_t n, uint64_t offset) _warn_unused_;
int io_pread(int fd, void *buf, size_t n, uint64_t offset) _warn_unused_;
int io_fsync(int fd) _warn_unused_;
int io_truncate(int fd, uint64_t size) _warn_unused_;
int io_rename(int olddir, const char *old, int newdir, const char *new, unsigned flags) _warn_unused_;
int io_unlink(int dirfd, const char *path, int flags);
int io_mkdir(int dirfd, const char *path, mode_t mode); /* 0 also when it is there already */
int io_zero(int fd, uint64_t offset, uint64_t length) _warn_unused_;
int io_discard(int fd, uint64_t offset, uint64_t length);

/* fsyncs the directory itself, the second half of every barrier on vfat (design section 8). */
int io_fsync_dir(int dirfd, const char *path) _warn_unused_; /* path "." for dirfd itself */

/* Copies `size` bytes (or to the end with UINT64_MAX) between descriptors, current offsets unused. */
int io_copy(int from, uint64_t from_offset, int to, uint64_t to_offset, uint64_t size) _warn_unused_;
