/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What bootmgrd knows and does, without any bus: the faces (bus.c, api.c) are thin over it.
 *
 *      methods.c ──▶ manager_run() ──▶ bootmgr --worker …   (task.h)
 *                                         │ an operation a line
 *      bus.c ◀── changed() ◀── manager ◀──┘
 *                                 ▲ bootmgr --json status, show upgrade status
 *                                 └── somebody let go of the lock: a unit, an operator, a worker of the daemon before us
 *
 * The daemon itself reads and writes no disk: all work is done by `bootmgr`, forked, whose output is JSON.
 * So a crash of the work is not a crash of the daemon, the watchdog measures only the loop, and the daemon
 * needs none of the libraries that the work needs. */
#pragma once

#include <jansson.h>
#include <systemd/sd-event.h>

#include "daemon/task.h"

struct manager;

/* Who tells others. */
struct manager_face {
        /* Called when one of the two differs from what it was. At most every 200 ms while work is under way. */
        void (*changed)(struct manager *m, bool status, bool operation);
        /* Called once, when `known` becomes true; may be NULL. */
        void (*looked)(struct manager *m);
};

struct manager {
        sd_event *event;
        const char *program;       /* absolute path of bootmgr */
        const char *run_directory; /* whose files are written by those who begin and end work: the lock is here */
        json_t *status;            /* of `bootmgr status --json`; NULL: not known */
        json_t *operation;         /* of `bootmgr show upgrade status --json`; NULL or null: there never was one */
        json_t *failure;           /* what our last work failed with, as it printed it; NULL: it did not */
        bool known;                /* both were asked for and answered since the start, if only with a failure */
        bool working;              /* long work of ours is under way */
        bool others_work;          /* somebody else took the lock, and was not seen to let go of it */
        unsigned n_readers;        /* tasks that only read, for callers */
        struct {
                const char *name; /* NULL: the machine stands alone */
                const char *role; /* "controller" … */
                uint64_t epoch;   /* as it was told last; 0: it was not */
        } member;

        const struct manager_face *faces[3]; /* NULL: none */

        bool looking; /* manager_look() was called */
        bool refreshing, refresh_again;
        bool unasked;         /* the cluster could not be asked for its operation: to be tried again */
        bool unannounced;     /* the operation changed, and the timer will say so */
        uint64_t last_change; /* monotonic µs of the last announcement of the operation */
        sd_event_source *timer, *poll, *look, *lock, *progress;
};

/* Watches the run directory, and after a moment begins to read what there is. Work that is asked for before that does
 * not wait for it: it reads for itself. */
int manager_start(struct manager *m);
/* Begins to read at once: somebody wants to know. After 10 s without an answer it counts as known that nothing is. */
void manager_look(struct manager *m);
void manager_stop(struct manager *m);

/* What is told of it may be something else now, though nobody here took the lock. */
void manager_refresh(struct manager *m);
/* The same of the operation alone, as often as one likes: it is read at most once a second. */
void manager_progress(struct manager *m);

/* Starts a task for a caller. -EBUSY: a worker is asked for while one of ours is at work. -EUSERS: too many
 * callers read at once. The task's program is filled in here. */
int manager_run(struct manager *m, struct task_spec *spec);
/* To be called by the `done` of every such task; `failure` NULL: it did not fail. */
void manager_ran(struct manager *m, enum task_kind kind, const json_t *failure);
/* What a worker says of its operation, at once. */
void manager_set_operation(struct manager *m, const json_t *operation);

/* Of the operation: the step that is at work, or NULL. */
const json_t *manager_running_step(const struct manager *m);
