/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One connection over TLS of a simulated engine: a request at a time, and its answer; or a stream, line by line. Closed, it
 * connects again when something is sent. */
#pragma once

#include <netinet/in.h>
#include <openssl/ssl.h>
#include <systemd/sd-event.h>

#include "base/buf.h"

enum wire_state { WIRE_CLOSED, WIRE_CONNECTING, WIRE_SHAKING, WIRE_OPEN };

struct wire_statistics {
        uint64_t connects, failed;
};

/* What all have in common. */
struct wire_net {
        sd_event *event;
        SSL_CTX *tls;
        struct sockaddr_in to;
        struct wire_statistics statistics;
};

struct wire {
        struct wire_net *net;
        struct in_addr from;
        X509 *certificate; /* borrowed, as the key is */
        EVP_PKEY *key;
        /* A line of a stream that is one (status 200), without its end. */
        void (*line)(struct wire *w, const char *line);
        /* A whole answer; status 0: there is none, the connection is closed. */
        void (*answer)(struct wire *w, long status, const char *body);
        uint64_t heard; /* monotonic µs: bytes */
        uint64_t flown; /* monotonic µs at which the request was sent: there was a connection */
        void *userdata;

        /* the wire's own */
        enum wire_state state;
        SSL *ssl;
        int fd;
        sd_event_source *io;
        struct buf out, in, text; /* to be sent; not looked at yet; without its chunks */
        size_t sent;
        bool asked, has_headers, chunked;
        long status;
        size_t length; /* of the body, or of what is missing of a chunk */
};

int wire_send(struct wire *w, const char *request);
/* Nobody is told. */
void wire_close(struct wire *w);
