/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "snapshot/walk.h"

#include <fcntl.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "slot/kinds.h"
#include "snapshot/path.h"

void walk_done(struct walk *w)
{
        links_done(&w->links);
}

void names_free(char **names)
{
        for (char **n = names; n && *n; n++)
                free(*n);
        free(names);
}

static int compare_names(const void *a, const void *b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

int directory_names(int fd, char ***ret)
{
        _cleanup_closedir_ DIR *d = NULL;
        _cleanup_names_ char **names = NULL;
        size_t n = 0, allocated = 0;
        struct dirent *entry;
        int own = dir_open(fd, ".");

        if (own < 0)
                return own;
        d = fdopendir(own);
        if (!d) {
                fd_close(own);
                return -ENOMEM;
        }
        while (errno = 0, (entry = readdir(d))) {
                if (streq(entry->d_name, ".") || streq(entry->d_name, ".."))
                        continue;
                if (n + 2 > allocated) {
                        char **grown = reallocarray(names, allocated = MAX(2 * allocated, (size_t)16), sizeof(*grown));

                        if (!grown)
                                return -ENOMEM;
                        names = grown;
                }
                names[n] = strdup(entry->d_name);
                names[n + 1] = NULL;
                if (!names[n++])
                        return -ENOMEM;
        }
        if (errno != 0)
                return -errno;
        if (!names)
                names = calloc(1, sizeof(*names));
        if (!names)
                return -ENOMEM;
        qsort(names, n, sizeof(*names), compare_names);
        *ret = TAKE_PTR(names);
        return 0;
}

/* Says of a further name of a file which one came first. */
static int note_link(struct walk *w, struct node *n)
{
        const char *first;

        if (S_ISDIR(n->mode) || n->nlink < 2)
                return 0;
        first = links_find(&w->links, n->dev, n->ino);
        if (!first)
                return links_add(&w->links, n->dev, n->ino, n->path);
        n->hardlink = strdup(first);
        return n->hardlink ? 0 : -ENOMEM;
}

/* What no archive can give back. */
static bool is_left_out(struct walk *w, const struct node *n)
{
        _cleanup_free_ char *text = NULL;

        if (S_ISREG(n->mode) || S_ISDIR(n->mode) || S_ISLNK(n->mode) || S_ISFIFO(n->mode) || (n->whiteout && w->whiteouts))
                return false;
        w->skipped++;
        text = text_escape(n->path);
        if (!w->quiet)
                log_notice("/%s is %s: left out", text ?: "", S_ISSOCK(n->mode) ? "a socket" : "a device");
        return true;
}

static int walk_entry(struct walk *w, int dirfd, const char *name, const char *path, uint64_t device, struct error *e);

static int walk_directory(struct walk *w, int fd, const char *path, uint64_t device, struct error *e)
{
        _cleanup_names_ char **names = NULL;
        int r;

        if (w->depth >= WALK_MAX_DEPTH)
                return fail(e, -ELOOP, &kind_config_path, "/%.200s… is nested more than %d directories deep", path,
                            WALK_MAX_DEPTH);
        r = directory_names(fd, &names);
        if (r < 0)
                return fail_errno(e, r, "cannot list /%s", path);
        w->depth++;
        for (char **name = names; r >= 0 && *name; name++) {
                _cleanup_free_ char *below = xasprintf("%s/%s", path, *name);

                r = below ? walk_entry(w, fd, *name, below, device, e) : -ENOMEM;
                if (r == -ENOENT && below)
                        r = w->changing ? 0 : fail_changed(e, below);
        }
        w->depth--;
        return r;
}

/* `device`: of the directory above; 0: this is where the walk begins. */
static int walk_entry(struct walk *w, int dirfd, const char *name, const char *path, uint64_t device, struct error *e)
{
        _cleanup_node_ struct node n = {};
        _cleanup_close_ int fd = -1;
        uint64_t own_device;
        bool is_directory;
        int r;

        r = node_stat(dirfd, name, path, &n, e);
        if (r < 0 || is_left_out(w, &n))
                return r;
        /* Only directories tell: on overlayfs other files may show the number of the layer below. */
        if (S_ISDIR(n.mode) && device && n.dev != device)
                return fail_mount_point(e, path);
        r = note_link(w, &n);
        if (r >= 0)
                r = node_open(dirfd, name, &n, &fd, w->changing ? NULL : e);
        if (w->changing && (r == -ENOENT || r == -EAGAIN || r == -ELOOP))
                return 0;
        if (r < 0)
                return fail_errno(e, r, "cannot open /%s", path); /* if it was not recorded */
        is_directory = S_ISDIR(n.mode);
        own_device = n.dev;
        if (!w->shallow)
                r = node_load(dirfd, name, fd, &n, e);
        if (r >= 0)
                r = w->visit(w, &n, dirfd, name, fd, e); /* may keep the node for itself */
        if (r >= 0 && is_directory)
                r = walk_directory(w, fd, path, own_device, e);
        return r;
}

int walk_tree(struct walk *w, int dirfd, const char *name, const char *path, struct error *e)
{
        return walk_entry(w, dirfd, name, path, 0, e);
}
