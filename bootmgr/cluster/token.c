/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cluster/token.h"

#include <openssl/crypto.h>
#include <sys/random.h>

#include "base/buf.h"
#include "slot/kinds.h"

#define PREFIX "bootmgr"

int token_make(enum node_role role, const uint8_t ca[static SHA256_SIZE], struct token *ret)
{
        struct token t = { .role = role };

        if (role != ROLE_CONTROLLER && role != ROLE_ENGINE)
                return -EINVAL;
        if (getrandom(t.id, sizeof(t.id), 0) != sizeof(t.id) || getrandom(t.secret, sizeof(t.secret), 0) != sizeof(t.secret))
                return -EIO;
        memcpy(t.ca, ca, sizeof(t.ca));
        *ret = t;
        token_done(&t);
        return 0;
}

void token_done(struct token *t)
{
        explicit_bzero(t, sizeof(*t));
}

void token_format(const struct token *t, char text[static TOKEN_TEXT_MAX])
{
        char id[2 * TOKEN_ID_SIZE + 1], secret[2 * TOKEN_SECRET_SIZE + 1], ca[2 * SHA256_SIZE + 1];

        hex_encode(t->id, sizeof(t->id), id);
        hex_encode(t->secret, sizeof(t->secret), secret);
        hex_encode(t->ca, sizeof(t->ca), ca);
        snprintf(text, TOKEN_TEXT_MAX, PREFIX "-%s-%s-%s-%s", node_role_to_string(t->role), id, secret, ca);
        explicit_bzero(secret, sizeof(secret));
}

static int parse(char *text, struct token *t)
{
        const char *word = strsep(&text, "-"), *role = strsep(&text, "-"), *id = strsep(&text, "-"),
                   *secret = strsep(&text, "-"), *ca = strsep(&text, "-");

        if (!ca || text || !streq(word, PREFIX) || node_role_from_string(role, &t->role) < 0 ||
            (t->role != ROLE_CONTROLLER && t->role != ROLE_ENGINE) || hex_decode(id, t->id, sizeof(t->id)) < 0 ||
            hex_decode(secret, t->secret, sizeof(t->secret)) < 0 || hex_decode(ca, t->ca, sizeof(t->ca)) < 0)
                return -EINVAL;
        return 0;
}

int token_parse(const char *text, struct token *ret, struct error *e)
{
        char copy[TOKEN_TEXT_MAX];
        struct token t = {};
        size_t n = strnlen(text, sizeof(copy));
        int r = -EINVAL;

        if (n < sizeof(copy)) {
                memcpy(copy, text, n + 1);
                r = parse(copy, &t);
        }
        if (r >= 0)
                *ret = t;
        explicit_bzero(copy, sizeof(copy));
        token_done(&t);
        if (r >= 0)
                return 0;
        fail(e, r, &kind_token, "this is not a join token"); /* never quoted: it may be most of a secret */
        return fail_hint(e, "'bootmgr cluster token' on a controller makes one");
}

/* The secret has 128 random bits: no slow hash is needed. The role is in it, so that no record can be turned into one of
 * another role without the secret. */
static int hash_secret(const struct token *t, uint8_t hash[static SHA256_SIZE])
{
        uint8_t data[1 + TOKEN_ID_SIZE + TOKEN_SECRET_SIZE];
        int r;

        data[0] = (uint8_t)t->role;
        memcpy(data + 1, t->id, TOKEN_ID_SIZE);
        memcpy(data + 1 + TOKEN_ID_SIZE, t->secret, TOKEN_SECRET_SIZE);
        r = sha256_data(data, sizeof(data), hash);
        explicit_bzero(data, sizeof(data));
        return r;
}

int token_record_make(const struct token *t, uint64_t expires, struct token_record *ret)
{
        struct token_record record = { .role = t->role, .expires = expires };
        int r = hash_secret(t, record.hash);

        if (r < 0)
                return r;
        memcpy(record.id, t->id, sizeof(record.id));
        *ret = record;
        return 0;
}

int token_check(const struct token *t, const struct token_record *record, uint64_t now, struct error *e)
{
        uint8_t hash[SHA256_SIZE];
        int r = hash_secret(t, hash);

        if (r < 0)
                return r;
        if (CRYPTO_memcmp(hash, record->hash, sizeof(hash)) != 0 || t->role != record->role ||
            memcmp(t->id, record->id, sizeof(t->id)) != 0)
                return fail(e, -EKEYREJECTED, &kind_token, "the join token is not one of this cluster");
        if (now < record->expires)
                return 0;
        fail(e, -EKEYEXPIRED, &kind_token, "the join token has expired");
        return fail_hint(e, "'bootmgr cluster token' on a controller makes another");
}

json_t *token_record_to_json(const struct token_record *r)
{
        char id[2 * TOKEN_ID_SIZE + 1], hash[2 * SHA256_SIZE + 1];

        hex_encode(r->id, sizeof(r->id), id);
        hex_encode(r->hash, sizeof(r->hash), hash);
        return json_pack("{s:s, s:s, s:s, s:I, s:s}", "id", id, "role", node_role_to_string(r->role), "hash", hash,
                         "expires", (json_int_t)r->expires, "used_by", r->used_by);
}

int token_record_from_json(const json_t *o, struct token_record *ret, struct error *e)
{
        struct token_record record = {};
        const char *id = NULL, *role = NULL, *hash = NULL, *used_by = "";
        int r = json_get_string(o, "id", &id, e);

        if (r >= 0)
                r = json_get_string(o, "role", &role, e);
        if (r >= 0)
                r = json_get_string(o, "hash", &hash, e);
        if (r >= 0)
                r = json_get_u64(o, "expires", &record.expires, e);
        if (r >= 0)
                r = json_opt_string(o, "used_by", &used_by, e);
        if (r >= 0 &&
            ((*used_by && !node_name_valid(used_by)) || hex_decode(id, record.id, sizeof(record.id)) < 0 ||
             hex_decode(hash, record.hash, sizeof(record.hash)) < 0 || node_role_from_string(role, &record.role) < 0))
                r = fail(e, -EINVAL, NULL, "the record of a join token is damaged");
        if (r < 0)
                return r;
        strcpy(record.used_by, used_by);
        *ret = record;
        return 0;
}
