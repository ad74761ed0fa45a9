/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whether a slot of which no index is known holds something like an image, by a sample: so that all of it is read where that
 * brings something, and nowhere else. Inside image/ only. */
#pragma once

#include "image/format.h"
#include "storage/disk.h"

/* Whether one of up to 64 chunks, from all over the image, lies in its place there. Zeros say nothing. */
bool slot_is_alike(const struct range *slot, const struct bundle_image *image, const uint8_t *index);
