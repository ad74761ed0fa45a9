/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Requests over HTTPS, JSON both ways, to one of several servers of which any will do, on an sd-event loop. libcurl's multi
 * interface: nothing here blocks.
 *
 *      a request   goes to the server that answered last; when that cannot answer, to the next, until its deadline
 *      once        is not sent again when a byte of it may have arrived: its result is -EREMOTEIO then
 *      a stream    is one request whose answer does not end: told line by line; whoever asked begins it again */
#pragma once

#include <systemd/sd-event.h>

#include "base/error.h"

struct client;
struct client_request;

struct client_tls {
        const char *ca, *certificate, *key; /* files, PEM */
};

/* `endpoints` (NULL-terminated, at most CLIENT_ENDPOINTS): "https://HOST[:PORT]". Errors get `kind`. */
#define CLIENT_ENDPOINTS 8
int client_new(const char *const *endpoints, const struct client_tls *tls, sd_event *event, const struct error_kind *kind,
               struct client **ret, struct error *e);
/* Cancels its requests. NULL-safe; returns NULL. */
struct client *client_free(struct client *c);

struct client_ask {
        const char *path;           /* "/v3/kv/range"; copied, as the body is */
        const char *body;           /* NUL-terminated; NULL: GET, else POST */
        const char *const *headers; /* NULL-terminated, or NULL */
        bool once;
        uint64_t timeout;  /* µs for each try; of a stream: until it is connected */
        uint64_t deadline; /* µs in all; UINT64_MAX: none */
        size_t max;        /* bytes of an answer or a line */
        int endpoint;      /* ask this one only; -1: any */
        uint64_t *sent;    /* monotonic µs at which it is sent, once there is a connection; NULL: nobody wants to know */
        int *sent_to;      /* and to which endpoint; or NULL */
        /* Whether it is an answer: 0; -EAGAIN: ask another server; else the result. NULL: any status below 300 is. */
        int (*judge)(long status, const char *body, size_t size, struct error *e);
        /* Exactly once, unless cancelled; of a stream when it has ended: never 0. -EHOSTUNREACH: nobody answered;
         * -EACCES: certificates do not fit. */
        void (*answered)(int result, const char *body, size_t size, const struct error *e, void *userdata);
        /* Of a stream; the text is gone when the request is cancelled. */
        void (*line)(const char *line, size_t size, void *userdata);
        void *userdata;
};

int client_start(struct client *c, const struct client_ask *ask, struct client_request **ret, struct error *e);
/* From anywhere but `judge`. NULL-safe; returns NULL. */
struct client_request *client_cancel(struct client_request *q);
/* Which endpoint it went to last. */
int client_endpoint(const struct client_request *q);
/* Requests to come go to another endpoint than this one. */
void client_avoid(struct client *c, int endpoint);
/* Where `before`, with the same endpoints, would send its next request, this one does. */
void client_go_on(struct client *c, const struct client *before);
