/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "loader/vfat.h"

#include "base/buf.h"
#include "base/io.h"

#define SLOT          32
#define NAME          11
#define DELETED       0xe5
#define ATTRIBUTES    11
#define IS_DIRECTORY  0x10
#define IS_VOLUME     0x08 /* of parts of long names too */
#define DIRECTORY_MAX MIB(2)
#define ADDED         KIB(8) /* at once: some 80 counted entries, if nothing is ever given back */
#define ADDED_MAX     16     /* clusters: those of 512 bytes */

/* Where things lie, in bytes from the start of the partition. */
struct vfat {
        int fd;
        unsigned cluster_size, width; /* of an entry of the FAT: 2 or 4 */
        uint32_t n_clusters;
        uint64_t fat, fat_size, root, data, info; /* root: of FAT16; info: FSINFO, 0 without */
        uint32_t root_size, root_cluster;
        unsigned n_fats;
};

/* A directory: its chain and what is in it. */
struct chain {
        uint32_t *clusters; /* NULL: the root of FAT16 */
        size_t n;
        uint8_t *data;
        size_t size;
};

static void chain_done(struct chain *c)
{
        free(TAKE_PTR(c->clusters));
        free(TAKE_PTR(c->data));
}
#define _cleanup_chain_ _cleanup_(chain_done)

static bool is_power_of_two(unsigned n)
{
        return n && (n & (n - 1)) == 0;
}

static int read_geometry(int fd, struct vfat *ret)
{
        uint8_t boot[512];
        unsigned sector, per_cluster, reserved, small;
        uint64_t sectors, fat_sectors;
        struct vfat v = { .fd = fd };
        int r = io_pread(fd, boot, sizeof(boot), 0);

        if (r < 0)
                return r;
        sector = get_le16(boot + 11);
        per_cluster = boot[13];
        reserved = get_le16(boot + 14);
        v.n_fats = boot[16];
        small = get_le16(boot + 19);
        sectors = small ?: get_le32(boot + 32);
        fat_sectors = get_le16(boot + 22) ?: get_le32(boot + 36);
        if (get_le16(boot + 510) != 0xaa55 || sector < 512 || sector > 4096 || !is_power_of_two(sector) ||
            !is_power_of_two(per_cluster) || !reserved || !v.n_fats || v.n_fats > 2 || !fat_sectors)
                return -EUCLEAN;
        v.cluster_size = sector * per_cluster;
        v.fat = (uint64_t)reserved * sector;
        v.fat_size = fat_sectors * sector;
        v.root = v.fat + v.n_fats * v.fat_size;
        v.root_size = get_le16(boot + 17) * (uint32_t)SLOT;
        v.data = v.root + (v.root_size + sector - 1) / sector * sector;
        if (v.data >= sectors * sector || (sectors * sector - v.data) / v.cluster_size > UINT32_MAX / 16)
                return -EUCLEAN;
        v.n_clusters = (uint32_t)((sectors * sector - v.data) / v.cluster_size);
        v.width = v.n_clusters < 65525 ? 2 : 4;
        if (v.width == 4) {
                v.root_cluster = get_le32(boot + 44);
                v.info = get_le16(boot + 48) * (uint64_t)sector;
        }
        if (v.info >= v.fat)
                v.info = 0; /* among the files, or none: 0xffff */
        /* FAT12; a FAT that is too short; one of two that alone is in force. */
        if (v.n_clusters < 4085 || v.fat_size / v.width < v.n_clusters + 2 || (v.width == 4 && get_le16(boot + 40) & 0x80))
                return -EUCLEAN;
        *ret = v;
        /* A partition that is shorter has no place for all of its clusters. */
        return io_pread(fd, boot, 1, sectors * sector - 1);
}

static uint32_t decode(const struct vfat *v, const uint8_t *entry)
{
        return v->width == 4 ? get_le32(entry) & 0x0fffffff : get_le16(entry);
}

static bool is_end(const struct vfat *v, uint32_t value)
{
        return value >= (v->width == 4 ? 0x0ffffff8 : 0xfff8);
}

static bool is_cluster(const struct vfat *v, uint32_t value)
{
        return value >= 2 && value < v->n_clusters + 2;
}

static uint64_t cluster_at(const struct vfat *v, uint32_t cluster)
{
        return v->data + (uint64_t)(cluster - 2) * v->cluster_size;
}

static int fat_get(const struct vfat *v, uint32_t cluster, uint32_t *ret)
{
        uint8_t entry[4];
        int r = io_pread(v->fd, entry, v->width, v->fat + (uint64_t)cluster * v->width);

        if (r >= 0)
                *ret = decode(v, entry);
        return r;
}

/* In the first copy, which is the one that is read, first. */
static int fat_set(const struct vfat *v, uint32_t cluster, uint32_t value)
{
        int r = 0;

        for (unsigned i = 0; i < v->n_fats && r >= 0; i++) {
                uint64_t at = v->fat + i * v->fat_size + (uint64_t)cluster * v->width;
                uint8_t entry[4];

                r = io_pread(v->fd, entry, v->width, at);
                if (v->width == 4)
                        put_le32(entry, (get_le32(entry) & 0xf0000000) | (value & 0x0fffffff));
                else
                        put_le16(entry, (uint16_t)value);
                if (r >= 0)
                        r = io_pwrite(v->fd, entry, v->width, at);
        }
        return r;
}

/* The first so many that are free. */
static int find_free(const struct vfat *v, uint32_t *ret, size_t n)
{
        uint8_t block[4096];
        uint64_t end = (uint64_t)(v->n_clusters + 2) * v->width;
        size_t found = 0;

        for (uint64_t at = 0; at < end; at += sizeof(block)) {
                size_t size = MIN(sizeof(block), end - at);
                int r = io_pread(v->fd, block, size, v->fat + at);

                if (r < 0)
                        return r;
                for (size_t i = at ? 0 : 2 * v->width; i < size; i += v->width) {
                        if (decode(v, block + i) != 0)
                                continue;
                        ret[found++] = (uint32_t)((at + i) / v->width);
                        if (found == n)
                                return 0;
                }
        }
        return -ENOSPC;
}

static int read_chain(const struct vfat *v, uint32_t first, struct chain *ret)
{
        _cleanup_chain_ struct chain c = {};
        size_t max = DIRECTORY_MAX / v->cluster_size;
        uint32_t cluster = first;
        int r = 0;

        c.clusters = calloc(max, sizeof(*c.clusters));
        c.data = malloc(DIRECTORY_MAX);
        if (!c.clusters || !c.data)
                return -ENOMEM;
        do {
                if (!is_cluster(v, cluster) || c.n == max)
                        return -EUCLEAN;
                r = io_pread(v->fd, c.data + c.size, v->cluster_size, cluster_at(v, cluster));
                c.clusters[c.n++] = cluster;
                c.size += v->cluster_size;
                if (r >= 0)
                        r = fat_get(v, cluster, &cluster);
                if (r < 0)
                        return r;
        } while (!is_end(v, cluster));
        *ret = TAKE(c, (struct chain){});
        return 0;
}

static int read_root(const struct vfat *v, struct chain *ret)
{
        if (v->root_cluster)
                return read_chain(v, v->root_cluster, ret);
        ret->data = malloc(MAX(v->root_size, 1U));
        ret->size = v->root_size;
        return ret->data ? io_pread(v->fd, ret->data, ret->size, v->root) : -ENOMEM;
}

/* The first cluster of a directory by its short name, or 0. */
static uint32_t find_directory(const struct vfat *v, const struct chain *c, const char name[static NAME])
{
        for (size_t at = 0; at + SLOT <= c->size; at += SLOT) {
                const uint8_t *slot = c->data + at;

                if (memcmp(slot, name, NAME) == 0 && (slot[ATTRIBUTES] & (IS_DIRECTORY | IS_VOLUME)) == IS_DIRECTORY)
                        return (v->width == 4 ? (uint32_t)get_le16(slot + 20) << 16 : 0) | get_le16(slot + 26);
        }
        return 0;
}

/* Where the last file ends, and where what was never used begins. */
static void find_ends(const struct chain *c, size_t *ret_files, size_t *ret_used)
{
        *ret_files = *ret_used = 0;
        for (size_t at = 0; at < c->size; at += SLOT) {
                if (c->data[at] != 0)
                        *ret_used = at + SLOT;
                if (c->data[at] != 0 && c->data[at] != DELETED)
                        *ret_files = at + SLOT;
        }
}

/* Not io_zero(), which goes past the cache that a mount reads from. */
static int clear(const struct vfat *v, uint64_t at, size_t size)
{
        static const uint8_t zeros[SLOT];
        int r = 0;

        for (size_t done = 0; done < size && r >= 0; done += SLOT)
                r = io_pwrite(v->fd, zeros, SLOT, at + done);
        return r;
}

/* Deleted ones behind the last file. In any order: to firmware and Linux they are what they were, free. */
static int clear_deleted(const struct vfat *v, const struct chain *c, size_t from, size_t to)
{
        int r = 0;

        for (size_t at = from; at < to && r >= 0; at += SLOT)
                r = clear(v, cluster_at(v, c->clusters[at / v->cluster_size]) + at % v->cluster_size, SLOT);
        return r;
}

/* A hint, for who asks how much is free. */
static int count_added(const struct vfat *v, size_t n)
{
        uint8_t info[512];
        uint32_t free_clusters;
        int r = v->info ? io_pread(v->fd, info, sizeof(info), v->info) : 0;

        if (r < 0 || !v->info || get_le32(info) != 0x41615252 || get_le32(info + 484) != 0x61417272)
                return r;
        free_clusters = get_le32(info + 488);
        if (free_clusters == UINT32_MAX || free_clusters < n)
                return 0;
        put_le32(info + 488, free_clusters - (uint32_t)n);
        return io_pwrite(v->fd, info + 488, 4, v->info + 488);
}

/* The last write is the one that counts: one entry of the FAT, in one sector, that says where an end was how it goes on.
 * What it names is durable before: a chain of its own, full of zeros. */
static int add_clusters(const struct vfat *v, const struct chain *c)
{
        uint32_t added[ADDED_MAX];
        size_t n = MAX(ADDED / v->cluster_size, 1U);
        int r = find_free(v, added, n);

        for (size_t i = 0; i < n && r >= 0; i++) {
                r = clear(v, cluster_at(v, added[i]), v->cluster_size);
                if (r >= 0)
                        r = fat_set(v, added[i], i + 1 < n ? added[i + 1] : UINT32_MAX);
        }
        if (r >= 0)
                r = io_fsync(v->fd);
        if (r >= 0)
                r = fat_set(v, c->clusters[c->n - 1], added[0]);
        return r < 0 ? r : count_added(v, n);
}

static int make_room_in(const struct vfat *v, uint32_t first, bool dry)
{
        _cleanup_chain_ struct chain c = {};
        size_t files, used, room = VFAT_ROOM * SLOT;
        int r = read_chain(v, first, &c);

        if (r < 0)
                return r;
        /* Something else lies there: the name leads astray. */
        if (memcmp(c.data, ".          ", NAME) != 0 || !(c.data[ATTRIBUTES] & IS_DIRECTORY))
                return -EUCLEAN;
        find_ends(&c, &files, &used);
        if (c.size - used >= room)
                return 0;
        if (dry)
                return 1;
        r = clear_deleted(v, &c, files, used);
        if (r >= 0 && c.size - files < room)
                r = add_clusters(v, &c);
        if (r >= 0)
                r = io_fsync(v->fd);
        return r < 0 ? r : 1;
}

int vfat_make_room(int fd, bool dry)
{
        _cleanup_chain_ struct chain root = {}, loader = {};
        uint32_t of_loader, directories[2];
        int r, changed = 0;
        struct vfat v;

        r = read_geometry(fd, &v);
        if (r >= 0)
                r = read_root(&v, &root);
        if (r < 0)
                return r;
        of_loader = find_directory(&v, &root, "LOADER     ");
        if (of_loader)
                r = read_chain(&v, of_loader, &loader);
        directories[0] = find_directory(&v, &loader, "ENTRIES    ");
        directories[1] = find_directory(&v, &root, "BOOTMGR    ");
        for (size_t i = 0; i < ARRAY_SIZE(directories) && r >= 0; i++) {
                r = directories[i] ? make_room_in(&v, directories[i], dry) : 0;
                changed = MAX(changed, r);
        }
        return r < 0 ? r : changed;
}
