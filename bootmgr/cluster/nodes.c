/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cluster/nodes.h"

static json_t *text_or_null(const char *s)
{
        return json_string_or_null(*s ? s : NULL);
}

static bool is_off(const struct cluster_node *n, const json_t *connected)
{
        return connected && !json_object_get(connected, n->member.name);
}

/* One that switches is off for a while, and one that is silent has more to it than that. */
static const char *state_of(const struct cluster_view *view, const struct cluster_node *n, const json_t *connected)
{
        if (node_is_fenced(view, n))
                return "fenced";
        if (!n->has_status || n->status.epoch != view->record.epoch)
                return "silent";
        if (!n->status.settled)
                return "switching";
        if (is_off(n, connected))
                return "off";
        return node_has_reached(view, n) ? "up" : "behind";
}

static json_t *message_of(const struct cluster_view *view, const struct cluster_node *n, const json_t *connected)
{
        if (node_is_fenced(view, n))
                return json_sprintf("joined in epoch %llu, after the snapshot that the cluster went back to",
                                    (unsigned long long)n->member.joined);
        if (n->has_status && *n->status.message)
                return json_string(n->status.message);
        return text_or_null(!is_off(n, connected) ? ""
                            : node_decides(n)     ? "it does not answer"
                                                  : "no controller hears of it");
}

static json_t *node_json(const struct cluster_view *view, const struct cluster_node *n, const char *self,
                         const json_t *connected)
{
        const struct member_status *s = n->has_status ? &n->status : NULL;
        bool runs = s && version_id_equal(&s->running, &view->record.running);

        return json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:I, s:b, s:o, s:o, s:b}", "name", n->member.name, "role",
                         node_role_to_string(n->member.role), "state", state_of(view, n, connected), "version",
                         text_or_null(s ? s->running.version : ""), "previous_version",
                         text_or_null(runs ? view->record.previous.version : ""), "generation",
                         s ? json_integer((json_int_t)s->generation) : json_null(), "confirmed",
                         s ? json_boolean(s->confirmed) : json_null(), "epoch",
                         s ? json_integer((json_int_t)s->epoch) : json_null(), "joined", (json_int_t)n->member.joined,
                         "fenced", node_is_fenced(view, n), "message", message_of(view, n, connected), "address",
                         text_or_null(n->member.address), "self", streq(n->member.name, self));
}

json_t *nodes_of_view(const struct cluster_view *view, const char *self, const json_t *connected)
{
        json_t *list = json_array();

        for (size_t i = 0; i < view->n_nodes; i++)
                json_array_append_new(list, node_json(view, &view->nodes[i], self, connected));
        return json_pack("{s:I, s:o}", "epoch", (json_int_t)view->record.epoch, "nodes", list);
}

/* The slot that the member names, or NULL. */
static const json_t *slot_of(const json_t *status, const char *member)
{
        const char *name = json_string_value(json_object_get(status, member));
        const json_t *slot;
        size_t i;

        json_array_foreach(json_object_get(status, "slots"), i, slot)
        {
                if (name && streq(json_string_value(json_object_get(slot, "name")), name))
                        return slot;
        }
        return NULL;
}

json_t *nodes_of_status(const json_t *status, const char *self)
{
        const json_t *booted = slot_of(status, "booted");
        const char *version = json_string_value(json_object_get(booted, "version")),
                   *previous = json_string_value(json_object_get(slot_of(status, "previous"), "version"));
        bool confirmed = streq(json_string_value(json_object_get(booted, "state")), "confirmed");
        json_t *node = json_pack("{s:s, s:s, s:s, s:s?, s:s?, s:O, s:o, s:n, s:i, s:b, s:n, s:n, s:b}", "name", self, "role",
                                 node_role_to_string(ROLE_STANDALONE), "state", "up", "version", version, "previous_version",
                                 previous, "generation", json_object_get(status, "generation"), "confirmed",
                                 booted ? json_boolean(confirmed) : json_null(), "epoch", "joined", 0, "fenced", 0,
                                 "message", "address", "self", 1);

        return json_pack("{s:i, s:[o]}", "epoch", 0, "nodes", node);
}
