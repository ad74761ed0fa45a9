/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A snapshot against what is there now, in two passes: every node of the archive is looked up among the files, then
 * every file among the nodes. Services may run meanwhile. */
#include <fcntl.h>

#include "base/io.h"
#include "snapshot/archive.h"
#include "snapshot/difference.h"
#include "snapshot/extent.h"
#include "snapshot/metadata.h"
#include "snapshot/path.h"
#include "snapshot/path_set.h"
#include "snapshot/roots.h"
#include "snapshot/seal.h"
#include "snapshot/text_diff.h"
#include "snapshot/walk.h"

#define COMPARE_SIZE KIB(64)

struct diff {
        const struct snapshot *s;
        struct difference_list *list;
        struct root *items; /* owned, with their descriptors */
        struct roots roots;
        struct path_set seen; /* the archive's nodes */
        int archive;
        bool with_text;
};

static void diff_done(struct diff *d)
{
        for (size_t i = 0; i < d->roots.n; i++)
                fd_close(d->items[i].parent);
        free(d->items);
        path_set_done(&d->seen);
        fd_close(d->archive);
}

static int add_roots(struct diff *d, const struct snapshot_place *place, char *const *paths, struct error *e)
{
        for (char *const *p = paths; p && *p; p++) {
                const char *name;
                int parent = path_open_parent(place->root, *p, false, &name);

                if (parent == -ENOENT || parent == -ENOTDIR)
                        continue;
                if (parent < 0)
                        return fail_errno(e, parent, "cannot open the directory of %s", *p);
                d->items[d->roots.n++] = (struct root){ *p + 1, parent, name };
        }
        return 0;
}

static int open_roots(struct diff *d, const struct snapshot_place *place, struct error *e)
{
        int r;

        d->items = calloc(paths_count(d->s->paths) + paths_count(d->s->absent) + 1, sizeof(*d->items));
        if (!d->items)
                return -ENOMEM;
        d->roots.items = d->items;
        r = add_roots(d, place, d->s->paths, e);
        return r < 0 ? r : add_roots(d, place, d->s->absent, e);
}

/* The archive's side. */
static int load_archived(struct tar_reader *tar, const struct node *n, struct side *ret, struct error *e)
{
        _cleanup_free_ char *data = NULL;
        const void *block;
        uint64_t offset;
        size_t size;
        int r;

        if (n->size > TEXT_DIFF_MAX) {
                ret->is_long = true;
                return 0;
        }
        data = calloc(1, n->size + 1);
        if (!data)
                return -ENOMEM;
        while ((r = tar_reader_block(tar, &block, &size, &offset, e)) > 0)
                memcpy(data + offset, block, size);
        if (r >= 0)
                buf_append(&ret->content, data, n->size);
        return r < 0 ? r : ret->content.failed ? -ENOMEM : 0;
}

/* Whether `size` bytes at `offset` of the file are those. 1, 0 (or it ends before) or -errno. */
static int same_bytes(int fd, const char *data, size_t size, uint64_t offset)
{
        char buffer[COMPARE_SIZE];

        while (size > 0) {
                ssize_t n = pread(fd, buffer, MIN(size, sizeof(buffer)), (off_t)offset);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0 || memcmp(buffer, data, (size_t)n) != 0)
                        return 0;
                data += n;
                size -= (size_t)n;
                offset += (uint64_t)n;
        }
        return 1;
}

/* Two large files of one size; holes are compared as such. 1: same. */
static int compare_large(struct tar_reader *tar, const struct node *n, int fd, struct error *e)
{
        uint64_t at = 0, offset;
        const void *block;
        size_t size;
        int r, same = 1;

        while (same > 0 && (r = tar_reader_block(tar, &block, &size, &offset, e)) != 0) {
                if (r < 0)
                        return r;
                same = extents_is_zero(fd, at, offset - at);
                if (same > 0)
                        same = same_bytes(fd, block, size, offset);
                at = offset + size;
        }
        if (same > 0)
                same = extents_is_zero(fd, at, n->size - at);
        return same < 0 ? fail_errno(e, same, "cannot read /%s", n->path) : same;
}

/* A regular file on both sides. `path`: under which it is listed. */
static int compare_files(struct diff *d, struct tar_reader *tar, const struct node *old, const struct node *new, int fd,
                         const char *path, bool relinked, struct error *e)
{
        _cleanup_side_ struct side a = {}, b = {};
        int r, same = 0;

        if (old->size > TEXT_DIFF_MAX && old->size == new->size) {
                same = compare_large(tar, old, fd, e);
                a.is_long = b.is_long = true;
        } else {
                r = load_archived(tar, old, &a, e);
                if (r >= 0)
                        r = side_load(&b, fd, new->size);
                if (r < 0)
                        return fail_errno(e, r, "cannot read /%s", path);
                same = !a.is_long && !b.is_long && side_same(&a, &b);
        }
        if (same < 0)
                return same;
        if (!same)
                return difference_add(d->list, path, CHANGE_CONTENT, false, d->with_text ? &a : NULL, &b);
        if (relinked || !node_same_metadata(old, new))
                return difference_add(d->list, path, CHANGE_METADATA, false, NULL, NULL);
        return 0;
}

static int is_gone(struct diff *d, struct tar_reader *tar, const struct node *n, struct error *e)
{
        _cleanup_side_ struct side old = {}, none = {};
        bool text = d->with_text && S_ISREG(n->mode) && !n->hardlink;
        int r = text ? load_archived(tar, n, &old, e) : 0;

        return r < 0 ? r : difference_add(d->list, n->path, CHANGE_REMOVED, false, text ? &old : NULL, &none);
}

/* The identity of the file that a path names now. */
static int identify(const struct diff *d, const char *path, struct node *ret)
{
        const char *name;
        _cleanup_close_ int dir = roots_open_parent(&d->roots, path, &name);

        return dir < 0 ? dir : node_stat(dir, name, path, ret, NULL);
}

/* A further name of a file: the same as its first name says all. One that is a file of its own now is compared with
 * what that first name has in the archive, which is read again up to there. */
static int compare_hardlink(struct diff *d, const struct node *old, const struct node *new, int fd, struct error *e)
{
        _cleanup_tar_reader_ struct tar_reader *tar = NULL;
        _cleanup_node_ struct node first = {};
        int r = identify(d, old->hardlink, &first);

        if (r >= 0 && first.dev == new->dev && first.ino == new->ino)
                return 0;
        r = tar_reader_new(d->archive, NULL, &tar, e);
        while (r >= 0) {
                _cleanup_node_ struct node n = {};

                r = tar_reader_next(tar, &n, e);
                if (r <= 0)
                        break;
                if (!streq(n.path, old->hardlink))
                        continue;
                if (!node_same_type(&n, new))
                        return difference_add(d->list, old->path, CHANGE_TYPE, false, NULL, NULL);
                if (!S_ISREG(n.mode))
                        return node_same_metadata(&n, new)
                                       ? 0
                                       : difference_add(d->list, old->path, CHANGE_METADATA, false, NULL, NULL);
                return compare_files(d, tar, &n, new, fd, old->path, true, e);
        }
        return r;
}

static int compare_loaded(struct diff *d, struct tar_reader *tar, const struct node *old, const struct node *new, int fd,
                          struct error *e)
{
        if (old->hardlink)
                return compare_hardlink(d, old, new, fd, e);
        if (!node_same_type(old, new))
                return difference_add(d->list, old->path, CHANGE_TYPE, false, NULL, NULL);
        if (S_ISREG(old->mode))
                return compare_files(d, tar, old, new, fd, old->path, false, e);
        if (!streq(old->target, new->target))
                return difference_add(d->list, old->path, CHANGE_CONTENT, false, NULL, NULL);
        return node_same_metadata(old, new) ? 0 : difference_add(d->list, old->path, CHANGE_METADATA, false, NULL, NULL);
}

static int compare_node(struct diff *d, struct tar_reader *tar, const struct node *old, struct error *e)
{
        _cleanup_node_ struct node new = {};
        _cleanup_close_ int dir = -1, fd = -1;
        const char *name = NULL;
        int r;

        dir = roots_open_parent(&d->roots, old->path, &name);
        if (dir == -ENOENT || dir == -ENOTDIR || dir == -ELOOP || dir == -ENXIO)
                return is_gone(d, tar, old, e);
        if (dir < 0)
                return fail_errno(e, dir, "cannot open the directory of /%s", old->path);
        r = node_stat(dir, name, old->path, &new, e);
        if (r >= 0)
                r = node_open(dir, name, &new, &fd, NULL);
        if (r >= 0)
                r = node_load(dir, name, fd, &new, NULL);
        if (r == -ENOENT)
                return is_gone(d, tar, old, e);
        return r < 0 ? fail_errno(e, r, "cannot read /%s", old->path) : compare_loaded(d, tar, old, &new, fd, e);
}

static int compare_archive(struct diff *d, struct error *e)
{
        _cleanup_tar_reader_ struct tar_reader *tar = NULL;
        int r = tar_reader_new(d->archive, NULL, &tar, e);

        while (r >= 0) {
                _cleanup_node_ struct node n = {};

                r = tar_reader_next(tar, &n, e);
                if (r <= 0)
                        break;
                r = path_set_add(&d->seen, n.path);
                if (r >= 0)
                        r = compare_node(d, tar, &n, e);
        }
        return r;
}

static int find_added(struct walk *w, struct node *n, int dirfd, const char *name, int fd, struct error *e)
{
        _cleanup_side_ struct side none = {}, new = {};
        struct diff *d = w->userdata;
        bool text = d->with_text && S_ISREG(n->mode) && !n->hardlink;
        int r;

        if (path_set_has(&d->seen, n->path))
                return 0;
        r = text ? side_load(&new, fd, n->size) : 0;
        return r < 0 ? fail_errno(e, r, "cannot read /%s", n->path)
                     : difference_add(d->list, n->path, CHANGE_ADDED, false, text ? &none : NULL, &new);
}

int snapshot_diff(const struct snapshot_place *place, const struct snapshot *s, bool with_text, struct difference_list *ret,
                  struct error *e)
{
        _cleanup_(diff_done) struct diff d = { .s = s, .list = ret, .archive = -1, .with_text = with_text };
        _cleanup_walk_ struct walk w = {
                .visit = find_added, .userdata = &d, .shallow = true, .changing = true, .quiet = true
        };
        int r;

        d.archive = seal_open(place, s, e);
        if (d.archive < 0)
                return d.archive;
        r = open_roots(&d, place, e);
        if (r >= 0)
                r = compare_archive(&d, e);
        for (size_t i = 0; r >= 0 && i < d.roots.n; i++) {
                r = walk_tree(&w, d.items[i].parent, d.items[i].name, d.items[i].prefix, e);
                if (r == -ENOENT)
                        r = 0;
        }
        if (r >= 0)
                difference_sort(ret);
        return r;
}
