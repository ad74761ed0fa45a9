/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A transaction that somebody decided on, as it grows: the driver hands plan_txn() to the store as it is; when a compare
 * does not hold it reads again and decides again. Keys and values are its own. What goes wrong while it is made is
 * remembered, as in struct buf: ask plan_failed() once at the end. */
#pragma once

#include "cluster/record.h"
#include "cluster/store.h"

#define PLAN_COMPARES_MAX 8

#define KEY_RECORD     "bootmgr/record"
#define KEY_OPERATION  "bootmgr/operation"
#define KEY_NODES      "bootmgr/nodes/"
#define KEY_DELETED    KEY_NODES ".deleted" /* the member deleted last: STORE_QUIET does not see what is not there any more */
#define KEY_STATUS     "bootmgr/status/"    /* ROLE/NAME */
#define KEY_CONTROLLER "bootmgr/status/controller/" /* who compares it compares KEY_NODES too */
#define KEY_VOTES      "bootmgr/votes/"             /* ID/NAME */
#define KEY_ORDERS     "bootmgr/orders/"            /* ID/NAME */
#define KEY_LOG        "bootmgr/log/"               /* EPOCH, 20 digits */
#define KEY_HISTORY    "bootmgr/history/"
#define KEY_TOKENS     "bootmgr/tokens/"   /* ID: struct token_record */
#define KEY_REQUESTS   "bootmgr/requests/" /* ID: what was done at once for it (cluster/once.h) */

struct plan {
        struct store_compare compares[PLAN_COMPARES_MAX];
        size_t n_compares;
        struct store_write writes[STORE_WRITES];
        size_t n_writes;
        int failed; /* negative errno */
        struct error why;
};

/* STORE_ABSENT, STORE_REVISION or STORE_QUIET. */
void plan_compare(struct plan *p, enum store_test test, uint64_t revision, const char *fmt, ...) _printf_(4, 5);
/* A record that could not be read back is no part of a plan: nobody could go on from it. */
void plan_put(struct plan *p, enum record_type type, const void *record, const char *fmt, ...) _printf_(4, 5);
/* A value that is no such record. It is copied. */
void plan_put_text(struct plan *p, const char *text, const char *fmt, ...) _printf_(3, 4);
void plan_delete(struct plan *p, bool prefix, const char *fmt, ...) _printf_(3, 4);
/* -ENOMEM, -E2BIG: more than fits into one transaction, or what record_decode() has against a record. */
int plan_failed(struct plan *p, struct error *e);
static inline struct store_txn plan_txn(const struct plan *p)
{
        return (struct store_txn){ p->compares, p->n_compares, p->writes, p->n_writes };
}
void plan_done(struct plan *p);
#define _cleanup_plan_ _cleanup_(plan_done)

/* The id of an operation as it stands in keys. */
const char *id_to_text(const uint8_t id[static CLUSTER_ID_SIZE], char text[static CLUSTER_ID_TEXT_SIZE]);
