/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cluster/offset.h"

void clock_offset_add(struct clock_offset *o, const struct clock_answer *a)
{
        uint64_t kept;

        if (a->came <= 0 || a->went < a->came || a->received > INT64_MAX || a->delay > a->received)
                return;
        if (a->of != o->of)
                *o = (struct clock_offset){ .of = a->of };
        kept = MIN((uint64_t)(a->went - a->came), a->delay); /* the clocks do not go at the same rate */
        o->samples[o->next].offset = a->came + (a->went - a->came) / 2 - (int64_t)(a->received - a->delay / 2);
        o->samples[o->next].delay = a->delay - kept;
        o->samples[o->next].at = a->at;
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
