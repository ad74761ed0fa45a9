/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A manifest: what is accepted stays within the documented bounds, and says the same when it is written and read again. */
#include "fuzz.h"

#include "image/format.h"

static void check_bounds(const struct manifest *m)
{
        uint64_t chunks = 0;

        must(m->n_images >= 1 && m->n_images <= BUNDLE_MAX_IMAGES);
        for (size_t i = 0; i < m->n_images; i++) {
                const struct bundle_image *image = &m->images[i];

                must(image->chunk_size >= CHUNK_MIN && image->chunk_size <= CHUNK_MAX);
                must(image->size > 0 && image->n_chunks > 0);
                must(image->entry_size == index_entry_size(m->format));
                if (m->format == BUNDLE_FIXED) {
                        must((image->n_chunks - 1) * image->chunk_size < image->size);
                        must(image->n_chunks * image->chunk_size >= image->size);
                }
                if (verity_is_set(&image->verity)) {
                        char text[VERITY_TEXT_SIZE];
                        struct verity again;

                        must(m->format == BUNDLE_VERITY && manifest_image(m, "root") == image);
                        must(image->size == verity_size(image->verity.blocks));
                        verity_format(&image->verity, text);
                        must(!strpbrk(text, " \t\n\"\\") && verity_parse(text, &again) == 0);
                        must(memcmp(&again, &image->verity, sizeof(again)) == 0);
                }
                must(!strchr(image->name, '/') && strlen(image->name) < sizeof(image->name));
                must(manifest_image(m, image->name) == image);
                chunks += image->n_chunks;
        }
        must(chunks <= INDEX_MAX / index_entry_size(m->format));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct input in = { data, size };
        _cleanup_free_ char *copy = take_bytes(&in, size, false, NULL), *text = NULL;
        _cleanup_error_ struct error e = {};
        struct manifest m, again;

        if (manifest_parse(copy, size, &m, &e) < 0) {
                must(e.message && e.kind);
                return 0;
        }
        check_bounds(&m);
        text = manifest_format(&m);
        must(text);
        must(manifest_parse(text, strlen(text), &again, NULL) >= 0);
        memcpy(again.digest, m.digest, DIGEST_SIZE); /* of other bytes */
        must(memcmp(&m, &again, sizeof(m)) == 0);
        return 0;
}
