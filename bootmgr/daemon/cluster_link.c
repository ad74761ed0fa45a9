/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An engine: one stream from any controller, and what it has to say to that one.
 *
 *      CONNECTING ──a line──▶ LISTENING ──ended, or silent for SILENCE_MAX──▶ WAITING ──a while──▶ CONNECTING,
 *                                                                                                            to another
 *
 * It goes on so for ever. A node that is refused asks more rarely: only a person changes that.
 *
 * What is said goes one after the other, so that a node holds two connections at most. A line with an instant is held for a
 * moment, until the clock is known well enough for it: when all nodes come back at once, none of them has quick answers. */
#include <sys/stat.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "cluster/offset.h"
#include "daemon/cluster.h"
#include "slot/kinds.h"

#define VIEW_PATH       "/api/cluster/node/view"
#define VOTE_PATH       "/api/cluster/node/vote"
#define STATUS_PATH     "/api/cluster/node/status"
#define TIME_PATH       "/api/cluster/node/time"
#define CONNECT_TIMEOUT (10 * USEC_PER_SEC)
#define POST_TIMEOUT    (10 * USEC_PER_SEC)
#define POST_DEADLINE   (30 * USEC_PER_SEC)
#define SILENCE_MAX     (3 * STREAM_KEEPALIVE_SEC * USEC_PER_SEC)
#define AGAIN_MIN       (200 * USEC_PER_MSEC)
#define AGAIN_MAX       (15 * USEC_PER_SEC)
#define REFUSED_WAIT    (30 * USEC_PER_SEC)
#define ANSWER_MAX      KIB(64)
#define HOLD_MAX        (4 * USEC_PER_SEC)
#define HOLD_OF         4 /* and no more than this part of what is left: services have to be stopped in it, too */
#define HOLD_MIN        (500 * USEC_PER_MSEC)
#define HOLD_ANSWERS    5
#define CLOCK_AGAIN     (400 * USEC_PER_MSEC)

enum said { VOTE, STATUS, TIME, N_SAID };

static const char *const paths[N_SAID] = { VOTE_PATH, STATUS_PATH, TIME_PATH };

struct cluster_link {
        struct cluster *cluster;
        struct client *client;
        char *list;                                   /* of the controllers that it asks; owned */
        struct stat key;                              /* of the file of the key that it shows them */
        struct client_request *stream, *said[N_SAID]; /* what waits for its answer */
        int streamed_by;                              /* which controller of the list */
        sd_event_source *timer;                       /* until it counts as silent, or until the next try */
        uint64_t wait;                                /* µs until the next try */
        uint64_t asked[N_SAID];                       /* when they were sent, monotonic µs … */
        int asked_of[N_SAID];                         /* … and to which controller of the list */
        json_t *status;                               /* waits for the vote to be answered; owned */
        json_t *status_saying;                        /* on its way; owned */
        json_t *status_said;                          /* the newest that was answered; owned */
        struct clock_offset offset;
        char *held; /* a line with an instant; owned; NULL: none */
        uint64_t held_until;
        unsigned answers;       /* of the clock, since then */
        sd_event_source *clock; /* until it is asked again, or nobody waits for it any more */
        bool lost;              /* that nobody is connected to was said */
        bool refused;           /* this node, as who it has shown itself */
};

static void connect_now(struct cluster_link *l);
static bool has_another_key(const struct cluster_link *l);

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct cluster_link *l = userdata;

        if (l->stream && has_another_key(l)) {
                log_notice("this node has another key than before: the controllers are asked anew");
        } else if (l->stream) {
                log_warning("the controller is silent: another one is asked");
                client_avoid(l->client, client_endpoint(l->stream));
        }
        l->stream = client_cancel(l->stream);
        connect_now(l);
        return 0;
}

static void set_timer(struct cluster_link *l, uint64_t usec)
{
        l->timer = sd_event_source_disable_unref(l->timer);
        sd_event_add_time_relative(l->cluster->manager->event, &l->timer, CLOCK_MONOTONIC, usec, 0, on_timer, l);
}

/* ---- what is heard ---- */

static void ask_clock(struct cluster_link *l);

static void let_go(struct cluster_link *l)
{
        l->clock = sd_event_source_disable_unref(l->clock);
        if (l->held)
                cluster_tell(l->cluster, TAKE_PTR(l->held));
}

static int on_clock(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct cluster_link *l = userdata;

        l->clock = sd_event_source_disable_unref(l->clock);
        if (l->held && now_monotonic() < l->held_until)
                ask_clock(l);
        else
                let_go(l);
        return 0;
}

static void set_clock(struct cluster_link *l, uint64_t usec)
{
        l->clock = sd_event_source_disable_unref(l->clock);
        if (sd_event_add_time_relative(l->cluster->manager->event, &l->clock, CLOCK_MONOTONIC, usec, USEC_PER_MSEC, on_clock,
                                       l) < 0)
                let_go(l);
}

/* µs for which it may be held: it orders something to be done at an instant that is still to come. 0: it does not. */
static uint64_t time_to_ask(const struct cluster_link *l, const char *line)
{
        _cleanup_json_ json_t *o = json_loads(line, 0, NULL);
        json_int_t order = json_integer_value(json_object_get(json_object_get(o, "you"), "order_usec")),
                   all = json_integer_value(json_object_get(json_object_get(o, "operation"), "engines_at_usec")),
                   left = MAX(order, all) - ((json_int_t)now_realtime() + clock_offset_get(&l->offset));

        if (left < (json_int_t)(HOLD_OF * HOLD_MIN) || left > (json_int_t)USEC_PER_DAY)
                return 0;
        return MIN((uint64_t)left / HOLD_OF, HOLD_MAX);
}

/* Takes it. Where the store has another status than this node has said last, what it said before came later, by a controller
 * that was slow: it is said again. */
static void hear(struct cluster_link *l, char *told)
{
        const char *before = l->held ?: l->cluster->told;
        uint64_t hold = time_to_ask(l, told);

        if (before && l->status_said && told_is_same(told, before) && told_has_status(told, l->status_said)) {
                free(told);
                return;
        }
        free(l->held); /* it is old */
        l->held = told;
        l->held_until = now_monotonic() + hold;
        l->answers = 0;
        if (hold > 0)
                set_clock(l, 1 + now_monotonic() % CLOCK_AGAIN);
        else
                let_go(l);
}

static void on_line(const char *line, size_t size, void *userdata)
{
        static const char data[] = "data: ";
        struct cluster_link *l = userdata;
        char *told;

        l->wait = 0;
        if (TAKE(l->lost, false))
                log_info("connected to a controller again");
        if (!has_another_key(l))
                set_timer(l, SILENCE_MAX);
        if (size < sizeof(data) - 1 || memcmp(line, data, sizeof(data) - 1) != 0)
                return;
        told = strndup(line + sizeof(data) - 1, size - (sizeof(data) - 1));
        if (told)
                hear(l, told);
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
        bool refused = e && (e->kind == &kind_joined_after_snapshot || e->code == -EACCES);

        l->stream = NULL;
        json_decref(TAKE_PTR(l->status_said)); /* what comes first of the next one is acted on */
        /* The stream of a node that is fenced ends first, and is refused when it is asked for again. */
        if (!TAKE(l->lost, true) || (refused && !l->refused))
                log_warning("no controller is connected: %s", e && e->message ? e->message : error_text(result));
        if (refused) /* it may be that one alone: another one's certificate may fit, and it may know this node */
                client_avoid(l->client, l->streamed_by);
        l->refused = refused;
        l->wait = l->wait ? MIN(2 * l->wait, AGAIN_MAX) : AGAIN_MIN;
        set_timer(l, (l->refused ? REFUSED_WAIT : l->wait) / 2 + now_monotonic() % (l->wait / 2));
}

static char *key_path(const struct cluster *c)
{
        return xasprintf("%s/" CLUSTER_HOME "/node.key", c->config->data);
}

/* A key is a membership's: who joins anew drops it, and makes another one, who renews the certificate keeps it. One that
 * cannot be looked at says nothing. */
static bool has_another_key(const struct cluster_link *l)
{
        _cleanup_free_ char *path = key_path(l->cluster);
        struct stat st;

        if (!path || stat(path, &st) < 0)
                return path && errno == ENOENT;
        return st.st_dev != l->key.st_dev || st.st_ino != l->key.st_ino || st.st_mtim.tv_sec != l->key.st_mtim.tv_sec ||
               st.st_mtim.tv_nsec != l->key.st_mtim.tv_nsec;
}

static void forget_told(struct cluster_link *l)
{
        free(TAKE_PTR(l->held));
        free(TAKE_PTR(l->cluster->told));
}

/* The stream shows the key of before: without another one this node would hear nothing more. */
void link_check_key(struct cluster *c)
{
        struct cluster_link *l = c->link;

        if (!l || !has_another_key(l))
                return;
        forget_told(l);
        if (l->stream)
                set_timer(l, 0);
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
                            *certificate = xasprintf("%s/" CLUSTER_HOME "/node.pem", data), *key = key_path(c);
        struct client *client;
        struct stat st;
        int r = home < 0 ? home : cluster_endpoints(home, "controllers", &text, endpoints, e);

        for (size_t i = 0; r >= 0 && endpoints[i]; i++)
                buf_printf(&list, "%s\n", endpoints[i]);
        if (r < 0)
                return r;
        if (!ca || !certificate || !key || list.failed)
                return -ENOMEM;
        if (l->client && !l->refused && !has_another_key(l) && streq(list.data, l->list))
                return 0;
        r = cluster_name(data, c->name, e);
        if (r < 0)
                return r;
        if (stat(key, &st) < 0)
                return fail_errno(e, -errno, "cannot look at %s", key);
        r = client_new(endpoints, &(struct client_tls){ ca, certificate, key }, c->manager->event, &kind_fetch, &client, e);
        if (r < 0)
                return r;
        if (l->client && has_another_key(l))
                forget_told(l);
        if (l->client && streq(list.data, l->list))
                client_go_on(client, l->client);
        client_free(l->client); /* and what it was asked with it: the step says it again */
        l->stream = l->said[VOTE] = l->said[STATUS] = l->said[TIME] = NULL;
        l->client = client;
        l->key = st;
        l->offset = (struct clock_offset){}; /* another list counts its controllers otherwise */
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
        if (r < 0) {
                on_ended(r, NULL, 0, &e, l);
                return;
        }
        l->streamed_by = client_endpoint(l->stream);
        set_timer(l, SILENCE_MAX);
}

/* ---- what is said ---- */

/* An answer has the controller's clock, twice; an older controller tells only when it went. false: there is none. */
static bool note_clock(struct cluster_link *l, enum said what, int result, const char *body, size_t size)
{
        _cleanup_json_ json_t *o = result >= 0 ? json_loadb(body, size, 0, NULL) : NULL;
        json_int_t went = json_integer_value(json_object_get(o, "now_usec")),
                   came = json_integer_value(json_object_get(o, "received_usec"));
        uint64_t now = now_monotonic();

        l->said[what] = NULL;
        if (result < 0)
                return false;
        clock_offset_add(&l->offset, &(struct clock_answer){ .of = l->asked_of[what],
                                                             .came = came > 0 ? came : went,
                                                             .went = went,
                                                             .received = now_realtime(),
                                                             .delay = now - l->asked[what],
                                                             .at = now });
        l->cluster->offset = clock_offset_get(&l->offset);
        l->cluster->clock_error = MIN(clock_offset_error(&l->offset), CLOCK_ERROR_UNKNOWN);
        return true;
}

static void post(struct cluster_link *l, enum said what, const char *body,
                 void (*answered)(int result, const char *body, size_t size, const struct error *e, void *userdata))
{
        const struct client_ask ask = { .path = paths[what],
                                        .body = body,
                                        .timeout = what == TIME ? HOLD_MAX : POST_TIMEOUT,
                                        .deadline = what == TIME ? HOLD_MAX : POST_DEADLINE,
                                        .max = ANSWER_MAX,
                                        .endpoint = -1,
                                        .sent = &l->asked[what],
                                        .sent_to = &l->asked_of[what],
                                        .judge = judge,
                                        .answered = answered,
                                        .userdata = l };
        _cleanup_error_ struct error e = {};

        l->said[what] = client_cancel(l->said[what]); /* what it said is old */
        if (client_start(l->client, &ask, &l->said[what], &e) < 0 && what != TIME)
                cluster_step_later(l->cluster);
}

/* When it fails there is no better answer to wait for. */
static void on_time_told(int result, const char *body, size_t size, const struct error *e, void *userdata)
{
        struct cluster_link *l = userdata;

        if (!note_clock(l, TIME, result, body, size) || ++l->answers >= HOLD_ANSWERS ||
            clock_offset_error(&l->offset) <= OFFSET_GOOD)
                let_go(l);
        else
                set_clock(l, CLOCK_AGAIN / 4 + now_monotonic() % CLOCK_AGAIN);
}

static void ask_clock(struct cluster_link *l)
{
        post(l, TIME, NULL, on_time_told);
        set_clock(l, l->held_until - MIN(l->held_until, now_monotonic()));
}

static void on_status_sent(int result, const char *body, size_t size, const struct error *e, void *userdata)
{
        struct cluster_link *l = userdata;

        if (!note_clock(l, STATUS, result, body, size)) {
                cluster_step_later(l->cluster);
                return;
        }
        json_decref(l->status_said);
        l->status_said = TAKE_PTR(l->status_saying);
        if (!l->cluster->again) /* the vote may have been refused */
                l->cluster->wait = 0;
}

static void post_status(struct cluster_link *l)
{
        _cleanup_json_ json_t *body = NULL;
        _cleanup_free_ char *text = NULL;

        if (!l->status)
                return;
        json_decref(l->status_saying);
        l->status_saying = TAKE_PTR(l->status);
        body = json_pack("{s:O}", "status", l->status_saying);
        text = json_dumps(body, JSON_COMPACT);
        if (text)
                post(l, STATUS, text, on_status_sent);
}

static void on_vote_sent(int result, const char *body, size_t size, const struct error *e, void *userdata)
{
        struct cluster_link *l = userdata;

        if (!note_clock(l, VOTE, result, body, size))
                cluster_step_later(l->cluster);
        post_status(l);
}

static void say(struct cluster *c, const json_t *answer)
{
        const json_t *vote = json_object_get(answer, "vote"), *status = json_object_get(answer, "status");
        _cleanup_json_ json_t *said = json_pack("{s:O, s:O}", "operation", json_object_get(answer, "operation"), "vote",
                                                vote);
        _cleanup_free_ char *text = json_is_object(vote) ? json_dumps(said, JSON_COMPACT) : NULL;
        struct cluster_link *l = c->link;

        json_decref(l->status); /* of one that is on its way the answer may still come: it is not this one's */
        l->status = json_is_object(status) ? json_deep_copy(status) : NULL;
        json_decref(TAKE_PTR(l->status_said));
        if (text)
                post(l, VOTE, text, on_vote_sent);
        if (!l->said[VOTE])
                post_status(l);
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
        l->clock = sd_event_source_disable_unref(l->clock);
        client_free(l->client);
        json_decref(l->status);
        json_decref(l->status_saying);
        json_decref(l->status_said);
        free(l->held);
        free(l->list);
        free(l);
}
