/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How many connections a fetch is worth. A few do not fill a link that is long and loses packets; where they do, more would
 * only be a burden to the server. So it is tried: twice as many, as long as they bring a fifth more together, else again as
 * many as before, for a while. Inside image/ only. */
#pragma once

#include "base/util.h"

/* What has come, and how long its reader has waited for it, µs: all that so far, at some time. */
struct climb_state {
        uint64_t now, bytes, waited;
};

struct climb {
        unsigned n, max; /* connections: now, and at most */
        unsigned fewer;  /* so many there were before; 0: no more were tried */
        uint64_t rate;   /* of these, bytes per second */
        uint64_t since;  /* measuring begins then, µs; 0: it is not known yet */
        uint64_t rest;   /* µs, after the last try that brought nothing */
        bool measuring;
        struct climb_state start; /* of measuring */
};

static inline struct climb climb_begin(unsigned n, unsigned max)
{
        return (struct climb){ .n = n, .max = max };
}

/* From time to time; changes n. */
void climb_look(struct climb *c, struct climb_state at);
