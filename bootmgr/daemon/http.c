/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/http.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/parse.h"
#include "daemon/api.h"
#include "daemon/http_listen.h"
#include "daemon/microhttpd.h"
#include "slot/kinds.h"

#define PEM_MAX          MIB(1)
#define REQUEST_MEMORY   ((size_t)KIB(16)) /* all headers of a request, and what is sent of an answer at once */
#define IDLE_SEC         60U
#define SWEEP_INTERVAL   USEC_PER_SEC
#define RENEWED_SWEEPS   3
#define OTHER_FILES      128U /* descriptors that are no connections */
#define BODY_DROPPED_MAX MIB(1)
#define PRIORITIES       "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:%SERVER_PRECEDENCE"

/* --- answers --------------------------------------------------------------------------------------------- */

static int on_time(sd_event_source *s, uint64_t usec, void *userdata);

/* Run by hand, libmicrohttpd has nothing that would wake us. */
void http_resume(struct http *h, struct MHD_Connection *connection)
{
        mhd.resume_connection(connection);
        h->timer = sd_event_source_disable_unref(h->timer);
        sd_event_add_time_relative(h->event, &h->timer, CLOCK_MONOTONIC, 0, 0, on_time, h);
}

static void add_header(struct MHD_Response *answer, const char *name, const char *value)
{
        mhd.add_response_header(answer, name, value);
}

/* Now if we are asked for it in this moment, else when libmicrohttpd comes round to it. */
static void set_answer(struct http_request *r, unsigned status, const char *type, struct MHD_Response *answer)
{
        r->answer = answer;
        r->status = status;
        if (answer) {
                add_header(answer, "Content-Type", type);
                add_header(answer, "Cache-Control", "no-store");
                add_header(answer, "X-Content-Type-Options", "nosniff");
        }
        if (TAKE(r->suspended, false)) {
                http_resume(r->http, r->connection);
        }
}

static struct MHD_Response *from_text(char *text)
{
        struct MHD_Response *answer;

        if (!text)
                return NULL;
        answer = mhd.create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE);
        if (!answer)
                free(text);
        return answer;
}

static struct MHD_Response *from_json(const json_t *j)
{
        char *text = j ? json_dumps(j, JSON_INDENT(1) | JSON_ENCODE_ANY) : NULL;

        return from_text(text);
}

void http_answer_json(struct http_request *r, unsigned status, json_t *j)
{
        _cleanup_json_ json_t *owned = j;

        set_answer(r, status, "application/json", from_json(owned));
}

void http_answer_text(struct http_request *r, const char *type, char *text)
{
        set_answer(r, 200, type, from_text(text));
}

void http_answer_failure(struct http_request *r, const json_t *failure)
{
        const char *kind = json_string_value(json_object_get(failure, "kind")) ?: "failed";
        unsigned status = http_status_of(kind);
        struct MHD_Response *answer = from_json(failure);

        if (answer && status == 401)
                add_header(answer, "WWW-Authenticate", "Bearer realm=\"bootmgr\"");
        if (answer && status == 405)
                add_header(answer, "Allow", r->route->method);
        if (answer && status == 429)
                add_header(answer, "Retry-After", "5");
        set_answer(r, status, "application/json", answer);
}

void http_answer_error(struct http_request *r, const struct error *e)
{
        _cleanup_json_ json_t *j = json_pack("{s:s, s:o, s:[], s:o}", "kind", (e->kind ?: &kind_failed)->name, "message",
                                             json_text(e->message ?: error_text(e->code)), "checks", "hint",
                                             json_string_or_null(e->hint));

        http_answer_failure(r, j);
}

void http_answer_part(struct http_request *r, const struct http_part *part)
{
        static char nothing[] = "";
        struct MHD_Response *answer = part->is_outside
                                              ? mhd.create_response_from_buffer(0, nothing, MHD_RESPMEM_PERSISTENT)
                                              : mhd.create_response_from_fd_at_offset64(part->size, part->fd, part->from);
        unsigned long long total = part->total, from = part->from;
        char text[160];

        if (!answer) {
                fd_close(part->fd);
                set_answer(r, 500, NULL, NULL);
                return;
        }
        snprintf(text, sizeof(text), "\"%s\"", part->tag);
        add_header(answer, "Accept-Ranges", "bytes");
        add_header(answer, "ETag", text);
        if (part->is_outside)
                snprintf(text, sizeof(text), "bytes */%llu", total);
        else
                snprintf(text, sizeof(text), "bytes %llu-%llu/%llu", from, from + part->size - 1, total);
        if (part->is_outside || part->is_range)
                add_header(answer, "Content-Range", text);
        set_answer(r, part->is_outside ? 416 : part->is_range ? 206 : 200, "application/octet-stream", answer);
}

void http_answer_stream(struct http_request *r, ssize_t (*read)(void *userdata, uint64_t position, char *data, size_t size),
                        void (*done)(void *userdata), void *userdata)
{
        set_answer(r, 200, "text/event-stream",
                   mhd.create_response_from_callback(MHD_SIZE_UNKNOWN, KIB(4), read, userdata, done));
}

const char *http_header(const struct http_request *r, const char *name)
{
        return mhd.lookup_connection_value(r->connection, MHD_HEADER_KIND, name);
}

/* MHD_NO closes the connection: without memory there is no better answer. */
static enum MHD_Result queue(struct http_request *r)
{
        struct MHD_Response *answer = TAKE_PTR(r->answer);
        enum MHD_Result result;

        if (!answer)
                return MHD_NO;
        r->queued = true;
        r->http->statistics.answers[r->status / 100]++;
        result = mhd.queue_response(r->connection, r->status, answer);
        mhd.destroy_response(answer);
        return result;
}

/* --- what is refused by the headers ---------------------------------------------------------------------- */

static int authenticate(struct http_request *r, struct error *e)
{
        const union MHD_ConnectionInfo *info = mhd.get_connection_info(r->connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
        const char *header = http_header(r, "Authorization");
        int result;

        if (header)
                return auth_by_token(&r->http->tokens, header, &r->who, e);
        result = auth_by_certificate(info ? info->tls_session : NULL, &r->who, e);
        if (result != -ENOENT)
                return result;
        fail(e, -EACCES, &kind_not_authenticated, "neither a client certificate nor a bearer token was given");
        return fail_hint(e, "see [API] in bootmgr.conf(5)");
}

static int check_size(struct http_request *r, struct error *e)
{
        const char *length = http_header(r, "Content-Length");
        uint64_t n = 0;

        if (http_header(r, "Transfer-Encoding"))
                return fail(e, -EFBIG, &kind_too_large, "a body must say its length: chunks are not taken");
        if (length && (parse_u64(length, &n) < 0 || n > HTTP_BODY_MAX))
                return fail(e, -EFBIG, &kind_too_large, "a body has at most %llu bytes", (unsigned long long)HTTP_BODY_MAX);
        return 0;
}

/* Who guesses at tokens has them compared no oftener than the share allows, and learns nothing beyond it: not even of the
 * right one. Who has a certificate has shown it in the handshake. */
static int check_who(struct http_request *r, struct error *who, int *ret, struct error *e)
{
        struct http_peers *peers = &r->http->peers;
        bool guess = http_header(r, "Authorization") && !r->peer->known;
        uint64_t now = now_monotonic();

        *ret = -EAGAIN;
        if (!guess || http_peers_take(peers, r->peer, now)) {
                *ret = authenticate(r, who);
                if (*ret >= 0 && guess)
                        http_peers_give(r->peer);
                if (*ret >= 0)
                        http_peers_know(peers, r->peer);
                if (*ret >= 0 || guess || http_peers_take(peers, r->peer, now))
                        return 0;
        }
        return fail(e, -EAGAIN, &kind_too_many_requests, "too many requests from this address: try again later");
}

/* Everything that needs no body. What is cheap to ask and costs us something comes behind what limits it. */
static int check_headers(struct http_request *r, const char *url, const char *method, struct error *e)
{
        _cleanup_error_ struct error who = {};
        int authenticated, result;

        result = check_who(r, &who, &authenticated, e);
        if (result >= 0)
                result = check_size(r, e);
        if (result < 0)
                return result;
        r->route = route_find(url, &r->argument);
        if (authenticated < 0 && !(r->route && r->route->right == RIGHT_NONE)) {
                *e = TAKE(who, (struct error){});
                return authenticated;
        }
        if (!r->route)
                return fail(e, -ENOENT, &kind_not_found, "there is nothing at this path");
        if (!route_takes(r->route, method))
                return fail(e, -EOPNOTSUPP, &kind_method_not_allowed, "%s is not for this path", method);
        if (r->who.right < r->route->right)
                return fail(e, -EPERM, &kind_not_authorized, "%s (%s) may only read", r->who.name, r->who.role);
        return 0;
}

static void complete(struct http_request *r)
{
        _cleanup_error_ struct error e = {};

        if (r->peer->known)
                r->peer->deadline = UINT64_MAX;
        if (!r->http->stopping) {
                api_handle(r->http->api, r);
                return;
        }
        fail(&e, -ESHUTDOWN, &kind_interrupted, "bootmgrd stops: ask again");
        http_answer_error(r, &e);
}

/* Closing a connection on which unread bytes lie resets it, and the answer is lost: so much is read and dropped first, and
 * the connection stays. Who asks whether to send it at all is answered at once. */
static bool is_read_to_its_end(struct http_request *r)
{
        const char *length = http_header(r, "Content-Length");
        uint64_t n = 0;

        return (!length || (parse_u64(length, &n) >= 0 && n <= BODY_DROPPED_MAX)) && !http_header(r, "Expect") &&
               !http_header(r, "Transfer-Encoding");
}

static enum MHD_Result begin(struct http *h, struct MHD_Connection *connection, const char *url, const char *method,
                             void **ret)
{
        const union MHD_ConnectionInfo *info = mhd.get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
        _cleanup_error_ struct error e = {};
        struct http_request *r;

        if (!info || !info->socket_context)
                return MHD_NO;
        r = calloc(1, sizeof(*r));
        if (!r)
                return MHD_NO;
        *r = (struct http_request){
                .http = h, .connection = connection, .peer = info->socket_context, .received = now_realtime()
        };
        *ret = r;
        if (check_headers(r, url, method, &e) < 0) {
                http_answer_error(r, &e);
                if (!is_read_to_its_end(r))
                        return queue(r);
                r->begun = true;
        }
        if (r->peer->known)
                r->peer->deadline = now_monotonic() + PEER_BODY_SEC * USEC_PER_SEC;
        return MHD_YES;
}

/* Called for the headers, for each piece of the body, at its end, and again once what waited is answered. */
static enum MHD_Result on_request(void *userdata, struct MHD_Connection *connection, const char *url, const char *method,
                                  const char *version, const char *data, size_t *size, void **request)
{
        struct http_request *r = *request;

        if (!r)
                return begin(userdata, connection, url, method, request);
        if (r->queued)
                return MHD_YES;
        if (*size > 0) {
                if (!r->begun && r->body.size + *size > HTTP_BODY_MAX)
                        return MHD_NO;
                if (!r->begun)
                        buf_append(&r->body, data, *size);
                *size = 0;
                return MHD_YES;
        }
        if (!TAKE(r->begun, true))
                complete(r);
        if (r->answer || r->status)
                return queue(r);
        r->suspended = true;
        mhd.suspend_connection(connection);
        return MHD_YES;
}

static void on_completed(void *userdata, struct MHD_Connection *connection, void **request,
                         enum MHD_RequestTerminationCode code)
{
        struct http_request *r = TAKE_PTR(*request);

        if (!r)
                return;
        api_forget(r->http->api, r);
        if (r->answer)
                mhd.destroy_response(r->answer);
        free(r->argument);
        buf_done(&r->body);
        free(r);
}

/* --- connections ----------------------------------------------------------------------------------------- */

static void on_connection(void *userdata, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
        struct http *h = userdata;
        const union MHD_ConnectionInfo *info;
        const struct sockaddr *address;

        if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
                if (*context)
                        http_peers_remove(&h->peers, TAKE_PTR(*context));
                return;
        }
        info = mhd.get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
        address = info ? info->client_addr : NULL;
        info = mhd.get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        if (address && info)
                *context = http_peers_add(&h->peers, info->connect_fd, address, now_monotonic());
}

static void run(struct http *h)
{
        MHD_UNSIGNED_LONG_LONG ms;

        mhd.run(h->daemon);
        h->timer = sd_event_source_disable_unref(h->timer);
        if (mhd.get_timeout(h->daemon, &ms) != MHD_YES)
                return;
        /* At once where a connection has more to send: by default sd-event may take 250 ms to put wake-ups together. */
        sd_event_add_time_relative(h->event, &h->timer, CLOCK_MONOTONIC, ms * USEC_PER_MSEC, ms == 0, on_time, h);
}

static int on_time(sd_event_source *s, uint64_t usec, void *userdata)
{
        run(userdata);
        return 0;
}

static int on_ready(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
        run(userdata);
        return 0;
}

static struct timespec time_of_certificate(const struct http *h)
{
        struct stat st = {};

        return stat(h->config->api_certificate, &st) < 0 ? (struct timespec){} : st.st_mtim;
}

/* Our own is renewed for the same key (cluster/renew.h); who brings one of his own may need a moment to write its key, too.
 * One that cannot be read is no better than the one that is served. */
static bool is_renewed(struct http *h)
{
        struct timespec now = time_of_certificate(h);
        bool other = now.tv_sec && (now.tv_sec != h->issued.tv_sec || now.tv_nsec != h->issued.tv_nsec);

        h->renewed = other ? h->renewed + 1 : 0;
        return h->renewed > RENEWED_SWEEPS;
}

static int on_sweep(sd_event_source *s, uint64_t usec, void *userdata)
{
        struct http *h = userdata;

        if (is_renewed(h)) {
                log_info("the certificate has changed: the next bootmgrd serves it");
                return sd_event_exit(h->event, EXIT_AGAIN);
        }
        http_peers_sweep(&h->peers, now_monotonic());
        sd_event_source_set_time_relative(s, SWEEP_INTERVAL);
        sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
        return 0;
}

/* --- starting -------------------------------------------------------------------------------------------- */

static int read_pem(const char *path, bool secret, char **ret, struct error *e)
{
        struct stat st;
        int r;

        if (secret && stat(path, &st) == 0 && (st.st_mode & 077)) {
                fail(e, -EPERM, &kind_config_invalid, "%s can be read by others: its mode is %03o", path,
                     st.st_mode & 07777);
                return fail_hint(e, "chmod 600 %s", path);
        }
        r = file_read(AT_FDCWD, path, PEM_MAX, ret, NULL);
        return r < 0 ? fail(e, r, &kind_config_invalid, "cannot read %s: %s", path, error_text(r)) : 0;
}

static int read_files(struct http *h, struct error *e)
{
        const struct config *c = h->config;
        int r;

        h->issued = time_of_certificate(h); /* before it is read: what comes between is seen later */
        r = read_pem(c->api_certificate, false, &h->certificate, e);
        if (r >= 0)
                r = read_pem(c->api_key, true, &h->key, e);
        if (r >= 0 && c->api_client_ca)
                r = read_pem(c->api_client_ca, false, &h->client_ca, e);
        return r;
}

/* libmicrohttpd has limits of its own, above ours, which decide who is ended. */
static int start_daemon(struct http *h, int fd, struct error *e)
{
        struct MHD_OptionItem options[] = {
                { MHD_OPTION_HTTPS_MEM_KEY, 0, h->key },
                { MHD_OPTION_HTTPS_MEM_CERT, 0, h->certificate },
                { MHD_OPTION_HTTPS_PRIORITIES, 0, (char[]){ PRIORITIES } },
                { MHD_OPTION_CONNECTION_LIMIT, (intptr_t)h->peers.max + 64, NULL },
                { MHD_OPTION_CONNECTION_MEMORY_LIMIT, REQUEST_MEMORY, NULL },
                { MHD_OPTION_CONNECTION_TIMEOUT, IDLE_SEC, NULL },
                { MHD_OPTION_STRICT_FOR_CLIENT, 1, NULL },
                { h->client_ca ? MHD_OPTION_HTTPS_MEM_TRUST : MHD_OPTION_END, 0, h->client_ca },
                { MHD_OPTION_END, 0, NULL },
        };

        h->daemon = mhd.start_daemon(MHD_USE_TLS | MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_request, h,
                                     MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_ARRAY, options, MHD_OPTION_NOTIFY_COMPLETED,
                                     on_completed, h, MHD_OPTION_NOTIFY_CONNECTION, on_connection, h, MHD_OPTION_END);
        if (h->daemon)
                return 0;
        fail(e, -EINVAL, &kind_config_invalid, "no HTTPS server can be made of %s and %s", h->config->api_certificate,
             h->config->api_key);
        return fail_hint(e, "both must be PEM, and belong together; ClientCA= must be PEM, too");
}

static int attach(struct http *h)
{
        const union MHD_DaemonInfo *info = mhd.get_daemon_info(h->daemon, MHD_DAEMON_INFO_EPOLL_FD);
        int r;

        if (!info)
                return -EINVAL;
        r = sd_event_add_io(h->event, &h->io, info->epoll_fd, EPOLLIN, on_ready, h);
        if (r >= 0)
                r = sd_event_add_time_relative(h->event, &h->sweep, CLOCK_MONOTONIC, SWEEP_INTERVAL, 0, on_sweep, h);
        return r;
}

/* Beyond it libmicrohttpd would stop accepting, and who is known would wait for those who say nothing. */
static unsigned room_for_connections(unsigned wanted)
{
        struct rlimit files;

        if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_cur >= wanted + OTHER_FILES)
                return wanted;
        return files.rlim_cur > 2 * OTHER_FILES ? (unsigned)files.rlim_cur - OTHER_FILES : OTHER_FILES;
}

int http_start(struct http *h, sd_event *event, const struct config *config, struct api *api, struct error *e)
{
        int r, fd;

        *h = (struct http){ .event = event,
                            .config = config,
                            .api = api,
                            .peers = { .max = room_for_connections(config->api_max_connections) },
                            .tokens = { .path = config->api_tokens } };
        if (!config->api_listen)
                return 0;
        r = microhttpd_load(e);
        if (r >= 0)
                r = read_files(h, e);
        if (r < 0)
                return r;
        fd = http_listen(config->api_listen, e);
        if (fd < 0)
                return fd;
        r = start_daemon(h, fd, e);
        if (r < 0)
                fd_close(fd);
        else
                r = attach(h);
        return r;
}

void http_stop(struct http *h)
{
        h->stopping = true;
        if (h->daemon) {
                api_stop(h->api); /* answers what waits: libmicrohttpd stops nothing that is suspended */
                mhd.run(h->daemon);
                mhd.stop_daemon(h->daemon);
                h->daemon = NULL;
        }
        h->io = sd_event_source_disable_unref(h->io);
        h->timer = sd_event_source_disable_unref(h->timer);
        h->sweep = sd_event_source_disable_unref(h->sweep);
        http_peers_done(&h->peers);
        token_file_done(&h->tokens);
        free(TAKE_PTR(h->certificate));
        free(TAKE_PTR(h->key));
        free(TAKE_PTR(h->client_ca));
}
