/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cluster/view.h"

#include "base/buf.h"

static int compare_names(const void *name, const void *node)
{
        return strcmp(name, ((const struct cluster_node *)node)->member.name);
}

struct cluster_node *cluster_view_node(const struct cluster_view *view, const char *name)
{
        return view->n_nodes ? bsearch(name, view->nodes, view->n_nodes, sizeof(*view->nodes), compare_names) : NULL;
}

static int make_room(struct cluster_view *view, struct error *e)
{
        size_t n = view->allocated ? 2 * view->allocated : 16;
        struct cluster_node *more;

        if (view->n_nodes == CLUSTER_MEMBERS_MAX)
                return fail(e, -E2BIG, NULL, "the cluster has more than %d members", CLUSTER_MEMBERS_MAX);
        if (view->n_nodes < view->allocated)
                return 0;
        more = reallocarray(view->nodes, n, sizeof(*more));
        if (!more)
                return fail_errno(e, -ENOMEM, "the members of the cluster");
        view->nodes = more;
        view->allocated = n;
        return 0;
}

static int decode_member(const char *name, const char *value, size_t size, struct member *ret, struct error *e)
{
        int r = record_decode(RECORD_MEMBER, value, size, ret, e);

        if (r < 0 || streq(ret->name, name))
                return r;
        record_done(RECORD_MEMBER, ret);
        return fail(e, -EINVAL, NULL, "the key of the member %s holds another one", name);
}

static int add_node(struct cluster_view *view, const char *name, const char *value, size_t size, struct error *e)
{
        struct cluster_node node = {};
        int r;

        if (view->n_nodes > 0 && strcmp(view->nodes[view->n_nodes - 1].member.name, name) >= 0)
                return fail(e, -EINVAL, NULL, "the members of the cluster are not in order at %s", name);
        r = make_room(view, e);
        if (r >= 0)
                r = decode_member(name, value, size, &node.member, e);
        if (r < 0)
                return r;
        if (node_decides(&node))
                view->controllers = crc32c(view->controllers, node.member.address, strlen(node.member.address) + 1);
        view->nodes[view->n_nodes++] = node;
        return 0;
}

/* The member that a key ROLE/NAME or ID/NAME speaks of; ID must be that of the open operation. */
static struct cluster_node *node_of_key(const struct cluster_view *view, const char *rest, bool of_operation)
{
        char id[CLUSTER_ID_TEXT_SIZE];
        const char *slash = strchr(rest, '/');
        struct cluster_node *n = slash ? cluster_view_node(view, slash + 1) : NULL;
        const char *before = n ? node_role_to_string(n->member.role) : "";

        if (of_operation)
                before = operation_is_open(view) ? id_to_text(view->operation.id, id) : "";
        return n && strlen(before) == (size_t)(slash - rest) && strncmp(before, rest, strlen(before)) == 0 ? n : NULL;
}

static int add_vote(struct cluster_node *n, const char *value, size_t size, struct error *e)
{
        int r = record_decode(RECORD_VOTE, value, size, &n->vote, e);

        n->voted = r >= 0;
        return r;
}

static int add_status(struct cluster_node *n, const char *value, size_t size, uint64_t revision, struct error *e)
{
        int r = record_decode(RECORD_STATUS, value, size, &n->status, e);

        n->has_status = r >= 0;
        n->status_revision = revision;
        return r;
}

static int add_order(struct cluster_node *n, const char *value, size_t size, struct error *e)
{
        struct order order = {};
        int r = record_decode(RECORD_ORDER, value, size, &order, e);

        if (r >= 0)
                n->order = order.at;
        record_done(RECORD_ORDER, &order);
        return r;
}

static int add_single(enum record_type type, const char *value, size_t size, void *ret, uint64_t revision,
                      uint64_t *ret_revision, struct error *e)
{
        int r;

        if (*ret_revision)
                return fail(e, -EINVAL, NULL, "the store gave one key twice");
        r = record_decode(type, value, size, ret, e);
        if (r >= 0)
                *ret_revision = revision;
        return r;
}

int cluster_view_add(struct cluster_view *view, const char *key, const char *value, size_t size, uint64_t revision,
                     struct error *e)
{
        struct cluster_node *n;
        const char *rest;

        if (streq(key, KEY_RECORD))
                return add_single(RECORD_CLUSTER, value, size, &view->record, revision, &view->record_revision, e);
        if (streq(key, KEY_OPERATION))
                return add_single(RECORD_OPERATION, value, size, &view->operation, revision, &view->operation_revision, e);
        if (streq(key, KEY_DELETED))
                return 0;
        if ((rest = startswith(key, KEY_NODES)))
                return add_node(view, rest, value, size, e);
        if ((rest = startswith(key, KEY_STATUS)))
                return (n = node_of_key(view, rest, false)) && !n->has_status ? add_status(n, value, size, revision, e) : 0;
        if ((rest = startswith(key, KEY_VOTES)))
                return (n = node_of_key(view, rest, true)) && !n->voted ? add_vote(n, value, size, e) : 0;
        if ((rest = startswith(key, KEY_ORDERS)))
                return (n = node_of_key(view, rest, true)) ? add_order(n, value, size, e) : 0;
        return 0;
}

/* ---- one key of a view that is complete ---- */

/* Of a controller more depends: the list of addresses. */
static int update_node(struct cluster_view *view, const char *name, const char *value, size_t size, struct error *e)
{
        struct cluster_node *there = cluster_view_node(view, name), node = {};
        size_t at = 0;
        int r = make_room(view, e);

        if (r >= 0)
                r = decode_member(name, value, size, &node.member, e);
        if (r < 0)
                return r;
        if (node_decides(&node) || (there && node_decides(there))) {
                record_done(RECORD_MEMBER, &node.member);
                return 1;
        }
        if (there) {
                record_done(RECORD_MEMBER, &there->member);
                there->member = node.member;
                return 0;
        }
        while (at < view->n_nodes && strcmp(view->nodes[at].member.name, name) < 0)
                at++;
        memmove(&view->nodes[at + 1], &view->nodes[at], (view->n_nodes++ - at) * sizeof(node));
        view->nodes[at] = node;
        return 0;
}

/* A record of that type in place of another one. */
static int replace(enum record_type type, const char *value, size_t size, void *at, size_t room, struct error *e)
{
        union any_record fresh;
        int r = record_decode(type, value, size, &fresh, e);

        if (r < 0)
                return r;
        record_done(type, at);
        memcpy(at, &fresh, room);
        return 0;
}

static int update_operation(struct cluster_view *view, const char *value, size_t size, uint64_t revision, struct error *e)
{
        struct cluster_operation op;
        int r;

        /* Another operation has other votes. */
        if (!operation_is_open(view))
                return 1;
        r = record_decode(RECORD_OPERATION, value, size, &op, e);
        if (r < 0)
                return r;
        if (memcmp(op.id, view->operation.id, sizeof(op.id)) != 0) {
                cluster_operation_done(&op);
                return 1;
        }
        cluster_operation_done(&view->operation);
        view->operation = op;
        view->operation_revision = revision;
        return 0;
}

static int update_record(struct cluster_view *view, const char *value, size_t size, uint64_t revision, struct error *e)
{
        int r = replace(RECORD_CLUSTER, value, size, &view->record, sizeof(view->record), e);

        if (r >= 0)
                view->record_revision = revision;
        return r;
}

static int update_said(struct cluster_view *view, const char *key, const char *value, size_t size, uint64_t revision,
                       struct error *e)
{
        struct cluster_node *n;
        const char *rest;
        int r = 0;

        if ((rest = startswith(key, KEY_STATUS)) && (n = node_of_key(view, rest, false))) {
                if (node_decides(n) && !n->has_status)
                        return 1; /* others may be fenced by it */
                r = replace(RECORD_STATUS, value, size, &n->status, sizeof(n->status), e);
                n->has_status = n->has_status || r >= 0;
                n->status_revision = r >= 0 ? revision : n->status_revision;
        } else if ((rest = startswith(key, KEY_VOTES)) && (n = node_of_key(view, rest, true))) {
                r = replace(RECORD_VOTE, value, size, &n->vote, sizeof(n->vote), e);
                n->voted = n->voted || r >= 0;
        } else if ((rest = startswith(key, KEY_ORDERS)) && (n = node_of_key(view, rest, true))) {
                r = add_order(n, value, size, e);
        }
        return r;
}

int cluster_view_update(struct cluster_view *view, const char *key, const char *value, size_t size, uint64_t revision,
                        struct error *e)
{
        const char *name;

        if (streq(key, KEY_RECORD))
                return update_record(view, value, size, revision, e);
        if (streq(key, KEY_OPERATION))
                return update_operation(view, value, size, revision, e);
        if (streq(key, KEY_DELETED))
                return 0;
        if ((name = startswith(key, KEY_NODES)))
                return update_node(view, name, value, size, e);
        return update_said(view, key, value, size, revision, e);
}

void cluster_view_done(struct cluster_view *view)
{
        for (size_t i = 0; i < view->n_nodes; i++) {
                record_done(RECORD_MEMBER, &view->nodes[i].member);
                record_done(RECORD_VOTE, &view->nodes[i].vote);
                record_done(RECORD_STATUS, &view->nodes[i].status);
        }
        free(view->nodes);
        cluster_record_done(&view->record);
        cluster_operation_done(&view->operation);
        memset(view, 0, sizeof(*view));
}

bool node_decides(const struct cluster_node *n)
{
        return n->member.role != ROLE_ENGINE;
}

static bool in_fence(const struct cluster_view *view, const struct cluster_node *n)
{
        return cluster_record_fences(&view->record, n->member.joined);
}

/* Where all controllers would be fenced none is: nobody else could put things right. One that was let in since can once it
 * has been heard of: until then it may never come up, and who lets it in has more to do. In which epoch it was heard of does
 * not matter: with each new one, and until it speaks, those that are fenced would be free. */
bool node_is_fenced(const struct cluster_view *view, const struct cluster_node *n)
{
        if (!in_fence(view, n) || !node_decides(n))
                return in_fence(view, n);
        for (size_t i = 0; i < view->n_nodes; i++)
                if (node_decides(&view->nodes[i]) && view->nodes[i].has_status && !in_fence(view, &view->nodes[i]))
                        return true;
        return false;
}

bool node_is_settled(const struct cluster_view *view, const struct cluster_node *n)
{
        return n->has_status && n->status.settled && n->status.epoch == view->record.epoch;
}

bool node_has_reached(const struct cluster_view *view, const struct cluster_node *n)
{
        return node_is_settled(view, n) && n->status.confirmed &&
               version_id_equal(&n->status.running, &view->record.running);
}

bool node_has_left(const struct cluster_view *view, const struct cluster_node *n)
{
        return node_is_settled(view, n) && n->status.confirmed && version_id_is(&n->status.running) &&
               !version_id_equal(&n->status.running, &view->record.running);
}
