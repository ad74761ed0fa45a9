/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/http_auth.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/log.h"
#include "daemon/microhttpd.h"
#include "slot/kinds.h"

#define TOKENS_MAX KIB(256)
#define OID_CN     "2.5.4.3"
#define OID_OU     "2.5.4.11"

/* --- tokens ---------------------------------------------------------------------------------------------- */

static bool is_name(const char *s)
{
        size_t n = strlen(s);

        return n > 0 && n < IDENTITY_NAME_SIZE &&
               strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.@") == n;
}

static char *next_word(char **cursor)
{
        char *word;

        while ((word = strsep(cursor, " \t")) && !*word)
                ;
        return word;
}

/* 1: a token, 0: a line without one. */
static int parse_line(char *line, struct bearer *ret)
{
        char *cursor = line, *name, *right, *digest;

        line[strcspn(line, "#\r")] = '\0';
        name = next_word(&cursor);
        if (!name)
                return 0;
        right = next_word(&cursor);
        digest = next_word(&cursor);
        if (!right || !digest || next_word(&cursor) || !is_name(name) ||
            hex_decode(digest, ret->digest, sizeof(ret->digest)) < 0)
                return -EINVAL;
        strcpy(ret->name, name);
        ret->right = streq(right, "read") ? RIGHT_READ : streq(right, "operate") ? RIGHT_OPERATE : RIGHT_NONE;
        return ret->right == RIGHT_NONE ? -EINVAL : 1;
}

int tokens_parse(char *text, struct bearer **ret, size_t *ret_n, struct error *e)
{
        _cleanup_free_ struct bearer *tokens = NULL;
        char *cursor = text, *line;
        size_t n = 0;

        for (unsigned number = 1; (line = line_next(&cursor)); number++) {
                struct bearer token = {}, *grown;
                int r = parse_line(line, &token);

                if (r < 0)
                        return fail(e, r, &kind_config_invalid,
                                    "line %u is not a name, 'read' or 'operate', and 64 hexadecimal digits", number);
                if (r == 0)
                        continue;
                grown = reallocarray(tokens, n + 1, sizeof(*tokens));
                if (!grown)
                        return -ENOMEM;
                tokens = grown;
                tokens[n++] = token;
        }
        *ret = TAKE_PTR(tokens);
        *ret_n = n;
        return 0;
}

void token_file_done(struct token_file *f)
{
        free(TAKE_PTR(f->tokens));
        f->n = 0;
}

/* One that others can read, or that cannot be understood, lets nobody in. */
static void reload(struct token_file *f, const struct stat *st)
{
        _cleanup_error_ struct error e = {};
        _cleanup_free_ char *text = NULL;
        int r = 0;

        token_file_done(f);
        if (st->st_mode & 077)
                r = fail(&e, -EPERM, NULL, "its mode is %03o: it must be 0600", st->st_mode & 07777);
        if (r >= 0)
                r = file_read(AT_FDCWD, f->path, TOKENS_MAX, &text, NULL);
        if (r >= 0)
                r = tokens_parse(text, &f->tokens, &f->n, &e);
        if (r < 0)
                log_error("%s: %s: nobody gets in with a token", f->path, e.message ?: error_text(r));
}

static void refresh(struct token_file *f)
{
        struct stat st = {};
        uint64_t mtime;

        if (stat(f->path, &st) < 0)
                st = (struct stat){};
        mtime = (uint64_t)st.st_ctim.tv_sec * 1000000000 + (uint64_t)st.st_ctim.tv_nsec;
        if (f->loaded && mtime == f->mtime && st.st_ino == f->inode)
                return;
        f->loaded = true;
        f->mtime = mtime;
        f->inode = st.st_ino;
        if (mtime)
                reload(f, &st);
        else
                token_file_done(f);
}

int auth_by_token(struct token_file *f, const char *header, struct identity *ret, struct error *e)
{
        const char *token = strncasecmp(header, "Bearer ", 7) == 0 ? header + 7 : NULL;
        uint8_t digest[32];

        if (!token || !*token)
                return fail(e, -EACCES, &kind_not_authenticated, "the Authorization header is not 'Bearer TOKEN'");
        refresh(f);
        if (gnutls.hash_fast(GNUTLS_DIG_SHA256, token, strlen(token), digest) < 0)
                return -EIO;
        for (size_t i = 0; i < f->n; i++) {
                if (gnutls.memcmp(f->tokens[i].digest, digest, sizeof(digest)) != 0)
                        continue;
                *ret = (struct identity){ .right = f->tokens[i].right, .role = "token" };
                strcpy(ret->name, f->tokens[i].name);
                return 0;
        }
        return fail(e, -EACCES, &kind_not_authenticated, "the bearer token is not known");
}

/* --- certificates ---------------------------------------------------------------------------------------- */

static const struct {
        const char *role;
        enum right right;
} roles[] = {
        { "operator", RIGHT_OPERATE },
        { "controller", RIGHT_OPERATE },
        { "engine", RIGHT_READ },
};

/* Signed by ClientCA=, for clients, and valid now. */
static int verify(gnutls_session_t session, struct error *e)
{
        gnutls_typed_vdata_st purpose = { .type = GNUTLS_DT_KEY_PURPOSE_OID,
                                          .data = (unsigned char *)GNUTLS_KP_TLS_WWW_CLIENT };
        const char *why = NULL;
        unsigned status = 0;

        if (gnutls.certificate_verify_peers(session, &purpose, 1, &status) < 0)
                why = "cannot be verified";
        else if (status & GNUTLS_CERT_EXPIRED)
                why = "has expired";
        else if (status & GNUTLS_CERT_NOT_ACTIVATED)
                why = "is not valid yet";
        else if (status & GNUTLS_CERT_REVOKED)
                why = "was revoked";
        else if (status & GNUTLS_CERT_PURPOSE_MISMATCH)
                why = "is not for clients";
        else if (status & (GNUTLS_CERT_SIGNER_NOT_FOUND | GNUTLS_CERT_SIGNER_NOT_CA | GNUTLS_CERT_SIGNATURE_FAILURE))
                why = "was not signed by an authority of ClientCA=";
        else if (status)
                why = "is not valid";
        return why ? fail(e, -EACCES, &kind_not_authenticated, "the client certificate %s", why) : 0;
}

/* One value, or the name could be read in two ways. */
static int get_name(gnutls_x509_crt_t certificate, const char *oid, char *ret, size_t size)
{
        size_t n = size, second = 0;

        if (gnutls.x509_crt_get_dn_by_oid(certificate, oid, 0, 0, ret, &n) < 0 || strlen(ret) != n ||
            gnutls.x509_crt_get_dn_by_oid(certificate, oid, 1, 0, NULL, &second) != GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
                return -EINVAL;
        return 0;
}

static int read_subject(const gnutls_datum_t *der, struct identity *ret, struct error *e)
{
        struct identity identity = {};
        size_t key_size = sizeof(identity.key);
        gnutls_x509_crt_t certificate;
        int r;

        if (gnutls.x509_crt_init(&certificate) < 0)
                return -ENOMEM;
        r = gnutls.x509_crt_import(certificate, der, GNUTLS_X509_FMT_DER) < 0 ? -EINVAL : 0;
        if (r >= 0)
                r = get_name(certificate, OID_CN, identity.name, sizeof(identity.name));
        if (r >= 0)
                r = get_name(certificate, OID_OU, identity.role, sizeof(identity.role));
        if (r >= 0 && gnutls.x509_crt_get_key_id(certificate, GNUTLS_KEYID_USE_SHA256, identity.key, &key_size) < 0)
                r = -EINVAL;
        gnutls.x509_crt_deinit(certificate);
        if (r < 0 || !is_name(identity.name))
                return fail(e, -EACCES, &kind_not_authenticated,
                            "the subject of the client certificate has not one CN, its name, and one OU, its role");
        for (size_t i = 0; i < ARRAY_SIZE(roles); i++)
                if (streq(roles[i].role, identity.role))
                        identity.right = roles[i].right;
        if (identity.right == RIGHT_NONE)
                return fail(e, -EACCES, &kind_not_authenticated, "the client certificate of %s has an unknown role (its OU)",
                            identity.name);
        *ret = identity;
        return 0;
}

int auth_by_certificate(void *session, struct identity *ret, struct error *e)
{
        const gnutls_datum_t *chain;
        unsigned n = 0;
        int r;

        chain = session ? gnutls.certificate_get_peers(session, &n) : NULL;
        if (!chain || n == 0)
                return -ENOENT;
        r = verify(session, e);
        return r < 0 ? r : read_subject(&chain[0], ret, e);
}
