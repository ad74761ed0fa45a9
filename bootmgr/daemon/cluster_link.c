/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An engine: one stream from any controller, and what it has to say to that one.
 *
 *      CONNECTING ──a line──▶ LISTENING ──ended, or silent for SILENCE_MAX──▶ WAITING ──a while──▶ CONNECTING,
 *                                                                                                            to another
 *
 * It goes on so for ever. A node that is refused asks more rarely: only a person changes that. */
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "cluster/offset.h"
#include "daemon/cluster.h"
#include "slot/kinds.h"

#define VIEW_PATH       "/api/cluster/node/view"
#define VOTE_PATH       "/api/cluster/node/vote"
#define STATUS_PATH     "/api/cluster/node/status"
#define CONNECT_TIMEOUT (10 * USEC_PER_SEC)
#define POST_TIMEOUT    (10 * USEC_PER_SEC)
#define POST_DEADLINE   (30 * USEC_PER_SEC)
#define SILENCE_MAX     (3 * STREAM_KEEPALIVE_SEC * USEC_PER_SEC)
#define AGAIN_MIN       (200 * USEC_PER_MSEC)
#define AGAIN_MAX       (15 * USEC_PER_SEC)
#define REFUSED_WAIT    (30 * USEC_PER_SEC)
#define ANSWER_MAX      KIB(64)

enum said { VOTE, STATUS, N_SAID };

struct cluster_link {
        struct cluster *cluster;
        struct client *client;
        char *list;                                   /* of the controllers that it asks; owned */
        struct client_request *stream, *said[N_SAID]; /* what waits for its answer */
        sd_event_source *timer;                       /* until it counts as silent, or until the next try */
        uint64_t wait;                                /* µs until the next try */
        uint64_t asked[N_SAID];                       /* when the vote and the status were sent, monotonic µs */
        struct clock_offset offset;
        bool lost;    /* that nobody is connected to was said */
        bool refused; /* this node, as who it has shown itself */
};

static void connect_now(struct cluster_link *l);

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct cluster_link *l = userdata;

        if (l->stream) {
                log_warning("the controller is silent: another one is asked");
                client_avoid(l->client, client_endpoint(l->stream));
                l->stream = client_cancel(l->stream);
        }
        connect_now(l);
        return 0;
}

static void set_timer(struct cluster_link *l, uint64_t usec)
{
        l->timer = sd_event_source_disable_unref(l->timer);
        sd_event_add_time_relative(l->cluster->manager->event, &l->timer, CLOCK_MONOTONIC, usec, 0, on_timer, l);
}

/* ---- what is heard ---- */

static void on_line(const char *line, size_t size, void *userdata)
{
        static const char data[] = "data: ";
        struct cluster_link *l = userdata;
        char *told;

        l->wait = 0;
        if (TAKE(l->lost, false))
                log_info("connected to a controller again");
        set_timer(l, SILENCE_MAX);
        if (size < sizeof(data) - 1 || memcmp(line, data, sizeof(data) - 1) != 0)
                return;
        told = strndup(line + sizeof(data) - 1, size - (sizeof(data) - 1));
        if (told)
                cluster_tell(l->cluster, told);
}

/* What a controller answers instead of a stream or a time: its error, by its kind. */
static int judge(long status, const char *body, size_t size, struct error *e)
{
        _cleanup_json_ json_t *o = status >= 300 ? json_loadb(body, size, 0, NULL) : NULL;
        const char *kind = json_string_value(json_object_get(o, "kind")) ?: "",
                   *message = json_string_value(json_object_get(o, "message")) ?: "it gave no reason";

        if (status < 300)
                return 0;
        if (streq(kind, kind_store.name) || streq(kind, kind_not_found.name) || status >= 500) {
                fail(e, -EAGAIN, NULL, "%s", message);
                return -EAGAIN;
        }
        if (streq(kind, kind_joined_after_snapshot.name))
                return fail(e, -EPERM, &kind_joined_after_snapshot, "%s", message);
        return fail(e, -EACCES, NULL, "%s", message);
}

static void on_ended(int result, const char *body, size_t size, const struct error *e, void *userdata)
{
        struct cluster_link *l = userdata;

        l->refused = e && (e->kind == &kind_joined_after_snapshot || e->code == -EACCES);
        l->stream = NULL;
        if (!TAKE(l->lost, true))
                log_warning("no controller is connected: %s", e && e->message ? e->message : error_text(result));
        l->wait = l->wait ? MIN(2 * l->wait, AGAIN_MAX) : AGAIN_MIN;
        set_timer(l, (l->refused ? REFUSED_WAIT : l->wait) / 2 + now_monotonic() % (l->wait / 2));
}

/* The list is told anew when controllers come and go (cluster/node.c). Who was refused may have joined anew: a connection
 * that is open still shows the certificate that it was made with. */
static int refresh_client(struct cluster_link *l, struct error *e)
{
        struct cluster *c = l->cluster;
        const char *data = c->config->data, *endpoints[CLIENT_ENDPOINTS + 1];
        _cleanup_close_ int home = cluster_home(data, false, e);
        _cleanup_buf_ struct buf list = {};
        _cleanup_free_ char *text = NULL, *ca = xasprintf("%s/" CLUSTER_HOME "/ca.pem", data),
                            *certificate = xasprintf("%s/" CLUSTER_HOME "/node.pem", data),
                            *key = xasprintf("%s/" CLUSTER_HOME "/node.key", data);
        struct client *client;
        int r = home < 0 ? home : cluster_endpoints(home, "controllers", &text, endpoints, e);

        for (size_t i = 0; r >= 0 && endpoints[i]; i++)
                buf_printf(&list, "%s\n", endpoints[i]);
        if (r < 0)
                return r;
        if (!ca || !certificate || !key || list.failed)
                return -ENOMEM;
        if (l->client && !l->refused && streq(list.data, l->list))
                return 0;
        r = cluster_name(data, c->name, e);
        if (r < 0)
                return r;
        r = client_new(endpoints, &(struct client_tls){ ca, certificate, key }, c->manager->event, &kind_fetch, &client, e);
        if (r < 0)
                return r;
        client_free(l->client); /* and what it was asked with it: the step says it again */
        l->stream = l->said[VOTE] = l->said[STATUS] = NULL;
        l->client = client;
        free(l->list);
        l->list = buf_take(&list);
        if (!l->refused)
                cluster_step_later(l->cluster);
        return 0;
}

static void connect_now(struct cluster_link *l)
{
        const struct client_ask ask = { .path = VIEW_PATH,
                                        .timeout = CONNECT_TIMEOUT,
                                        .deadline = UINT64_MAX,
                                        .max = TOLD_MAX,
                                        .endpoint = -1,
                                        .judge = judge,
                                        .answered = on_ended,
                                        .line = on_line,
                                        .userdata = l };
        _cleanup_error_ struct error e = {};
        int r;

        r = refresh_client(l, &e);
        if (r >= 0)
                r = client_start(l->client, &ask, &l->stream, &e);
        if (r >= 0)
                set_timer(l, SILENCE_MAX);
        else
                on_ended(r, NULL, 0, &e, l);
}

/* ---- what is said ---- */

/* A controller's answer has its clock. */
static void on_sent(struct cluster_link *l, enum said what, int result, const char *body, size_t size)
{
        _cleanup_json_ json_t *o = result >= 0 ? json_loadb(body, size, 0, NULL) : NULL;
        json_int_t theirs = json_integer_value(json_object_get(o, "now_usec"));
        uint64_t now = now_monotonic();

        l->said[what] = NULL;
        if (result < 0) {
                cluster_step_later(l->cluster);
                return;
        }
        clock_offset_add(&l->offset, theirs, now_realtime(), now - l->asked[what], now);
        l->cluster->offset = clock_offset_get(&l->offset);
}

static void on_vote_sent(int result, const char *body, size_t size, const struct error *e, void *userdata)
{
        on_sent(userdata, VOTE, result, body, size);
}

static void on_status_sent(int result, const char *body, size_t size, const struct error *e, void *userdata)
{
        on_sent(userdata, STATUS, result, body, size);
}

static void post(struct cluster_link *l, enum said what, const json_t *body)
{
        _cleanup_free_ char *text = json_dumps(body, JSON_COMPACT);
        const struct client_ask ask = { .path = what == VOTE ? VOTE_PATH : STATUS_PATH,
                                        .body = text,
                                        .timeout = POST_TIMEOUT,
                                        .deadline = POST_DEADLINE,
                                        .max = ANSWER_MAX,
                                        .endpoint = -1,
                                        .judge = judge,
                                        .answered = what == VOTE ? on_vote_sent : on_status_sent,
                                        .userdata = l };
        _cleanup_error_ struct error e = {};

        l->said[what] = client_cancel(l->said[what]); /* what it said is old */
        l->asked[what] = now_monotonic();
        if (!text || client_start(l->client, &ask, &l->said[what], &e) < 0)
                cluster_step_later(l->cluster);
}

static void say(struct cluster *c, const json_t *answer)
{
        _cleanup_json_ json_t *vote = json_pack("{s:O, s:O}", "operation", json_object_get(answer, "operation"), "vote",
                                                json_object_get(answer, "vote")),
                              *status = json_pack("{s:O}", "status", json_object_get(answer, "status"));

        if (json_is_object(json_object_get(vote, "vote")))
                post(c->link, VOTE, vote);
        if (json_is_object(json_object_get(status, "status")))
                post(c->link, STATUS, status);
}

/* ---- the beginning and the end ---- */

int link_start(struct cluster *c, struct error *e)
{
        struct cluster_link *l = calloc(1, sizeof(*l));
        int r;

        if (!l)
                return -ENOMEM;
        l->cluster = c;
        r = refresh_client(l, e);
        if (r < 0) {
                free(l);
                return r;
        }
        c->link = l;
        c->say = say;
        connect_now(l);
        return 0;
}

void link_done(struct cluster *c)
{
        struct cluster_link *l = TAKE_PTR(c->link);

        if (!l)
                return;
        l->timer = sd_event_source_disable_unref(l->timer);
        client_free(l->client);
        free(l->list);
        free(l);
}
