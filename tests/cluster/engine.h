/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One simulated engine: the product's own parsers and decisions (cluster/told.h, participant.h, offset.h) over slots and a
 * journal in memory, a clock of its own that is off and drifts, and a network that delays each way differently.
 *
 *      controller ──stream──▶ delay ──▶ told ──▶ participant_decide() ──▶ vote, status ──▶ delay ──▶ post
 *
 * What it says of instants is in true time: the clock of this machine, which is also the controller's. */
#pragma once

#include "cluster/offset.h"
#include "cluster/participant.h"
#include "cluster/told.h"
#include "wire.h"

struct simulation;

enum said { SAID_VOTE, SAID_STATUS, SAID_TIME, N_SAID };

struct engine {
        struct simulation *of;
        char name[NODE_NAME_SIZE];
        uint8_t key_digest[DIGEST_SIZE];
        uint64_t random;

        /* its clock and its network */
        int64_t ahead; /* µs, at the beginning */
        double drift;
        uint64_t delay_out, delay_in; /* µs, at least */
        struct clock_offset offset;

        /* the node */
        struct slot_set set;
        int slot;
        struct journal journal;
        struct told told;
        bool is_told, stepping, settled;

        /* what it says and hears */
        struct wire stream, post;
        char *said[N_SAID];          /* requests that wait; owned */
        int asking;                  /* which of them the connection is used for; -1: none */
        uint64_t under_way;          /* µs that its question took to where we send it from */
        uint64_t heard;              /* true µs: what comes later is heard later */
        struct heard *first, **last; /* that is under way to it, in its order; owned */
        uint64_t wait, again;
        unsigned life; /* one more with each reset: what was under way before is lost */

        /* its switch */
        char *held; /* a line with an instant, while the clock is asked; owned */
        uint64_t held_until;
        unsigned answers, holds; /* of the clock, since then; one more with each line that is held */
        bool leaving;
        int target;
        uint64_t switched, ordered; /* the instant in true time, and the one that was given; 0: none */
        uint64_t error;             /* µs by which its clock may be wrong, as it thinks itself */
};

struct simulation {
        struct wire_net net;
        struct engine *engines;
        size_t n;
        uint64_t began;                       /* true µs */
        uint64_t delay, jitter, spike, boot;  /* µs: bounds of what is drawn */
        size_t n_told, n_settled, n_switched; /* engines */
        uint64_t epoch, committed, opened;    /* the highest that was told, and when first; an operation was */
        bool open;                            /* an operation is, as the newest line says */
        uint64_t posts, refused, lines, times, times_refused; /* counted */
        void (*changed)(struct simulation *s);
};

uint64_t simulation_random(struct engine *e, uint64_t below);
/* It connects after that time, µs. */
void engine_start(struct engine *e, uint64_t wait);
void engine_done(struct engine *e);
