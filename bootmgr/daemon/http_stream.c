/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/http_stream.h"

#include "base/clock.h"
#include "daemon/microhttpd.h"

void http_stream_wake(struct http_stream *s)
{
        if (TAKE(s->suspended, false))
                http_resume(s->of->http, s->connection);
}

void http_streams_wake(struct http_streams *streams)
{
        for (struct http_stream *s = streams->first; s; s = s->next)
                http_stream_wake(s);
}

static char *next_text(struct http_stream *s)
{
        char *text = s->of->next_text(s);

        if (text)
                return text;
        return TAKE(s->keepalive, false) ? strdup(": still here\n\n") : NULL;
}

static ssize_t read_stream(void *userdata, uint64_t position, char *data, size_t size)
{
        struct http_stream *s = userdata;
        size_t n;

        if (s->of->stopping || s->ended)
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
        struct http_stream *s = userdata;

        *(s->previous ? &s->previous->next : &s->of->first) = s->next;
        if (s->next)
                s->next->previous = s->previous;
        s->of->n--;
        if (s->of->gone)
                s->of->gone(s);
        free(s->text);
        free(s);
}

void http_stream_open(struct http_streams *streams, struct http_stream *s, struct http_request *r)
{
        s->of = streams;
        s->connection = r->connection;
        s->next = streams->first;
        if (s->next)
                s->next->previous = s;
        streams->first = s;
        streams->n++;
        http_answer_stream(r, read_stream, stream_done, s);
}

void http_stream_end(struct http_stream *s)
{
        s->ended = true;
        http_stream_wake(s);
}

static int on_keepalive(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct http_streams *streams = userdata;

        for (struct http_stream *s = streams->first; s; s = s->next)
                s->keepalive = true;
        http_streams_wake(streams);
        sd_event_source_set_time_relative(source, STREAM_KEEPALIVE_SEC * USEC_PER_SEC);
        sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
        return 0;
}

int http_streams_start(struct http_streams *streams, sd_event *event)
{
        return sd_event_add_time_relative(event, &streams->keepalive, CLOCK_MONOTONIC, STREAM_KEEPALIVE_SEC * USEC_PER_SEC,
                                          0, on_keepalive, streams);
}

void http_streams_stop(struct http_streams *streams)
{
        streams->stopping = true;
        http_streams_wake(streams);
}

void http_streams_done(struct http_streams *streams)
{
        streams->keepalive = sd_event_source_disable_unref(streams->keepalive);
}
