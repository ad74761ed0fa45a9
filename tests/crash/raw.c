/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* disk.img as a raw device: a sector is written whole or not at all, in any order between two flushes. */
#include "crash.h"

#include <fcntl.h>
#include <sys/stat.h>

static int fd = -1;

/* Linked in place of the real one: who closes what is not his is caught here. */
int __real_close(int other);
int __wrap_close(int other);

int __wrap_close(int other)
{
        if (other == fd && fd >= 0)
                abort();
        return __real_close(other);
}

void raw_open(void)
{
        int old = fd;

        fd = -1;
        fd_close(old);
        fd = open(volume_path(RAW), O_RDWR | O_CLOEXEC);
        if (fd < 0)
                die("cannot open %s: %m", volume_path(RAW));
}

bool raw_is_image(int other)
{
        struct stat a, b;

        return fstat(other, &a) == 0 && fstat(fd, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static void sector_write(struct trace *t, uint64_t number, const uint8_t *data, size_t from, size_t to)
{
        uint8_t sector[SECTOR] = {};
        struct cell *c = trace_find(t, RAW, number);

        if (!c) {
                if (pread(fd, sector, SECTOR, (off_t)(number * SECTOR)) < 0)
                        die("cannot read the image: %m");
                c = trace_cell(t, RAW, number, sector, SECTOR);
        }
        memcpy(sector, cell_newest(c)->data, SECTOR);
        memcpy(sector + from, data, to - from);
        cell_write(t, c, sector, SECTOR);
}

void raw_write(struct trace *t, const void *data, size_t n, uint64_t offset)
{
        const uint8_t *p = data;

        while (n > 0) {
                size_t from = offset % SECTOR, part = MIN(n, SECTOR - from);

                sector_write(t, offset / SECTOR, p, from, from + part);
                p += part;
                n -= part;
                offset += part;
        }
}

void raw_flush(struct trace *t)
{
        for (size_t i = 0; i < t->n_cells; i++)
                if (t->cells[i]->volume == RAW)
                        cell_mark(t, t->cells[i], t->cells[i]->n - 1);
}

/* Of an image that began empty (init): what is in it and in no cell yet is new. */
void raw_foreign(struct trace *t)
{
        static const uint8_t zeros[SECTOR];
        uint8_t buffer[SECTOR];
        off_t end = lseek(fd, 0, SEEK_END);

        for (off_t at = lseek(fd, 0, SEEK_DATA); at >= 0 && at < end; at = lseek(fd, at, SEEK_DATA)) {
                off_t hole = lseek(fd, at, SEEK_HOLE);

                for (; at < hole; at += SECTOR) {
                        if (pread(fd, buffer, SECTOR, at) != SECTOR)
                                die("cannot read the image");
                        if (trace_find(t, RAW, (uint64_t)at / SECTOR) || memcmp(buffer, zeros, SECTOR) != 0)
                                cell_write(t, trace_cell(t, RAW, (uint64_t)at / SECTOR, zeros, SECTOR), buffer, SECTOR);
                }
        }
}

static void put_sector(const struct cell *c, unsigned version)
{
        if (pwrite(fd, c->v[version].data, SECTOR, (off_t)(c->key * SECTOR)) != SECTOR)
                die("cannot write the image: %m");
}

void raw_put(struct trace *t, choice versions)
{
        for (size_t i = 0; i < t->n_cells; i++)
                if (t->cells[i]->volume == RAW)
                        put_sector(t->cells[i], versions[i]);
}

void raw_restore(struct trace *t)
{
        for (size_t i = 0; i < t->n_cells; i++)
                if (t->cells[i]->volume == RAW)
                        put_sector(t->cells[i], 0);
}
