/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Every persistent write of bootmgr goes through these calls.
 *
 * They are thin: one call is one system call (or its loop for short writes), results are 0 or a
 * negative errno. A test replaces the table with one that records, cuts or fails calls, so the order
 * of writes and flushes can be enumerated (design section 9). Reads go through io_pread as well, so
 * that faults can be injected there. The system's table may be used from any thread.
 */
#pragma once

#include <sys/types.h>
#include <time.h>

#include "base/util.h"

/* One change of what an inode says of itself. */
struct io_attribute {
        enum { IO_OWNER, IO_MODE, IO_MTIME, IO_SET_XATTR, IO_REMOVE_XATTR } what;
        uid_t uid;
        gid_t gid;
        mode_t mode;
        struct timespec mtime;
        const char *name; /* of the extended attribute */
        const void *value;
        size_t size;
};

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
        int (*link)(int olddir, const char *old, int newdir, const char *new);
        int (*symlink)(const char *target, int dirfd, const char *path);
        int (*mknod)(int dirfd, const char *path, mode_t mode, dev_t dev);
        int (*attribute)(int dirfd, const char *path, int fd, const struct io_attribute *a);
        int (*allocate)(int fd, uint64_t size);
        int (*write_back)(int fd);
        void (*written)(int fd);
};

extern const struct io_ops io_system_ops;

/* Replaces the table; NULL restores io_system_ops. For tests. Returns the one in force before. */
const struct io_ops *io_set_ops(const struct io_ops *ops);
/* False while another table is in force: what records or cuts wants one call after the other, in the same order each time.
 * Whoever writes from several threads asks first. */
bool io_is_system(void);

int io_open(int dirfd, const char *path, int flags, mode_t mode);
/* Writes or reads all of it; -EIO on end of file, -ENOSPC when nothing more can be written. */
int io_pwrite(int fd, const void *buf, size_t n, uint64_t offset) _warn_unused_;
int io_pread(int fd, void *buf, size_t n, uint64_t offset) _warn_unused_;
int io_fsync(int fd) _warn_unused_; /* a barrier */
int io_truncate(int fd, uint64_t size) _warn_unused_;
int io_rename(int olddir, const char *old, int newdir, const char *new, unsigned flags) _warn_unused_;
int io_unlink(int dirfd, const char *path, int flags);
int io_mkdir(int dirfd, const char *path, mode_t mode); /* 0 also when it is there already */
int io_zero(int fd, uint64_t offset, uint64_t length) _warn_unused_;
int io_discard(int fd, uint64_t offset, uint64_t length);
int io_link(int olddir, const char *old, int newdir, const char *new) _warn_unused_;
int io_symlink(const char *target, int dirfd, const char *path) _warn_unused_;
int io_mknod(int dirfd, const char *path, mode_t mode, dev_t dev) _warn_unused_; /* mkfifo(3) too */
/* Of the file `path` in dirfd (a symbolic link itself), which is open as fd where it can be; else fd is -1. */
int io_attribute(int dirfd, const char *path, int fd, const struct io_attribute *a) _warn_unused_;
int io_allocate(int fd, uint64_t size); /* room is kept, nothing is written */
/* Lets the file system begin to write, in its own order. A hint: nothing is durable by it. */
int io_write_back(int fd) _warn_unused_;
/* Another program (libfdisk, mkfs) has written what is open here. Nothing to do but for one who records. */
void io_written(int fd);

/* fsyncs the directory itself, the second half of every barrier on vfat (design section 8). */
int io_fsync_dir(int dirfd, const char *path) _warn_unused_; /* path "." for dirfd itself */

/* Where the barrier that is called stands in the source, "bootmgr/slot/store.c:268": a test takes out one after the other
 * and wants to be told by the enumeration of power cuts which one is missing (tests/crash). */
extern _Thread_local const char *io_site;
#define IO_SITE_OF(line)          __FILE__ ":" #line
#define IO_SITE_AT(line)          IO_SITE_OF(line)
#define IO_SITE                   IO_SITE_AT(__LINE__)
#define io_fsync(fd)              (io_site = IO_SITE, (io_fsync)(fd))
#define io_fsync_dir(dirfd, path) (io_site = IO_SITE, (io_fsync_dir)(dirfd, path))

/* Copies `size` bytes (or to the end with UINT64_MAX) between descriptors, current offsets unused. */
int io_copy(int from, uint64_t from_offset, int to, uint64_t to_offset, uint64_t size) _warn_unused_;
