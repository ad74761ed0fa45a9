/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* GET /api/events: what changes, as server-sent events.
 *
 *      id: 5f0c8d3b.17            of this bootmgrd, and counted
 *      event: operation           or "status"
 *      data: {...}                as GET /api/cluster/upgrade/status and /runtime say it
 *
 * Who comes with Last-Event-ID goes on behind it, as long as it is among the last EVENTS_KEPT; everybody else is told
 * first how things stand. Who reads too slowly loses events, and is told how things stand then. */
#pragma once

#include "daemon/http_stream.h"
#include "daemon/manager.h"

#define EVENTS_KEPT 64

struct events {
        struct manager *manager;
        char instance[9];        /* tells our ids from those of the bootmgrd before us */
        uint64_t n;              /* events since the start: the id of the newest */
        char *kept[EVENTS_KEPT]; /* event i is at i % EVENTS_KEPT; owned */
        struct http_streams streams;
};

int events_start(struct events *ev, struct manager *m, struct http *http);
void events_changed(struct events *ev, bool status, bool operation);
void events_open(struct events *ev, struct http_request *r);
/* Ends the streams of those of whom that is so. */
void events_end(struct events *ev, bool (*is_refused)(const struct identity *who, void *userdata), void *userdata);
/* Ends all streams. */
void events_stop(struct events *ev);
void events_done(struct events *ev);
