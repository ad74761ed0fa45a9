/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cluster/etcd_members.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/parse.h"
#include "cluster/ask.h"
#include "cluster/client.h"
#include "cluster/home.h"
#include "slot/kinds.h"

#define ANSWER_MAX KIB(256)
#define PAUSE      USEC_PER_SEC
#define PATIENCE   (15 * USEC_PER_SEC)

/* ---- what etcd says ---- */

static int take_text(const json_t *o, const char *name, char *ret, size_t size)
{
        const char *text = json_string_value(json_object_get(o, name)) ?: "";

        if (strlen(text) >= size)
                return -EBADMSG;
        strcpy(ret, text);
        return 0;
}

/* The first of a list; there may be none. */
static int take_url(const json_t *o, const char *name, char *ret, size_t size)
{
        const char *text = json_string_value(json_array_get(json_object_get(o, name), 0)) ?: "";

        if (strlen(text) >= size || (*text && !startswith(text, "https://")) || strpbrk(text, " \n,=\"\\"))
                return -EBADMSG;
        strcpy(ret, text);
        return 0;
}

static int take_member(const json_t *o, struct etcd_member *m)
{
        int r = parse_u64(json_string_value(json_object_get(o, "ID")) ?: "", &m->id);

        if (r >= 0)
                r = take_text(o, "name", m->name, sizeof(m->name));
        if (r >= 0 && *m->name && !node_name_valid(m->name))
                r = -EBADMSG;
        if (r >= 0)
                r = take_url(o, "peerURLs", m->peer, sizeof(m->peer));
        if (r >= 0)
                r = take_url(o, "clientURLs", m->client, sizeof(m->client));
        m->learner = json_is_true(json_object_get(o, "isLearner"));
        return r < 0 || !*m->peer ? -EBADMSG : 0;
}

int etcd_members_parse(const char *text, size_t size, struct etcd_members *ret, struct error *e)
{
        _cleanup_json_ json_t *o = NULL;
        struct etcd_members m = {};
        const json_t *list;
        int r = json_parse_strict(text, size, "etcd's answer", &o, NULL);

        list = json_object_get(o, "members");
        m.n = json_array_size(list);
        if (r >= 0 && (m.n == 0 || m.n > ETCD_MEMBERS_MAX))
                r = -EBADMSG;
        for (size_t i = 0; r >= 0 && i < m.n; i++)
                r = take_member(json_array_get(list, i), &m.list[i]);
        if (r < 0)
                return fail(e, r == -ENOMEM ? r : -EBADMSG, &kind_store, "the members of etcd are not as they should be");
        *ret = m;
        return 0;
}

const struct etcd_member *etcd_members_find(const struct etcd_members *m, const char *peer)
{
        for (size_t i = 0; i < m->n; i++)
                if (streq(m->list[i].peer, peer))
                        return &m->list[i];
        return NULL;
}

/* ---- asking ---- */

int etcd_ask(int home, const char *path, const char *body, char **ret, struct error *e)
{
        _cleanup_free_ char *ca = NULL, *certificate = NULL, *endpoints = NULL;
        _cleanup_pem_ char *key = NULL;
        const char *urls[ASK_URLS + 1] = {};
        int r = cluster_get(home, "store-ca.pem", &ca, e);

        if (r >= 0)
                r = cluster_get(home, "store.pem", &certificate, e);
        if (r >= 0)
                r = cluster_get(home, "store.key", &key, e);
        if (r >= 0)
                r = cluster_get(home, "store.endpoints", &endpoints, e);
        if (r < 0)
                return r;
        ask_lines(endpoints, urls);
        return ask_text(&(struct ask){ .urls = urls,
                                       .path = path,
                                       .body = body,
                                       .ca = ca,
                                       .certificate = certificate,
                                       .key = key,
                                       .max = ANSWER_MAX,
                                       .kind = &kind_store },
                        ret, e);
}

int etcd_version(int home, char **ret, struct error *e)
{
        _cleanup_free_ char *text = NULL;
        _cleanup_json_ json_t *status = NULL;
        const char *version = "";
        int r = etcd_ask(home, "/v3/maintenance/status", "{}", &text, e);

        if (r >= 0)
                r = json_parse_strict(text, strlen(text), "etcd's answer", &status, e);
        if (r >= 0)
                r = json_get_string(status, "version", &version, e);
        if (r < 0)
                return r;
        *ret = strdup(version);
        return *ret ? 0 : -ENOMEM;
}

int etcd_members_read(int home, struct etcd_members *ret, struct error *e)
{
        _cleanup_free_ char *text = NULL;
        int r = etcd_ask(home, "/v3/cluster/member/list", "{}", &text, e);

        return r < 0 ? r : etcd_members_parse(text, strlen(text), ret, e);
}

static int try_add(int home, const char *peer, struct etcd_members *ret, struct error *e)
{
        _cleanup_json_ json_t *o = json_pack("{s:[s], s:b}", "peerURLs", peer, "isLearner", 1);
        _cleanup_free_ char *body = o ? json_dumps(o, JSON_COMPACT) : NULL, *text = NULL;
        int r = etcd_members_read(home, ret, e);

        if (r < 0 || etcd_members_find(ret, peer))
                return r;
        if (!body)
                return -ENOMEM;
        r = etcd_ask(home, "/v3/cluster/member/add", body, &text, e);
        return r < 0 ? r : etcd_members_parse(text, strlen(text), ret, e);
}

static int change_member(int home, const char *path, uint64_t id, struct error *e)
{
        _cleanup_free_ char *body = xasprintf("{\"ID\":\"%llu\"}", (unsigned long long)id), *text = NULL;

        return body ? etcd_ask(home, path, body, &text, e) : -ENOMEM;
}

static bool goes_on(int r, uint64_t deadline, struct error *why)
{
        if (r != -EAGAIN || now_monotonic() + PAUSE > deadline)
                return false;
        error_done(why);
        usleep(PAUSE);
        return true;
}

/* etcd changes its members only when those that it has were together for 5 s. */
int etcd_members_add(int home, const char *peer, struct etcd_members *ret, struct error *e)
{
        const uint64_t deadline = now_monotonic() + PATIENCE;
        struct error why = {};
        int r;

        do
                r = try_add(home, peer, ret, &why);
        while (goes_on(r, deadline, &why));
        if (r < 0)
                *e = why;
        return r;
}

int etcd_members_remove(int home, uint64_t id, struct error *e)
{
        const uint64_t deadline = now_monotonic() + PATIENCE;
        struct error why = {};
        int r;

        do
                r = change_member(home, "/v3/cluster/member/remove", id, &why);
        while (goes_on(r, deadline, &why));
        if (r < 0)
                *e = why;
        return r;
}

/* etcd refuses it until the learner has what the others have; which it says in words only. */
int etcd_members_promote(int home, const char *peer, uint64_t deadline, struct error *e)
{
        for (;;) {
                _cleanup_error_ struct error why = {};
                const struct etcd_member *m;
                struct etcd_members all;
                int r = etcd_members_read(home, &all, &why);

                if (r >= 0) {
                        m = etcd_members_find(&all, peer);
                        if (!m)
                                return fail(e, -ENOENT, &kind_store, "etcd has no member at %s", peer);
                        if (!m->learner)
                                return etcd_members_keep(home, &all, e);
                        r = change_member(home, "/v3/cluster/member/promote", m->id, &why);
                }
                if (r >= 0)
                        continue;
                if (now_monotonic() + PAUSE > deadline)
                        return fail(e, -EAGAIN, &kind_store, "etcd does not take %s for a full member: %s", peer,
                                    why.message ?: error_text(r));
                usleep(PAUSE);
        }
}

/* ---- endpoints ---- */

int etcd_members_keep(int home, const struct etcd_members *m, struct error *e)
{
        _cleanup_free_ char *before = NULL, *first = NULL;
        _cleanup_buf_ struct buf b = {};
        size_t n = 1;
        int r = cluster_get(home, "store.endpoints", &before, e);

        if (r < 0)
                return r;
        first = strndup(before, strcspn(before, "\n"));
        buf_printf(&b, "%s\n", first ?: "");
        for (size_t i = 0; i < m->n && n < CLIENT_ENDPOINTS; i++) {
                if (!*m->list[i].client || m->list[i].learner || streq(m->list[i].client, first))
                        continue;
                buf_printf(&b, "%s\n", m->list[i].client);
                n++;
        }
        if (!first || b.failed)
                return -ENOMEM;
        return streq(b.data, before) ? 0 : cluster_put(home, "store.endpoints", b.data, e);
}
