/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* SHA-256, over OpenSSL's EVP: what names and seals content (bundles, chunks, snapshots). Signatures
 * are image/sign's. bootmgr-recover does not link this file: the state record has a CRC instead.
 *
 *         _cleanup_sha256_ struct sha256 *h = sha256_new();
 *         if (!h)
 *                 return -ENOMEM;
 *         r = sha256_update(h, data, size);      as often as needed
 *         if (r >= 0)
 *                 r = sha256_final(h, digest);
 */
#pragma once

#include "base/util.h"

#define SHA256_SIZE 32

struct sha256;

struct sha256 *sha256_new(void);    /* NULL: no memory, or the library refuses SHA-256 */
void sha256_free(struct sha256 *h); /* NULL-safe */
static inline void sha256_freep(struct sha256 **h)
{
        sha256_free(*h);
}
#define _cleanup_sha256_ _cleanup_(sha256_freep)

/* 0 or -EIO, when the library fails. */
int sha256_update(struct sha256 *h, const void *data, size_t size) _warn_unused_;
/* Ends one hash; the next sha256_update() begins another. */
int sha256_final(struct sha256 *h, uint8_t digest[static SHA256_SIZE]) _warn_unused_;

int sha256_data(const void *data, size_t size, uint8_t digest[static SHA256_SIZE]) _warn_unused_;
/* Of each its own; several together take less time than one by one (sha256_each.c). */
struct sha256_job {
        const void *data;
        size_t size;
        uint8_t digest[SHA256_SIZE];
};
int sha256_each(struct sha256_job *jobs, size_t n) _warn_unused_;
/* `size` bytes from `offset` (UINT64_MAX: to the end); the descriptor's own offset is neither used nor
 * moved. -EIO when the file ends before. */
int sha256_fd(int fd, uint64_t offset, uint64_t size, uint8_t digest[static SHA256_SIZE]) _warn_unused_;
