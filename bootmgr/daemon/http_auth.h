/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who asks, and what they may: by a client certificate that the cluster's authority has signed, or by a bearer token.
 *
 *      certificate     subject CN = name, OU = role: operator and controller operate, engine reads
 *      token           a line of the file: NAME read|operate SHA-256-OF-THE-TOKEN; read again when it changes */
#pragma once

#include "base/error.h"

#define IDENTITY_NAME_SIZE 64

enum right { RIGHT_NONE, RIGHT_READ, RIGHT_OPERATE };

struct identity {
        char name[IDENTITY_NAME_SIZE];
        char role[16]; /* "operator", "controller", "engine", "token" */
        enum right right;
        uint8_t key[32]; /* SHA-256 of the public key of the certificate (SubjectPublicKeyInfo); zeros: a token */
};

struct bearer {
        char name[IDENTITY_NAME_SIZE];
        enum right right;
        uint8_t digest[32];
};

struct token_file {
        const char *path;
        struct bearer *tokens; /* owned */
        size_t n;
        bool loaded;
        uint64_t mtime, inode; /* of what was read, in ns; 0: nothing was */
};

/* Lines as above. -EINVAL names the line. Outputs untouched on failure. */
int tokens_parse(char *text, struct bearer **ret, size_t *ret_n, struct error *e);
void token_file_done(struct token_file *f);

/* By the value of an Authorization header. -EACCES, kind_not_authenticated. */
int auth_by_token(struct token_file *f, const char *header, struct identity *ret, struct error *e);
/* By the certificate of a gnutls_session_t. -ENOENT: there is none; -EACCES, kind_not_authenticated: and why. */
int auth_by_certificate(void *session, struct identity *ret, struct error *e);
