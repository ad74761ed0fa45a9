/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "image/root.h"

#include <fcntl.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/queue.h"

#define BLOCK DIRECT_ALIGNMENT /* what is compared and written as one */
#define PIECE KIB(64)          /* that is read for comparing: each thread has one, for that long */

/* Past the page cache as far as it lies in whole blocks: what is written is not needed in memory, and another program's
 * pages are. */
static int write_data(struct root_sink *s, struct io_queue *queue, const uint8_t *data, size_t size, uint64_t at)
{
        bool direct = s->direct >= 0 && !__atomic_load_n(&s->refused, __ATOMIC_RELAXED);
        size_t whole = !direct || ((uintptr_t)data | at) % DIRECT_ALIGNMENT ? 0 : size - size % DIRECT_ALIGNMENT;
        int r = 0;

        /* The first one is waited for: it tells whether the device takes such writes. */
        if (whole > 0)
                r = io_queue_pwrite(__atomic_load_n(&s->taken, __ATOMIC_RELAXED) ? queue : NULL, s->direct, data, whole, at);
        if (r >= 0 && whole > 0)
                __atomic_store_n(&s->taken, true, __ATOMIC_RELAXED);
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

static int write_at(struct root_sink *s, struct io_queue *queue, const uint8_t *data, size_t size, uint64_t at)
{
        return data ? write_data(s, queue, data, size, at) : write_zeros(s, size, at);
}

static bool is_same(const uint8_t *old, const uint8_t *data, size_t size)
{
        return data ? memcmp(old, data, size) == 0 : is_all_zero(old, size);
}

/* Of this piece, which is there as `old`, the blocks that differ. */
static int write_differing(struct root_sink *s, struct io_queue *queue, const uint8_t *old, const uint8_t *data, size_t size,
                           uint64_t at)
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
                        r = write_at(s, queue, data ? data + start : NULL, end - start, at + start);
                start = end += n;
        }
        if (r >= 0 && end > start)
                r = write_at(s, queue, data ? data + start : NULL, end - start, at + start);
        return r;
}

static int compare_and_write(struct root_sink *s, struct io_queue *queue, const uint8_t *data, size_t size, uint64_t offset)
{
        _cleanup_free_ uint8_t *old = aligned_alloc(DIRECT_ALIGNMENT, PIECE);
        int r = old ? 0 : -ENOMEM;

        for (size_t done = 0; r >= 0 && done < size;) {
                size_t n = MIN(size - done, (size_t)PIECE);
                const uint8_t *piece = data ? data + done : NULL;

                /* What cannot be read may well be written. */
                if (root_read(s, offset + done, old, n) >= 0)
                        r = write_differing(s, queue, old, piece, n, s->range->offset + offset + done);
                else
                        r = write_at(s, queue, piece, n, s->range->offset + offset + done);
                done += n;
        }
        return r;
}

/* Bytes of one block, with a chunk that did not come through here (it was there already) or comes later than memory lasts.
 * What cannot be read may well be written once that has come: until then it goes on waiting, and the next one that settles
 * begins with another block. */
static int settle(struct root_sink *s, size_t max, struct error *e)
{
        _cleanup_free_ uint8_t *old = aligned_alloc(DIRECT_ALIGNMENT, SINK_BLOCK),
                               *new = aligned_alloc(DIRECT_ALIGNMENT, SINK_BLOCK);
        struct edge *edge;
        int r = old && new ? 0 : -ENOMEM;

        pthread_mutex_lock(&s->settling); /* of one block nobody reads what another is about to write */
        while (r >= 0 && (edge = edges_take(&s->edges, max))) {
                uint64_t offset = edge_offset(edge);
                size_t n = (size_t)MIN(s->edges.size - offset, (uint64_t)SINK_BLOCK);
                int unread = root_read(s, offset, old, n);

                if (unread < 0 && max == 0)
                        r = fail_errno(e, unread, "cannot read the root at %llu", (unsigned long long)offset);
                else if (unread < 0 && !edges_return(&s->edges, edge))
                        break;
                if (r >= 0) {
                        memcpy(new, old, n);
                        edge_put(edge, new);
                        if (unread < 0 || memcmp(old, new, n) != 0)
                                r = write_data(s, NULL, new, n, s->range->offset + offset);
                }
                edge_free(edge);
        }
        pthread_mutex_unlock(&s->settling);
        return r;
}

/* A piece of the image as it is written: whole blocks, in `from` (NULL: zeros). */
struct piece {
        uint64_t start, end;
        uint8_t *from;
};

static int write_piece(struct root_sink *s, struct io_queue *queue, const struct piece *p)
{
        if (p->start >= p->end)
                return 0;
        if (s->compare)
                return compare_and_write(s, queue, p->from, p->end - p->start, p->start);
        return write_at(s, queue, p->from, p->end - p->start, s->range->offset + p->start);
}

/* Of the block at one end of the piece there are n bytes from `offset` on. When others have brought the rest it is written
 * with the piece; else it is taken off. */
static int join_edge(struct root_sink *s, struct piece *p, uint64_t offset, size_t n)
{
        uint64_t block = offset - offset % SINK_BLOCK, end = MIN(block + SINK_BLOCK, s->edges.size);
        _cleanup_free_ uint8_t *alone = p->from ? NULL : aligned_alloc(DIRECT_ALIGNMENT, SINK_BLOCK);
        uint8_t *to = p->from ? p->from + (ptrdiff_t)(block - p->start) : alone;
        bool whole = false;
        int r;

        if (!to)
                return -ENOMEM;
        if (alone)
                memset(alone, 0, SINK_BLOCK);
        r = edges_add(&s->edges, offset, p->from ? to + offset % SINK_BLOCK : NULL, n, to, &whole);
        if (r >= 0 && whole && alone)
                r = write_piece(s, NULL, &(struct piece){ block, end, alone });
        if (r >= 0 && whole && p->from) {
                if (block < p->start)
                        *p = (struct piece){ block, MAX(p->end, end), to };
                else
                        p->end = end;
        } else if (offset == p->start) {
                p->from = p->from ? p->from + n : NULL;
                p->start += n;
        } else {
                p->end = offset;
        }
        return r;
}

static int write_blocks(struct root_sink *s, struct io_queue *queue, struct piece p)
{
        uint64_t tail = p.end - p.end % SINK_BLOCK, size = p.end - p.start;
        bool ends = p.end == s->edges.size; /* its last block is as short as the image */
        int r = 0;

        if (p.start % SINK_BLOCK)
                r = join_edge(s, &p, p.start, (size_t)MIN(size, SINK_BLOCK - p.start % SINK_BLOCK));
        if (r >= 0 && tail >= p.start && tail < p.end && p.end % SINK_BLOCK && !ends)
                r = join_edge(s, &p, tail, (size_t)(p.end - tail));
        if (r >= 0)
                r = write_piece(s, queue, &p);
        return r < 0 ? r : settle(s, EDGES_MAX, NULL);
}

void root_keep(struct root_sink *s, uint64_t offset, const uint8_t *data, size_t size)
{
        if (offset < FIRST_BLOCK)
                memcpy(s->first + offset, data, MIN(size, (size_t)(FIRST_BLOCK - offset)));
}

static int write_root(struct chunk_sink *sink, uint64_t offset, void *data, size_t size, struct io_queue *queue,
                      struct error *e)
{
        struct root_sink *s = (struct root_sink *)sink;
        size_t skip = offset < FIRST_BLOCK ? MIN(size, (size_t)(FIRST_BLOCK - offset)) : 0;
        int r = 0;

        if (data)
                root_keep(s, offset, data, skip);
        if (size > skip)
                r = write_blocks(s, queue,
                                 (struct piece){ offset + skip, offset + size, data ? (uint8_t *)data + skip : NULL });
        return r < 0 ? fail_errno(e, r, "cannot write the root") : 0;
}

int root_begin(struct root_sink *s, const struct range *range, uint64_t size, bool keep, struct error *e)
{
        static const uint8_t zeros[FIRST_BLOCK];
        size_t n = MIN(range->size, (uint64_t)FIRST_BLOCK);
        int r;

        *s = (struct root_sink){ .sink.write = write_root,
                                 .range = range,
                                 .direct = range_open_direct(range, O_RDWR),
                                 .first_size = MIN(size, (uint64_t)FIRST_BLOCK) };
        edges_begin(&s->edges, size);
        pthread_mutex_init(&s->settling, NULL);
        if (keep && io_pread(range->fd, s->old_first, n, range->offset) < 0)
                memset(s->old_first, 0, sizeof(s->old_first));
        r = io_pwrite(range->fd, zeros, n, range->offset);
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
        int r = settle(s, 0, e);

        if (r >= 0)
                r = io_fsync(s->range->fd);
        if (r >= 0)
                r = io_pwrite(s->range->fd, s->first, s->first_size, s->range->offset);
        if (r >= 0)
                r = io_fsync(s->range->fd);
        s->flush = now_monotonic() - start;
        return r < 0 ? fail_errno(e, r, "cannot finish the root") : 0;
}

void root_give_up(struct root_sink *s)
{
        if (s->range)
                (void)!settle(s, 0, NULL);
}

void root_done(struct root_sink *s)
{
        edges_end(&s->edges);
        s->direct = fd_close(s->direct);
}
