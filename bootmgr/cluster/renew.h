/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* New certificates for nodes, in the last third of the life of the old: for the same name, role and key. The key is what the
 * cluster knows a node by; for another one it must be deleted and join anew.
 *
 *      engine        POST /api/cluster/renew {csr}, with the certificate that it has: `bootmgr cluster renew`,
 *                    which bootmgrd forks, asks the store whether it is a member still
 *      controller    has the keys of the CAs, and issues its own */
#pragma once

#include "base/json.h"
#include "cluster/ca.h"

/* Who asks, as bootmgrd knows it from the certificate, and what. */
struct renew_request {
        char name[NODE_NAME_SIZE];
        uint8_t key[SHA256_SIZE];
        char *csr; /* owned */
};

/* Pure: {"name", "role", "key", "body"}, the body being {"csr"}. */
int renew_request_parse(const char *text, size_t size, struct renew_request *ret, struct error *e);
void renew_request_done(struct renew_request *q);
#define _cleanup_renew_request_ _cleanup_(renew_request_done)

/* *ret is the answer: {"name", "role", "certificate"}. Refused as request_admit_key() does. */
int cluster_renew(const char *data, const struct renew_request *q, uint64_t now, json_t **ret, struct error *e);

/* This node's. `force`: also when it is not due. *ret_expires: of the one it has then; *ret_renewed: whether that is new. */
int node_renew(const char *data, bool force, uint64_t now, uint64_t *ret_expires, bool *ret_renewed, struct error *e);
