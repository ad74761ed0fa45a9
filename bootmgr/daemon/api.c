/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/api.h"

#include "base/log.h"
#include "cluster/bundles.h"
#include "daemon/cluster.h"
#include "daemon/metrics.h"

static void handle_read(struct api *api, struct http_request *r)
{
        struct api_body none = {};

        api_call(api, r, &none);
}

static void handle_change(struct api *api, struct http_request *r)
{
        _cleanup_error_ struct error e = {};
        struct api_body body;

        if (api_body_parse(r->body.data ?: "", r->body.size, http_header(r, "Idempotency-Key"), r->route->members, &body,
                           &e) < 0)
                http_answer_error(r, &e);
        else
                api_call(api, r, &body);
}

/* The name is what stands behind the words. Who repeats it with the same id does not delete who has joined anew. */
static void handle_delete_node(struct api *api, struct http_request *r)
{
        const char *key = http_header(r, "Idempotency-Key");
        _cleanup_error_ struct error e = {};
        struct api_body body = {};

        if (key && api_body_parse("", 0, key, API_ID, &body, &e) < 0) {
                http_answer_error(r, &e);
                return;
        }
        body.source = strdup(r->argument);
        if (body.source)
                api_call(api, r, &body);
        else
                http_answer_json(r, 500, NULL);
}

static void handle_events(struct api *api, struct http_request *r)
{
        manager_look(api->manager);
        if (manager_running_step(api->manager)) /* nobody may have listened, and so nobody looked, for a while */
                manager_progress(api->manager);
        events_open(&api->events, r);
}

static void handle_metrics(struct api *api, struct http_request *r)
{
        manager_look(api->manager);
        http_answer_text(r, "text/plain; version=0.0.4; charset=utf-8", metrics_text(api));
}

/* That we answer is all that it says: anyone may ask. */
static void handle_health(struct api *api, struct http_request *r)
{
        http_answer_json(r, 200, json_pack("{s:s}", "status", "ok"));
}

static void handle_node_view(struct api *api, struct http_request *r)
{
        nodes_handle_view(api->cluster, r);
}

static void handle_node_vote(struct api *api, struct http_request *r)
{
        nodes_handle_vote(api->cluster, r);
}

static void handle_node_status(struct api *api, struct http_request *r)
{
        nodes_handle_status(api->cluster, r);
}

static void handle_node_time(struct api *api, struct http_request *r)
{
        nodes_handle_time(api->cluster, r);
}

static void handle_node_connected(struct api *api, struct http_request *r)
{
        nodes_handle_connected(api->cluster, r);
}

static void handle_bundle(struct api *api, struct http_request *r)
{
        nodes_handle_bundle(api->cluster, r);
}

static const struct route routes[] = {
        { "/api/cluster/upgrade",
          "POST",
          RIGHT_OPERATE,
          handle_change,
          { "upgrade", "system" },
          TASK_WORK,
          API_ID | API_SOURCE | API_NO_REBOOT | API_AUTOMATIC | API_CLUSTER,
          view_operation },
        { "/api/cluster/rollback",
          "POST",
          RIGHT_OPERATE,
          handle_change,
          { "rollback", "system" },
          TASK_WORK,
          API_ID | API_NO_REBOOT | API_PRECHECKS_ONLY | API_CLUSTER,
          view_operation },
        { "/api/cluster/abort", "POST", RIGHT_OPERATE, handle_change, { "abort" }, TASK_CHANGE, API_ID, view_done },
        { "/api/cluster/finalize", "POST", RIGHT_OPERATE, handle_change, { "finalize" }, TASK_CHANGE, API_ID, view_done },
        { "/api/cluster/upgrade/status",
          "GET",
          RIGHT_READ,
          handle_read,
          { "show", "upgrade", "status" },
          .view = view_operation },
        { "/api/cluster/upgrade/history",
          "GET",
          RIGHT_READ,
          handle_read,
          { "show", "upgrade", "history" },
          .view = view_history },
        { "/api/cluster/runtime", "GET", RIGHT_READ, handle_read, { "status" }, .view = view_runtime },
        { "/api/cluster/version", "GET", RIGHT_READ, handle_read, { "status" }, .view = view_version },
        { "/api/cluster/nodes",
          "GET",
          RIGHT_READ,
          handle_read,
          { "show", "nodes" },
          .view = view_printed,
          .shows_why = true },
        { "/api/cluster/nodes/",
          "DELETE",
          RIGHT_OPERATE,
          handle_delete_node,
          { "node", "delete" },
          TASK_CHANGE,
          .view = view_printed },
        { "/api/cluster/ca", "GET", RIGHT_NONE, handle_ca },
        { "/api/cluster/join", "POST", RIGHT_NONE, handle_join, { "cluster", "admit" }, .view = view_printed },
        { "/api/cluster/node/view", "GET", RIGHT_READ, handle_node_view },
        { "/api/cluster/node/vote", "POST", RIGHT_READ, handle_node_vote },
        { "/api/cluster/node/status", "POST", RIGHT_READ, handle_node_status },
        { "/api/cluster/node/time", "GET", RIGHT_READ, handle_node_time },
        { "/api/cluster/node/connected", "GET", RIGHT_READ, handle_node_connected },
        { BUNDLES_PATH, "GET", RIGHT_READ, handle_bundle },
        { "/api/cluster/renew", "POST", RIGHT_READ, handle_node, { "cluster", "renew" }, .view = view_printed },
        { "/api/events", "GET", RIGHT_READ, handle_events },
        { "/metrics", "GET", RIGHT_READ, handle_metrics },
        { "/healthz", "GET", RIGHT_NONE, handle_health },
};

const struct route *route_find(const char *url, char **argument)
{
        for (size_t i = 0; i < ARRAY_SIZE(routes); i++) {
                const char *rest = startswith(url, routes[i].path);
                bool takes_argument = routes[i].path[strlen(routes[i].path) - 1] == '/';

                if (!rest || (takes_argument ? !*rest || strchr(rest, '/') != NULL : *rest != '\0'))
                        continue;
                *argument = takes_argument ? strdup(rest) : NULL;
                return takes_argument && !*argument ? NULL : &routes[i];
        }
        return NULL;
}

bool route_takes(const struct route *route, const char *method)
{
        return streq(route->method, streq(method, "HEAD") ? "GET" : method);
}

/* The certificate of a node outlives its membership, and the fence that a rollback puts before it. */
static bool is_refused(struct api *api, struct http_request *r)
{
        _cleanup_error_ struct error e = {};

        if (r->route->right == RIGHT_NONE || r->route->shows_why || nodes_admit(api->cluster, &r->who, &e) >= 0)
                return false;
        http_answer_error(r, &e);
        return true;
}

void api_handle(struct api *api, struct http_request *r)
{
        if (!is_refused(api, r))
                r->route->handle(api, r);
}

static struct api *published; /* whose streams changes go to: there is one interface */

static void on_change(struct manager *m, bool status, bool operation)
{
        events_changed(&published->events, status, operation);
}

static bool may_not_listen(const struct identity *who, void *userdata)
{
        return nodes_admit(userdata, who, NULL) < 0;
}

static void on_members(struct cluster *c, void *userdata)
{
        struct api *api = userdata;

        events_end(&api->events, may_not_listen, c);
}

/* With thousands of nodes each look reads a megabyte: only for who listens. */
static void on_progress(struct cluster *c, void *userdata)
{
        struct api *api = userdata;

        if (api->events.streams.first)
                manager_progress(api->manager);
}

static const struct manager_face face = { .changed = on_change };

int api_start(struct api *api, struct manager *m, struct cluster *cluster, const struct config *config, struct error *e)
{
        int r;

        *api = (struct api){ .manager = m, .cluster = cluster };
        r = http_start(&api->http, m->event, config, api, e);
        if (r < 0 || !api->http.daemon)
                return r;
        r = events_start(&api->events, m, &api->http);
        if (r < 0)
                return r;
        nodes_start(cluster, &api->http);
        cluster->members_changed = on_members;
        cluster->progressed = on_progress;
        cluster->members_userdata = api;
        published = api;
        m->faces[1] = &face;
        log_info("the HTTPS interface listens on %s", config->api_listen);
        return 0;
}

void api_done(struct api *api)
{
        if (published == api)
                api->manager->faces[1] = NULL;
        api->cluster->members_changed = NULL;
        api->cluster->progressed = NULL;
        http_stop(&api->http);
        events_done(&api->events);
        api_calls_done(api);
}
