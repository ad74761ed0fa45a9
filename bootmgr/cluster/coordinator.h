/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a controller writes next, decided from what the store says and the time. Pure. The names are those of docs/cluster.md
 * and of tests/model/cluster.pml.
 *
 *                 COMPLETE      ENOUGH        REFUSED       LATE          FORMED        ROOM          MAJORITY_LEFT
 *      IDLE                                                                                           FOLLOW
 *      PREPARE    COMMIT        COMMIT        ABORT         ABORT
 *      CONTROLLERS GO_ON                      GO_BACK       GO_BACK
 *      ENGINES    FINISH                      GO_BACK       FINISH        GO_ON         ORDER
 *      TAKE_BACK  FINISH                                    FINISH
 *
 * Any controller may do this at any time, any number of them at once: safety lies in the compares of the transactions, not
 * in who coordinates. Every transaction that changes the operation holds only if the operation is as it was read.
 */
#pragma once

#include "cluster/view.h"

enum coordinator_event {
        EVENT_WAITING,       /* nothing new */
        EVENT_COMPLETE,      /* everybody has done what this phase asks */
        EVENT_ENOUGH,        /* the deadline has passed; who can veto has voted YES */
        EVENT_REFUSED,       /* one that counts has voted NO, or a controller is back on the version before */
        EVENT_LATE,          /* the deadline has passed, and it is not enough */
        EVENT_FORMED,        /* one instant for all: the controllers have formed, engines are on their way */
        EVENT_ROOM,          /* rolling: an engine may be ordered to switch */
        EVENT_MAJORITY_LEFT, /* the majority of the controllers settled on one other version */
        _EVENT_MAX,
};

enum coordinator_action {
        COORDINATOR_NOTHING,
        COORDINATOR_COMMIT,  /* the commit point: operation, new epoch and log in one transaction */
        COORDINATOR_ABORT,   /* before a commit only */
        COORDINATOR_GO_ON,   /* the controllers have formed again: the engines' turn, and no way back any more */
        COORDINATOR_ORDER,   /* rolling: some engines' turn */
        COORDINATOR_GO_BACK, /* the controllers do not form: a new epoch takes everybody back */
        COORDINATOR_FINISH,
        COORDINATOR_FOLLOW, /* after a manual rollback: a new epoch with the version of the majority */
        _COORDINATOR_ACTION_MAX,
};

/* Since when this controller has seen the operation in its phase, and the order of each engine, on its own monotonic clock.
 * A deadline is the realtime of the machine that wrote it: one whose clock is ahead would find it passed at once. */
struct phase_watch {
        uint8_t id[CLUSTER_ID_SIZE];
        enum cluster_phase phase;
        uint64_t deadline, since;
        struct order_watch {
                uint64_t order, since;
        } * orders; /* owned; as the nodes of the view, which are the same as long as an operation is open */
        size_t n_orders;
};
/* For how many µs it has; to be asked over every view, in which it notes the same of orders. */
uint64_t coordinator_seen(struct phase_watch *watch, struct cluster_view *view, uint64_t monotonic);
void phase_watch_done(struct phase_watch *watch);

/* `now`: realtime; `seen`: as above. A phase is late when its deadline has passed and it was seen for all of its limit; or
 * when it was seen for twice its limit: who wrote the deadline may have had a clock that was ahead, and is set right since.
 */
enum coordinator_event coordinator_event(const struct cluster_view *view, uint64_t now, uint64_t seen);
enum coordinator_action coordinator_next(enum cluster_phase phase, enum coordinator_event event); /* the table */

/* Decides, and makes the transaction unless the action is NOTHING. */
int coordinator_decide(const struct cluster_view *view, uint64_t now, uint64_t seen, enum coordinator_action *ret,
                       struct plan *plan, struct error *e);

/* When to look again although the store says nothing new: the next moment after `now` at which something is late, or
 * UINT64_MAX. */
uint64_t coordinator_deadline(const struct cluster_view *view, uint64_t now, uint64_t seen);

/* The end of an open operation with that result, as both ABORT and FINISH make it. */
void coordinator_close(const struct cluster_view *view, enum cluster_result result, const char *reason, uint64_t now,
                       struct plan *plan);

const char *coordinator_action_to_string(enum coordinator_action action);
const char *coordinator_event_to_string(enum coordinator_event event);
