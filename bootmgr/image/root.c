/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "image/root.h"

#include <fcntl.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/io.h"

#define BLOCK DIRECT_ALIGNMENT /* what is compared and written as one */
#define PIECE KIB(256)         /* that is read for comparing */

/* Past the page cache as far as it lies in whole blocks: what is written is not needed in memory, and another program's
 * pages are. */
static int write_data(struct root_sink *s, const uint8_t *data, size_t size, uint64_t at)
{
        bool direct = s->direct >= 0 && !__atomic_load_n(&s->refused, __ATOMIC_RELAXED);
        size_t whole = !direct || ((uintptr_t)data | at) % DIRECT_ALIGNMENT ? 0 : size - size % DIRECT_ALIGNMENT;
        int r = 0;

        if (whole > 0)
                r = io_pwrite(s->direct, data, whole, at);
        if (r == -EINVAL && whole > 0) {
                __atomic_store_n(&s->refused, true, __ATOMIC_RELAXED);
                whole = 0;
                r = 0;
        }
        if (r >= 0 && size > whole)
                r = io_pwrite(s->range->fd, data + whole, size - whole, at + whole);
        if (r >= 0)
                __atomic_add_fetch(&s->written, size, __ATOMIC_RELAXED);
        return r;
}

/* A device zeroes whole blocks: the rest is written, and not all of it instead. */
static int write_zeros(struct root_sink *s, size_t size, uint64_t at)
{
        size_t whole = size - size % BLOCK;
        int r = io_zero(s->range->fd, at, whole);

        if (r >= 0)
                r = io_zero(s->range->fd, at + whole, size - whole);
        if (r >= 0)
                __atomic_add_fetch(&s->zeroed, size, __ATOMIC_RELAXED);
        return r;
}

static int write_at(struct root_sink *s, const uint8_t *data, size_t size, uint64_t at)
{
        return data ? write_data(s, data, size, at) : write_zeros(s, size, at);
}

static bool is_same(const uint8_t *old, const uint8_t *data, size_t size)
{
        return data ? memcmp(old, data, size) == 0 : is_all_zero(old, size);
}

/* Of this piece, which is there as `old`, the blocks that differ. */
static int write_differing(struct root_sink *s, const uint8_t *old, const uint8_t *data, size_t size, uint64_t at)
{
        size_t start = 0, end = 0;
        int r = 0;

        while (r >= 0 && end < size) {
                size_t n = MIN(size - end, (size_t)BLOCK);

                if (!is_same(old + end, data ? data + end : NULL, n)) {
                        end += n;
                        continue;
                }
                if (end > start)
                        r = write_at(s, data ? data + start : NULL, end - start, at + start);
                start = end += n;
        }
        if (r >= 0 && end > start)
                r = write_at(s, data ? data + start : NULL, end - start, at + start);
        return r;
}

static int compare_and_write(struct root_sink *s, const uint8_t *data, size_t size, uint64_t offset)
{
        _cleanup_free_ uint8_t *old = aligned_alloc(DIRECT_ALIGNMENT, PIECE);
        int r = old ? 0 : -ENOMEM;

        for (size_t done = 0; r >= 0 && done < size;) {
                size_t n = MIN(size - done, (size_t)PIECE);
                const uint8_t *piece = data ? data + done : NULL;

                /* What cannot be read may well be written. */
                if (root_read(s, offset + done, old, n) >= 0)
                        r = write_differing(s, old, piece, n, s->range->offset + offset + done);
                else
                        r = write_at(s, piece, n, s->range->offset + offset + done);
                done += n;
        }
        return r;
}

static int write_root(struct chunk_sink *sink, uint64_t offset, const void *data, size_t size, struct error *e)
{
        struct root_sink *s = (struct root_sink *)sink;
        const uint8_t *from = data;
        size_t skip = 0;
        int r = 0;

        if (offset == 0) {
                skip = MIN(size, (size_t)FIRST_BLOCK);
                if (data)
                        memcpy(s->first, data, skip);
                s->first_size = skip;
        }
        from = data ? from + skip : NULL;
        if (size > skip && s->compare)
                r = compare_and_write(s, from, size - skip, offset + skip);
        else if (size > skip)
                r = write_at(s, from, size - skip, s->range->offset + offset + skip);
        return r < 0 ? fail_errno(e, r, "cannot write the root at offset %llu", (unsigned long long)offset) : 0;
}

int root_begin(struct root_sink *s, const struct range *range, bool keep, struct error *e)
{
        static const uint8_t zeros[FIRST_BLOCK];
        size_t size = MIN(range->size, (uint64_t)FIRST_BLOCK);
        int r;

        *s = (struct root_sink){ .sink.write = write_root, .range = range, .direct = range_open_direct(range, O_RDWR) };
        if (keep && io_pread(range->fd, s->old_first, size, range->offset) < 0)
                memset(s->old_first, 0, sizeof(s->old_first));
        r = io_pwrite(range->fd, zeros, size, range->offset);
        if (r >= 0)
                r = io_fsync(range->fd);
        return r < 0 ? fail_errno(e, r, "cannot write the root") : 0;
}

int root_read(struct root_sink *s, uint64_t offset, void *data, size_t size)
{
        uint64_t at = s->range->offset + offset;
        bool aligned = ((at | size | (uintptr_t)data) & (DIRECT_ALIGNMENT - 1)) == 0;
        int r = io_pread(aligned && s->direct >= 0 ? s->direct : s->range->fd, data, size, at);

        if (r >= 0 && offset < FIRST_BLOCK)
                memcpy(data, s->old_first + offset, MIN(size, (size_t)(FIRST_BLOCK - offset)));
        return r;
}

int root_finish(struct root_sink *s, struct error *e)
{
        uint64_t start = now_monotonic();
        int r = io_fsync(s->range->fd);

        if (r >= 0)
                r = io_pwrite(s->range->fd, s->first, s->first_size, s->range->offset);
        if (r >= 0)
                r = io_fsync(s->range->fd);
        s->flush = now_monotonic() - start;
        return r < 0 ? fail_errno(e, r, "cannot finish the root") : 0;
}

void root_done(struct root_sink *s)
{
        s->direct = fd_close(s->direct);
}
