/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Chunks: independent zstd frames, each with the SHA-256 of its content and the CRC of its stored bytes.
 * The CRC finds a changed byte that would decode to the same content: nothing in a bundle may change. */
#include <zstd.h>

#include "base/clock.h"
#include "base/sha256.h"
#include "image/format.h"

size_t chunk_stored_max(uint32_t chunk_size)
{
        return ZSTD_compressBound(chunk_size);
}

struct chunk_codec *chunk_codec_new(uint32_t chunk_size)
{
        struct chunk_codec *c = calloc(1, sizeof(*c));

        if (!c)
                return NULL;
        c->chunk_size = chunk_size;
        c->pack = ZSTD_createCCtx();
        c->unpack = ZSTD_createDCtx();
        c->content = aligned_alloc(4096, chunk_size);
        if (!c->pack || !c->unpack || !c->content)
                return chunk_codec_free(c);
        return c;
}

struct chunk_codec *chunk_codec_free(struct chunk_codec *c)
{
        if (!c)
                return NULL;
        ZSTD_freeCCtx(c->pack);
        ZSTD_freeDCtx(c->unpack);
        free(c->content);
        free(c);
        return NULL;
}

static int zero_digest(struct chunk_codec *c, uint32_t size, uint8_t digest[static DIGEST_SIZE])
{
        if (c->zero_size != size) {
                int r;

                memset(c->content, 0, size);
                r = sha256_data(c->content, size, c->zero_digest);
                if (r < 0)
                        return r;
                c->zero_size = size;
        }
        memcpy(digest, c->zero_digest, DIGEST_SIZE);
        return 0;
}

int chunk_zero_entry(struct chunk_codec *c, uint32_t size, uint8_t entry[static INDEX_ENTRY])
{
        put_le32(entry + I_STORED, 0);
        put_le32(entry + I_CRC, 0);
        return zero_digest(c, size, entry + I_DIGEST);
}

int chunk_pack(struct chunk_codec *c, const void *data, uint32_t size, int level, uint8_t entry[static INDEX_ENTRY],
               uint8_t *stored)
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
        return 0;
}

static int decode(struct chunk_codec *c, const uint8_t *entry, uint32_t size, const uint8_t *stored)
{
        uint32_t n = get_le32(entry + I_STORED);
        size_t content;

        if (n > chunk_stored_max(c->chunk_size) || crc32c(0, stored, n) != get_le32(entry + I_CRC))
                return -EBADMSG;
        content = ZSTD_decompressDCtx(c->unpack, c->content, c->chunk_size, stored, n);
        return ZSTD_isError(content) || content != size ? -EBADMSG : 0;
}

int chunk_unpack(struct chunk_codec *c, const uint8_t entry[static INDEX_ENTRY], uint32_t size, const uint8_t *stored,
                 const void **data)
{
        uint64_t start = now_monotonic(), decoded = start;
        uint8_t digest[DIGEST_SIZE];
        int r;

        if (get_le32(entry + I_STORED) == 0) {
                r = zero_digest(c, size, digest);
                *data = NULL;
        } else {
                r = decode(c, entry, size, stored);
                decoded = now_monotonic();
                if (r >= 0)
                        r = sha256_data(c->content, size, digest);
                *data = c->content;
        }
        c->decode += decoded - start;
        c->check += now_monotonic() - decoded;
        if (r < 0)
                return r;
        return memcmp(digest, entry + I_DIGEST, DIGEST_SIZE) == 0 ? 0 : -EBADMSG;
}
