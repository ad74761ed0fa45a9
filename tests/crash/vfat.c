/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* esp/ as Linux's vfat keeps it: clusters of one sector, 16 directory entries in each, a long name in several of them, the
 * FAT in sectors of its own. What design section 8 measured comes out of how it writes:
 *
 *      sync(2), syncfs(2)   send no flush: nothing is durable by them
 *      fsync of a file      its clusters, the FAT, the sector that holds its short entry (not those of its long name)
 *      fsync of a directory its clusters and what was put into a new directory in it, the FAT
 *      rename               the new entries are made, the old ones go: two sectors, in any order; and the new one says that
 *                           the file is empty until the file is flushed
 *
 * Reading it back (vfat-read.c) is written anew from the format, and shares nothing with the writing but the sectors. */
#include "vfat.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "loader/vfat.h"

#define END   0x0fffffff
#define NODES 256

struct node {
        bool used, directory;
        char path[192];
        uint32_t first, size;
        uint32_t entry_cluster[8]; /* of each of its directory entries, the short one last */
        uint8_t entry_index[8];
        unsigned n_entries;
        bool stale;  /* renamed: the new entry has no content until the inode is written, by an fsync of the file */
        int made_in; /* node of the directory that wrote this new directory's first cluster, until it is flushed; or -1 */
};

struct vfat {
        uint32_t fat[CLUSTERS];
        struct node nodes[NODES]; /* 0: the root */
        unsigned next_short;
};

bool vfat_by_firmware;

/* What was freed is not wiped: an entry that was removed long ago lies in every free cluster. */
static struct cell *sector(struct trace *t, uint64_t key)
{
        static const char left[SECTOR] = "title Left\nsort-key bootmgr\nversion 77\nlinux /bootmgr/"
                                         "00000000000000000000000000000000\noptions bootmgr.slot=b bootmgr.generation=77\n";
        static const uint8_t zeros[SECTOR];

        return trace_cell(t, ESP, key, key < FAT_KEY ? (const void *)left : zeros, SECTOR);
}

static void put_bytes(struct trace *t, uint64_t key, unsigned offset, const void *data, size_t n)
{
        struct cell *c = sector(t, key);
        uint8_t now[SECTOR];

        memcpy(now, cell_newest(c)->data, SECTOR);
        memcpy(now + offset, data, n);
        cell_write(t, c, now, SECTOR);
}

static void set_fat(struct trace *t, uint32_t cluster, uint32_t value)
{
        uint8_t le[4];

        t->vfat->fat[cluster] = value;
        put_le32(le, value);
        put_bytes(t, FAT_KEY + cluster / PER_FAT, cluster % PER_FAT * 4, le, 4);
}

/* First fit, as on a freshly mounted file system: what was freed is used again soon. */
static uint32_t take_cluster(struct trace *t, uint32_t after)
{
        for (uint32_t i = ROOT + 1; i < CLUSTERS; i++)
                if (t->vfat->fat[i] == 0) {
                        set_fat(t, i, END);
                        if (after)
                                set_fat(t, after, i);
                        return i;
                }
        die("the model of the ESP is full");
}

static void free_chain(struct trace *t, uint32_t cluster)
{
        while (cluster && cluster != END) {
                uint32_t next = t->vfat->fat[cluster];

                set_fat(t, cluster, 0);
                cluster = next;
        }
}

static int find(struct trace *t, const char *path)
{
        for (int i = 0; i < NODES; i++)
                if (t->vfat->nodes[i].used && strcasecmp(t->vfat->nodes[i].path, path) == 0)
                        return i;
        return -1;
}

static int parent_of(struct trace *t, const char *path)
{
        char parent[192];
        const char *slash = strrchr(path, '/');

        snprintf(parent, sizeof(parent), "%.*s", slash ? (int)(slash - path) : 0, path);
        return find(t, parent);
}

static const char *base_of(const char *path)
{
        const char *slash = strrchr(path, '/');

        return slash ? slash + 1 : path;
}

/* "F00D1234.TMP": one entry. */
static bool is_short(const char *name, uint8_t out[static 11])
{
        const char *dot = strchr(name, '.');
        size_t n = dot ? (size_t)(dot - name) : strlen(name);

        memset(out, ' ', 11);
        if (n == 0 || n > 8 || (dot && (strlen(dot + 1) > 3 || strchr(dot + 1, '.'))) ||
            strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") != strlen(name))
                return false;
        memcpy(out, name, n);
        if (dot)
                memcpy(out + 8, dot + 1, strlen(dot + 1));
        return true;
}

static void make_alias(struct vfat *f, const char *name, uint8_t out[static 11])
{
        char alias[16];
        const char *dot = strrchr(name, '.');

        memset(out, ' ', 11);
        snprintf(alias, sizeof(alias), "%.2s%04X~1", name, ++f->next_short & 0xffff);
        for (int i = 0; i < 8; i++)
                out[i] = (uint8_t)(alias[i] >= 'a' && alias[i] <= 'z' ? alias[i] - 32 : alias[i]);
        for (int i = 0; dot && i < 3 && dot[i + 1]; i++)
                out[8 + i] = (uint8_t)(dot[i + 1] >= 'a' && dot[i + 1] <= 'z' ? dot[i + 1] - 32 : dot[i + 1]);
}

static void long_entry(uint8_t entry[static ENTRY], const char *name, unsigned order, bool last, uint8_t sum)
{
        size_t n = strlen(name);

        memset(entry, 0, ENTRY);
        entry[0] = (uint8_t)(order | (last ? 0x40 : 0));
        entry[11] = ATTR_LONG;
        entry[13] = sum;
        for (size_t i = 0; i < 13; i++) {
                size_t at = (order - 1) * 13 + i;

                put_le16(entry + long_at[i], at < n ? (uint8_t)name[at] : at == n ? 0 : 0xffff);
        }
}

static void short_entry(const struct node *n, const uint8_t name[static 11], uint8_t entry[static ENTRY])
{
        memset(entry, 0, ENTRY);
        memcpy(entry, name, 11);
        entry[11] = n->directory ? ATTR_DIR : 0x20;
        put_le16(entry + 20, (uint16_t)(n->first >> 16));
        put_le16(entry + 26, (uint16_t)n->first);
        put_le32(entry + 28, n->directory ? 0 : n->size);
}

/* Where `n` entries in a row are free, the directory growing where it must. */
static void find_room(struct trace *t, int dir, unsigned n, struct node *node)
{
        uint32_t cluster = t->vfat->nodes[dir].first;
        unsigned run = 0;

        for (;;) {
                for (uint8_t i = 0; i < PER_DIR; i++) {
                        uint8_t first = cell_newest(sector(t, cluster))->data[i * ENTRY];

                        if (first != 0 && first != 0xe5) {
                                run = 0;
                                continue;
                        }
                        node->entry_cluster[run] = cluster;
                        node->entry_index[run] = i;
                        if (++run == n) {
                                node->n_entries = n;
                                return;
                        }
                }
                if (t->vfat->fat[cluster] == END) {
                        static const uint8_t zeros[SECTOR];
                        uint32_t more = take_cluster(t, cluster);

                        put_bytes(t, more, 0, zeros, SECTOR);
                }
                cluster = t->vfat->fat[cluster];
        }
}

static void write_entry(struct trace *t, const struct node *n, unsigned i, const uint8_t entry[static ENTRY])
{
        put_bytes(t, n->entry_cluster[i], n->entry_index[i] * ENTRY, entry, ENTRY);
}

/* Up to the last place of a sector, or the last but one: the next long name lies in two sectors, which an entry that ends up
 * in one would never show. A label says nothing to anybody. */
static void pad_directory(struct trace *t, uint32_t first, unsigned left)
{
        uint8_t label[ENTRY] = "PADDING    ";

        label[11] = ATTR_LABEL;
        while (t->vfat->fat[first] != END)
                first = t->vfat->fat[first];
        for (unsigned i = 0; i < PER_DIR - left; i++)
                if (cell_newest(sector(t, first))->data[i * ENTRY] == 0)
                        put_bytes(t, first, i * ENTRY, label, ENTRY);
}

static void add_entries(struct trace *t, struct node *n)
{
        const char *name = base_of(n->path);
        uint8_t alias[11], entry[ENTRY];
        unsigned longs = is_short(name, alias) ? 0 : (unsigned)(strlen(name) + 12) / 13;

        if (longs)
                make_alias(t->vfat, name, alias);
        find_room(t, parent_of(t, n->path), longs + 1, n);
        for (unsigned i = 0; i < longs; i++) {
                long_entry(entry, name, longs - i, i == 0, checksum(alias));
                write_entry(t, n, i, entry);
        }
        short_entry(n, alias, entry);
        write_entry(t, n, longs, entry);
}

static void drop_entries(struct trace *t, const struct node *n)
{
        for (unsigned i = 0; i < n->n_entries; i++)
                put_bytes(t, n->entry_cluster[i], n->entry_index[i] * ENTRY, "\xe5", 1);
}

/* Size and first cluster, in the short entry. */
static void write_inode(struct trace *t, const struct node *n)
{
        unsigned last = n->n_entries - 1;
        uint8_t entry[ENTRY];

        memcpy(entry, cell_newest(sector(t, n->entry_cluster[last]))->data + n->entry_index[last] * ENTRY, ENTRY);
        put_le16(entry + 20, (uint16_t)(n->first >> 16));
        put_le16(entry + 26, (uint16_t)n->first);
        put_le32(entry + 28, n->directory ? 0 : n->size);
        write_entry(t, n, last, entry);
}

/* In a directory of files a temporary one comes first, which takes one place. What is made in the root is bootmgr, and
 * loader where the bootloader's installer has not made it: each once lies in two sectors. */
static unsigned places_left(struct trace *t, const char *path)
{
        if (*path == '\0')
                return find(t, "loader") >= 0 ? 1 : 3;
        return streq(path, "loader") ? 1 : 2;
}

void vfat_create(struct trace *t, const char *path, bool directory)
{
        struct vfat *f = t->vfat;
        int i = 0;

        while (i < NODES && f->nodes[i].used)
                i++;
        if (i == NODES || strlen(path) >= sizeof(f->nodes[i].path) || parent_of(t, path) < 0)
                die("the model of the ESP cannot make %s", path);
        f->nodes[i] = (struct node){ .used = true, .directory = directory, .made_in = -1 };
        strcpy(f->nodes[i].path, path);
        if (directory) {
                uint8_t dots[SECTOR] = {};
                struct node dot = { .directory = true };

                f->nodes[i].first = dot.first = take_cluster(t, 0);
                short_entry(&dot, (const uint8_t *)".          ", dots);
                short_entry(&dot, (const uint8_t *)"..         ", dots + ENTRY);
                put_bytes(t, f->nodes[i].first, 0, dots, SECTOR);
                pad_directory(t, f->nodes[i].first, places_left(t, path));
                f->nodes[i].made_in = parent_of(t, path);
        }
        add_entries(t, &f->nodes[i]);
}

/* The cluster that holds this offset; the chain grows. */
static uint32_t cluster_at(struct trace *t, struct node *n, uint64_t offset)
{
        uint32_t cluster;

        if (!n->first)
                n->first = take_cluster(t, 0);
        cluster = n->first;
        for (uint64_t i = 0; i < offset / SECTOR; i++)
                cluster = t->vfat->fat[cluster] == END ? take_cluster(t, cluster) : t->vfat->fat[cluster];
        return cluster;
}

void vfat_write(struct trace *t, const char *path, const void *data, size_t n, uint64_t offset)
{
        struct node *node = &t->vfat->nodes[find(t, path)];
        const uint8_t *p = data;

        while (n > 0) {
                size_t from = offset % SECTOR, part = MIN(n, SECTOR - from);

                put_bytes(t, cluster_at(t, node, offset), (unsigned)from, p, part);
                p += part;
                n -= part;
                offset += part;
        }
        node->size = MAX(node->size, (uint32_t)offset);
        write_inode(t, node);
}

void vfat_truncate(struct trace *t, const char *path, uint64_t size)
{
        struct node *node = &t->vfat->nodes[find(t, path)];

        if (size != 0)
                die("the model of the ESP knows no truncation to %llu", (unsigned long long)size);
        free_chain(t, node->first);
        node->first = node->size = 0;
        write_inode(t, node);
}

void vfat_unlink(struct trace *t, const char *path)
{
        int i = find(t, path);

        if (i < 0)
                die("the model of the ESP has no %s", path);
        drop_entries(t, &t->vfat->nodes[i]);
        free_chain(t, t->vfat->nodes[i].first);
        t->vfat->nodes[i].used = false;
}

void vfat_rename(struct trace *t, const char *from, const char *to)
{
        struct node *n = &t->vfat->nodes[find(t, from)], old = *n;
        int there = find(t, to);

        if (n->directory)
                die("the model of the ESP renames no directories");
        if (there >= 0)
                vfat_unlink(t, to);
        strcpy(n->path, to);
        if (!vfat_by_firmware)
                n->first = n->size = 0;
        add_entries(t, n);
        n->first = old.first;
        n->size = old.size;
        n->stale = !vfat_by_firmware;
        drop_entries(t, &old);
}

static void mark(struct trace *t, uint64_t key)
{
        struct cell *c = trace_find(t, ESP, key);

        if (c)
                cell_mark(t, c, c->n - 1);
}

bool vfat_is_stale(struct trace *t, const char *path)
{
        int i = find(t, path);

        return i >= 0 && t->vfat->nodes[i].stale;
}

/* What an fsync begins with, and what may happen at any time: the entry of a renamed file says again where its content is.
 */
void vfat_write_back(struct trace *t, const char *path)
{
        struct node *n = &t->vfat->nodes[find(t, path)];

        write_inode(t, n);
        n->stale = false;
}

void vfat_flush(struct trace *t, const char *path)
{
        struct vfat *f = t->vfat;
        int i = find(t, path);

        if (i < 0)
                die("the model of the ESP has no %s", path);
        for (uint32_t c = f->nodes[i].first; c && c != END; c = f->fat[c])
                mark(t, c);
        for (uint32_t k = 0; k < CLUSTERS / PER_FAT; k++)
                mark(t, FAT_KEY + k);
        if (f->nodes[i].n_entries)
                mark(t, f->nodes[i].entry_cluster[f->nodes[i].n_entries - 1]);
        for (int k = 0; f->nodes[i].directory && k < NODES; k++)
                if (f->nodes[k].used && f->nodes[k].made_in == i) {
                        mark(t, f->nodes[k].first);
                        f->nodes[k].made_in = -1;
                }
}

/* What loader/vfat.c sees to before anybody mounts it: no link of the FAT is made while these directories are in use. */
static void make_room(struct trace *t, const char *path)
{
        static const uint8_t zeros[SECTOR];
        int i = find(t, path);
        uint32_t last = i < 0 ? END : t->vfat->nodes[i].first;

        if (i < 0)
                return;
        while (t->vfat->fat[last] != END)
                last = t->vfat->fat[last];
        for (int n = 0; n < VFAT_ROOM / PER_DIR; n++) {
                last = take_cluster(t, last);
                put_bytes(t, last, 0, zeros, SECTOR);
        }
}

/* Everything below the real directory, in the order of names so that the same tree gives the same sectors. */
static void import_directory(struct trace *t, const char *path)
{
        char real[PATH_MAX];
        struct dirent **names;
        int n;

        snprintf(real, sizeof(real), "%s%s%s", volume_path(ESP), *path ? "/" : "", path);
        n = scandir(real, &names, NULL, alphasort);
        for (int i = 0; i < n; i++) {
                char below[192], file[PATH_MAX + 256], data[65536];
                int fd;
                ssize_t size = 0;

                if (snprintf(below, sizeof(below), "%s%s%s", path, *path ? "/" : "", names[i]->d_name) >= (int)sizeof(below))
                        die("a path is too long: %s", names[i]->d_name);
                snprintf(file, sizeof(file), "%s/%s", real, names[i]->d_name);
                if (names[i]->d_name[0] != '.' || names[i]->d_type != DT_DIR) {
                        vfat_create(t, below, names[i]->d_type == DT_DIR);
                        if (names[i]->d_type == DT_DIR) {
                                import_directory(t, below);
                        } else {
                                fd = open(file, O_RDONLY | O_CLOEXEC);
                                size = fd < 0 ? -1 : read(fd, data, sizeof(data));
                                if (size > 0)
                                        vfat_write(t, below, data, (size_t)size, 0);
                                fd_close(fd);
                        }
                }
                free(names[i]);
        }
        if (n >= 0)
                free(names);
}

void vfat_import(struct trace *t)
{
        t->vfat = calloc(1, sizeof(*t->vfat));
        if (!t->vfat)
                die("no memory");
        t->vfat->nodes[0] = (struct node){ .used = true, .directory = true, .first = ROOT, .made_in = -1 };
        set_fat(t, ROOT, END);
        import_directory(t, "");
        for (int i = 0; i < NODES; i++)
                if (t->vfat->nodes[i].used && t->vfat->nodes[i].directory)
                        pad_directory(t, t->vfat->nodes[i].first, places_left(t, t->vfat->nodes[i].path));
        make_room(t, "loader/entries");
        make_room(t, "bootmgr");
        for (size_t i = 0; i < t->n_cells; i++) /* what is there is what there was */
                if (t->cells[i]->volume == ESP) {
                        struct cell *c = t->cells[i];
                        struct version newest = c->v[c->n - 1];

                        for (unsigned k = 0; k + 1 < c->n; k++)
                                free(c->v[k].data);
                        c->v[0] = newest;
                        c->v[0].event = 0;
                        c->n = 1;
                        c->n_m = 0;
                }
        for (int i = 0; i < NODES; i++)
                t->vfat->nodes[i].made_in = -1;
}

void vfat_free(struct vfat *f)
{
        free(f);
}
