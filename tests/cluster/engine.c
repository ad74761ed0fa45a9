/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "engine.h"

#include <inttypes.h>
#include <math.h>

#include "base/clock.h"
#include "base/log.h"

#define STEP_MIN      (5 * USEC_PER_MSEC) /* a step is a process */
#define STEP_SPAN     (45 * USEC_PER_MSEC)
#define AGAIN_MIN     (200 * USEC_PER_MSEC) /* as daemon/cluster_link.c has them */
#define AGAIN_MAX     (15 * USEC_PER_SEC)
#define STEP_AGAIN    (500 * USEC_PER_MSEC)
#define HOLD_MAX      (4 * USEC_PER_SEC)
#define HOLD_OF       4
#define HOLD_MIN      (500 * USEC_PER_MSEC)
#define HOLD_ANSWERS  5
#define CLOCK_AGAIN   (400 * USEC_PER_MSEC)
#define SPIKES_OF_100 2

static const char *const paths[N_SAID] = { "/api/cluster/node/vote", "/api/cluster/node/status", "/api/cluster/node/time" };

/* ---- its clock ---- */

/* xorshift64*: each engine has a sequence of its own, so that a seed gives the same machines. */
uint64_t simulation_random(struct engine *e, uint64_t below)
{
        e->random ^= e->random >> 12;
        e->random ^= e->random << 25;
        e->random ^= e->random >> 27;
        return below ? (e->random * UINT64_C(0x2545F4914F6CDD1D) >> 11) % below : 0;
}

static uint64_t clock_at(const struct engine *e, uint64_t now)
{
        return now + (uint64_t)e->ahead + (uint64_t)(int64_t)(e->drift * (double)(now - e->of->began));
}

static uint64_t true_time(const struct engine *e, uint64_t local)
{
        double since = (double)(int64_t)(local - (uint64_t)e->ahead - e->of->began) / (1 + e->drift);

        return e->of->began + (uint64_t)(int64_t)since;
}

static uint64_t own_realtime(const struct engine *e)
{
        return clock_at(e, now_realtime());
}

static uint64_t own_monotonic(const struct engine *e)
{
        return (uint64_t)((1 + e->drift) * (double)now_monotonic());
}

/* ---- what takes its time ---- */

struct later {
        struct engine *engine;
        unsigned life;
        sd_event_source *source;
        void (*run)(struct engine *e, char *text);
        char *text;
};

static int on_later(sd_event_source *source, uint64_t usec, void *userdata)
{
        _cleanup_free_ struct later *l = userdata;
        _cleanup_free_ char *text = l->text;

        if (l->life == l->engine->life)
                l->run(l->engine, text);
        sd_event_source_disable_unref(l->source);
        return 0;
}

/* Takes the text. */
static void later(struct engine *e, uint64_t wait, void (*run)(struct engine *, char *), char *text)
{
        struct later *l = calloc(1, sizeof(*l));

        if (!l)
                abort();
        *l = (struct later){ e, e->life, NULL, run, text };
        if (sd_event_add_time_relative(e->of->net.event, &l->source, CLOCK_MONOTONIC, wait, 1, on_later, l) < 0)
                abort();
}

static uint64_t draw_delay(struct engine *e, uint64_t at_least)
{
        double u = (double)(1 + simulation_random(e, 1000000)) / 1000001;
        uint64_t delay = at_least + (uint64_t)(-log(u) * (double)e->of->jitter);

        if (e->of->spike && simulation_random(e, 100) < SPIKES_OF_100)
                delay += simulation_random(e, e->of->spike);
        return delay;
}

struct heard {
        struct heard *next;
        void (*run)(struct engine *e, char *text);
        char *text;
};

static void forget_heard(struct engine *e)
{
        for (struct heard *h = TAKE_PTR(e->first), *next; h; h = next) {
                next = h->next;
                free(h->text);
                free(h);
        }
}

/* The next in its order, whichever timer it was: two may be due at the same time. */
static void hear_next(struct engine *e, char *text)
{
        struct heard *h = e->first;

        if (!h)
                return;
        e->first = h->next;
        h->run(e, h->text);
        free(h->text);
        free(h);
}

/* Nothing overtakes. */
static void hear(struct engine *e, void (*run)(struct engine *, char *), const char *text)
{
        struct heard *h = calloc(1, sizeof(*h));
        uint64_t now = now_realtime();

        if (!h)
                abort();
        *h = (struct heard){ NULL, run, strdup(text) };
        if (!e->first)
                e->last = &e->first;
        *e->last = h;
        e->last = &h->next;
        e->heard = MAX(e->heard, now + draw_delay(e, e->delay_in));
        later(e, e->heard - now, hear_next, NULL);
}

/* ---- what it says ---- */

static void step_later(struct engine *e, uint64_t wait);
static void send_next(struct engine *e);

/* As libcurl has it: the time in which the connection is made is none of the question's. */
static void send_now(struct engine *e, char *text)
{
        if (wire_send(&e->post, text) < 0)
                e->post.answer(&e->post, 0, "");
}

static void send_next(struct engine *e)
{
        uint64_t wait;

        for (int i = 0; e->asking < 0 && i < N_SAID; i++) {
                if (!e->said[i])
                        continue;
                e->asking = i;
                e->of->posts++;
                wait = e->under_way = draw_delay(e, e->delay_out);
                /* What TCP and TLS say to each other first goes there and back twice. */
                if (e->post.state == WIRE_CLOSED)
                        wait += 2 * (e->delay_in + e->delay_out);
                later(e, wait, send_now, TAKE_PTR(e->said[i]));
        }
}

/* Takes the body. */
static void say(struct engine *e, enum said what, char *body)
{
        free(e->said[what]); /* what it said is old */
        e->said[what] = body ? xasprintf("POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n%s", paths[what],
                                         strlen(body), body)
                             : xasprintf("GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", paths[what]);
        free(body);
        send_next(e);
}

static void let_go(struct engine *e);
static void ask_clock_later(struct engine *e, uint64_t wait);

static void on_heard(struct engine *e, char *text)
{
        _cleanup_json_ json_t *o = json_loads(text, 0, NULL);
        json_int_t went = json_integer_value(json_object_get(o, "now_usec")),
                   came = json_integer_value(json_object_get(o, "received_usec"));
        uint64_t at = own_monotonic(e), asked = (uint64_t)((1 + e->drift) * (double)(e->post.flown - e->under_way));
        int what = TAKE(e->asking, -1);

        if (went > 0) {
                clock_offset_add(&e->offset,
                                 &(struct clock_answer){ 0, came > 0 ? came : went, went, own_realtime(e), at - asked, at });
                e->again = 0;
        }
        e->of->times += what == SAID_TIME;
        e->of->times_refused += what == SAID_TIME && went <= 0;
        if (what == SAID_TIME &&
            (went == 0 || ++e->answers >= HOLD_ANSWERS || clock_offset_error(&e->offset) <= OFFSET_GOOD)) {
                let_go(e);
        } else if (what == SAID_TIME) {
                ask_clock_later(e, CLOCK_AGAIN / 4 + simulation_random(e, CLOCK_AGAIN));
        } else if (went <= 0) {
                e->of->refused++;
                e->again = e->again ? MIN(2 * e->again, 30 * USEC_PER_SEC) : STEP_AGAIN;
                step_later(e, e->again / 2 + simulation_random(e, e->again / 2));
        }
        send_next(e);
}

static void on_answer(struct wire *w, long status, const char *body)
{
        struct engine *e = w->userdata;

        hear(e, on_heard, body);
}

static void say_vote(struct engine *e, bool yes, const char *why)
{
        struct vote v = { .yes = yes };
        char id[CLUSTER_ID_TEXT_SIZE];
        _cleanup_free_ char *text = NULL;

        snprintf(v.message, sizeof(v.message), "%s", why);
        text = record_encode(RECORD_VOTE, &v);
        hex_encode(e->told.operation.id, CLUSTER_ID_SIZE, id);
        say(e, SAID_VOTE, xasprintf("{\"operation\":\"%s\",\"vote\":%s}", id, text));
}

static void say_status(struct engine *e, const struct member_status *status)
{
        _cleanup_free_ char *text = record_encode(RECORD_STATUS, status);

        say(e, SAID_STATUS, xasprintf("{\"status\":%s}", text));
}

/* ---- what it does ---- */

static void listen_again(struct engine *e, char *text);

static void install(struct engine *e, const struct version_id *v)
{
        struct slot *s = &e->set.slots[!e->slot];

        if (memcmp(s->digest, v->digest, DIGEST_SIZE) == 0 && s->state == SLOT_INSTALLED)
                return;
        slot_set_begin_write(&e->set, !e->slot);
        snprintf(s->version, sizeof(s->version), "%s", v->version);
        memcpy(s->digest, v->digest, DIGEST_SIZE);
        slot_set_end_write(&e->set, !e->slot);
}

/* It runs what the cluster does when it first hears of it. */
static void leave_factory(struct engine *e)
{
        e->slot = 1;
        install(e, &e->told.record.running);
        slot_set_begin_switch(&e->set, 0, 0);
        slot_set_end_switch(&e->set, 0);
        e->set.previous = SLOT_NONE;
        e->slot = 0;
}

static bool prepare(struct engine *e)
{
        const struct cluster_operation *op = &e->told.operation;
        const struct slot *previous = e->set.previous == SLOT_NONE ? NULL : &e->set.slots[e->set.previous];

        if (op->kind == OPERATION_UPGRADE)
                install(e, &op->to);
        return op->kind == OPERATION_UPGRADE || (previous && memcmp(previous->digest, op->to.digest, DIGEST_SIZE) == 0);
}

/* Its reset, and what it is when it is up again. */
static void reset(struct engine *e, char *text)
{
        int from = e->slot;

        e->of->n_told -= e->is_told;
        wire_close(&e->stream);
        wire_close(&e->post);
        for (int i = 0; i < N_SAID; i++)
                free(TAKE_PTR(e->said[i]));
        e->life++;
        e->asking = -1;
        free(TAKE_PTR(e->held));
        forget_heard(e);
        e->leaving = e->stepping = e->is_told = false;
        e->again = 0;
        told_done(&e->told);
        e->offset = (struct clock_offset){};
        slot_set_begin_switch(&e->set, e->target, 0);
        slot_set_end_switch(&e->set, SLOT_DEFAULT_TRIES);
        slot_set_confirm(&e->set, e->target);
        e->slot = e->target;
        /* After an upgrade there is a way back, after going back none. */
        e->set.previous = e->set.operation == OPERATION_UPGRADE ? from : SLOT_NONE;
        e->of->n_switched++;
        later(e, e->of->boot + simulation_random(e, 2 * e->of->boot + 1), listen_again, NULL);
}

/* At that instant of its clock. */
static void plan_switch(struct engine *e, const struct participant_decision *d)
{
        int64_t local = (int64_t)d->at - clock_offset_get(&e->offset);
        uint64_t now = now_realtime(), at = d->at ? true_time(e, (uint64_t)local) : now;

        e->leaving = true;
        e->target = d->slot;
        e->set.operation = e->told.open ? e->told.operation.kind : OPERATION_ROLLBACK;
        e->ordered = d->at;
        e->switched = MAX(at, now);
        e->error = clock_offset_error(&e->offset);
        later(e, e->switched - now, reset, NULL);
}

static void act(struct engine *e, struct participant_input *in, struct participant_decision *d)
{
        switch (d->action) {
        case PARTICIPANT_PREPARE:
                if (prepare(e))
                        participant_prepared(in, &e->journal);
                say_vote(e, !is_all_zero(e->journal.prepared, CLUSTER_ID_SIZE), "");
                break;
        case PARTICIPANT_VOTE:
                say_vote(e, true, "");
                break;
        case PARTICIPANT_DECLINE:
                say_vote(e, false, d->status.message);
                break;
        case PARTICIPANT_SWITCH:
                plan_switch(e, d);
                break;
        case PARTICIPANT_FETCH:
                install(e, &e->told.record.running);
                step_later(e, STEP_AGAIN);
                break;
        case PARTICIPANT_FINALIZE:
                e->set.finalized = true;
                break;
        default:
                break;
        }
}

static void note_settled(struct engine *e, const struct member_status *status)
{
        bool settled = status->settled && status->epoch == e->of->epoch;

        e->of->n_settled += settled && !e->settled;
        e->of->n_settled -= !settled && e->settled;
        e->settled = settled;
}

static void step(struct engine *e, char *text)
{
        struct participant_decision d;
        struct participant_input in;

        e->stepping = false;
        if (!e->is_told || e->leaving)
                return;
        in = (struct participant_input){ .member = e->told.member,
                                         .fenced = e->told.fenced,
                                         .asked = e->told.asked,
                                         .role = e->told.role,
                                         .revision = e->told.revision,
                                         .record = &e->told.record,
                                         .operation = e->told.open ? &e->told.operation : NULL,
                                         .voted = e->told.voted,
                                         .order = e->told.order,
                                         .set = &e->set,
                                         .slot = e->slot,
                                         .journal = &e->journal };
        participant_decide(&in, &d);
        e->journal = d.journal;
        act(e, &in, &d);
        if (d.hears == HEARS_OLD)
                return;
        participant_decide(&in, &d);
        if (d.stand == STANDS_NOWHERE)
                return;
        note_settled(e, &d.status);
        say_status(e, &d.status);
        e->of->changed(e->of);
}

static void step_later(struct engine *e, uint64_t wait)
{
        if (!e->stepping)
                later(e, wait, step, NULL);
        e->stepping = true;
}

/* ---- what it hears ---- */

/* What the whole is told of it first. */
static void note_told(struct engine *e)
{
        struct simulation *s = e->of;

        s->lines++;
        s->n_told += !e->is_told;
        if (e->told.record.epoch > s->epoch) {
                s->epoch = e->told.record.epoch;
                s->committed = now_realtime();
                s->n_settled = 0;
                for (size_t i = 0; i < s->n; i++)
                        s->engines[i].settled = false;
        }
        if (e->told.open && !s->open)
                s->opened = now_realtime();
        if (e->told.record.epoch == s->epoch)
                s->open = e->told.open;
}

/* The line is what the node acts on. */
static void act_on(struct engine *e, const char *text)
{
        _cleanup_error_ struct error why = {};
        struct told told = {};

        if (told_parse(text, strlen(text), &told, &why) < 0) {
                log_error("%s: %s", e->name, why.message);
                return;
        }
        told_done(&e->told);
        e->told = told;
        if (e->set.slots[e->slot].state == SLOT_EMPTY)
                leave_factory(e);
        note_told(e);
        e->is_told = true;
        e->wait = 0;
        e->of->changed(e->of);
        step_later(e, STEP_MIN + simulation_random(e, STEP_SPAN));
}

/* ---- as link.c holds a line with an instant until its clock is known well enough ---- */

static void let_go(struct engine *e)
{
        _cleanup_free_ char *held = TAKE_PTR(e->held);

        e->holds++;
        if (held)
                act_on(e, held);
}

static void ask_clock(struct engine *e, char *number)
{
        if (!e->held || strtoul(number, NULL, 10) != e->holds)
                return;
        if (now_monotonic() >= e->held_until)
                let_go(e);
        else
                say(e, SAID_TIME, NULL);
}

static void ask_clock_later(struct engine *e, uint64_t wait)
{
        later(e, wait, ask_clock, xasprintf("%u", e->holds));
}

static uint64_t time_to_ask(const struct engine *e, const char *line)
{
        _cleanup_json_ json_t *o = json_loads(line, 0, NULL);
        json_int_t order = json_integer_value(json_object_get(json_object_get(o, "you"), "order_usec")),
                   all = json_integer_value(json_object_get(json_object_get(o, "operation"), "engines_at_usec")),
                   left = MAX(order, all) - ((json_int_t)own_realtime(e) + clock_offset_get(&e->offset));

        return left < (json_int_t)(HOLD_OF * HOLD_MIN) ? 0 : MIN((uint64_t)left / HOLD_OF, HOLD_MAX);
}

static void on_told(struct engine *e, char *text)
{
        uint64_t hold = time_to_ask(e, text);

        free(e->held);
        e->held = strdup(text);
        e->held_until = now_monotonic() + hold;
        e->answers = 0;
        e->holds++;
        if (!e->held || hold == 0) {
                let_go(e);
                return;
        }
        ask_clock_later(e, simulation_random(e, CLOCK_AGAIN));
        ask_clock_later(e, hold + USEC_PER_MSEC);
}

static void on_line(struct wire *w, const char *line)
{
        struct engine *e = w->userdata;
        const char *text = startswith(line, "data: ");

        if (text)
                hear(e, on_told, text);
}

static void listen_again(struct engine *e, char *text)
{
        if (wire_send(&e->stream, "GET /api/cluster/node/view HTTP/1.1\r\nHost: localhost\r\n\r\n") < 0)
                e->stream.answer(&e->stream, 0, "");
}

/* As link.c: the next try after a while, a refused one later. */
static void on_stream_end(struct wire *w, long status, const char *body)
{
        struct engine *e = w->userdata;

        if (e->is_told)
                e->of->n_told--;
        e->is_told = false;
        wire_close(w);
        e->wait = e->wait ? MIN(2 * e->wait, AGAIN_MAX) : AGAIN_MIN;
        if (status >= 400 && status < 500)
                e->of->refused++;
        later(e, e->wait / 2 + simulation_random(e, e->wait / 2), listen_again, NULL);
}

void engine_start(struct engine *e, uint64_t wait)
{
        e->stream.line = on_line;
        e->stream.answer = on_stream_end;
        e->post.answer = on_answer;
        e->stream.userdata = e->post.userdata = e;
        e->asking = -1;
        later(e, wait, listen_again, NULL);
}

void engine_done(struct engine *e)
{
        wire_close(&e->stream);
        wire_close(&e->post);
        for (int i = 0; i < N_SAID; i++)
                free(TAKE_PTR(e->said[i]));
        free(TAKE_PTR(e->held));
        forget_heard(e);
        told_done(&e->told);
        journal_done(&e->journal);
}
