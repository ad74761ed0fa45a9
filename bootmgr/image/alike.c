/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "image/alike.h"

#include <fcntl.h>

#define CHUNKS_MAX 64
#define BYTES_MAX  MIB(16) /* with large chunks there are fewer */

static bool is_there(const struct range *slot, int direct, const struct chunk_walk *w, uint8_t *buffer)
{
        uint8_t *content;

        return w->offset + w->size <= slot->size && range_read(slot, direct, w->offset, w->size, buffer, &content) >= 0 &&
               chunk_matches(w->entry, content, w->size);
}

bool slot_is_alike(const struct range *slot, const struct bundle_image *image, const uint8_t *index)
{
        uint64_t n = MIN((uint64_t)CHUNKS_MAX, MAX(BYTES_MAX / image->chunk_size, UINT64_C(1))), turn = 0;
        _cleanup_free_ uint8_t *buffer = aligned_alloc(DIRECT_ALIGNMENT, image->chunk_size + 2 * DIRECT_ALIGNMENT);
        _cleanup_close_ int direct = range_open_direct(slot, O_RDONLY);
        bool found = false;
        struct chunk_walk w;

        if (!buffer)
                return false;
        for (chunk_walk_begin(&w, image, index); w.entry && !found; chunk_walk_next(&w)) {
                /* The first one behind each n-th part of them that is none of zeros */
                if (entry_is_zeros(w.entry) || w.number < turn * image->n_chunks / n)
                        continue;
                found = is_there(slot, direct, &w, buffer);
                turn = w.number * n / image->n_chunks + 1;
        }
        return found;
}
