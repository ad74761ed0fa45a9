/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cluster/renew.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "cluster/ask.h"
#include "cluster/change.h"
#include "cluster/home.h"
#include "cluster/request.h"
#include "slot/kinds.h"

#define ADDRESSES_MAX 16

/* ---- a controller is asked ---- */

static int read_body(const char *text, struct renew_request *q, struct error *e)
{
        static const char *const known[] = { "csr", NULL };
        _cleanup_json_ json_t *o = NULL;
        const char *csr = NULL;
        char name[NODE_NAME_SIZE];
        int r = json_parse_strict(text, strlen(text), "the body", &o, e);

        if (r >= 0 && !json_is_object(o))
                r = fail(e, -EINVAL, &kind_usage, "the body is not a JSON object");
        if (r >= 0)
                r = json_check_members(o, known, "the body", e);
        if (r >= 0)
                r = json_get_string(o, "csr", &csr, e);
        if (r >= 0)
                r = csr_check(csr, name, e);
        if (r >= 0 && !streq(name, q->name))
                r = fail(e, -EPERM, &kind_not_authorized, "%s may not ask for a certificate of another node", q->name);
        if (r < 0)
                return r;
        q->csr = strdup(csr);
        return q->csr ? 0 : -ENOMEM;
}

static int read_request(const json_t *o, struct renew_request *q, struct error *e)
{
        const char *name = NULL, *key = NULL, *body = NULL;
        int r = json_get_string(o, "name", &name, e);

        if (r >= 0)
                r = json_get_string(o, "key", &key, e);
        if (r >= 0)
                r = json_get_string(o, "body", &body, e);
        if (r >= 0 && (!node_name_valid(name) || hex_decode(key, q->key, sizeof(q->key)) < 0))
                r = fail(e, -EINVAL, &kind_usage, "who asks is no node");
        if (r < 0)
                return r;
        strcpy(q->name, name);
        return read_body(body, q, e);
}

int renew_request_parse(const char *text, size_t size, struct renew_request *ret, struct error *e)
{
        _cleanup_json_ json_t *o = NULL;
        _cleanup_renew_request_ struct renew_request q = {};
        struct error why = {};
        int r = json_parse_strict(text, size, "the request", &o, &why);

        if (r >= 0)
                r = read_request(o, &q, &why);
        if (r >= 0) {
                *ret = TAKE(q, (struct renew_request){});
                return 0;
        }
        fail(e, r, r == -ENOMEM || (why.kind && why.kind != &kind_failed) ? why.kind : &kind_usage, "%s",
             why.message ?: error_text(r));
        error_done(&why);
        return r;
}

void renew_request_done(struct renew_request *q)
{
        free(TAKE_PTR(q->csr));
}

static int check_member(const char *data, const struct renew_request *q, enum node_role *ret, struct error *e)
{
        _cleanup_store_ struct store *store = NULL;
        _cleanup_cluster_view_ struct cluster_view view = {};
        const struct cluster_node *n;
        uint8_t key[SHA256_SIZE];
        int r = csr_key_digest(q->csr, key, e);

        if (r >= 0)
                r = cluster_open_to_change(data, &store, e);
        if (r >= 0)
                r = cluster_read(store, &view, e);
        if (r >= 0)
                r = request_admit_key(&view, q->name, q->key, &n, e);
        if (r < 0)
                return r;
        if (memcmp(key, q->key, sizeof(key)) != 0) {
                fail(e, -EPERM, &kind_usage, "a certificate is renewed for the key that the node has, not for another");
                return fail_hint(e, "for a new key: 'bootmgr node delete', and join anew");
        }
        *ret = n->member.role;
        return 0;
}

int cluster_renew(const char *data, const struct renew_request *q, uint64_t now, json_t **ret, struct error *e)
{
        _cleanup_pem_ char *ca_key = NULL;
        _cleanup_free_ char *ca = NULL, *certificate = NULL;
        _cleanup_close_ int home = -1;
        enum node_role role;
        int r = cluster_must_control(data, e);

        if (r >= 0)
                r = check_member(data, q, &role, e);
        if (r >= 0 && role != ROLE_ENGINE)
                r = fail(e, -EINVAL, &kind_usage, "a controller renews its certificates itself");
        if (r >= 0)
                r = home = cluster_home(data, false, e);
        if (r >= 0)
                r = cluster_get(home, "ca.key", &ca_key, e);
        if (r >= 0)
                r = cluster_get(home, "ca.pem", &ca, e);
        if (r >= 0)
                r = ca_issue(ca_key, ca, q->csr, q->name, role, NULL, now, &certificate, e);
        if (r < 0)
                return r;
        *ret = json_pack("{s:s, s:s, s:s}", "name", q->name, "role", node_role_to_string(role), "certificate", certificate);
        return *ret ? 0 : -ENOMEM;
}

/* ---- a node renews its own ---- */

static int by_asking(int home, const char *csr, char **ret, struct error *e)
{
        _cleanup_json_ json_t *body = json_pack("{s:s}", "csr", csr), *answer = NULL;
        _cleanup_free_ char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
        const char *certificate = NULL;
        struct ask ask = { .path = "/api/cluster/renew", .body = text };
        int r = text ? ask_as_node(home, &ask, &answer, e) : -ENOMEM;

        if (r >= 0)
                r = json_get_string(answer, "certificate", &certificate, e);
        if (r < 0)
                return r;
        *ret = strdup(certificate);
        return *ret ? 0 : -ENOMEM;
}

/* By the CA that lies here, for the addresses that the old one has. */
static int by_oneself(int home, const char *ca_key_name, const char *ca, const char *csr, const char *old,
                      const struct certificate *c, uint64_t now, char **ret, struct error *e)
{
        _cleanup_free_ char *text = NULL;
        _cleanup_pem_ char *ca_key = NULL;
        const char *addresses[ADDRESSES_MAX + 1] = {};
        char *cursor, *line;
        size_t n = 0;
        int r = cluster_get(home, ca_key_name, &ca_key, e);

        if (r >= 0)
                r = certificate_addresses(old, &text, e);
        if (r < 0)
                return r;
        cursor = text;
        while (n < ADDRESSES_MAX && (line = line_next(&cursor)))
                if (*line)
                        addresses[n++] = line;
        return ca_issue(ca_key, ca, csr, c->name, c->role, addresses, now, ret, e);
}

struct files {
        const char *ca, *ca_key, *key, *certificate;
};

static int renew_one(int home, const struct files *files, bool ask, uint64_t now, struct certificate *c, struct error *e)
{
        _cleanup_free_ char *ca = NULL, *old = NULL, *csr = NULL, *new = NULL;
        _cleanup_pem_ char *key = NULL;
        struct certificate renewed;
        int r = cluster_get(home, files->ca, &ca, e);

        if (r >= 0)
                r = cluster_get(home, files->certificate, &old, e);
        if (r >= 0)
                r = cluster_get(home, files->key, &key, e);
        if (r >= 0)
                r = csr_make(key, c->name, &csr, e);
        if (r >= 0)
                r = ask ? by_asking(home, csr, &new, e) : by_oneself(home, files->ca_key, ca, csr, old, c, now, &new, e);
        if (r >= 0)
                r = certificate_verify(ca, new, now, &renewed, e);
        if (r >= 0 && (!streq(renewed.name, c->name) || renewed.role != c->role || !certificate_has_key(new, key)))
                r = fail(e, -EKEYREJECTED, &kind_certificate, "the new certificate is for %s, or for another key",
                         renewed.name);
        if (r >= 0)
                r = cluster_put(home, files->certificate, new, e);
        if (r >= 0)
                *c = renewed;
        return r;
}

/* Whether it was this controller's until it expired; or will be: it was renewed while the clock was ahead. It holds the key
 * of the CA: it needs nobody to believe it that it is a controller, and nobody else would issue it another. */
static bool was_own(int home, const char *data, const char *ca, const char *certificate, uint64_t now,
                    struct certificate *ret)
{
        _cleanup_pem_ char *key = NULL;
        char name[NODE_NAME_SIZE];
        struct certificate c;
        uint64_t end;

        if (certificate_end(certificate, &end, NULL) < 0 ||
            certificate_verify(ca, certificate, end - USEC_PER_SEC, &c, NULL) < 0)
                return false;
        if (c.not_before <= now && now < end)
                return false;
        if (cluster_name(data, name, NULL) < 0 || !streq(c.name, name) || c.role != ROLE_CONTROLLER)
                return false;
        if (cluster_get(home, "node.key", &key, NULL) < 0 || !certificate_has_key(certificate, key))
                return false;
        *ret = c;
        return true;
}

static int read_own(int home, const char *data, uint64_t now, struct certificate *ret, struct error *e)
{
        _cleanup_free_ char *ca = NULL, *certificate = NULL;
        int r = cluster_get(home, "ca.pem", &ca, e);

        if (r >= 0)
                r = cluster_get(home, "node.pem", &certificate, e);
        if (r >= 0)
                r = certificate_verify(ca, certificate, now, ret, e);
        if (r != -EKEYEXPIRED)
                return r;
        if (cluster_home_role(home) != ROLE_CONTROLLER || !was_own(home, data, ca, certificate, now, ret))
                return fail_hint(e, "after 'bootmgr node delete' on a controller this machine may join anew");
        if (e)
                error_done(e);
        return 0;
}

int node_renew(const char *data, bool force, uint64_t now, uint64_t *ret_expires, bool *ret_renewed, struct error *e)
{
        static const struct files of_node = { "ca.pem", "ca.key", "node.key", "node.pem" },
                                  of_store = { "store-ca.pem", "store-ca.key", "store.key", "store.pem" };
        _cleanup_close_ int home = -1;
        struct certificate c = {}, store;
        bool engine, due;
        int r;

        if (cluster_role(data) == ROLE_STANDALONE)
                return fail(e, -ENOENT, &kind_usage, "this machine is no member of a cluster");
        r = home = cluster_home(data, false, e);
        if (r >= 0)
                r = read_own(home, data, now, &c, e);
        if (r < 0)
                return r;
        store = c; /* the same node, as its etcd */
        engine = cluster_home_role(home) == ROLE_ENGINE;
        due = force || certificate_is_due(&c, now) || now < c.not_before;
        if (due && !engine)
                r = renew_one(home, &of_store, false, now, &store, e);
        if (due && r >= 0)
                r = renew_one(home, &of_node, engine, now, &c, e);
        *ret_expires = c.not_after;
        *ret_renewed = due;
        return r;
}
