/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The block of signatures, judged by two trusted keys: Ed25519 signs the same bytes in one way only, so whatever is accepted
 * holds exactly the genuine signature of at least one of them, and of both where both are asked for. */
#define FUZZ_HAS_INITIALIZE
#include "fuzz.h"

#include <openssl/evp.h>
#include <openssl/pem.h>

#include "image/format.h"

#define SIGNATURE_SIZE 64

static const char manifest[] = "{\"format\": 1}";
static uint8_t genuine[2][SIGNATURE_HEADER + SIGNATURE_SIZE];
static char directory[PATH_MAX];

/* The key is always the same, so that the corpus can hold its signature. */
static void make_key(size_t number)
{
        uint8_t seed[32];
        _cleanup_free_ char *private = xasprintf("%s/%zu.key", directory, number);
        _cleanup_free_ char *public = xasprintf("%s/%zu.pem", directory, number);
        const char *files[] = { private };
        struct buf block = {};
        EVP_PKEY *key;
        FILE *f;

        memset(seed, (int)number + 1, sizeof(seed));
        key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, sizeof(seed));
        must(key && (f = fopen(private, "w")) && PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) == 1);
        fclose(f);
        must((f = fopen(public, "w")) && PEM_write_PUBKEY(f, key) == 1);
        fclose(f);
        EVP_PKEY_free(key);
        must(signatures_make(manifest, strlen(manifest), files, 1, NULL, 0, &block, NULL) >= 0);
        must(block.size == sizeof(genuine[0]) + 4);
        memcpy(genuine[number], block.data, sizeof(genuine[0]));
        buf_done(&block);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
        log_set_max_level(0);
        close(scratch_open(directory));
        make_key(0);
        make_key(1);
        return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct input in = { data, size };
        uint8_t how = take_byte(&in);
        struct trust trust = { .directory = how & 1 ? NULL : directory, .threshold = how & 2 ? 2 : 1 };
        struct bundle_signature found[BUNDLE_MAX_SIGNATURES] = {};
        char *names[BUNDLE_MAX_SIGNATURES] = {};
        size_t n = 0, block_size;
        _cleanup_free_ uint8_t *block = (uint8_t *)take_bytes(&in, SIGNATURES_MAX_SIZE, false, &block_size);
        unsigned right = 0;
        int r;

        /* A byte that stands for the whole of a signature: mutations alone would never make one. */
        for (size_t i = 0; i < 2; i++)
                if (how & 4 << i && block_size >= (i + 1) * sizeof(genuine[0]) + 4)
                        memcpy(block + i * sizeof(genuine[0]), genuine[i], sizeof(genuine[0]));
        if (block_size >= 4 && !(how & 128))
                put_le32(block + block_size - 4, crc32c(0, block, block_size - 4));
        r = signatures_check(manifest, strlen(manifest), block, block_size, &trust, found, &n, names, NULL);
        must(n <= BUNDLE_MAX_SIGNATURES);
        for (size_t i = 0; i < 2; i++)
                right += memmem(block, block_size, genuine[i], sizeof(genuine[i])) != NULL;
        if (r >= 0 && trust.directory)
                must(right >= trust.threshold);
        for (size_t i = 0; i < BUNDLE_MAX_SIGNATURES; i++)
                free(names[i]);
        return 0;
}
