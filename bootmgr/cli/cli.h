/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the verbs share. A verb only parses, calls and prints: what is done lies in the layers below.
 *
 *      main.c      options, dispatch, errors          table.c    tables (libsmartcols)
 *      verbs.c     the verb table                     bar.c      progress: a bar, or plain lines
 *      verb_*.c    the verbs, one file per noun       shell.c    the prompt (libedit)
 *                                                     remote.c   handing long work to bootmgrd
 */
#pragma once

#include "base/json.h"
#include "base/text.h"
#include "base/verb.h"
#include "operation/run.h"

/* One invocation of the program, or one line of the shell. */
struct cli {
        bool json, quiet, worker;
        bool printed;   /* the verb has shown its failure itself; only the exit status is left */
        json_t *checks; /* of a refusal, shown with the error; owned; NULL: none */
        int status;     /* the exit status of a verb that did not fail itself; of the shell: its last line's */
        int n_global;   /* the options that the shell was started with: they hold for each of its lines */
        char **global;  /* borrowed */
};

/* What the verb was called with; brings json, quiet and worker up to date. */
struct cli *cli_from(struct verb_args *args);

/* Whether any of --disk --esp --data --config --cmdline was given: then bootmgrd, which knows only its own
 * machine, is not asked. */
bool cli_names_machine(const struct verb_args *args);

/* machine_open() with the global options. */
int cli_open_machine(struct verb_args *args, struct machine *ret, struct error *e);

/* A slot by its name: kind_usage for anything else. */
int cli_slot(const char *name, int *ret, struct error *e);

/* A plain line on stdout; nothing with --json or --quiet. */
void cli_say(const struct cli *cli, const char *fmt, ...) _printf_(2, 3);
/* Something that must be known whatever was asked for: on stderr. */
void cli_warn(const char *fmt, ...) _printf_(1, 2);

/* Prints and frees `j` (NULL: out of memory): one line with --worker, else indented. 0 or -errno. */
int cli_print_json(const struct cli *cli, json_t *j);
/* With --json {"result":"done"} and nothing else; else the line. */
int cli_done(const struct cli *cli, const char *fmt, ...) _printf_(2, 3);

/* {"kind","message","checks","hint"} for a failure. `checks` (may be NULL) is borrowed. */
json_t *error_to_json(const struct error *e, json_t *checks);
/* The failure as a user reads it: JSON on stdout, or text on stderr. */
void cli_report(struct cli *cli, struct error *e, int code);

/* Runs one command line, words[0] being the program: dispatch and report. Returns the exit status. */
int cli_run(struct cli *cli, int argc, char **argv);

/* Set by SIGINT and SIGTERM; work in progress stops at its next safe place. */
const volatile bool *cli_cancelled(void);
void cli_forget_cancel(void);
/* Sleeps, not longer than until a signal comes. */
void cli_sleep(uint64_t usec);
