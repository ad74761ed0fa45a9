/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The /etc of two slots, as their overlays show it: for every name a slot's file is
 *
 *      upper directory has …                it shows …
 *      a whiteout                           nothing
 *      a file, or an opaque directory       that
 *      a directory                          it, and what the lower directory has under the same name
 *      nothing                              what the lower directory has, unless something above is opaque
 *
 * The lower directory is the /etc of the root that runs, for both: the other slot's root is not mounted. What it would
 * show differently is a matter of versions and not of configuration. Files that neither upper directory
 * has are never looked at.
 */
#include <fcntl.h>
#include <sys/syscall.h>
#include <linux/mount.h>

#include "base/file.h"
#include "snapshot/difference.h"
#include "snapshot/path.h"
#include "snapshot/text_diff.h"
#include "snapshot/walk.h"

#define MAX_DEPTH 128 /* directories; each costs up to six descriptors */

/* What the system itself writes into /etc, at boot or after every change: no configuration. */
static const char *const ignored[] = {
        "etc/.pwd.lock", "etc/.updated", "etc/ld.so.cache", "etc/machine-id", "etc/mtab",
};

/* One directory of one slot: its layers, -1 where there is none. */
struct layers {
        int upper, lower;
};

/* One file of one slot. */
struct view {
        bool there;
        struct node node;
        int fd;               /* of a regular file or directory */
        struct layers layers; /* of a directory: what is below. The upper one may be `fd` */
        bool from_lower;      /* the upper directory has nothing to say about it */
};

struct comparison {
        struct difference_list *list;
        char *const *carried;
        bool with_text;
        int depth;
};

static void view_done(struct view *v)
{
        node_done(&v->node);
        if (v->layers.upper != v->fd)
                fd_close(v->layers.upper);
        if (v->layers.lower != v->fd)
                fd_close(v->layers.lower);
        fd_close(v->fd);
}
#define _cleanup_view_ _cleanup_(view_done)
#define VIEW_NOTHING                                                                                                        \
        {                                                                                                                   \
                .fd = -1, .layers = { -1, -1 }                                                                              \
        }

/* Loads one name of one layer; vanished is as good as not there. 1 or 0. */
static int load(int dir, const char *name, const char *path, struct node *n, int *fd, struct error *e)
{
        int r;

        if (dir < 0)
                return 0;
        r = node_stat(dir, name, path, n, e);
        if (r >= 0)
                r = node_open(dir, name, n, fd, NULL);
        if (r >= 0)
                r = node_load(dir, name, *fd, n, NULL);
        if (r == -ENOENT || r == -ENOTDIR) {
                node_done(n);
                *fd = fd_close(*fd);
                return 0;
        }
        return r < 0 ? fail_errno(e, r, "cannot read /%s", path) : 1;
}

static bool is_opaque(const struct node *n)
{
        static const char *const names[] = { "trusted.overlay.opaque", "user.overlay.opaque" };

        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                const struct xattr *x = xattr_find(n->xattrs, names[i]);

                if (x && x->size == 1 && memcmp(x->value, "y", 1) == 0)
                        return true;
        }
        return false;
}

static int look(const struct layers *l, const char *name, const char *path, struct view *v, struct error *e)
{
        int r = load(l->upper, name, path, &v->node, &v->fd, e);

        if (r < 0)
                return r;
        if (r > 0) {
                v->there = !v->node.whiteout;
                if (!v->there || !S_ISDIR(v->node.mode))
                        return 0;
                v->layers.upper = v->fd;
                if (l->lower >= 0 && !is_opaque(&v->node)) {
                        /* Not a directory: then nothing of it shows through. */
                        v->layers.lower = openat(l->lower, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                }
                return 0;
        }
        r = load(l->lower, name, path, &v->node, &v->fd, e);
        v->there = r > 0;
        v->from_lower = true;
        if (r > 0 && S_ISDIR(v->node.mode))
                v->layers.lower = v->fd;
        return MIN(r, 0);
}

enum interest { OUTSIDE, ABOVE, INSIDE };

static enum interest interest_in(const struct comparison *c, const char *path)
{
        enum interest most = OUTSIDE;

        for (size_t i = 0; i < ARRAY_SIZE(ignored); i++)
                if (streq(path, ignored[i]))
                        return OUTSIDE;
        for (char *const *p = c->carried; p && *p; p++) {
                if (path_below(path, *p + 1))
                        return INSIDE;
                if (path_below(*p + 1, path))
                        most = ABOVE;
        }
        return most;
}

/* A whole side of a comparison as text. */
static int load_side(const struct view *v, struct side *s)
{
        if (!v->there)
                return 0;
        s->is_long = !S_ISREG(v->node.mode);
        return s->is_long ? 0 : side_load(s, v->fd, v->node.size);
}

static int same_large(int a, int b, uint64_t size)
{
        _cleanup_free_ char *x = malloc(2 * TEXT_DIFF_MAX);

        if (!x)
                return -ENOMEM;
        for (uint64_t at = 0; at < size; at += TEXT_DIFF_MAX) {
                size_t want = (size_t)MIN(size - at, TEXT_DIFF_MAX);
                ssize_t n = pread(a, x, want, (off_t)at), m = pread(b, x + TEXT_DIFF_MAX, want, (off_t)at);

                if (n < 0 || m < 0)
                        return -errno;
                if (n != m || memcmp(x, x + TEXT_DIFF_MAX, (size_t)n) != 0)
                        return 0;
                if (n == 0)
                        break;
        }
        return 1;
}

static int report(struct comparison *c, const char *path, enum change change, const struct side *a, const struct side *b)
{
        return difference_add(c->list, path, change, true, c->with_text && a ? a : NULL, b);
}

static int compare_files(struct comparison *c, const char *path, const struct view *a, const struct view *b, struct error *e)
{
        _cleanup_side_ struct side old = {}, new = {};
        int r, same;

        r = load_side(a, &old);
        if (r >= 0)
                r = load_side(b, &new);
        if (r < 0)
                return fail_errno(e, r, "cannot read /%s", path);
        if (a->there != b->there)
                return report(c, path, b->there ? CHANGE_ADDED : CHANGE_REMOVED, &old, &new);
        if (!node_same_type(&a->node, &b->node))
                return report(c, path, CHANGE_TYPE, NULL, NULL);
        if (S_ISREG(a->node.mode)) {
                if (old.is_long && new.is_long && a->node.size == b->node.size)
                        same = same_large(a->fd, b->fd, a->node.size);
                else
                        same = !(old.is_long || new.is_long) && side_same(&old, &new);
                if (same <= 0)
                        return same < 0 ? fail_errno(e, same, "cannot read /%s", path)
                                        : report(c, path, CHANGE_CONTENT, &old, &new);
        }
        if (!streq(a->node.target, b->node.target))
                return report(c, path, CHANGE_CONTENT, NULL, NULL);
        return node_same_metadata(&a->node, &b->node) ? 0 : report(c, path, CHANGE_METADATA, NULL, NULL);
}

static int compare_directories(struct comparison *c, const char *path, const struct layers *a, const struct layers *b,
                               struct error *e);

static int compare_entry(struct comparison *c, const char *path, const char *name, const struct layers *a,
                         const struct layers *b, struct error *e)
{
        _cleanup_view_ struct view x = VIEW_NOTHING, y = VIEW_NOTHING;
        enum interest interest = interest_in(c, path);
        int r;

        if (interest == OUTSIDE)
                return 0;
        r = look(a, name, path, &x, e);
        if (r >= 0)
                r = look(b, name, path, &y, e);
        if (r < 0 || (x.from_lower && y.from_lower && (a->lower >= 0) == (b->lower >= 0)))
                return r;
        if (interest == INSIDE && (x.there || y.there))
                r = compare_files(c, path, &x, &y, e);
        if (r >= 0 && ((x.there && S_ISDIR(x.node.mode)) || (y.there && S_ISDIR(y.node.mode))))
                r = compare_directories(c, path, &x.layers, &y.layers, e);
        return r;
}

/* The names of a layer, added to a sorted list without doubles. */
static int merge_names(int dir, char ***names)
{
        _cleanup_names_ char **more = NULL;
        char **merged, **a = *names, **b, **to;
        size_t n = 0;
        int r = dir < 0 ? 0 : directory_names(dir, &more);

        if (r < 0 || !more)
                return r;
        for (a = *names; a && *a; a++)
                n++;
        for (b = more; *b; b++)
                n++;
        merged = to = calloc(n + 1, sizeof(*merged));
        if (!merged)
                return -ENOMEM;
        for (a = *names, b = more; (a && *a) || *b;) {
                int order = !a || !*a ? 1 : !*b ? -1 : strcmp(*a, *b);

                if (order == 0)
                        free(*b++);
                else
                        *to++ = order < 0 ? *a++ : *b++;
        }
        free(*names);
        free(TAKE_PTR(more));
        *names = merged;
        return 0;
}

static int compare_directories(struct comparison *c, const char *path, const struct layers *a, const struct layers *b,
                               struct error *e)
{
        const int layers[] = { a->upper, a->lower, b->upper, b->lower };
        _cleanup_names_ char **names = NULL;
        int r = 0;

        if (c->depth >= MAX_DEPTH)
                return fail(e, -ELOOP, NULL, "/%.200s… is nested more than %d directories deep", path, MAX_DEPTH);
        for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(layers); i++)
                r = merge_names(layers[i], &names);
        if (r < 0)
                return fail_errno(e, r, "cannot list /%s", path);
        c->depth++;
        for (char **name = names; r >= 0 && name && *name; name++) {
                _cleanup_free_ char *full = NULL;

                if (asprintf(&full, "%s/%s", path, *name) < 0)
                        return -ENOMEM;
                r = compare_entry(c, full, *name, a, b, e);
        }
        c->depth--;
        return r;
}

/* The /etc of the root itself, without what is mounted over it: a private copy of that one mount shows it. Needs
 * CAP_SYS_ADMIN: without, nothing is known of it. */
static int open_lower(const struct snapshot_place *place)
{
        _cleanup_close_ int tree = (int)syscall(SYS_open_tree, place->root, "",
                                                OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);

        return tree < 0 ? -1 : openat(tree, "etc", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* -1 when there is none: the slot never ran, or keeps its /etc elsewhere. */
static int open_upper(const struct snapshot_place *place, int slot)
{
        char path[32];
        int fd;

        snprintf(path, sizeof(path), "etc/%c/upper", slot_name(slot));
        fd = dir_open(place->data, path);
        return fd < 0 ? -1 : fd;
}

int carried_diff(const struct snapshot_place *place, char *const *carried, int from, int to, bool with_text,
                 struct difference_list *ret, struct error *e)
{
        struct comparison c = { .list = ret, .carried = carried, .with_text = with_text };
        _cleanup_close_ int lower = open_lower(place), old = open_upper(place, from), new = open_upper(place, to);
        int r = compare_directories(&c, "etc", &(struct layers){ old, lower }, &(struct layers){ new, lower }, e);

        if (r >= 0)
                difference_sort(ret);
        return r;
}
