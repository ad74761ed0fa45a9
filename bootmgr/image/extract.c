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
#include "base/sha256.h"
#include "image/format.h"
#include "image/source.h"
#include "slot/kinds.h"

#define THREADS_MAX 8
#define SLOTS       2       /* buffers of stored bytes for each thread: one that it works on, one that is filled */
#define MEMORY_MAX  MIB(24) /* of all buffers; with large chunks there are fewer threads */
#define CHUNKS_MIN  32      /* fewer are not worth a thread */
#define ZEROS_MAX   MIB(64) /* in one call of a sink, so that the progress moves */

/* One stored chunk, or a run of chunks of zeros. */
struct part {
        const struct bundle_image *image;
        struct chunk_sink *sink;
        const uint8_t *entry; /* of its first chunk */
        uint64_t number, n_chunks;
        uint64_t size; /* of the content */
        uint8_t *stored;
};

struct extraction {
        struct bundle *b;
        struct progress *progress;
        uint64_t done, all;
        uint32_t chunk_size; /* the largest of all images */
        unsigned threads, n_parts;
        struct part *parts;
        struct chunk_codec **codecs;
        uint64_t *write_time;
};

static int bad_chunk(const struct bundle_image *image, uint64_t number, struct error *e)
{
        fail(e, -EBADMSG, &kind_content, "chunk %llu of image %s (offset %llu) does not match its digest",
             (unsigned long long)number, image->name, (unsigned long long)(number * image->chunk_size));
        return fail_hint(e, "fetch or copy the bundle again");
}

int bundle_read_index(struct bundle *b, struct error *e)
{
        int r;

        if (b->index)
                return 0;
        b->index = malloc(MAX(b->header.index, UINT64_C(1)));
        if (!b->index)
                return -ENOMEM;
        r = bundle_read_part(b, b->index, b->header.index, "index is missing", e);
        for (size_t i = 0; r >= 0 && i < b->manifest.n_images; i++) {
                const struct bundle_image *image = &b->manifest.images[i];
                uint8_t digest[DIGEST_SIZE];
                uint64_t size;
                const uint8_t *index = bundle_chunk_index(b, i, &size);

                r = sha256_data(index, size, digest);
                if (r >= 0 && memcmp(digest, image->index_digest, DIGEST_SIZE) != 0)
                        r = fail(e, -EBADMSG, &kind_bundle_invalid,
                                 "the bundle's chunk index of image %s does not match the manifest", image->name);
        }
        return r;
}

static int unpack_part(void *userdata, unsigned worker, unsigned slot, struct error *e)
{
        struct extraction *x = userdata;
        struct part *p = &x->parts[slot];
        const void *data = NULL;
        uint64_t start;
        int r = 0;

        for (uint64_t i = 0; r >= 0 && i < p->n_chunks; i++) {
                r = chunk_unpack(x->codecs[worker], p->entry + i * INDEX_ENTRY, chunk_length(p->image, p->number + i),
                                 p->stored, &data);
                if (r == -EBADMSG)
                        bad_chunk(p->image, p->number + i, e);
        }
        if (r < 0 || !p->sink)
                return r;
        start = now_monotonic();
        r = p->sink->write(p->sink, p->number * p->image->chunk_size, data, p->size, e);
        x->write_time[worker] += now_monotonic() - start;
        return r;
}

static int part_done(void *userdata, unsigned slot, struct error *e)
{
        struct extraction *x = userdata;
        const struct part *p = &x->parts[slot];

        x->done += p->size;
        if (x->progress) {
                x->progress->transfer.total = x->all;
                x->progress->transfer.fetched += get_le32(p->entry + I_STORED);
        }
        return progress_report(x->progress, x->done, x->all, NULL);
}

static const struct crew_ops extract_ops = { .work = unpack_part, .done = part_done };

static bool is_present(const struct chunk_sink *sink, uint64_t number)
{
        return sink && sink->present && sink->present[number];
}

/* Those chunks from `number` on that need not come. */
static int skip_present(struct extraction *x, const struct part *p, uint64_t *number, struct error *e)
{
        const struct bundle_image *image = p->image;
        uint64_t stored = 0;

        for (; *number < image->n_chunks && is_present(p->sink, *number); (*number)++)
                stored += get_le32(p->entry + *number * INDEX_ENTRY + I_STORED);
        return stored ? source_skip(x->b->source, stored, e) : 0;
}

/* The chunk `number`, or the zeros that begin with it. */
static int read_part(struct extraction *x, struct part *p, struct error *e)
{
        const struct bundle_image *image = p->image;
        uint32_t stored = get_le32(p->entry + I_STORED);
        uint64_t start = now_monotonic();
        int r;

        p->n_chunks = 1;
        p->size = chunk_length(image, p->number);
        while (stored == 0 && p->number + p->n_chunks < image->n_chunks && p->size < ZEROS_MAX &&
               get_le32(p->entry + p->n_chunks * INDEX_ENTRY + I_STORED) == 0 &&
               !is_present(p->sink, p->number + p->n_chunks))
                p->size += chunk_length(image, p->number + p->n_chunks++);
        if (stored == 0)
                return 0;
        if (stored > chunk_stored_max(image->chunk_size))
                return bad_chunk(image, p->number, e);
        r = bundle_read_part(x->b, p->stored, stored, "chunks are cut off", e);
        x->b->times.fetch += now_monotonic() - start;
        return r;
}

static int extract_image(struct extraction *x, struct crew *crew, size_t number, struct chunk_sink *sink, struct error *e)
{
        const struct bundle_image *image = &x->b->manifest.images[number];
        uint64_t size, next = 0;
        const uint8_t *index = bundle_chunk_index(x->b, number, &size);

        for (;;) {
                unsigned slot;
                struct part *p;
                int r = skip_present(x, &(struct part){ .image = image, .sink = sink, .entry = index }, &next, e);

                if (r < 0 || next >= image->n_chunks)
                        return r;
                r = crew_next(crew, &slot, e);
                if (r < 0)
                        return r;
                p = &x->parts[slot];
                p->image = image;
                p->sink = sink;
                p->number = next;
                p->entry = index + next * INDEX_ENTRY;
                r = read_part(x, p, e);
                if (r < 0)
                        return r;
                next += p->n_chunks;
                r = crew_hand(crew, e);
                if (r < 0)
                        return r;
        }
}

/* Nothing is gained by threads where there is little to do, and a test that records writes wants them in order. */
static unsigned choose_threads(const struct extraction *x)
{
        uint64_t slot = chunk_stored_max(x->chunk_size), each = SLOTS * slot + x->chunk_size;
        uint64_t fit = MEMORY_MAX / each;

        if (!io_is_system() || x->b->header.index / INDEX_ENTRY < CHUNKS_MIN)
                return 0;
        return MIN(2 * crew_processors(THREADS_MAX), (unsigned)MIN(fit, (uint64_t)THREADS_MAX));
}

static int extraction_begin(struct extraction *x)
{
        for (size_t i = 0; i < x->b->manifest.n_images; i++) {
                x->all += x->b->manifest.images[i].size;
                x->chunk_size = MAX(x->chunk_size, x->b->manifest.images[i].chunk_size);
        }
        x->threads = choose_threads(x);
        x->n_parts = x->threads ? SLOTS * x->threads : 1;
        x->parts = calloc(x->n_parts, sizeof(*x->parts));
        x->codecs = calloc(MAX(x->threads, 1U), sizeof(*x->codecs));
        x->write_time = calloc(MAX(x->threads, 1U), sizeof(*x->write_time));
        if (!x->parts || !x->codecs || !x->write_time)
                return -ENOMEM;
        for (unsigned i = 0; i < x->n_parts; i++)
                if (!(x->parts[i].stored = malloc(chunk_stored_max(x->chunk_size))))
                        return -ENOMEM;
        for (unsigned i = 0; i < MAX(x->threads, 1U); i++)
                if (!(x->codecs[i] = chunk_codec_new(x->chunk_size)))
                        return -ENOMEM;
        return 0;
}

static void extraction_end(struct extraction *x)
{
        struct extract_times *t = &x->b->times;

        t->threads = x->threads;
        for (unsigned i = 0; x->codecs && x->write_time && i < MAX(x->threads, 1U); i++) {
                if (!x->codecs[i])
                        continue;
                t->decode += x->codecs[i]->decode;
                t->check += x->codecs[i]->check;
                t->write += x->write_time[i];
                chunk_codec_free(x->codecs[i]);
        }
        for (unsigned i = 0; x->parts && i < x->n_parts; i++)
                free(x->parts[i].stored);
        free(x->write_time);
        free(x->codecs);
        free(x->parts);
}

/* They count as done from the beginning. */
static uint64_t present_bytes(const struct bundle_image *image, const struct chunk_sink *sink)
{
        uint64_t sum = 0;

        for (uint64_t i = 0; i < image->n_chunks; i++)
                sum += is_present(sink, i) ? chunk_length(image, i) : 0;
        return sum;
}

/* Tells the source which stored bytes will be read, so that it fetches no others ahead. */
static int announce(struct bundle *b, struct chunk_sink *const *sinks)
{
        uint64_t offset = b->source->done;
        struct source_range *ranges = calloc(b->header.index / INDEX_ENTRY + 1, sizeof(*ranges));
        size_t n = 0;
        int r;

        if (!ranges)
                return -ENOMEM;
        for (size_t i = 0; i < b->manifest.n_images; i++) {
                uint64_t size;
                const uint8_t *index = bundle_chunk_index(b, i, &size);

                for (uint64_t number = 0; number < b->manifest.images[i].n_chunks; number++) {
                        uint32_t stored = get_le32(index + number * INDEX_ENTRY + I_STORED);

                        if (stored > 0 && !is_present(sinks ? sinks[i] : NULL, number)) {
                                if (n == 0 || ranges[n - 1].offset + ranges[n - 1].size != offset)
                                        ranges[n++] = (struct source_range){ .offset = offset };
                                ranges[n - 1].size += stored;
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
                x.done += present_bytes(&b->manifest.images[i], sinks[i]);
        if (r >= 0)
                r = announce(b, sinks);
        if (r >= 0)
                r = crew_new(&extract_ops, &x, x.threads, x.n_parts, &crew);
        for (size_t i = 0; r >= 0 && i < b->manifest.n_images; i++)
                r = extract_image(&x, crew, i, sinks ? sinks[i] : NULL, e);
        if (r >= 0)
                r = crew_finish(crew, e);
        crew_free(crew);
        extraction_end(&x);
        return r;
}

int bundle_extract(struct bundle *b, struct chunk_sink *const *sinks, struct progress *progress, struct error *e)
{
        uint8_t trailing;
        int r;

        r = bundle_read_index(b, e);
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

const struct extract_times *bundle_extract_times(const struct bundle *b)
{
        return &b->times;
}
