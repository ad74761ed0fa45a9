/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Keys and signatures: the only user of OpenSSL's public keys. A signature is over the manifest's exact
 * bytes: `openssl pkeyutl -verify -rawin` can check it. */
#include <dirent.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "base/file.h"
#include "base/sha256.h"
#include "image/format.h"
#include "slot/kinds.h"

#define KEY_FILE_MAX (64 * 1024)
#define RSA_MIN_BITS 2048

enum algorithm { ALGORITHM_ED25519 = 1, ALGORITHM_ECDSA_SHA256 = 2, ALGORITHM_RSA_SHA256 = 3 };

static void pkey_free(EVP_PKEY **key)
{
        EVP_PKEY_free(*key);
}
static void md_free(EVP_MD_CTX **ctx)
{
        EVP_MD_CTX_free(*ctx);
}
#define _cleanup_pkey_ _cleanup_(pkey_free)
#define _cleanup_md_   _cleanup_(md_free)

/* 0: not a kind of key that we take. */
static unsigned key_algorithm(EVP_PKEY *key)
{
        switch (EVP_PKEY_get_base_id(key)) {
        case EVP_PKEY_ED25519:
                return ALGORITHM_ED25519;
        case EVP_PKEY_EC:
                return EVP_PKEY_get_bits(key) >= 256 ? ALGORITHM_ECDSA_SHA256 : 0;
        case EVP_PKEY_RSA:
                return EVP_PKEY_get_bits(key) >= RSA_MIN_BITS ? ALGORITHM_RSA_SHA256 : 0;
        default:
                return 0;
        }
}

static const EVP_MD *algorithm_digest(unsigned algorithm)
{
        return algorithm == ALGORITHM_ED25519 ? NULL : EVP_sha256();
}

static int key_id(EVP_PKEY *key, uint8_t id[static DIGEST_SIZE])
{
        unsigned char *der = NULL;
        int n = i2d_PUBKEY(key, &der), r;

        if (n <= 0)
                return -EINVAL;
        r = sha256_data(der, (size_t)n, id);
        OPENSSL_free(der);
        return r;
}

static int load_key(int dir, const char *path, bool private, EVP_PKEY **ret, struct error *e)
{
        _cleanup_free_ char *text = NULL;
        _cleanup_pkey_ EVP_PKEY *key = NULL;
        size_t size;
        BIO *bio;
        int r;

        r = file_read(dir, path, KEY_FILE_MAX, &text, &size);
        if (r < 0)
                return fail_errno(e, r, "cannot read the key %s", path);
        bio = BIO_new_mem_buf(text, (int)size);
        /* An empty passphrase instead of a prompt: a key that needs one is refused. */
        if (bio)
                key = private ? PEM_read_bio_PrivateKey(bio, NULL, NULL, (void *)"")
                              : PEM_read_bio_PUBKEY(bio, NULL, NULL, (void *)"");
        BIO_free(bio);
        OPENSSL_cleanse(text, size);
        if (!key) {
                fail(e, -EINVAL, &kind_bundle_untrusted, "%s holds no %s key in PEM", path, private ? "private" : "public");
                return fail_hint(e, private ? "'bootmgr bundle keygen PREFIX' makes a pair"
                                            : "'openssl pkey -in KEY -pubout' gives the public key");
        }
        if (key_algorithm(key) == 0) {
                fail(e, -EINVAL, &kind_bundle_untrusted, "the key %s is of a kind that is not taken", path);
                return fail_hint(e, "use Ed25519, ECDSA with at least 256 bits, or RSA with at least %d", RSA_MIN_BITS);
        }
        *ret = TAKE_PTR(key);
        return 0;
}

static int sign_one(EVP_PKEY *key, const char *manifest, size_t size, struct buf *block)
{
        _cleanup_md_ EVP_MD_CTX *ctx = EVP_MD_CTX_new();
        unsigned algorithm = key_algorithm(key);
        uint8_t header[SIGNATURE_HEADER], signature[4096];
        size_t length = sizeof(signature);
        int r;

        if (!ctx || EVP_DigestSignInit(ctx, NULL, algorithm_digest(algorithm), NULL, key) != 1 ||
            EVP_DigestSign(ctx, signature, &length, (const uint8_t *)manifest, size) != 1)
                return -EIO;
        r = key_id(key, header + S_KEY);
        if (r < 0)
                return r;
        put_le16(header + S_ALGORITHM, (uint16_t)algorithm);
        put_le16(header + S_LENGTH, (uint16_t)length);
        buf_append(block, header, sizeof(header));
        buf_append(block, signature, length);
        return 0;
}

/* The next record of a block whose CRC was checked: its length, 0 at the end, -EBADMSG. */
static ssize_t next_record(const uint8_t *block, size_t size, size_t offset)
{
        size_t length;

        if (offset == size)
                return 0;
        if (size - offset < SIGNATURE_HEADER)
                return -EBADMSG;
        length = SIGNATURE_HEADER + get_le16(block + offset + S_LENGTH);
        return length > size - offset ? -EBADMSG : (ssize_t)length;
}

static int check_block(const uint8_t *block, size_t *size, struct error *e)
{
        if (*size < 4 || crc32c(0, block, *size - 4) != get_le32(block + *size - 4))
                return fail(e, -EBADMSG, &kind_bundle_invalid, "the signatures of the bundle are damaged");
        *size -= 4;
        return 0;
}

static bool is_among(const uint8_t *id, const uint8_t (*ids)[DIGEST_SIZE], size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (memcmp(id, ids[i], DIGEST_SIZE) == 0)
                        return true;
        return false;
}

/* Signatures by other keys than the new ones stay. */
static int keep_others(const uint8_t *old, size_t size, const uint8_t (*ids)[DIGEST_SIZE], size_t n_ids, struct buf *block,
                       struct error *e)
{
        size_t offset = 0, count = n_ids;
        ssize_t n;
        int r = check_block(old, &size, e);

        if (r < 0)
                return r;
        for (; (n = next_record(old, size, offset)) > 0; offset += (size_t)n) {
                if (is_among(old + offset + S_KEY, ids, n_ids))
                        continue;
                if (++count > BUNDLE_MAX_SIGNATURES)
                        return fail(e, -E2BIG, &kind_usage, "the bundle would have more than %d signatures",
                                    BUNDLE_MAX_SIGNATURES);
                buf_append(block, old + offset, (size_t)n);
        }
        return n < 0 ? fail(e, (int)n, &kind_bundle_invalid, "the signatures of the bundle are damaged") : 0;
}

int signatures_make(const char *manifest, size_t size, const char *const *key_files, size_t n_keys, const uint8_t *old_block,
                    size_t old_size, struct buf *block, struct error *e)
{
        uint8_t ids[BUNDLE_MAX_SIGNATURES][DIGEST_SIZE], crc[4];
        struct buf fresh = {};
        size_t n_ids = 0;
        int r = 0;

        if (n_keys == 0 || n_keys > BUNDLE_MAX_SIGNATURES)
                return fail(e, -EINVAL, &kind_usage, "%zu keys to sign with: 1 to %d are possible", n_keys,
                            BUNDLE_MAX_SIGNATURES);
        for (size_t i = 0; i < n_keys && r >= 0; i++) {
                _cleanup_pkey_ EVP_PKEY *key = NULL;

                r = load_key(AT_FDCWD, key_files[i], true, &key, e);
                if (r >= 0)
                        r = key_id(key, ids[n_ids]);
                if (r < 0 || is_among(ids[n_ids], (const uint8_t(*)[DIGEST_SIZE])ids, n_ids))
                        continue; /* given twice: it signs once */
                n_ids++;
                r = sign_one(key, manifest, size, &fresh);
        }
        if (r >= 0 && old_block)
                r = keep_others(old_block, old_size, (const uint8_t(*)[DIGEST_SIZE])ids, n_ids, block, e);
        if (r >= 0)
                buf_append(block, fresh.data ?: "", fresh.size);
        buf_done(&fresh);
        if (r < 0)
                return fail(e, r, NULL, "cannot sign");
        put_le32(crc, crc32c(0, block->data, block->size));
        buf_append(block, crc, sizeof(crc));
        return block->failed ? -ENOMEM : 0;
}

/* The trusted key of this id: its name and itself; -ENOENT. A file there that is no key is an error: a
 * truncated one must not look like a key that was never trusted. */
static int find_key(const char *directory, const uint8_t id[static DIGEST_SIZE], char **ret_name, EVP_PKEY **ret,
                    struct error *e)
{
        _cleanup_closedir_ DIR *dir = opendir(directory);
        struct dirent *entry;

        if (!dir)
                return errno == ENOENT ? -ENOENT : fail_errno(e, -errno, "cannot read the trust directory %s", directory);
        while ((entry = readdir(dir))) {
                _cleanup_pkey_ EVP_PKEY *key = NULL;
                uint8_t found[DIGEST_SIZE];
                size_t n = strlen(entry->d_name);
                int r;

                if (entry->d_name[0] == '.' || n < 5 || !streq(entry->d_name + n - 4, ".pem"))
                        continue;
                r = load_key(dirfd(dir), entry->d_name, false, &key, e);
                if (r >= 0)
                        r = key_id(key, found);
                if (r < 0)
                        return r == -ENOENT ? -EIO : r;
                if (memcmp(found, id, DIGEST_SIZE) != 0)
                        continue;
                *ret_name = strdup(entry->d_name);
                *ret = TAKE_PTR(key);
                return *ret_name ? 0 : -ENOMEM;
        }
        return -ENOENT;
}

static bool verify(EVP_PKEY *key, unsigned algorithm, const char *manifest, size_t size, const uint8_t *signature,
                   size_t length)
{
        _cleanup_md_ EVP_MD_CTX *ctx = EVP_MD_CTX_new();

        return ctx && algorithm == key_algorithm(key) &&
               EVP_DigestVerifyInit(ctx, NULL, algorithm_digest(algorithm), NULL, key) == 1 &&
               EVP_DigestVerify(ctx, signature, length, (const uint8_t *)manifest, size) == 1;
}

static int refuse_unknown(const struct trust *trust, const uint8_t id[static DIGEST_SIZE], struct error *e)
{
        char hex[17];

        hex_encode(id, 8, hex);
        fail(e, -EKEYREJECTED, &kind_bundle_untrusted, "the bundle is signed by the key %s…, which is not in %s", hex,
             trust->directory);
        return fail_hint(e, "if you trust it, put its public key (PEM) there; else do not install this bundle");
}

static int judge(const char *manifest, size_t size, const uint8_t *record, const struct trust *trust,
                 struct bundle_signature *s, char **name, struct error *e)
{
        _cleanup_pkey_ EVP_PKEY *key = NULL;
        int r;

        memcpy(s->key_id, record + S_KEY, DIGEST_SIZE);
        if (!trust->directory)
                return 0;
        r = find_key(trust->directory, s->key_id, name, &key, e);
        if (r == -ENOENT)
                return refuse_unknown(trust, s->key_id, e);
        if (r < 0)
                return r;
        s->key_name = *name;
        s->valid = verify(key, get_le16(record + S_ALGORITHM), manifest, size, record + SIGNATURE_HEADER,
                          get_le16(record + S_LENGTH));
        if (!s->valid)
                return fail(e, -EKEYREJECTED, &kind_bundle_untrusted,
                            "the signature by %s does not match the manifest: one of them was changed", s->key_name);
        return 0;
}

static unsigned count_distinct(const struct bundle_signature *s, size_t n)
{
        unsigned count = 0;

        for (size_t i = 0; i < n; i++) {
                bool seen = false;

                for (size_t j = 0; j < i; j++)
                        seen = seen || (s[j].valid && memcmp(s[i].key_id, s[j].key_id, DIGEST_SIZE) == 0);
                count += s[i].valid && !seen;
        }
        return count;
}

int signatures_check(const char *manifest, size_t size, const uint8_t *block, size_t block_size, const struct trust *trust,
                     struct bundle_signature *ret, size_t *ret_n, char **names, struct error *e)
{
        size_t offset = 0, n = 0;
        ssize_t length;
        unsigned valid;
        int r;

        *ret_n = 0;
        r = check_block(block, &block_size, e);
        if (r < 0)
                return r;
        while ((length = next_record(block, block_size, offset)) > 0) {
                if (n == BUNDLE_MAX_SIGNATURES)
                        return fail(e, -E2BIG, &kind_bundle_invalid, "the bundle has more than %d signatures",
                                    BUNDLE_MAX_SIGNATURES);
                r = judge(manifest, size, block + offset, trust, &ret[n], &names[n], e);
                *ret_n = ++n;
                if (r < 0)
                        return r;
                offset += (size_t)length;
        }
        if (length < 0)
                return fail(e, -EBADMSG, &kind_bundle_invalid, "the signatures of the bundle are damaged");
        if (!trust->directory)
                return 0;
        valid = count_distinct(ret, n);
        if (valid >= MAX(trust->threshold, 1U))
                return 0;
        fail(e, -EKEYREJECTED, &kind_bundle_untrusted, "the bundle has %u valid signatures of the %u that are needed", valid,
             MAX(trust->threshold, 1U));
        return fail_hint(e, "sign it with 'bootmgr bundle sign', or see Threshold= in bootmgr.conf(5)");
}

static int write_pem(const char *path, EVP_PKEY *key, bool private, struct error *e)
{
        BIO *bio = BIO_new(BIO_s_mem());
        char *data;
        long n = 0;
        int r = -ENOMEM;

        if (bio &&
            (private ? PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) : PEM_write_bio_PUBKEY(bio, key)) == 1)
                n = BIO_get_mem_data(bio, &data);
        if (n > 0)
                r = file_create(AT_FDCWD, path, data, (size_t)n, private ? 0600 : 0644);
        BIO_free(bio);
        if (r == -EEXIST) {
                fail(e, r, &kind_usage, "%s exists already", path);
                return fail_hint(e, "choose another PREFIX: keys are never overwritten");
        }
        return r < 0 ? fail_errno(e, r, "cannot write %s", path) : 0;
}

int bundle_keygen(const char *prefix, struct error *e)
{
        _cleanup_pkey_ EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
        _cleanup_free_ char *private = xasprintf("%s.key", prefix), *public = xasprintf("%s.pem", prefix);
        int r;

        if (!key || !private || !public)
                return fail(e, -ENOMEM, NULL, "cannot make a key");
        if (access(public, F_OK) == 0) {
                fail(e, -EEXIST, &kind_usage, "%s exists already", public);
                return fail_hint(e, "choose another PREFIX: keys are never overwritten");
        }
        r = write_pem(private, key, true, e);
        return r < 0 ? r : write_pem(public, key, false, e);
}
