/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How a machine becomes a node: what it and a controller say to each other, and the machine's side of it. The controller's
 * is admit.h.
 *
 *      machine                                             controller
 *         GET /api/cluster/ca ─────────────────────────────▶            nobody is believed yet, and nothing secret said
 *         ◀───────────────────────────── the cluster's CA                the token's fingerprint is that of this CA
 *         node.key
 *         POST /api/cluster/join {token, name, csr} ───────▶            over TLS that this CA vouches for
 *                                                                        one transaction: token used, member there
 *         ◀──────── {name, role, epoch, certificate, controllers}
 *         ca.pem, node.pem, controllers: now it is one
 *
 * A controller says besides where it is reached and asks for a certificate of the store; it gets that, the keys of both CAs,
 * and with whom its etcd is to connect (join_controller.c). etcd.env is what is written last there.
 *
 * Cut off anywhere it is begun anew: the key is there already, and the same token with the same key has the same answer.
 * join_codec.c is pure, and fuzzed; join.c is the machine. */
#pragma once

#include "base/json.h"
#include "cluster/record.h"
#include "cluster/token.h"

#define JOIN_REQUEST_MAX KIB(64)
#define JOIN_ADDRESSES   8

/* "https://HOST[:PORT]" or "HOST[:PORT]" in the one form that is kept: with scheme and port. -EINVAL. */
int controller_url(const char *text, char ret[static CLUSTER_TEXT_SIZE]);

struct join_request {
        struct token token;
        char name[NODE_NAME_SIZE];
        char *csr; /* owned */
        /* Of a controller; the texts are borrowed from `json`. */
        char url[CLUSTER_TEXT_SIZE]; /* of its interface */
        const char *addresses[JOIN_ADDRESSES + 1];
        const char *store_csr;
        json_t *json; /* owned */
};

/* What a controller says of itself. */
struct controller_setup {
        const char *const *addresses; /* NULL-terminated, at least one */
        unsigned port;                /* of its HTTPS interface */
        const char *store_csr;        /* of the request only */
};

/* Anything that is not one is the asker's fault: kind_usage, of the token kind_token, of the CSR kind_certificate. */
int join_request_parse(const char *text, size_t size, struct join_request *ret, struct error *e);
/* `token`: as it was given. NULL: no memory. It holds a secret: pem_free(). */
char *join_request_format(const char *token, const char *name, const char *csr, const struct controller_setup *controller);
void join_request_done(struct join_request *q);
#define _cleanup_join_request_ _cleanup_(join_request_done)

struct join_answer {
        char name[NODE_NAME_SIZE];
        enum node_role role;
        uint64_t epoch;
        const char *certificate; /* as all that is borrowed here: of the JSON that it was read from */
        const json_t *controllers;
        /* A controller gets these as well, else NULL. */
        const char *ca_key, *store_ca, *store_ca_key, *store_certificate;
        const char *members;     /* of etcd: NAME=URL,… */
        const json_t *endpoints; /* of etcd */
};

int join_answer_from_json(const json_t *o, struct join_answer *ret, struct error *e);

struct node_setup {
        const char *const *controllers; /* URLs as controller_url() makes them; NULL-terminated */
        const char *token;
        const char *name;
        enum node_role role;                /* that the token must have; ROLE_STANDALONE: any */
        struct controller_setup controller; /* of one */
};

/* This machine becomes a node; *ret is what the controller has answered. kind_usage: it is one already, and is still a
 * member. */
int node_join(const char *data, const struct node_setup *setup, json_t **ret, struct error *e);

/* Inside cluster/: a private key under that name, made when it is not there. */
int join_key(int home, const char *name, char **ret, struct error *e);
/* What makes this machine a controller. */
int join_put_controller(const char *data, int home, const struct node_setup *setup, const struct join_answer *a,
                        struct error *e);
/* A learner of etcd, once it runs, becomes a full member of it. In any case store.endpoints names all members that there are
 * then. For bootmgr-promote.service; may be called whenever etcd answers. */
int controller_promote(const char *data, uint64_t patience, struct error *e);
