/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cluster/told.h"

#include <inttypes.h>

#include "base/buf.h"
#include "base/text.h"
#include "cluster/stragglers.h"

/* Who would be fenced by a rollback is no part of it: its promise would be one that nobody keeps, or lets it out of. */
static bool is_asked(const struct cluster_view *view, const struct cluster_node *node)
{
        return operation_is_open(view) && !joined_after_snapshot(view, node);
}

struct told_mark told_mark(const struct cluster_view *view, const struct cluster_node *node)
{
        return (struct told_mark){ .record = view->record_revision,
                                   .operation = view->operation_revision,
                                   .order = node ? node->order : 0,
                                   .controllers = view->controllers,
                                   .member = node,
                                   .fenced = node && node_is_fenced(view, node),
                                   .asked = node && is_asked(view, node),
                                   .status = node ? node->status_revision : 0 };
}

bool told_mark_equal(const struct told_mark *a, const struct told_mark *b)
{
        return a->record == b->record && a->operation == b->operation && a->order == b->order &&
               a->controllers == b->controllers && a->member == b->member && a->fenced == b->fenced && a->asked == b->asked;
}

static json_t *controllers(const struct cluster_view *view)
{
        json_t *list = json_array();

        for (size_t i = 0; i < view->n_nodes && json_array_size(list) < TOLD_CONTROLLERS; i++)
                if (node_decides(&view->nodes[i]) && !node_is_fenced(view, &view->nodes[i]) &&
                    *view->nodes[i].member.address)
                        json_array_append_new(list, json_string(view->nodes[i].member.address));
        return list;
}

char *told_of_all(const struct cluster_view *view)
{
        _cleanup_free_ char *record = record_encode(RECORD_CLUSTER, &view->record), *operation = NULL, *list = NULL;
        struct cluster_operation op = view->operation; /* borrows */
        _cleanup_json_ json_t *urls = controllers(view);

        op.n_stragglers = 0; /* a list of all for each of them: no node asks who else lags */
        operation = operation_is_open(view) ? record_encode(RECORD_OPERATION, &op) : strdup("null");
        list = json_dumps(urls, JSON_COMPACT);
        if (!record || !operation || !list)
                return NULL;
        return xasprintf("\"cluster\":%s,\"operation\":%s,\"controllers\":%s", record, operation, list);
}

char *told_format(const char *of_all, const struct cluster_view *view, const struct cluster_node *node, uint64_t now)
{
        _cleanup_free_ char *status = node && node->has_status ? record_encode(RECORD_STATUS, &node->status)
                                                               : strdup("null");

        if (!status)
                return NULL;
        return xasprintf("{\"format\":%d,\"minor\":%d,\"revision\":%" PRIu64 ",\"now_usec\":%" PRIu64 ",%s,\"you\":{"
                         "\"member\":%s,\"role\":\"%s\",\"fenced\":%s,\"asked\":%s,\"voted\":%s,\"order_usec\":%" PRIu64
                         ",\"status\":%s}}",
                         CLUSTER_FORMAT, CLUSTER_MINOR, view->revision, now, of_all, node ? "true" : "false",
                         node_role_to_string(node ? node->member.role : ROLE_ENGINE),
                         node && node_is_fenced(view, node) ? "true" : "false",
                         node && is_asked(view, node) ? "true" : "false", node && node->voted ? "true" : "false",
                         node ? node->order : 0, status);
}

static int parse_embedded(enum record_type type, const json_t *o, void *ret, struct error *e)
{
        _cleanup_free_ char *text = json_dumps(o, JSON_COMPACT);

        return text ? record_decode(type, text, strlen(text), ret, e) : -ENOMEM;
}

static bool is_url(const char *url)
{
        return url && startswith(url, "https://") && strlen(url) < CLUSTER_TEXT_SIZE &&
               text_is_printable(url, strlen(url)) && !strpbrk(url, " \"\\");
}

static int parse_controllers(const json_t *o, struct told *t, struct error *e)
{
        const json_t *list = json_object_get(o, "controllers"), *url;
        _cleanup_buf_ struct buf b = {};
        size_t i;

        if (json_array_size(list) > TOLD_CONTROLLERS)
                return fail(e, -EINVAL, NULL, "there are more than %d controllers", TOLD_CONTROLLERS);
        json_array_foreach(list, i, url)
        {
                if (!is_url(json_string_value(url)))
                        return fail(e, -EINVAL, NULL, "controller %zu is no URL", i);
                buf_printf(&b, "%s\n", json_string_value(url));
        }
        if (b.size == 0)
                return 0;
        t->controllers = buf_take(&b);
        return t->controllers ? 0 : -ENOMEM;
}

static int parse_you(const json_t *o, struct told *t, struct error *e)
{
        const char *role;
        json_t *you;
        int r = json_get_object(o, "you", &you, e);

        if (r >= 0)
                r = json_get_bool(you, "member", &t->member, e);
        if (r >= 0)
                r = json_get_bool(you, "fenced", &t->fenced, e);
        if (r >= 0)
                r = json_get_bool(you, "voted", &t->voted, e);
        if (r >= 0)
                r = json_get_u64(you, "order_usec", &t->order, e);
        if (r >= 0)
                r = json_get_string(you, "role", &role, e);
        if (r < 0)
                return r;
        t->asked = !json_is_false(json_object_get(you, "asked"));
        if (node_role_from_string(role, &t->role) < 0 || t->role == ROLE_OPERATOR)
                return fail(e, -EINVAL, NULL, "\"%s\" is not the role of a node", role);
        return t->order <= INT64_MAX ? 0 : fail(e, -EINVAL, NULL, "order_usec is out of its bounds");
}

static int parse(const json_t *o, struct told *t, struct error *e)
{
        uint64_t format;
        json_t *record;
        int r = json_get_u64(o, "format", &format, e);

        if (r >= 0 && format != CLUSTER_FORMAT)
                return fail(e, -EPROTONOSUPPORT, NULL, "the controller speaks format %" PRIu64 ", this node %d", format,
                            CLUSTER_FORMAT);
        if (r >= 0)
                r = json_get_u64(o, "revision", &t->revision, e);
        if (r >= 0)
                r = json_get_u64(o, "now_usec", &t->now, e);
        if (r >= 0)
                r = parse_you(o, t, e);
        if (r >= 0)
                r = parse_controllers(o, t, e);
        if (r >= 0)
                r = json_get_object(o, "cluster", &record, e);
        if (r >= 0)
                r = parse_embedded(RECORD_CLUSTER, record, &t->record, e);
        if (r < 0 || json_is_null(json_object_get(o, "operation")))
                return r;
        r = json_get_object(o, "operation", &record, e);
        if (r >= 0)
                r = parse_embedded(RECORD_OPERATION, record, &t->operation, e);
        t->open = r >= 0;
        return r;
}

int told_parse(const char *text, size_t size, struct told *ret, struct error *e)
{
        _cleanup_json_ json_t *o = NULL;
        _cleanup_told_ struct told t = {};
        int r;

        if (size > TOLD_MAX)
                return fail(e, -EINVAL, NULL, "what the controller told is longer than %llu bytes",
                            (unsigned long long)TOLD_MAX);
        r = json_parse_strict(text, size, "what the controller told", &o, e);
        if (r >= 0)
                r = parse(o, &t, e);
        if (r >= 0)
                *ret = TAKE(t, (struct told){});
        return r;
}

static json_t *load_without_passing(const char *line)
{
        json_t *o = json_loads(line, 0, NULL);

        json_object_del(o, "revision");
        json_object_del(o, "now_usec");
        json_object_del(json_object_get(o, "you"), "status");
        return o;
}

bool told_is_same(const char *line, const char *other)
{
        _cleanup_json_ json_t *a = load_without_passing(line), *b = load_without_passing(other);

        return json_equal(a, b);
}

bool told_has_status(const char *line, const json_t *status)
{
        _cleanup_json_ json_t *o = json_loads(line, 0, NULL);

        return json_equal(json_object_get(json_object_get(o, "you"), "status"), status);
}

void told_done(struct told *t)
{
        cluster_record_done(&t->record);
        cluster_operation_done(&t->operation);
        free(t->controllers);
        *t = (struct told){};
}
