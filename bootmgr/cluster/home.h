/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a node keeps of its cluster: `cluster/` in the data directory, mode 0700, outside both slots and every snapshot.
 *
 *      ca.key ca.pem                the cluster's CA: controllers hold its key, engines its certificate
 *      node.key node.pem            this node's
 *      store-ca.key store-ca.pem    the store's CA, on controllers
 *      store.key store.pem          this member's of the store
 *      store.endpoints              etcd's members as controllers ask them, a URL a line
 *      etcd.env                     what bootmgr-etcd.service starts with; written last: it is there when all is
 *      etcd/                        etcd's data
 *      store.json                   the local store of a machine that stands alone */
#pragma once

#include "cluster/store.h"
#include "cluster/token.h"

#define STORE_PORT 2379
#define PEER_PORT  2380

struct cluster_setup {
        const char *cluster, *name;   /* names of the cluster and of this node */
        const char *const *addresses; /* at which others reach it; NULL-terminated, at least one */
};

/* Makes a cluster of one controller. -EEXIST, kind_usage: there is one. One that was interrupted is begun anew. */
int cluster_init(const char *data, const struct cluster_setup *setup, uint64_t now, struct error *e);

/* The store that this machine's role has: etcd where cluster_init() was, else the local one. */
int cluster_open_store(const char *data, sd_event *event, struct store **ret, struct error *e);

/* A new join token, which the store knows from now on. */
int cluster_make_token(const char *data, enum node_role role, uint64_t expires, char text[static TOKEN_TEXT_MAX],
                       struct error *e);
