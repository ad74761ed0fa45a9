/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A controller: what the store says becomes a view, and over each view somebody decides. All controllers do so at any time;
 * the compares of the transactions see to it that one of them wins. */
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "cluster/request.h"
#include "cluster/told.h"
#include "daemon/cluster.h"
#include "slot/kinds.h"

#define SETTLE_TIME  (5 * USEC_PER_MSEC) /* changes that come together make one view */
#define FOUND_AGAIN  (5 * USEC_PER_SEC)
#define DECIDE_AGAIN (USEC_PER_SEC)
#define STORE_LOOK   (USEC_PER_SEC)
#define STORE_LOST   (10 * USEC_PER_SEC) /* longer than an election, or a start, of etcd takes */

/* ---- writing ---- */

struct cluster_commit {
        struct cluster *cluster;
        struct cluster_commit *next;
        struct plan plan;
        control_made made;
        void *userdata;
};

static void commit_free(struct cluster_commit *commit)
{
        struct cluster_commit **at = &commit->cluster->commits;

        while (*at && *at != commit)
                at = &(*at)->next;
        if (*at)
                *at = commit->next;
        plan_done(&commit->plan);
        free(commit);
}

static void on_committed(int result, const struct store_reply *reply, const struct error *e, void *userdata)
{
        struct cluster_commit *commit = userdata;

        if (result >= 0 && reply->done)
                commit->cluster->written = MAX(commit->cluster->written, reply->revision);
        else if (result >= 0)
                result = -EAGAIN;
        commit->made(commit->cluster, result, e, commit->userdata);
        commit_free(commit);
}

void control_commit(struct cluster *c, struct plan *plan, control_made made, void *userdata)
{
        struct cluster_commit *commit = calloc(1, sizeof(*commit));
        _cleanup_error_ struct error e = {};
        struct store_txn txn;
        int r;

        if (!commit) {
                plan_done(plan);
                made(c, -ENOMEM, &e, userdata);
                return;
        }
        *commit = (struct cluster_commit){ c, c->commits, TAKE(*plan, (struct plan){}), made, userdata };
        c->commits = commit;
        txn = plan_txn(&commit->plan);
        r = store_commit(c->store, &txn, on_committed, commit, NULL, &e);
        if (r >= 0)
                return;
        commit_free(commit);
        made(c, r, &e, userdata);
}

/* ---- deciding ---- */

static void decide(struct cluster *c);

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct cluster *c = userdata;

        c->deadline = sd_event_source_disable_unref(c->deadline);
        decide(c);
        return 0;
}

/* The deadlines are on a clock that may be set: at most a minute is slept through that. */
static void look_again(struct cluster *c, uint64_t in)
{
        c->deadline = sd_event_source_disable_unref(c->deadline);
        sd_event_add_time_relative(c->manager->event, &c->deadline, CLOCK_MONOTONIC, MIN(in, 60 * USEC_PER_SEC), 0,
                                   on_deadline, c);
}

static void on_decided(struct cluster *c, int result, const struct error *e, void *userdata)
{
        c->deciding = false;
        if (result < 0 && result != -EAGAIN)
                log_warning("the store does not take a decision: %s", e->message ?: error_text(result));
        /* What the others or we have written is told by the watch; where nothing was, by this. The watch may have been
         * quicker than the answer: then nobody decides over it but we here. */
        if (result < 0)
                look_again(c, DECIDE_AGAIN);
        else if (c->view.revision >= c->written)
                decide(c);
}

static void decide(struct cluster *c)
{
        _cleanup_error_ struct error e = {};
        _cleanup_plan_ struct plan plan = {};
        uint64_t now = now_realtime(), seen = coordinator_seen(&c->watched, &c->view, now_monotonic()), next;
        enum coordinator_action action;
        int r;

        if (c->deciding || c->view.record_revision == 0 || request_control(&c->view, c->name, NULL) < 0)
                return;
        r = coordinator_decide(&c->view, now, seen, &action, &plan, &e);
        if (r < 0) {
                log_error("no decision can be made: %s", e.message ?: error_text(r));
                look_again(c, DECIDE_AGAIN);
                return;
        }
        if (action == COORDINATOR_NOTHING) {
                next = coordinator_deadline(&c->view, now, seen);
                if (next != UINT64_MAX)
                        look_again(c, next - now + USEC_PER_MSEC);
                return;
        }
        log_notice("the cluster: %s", coordinator_action_to_string(action));
        c->deciding = true;
        control_commit(c, &plan, on_decided, NULL);
}

/* ---- the first record ---- */

static int on_found_again(sd_event_source *source, uint64_t usec, void *userdata);

static void found_later(struct cluster *c)
{
        c->deadline = sd_event_source_disable_unref(c->deadline);
        sd_event_add_time_relative(c->manager->event, &c->deadline, CLOCK_MONOTONIC, FOUND_AGAIN, 0, on_found_again, c);
}

static void on_founded(int exit_status, const json_t *last, void *userdata)
{
        struct cluster *c = userdata;

        c->founding = false;
        if (exit_status == 0)
                return;
        log_warning("the cluster has no first record yet: %s",
                    json_string_value(json_object_get(last, "message")) ?: "no reason was given");
        found_later(c);
}

/* With the version that runs here: this is where `cluster init` was. */
static void found(struct cluster *c)
{
        static const char *const words[] = { "cluster", "found", NULL };
        struct task_spec spec = { .kind = TASK_CHANGE,
                                  .program = c->manager->program,
                                  .words = words,
                                  .input = -1,
                                  .done = on_founded,
                                  .userdata = c };

        if (TAKE(c->founding, true))
                return;
        if (task_start(c->manager->event, &spec) < 0) {
                c->founding = false;
                found_later(c);
        }
}

static int on_found_again(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct cluster *c = userdata;

        if (c->view.record_revision == 0)
                found(c);
        return 0;
}

/* ---- reading ---- */

char *control_line(struct cluster *c, const struct cluster_node *n)
{
        if (!c->of_all)
                c->of_all = told_of_all(&c->view);
        return c->of_all ? told_format(c->of_all, &c->view, n, now_realtime()) : NULL;
}

/* Then its clock is the controllers'. How far those of several are apart nobody measures. */
static bool is_only_controller(const struct cluster *c)
{
        for (size_t i = 0; i < c->view.n_nodes; i++)
                if (node_decides(&c->view.nodes[i]) && !streq(c->view.nodes[i].member.name, c->name))
                        return false;
        return true;
}

static void tell_ourselves(struct cluster *c)
{
        const struct cluster_node *n = cluster_view_node(&c->view, c->name);
        struct told_mark mark = told_mark(&c->view, n);
        char *line;

        if (c->told && told_mark_equal(&mark, &c->mark))
                return;
        line = control_line(c, n);
        if (!line)
                return;
        c->mark = mark;
        c->clock_error = is_only_controller(c) ? 0 : CLOCK_ERROR_UNKNOWN;
        cluster_tell(c, line);
        manager_refresh(c->manager); /* for those who look on: GET /api/events, the bus */
}

static int on_settled(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct cluster *c = userdata;
        uint64_t before = c->view.revision;
        _cleanup_error_ struct error e = {};
        int r;

        c->changed = sd_event_source_disable_unref(c->changed);
        r = replica_update(&c->replica, &c->view, &e);
        if (r < 0) {
                log_error("the cluster's store cannot be read: %s", e.message ?: error_text(r));
                return 0;
        }
        if (c->view.news != c->news)
                free(TAKE_PTR(c->of_all));
        if (c->view.record_revision == 0) {
                found(c);
                return 0;
        }
        /* Thousands of votes are news to nobody. */
        if (c->view.news != c->news)
                nodes_changed(c);
        c->news = c->view.news;
        if (operation_is_open(&c->view) && c->view.revision != before && c->progressed)
                c->progressed(c, c->members_userdata);
        decide(c);
        tell_ourselves(c);
        return 0;
}

static void on_changed(const struct store_change *changes, size_t n, uint64_t revision, bool fresh, void *userdata)
{
        struct cluster *c = userdata;

        if (replica_change(&c->replica, changes, n, revision, fresh) < 0) {
                /* What is known is not the store's any more: nothing may be decided over it. systemd starts us anew. */
                log_error("no memory for what the cluster's store says");
                sd_event_exit(c->manager->event, -ENOMEM);
                return;
        }
        if (!c->changed)
                sd_event_add_time_relative(c->manager->event, &c->changed, CLOCK_MONOTONIC, SETTLE_TIME, 0, on_settled, c);
}

/* What this node said itself may be overtaken, too, by what a process before this one had asked of a store that was stopped.
 */
static void look_at_own_status(struct cluster *c)
{
        const struct cluster_node *n = cluster_view_node(&c->view, c->name);

        if (!c->told || !n || n->status_revision == c->mark.status)
                return;
        c->mark.status = n->status_revision;
        cluster_step(c);
}

/* ---- whether the store is there ---- */

/* A controller that hears nothing of its store tells its nodes nothing new, for as long as that lasts: they ask another. */
static int on_look_at_store(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct cluster *c = userdata;
        bool lost;

        if (store_watch_is_live(c->watch))
                c->heard = now_monotonic();
        lost = now_monotonic() - c->heard >= STORE_LOST;
        if (lost && !c->lost) {
                log_warning("nothing is heard of the cluster's store: nodes are sent to another controller");
                nodes_end(c);
        } else if (!lost && c->lost) {
                log_notice("the cluster's store is heard of again");
        }
        c->lost = lost;
        look_at_own_status(c);
        sd_event_source_set_time_relative(source, STORE_LOOK);
        sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
        return 0;
}

/* ---- this node's own vote and status ---- */

/* What is not known is kept, whoever says it: so there must be an end to it. */
static int check_word(const char *what, const char *value, struct error *e)
{
        if (strlen(value) <= WORD_MAX)
                return 0;
        fail(e, -E2BIG, &kind_too_large, "%s of %zu bytes: one has at most %llu", what, strlen(value),
             (unsigned long long)WORD_MAX);
        return fail_hint(e, "leave out what no controller knows");
}

int plan_vote(struct cluster *c, const char *name, const json_t *o, struct plan *plan, struct error *e)
{
        const char *text = json_string_value(json_object_get(o, "operation"));
        _cleanup_free_ char *value = json_dumps(json_object_get(o, "vote"), JSON_COMPACT);
        uint8_t id[CLUSTER_ID_SIZE];
        struct vote vote;
        int r;

        if (!text || hex_decode(text, id, sizeof(id)) < 0 || !value)
                return fail(e, -EINVAL, &kind_usage, "a vote names its \"operation\" and has a \"vote\"");
        r = record_decode(RECORD_VOTE, value, strlen(value), &vote, e);
        if (r < 0)
                return r;
        r = check_word("a vote", value, e);
        if (r >= 0)
                r = request_vote(&c->view, name, id, &vote, plan, e);
        record_done(RECORD_VOTE, &vote);
        return r;
}

/* Not over a view that does not have yet what was written: that may be another status of the same node. */
static bool is_known(const struct cluster *c, const char *name, const struct member_status *status)
{
        const struct cluster_node *n = cluster_view_node(&c->view, name);
        _cleanup_free_ char *old = NULL, *new = NULL;

        if (!n || !n->has_status || control_is_writing(c) || c->view.revision < c->written)
                return false;
        old = record_encode(RECORD_STATUS, &n->status);
        new = record_encode(RECORD_STATUS, status);
        return old && new &&streq(old, new);
}

int plan_status(struct cluster *c, const char *name, const json_t *o, struct plan *plan, struct error *e)
{
        _cleanup_free_ char *value = json_dumps(json_object_get(o, "status"), JSON_COMPACT);
        struct member_status status;
        int r;

        if (!value)
                return fail(e, -EINVAL, &kind_usage, "there is no \"status\"");
        r = record_decode(RECORD_STATUS, value, strlen(value), &status, e);
        if (r < 0)
                return r;
        r = check_word("a status", value, e);
        if (r >= 0 && !is_known(c, name, &status))
                r = request_status(&c->view, name, &status, plan, e);
        record_done(RECORD_STATUS, &status);
        return r;
}

static void on_said(struct cluster *c, int result, const struct error *e, void *userdata)
{
        if (result < 0)
                cluster_step_later(c);
}

static void say_one(struct cluster *c, const json_t *answer, const char *member, plan_said make)
{
        _cleanup_error_ struct error e = {};
        _cleanup_plan_ struct plan plan = {};
        int r;

        if (!json_is_object(json_object_get(answer, member)))
                return;
        r = make(c, c->name, answer, &plan, &e);
        if (r == -EAGAIN)
                cluster_step_later(c);
        else if (r < 0)
                log_warning("%s: %s", member, e.message ?: "it cannot be said");
        else if (plan.n_writes > 0)
                control_commit(c, &plan, on_said, NULL);
}

static void say(struct cluster *c, const json_t *answer)
{
        say_one(c, answer, "vote", plan_vote);
        say_one(c, answer, "status", plan_status);
}

int control_start(struct cluster *c, struct error *e)
{
        int r = cluster_open_store(c->config->data, c->manager->event, &c->store, e);

        c->say = say;
        if (r >= 0)
                r = store_watch(c->store, KEY_ALL, 0, on_changed, c, &c->watch, e);
        if (r < 0)
                return r;
        c->heard = now_monotonic();
        r = sd_event_add_time_relative(c->manager->event, &c->look, CLOCK_MONOTONIC, STORE_LOOK, 0, on_look_at_store, c);
        return r < 0 ? fail_errno(e, r, "cannot set a timer") : 0;
}

void control_done(struct cluster *c)
{
        c->look = sd_event_source_disable_unref(c->look);
        c->watch = store_watch_end(c->watch);
        c->store = store_close(c->store);
        while (c->commits)
                commit_free(c->commits);
        batch_done(c);
        c->changed = sd_event_source_disable_unref(c->changed);
        c->deadline = sd_event_source_disable_unref(c->deadline);
        free(TAKE_PTR(c->of_all));
        phase_watch_done(&c->watched);
        cluster_view_done(&c->view);
        replica_done(&c->replica);
}
