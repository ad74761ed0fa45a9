/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What nodes ask of a controller: GET view, a stream of what it tells them, and POST vote and status. Who they are is what
 * their certificate says; whether they are let in is asked again each time, of the record as it is then. */
#include "base/buf.h"
#include "base/clock.h"
#include "cluster/request.h"
#include "daemon/cluster.h"
#include "slot/kinds.h"

/* One node that listens. */
struct listener {
        struct http_stream stream;
        struct listener *next; /* in its bucket */
        char name[NODE_NAME_SIZE];
        uint8_t key[DIGEST_SIZE]; /* that it has shown: who was deleted is not let in by its name alone */
        bool told;
        struct told_mark mark; /* of what it was told last */
};

/* A vote or a status that waits for the store. */
struct cluster_post {
        struct cluster_post *next;
        struct http_request *request; /* NULL: it is gone */
};

static struct cluster *cluster_of(struct http_stream *s)
{
        return (struct cluster *)((char *)s->of - offsetof(struct cluster, nodes));
}

static bool is_node(const struct identity *who)
{
        return streq(who->role, "engine") || streq(who->role, "controller");
}

int nodes_admit(struct cluster *c, const struct identity *who, struct error *e)
{
        _cleanup_error_ struct error why = {};
        const struct cluster_node *n;

        if (c->role != ROLE_CONTROLLER || !is_node(who))
                return 0;
        if (c->view.record_revision == 0) {
                fail(e, -EAGAIN, &kind_store, "what the cluster's store says is not known yet");
                return fail_hint(e, "try again, or ask another controller");
        }
        if (request_control(&c->view, c->name, &why) < 0) {
                fail(e, -EAGAIN, &kind_store, "this controller serves nobody: %s", why.message ?: "it does not say why");
                return fail_hint(e, "ask another controller");
        }
        return request_admit_key(&c->view, who->name, who->key, &n, e);
}

static int admit(struct cluster *c, struct http_request *r, struct error *e)
{
        if (c->role != ROLE_CONTROLLER)
                return fail(e, -ENOENT, &kind_not_found, "this machine is no controller");
        if (!is_node(&r->who))
                return fail(e, -EPERM, &kind_not_authorized, "%s (%s) is no node", r->who.name, r->who.role);
        return nodes_admit(c, &r->who, e);
}

static bool refuse(struct cluster *c, struct http_request *r)
{
        _cleanup_error_ struct error e = {};

        if (admit(c, r, &e) >= 0)
                return false;
        http_answer_error(r, &e);
        return true;
}

/* ---- listening ---- */

/* Which status of it the store has a node hears when it is time for a comment. */
static char *next_text(struct http_stream *s)
{
        struct listener *l = (struct listener *)s;
        struct cluster *c = cluster_of(s);
        const struct cluster_node *n = cluster_view_node(&c->view, l->name);
        struct told_mark mark = told_mark(&c->view, n);
        _cleanup_free_ char *line = NULL;

        if (l->told && told_mark_equal(&l->mark, &mark) && !(s->keepalive && l->mark.status != mark.status))
                return NULL;
        line = control_line(c, n);
        if (!line)
                return NULL;
        l->told = true;
        l->mark = mark;
        return xasprintf("data: %s\n\n", line);
}

static struct listener **bucket_of(struct cluster *c, const char *name)
{
        return &c->listeners[crc32c(0, name, strlen(name)) % LISTENER_BUCKETS];
}

/* One stream for each node: who comes again has lost the one before, and no node takes the connections of others. */
static void end_earlier(struct cluster *c, const char *name)
{
        for (struct listener *l = *bucket_of(c, name); l; l = l->next)
                if (streq(l->name, name))
                        http_stream_end(&l->stream);
}

static void gone(struct http_stream *s)
{
        struct listener *l = (struct listener *)s, **at = bucket_of(cluster_of(s), l->name);

        while (*at && *at != l)
                at = &(*at)->next;
        if (*at)
                *at = l->next;
}

/* Who is refused from now on hears of it when it asks again; whom nothing concerns is not woken. */
void nodes_changed(struct cluster *c)
{
        if (c->members_changed)
                c->members_changed(c, c->members_userdata);
        if (!c->nodes.http)
                return;
        if (request_control(&c->view, c->name, NULL) < 0) {
                nodes_end(c);
                return;
        }
        for (struct http_stream *s = c->nodes.first, *next; s; s = next) {
                const struct listener *l = (const struct listener *)s;
                const struct cluster_node *n;
                struct told_mark mark;

                next = s->next;
                if (request_admit_key(&c->view, l->name, l->key, &n, NULL) < 0) {
                        http_stream_end(s);
                        continue;
                }
                mark = told_mark(&c->view, n);
                if (!l->told || !told_mark_equal(&l->mark, &mark))
                        http_stream_wake(s);
        }
}

void nodes_end(struct cluster *c)
{
        for (struct http_stream *s = c->nodes.first, *next; s; s = next) {
                next = s->next;
                http_stream_end(s);
        }
}

static bool refuse_view(struct cluster *c, struct http_request *r)
{
        _cleanup_error_ struct error e = {};

        if (refuse(c, r))
                return true;
        if (!c->lost)
                return false;
        fail(&e, -EAGAIN, &kind_store, "this controller hears nothing of the cluster's store");
        fail_hint(&e, "ask another controller");
        http_answer_error(r, &e);
        return true;
}

void nodes_handle_view(struct cluster *c, struct http_request *r)
{
        struct listener *l;

        if (refuse_view(c, r))
                return;
        l = calloc(1, sizeof(*l));
        if (!l) {
                http_answer_json(r, 500, NULL);
                return;
        }
        snprintf(l->name, sizeof(l->name), "%s", r->who.name);
        memcpy(l->key, r->who.key, sizeof(l->key));
        end_earlier(c, l->name);
        l->next = *bucket_of(c, l->name);
        *bucket_of(c, l->name) = l;
        http_stream_open(&c->nodes, &l->stream, r);
}

/* ---- what they say ---- */

/* Our clock, when the request came and now: so a node can tell how far its own is off, however long the store took. */
static void answer(struct http_request *r)
{
        http_answer_json(
                r, 200,
                json_pack("{s:I, s:I}", "received_usec", (json_int_t)r->received, "now_usec", (json_int_t)now_realtime()));
}

static void post_free(struct cluster *c, struct cluster_post *post)
{
        struct cluster_post **at = &c->posts;

        while (*at && *at != post)
                at = &(*at)->next;
        if (*at)
                *at = post->next;
        free(post);
}

static void on_made(struct cluster *c, int result, const struct error *e, void *userdata)
{
        struct cluster_post *post = userdata;
        _cleanup_error_ struct error why = {};

        if (post->request && result >= 0) {
                answer(post->request);
        } else if (post->request) {
                fail(&why, result, &kind_store, "%s",
                     result == -EAGAIN ? "the cluster's record changed meanwhile: try again" : e->message ?: error_text(result));
                http_answer_error(post->request, &why);
        }
        post_free(c, post);
}

static int check_pace(struct cluster *c, const char *name, struct error *e)
{
        uint64_t now = now_monotonic();

        if (c->pace.n >= CLUSTER_MEMBERS_MAX)
                pace_forget(&c->pace, now);
        if (pace_take(&c->pace, name, now))
                return 0;
        fail(e, -EAGAIN, &kind_too_many_requests, "%s has said something new too often", name);
        return fail_hint(e, "say only what is so in a while: one change in %d s is written",
                         (int)(PACE_INTERVAL / USEC_PER_SEC));
}

static void handle_post(struct cluster *c, struct http_request *r, plan_said make)
{
        _cleanup_json_ json_t *body = NULL;
        _cleanup_error_ struct error e = {};
        _cleanup_plan_ struct plan plan = {};
        struct cluster_post *post;
        int result;

        if (refuse(c, r))
                return;
        result = json_parse_strict(r->body.data ?: "", r->body.size, "the body", &body, &e);
        if (result >= 0)
                result = make(c, r->who.name, body, &plan, &e);
        if (result >= 0 && plan.n_writes > 0)
                result = check_pace(c, r->who.name, &e);
        if (result < 0) {
                e.kind = e.kind && e.kind != &kind_failed ? e.kind : &kind_usage;
                http_answer_error(r, &e);
                return;
        }
        if (plan.n_writes == 0) {
                answer(r);
                return;
        }
        post = calloc(1, sizeof(*post));
        if (!post) {
                http_answer_json(r, 500, NULL);
                return;
        }
        *post = (struct cluster_post){ c->posts, r };
        c->posts = post;
        control_commit_together(c, &plan, on_made, post);
}

void nodes_handle_vote(struct cluster *c, struct http_request *r)
{
        handle_post(c, r, plan_vote);
}

void nodes_handle_status(struct cluster *c, struct http_request *r)
{
        handle_post(c, r, plan_status);
}

void nodes_handle_time(struct cluster *c, struct http_request *r)
{
        if (!refuse(c, r))
                answer(r);
}

void nodes_handle_connected(struct cluster *c, struct http_request *r)
{
        json_t *names;

        if (refuse(c, r))
                return;
        names = json_array();
        for (const struct http_stream *s = c->nodes.first; s; s = s->next)
                json_array_append_new(names, json_string(((const struct listener *)s)->name));
        http_answer_json(r, 200, json_pack("{s:o}", "nodes", names));
}

void nodes_forget(struct cluster *c, struct http_request *r)
{
        for (struct cluster_post *post = c->posts; post; post = post->next)
                if (post->request == r)
                        post->request = NULL;
}

void nodes_start(struct cluster *c, struct http *http)
{
        c->nodes = (struct http_streams){ .http = http, .next_text = next_text, .gone = gone };
        http_streams_start(&c->nodes, c->manager->event);
}

void nodes_stop(struct cluster *c)
{
        _cleanup_error_ struct error e = {};

        pace_done(&c->pace);
        if (!c->nodes.http)
                return;
        http_streams_stop(&c->nodes);
        http_streams_done(&c->nodes);
        fail(&e, -EAGAIN, &kind_store, "this controller stops: ask again");
        while (c->posts) {
                if (c->posts->request)
                        http_answer_error(c->posts->request, &e);
                post_free(c, c->posts);
        }
}
