/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* GET /api/events: what changes, as server-sent events.
 *
 *      id: 5f0c8d3b.17            of this bootmgrd, and counted
 *      event: operation           or "status"
 *      data: {...}                as GET /api/cluster/upgrade/status and /runtime say it
 *
 * Who comes with Last-Event-ID goes on behind it, as long as it is among the last EVENTS_KEPT; everybody else is told
 * first how things stand. Who reads too slowly loses events, and is told how things stand then. A comment every
 * EVENTS_KEEPALIVE_SEC keeps the connection, and notices when nobody reads any more. */
#pragma once

#include "daemon/manager.h"

#define EVENTS_KEPT          64
#define EVENTS_KEEPALIVE_SEC 15

struct http;
struct http_request;
struct stream;

struct events {
        struct manager *manager;
        struct http *http;
        char instance[9];        /* tells our ids from those of the bootmgrd before us */
        uint64_t n;              /* events since the start: the id of the newest */
        char *kept[EVENTS_KEPT]; /* event i is at i % EVENTS_KEPT; owned */
        struct stream *streams;
        unsigned n_streams;
        bool stopping;
        sd_event_source *keepalive;
};

int events_start(struct events *ev, struct manager *m, struct http *http);
void events_changed(struct events *ev, bool status, bool operation);
void events_open(struct events *ev, struct http_request *r);
/* Ends all streams. */
void events_stop(struct events *ev);
void events_done(struct events *ev);
