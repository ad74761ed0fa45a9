/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the tests of snapshots share: the one path of the machine's application, and taking a snapshot that must succeed. */
#pragma once

#include "snapshot/seal.h"

#include "tree.h"

static char *const app[] = { (char *)"/data/app", NULL };

static inline struct snapshot take(char *const *paths, uint64_t generation)
{
        struct snapshot s = {};

        ck_ok(snapshot_take(&place, paths, 0, "1.2", generation, NULL, &s, e));
        return s;
}
