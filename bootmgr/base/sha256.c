/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/sha256.h"

#include <openssl/evp.h>
#include <sys/stat.h>

#include "base/io.h"

#define READ_SIZE MIB(1)

struct sha256 {
        EVP_MD_CTX *context;
        bool open; /* between the first update and final */
};

struct sha256 *sha256_new(void)
{
        struct sha256 *h = calloc(1, sizeof(*h));

        if (!h)
                return NULL;
        h->context = EVP_MD_CTX_new();
        if (!h->context || EVP_DigestInit_ex(h->context, EVP_sha256(), NULL) != 1) {
                sha256_free(h);
                return NULL;
        }
        h->open = true;
        return h;
}

void sha256_free(struct sha256 *h)
{
        if (!h)
                return;
        EVP_MD_CTX_free(h->context);
        free(h);
}

static int begin(struct sha256 *h)
{
        if (!h->open && EVP_DigestInit_ex(h->context, NULL, NULL) != 1)
                return -EIO;
        h->open = true;
        return 0;
}

int sha256_update(struct sha256 *h, const void *data, size_t size)
{
        int r = begin(h);

        if (r < 0)
                return r;
        return EVP_DigestUpdate(h->context, data, size) == 1 ? 0 : -EIO;
}

int sha256_final(struct sha256 *h, uint8_t digest[static SHA256_SIZE])
{
        int r = begin(h);

        if (r < 0)
                return r;
        h->open = false;
        return EVP_DigestFinal_ex(h->context, digest, NULL) == 1 ? 0 : -EIO;
}

int sha256_data(const void *data, size_t size, uint8_t digest[static SHA256_SIZE])
{
        return EVP_Digest(data, size, digest, NULL, EVP_sha256(), NULL) == 1 ? 0 : -EIO;
}

/* Where a descriptor ends: the size of a file or of a block device. */
static int end_of(int fd, uint64_t *ret)
{
        struct stat st;
        off_t end;

        if (fstat(fd, &st) < 0)
                return -errno;
        if (S_ISREG(st.st_mode)) {
                *ret = (uint64_t)st.st_size;
                return 0;
        }
        end = lseek(fd, 0, SEEK_END);
        if (end < 0)
                return -errno;
        *ret = (uint64_t)end;
        return 0;
}

int sha256_fd(int fd, uint64_t offset, uint64_t size, uint8_t digest[static SHA256_SIZE])
{
        _cleanup_sha256_ struct sha256 *h = sha256_new();
        _cleanup_free_ char *buffer = malloc(READ_SIZE);
        uint64_t end = 0;
        int r;

        if (!h || !buffer)
                return -ENOMEM;
        if (size == UINT64_MAX) {
                r = end_of(fd, &end);
                if (r < 0)
                        return r;
                size = end > offset ? end - offset : 0;
        }
        while (size > 0) {
                size_t n = MIN(size, READ_SIZE);

                r = io_pread(fd, buffer, n, offset);
                if (r >= 0)
                        r = sha256_update(h, buffer, n);
                if (r < 0)
                        return r;
                offset += n;
                size -= n;
        }
        return sha256_final(h, digest);
}
