/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where an image holds something like a piece of another one, for who makes a delta. Inside image/ only. */
#pragma once

#include "base/util.h"

struct similar;

/* `data` must outlive it. */
int similar_new(const uint8_t *data, uint64_t size, struct similar **ret);
struct similar *similar_free(struct similar *s);

/* Where the piece would begin there, if most of what both have in common lies as it does in the piece: may be before the
 * beginning. false: nothing is known in common. From any thread. */
bool similar_find(const struct similar *s, const uint8_t *piece, size_t size, int64_t *ret);
