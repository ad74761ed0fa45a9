/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "snapshot/extent.h"

#include "base/buf.h"
#include "base/io.h"

#define BLOCK_SIZE 4096
#define READ_SIZE  KIB(256)

int extents_add(struct node *n, uint64_t offset, uint64_t length)
{
        struct extent *last = n->n_data ? &n->data[n->n_data - 1] : NULL;

        if (last && last->offset + last->length == offset) {
                last->length += length;
                return 0;
        }
        /* Grown in powers of two. */
        if ((n->n_data & (n->n_data - 1)) == 0) {
                struct extent *grown = reallocarray(n->data, n->n_data ? 2 * n->n_data : 1, sizeof(*grown));

                if (!grown)
                        return -ENOMEM;
                n->data = grown;
        }
        n->data[n->n_data++] = (struct extent){ offset, length };
        return 0;
}

/* The next data at or behind `offset`. 1, 0 when there is none, or -errno. */
static int next_data(int fd, uint64_t offset, uint64_t size, struct extent *ret)
{
        off_t begin = lseek(fd, (off_t)offset, SEEK_DATA), end;

        if (begin < 0)
                return errno == ENXIO ? 0 : -errno;
        end = lseek(fd, begin, SEEK_HOLE);
        if (end < 0)
                return errno == ENXIO ? 0 : -errno; /* it was cut short meanwhile */
        if ((uint64_t)begin >= size)
                return 0;
        *ret = (struct extent){ (uint64_t)begin, MIN((uint64_t)end, size) - (uint64_t)begin };
        return 1;
}

/* Blocks of the file's grid within [offset, offset + length) that hold anything. */
static int add_non_zero(int fd, struct node *n, const struct extent *x, char *buffer)
{
        uint64_t end = x->offset + x->length;

        for (uint64_t at = x->offset; at < end;) {
                /* Ends on the grid, so that the next round begins on it. */
                size_t got = (size_t)MIN(end - at, READ_SIZE - at % BLOCK_SIZE);
                int r = io_pread(fd, buffer, got, at);

                for (size_t i = 0; r >= 0 && i < got;) {
                        size_t block = MIN(got - i, (size_t)(BLOCK_SIZE - (at + i) % BLOCK_SIZE));

                        if (!is_all_zero(buffer + i, block))
                                r = extents_add(n, at + i, block);
                        i += block;
                }
                if (r < 0)
                        return r;
                at += got;
        }
        return 0;
}

int extents_load(int fd, struct node *n)
{
        _cleanup_free_ char *buffer = NULL;
        struct extent x;
        int r;

        if (n->size == 0)
                return 0;
        r = next_data(fd, 0, n->size, &x);
        if (r < 0)
                return r;
        if (r > 0 && x.offset == 0 && x.length == n->size)
                return 0;
        n->sparse = true;
        buffer = malloc(READ_SIZE);
        if (!buffer)
                return -ENOMEM;
        while (r > 0) {
                r = add_non_zero(fd, n, &x, buffer);
                if (r >= 0)
                        r = next_data(fd, x.offset + x.length, n->size, &x);
        }
        return r;
}

int extents_is_zero(int fd, uint64_t offset, uint64_t length)
{
        _cleanup_free_ char *buffer = malloc(READ_SIZE);
        uint64_t end = offset + length;
        struct extent x;
        int r = 0;

        if (!buffer)
                return -ENOMEM;
        while (offset < end && (r = next_data(fd, offset, end, &x)) > 0) {
                for (uint64_t at = x.offset; at < x.offset + x.length; at += READ_SIZE) {
                        size_t n = (size_t)MIN(x.offset + x.length - at, READ_SIZE);

                        r = io_pread(fd, buffer, n, at);
                        if (r < 0)
                                return r;
                        if (!is_all_zero(buffer, n))
                                return 0;
                }
                offset = x.offset + x.length;
        }
        return r < 0 ? r : 1;
}
