/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/content.h"

#include <blkid/blkid.h>

#include "base/buf.h"
#include "base/io.h"

#define BLOCK 4096

static void probe_free(blkid_probe *probe)
{
        blkid_free_probe(*probe);
}

static const char *name_of_usage(const char *usage)
{
        static const struct {
                const char *usage, *name;
        } names[] = {
                { "filesystem", "a filesystem" },
                { "raid", "a member of a RAID or a volume group" },
                { "crypto", "an encrypted volume" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                if (streq(usage, names[i].usage))
                        return names[i].name;
        return "a signature";
}

/* What the probe stands at, or NULL when memory ran out. */
static char *describe_signature(blkid_probe probe)
{
        const char *table = NULL, *type = NULL, *usage = NULL, *offset = NULL;

        blkid_probe_lookup_value(probe, "PTTYPE", &table, NULL);
        blkid_probe_lookup_value(probe, "TYPE", &type, NULL);
        blkid_probe_lookup_value(probe, "USAGE", &usage, NULL);
        blkid_probe_lookup_value(probe, table ? "PTMAGIC_OFFSET" : "SBMAGIC_OFFSET", &offset, NULL);
        return xasprintf("%s of type %s%s%s%s", table ? "a partition table" : name_of_usage(usage), table ?: type ?: "unknown",
                         offset ? " (its signature is at byte " : "", offset ?: "", offset ? ")" : "");
}

/* Like wipefs(8), and unlike blkid(8): a signature is enough. Several of them, a wrong checksum, a GPT whose protective
 * MBR is gone are somebody's data all the same. */
static int find_signature(int fd, unsigned sector_size, bool pmbr, char **ret)
{
        _cleanup_(probe_free) blkid_probe probe = blkid_new_probe();
        const char *table = NULL;
        int r;

        if (!probe || blkid_probe_set_device(probe, fd, 0, 0) < 0)
                return -EIO;
        blkid_probe_set_sectorsize(probe, sector_size);
        blkid_probe_enable_superblocks(probe, 1);
        blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_MAGIC | BLKID_SUBLKS_TYPE | BLKID_SUBLKS_USAGE |
                                                         BLKID_SUBLKS_BADCSUM);
        blkid_probe_enable_partitions(probe, 1);
        blkid_probe_set_partitions_flags(probe, BLKID_PARTS_MAGIC | BLKID_PARTS_FORCE_GPT);
        r = blkid_do_probe(probe);
        if (r < 0)
                return -EIO;
        if (r > 0)
                return 0;
        blkid_probe_lookup_value(probe, "PTTYPE", &table, NULL);
        if (streq(table, "PMBR") && !pmbr)
                return 0;
        *ret = describe_signature(probe);
        return *ret ? 1 : -ENOMEM;
}

/* 1: *ret says what lies in this range; 0: zeros. */
static int find_bytes(int fd, uint64_t offset, uint64_t end, const volatile bool *cancelled, char **ret)
{
        static const size_t size = KIB(256);
        _cleanup_free_ uint8_t *block = malloc(size);

        if (!block)
                return -ENOMEM;
        while (offset < end) {
                size_t n = (size_t)MIN((uint64_t)size, end - offset), i = 0;
                int r = io_pread(fd, block, n, offset);

                if (cancelled && *cancelled)
                        return -EINTR;
                if (r >= 0 && is_all_zero(block, n)) {
                        offset += n;
                        continue;
                }
                while (r >= 0 && !block[i])
                        i++;
                *ret = r < 0 ? xasprintf("what cannot be read at byte %llu (%s)", (unsigned long long)offset, error_text(r))
                             : xasprintf("data of an unknown kind at byte %llu", (unsigned long long)(offset + i));
                return *ret ? 1 : -ENOMEM;
        }
        return 0;
}

/* A filesystem that knows no holes says that all is data. */
static int find_in_file(int fd, uint64_t size, const volatile bool *cancelled, char **ret)
{
        uint64_t end = 0;
        int r = 0;

        while (r == 0 && end < size) {
                off_t data = lseek(fd, (off_t)end, SEEK_DATA), hole;

                if (data < 0 && errno == ENXIO)
                        return 0;
                if (data < 0)
                        data = (off_t)end;
                hole = lseek(fd, data, SEEK_HOLE);
                end = hole > data ? MIN((uint64_t)hole, size) : size;
                r = find_bytes(fd, (uint64_t)data, end, cancelled, ret);
        }
        return r;
}

static int find_in_device(int fd, const struct layout *l, const volatile bool *cancelled, char **ret)
{
        uint64_t size = l->disk_size, step = size / CONTENT_SAMPLES / BLOCK * BLOCK;
        int r;

        r = find_bytes(fd, 0, MIN(size, MIB(1)), cancelled, ret);
        if (r == 0)
                r = find_bytes(fd, size - MIN(size, MIB(1)), size, cancelled, ret);
        for (size_t i = 0; r == 0 && i < l->n_parts; i++)
                r = find_bytes(fd, l->parts[i].offset, MIN(l->parts[i].offset + MIB(1), size), cancelled, ret);
        for (uint64_t i = 0; r == 0 && step > 0 && i < CONTENT_SAMPLES; i++)
                r = find_bytes(fd, i * step, MIN(i * step + BLOCK, size), cancelled, ret);
        return r;
}

int content_find(int fd, const struct layout *layout, bool all, const volatile bool *cancelled, char **ret)
{
        /* With the wrong sector size a GPT shows its protective MBR only: that has a name of its own if nothing better is
         * found. */
        static const struct {
                unsigned sector_size;
                bool pmbr;
        } passes[] = { { 512, false }, { 4096, false }, { 512, true } };
        char *found = NULL;
        int r = 0;

        for (size_t i = 0; r == 0 && i < ARRAY_SIZE(passes); i++)
                r = find_signature(fd, passes[i].sector_size, passes[i].pmbr, &found);
        /* What cannot even be probed is left to the reading, which names the place. */
        if (r == 0 || r == -EIO)
                r = all ? find_in_file(fd, layout->disk_size, cancelled, &found)
                        : find_in_device(fd, layout, cancelled, &found);
        if (r < 0)
                return r;
        *ret = found;
        return 0;
}
