/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A whole bundle, read forwards: header, manifest, signatures, chunk index, chunks. What reaches a sink is what the index
 * says, within the image, in order. The header's reserved word says what is repaired and whether the source knows its size.
 */
#include "fuzz.h"

#include <zstd.h>

#include "base/sha256.h"
#include "image/format.h"
#include "image/source.h"

#define KEEP_CHECKSUMS 1
#define UNKNOWN_SIZE   2
#define CONTENT_MAX    MIB(32) /* more takes too long, not too much */

static ssize_t memory_read(struct source *s, void *data, size_t n, struct error *e)
{
        struct input *in = s->http;

        n = MIN(n, in->size);
        memcpy(data, in->data, n);
        in->data += n;
        in->size -= n;
        return (ssize_t)n;
}

static void memory_close(struct source *s) {}

static const struct source_ops memory_ops = { .read = memory_read, .close = memory_close };

static struct source *memory_source(struct input *in, uint64_t size)
{
        struct source *s = calloc(1, sizeof(*s));

        must(s);
        *s = (struct source){ .ops = &memory_ops, .where = strdup("memory"), .size = size, .fd = -1, .http = in };
        return s;
}

/* The digest of what a chunk holds, by zstd alone. */
static void repair_chunk(uint8_t *entry, const uint8_t *stored, size_t n, uint32_t size, uint8_t *room)
{
        if (n > 0 && ZSTD_isError(ZSTD_decompress(room, size, stored, n)))
                return;
        if (n == 0)
                memset(room, 0, size);
        must(sha256_data(room, size, entry + I_DIGEST) >= 0);
}

static void repair_image(const struct bundle_image *image, uint8_t *index, const uint8_t **chunks, const uint8_t *end)
{
        _cleanup_free_ uint8_t *room = malloc(image->chunk_size);
        bool cut = image->entry_size == INDEX_ENTRY_CUT;
        uint64_t offset = 0;

        must(room);
        for (uint64_t i = 0; i < image->n_chunks; i++) {
                uint8_t *entry = index + i * image->entry_size;
                size_t n = MIN((size_t)get_le32(entry + I_STORED), (size_t)(end - *chunks));
                uint64_t length = cut ? get_le32(entry + I_LENGTH) : MIN(image->size - offset, (uint64_t)image->chunk_size);

                put_le32(entry + I_CRC, n ? crc32c(0, *chunks, n) : 0);
                if (length <= image->chunk_size && (n > 0 || !cut))
                        repair_chunk(entry, *chunks, n, (uint32_t)length, room);
                *chunks += n;
                offset += length;
        }
}

/* The digest of an index stands in the manifest as 64 hexadecimal digits: as many as before. */
static void repair_digest(const struct bundle_image *image, const uint8_t *index, char *manifest, size_t size)
{
        char before[2 * DIGEST_SIZE + 1], now[2 * DIGEST_SIZE + 1];
        uint8_t digest[DIGEST_SIZE];
        char *at;

        hex_encode(image->index_digest, DIGEST_SIZE, before);
        must(sha256_data(index, image->n_chunks * image->entry_size, digest) >= 0);
        hex_encode(digest, DIGEST_SIZE, now);
        at = memmem(manifest, size, before, 2 * DIGEST_SIZE);
        if (at)
                memcpy(at, now, 2 * DIGEST_SIZE);
}

static void repair(uint8_t *bytes, size_t size)
{
        uint8_t *manifest = bytes + HEADER_SIZE, *signatures, *index;
        const uint8_t *chunks, *end = bytes + size;
        uint64_t content = 0, n = 0;
        struct manifest m;
        struct header h;

        if (size < HEADER_SIZE || get_le32(bytes + H_RESERVED) & KEEP_CHECKSUMS)
                return;
        put_le64(bytes + H_TOTAL, size);
        put_le32(bytes + H_CRC, crc32c(0, bytes, H_CRC));
        if (header_decode(bytes, &h, NULL) < 0)
                return;
        signatures = manifest + h.manifest;
        index = signatures + h.signatures;
        chunks = index + h.index;
        if (h.signatures >= 4)
                put_le32(index - 4, crc32c(0, signatures, h.signatures - 4));
        if (manifest_parse((const char *)manifest, h.manifest, &m, NULL) < 0)
                return;
        for (size_t i = 0; i < m.n_images; i++) {
                content += m.images[i].size;
                n += m.images[i].n_chunks;
        }
        if (content > CONTENT_MAX || h.major != m.format || n * index_entry_size(h.major) != h.index)
                return;
        for (size_t i = 0; i < m.n_images; i++) {
                repair_image(&m.images[i], index, &chunks, end);
                repair_digest(&m.images[i], index, (char *)manifest, h.manifest);
                index += m.images[i].n_chunks * m.images[i].entry_size;
        }
}

struct check {
        struct chunk_sink sink;
        const struct bundle_image *image;
        const struct bundle *bundle;
        size_t number;
        uint64_t taken; /* bytes; from several threads */
};

/* Chunks that follow each other in the index, and nothing else. */
static int check_write(struct chunk_sink *sink, uint64_t offset, void *data, size_t size, struct error *e)
{
        struct check *c = (struct check *)sink;
        uint8_t digest[DIGEST_SIZE], *at = data;
        struct chunk_walk w;
        uint64_t index_size, end = offset + size;

        must(size > 0 && offset <= c->image->size && size <= c->image->size - offset);
        must(!data || (uintptr_t)data % SINK_BLOCK == offset % SINK_BLOCK);
        chunk_walk_begin(&w, c->image, bundle_chunk_index(c->bundle, c->number, &index_size));
        while (w.entry && w.offset < offset)
                chunk_walk_next(&w);
        for (; w.entry && w.offset < end; chunk_walk_next(&w)) {
                must(w.offset == offset && entry_is_zeros(w.entry) == !data);
                if (data) {
                        must(sha256_data(at, w.size, digest) >= 0 && memcmp(digest, w.entry + I_DIGEST, DIGEST_SIZE) == 0);
                        memset(at - offset % SINK_BLOCK, 'x', w.size + offset % SINK_BLOCK); /* it is the sink's */
                        at += w.size;
                }
                offset += w.size;
        }
        must(offset == end);
        __atomic_add_fetch(&c->taken, size, __ATOMIC_RELAXED);
        return 0;
}

static void extract(struct bundle *b)
{
        const struct manifest *m = bundle_manifest(b);
        struct chunk_sink *sinks[BUNDLE_MAX_IMAGES] = {};
        struct check checks[BUNDLE_MAX_IMAGES];
        uint64_t content = 0;
        int r;

        for (size_t i = 0; i < m->n_images; i++) {
                checks[i] = (struct check){ .sink.write = check_write, .image = &m->images[i], .bundle = b, .number = i };
                sinks[i] = &checks[i].sink;
                content += m->images[i].size;
        }
        if (content > CONTENT_MAX)
                return;
        r = bundle_extract(b, sinks, NULL, NULL);
        for (size_t i = 0; r >= 0 && i < m->n_images; i++)
                must(checks[i].taken == m->images[i].size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct trust trust = {};
        struct input whole = { data, size }, in;
        _cleanup_free_ uint8_t *bytes = (uint8_t *)take_bytes(&whole, size, false, NULL);
        _cleanup_bundle_ struct bundle *b = NULL;
        bool unknown = size >= HEADER_SIZE && get_le32(bytes + H_RESERVED) & UNKNOWN_SIZE;
        struct header h;

        repair(bytes, size);
        if (size >= HEADER_SIZE && header_decode(bytes, &h, NULL) >= 0) {
                uint8_t once[HEADER_SIZE], again[HEADER_SIZE];

                header_encode(&h, once);
                must(header_decode(once, &h, NULL) >= 0);
                header_encode(&h, again);
                must(memcmp(once, again, sizeof(once)) == 0);
        }
        in = (struct input){ bytes, size };
        if (bundle_open(memory_source(&in, unknown ? UINT64_MAX : size), &trust, &b, NULL) >= 0)
                extract(b);
        return 0;
}
