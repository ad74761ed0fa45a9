/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A transaction that somebody decided on, before it is sent to the store: all of its guards hold and all is written, or
 * nothing is. The driver hands it to the store as it is; when a guard does not hold it reads again and decides again.
 * Memory that runs out while it is made is remembered, as in struct buf: ask plan_failed() once at the end. */
#pragma once

#include "cluster/record.h"

#define PLAN_KEY_SIZE   192
#define PLAN_GUARDS_MAX 8
#define PLAN_WRITES_MAX 100 /* etcd: 128 operations in a transaction, guards included */

#define KEY_RECORD     "bootmgr/record"
#define KEY_OPERATION  "bootmgr/operation"
#define KEY_NODES      "bootmgr/nodes/"
#define KEY_STATUS     "bootmgr/status/" /* ROLE/NAME */
#define KEY_CONTROLLER "bootmgr/status/controller/"
#define KEY_VOTES      "bootmgr/votes/"  /* ID/NAME */
#define KEY_ORDERS     "bootmgr/orders/" /* ID/NAME */
#define KEY_LOG        "bootmgr/log/"    /* EPOCH, 20 digits */
#define KEY_HISTORY    "bootmgr/history/"

enum guard_kind {
        GUARD_ABSENT,   /* there is no such key */
        GUARD_REVISION, /* it was last written at this revision */
        GUARD_PREFIX,   /* no key under it was written after this revision */
};

struct guard {
        enum guard_kind kind;
        char key[PLAN_KEY_SIZE];
        uint64_t revision;
};

struct plan_write {
        char key[PLAN_KEY_SIZE];
        bool prefix; /* delete all that is under it */
        char *value; /* owned; NULL: delete */
};

struct plan {
        struct guard guards[PLAN_GUARDS_MAX];
        size_t n_guards;
        struct plan_write *writes; /* owned */
        size_t n_writes;           /* at most PLAN_WRITES_MAX */
        bool failed;
};

void plan_guard(struct plan *p, enum guard_kind kind, uint64_t revision, const char *fmt, ...) _printf_(4, 5);
void plan_put(struct plan *p, enum record_type type, const void *record, const char *fmt, ...) _printf_(4, 5);
void plan_delete(struct plan *p, bool prefix, const char *fmt, ...) _printf_(3, 4);
/* 0, or -ENOMEM: no memory, or more than fits into one transaction. */
int plan_failed(const struct plan *p, struct error *e);
void plan_done(struct plan *p);
#define _cleanup_plan_ _cleanup_(plan_done)

/* The id of an operation as it stands in keys. */
const char *id_to_text(const uint8_t id[static CLUSTER_ID_SIZE], char text[static CLUSTER_ID_TEXT_SIZE]);
