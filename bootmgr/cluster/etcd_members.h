/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which servers etcd consists of: they are the controllers. One that joins is a learner first, which does not count for the
 * majority, so that the store goes on if it never starts; it is promoted once it runs and has everything. */
#pragma once

#include "cluster/record.h"

#define ETCD_MEMBERS_MAX 16

struct etcd_member {
        uint64_t id;
        char name[NODE_NAME_SIZE]; /* "": it has never started */
        char peer[CLUSTER_TEXT_SIZE], client[CLUSTER_TEXT_SIZE];
        bool learner;
};

struct etcd_members {
        struct etcd_member list[ETCD_MEMBERS_MAX];
        size_t n;
};

/* Pure: the answer of /v3/cluster/member/list and the like. -EBADMSG, kind_store. */
int etcd_members_parse(const char *text, size_t size, struct etcd_members *ret, struct error *e);
const struct etcd_member *etcd_members_find(const struct etcd_members *m, const char *peer);

/* As the controller with this directory; all wait. -EAGAIN: nobody could be asked. */
int etcd_ask(int home, const char *path, const char *body, char **ret, struct error *e);
/* As etcd says it, "3.4.23"; owned by the caller. */
int etcd_version(int home, char **ret, struct error *e);
int etcd_members_read(int home, struct etcd_members *ret, struct error *e);
/* One with this peer URL is there: *ret are all. */
int etcd_members_add(int home, const char *peer, struct etcd_members *ret, struct error *e);
int etcd_members_remove(int home, uint64_t id, struct error *e);
/* The member with this peer URL becomes a full one, as soon as it can: waits until `deadline` (monotonic µs). */
int etcd_members_promote(int home, const char *peer, uint64_t deadline, struct error *e);

/* store.endpoints holds this controller's own, and then all that there are. */
int etcd_members_keep(int home, const struct etcd_members *m, struct error *e);
