/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <arpa/inet.h>

#include "base/parse.h"
#include "cluster/ask.h"
#include "cluster/home.h"
#include "cluster/join.h"
#include "slot/kinds.h"

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

int controller_url(const char *text, char ret[static CLUSTER_TEXT_SIZE])
{
        const char *rest = startswith(text, "https://") ?: text;
        char host[CLUSTER_TEXT_SIZE], *bracket, *colon;
        size_t n = strlen(rest);
        uint32_t port = API_PORT;

        if (n > 0 && rest[n - 1] == '/' && rest != text)
                n--;
        if (n >= sizeof(host) - sizeof("https://:65535"))
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

static int read_request(const json_t *o, struct join_request *q, struct error *e)
{
        static const char *const known[] = { "token", "name", "csr", NULL };
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
        if (r >= 0)
                r = csr_check(csr, found, e);
        if (r >= 0 && !streq(name, found))
                r = fail(e, -EINVAL, &kind_usage, "the certificate request is not for the name of the node");
        if (r < 0)
                return r;
        strcpy(q->name, found);
        q->csr = strdup(csr);
        return q->csr ? 0 : -ENOMEM;
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

char *join_request_format(const char *token, const char *name, const char *csr)
{
        _cleanup_json_ json_t *o = json_pack("{s:s, s:s, s:s}", "token", token, "name", name, "csr", csr);

        return o ? json_dumps(o, JSON_COMPACT) : NULL;
}

void join_request_done(struct join_request *q)
{
        token_done(&q->token);
        free(TAKE_PTR(q->csr));
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
        strcpy(a.name, name);
        a.controllers = controllers;
        *ret = a;
        return 0;
}
