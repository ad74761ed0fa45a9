/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How often each member may have something of its own written into the store, which keeps every value that there was until
 * it is compacted: one node that says something else each time must not fill it for all. Pure. */
#pragma once

#include "cluster/role.h"

#define PACE_INTERVAL (2 * USEC_PER_SEC) /* one in this time … */
#define PACE_BURST    30                 /* … and so many at once */
#define PACE_BUCKETS  256

struct pace_of; /* a member */

struct pace {
        struct pace_of *buckets[PACE_BUCKETS];
        size_t n;
};

/* false: it has had its share for now. `now`: monotonic µs. */
bool pace_take(struct pace *p, const char *name, uint64_t now);
/* Of those that have all of their share nothing is kept; to be called now and then. */
void pace_forget(struct pace *p, uint64_t now);
void pace_done(struct pace *p);
