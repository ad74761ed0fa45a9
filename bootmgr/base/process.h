/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Running other programs: no shell, no inherited descriptors, a deadline, bounded output. */
#pragma once

#include "base/error.h"

struct process_result {
        int exit_status; /* 0-255, or 128 + signal */
        bool timed_out;
        char *output; /* stdout and stderr, interleaved, at most 64 KiB, NUL-terminated; owned */
};

/* Runs argv (NULL-terminated, argv[0] is looked up in PATH) and waits. `timeout_usec` 0: no limit; at
 * the limit the whole process group gets SIGTERM, and SIGKILL when the program has ended or after 5 s. env: extra "K=v"
 * strings or NULL. 0 when it could be started, whatever its exit status. */
int process_run(const char *const *argv, const char *const *env, uint64_t timeout_usec, struct process_result *ret);
void process_result_done(struct process_result *r);
#define _cleanup_process_ _cleanup_(process_result_done)

/* Whether a file of that name lies aside in a directory of what is run: hidden, or a backup ("~"). */
bool process_is_aside(const char *name);
/* Whether what lies under `name` in the directory `dir` is meant to be run: not aside, and an executable file. A warning
 * names what is none; `path` is the directory's, for that. */
bool process_is_meant(int dir, const char *path, const char *name);

/* The last line that says something, for a message: what is not printable is escaped, and it has at most
 * PROCESS_LINE_MAX bytes, so that no program can write to the terminal of whoever reads it, or fill a record with it.
 * "no output" when there is none. Owned by the caller; NULL: no memory. */
#define PROCESS_LINE_MAX 500
char *process_last_line(const char *output);

/* process_run for programs that must succeed: a non-zero status is an error that quotes the last
 * line of output. */
int process_must(const char *const *argv, uint64_t timeout_usec, struct error *e);
