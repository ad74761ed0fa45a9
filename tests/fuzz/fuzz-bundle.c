/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A whole bundle, read forwards: header, manifest, signatures, chunk index, chunks. What reaches a sink is what the index
 * says, within the image, in order. The header's reserved word says what is repaired and whether the source knows its size.
 */
#include "bundle.h"

#include <zstd.h>

#define KEEP_CHECKSUMS 1
#define UNKNOWN_SIZE   2

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
