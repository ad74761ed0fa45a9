/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Manifest and chunk index as they are kept on data, and the root they are held against: what is found whole is whole.
 * Input: the length of the manifest (16 bits), of the index (16 bits), manifest, index, root. */
#define FUZZ_HAS_INITIALIZE
#include "fuzz.h"

#include "base/sha256.h"
#include "image/format.h"
#include "image/install.h"

static int directory = -1;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
        char path[PATH_MAX];

        log_set_max_level(0);
        directory = scratch_open(path);
        must(directory >= 0 && mkdir_parents(directory, "slots/a", 0755) == 0);
        return 0;
}

static uint64_t length_of(const struct bundle_image *image, const uint8_t *entry, uint64_t offset)
{
        if (image->entry_size == INDEX_ENTRY_CUT)
                return get_le32(entry + I_LENGTH);
        return offset < image->size ? MIN(image->size - offset, (uint64_t)image->chunk_size) : 0;
}

/* The chunks that the root really holds become the index, when bit 0 is set; its digest stands in the manifest. */
static void repair(char *text, size_t text_size, uint8_t *index, size_t index_size, const char *root, size_t root_size)
{
        char before[2 * DIGEST_SIZE + 1], now[2 * DIGEST_SIZE + 1], *at;
        const struct bundle_image *image;
        uint8_t digest[DIGEST_SIZE];
        struct manifest m;

        if (manifest_parse(text, text_size, &m, NULL) < 0 || !(image = manifest_image(&m, "root")))
                return;
        for (uint64_t i = 0, offset = 0, length; i < image->n_chunks && (i + 1) * image->entry_size <= index_size; i++) {
                uint8_t *entry = index + i * image->entry_size;

                length = length_of(image, entry, offset);
                if (entry[I_CRC] & 1 && length <= root_size && offset <= root_size - length)
                        must(sha256_data(root + offset, length, entry) >= 0);
                offset += length;
        }
        hex_encode(image->index_digest, DIGEST_SIZE, before);
        must(sha256_data(index, index_size, digest) >= 0);
        hex_encode(digest, DIGEST_SIZE, now);
        at = memmem(text, text_size, before, 2 * DIGEST_SIZE);
        if (at)
                memcpy(at, now, 2 * DIGEST_SIZE);
}

/* Said again, simply. */
static bool is_whole(const struct manifest *m, const uint8_t *index, size_t index_size, const char *root, size_t root_size)
{
        const struct bundle_image *image = manifest_image(m, "root");
        uint8_t digest[DIGEST_SIZE];

        uint64_t offset = 0;

        if (!image || image->size > root_size || index_size != image->n_chunks * image->entry_size ||
            sha256_data(index, index_size, digest) < 0 || memcmp(digest, image->index_digest, DIGEST_SIZE) != 0)
                return false;
        for (uint64_t i = 0, length; i < image->n_chunks; i++, offset += length) {
                const uint8_t *entry = index + i * image->entry_size;
                bool zeros = get_le32(entry + I_STORED) == 0; /* by definition */

                length = length_of(image, entry, offset);
                if (length == 0 || length > image->size - offset)
                        return false;
                if (image->entry_size == INDEX_ENTRY_CUT &&
                    (length > (zeros ? MIB(64) : image->chunk_size) || (zeros && !is_all_zero(entry, I_LENGTH))))
                        return false;
                if (zeros ? !is_all_zero(root + offset, length)
                          : sha256_data(root + offset, length, digest) < 0 || memcmp(digest, entry, DIGEST_SIZE) != 0)
                        return false;
        }
        return offset == image->size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct input in = { data, size };
        size_t text_size = take_byte(&in), index_size, root_size;
        _cleanup_free_ char *text = NULL, *index = NULL, *root = NULL;
        uint8_t digest[DIGEST_SIZE] = {};
        struct manifest m;
        struct range range;
        int r;

        text_size |= (size_t)take_byte(&in) << 8;
        index_size = take_byte(&in);
        index_size |= (size_t)take_byte(&in) << 8;
        text = take_bytes(&in, text_size, false, &text_size);
        index = take_bytes(&in, index_size, false, &index_size);
        root = take_bytes(&in, in.size, false, &root_size);
        repair(text, text_size, (uint8_t *)index, index_size, root, root_size);
        put_file(directory, "slots/a/manifest", text, text_size);
        put_file(directory, "slots/a/chunks", index, index_size);
        r = manifest_parse(text, text_size, &m, NULL);
        if (r >= 0)
                memcpy(digest, m.digest, DIGEST_SIZE);
        range = (struct range){ .fd = memory_file(root, root_size), .size = root_size };
        must((install_check_slot(&range, directory, 0, digest, NULL, NULL) >= 0) ==
             (r >= 0 && is_whole(&m, (const uint8_t *)index, index_size, root, root_size)));
        fd_close(range.fd);
        return 0;
}
