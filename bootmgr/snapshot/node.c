/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "snapshot/node.h"

#include <fcntl.h>
#include <linux/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "base/buf.h"
#include "base/io.h"
#include "snapshot/extent.h"
#include "snapshot/path.h"

/* Room for "/proc/self/fd/NUMBER/NAME". */
#define PROC_PATH_SIZE (32 + NAME_MAX + 1)

void node_done(struct node *n)
{
        xattr_free_all(n->xattrs);
        free(n->data);
        free(n->hardlink);
        free(n->target);
        free(n->path);
        *n = (struct node){};
}

int node_stat(int dirfd, const char *name, const char *path, struct node *ret, struct error *e)
{
        _cleanup_node_ struct node n = {};
        struct statx st;

        if (statx(dirfd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_BASIC_STATS, &st) < 0)
                return errno == ENOENT ? -ENOENT : fail_errno(e, -errno, "cannot look at /%s", path);
        if (st.stx_attributes & STATX_ATTR_MOUNT_ROOT)
                return fail_mount_point(e, path);
        n = (struct node){
                .path = strdup(path),
                .mode = st.stx_mode,
                .uid = st.stx_uid,
                .gid = st.stx_gid,
                .mtime = { .tv_sec = st.stx_mtime.tv_sec, .tv_nsec = st.stx_mtime.tv_nsec },
                .size = S_ISREG(st.stx_mode) ? st.stx_size : 0,
                .dev = makedev(st.stx_dev_major, st.stx_dev_minor),
                .ino = st.stx_ino,
                .blocks = st.stx_blocks,
                .nlink = st.stx_nlink,
                .whiteout = S_ISCHR(st.stx_mode) && st.stx_rdev_major == 0 && st.stx_rdev_minor == 0,
        };
        if (!n.path)
                return -ENOMEM;
        *ret = TAKE(n, (struct node){});
        return 0;
}

/* A symbolic link or a pipe cannot be opened for its attributes: it is named through its directory. */
static void proc_path(int dirfd, const char *name, char path[static PROC_PATH_SIZE])
{
        snprintf(path, PROC_PATH_SIZE, "/proc/self/fd/%d/%s", dirfd, name);
}

static int list_xattrs(int fd, const char *path, char **ret, size_t *ret_size)
{
        _cleanup_free_ char *list = malloc(XATTR_LIST_MAX);
        ssize_t n;

        if (!list)
                return -ENOMEM;
        n = fd >= 0 ? flistxattr(fd, list, XATTR_LIST_MAX) : llistxattr(path, list, XATTR_LIST_MAX);
        if (n < 0 && errno != ENOTSUP)
                return -errno;
        *ret_size = n < 0 ? 0 : (size_t)n;
        *ret = TAKE_PTR(list);
        return 0;
}

static int load_xattrs(struct node *n, int dirfd, const char *name, int fd)
{
        _cleanup_free_ char *list = NULL, *value = NULL;
        char path[PROC_PATH_SIZE];
        size_t list_size = 0;
        int r;

        proc_path(dirfd, name, path);
        r = list_xattrs(fd, path, &list, &list_size);
        if (r < 0 || list_size == 0)
                return r;
        value = malloc(XATTR_VALUE_MAX);
        if (!value)
                return -ENOMEM;
        for (const char *p = list; p < list + list_size; p += strlen(p) + 1) {
                ssize_t size;

                if (!xattr_is_wanted(p))
                        continue;
                size = fd >= 0 ? fgetxattr(fd, p, value, XATTR_VALUE_MAX) : lgetxattr(path, p, value, XATTR_VALUE_MAX);
                if (size < 0)
                        return -errno;
                r = xattr_add(&n->xattrs, p, value, (size_t)size);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int load_target(struct node *n, int dirfd, const char *name)
{
        char target[PATH_MAX];
        ssize_t size = readlinkat(dirfd, name, target, sizeof(target));

        if (size < 0)
                return -errno;
        if ((size_t)size == sizeof(target))
                return -ENAMETOOLONG;
        n->target = strndup(target, (size_t)size);
        return n->target ? 0 : -ENOMEM;
}

int node_open(int dirfd, const char *name, const struct node *n, int *ret_fd, struct error *e)
{
        _cleanup_close_ int fd = -1;
        struct stat st;

        if (!S_ISREG(n->mode) && !S_ISDIR(n->mode)) {
                *ret_fd = -1;
                return 0;
        }
        fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0)
                return fail_errno(e, -errno, "cannot open /%s", n->path);
        if (st.st_ino != n->ino || (st.st_mode & S_IFMT) != (n->mode & S_IFMT))
                return fail_changed(e, n->path);
        *ret_fd = TAKE_FD(fd);
        return 0;
}

int node_load(int dirfd, const char *name, int fd, struct node *n, struct error *e)
{
        int r = S_ISLNK(n->mode) ? load_target(n, dirfd, name) : 0;

        if (r >= 0)
                r = load_xattrs(n, dirfd, name, fd);
        if (r >= 0 && S_ISREG(n->mode))
                r = extents_load(fd, n);
        return r < 0 ? fail_errno(e, r, "cannot read /%s", n->path) : 0;
}

static int set_xattr(const struct xattr *x, int dirfd, const char *name, int fd)
{
        const struct io_attribute a = { .what = IO_SET_XATTR, .name = x->name, .value = x->value, .size = x->size };

        return io_attribute(dirfd, name, fd, &a);
}

/* A new file inherits its directory's default ACL. */
static int drop_inherited(const struct node *n, int dirfd, const char *name, int fd)
{
        static const char *const names[] = { XATTR_ACL_ACCESS, XATTR_ACL_DEFAULT };

        for (size_t i = 0; fd >= 0 && i < ARRAY_SIZE(names); i++) {
                const struct io_attribute a = { .what = IO_REMOVE_XATTR, .name = names[i] };
                int r = xattr_find(n->xattrs, names[i]) ? 0 : io_attribute(dirfd, name, fd, &a);

                if (r < 0 && r != -ENODATA && r != -ENOTSUP && r != -EINVAL)
                        return r;
        }
        return 0;
}

static int apply(const struct node *n, int dirfd, const char *name, int fd)
{
        const struct io_attribute owner = { .what = IO_OWNER, .uid = n->uid, .gid = n->gid };
        const struct io_attribute mode = { .what = IO_MODE, .mode = n->mode & 07777 };
        const struct io_attribute mtime = { .what = IO_MTIME, .mtime = n->mtime };
        int r;

        /* The owner first: chown(2) clears set-user-ID bits and capabilities. */
        r = io_attribute(dirfd, name, fd, &owner);
        if (r >= 0)
                r = drop_inherited(n, dirfd, name, fd);
        if (r >= 0 && !S_ISLNK(n->mode))
                r = io_attribute(dirfd, name, fd, &mode);
        for (const struct xattr *x = n->xattrs; r >= 0 && x; x = x->next)
                r = set_xattr(x, dirfd, name, fd);
        /* The time last: nothing after this touches the file. */
        return r < 0 ? r : io_attribute(dirfd, name, fd, &mtime);
}

int node_apply(const struct node *n, int dirfd, const char *name, int fd, struct error *e)
{
        int r = apply(n, dirfd, name, fd);

        return r < 0 ? fail_write(e, r, "cannot set owner, mode, attributes and time of /%s", n->path) : 0;
}

bool node_same_metadata(const struct node *a, const struct node *b)
{
        return a->mode == b->mode && a->uid == b->uid && a->gid == b->gid && streq(a->target, b->target) &&
               xattr_same(a->xattrs, b->xattrs);
}

uint64_t node_data_bytes(const struct node *n)
{
        uint64_t sum = 0;

        if (!n->sparse)
                return n->size;
        for (size_t i = 0; i < n->n_data; i++)
                sum += n->data[i].length;
        return sum;
}
