/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One forked `bootmgr`, whose output is JSON.
 *
 * It outlives us: it has a process group of its own, does not mind that nobody reads its output any more, and
 * holds the lock of the operation itself. So killing the daemon stops no work, and killing the work leaves a
 * daemon that tells of it. */
#pragma once

#include <jansson.h>
#include <systemd/sd-event.h>

#include "base/error.h"

enum task_kind {
        TASK_READ,   /* changes nothing: prints one value */
        TASK_CHANGE, /* changes something at once: prints one value */
        TASK_WORK,   /* long work: prints an operation a line */
};

/* A value it printed. */
typedef void (*task_line)(const json_t *line, void *userdata);
/* It ended: its exit status (128 + signal when killed), and the last JSON value that it printed (borrowed;
 * NULL: none). Called once; the task is gone afterwards. */
typedef void (*task_done)(int exit_status, const json_t *last, void *userdata);

struct task_spec {
        enum task_kind kind;
        const char *program;      /* absolute path of bootmgr */
        const char *const *words; /* after "bootmgr --json"; NULL-terminated */
        int input;                /* its standard input; -1: /dev/null. Borrowed */
        pid_t *pid;               /* its process, until it has ended; may be NULL */
        task_line line;           /* may be NULL */
        task_done done;
        void *userdata;
};

/* What it is to read from its standard input: a descriptor, the caller's, or -errno. */
int task_input(const void *data, size_t size);
int task_start(sd_event *event, const struct task_spec *spec);
