/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 *      FRESH ──all keys, told──▶ STREAM ──each change, told──▶ …
 *        ▲                        │  ▲
 *        └──────compacted─────────┤  └── after a while, from the next revision
 *                                 └── ended, silent, or not to be understood
 *
 * A member that lost its leader ends the stream, since "hasleader" is asked for. One that is stopped, but whose kernel still
 * acknowledges, is found by a question to the same member at intervals. */
#include "cluster/etcd_watch.h"

#include "base/log.h"
#include "cluster/etcd.h"

#define CONNECT_TIMEOUT (3 * USEC_PER_SEC)
#define PROBE_INTERVAL  (5 * USEC_PER_SEC)
#define AGAIN_MIN       (50 * USEC_PER_MSEC)
#define AGAIN_MAX       (5 * USEC_PER_SEC)

struct etcd_watch {
        struct store_watch *watch;
        struct client *client;
        struct client_request *stream, *fresh, *probe;
        sd_event_source *timer; /* until the next try, or the next probe */
        uint64_t wait;
};

static void begin_or_wait(struct etcd_watch *ew);

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata);

static void set_timer(struct etcd_watch *ew, uint64_t usec)
{
        if (sd_event_source_set_time_relative(ew->timer, usec) < 0 ||
            sd_event_source_set_enabled(ew->timer, SD_EVENT_ONESHOT) < 0)
                log_error("the watch on %s has no timer: it stands still", ew->watch->prefix);
}

static void stop(struct etcd_watch *ew)
{
        ew->stream = client_cancel(ew->stream);
        ew->fresh = client_cancel(ew->fresh);
        ew->probe = client_cancel(ew->probe);
        ew->watch->live = false;
}

/* Each time a little later, and not all watchers of a cluster at the same moment. */
static void begin_later(struct etcd_watch *ew)
{
        uint64_t wait = ew->wait ? MIN(ew->wait * 2, AGAIN_MAX) : AGAIN_MIN;

        stop(ew);
        ew->wait = wait;
        set_timer(ew, wait / 2 + now_monotonic() % (wait / 2));
}

/* What is wrong is said once, not at each try. */
static void say_lost(struct etcd_watch *ew, const struct error *e)
{
        if (ew->watch->live)
                log_notice("the watch on %s is interrupted: %s", ew->watch->prefix,
                           e && e->message ? e->message : "no reason");
        else
                log_debug("the watch on %s: %s", ew->watch->prefix, e && e->message ? e->message : "no reason");
}

/* false: the watch is no more. */
static bool tell(struct etcd_watch *ew, const struct store_reply *reply, const bool *deleted, uint64_t revision, bool fresh)
{
        _cleanup_free_ struct store_change *changes = calloc(reply->n_entries + 1, sizeof(*changes));

        if (!changes) {
                begin_later(ew);
                return false;
        }
        for (size_t i = 0; i < reply->n_entries; i++)
                changes[i] = (struct store_change){ &reply->entries[i], deleted && deleted[i] };
        return store_watch_tell(ew->watch, changes, reply->n_entries, revision, fresh);
}

static void on_fresh(int result, const char *body, size_t size, const struct error *e, void *userdata)
{
        struct etcd_watch *ew = userdata;
        _cleanup_reply_ struct store_reply reply = {};

        ew->fresh = NULL;
        if (result >= 0)
                result = etcd_parse_range(body, size, &reply, NULL);
        if (result < 0) {
                say_lost(ew, e);
                begin_later(ew);
        } else if (tell(ew, &reply, NULL, reply.revision, true)) {
                begin_or_wait(ew);
        }
}

static void on_line(const char *line, size_t size, void *userdata)
{
        struct etcd_watch *ew = userdata;
        struct store_watch *w = ew->watch;
        _cleanup_events_ struct etcd_events events = {};
        _cleanup_error_ struct error e = {};
        int r = etcd_parse_events(line, size, &events, &e);

        if (r >= 0 && events.compacted) {
                stop(ew);
                w->next_revision = 0;
                begin_or_wait(ew);
                return;
        }
        if (r < 0 || events.ended) {
                say_lost(ew, &e);
                client_avoid(ew->client, client_endpoint(ew->stream));
                begin_later(ew);
                return;
        }
        if (events.created) {
                w->live = true;
                ew->wait = 0;
        }
        /* A member that begins anew may tell the end of what was told already. Not header.revision: it may be ahead. */
        if (events.entries.n_entries > 0 && events.revision >= w->next_revision)
                (void)tell(ew, &events.entries, events.deleted, events.revision, false);
}

static void on_stream_end(int result, const char *body, size_t size, const struct error *e, void *userdata)
{
        struct etcd_watch *ew = userdata;

        ew->stream = NULL;
        say_lost(ew, e);
        begin_later(ew);
}

static void on_probe(int result, const char *body, size_t size, const struct error *e, void *userdata)
{
        struct etcd_watch *ew = userdata;

        ew->probe = NULL;
        if (result >= 0 && ew->watch->live) {
                set_timer(ew, PROBE_INTERVAL);
                return;
        }
        say_lost(ew, e);
        begin_later(ew);
}

static int begin_stream(struct etcd_watch *ew)
{
        static const char *const headers[] = { "Grpc-Metadata-hasleader: true", NULL };
        _cleanup_free_ char *body = etcd_watch_body(ew->watch->prefix, ew->watch->next_revision);
        struct client_ask ask = {
                .path = "/v3/watch",
                .body = body,
                .headers = headers,
                .timeout = CONNECT_TIMEOUT,
                .max = STORE_ANSWER_MAX,
                .endpoint = -1,
                .answered = on_stream_end,
                .line = on_line,
                .userdata = ew,
        };

        return body ? client_start(ew->client, &ask, &ew->stream, NULL) : -ENOMEM;
}

/* A key that nobody has: what counts is that this member answers. */
static int begin_probe(struct etcd_watch *ew)
{
        const struct store_range range = { .key = "-" };
        struct client_ask ask = { .endpoint = client_endpoint(ew->stream), .answered = on_probe, .userdata = ew };

        return etcd_start_range(ew->client, &range, ask, &ew->probe, NULL);
}

static int begin_fresh(struct etcd_watch *ew)
{
        const struct store_range range = { ew->watch->prefix, .prefix = true };
        struct client_ask ask = { .endpoint = -1, .answered = on_fresh, .userdata = ew };

        return etcd_start_range(ew->client, &range, ask, &ew->fresh, NULL);
}

static void begin_or_wait(struct etcd_watch *ew)
{
        if ((ew->watch->next_revision == 0 ? begin_fresh(ew) : begin_stream(ew)) < 0)
                begin_later(ew);
        else
                set_timer(ew, PROBE_INTERVAL);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct etcd_watch *ew = userdata;

        if (ew->fresh || ew->probe)
                return 0; /* they have deadlines of their own */
        if (!ew->stream)
                begin_or_wait(ew);
        else if (begin_probe(ew) < 0)
                begin_later(ew);
        return 0;
}

int etcd_watch_begin(struct store_watch *w, struct client *c, struct error *e)
{
        struct etcd_watch *ew = calloc(1, sizeof(*ew));
        int r;

        if (!ew)
                return -ENOMEM;
        *ew = (struct etcd_watch){ .watch = w, .client = c };
        r = sd_event_add_time(w->store->event, &ew->timer, CLOCK_MONOTONIC, 0, USEC_PER_MSEC, on_timer, ew);
        if (r < 0) {
                free(ew);
                return fail_errno(e, r, "cannot watch %s", w->prefix);
        }
        w->backend = ew;
        begin_or_wait(ew);
        return 0;
}

void etcd_watch_stop(struct store_watch *w)
{
        struct etcd_watch *ew = w->backend;

        stop(ew);
        sd_event_source_disable_unref(ew->timer);
        free(ew);
}
