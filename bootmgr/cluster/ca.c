/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cluster/ca.h"

#include <arpa/inet.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "base/buf.h"
#include "base/clock.h"
#include "slot/kinds.h"

#define CLOCK_SLACK   USEC_PER_DAY /* a certificate must be valid on a machine whose clock is behind */
#define SERIAL_BITS   159          /* RFC 5280: at most 20 bytes, positive */
#define ADDRESSES_MAX 16

static void pkey_free(EVP_PKEY **key)
{
        EVP_PKEY_free(*key);
}
static void x509_free(X509 **x)
{
        X509_free(*x);
}
static void req_free(X509_REQ **req)
{
        X509_REQ_free(*req);
}
static void bio_free(BIO **bio)
{
        BIO_free(*bio);
}
#define _cleanup_pkey_ _cleanup_(pkey_free)
#define _cleanup_x509_ _cleanup_(x509_free)
#define _cleanup_req_  _cleanup_(req_free)
#define _cleanup_bio_  _cleanup_(bio_free)

char *pem_free(char *pem)
{
        if (pem)
                explicit_bzero(pem, strlen(pem));
        free(pem);
        return NULL;
}

/* The library failed where only lack of memory or of entropy can make it. */
static int fail_library(struct error *e, const char *what)
{
        return fail(e, -EIO, NULL, "OpenSSL cannot %s", what);
}

static BIO *bio_of(const char *pem)
{
        size_t n = strnlen(pem, PEM_MAX + 1);

        return n <= PEM_MAX ? BIO_new_mem_buf(pem, (int)n) : NULL;
}

static X509 *read_certificate(const char *pem)
{
        _cleanup_bio_ BIO *bio = bio_of(pem);

        return bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
}

/* An empty passphrase instead of a prompt: a key that needs one is refused. */
static EVP_PKEY *read_key(const char *pem)
{
        _cleanup_bio_ BIO *bio = bio_of(pem);

        return bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, (void *)"") : NULL;
}

/* The text written to `bio`, NULL when writing failed. */
static char *text_of(BIO *bio, int written)
{
        char *data, *text;
        long n = written == 1 ? BIO_get_mem_data(bio, &data) : 0;

        if (n <= 0)
                return NULL;
        text = strndup(data, (size_t)n);
        OPENSSL_cleanse(data, (size_t)n);
        return text;
}

static int key_text(EVP_PKEY *key, char **ret, struct error *e)
{
        _cleanup_bio_ BIO *bio = BIO_new(BIO_s_mem());

        *ret = bio ? text_of(bio, PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL)) : NULL;
        return *ret ? 0 : fail_library(e, "write a key");
}

static int certificate_text(X509 *x, char **ret, struct error *e)
{
        _cleanup_bio_ BIO *bio = BIO_new(BIO_s_mem());

        *ret = bio ? text_of(bio, PEM_write_bio_X509(bio, x)) : NULL;
        return *ret ? 0 : fail_library(e, "write a certificate");
}

static bool is_p256(EVP_PKEY *key)
{
        char group[32];

        return key && EVP_PKEY_get_base_id(key) == EVP_PKEY_EC &&
               EVP_PKEY_get_group_name(key, group, sizeof(group), NULL) == 1 && streq(group, SN_X9_62_prime256v1);
}

int key_make(char **ret_key, struct error *e)
{
        _cleanup_pkey_ EVP_PKEY *key = EVP_EC_gen(SN_X9_62_prime256v1);

        return key ? key_text(key, ret_key, e) : fail_library(e, "make a key");
}

static bool add_name(X509_NAME *name, int nid, const char *value)
{
        return X509_NAME_add_entry_by_NID(name, nid, MBSTRING_UTF8, (const unsigned char *)value, -1, -1, 0) == 1;
}

/* The first one of this kind in a subject; false unless it is there once, without a NUL, and fits. */
static bool get_name(const X509_NAME *name, int nid, char *text, size_t size)
{
        int at = X509_NAME_get_index_by_NID(name, nid, -1), n;

        if (at < 0 || X509_NAME_get_index_by_NID(name, nid, at) >= 0)
                return false;
        n = X509_NAME_get_text_by_NID((X509_NAME *)name, nid, text, (int)size);
        return n > 0 && (size_t)n < size - 1 && strlen(text) == (size_t)n;
}

static bool set_time(ASN1_TIME *t, uint64_t usec)
{
        return ASN1_TIME_adj(t, (time_t)(usec / USEC_PER_SEC), 0, 0) != NULL;
}

static bool set_serial(X509 *x)
{
        BIGNUM *n = BN_new();
        bool good = n && BN_rand(n, SERIAL_BITS, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
                    BN_to_ASN1_INTEGER(n, X509_get_serialNumber(x));

        BN_free(n);
        return good;
}

static bool add_extension(X509 *x, X509 *issuer, int nid, const char *value)
{
        X509V3_CTX context;
        X509_EXTENSION *extension;
        bool good;

        X509V3_set_ctx(&context, issuer, x, NULL, NULL, 0);
        extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
        good = extension && X509_add_ext(x, extension, -1) == 1;
        X509_EXTENSION_free(extension);
        return good;
}

int ca_make(const char *cluster, uint64_t now, char **ret_key, char **ret_certificate, struct error *e)
{
        _cleanup_pkey_ EVP_PKEY *key = EVP_EC_gen(SN_X9_62_prime256v1);
        _cleanup_x509_ X509 *x = X509_new();
        _cleanup_free_ char *name = xasprintf("bootmgr cluster %s", cluster), *certificate = NULL;
        int r;

        if (!node_name_valid(cluster))
                return fail(e, -EINVAL, &kind_usage, "'%s' cannot be the name of a cluster", cluster);
        if (!key || !x || !name || X509_set_version(x, X509_VERSION_3) != 1 || !set_serial(x) ||
            !set_time(X509_getm_notBefore(x), now - CLOCK_SLACK) || !set_time(X509_getm_notAfter(x), now + CA_LIFE) ||
            !add_name(X509_get_subject_name(x), NID_commonName, name) ||
            X509_set_issuer_name(x, X509_get_subject_name(x)) != 1 || X509_set_pubkey(x, key) != 1 ||
            !add_extension(x, x, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") ||
            !add_extension(x, x, NID_key_usage, "critical,keyCertSign,cRLSign") ||
            !add_extension(x, x, NID_subject_key_identifier, "hash") || X509_sign(x, key, EVP_sha256()) == 0)
                return fail_library(e, "make the cluster's CA");
        r = certificate_text(x, &certificate, e);
        if (r >= 0)
                r = key_text(key, ret_key, e);
        if (r >= 0)
                *ret_certificate = TAKE_PTR(certificate);
        return r;
}

int csr_make(const char *key, const char *name, char **ret_csr, struct error *e)
{
        _cleanup_pkey_ EVP_PKEY *k = read_key(key);
        _cleanup_req_ X509_REQ *req = X509_REQ_new();
        _cleanup_bio_ BIO *bio = BIO_new(BIO_s_mem());

        if (!k)
                return fail(e, -EINVAL, &kind_certificate, "the key of this node is not a private key in PEM");
        if (!req || !bio || X509_REQ_set_version(req, X509_REQ_VERSION_1) != 1 ||
            !add_name(X509_REQ_get_subject_name(req), NID_commonName, name) || X509_REQ_set_pubkey(req, k) != 1 ||
            X509_REQ_sign(req, k, EVP_sha256()) == 0)
                return fail_library(e, "make a certificate request");
        *ret_csr = text_of(bio, PEM_write_bio_X509_REQ(bio, req));
        return *ret_csr ? 0 : fail_library(e, "write a certificate request");
}

static int read_csr(const char *csr, X509_REQ **ret, struct error *e)
{
        _cleanup_bio_ BIO *bio = bio_of(csr);
        _cleanup_req_ X509_REQ *req = bio ? PEM_read_bio_X509_REQ(bio, NULL, NULL, NULL) : NULL;
        EVP_PKEY *key = req ? X509_REQ_get0_pubkey(req) : NULL;

        if (!req)
                return fail(e, -EBADMSG, &kind_certificate, "there is no certificate request in PEM of at most %d bytes",
                            PEM_MAX);
        if (!is_p256(key))
                return fail(e, -EBADMSG, &kind_certificate, "the key of a certificate request must be of the curve P-256");
        if (X509_REQ_verify(req, key) != 1)
                return fail(e, -EBADMSG, &kind_certificate, "the signature of a certificate request does not match its key");
        *ret = TAKE_PTR(req);
        return 0;
}

int csr_check(const char *csr, char name[static NODE_NAME_SIZE], struct error *e)
{
        _cleanup_req_ X509_REQ *req = NULL;
        char found[NODE_NAME_SIZE + 1];
        int r = read_csr(csr, &req, e);

        if (r < 0)
                return r;
        if (!get_name(X509_REQ_get_subject_name(req), NID_commonName, found, sizeof(found)) || !node_name_valid(found))
                return fail(e, -EBADMSG, &kind_certificate, "a certificate request names no node");
        strcpy(name, found);
        return 0;
}

static int add_address(struct buf *names, const char *address, struct error *e)
{
        uint8_t binary[sizeof(struct in6_addr)];

        if (inet_pton(AF_INET, address, binary) == 1 || inet_pton(AF_INET6, address, binary) == 1)
                buf_printf(names, ",IP:%s", address);
        else if (node_name_valid(address)) /* what holds for names of nodes holds for those of hosts */
                buf_printf(names, ",DNS:%s", address);
        else
                return fail(e, -EINVAL, &kind_usage, "'%s' is neither a host name nor an IP address", address);
        return 0;
}

static int add_role(X509 *x, X509 *issuer, const char *name, enum node_role role, const char *const *addresses,
                    struct error *e)
{
        _cleanup_buf_ struct buf names = {};
        size_t n = 0;
        int r = 0;

        buf_printf(&names, "DNS:%s", name);
        if (role == ROLE_CONTROLLER)
                buf_puts(&names, ",DNS:localhost,IP:127.0.0.1,IP:::1");
        for (; role == ROLE_CONTROLLER && addresses && addresses[n] && r >= 0; n++)
                r = n == ADDRESSES_MAX ? -E2BIG : add_address(&names, addresses[n], e);
        if (r < 0)
                return fail(e, r, &kind_usage, "a certificate holds at most %d addresses", ADDRESSES_MAX);
        if (names.failed)
                return -ENOMEM;
        if ((role == ROLE_OPERATOR || add_extension(x, issuer, NID_subject_alt_name, names.data)) &&
            add_extension(x, issuer, NID_ext_key_usage, role == ROLE_CONTROLLER ? "serverAuth,clientAuth" : "clientAuth"))
                return 0;
        return fail_library(e, "write who a certificate is for");
}

static uint64_t time_of(const ASN1_TIME *t)
{
        struct tm tm;
        time_t seconds = ASN1_TIME_to_tm(t, &tm) == 1 ? timegm(&tm) : -1;

        return seconds < 0 ? 0 : (uint64_t)seconds * USEC_PER_SEC;
}

int ca_issue(const char *ca_key, const char *ca, const char *csr, const char *name, enum node_role role,
             const char *const *addresses, uint64_t now, char **ret_certificate, struct error *e)
{
        _cleanup_pkey_ EVP_PKEY *key = read_key(ca_key);
        _cleanup_x509_ X509 *issuer = read_certificate(ca), *x = X509_new();
        _cleanup_req_ X509_REQ *req = NULL;
        int r;

        if (!key || !issuer || X509_check_private_key(issuer, key) != 1)
                return fail(e, -EINVAL, &kind_certificate,
                            "the cluster's CA is damaged: its key and certificate do not match");
        if (!node_name_valid(name))
                return fail(e, -EINVAL, &kind_usage, "'%s' cannot be the name of a node", name);
        if (role != ROLE_CONTROLLER && role != ROLE_ENGINE && role != ROLE_OPERATOR)
                return fail(e, -EINVAL, &kind_usage, "the role %s has no certificate", node_role_to_string(role));
        r = read_csr(csr, &req, e);
        if (r < 0)
                return r;
        if (!x || X509_set_version(x, X509_VERSION_3) != 1 || !set_serial(x) ||
            !set_time(X509_getm_notBefore(x), now - CLOCK_SLACK) ||
            !set_time(X509_getm_notAfter(x), MIN(now + CERTIFICATE_LIFE, time_of(X509_get0_notAfter(issuer)))) ||
            X509_set_issuer_name(x, X509_get_subject_name(issuer)) != 1 ||
            !add_name(X509_get_subject_name(x), NID_organizationalUnitName, node_role_to_string(role)) ||
            !add_name(X509_get_subject_name(x), NID_commonName, name) ||
            X509_set_pubkey(x, X509_REQ_get0_pubkey(req)) != 1 ||
            !add_extension(x, issuer, NID_basic_constraints, "critical,CA:FALSE") ||
            !add_extension(x, issuer, NID_key_usage, "critical,digitalSignature") ||
            !add_extension(x, issuer, NID_subject_key_identifier, "hash") ||
            !add_extension(x, issuer, NID_authority_key_identifier, "keyid:always"))
                return fail_library(e, "make a certificate");
        r = add_role(x, issuer, name, role, addresses, e);
        if (r >= 0 && X509_sign(x, key, EVP_sha256()) == 0)
                r = fail_library(e, "sign a certificate");
        return r < 0 ? r : certificate_text(x, ret_certificate, e);
}

static int fingerprint_of(X509 *x, uint8_t fingerprint[static SHA256_SIZE])
{
        unsigned n = SHA256_SIZE;

        return X509_digest(x, EVP_sha256(), fingerprint, &n) == 1 ? 0 : -EIO;
}

/* 0, or the code of the library's verification (X509_V_ERR_…). */
static int verify_chain(X509 *issuer, X509 *x, uint64_t now)
{
        X509_STORE *store = X509_STORE_new();
        X509_STORE_CTX *context = X509_STORE_CTX_new();
        int r = X509_V_ERR_OUT_OF_MEM;

        if (store && context && X509_STORE_add_cert(store, issuer) == 1 &&
            X509_STORE_CTX_init(context, store, x, NULL) == 1) {
                X509_STORE_CTX_set_time(context, 0, (time_t)(now / USEC_PER_SEC));
                X509_STORE_CTX_set_purpose(context, X509_PURPOSE_SSL_CLIENT);
                r = X509_verify_cert(context) == 1 ? 0 : X509_STORE_CTX_get_error(context);
        }
        X509_STORE_CTX_free(context);
        X509_STORE_free(store);
        return r;
}

static bool read_subject(X509 *x, struct certificate *c)
{
        const X509_NAME *subject = X509_get_subject_name(x);
        char name[NODE_NAME_SIZE + 1], role[16];

        if (!get_name(subject, NID_commonName, name, sizeof(name)) || !node_name_valid(name) ||
            !get_name(subject, NID_organizationalUnitName, role, sizeof(role)) ||
            node_role_from_string(role, &c->role) < 0 || c->role == ROLE_STANDALONE)
                return false;
        strcpy(c->name, name);
        return true;
}

int certificate_verify(const char *ca, const char *certificate, uint64_t now, struct certificate *ret, struct error *e)
{
        _cleanup_x509_ X509 *issuer = read_certificate(ca), *x = read_certificate(certificate);
        struct certificate c = {};
        int r;

        if (!issuer || !x)
                return fail(e, -EBADMSG, &kind_certificate, "%s is no certificate in PEM",
                            issuer ? "what was shown" : "the cluster's CA");
        r = verify_chain(issuer, x, now);
        if (r == X509_V_ERR_CERT_HAS_EXPIRED || r == X509_V_ERR_CERT_NOT_YET_VALID)
                return fail(e, -EKEYEXPIRED, &kind_certificate, "the certificate is not valid: %s",
                            X509_verify_cert_error_string(r));
        if (r != 0)
                return fail(e, -EKEYREJECTED, &kind_certificate, "the certificate is not of this cluster: %s",
                            X509_verify_cert_error_string(r));
        if (!read_subject(x, &c))
                return fail(e, -EKEYREJECTED, &kind_certificate, "the certificate names no node and role");
        c.not_before = time_of(X509_get0_notBefore(x));
        c.not_after = time_of(X509_get0_notAfter(x));
        r = fingerprint_of(x, c.fingerprint);
        if (r < 0)
                return r;
        *ret = c;
        return 0;
}

int certificate_fingerprint(const char *certificate, uint8_t fingerprint[static SHA256_SIZE], struct error *e)
{
        _cleanup_x509_ X509 *x = read_certificate(certificate);

        if (!x)
                return fail(e, -EBADMSG, &kind_certificate, "there is no certificate in PEM of at most %d bytes", PEM_MAX);
        return fingerprint_of(x, fingerprint);
}

int certificate_end(const char *certificate, uint64_t *ret, struct error *e)
{
        _cleanup_x509_ X509 *x = read_certificate(certificate);

        if (!x)
                return fail(e, -EBADMSG, &kind_certificate, "there is no certificate in PEM of at most %d bytes", PEM_MAX);
        *ret = time_of(X509_get0_notAfter(x));
        return 0;
}

/* What every controller's has is left out: its name, and this host. */
static void add_alternative(struct buf *b, const GENERAL_NAME *name, const char *own)
{
        char text[INET6_ADDRSTRLEN + NODE_NAME_SIZE] = "";
        const unsigned char *data;
        int n;

        if (name->type == GEN_DNS) {
                data = ASN1_STRING_get0_data(name->d.dNSName);
                n = ASN1_STRING_length(name->d.dNSName);
                if (n > 0 && n < NODE_NAME_SIZE)
                        memcpy(text, data, (size_t)n);
        } else if (name->type == GEN_IPADD) {
                data = ASN1_STRING_get0_data(name->d.iPAddress);
                n = ASN1_STRING_length(name->d.iPAddress);
                if (n == 4 || n == 16)
                        inet_ntop(n == 4 ? AF_INET : AF_INET6, data, text, sizeof(text));
        }
        if (*text && !streq(text, own) && !streq(text, "localhost") && !streq(text, "127.0.0.1") && !streq(text, "::1"))
                buf_printf(b, "%s\n", text);
}

int certificate_addresses(const char *certificate, char **ret, struct error *e)
{
        _cleanup_x509_ X509 *x = read_certificate(certificate);
        GENERAL_NAMES *names = x ? X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL) : NULL;
        struct certificate c = {};
        struct buf b = {};

        if (!x || !read_subject(x, &c)) {
                GENERAL_NAMES_free(names);
                return fail(e, -EBADMSG, &kind_certificate, "the certificate names no node and role");
        }
        buf_puts(&b, "");
        for (int i = 0; i < sk_GENERAL_NAME_num(names); i++)
                add_alternative(&b, sk_GENERAL_NAME_value(names, i), c.name);
        GENERAL_NAMES_free(names);
        *ret = buf_take(&b);
        return *ret ? 0 : -ENOMEM;
}

static int digest_of_key(EVP_PKEY *key, uint8_t digest[static SHA256_SIZE], struct error *e)
{
        unsigned char *der = NULL;
        int n = key ? i2d_PUBKEY(key, &der) : -1, r = n > 0 ? sha256_data(der, (size_t)n, digest) : -EIO;

        OPENSSL_free(der);
        return r < 0 ? fail_library(e, "write a public key") : 0;
}

int csr_key_digest(const char *csr, uint8_t digest[static SHA256_SIZE], struct error *e)
{
        _cleanup_req_ X509_REQ *req = NULL;
        int r = read_csr(csr, &req, e);

        return r < 0 ? r : digest_of_key(X509_REQ_get0_pubkey(req), digest, e);
}

int certificate_key_digest(const char *certificate, uint8_t digest[static SHA256_SIZE], struct error *e)
{
        _cleanup_x509_ X509 *x = read_certificate(certificate);

        if (!x)
                return fail(e, -EBADMSG, &kind_certificate, "there is no certificate in PEM of at most %d bytes", PEM_MAX);
        return digest_of_key(X509_get0_pubkey(x), digest, e);
}

bool certificate_is_due(const struct certificate *c, uint64_t now)
{
        return now >= c->not_after - (c->not_after - c->not_before) / 3;
}

bool certificate_has_key(const char *certificate, const char *key)
{
        _cleanup_x509_ X509 *x = read_certificate(certificate);
        _cleanup_pkey_ EVP_PKEY *k = read_key(key);

        return x && k && X509_check_private_key(x, k) == 1;
}
