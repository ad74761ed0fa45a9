/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What enumerate.c shares with the mutations (mutate.c). */
#pragma once

#include "crash.h"

struct cell_range {
        size_t cell;
        unsigned low, high;
};

struct enumeration {
        const struct operation_test *op;
        const struct limits *limits;
        struct figures *f;
        struct trace *t;
        struct expectation expected;
        unsigned event;                 /* of the cut */
        bool succeeded;                 /* the operation had, before it */
        unsigned *versions, *effective; /* of each cell; of those that matter */
        struct cell_range *pending;
        size_t n_pending;
        uint64_t *seen;
        uint64_t random;
        const char *label; /* what makes this recording another one: "fail 17 EIO once" */
        unsigned depth;
        bool thorough;
        bool made_up; /* versions of cells that the operation itself does not make: no number says which */
        /* Of a mutation: the operation as it is. Only what it cannot leave is looked at: the rest holds, or was found out.
         */
        struct trace *original;
        unsigned *durable;    /* of each cell, without the mutation: the event that made what is durable */
        unsigned long number; /* of states so far, also of those that were not asked for */
};

/* The operation's machine; *x: what is expected of it, with what the machine has by now. */
void enter(const struct operation_test *op, struct expectation *x);
/* Records the operation. Its result. */
int record_operation_test(const struct operation_test *op, struct trace *t, struct error *e);
/* Every cut from event `first` to `last`. */
void cuts_of(struct enumeration *n, unsigned first, unsigned last);
/* Looks at n->versions. */
void check_state(struct enumeration *n);
void enumeration_begin(struct enumeration *n); /* makes room for the versions */
void enumeration_end(struct enumeration *n);

/* order.c: whether the enumeration finds out that what barrier `site` makes durable and what lies behind it have changed
 * places. -ENOENT: there is nothing of either, wherever it is passed. */
int is_order_caught(struct enumeration *n, const char *site);
