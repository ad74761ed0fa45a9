/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A set of paths. */
#pragma once

#include "base/util.h"

#define PATH_SET_BUCKETS 4096

struct path_entry {
        struct path_entry *next;
        char path[];
};

struct path_set {
        struct path_entry *buckets[PATH_SET_BUCKETS]; /* zeros at the start */
};

int path_set_add(struct path_set *s, const char *path); /* -ENOMEM */
bool path_set_has(const struct path_set *s, const char *path);
void path_set_done(struct path_set *s);
