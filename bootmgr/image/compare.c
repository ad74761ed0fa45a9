/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Making a delta: both bundles are unpacked, and each chunk of the newer one is looked for in the root of the older one: as
 * it is, or as something to be near to. By as many threads as there are processors, and written in the order of the index:
 * the same file wherever it is made. */
#include <fcntl.h>
#include <sys/mman.h>
#include <zstd.h>

#include "base/crew.h"
#include "base/io.h"
#include "base/sha256.h"
#include "image/format.h"
#include "image/hash_tree.h"
#include "image/places.h"
#include "image/similar.h"
#include "image/source.h"
#include "slot/kinds.h"

#define THREADS_MAX 16
#define SLOTS       2       /* chunks for each thread, as in create.c */
#define LEVEL       19      /* it is made once and fetched often */
#define LEVEL_TRY   9       /* for choosing what to refer to */
#define AROUND      KIB(16) /* bytes of the base on either side; docs/chunking.md */
#define NOWHERE     UINT64_MAX

/* An image in an unnamed file, and in memory as the kernel thinks best. */
struct unpacked {
        struct chunk_sink sink;
        int fd;
        const uint8_t *data; /* NULL: it is not unpacked */
        uint64_t size;
};

/* A chunk on its way through a thread. */
struct job {
        struct chunk_walk w;
        uint64_t expected; /* in the base: behind what the chunk before it is like */
        struct delta_record record;
        bool found; /* `record` says all */
        uint8_t *stored;
};

struct comparison {
        const struct delta_spec *spec;
        const char *path;
        struct progress *progress;
        struct bundle *from, *bundle;
        struct unpacked base, images[BUNDLE_MAX_IMAGES];
        struct places *places; /* of the base's chunks */
        struct similar *similar;
        struct buf table;
        int frames; /* unnamed file */
        uint64_t frames_size, done, all, expected;

        unsigned threads, n_jobs;
        struct job *jobs;
        struct chunk_codec **codecs;
        uint8_t **tried; /* of each thread: a frame that may be longer than the one in its job */
        size_t stored_max;
};

/* --- unpacking */

static int write_unpacked(struct chunk_sink *sink, uint64_t offset, void *data, size_t size, struct io_queue *queue,
                          struct error *e)
{
        struct unpacked *u = (struct unpacked *)sink;
        int r = data ? io_pwrite(u->fd, data, size, offset) : 0; /* it was made with its length: zeros are there */

        return r < 0 ? fail_errno(e, r, "cannot unpack a bundle") : 0;
}

static int unpack_begin(const struct comparison *c, struct unpacked *u, const struct bundle_image *image)
{
        void *data;
        int r;

        u->sink.write = write_unpacked;
        u->size = image->size;
        u->fd = open_unnamed_beside(c->path);
        r = u->fd < 0 ? u->fd : io_truncate(u->fd, u->size);
        if (r < 0)
                return r;
        data = mmap(NULL, u->size, PROT_READ, MAP_SHARED, u->fd, 0);
        if (data == MAP_FAILED)
                return -errno;
        u->data = data;
        return 0;
}

static void unpack_end(struct unpacked *u)
{
        if (u->data)
                munmap((void *)u->data, u->size);
        fd_close(u->fd);
}

/* Who installs judges the signatures. */
static int open_full(const struct comparison *c, const char *where, struct bundle **ret, struct error *e)
{
        struct trust nobody = { .threshold = 1 };
        int r = bundle_open_from(where, c->spec->config, &nobody, ret, e);

        if (r < 0)
                return r;
        if (bundle_delta(*ret)) {
                fail(e, -EINVAL, &kind_usage, "%s is a delta", where);
                return fail_hint(e, "give the full bundle");
        }
        return bundle_read_index(*ret, e);
}

static size_t root_number(const struct manifest *m)
{
        size_t i = 0;

        while (i < m->n_images && !streq(m->images[i].name, "root"))
                i++;
        return i;
}

static int find_places(struct comparison *c, size_t root)
{
        _cleanup_close_ int fd = open_unnamed_beside(c->path);
        int r = fd < 0 ? fd : bundle_copy_index(c->from, root, fd);

        return r < 0 ? r : places_read(&c->from->manifest.images[root], fd, &c->places);
}

static int unpack_base(struct comparison *c, struct error *e)
{
        struct chunk_sink *sinks[BUNDLE_MAX_IMAGES] = {};
        size_t root;
        int r = open_full(c, c->spec->from, &c->from, e);

        if (r < 0)
                return r;
        root = root_number(&c->from->manifest);
        if (root == c->from->manifest.n_images)
                return fail(e, -EINVAL, &kind_usage, "%s has no root image", c->spec->from);
        sinks[root] = &c->base.sink;
        r = unpack_begin(c, &c->base, &c->from->manifest.images[root]);
        if (r >= 0)
                r = bundle_extract(c->from, sinks, c->progress, e);
        if (r >= 0)
                r = find_places(c, root);
        return r < 0 ? r : similar_new(c->base.data, c->base.size, &c->similar);
}

static int unpack_bundle(struct comparison *c, struct error *e)
{
        struct chunk_sink *sinks[BUNDLE_MAX_IMAGES] = {};
        int r = open_full(c, c->spec->bundle, &c->bundle, e);

        if (r < 0)
                return r;
        if (!streq(c->bundle->manifest.compatible, c->from->manifest.compatible))
                return fail(e, -EINVAL, &kind_usage, "%s is for '%s', %s for '%s'", c->spec->from,
                            c->from->manifest.compatible, c->spec->bundle, c->bundle->manifest.compatible);
        for (size_t i = 0; i < c->bundle->manifest.n_images && r >= 0; i++) {
                sinks[i] = &c->images[i].sink;
                r = unpack_begin(c, &c->images[i], &c->bundle->manifest.images[i]);
                c->all += c->bundle->manifest.images[i].size;
        }
        return r < 0 ? r : bundle_extract(c->bundle, sinks, c->progress, e);
}

/* --- a chunk, in any thread */

static const uint8_t *content_of(const struct comparison *c, const struct job *j)
{
        return c->images[j->w.image - c->bundle->manifest.images].data + j->w.offset;
}

/* What lies around there in the base, for a chunk that may begin at `offset`. */
static struct delta_record around(const struct comparison *c, const struct job *j, int64_t offset)
{
        uint64_t size = MIN(j->w.size + 2 * AROUND, DELTA_BASE_MAX);
        uint64_t last = c->base.size - MIN(size, c->base.size); /* that is possible */

        return (struct delta_record){ .offset = MIN((uint64_t)MAX(offset - (int64_t)AROUND, INT64_C(0)), last),
                                      .length = (uint32_t)MIN(size, c->base.size) };
}

static int pack(const struct comparison *c, const struct job *j, unsigned worker, int level, struct delta_record *r,
                uint8_t *stored)
{
        ssize_t n = chunk_pack_patch(c->codecs[worker], content_of(c, j), j->w.size, c->base.data + r->offset, r->length,
                                     level, stored, c->stored_max);

        r->stored = n < 0 ? 0 : (uint32_t)n;
        return n < 0 ? (int)n : 0;
}

static int pack_chunk(void *userdata, unsigned worker, unsigned slot, struct error *e)
{
        struct comparison *c = userdata;
        struct job *j = &c->jobs[slot];
        struct delta_record tried[3] = {}; /* the first one without anything to refer to */
        uint8_t digest[DIGEST_SIZE];
        size_t n = 1, best = 0;
        int64_t offset;
        int r = 0;

        if (j->found)
                return 0;
        if (similar_find(c->similar, content_of(c, j), j->w.size, &offset))
                tried[n++] = around(c, j, offset);
        if (streq(j->w.image->name, "root"))
                tried[n++] = around(c, j, (int64_t)j->expected);
        for (size_t i = 0; i < n && r >= 0; i++) {
                r = pack(c, j, worker, LEVEL_TRY, &tried[i], c->tried[worker]);
                best = tried[i].stored < tried[best].stored ? i : best;
        }
        if (r >= 0)
                r = pack(c, j, worker, LEVEL, &tried[best], j->stored);
        if (r < 0)
                return r;
        j->record = tried[best];
        j->record.crc = crc32c(0, j->stored, j->record.stored);
        if (j->record.length == 0)
                return 0;
        r = sha256_data(c->base.data + j->record.offset, j->record.length, digest);
        memcpy(j->record.digest, digest, R_DIGEST_SIZE);
        return r;
}

static int keep_chunk(void *userdata, unsigned slot, struct error *e)
{
        struct comparison *c = userdata;
        const struct job *j = &c->jobs[slot];
        uint8_t bytes[DELTA_RECORD];
        int r = j->record.stored ? io_pwrite(c->frames, j->stored, j->record.stored, c->frames_size) : 0;

        if (r < 0)
                return fail_errno(e, r, "cannot keep the delta of a chunk");
        c->frames_size += j->record.stored;
        delta_record_encode(&j->record, bytes);
        buf_append(&c->table, bytes, sizeof(bytes));
        c->done += j->w.size;
        return progress_report(c->progress, c->done, c->all, j->w.image->name);
}

static const struct crew_ops compare_ops = { .work = pack_chunk, .done = keep_chunk };

/* --- all of them */

static bool lies_at(const struct comparison *c, const struct job *j, uint64_t offset)
{
        return offset <= c->base.size && j->w.size <= c->base.size - offset &&
               memcmp(c->base.data + offset, content_of(c, j), j->w.size) == 0;
}

/* Where the base has it as it is. In its place it is quickest: then it is often in the target, too. */
static bool find_copy(const struct comparison *c, const struct job *j, uint64_t *ret)
{
        *ret = j->w.offset;
        if (streq(j->w.image->name, "root") && lies_at(c, j, *ret))
                return true;
        *ret = c->places ? places_find(c->places, j->w.entry + I_DIGEST, j->w.size) : NOWHERE;
        return *ret != NOWHERE && lies_at(c, j, *ret);
}

/* A kernel or initrd of the base lies on the ESP. */
static bool is_on_esp(const struct comparison *c, const struct bundle_image *image)
{
        const struct bundle_image *old = manifest_image(&c->from->manifest, image->name);

        return image_is_boot_file(image) && old && memcmp(old->digest, image->digest, DIGEST_SIZE) == 0;
}

static void begin_job(struct comparison *c, struct job *j, const struct chunk_walk *w)
{
        uint64_t offset;

        j->w = *w;
        j->expected = c->expected;
        j->record = (struct delta_record){};
        j->found = entry_is_zeros(w->entry) || is_on_esp(c, w->image);
        if (!j->found && find_copy(c, j, &offset)) {
                j->found = true;
                j->record = (struct delta_record){ .offset = offset, .length = w->size };
                c->expected = offset;
        }
        c->expected += w->size;
}

static int compare_image(struct comparison *c, struct crew *crew, size_t number, struct error *e)
{
        struct chunk_walk w;
        uint64_t size;
        unsigned slot;
        int r = 0;

        c->expected = 0;
        for (chunk_walk_begin(&w, &c->bundle->manifest.images[number], bundle_chunk_index(c->bundle, number, &size));
             r >= 0 && w.entry; chunk_walk_next(&w)) {
                r = crew_next(crew, &slot, e);
                if (r < 0)
                        break;
                begin_job(c, &c->jobs[slot], &w);
                r = crew_hand(crew, e);
        }
        return r;
}

static int jobs_begin(struct comparison *c)
{
        uint32_t chunk_size = 0;

        for (size_t i = 0; i < c->bundle->manifest.n_images; i++)
                chunk_size = MAX(chunk_size, c->bundle->manifest.images[i].chunk_size);
        c->stored_max = chunk_stored_max(chunk_size);
        c->threads = io_is_system() ? crew_processors(THREADS_MAX) : 0;
        c->n_jobs = c->threads ? SLOTS * c->threads : 1;
        c->jobs = calloc(c->n_jobs, sizeof(*c->jobs));
        c->codecs = calloc(MAX(c->threads, 1U), sizeof(*c->codecs));
        c->tried = calloc(MAX(c->threads, 1U), sizeof(*c->tried));
        if (!c->jobs || !c->codecs || !c->tried)
                return -ENOMEM;
        for (unsigned i = 0; i < c->n_jobs; i++)
                if (!(c->jobs[i].stored = malloc(c->stored_max)))
                        return -ENOMEM;
        for (unsigned i = 0; i < MAX(c->threads, 1U); i++)
                if (!(c->codecs[i] = chunk_codec_new(chunk_size, INDEX_ENTRY_CUT)) || !(c->tried[i] = malloc(c->stored_max)))
                        return -ENOMEM;
        return 0;
}

static int compare(struct comparison *c, struct error *e)
{
        _cleanup_crew_ struct crew *crew = NULL;
        int r = jobs_begin(c);

        if (r >= 0)
                r = crew_new(&compare_ops, c, c->threads, c->n_jobs, &crew);
        for (size_t i = 0; r >= 0 && i < c->bundle->manifest.n_images; i++)
                r = compare_image(c, crew, i, e);
        if (r >= 0)
                r = crew_finish(crew, e);
        return r >= 0 && c->table.failed ? -ENOMEM : r;
}

/* --- writing */

/* Everything before the frames. */
static int make_front(struct comparison *c, struct buf *ret)
{
        const struct bundle *b = c->bundle;
        size_t room = ZSTD_compressBound(c->table.size), n;
        _cleanup_free_ uint8_t *table = malloc(room);
        struct header h = b->header;
        struct bundle_delta head = { .size = c->base.size, .url = (char *)c->spec->url };
        uint8_t header[HEADER_SIZE];
        int r;

        n = table ? ZSTD_compress(table, room, c->table.data, c->table.size, LEVEL) : 0;
        if (!table || ZSTD_isError(n))
                return -ENOMEM;
        strcpy(head.version, c->from->manifest.version);
        memcpy(head.digest, c->from->manifest.digest, DIGEST_SIZE);
        h.major = BUNDLE_DELTA;
        h.total = HEADER_SIZE + (uint64_t)h.manifest + h.signatures + DELTA_HEAD + strlen(head.url ?: "") + h.index + n +
                  c->frames_size;
        header_encode(&h, header);
        buf_append(ret, header, sizeof(header));
        buf_append(ret, b->manifest_bytes, h.manifest);
        buf_append(ret, b->signature_block, h.signatures);
        r = delta_head_encode(&head, (uint32_t)n, crc32c(0, table, n), ret);
        buf_append(ret, b->index, h.index);
        buf_append(ret, table, n);
        return r < 0 || ret->failed ? -ENOMEM : 0;
}

static int write_delta(struct comparison *c, struct error *e)
{
        _cleanup_buf_ struct buf front = {};
        _cleanup_free_ char *name = NULL;
        _cleanup_close_ int fd = -1;
        int r = make_front(c, &front);

        if (r < 0)
                return r;
        fd = open_beside(c->path, &name, e);
        if (fd < 0)
                return fd;
        r = io_pwrite(fd, front.data, front.size, 0);
        if (r >= 0)
                r = io_copy(c->frames, 0, fd, front.size, c->frames_size);
        if (r >= 0)
                r = io_fsync(fd);
        return finish_beside(r, name, c->path, e);
}

static void comparison_end(struct comparison *c)
{
        for (unsigned i = 0; c->jobs && i < c->n_jobs; i++)
                free(c->jobs[i].stored);
        for (unsigned i = 0; i < MAX(c->threads, 1U); i++) {
                if (c->codecs)
                        chunk_codec_free(c->codecs[i]);
                if (c->tried)
                        free(c->tried[i]);
        }
        free(c->jobs);
        free(c->codecs);
        free(c->tried);
        for (size_t i = 0; i < BUNDLE_MAX_IMAGES; i++)
                unpack_end(&c->images[i]);
        unpack_end(&c->base);
        places_free(c->places);
        similar_free(c->similar);
        bundle_free(c->from);
        bundle_free(c->bundle);
        buf_done(&c->table);
        fd_close(c->frames);
}

int bundle_make_delta(const char *path, const struct delta_spec *spec, struct progress *progress, struct error *e)
{
        struct comparison c = { .spec = spec, .path = path, .progress = progress, .base.fd = -1, .frames = -1 };
        int r = refuse_existing(path, e);

        for (size_t i = 0; i < BUNDLE_MAX_IMAGES; i++)
                c.images[i].fd = -1;
        if (r >= 0 && spec->url && !delta_url_valid(spec->url))
                r = fail(e, -EINVAL, &kind_usage, "%s is not a URL that machines fetch: http:// or https://, up to %d bytes",
                         spec->url, DELTA_URL_MAX);
        if (r >= 0)
                r = unpack_base(&c, e);
        if (r >= 0)
                r = unpack_bundle(&c, e);
        if (r >= 0)
                r = c.frames = open_unnamed_beside(path);
        if (r >= 0)
                r = compare(&c, e);
        if (r >= 0)
                r = write_delta(&c, e);
        comparison_end(&c);
        return r < 0 ? fail_errno(e, r, "cannot make %s", path) : 0;
}
