/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Join tokens: what an operator carries from a controller to a machine that is to become a node, once.
 *
 *      bootmgr-engine-ID-SECRET-FINGERPRINT        hexadecimal: 8, 16 and 32 bytes
 *
 * The node pins the cluster's CA by the fingerprint, so that it shows the secret to nobody else; the cluster keeps only the
 * hash of the secret, under the ID, until the token has expired. A joining is one transaction of the store: the token's
 * record says who used it, and the node's comes. The same node with the same key may ask again: its answer may have been
 * lost. */
#pragma once

#include "base/json.h"
#include "cluster/ca.h"

#define TOKEN_ID_SIZE     8
#define TOKEN_SECRET_SIZE 16
#define TOKEN_TEXT_MAX    160

struct token {
        enum node_role role;
        uint8_t id[TOKEN_ID_SIZE];
        uint8_t secret[TOKEN_SECRET_SIZE];
        uint8_t ca[SHA256_SIZE];
};

/* What the store holds of one. */
struct token_record {
        enum node_role role;
        uint8_t id[TOKEN_ID_SIZE];
        uint8_t hash[SHA256_SIZE];
        uint64_t expires;             /* realtime µs */
        char used_by[NODE_NAME_SIZE]; /* "": nobody yet */
};

/* ROLE_CONTROLLER or ROLE_ENGINE. */
int token_make(enum node_role role, const uint8_t ca[static SHA256_SIZE], struct token *ret);
void token_format(const struct token *t, char text[static TOKEN_TEXT_MAX]);
/* kind_token: not a token. Wipe it after use: token_done(). */
int token_parse(const char *text, struct token *ret, struct error *e);
void token_done(struct token *t);

int token_record_make(const struct token *t, uint64_t expires, struct token_record *ret);
/* In constant time. -EKEYREJECTED: another secret or role. -EKEYEXPIRED. Both kind_token. */
int token_check(const struct token *t, const struct token_record *record, uint64_t now, struct error *e);

json_t *token_record_to_json(const struct token_record *r);
int token_record_from_json(const json_t *o, struct token_record *ret, struct error *e);
