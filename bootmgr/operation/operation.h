/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An operation: an id, a list of steps, a result. It is kept as JSON on data (operations/<sequence>-<id>.json,
 * the highest is the current one) in the form that `show upgrade status --json` prints; the
 * state record alone says enough to boot right when data is missing. */
#pragma once

#include "base/json.h"
#include "operation/machine.h"

enum step_state { STEP_WAITING, STEP_RUNNING, STEP_DONE, STEP_FAILED, STEP_SKIPPED, _STEP_STATE_MAX };
enum operation_result { RESULT_IN_PROGRESS, RESULT_DONE, RESULT_PARTIAL, RESULT_FAILED, RESULT_ABORTED, _RESULT_MAX };

#define OPERATION_MAX_STEPS 16
#define OPERATION_ID_SIZE   33

/* How far a step is that moves bytes. */
struct step_transfer {
        uint64_t done, total, fetched, reused; /* bytes; total 0: it moves none */
        uint64_t rate;                         /* bytes of content a second, since it began */
        uint64_t left;                         /* seconds */
};

struct step_record {
        char name[24];
        enum step_state state;
        unsigned progress;   /* percent */
        uint64_t start, end; /* realtime µs; 0: not yet */
        char *message;       /* owned; NULL: none */
        struct step_transfer transfer;
};

struct operation {
        char id[OPERATION_ID_SIZE]; /* 32 hex digits */
        unsigned sequence;          /* of its file: they are ordered by it, not by a clock */
        enum operation_kind kind;
        int from_slot, to_slot;
        char from_version[SLOT_VERSION_SIZE], to_version[SLOT_VERSION_SIZE];
        uint64_t generation; /* of the switch; 0: not yet */
        enum operation_result result;
        char *reason; /* a sentence: why it failed or was started; owned; NULL: none */
        bool automatic;
        bool staged;           /* prepared: the next shutdown goes on */
        bool local;            /* the local procedure: the running version restores the configuration at shutdown */
        bool without_snapshot; /* a rollback that restores nothing: the configuration is taken over as it is */
        bool way_back;         /* the slot that is left becomes the previous one: a cluster has taken a rollback back */
        char *source;          /* bundle path or URL; owned; NULL */
        char *fallback; /* URL of the full bundle that was fetched, or parts of it, where a delta was not enough; owned; NULL
                         */
        char superseded_by[OPERATION_ID_SIZE]; /* the rollback that took its place; "": none */
        uint64_t start, end;
        struct step_record steps[OPERATION_MAX_STEPS];
        size_t n_steps;
};

void operation_done(struct operation *op);
#define _cleanup_operation_ _cleanup_(operation_done)

const char *step_state_to_string(enum step_state s);             /* "WAITING" … */
const char *operation_result_to_string(enum operation_result r); /* "IN_PROGRESS" … */
unsigned operation_progress(const struct operation *op);         /* percent of the whole */

/* The documented JSON. New reference. */
json_t *operation_to_json(const struct operation *op);
int operation_from_json(const json_t *j, struct operation *ret, struct error *e);

/* The newest operation, as it really stands: one whose worker died shows as FAILED ("interrupted").
 * -ENOENT when there never was one. Without data it is made from the record. Where the newest is an
 * automatic rollback that has done its work, it is what that took the place of: FAILED, and why. Changes nothing. */
int operation_current(struct machine *m, struct operation *ret, struct error *e);
/* All, newest first; *ret malloc'ed, its elements to be operation_done(). */
int operation_history(struct machine *m, struct operation **ret, size_t *ret_n, struct error *e);
