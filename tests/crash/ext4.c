/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* data/ as ext4 with data=ordered keeps it, and data/root as another one: shared paths may lie elsewhere. Metadata is a
 * journal: changes reach the disk in their order, and a cut may come behind any of them. Content is apart from it: with
 * delayed allocation a file may be named, and renamed, long before what was written to it is there; it is shorter then, and
 * never shows what was not written. What ext4 does besides, of which nothing may depend, is left out: that a rename over a
 * file starts to write the new one (auto_da_alloc), and that whatever commits takes with it all that was journalled until
 * then.
 *
 *      fsync   the content; and the journal: of something whose content was not there yet, all of it (the size is set
 *              now); of anything else, up to the last change that touched it */
#include "crash.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>

#define INODES  1024
#define ENTRIES 1024
#define CHANGES 8192

struct inode {
        mode_t mode;
        char *target;
        bool has_mtime;
        struct timespec mtime;
};

struct link {
        int dir, inode; /* inode -1: unused */
        char name[112];
};

struct step {
        enum { MAKE, REMOVE, MOVE, EXCHANGE, ATTRIBUTE } what;
        int dir, inode, dir2, inode2;
        char name[112], name2[112];
        mode_t mode;
        struct timespec mtime;
};

struct tree {
        struct link links[ENTRIES];
        size_t n;
        struct inode inodes[INODES];
};

struct ext4 {
        struct tree before, now;
        int n_inodes;
        struct step changes[CHANGES];
        unsigned n_changes;
        size_t journal; /* its cell */
};

static struct link *entry_in(struct tree *tree, int dir, const char *name)
{
        for (size_t i = 0; i < tree->n; i++)
                if (tree->links[i].inode >= 0 && tree->links[i].dir == dir && streq(tree->links[i].name, name))
                        return &tree->links[i];
        return NULL;
}

static void add_entry(struct tree *tree, int dir, const char *name, int inode)
{
        size_t i = 0;

        while (i < tree->n && tree->links[i].inode >= 0)
                i++;
        if (i == ENTRIES || strlen(name) >= sizeof(tree->links[i].name))
                die("the model of the data partition is full, or a name too long: %s", name);
        tree->links[i] = (struct link){ .dir = dir, .inode = inode };
        strcpy(tree->links[i].name, name);
        tree->n = MAX(tree->n, i + 1);
}

static void apply(struct tree *tree, const struct step *c)
{
        struct link *from = entry_in(tree, c->dir, c->name), *to;

        switch (c->what) {
        case MAKE:
                add_entry(tree, c->dir, c->name, c->inode);
                break;
        case REMOVE:
                from->inode = -1;
                break;
        case MOVE:
                to = entry_in(tree, c->dir2, c->name2);
                if (to)
                        to->inode = -1;
                from->inode = -1;
                add_entry(tree, c->dir2, c->name2, c->inode);
                break;
        case EXCHANGE:
                to = entry_in(tree, c->dir2, c->name2);
                from->inode = c->inode2;
                to->inode = c->inode;
                break;
        case ATTRIBUTE:
                tree->inodes[c->inode].mode = c->mode;
                tree->inodes[c->inode].mtime = c->mtime;
                tree->inodes[c->inode].has_mtime = true;
                break;
        }
}

/* The directory of a path and the rest; or -1. */
static int walk(struct ext4 *x, const char *path, const char **ret_name)
{
        int dir = 0;

        for (const char *slash; (slash = strchr(path, '/')); path = slash + 1) {
                char name[112];
                struct link *e;

                snprintf(name, sizeof(name), "%.*s", (int)(slash - path), path);
                e = entry_in(&x->now, dir, name);
                if (!e)
                        return -1;
                dir = e->inode;
        }
        *ret_name = path;
        return dir;
}

static int inode_of(struct ext4 *x, const char *path)
{
        const char *name;
        int dir = walk(x, path, &name);
        struct link *e;

        if (!*path)
                return 0;
        e = dir < 0 ? NULL : entry_in(&x->now, dir, name);
        return e ? e->inode : -1;
}

static struct cell *journal(struct trace *t, enum volume v)
{
        return trace_cell(t, v, 0, NULL, 0);
}

static void journal_add(struct trace *t, enum volume v, const struct step *c)
{
        struct ext4 *x = t->ext4[v];

        if (x->n_changes == CHANGES)
                die("the model of the journal is full");
        apply(&x->now, c);
        x->changes[x->n_changes++] = *c;
        cell_write(t, journal(t, v), NULL, 0);
}

static struct step change_at(struct trace *t, enum volume v, int what, const char *path)
{
        struct step c = { .what = (unsigned)what, .inode2 = -1, .dir2 = -1 };
        const char *name = "";

        c.dir = walk(t->ext4[v], path, &name);
        if (c.dir < 0 || strlen(name) >= sizeof(c.name))
                die("the model of the data partition has no %s", path);
        strcpy(c.name, name);
        c.inode = inode_of(t->ext4[v], path);
        return c;
}

static struct cell *content(struct trace *t, enum volume v, int inode)
{
        return trace_cell(t, v, (uint64_t)inode + 1, "", 0);
}

void ext4_create(struct trace *t, enum volume v, const char *path, mode_t mode, const char *target)
{
        struct step c = change_at(t, v, MAKE, path);
        struct inode *inode;

        if (c.inode >= 0 || t->ext4[v]->n_inodes == INODES)
                die("the model of the data partition cannot make %s", path);
        c.inode = t->ext4[v]->n_inodes++;
        inode = &t->ext4[v]->now.inodes[c.inode];
        *inode = (struct inode){ .mode = mode, .target = target ? strdup(target) : NULL };
        t->ext4[v]->before.inodes[c.inode] = *inode;
        journal_add(t, v, &c);
        if (S_ISREG(mode))
                content(t, v, c.inode);
}

void ext4_write(struct trace *t, enum volume v, const char *path, const void *data, size_t n, uint64_t offset)
{
        struct cell *c = content(t, v, inode_of(t->ext4[v], path));
        size_t old = cell_newest(c)->size, size = MAX(old, (size_t)offset + n);
        _cleanup_free_ uint8_t *now = calloc(1, size + 1);

        if (!now)
                die("no memory");
        memcpy(now, cell_newest(c)->data, old);
        /* Half of it may be there. */
        if (n > SECTOR) {
                size_t half = n / 2 / SECTOR * SECTOR;

                memcpy(now + offset, data, half);
                cell_write(t, c, now, MAX(old, (size_t)offset + half));
        }
        memcpy(now + offset, data, n);
        cell_write(t, c, now, size);
}

void ext4_truncate(struct trace *t, enum volume v, const char *path, uint64_t size)
{
        struct cell *c = content(t, v, inode_of(t->ext4[v], path));
        _cleanup_free_ uint8_t *now = calloc(1, size + 1);

        if (!now)
                die("no memory");
        memcpy(now, cell_newest(c)->data, MIN(size, (uint64_t)cell_newest(c)->size));
        cell_write(t, c, now, size);
}

void ext4_rename(struct trace *t, enum volume v, const char *from, const char *to, bool exchange)
{
        struct step c = change_at(t, v, exchange ? EXCHANGE : MOVE, from), target = change_at(t, v, MOVE, to);

        c.dir2 = target.dir;
        c.inode2 = target.inode;
        strcpy(c.name2, target.name);
        journal_add(t, v, &c);
}

void ext4_link(struct trace *t, enum volume v, const char *from, const char *to)
{
        struct step c = change_at(t, v, MAKE, to);

        c.inode = inode_of(t->ext4[v], from);
        journal_add(t, v, &c);
}

void ext4_unlink(struct trace *t, enum volume v, const char *path)
{
        struct step c = change_at(t, v, REMOVE, path);

        journal_add(t, v, &c);
}

void ext4_attribute(struct trace *t, enum volume v, const char *path)
{
        struct step c = change_at(t, v, ATTRIBUTE, path);
        char real[PATH_MAX];
        struct stat st;

        snprintf(real, sizeof(real), "%s/%s", volume_path(v), path);
        if (lstat(real, &st) < 0)
                die("cannot look at %s: %m", real);
        c.mode = st.st_mode;
        c.mtime = st.st_mtim;
        journal_add(t, v, &c);
}

static bool touches(const struct step *c, int inode)
{
        return c->inode == inode || c->inode2 == inode || (c->what != ATTRIBUTE && (c->dir == inode || c->dir2 == inode));
}

void ext4_flush(struct trace *t, enum volume v, const char *path)
{
        struct ext4 *x = t->ext4[v];
        int inode = inode_of(x, path);
        struct cell *c;
        unsigned until = x->n_changes;
        bool fresh;

        if (inode < 0)
                die("the model of the data partition has no %s", path);
        c = trace_find(t, v, (uint64_t)inode + 1);
        fresh = c && cell_durable_at(c, t->n_events) < c->n - 1;
        if (c)
                cell_mark(t, c, c->n - 1);
        while (!fresh && until > 0 && !touches(&x->changes[until - 1], inode))
                until--;
        cell_mark(t, journal(t, v), until);
}

static void import_directory(struct trace *t, enum volume v, const char *path)
{
        char real[PATH_MAX];
        struct dirent **names;
        int n;

        snprintf(real, sizeof(real), "%s%s%s", volume_path(v), *path ? "/" : "", path);
        n = scandir(real, &names, NULL, alphasort);
        for (int i = 0; i < n; i++) {
                char below[PATH_MAX], file[PATH_MAX + 256], target[PATH_MAX] = "";
                _cleanup_free_ char *data = NULL;
                struct inode *inode;
                struct stat st;
                size_t size;

                snprintf(below, sizeof(below), "%s%s%s", path, *path ? "/" : "", names[i]->d_name);
                snprintf(file, sizeof(file), "%s/%s", real, names[i]->d_name);
                if (streq(names[i]->d_name, ".") || streq(names[i]->d_name, "..") || streq(file, volume_path(SHARED)))
                        continue;
                if (lstat(file, &st) < 0 || (S_ISLNK(st.st_mode) && readlink(file, target, sizeof(target) - 1) < 0))
                        die("cannot look at %s: %m", file);
                ext4_create(t, v, below, st.st_mode, *target ? target : NULL);
                inode = &t->ext4[v]->now.inodes[inode_of(t->ext4[v], below)];
                inode->has_mtime = true;
                inode->mtime = st.st_mtim;
                if (S_ISDIR(st.st_mode))
                        import_directory(t, v, below);
                else if (S_ISREG(st.st_mode) && file_read(AT_FDCWD, file, MIB(16), &data, &size) >= 0)
                        cell_write(t, content(t, v, inode_of(t->ext4[v], below)), data, size);
                free(names[i]);
        }
        if (n >= 0)
                free(names);
}

static void import_volume(struct trace *t, enum volume v)
{
        t->ext4[v] = calloc(1, sizeof(*t->ext4[v]));
        if (!t->ext4[v])
                die("no memory");
        t->ext4[v]->n_inodes = 1;
        t->ext4[v]->now.inodes[0].mode = S_IFDIR | 0755;
        t->ext4[v]->journal = t->n_cells;
        journal(t, v);
        import_directory(t, v, "");
        t->ext4[v]->before = t->ext4[v]->now;
        t->ext4[v]->n_changes = 0;
        for (size_t i = 0; i < t->n_cells; i++) {
                struct cell *c = t->cells[i];
                struct version newest = c->v[c->n - 1];

                if (c->volume != v)
                        continue;
                for (unsigned k = 0; k + 1 < c->n; k++)
                        free(c->v[k].data);
                c->v[0] = newest;
                c->n = 1;
                c->n_m = 0;
        }
}

void ext4_import(struct trace *t)
{
        import_volume(t, DATA);
        import_volume(t, SHARED);
}

void ext4_free(struct ext4 *x)
{
        for (int i = 0; x && i < x->n_inodes; i++)
                free(x->now.inodes[i].target);
        free(x);
}

static void tree_at(struct ext4 *x, unsigned changes, struct tree *ret)
{
        *ret = x->before;
        for (unsigned i = 0; i < changes; i++)
                apply(ret, &x->changes[i]);
}

static bool is_named(const struct tree *tree, int inode)
{
        for (size_t i = 0; i < tree->n; i++)
                if (tree->links[i].inode == inode)
                        return true;
        return inode == 0;
}

static bool can_apply(struct tree *tree, const struct step *c)
{
        const struct link *from = entry_in(tree, c->dir, c->name);
        const struct link *to = c->dir2 < 0 ? NULL : entry_in(tree, c->dir2, c->name2);

        switch (c->what) {
        case MAKE:
                return !from && is_named(tree, c->dir);
        case REMOVE:
                return from && from->inode == c->inode;
        case MOVE:
                return from && from->inode == c->inode && is_named(tree, c->dir2);
        case EXCHANGE:
                return from && to && from->inode == c->inode && to->inode == c->inode2;
        case ATTRIBUTE:
                return is_named(tree, c->inode);
        }
        return false;
}

static void rotate(struct step *steps, unsigned n, unsigned m)
{
        _cleanup_free_ struct step *old = calloc(n + m, sizeof(*old));

        if (!old)
                die("no memory");
        memcpy(old, steps, (n + m) * sizeof(*old));
        memcpy(steps, old + n, m * sizeof(*old));
        memcpy(steps + m, old, n * sizeof(*old));
}

bool ext4_exchange(struct trace *t, enum volume v, unsigned from, unsigned n, unsigned m)
{
        static struct tree tree;
        struct ext4 *x = t->ext4[v];

        if (n == 0 || m == 0)
                return true;
        rotate(x->changes + from, n, m);
        tree_at(x, from, &tree);
        for (unsigned i = from; i < from + n + m; i++) {
                if (!can_apply(&tree, &x->changes[i])) {
                        rotate(x->changes + from, m, n);
                        return false;
                }
                apply(&tree, &x->changes[i]);
        }
        return true;
}

bool ext4_is_journal(const struct cell *c)
{
        return (c->volume == DATA || c->volume == SHARED) && c->key == 0;
}

static void forget_unnamed(struct trace *t, enum volume v, unsigned *versions)
{
        static struct tree tree;
        bool named[INODES] = {};

        tree_at(t->ext4[v], versions[t->ext4[v]->journal], &tree);
        for (size_t i = 0; i < tree.n; i++)
                if (tree.links[i].inode >= 0)
                        named[tree.links[i].inode] = true;
        for (size_t i = 0; i < t->n_cells; i++)
                if (t->cells[i]->volume == v && t->cells[i]->key > 0 && !named[t->cells[i]->key - 1])
                        versions[i] = 0;
}

void ext4_forget_unnamed(struct trace *t, unsigned *versions)
{
        forget_unnamed(t, DATA, versions);
        forget_unnamed(t, SHARED, versions);
}

struct putting {
        struct trace *t;
        choice versions;
        struct tree *tree;
        size_t cell_of[INODES + 1]; /* index + 1 */
        char *done[INODES];         /* the first name of an inode that has several */
};

static void put_file(struct putting *p, int number, const char *path)
{
        const struct inode *inode = &p->tree->inodes[number];
        size_t cell = p->cell_of[number];
        int fd;

        if (S_ISLNK(inode->mode)) {
                if (symlink(inode->target, path) < 0)
                        die("cannot make %s: %m", path);
                return;
        }
        if (!S_ISREG(inode->mode)) {
                if (mknod(path, inode->mode, 0) < 0)
                        die("cannot make %s: %m", path);
                return;
        }
        if (p->done[number]) {
                if (link(p->done[number], path) < 0)
                        die("cannot link %s: %m", path);
                return;
        }
        p->done[number] = strdup(path);
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, inode->mode & 07777);
        if (fd < 0)
                die("cannot make %s: %m", path);
        if (cell) {
                const struct version *v = &p->t->cells[cell - 1]->v[p->versions[cell - 1]];

                if (write(fd, v->data, v->size) != (ssize_t)v->size)
                        die("cannot write %s: %m", path);
        }
        fd_close(fd);
}

static void put_directory(struct putting *p, int dir, const char *path)
{
        for (size_t i = 0; i < p->tree->n; i++) {
                const struct link *e = &p->tree->links[i];
                const struct inode *inode = e->inode < 0 ? NULL : &p->tree->inodes[e->inode];
                const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT },
                                                   inode && inode->has_mtime ? inode->mtime : chance_mtime() };
                char below[PATH_MAX];

                if (!inode || e->dir != dir)
                        continue;
                snprintf(below, sizeof(below), "%s/%s", path, e->name);
                if (S_ISDIR(inode->mode)) {
                        if (mkdir(below, 0755) < 0)
                                die("cannot make %s: %m", below);
                        put_directory(p, e->inode, below);
                } else {
                        put_file(p, e->inode, below);
                }
                if (!S_ISLNK(inode->mode) && chmod(below, inode->mode & 07777) < 0)
                        die("cannot set the mode of %s: %m", below);
                if (utimensat(AT_FDCWD, below, times, AT_SYMLINK_NOFOLLOW) < 0)
                        die("cannot set the time of %s: %m", below);
        }
}

static void put_volume(struct trace *t, enum volume v, choice versions)
{
        static struct tree tree;
        struct putting p = { .t = t, .versions = versions, .tree = &tree };
        unsigned changes = 0;

        for (size_t i = 0; i < t->n_cells; i++) {
                if (t->cells[i]->volume != v)
                        continue;
                if (t->cells[i]->key == 0)
                        changes = versions[i];
                else
                        p.cell_of[t->cells[i]->key - 1] = i + 1;
        }
        tree_at(t->ext4[v], changes, &tree);
        if (mkdir(volume_path(v), 0755) < 0)
                die("cannot make %s: %m", volume_path(v));
        put_directory(&p, 0, volume_path(v));
        for (int i = 0; i < INODES; i++)
                free(p.done[i]);
}

void ext4_put(struct trace *t, choice versions)
{
        put_volume(t, DATA, versions);
        put_volume(t, SHARED, versions); /* mounted there */
}
