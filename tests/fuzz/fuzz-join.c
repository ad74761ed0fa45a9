/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What somebody unknown asks a controller who wants to become a node, and what a controller answers. The first byte says
 * which: a request, an answer, or the URL of a controller. */
#include "fuzz.h"

#include "cluster/ask.h"
#include "cluster/etcd_members.h"
#include "cluster/join.h"
#include "cluster/renew.h"

static void try_request(const char *text, size_t n)
{
        _cleanup_error_ struct error e = {};
        struct join_request q;

        if (join_request_parse(text, n, &q, &e) < 0) {
                must(e.message && *e.message && e.kind && e.kind->exit_status != 1);
                return;
        }
        must(node_name_valid(q.name) && (q.token.role == ROLE_ENGINE || q.token.role == ROLE_CONTROLLER));
        must(q.csr && strlen(q.csr) <= PEM_MAX);
        must((q.token.role == ROLE_CONTROLLER) == (q.store_csr && q.addresses[0] && *q.url));
        join_request_done(&q);
}

static void try_answer(const char *text, size_t n)
{
        _cleanup_error_ struct error e = {};
        _cleanup_json_ json_t *o = NULL;
        struct join_answer a;

        if (json_parse_strict(text, n, "the answer", &o, &e) < 0)
                return;
        if (join_answer_from_json(o, &a, &e) < 0) {
                must(e.message);
                return;
        }
        must(node_name_valid(a.name) && (a.role == ROLE_ENGINE || a.role == ROLE_CONTROLLER) && a.certificate);
        must((a.role == ROLE_CONTROLLER) == (a.ca_key && a.store_ca && a.store_certificate && a.members && a.endpoints));
        must(!a.members || !strpbrk(a.members, "\n\"' "));
        must(json_array_size(a.controllers) > 0 && json_array_size(a.controllers) <= ASK_URLS);
}

static void try_url(const char *text)
{
        char url[CLUSTER_TEXT_SIZE], again[CLUSTER_TEXT_SIZE];

        if (controller_url(text, url) < 0)
                return;
        must(startswith(url, "https://") && !strpbrk(url + 8, "/?#@ \n\"\\"));
        must(controller_url(url, again) >= 0 && streq(url, again));
}

static void try_members(const char *text, size_t n)
{
        struct etcd_members m;

        if (etcd_members_parse(text, n, &m, NULL) < 0)
                return;
        must(m.n > 0 && m.n <= ETCD_MEMBERS_MAX);
        for (size_t i = 0; i < m.n; i++) {
                must((!*m.list[i].name || node_name_valid(m.list[i].name)) && startswith(m.list[i].peer, "https://"));
                must(etcd_members_find(&m, m.list[i].peer) && !strpbrk(m.list[i].client, "\n ,="));
        }
}

static void try_renewal(const char *text, size_t n)
{
        _cleanup_error_ struct error e = {};
        struct renew_request q;

        if (renew_request_parse(text, n, &q, &e) < 0) {
                must(e.message && e.kind && e.kind->exit_status != 1);
                return;
        }
        must(node_name_valid(q.name) && q.csr);
        renew_request_done(&q);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct input in = { data, size };
        uint8_t what = take_byte(&in) % 5;
        size_t n;
        _cleanup_free_ char *text = take_bytes(&in, in.size, what == 2, &n);

        if (what == 0)
                try_request(text, n);
        else if (what == 1)
                try_answer(text, n);
        else if (what == 2)
                try_url(text);
        else if (what == 3)
                try_members(text, n);
        else
                try_renewal(text, n);
        return 0;
}
