/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cluster/offset.h"

void clock_offset_add(struct clock_offset *o, int64_t theirs, uint64_t received, uint64_t delay)
{
        if (theirs <= 0 || received > INT64_MAX || delay > received)
                return;
        o->samples[o->next].offset = theirs - (int64_t)(received - delay / 2);
        o->samples[o->next].delay = delay;
        o->next = (o->next + 1) % OFFSET_SAMPLES;
        o->n = MIN(o->n + 1, (size_t)OFFSET_SAMPLES);
}

static size_t quickest(const struct clock_offset *o)
{
        size_t best = 0;

        for (size_t i = 1; i < o->n; i++)
                if (o->samples[i].delay < o->samples[best].delay)
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
