/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/api.h"
#include "daemon/cluster.h"

#include "base/log.h"
#include "cluster/progress.h"
#include "slot/kinds.h"

#define WORDS_MAX 28

/* One `bootmgr`, until it has ended; those who wait may be answered, or gone, before. */
struct call {
        struct api *api;
        struct call *next;
        const struct route *route;
        struct api_body body;
        enum task_kind kind;
        json_t *(*view)(const struct manager *m, const json_t *printed, const struct api_body *body);
        const char *words[WORDS_MAX];
        size_t n_words;
        int input; /* of its body; -1: none */
        struct http_request *waiting;
        bool told; /* by its worker: the manager's operation is this one */
};

static void add_word(struct call *c, const char *word)
{
        if (c->n_words < WORDS_MAX - 1)
                c->words[c->n_words++] = word;
}

/* "": it is not said. */
static void add_option(struct call *c, const char *name, const char *value)
{
        if (!*value)
                return;
        add_word(c, name);
        add_word(c, value);
}

static void call_free(struct call *c)
{
        struct call **at = &c->api->calls;

        while (*at && *at != c)
                at = &(*at)->next;
        if (*at)
                *at = c->next;
        api_body_done(&c->body);
        fd_close(c->input);
        free(c);
}

/* --- answering ------------------------------------------------------------------------------------------- */

static bool goes_on(const json_t *operation)
{
        return streq(json_string_value(json_object_get(operation, "state")), "IN_PROGRESS");
}

static void answer(struct call *c, const json_t *printed)
{
        _cleanup_json_ json_t *j = c->waiting ? c->view(c->api->manager, printed, &c->body) : NULL;
        int status = c->route->kind == TASK_WORK && goes_on(printed) ? 202 : 200;

        for (struct http_request *r = TAKE_PTR(c->waiting), *next; r; r = next) {
                next = TAKE_PTR(r->next);
                http_answer_json(r, status, json_incref(j));
        }
}

static void answer_error(struct call *c, const struct error *e)
{
        for (struct http_request *r = TAKE_PTR(c->waiting), *next; r; r = next) {
                next = TAKE_PTR(r->next);
                http_answer_error(r, e);
        }
}

static void answer_failure(struct call *c, const json_t *last, int exit_status)
{
        _cleanup_error_ struct error e = {};

        if (!json_is_string(json_object_get(last, "kind"))) {
                if (exit_status > 128)
                        fail(&e, -EIO, &kind_interrupted, "the process that worked was killed by signal %d",
                             exit_status - 128);
                else
                        fail(&e, -EIO, NULL, "bootmgr ended with status %d and no word", exit_status);
                answer_error(c, &e);
                return;
        }
        for (struct http_request *r = TAKE_PTR(c->waiting), *next; r; r = next) {
                next = TAKE_PTR(r->next);
                http_answer_failure(r, last);
        }
}

/* What has ended is answered by on_done(): until then another request would find us at work. */
static void on_line(const json_t *line, void *userdata)
{
        struct call *c = userdata;
        const char *id = json_string_value(json_object_get(line, "id"));

        if (c->kind != TASK_WORK)
                return;
        manager_set_operation(c->api->manager, line);
        if (!id || !*id)
                return;
        c->told = goes_on(line);
        if (c->told)
                answer(c, line);
}

/* What this machine did by itself would be taken for what the cluster does: whoever follows that asks another controller. */
static bool refuse_own(struct call *c, const json_t *printed)
{
        const json_t *newest = json_is_array(printed) ? json_array_get(printed, 0) : printed;
        const char *why = json_string_value(json_object_get(newest, CLUSTER_UNREACHABLE));
        _cleanup_error_ struct error e = {};

        if (!why)
                return false;
        fail(&e, -EHOSTUNREACH, &kind_store, "the cluster cannot be asked: %s", why);
        fail_hint(&e, "ask another controller; GET /api/cluster/runtime tells what this machine itself does");
        answer_error(c, &e);
        return true;
}

static void on_done(int exit_status, const json_t *last, void *userdata)
{
        struct call *c = userdata;
        /* A dry run that says no is an answer, too. */
        bool told = exit_status == 0 || json_is_boolean(json_object_get(last, "allowed"));

        if (!told)
                answer_failure(c, last, exit_status);
        else if (!refuse_own(c, last))
                answer(c, last);
        manager_ran(c->api->manager, c->kind, exit_status == 0 ? NULL : last);
        call_free(c);
}

/* --- asking ---------------------------------------------------------------------------------------------- */

/* What is not said is as `bootmgr` takes it. */
static const char *engines_of(const struct api_body *body)
{
        return *body->engines ? body->engines : "together";
}

static const char *max_unavailable_of(const struct api_body *body)
{
        return *body->max_unavailable ? body->max_unavailable : "1";
}

/* Whether to reboot may be said anew. */
static bool is_same(const struct call *c, const struct route *route, const struct api_body *body)
{
        return c->route == route && streq(c->body.source, body->source) && c->body.strict == body->strict &&
               c->body.one_instant == body->one_instant && streq(engines_of(&c->body), engines_of(body)) &&
               streq(max_unavailable_of(&c->body), max_unavailable_of(body));
}

/* Who asks again before the answer is there waits for the same. true: it was. */
static bool join(struct api *api, struct http_request *r, const struct api_body *body)
{
        _cleanup_error_ struct error e = {};

        for (struct call *c = api->calls; c; c = c->next) {
                if (!*body->id || !streq(c->body.id, body->id))
                        continue;
                if (!is_same(c, r->route, body)) {
                        fail(&e, -EEXIST, &kind_id_reused, "the id %s is used for something else", body->id);
                        http_answer_error(r, &e);
                        return true;
                }
                r->next = c->waiting;
                c->waiting = r;
                if (c->told)
                        answer(c, api->manager->operation);
                return true;
        }
        return false;
}

static void refuse_start(struct call *c, int code)
{
        _cleanup_error_ struct error e = {};

        if (code == -EBUSY) {
                fail(&e, code, &kind_busy, "bootmgrd is at work already");
                fail_hint(&e, "GET /api/cluster/upgrade/status tells how far it is");
        } else if (code == -EUSERS) {
                fail(&e, code, &kind_too_many_requests, "too many questions at once: try again");
        } else {
                fail_errno(&e, code, "cannot run bootmgr");
        }
        answer_error(c, &e);
}

static int start(struct call *c)
{
        struct task_spec spec = {
                .kind = c->kind, .words = c->words, .input = c->input, .line = on_line, .done = on_done, .userdata = c
        };

        return manager_run(c->api->manager, &spec);
}

/* While other work is under way: what was asked for before with this id is told all the same. */
static const json_t *find_operation(const json_t *history, const char *id)
{
        const json_t *op;
        size_t i;

        json_array_foreach(history, i, op)
        {
                if (streq(json_string_value(json_object_get(op, "id")), id))
                        return op;
        }
        return NULL;
}

/* That of a cluster does not say where its bundle came from, but how it was asked for. */
static bool is_what_was_asked(const json_t *op, const struct api_body *body)
{
        const char *verb = body->source ? "UPGRADE" : "ROLLBACK";
        char most[24];

        if (!streq(json_string_value(json_object_get(op, "operation")), verb))
                return false;
        if (!json_object_get(op, "nodes"))
                return streq(json_string_value(json_object_get(op, "source")), body->source);
        snprintf(most, sizeof(most), "%lld", (long long)json_integer_value(json_object_get(op, "max_unavailable")));
        return json_is_true(json_object_get(op, "strict")) == body->strict &&
               json_is_true(json_object_get(op, "one_instant")) == body->one_instant &&
               streq(json_string_value(json_object_get(op, "engines")), engines_of(body)) &&
               streq(most, max_unavailable_of(body));
}

static void on_searched(int exit_status, const json_t *last, void *userdata)
{
        struct call *c = userdata;
        const json_t *found = exit_status == 0 ? find_operation(last, c->body.id) : NULL;
        _cleanup_error_ struct error e = {};

        if (found && is_what_was_asked(found, &c->body)) {
                answer(c, found);
        } else if (found) {
                fail(&e, -EEXIST, &kind_id_reused, "the id %s was used for something else", c->body.id);
                answer_error(c, &e);
        } else {
                refuse_start(c, -EBUSY);
        }
        manager_ran(c->api->manager, TASK_READ, NULL);
        call_free(c);
}

static int search(struct call *c)
{
        static const char *const words[] = { "show", "upgrade", "history", NULL };
        struct task_spec spec = { .words = words, .input = -1, .done = on_searched, .userdata = c };

        c->kind = TASK_READ;
        return manager_run(c->api->manager, &spec);
}

static void fill(struct call *c, const struct api_body *body)
{
        for (size_t i = 0; i < ARRAY_SIZE(c->route->words) && c->route->words[i]; i++)
                add_word(c, c->route->words[i]);
        if (body->prechecks_only) {
                add_word(c, "--dry-run");
                c->kind = TASK_READ;
                c->view = view_printed;
        } else {
                add_option(c, "--id", body->id);
        }
        if (body->no_reboot)
                add_word(c, "--no-reboot");
        if (body->automatic)
                add_word(c, "--automatic");
        if (body->strict)
                add_word(c, "--strict");
        if (body->one_instant)
                add_word(c, "--one-instant");
        add_option(c, "--engines", body->engines);
        add_option(c, "--max-unavailable", body->max_unavailable);
        add_option(c, "--prepare-limit", body->prepare_limit);
        add_option(c, "--switch-limit", body->switch_limit);
        add_option(c, "--lead", body->lead);
        if (body->source) {
                add_word(c, "--");
                add_word(c, body->source);
        }
}

/* The body moves in, and the descriptor. */
static void begin(struct api *api, struct http_request *r, struct api_body *body, int input)
{
        struct call *c = calloc(1, sizeof(*c));
        int result;

        if (!c) {
                api_body_done(body);
                fd_close(input);
                http_answer_json(r, 500, NULL);
                return;
        }
        *c = (struct call){ .api = api,
                            .next = api->calls,
                            .route = r->route,
                            .kind = r->route->kind,
                            .view = r->route->view,
                            .body = TAKE(*body, (struct api_body){}),
                            .input = input,
                            .waiting = r };
        api->calls = c;
        fill(c, &c->body);
        if (c->kind != TASK_READ)
                log_notice("%s (%s) asks for %s, id %s", r->who.name, r->who.role, r->route->path, c->body.id);
        result = start(c);
        if (result == -EBUSY)
                result = search(c);
        if (result < 0) {
                refuse_start(c, result);
                call_free(c);
        }
}

void api_call(struct api *api, struct http_request *r, struct api_body *body)
{
        if (join(api, r, body))
                api_body_done(body);
        else
                begin(api, r, body, -1);
}

void api_call_with(struct api *api, struct http_request *r, const char *input, size_t size)
{
        struct api_body none = {};
        int fd = task_input(input, size);

        if (fd < 0) {
                http_answer_json(r, 500, NULL);
                return;
        }
        begin(api, r, &none, fd);
}

unsigned api_count_calls(const struct api *api, const struct route *route)
{
        unsigned n = 0;

        for (const struct call *c = api->calls; c; c = c->next)
                n += c->route == route;
        return n;
}

void api_forget(struct api *api, struct http_request *r)
{
        nodes_forget(api->cluster, r);
        for (struct call *c = api->calls; c; c = c->next)
                for (struct http_request **at = &c->waiting; *at;) {
                        if (*at == r)
                                *at = r->next;
                        else
                                at = &(*at)->next;
                }
}

/* The work goes on without us; whoever asks again with the same id is told of it. */
void api_stop(struct api *api)
{
        _cleanup_error_ struct error e = {};

        fail(&e, -ESHUTDOWN, &kind_interrupted, "bootmgrd stops: what was begun goes on; ask again with the same id");
        for (struct call *c = api->calls; c; c = c->next)
                answer_error(c, &e);
        events_stop(&api->events);
        nodes_stop(api->cluster);
}

void api_calls_done(struct api *api)
{
        while (api->calls)
                call_free(api->calls);
}
