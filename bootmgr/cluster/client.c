/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cluster/client.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/curl.h"
#include "cluster/client_socket.h"

#define RUNNING_MAX     16 /* requests at once: what waits here does not run out of its time, as it would in libcurl */
#define CONNECT_MSEC    3000L
#define KEEPALIVE_IDLE  5L    /* seconds, and between probes … */
#define UNANSWERED_MSEC 15000 /* … until a peer that acknowledges nothing counts as gone */
#define BACKOFF_MIN     (100 * USEC_PER_MSEC)
#define BACKOFF_MAX     USEC_PER_SEC

struct client {
        sd_event *event;
        CURLM *multi;
        sd_event_source *timer;
        char *endpoints[CLIENT_ENDPOINTS];
        int n_endpoints, current;
        char *ca, *certificate, *key;
        const struct error_kind *kind;
        struct client_request *requests, *last; /* in the order in which they came */
        int running;                            /* other than streams */
        bool closing;
        unsigned with_lines; /* streams with something to tell */
};

struct client_request {
        struct client *client;
        struct client_request *next, *previous;
        struct client_ask ask;
        char *path, *body;
        size_t size, sent; /* of the body */
        CURL *easy;
        struct curl_slist *headers;
        struct buf answer;
        size_t searched; /* bytes of the answer in which no line ends */
        bool has_line, waiting, running, too_large, refused;
        uint64_t deadline;
        int endpoint, tries;
        sd_event_source *again;
        char message[CURL_ERROR_SIZE];
};

/* ---- libcurl's view: called from inside of it, so nobody is told anything here ---- */

static size_t on_read(char *to, size_t size, size_t n, void *userdata)
{
        struct client_request *q = userdata;

        n = MIN(size * n, q->size - q->sent);
        memcpy(to, q->body + q->sent, n);
        q->sent += n;
        return n;
}

/* libcurl sends a request again by itself when a connection that was kept open turns out to be closed. */
static int on_seek(void *userdata, curl_off_t offset, int origin)
{
        struct client_request *q = userdata;

        if (q->ask.once || origin != SEEK_SET || offset < 0 || (size_t)offset > q->size)
                return CURL_SEEKFUNC_FAIL;
        q->sent = (size_t)offset;
        return CURL_SEEKFUNC_OK;
}

/* What refuses a stream is an answer as any other: for `judge`. */
static bool is_refusal(const struct client_request *q)
{
        long status = 0;

        curl.easy_getinfo(q->easy, CURLINFO_RESPONSE_CODE, &status);
        return status >= 300;
}

static size_t on_write(char *data, size_t size, size_t n, void *userdata)
{
        struct client_request *q = userdata;

        n *= size;
        q->too_large = q->answer.size + n > q->ask.max;
        if (q->too_large)
                return 0;
        buf_append(&q->answer, data, n);
        if (q->ask.line && !q->has_line && memchr(data, '\n', n) && !is_refusal(q)) {
                q->has_line = true;
                q->client->with_lines++;
        }
        return q->answer.failed ? 0 : n;
}

static int on_sending(void *userdata, char *address, char *own_address, int port, int own_port)
{
        struct client_request *q = userdata;

        if (q->ask.sent)
                *q->ask.sent = now_monotonic();
        if (q->ask.sent_to)
                *q->ask.sent_to = q->endpoint;
        return CURL_PREREQFUNC_OK;
}

/* A stream is silent for hours: without this a server that lost its power would never be missed. */
static int on_socket_made(void *userdata, curl_socket_t fd, curlsocktype purpose)
{
        unsigned msec = UNANSWERED_MSEC;

        (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &msec, sizeof(msec));
        return CURL_SOCKOPT_OK;
}

static void drain(struct client *c);

static void on_io(int fd, uint32_t events, void *userdata)
{
        struct client *c = userdata;
        int mask = (events & (EPOLLIN | EPOLLHUP) ? CURL_CSELECT_IN : 0) | (events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
                   (events & EPOLLERR ? CURL_CSELECT_ERR : 0),
            running;

        curl.multi_socket_action(c->multi, fd, mask, &running);
        drain(c);
}

static int on_time(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct client *c = userdata;
        int running;

        curl.multi_socket_action(c->multi, CURL_SOCKET_TIMEOUT, 0, &running);
        drain(c);
        return 0;
}

static int want_socket(CURL *easy, curl_socket_t fd, int what, void *userdata, void *assigned)
{
        struct client *c = userdata;
        struct client_socket *s = assigned;
        uint32_t events = (what & CURL_POLL_IN ? EPOLLIN : 0U) | (what & CURL_POLL_OUT ? EPOLLOUT : 0U);

        if (what == CURL_POLL_REMOVE)
                s = client_socket_end(s);
        else if (client_socket_watch(&s, c->event, fd, events, on_io, c) < 0)
                return -1;
        curl.multi_assign(c->multi, fd, s);
        return 0;
}

static int want_time(CURLM *multi, long msec, void *userdata)
{
        struct client *c = userdata;

        if (msec < 0)
                return sd_event_source_set_enabled(c->timer, SD_EVENT_OFF) < 0 ? -1 : 0;
        return sd_event_source_set_time_relative(c->timer, (uint64_t)msec * USEC_PER_MSEC) < 0 ||
                               sd_event_source_set_enabled(c->timer, SD_EVENT_ONESHOT) < 0
                       ? -1
                       : 0;
}

/* ---- one request ---- */

static int configure(struct client_request *q, const char *url)
{
        const struct client *c = q->client;
        long msec = (long)(q->ask.timeout / USEC_PER_MSEC);
        const struct curl_number numbers[] = {
                { q->ask.body ? CURLOPT_POST : CURLOPT_HTTPGET, 1 },
                { CURLOPT_NOSIGNAL, 1 },
                { CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1 },
                { CURLOPT_CONNECTTIMEOUT_MS, MIN(msec, CONNECT_MSEC) },
                { CURLOPT_TIMEOUT_MS, q->ask.line ? 0 : msec },
                { CURLOPT_SSL_VERIFYPEER, 1 },
                { CURLOPT_SSL_VERIFYHOST, 2 },
                { CURLOPT_TCP_KEEPALIVE, 1 },
                { CURLOPT_TCP_KEEPIDLE, KEEPALIVE_IDLE },
                { CURLOPT_TCP_KEEPINTVL, KEEPALIVE_IDLE },
        };
        const struct curl_pointer pointers[] = {
                { CURLOPT_URL, url },
                { CURLOPT_PROTOCOLS_STR, "https" },
                { CURLOPT_PROXY, "" }, /* whatever the environment says */
                { CURLOPT_USERAGENT, "bootmgr/" BOOTMGR_VERSION },
                { CURLOPT_CAINFO, c->ca },
                { CURLOPT_SSLCERT, c->certificate },
                { CURLOPT_SSLKEY, c->key },
                { CURLOPT_HTTPHEADER, q->headers },
                { CURLOPT_ERRORBUFFER, q->message },
                { CURLOPT_PRIVATE, q },
                { CURLOPT_READDATA, q },
                { CURLOPT_SEEKDATA, q },
                { CURLOPT_WRITEDATA, q },
                { CURLOPT_PREREQDATA, q },
        };
        CURLcode r = curl_set(q->easy, numbers, ARRAY_SIZE(numbers), pointers, ARRAY_SIZE(pointers));

        if (r == CURLE_OK)
                r = curl.easy_setopt(q->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)q->size);
        if (r == CURLE_OK)
                r = curl.easy_setopt(q->easy, CURLOPT_READFUNCTION, on_read);
        if (r == CURLE_OK)
                r = curl.easy_setopt(q->easy, CURLOPT_SEEKFUNCTION, on_seek);
        if (r == CURLE_OK)
                r = curl.easy_setopt(q->easy, CURLOPT_WRITEFUNCTION, on_write);
        if (r == CURLE_OK)
                r = curl.easy_setopt(q->easy, CURLOPT_SOCKOPTFUNCTION, on_socket_made);
        if (r == CURLE_OK)
                r = curl.easy_setopt(q->easy, CURLOPT_PREREQFUNCTION, on_sending);
        return r == CURLE_OK ? 0 : -EIO;
}

/* Sends it to the endpoint that is the current one now, or lets it wait for its turn. */
static int send_it(struct client_request *q)
{
        struct client *c = q->client;
        _cleanup_free_ char *url = NULL;
        int r;

        q->waiting = !q->ask.line && c->running >= RUNNING_MAX;
        if (q->waiting)
                return 0;
        if (q->deadline == 0)
                q->deadline = now_monotonic() + MIN(q->ask.deadline, (uint64_t)INT64_MAX);
        q->endpoint = q->ask.endpoint >= 0 ? q->ask.endpoint : c->current;
        q->sent = q->searched = 0;
        buf_done(&q->answer);
        url = xasprintf("%s%s", c->endpoints[q->endpoint], q->path);
        if (!q->easy)
                q->easy = curl.easy_init();
        if (!url || !q->easy)
                return -ENOMEM;
        r = configure(q, url);
        if (r < 0)
                return r;
        q->message[0] = '\0';
        q->tries++;
        q->running = curl.multi_add_handle(c->multi, q->easy) == CURLM_OK;
        c->running += q->running && !q->ask.line;
        return q->running ? 0 : -EIO;
}

static int on_again(sd_event_source *source, uint64_t usec, void *userdata);

static int send_later(struct client_request *q, uint64_t wait)
{
        return sd_event_add_time_relative(q->client->event, &q->again, CLOCK_MONOTONIC, wait, USEC_PER_MSEC, on_again, q);
}

/* The transfer is over: it is the turn of whoever waits longest. */
static void end_transfer(struct client_request *q)
{
        struct client *c = q->client;
        struct client_request *next = c->requests;

        if (!q->running)
                return;
        curl.multi_remove_handle(c->multi, q->easy);
        q->running = false;
        if (q->ask.line)
                return;
        c->running--;
        while (next && !next->waiting)
                next = next->next;
        if (next && !c->closing && send_later(next, 0) >= 0)
                next->waiting = false;
}

static void request_free(struct client_request *q)
{
        struct client *c = q->client;
        struct client_request **from = q->previous ? &q->previous->next : &c->requests,
                              **back = q->next ? &q->next->previous : &c->last;

        end_transfer(q);
        *from = q->next;
        *back = q->previous;
        c->with_lines -= q->has_line;
        curl.easy_cleanup(q->easy);
        curl.slist_free_all(q->headers);
        sd_event_source_disable_unref(q->again);
        buf_done(&q->answer);
        free(q->path);
        free(q->body);
        free(q);
}

static void end_request(struct client_request *q, int result, const struct error *e)
{
        struct client_ask ask = q->ask;
        struct buf answer = TAKE(q->answer, (struct buf){});

        request_free(q);
        ask.answered(result, answer.data ?: "", answer.size, e, ask.userdata);
        buf_done(&answer);
}

void client_avoid(struct client *c, int endpoint)
{
        if (c->current == endpoint)
                c->current = (endpoint + 1) % c->n_endpoints;
}

void client_go_on(struct client *c, const struct client *before)
{
        c->current = before->current;
}

static int on_again(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct client_request *q = userdata;
        _cleanup_error_ struct error e = {};
        int r;

        q->again = sd_event_source_disable_unref(q->again);
        r = send_it(q);
        if (r < 0) {
                fail(&e, r, q->client->kind, "cannot ask %s again", q->client->endpoints[q->endpoint]);
                end_request(q, r, &e);
        }
        return 0;
}

/* The other endpoints at once, and then all of them at longer and longer intervals. */
static bool try_again(struct client_request *q)
{
        struct client *c = q->client;
        uint64_t wait = 0;

        client_avoid(c, q->endpoint);
        if (q->ask.endpoint >= 0 || q->ask.line || (q->refused && q->tries >= c->n_endpoints))
                return false;
        for (int round = q->tries / c->n_endpoints; round > 0 && q->tries % c->n_endpoints == 0 && wait < BACKOFF_MAX;
             round--)
                wait = MAX(wait * 2, BACKOFF_MIN);
        if (now_monotonic() + wait >= q->deadline)
                return false;
        return send_later(q, wait) >= 0;
}

/* What an ended transfer means: 0 or the result; -EAGAIN: another server may know. */
static int result_of(struct client_request *q, CURLcode code, struct error *e)
{
        const struct client *c = q->client;
        long status = 0;

        if (q->too_large)
                return fail(e, -EFBIG, c->kind, "%s answers with more than %zu bytes", c->endpoints[q->endpoint],
                            q->ask.max);
        /* Time changes neither our files nor the certificate of a server. */
        q->refused = code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE ||
                     code == CURLE_SSL_CERTPROBLEM;
        if (code != CURLE_OK)
                return fail(e, q->ask.once && q->sent > 0 ? -EREMOTEIO : -EAGAIN, c->kind, "%s: %s",
                            c->endpoints[q->endpoint], *q->message ? q->message : curl.easy_strerror(code));
        curl.easy_getinfo(q->easy, CURLINFO_RESPONSE_CODE, &status);
        if (q->ask.judge) {
                int r = q->ask.judge(status, q->answer.data ?: "", q->answer.size, e);

                return r == -EAGAIN && q->ask.once ? -EREMOTEIO : r;
        }
        return status < 300 ? 0 : fail(e, -EIO, c->kind, "%s answers %ld", c->endpoints[q->endpoint], status);
}

static void settle(struct client_request *q, CURLcode code)
{
        _cleanup_error_ struct error e = {};
        struct client *c = q->client;
        int r = result_of(q, code, &e);

        end_transfer(q);
        if (r == -EAGAIN && try_again(q))
                return;
        if (r == -EAGAIN) {
                r = q->refused ? -EACCES : -EHOSTUNREACH;
                e.code = r;
        }
        if (r >= 0 && q->ask.line)
                r = fail(&e, -ECONNRESET, c->kind, "%s ended the stream", c->endpoints[q->endpoint]);
        end_request(q, r, &e);
}

/* ---- telling ---- */

/* Lines that are complete, of one stream; it may be gone afterwards. */
static void tell_line(struct client_request *q)
{
        char *end = memchr(q->answer.data + q->searched, '\n', q->answer.size - q->searched);
        struct buf rest = {}, line;

        if (!end) {
                q->searched = q->answer.size;
                q->has_line = false;
                q->client->with_lines--;
                return;
        }
        buf_append(&rest, end + 1, q->answer.size - (size_t)(end + 1 - q->answer.data));
        line = TAKE(q->answer, rest);
        q->searched = 0;
        *end = '\0';
        q->ask.line(line.data, (size_t)(end - line.data), q->ask.userdata);
        buf_done(&line);
}

static struct client_request *with_line(struct client *c)
{
        struct client_request *q = c->with_lines > 0 ? c->requests : NULL;

        while (q && !q->has_line)
                q = q->next;
        return q;
}

/* From the beginning after each: who is told may cancel any request and begin others. */
static void drain(struct client *c)
{
        for (;;) {
                struct client_request *q = with_line(c);
                CURLMsg *message;
                int left;

                if (q) {
                        tell_line(q);
                        continue;
                }
                message = curl.multi_info_read(c->multi, &left);
                if (!message)
                        return;
                if (message->msg != CURLMSG_DONE)
                        continue;
                curl.easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&q);
                settle(q, message->data.result);
        }
}

/* ---- the interface ---- */

static int add_headers(struct client_request *q, const char *const *headers)
{
        /* Without "Expect:" a request over 1 MiB waits a second for a word that never comes. */
        const char *const common[] = { "Content-Type: application/json", "Expect:", NULL };
        const char *const *const lists[] = { common, headers };

        for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
                for (const char *const *h = lists[i]; h && *h; h++) {
                        struct curl_slist *grown = curl.slist_append(q->headers, *h);

                        if (!grown)
                                return -ENOMEM;
                        q->headers = grown;
                }
        return 0;
}

int client_start(struct client *c, const struct client_ask *ask, struct client_request **ret, struct error *e)
{
        struct client_request *q = calloc(1, sizeof(*q));
        int r;

        if (!q)
                return -ENOMEM;
        *q = (struct client_request){ .client = c, .ask = *ask, .previous = c->last };
        *(c->last ? &c->last->next : &c->requests) = q;
        c->last = q;
        q->path = strdup(ask->path);
        q->body = strdup(ask->body ?: "");
        q->size = q->body ? strlen(q->body) : 0;
        r = q->path && q->body ? add_headers(q, ask->headers) : -ENOMEM;
        if (r >= 0)
                r = send_it(q);
        if (r < 0) {
                request_free(q);
                return fail(e, r, c->kind, "cannot ask %s", c->endpoints[c->current]);
        }
        *ret = q;
        return 0;
}

struct client_request *client_cancel(struct client_request *q)
{
        if (q)
                request_free(q);
        return NULL;
}

int client_endpoint(const struct client_request *q)
{
        return q->endpoint;
}

static int add_endpoints(struct client *c, const char *const *endpoints, struct error *e)
{
        for (; endpoints[c->n_endpoints]; c->n_endpoints++) {
                const char *url = endpoints[c->n_endpoints], *host = startswith(url, "https://");

                if (!host || !*host || strpbrk(host, "/?#@ \n") || c->n_endpoints == CLIENT_ENDPOINTS)
                        return fail(e, -EINVAL, c->kind, "'%s' is not https://HOST:PORT, one of at most %d", url,
                                    CLIENT_ENDPOINTS);
                c->endpoints[c->n_endpoints] = strdup(url);
                if (!c->endpoints[c->n_endpoints])
                        return -ENOMEM;
        }
        return c->n_endpoints > 0 ? 0 : fail(e, -EINVAL, c->kind, "no server is named");
}

static int make_multi(struct client *c)
{
        c->multi = curl.multi_init();
        if (!c->multi || curl.multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, want_socket) != CURLM_OK ||
            curl.multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c) != CURLM_OK ||
            curl.multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, want_time) != CURLM_OK ||
            curl.multi_setopt(c->multi, CURLMOPT_TIMERDATA, c) != CURLM_OK)
                return -ENOMEM;
        return 0;
}

int client_new(const char *const *endpoints, const struct client_tls *tls, sd_event *event, const struct error_kind *kind,
               struct client **ret, struct error *e)
{
        struct client *c;
        int r = curl_load(kind, e);

        if (r < 0)
                return fail_hint(e, "install it (Debian: libcurl4)");
        c = calloc(1, sizeof(*c));
        if (!c)
                return -ENOMEM;
        c->kind = kind;
        c->event = sd_event_ref(event);
        c->ca = strdup(tls->ca);
        c->certificate = strdup(tls->certificate);
        c->key = strdup(tls->key);
        r = c->ca && c->certificate && c->key ? add_endpoints(c, endpoints, e) : -ENOMEM;
        if (r >= 0)
                r = sd_event_add_time(event, &c->timer, CLOCK_MONOTONIC, 0, USEC_PER_MSEC, on_time, c);
        if (r >= 0)
                r = sd_event_source_set_enabled(c->timer, SD_EVENT_OFF);
        if (r >= 0)
                r = make_multi(c);
        if (r < 0) {
                client_free(c);
                return r;
        }
        *ret = c;
        return 0;
}

struct client *client_free(struct client *c)
{
        if (!c)
                return NULL;
        c->closing = true;
        while (c->requests)
                request_free(c->requests);
        curl.multi_cleanup(c->multi);
        sd_event_source_disable_unref(c->timer);
        sd_event_unref(c->event);
        for (int i = 0; i < c->n_endpoints; i++)
                free(c->endpoints[i]);
        free(c->ca);
        free(c->certificate);
        free(c->key);
        free(c);
        return NULL;
}
