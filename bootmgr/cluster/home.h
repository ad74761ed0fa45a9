/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a node keeps of its cluster: `cluster/` in the data directory, mode 0700, outside both slots and every snapshot.
 *
 *      ca.key ca.pem                the cluster's CA: controllers hold its key, engines its certificate
 *      name                         this node's
 *      node.key node.pem            its own
 *      controllers                  URLs of the controllers' HTTPS interfaces, one a line; on an engine written last
 *      store-ca.key store-ca.pem    the store's CA, on controllers
 *      store.key store.pem          this member's of the store
 *      store.endpoints              etcd's members as controllers ask them, a URL a line
 *      etcd.env                     what bootmgr-etcd.service starts with; written last: it is there when all is
 *      etcd/                        etcd's data
 *      bundles/DIGEST               bundles that a controller keeps for the others, by the digest of their manifest
 *      journal                      this node's (cluster/node.h)
 *      store.json                   the local store of a machine that stands alone */
#pragma once

#include "cluster/store.h"
#include "cluster/token.h"
#include "slot/slot.h"

#define CLUSTER_HOME "cluster"
#define STORE_PORT   2379
#define PEER_PORT    2380

struct cluster_setup {
        const char *cluster, *name;   /* names of the cluster and of this node */
        const char *const *addresses; /* at which others reach it; NULL-terminated, at least one */
};

/* Makes a cluster of one controller. -EEXIST, kind_usage: there is one. One that was interrupted is begun anew. */
int cluster_init(const char *data, const struct cluster_setup *setup, uint64_t now, struct error *e);

/* The directory. `make`: when it is not there. fd or -errno. */
int home_open(const char *data, bool make, struct error *e);

/* The lines of a file in it, each an URL, which lie in *ret_text (malloc'ed). */
int home_endpoints(int home, const char *name, char **ret_text, const char *ret[static CLIENT_ENDPOINTS + 1],
                   struct error *e);

/* What this machine is, by what it keeps. */
enum node_role cluster_role(const char *data);
/* malloc'ed, NULL: no memory. */
char *cluster_bundle_path(const char *data, const uint8_t digest[static DIGEST_SIZE]);
int cluster_name(const char *data, char ret[static NODE_NAME_SIZE], struct error *e);

/* The store that this machine's role has: etcd where cluster_init() was, else the local one. */
int cluster_open_store(const char *data, sd_event *event, struct store **ret, struct error *e);

/* A new join token, which the store knows from now on. */
int cluster_make_token(const char *data, enum node_role role, uint64_t expires, char text[static TOKEN_TEXT_MAX],
                       struct error *e);
