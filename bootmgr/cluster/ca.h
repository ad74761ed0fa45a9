/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The cluster's certificates: a CA that `cluster init` makes, one certificate for each node and operator. With image/sign
 * the only user of OpenSSL's public keys; everything goes in and out as PEM.
 *
 *      CA            EC P-256, CN "bootmgr cluster NAME", 20 years, pathlen 0
 *       ├─ node      EC P-256, CN = its name, OU = its role, 2 years, renewed in the last third
 *       └─ operator
 *
 *      role        extended key usage      subject alternative names
 *      controller  server and client       its name and addresses, localhost, 127.0.0.1, ::1
 *      engine      client                  its name
 *      operator    client                  none
 *
 * Only what the cluster decides stands in a certificate: of a request nothing is taken but the key, and that whoever asks
 * holds it. An engine's certificate is none for a server, so that no engine can pass for a controller.
 *
 * The store has a CA of its own, which issues to controllers only: etcd takes whoever its CA knows. (3.4 can be told to look
 * at a host name in the certificate as well, but then its gateway cannot reach itself any more.) */
#pragma once

#include "base/error.h"
#include "base/sha256.h"
#include "cluster/role.h"

#define PEM_MAX (16 * 1024)

#define CA_LIFE          (20 * 365 * USEC_PER_DAY)
#define CERTIFICATE_LIFE (2 * 365 * USEC_PER_DAY)

struct certificate {
        char name[NODE_NAME_SIZE];
        enum node_role role;
        uint64_t not_before, not_after; /* realtime µs */
        uint8_t fingerprint[SHA256_SIZE];
};

/* A new key and what goes with it. Texts are the caller's; keys are to be wiped with pem_free(). */
int key_make(char **ret_key, struct error *e);
int ca_make(const char *cluster, uint64_t now, char **ret_key, char **ret_certificate, struct error *e);
int csr_make(const char *key, const char *name, char **ret_csr, struct error *e);
/* The name a request gives itself; its signature and key are checked. -EBADMSG, kind_certificate. */
int csr_check(const char *csr, char name[static NODE_NAME_SIZE], struct error *e);

/* A certificate for the key of `csr`: `addresses` (NULL-terminated, may be NULL) are host names and IP addresses of a
 * controller. Not valid for longer than the CA's own. */
int ca_issue(const char *ca_key, const char *ca, const char *csr, const char *name, enum node_role role,
             const char *const *addresses, uint64_t now, char **ret_certificate, struct error *e);

/* Whether the CA issued it and it is valid at `now`, and what it says. -EKEYEXPIRED (not valid now), -EKEYREJECTED
 * (of another CA, or not of a profile above), -EBADMSG (no certificate); all kind_certificate. */
int certificate_verify(const char *ca, const char *certificate, uint64_t now, struct certificate *ret, struct error *e);
/* SHA-256 of the certificate's DER form: what tokens pin the CA by. */
int certificate_fingerprint(const char *certificate, uint8_t fingerprint[static SHA256_SIZE], struct error *e);
/* What was given to ca_issue() as addresses, one a line; the caller's. */
int certificate_addresses(const char *certificate, char **ret, struct error *e);
/* Until when it is valid, whoever issued it: realtime µs. -EBADMSG. */
int certificate_end(const char *certificate, uint64_t *ret, struct error *e);
/* In the last third of its life, or past it. */
bool certificate_is_due(const struct certificate *c, uint64_t now);
/* SHA-256 of the public key (SubjectPublicKeyInfo, DER): what a member is known by besides its name. -EBADMSG. */
int csr_key_digest(const char *csr, uint8_t digest[static SHA256_SIZE], struct error *e);
int certificate_key_digest(const char *certificate, uint8_t digest[static SHA256_SIZE], struct error *e);
/* Whether the key is that of the certificate. */
bool certificate_has_key(const char *certificate, const char *key);

/* Wipes and frees; NULL-safe; returns NULL. */
char *pem_free(char *pem);
static inline void pem_freep(char **pem)
{
        *pem = pem_free(*pem);
}
#define _cleanup_pem_ _cleanup_(pem_freep)
