/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Files with several names, by device and inode: which name came first. */
#pragma once

#include "base/util.h"

#define LINKS_BUCKETS 1024

struct link {
        struct link *next;
        uint64_t dev, ino;
        char path[];
};

struct links {
        struct link *buckets[LINKS_BUCKETS]; /* by inode; zeros at the start */
};

/* The path that was noted first for this file, borrowed, or NULL. */
const char *links_find(const struct links *l, uint64_t dev, uint64_t ino);
/* -ENOMEM. */
int links_add(struct links *l, uint64_t dev, uint64_t ino, const char *path);
void links_done(struct links *l);
