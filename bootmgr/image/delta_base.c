/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a delta takes from the root of its base. Frames refer to bytes that lie close to each other, and overlap: what the
 * next chunks need is read as one. What comes of it is hashed, not what it is made of; that tells whose fault it is where it
 * is wrong, and beforehand whether all is there. */
#include <fcntl.h>

#include "base/crew.h"
#include "base/io.h"
#include "base/sha256.h"
#include "image/delta.h"
#include "storage/disk.h"

#define WINDOW_MAX  KIB(256) /* that is read as one, unless a chunk alone needs more */
#define GAP_MAX     KIB(32)  /* that is read in vain sooner than to read once more */
#define THREADS_MAX 8
#define PART_CHUNKS CHUNKS_AT_ONCE /* that a thread checks at once ... */
#define PART_SIZE   MIB(2)         /* ... unless their content is more: so that it can be interrupted */
#define MEMORY_MAX  MIB(8)         /* of all windows; with large chunks there are fewer threads */

void bundle_use_base(struct bundle *b, const struct range *root, const struct fetch_config *config)
{
        struct delta *d = b->delta;

        d->config = config;
        d->direct = fd_close(d->direct);
        d->base = root && root->size >= d->head.size ? root : NULL;
        if (d->base)
                d->direct = range_open_direct(root, O_RDONLY);
}

/* --- windows */

size_t base_window_size(const struct bundle *b)
{
        uint32_t size = DELTA_BASE_MAX;

        for (size_t i = 0; i < b->manifest.n_images; i++)
                size = MAX(size, b->manifest.images[i].chunk_size);
        return size + 2 * DIRECT_ALIGNMENT;
}

int base_window_new(const struct bundle *b, struct base_window *ret)
{
        *ret = (struct base_window){ .room = aligned_alloc(DIRECT_ALIGNMENT, base_window_size(b)) };
        return ret->room ? 0 : -ENOMEM;
}

void base_window_done(struct base_window *win)
{
        free(win->room);
        *win = (struct base_window){};
}

static bool is_inside(const struct base_window *win, const struct delta_record *r)
{
        return r->offset >= win->offset && r->offset + r->length <= win->offset + win->size;
}

static int read_window(const struct delta *d, struct base_window *win, uint64_t begin, uint64_t end)
{
        int r;

        win->size = 0;
        r = range_read(d->base, d->direct, begin, (size_t)(end - begin), win->room, &win->data);
        if (r < 0)
                return r;
        win->offset = begin;
        win->size = end - begin;
        return 0;
}

/* What the record needs, and beside it what the n - 1 chunks behind `w` do. */
static void extend(const struct bundle *b, struct chunk_walk w, uint64_t n, uint64_t *begin, uint64_t *end)
{
        uint64_t most = MAX(*end - *begin, (uint64_t)WINDOW_MAX);

        for (chunk_walk_next(&w); w.entry && n > 1; chunk_walk_next(&w), n--) {
                struct delta_record next = delta_record_at(b, &w);
                uint64_t from = MIN(*begin, next.offset), to = MAX(*end, next.offset + next.length);

                if (next.length == 0)
                        continue;
                if (to - from > most || next.offset > *end + GAP_MAX || next.offset + next.length + GAP_MAX < *begin)
                        return;
                *begin = from;
                *end = to;
        }
}

/* The bytes of the base that the chunk at `w` needs, whatever they are. -ESTALE: there are none, or none that can be read.
 */
static int read_base(const struct bundle *b, struct base_window *win, const struct chunk_walk *w, uint64_t n,
                     const struct delta_record *record, const uint8_t **ret)
{
        uint64_t begin = record->offset, end = begin + record->length;

        if (!b->delta->base)
                return -ESTALE;
        if (!is_inside(win, record)) {
                extend(b, *w, n, &begin, &end);
                /* Beside it may be what cannot be read. */
                if (read_window(b->delta, win, begin, end) < 0 &&
                    read_window(b->delta, win, record->offset, record->offset + record->length) < 0)
                        return -ESTALE;
        }
        *ret = win->data + (record->offset - win->offset);
        return 0;
}

/* --- chunks, in any thread */

int delta_decode(const struct bundle *b, struct chunk_codec *codec, struct base_window *win, const struct chunk_walk *w,
                 uint64_t n, const uint8_t *stored, uint8_t *content)
{
        struct delta_record record = delta_record_at(b, w);
        const uint8_t *base = NULL;
        int r;

        if (crc32c(0, stored, record.stored) != record.crc)
                return -EBADMSG;
        if (record.length == 0 && record.stored == 0)
                return -ESTALE; /* a boot file that is not there */
        r = record.length > 0 ? read_base(b, win, w, n, &record, &base) : 0;
        if (r < 0)
                return r;
        if (record.stored > 0)
                return chunk_decode_patch(codec, w->size, base, record.length, stored, record.stored, content);
        memcpy(content, base, w->size);
        return 0;
}

/* Whether `digest`, of what was read, is what the base had. */
static bool is_of_base(const struct delta_record *record, const struct chunk_walk *w, const uint8_t *digest)
{
        return record->stored ? memcmp(digest, record->digest, R_DIGEST_SIZE) == 0
                              : memcmp(digest, w->entry + I_DIGEST, DIGEST_SIZE) == 0;
}

int delta_unpack(const struct bundle *b, struct chunk_codec *codec, struct base_window *win, const struct chunk_walk *w,
                 const uint8_t *stored, uint8_t *content)
{
        struct delta_record record = delta_record_at(b, w);
        uint8_t digest[DIGEST_SIZE];
        const uint8_t *base;
        int r = delta_decode(b, codec, win, w, 1, stored, content);

        if (r == -ESTALE || (r >= 0 && chunk_matches(w->entry, content, w->size)))
                return r;
        if (record.length == 0 || crc32c(0, stored, record.stored) != record.crc)
                return -EBADMSG;
        r = read_base(b, win, w, 1, &record, &base);
        if (r >= 0)
                r = sha256_data(base, record.length, digest);
        if (r < 0)
                return r;
        return is_of_base(&record, w, digest) ? -EBADMSG : -ESTALE;
}

/* --- all of them, beforehand */

struct check {
        const struct bundle *b;
        const struct bundle_image *image;
        struct progress *progress;
        struct base_window *windows; /* of each thread */
        struct check_part {
                struct chunk_walk first;
                uint64_t n, end;
        } * parts;
        unsigned threads, n_parts;
};

/* What was read and is not hashed yet, of one window. */
struct pending {
        size_t n;
        struct sha256_job jobs[PART_CHUNKS];
        struct chunk_walk chunks[PART_CHUNKS];
};

static int check_pending(const struct check *c, struct pending *p, struct error *e)
{
        int r = sha256_each(p->jobs, p->n);

        for (size_t i = 0; r >= 0 && i < p->n; i++) {
                struct delta_record record = delta_record_at(c->b, &p->chunks[i]);

                if (!is_of_base(&record, &p->chunks[i], p->jobs[i].digest))
                        r = delta_base_altered(c->b, &p->chunks[i], e);
        }
        p->n = 0;
        return r;
}

static int check_part(void *userdata, unsigned worker, unsigned slot, struct error *e)
{
        struct check *c = userdata;
        struct base_window *win = &c->windows[worker];
        struct chunk_walk w = c->parts[slot].first;
        struct pending p = { .n = 0 };
        int r = 0;

        for (uint64_t left = c->parts[slot].n; r >= 0 && left > 0; left--, chunk_walk_next(&w)) {
                struct delta_record record = delta_record_at(c->b, &w);
                const uint8_t *base;

                if (entry_is_zeros(w.entry) || (record.length == 0 && record.stored > 0))
                        continue;
                if (!is_inside(win, &record))
                        r = check_pending(c, &p, e); /* before another window takes its place */
                if (r >= 0 && (record.length == 0 || read_base(c->b, win, &w, left, &record, &base) < 0))
                        r = delta_base_altered(c->b, &w, e);
                if (r < 0)
                        break;
                p.chunks[p.n] = w;
                p.jobs[p.n++] = (struct sha256_job){ .data = base, .size = record.length };
        }
        return r < 0 ? r : check_pending(c, &p, e);
}

static int part_checked(void *userdata, unsigned slot, struct error *e)
{
        const struct check *c = userdata;

        return progress_report(c->progress, c->parts[slot].end, c->image->size, NULL);
}

static int check_image(struct check *c, size_t number, struct error *e)
{
        static const struct crew_ops ops = { .work = check_part, .done = part_checked };
        _cleanup_crew_ struct crew *crew = NULL;
        struct chunk_walk w;
        uint64_t size;
        int r = crew_new(&ops, c, c->threads, c->n_parts, &crew);

        for (chunk_walk_begin(&w, c->image, bundle_chunk_index(c->b, number, &size)); r >= 0 && w.entry;) {
                struct check_part *p;
                unsigned slot;

                r = crew_next(crew, &slot, e);
                if (r < 0)
                        break;
                p = &c->parts[slot];
                p->first = w;
                for (p->n = 0; w.entry && p->n < PART_CHUNKS && w.offset - p->first.offset < PART_SIZE; p->n++)
                        chunk_walk_next(&w);
                p->end = w.entry ? w.offset : c->image->size;
                r = crew_hand(crew, e);
        }
        return r < 0 ? r : crew_finish(crew, e);
}

int delta_check_base(const struct bundle *b, size_t number, struct progress *progress, struct error *e)
{
        struct check c = { .b = b, .image = &b->manifest.images[number], .progress = progress };
        int r = 0;

        c.threads = (unsigned)MIN(MEMORY_MAX / base_window_size(b), (uint64_t)THREADS_MAX);
        c.threads = io_is_system() ? MIN(2 * crew_processors(THREADS_MAX), c.threads) : 0;
        c.n_parts = c.threads ? 2 * c.threads : 1;
        c.parts = calloc(c.n_parts, sizeof(*c.parts));
        c.windows = calloc(MAX(c.threads, 1U), sizeof(*c.windows));
        if (!c.parts || !c.windows)
                r = -ENOMEM;
        for (unsigned i = 0; r >= 0 && i < MAX(c.threads, 1U); i++)
                r = base_window_new(b, &c.windows[i]);
        if (r >= 0)
                r = check_image(&c, number, e);
        for (unsigned i = 0; c.windows && i < MAX(c.threads, 1U); i++)
                base_window_done(&c.windows[i]);
        free(c.windows);
        free(c.parts);
        return r;
}
