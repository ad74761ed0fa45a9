/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/file.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/io.h"

/* 8.3: one directory entry on vfat, so that the name is made and removed in one sector. */
#define TEMPORARY_SIZE 13

static int temporary_name(char name[static TEMPORARY_SIZE])
{
        uint32_t random;

        if (getrandom(&random, sizeof(random), 0) != sizeof(random))
                return -errno;
        snprintf(name, TEMPORARY_SIZE, "%08X.TMP", random);
        return 0;
}

int file_read(int dirfd, const char *path, size_t max, char **ret, size_t *ret_size)
{
        _cleanup_close_ int fd = -1;
        _cleanup_free_ char *data = NULL;
        size_t size = 0, room = 0;
        struct stat st;

        /* A pipe that somebody put there would keep us waiting. One that a person names is meant. */
        fd = io_open(dirfd, path, O_RDONLY | O_NOCTTY | (dirfd == AT_FDCWD ? 0 : O_NONBLOCK), 0);
        if (fd < 0)
                return fd;
        if (fstat(fd, &st) < 0)
                return -errno;
        if (S_ISDIR(st.st_mode))
                return -EISDIR;
        if (dirfd != AT_FDCWD && !S_ISREG(st.st_mode))
                return -EINVAL;
        if ((uint64_t)st.st_size > max)
                return -EFBIG;
        /* Files in /proc have no size: read until the end, never past the bound. */
        room = MIN(MAX((size_t)st.st_size, (size_t)4095), max) + 1;
        for (;;) {
                ssize_t n;
                char *grown = realloc(data, room + 1);

                if (!grown)
                        return -ENOMEM;
                data = grown;
                n = read(fd, data + size, room - size);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                size += (size_t)n;
                if (size > max)
                        return -EFBIG;
                if (size == room)
                        room = MIN(room * 2, max + 1);
        }
        data[size] = '\0';
        if (ret_size)
                *ret_size = size;
        *ret = TAKE_PTR(data);
        return 0;
}

/* The directory part of `name`, opened; *ret_base points at the rest. */
static int open_parent(int dirfd, const char *name, const char **ret_base)
{
        const char *slash = strrchr(name, '/');
        _cleanup_free_ char *parent = NULL;

        *ret_base = slash ? slash + 1 : name;
        if (!slash)
                return dir_open(dirfd, ".");
        parent = slash == name ? strdup("/") : strndup(name, (size_t)(slash - name));
        return parent ? dir_open(dirfd, parent) : -ENOMEM;
}

/* A new file beside its name-to-be, with its content. fd or -errno; nothing is left on failure. */
static int write_temporary(int dir, char name[static TEMPORARY_SIZE], const void *data, size_t size, mode_t mode)
{
        int fd, r;

        r = temporary_name(name);
        if (r < 0)
                return r;
        fd = io_open(dir, name, O_WRONLY | O_CREAT | O_EXCL, mode);
        if (fd < 0)
                return fd;
        r = io_pwrite(fd, data, size, 0);
        if (r < 0) {
                fd_close(fd);
                io_unlink(dir, name, 0);
                return r;
        }
        return fd;
}

int file_create(int dirfd, const char *name, const void *data, size_t size, mode_t mode)
{
        _cleanup_close_ int dir = -1, fd = -1;
        char temporary[TEMPORARY_SIZE];
        const char *base;
        int r;

        dir = open_parent(dirfd, name, &base);
        if (dir < 0)
                return dir;
        if (faccessat(dir, base, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
                return -EEXIST;
        fd = write_temporary(dir, temporary, data, size, mode);
        if (fd < 0)
                return fd;
        r = io_fsync(fd);
        if (r >= 0)
                r = io_rename(dir, temporary, dir, base, RENAME_NOREPLACE);
        if (r < 0) {
                io_unlink(dir, temporary, 0);
                return r;
        }
        /* On vfat the rename moved the inode's directory entry: both must reach the disk again. */
        r = io_fsync(fd);
        return r < 0 ? r : io_fsync_dir(dir, ".");
}

static int replace(int dirfd, const char *name, const void *data, size_t size, mode_t mode, bool durable)
{
        _cleanup_close_ int dir = -1, fd = -1;
        char temporary[TEMPORARY_SIZE];
        const char *base;
        int r;

        dir = open_parent(dirfd, name, &base);
        if (dir < 0)
                return dir;
        fd = write_temporary(dir, temporary, data, size, mode);
        if (fd < 0)
                return fd;
        r = durable ? io_fsync(fd) : 0;
        if (r >= 0)
                r = io_rename(dir, temporary, dir, base, 0);
        if (r < 0) {
                io_unlink(dir, temporary, 0);
                return r;
        }
        return durable ? io_fsync_dir(dir, ".") : 0;
}

int file_replace(int dirfd, const char *name, const void *data, size_t size, mode_t mode)
{
        return replace(dirfd, name, data, size, mode, true);
}

int file_replace_volatile(int dirfd, const char *name, const void *data, size_t size, mode_t mode)
{
        return replace(dirfd, name, data, size, mode, false);
}

int mkdir_parents(int dirfd, const char *path, mode_t mode)
{
        _cleanup_free_ char *copy = strdup(path);
        int r;

        if (!copy)
                return -ENOMEM;
        if (!*copy)
                return -ENOENT;
        for (char *p = copy + 1; *p; p++) {
                if (*p != '/')
                        continue;
                *p = '\0';
                r = io_mkdir(dirfd, copy, mode);
                if (r < 0 && faccessat(dirfd, copy, F_OK, 0) < 0)
                        return r;
                *p = '/';
        }
        return io_mkdir(dirfd, copy, mode);
}

static int remove_entries(int fd);

static int remove_entry(int dir, const char *name)
{
        struct statx st;
        int fd, r;

        if (statx(dir, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_TYPE, &st) < 0)
                return errno == ENOENT ? 0 : -errno;
        if (!S_ISDIR(st.stx_mode))
                return io_unlink(dir, name, 0);
        /* Not st_dev: a bind mount has the device of its source. */
        if (st.stx_attributes & STATX_ATTR_MOUNT_ROOT)
                return -EXDEV;
        fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        r = remove_entries(fd);
        return r < 0 ? r : io_unlink(dir, name, AT_REMOVEDIR);
}

/* Takes the descriptor. */
static int remove_entries(int fd)
{
        _cleanup_closedir_ DIR *d = fdopendir(fd);
        struct dirent *entry;

        if (!d) {
                fd_close(fd);
                return -ENOMEM;
        }
        while ((entry = readdir(d))) {
                int r;

                if (streq(entry->d_name, ".") || streq(entry->d_name, ".."))
                        continue;
                r = remove_entry(fd, entry->d_name);
                if (r < 0)
                        return r;
        }
        return 0;
}

int remove_tree(int dirfd, const char *path)
{
        return remove_entry(dirfd, path);
}

int dir_open(int dirfd, const char *path)
{
        return io_open(dirfd, path, O_RDONLY | O_DIRECTORY, 0);
}

char *line_next(char **cursor)
{
        char *line = *cursor, *end;

        if (!line || !*line)
                return NULL;
        end = strchrnul(line, '\n');
        *cursor = *end ? end + 1 : end;
        *end = '\0';
        return line;
}
