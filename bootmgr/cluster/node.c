/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cluster/node.h"

#include <fcntl.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "base/version.h"
#include "cluster/bundles.h"
#include "cluster/home.h"
#include "slot/kinds.h"

#define JOURNAL     "cluster/journal"
#define JOURNAL_MAX KIB(64)

/* ---- the journal ---- */

static int load_journal(struct machine *m, struct journal *ret, struct error *e)
{
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r;

        r = machine_need_data(m, e);
        if (r < 0)
                return r;
        r = file_read(m->snapshots.data, JOURNAL, JOURNAL_MAX, &text, &size);
        if (r == -ENOENT) {
                *ret = (struct journal){};
                return 0;
        }
        if (r >= 0)
                r = record_decode(RECORD_JOURNAL, text, size, ret, e);
        /* Without it nobody knows what was promised: better no step than a second promise. */
        return r < 0 ? fail_hint(e, "repair or, on a node that has promised nothing, remove %s/" JOURNAL, m->data_path) : 0;
}

static int save_journal(struct machine *m, const struct journal *j, struct error *e)
{
        _cleanup_free_ char *text = record_encode(RECORD_JOURNAL, j);
        int r = text ? mkdir_parents(m->snapshots.data, "cluster", 0700) : -ENOMEM;

        if (r >= 0)
                r = file_replace(m->snapshots.data, JOURNAL, text, strlen(text), 0600);
        return r < 0 ? fail_errno(e, r, "cannot write %s/" JOURNAL, m->data_path) : 0;
}

int node_must_be_free(struct machine *m, struct error *e)
{
        _cleanup_journal_ struct journal j = {};
        _cleanup_error_ struct error why = {};
        char id[CLUSTER_ID_TEXT_SIZE];
        int r;

        /* It has no cluster any more; `cluster init` and `node join` clear what it had promised. */
        if (cluster_role(m->data_path) == ROLE_STANDALONE)
                return 0;
        /* A person who repairs a machine by hand is not stopped by what cannot be read. */
        r = load_journal(m, &j, &why);
        if (r < 0) {
                log_warning("what this node has promised its cluster cannot be read: %s", why.message ?: error_text(r));
                return 0;
        }
        if (is_all_zero(j.prepared, sizeof(j.prepared)))
                return 0;
        fail(e, -EBUSY, &kind_busy,
             "this node has promised its cluster to take part in operation %s, and decides nothing alone until that is over",
             id_to_text(j.prepared, id));
        return fail_hint(
                e,
                "wait, or `bootmgr abort` on a controller; `bootmgr abort --local` here, if this node is cut off for ever");
}

int node_abort_local(struct machine *m, struct error *e)
{
        _cleanup_journal_ struct journal j = {};
        int r = load_journal(m, &j, e);
        bool own, promised;

        if (r < 0)
                return r;
        own = m->state.set.operation_state == OPERATION_STAGED && !participant_has_staged(&m->state.set, &j);
        promised = !is_all_zero(j.prepared, sizeof(j.prepared));
        if (!own && !promised)
                return fail(e, -ENOENT, &kind_usage,
                            "this node is prepared for no operation of its cluster, and for none of its own");
        if (promised) {
                participant_abort_local(&j);
                r = save_journal(m, &j, e);
        }
        if (r >= 0 && own)
                r = operation_abort(m, e);
        return r < 0 ? r : own;
}

int node_try_again(struct machine *m, struct error *e)
{
        _cleanup_journal_ struct journal j = {};
        int r;

        if (m->snapshots.data < 0 || cluster_role(m->data_path) == ROLE_STANDALONE)
                return 0;
        r = load_journal(m, &j, e);
        if (r < 0 || !j.attempted || m->state.set.operation_state == OPERATION_STAGED)
                return r;
        /* The epoch stays: what is older than it is not to be heard. */
        j.attempted_generation = m->state.set.generation;
        memset(j.staged, 0, sizeof(j.staged));
        return save_journal(m, &j, e);
}

int node_newest_epoch(struct machine *m, uint64_t *ret, struct error *e)
{
        _cleanup_journal_ struct journal j = {};
        int r = load_journal(m, &j, e);

        *ret = MAX(j.reached, j.attempted);
        return r;
}

/* ---- what is done ---- */

struct step_of_node {
        const struct node_context *c;
        const struct told *told;
        struct participant_input in;
        struct participant_decision d;
        struct node_answer *answer;
};

static struct vote *begin_vote(struct step_of_node *s)
{
        s->answer->has_vote = true;
        memcpy(s->answer->operation, s->told->operation.id, CLUSTER_ID_SIZE);
        return &s->answer->vote;
}

static void vote_yes(struct step_of_node *s)
{
        *begin_vote(s) = (struct vote){ .yes = true, .clock_error = s->c->clock_error };
}

/* Of what stands in a file name or came from a hook: every record holds printable text only. */
static void put_text(char *to, size_t size, const char *text)
{
        _cleanup_free_ char *escaped = text_escape(text);
        bool printable = text_is_printable(text, strlen(text));

        text_format(to, size, "%s", printable ? text : escaped ?: "no reason can be shown");
}

/* With the way out: who reads it is at a controller, and sees nothing else of this machine. */
static void put_error(char *to, size_t size, const struct error *why)
{
        _cleanup_free_ char *both = why->hint ? xasprintf("%s; %s", why->message ?: "", why->hint) : NULL;

        put_text(to, size, both ?: why->message ?: "");
}

static void vote_no(struct step_of_node *s, const struct error *why)
{
        struct vote *v = begin_vote(s);

        *v = (struct vote){ .clock_error = s->c->clock_error };
        text_format(v->kind, sizeof(v->kind), "%s", (why->kind ?: &kind_failed)->name);
        put_error(v->message, sizeof(v->message), why);
}

/* What passes by itself is no reason for a NO: another process holds the lock, or no controller that could be asked has it.
 */
static bool will_pass(int code, const struct error *why)
{
        return code == -EBUSY || code == -EAGAIN || code == -ECANCELED || why->kind == &kind_fetch;
}

static bool holds(const struct machine *m, int slot, const struct version_id *v)
{
        return slot != SLOT_NONE && slot_has_system(&m->state.set.slots[slot]) &&
               memcmp(m->state.set.slots[slot].digest, v->digest, DIGEST_SIZE) == 0;
}

static bool is_installed(const struct machine *m, int running, const struct version_id *v)
{
        for (int i = 0; i < m->state.set.n_slots; i++)
                if (i != running && holds(m, i, v) && m->state.set.slots[i].state == SLOT_INSTALLED)
                        return true;
        return false;
}

static bool is_own_copy(const char *source)
{
        return !strstr(source, "://");
}

/* 1: it is kept. The controller that was asked may be gone by the time somebody lacks the version: so each controller has
 * it. One without room for it does without. */
static int keep_bundle(struct step_of_node *s, const struct version_id *v, char **source, struct error *e)
{
        struct machine *m = s->c->machine;
        const struct version_id keep[] = { s->told->record.running, s->told->record.previous, *v };
        _cleanup_error_ struct error why = {};
        _cleanup_close_ int lock = -1;
        struct version_id found;
        int r;

        if (cluster_role(m->data_path) != ROLE_CONTROLLER || is_own_copy(*source))
                return 0;
        m->config.fetch.cancelled = s->c->observer ? s->c->observer->cancelled : NULL;
        r = bundles_lock(m, &lock, e);
        if (r < 0)
                return r;
        r = bundles_keep(m, *source, keep, ARRAY_SIZE(keep), &found, &why);
        if (r == -ECANCELED || why.kind == &kind_bundle_incompatible)
                return fail(e, r, why.kind, "%s", why.message ?: error_text(r));
        if (r < 0) {
                log_warning("the bundle of version %s is not kept: %s", v->version, why.message ?: error_text(r));
                return 0;
        }
        free(TAKE_PTR(*source));
        r = bundles_find(m, v->digest, source, e);
        return r < 0 ? r : 1;
}

/* Room for the way back comes before a copy for others, and a copy that has decayed is none. */
static int without_copy(struct step_of_node *s, const struct version_id *v, struct upgrade_options *options, char **source,
                        struct error *e)
{
        struct machine *m = s->c->machine;
        int r = bundles_drop(m, v->digest, e);

        if (r < 0)
                return r;
        free(TAKE_PTR(*source));
        r = bundles_find(m, v->digest, source, e);
        if (r < 0)
                return r;
        options->source = *source;
        return upgrade_prepare(m, options, s->c->observer, e);
}

/* Into the other slot, from whichever controller has it; no shutdown goes on with it. */
static int fetch(struct step_of_node *s, const struct version_id *v, struct error *e)
{
        struct machine *m = s->c->machine;
        _cleanup_free_ char *source = NULL;
        struct upgrade_options options = { .hold = true, .again = true };
        struct error why = {};
        bool kept = false, own;
        int r;

        if (is_installed(m, s->in.slot, v))
                return 0;
        r = bundles_find(m, v->digest, &source, e);
        if (r >= 0)
                r = keep_bundle(s, v, &source, e);
        if (r < 0)
                return r;
        kept = r > 0;
        options.source = source;
        own = is_own_copy(source);
        r = upgrade_prepare(m, &options, s->c->observer, &why);
        if (r >= 0 || !((kept && why.kind == &kind_no_space) || (own && bundles_is_damage(&why)))) {
                *e = why;
                return r;
        }
        error_done(&why);
        return without_copy(s, v, &options, &source, e);
}

static int prepare_rollback(struct step_of_node *s, struct error *e)
{
        const struct cluster_operation *op = &s->told->operation;
        const struct rollback_options options = {};
        struct machine *m = s->c->machine;
        _cleanup_checks_ struct check_list checks = {};
        int r;

        r = check_rollback(m, &options, &checks, e);
        if (r >= 0)
                r = check_list_verdict(&checks, e);
        if (r >= 0 && !holds(m, m->state.set.previous, &op->to))
                return fail(e, -ENOENT, &kind_no_previous,
                            "the previous slot holds version %s, not the cluster's version %s",
                            m->state.set.slots[m->state.set.previous].version, op->to.version);
        return r;
}

static int prepare(struct step_of_node *s, struct error *e)
{
        const struct cluster_operation *op = &s->told->operation;
        _cleanup_error_ struct error why = {};
        struct journal j; /* borrows what is unknown */
        int r;

        r = op->kind == OPERATION_ROLLBACK ? prepare_rollback(s, &why) : fetch(s, &op->to, &why);
        if (r < 0 && will_pass(r, &why)) {
                log_warning("%s", why.message ?: error_text(r));
                s->answer->again = true;
                return 0;
        }
        if (r < 0) {
                vote_no(s, &why);
                return 0;
        }
        s->in.journal = &s->d.journal;
        participant_prepared(&s->in, &j);
        r = save_journal(s->c->machine, &j, e);
        if (r >= 0)
                vote_yes(s);
        return r;
}

static void decline(struct step_of_node *s)
{
        const struct machine *m = s->c->machine;
        _cleanup_error_ struct error why = {};

        fail(&why, -EPERM, &kind_unhealthy, "it runs version %s, not the cluster's version %s: %s",
             m->state.set.slots[s->in.slot].version, s->told->record.running.version, s->d.status.message);
        vote_no(s, &why);
}

/* The gate is asked before a decision. What the controllers were taken back to by hand is older than it, and is followed as
 * they went there: by the local procedure. */
static bool is_below_gate(const struct machine *m, const struct slot *to)
{
        return m->config.rollback_min_version && version_compare(to->version, m->config.rollback_min_version) < 0;
}

static int stage_switch(struct step_of_node *s, struct error *e)
{
        struct machine *m = s->c->machine;
        const struct slot *to = &m->state.set.slots[s->d.slot];
        char id[CLUSTER_ID_TEXT_SIZE];
        struct rollback_options options = { .reason = "the cluster runs a previous version",
                                            .local = is_below_gate(m, to),
                                            .id = id_to_text(s->d.journal.staged, id) };
        struct observer *o = s->c->observer;

        if (to->state == SLOT_INSTALLED)
                return upgrade_release(m, s->d.slot, "the cluster goes on to this version", id, o, e);
        if (s->d.slot == m->state.set.previous && !s->d.way_back)
                return rollback_prepare(m, &options, o, e);
        return activate_for_cluster(m, s->d.slot, s->d.way_back, id, o, e);
}

/* On this machine's clock; 0: at once. */
static uint64_t local_instant(const struct step_of_node *s)
{
        int64_t at = (int64_t)s->d.at - s->c->offset;

        return s->d.at && at > 0 ? (uint64_t)at : 0;
}

/* What it is about to stage is told from what an operator stages by its id, which is journaled first. */
static int name_staged(struct step_of_node *s, struct error *e)
{
        int r;

        if (s->d.action != PARTICIPANT_SWITCH || participant_has_staged(s->in.set, &s->d.journal))
                return 0;
        r = random_id(s->d.journal.staged);
        if (r < 0)
                return fail_errno(e, r, "cannot make an operation id");
        s->d.save = true;
        return 0;
}

/* Whatever the decision is: with it in the way nothing else can be done. */
static int abandon(struct step_of_node *s, struct error *e)
{
        int r;

        if (!s->d.abandon)
                return 0;
        r = operation_give_up(s->c->machine, s->d.journal.staged, "the cluster has decided otherwise since", e);
        if (r < 0)
                s->d.action = PARTICIPANT_NOTHING;
        else
                log_notice("the switch that was staged is given up: the cluster has decided otherwise since");
        return r;
}

/* The journal says `attempted` by now. */
static int make_switch(struct step_of_node *s, struct error *e)
{
        struct machine *m = s->c->machine;
        int r = stage_switch(s, e);

        if (r < 0)
                return r;
        return m->offline ? operation_switch(m, s->c->observer, e) : operation_reboot(m, local_instant(s), e);
}

static int act(struct step_of_node *s, struct error *e)
{
        switch (s->d.action) {
        case PARTICIPANT_PREPARE:
                return prepare(s, e);
        case PARTICIPANT_VOTE:
                vote_yes(s);
                return 0;
        case PARTICIPANT_DECLINE:
                decline(s);
                return 0;
        case PARTICIPANT_SWITCH:
                return make_switch(s, e);
        case PARTICIPANT_FETCH:
                return fetch(s, &s->told->record.running, e);
        case PARTICIPANT_FINALIZE:
                return operation_finalize(s->c->machine, e);
        case PARTICIPANT_REACH:
                /* It may be asked for its vote, or to finalize, in this very view: no newer one needs to come. */
                s->answer->again = true;
                return 0;
        case PARTICIPANT_NOTHING:
        case PARTICIPANT_REFUSED:
        case _PARTICIPANT_ACTION_MAX:
                break;
        }
        return 0;
}

/* Why its shutdown has given the switch up, for who looks at the controllers. */
static void add_reason(struct step_of_node *s, struct member_status *status)
{
        _cleanup_operation_ struct operation op = {};
        _cleanup_free_ char *text = NULL;

        if (operation_current(s->c->machine, &op, NULL) < 0 || op.result != RESULT_FAILED || !op.reason)
                return;
        text = xasprintf("%s: %s; 'bootmgr upgrade clear' there lets it try again", status->message, op.reason);
        if (text)
                put_text(status->message, sizeof(status->message), text);
}

/* Of the machine as it stands after what was done. */
static void say(struct step_of_node *s, const struct error *why)
{
        struct node_answer *a = s->answer;
        struct participant_decision after;

        if (s->d.hears == HEARS_OLD)
                return;
        s->in.journal = &s->d.journal;
        participant_decide(&s->in, &after);
        a->has_status = after.stand != STANDS_NOWHERE;
        a->status = after.status;
        if (after.unmade)
                add_reason(s, &a->status);
        else if (why->message)
                put_error(a->status.message, sizeof(a->status.message), why);
}

/* Its worker was cut off with the machine: the record goes on saying that it runs, until the next operation. */
static void forget_orphan(struct machine *m)
{
        struct slot_set *set = &m->state.set; /* in memory: the next one reads it again */

        if (set->operation_state == OPERATION_RUNNING && set->phase == SWITCH_NONE && !machine_is_locked_by_other(m))
                set->operation_state = OPERATION_ABORTED; /* FAILED would be an attempt that was made */
}

/* Controllers come and go: an engine keeps the list that it was told last, for when all of today's are gone. */
static void keep_controllers(struct machine *m, const struct told *told)
{
        _cleanup_error_ struct error why = {};
        _cleanup_close_ int home = -1;
        _cleanup_free_ char *kept = NULL;

        if (!told->controllers || !told->member || cluster_role(m->data_path) != ROLE_ENGINE)
                return;
        home = cluster_home(m->data_path, false, &why);
        if (home < 0 || (cluster_get(home, "controllers", &kept, &why) >= 0 && streq(kept, told->controllers)))
                return;
        if (cluster_put(home, "controllers", told->controllers, &why) < 0)
                log_warning("%s", why.message ?: "the list of controllers cannot be written");
}

int node_step(const struct node_context *c, const struct told *told, struct node_answer *ret, struct error *e)
{
        _cleanup_journal_ struct journal j = {};
        _cleanup_error_ struct error why = {};
        struct step_of_node s = { .c = c, .told = told, .answer = ret };
        struct machine *m = c->machine;
        int r = load_journal(m, &j, e), given_up;

        if (r < 0)
                return r;
        forget_orphan(m);
        keep_controllers(m, told);
        s.in = (struct participant_input){
                .member = told->member,
                .fenced = told->fenced,
                .asked = told->asked,
                .role = told->role,
                .revision = told->revision,
                .record = &told->record,
                .operation = told->open ? &told->operation : NULL,
                .voted = told->voted,
                .order = told->order,
                .set = &m->state.set,
                .slot = machine_reference_slot(m),
                .journal = &j,
        };
        participant_decide(&s.in, &s.d);
        *ret = (struct node_answer){
                .stand = s.d.stand, .hears = s.d.hears, .action = s.d.action, .newest = MAX(j.reached, j.attempted)
        };
        given_up = abandon(&s, &why);
        r = name_staged(&s, e);
        if (r >= 0 && s.d.save)
                r = save_journal(m, &s.d.journal, e);
        if (r < 0)
                return r;
        r = given_up < 0 ? given_up : act(&s, &why);
        if (r < 0) {
                log_warning("%s: %s", participant_action_to_string(ret->action), why.message ?: error_text(r));
                ret->again = true;
        }
        say(&s, &why);
        return 0;
}

static json_t *embed(enum record_type type, const void *record)
{
        _cleanup_free_ char *text = record_encode(type, record);

        return text ? json_loads(text, 0, NULL) : NULL;
}

json_t *node_answer_to_json(const struct node_answer *a)
{
        char id[CLUSTER_ID_TEXT_SIZE];

        return json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:I, s:b}", "stand", participant_stand_to_string(a->stand), "hears",
                         participant_hears_to_string(a->hears), "action", participant_action_to_string(a->action),
                         "operation", a->has_vote ? json_string(id_to_text(a->operation, id)) : json_null(), "vote",
                         a->has_vote ? embed(RECORD_VOTE, &a->vote) : json_null(), "status",
                         a->has_status ? embed(RECORD_STATUS, &a->status) : json_null(), "newest_epoch",
                         (json_int_t)a->newest, "again", a->again);
}
