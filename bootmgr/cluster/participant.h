/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a node does next, decided from what the cluster's record and operation say, this machine's own record, and its
 * journal. Pure, and the same for controllers and engines. The names are those of docs/cluster.md and of
 * tests/model/cluster.pml.
 *
 * Where the node stands:                        What it hears:
 *      STANDS_NOWHERE   no member, or deleted        HEARS_OLD       a view older than what it has acted on
 *      STANDS_FENCED    refused                      HEARS_PEACE     no operation is open
 *      STANDS_WAITING   a switch of its own is       HEARS_OPEN      an operation that it has not answered
 *                       under way, or on trial       HEARS_PREPARED  an operation in which it voted YES
 *      STANDS_IN_PLACE  runs the record's version    HEARS_OTHER     an operation that is over for it, that began
 *      STANDS_ARRIVED   the same, not yet journaled                  while it was elsewhere, or does not ask it
 *      STANDS_BEHIND    another slot holds it        HEARS_TURN      committed, and its turn has come
 *      STANDS_WITHOUT   no slot has it to go to             HEARS_NOT_YET   committed, and others go first
 *      STANDS_STRANDED  the same, on the way back: installed anew it would have its successor's configuration
 *      STANDS_FAILED    its switch of this epoch was made, and came back; or its shutdown could not make it
 *      STANDS_LEFT      was in place in this epoch, and was taken off it
 *
 * An action is said at every view until its outcome is to be seen; the driver goes on with what it has begun.
 * Only a record's new epoch makes a node switch: never an order alone, never the version that a controller runs, never a
 * clock.
 */
#pragma once

#include "cluster/record.h"

enum participant_stand {
        STANDS_NOWHERE,
        STANDS_FENCED,
        STANDS_WAITING,
        STANDS_IN_PLACE,
        STANDS_ARRIVED,
        STANDS_BEHIND,
        STANDS_WITHOUT,
        STANDS_STRANDED,
        STANDS_FAILED,
        STANDS_LEFT,
        _STANDS_MAX,
};

enum participant_hears {
        HEARS_OLD,
        HEARS_PEACE,
        HEARS_OPEN,
        HEARS_PREPARED,
        HEARS_OTHER,
        HEARS_TURN,
        HEARS_NOT_YET,
        _HEARS_MAX,
};

enum participant_action {
        PARTICIPANT_NOTHING,
        PARTICIPANT_PREPARE, /* check and stage; then participant_prepared() or a vote of NO */
        PARTICIPANT_VOTE,    /* send the vote that the journal says again */
        PARTICIPANT_DECLINE, /* vote NO: it is not where the operation begins */
        PARTICIPANT_REACH,   /* journal that this epoch's version runs here, then say so */
        PARTICIPANT_SWITCH,  /* journal the attempt, flush, then switch to `slot` at the instant `at`; said again until it is
                                made */
        PARTICIPANT_FETCH,   /* bring the record's version into a slot, from a controller */
        PARTICIPANT_FINALIZE, /* give up this machine's way back too */
        PARTICIPANT_REFUSED,  /* stay as it is, and say why */
        _PARTICIPANT_ACTION_MAX,
};

struct participant_input {
        bool member, fenced;
        bool asked; /* for its vote */
        enum node_role role;
        uint64_t revision; /* of the view */
        const struct cluster_record *record;
        const struct cluster_operation *operation; /* NULL: none is open */
        bool voted;                                /* the store has this node's vote */
        uint64_t order;                            /* rolling: its instant; 0: none */
        const struct slot_set *set;
        int slot; /* that runs */
        const struct journal *journal;
};

struct participant_decision {
        enum participant_stand stand;
        enum participant_hears hears;
        enum participant_action action;
        struct journal journal;      /* what it is to say before the action; borrows what is unknown … */
        bool save;                   /* … if it changes */
        bool release;                /* what it was prepared for is over: local operations are free again */
        bool abandon;                /* before anything else: give up the switch that the cluster has staged here */
        bool unmade;                 /* FAILED: no slot was changed. The machine's operation says why */
        int slot;                    /* to switch to */
        bool way_back;               /* the slot that is left is what a rollback of the cluster goes to */
        uint64_t at;                 /* the instant, on the coordinator's clock; in the past or 0: at once */
        struct member_status status; /* what it says of itself */
};

/* Whether what waits for the shutdown is what the cluster has staged, and not what an operator has. */
bool participant_has_staged(const struct slot_set *set, const struct journal *journal);

/* Every input has an answer. */
void participant_decide(const struct participant_input *in, struct participant_decision *ret);
enum participant_action participant_next(enum participant_stand stand, enum participant_hears hears); /* the table */

/* The journal of a node that is about to vote YES in the open operation: flushed before the vote is sent. */
void participant_prepared(const struct participant_input *in, struct journal *ret);
/* abort --local: the node is free, and never votes in this operation again. */
void participant_abort_local(struct journal *journal);

const char *participant_stand_to_string(enum participant_stand stand);
const char *participant_hears_to_string(enum participant_hears hears);
const char *participant_action_to_string(enum participant_action action);
