/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The hash tree of dm-verity, made by libcryptsetup; slot/verity.h has its form. Inside image/ only. */
#pragma once

#include "base/error.h"
#include "slot/verity.h"

/* A copy of the image in `fd` (`size` bytes; zeros up to a whole block) with superblock and tree behind it: verity_size() in
 * all. It is an unnamed file beside `path`. The same image gives the same bytes. fd or -errno. */
int hash_tree_append(int fd, uint64_t size, const char *path, struct verity *ret, struct error *e);

/* An unnamed file in the directory of `path`, for reading and writing. fd or -errno. */
int open_unnamed_beside(const char *path);
