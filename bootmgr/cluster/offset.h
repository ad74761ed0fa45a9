/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How far another machine's clock is ahead of this one's, from questions and answers:
 *
 *      theirs   ────────────came════went──────────▶       kept for went - came: what the store, or others, have cost
 *                         ╱            ╲
 *      ours     ───asked╱                ╲received─▶
 *
 * The quickest of the last ones says it best, and is wrong by half of what it was under way at most, and by how far the
 * clocks have drifted apart since: so only what came shortly before the newest one counts. What another machine has answered
 * says nothing of this one's clock. Pure. */
#pragma once

#include "base/util.h"

#define OFFSET_SAMPLES 8
#define OFFSET_AGE     (300 * UINT64_C(1000000)) /* µs; 50 ppm are 15 ms in it */
#define OFFSET_GOOD    UINT64_C(3000)            /* µs: not to be asked for any better */

struct clock_offset {
        struct {
                int64_t offset;
                uint64_t delay, at;
        } samples[OFFSET_SAMPLES];
        size_t n, next;
        int of; /* whose clock they are of */
};

struct clock_answer {
        int of;             /* which machine; where it is another one than before, what was known is dropped */
        int64_t came, went; /* realtime µs of theirs: of the question and of its answer */
        uint64_t received;  /* realtime µs of ours … */
        uint64_t delay;     /* … so many µs after it was sent */
        uint64_t at;        /* by a clock of ours that is never set */
};

/* One that cannot be is left out. */
void clock_offset_add(struct clock_offset *o, const struct clock_answer *a);
int64_t clock_offset_get(const struct clock_offset *o);
/* µs by which it may be wrong; UINT64_MAX: nothing is known. */
uint64_t clock_offset_error(const struct clock_offset *o);
