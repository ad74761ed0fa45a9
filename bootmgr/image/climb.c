/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "image/climb.h"

#include "base/clock.h"

#define SETTLE (1 * USEC_PER_SEC) /* a connection begins slowly */
#define WINDOW (3 * USEC_PER_SEC)

static void measure_anew(struct climb *c)
{
        c->since = 0;
        c->measuring = false;
}

/* Whether there is something to decide on. */
static bool measured(struct climb *c, const struct climb_state *at)
{
        if (c->since == 0)
                c->since = at->now + SETTLE;
        if (!c->measuring && at->now >= c->since) {
                c->measuring = true;
                c->start = *at;
        }
        return c->measuring && at->now >= c->start.now + WINDOW;
}

void climb_look(struct climb *c, struct climb_state at)
{
        uint64_t rate, time;

        if ((c->n == c->max && !c->fewer) || !measured(c, &at))
                return;
        time = at.now - c->start.now;
        if ((at.waited - c->start.waited) * 2 < time) {
                measure_anew(c); /* the reader is no faster: this says nothing of the link */
                return;
        }
        rate = (at.bytes - c->start.bytes) * USEC_PER_SEC / time;
        if (c->fewer && rate < c->rate + c->rate / 5) {
                *c = climb_begin(c->fewer, c->fewer);
        } else if (c->n == c->max) {
                *c = climb_begin(c->n, c->n);
        } else {
                c->fewer = c->n;
                c->rate = rate;
                c->n = MIN(2 * c->n, c->max);
                measure_anew(c);
        }
}
