/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A bounded number of threads that work on what their caller hands them, in a ring of slots:
 *
 *      caller     crew_next()  fills the slot  crew_hand()                      done(slot)
 *      a worker                                             work(slot)
 *
 * Slots are handed out and retired in the same order, so that done() sees them as they were handed, whoever was
 * first, and the first failure in that order is the one that is told. What a slot holds is the caller's own array: nothing
 * grows. Signals are the caller's thread's: what waits for something outside (a network) waits there.
 *
 *      r = crew_new(&ops, userdata, threads, slots, &crew);
 *      while (r >= 0 && there is more) {
 *              r = crew_next(crew, &slot, e);
 *              if (r >= 0)
 *                      r = crew_hand(crew);           after filling it
 *      }
 *      if (r >= 0)
 *              r = crew_finish(crew, e);
 */
#pragma once

#include "base/error.h"

struct crew_ops {
        /* In any thread; `worker` is below the number of threads (0 without any). */
        int (*work)(void *userdata, unsigned worker, unsigned slot, struct error *e);
        /* In the caller's thread, in order; may be NULL. Negative: stop with this error. */
        int (*done)(void *userdata, unsigned slot, struct error *e);
};

struct crew;

/* Processors that this process may use, at most `max`. */
unsigned crew_processors(unsigned max);

/* threads 0: crew_hand() does the work itself, in order. `slots` at least 1. */
int crew_new(const struct crew_ops *ops, void *userdata, unsigned threads, unsigned slots, struct crew **ret);
/* Stops what is not begun and waits for the rest. */
struct crew *crew_free(struct crew *c);
static inline void crew_freep(struct crew **c)
{
        *c = crew_free(*c);
}
#define _cleanup_crew_ _cleanup_(crew_freep)

/* The slot to fill next: free, or free again once the oldest was retired. */
int crew_next(struct crew *c, unsigned *ret_slot, struct error *e) _warn_unused_;
int crew_hand(struct crew *c, struct error *e) _warn_unused_;
/* Retires all that was handed. */
int crew_finish(struct crew *c, struct error *e) _warn_unused_;
