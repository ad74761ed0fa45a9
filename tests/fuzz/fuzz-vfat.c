/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Room in the directories of an ESP that somebody else has written (image.h): it ends, stays within the partition, and
 * writes nothing but what is free: clusters, ends of chains, deleted slots. Where the file system was whole, all its
 * files and directories say what they said. */
#include "image.h"

#include "loader/vfat.h"

#define SLOT      32
#define DEPTH_MAX 6

/* As fatgen103 has it; apart from the code under test. */
struct geometry {
        size_t cluster, fat, fat_size, data, info, root_at, root_size;
        uint32_t n, root;
        unsigned n_fats, width;
};
static struct geometry geometry;
static uint8_t *seen; /* of each cluster: whether a chain has it */
static uint32_t digest;

static bool look_at(const uint8_t *b, struct geometry *g)
{
        size_t sector = get_le16(b + 11), sectors = get_le16(b + 19) ?: get_le32(b + 32);

        *g = (struct geometry){ .cluster = sector * b[13], .fat = get_le16(b + 14) * sector, .n_fats = b[16] };
        g->fat_size = (get_le16(b + 22) ?: (size_t)get_le32(b + 36)) * sector;
        g->root_at = g->fat + g->n_fats * g->fat_size;
        g->root_size = (size_t)get_le16(b + 17) * SLOT;
        if (!g->cluster)
                return false;
        g->data = g->root_at + (g->root_size + sector - 1) / sector * sector;
        if (sectors * sector > image_size || g->data >= sectors * sector)
                return false;
        g->n = (uint32_t)((sectors * sector - g->data) / g->cluster);
        g->width = g->n < 65525 ? 2 : 4;
        g->root = g->width == 4 ? get_le32(b + 44) : 0;
        g->info = g->width == 4 ? get_le16(b + 48) * sector : 0;
        return g->fat_size / g->width >= g->n + 2;
}

/* What the first FAT says. */
static uint32_t next_of(const uint8_t *from, uint32_t cluster)
{
        const uint8_t *p = from + geometry.fat + (size_t)cluster * geometry.width;

        return geometry.width == 4 ? get_le32(p) & 0x0fffffff : get_le16(p);
}

static bool is_end(uint32_t value)
{
        return value >= (geometry.width == 4 ? 0x0ffffff8u : 0xfff8u);
}

static void check_fat(size_t at, const uint8_t *data, size_t n)
{
        size_t in_fat = (at - geometry.fat) % geometry.fat_size;
        uint32_t cluster = (uint32_t)(in_fat / geometry.width), was, is, value;

        must(n == geometry.width && in_fat % n == 0 && cluster >= 2 && cluster < geometry.n + 2);
        was = next_of(image_before, cluster);
        value = n == 4 ? get_le32(data) : get_le16(data);
        is = n == 4 ? value & 0x0fffffff : value;
        must(n == 2 || (value ^ get_le32(image_before + at)) >> 28 == 0);
        must(was == 0 || is_end(was));
        must(was == 0 ? is_end(is) || next_of(image_before, is) == 0 : next_of(image_before, is) == 0);
}

static void image_written(size_t at, const uint8_t *data, size_t n)
{
        const struct geometry *g = &geometry;

        must(g->cluster);
        if (at >= g->data) {
                uint32_t cluster = (uint32_t)((at - g->data) / g->cluster) + 2;
                const uint8_t *slot = image_before + at;

                must(n == SLOT && (at - g->data) % SLOT == 0 && cluster < g->n + 2 && is_all_zero(data, n));
                must(next_of(image_before, cluster) == 0 || *slot == 0 || *slot == 0xe5);
        } else if (at >= g->fat && at < g->root_at) {
                check_fat(at, data, n);
        } else {
                must(g->info && at == g->info + 488 && n == 4 && get_le32(image_before + g->info) == 0x41615252);
        }
}

static bool walk(const uint8_t *from, const uint8_t *root, size_t size, uint32_t first, int depth);

/* What a name says and what it stands for. */
static bool walk_slot(const uint8_t *from, const uint8_t *slot, int depth)
{
        uint32_t first = get_le16(slot + 26) | (geometry.width == 4 ? (uint32_t)get_le16(slot + 20) << 16 : 0);
        bool directory = slot[11] & 0x10;

        digest = crc32c(digest, slot, SLOT);
        if (slot[11] & 0x08 || *slot == '.' || (first == 0 && !directory))
                return true;
        return depth < DEPTH_MAX && walk(from, NULL, directory, first, depth + 1);
}

/* Of a directory (`size` is not 0) or of a file; the root of FAT16 lies at `root`. */
static bool walk(const uint8_t *from, const uint8_t *root, size_t size, uint32_t first, int depth)
{
        for (size_t at = 0; root && at < size; at += SLOT)
                if (root[at] != 0 && root[at] != 0xe5 && !walk_slot(from, root + at, depth))
                        return false;
        for (uint32_t c = first; !root; c = next_of(from, c)) {
                const uint8_t *data;

                if (c < 2 || c >= geometry.n + 2 || seen[c] || next_of(from, c) == 0)
                        return false;
                seen[c] = 1;
                data = from + geometry.data + (size_t)(c - 2) * geometry.cluster;
                if (!size)
                        digest = crc32c(digest, data, geometry.cluster);
                for (size_t at = 0; size && at < geometry.cluster; at += SLOT)
                        if (data[at] != 0 && data[at] != 0xe5 && !walk_slot(from, data + at, depth))
                                return false;
                if (is_end(next_of(from, c)))
                        break;
        }
        return true;
}

static bool is_whole(const uint8_t *from, uint32_t *ret_digest)
{
        bool whole;

        if (!geometry.cluster)
                return false;
        seen = calloc(geometry.n + 2, 1);
        must(seen);
        digest = 0;
        whole = walk(from, geometry.root ? NULL : from + geometry.root_at, geometry.root ? 1 : geometry.root_size,
                     geometry.root, 0);
        *ret_digest = digest;
        free(seen);
        return whole;
}

/* Directories are read into large allocations: kept after their use, they would be most of what each input costs. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
        return "quarantine_size_mb=1";
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct input in = { data, size };
        uint32_t before = 0, after = 0;
        bool whole;
        int dry, r;

        image_take(&in);
        if (!look_at(image_before, &geometry))
                geometry = (struct geometry){};
        whole = is_whole(image_before, &before);
        io_set_ops(&image_ops);
        dry = vfat_make_room(IMAGE_FD, true);
        must(dry <= 1 && image_writes == 0);
        r = vfat_make_room(IMAGE_FD, false);
        must(r <= 1 && (r <= 0 || dry == 1) && (r != 0 || (dry == 0 && image_writes == 0)));
        must(!whole || (is_whole(image, &after) && before == after));
        must(!whole || r < 1 || vfat_make_room(IMAGE_FD, true) == 0);
        io_set_ops(NULL);
        return 0;
}
