/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How a controller lets nodes in: it makes tokens, and takes them. And how it takes nodes out. */
#pragma once

#include "cluster/join.h"

struct cluster_view;

/* A new join token, which the store knows from now on. */
int cluster_make_token(const char *data, enum node_role role, uint64_t expires, char text[static TOKEN_TEXT_MAX],
                       struct error *e);

/* Lets a machine in: it is a member then, and *ret what it is answered, its certificate in it. Who has used the token may
 * ask again with it, with the same name and key: its answer may have been lost. kind_token: the token is none of this
 * cluster, or has expired, or somebody else has used it; and what request_join() has against it. */
int cluster_admit(const char *data, const struct join_request *request, uint64_t now, json_t **ret, struct error *e);

/* A node that is not this one is no member any more, a controller is none of etcd either. kind_not_found: there is none.
 * `id` is that of the request, 32 hexadecimal digits: done before with it is success; "": it has none. */
int cluster_remove(const char *data, const char *name, const char *id, struct error *e);

/* Inside cluster/: etcd takes one learner at a time, so each other controller of the view must be a full member of it before
 * one of that name is let in. -EAGAIN and kind_too_many_requests: who asks waits, as in a queue. */
int admit_check_store(int home, const struct cluster_view *view, const char *name, struct error *e);
/* Inside cluster/: its etcd is let in as a learner, and what a controller gets besides goes into the answer. Repeatable. */
int admit_controller(int home, const struct join_request *q, uint64_t now, json_t *answer, struct error *e);
