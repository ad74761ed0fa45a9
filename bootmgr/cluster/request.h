/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is asked of a controller, by people and by nodes, and the transaction that does it. Pure. A compare that does not
 * hold means: read again, and ask again. All of them are idempotent: what is already so is success and makes an empty plan.
 */
#pragma once

#include "cluster/view.h"

struct open_request {
        uint8_t id[CLUSTER_ID_SIZE];
        enum operation_kind kind;
        struct version_id to; /* of an upgrade; a rollback goes to the record's previous version */
        bool strict, one_instant;
        enum engines_mode engines;
        uint64_t max_unavailable;
        uint64_t prepare_limit, switch_limit, lead; /* µs */
        const char *requested_by;
};

/* Whether an operation of that kind can be opened: every check that needs no node. 0, or the first that fails. */
int request_check(const struct cluster_view *view, const struct open_request *request, struct error *e);
/* OPEN. An id that is open is success with an empty plan. (That one is in the history, the driver has looked.) */
int request_open(const struct cluster_view *view, const struct open_request *request, uint64_t now, struct plan *plan,
                 struct error *e);
/* Until the commit; after it -EBUSY: the way is forward. */
int request_abort(const struct cluster_view *view, const char *who, uint64_t now, struct plan *plan, struct error *e);
/* No way back any more, for every node that follows. */
int request_finalize(const struct cluster_view *view, uint64_t now, struct plan *plan, struct error *e);

/* The first record of a cluster, and its first member: of `who` the name, role, address and key. */
int request_init(const struct cluster_view *view, const struct member *who, const struct version_id *running, uint64_t now,
                 struct plan *plan, struct error *e);
/* Not while an operation is open: membership is frozen. Who is a member already is so by name, role and key; with another
 * role or key the name is taken: -EEXIST. */
int request_join(const struct cluster_view *view, const struct member *who, uint64_t now, struct plan *plan,
                 struct error *e);
int request_delete(const struct cluster_view *view, const char *name, struct plan *plan, struct error *e);

/* Whether the controller of that name decides, lets nodes in and serves them. -EPERM, kind joined-after-snapshot: it is
 * fenced, and another one is not: where all are, nobody else could put things right. kind_not_authorized: it was deleted, or
 * is none of this cluster's controllers. Before there is a record, the first one is no member yet: 0. */
int request_control(const struct cluster_view *view, const char *name, struct error *e);

/* From a node that was let in by its certificate as `name`. -ENOENT: no member; kind joined-after-snapshot: refused. */
int request_admit(const struct cluster_view *view, const char *name, const struct cluster_node **ret, struct error *e);
/* The same, where the public key of its certificate is known: that of a node that was deleted is not that of another one
 * which has its name now. kind_not_authorized. */
int request_admit_key(const struct cluster_view *view, const char *name, const uint8_t key[static DIGEST_SIZE],
                      const struct cluster_node **ret, struct error *e);
/* A vote is written once. For another operation than the open one: success, and nothing is written. */
int request_vote(const struct cluster_view *view, const char *name, const uint8_t id[static CLUSTER_ID_SIZE],
                 const struct vote *vote, struct plan *plan, struct error *e);
int request_status(const struct cluster_view *view, const char *name, const struct member_status *status, struct plan *plan,
                   struct error *e);
