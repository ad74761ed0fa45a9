/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What follows the head of a bundle: the index against the manifest, then each chunk against the index.
 *
 *      caller's thread    reads the stored bytes, in order     into a ring of buffers
 *      the workers        decode, check, give to the sink      each from a buffer of its own
 *
 * The source is read by the thread that signals reach, and may be a pipe. Memory is the ring's and the workers' buffers,
 * whatever the size of the image. */
#include "base/clock.h"
#include "base/crew.h"
#include "base/io.h"
#include "base/queue.h"
#include "base/sha256.h"
#include "image/format.h"
#include "image/source.h"
#include "slot/kinds.h"
#include "storage/disk.h"

#define THREADS_MAX 8
#define SLOTS       2        /* buffers of stored bytes for each thread: one that it works on, one that is filled */
#define MEMORY_MAX  MIB(24)  /* of all buffers; with large chunks there are fewer threads */
#define CHUNKS_MIN  32       /* fewer are not worth a thread */
#define PART_SIZE   KIB(256) /* of content that is decoded and written as one */
#define INDEX_PIECE KIB(64)
#define GAP_MAX     512 /* stored bytes that are fetched in vain sooner than to ask once more */

/* Stored chunks one behind the other, or a run of chunks of zeros. */
struct part {
        struct chunk_sink *sink;
        struct chunk_walk first; /* its first chunk */
        uint64_t n_chunks;
        uint64_t size; /* of the content */
        uint64_t at;   /* where its stored bytes begin in the source */
        uint8_t *stored;
        size_t stored_size;
};

struct extraction {
        struct bundle *b;
        struct progress *progress;
        uint64_t done, all;
        uint32_t chunk_size; /* the largest of all images */
        size_t part_size;    /* of content, at most */
        unsigned threads, n_parts;
        struct part *parts;
        struct unpacker *unpackers; /* of each thread */
};

struct unpacker {
        struct chunk_codec *codec;
        uint8_t *content[2];     /* one that is filled, one that the queue writes from */
        struct base_window base; /* of a delta */
        struct io_queue *queue;
        unsigned n_content, turn;
        uint64_t write_time;
};

static int bad_chunk(const struct bundle *b, const struct chunk_walk *at, struct error *e)
{
        fail(e, -EBADMSG, &kind_content, "chunk %llu of image %s (offset %llu) does not match its digest in %s%s",
             (unsigned long long)at->number, at->image->name, (unsigned long long)at->offset, b->source->where,
             b->source->has_others ? ", nor on another server" : "");
        return fail_hint(e, "fetch or copy the bundle again");
}

struct index_part {
        uint8_t *data;
        uint64_t size;
        const uint8_t *digest;
};

static bool index_is_right(void *userdata)
{
        const struct index_part *p = userdata;
        uint8_t digest[DIGEST_SIZE];

        return sha256_data(p->data, p->size, digest) >= 0 && memcmp(digest, p->digest, DIGEST_SIZE) == 0;
}

/* From another server. The index begins at `at` in the source. */
static int index_again(const struct bundle *b, size_t number, uint64_t at)
{
        struct index_part p = { .digest = b->manifest.images[number].index_digest };
        uint64_t offset = (uint64_t)(bundle_chunk_index(b, number, &p.size) - b->index);
        _cleanup_free_ uint8_t *data = p.data = b->source->has_others ? malloc(p.size) : NULL;
        int r = data ? source_read_again(b->source, at + offset, data, p.size, index_is_right, &p) : -EBADMSG;

        if (r >= 0 && b->index_file >= 0)
                r = io_pwrite(b->index_file, data, p.size, offset);
        else if (r >= 0)
                memcpy(b->index + offset, data, p.size);
        return r;
}

static int check_index(const struct bundle *b, size_t number, uint64_t at, struct error *e)
{
        const struct bundle_image *image = &b->manifest.images[number];
        uint8_t digest[DIGEST_SIZE];
        uint64_t size, bad;
        const uint8_t *index = bundle_chunk_index(b, number, &size);
        int r = b->index_file >= 0 ? sha256_fd(b->index_file, (uint64_t)(index - b->index), size, digest)
                                   : sha256_data(index, size, digest);

        if (r >= 0 && memcmp(digest, image->index_digest, DIGEST_SIZE) != 0)
                r = index_again(b, number, at);
        if (r < 0 && r != -EBADMSG)
                return r;
        if (r < 0)
                return fail(e, -EBADMSG, &kind_bundle_invalid,
                            "the bundle's chunk index of image %s does not match the manifest", image->name);
        if (!index_is_complete(image, index, &bad))
                return fail(e, -EBADMSG, &kind_bundle_invalid,
                            "the bundle's chunk index of image %s has lengths that cannot be, first in chunk %llu",
                            image->name, (unsigned long long)bad);
        return 0;
}

/* Into its file, by and by. */
static int fill_index(struct bundle *b, struct error *e)
{
        _cleanup_free_ uint8_t *piece = malloc(INDEX_PIECE);
        int r = piece ? 0 : -ENOMEM;

        for (uint64_t done = 0, n; r >= 0 && done < b->header.index; done += n) {
                n = MIN(b->header.index - done, INDEX_PIECE);
                r = bundle_read_part(b, piece, (size_t)n, "index is missing", e);
                if (r >= 0) {
                        r = io_pwrite(b->index_file, piece, (size_t)n, done);
                        if (r < 0)
                                fail_errno(e, r, "cannot keep the chunk index");
                }
        }
        return r;
}

int bundle_read_index(struct bundle *b, struct error *e)
{
        uint64_t at = b->source->done;
        int r;

        if (b->index)
                return 0;
        r = bundle_allocate_index(b);
        if (r < 0)
                return r;
        r = b->index_file >= 0 ? fill_index(b, e) : bundle_read_part(b, b->index, b->header.index, "index is missing", e);
        for (size_t i = 0; r >= 0 && i < b->manifest.n_images; i++)
                r = check_index(b, i, at, e);
        return r >= 0 && b->delta ? delta_read_table(b, e) : r;
}

/* Of a delta what is dropped anyway needs no base. */
static int unpack_chunk(struct extraction *x, struct unpacker *u, const struct chunk_walk *w, bool dropped,
                        const uint8_t *stored, uint8_t *content, struct error *e)
{
        int r;

        if (!x->b->delta)
                return chunk_unpack(u->codec, w->entry, w->size, stored, content);
        r = delta_unpack(x->b, u->codec, &u->base, w, stored, content);
        if (r == -ESTALE)
                r = dropped ? 0 : delta_fetch(x->b, u->codec, w, LACKS_BASE, content, e);
        return r;
}

struct chunk_again {
        struct extraction *x;
        struct unpacker *u;
        const struct chunk_walk *w;
        bool dropped;
        uint8_t *stored, *content;
        struct error *e;
        int result;
};

static bool chunk_is_right(void *userdata)
{
        struct chunk_again *a = userdata;

        a->result = unpack_chunk(a->x, a->u, a->w, a->dropped, a->stored, a->content, a->e);
        return a->result != -EBADMSG;
}

/* What lies at `at` in the source came wrong: from another server. */
static int unpack_again(struct chunk_again *a, uint64_t at)
{
        uint32_t n = chunk_stored(a->x->b, a->w);
        int r = n > 0 ? source_read_again(a->x->b->source, at, a->stored, n, chunk_is_right, a) : -EBADMSG;

        return r < 0 ? r : a->result;
}

static int fail_write(int r, struct error *e)
{
        return r < 0 && !(e && e->code) ? fail_errno(e, r, "cannot write the root") : r;
}

/* The last way of a delta whose frame is not what it should be. */
static int replace_frame(struct extraction *x, struct unpacker *u, const struct chunk_walk *w, uint8_t *content,
                         struct error *e)
{
        _cleanup_error_ struct error why = {};
        int r = delta_fetch(x->b, u->codec, w, LACKS_FRAME, content, &why);

        if (r != -ECANCELED)
                return r < 0 ? -EBADMSG : 0;
        if (e)
                *e = TAKE(why, (struct error){});
        return r;
}

/* What is not as it should be: of a delta perhaps because of its base, and then it comes from the full bundle. Else it comes
 * again from another server; the first chunk that does not is told. */
static int mend_chunks(struct extraction *x, struct unpacker *u, struct part *p, struct chunk_walk w, uint64_t n,
                       uint64_t good, uint8_t *stored, uint8_t *content, struct error *e)
{
        for (uint64_t i = 0; i < n; i++, chunk_walk_next(&w)) {
                if (!(good >> i & 1)) {
                        struct chunk_again again = { x, u, &w, !p->sink, stored, content, e, 0 };
                        int r = x->b->delta ? unpack_chunk(x, u, &w, !p->sink, stored, content, e) : -EBADMSG;

                        if (r == -EBADMSG)
                                r = unpack_again(&again, p->at + (uint64_t)(stored - p->stored));
                        if (r == -EBADMSG && x->b->delta && p->sink)
                                r = replace_frame(x, u, &w, content, e);
                        if (r < 0)
                                return r == -EBADMSG ? bad_chunk(x->b, &w, e) : r;
                }
                stored += chunk_stored(x->b, &w);
                content += w.size;
        }
        return 0;
}

/* n: chunks from there on that are decoded next. */
static int decode_chunk(struct extraction *x, struct unpacker *u, const struct chunk_walk *w, uint64_t n,
                        const uint8_t *stored, uint8_t *content)
{
        return x->b->delta ? delta_decode(x->b, u->codec, &u->base, w, n, stored, content)
                           : chunk_decode(u->codec, w->entry, w->size, stored, content);
}

/* All are decoded before they are hashed: together that takes less time (base/sha256.h). */
static int unpack_stored(struct extraction *x, struct unpacker *u, struct part *p, uint8_t *content, struct error *e)
{
        struct chunk_walk w = p->first;
        uint8_t *stored = p->stored;
        int r = 0;

        for (uint64_t left = p->n_chunks, n; r >= 0 && left > 0; left -= n) {
                struct chunk_walk first = w;
                uint8_t *from = stored, *at = content;
                uint64_t good = 0, start;

                n = MIN(left, (uint64_t)CHUNKS_AT_ONCE);
                for (uint64_t i = 0; i < n; i++, chunk_walk_next(&w)) {
                        good |= (uint64_t)(decode_chunk(x, u, &w, n - i, stored, content) >= 0) << i;
                        stored += chunk_stored(x->b, &w);
                        content += w.size;
                }
                start = now_monotonic();
                good &= chunks_match(first, n, at);
                u->codec->check += now_monotonic() - start;
                r = mend_chunks(x, u, p, first, n, good, from, at, e);
        }
        return r;
}

/* Nothing is stored of them. */
static int unpack_zeros(struct extraction *x, struct unpacker *u, struct part *p, struct error *e)
{
        struct chunk_walk w = p->first;

        for (uint64_t i = 0; i < p->n_chunks; i++, chunk_walk_next(&w)) {
                int r = chunk_unpack(u->codec, w.entry, w.size, NULL, NULL);

                if (r < 0)
                        return r == -EBADMSG ? bad_chunk(x->b, &w, e) : r;
        }
        return 0;
}

static int unpack_part(void *userdata, unsigned worker, unsigned slot, struct error *e)
{
        struct extraction *x = userdata;
        struct unpacker *u = &x->unpackers[worker];
        struct part *p = &x->parts[slot];
        bool zeros = entry_is_zeros(p->first.entry);
        uint8_t *content = u->content[u->turn++ % u->n_content] + p->first.offset % SINK_BLOCK;
        uint64_t start = now_monotonic();
        int r = fail_write(io_queue_turn(u->queue), e);

        u->write_time += now_monotonic() - start;
        if (r >= 0)
                r = zeros ? unpack_zeros(x, u, p, e) : unpack_stored(x, u, p, content, e);
        if (r < 0 || !p->sink)
                return r;
        start = now_monotonic();
        r = p->sink->write(p->sink, p->first.offset, zeros ? NULL : content, p->size, u->queue, e);
        u->write_time += now_monotonic() - start;
        return r;
}

uint64_t bundle_fetched(const struct bundle *b)
{
        return source_fetched(b->source) + bundle_full_use(b).fetched;
}

static int part_done(void *userdata, unsigned slot, struct error *e)
{
        struct extraction *x = userdata;
        const struct part *p = &x->parts[slot];

        x->done += p->size;
        if (x->progress) {
                x->progress->transfer.total = x->all;
                x->progress->transfer.fetched = bundle_fetched(x->b);
        }
        return progress_report(x->progress, x->done, x->all, NULL);
}

static const struct crew_ops extract_ops = { .work = unpack_part, .done = part_done };

static bool is_present(const struct chunk_sink *sink, uint64_t number)
{
        return sink && (sink->whole || (sink->present && sink->present[number]));
}

/* Those chunks that need not come. */
static int skip_present(struct extraction *x, const struct chunk_sink *sink, struct chunk_walk *w, struct error *e)
{
        uint64_t stored = 0;

        for (; w->entry && is_present(sink, w->number); chunk_walk_next(w))
                stored += chunk_stored(x->b, w);
        return stored ? source_skip(x->b->source, stored, e) : 0;
}

/* Whether the chunk goes into the part that has begun. */
static bool goes_on(const struct extraction *x, const struct part *p, const struct chunk_walk *w)
{
        if (!w->entry || is_present(p->sink, w->number) || entry_is_zeros(w->entry) != entry_is_zeros(p->first.entry))
                return false;
        if (entry_is_zeros(w->entry))
                return p->size + w->size <= ZEROS_MAX;
        return p->size + w->size <= x->part_size &&
               p->stored_size + chunk_stored(x->b, w) <= chunk_stored_max((uint32_t)x->part_size);
}

/* The chunk where `w` stands, and what goes with it. */
static int read_part(struct extraction *x, struct part *p, struct chunk_walk *w, struct error *e)
{
        uint64_t start = now_monotonic();
        int r;

        p->first = *w;
        p->at = x->b->source->done;
        p->n_chunks = p->size = p->stored_size = 0;
        do {
                if (chunk_stored(x->b, w) > chunk_stored_max(w->image->chunk_size))
                        return bad_chunk(x->b, w, e);
                p->size += w->size;
                p->stored_size += chunk_stored(x->b, w);
                p->n_chunks++;
                chunk_walk_next(w);
        } while (goes_on(x, p, w));
        if (p->stored_size == 0)
                return 0;
        r = bundle_read_part(x->b, p->stored, p->stored_size, "chunks are cut off", e);
        x->b->times.fetch += now_monotonic() - start;
        return r;
}

/* The source has ended early. What came is written all the same: the next try need not fetch it again. Not when somebody
 * waits for the end, nor of a delta, of which a chunk may have to be fetched anew. */
static void keep_what_came(const struct extraction *x, struct crew *crew)
{
        int r = crew_finish(crew, NULL);

        for (unsigned i = 0; r >= 0 && i < x->threads; i++)
                r = io_queue_finish(x->unpackers[i].queue);
}

static int extract_image(struct extraction *x, struct crew *crew, size_t number, struct chunk_sink *sink, struct error *e)
{
        struct chunk_walk w;
        uint64_t size;

        chunk_walk_begin(&w, &x->b->manifest.images[number], bundle_chunk_index(x->b, number, &size));
        for (;;) {
                unsigned slot;
                int r = skip_present(x, sink, &w, e);

                if (r < 0 || !w.entry)
                        return r;
                r = crew_next(crew, &slot, e);
                if (r < 0)
                        return r;
                x->parts[slot].sink = sink;
                r = read_part(x, &x->parts[slot], &w, e);
                if (r < 0) {
                        if (r != -ECANCELED && !x->b->delta)
                                keep_what_came(x, crew);
                        return r;
                }
                r = crew_hand(crew, e);
                if (r < 0)
                        return r;
        }
}

/* Nothing is gained by threads where there is little to do, and a test that records writes wants them in order. */
static unsigned choose_threads(const struct extraction *x)
{
        uint64_t slot = chunk_stored_max((uint32_t)x->part_size), each = SLOTS * slot + 2 * x->part_size;
        uint64_t fit = MEMORY_MAX / (each + (x->b->delta ? base_window_size(x->b) : 0));

        if (!io_is_system() || x->b->header.index / index_entry_size(x->b->manifest.format) < CHUNKS_MIN)
                return 0;
        return MIN(2 * crew_processors(THREADS_MAX), (unsigned)MIN(fit, (uint64_t)THREADS_MAX));
}

static int unpacker_begin(const struct extraction *x, struct unpacker *u)
{
        u->codec = chunk_codec_new(x->chunk_size, (uint32_t)index_entry_size(x->b->manifest.format));
        if (x->threads)
                (void)io_queue_new(&u->queue); /* else it writes itself */
        u->n_content = u->queue ? ARRAY_SIZE(u->content) : 1;
        for (size_t i = 0; i < u->n_content; i++)
                if (!(u->content[i] = aligned_alloc(SINK_BLOCK, x->part_size + 2 * SINK_BLOCK)))
                        return -ENOMEM;
        if (!u->codec)
                return -ENOMEM;
        return x->b->delta ? base_window_new(x->b, &u->base) : 0;
}

static void unpacker_end(struct unpacker *u, struct extract_times *t)
{
        t->queued += io_queue_count(u->queue);
        io_queue_free(u->queue); /* before what it writes from */
        for (size_t i = 0; i < ARRAY_SIZE(u->content); i++)
                free(u->content[i]);
        base_window_done(&u->base);
        t->write += u->write_time;
        if (!u->codec)
                return;
        t->decode += u->codec->decode;
        t->check += u->codec->check;
        chunk_codec_free(u->codec);
}

static int extraction_begin(struct extraction *x)
{
        for (size_t i = 0; i < x->b->manifest.n_images; i++) {
                x->all += x->b->manifest.images[i].size;
                x->chunk_size = MAX(x->chunk_size, x->b->manifest.images[i].chunk_size);
        }
        x->part_size = MAX(x->chunk_size, (uint32_t)PART_SIZE);
        x->threads = choose_threads(x);
        x->n_parts = x->threads ? SLOTS * x->threads : 1;
        x->parts = calloc(x->n_parts, sizeof(*x->parts));
        x->unpackers = calloc(MAX(x->threads, 1U), sizeof(*x->unpackers));
        if (!x->parts || !x->unpackers)
                return -ENOMEM;
        for (unsigned i = 0; i < x->n_parts; i++)
                if (!(x->parts[i].stored = malloc(chunk_stored_max((uint32_t)x->part_size))))
                        return -ENOMEM;
        for (unsigned i = 0; i < MAX(x->threads, 1U); i++) {
                int r = unpacker_begin(x, &x->unpackers[i]);

                if (r < 0)
                        return r;
        }
        return 0;
}

static void extraction_end(struct extraction *x)
{
        struct extract_times *t = &x->b->times;

        t->threads = x->threads;
        for (unsigned i = 0; x->unpackers && i < MAX(x->threads, 1U); i++)
                unpacker_end(&x->unpackers[i], t);
        for (unsigned i = 0; x->parts && i < x->n_parts; i++)
                free(x->parts[i].stored);
        free(x->unpackers);
        free(x->parts);
}

/* They count as done from the beginning. */
static uint64_t present_bytes(const struct bundle *b, size_t number, const struct chunk_sink *sink)
{
        struct chunk_walk w;
        uint64_t size, sum = 0;

        for (chunk_walk_begin(&w, &b->manifest.images[number], bundle_chunk_index(b, number, &size)); w.entry;
             chunk_walk_next(&w))
                sum += is_present(sink, w.number) ? w.size : 0;
        return sum;
}

/* Tells the source which stored bytes will be read, so that it fetches no others ahead. */
static int announce(struct bundle *b, struct chunk_sink *const *sinks)
{
        uint64_t offset = b->source->done, end = 0;
        struct source_range *ranges = calloc(b->header.index / index_entry_size(b->manifest.format) + 1, sizeof(*ranges));
        struct chunk_walk w;
        size_t n = 0;
        int r;

        if (!ranges)
                return -ENOMEM;
        for (size_t i = 0; i < b->manifest.n_images; i++) {
                uint64_t size;

                for (chunk_walk_begin(&w, &b->manifest.images[i], bundle_chunk_index(b, i, &size)); w.entry;
                     chunk_walk_next(&w)) {
                        uint32_t stored = chunk_stored(b, &w);

                        if (stored > 0 && !is_present(sinks ? sinks[i] : NULL, w.number)) {
                                if (n == 0 || offset - end > GAP_MAX)
                                        ranges[n++] = (struct source_range){ .offset = offset };
                                end = offset + stored;
                                ranges[n - 1].size = end - ranges[n - 1].offset;
                        }
                        offset += stored;
                }
        }
        r = source_want(b->source, ranges, n);
        free(ranges);
        return r;
}

static int extract_images(struct bundle *b, struct chunk_sink *const *sinks, struct progress *progress, struct error *e)
{
        struct extraction x = { .b = b, .progress = progress };
        struct crew *crew = NULL;
        int r = extraction_begin(&x);

        for (size_t i = 0; sinks && i < b->manifest.n_images; i++)
                x.done += present_bytes(b, i, sinks[i]);
        if (progress) {
                progress->transfer.since = now_realtime();
                progress->transfer.before = x.done;
        }
        if (r >= 0)
                r = announce(b, sinks);
        if (r >= 0)
                r = crew_new(&extract_ops, &x, x.threads, x.n_parts, &crew);
        for (size_t i = 0; r >= 0 && i < b->manifest.n_images; i++)
                r = extract_image(&x, crew, i, sinks ? sinks[i] : NULL, e);
        if (r >= 0)
                r = crew_finish(crew, e);
        /* Before the threads go: with a thread the kernel may drop what it has handed in. */
        for (unsigned i = 0; r >= 0 && i < x.threads; i++)
                r = fail_write(io_queue_finish(x.unpackers[i].queue), e);
        crew_free(crew);
        extraction_end(&x);
        return r;
}

int bundle_extract(struct bundle *b, struct chunk_sink *const *sinks, struct progress *progress, struct error *e)
{
        uint8_t trailing;
        int r;

        r = bundle_read_index(b, e);
        b->chunks = b->source->done;
        if (r >= 0)
                r = extract_images(b, sinks, progress, e);
        if (r < 0)
                return r;
        /* A source that does not know its size (a pipe) shows only here that the header lied. */
        if (b->source->done != b->header.total)
                return bundle_damaged(e, "header gives another length than its parts have");
        r = source_read(b->source, &trailing, 1, e);
        if (r >= 0)
                return bundle_damaged(e, "end is followed by trailing data");
        return r == -ENODATA ? 0 : r;
}

bool bundle_can_go_back(const struct bundle *b)
{
        return source_can_go_back(b->source);
}

int bundle_extract_rest(struct bundle *b, struct chunk_sink *const *sinks, struct progress *progress, struct error *e)
{
        int r = source_go_back(b->source, b->chunks, e);

        return r < 0 ? r : extract_images(b, sinks, progress, e);
}

const struct extract_times *bundle_extract_times(const struct bundle *b)
{
        return &b->times;
}
