/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where a sparse file has data. */
#pragma once

#include "snapshot/node.h"

/* Fills in sparse, data and n_data of a regular file. A file without holes is not sparse, whatever its
 * bytes; in one with holes every run of whole zero blocks is a hole, so that the result depends
 * on its content alone and not on what the file system happens to have allocated or cached. */
int extents_load(int fd, struct node *n);

/* Appends; neighbours become one. */
int extents_add(struct node *n, uint64_t offset, uint64_t length);

/* Whether `length` bytes at `offset` read as zeros; holes cost nothing. 1, 0 or -errno. */
int extents_is_zero(int fd, uint64_t offset, uint64_t length);
