/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "image/split.h"

#include <unistd.h>

#include "base/io.h"

#define WINDOW MIB(1) /* that is read at once, at least */

static size_t window_room(const struct split *s)
{
        return WINDOW + CUT_AHEAD(s->cut);
}

/* Where the hole ends in which `offset` lies; `offset` itself: in none. */
static uint64_t hole_end(const struct split *s, uint64_t offset)
{
        off_t data = lseek(s->fd, (off_t)offset, SEEK_DATA);

        if (data < 0)
                return errno == ENXIO ? s->image->size : offset;
        return MIN((uint64_t)data, s->image->size);
}

/* As much from `offset` on as cut_next() wants to see. */
static int look(struct split *s, uint64_t offset, const uint8_t **ret, size_t *ret_size)
{
        uint64_t end = s->window_offset + s->window_size;
        int r = 0;

        if (offset < s->window_offset || MIN(offset + CUT_AHEAD(s->cut), s->image->size) > end) {
                s->window_offset = offset;
                s->window_size = (size_t)MIN(s->image->size - offset, (uint64_t)window_room(s));
                r = io_pread(s->fd, s->window, s->window_size, offset);
        }
        *ret = s->window + (offset - s->window_offset);
        *ret_size = (size_t)(s->window_offset + s->window_size - offset);
        return r;
}

/* How far the run of zeros goes that is `size` bytes long so far. */
static int follow_zeros(struct split *s)
{
        while (s->offset + s->size < s->image->size && s->size < ZEROS_MAX) {
                uint64_t at = s->offset + s->size, hole = hole_end(s, at);
                const uint8_t *data;
                size_t size, n = 0;
                int r;

                if (hole - at >= CUT_BLOCK) {
                        s->size += hole == s->image->size ? hole - at : (hole - at) / CUT_BLOCK * CUT_BLOCK;
                        continue;
                }
                r = look(s, at, &data, &size);
                if (r < 0)
                        return r;
                while (n < size && is_all_zero(data + n, MIN(size - n, (size_t)CUT_BLOCK)))
                        n += MIN(size - n, (size_t)CUT_BLOCK);
                s->size += n;
                if (n < size)
                        break;
        }
        s->size = MIN(s->size, ZEROS_MAX);
        return 0;
}

static int find_chunk(struct split *s)
{
        uint64_t left = s->image->size - s->offset;
        const uint8_t *data;
        size_t size;
        int r;

        s->size = MIN(left, (uint64_t)s->image->chunk_size);
        s->zeros = s->size > 0 && hole_end(s, s->offset) >= s->offset + s->size;
        if (!s->cut || left == 0)
                return 0;
        r = look(s, s->offset, &data, &size);
        if (r < 0)
                return r;
        s->size = cut_next(s->cut, data, size, s->offset, &s->zeros);
        return s->zeros ? follow_zeros(s) : 0;
}

int split_begin(struct split *s, int fd, const struct bundle_image *image, const struct cut *cut)
{
        *s = (struct split){ .fd = fd, .image = image, .cut = cut };
        if (cut && !(s->window = malloc(window_room(s))))
                return -ENOMEM;
        return find_chunk(s);
}

int split_next(struct split *s)
{
        s->offset += s->size;
        return find_chunk(s);
}

void split_end(struct split *s)
{
        free(s->window);
        s->window = NULL;
}
