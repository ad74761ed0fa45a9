/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The order of writes of carry_config(), all in DATA/etc/<to>, which is not mounted:
 *
 *      upper.new, whole and flushed                  cut: removed and made anew by the next try
 *      work, empty: what overlayfs kept there was of the old upper directory
 *      upper.new <-> upper, directory flushed        cut: before, the old one; after, the new one; both are whole
 *      upper.new, the old content, removed           cut: removed by the next try
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/io.h"
#include "slot/kinds.h"
#include "snapshot/path.h"
#include "snapshot/unpack.h"
#include "snapshot/walk.h"

#define UPPER     "upper"
#define UPPER_NEW "upper.new"
#define WORK      "work"
#define OPAQUE    "trusted.overlay.opaque"

struct copying {
        struct unpack unpack;
        int from; /* the file that is copied now */
};

static int copy_content(void *userdata, const struct node *n, int fd, struct error *e)
{
        const struct copying *c = userdata;
        const struct extent whole = { 0, n->size }, *extents = n->sparse ? n->data : &whole;
        size_t count = n->sparse ? n->n_data : 1;

        for (size_t i = 0; i < count; i++) {
                int r = io_copy(c->from, extents[i].offset, fd, extents[i].offset, extents[i].length);

                if (r < 0)
                        return fail_write(e, r, "cannot copy /%s", n->path);
        }
        return 0;
}

/* Of what overlayfs keeps for itself only two attributes say what is seen: the others are about inodes of
 * a lower directory that is another one in another slot. */
static int drop_private(struct node *n, struct error *e)
{
        for (struct xattr **at = &n->xattrs, *x; (x = *at);) {
                const char *name = xattr_is_overlay_private(x->name) ? strrchr(x->name, '.') + 1 : NULL;

                if (name && streq(name, "metacopy"))
                        return fail(e, -EOPNOTSUPP, NULL,
                                    "the content of /%s lies in its root only (overlayfs metacopy): it cannot be carried",
                                    n->path);
                if (!name || streq(name, "opaque") || streq(name, "redirect")) {
                        at = &x->next;
                        continue;
                }
                *at = x->next;
                free(x);
        }
        return 0;
}

static int copy_node(struct walk *w, struct node *n, int dirfd, const char *name, int fd, struct error *e)
{
        struct copying *c = w->userdata;
        int r = drop_private(n, e);

        c->from = fd;
        return r < 0 ? r : unpack_add(&c->unpack, n, copy_content, c, e);
}

int tree_copy(int from_dir, const char *from, int to_dir, const char *to, struct error *e)
{
        const struct root root = { from, to_dir, to };
        struct copying c = { .unpack = { .roots = { &root, 1 }, .bytes_max = UINT64_MAX, .nodes_max = UINT64_MAX } };
        _cleanup_walk_ struct walk w = { .visit = copy_node, .userdata = &c, .whiteouts = true };
        int r = walk_tree(&w, from_dir, from, from, e);

        if (r == -ENOENT)
                fail_errno(e, r, "cannot copy %s", from);
        if (r >= 0)
                r = unpack_finish(&c.unpack, e);
        unpack_done(&c.unpack);
        return r < 0 ? r : tree_flush(to_dir, to, e);
}

/* What one name in an upper directory says. */
enum entry { ENTRY_NONE, ENTRY_DIRECTORY, ENTRY_OTHER /* a whiteout too: nothing lies below it */ };

static enum entry entry_of(int dir, const char *name)
{
        struct stat st;

        if (dir < 0 || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return ENTRY_NONE;
        return S_ISDIR(st.st_mode) ? ENTRY_DIRECTORY : ENTRY_OTHER;
}

static bool is_opaque(int fd)
{
        char value;

        return fgetxattr(fd, OPAQUE, &value, 1) == 1 && value == 'y';
}

/* One step down in the directory that is copied from. `hidden`: from here on nothing of the lower directory shows. */
static void descend_from(int *fd, const char *name, bool *hidden)
{
        enum entry entry = entry_of(*fd, name);
        int next = entry == ENTRY_DIRECTORY ? openat(*fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;

        fd_close(*fd);
        *fd = next;
        if (entry == ENTRY_OTHER || (next >= 0 && is_opaque(next)))
                *hidden = true;
}

static int set_attributes(int dir, const char *name, int fd, const struct stat *st, bool opaque)
{
        const struct io_attribute owner = { .what = IO_OWNER, .uid = st->st_uid, .gid = st->st_gid };
        const struct io_attribute mode = { .what = IO_MODE, .mode = st->st_mode & 07777 };
        const struct io_attribute hides = { .what = IO_SET_XATTR, .name = OPAQUE, .value = "y", .size = 1 };
        int r = io_attribute(dir, name, fd, &owner);

        if (r >= 0)
                r = io_attribute(dir, name, fd, &mode);
        return r < 0 || !opaque ? r : io_attribute(dir, name, fd, &hides);
}

/* One step down in the new upper directory, where the directory is made if it is missing, with the attributes of `like`
 * (or -1). What was removed there before stays removed: the new directory is opaque then. fd or -errno. */
static int descend_to(int dir, const char *name, int like)
{
        enum entry entry = entry_of(dir, name);
        struct stat st = { .st_mode = 0755, .st_uid = geteuid(), .st_gid = getegid() };
        _cleanup_close_ int fd = -1;
        int r = 0;

        if (entry == ENTRY_OTHER)
                r = io_unlink(dir, name, 0);
        if (r >= 0 && entry != ENTRY_DIRECTORY)
                r = io_mkdir(dir, name, 0755);
        if (r < 0)
                return r;
        fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 || (like >= 0 && fstat(like, &st) < 0))
                return -errno;
        if (entry == ENTRY_DIRECTORY)
                return TAKE_FD(fd);
        r = set_attributes(dir, name, fd, &st, entry == ENTRY_OTHER);
        return r < 0 ? r : TAKE_FD(fd);
}

/* Makes `path` ("appliance/net") in the upper directory `to` what it is in the upper directory `from` (-1: an empty
 * one). */
static int replace_subtree(int from_upper, int to_upper, const char *path, struct error *e)
{
        _cleanup_close_ int from = from_upper < 0 ? -1 : dir_open(from_upper, "."), to = dir_open(to_upper, ".");
        _cleanup_free_ char *copy = strdup(path);
        bool hidden = false;
        char *name = copy;
        int r;

        if (!copy)
                return -ENOMEM;
        for (char *slash; to >= 0 && (slash = strchr(name, '/')); name = slash + 1) {
                int next;

                *slash = '\0';
                descend_from(&from, name, &hidden);
                /* Neither slot says anything about what is below: both show their lower directories. */
                if (from < 0 && !hidden && entry_of(to, name) != ENTRY_DIRECTORY)
                        return 0;
                next = descend_to(to, name, from);
                fd_close(to);
                to = next;
        }
        if (to < 0)
                return fail_write(e, to, "cannot make the directory of /etc/%s", path);
        r = remove_tree(to, name);
        if (r < 0)
                return fail_errno(e, r, "cannot remove /etc/%s", path);
        if (entry_of(from, name) != ENTRY_NONE)
                return tree_copy(from, name, to, name, e);
        r = hidden ? io_mknod(to, name, S_IFCHR, makedev(0, 0)) : 0;
        return r < 0 ? fail_write(e, r, "cannot remove /etc/%s", path) : 0;
}

/* "" of "/etc" itself; NULL and a failure where a path does not lie in it. */
static const char *below_etc(const char *path, struct error *e)
{
        const char *below = path_problem(path) ? NULL : path_below(path, "/etc");

        if (!below) {
                fail(e, -EINVAL, &kind_config_path, "'%s' cannot be carried: only /etc and paths in it belong to a slot",
                     path);
                fail_hint(e, "correct CarriedPaths= in bootmgr.conf");
        }
        return below;
}

/* With that mode whatever the umask, which is 0077 in bootmgrd.service. */
static int make_empty(int dir, const char *name, mode_t mode, struct error *e)
{
        const struct io_attribute exactly = { .what = IO_MODE, .mode = mode };
        int r = remove_tree(dir, name);

        if (r >= 0)
                r = io_mkdir(dir, name, mode);
        if (r >= 0)
                r = io_attribute(dir, name, -1, &exactly);
        return r < 0 ? fail_write(e, r, "cannot make %s anew", name) : 0;
}

/* upper.new out of what `from` has, and where only parts are carried out of what `to` had. */
static int make_upper(int from, int to, char *const *carried, bool whole, struct progress *progress, struct error *e)
{
        int base = whole ? from : to, r = remove_tree(to, UPPER_NEW);
        _cleanup_close_ int new_upper = -1,
                            from_upper = from < 0 ? -1 : openat(from, UPPER, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        size_t n = 0, done = 0;

        if (r < 0)
                return fail_errno(e, r, "cannot remove what an interrupted upgrade left");
        if (entry_of(base, UPPER) == ENTRY_DIRECTORY)
                r = tree_copy(base, UPPER, to, UPPER_NEW, e);
        else
                r = make_empty(to, UPPER_NEW, 0755, e);
        if (r < 0)
                return r;
        new_upper = openat(to, UPPER_NEW, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (new_upper < 0)
                return fail_errno(e, -errno, "cannot open " UPPER_NEW);
        while (carried[n])
                n++;
        for (; r >= 0 && !whole && done < n; done++) {
                r = progress_report(progress, done, n, NULL);
                if (r >= 0)
                        r = replace_subtree(from_upper, new_upper, below_etc(carried[done], NULL), e);
        }
        if (r >= 0)
                r = progress_report(progress, n, n, NULL);
        return r < 0 ? r : tree_flush(to, UPPER_NEW, e);
}

static int put_in_place(int to, struct error *e)
{
        bool there = entry_of(to, UPPER) != ENTRY_NONE;
        int r = make_empty(to, WORK, 0700, e);

        if (r >= 0)
                r = io_rename(to, UPPER_NEW, to, UPPER, there ? RENAME_EXCHANGE : RENAME_NOREPLACE);
        if (r >= 0)
                r = io_fsync(to);
        if (r >= 0)
                r = remove_tree(to, UPPER_NEW);
        return r < 0 ? fail_write(e, r, "cannot put the new /etc in its place") : 0;
}

/* DATA/etc/<slot>. fd or -errno. */
static int open_slot(const struct snapshot_place *place, int slot, bool make)
{
        char path[8];
        int r;

        snprintf(path, sizeof(path), "etc/%c", slot_name(slot));
        r = make ? mkdir_parents(place->data, path, 0755) : 0;
        return r < 0 ? r : dir_open(place->data, path);
}

int carry_config(const struct snapshot_place *place, char *const *carried, int from, int to, struct progress *progress,
                 struct error *e)
{
        _cleanup_close_ int from_dir = -1, to_dir = -1;
        bool whole = false;
        int r;

        for (char *const *p = carried; p && *p; p++) {
                const char *below = below_etc(*p, e);

                if (!below)
                        return -EINVAL;
                whole |= !*below;
        }
        if (!carried || !carried[0])
                return 0;
        from_dir = open_slot(place, from, false);
        if (from_dir < 0 && from_dir != -ENOENT)
                return fail_errno(e, from_dir, "cannot open the /etc of slot %c", slot_name(from));
        to_dir = open_slot(place, to, true);
        if (to_dir < 0)
                return fail_write(e, to_dir, "cannot make the /etc of slot %c", slot_name(to));
        r = make_upper(from_dir, to_dir, carried, whole, progress, e);
        if (r < 0) {
                remove_tree(to_dir, UPPER_NEW);
                return r;
        }
        return put_in_place(to_dir, e);
}
