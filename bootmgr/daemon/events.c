/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/events.h"

#include <inttypes.h>

#include "base/clock.h"
#include "base/parse.h"
#include "daemon/api.h"

/* One reader. */
struct reader {
        struct http_stream stream;
        struct identity who;
        uint64_t sent; /* the id of the last event that it has got */
        bool behind;
};

static struct events *events_of(struct http_stream *s)
{
        return (struct events *)((char *)s->of - offsetof(struct events, streams));
}

/* --- what is told ---------------------------------------------------------------------------------------- */

static char *format(const struct events *ev, uint64_t id, const char *name, json_t *data)
{
        _cleanup_json_ json_t *owned = data;
        _cleanup_free_ char *text = data ? json_dumps(data, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

        if (!text)
                return NULL;
        return xasprintf("id: %s.%" PRIu64 "\nevent: %s\ndata: %s\n\n", ev->instance, id, name, text);
}

static char *status_event(const struct events *ev, uint64_t id)
{
        const struct manager *m = ev->manager;
        json_t *null = json_null();

        return format(ev, id, "status", view_runtime(m, m->status ?: null, NULL));
}

static char *operation_event(const struct events *ev, uint64_t id)
{
        return format(ev, id, "operation", view_operation(ev->manager, ev->manager->operation, NULL));
}

/* How things stand; empty while that is not known. */
static char *snapshot(const struct events *ev)
{
        _cleanup_free_ char *status = NULL, *operation = NULL;

        if (!ev->manager->known)
                return strdup(": not known yet\n\n");
        status = status_event(ev, ev->n);
        operation = operation_event(ev, ev->n);
        return status && operation ? xasprintf("%s%s", status, operation) : NULL;
}

/* --- readers --------------------------------------------------------------------------------------------- */

static char *next_text(struct http_stream *stream)
{
        const struct events *ev = events_of(stream);
        struct reader *reader = (struct reader *)stream;
        const char *event;

        if (reader->behind || reader->sent > ev->n || ev->n - reader->sent > EVENTS_KEPT) {
                reader->behind = false;
                reader->sent = ev->n;
                return snapshot(ev);
        }
        if (reader->sent == ev->n)
                return NULL;
        event = ev->kept[++reader->sent % EVENTS_KEPT];
        return strdup(event ?: ": lost\n\n");
}

/* "INSTANCE.NUMBER", of ours and still kept: go on behind it. */
static bool resume_from(const struct events *ev, const char *last, uint64_t *ret)
{
        const char *number = last ? startswith(last, ev->instance) : NULL;
        uint64_t id;

        if (!number || *number != '.' || parse_u64(number + 1, &id) < 0 || id > ev->n || ev->n - id > EVENTS_KEPT)
                return false;
        *ret = id;
        return true;
}

void events_open(struct events *ev, struct http_request *r)
{
        struct reader *reader = calloc(1, sizeof(*reader));

        if (!reader) {
                http_answer_json(r, 500, NULL);
                return;
        }
        reader->who = r->who;
        reader->sent = ev->n;
        reader->behind = !resume_from(ev, http_header(r, "Last-Event-ID"), &reader->sent);
        http_stream_open(&ev->streams, &reader->stream, r);
}

/* --- changes --------------------------------------------------------------------------------------------- */

static void keep(struct events *ev, char *event)
{
        char **at = &ev->kept[ev->n % EVENTS_KEPT];

        free(*at);
        *at = event;
}

void events_changed(struct events *ev, bool status, bool operation)
{
        if (ev->streams.stopping)
                return;
        if (status) {
                ev->n++;
                keep(ev, status_event(ev, ev->n));
        }
        if (operation) {
                ev->n++;
                keep(ev, operation_event(ev, ev->n));
        }
        http_streams_wake(&ev->streams);
}

int events_start(struct events *ev, struct manager *m, struct http *http)
{
        uint8_t id[16];
        int r;

        *ev = (struct events){ .manager = m, .streams = { .http = http, .next_text = next_text } };
        r = random_id(id);
        if (r < 0)
                return r;
        hex_encode(id, 4, ev->instance);
        return http_streams_start(&ev->streams, m->event);
}

void events_end(struct events *ev, bool (*is_refused)(const struct identity *who, void *userdata), void *userdata)
{
        for (struct http_stream *s = ev->streams.first, *next; s; s = next) {
                next = s->next;
                if (is_refused(&((struct reader *)s)->who, userdata))
                        http_stream_end(s);
        }
}

void events_stop(struct events *ev)
{
        http_streams_stop(&ev->streams);
}

void events_done(struct events *ev)
{
        http_streams_done(&ev->streams);
        for (size_t i = 0; i < EVENTS_KEPT; i++)
                free(TAKE_PTR(ev->kept[i]));
}
