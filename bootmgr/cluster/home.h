/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a node keeps of its cluster: `cluster/` in the data directory, mode 0700, outside both slots and every snapshot.
 *
 *      ca.key ca.pem                the cluster's CA: controllers hold its key, engines its certificate
 *      name                         this node's
 *      node.key node.pem            its own
 *      controllers                  URLs of the controllers' HTTPS interface, one a line; on engines, which it makes one:
 *                                   written last
 *      address                      the URL of this controller's own
 *      store-ca.key store-ca.pem    the store's CA, on controllers
 *      store.key store.pem          this member's of the store
 *      learner                      a controller that joined: the URL of its etcd, until that is a full member
 *      store.endpoints              etcd's members as controllers ask them, a URL a line
 *      etcd.env                     what bootmgr-etcd.service starts with; written last: it is there when all is
 *      etcd/                        etcd's data
 *      bundles/DIGEST               bundles that a controller keeps for the others, by the digest of their manifest
 *      journal                      this node's (cluster/node.h)
 *      store.json                   the local store of a machine that stands alone: ids of requests (cluster/once.h) */
#pragma once

#include "cluster/ca.h"
#include "cluster/record.h"
#include "cluster/store.h"
#include "slot/config.h"

#define CLUSTER_HOME "cluster"
#define LOCAL_STORE  "store.json"
#define STORE_PORT   2379
#define PEER_PORT    2380
#define API_PORT     8443 /* where neither Listen= nor a controller's URL names one */

struct cluster_setup {
        const char *cluster, *name;   /* names of the cluster and of this node */
        const char *const *addresses; /* at which others reach it; NULL-terminated, at least one */
        unsigned port;                /* of its HTTPS interface */
};

/* Makes a cluster of one controller. -EEXIST, kind_usage: there is one. One that was interrupted is begun anew. */
int cluster_init(const char *data, const struct cluster_setup *setup, uint64_t now, struct error *e);

/* What this machine is, by what lies there. */
enum node_role cluster_role(const char *data);
int cluster_name(const char *data, char ret[static NODE_NAME_SIZE], struct error *e);
/* malloc'ed, NULL: no memory. */
char *cluster_bundle_path(const char *data, const uint8_t digest[static DIGEST_SIZE]);
/* kind_usage: it is no controller. */
int cluster_must_control(const char *data, struct error *e);
/* As what it is a member: name, role, key, and of a controller its address. Its certificate must be good. */
int cluster_self(const char *data, struct member *ret, struct error *e);

/* The store that this machine's role has: etcd where cluster_init() was, else the local one. */
int cluster_open_store(const char *data, sd_event *event, struct store **ret, struct error *e);

/* The directory: fd or -errno; with `make` it is made when it is not there. And its files, of at most PEM_MAX bytes. */
int cluster_home(const char *data, bool make, struct error *e);
int cluster_get(int home, const char *name, char **ret, struct error *e);
int cluster_put(int home, const char *name, const char *text, struct error *e);
int cluster_drop(int home, const char *name, struct error *e); /* durable with what is put next; 0: it was not there, too */
enum node_role cluster_home_role(int home);
/* What of [API] a controller has of its cluster, where the configuration does not say: all addresses, with its own
 * certificate, for members of the cluster. */
int cluster_serve(struct config *c);
/* Of a machine that is no node: what an earlier membership has left, or one that did not come about, so that it is not taken
 * for a part of the next. Its own keys stay: who joins anew after a cut has the same. */
int cluster_clear(int home, struct error *e);
/* The lines of a file in it, each an URL, which lie in *ret_text (malloc'ed). */
int cluster_endpoints(int home, const char *name, char **ret_text, const char *ret[static CLIENT_ENDPOINTS + 1],
                      struct error *e);
/* "https://ADDRESS:PORT"; addresses of IPv6 stand in brackets. */
void cluster_url(const char *address, unsigned port, char ret[static CLUSTER_TEXT_SIZE]);
/* etcd.env. `members`: of an etcd that there is already (NAME=URL,…), this one among them; NULL: a new one. */
int cluster_put_environment(int home, const char *data, const struct cluster_setup *setup, const char *members,
                            struct error *e);
