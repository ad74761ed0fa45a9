/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "snapshot/unpack.h"

#include <fcntl.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/io.h"
#include "slot/kinds.h"
#include "snapshot/path.h"
#include "snapshot/walk.h"

/* Owner, mode and time come last: a file made in a directory changes its time, and may be forbidden by
 * its mode. */
struct unpack_directory {
        struct unpack_directory *next;
        struct node node;
};

void unpack_done(struct unpack *u)
{
        while (u->directories) {
                struct unpack_directory *next = u->directories->next;

                node_done(&u->directories->node);
                free(u->directories);
                u->directories = next;
        }
        if (u->parent_path)
                fd_close(u->parent);
        free(TAKE_PTR(u->parent_path));
}

/* The directory of a node, and its name there. *ret_fd is the caller's. */
static int open_parent(const struct unpack *u, const char *path, int *ret_fd, const char **ret_name, struct error *e)
{
        int fd = roots_open_parent(&u->roots, path, ret_name);

        if (fd == -ENXIO)
                return fail(e, -EBADMSG, &kind_snapshot_altered, "the archive holds /%s, which is under none of its paths",
                            path);
        if (fd < 0)
                return fail_errno(e, fd, "cannot open the directory of /%s", path);
        *ret_fd = fd;
        return 0;
}

/* The same through a memory of one directory: files come in the order of their directories. *ret_fd is borrowed. */
static int find_parent(struct unpack *u, const char *path, int *ret_fd, const char **ret_name, struct error *e)
{
        const char *slash = strrchr(path, '/');
        size_t size = slash ? (size_t)(slash - path) : 0;
        bool is_root = roots_has(&u->roots, path);
        int fd = -1, r;

        if (!is_root && slash && u->parent_path && strlen(u->parent_path) == size &&
            memcmp(u->parent_path, path, size) == 0) {
                *ret_fd = u->parent;
                *ret_name = slash + 1;
                return 0;
        }
        r = open_parent(u, path, &fd, ret_name, e);
        if (r < 0)
                return r;
        if (u->parent_path)
                fd_close(u->parent);
        free(u->parent_path);
        /* The directory of a root is outside the trees: no node may be found through it. */
        u->parent_path = is_root ? strdup("") : strndup(path, size);
        if (!u->parent_path) {
                fd_close(fd);
                return -ENOMEM;
        }
        u->parent = *ret_fd = fd;
        return 0;
}

static int add_directory(struct unpack *u, struct node *n, int dir, const char *name, struct error *e)
{
        struct unpack_directory *d;
        struct stat st;
        int r;

        if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
                return fail(e, -EEXIST, NULL, "cannot make the directory /%s twice", n->path);
        r = io_mkdir(dir, name, 0700);
        if (r < 0)
                return fail_write(e, r, "cannot make the directory /%s", n->path);
        d = calloc(1, sizeof(*d));
        if (!d)
                return -ENOMEM;
        d->node = TAKE(*n, (struct node){});
        d->next = u->directories;
        u->directories = d;
        return 0;
}

static int add_file(const struct node *n, int dir, const char *name, unpack_content content, void *userdata, struct error *e)
{
        _cleanup_close_ int fd = io_open(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
        int r;

        if (fd < 0)
                return fail_write(e, fd, "cannot make /%s", n->path);
        r = content(userdata, n, fd, e);
        if (r < 0)
                return r;
        r = io_truncate(fd, n->size); /* a hole at its end */
        if (r < 0)
                return fail_write(e, r, "cannot write /%s", n->path);
        return node_apply(n, dir, name, fd, e);
}

static int add_special(const struct node *n, int dir, const char *name, struct error *e)
{
        int r;

        if (S_ISLNK(n->mode))
                r = io_symlink(n->target, dir, name);
        else if (S_ISFIFO(n->mode))
                r = io_mknod(dir, name, S_IFIFO | 0600, 0);
        else if (n->whiteout)
                r = io_mknod(dir, name, S_IFCHR, 0);
        else
                return fail(e, -EBADMSG, &kind_snapshot_altered, "/%s has a type that has no place in a snapshot", n->path);
        if (r < 0)
                return fail_write(e, r, "cannot make /%s", n->path);
        return node_apply(n, dir, name, -1, e);
}

static int add_hardlink(const struct unpack *u, const struct node *n, int dir, const char *name, struct error *e)
{
        _cleanup_close_ int from_dir = -1;
        const char *from;
        int r = open_parent(u, n->hardlink, &from_dir, &from, e);

        if (r < 0)
                return r;
        r = io_link(from_dir, from, dir, name);
        return r < 0 ? fail_write(e, r, "cannot link /%s to /%s", n->path, n->hardlink) : 0;
}

int unpack_add(struct unpack *u, struct node *n, unpack_content content, void *userdata, struct error *e)
{
        const char *name;
        int dir, r;

        if (u->nodes_max == 0 || n->size > u->bytes_max)
                return fail(e, -EBADMSG, &kind_snapshot_altered, "the archive holds more than its description says, at /%s",
                            n->path);
        r = find_parent(u, n->path, &dir, &name, e);
        if (r < 0)
                return r;
        u->nodes_max--;
        u->bytes_max -= n->size;
        if (n->hardlink)
                return add_hardlink(u, n, dir, name, e);
        if (S_ISDIR(n->mode))
                return add_directory(u, n, dir, name, e);
        if (S_ISREG(n->mode))
                return add_file(n, dir, name, content, userdata, e);
        return add_special(n, dir, name, e);
}

static int finish_directory(struct unpack *u, const struct node *n, struct error *e)
{
        _cleanup_close_ int fd = -1;
        const char *name;
        int dir, r = find_parent(u, n->path, &dir, &name, e);

        if (r < 0)
                return r;
        fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return fail_errno(e, -errno, "cannot open /%s", n->path);
        return node_apply(n, dir, name, fd, e);
}

int unpack_finish(struct unpack *u, struct error *e)
{
        int r = 0;

        for (struct unpack_directory *d = u->directories; r >= 0 && d; d = d->next)
                r = finish_directory(u, &d->node, e);
        return r;
}

static int flush_node(struct walk *w, struct node *n, int dirfd, const char *name, int fd, struct error *e)
{
        int r = fd >= 0 ? io_fsync(fd) : 0;

        return r < 0 ? fail_write(e, r, "cannot flush /%s", n->path) : 0;
}

int tree_flush(int dirfd, const char *name, struct error *e)
{
        _cleanup_walk_ struct walk w = { .visit = flush_node, .shallow = true, .whiteouts = true, .quiet = true };
        int r;

        /* The file system may write everything in its own order first: what counts are the flushes
         * below, which then find little to do. Without it each would wait for a commit of its own. */
        r = io_write_back(dirfd);
        if (r < 0)
                return fail_write(e, r, "cannot flush %s", name);
        return walk_tree(&w, dirfd, name, name, e);
}
