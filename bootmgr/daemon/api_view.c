/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <limits.h>

#include "daemon/api.h"

static const char *node_name(const struct manager *m)
{
        static char name[HOST_NAME_MAX + 1];

        if (m->member.name)
                return m->member.name;
        if (!*name && gethostname(name, sizeof(name) - 1) < 0)
                strcpy(name, "localhost");
        return name;
}

static const char *role(const struct manager *m)
{
        return m->member.role ?: "standalone";
}

/* 0 on a machine that stands alone. */
static json_int_t epoch(const struct manager *m)
{
        return (json_int_t)m->member.epoch;
}

static const char *text(const json_t *o, const char *member)
{
        return json_string_value(json_object_get(o, member));
}

/* The version in the slot that the member names, or NULL. */
static const char *version_of(const json_t *status, const char *member)
{
        const char *name = text(status, member);
        const json_t *slot;
        size_t i;

        json_array_foreach(json_object_get(status, "slots"), i, slot)
        {
                if (name && streq(text(slot, "name"), name))
                        return text(slot, "version");
        }
        return NULL;
}

/* How this node stands in the operation. */
static json_t *operation_node(const struct manager *m, const json_t *op)
{
        return json_pack("{s:s, s:s, s:O, s:O, s:O}", "name", node_name(m), "role", role(m), "state",
                         json_object_get(op, "state"), "progress", json_object_get(op, "progress"), "message",
                         json_object_get(op, "reason"));
}

static json_t *failed_nodes(const struct manager *m, const json_t *op)
{
        if (!streq(text(op, "state"), "FAILED"))
                return json_array();
        return json_pack("[{s:s, s:O}]", "name", node_name(m), "reason", json_object_get(op, "reason"));
}

json_t *view_operation(const struct manager *m, const json_t *printed, const struct api_body *body)
{
        json_t *op;

        if (!json_is_object(printed))
                return json_null();
        op = json_copy((json_t *)printed);
        if (json_object_get(op, "nodes")) /* it is a cluster's */
                return op;
        json_object_set_new(op, "epoch", json_integer(epoch(m)));
        json_object_set_new(op, "nodes", json_pack("[o]", operation_node(m, printed)));
        json_object_set_new(op, "nodes_failed", failed_nodes(m, printed));
        return op;
}

json_t *view_history(const struct manager *m, const json_t *printed, const struct api_body *body)
{
        json_t *list = json_array();
        const json_t *op;
        size_t i;

        json_array_foreach(printed, i, op) json_array_append_new(list, view_operation(m, op, NULL));
        return json_pack("{s:I, s:o}", "epoch", epoch(m), "operations", list);
}

json_t *view_done(const struct manager *m, const json_t *printed, const struct api_body *body)
{
        return json_pack("{s:s, s:I, s:s}", "id", body->id, "epoch", epoch(m), "result", "done");
}

json_t *view_printed(const struct manager *m, const json_t *printed, const struct api_body *body)
{
        return json_incref((json_t *)printed);
}

json_t *view_runtime(const struct manager *m, const json_t *status, const struct api_body *body)
{
        return json_pack("{s:s, s:s, s:I, s:b, s:o, s:O}", "name", node_name(m), "role", role(m), "epoch", epoch(m),
                         "working", m->working, "failure", m->failure ? json_incref(m->failure) : json_null(), "status",
                         status);
}

json_t *view_version(const struct manager *m, const json_t *status, const struct api_body *body)
{
        return json_pack("{s:s, s:s?, s:s?, s:s, s:i, s:I}", "name", node_name(m), "version", version_of(status, "booted"),
                         "previous_version", version_of(status, "previous"), "bootmgr", BOOTMGR_VERSION, "api", 1, "epoch",
                         epoch(m));
}
