/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the paths of the HTTPS interface mean: docs/openapi.json. A face of the manager (manager.h), as bus.h is.
 *
 *      api.c        the paths; what a request says (api_body.h) becomes words for `bootmgr`
 *      api_call.c   one `bootmgr`, and those who wait for what it says
 *      api_join.c   what a machine asks that is to become a node
 *      api_view.c   what is told, in the form that a cluster has: of a standalone machine, a cluster of one
 *      events.c     GET /api/events
 *      metrics.c    GET /metrics */
#pragma once

#include "daemon/api_body.h"
#include "daemon/events.h"
#include "daemon/http.h"
#include "daemon/manager.h"

struct call;
struct cluster;

struct api {
        struct manager *manager;
        struct cluster *cluster; /* borrowed */
        struct http http;
        struct events events;
        struct call *calls; /* under way */
};

struct route {
        const char *path; /* one that ends in '/' has an argument behind it */
        const char *method;
        enum right right;
        void (*handle)(struct api *api, struct http_request *r);
        const char *words[4]; /* for bootmgr, when it is asked */
        enum task_kind kind;
        unsigned members; /* enum api_member, of the body */
        json_t *(*view)(const struct manager *m, const json_t *printed, const struct api_body *body); /* new reference */
        bool shows_why; /* a node that is fenced, or is no member any more, sees there why it is refused elsewhere */
};

/* NULL: nothing is there. *argument is malloc'ed, or NULL. */
const struct route *route_find(const char *url, char **argument);
bool route_takes(const struct route *route, const char *method);

/* The interface, when the configuration asks for it. `config` and the cluster must live as long. */
int api_start(struct api *api, struct manager *m, struct cluster *cluster, const struct config *config, struct error *e);
void api_stop(struct api *api); /* answers what waits; called by http_stop() */
void api_done(struct api *api);

/* A request that is complete and allowed. */
void api_handle(struct api *api, struct http_request *r);
/* It is gone, or was answered. */
void api_forget(struct api *api, struct http_request *r);

/* Runs `bootmgr` for the request and whoever asks the same with the same id; its body moves in. */
void api_call(struct api *api, struct http_request *r, struct api_body *body);

/* The same, which reads `input`: the request's body, or who asks and the body. */
void api_call_with(struct api *api, struct http_request *r, const char *input, size_t size);
/* How many wait for that route. */
unsigned api_count_calls(const struct api *api, const struct route *route);

void handle_ca(struct api *api, struct http_request *r);
void handle_join(struct api *api, struct http_request *r);
/* A node asks as itself: its certificate says which. `bootmgr` reads {"name", "role", "key", "body"}. */
void handle_node(struct api *api, struct http_request *r);

void api_calls_done(struct api *api); /* no task is looked at any more */

json_t *view_operation(const struct manager *m, const json_t *printed, const struct api_body *body);
json_t *view_history(const struct manager *m, const json_t *printed, const struct api_body *body);
json_t *view_done(const struct manager *m, const json_t *printed, const struct api_body *body);
/* As it was printed. */
json_t *view_printed(const struct manager *m, const json_t *printed, const struct api_body *body);
json_t *view_runtime(const struct manager *m, const json_t *status, const struct api_body *body);
json_t *view_version(const struct manager *m, const json_t *status, const struct api_body *body);
