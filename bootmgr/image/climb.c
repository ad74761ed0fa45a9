/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "image/climb.h"

#include "base/clock.h"

#define SETTLE (USEC_PER_SEC / 2) /* a connection begins slowly */
#define WINDOW (2 * USEC_PER_SEC)
#define REST   (10 * USEC_PER_SEC) /* until it is tried again, the first time; then three times as long each time */

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
                /* What there was before may have been more than it is by now: connections begin without losses. */
                c->n = c->fewer;
                c->fewer = 0;
                c->rest = c->rest ? 3 * c->rest : REST;
                c->measuring = false;
                c->since = at.now + c->rest;
        } else if (c->n == c->max) {
                *c = climb_begin(c->n, c->n);
        } else {
                c->fewer = c->n;
                c->rate = rate;
                c->n = MIN(2 * c->n, c->max);
                measure_anew(c);
        }
}
