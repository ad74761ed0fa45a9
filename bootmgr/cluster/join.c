/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cluster/join.h"

#include <fcntl.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "cluster/ask.h"
#include "cluster/home.h"
#include "slot/kinds.h"

/* With controllers that are busy: a whole rack may join at once, or another controller be on its way in. */
#define PATIENCE (60 * USEC_PER_SEC)
#define PAUSE    (2 * USEC_PER_SEC)

/* ---- a machine that is a node already ---- */

static int is_member(const char *name, const json_t *nodes, struct error *e)
{
        const json_t *node;
        size_t i;

        json_array_foreach(nodes, i, node)
        {
                if (!streq(json_string_value(json_object_get(node, "name")), name))
                        continue;
                if (!json_is_true(json_object_get(node, "fenced"))) {
                        fail(e, -EEXIST, &kind_usage, "this machine is a member of the cluster already, as %s", name);
                        return fail_hint(e, "after 'bootmgr node delete %s' on a controller it may join anew", name);
                }
                fail(e, -EPERM, &kind_joined_after_snapshot, "%s joined after the snapshot that the cluster went back to",
                     name);
                return fail_hint(e, "an operator deletes it (bootmgr node delete %s), then it may join anew", name);
        }
        return 0;
}

/* Whether the controllers still count it as one: they tell every node who is. */
static int ask_whether_member(int home, const struct node_setup *setup, const struct member *self, struct error *e)
{
        _cleanup_json_ json_t *answer = NULL;
        _cleanup_error_ struct error why = {};
        struct ask ask = { .urls = setup->controllers, .path = "/api/cluster/nodes" };
        int r = ask_as_node(home, &ask, &answer, &why);

        if (r >= 0)
                return is_member(self->name, json_object_get(answer, "nodes"), e);
        if (why.kind == &kind_not_authorized || why.kind == &kind_not_authenticated)
                return 0;
        *e = TAKE(why, (struct error){});
        return r;
}

/* Without the first two it is none any more. */
static int forget(int home, struct error *e)
{
        static const char *const files[] = { "etcd.env", "controllers", "node.key", "store.key" };
        int r;

        for (size_t i = 0; i < ARRAY_SIZE(files); i++)
                if ((r = cluster_drop(home, files[i], e)) < 0)
                        return r;
        return cluster_clear(home, e);
}

static int leave(const char *data, int home, const struct node_setup *setup, const struct token *token, struct error *e)
{
        _cleanup_error_ struct error why = {};
        _cleanup_free_ char *ca = NULL;
        uint8_t fingerprint[SHA256_SIZE];
        struct member self;
        int r;

        if (cluster_home_role(home) == ROLE_STANDALONE)
                return cluster_clear(home, e);
        r = cluster_get(home, "ca.pem", &ca, e);
        if (r >= 0)
                r = certificate_fingerprint(ca, fingerprint, e);
        if (r < 0)
                return r;
        if (memcmp(fingerprint, token->ca, sizeof(fingerprint)) != 0) {
                fail(e, -EEXIST, &kind_usage, "this machine is a member of another cluster");
                return fail_hint(e, "to leave that, remove %s/cluster", data);
        }
        /* A certificate that has expired, or is damaged, makes nobody a member. */
        r = cluster_self(data, &self, &why);
        if (r >= 0)
                r = ask_whether_member(home, setup, &self, e);
        else if (why.kind == &kind_certificate)
                r = 0;
        else
                *e = TAKE(why, (struct error){});
        return r < 0 ? r : forget(home, e);
}

/* ---- asking ---- */

static void describe(const uint8_t fingerprint[static SHA256_SIZE], char text[static 2 * SHA256_SIZE + 1])
{
        hex_encode(fingerprint, SHA256_SIZE, text);
}

/* The CA that the token names, and no other. */
static int fetch_ca(const struct node_setup *setup, const struct token *token, char **ret, struct error *e)
{
        const struct ask ask = { .urls = setup->controllers, .path = "/api/cluster/ca", .max = PEM_MAX };
        char found_text[2 * SHA256_SIZE + 1], wanted_text[2 * SHA256_SIZE + 1];
        uint8_t found[SHA256_SIZE];
        char *ca = NULL;
        int r = ask_text(&ask, &ca, e);

        if (r < 0)
                return r;
        r = certificate_fingerprint(ca, found, e);
        if (r >= 0 && memcmp(found, token->ca, sizeof(found)) != 0) {
                describe(found, found_text);
                describe(token->ca, wanted_text);
                fail(e, -EKEYREJECTED, &kind_certificate,
                     "the CA of this controller is not the one that the token names: its fingerprint is %s, the token's %s",
                     found_text, wanted_text);
                r = fail_hint(e, "is it a controller of the cluster that made the token? Nothing secret was sent");
        }
        if (r >= 0)
                *ret = TAKE_PTR(ca);
        free(ca);
        return r;
}

/* The one that an earlier try has made, else a new one. It never leaves this machine. */
int join_key(int home, const char *name, char **ret, struct error *e)
{
        _cleanup_pem_ char *key = NULL;
        int r;

        r = file_read(home, name, PEM_MAX, &key, NULL);
        if (r == -ENOENT) {
                r = key_make(&key, e);
                if (r >= 0)
                        r = cluster_put(home, name, key, e);
        } else if (r < 0) {
                fail_errno(e, r, "cannot read cluster/%s", name);
        }
        if (r >= 0)
                *ret = TAKE_PTR(key);
        return r;
}

/* The request, with what a controller asks besides. */
static int make_request(int home, const struct node_setup *setup, const char *key, bool controller, char **ret,
                        struct error *e)
{
        struct controller_setup c = setup->controller;
        _cleanup_free_ char *csr = NULL, *store_csr = NULL;
        _cleanup_pem_ char *store_key = NULL;
        int r = csr_make(key, setup->name, &csr, e);

        if (r >= 0 && controller)
                r = join_key(home, "store.key", &store_key, e);
        if (r >= 0 && controller)
                r = csr_make(store_key, setup->name, &store_csr, e);
        if (r < 0)
                return r;
        c.store_csr = store_csr;
        *ret = join_request_format(setup->token, setup->name, csr, controller ? &c : NULL);
        return *ret ? 0 : -ENOMEM;
}

static int ask_to_join(const struct node_setup *setup, const char *ca, const char *body, json_t **ret, struct error *e)
{
        const uint64_t end = now_monotonic() + PATIENCE;
        int r;

        for (;;) {
                struct ask ask = { .urls = setup->controllers,
                                   .path = "/api/cluster/join",
                                   .body = body,
                                   .ca = ca,
                                   .max = JOIN_REQUEST_MAX };
                struct error why = {};

                r = ask_json(&ask, ret, &why);
                if (r == -EAGAIN && why.kind == &kind_too_many_requests && now_monotonic() < end) {
                        error_done(&why);
                        usleep(PAUSE);
                        continue;
                }
                if (r < 0)
                        *e = why;
                return r;
        }
}

/* ---- becoming one ---- */

static int check_certificate(const struct join_answer *a, const struct node_setup *setup, const struct token *token,
                             const char *ca, const char *key, struct error *e)
{
        struct certificate c;
        int r = certificate_verify(ca, a->certificate, now_realtime(), &c, e);

        if (r < 0)
                return r;
        if (!streq(c.name, setup->name) || c.role != token->role || !certificate_has_key(a->certificate, key))
                return fail(e, -EKEYREJECTED, &kind_certificate,
                            "the certificate that the controller gave is for %s, as %s, or for another key", c.name,
                            node_role_to_string(c.role));
        return 0;
}

/* The list makes it a node: last. What the membership before that wrote of itself meanwhile, in a step that was at work,
 * goes just before. */
static int put_answer(const char *data, int home, const struct node_setup *setup, const char *ca,
                      const struct join_answer *a, struct error *e)
{
        _cleanup_buf_ struct buf controllers = {};
        const json_t *url;
        size_t i;
        int r;

        json_array_foreach(a->controllers, i, url) buf_printf(&controllers, "%s\n", json_string_value(url));
        if (controllers.failed)
                return -ENOMEM;
        r = cluster_put(home, "ca.pem", ca, e);
        if (r >= 0)
                r = cluster_put(home, "node.pem", a->certificate, e);
        if (r >= 0)
                r = cluster_put(home, "name", a->name, e);
        if (r >= 0 && a->role == ROLE_CONTROLLER)
                return join_put_controller(data, home, setup, a, e);
        if (r >= 0)
                r = cluster_drop(home, "journal", e);
        return r < 0 ? r : cluster_put(home, "controllers", controllers.data, e);
}

static int join_with(const char *data, const struct node_setup *setup, const struct token *token, json_t **ret,
                     struct error *e)
{
        _cleanup_close_ int home = cluster_home(data, true, e);
        _cleanup_free_ char *ca = NULL;
        _cleanup_pem_ char *key = NULL, *body = NULL;
        _cleanup_json_ json_t *answer = NULL;
        struct join_answer a;
        int r = home;

        if (r >= 0)
                r = leave(data, home, setup, token, e);
        if (r >= 0)
                r = fetch_ca(setup, token, &ca, e);
        if (r >= 0)
                r = join_key(home, "node.key", &key, e);
        if (r >= 0)
                r = make_request(home, setup, key, token->role == ROLE_CONTROLLER, &body, e);
        if (r >= 0)
                r = ask_to_join(setup, ca, body, &answer, e);
        if (r >= 0)
                r = join_answer_from_json(answer, &a, e);
        if (r >= 0)
                r = check_certificate(&a, setup, token, ca, key, e);
        if (r >= 0)
                r = put_answer(data, home, setup, ca, &a, e);
        if (r >= 0)
                *ret = TAKE_PTR(answer);
        return r;
}

int node_join(const char *data, const struct node_setup *setup, json_t **ret, struct error *e)
{
        struct token token = {};
        int r = token_parse(setup->token, &token, e);

        if (r >= 0 && !node_name_valid(setup->name)) {
                fail(e, -EINVAL, &kind_usage, "'%s' cannot be the name of a node", setup->name);
                r = fail_hint(e, "--name gives it another: 1 to 63 of a to z, 0 to 9, dot and hyphen");
        }
        if (r >= 0 && setup->role != ROLE_STANDALONE && setup->role != token.role)
                r = fail(e, -EINVAL, &kind_usage, "Role= in bootmgr.conf(5) says %s, the token is for a machine that is %s",
                         node_role_to_string(setup->role), node_role_to_string(token.role));
        if (r >= 0 && token.role == ROLE_CONTROLLER && !setup->controller.addresses[0])
                r = fail(e, -EINVAL, &kind_usage,
                         "--address HOST|IP is missing: where do the other nodes reach this controller?");
        if (r >= 0)
                r = join_with(data, setup, &token, ret, e);
        token_done(&token);
        return r;
}
