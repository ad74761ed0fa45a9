/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Answers that do not end: server-sent events. What comes next for a reader is asked for when it has read what came before,
 * so that who reads slowly costs one text and no more. */
#pragma once

#include "daemon/http.h"

#define STREAM_KEEPALIVE_SEC 15 /* a comment keeps the connection, and finds out when nobody reads any more */

struct http_streams;

/* One reader; the first member of whoever has more to remember of it. malloc'ed. */
struct http_stream {
        struct http_streams *of;
        struct http_stream *next, *previous;
        struct MHD_Connection *connection;
        char *text; /* what is being sent; owned; NULL: nothing */
        size_t size, offset;
        bool suspended, keepalive;
        bool ended; /* nothing comes any more: its answer ends */
};

struct http_streams {
        struct http *http;
        /* The next text, malloc'ed; NULL: nothing yet. */
        char *(*next_text)(struct http_stream *s);
        void (*gone)(struct http_stream *s); /* may be NULL; it is freed afterwards */
        struct http_stream *first;
        unsigned n;
        bool stopping;
        sd_event_source *keepalive;
};

int http_streams_start(struct http_streams *streams, sd_event *event);
/* Answers the request with this one, which is theirs from now on. */
void http_stream_open(struct http_streams *streams, struct http_stream *s, struct http_request *r);
/* One that waits asks for the next text; all that wait do. */
void http_stream_wake(struct http_stream *s);
void http_streams_wake(struct http_streams *streams);
void http_stream_end(struct http_stream *s);
/* Ends all. */
void http_streams_stop(struct http_streams *streams);
void http_streams_done(struct http_streams *streams);
