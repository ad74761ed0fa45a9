/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/manager.h"

#include <sys/inotify.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/util.h"
#include "cluster/progress.h"
#include "slot/kinds.h"

#define ANNOUNCE_INTERVAL (200 * USEC_PER_MSEC)
#define POLL_INTERVAL     USEC_PER_SEC        /* of work that is not ours: nobody tells us how far it is */
#define MEMBER_INTERVAL   (30 * USEC_PER_SEC) /* the same in a cluster: each look asks a controller or the store */
#define PROGRESS_INTERVAL USEC_PER_SEC        /* there, while nodes say something all the time */
#define READERS_MAX       8                   /* each is a process, and anyone may ask */
#define LOOK_DELAY        USEC_PER_SEC        /* work that we were started for goes first */
#define LOOK_TIMEOUT      (10 * USEC_PER_SEC)

static int start_timer(struct manager *m, sd_event_source **timer, uint64_t delay, sd_event_time_handler_t handler)
{
        *timer = sd_event_source_disable_unref(*timer);
        return sd_event_add_time_relative(m->event, timer, CLOCK_MONOTONIC, delay, 0, handler, m);
}

/* --- telling ------------------------------------------------------------------------------------------- */

static void announce(struct manager *m, bool status, bool operation)
{
        if (operation) {
                m->timer = sd_event_source_disable_unref(m->timer);
                m->unannounced = false;
                m->last_change = now_monotonic();
        }
        for (size_t i = 0; (status || operation) && i < ARRAY_SIZE(m->faces); i++)
                if (m->faces[i])
                        m->faces[i]->changed(m, status, operation);
}

static int on_announce_time(sd_event_source *s, uint64_t usec, void *userdata)
{
        announce(userdata, false, true);
        return 0;
}

/* true: it is another value than before. */
static bool replace(json_t **to, const json_t *value)
{
        bool differs = !json_equal(*to, value);

        json_decref(*to);
        *to = json_incref((json_t *)value);
        return differs;
}

void manager_set_operation(struct manager *m, const json_t *operation)
{
        uint64_t passed = now_monotonic() - m->last_change;

        if (!json_is_string(json_object_get(operation, "operation")))
                return; /* an error or a result, not an operation */
        if (!replace(&m->operation, operation) || m->unannounced)
                return;
        m->unannounced = true;
        if (passed >= ANNOUNCE_INTERVAL || start_timer(m, &m->timer, ANNOUNCE_INTERVAL - passed, on_announce_time) < 0)
                announce(m, false, true);
}

const json_t *manager_running_step(const struct manager *m)
{
        const json_t *steps = json_object_get(m->operation, "steps");

        for (size_t i = 0; i < json_array_size(steps); i++) {
                const json_t *step = json_array_get(steps, i);

                if (streq(json_string_value(json_object_get(step, "state")), "RUNNING"))
                        return step;
        }
        return NULL;
}

/* --- looking ------------------------------------------------------------------------------------------- */

static void refresh_operation(struct manager *m);

static int on_poll_time(sd_event_source *s, uint64_t usec, void *userdata)
{
        struct manager *m = userdata;

        if (!m->working && !m->refreshing)
                refresh_operation(m);
        return 0;
}

static void refresh(struct manager *m);

static void become_known(struct manager *m)
{
        m->look = sd_event_source_disable_unref(m->look);
        if (TAKE(m->known, true))
                return;
        for (size_t i = 0; i < ARRAY_SIZE(m->faces); i++)
                if (m->faces[i] && m->faces[i]->looked)
                        m->faces[i]->looked(m);
}

static void end_refresh(struct manager *m)
{
        m->refreshing = false;
        become_known(m);
        if (TAKE(m->refresh_again, false))
                refresh(m);
        else if (!m->working && (m->others_work || m->unasked || manager_running_step(m)))
                start_timer(m, &m->poll,
                            m->member.name ? MEMBER_INTERVAL / 2 + now_monotonic() % (MEMBER_INTERVAL / 2) : POLL_INTERVAL,
                            on_poll_time);
}

static void on_operation_read(int exit_status, const json_t *last, void *userdata)
{
        struct manager *m = userdata;

        /* What a member did by itself is not what its cluster does: that was told last. */
        m->unasked = json_object_get(last, CLUSTER_UNREACHABLE) ||
                     streq(json_string_value(json_object_get(last, "kind")), kind_store.name);
        /* A worker that began meanwhile knows better, once it has said something. */
        if (exit_status == 0 && !m->unasked && (!m->working || !m->operation))
                announce(m, false, replace(&m->operation, last) || m->unannounced);
        end_refresh(m);
}

static void refresh_operation(struct manager *m)
{
        static const char *const words[] = { "show", "upgrade", "status", NULL };
        struct task_spec spec = {
                .program = m->program, .words = words, .input = -1, .done = on_operation_read, .userdata = m
        };

        m->refreshing = true;
        if (task_start(m->event, &spec) < 0)
                end_refresh(m);
}

static void on_status_read(int exit_status, const json_t *last, void *userdata)
{
        struct manager *m = userdata;

        if (exit_status == 0 && json_is_object(last))
                announce(m, replace(&m->status, last), false);
        else
                log_warning("'%s status' failed with %d: %s", m->program, exit_status,
                            json_string_value(json_object_get(last, "message")) ?: "no reason was given");
        refresh_operation(m);
}

/* Reads both anew, one after the other. Asked again while it is at it, it begins again afterwards. */
static void refresh(struct manager *m)
{
        static const char *const words[] = { "status", NULL };
        struct task_spec spec = {
                .program = m->program, .words = words, .input = -1, .done = on_status_read, .userdata = m
        };
        int r;

        if (m->refreshing) {
                m->refresh_again = true;
                return;
        }
        m->refreshing = true;
        r = task_start(m->event, &spec);
        if (r < 0) {
                log_warning("cannot run %s: %s", m->program, error_text(r));
                end_refresh(m);
        }
}

void manager_refresh(struct manager *m)
{
        if (!m->working) /* its end looks */
                refresh(m);
}

static int on_progress_time(sd_event_source *s, uint64_t usec, void *userdata)
{
        struct manager *m = userdata;

        m->progress = sd_event_source_disable_unref(m->progress);
        if (m->refreshing) /* that may have read it before it was so */
                manager_progress(m);
        else if (!m->working) /* its end looks */
                refresh_operation(m);
        return 0;
}

void manager_progress(struct manager *m)
{
        if (!m->progress)
                start_timer(m, &m->progress, PROGRESS_INTERVAL, on_progress_time);
}

/* The lock is written when work begins and closed when it ends, however it ends. That of our own worker
 * tells nothing new while it runs. */
static int on_lock(sd_event_source *s, const struct inotify_event *event, void *userdata)
{
        struct manager *m = userdata;

        if (m->working)
                return 0;
        m->others_work = event->mask & IN_MODIFY;
        refresh(m);
        return 0;
}

/* A disk that does not answer must not keep us from saying so. */
static int on_look_timeout(sd_event_source *s, uint64_t usec, void *userdata)
{
        become_known(userdata);
        return 0;
}

void manager_look(struct manager *m)
{
        if (m->known || TAKE(m->looking, true))
                return;
        start_timer(m, &m->look, LOOK_TIMEOUT, on_look_timeout);
        if (!m->refreshing)
                refresh(m);
}

static int on_look_time(sd_event_source *s, uint64_t usec, void *userdata)
{
        struct manager *m = userdata;

        if (!m->working) /* its end looks */
                manager_look(m);
        return 0;
}

int manager_start(struct manager *m)
{
        int r = sd_event_add_inotify(m->event, &m->lock, m->run_directory, IN_MODIFY | IN_CLOSE_WRITE | IN_ONLYDIR, on_lock,
                                     m);

        if (r < 0)
                log_warning("%s cannot be watched: what is done without the daemon is seen late: %s", m->run_directory,
                            error_text(r));
        return start_timer(m, &m->look, LOOK_DELAY, on_look_time);
}

void manager_stop(struct manager *m)
{
        m->timer = sd_event_source_disable_unref(m->timer);
        m->poll = sd_event_source_disable_unref(m->poll);
        m->look = sd_event_source_disable_unref(m->look);
        m->progress = sd_event_source_disable_unref(m->progress);
        m->lock = sd_event_source_disable_unref(m->lock);
        json_decref(TAKE_PTR(m->status));
        json_decref(TAKE_PTR(m->operation));
        json_decref(TAKE_PTR(m->failure));
}

/* --- working ------------------------------------------------------------------------------------------- */

int manager_run(struct manager *m, struct task_spec *spec)
{
        int r;

        if (spec->kind == TASK_WORK && m->working)
                return -EBUSY;
        if (spec->kind == TASK_READ && m->n_readers >= READERS_MAX)
                return -EUSERS;
        spec->program = m->program;
        r = task_start(m->event, spec);
        if (r < 0)
                return r;
        if (spec->kind == TASK_WORK) {
                m->working = true;
                json_decref(TAKE_PTR(m->failure));
                announce(m, true, false);
        }
        m->n_readers += spec->kind == TASK_READ;
        return 0;
}

void manager_ran(struct manager *m, enum task_kind kind, const json_t *failure)
{
        if (kind == TASK_READ)
                m->n_readers--;
        if (kind == TASK_WORK) {
                m->working = m->others_work = false;
                m->failure = json_incref((json_t *)failure);
                announce(m, true, false);
        }
        if (kind != TASK_READ)
                refresh(m);
}
