/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whether the configured paths can be sealed and exchanged. Where they lie is told by inodes and not by names: a
 * symbolic link among the parents of a path must not bring it into another, or into DATA. */
#include <fcntl.h>

#include "base/file.h"
#include "slot/kinds.h"
#include "snapshot/path.h"
#include "snapshot/walk.h"

struct place {
        dev_t dev;
        ino_t ino;
};

static bool same(const struct place *a, const struct stat *st)
{
        return a->dev == st->st_dev && a->ino == st->st_ino;
}

static int fail_path(struct error *e, const char *path, const char *why)
{
        fail(e, -EINVAL, &kind_config_path, "'%s' cannot be a shared path: %s", path, why);
        fail_hint(e, "correct SharedPaths= in bootmgr.conf");
        return -EINVAL;
}

/* Whether the directory `fd` is `what` or lies in it, looking up no further than `root`. 1, 0 or -errno. */
static int is_within(int fd, const struct place *what, const struct place *root)
{
        _cleanup_close_ int at = dir_open(fd, ".");
        struct stat st, last = {};

        for (bool first = true; at >= 0; first = false) {
                int up;

                if (fstat(at, &st) < 0)
                        return -errno;
                if (same(what, &st))
                        return 1;
                /* The root of the file system is its own parent. */
                if (same(root, &st) || (!first && st.st_ino == last.st_ino && st.st_dev == last.st_dev))
                        return 0;
                last = st;
                up = dir_open(at, "..");
                fd_close(at);
                at = up;
        }
        return at;
}

static int get_place(int fd, struct place *ret)
{
        struct stat st;

        if (fstat(fd, &st) < 0)
                return -errno;
        *ret = (struct place){ st.st_dev, st.st_ino };
        return 0;
}

/* The deepest directory above the path that exists. fd or -errno. */
static int open_existing_parent(int root, const char *path)
{
        _cleanup_free_ char *copy = strdup(path);
        const char *name;

        if (!copy)
                return -ENOMEM;
        for (;;) {
                int fd = path_open_parent(root, copy, false, &name);

                if (fd != -ENOENT)
                        return fd;
                *strrchr(copy, '/') = '\0';
        }
}

static int ignore_node(struct walk *w, struct node *n, int dirfd, const char *name, int fd, struct error *e)
{
        return 0;
}

/* Nothing of another shared path, and nothing of DATA, may be above the path or below it. */
static int check_where(const struct snapshot_place *place, char *const *shared, size_t i, const struct place *root,
                       const struct place *data, struct error *e)
{
        _cleanup_close_ int parent = open_existing_parent(place->root, shared[i]);
        struct place self = {};
        const char *name = strrchr(shared[i], '/') + 1;
        struct stat st;
        int r;

        if (parent < 0)
                return fail_errno(e, parent, "cannot open the directory of %s", shared[i]);
        /* An image's root lies in its data directory: no further up than the root. */
        if ((data->dev != root->dev || data->ino != root->ino) && is_within(parent, data, root) > 0)
                return fail_path(e, shared[i], "it lies in the data directory of bootmgr");
        if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode))
                return 0;
        self = (struct place){ st.st_dev, st.st_ino };
        if (is_within(place->data, &self, root) > 0)
                return fail_path(e, shared[i], "the data directory of bootmgr lies in it");
        for (size_t j = 0; shared[j]; j++) {
                _cleanup_close_ int other = j == i ? -1 : open_existing_parent(place->root, shared[j]);

                r = other < 0 ? 0 : is_within(other, &self, root);
                if (r > 0)
                        return fail_path(e, shared[j], "it lies in another shared path");
        }
        return 0;
}

static int check_content(const struct snapshot_place *place, const char *path, struct error *e)
{
        _cleanup_walk_ struct walk w = { .visit = ignore_node, .shallow = true, .changing = true, .quiet = true };
        const char *name;
        _cleanup_close_ int parent = path_open_parent(place->root, path, false, &name);
        struct stat st;
        int r;

        if (parent == -ENOENT)
                return 0;
        if (parent < 0)
                return fail_errno(e, parent, "cannot open the directory of %s", path);
        if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode))
                return fail_path(e, path, "it is a symbolic link: name what it points to");
        r = walk_tree(&w, parent, name, path + 1, e);
        return r == -ENOENT ? 0 : r;
}

int snapshot_check_paths(const struct snapshot_place *place, char *const *shared, struct error *e)
{
        struct place root, data;
        int r = 0;

        for (char *const *p = shared; p && *p; p++) {
                const char *problem = path_problem(*p);

                if (!problem && path_below(*p, "/etc"))
                        problem = "/etc belongs to a slot, see CarriedPaths=";
                for (char *const *q = shared; !problem && q < p; q++)
                        if (path_below(*p, *q) || path_below(*q, *p))
                                problem = "it is, lies in, or contains another shared path";
                if (problem)
                        return fail_path(e, *p, problem);
        }
        if (!shared || !shared[0])
                return 0;
        r = get_place(place->root, &root);
        if (r >= 0)
                r = get_place(place->data, &data);
        if (r < 0)
                return fail_errno(e, r, "cannot look at the data directory");
        for (size_t i = 0; r >= 0 && shared[i]; i++) {
                r = check_where(place, shared, i, &root, &data, e);
                if (r >= 0)
                        r = check_content(place, shared[i], e);
        }
        return r;
}
