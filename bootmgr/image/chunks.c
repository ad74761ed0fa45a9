/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Chunks: independent zstd frames, each with the SHA-256 of its content and the CRC of its stored bytes.
 * The CRC finds a changed byte that would decode to the same content: nothing in a bundle may change. */
#include <zstd.h>

#include "base/clock.h"
#include "base/sha256.h"
#include "image/format.h"

#define WINDOW_MIN 10 /* of zstd, as a power of two */

size_t chunk_stored_max(uint32_t chunk_size)
{
        return ZSTD_compressBound(chunk_size);
}

struct chunk_codec *chunk_codec_new(uint32_t chunk_size, uint32_t entry_size)
{
        struct chunk_codec *c = calloc(1, sizeof(*c));

        if (!c)
                return NULL;
        c->chunk_size = chunk_size;
        c->entry_size = entry_size;
        c->pack = ZSTD_createCCtx();
        c->unpack = ZSTD_createDCtx();
        if (!c->pack || !c->unpack)
                return chunk_codec_free(c);
        return c;
}

struct chunk_codec *chunk_codec_free(struct chunk_codec *c)
{
        if (!c)
                return NULL;
        ZSTD_freeCCtx(c->pack);
        ZSTD_freeDCtx(c->unpack);
        free(c);
        return NULL;
}

static int hash_zeros(uint32_t size, uint8_t digest[static DIGEST_SIZE])
{
        static const uint8_t zeros[4096];
        _cleanup_sha256_ struct sha256 *h = sha256_new();
        int r = h ? 0 : -ENOMEM;

        for (uint32_t n; r >= 0 && size > 0; size -= n) {
                n = MIN(size, (uint32_t)sizeof(zeros));
                r = sha256_update(h, zeros, n);
        }
        return r < 0 ? r : sha256_final(h, digest);
}

static int zero_digest(struct chunk_codec *c, uint32_t size, uint8_t digest[static DIGEST_SIZE])
{
        if (c->zero_size != size) {
                int r = hash_zeros(size, c->zero_digest);

                if (r < 0)
                        return r;
                c->zero_size = size;
        }
        memcpy(digest, c->zero_digest, DIGEST_SIZE);
        return 0;
}

int chunk_zero_entry(struct chunk_codec *c, uint32_t size, uint8_t *entry)
{
        memset(entry, 0, c->entry_size);
        if (c->entry_size == INDEX_ENTRY)
                return zero_digest(c, size, entry + I_DIGEST);
        put_le32(entry + I_LENGTH, size); /* which says everything */
        return 0;
}

int chunk_pack(struct chunk_codec *c, const void *data, uint32_t size, int level, uint8_t *entry, uint8_t *stored)
{
        size_t n;
        int r;

        if (is_all_zero(data, size))
                return chunk_zero_entry(c, size, entry);
        r = sha256_data(data, size, entry + I_DIGEST);
        if (r < 0)
                return r;
        ZSTD_CCtx_setParameter(c->pack, ZSTD_c_compressionLevel, level);
        n = ZSTD_compress2(c->pack, stored, chunk_stored_max(c->chunk_size), data, size);
        if (ZSTD_isError(n))
                return -EIO;
        put_le32(entry + I_STORED, (uint32_t)n);
        put_le32(entry + I_CRC, crc32c(0, stored, n));
        if (c->entry_size != INDEX_ENTRY)
                put_le32(entry + I_LENGTH, size);
        return 0;
}

static int decode(struct chunk_codec *c, const uint8_t *entry, uint32_t size, const uint8_t *stored, uint8_t *content)
{
        uint32_t n = get_le32(entry + I_STORED);
        size_t found;

        if (n > chunk_stored_max(c->chunk_size) || crc32c(0, stored, n) != get_le32(entry + I_CRC))
                return -EBADMSG;
        found = ZSTD_decompressDCtx(c->unpack, content, size, stored, n);
        return ZSTD_isError(found) || found != size ? -EBADMSG : 0;
}

static int check_content(struct chunk_codec *c, const uint8_t *entry, uint32_t size, const uint8_t *content, uint64_t start,
                         int r)
{
        uint64_t decoded = now_monotonic();

        if (r >= 0 && !chunk_matches(entry, content, size))
                r = -EBADMSG;
        c->decode += decoded - start;
        c->check += now_monotonic() - decoded;
        return r;
}

ssize_t chunk_pack_patch(struct chunk_codec *c, const void *data, uint32_t size, const void *prefix, size_t prefix_size,
                         int level, uint8_t *stored, size_t room)
{
        int window = WINDOW_MIN;
        size_t n;

        while ((UINT64_C(1) << window) < prefix_size + size)
                window++;
        ZSTD_CCtx_setParameter(c->pack, ZSTD_c_compressionLevel, level);
        ZSTD_CCtx_setParameter(c->pack, ZSTD_c_windowLog, window);
        n = ZSTD_CCtx_refPrefix(c->pack, prefix, prefix_size); /* for one frame */
        if (!ZSTD_isError(n))
                n = ZSTD_compress2(c->pack, stored, room, data, size);
        return ZSTD_isError(n) ? -EIO : (ssize_t)n;
}

/* Of zeros the digest is that of zeros; where each chunk has a length of its own there is none (index.c). */
static int check_zeros(struct chunk_codec *c, const uint8_t *entry, uint32_t size)
{
        uint8_t digest[DIGEST_SIZE];
        int r = c->entry_size == INDEX_ENTRY ? zero_digest(c, size, digest) : 0;

        if (r < 0 || c->entry_size != INDEX_ENTRY)
                return r;
        return memcmp(digest, entry + I_DIGEST, DIGEST_SIZE) == 0 ? 0 : -EBADMSG;
}

int chunk_unpack(struct chunk_codec *c, const uint8_t *entry, uint32_t size, const uint8_t *stored, uint8_t *content)
{
        uint64_t start = now_monotonic();

        if (entry_is_zeros(entry))
                return check_zeros(c, entry, size);
        return check_content(c, entry, size, content, start, decode(c, entry, size, stored, content));
}

int chunk_decode(struct chunk_codec *c, const uint8_t *entry, uint32_t size, const uint8_t *stored, uint8_t *content)
{
        uint64_t start = now_monotonic();
        int r = entry_is_zeros(entry) ? check_zeros(c, entry, size) : decode(c, entry, size, stored, content);

        c->decode += now_monotonic() - start;
        return r;
}

int chunk_decode_patch(struct chunk_codec *c, uint32_t size, const void *prefix, size_t prefix_size, const uint8_t *stored,
                       size_t n, uint8_t *content)
{
        uint64_t start = now_monotonic();
        size_t found = ZSTD_DCtx_refPrefix(c->unpack, prefix, prefix_size); /* for one frame */

        if (!ZSTD_isError(found))
                found = ZSTD_decompressDCtx(c->unpack, content, size, stored, n);
        c->decode += now_monotonic() - start;
        return ZSTD_isError(found) || found != size ? -EBADMSG : 0;
}

uint64_t chunks_match(struct chunk_walk w, uint64_t n, const uint8_t *content)
{
        struct sha256_job jobs[CHUNKS_AT_ONCE];
        struct chunk_walk first = w;
        uint64_t found = 0;
        size_t hashed = 0;

        for (uint64_t i = 0; i < n; i++, chunk_walk_next(&w)) {
                const uint8_t *data = content + (w.offset - first.offset);

                if (!entry_is_zeros(w.entry))
                        jobs[hashed++] = (struct sha256_job){ .data = data, .size = w.size };
                else if (is_all_zero(data, w.size))
                        found |= UINT64_C(1) << i;
        }
        if (sha256_each(jobs, hashed) < 0)
                return 0;
        hashed = 0;
        w = first;
        for (uint64_t i = 0; i < n; i++, chunk_walk_next(&w))
                if (!entry_is_zeros(w.entry) && memcmp(jobs[hashed++].digest, w.entry + I_DIGEST, DIGEST_SIZE) == 0)
                        found |= UINT64_C(1) << i;
        return found;
}

bool chunk_matches(const uint8_t *entry, const uint8_t *data, uint32_t size)
{
        uint8_t digest[DIGEST_SIZE];

        if (entry_is_zeros(entry))
                return is_all_zero(data, size);
        return sha256_data(data, size, digest) >= 0 && memcmp(digest, entry + I_DIGEST, DIGEST_SIZE) == 0;
}
