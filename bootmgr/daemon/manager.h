/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What bootmgrd knows and does, without any bus: the faces (bus.c; later http.c) are thin over it.
 *
 * The daemon itself reads and writes no disk: all work is done by `bootmgr`, forked, whose output is JSON.
 * So a crash of the work is not a crash of the daemon, and the watchdog measures only the loop. */
#pragma once

#include <jansson.h>
#include <systemd/sd-event.h>

#include "base/error.h"

struct task;

/* How a task ended: its exit status, and the last JSON value that it printed (borrowed; NULL: none). */
typedef void (*task_done)(struct task *t, int exit_status, const json_t *last, void *userdata);
/* A line it printed, parsed. */
typedef void (*task_line)(struct task *t, const json_t *line, void *userdata);

struct task_spec {
        const char *const *argv; /* after "bootmgr --json"; NULL-terminated */
        bool worker;             /* long work: one JSON operation a line */
        task_line line;          /* may be NULL */
        task_done done;
        void *userdata;
};

struct manager {
        sd_event *event;
        const char *program;     /* absolute path of bootmgr */
        struct task *worker;     /* long work under way, or NULL */
        json_t *status;          /* of `bootmgr status --json`; NULL: not known yet */
        json_t *operation;       /* of `bootmgr show upgrade status --json`; NULL: none */
        struct task *refreshing;
        bool refresh_again;
        uint64_t last_change;    /* monotonic µs of the last announcement */
        void (*changed)(struct manager *m, void *userdata); /* status or operation changed */
        void *userdata;
};

int manager_start(struct manager *m);
void manager_stop(struct manager *m);

/* Runs a task; *ret may be NULL. */
int manager_run(struct manager *m, const struct task_spec *spec, struct task **ret);
/* Reads status and operation anew; changed() is called when they are there. */
void manager_refresh(struct manager *m);
/* What a worker says of its operation, at once. */
void manager_set_operation(struct manager *m, const json_t *operation);
