/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cluster/offset.h"

void clock_offset_add(struct clock_offset *o, int64_t theirs, uint64_t received, uint64_t delay, uint64_t at)
{
        if (theirs <= 0 || received > INT64_MAX || delay > received)
                return;
        o->samples[o->next].offset = theirs - (int64_t)(received - delay / 2);
        o->samples[o->next].delay = delay;
        o->samples[o->next].at = at;
        o->next = (o->next + 1) % OFFSET_SAMPLES;
        o->n = MIN(o->n + 1, (size_t)OFFSET_SAMPLES);
}

static size_t quickest(const struct clock_offset *o)
{
        size_t newest = (o->next + OFFSET_SAMPLES - 1) % OFFSET_SAMPLES, best = newest;

        for (size_t i = 0; i < o->n; i++)
                if (o->samples[i].delay < o->samples[best].delay && o->samples[newest].at - o->samples[i].at <= OFFSET_AGE)
                        best = i;
        return best;
}

int64_t clock_offset_get(const struct clock_offset *o)
{
        return o->n ? o->samples[quickest(o)].offset : 0;
}

uint64_t clock_offset_error(const struct clock_offset *o)
{
        return o->n ? o->samples[quickest(o)].delay / 2 + 1 : UINT64_MAX;
}
