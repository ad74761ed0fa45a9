/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One step of this node in its cluster: what it was told, its journal and its own record go into participant_decide(), and
 * what comes out is done here. Done by a process of its own for each step: nothing but the journal is kept from one to the
 * next, so that it may be ended at any moment.
 *
 *      journal, flushed   before the vote, the switch and the status that it is about
 *      vote, status       are handed back: whoever told sends them to a controller */
#pragma once

#include "cluster/participant.h"
#include "cluster/told.h"
#include "operation/run.h"

struct node_context {
        struct machine *machine;
        struct observer *observer;
        int64_t offset;       /* µs: what the controllers' clock is ahead of this machine's … */
        uint64_t clock_error; /* … and by how many that may be wrong; CLOCK_ERROR_UNKNOWN: it was never measured */
};

struct node_answer {
        enum participant_stand stand;
        enum participant_hears hears;
        enum participant_action action;
        bool has_vote;
        uint8_t operation[CLUSTER_ID_SIZE]; /* that the vote is in */
        struct vote vote;
        bool has_status;
        struct member_status status;
        uint64_t newest; /* epoch that its journal knows */
        bool again;      /* what was to be done was not: ask again in a while, even when nothing changes */
};

/* Fails only where nothing can be said: no journal, no record. What an action fails with is in the answer: as a vote of NO,
 * or as the message of the status. */
int node_step(const struct node_context *c, const struct told *told, struct node_answer *ret, struct error *e);

/* Before a person chooses another version here: -EBUSY while this node is prepared for an operation of its cluster, which it
 * may have to carry out. A machine that stands alone is free. */
int node_must_be_free(struct machine *m, struct error *e);
/* abort --local: what this node has prepared for is over here, and what an operator has prepared on it, for its next
 * shutdown, is given up: then 1. -ENOENT: there is neither. */
int node_abort_local(struct machine *m, struct error *e);
/* upgrade clear: the switch of this epoch that has failed here may be tried once more. Nothing on a machine that stands
 * alone. */
int node_try_again(struct machine *m, struct error *e);

/* The newest epoch that this node was in place in, or tried to get to. 0: it knows of none. */
int node_newest_epoch(struct machine *m, uint64_t *ret, struct error *e);

/* {"stand","hears","action","operation","vote","status","newest_epoch","again"}. New reference. */
json_t *node_answer_to_json(const struct node_answer *a);
