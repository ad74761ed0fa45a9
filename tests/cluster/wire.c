/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wire.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/clock.h"

static void consume(struct buf *b, size_t n)
{
        memmove(b->data, b->data + n, b->size - n + 1); /* with the NUL */
        b->size -= n;
}

void wire_close(struct wire *w)
{
        w->io = sd_event_source_disable_unref(w->io);
        SSL_free(w->ssl);
        w->ssl = NULL;
        if (w->state != WIRE_CLOSED)
                w->fd = fd_close(w->fd);
        w->state = WIRE_CLOSED;
        buf_done(&w->out);
        buf_done(&w->in);
        buf_done(&w->text);
        w->sent = w->length = 0;
        w->asked = w->has_headers = w->chunked = false;
}

static void lose(struct wire *w)
{
        bool asked = w->asked;

        w->net->statistics.failed += w->state < WIRE_OPEN;
        wire_close(w);
        if (asked)
                w->answer(w, 0, "");
}

/* ---- what comes in ---- */

/* 1: they are there. */
static int take_headers(struct wire *w)
{
        char *end = w->in.data ? strstr(w->in.data, "\r\n\r\n") : NULL, *length;

        if (!end)
                return 0;
        end[2] = '\0';
        if (sscanf(w->in.data, "HTTP/1.1 %ld", &w->status) != 1)
                return -EBADMSG;
        w->chunked = strcasestr(w->in.data, "\r\ntransfer-encoding: chunked\r\n") != NULL;
        length = strcasestr(w->in.data, "\r\ncontent-length:");
        w->length = length ? strtoul(length + strlen("\r\ncontent-length:"), NULL, 10) : 0;
        if (!w->chunked && !length)
                return -EBADMSG;
        consume(&w->in, (size_t)(end - w->in.data) + 4);
        w->has_headers = true;
        return 1;
}

/* Into the text; 1: that was the last one. */
static int take_chunks(struct wire *w)
{
        while (w->in.size > 0) {
                char *end;

                if (w->length > 2) {
                        size_t n = MIN(w->length - 2, w->in.size);

                        buf_append(&w->text, w->in.data, n);
                        consume(&w->in, n);
                        w->length -= n;
                        continue;
                }
                if (w->length > 0) { /* the end of its line */
                        size_t n = MIN(w->length, w->in.size);

                        consume(&w->in, n);
                        w->length -= n;
                        continue;
                }
                end = strstr(w->in.data, "\r\n");
                if (!end)
                        return 0;
                w->length = strtoul(w->in.data, NULL, 16);
                if (w->length == 0)
                        return 1;
                w->length += 2;
                consume(&w->in, (size_t)(end - w->in.data) + 2);
        }
        return 0;
}

static void tell_lines(struct wire *w)
{
        SSL *same = w->ssl;
        char *end;

        while (w->ssl == same && w->text.size > 0 && (end = memchr(w->text.data, '\n', w->text.size))) {
                _cleanup_free_ char *line = strndup(w->text.data, (size_t)(end - w->text.data));

                consume(&w->text, (size_t)(end - w->text.data) + 1);
                if (line)
                        w->line(w, line);
        }
}

/* false: the connection is of no use any more. */
static bool take(struct wire *w)
{
        int r = w->has_headers ? 1 : take_headers(w);
        _cleanup_free_ char *body = NULL;

        if (r <= 0)
                return r == 0;
        if (w->chunked) {
                r = take_chunks(w);
                tell_lines(w);
                return r == 0;
        }
        if (w->in.size < w->length)
                return true;
        body = strndup(w->in.data ?: "", w->length);
        if (w->length > 0)
                consume(&w->in, w->length);
        w->has_headers = w->asked = false;
        w->answer(w, w->status, body ?: "");
        return true;
}

/* ---- the connection ---- */

static void watch(struct wire *w, bool write)
{
        sd_event_source_set_io_events(w->io, EPOLLIN | (write ? EPOLLOUT : 0U));
}

/* The result of a call of OpenSSL: 1 it did something, 0 it waits, else it is over. */
static int judge(struct wire *w, int result)
{
        int why;

        if (result > 0)
                return 1;
        why = SSL_get_error(w->ssl, result);
        if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) {
                watch(w, why == SSL_ERROR_WANT_WRITE);
                return 0;
        }
        return -EIO;
}

static int shake(struct wire *w)
{
        int r;

        if (w->state == WIRE_CONNECTING) {
                int error = 0;
                socklen_t size = sizeof(error);

                if (getsockopt(w->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 || error != 0)
                        return -EIO;
                w->state = WIRE_SHAKING;
        }
        r = judge(w, SSL_connect(w->ssl));
        if (r > 0)
                w->state = WIRE_OPEN;
        return r;
}

static int flush(struct wire *w)
{
        if (w->out.size > 0 && w->sent == 0)
                w->flown = now_monotonic();
        while (w->sent < w->out.size) {
                int n = SSL_write(w->ssl, w->out.data + w->sent, (int)(w->out.size - w->sent)), r = judge(w, n);

                if (r <= 0)
                        return r;
                w->sent += (size_t)n;
        }
        buf_done(&w->out);
        w->sent = 0;
        watch(w, false);
        return 1;
}

static int on_io(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        struct wire *w = userdata;
        SSL *same = w->ssl;
        char data[8192];
        int n, r = 1;

        if (w->state < WIRE_OPEN)
                r = shake(w);
        if (r > 0)
                r = flush(w);
        while (r >= 0 && w->state == WIRE_OPEN) {
                n = SSL_read(w->ssl, data, sizeof(data));
                r = judge(w, n);
                if (r <= 0)
                        break;
                w->heard = now_monotonic();
                buf_append(&w->in, data, (size_t)n);
                if (!take(w))
                        r = -EIO;
                if (w->ssl != same)
                        return 0; /* closed by whoever was told */
        }
        if (r < 0)
                lose(w);
        return 0;
}

static int begin(struct wire *w)
{
        const struct sockaddr_in from = { .sin_family = AF_INET, .sin_addr = w->from };
        int on = 1;

        w->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (w->fd < 0)
                return -errno;
        w->state = WIRE_CONNECTING;
        w->net->statistics.connects++;
        (void)setsockopt(w->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
        if (bind(w->fd, (const struct sockaddr *)&from, sizeof(from)) < 0)
                return -errno;
        w->ssl = SSL_new(w->net->tls);
        if (!w->ssl || SSL_use_certificate(w->ssl, w->certificate) != 1 || SSL_use_PrivateKey(w->ssl, w->key) != 1 ||
            SSL_set_fd(w->ssl, w->fd) != 1 || SSL_set1_host(w->ssl, "localhost") != 1)
                return -EIO;
        if (connect(w->fd, (const struct sockaddr *)&w->net->to, sizeof(w->net->to)) < 0 && errno != EINPROGRESS)
                return -errno;
        return sd_event_add_io(w->net->event, &w->io, w->fd, EPOLLIN | EPOLLOUT, on_io, w);
}

int wire_send(struct wire *w, const char *request)
{
        int r = 0;

        if (w->state == WIRE_CLOSED)
                r = begin(w);
        buf_puts(&w->out, request);
        w->asked = true;
        if (r >= 0 && w->state == WIRE_OPEN)
                r = flush(w);
        if (r < 0 || w->out.failed) {
                wire_close(w);
                return r < 0 ? r : -ENOMEM;
        }
        return 0;
}
