/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/cluster.h"

#include <inttypes.h>
#include <signal.h>

#include "base/clock.h"
#include "base/log.h"

#define AGAIN_MIN (500 * USEC_PER_MSEC)
#define AGAIN_MAX (30 * USEC_PER_SEC)
#define SELF_REST (10 * USEC_PER_SEC) /* between looks, as long as it is what it was */
#define SELF_LOOK (2 * USEC_PER_SEC)  /* else */
#define SELF_SEEN 3                   /* times: one that joins anew is no member for a moment */

/* ---- the step ---- */

static int on_again(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct cluster *c = userdata;

        c->again = sd_event_source_disable_unref(c->again);
        cluster_step(c);
        return 0;
}

/* Each time a little later, and not all nodes at the same moment. */
void cluster_step_later(struct cluster *c)
{
        if (c->again)
                return;
        c->wait = c->wait ? MIN(2 * c->wait, AGAIN_MAX) : AGAIN_MIN;
        sd_event_add_time_relative(c->manager->event, &c->again, CLOCK_MONOTONIC,
                                   c->wait / 2 + now_monotonic() % (c->wait / 2), 0, on_again, c);
}

/* A store that was put back from an old copy: nobody who knows a newer epoch hears anything of it, and its controllers wait
 * for them for ever. A controller that lags says so for a moment, too. Once, until it is otherwise. */
static void look_at_epoch(struct cluster *c, const json_t *answer)
{
        uint64_t newest = (uint64_t)json_integer_value(json_object_get(answer, "newest_epoch")),
                 told = c->manager->member.epoch;
        bool before = c->outdated;

        c->outdated = told < newest && streq(json_string_value(json_object_get(answer, "hears")) ?: "", "old");
        if (c->outdated && !before)
                log_warning("the cluster is said to be in epoch %" PRIu64 ", and this node was in epoch %" PRIu64
                            ": it does nothing before that comes. "
                            "Where etcd was put back from a copy, that is too old: a newer one is needed",
                            told, newest);
}

static void on_step_done(int exit_status, const json_t *last, void *userdata)
{
        struct cluster *c = userdata;

        c->stepping = false;
        if (TAKE(c->ended, false) && exit_status != 0)
                exit_status = 0; /* another one is due */
        else if (exit_status != 0)
                log_warning("cluster step: %s",
                            json_string_value(json_object_get(last, "message")) ?: "it ended without a word");
        else
                c->say(c, last);
        if (exit_status == 0 && last)
                look_at_epoch(c, last);
        if (exit_status != 0 || json_is_true(json_object_get(last, "again")))
                cluster_step_later(c);
        else if (!c->link || !json_is_object(json_object_get(last, "status")))
                c->wait = 0; /* else once that is taken */
        if (TAKE(c->pending, false))
                cluster_step(c);
}

void cluster_step(struct cluster *c)
{
        char offset[24], clock_error[24];
        const char *const words[] = { "cluster", "step", "--offset", offset, "--clock-error", clock_error, NULL };
        struct task_spec spec = { .kind = TASK_CHANGE,
                                  .program = c->manager->program,
                                  .words = words,
                                  .pid = &c->step,
                                  .done = on_step_done,
                                  .userdata = c };
        _cleanup_close_ int input = -1;
        int r;

        link_check_key(c);
        if (!c->told || c->stepping) {
                c->pending = c->stepping;
                return;
        }
        snprintf(offset, sizeof(offset), "%" PRId64, c->offset);
        snprintf(clock_error, sizeof(clock_error), "%" PRIu64, c->clock_error);
        spec.input = input = task_input(c->told, strlen(c->told));
        r = input < 0 ? input : task_start(c->manager->event, &spec);
        if (r < 0) {
                log_warning("cannot run %s: %s", spec.program, error_text(r));
                cluster_step_later(c);
                return;
        }
        c->stepping = true;
}

/* What is at work for something else that was told before stops at its next safe place: an install that takes minutes must
 * not keep the node from an operation that is open now. What it wrote is found by the next one. */
void cluster_tell(struct cluster *c, char *line)
{
        _cleanup_json_ json_t *o = json_loads(line, 0, NULL);
        bool same = c->told && told_is_same(line, c->told);

        c->manager->member.epoch = (uint64_t)json_integer_value(json_object_get(json_object_get(o, "cluster"), "epoch"));
        free(c->told);
        c->told = line;
        if (c->stepping && !same) {
                c->ended = true;
                kill(c->step, SIGTERM);
        }
        cluster_step(c);
}

/* ---- what this machine is ---- */

/* Whether what lies there makes it another node than it was at our start, or none. A directory that cannot be looked at says
 * nothing. */
static bool is_another(const struct cluster *c)
{
        _cleanup_close_ int home = cluster_home(c->config->data, false, NULL);
        enum node_role role = home < 0 ? ROLE_STANDALONE : cluster_home_role(home);
        char name[NODE_NAME_SIZE];

        if (home < 0 && home != -ENOENT)
                return false;
        return role != c->role ||
               (role != ROLE_STANDALONE && cluster_name(c->config->data, name, NULL) >= 0 && !streq(name, c->name));
}

/* `node delete` and `node join`, or `cluster init`, with bootmgrd at work all the while. No unit does it: that which starts
 * us for a member has done its part when the machine became one for the first time (bootmgr-member.service). */
static int on_look_at_self(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct cluster *c = userdata;

        c->another = is_another(c) ? c->another + 1 : 0;
        if (c->another >= SELF_SEEN) {
                log_notice("this machine is another node than before, now %s: the next bootmgrd takes that part",
                           node_role_to_string(cluster_role(c->config->data)));
                return sd_event_exit(c->manager->event, EXIT_AGAIN);
        }
        sd_event_source_set_time_relative(source, c->another > 0 ? SELF_LOOK : SELF_REST);
        sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
        return 0;
}

/* ---- the beginning and the end ---- */

static struct cluster *ours; /* there is one: the manager's faces know nobody */

static void on_change(struct manager *m, bool status, bool operation)
{
        if (status)
                cluster_step(ours);
}

static const struct manager_face face = { .changed = on_change };

int cluster_start(struct cluster *c, struct manager *m, const struct config *config, struct error *e)
{
        int r;

        *c = (struct cluster){ .manager = m, .config = config, .role = cluster_role(config->data) };
        c->clock_error = CLOCK_ERROR_UNKNOWN;
        r = sd_event_add_time_relative(m->event, &c->self, CLOCK_MONOTONIC, SELF_REST, USEC_PER_SEC, on_look_at_self, c);
        if (r < 0)
                return fail_errno(e, r, "cannot set a timer");
        if (c->role == ROLE_STANDALONE)
                return 0;
        r = cluster_name(config->data, c->name, e);
        if (r >= 0)
                r = c->role == ROLE_CONTROLLER ? control_start(c, e) : link_start(c, e);
        if (r < 0)
                return r;
        m->member.name = c->name;
        m->member.role = node_role_to_string(c->role);
        ours = c;
        m->faces[2] = &face;
        log_info("%s is a member of its cluster: %s", c->name, node_role_to_string(c->role));
        return 0;
}

void cluster_done(struct cluster *c)
{
        if (ours == c)
                c->manager->faces[2] = NULL;
        control_done(c);
        link_done(c);
        c->again = sd_event_source_disable_unref(c->again);
        c->self = sd_event_source_disable_unref(c->self);
        free(TAKE_PTR(c->told));
}
