/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How far another machine's clock is ahead of this one's, from questions and answers: the quickest of the last ones says it
 * best, and is wrong by half of what it took at most, and by how far the clocks have drifted apart since: so only what came
 * shortly before the newest one counts. Pure. */
#pragma once

#include "base/util.h"

#define OFFSET_SAMPLES 8
#define OFFSET_AGE     (300 * UINT64_C(1000000)) /* µs; 50 ppm are 15 ms in it */

struct clock_offset {
        struct {
                int64_t offset;
                uint64_t delay, at;
        } samples[OFFSET_SAMPLES];
        size_t n, next;
};

/* `theirs` was read between the question and its answer, which came at `received` (both realtime µs), `delay` µs later, at
 * `at` by a clock that is never set. */
void clock_offset_add(struct clock_offset *o, int64_t theirs, uint64_t received, uint64_t delay, uint64_t at);
int64_t clock_offset_get(const struct clock_offset *o);
/* µs by which it may be wrong; UINT64_MAX: nothing is known. */
uint64_t clock_offset_error(const struct clock_offset *o);
