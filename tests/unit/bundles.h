/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Bundles for the tests of bootmgr/image: keys, a small bundle of every kind of chunk, bundles put together by hand, and
 * sources of every kind. */
#pragma once

#include <openssl/evp.h>
#include <openssl/pem.h>

#include "base/sha256.h"
#include "image/format.h"
#include "loader/loader.h"
#include "slot/kinds.h"
#include "tree.h"
#undef fail

static _unused_ void ck_message(const struct error *e, const char *word)
{
        ck_assert_ptr_nonnull(e->message);
        ck_assert_msg(strstr(e->message, word) != NULL, "'%s' is not in '%s'", word, e->message);
}

/* As ck_refused(), and the message holds `word`. */
#define ck_refused_saying(expression, expected, word)                                                                       \
        do {                                                                                                                \
                _cleanup_error_ struct error _error = {};                                                                   \
                struct error *e = &_error;                                                                                  \
                int _r = (expression);                                                                                      \
                ck_assert_msg(_r < 0, "%s succeeded", #expression);                                                         \
                ck_message(e, word);                                                                                        \
                ck_assert_msg(e->kind == &(expected), "%s: kind %s: %s", #expression, e->kind->name, e->message);           \
        } while (0)

/* What the small bundle holds: in its root a stored chunk, zeros, a stored one and a short last one. */
#define CHUNK       4096
#define ROOT_SIZE   (3 * CHUNK + 100)
#define KERNEL_SIZE 700
static char root_content[ROOT_SIZE], kernel_content[KERNEL_SIZE];

static char *in_dir(const char *name)
{
        static char paths[128][PATH_MAX + 64];
        static unsigned next;
        char *path = paths[next++ % ARRAY_SIZE(paths)];

        snprintf(path, sizeof(paths[0]), "%s/%s", dir, name);
        return path;
}

static void put(const char *name, const void *data, size_t size)
{
        FILE *f = fopen(in_dir(name), "w");

        ck_assert_ptr_nonnull(f);
        ck_assert_uint_eq(fwrite(data, 1, size, f), size);
        ck_assert_int_eq(fclose(f), 0);
}

static _unused_ char *get(const char *name, size_t *ret_size)
{
        char *data;

        ck_assert_int_ge(file_read(AT_FDCWD, in_dir(name), MIB(64), &data, ret_size), 0);
        return data;
}

/* NAME.key and NAME.pem. type: "ED25519", "P-256", "P-384", "P-224", "RSA-2048" … */
static void make_key(const char *name, const char *type)
{
        char file[64];
        EVP_PKEY *key;
        FILE *f;

        if (strncmp(type, "RSA-", 4) == 0)
                key = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)atoi(type + 4));
        else if (strncmp(type, "P-", 2) == 0)
                key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", type);
        else
                key = EVP_PKEY_Q_keygen(NULL, NULL, type);
        ck_assert_msg(key != NULL, "no key of type %s", type);
        snprintf(file, sizeof(file), "%s.key", name);
        f = fopen(in_dir(file), "w");
        ck_assert_int_eq(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL), 1);
        fclose(f);
        snprintf(file, sizeof(file), "%s.pem", name);
        f = fopen(in_dir(file), "w");
        ck_assert_int_eq(PEM_write_PUBKEY(f, key), 1);
        fclose(f);
        EVP_PKEY_free(key);
}

/* Of a loader that keeps none. */
static _unused_ int no_boot_file(struct loader *l, const uint8_t id[BOOT_FILE_ID_SIZE], struct error *e)
{
        return -ENOENT;
}

static _unused_ int find_no_boot_file(struct loader *l, const uint8_t digest[DIGEST_SIZE], int slot)
{
        return -ENOENT;
}

static void make_content(void)
{
        uint32_t x = 1;

        memset(root_content, 0, sizeof(root_content));
        strcpy(root_content + 10, "a superblock");
        for (size_t i = 0; i < 500; i++)
                root_content[2 * CHUNK + 37 * (i % 100) + i / 100] = (char)((x = x * 1103515245 + 12345) >> 16);
        memset(root_content + 3 * CHUNK, 'z', 100);
        for (size_t i = 0; i < KERNEL_SIZE; i++)
                kernel_content[i] = (char)(i < 100 ? (x = x * 1103515245 + 12345) >> 16 : 'k');
        put("root.img", root_content, ROOT_SIZE);
        put("kernel.img", kernel_content, KERNEL_SIZE);
}

/* NAME out of the small content, signed by the keys of these names (NULL-terminated). */
static void make_bundle(const char *name, const char *const *keys)
{
        const char *image_names[] = { "root", "kernel" }, *image_files[] = { in_dir("root.img"), in_dir("kernel.img") };
        char paths[BUNDLE_MAX_SIGNATURES][PATH_MAX + 64];
        const char *key_files[BUNDLE_MAX_SIGNATURES];
        struct bundle_spec spec = {
                .compatible = "box",
                .version = "2.0",
                .security_version = 3,
                .image_names = image_names,
                .image_files = image_files,
                .n_images = 2,
                .key_files = key_files,
                .chunking = CHUNKING_FIXED,
                .chunk_size = CHUNK,
        };

        for (; keys[spec.n_keys]; spec.n_keys++) {
                snprintf(paths[spec.n_keys], sizeof(paths[0]), "%s/%s.key", dir, keys[spec.n_keys]);
                key_files[spec.n_keys] = paths[spec.n_keys];
        }
        ck_ok(bundle_create(in_dir(name), &spec, NULL, e));
}

/* Where the parts of a bundle lie. */
struct parts {
        struct header h;
        uint64_t manifest, signatures, index, chunks; /* offsets */
};

static _unused_ struct parts parts_of(const char *bundle)
{
        struct parts p = { .manifest = HEADER_SIZE };

        ck_assert_int_eq(header_decode((const uint8_t *)bundle, &p.h, NULL), 0);
        p.signatures = p.manifest + p.h.manifest;
        p.index = p.signatures + p.h.signatures;
        p.chunks = p.index + p.h.index;
        return p;
}

static _unused_ void seal_header(uint8_t *header)
{
        put_le32(header + H_CRC, crc32c(0, header, H_CRC));
}

static _unused_ void seal_signatures(struct buf *block)
{
        uint8_t crc[4];

        put_le32(crc, crc32c(0, block->data ?: "", block->size));
        buf_append(block, crc, sizeof(crc));
}

/* A bundle out of these parts, with a header that fits them. */
static void put_together_as(unsigned major, const char *name, const char *manifest, const struct buf *signatures,
                            const void *index, size_t index_size, const void *chunks, size_t chunks_size)
{
        struct header h = { .major = major,
                            .manifest = (uint32_t)strlen(manifest),
                            .signatures = (uint32_t)signatures->size,
                            .index = index_size };
        uint8_t header[HEADER_SIZE];
        _cleanup_buf_ struct buf b = {};

        h.total = HEADER_SIZE + h.manifest + h.signatures + h.index + chunks_size;
        header_encode(&h, header);
        buf_append(&b, header, sizeof(header));
        buf_append(&b, manifest, h.manifest);
        buf_append(&b, signatures->data, signatures->size);
        buf_append(&b, index, index_size);
        buf_append(&b, chunks, chunks_size);
        put(name, b.data, b.size);
}

static _unused_ void put_together(const char *name, const char *manifest, const struct buf *signatures, const void *index,
                                  size_t index_size, const void *chunks, size_t chunks_size)
{
        put_together_as(BUNDLE_FIXED, name, manifest, signatures, index, index_size, chunks, chunks_size);
}

/* A bundle of this manifest, whatever it says, signed by the key. */
static _unused_ void put_signed_as(unsigned major, const char *name, const char *manifest, const char *key,
                                   const void *index, size_t index_size, const void *chunks, size_t chunks_size)
{
        const char *const keys[] = { in_dir(key) };
        _cleanup_buf_ struct buf signatures = {};

        ck_ok(signatures_make(manifest, strlen(manifest), keys, 1, NULL, 0, &signatures, e));
        put_together_as(major, name, manifest, &signatures, index, index_size, chunks, chunks_size);
}

static _unused_ void put_signed(const char *name, const char *manifest, const char *key, const void *index,
                                size_t index_size, const void *chunks, size_t chunks_size)
{
        put_signed_as(BUNDLE_FIXED, name, manifest, key, index, index_size, chunks, chunks_size);
}

static int open_with(const char *name, const char *trust_directory, unsigned threshold, struct bundle **ret, struct error *e)
{
        struct trust trust = { .directory = trust_directory ? in_dir(trust_directory) : NULL, .threshold = threshold };
        struct source *source;
        int r = source_open(in_dir(name), NULL, &source, e);

        return r < 0 ? r : bundle_open(source, &trust, ret, e);
}

/* Opened and read to the end, all of it checked. */
static _unused_ int verify_with(const char *name, const char *trust_directory, unsigned threshold, struct error *e)
{
        _cleanup_bundle_ struct bundle *b = NULL;
        int r = open_with(name, trust_directory, threshold, &b, e);

        return r < 0 ? r : bundle_extract(b, NULL, NULL, e);
}

/* The same through a pipe, whose size nobody knows. */
static _unused_ int verify_pipe(const char *data, size_t size, struct error *e)
{
        struct trust trust = { .directory = in_dir("trust"), .threshold = 1 };
        _cleanup_bundle_ struct bundle *b = NULL;
        struct source *source;
        char path[32];
        int fds[2], r;

        ck_assert_uint_lt(size, 60000); /* a pipe takes that without a reader */
        ck_assert_int_eq(pipe(fds), 0);
        ck_assert_int_eq(write(fds[1], data, size), (ssize_t)size);
        snprintf(path, sizeof(path), "/dev/fd/%d", fds[0]);
        r = source_open(path, NULL, &source, e);
        close(fds[0]);
        close(fds[1]);
        if (r >= 0)
                r = bundle_open(source, &trust, &b, e);
        return r < 0 ? r : bundle_extract(b, NULL, NULL, e);
}

/* Keys good (trusted in trust/) and stranger, the content, and "bundle" signed by good. */
static _unused_ void bundles_begin(void)
{
        machine_begin();
        sh("mkdir trust empty");
        make_key("good", "ED25519");
        make_key("stranger", "ED25519");
        sh("cp good.pem trust/");
        make_content();
        make_bundle("bundle", (const char *const[]){ "good", NULL });
}
