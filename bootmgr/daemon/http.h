/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The HTTPS server: libmicrohttpd with an epoll of its own on our event loop, TLS, and what is refused before anybody is
 * known. What a request means is daemon/api.h.
 *
 *      connection ──▶ limits (http_peer.h) ──▶ TLS
 *      headers    ──▶ path, method, length of the body, who asks (http_auth.h) and whether they may
 *      body       ──▶ api_handle() ──▶ http_answer…(), at once or later
 */
#pragma once

#include <systemd/sd-event.h>

#include "base/buf.h"
#include "base/json.h"
#include "daemon/http_auth.h"
#include "daemon/http_peer.h"
#include "slot/config.h"

#define HTTP_BODY_MAX KIB(64)

struct MHD_Daemon;
struct MHD_Connection;
struct manager;
struct api;
struct route;
struct events;

struct http_statistics {
        uint64_t answers[6]; /* by the first digit of their status */
};

struct http {
        sd_event *event;
        const struct config *config;
        struct api *api;
        struct MHD_Daemon *daemon;
        sd_event_source *io, *timer, *sweep;
        struct http_peers peers;
        struct token_file tokens;
        struct http_statistics statistics;
        char *certificate, *key, *client_ca; /* PEM, owned; libmicrohttpd borrows them */
        struct timespec issued;              /* when the file of the certificate was written */
        unsigned renewed;                    /* sweeps since that was seen to be another one */
        bool stopping;
};

/* One request: from its headers until its answer is sent, or its connection is gone. */
struct http_request {
        struct http *http;
        struct MHD_Connection *connection;
        struct http_connection *peer;
        const struct route *route;
        char *argument; /* the variable last part of the path; owned; NULL: none */
        struct identity who;
        uint64_t received; /* realtime µs, when its headers were there */
        struct buf body;
        struct MHD_Response *answer; /* owned, until it is queued */
        unsigned status;
        bool begun, suspended, queued; /* begun: it was handed on, or refused: what comes of its body is dropped */
        struct http_request *next;     /* of those that wait for the same thing: api.c */
};

/* How the event loop ends when the certificate was renewed, or the machine is another node than before (cluster.h): systemd
 * starts another daemon, workers go on (bootmgrd.service). */
#define EXIT_AGAIN 75

/* Listens, when the configuration says so; else success and nothing. `config` must live as long. */
int http_start(struct http *h, sd_event *event, const struct config *config, struct api *api, struct error *e);
void http_stop(struct http *h);

/* Each request is answered once. The JSON is freed; NULL: no memory. */
void http_answer_json(struct http_request *r, unsigned status, json_t *j);
void http_answer_text(struct http_request *r, const char *type, char *text); /* owned; 200 */
/* {"kind","message","checks","hint"} with the status of its kind. */
void http_answer_error(struct http_request *r, const struct error *e);
/* The same as `bootmgr --json` has printed it. */
void http_answer_failure(struct http_request *r, const json_t *failure);
/* Bytes of a file: 206 when they were asked for as a range. Takes the descriptor. */
struct http_part {
        int fd;
        uint64_t from, size, total; /* bytes */
        bool is_range, is_outside;  /* no byte of the range is in the file: 416, and fd is not looked at */
        const char *tag;            /* the entity tag, without quotes */
};
void http_answer_part(struct http_request *r, const struct http_part *part);
/* What `read` gives, until it says that there is no more (MHD_ContentReaderCallback). */
void http_answer_stream(struct http_request *r, ssize_t (*read)(void *userdata, uint64_t position, char *data, size_t size),
                        void (*done)(void *userdata), void *userdata);
/* After MHD_suspend_connection(). */
void http_resume(struct http *h, struct MHD_Connection *connection);
/* A header of the request, or NULL. */
const char *http_header(const struct http_request *r, const char *name);

/* The status of a kind of error: 400 to 507. */
unsigned http_status_of(const char *kind);
