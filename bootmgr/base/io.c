/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/io.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#define COPY_SIZE (256 * 1024)

_Thread_local const char *io_site;

static int system_open(int dirfd, const char *path, int flags, mode_t mode)
{
        int fd = openat(dirfd, path, flags | O_CLOEXEC, mode);

        return fd < 0 ? -errno : fd;
}

static ssize_t system_pwrite(int fd, const void *buf, size_t n, uint64_t offset)
{
        ssize_t r = pwrite(fd, buf, n, (off_t)offset);

        return r < 0 ? -errno : r;
}

static ssize_t system_pread(int fd, void *buf, size_t n, uint64_t offset)
{
        ssize_t r = pread(fd, buf, n, (off_t)offset);

        return r < 0 ? -errno : r;
}

static int system_fsync(int fd)
{
        return fsync(fd) < 0 ? -errno : 0;
}

static int system_truncate(int fd, uint64_t size)
{
        return ftruncate(fd, (off_t)size) < 0 ? -errno : 0;
}

static int system_rename(int olddir, const char *old, int newdir, const char *new, unsigned flags)
{
        return renameat2(olddir, old, newdir, new, flags) < 0 ? -errno : 0;
}

static int system_unlink(int dirfd, const char *path, int flags)
{
        return unlinkat(dirfd, path, flags) < 0 ? -errno : 0;
}

static int system_mkdir(int dirfd, const char *path, mode_t mode)
{
        return mkdirat(dirfd, path, mode) < 0 ? -errno : 0;
}

static int write_zeros(int fd, uint64_t offset, uint64_t length)
{
        static const uint8_t zeros[64 * 1024] __attribute__((aligned(4096)));

        while (length > 0) {
                ssize_t n = pwrite(fd, zeros, MIN(length, sizeof(zeros)), (off_t)offset);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : -ENOSPC;
                offset += (uint64_t)n;
                length -= (uint64_t)n;
        }
        return 0;
}

static int system_zero(int fd, uint64_t offset, uint64_t length)
{
        struct stat st;

        if (fstat(fd, &st) < 0)
                return -errno;
        /* Of a device too: where it can make zeros by discarding, nothing is written. */
        if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length) == 0)
                return 0;
        if (S_ISBLK(st.st_mode)) {
                uint64_t range[2] = { offset, length };

                if (ioctl(fd, BLKZEROOUT, range) == 0)
                        return 0;
        }
        return write_zeros(fd, offset, length);
}

static int system_discard(int fd, uint64_t offset, uint64_t length)
{
        uint64_t range[2] = { offset, length };

        return ioctl(fd, BLKDISCARD, range) < 0 ? -errno : 0;
}

static int system_link(int olddir, const char *old, int newdir, const char *new)
{
        return linkat(olddir, old, newdir, new, 0) < 0 ? -errno : 0;
}

static int system_symlink(const char *target, int dirfd, const char *path)
{
        return symlinkat(target, dirfd, path) < 0 ? -errno : 0;
}

static int system_mknod(int dirfd, const char *path, mode_t mode, dev_t dev)
{
        return mknodat(dirfd, path, mode, dev) < 0 ? -errno : 0;
}

/* What cannot be opened (a symbolic link, a pipe) is named through its directory. */
static int set_xattr(int dirfd, const char *path, int fd, const struct io_attribute *a)
{
        char name[PATH_MAX + 32];

        if (fd >= 0)
                return a->what == IO_SET_XATTR ? fsetxattr(fd, a->name, a->value, a->size, 0) : fremovexattr(fd, a->name);
        if (snprintf(name, sizeof(name), "/proc/self/fd/%d/%s", dirfd, path) >= (int)sizeof(name)) {
                errno = ENAMETOOLONG;
                return -1;
        }
        return a->what == IO_SET_XATTR ? lsetxattr(name, a->name, a->value, a->size, 0) : lremovexattr(name, a->name);
}

static int system_attribute(int dirfd, const char *path, int fd, const struct io_attribute *a)
{
        const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, a->mtime };
        int r = -1;

        switch (a->what) {
        case IO_OWNER:
                r = fd >= 0 ? fchown(fd, a->uid, a->gid) : fchownat(dirfd, path, a->uid, a->gid, AT_SYMLINK_NOFOLLOW);
                break;
        case IO_MODE:
                r = fd >= 0 ? fchmod(fd, a->mode) : fchmodat(dirfd, path, a->mode, 0);
                break;
        case IO_MTIME:
                r = fd >= 0 ? futimens(fd, times) : utimensat(dirfd, path, times, AT_SYMLINK_NOFOLLOW);
                break;
        case IO_SET_XATTR:
        case IO_REMOVE_XATTR:
                r = set_xattr(dirfd, path, fd, a);
                break;
        }
        return r < 0 ? -errno : 0;
}

static int system_allocate(int fd, uint64_t size)
{
        return -posix_fallocate(fd, 0, (off_t)size);
}

static int system_write_back(int fd)
{
        return syncfs(fd) < 0 ? -errno : 0;
}

static void system_written(int fd) {}

const struct io_ops io_system_ops = {
        .open = system_open,
        .pwrite = system_pwrite,
        .pread = system_pread,
        .fsync = system_fsync,
        .truncate = system_truncate,
        .rename = system_rename,
        .unlink = system_unlink,
        .mkdir = system_mkdir,
        .zero = system_zero,
        .discard = system_discard,
        .link = system_link,
        .symlink = system_symlink,
        .mknod = system_mknod,
        .attribute = system_attribute,
        .allocate = system_allocate,
        .write_back = system_write_back,
        .written = system_written,
};

static const struct io_ops *ops = &io_system_ops;

const struct io_ops *io_set_ops(const struct io_ops *new_ops)
{
        const struct io_ops *before = ops;

        ops = new_ops ?: &io_system_ops;
        return before;
}

bool io_is_system(void)
{
        return ops == &io_system_ops;
}

int io_open(int dirfd, const char *path, int flags, mode_t mode)
{
        return ops->open(dirfd, path, flags, mode);
}

int io_pwrite(int fd, const void *buf, size_t n, uint64_t offset)
{
        const char *p = buf;

        while (n > 0) {
                ssize_t done = ops->pwrite(fd, p, n, offset);

                if (done == -EINTR)
                        continue;
                if (done <= 0)
                        return done < 0 ? (int)done : -ENOSPC;
                p += done;
                n -= (size_t)done;
                offset += (uint64_t)done;
        }
        return 0;
}

int io_pread(int fd, void *buf, size_t n, uint64_t offset)
{
        char *p = buf;

        while (n > 0) {
                ssize_t done = ops->pread(fd, p, n, offset);

                if (done == -EINTR)
                        continue;
                if (done <= 0)
                        return done < 0 ? (int)done : -EIO;
                p += done;
                n -= (size_t)done;
                offset += (uint64_t)done;
        }
        return 0;
}

int(io_fsync)(int fd)
{
        return ops->fsync(fd);
}

int io_truncate(int fd, uint64_t size)
{
        return ops->truncate(fd, size);
}

int io_rename(int olddir, const char *old, int newdir, const char *new, unsigned flags)
{
        return ops->rename(olddir, old, newdir, new, flags);
}

int io_unlink(int dirfd, const char *path, int flags)
{
        return ops->unlink(dirfd, path, flags);
}

int io_mkdir(int dirfd, const char *path, mode_t mode)
{
        struct stat st;
        int r = ops->mkdir(dirfd, path, mode);

        if (r == -EEXIST && fstatat(dirfd, path, &st, 0) == 0 && S_ISDIR(st.st_mode))
                return 0;
        return r;
}

int io_zero(int fd, uint64_t offset, uint64_t length)
{
        return length ? ops->zero(fd, offset, length) : 0;
}

int io_discard(int fd, uint64_t offset, uint64_t length)
{
        return length ? ops->discard(fd, offset, length) : 0;
}

int io_link(int olddir, const char *old, int newdir, const char *new)
{
        return ops->link(olddir, old, newdir, new);
}

int io_symlink(const char *target, int dirfd, const char *path)
{
        return ops->symlink(target, dirfd, path);
}

int io_mknod(int dirfd, const char *path, mode_t mode, dev_t dev)
{
        return ops->mknod(dirfd, path, mode, dev);
}

int io_attribute(int dirfd, const char *path, int fd, const struct io_attribute *a)
{
        return ops->attribute(dirfd, path, fd, a);
}

int io_allocate(int fd, uint64_t size)
{
        return ops->allocate(fd, size);
}

int io_write_back(int fd)
{
        return ops->write_back(fd);
}

void io_written(int fd)
{
        ops->written(fd);
}

int(io_fsync_dir)(int dirfd, const char *path)
{
        int fd = io_open(dirfd, path, O_RDONLY | O_DIRECTORY, 0), r;

        if (fd < 0)
                return fd;
        r = (io_fsync)(fd);
        fd_close(fd);
        return r;
}

int io_copy(int from, uint64_t from_offset, int to, uint64_t to_offset, uint64_t size)
{
        _cleanup_free_ char *buffer = malloc(COPY_SIZE);

        if (!buffer)
                return -ENOMEM;
        for (uint64_t done = 0; done < size;) {
                ssize_t n = ops->pread(from, buffer, (size_t)MIN(size - done, (uint64_t)COPY_SIZE), from_offset + done);
                int r;

                if (n == -EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? (int)n : size == UINT64_MAX ? 0 : -EIO;
                r = io_pwrite(to, buffer, (size_t)n, to_offset + done);
                if (r < 0)
                        return r;
                done += (uint64_t)n;
        }
        return 0;
}
