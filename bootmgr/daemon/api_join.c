/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a machine asks that is to become a node. Nobody knows it yet: its right is the token in the body, which `bootmgr
 * cluster admit` judges. */
#include <fcntl.h>

#include "base/file.h"
#include "daemon/api.h"
#include "slot/kinds.h"

#define CA_MAX    KIB(16)
#define JOINS_MAX 4 /* at once: they must not take all readers from those who are known */

/* Public: the machine compares it with the fingerprint in its token. */
void handle_ca(struct api *api, struct http_request *r)
{
        _cleanup_free_ char *path = xasprintf("%s/cluster/ca.pem", api->http.config->data);
        _cleanup_error_ struct error e = {};
        char *text = NULL;

        if (path && file_read(AT_FDCWD, path, CA_MAX, &text, NULL) >= 0) {
                http_answer_text(r, "application/x-pem-file", text);
                return;
        }
        fail(&e, -ENOENT, &kind_not_found, "this machine is no member of a cluster");
        fail_hint(&e, "ask a controller");
        http_answer_error(r, &e);
}

void handle_join(struct api *api, struct http_request *r)
{
        _cleanup_error_ struct error e = {};

        if (api_count_calls(api, r->route) < JOINS_MAX) {
                api_call_with(api, r, r->body.data ?: "", r->body.size);
                return;
        }
        fail(&e, -EAGAIN, &kind_too_many_requests, "too many machines join at once: try again");
        http_answer_error(r, &e);
}

void handle_node(struct api *api, struct http_request *r)
{
        _cleanup_error_ struct error e = {};
        _cleanup_json_ json_t *o = NULL;
        _cleanup_free_ char *text = NULL;
        char key[2 * sizeof(r->who.key) + 1];

        if (!streq(r->who.role, "engine") && !streq(r->who.role, "controller")) {
                fail(&e, -EPERM, &kind_not_authorized, "%s (%s) is no node", r->who.name, r->who.role);
                http_answer_error(r, &e);
                return;
        }
        hex_encode(r->who.key, sizeof(r->who.key), key);
        o = json_pack("{s:s, s:s, s:s, s:s%}", "name", r->who.name, "role", r->who.role, "key", key, "body",
                      r->body.data ?: "", r->body.size);
        text = o ? json_dumps(o, JSON_COMPACT) : NULL;
        if (text) {
                api_call_with(api, r, text, strlen(text));
                return;
        }
        fail(&e, -EINVAL, &kind_usage, "the body is no text");
        http_answer_error(r, &e);
}
