/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a controller gets besides that joins, and what becomes of its etcd when it is taken out. */
#include "cluster/admit.h"

#include "base/buf.h"
#include "base/log.h"
#include "cluster/change.h"
#include "cluster/etcd_members.h"
#include "cluster/home.h"
#include "cluster/once.h"
#include "cluster/request.h"
#include "operation/messages.h"
#include "slot/kinds.h"

/* NAME=URL,… of all, as etcd wants it of one that joins. */
static char *members_text(const struct etcd_members *m, const char *peer, const char *name)
{
        struct buf b = {};

        for (size_t i = 0; i < m->n; i++) {
                const struct etcd_member *one = &m->list[i];

                buf_puts(&b, i ? "," : "");
                if (streq(one->peer, peer))
                        buf_puts(&b, name);
                else if (*one->name)
                        buf_puts(&b, one->name);
                else
                        buf_printf(&b, "member-%llx", (unsigned long long)one->id);
                buf_printf(&b, "=%s", one->peer);
        }
        return buf_take(&b);
}

static json_t *endpoints_of(const struct etcd_members *m, const char *peer)
{
        json_t *list = json_array();

        for (size_t i = 0; i < m->n; i++)
                if (*m->list[i].client && !m->list[i].learner && !streq(m->list[i].peer, peer))
                        json_array_append_new(list, json_string(m->list[i].client));
        return list;
}

/* A controller issues certificates and lets others in, those of the store too: it gets both keys. */
static int put_store(int home, const struct etcd_members *m, const char *peer, const struct join_request *q, uint64_t now,
                     json_t *answer, struct error *e)
{
        _cleanup_pem_ char *key = NULL, *store_key = NULL;
        _cleanup_free_ char *ca = NULL, *certificate = NULL, *members = members_text(m, peer, q->name);
        json_t *store;
        int r = members ? cluster_get(home, "ca.key", &key, e) : -ENOMEM;

        if (r >= 0)
                r = cluster_get(home, "store-ca.key", &store_key, e);
        if (r >= 0)
                r = cluster_get(home, "store-ca.pem", &ca, e);
        if (r >= 0)
                r = ca_issue(store_key, ca, q->store_csr, q->name, ROLE_CONTROLLER, q->addresses, now, &certificate, e);
        if (r < 0)
                return r;
        store = json_pack("{s:s, s:s, s:s, s:s, s:o}", "ca", ca, "ca_key", store_key, "certificate", certificate, "members",
                          members, "endpoints", endpoints_of(m, peer));
        if (!store || json_object_set_new(answer, "store", store) < 0)
                return -ENOMEM;
        return json_object_set_new(answer, "ca_key", json_string(key)) < 0 ? -ENOMEM : 0;
}

/* By its name; one that never started has none, and is known by where it was to be. */
static const struct etcd_member *find_member(const struct etcd_members *m, const struct member *node)
{
        const char *host = startswith(node->address, "https://") ?: "";
        size_t n = strrchr(host, ':') ? (size_t)(strrchr(host, ':') - host) : 0;

        for (size_t i = 0; i < m->n; i++) {
                const char *at = m->list[i].peer + strlen("https://");

                if (streq(m->list[i].name, node->name) ||
                    (!*m->list[i].name && n > 0 && strncmp(at, host, n) == 0 && at[n] == ':'))
                        return &m->list[i];
        }
        return NULL;
}

int admit_check_store(int home, const struct cluster_view *view, const char *name, struct error *e)
{
        struct etcd_members members;
        int r = etcd_members_read(home, &members, e);

        for (size_t i = 0; r >= 0 && i < view->n_nodes; i++) {
                const struct member *m = &view->nodes[i].member;
                const struct etcd_member *found;

                if (m->role != ROLE_CONTROLLER || streq(m->name, name))
                        continue;
                found = find_member(&members, m);
                if (found && !found->learner)
                        continue;
                fail(e, -EAGAIN, &kind_too_many_requests,
                     "the controller %s, which joined before, is not a full member of the store yet: only one at a time can "
                     "join",
                     m->name);
                return fail_hint(
                        e,
                        "start its store ('systemctl start bootmgr-etcd' on %s) or take it out ('bootmgr node delete "
                        "%s'), then repeat this: the token is still good",
                        m->name, m->name);
        }
        return r;
}

int admit_controller(int home, const struct join_request *q, uint64_t now, json_t *answer, struct error *e)
{
        char peer[CLUSTER_TEXT_SIZE];
        struct etcd_members members;
        int r;

        cluster_url(q->addresses[0], PEER_PORT, peer);
        r = etcd_members_add(home, peer, &members, e);
        return r < 0 ? r : put_store(home, &members, peer, q, now, answer, e);
}

/* ---- taking out ---- */

/* From etcd first: when it is no member of the cluster any more, nobody would look. */
static int remove_from_store(int home, const struct member *node, struct error *e)
{
        const struct etcd_member *found;
        struct etcd_members members;
        int r = etcd_members_read(home, &members, e);

        found = r >= 0 ? find_member(&members, node) : NULL;
        if (found)
                r = etcd_members_remove(home, found->id, e);
        if (found && r >= 0)
                r = etcd_members_read(home, &members, e);
        return r < 0 || !found ? r : etcd_members_keep(home, &members, e);
}

static int decide_remove(const struct cluster_view *view, struct plan *plan, void *userdata, struct error *e)
{
        const char *name = userdata;

        if (cluster_view_node(view, name))
                return request_delete(view, name, plan, e);
        fail(e, -ENOENT, &kind_not_found, "there is no node '%.64s'", name);
        return fail_hint(e, "'bootmgr show nodes' lists them");
}

static int prepare_removal(struct store *store, int home, const char *name, struct error *e)
{
        _cleanup_cluster_view_ struct cluster_view view = {};
        _cleanup_plan_ struct plan plan = {};
        const struct cluster_node *n;
        int r = cluster_read(store, &view, e);

        if (r >= 0)
                r = decide_remove(&view, &plan, (void *)name, e);
        n = r >= 0 ? cluster_view_node(&view, name) : NULL;
        return n && n->member.role == ROLE_CONTROLLER ? remove_from_store(home, &n->member, e) : r;
}

/* 1: it was done before. */
static int remove_once(struct store *store, int home, const char *name, const char *id, struct error *e)
{
        char verb[sizeof("node delete ") + NODE_NAME_SIZE];
        struct once once = { .store = store, .verb = verb, .decide = decide_remove, .userdata = (void *)name };
        int r;

        snprintf(verb, sizeof(verb), "node delete %s", name);
        if (*id && hex_decode(id, once.id, sizeof(once.id)) < 0)
                return -EINVAL;
        r = *id ? once_find(store, once.id, verb, e) : 0;
        if (r != 0)
                return r;
        r = prepare_removal(store, home, name, e);
        return r < 0 ? r : cluster_change(store, once_decide, &once, e);
}

int cluster_remove(const char *data, const char *name, const char *id, struct error *e)
{
        _cleanup_store_ struct store *store = NULL;
        _cleanup_close_ int home = -1;
        char field[NODE_NAME_SIZE + 8];
        const char *const fields[] = { field, NULL };
        struct member self;
        int r = cluster_must_control(data, e);

        if (r >= 0)
                r = cluster_self(data, &self, e);
        if (r >= 0 && streq(self.name, name)) {
                fail(e, -EBUSY, &kind_usage, "%s is this machine", name);
                return fail_hint(e, "delete it from another controller");
        }
        if (r >= 0)
                r = home = cluster_home(data, false, e);
        if (r >= 0)
                r = cluster_open_to_change(data, &store, e);
        if (r >= 0)
                r = remove_once(store, home, name, id, e);
        if (r != 0)
                return r < 0 ? r : 0;
        snprintf(field, sizeof(field), "NODE=%s", name);
        log_event(MESSAGE_NODE_DELETED, fields, "%s is no member of the cluster any more", name);
        return 0;
}
