/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <arpa/inet.h>

#include "base/parse.h"
#include "cluster/ask.h"
#include "cluster/etcd_members.h"
#include "cluster/home.h"
#include "cluster/join.h"
#include "slot/kinds.h"

#define HOST_SIZE (NODE_NAME_SIZE + sizeof(":65535"))

/* A name, an address of IPv4, or one of IPv6 in brackets. */
static bool host_valid(const char *host)
{
        char address[INET6_ADDRSTRLEN + 1];
        uint8_t binary[sizeof(struct in6_addr)];
        size_t n = strlen(host);

        if (*host != '[')
                return node_name_valid(host);
        if (n < 3 || n - 2 >= sizeof(address) || host[n - 1] != ']')
                return false;
        memcpy(address, host + 1, n - 2);
        address[n - 2] = '\0';
        return inet_pton(AF_INET6, address, binary) == 1;
}

static bool address_valid(const char *text)
{
        uint8_t binary[sizeof(struct in6_addr)];

        return inet_pton(AF_INET6, text, binary) == 1 || node_name_valid(text); /* those of IPv4 are names, too */
}

int controller_url(const char *text, char ret[static CLUSTER_TEXT_SIZE])
{
        const char *rest = startswith(text, "https://") ?: text;
        char host[HOST_SIZE], *bracket, *colon;
        size_t n = strlen(rest);
        uint32_t port = API_PORT;

        if (n > 0 && rest[n - 1] == '/' && rest != text)
                n--;
        if (n >= sizeof(host))
                return -EINVAL;
        memcpy(host, rest, n);
        host[n] = '\0';
        bracket = strchr(host, ']');
        colon = strchr(bracket ?: host, ':');
        if (colon) {
                *colon = '\0';
                if (parse_u32(colon + 1, &port) < 0 || port == 0 || port > UINT16_MAX)
                        return -EINVAL;
        }
        if (!host_valid(host))
                return -EINVAL;
        snprintf(ret, CLUSTER_TEXT_SIZE, "https://%s:%u", host, port);
        return 0;
}

/* ---- asking ---- */

static int read_addresses(const json_t *list, struct join_request *q, struct error *e)
{
        size_t n = json_array_size(list);

        if (n == 0 || n > JOIN_ADDRESSES)
                return fail(e, -EINVAL, &kind_usage, "a controller has 1 to %d addresses", JOIN_ADDRESSES);
        for (size_t i = 0; i < n; i++) {
                q->addresses[i] = json_string_value(json_array_get(list, i));
                if (!q->addresses[i] || !address_valid(q->addresses[i]))
                        return fail(e, -EINVAL, &kind_usage, "an address is neither a host name nor an IP address");
        }
        return 0;
}

/* What a controller has to say besides. */
static int read_controller(const json_t *o, struct join_request *q, struct error *e)
{
        char found[NODE_NAME_SIZE];
        const char *url = NULL;
        json_t *addresses = NULL;
        int r = json_get_array(o, "addresses", &addresses, e);

        if (r >= 0)
                r = read_addresses(addresses, q, e);
        if (r >= 0)
                r = json_get_string(o, "url", &url, e);
        if (r >= 0 && (controller_url(url, q->url) < 0 || !streq(url, q->url)))
                r = fail(e, -EINVAL, &kind_usage, "the URL is not https://HOST:PORT");
        if (r >= 0)
                r = json_get_string(o, "store_csr", &q->store_csr, e);
        if (r >= 0)
                r = csr_check(q->store_csr, found, e);
        if (r >= 0 && !streq(q->name, found))
                r = fail(e, -EINVAL, &kind_usage, "the certificate request is not for the name of the node");
        return r;
}

static int read_request(const json_t *o, struct join_request *q, struct error *e)
{
        static const char *const known[] = { "token", "name", "csr", "addresses", "url", "store_csr", NULL };
        static const char *const of_engine[] = { "token", "name", "csr", NULL };
        const char *token = NULL, *name = NULL, *csr = NULL;
        char found[NODE_NAME_SIZE];
        int r;

        if (!json_is_object(o))
                return fail(e, -EINVAL, &kind_usage, "the body is not a JSON object");
        r = json_check_members(o, known, "the body", e);
        if (r >= 0)
                r = json_get_string(o, "token", &token, e);
        if (r >= 0)
                r = json_get_string(o, "name", &name, e);
        if (r >= 0)
                r = json_get_string(o, "csr", &csr, e);
        if (r >= 0)
                r = token_parse(token, &q->token, e);
        if (r >= 0 && q->token.role == ROLE_ENGINE)
                r = json_check_members(o, of_engine, "what an engine asks", e);
        if (r >= 0)
                r = csr_check(csr, found, e);
        if (r >= 0 && !streq(name, found))
                r = fail(e, -EINVAL, &kind_usage, "the certificate request is not for the name of the node");
        if (r < 0)
                return r;
        strcpy(q->name, found);
        q->csr = strdup(csr);
        if (!q->csr)
                return -ENOMEM;
        return q->token.role == ROLE_CONTROLLER ? read_controller(o, q, e) : 0;
}

int join_request_parse(const char *text, size_t size, struct join_request *ret, struct error *e)
{
        _cleanup_json_ json_t *o = NULL;
        _cleanup_join_request_ struct join_request q = {};
        struct error why = {};
        int r = size <= JOIN_REQUEST_MAX ? json_parse_strict(text, size, "the body", &o, &why)
                                         : fail(&why, -E2BIG, &kind_usage, "the body has %zu bytes", size);

        if (r >= 0)
                r = read_request(o, &q, &why);
        q.json = TAKE_PTR(o);
        if (r >= 0) {
                *ret = TAKE(q, (struct join_request){});
                return 0;
        }
        fail(e, r, r == -ENOMEM || (why.kind && why.kind != &kind_failed) ? why.kind : &kind_usage, "%s",
             why.message ?: error_text(r));
        if (why.hint)
                fail_hint(e, "%s", why.hint);
        error_done(&why);
        return r;
}

char *join_request_format(const char *token, const char *name, const char *csr, const struct controller_setup *controller)
{
        _cleanup_json_ json_t *o = json_pack("{s:s, s:s, s:s}", "token", token, "name", name, "csr", csr);
        char url[CLUSTER_TEXT_SIZE];
        json_t *addresses;

        if (!o)
                return NULL;
        if (controller) {
                addresses = json_array();
                for (size_t i = 0; controller->addresses[i]; i++)
                        json_array_append_new(addresses, json_string(controller->addresses[i]));
                cluster_url(controller->addresses[0], controller->port, url);
                json_object_set_new(o, "addresses", addresses);
                json_object_set_new(o, "url", json_string(url));
                json_object_set_new(o, "store_csr", json_string(controller->store_csr));
        }
        return json_dumps(o, JSON_COMPACT);
}

void join_request_done(struct join_request *q)
{
        token_done(&q->token);
        free(TAKE_PTR(q->csr));
        json_decref(TAKE_PTR(q->json));
}

/* ---- answering ---- */

static int check_controllers(const json_t *list, struct error *e)
{
        char url[CLUSTER_TEXT_SIZE];
        size_t n = json_array_size(list);

        for (size_t i = 0; i < n; i++) {
                const char *text = json_string_value(json_array_get(list, i));

                if (!text || controller_url(text, url) < 0 || !streq(text, url))
                        return fail(e, -EBADMSG, &kind_fetch, "the controller names a controller that has no URL");
        }
        return n > 0 && n <= ASK_URLS ? 0 : fail(e, -EBADMSG, &kind_fetch, "the controller names %zu controllers", n);
}

/* "NAME=URL,NAME=URL" for a file that is read line by line. */
static bool members_valid(const char *text)
{
        return *text && !strpbrk(text, " \n\"\\'$`") && strlen(text) < ETCD_MEMBERS_MAX * CLUSTER_TEXT_SIZE;
}

static int read_answer_to_controller(const json_t *o, struct join_answer *a, struct error *e)
{
        json_t *store = NULL, *endpoints = NULL;
        int r = json_get_string(o, "ca_key", &a->ca_key, e);

        if (r >= 0)
                r = json_get_object(o, "store", &store, e);
        if (r >= 0)
                r = json_get_string(store, "ca", &a->store_ca, e);
        if (r >= 0)
                r = json_get_string(store, "ca_key", &a->store_ca_key, e);
        if (r >= 0)
                r = json_get_string(store, "certificate", &a->store_certificate, e);
        if (r >= 0)
                r = json_get_string(store, "members", &a->members, e);
        if (r >= 0)
                r = json_get_array(store, "endpoints", &endpoints, e);
        if (r >= 0 && !members_valid(a->members))
                r = fail(e, -EBADMSG, &kind_fetch, "the controller names members of the store that are none");
        if (r >= 0)
                r = check_controllers(endpoints, e);
        a->endpoints = endpoints;
        return r;
}

int join_answer_from_json(const json_t *o, struct join_answer *ret, struct error *e)
{
        const char *name = NULL, *role = NULL;
        struct join_answer a = {};
        json_t *controllers = NULL;
        int r = json_get_string(o, "name", &name, e);

        if (r >= 0)
                r = json_get_string(o, "role", &role, e);
        if (r >= 0)
                r = json_get_u64(o, "epoch", &a.epoch, e);
        if (r >= 0)
                r = json_get_string(o, "certificate", &a.certificate, e);
        if (r >= 0)
                r = json_get_array(o, "controllers", &controllers, e);
        if (r >= 0 && (!node_name_valid(name) || node_role_from_string(role, &a.role) < 0 ||
                       (a.role != ROLE_ENGINE && a.role != ROLE_CONTROLLER)))
                r = fail(e, -EBADMSG, &kind_fetch, "the controller answers to no node");
        if (r >= 0)
                r = check_controllers(controllers, e);
        if (r < 0)
                return r;
        if (a.role == ROLE_CONTROLLER)
                r = read_answer_to_controller(o, &a, e);
        if (r < 0)
                return r;
        strcpy(a.name, name);
        a.controllers = controllers;
        *ret = a;
        return 0;
}
