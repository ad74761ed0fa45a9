/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libcurl, wrapped once: one body, read forwards, through a bounded buffer. A broken connection goes on from
 * where it was when the server knows ranges, and is read again from the start when it does not. A file that has
 * another ETag then is another file, and the transfer fails. */
#include <sys/select.h>
#include <time.h>

#include "base/buf.h"
#include "base/curl.h"
#include "base/log.h"
#include "image/source.h"
#include "slot/kinds.h"

#define BUFFER_SIZE       (1024 * 1024) /* well above CURL_MAX_WRITE_SIZE */
#define CONNECT_TIMEOUT   20L
#define STALL_TIMEOUT     30L
#define POLL_USEC         1000000
#define UNKNOWN_POLL_USEC 100000 /* curl has no descriptor to wait for: the delay its manual names */
#define RETRIES           5

struct http {
        char *url;
        CURL *easy;
        CURLM *multi;
        struct curl_slist *headers;
        char *etag;        /* of the file; NULL: the server gives none */
        char *answer_etag; /* of the answer that is arriving */
        uint8_t *buffer;
        size_t start, fill;
        uint64_t offset;   /* of the next byte to hand out */
        uint64_t received; /* of the next byte to arrive */
        uint64_t drop;     /* bytes still to come that have arrived before */
        bool paused, running, ended;
        bool no_ranges;    /* the server does not know them */
        bool changed;      /* it is another file now */
        unsigned failures; /* since something last arrived */
        CURLcode result;
        long status;
        char message[CURL_ERROR_SIZE];
};

/* Before anything of an answer is used: what has arrived before and what arrives now must be of one file. */
static void compare_etags(struct http *h)
{
        if (h->received == 0) {
                free(h->etag);
                h->etag = TAKE_PTR(h->answer_etag);
        } else if (h->etag && !streq(h->etag, h->answer_etag)) {
                h->changed = true;
        }
}

static void keep(struct http *h, const char *data, size_t n)
{
        if (h->start + h->fill + n > BUFFER_SIZE) {
                memmove(h->buffer, h->buffer + h->start, h->fill);
                h->start = 0;
        }
        memcpy(h->buffer + h->start + h->fill, data, n);
        h->fill += n;
        h->received += n;
        h->failures = 0;
}

static size_t on_body(char *data, size_t size, size_t n, void *userdata)
{
        struct http *h = userdata;
        size_t old;

        n *= size;
        if (h->status == 0) {
                curl.easy_getinfo(h->easy, CURLINFO_RESPONSE_CODE, &h->status);
                if (h->status < 400)
                        compare_etags(h);
        }
        if (h->status >= 400)
                return n; /* the server's words about its error are not the bundle */
        if (h->changed)
                return 0; /* ends the transfer */
        old = (size_t)MIN(h->drop, (uint64_t)n);
        if (h->fill + n - old > BUFFER_SIZE) {
                h->paused = true;
                return CURL_WRITEFUNC_PAUSE;
        }
        h->drop -= old;
        if (n > old)
                keep(h, data + old, n - old);
        return n;
}

static size_t on_header(char *data, size_t size, size_t n, void *userdata)
{
        struct http *h = userdata;

        n *= size;
        if (n > 5 && memcmp(data, "HTTP/", 5) == 0) {
                /* A redirection has headers of its own. */
                free(TAKE_PTR(h->answer_etag));
        } else if (n > 5 && strncasecmp(data, "etag:", 5) == 0) {
                size_t end = n, start = 5;

                while (start < end && strchr(" \t", data[start]))
                        start++;
                while (end > start && strchr(" \t\r\n", data[end - 1]))
                        end--;
                free(h->answer_etag);
                h->answer_etag = strndup(data + start, end - start);
        }
        return n;
}

static void http_done(struct http *h)
{
        if (h->multi && h->easy)
                curl.multi_remove_handle(h->multi, h->easy);
        curl.easy_cleanup(h->easy);
        curl.multi_cleanup(h->multi);
        curl.slist_free_all(h->headers);
        free(h->etag);
        free(h->answer_etag);
        free(h->buffer);
        free(h->url);
        free(h);
}

static int configure(struct http *h)
{
        const struct {
                CURLoption option;
                long value;
        } numbers[] = {
                { CURLOPT_FOLLOWLOCATION, 1 },  { CURLOPT_MAXREDIRS, 5 },
                { CURLOPT_NOSIGNAL, 1 },        { CURLOPT_CONNECTTIMEOUT, CONNECT_TIMEOUT },
                { CURLOPT_LOW_SPEED_LIMIT, 1 }, { CURLOPT_LOW_SPEED_TIME, STALL_TIMEOUT },
        };
        CURLcode r = curl.easy_setopt(h->easy, CURLOPT_URL, h->url);

        for (size_t i = 0; i < ARRAY_SIZE(numbers) && r == CURLE_OK; i++)
                r = curl.easy_setopt(h->easy, numbers[i].option, numbers[i].value);
        if (r == CURLE_OK)
                r = curl.easy_setopt(h->easy, CURLOPT_PROTOCOLS_STR, "http,https");
        if (r == CURLE_OK)
                r = curl.easy_setopt(h->easy, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
        if (r == CURLE_OK)
                r = curl.easy_setopt(h->easy, CURLOPT_USERAGENT, "bootmgr/" BOOTMGR_VERSION);
        if (r == CURLE_OK)
                r = curl.easy_setopt(h->easy, CURLOPT_ERRORBUFFER, h->message);
        if (r == CURLE_OK)
                r = curl.easy_setopt(h->easy, CURLOPT_WRITEFUNCTION, on_body);
        if (r == CURLE_OK)
                r = curl.easy_setopt(h->easy, CURLOPT_WRITEDATA, h);
        if (r == CURLE_OK)
                r = curl.easy_setopt(h->easy, CURLOPT_HEADERFUNCTION, on_header);
        if (r == CURLE_OK)
                r = curl.easy_setopt(h->easy, CURLOPT_HEADERDATA, h);
        return r == CURLE_OK ? 0 : -EIO;
}

/* Starts, or goes on from h->received. */
static int start_transfer(struct http *h)
{
        _cleanup_free_ char *condition = NULL;
        uint64_t from = h->no_ranges ? 0 : h->received;

        curl.slist_free_all(h->headers);
        h->headers = NULL;
        /* A weak one (W/) promises nothing about bytes: no server takes it as a condition (RFC 9110, 13.1.5). */
        if (from > 0 && h->etag && !startswith(h->etag, "W/")) {
                condition = xasprintf("If-Range: %s", h->etag);
                h->headers = condition ? curl.slist_append(NULL, condition) : NULL;
        }
        curl.easy_setopt(h->easy, CURLOPT_HTTPHEADER, h->headers);
        curl.easy_setopt(h->easy, CURLOPT_RESUME_FROM_LARGE, (curl_off_t)from);
        h->drop = h->received - from;
        h->paused = h->ended = false;
        h->status = 0;
        h->message[0] = '\0';
        h->running = curl.multi_add_handle(h->multi, h->easy) == CURLM_OK;
        return h->running ? 0 : -EIO;
}

static bool is_transient(CURLcode code, long status)
{
        switch (code) {
        case CURLE_COULDNT_CONNECT:
        case CURLE_COULDNT_RESOLVE_HOST:
        case CURLE_OPERATION_TIMEDOUT:
        case CURLE_PARTIAL_FILE:
        case CURLE_RECV_ERROR:
        case CURLE_SEND_ERROR:
        case CURLE_GOT_NOTHING:
                return true;
        default:
                return status >= 500;
        }
}

static int fail_transfer(struct source *s, struct http *h, struct error *e)
{
        if (h->changed) {
                fail(e, -EIO, &kind_fetch, "%s changed on the server while it was fetched", s->where);
                return fail_hint(e, "start again when the server holds what it is to hold");
        }
        if (h->status >= 400)
                return fail(e, -EIO, &kind_fetch, "%s: the server answers %ld", s->where, h->status);
        return fail(e, -EIO, &kind_fetch, "%s: %s", s->where, *h->message ? h->message : curl.easy_strerror(h->result));
}

/* The transfer has ended: well, or to be tried again. */
static int settle(struct source *s, struct http *h, struct error *e)
{
        curl.easy_getinfo(h->easy, CURLINFO_RESPONSE_CODE, &h->status);
        curl.multi_remove_handle(h->multi, h->easy);
        h->running = false;
        if (h->result == CURLE_OK && h->status < 400) {
                h->ended = true;
                return 0;
        }
        if (h->result == CURLE_RANGE_ERROR && !h->no_ranges) {
                compare_etags(h);
                if (h->changed)
                        return fail_transfer(s, h, e);
                h->no_ranges = true;
                return start_transfer(h);
        }
        if (!is_transient(h->result, h->status) || h->failures >= RETRIES || (h->received == 0 && h->failures >= 2))
                return fail_transfer(s, h, e);
        log_info("%s: %s; trying again", s->where, *h->message ? h->message : curl.easy_strerror(h->result));
        if (nanosleep(&(struct timespec){ .tv_sec = (time_t)1 << h->failures }, NULL) < 0)
                return source_interrupted(s, e);
        h->failures++;
        return start_transfer(h);
}

/* curl_multi_poll() hides that a signal came, and a signal must end the waiting. */
static int wait_for_server(struct source *s, struct http *h, struct error *e)
{
        struct timeval timeout = { .tv_usec = UNKNOWN_POLL_USEC };
        fd_set readable, writable, failed;
        int highest = -1;
        long msec = -1;

        FD_ZERO(&readable);
        FD_ZERO(&writable);
        FD_ZERO(&failed);
        if (curl.multi_fdset(h->multi, &readable, &writable, &failed, &highest) != CURLM_OK)
                return fail_transfer(s, h, e);
        curl.multi_timeout(h->multi, &msec);
        if (highest >= 0) {
                uint64_t usec = msec < 0 ? POLL_USEC : MIN((uint64_t)msec * 1000, (uint64_t)POLL_USEC);

                timeout = (struct timeval){ .tv_sec = (time_t)(usec / 1000000), .tv_usec = (suseconds_t)(usec % 1000000) };
        }
        if (select(highest + 1, &readable, &writable, &failed, &timeout) >= 0)
                return 0;
        return errno == EINTR ? source_interrupted(s, e) : fail_errno(e, -errno, "cannot wait for %s", s->where);
}

static int work(struct source *s, struct http *h, struct error *e)
{
        CURLMsg *message;
        int active, left;

        if (h->paused && h->fill <= BUFFER_SIZE / 2) {
                h->paused = false;
                curl.easy_pause(h->easy, CURLPAUSE_CONT);
        }
        if (curl.multi_perform(h->multi, &active) != CURLM_OK)
                return fail_transfer(s, h, e);
        while ((message = curl.multi_info_read(h->multi, &left))) {
                if (message->msg != CURLMSG_DONE)
                        continue;
                h->result = message->data.result;
                return settle(s, h, e);
        }
        return h->fill == 0 && active ? wait_for_server(s, h, e) : 0;
}

static ssize_t http_read(struct source *s, void *data, size_t n, struct error *e)
{
        struct http *h = s->http;

        while (h->fill == 0 && !h->ended) {
                int r = work(s, h, e);

                if (r < 0)
                        return r;
        }
        n = MIN(n, h->fill);
        memcpy(data, h->buffer + h->start, n);
        h->start += n;
        h->fill -= n;
        h->offset += n;
        if (h->fill == 0)
                h->start = 0;
        return (ssize_t)n;
}

static void http_close(struct source *s)
{
        if (s->http)
                http_done(s->http);
}

static const struct source_ops http_ops = { .read = http_read, .close = http_close };

/* For messages: no user:password@ and no query. */
static char *public_url(const char *url)
{
        const char *scheme = strstr(url, "://") + 3, *slash = scheme + strcspn(scheme, "/?"),
                   *at = memrchr(scheme, '@', (size_t)(slash - scheme));
        const char *host = at ? at + 1 : scheme;

        return xasprintf("%.*s%.*s", (int)(scheme - url), url, (int)strcspn(host, "?"), host);
}

int http_open(const char *url, struct source *ret, struct error *e)
{
        struct http *h;
        curl_off_t length = -1;
        int r;

        r = curl_load(&kind_fetch, e);
        if (r < 0)
                return fail_hint(e, "install it (Debian: libcurl4), or copy the bundle here and name the file");
        h = calloc(1, sizeof(*h));
        if (!h)
                return -ENOMEM;
        ret->ops = &http_ops;
        ret->http = h;
        ret->where = public_url(url);
        ret->size = UINT64_MAX;
        h->url = strdup(url);
        h->buffer = malloc(BUFFER_SIZE);
        h->easy = curl.easy_init();
        h->multi = curl.multi_init();
        if (!ret->where || !h->url || !h->buffer || !h->easy || !h->multi)
                return -ENOMEM;
        r = configure(h);
        if (r >= 0)
                r = start_transfer(h);
        while (r >= 0 && h->fill == 0 && !h->ended)
                r = work(ret, h, e); /* errors show here, before anything else is done */
        if (r < 0)
                return fail(e, r, &kind_fetch, "%s cannot be fetched", ret->where);
        curl.easy_getinfo(h->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
        if (length >= 0)
                ret->size = (uint64_t)length;
        return 0;
}
