/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How snapshot_diff() and carried_diff() fill their lists. */
#pragma once

#include "base/buf.h"
#include "snapshot/snapshot.h"

/* The content of one side, as far as it can be shown: at most TEXT_DIFF_MAX bytes. A side without a file is short
 * and empty. */
struct side {
        struct buf content;
        bool is_long; /* it has more, or is no regular file: there is no text */
};
void side_done(struct side *s);
#define _cleanup_side_ _cleanup_(side_done)

/* Reads a file of `size` bytes that may change meanwhile. */
int side_load(struct side *s, int fd, uint64_t size);
bool side_same(const struct side *a, const struct side *b); /* of two that are not long */

/* `path` is a node's. Text is made when both sides are given and are text. */
int difference_add(struct difference_list *l, const char *path, enum change change, bool carried, const struct side *old,
                   const struct side *new);
void difference_sort(struct difference_list *l);
