/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/events.h"

#include <inttypes.h>

#include "base/clock.h"
#include "base/parse.h"
#include "daemon/api.h"
#include "daemon/microhttpd.h"

/* One reader. */
struct stream {
        struct events *events;
        struct stream *next;
        struct MHD_Connection *connection;
        uint64_t sent; /* the id of the last event that it has got */
        char *text;    /* what is being sent; owned; NULL: nothing */
        size_t size, offset;
        bool suspended, behind, keepalive;
};

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

/* --- streams --------------------------------------------------------------------------------------------- */

static void wake(struct events *ev)
{
        for (struct stream *s = ev->streams; s; s = s->next)
                if (TAKE(s->suspended, false))
                        http_resume(ev->http, s->connection);
}

/* What comes next for this one: NULL, nothing yet. */
static char *next_text(struct stream *s)
{
        const struct events *ev = s->events;
        const char *event;

        if (s->behind || s->sent > ev->n || ev->n - s->sent > EVENTS_KEPT) {
                s->behind = false;
                s->sent = ev->n;
                return snapshot(ev);
        }
        if (s->sent < ev->n) {
                event = ev->kept[++s->sent % EVENTS_KEPT];
                return strdup(event ?: ": lost\n\n");
        }
        return TAKE(s->keepalive, false) ? strdup(": still here\n\n") : NULL;
}

static ssize_t read_stream(void *userdata, uint64_t position, char *data, size_t size)
{
        struct stream *s = userdata;
        size_t n;

        if (s->events->stopping)
                return MHD_CONTENT_READER_END_OF_STREAM;
        if (!s->text) {
                s->text = next_text(s);
                s->size = s->text ? strlen(s->text) : 0;
                s->offset = 0;
        }
        if (!s->text) {
                s->suspended = true;
                mhd.suspend_connection(s->connection);
                return 0;
        }
        n = MIN(size, s->size - s->offset);
        memcpy(data, s->text + s->offset, n);
        s->offset += n;
        if (s->offset == s->size)
                free(TAKE_PTR(s->text));
        return (ssize_t)n;
}

static void stream_done(void *userdata)
{
        struct stream *s = userdata, **at = &s->events->streams;

        while (*at && *at != s)
                at = &(*at)->next;
        if (*at)
                *at = s->next;
        s->events->n_streams--;
        free(s->text);
        free(s);
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
        struct stream *s = calloc(1, sizeof(*s));

        if (!s) {
                http_answer_json(r, 500, NULL);
                return;
        }
        *s = (struct stream){ .events = ev, .next = ev->streams, .connection = r->connection, .sent = ev->n };
        s->behind = !resume_from(ev, http_header(r, "Last-Event-ID"), &s->sent);
        ev->streams = s;
        ev->n_streams++;
        http_answer_stream(r, read_stream, stream_done, s);
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
        if (ev->stopping)
                return;
        if (status) {
                ev->n++;
                keep(ev, status_event(ev, ev->n));
        }
        if (operation) {
                ev->n++;
                keep(ev, operation_event(ev, ev->n));
        }
        wake(ev);
}

static int on_keepalive(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct events *ev = userdata;

        for (struct stream *s = ev->streams; s; s = s->next)
                s->keepalive = true;
        wake(ev);
        sd_event_source_set_time_relative(source, EVENTS_KEEPALIVE_SEC * USEC_PER_SEC);
        sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
        return 0;
}

int events_start(struct events *ev, struct manager *m, struct http *http)
{
        uint8_t id[16];
        int r;

        *ev = (struct events){ .manager = m, .http = http };
        r = random_id(id);
        if (r < 0)
                return r;
        hex_encode(id, 4, ev->instance);
        return sd_event_add_time_relative(m->event, &ev->keepalive, CLOCK_MONOTONIC, EVENTS_KEEPALIVE_SEC * USEC_PER_SEC, 0,
                                          on_keepalive, ev);
}

void events_stop(struct events *ev)
{
        ev->stopping = true;
        wake(ev);
}

void events_done(struct events *ev)
{
        ev->keepalive = sd_event_source_disable_unref(ev->keepalive);
        for (size_t i = 0; i < EVENTS_KEPT; i++)
                free(TAKE_PTR(ev->kept[i]));
}
