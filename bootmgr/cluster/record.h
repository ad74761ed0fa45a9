/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a cluster writes down: docs/cluster.md says who writes which when.
 *
 *      store   bootmgr/record             struct cluster_record     which version the cluster runs, since which epoch
 *              bootmgr/operation          struct cluster_operation  the open operation; no key: none
 *              bootmgr/votes/ID/NAME      struct vote               written once
 *              bootmgr/orders/ID/NAME     struct order              rolling: this engine's turn
 *              bootmgr/nodes/NAME         struct member; .deleted: the one deleted last
 *              bootmgr/status/ROLE/NAME   struct member_status      what a node says of itself
 *              bootmgr/log/EPOCH          struct cluster_record     each record, of the newest epochs
 *              bootmgr/history/ID         struct cluster_operation  one that is over, of the newest
 *      DATA    cluster/journal            struct journal            a node's own
 *
 * Each is one JSON object with a format and a minor. Another format is refused (-EPROTONOSUPPORT). Members that this program
 * does not know are kept and written back, so that the previous version can finish what a newer one has begun. Every known
 * member has a bound. Pure: bytes in, bytes out.
 */
#pragma once

#include "base/json.h"
#include "cluster/role.h"
#include "slot/slot.h"

#define CLUSTER_FORMAT       1
#define CLUSTER_MINOR        0
#define CLUSTER_VALUE_MAX    MIB(1) /* etcd takes 1.5 MiB in one request */
#define CLUSTER_UNKNOWN_MAX  64     /* members that are not known */
#define CLUSTER_MEMBERS_MAX  10000
#define CLUSTER_CONTROLLERS  3 /* at most: one more would only slow the others down */
#define CLUSTER_EPOCH_MAX    (UINT64_C(1) << 62)
#define CLUSTER_TEXT_SIZE    256
#define CLUSTER_KIND_SIZE    32
#define CLUSTER_FENCES_MAX   64
#define CLUSTER_ID_SIZE      16
#define CLUSTER_ID_TEXT_SIZE 33
#define CLOCK_ERROR_UNKNOWN  ((uint64_t)INT64_MAX)

/* A version by its identity: two builds with one version string are two. */
struct version_id {
        char version[SLOT_VERSION_SIZE]; /* "": none */
        uint8_t digest[DIGEST_SIZE];     /* of its manifest */
};

/* Members that joined in one of these epochs are refused: they are not part of the snapshot that was gone back to. */
struct fence {
        uint64_t from, to;
};

enum record_origin { ORIGIN_INIT, ORIGIN_COMMIT, ORIGIN_GO_BACK, ORIGIN_FOLLOW, ORIGIN_FINALIZE, _ORIGIN_MAX };

struct cluster_record {
        uint64_t epoch;             /* one more at each decision; 1 is the first */
        struct version_id running;  /* what every node is to run */
        struct version_id previous; /* what a rollback goes to; version "": nothing */
        uint64_t previous_epoch;    /* the last epoch of the previous version: its snapshot's */
        bool finalized;             /* the way back was given up */
        enum record_origin origin;
        uint8_t operation[CLUSTER_ID_SIZE]; /* that wrote it; zeros: none did */
        uint64_t written;                   /* realtime µs */
        struct fence fences[CLUSTER_FENCES_MAX];
        size_t n_fences;
        uint64_t minor;
        json_t *unknown; /* owned; as in the others */
};

enum cluster_phase { PHASE_IDLE, PHASE_PREPARE, PHASE_CONTROLLERS, PHASE_ENGINES, PHASE_TAKE_BACK, _PHASE_MAX };
enum cluster_result {
        CLUSTER_IN_PROGRESS,
        CLUSTER_DONE,
        CLUSTER_PARTIAL,
        CLUSTER_FAILED,
        CLUSTER_ABORTED,
        _CLUSTER_RESULT_MAX
};
enum engines_mode { ENGINES_TOGETHER, ENGINES_ROLLING, _ENGINES_MODE_MAX };

struct straggler {
        char name[NODE_NAME_SIZE];
        char reason[CLUSTER_TEXT_SIZE];
};

struct cluster_operation {
        uint8_t id[CLUSTER_ID_SIZE];
        enum operation_kind kind; /* UPGRADE or ROLLBACK */
        enum cluster_phase phase; /* IDLE: it is over */
        enum cluster_result result;
        struct version_id from, to;
        uint64_t epoch;   /* of its commit; 0: not decided */
        bool strict;      /* engines veto too */
        bool one_instant; /* controllers and engines switch at once */
        bool formed;      /* all controllers have reached its version: no single one takes it back any more */
        enum engines_mode engines;
        uint64_t max_unavailable;             /* rolling: engines at work at a time */
        uint64_t opened, ended;               /* realtime µs, as all times here */
        uint64_t prepare_limit, switch_limit; /* µs for a phase */
        uint64_t lead;     /* µs from the order to the instant: services are stopped and configuration is sealed in it */
        uint64_t deadline; /* of this phase */
        uint64_t controllers_at, engines_at; /* instants; 0: not yet, or in turn. Of a take-back: both */
        char reason[CLUSTER_TEXT_SIZE];      /* why it was aborted or taken back */
        char requested_by[NODE_NAME_SIZE];
        struct cluster_record before; /* the record that it found: what a take-back restores */
        struct straggler *stragglers; /* owned: named at the commit, and again at the end, be it an abort */
        size_t n_stragglers;
        uint64_t stragglers_more; /* so many are not named: there is no room for all in one value of the store */
        uint64_t minor;
        json_t *unknown;
};

struct member {
        char name[NODE_NAME_SIZE];
        enum node_role role;
        uint64_t joined;                 /* the epoch at that moment */
        uint64_t added;                  /* realtime µs */
        char address[CLUSTER_TEXT_SIZE]; /* of a controller: https://HOST:PORT, where nodes ask it; "": not known */
        uint8_t key[DIGEST_SIZE];        /* of its certificate: key_digest(). Zeros: not known */
        uint64_t minor;
        json_t *unknown;
};

struct vote {
        bool yes;
        char kind[CLUSTER_KIND_SIZE]; /* of a NO: an error kind; "" */
        char message[CLUSTER_TEXT_SIZE];
        uint64_t clock_error; /* µs by which its clock may be off the controllers'; CLOCK_ERROR_UNKNOWN: nobody knows */
        uint64_t minor;
        json_t *unknown;
};

struct order {
        uint64_t at;
        uint64_t minor;
        json_t *unknown;
};

struct member_status {
        uint64_t epoch; /* of the record that it follows */
        bool settled;   /* it has nothing more to do in that epoch: it runs its version, or cannot, or was taken off it */
        bool confirmed; /* the running slot */
        struct version_id running;
        uint64_t generation;
        char message[CLUSTER_TEXT_SIZE]; /* why it runs another version; "" */
        uint64_t minor;
        json_t *unknown;
};

/* A node's own, on its data partition, outside slots and snapshots. Flushed before what it announces is done. */
struct journal {
        uint8_t prepared[CLUSTER_ID_SIZE]; /* it voted YES in this operation; zeros: in none */
        uint64_t prepared_revision;        /* of the store, when it did */
        uint8_t over[CLUSTER_ID_SIZE];     /* this one is over for it, or was given up here by abort --local … */
        uint64_t over_revision;            /* … and what views of this revision, or older ones, have open is over too */
        uint64_t attempted;                /* it began to switch in this epoch, … */
        uint64_t attempted_generation;     /* … when its own generation was this */
        uint64_t reached;                  /* it ran the record's version in this epoch, confirmed */
        uint8_t staged[CLUSTER_ID_SIZE];   /* the machine's operation that the cluster staged last, not an operator */
        uint64_t minor;
        json_t *unknown;
};

enum record_type {
        RECORD_CLUSTER,   /* struct cluster_record */
        RECORD_OPERATION, /* struct cluster_operation */
        RECORD_MEMBER,
        RECORD_VOTE,
        RECORD_ORDER,
        RECORD_STATUS,
        RECORD_JOURNAL,
        _RECORD_MAX,
};

/* Room for a record of any type. */
union any_record {
        struct cluster_record record;
        struct cluster_operation operation;
        struct member member;
        struct vote vote;
        struct order order;
        struct member_status status;
        struct journal journal;
};

/* Reads a value of that type into *ret, which is overwritten on success and untouched on failure. -EPROTONOSUPPORT: another
 * format; -EINVAL with what is wrong in `e`. The caller ends it with record_done(). */
int record_decode(enum record_type type, const char *text, size_t size, void *ret, struct error *e);
/* One line of JSON, malloc'ed, or NULL: out of memory. */
char *record_encode(enum record_type type, const void *record);
/* Makes *ret a copy that owns its own. -ENOMEM. */
int record_copy(enum record_type type, const void *record, void *ret);
/* Frees what it owns and clears it. */
void record_done(enum record_type type, void *record);

static inline void cluster_record_done(struct cluster_record *r)
{
        record_done(RECORD_CLUSTER, r);
}
static inline void cluster_operation_done(struct cluster_operation *op)
{
        record_done(RECORD_OPERATION, op);
}
static inline void journal_done(struct journal *j)
{
        record_done(RECORD_JOURNAL, j);
}
#define _cleanup_cluster_record_    _cleanup_(cluster_record_done)
#define _cleanup_cluster_operation_ _cleanup_(cluster_operation_done)
#define _cleanup_journal_           _cleanup_(journal_done)

const char *cluster_phase_to_string(enum cluster_phase phase);    /* "PREPARE" … */
const char *cluster_result_to_string(enum cluster_result result); /* "IN_PROGRESS" … */

bool version_id_is(const struct version_id *v);                                /* not none */
bool version_id_equal(const struct version_id *a, const struct version_id *b); /* both are, and the same */

/* Whether who joined in that epoch is refused. */
bool cluster_record_fences(const struct cluster_record *record, uint64_t joined);
/* Adds a range, joined with one that it touches. -ENOSPC. */
int cluster_record_add_fence(struct cluster_record *record, uint64_t from, uint64_t to);
