/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The chunk index, read entry by entry. Where each chunk has a length of its own the offsets are what the lengths add up to.
 */
#include <sys/mman.h>
#include <unistd.h>

#include "base/io.h"
#include "image/format.h"

#define WINDOW 1024 /* entries of a file that are in memory */
#define LET_GO 2048 /* entries of a mapped one */

/* 0: no chunk can be so. */
static uint32_t length_at(const struct chunk_walk *w)
{
        const struct bundle_image *image = w->image;
        uint64_t left = image->size - w->offset;
        uint32_t length;

        if (image->entry_size == INDEX_ENTRY)
                return (uint32_t)MIN(left, (uint64_t)image->chunk_size);
        length = get_le32(w->entry + I_LENGTH);
        if (length > left || length > (entry_is_zeros(w->entry) ? ZEROS_MAX : image->chunk_size))
                return 0;
        return entry_is_zeros(w->entry) && !is_all_zero(w->entry, I_LENGTH) ? 0 : length;
}

static int fill_window(struct chunk_walk *w)
{
        w->first = w->number;
        w->n = MIN(w->image->n_chunks - w->first, (uint64_t)WINDOW);
        return w->n == 0 ? -ENODATA
                         : io_pread(w->fd, w->window, w->n * w->image->entry_size, w->first * w->image->entry_size);
}

/* What the walk has come past is read from the file again, by whoever still needs it. */
static void let_go(const struct chunk_walk *w)
{
        uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), start = ((uintptr_t)w->index + page - 1) / page * page,
                  end = (uintptr_t)(w->index + w->number * w->image->entry_size) / page * page;

        if (w->image->index_mapped && w->fd < 0 && end > start)
                madvise((void *)start, end - start, MADV_DONTNEED);
}

static void look(struct chunk_walk *w)
{
        w->entry = NULL;
        if (w->number >= w->image->n_chunks)
                return;
        if (w->number - w->first >= w->n && (w->fd < 0 || fill_window(w) < 0))
                return;
        w->entry = w->index + (w->number - w->first) * w->image->entry_size;
        w->size = length_at(w);
        if (w->size == 0)
                w->entry = NULL;
}

void chunk_walk_begin(struct chunk_walk *w, const struct bundle_image *image, const uint8_t *index)
{
        *w = (struct chunk_walk){ .image = image, .index = index, .n = image->n_chunks, .fd = -1 };
        look(w);
}

int chunk_walk_begin_file(struct chunk_walk *w, const struct bundle_image *image, int fd)
{
        *w = (struct chunk_walk){ .image = image, .fd = fd, .window = malloc(WINDOW * image->entry_size) };
        if (!w->window)
                return -ENOMEM;
        w->index = w->window;
        look(w);
        return 0;
}

void chunk_walk_next(struct chunk_walk *w)
{
        w->offset += w->size;
        w->stored += get_le32(w->entry + I_STORED);
        w->number++;
        if (w->number % LET_GO == 0 || w->number == w->image->n_chunks)
                let_go(w);
        look(w);
}

void chunk_walk_done(struct chunk_walk *w)
{
        free(w->window);
        *w = (struct chunk_walk){ .fd = -1 };
}

bool chunk_walk_complete(const struct chunk_walk *w)
{
        return !w->entry && w->number == w->image->n_chunks && w->offset == w->image->size;
}

bool index_is_complete(const struct bundle_image *image, const uint8_t *index, uint64_t *bad)
{
        struct chunk_walk w;

        for (chunk_walk_begin(&w, image, index); w.entry; chunk_walk_next(&w))
                ;
        *bad = w.number;
        return chunk_walk_complete(&w);
}
