/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A state of the ESP's sectors, read as firmware and the kernel read it, into a directory. */
#include "vfat.h"

#include <fcntl.h>
#include <sys/stat.h>

struct image {
        uint8_t (*sectors)[SECTOR];
        uint32_t fat[CLUSTERS];
};

static void load(struct trace *t, choice versions, struct image *m)
{
        memset(m->sectors, 0, CLUSTERS * SECTOR);
        memset(m->fat, 0, sizeof(m->fat));
        for (size_t i = 0; i < t->n_cells; i++) {
                const struct cell *c = t->cells[i];

                if (c->volume != ESP)
                        continue;
                if (c->key < CLUSTERS)
                        memcpy(m->sectors[c->key], c->v[versions[i]].data, SECTOR);
                else
                        for (unsigned k = 0; k < PER_FAT; k++)
                                m->fat[(c->key - FAT_KEY) * PER_FAT + k] = get_le32(c->v[versions[i]].data + 4 * k);
        }
}

static bool in_chain(uint32_t cluster)
{
        return cluster >= ROOT && cluster < CLUSTERS;
}

static void read_file(const struct image *m, const uint8_t *entry, const char *path)
{
        uint32_t cluster = get_le16(entry + 26) | (uint32_t)get_le16(entry + 20) << 16, size = get_le32(entry + 28);
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

        if (fd < 0)
                die("cannot make %s: %m", path);
        /* Where the chain is broken the kernel says EIO and firmware stops: what is left is a shorter file. */
        for (unsigned n = 0; size > 0 && in_chain(cluster) && n < CLUSTERS; n++) {
                uint32_t part = MIN(size, (uint32_t)SECTOR);

                if (m->fat[cluster] == 0 || write(fd, m->sectors[cluster], part) != (ssize_t)part)
                        break;
                size -= part;
                cluster = m->fat[cluster];
        }
        fd_close(fd);
}

struct name {
        char text[14 * 20];
        unsigned expected; /* next order of a long name; 0: complete or none */
        uint8_t sum;
        bool any;
};

static void collect(struct name *n, const uint8_t *entry)
{
        unsigned order = entry[0] & 0x3f;

        if (entry[0] & 0x40) {
                memset(n, 0, sizeof(*n));
                n->expected = order;
                n->sum = entry[13];
                n->any = true;
        }
        if (!n->any || order != n->expected || entry[13] != n->sum || order == 0 || order > 19) {
                n->any = false;
                return;
        }
        for (unsigned i = 0; i < 13; i++) {
                uint16_t c = get_le16(entry + long_at[i]);

                n->text[(order - 1) * 13 + i] = (char)(c == 0xffff ? 0 : c);
        }
        n->expected--;
}

static void short_name(const uint8_t *entry, char *out)
{
        for (int i = 0; i < 8 && entry[i] != ' '; i++)
                *out++ = (char)entry[i];
        if (entry[8] != ' ')
                *out++ = '.';
        for (int i = 8; i < 11 && entry[i] != ' '; i++)
                *out++ = (char)entry[i];
        *out = '\0';
}

static void read_directory(const struct image *m, uint32_t cluster, const char *path, unsigned depth)
{
        struct name n = {};

        if (mkdir(path, 0755) < 0 && errno != EEXIST)
                die("cannot make %s: %m", path);
        for (unsigned count = 0; in_chain(cluster) && count < CLUSTERS && depth < 8; count++) {
                for (unsigned i = 0; i < PER_DIR; i++) {
                        const uint8_t *entry = m->sectors[cluster] + i * ENTRY;
                        char below[PATH_MAX], name[300];

                        if (entry[0] == 0)
                                return;
                        if (entry[0] == 0xe5) {
                                n.any = false;
                                continue;
                        }
                        if (entry[11] == ATTR_LABEL) {
                                n.any = false;
                                continue;
                        }
                        if (entry[11] == ATTR_LONG) {
                                collect(&n, entry);
                                continue;
                        }
                        short_name(entry, name);
                        if (n.any && n.expected == 0 && n.sum == checksum(entry))
                                snprintf(name, sizeof(name), "%s", n.text);
                        n.any = false;
                        if (name[0] == '.' || strchr(name, '/') || !name[0])
                                continue;
                        snprintf(below, sizeof(below), "%s/%s", path, name);
                        if (entry[11] & ATTR_DIR)
                                read_directory(m, get_le16(entry + 26) | (uint32_t)get_le16(entry + 20) << 16, below,
                                               depth + 1);
                        else
                                read_file(m, entry, below);
                }
                cluster = m->fat[cluster];
        }
}

void vfat_put(struct trace *t, choice versions)
{
        static struct image m;

        if (!m.sectors)
                m.sectors = malloc((size_t)CLUSTERS * SECTOR);
        if (!m.sectors)
                die("no memory");
        load(t, versions, &m);
        read_directory(&m, ROOT, volume_path(ESP), 0);
}
