/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where the chunks of an image lie, by their digests. It remembers little of a digest (8 + 12 bytes for each chunk), and may
 * be wrong: whoever reads there hashes what he finds. Inside image/ only. */
#pragma once

#include "image/format.h"

struct places;

/* From an index in a file. *ret NULL: it is no index of this image. */
int places_read(const struct bundle_image *image, int index, struct places **ret);
struct places *places_free(struct places *p);
/* The offset of a chunk of this digest and size, UINT64_MAX: there is none. */
uint64_t places_find(const struct places *p, const uint8_t digest[static DIGEST_SIZE], uint32_t size);
