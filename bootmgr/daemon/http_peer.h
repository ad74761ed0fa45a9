/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who is connected, while nobody knows yet who it is: how many connections there are in all and of an address, how long
 * each may take to say who it is, and how many requests an address may make that nobody has to answer.
 *
 * A new connection is not kept out by old ones that say nothing: where there are too many, the oldest of those whose
 * owner is unknown is ended, of the address that has most of them. What is known is never ended for a new one: thousands of
 * nodes hold one each, while only some hundred may be unknown, which is what a stranger can make us keep in memory. Those
 * that have just come have a moment, and more room, to say who they are: when all nodes come back at once, ending the oldest
 * would end those that are about to be known.
 *
 * Ending is shutdown(2): who owns the descriptor sees that and closes it. */
#pragma once

#include <sys/socket.h>

#include "base/util.h"

#define PEER_UNKNOWN_MAX  512  /* connections whose owner is not known yet, whatever there is room for */
#define PEER_CROWD_MAX    2048 /* … of these at most, while they are young */
#define PEER_YOUNG_SEC    3
#define PEER_PATIENCE_SEC 15 /* to shake hands, ask, and be known */
#define PEER_BODY_SEC     30 /* to send the body of a request, once known */
#define PEER_RATE         20 /* requests a second of an address that is not known … */
#define PEER_BURST        60 /* … and so many at once */

struct http_peer; /* an address */

struct http_connection {
        struct http_peer *peer;
        struct http_connection *older, *newer;
        uint64_t deadline; /* monotonic µs; UINT64_MAX: none */
        int fd;            /* borrowed */
        bool known, ended;
};

#define PEER_BUCKETS 1024

struct http_peers {
        struct http_connections {
                struct http_connection *oldest, *newest;
        } unknown, known;
        struct http_peer *buckets[PEER_BUCKETS];
        unsigned max;                              /* connections */
        unsigned n, n_known;                       /* connections there are now */
        unsigned n_addresses, n_connected;         /* that are remembered; that have a connection */
        uint64_t evicted, refused, late, too_many; /* counted since the start */
};

/* NULL: no memory. The connection may have been ended already. */
struct http_connection *http_peers_add(struct http_peers *p, int fd, const struct sockaddr *address, uint64_t now);
void http_peers_remove(struct http_peers *p, struct http_connection *c);
void http_peers_know(struct http_peers *p, struct http_connection *c);
/* One more request of somebody unknown: false when the address has had its share. */
bool http_peers_take(struct http_peers *p, struct http_connection *c, uint64_t now);
/* That request was somebody's after all: the share is the address's again. */
void http_peers_give(struct http_connection *c);
/* Ends those that are late, forgets addresses. To be called about every second. */
void http_peers_sweep(struct http_peers *p, uint64_t now);
void http_peers_done(struct http_peers *p);
