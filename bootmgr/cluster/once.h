/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is asked of the cluster with an id and done at once (abort, finalize, node delete) is remembered in the store, in the
 * transaction that does it: whoever repeats it may ask another controller, when another operation is open already. Of an
 * upgrade or a rollback the operation itself remembers the id. */
#pragma once

#include "cluster/change.h"

struct once {
        struct store *store;
        uint8_t id[CLUSTER_ID_SIZE]; /* zeros: it has none, and is done each time */
        const char *verb;            /* "abort" … */
        cluster_decide decide;
        void *userdata;
};

/* 1: done before, by this verb; 0: not. -EEXIST, kind_id_reused: the id is another request's; of an operation `verb` is "".
 */
int once_find(struct store *s, const uint8_t id[static CLUSTER_ID_SIZE], const char *verb, struct error *e);

/* The same on a machine that stands alone, in its local store. No transaction does both there, so it is remembered first
 * what is about to be done, and of what, and then that it is done. A cut between: who repeats it does it to that, if that is
 * still what there is. The newest PRUNE_REQUESTS are remembered. `id` as 32 hexadecimal digits. */
#define ONCE_OF_SIZE 48
/* 1: it was asked for before; *of: of what it was begun, or "": it is done. */
int once_find_alone(const char *data, const char *id, const char *verb, char of[static ONCE_OF_SIZE], struct error *e);
/* `of` is of letters, digits and blanks. Flushed. */
int once_begin_alone(const char *data, const char *id, const char *verb, const char *of, struct error *e);
int once_end_alone(const char *data, const char *id, const char *verb, struct error *e);
/* A cluster_decide; userdata is a struct once. */
int once_decide(const struct cluster_view *view, struct plan *plan, void *userdata, struct error *e);
