/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* show upgrade status and history. */
#include <sys/ioctl.h>

#include "base/buf.h"
#include "base/clock.h"
#include "cli/bar.h"
#include "cli/cli.h"
#include "cli/cluster.h"
#include "cli/remote.h"
#include "cli/table.h"
#include "cli/verbs.h"

#define WATCH_INTERVAL (500 * USEC_PER_MSEC)
#define STEP_BAR_WIDTH 10
#define WIDE           120 /* columns, for the times of the steps beside their messages */

static const struct column step_columns[] = {
        { "STEP" },
        { "STATE" },
        { "PROGRESS" },
        { "START" },
        { "END" },
        { "SECONDS", COLUMN_RIGHT },
        { "MESSAGE", COLUMN_WRAP },
};

static const struct column history_columns[] = {
        { "START" },
        { "OPERATION" },
        { "FROM" },
        { "TO" },
        { "STATE" },
        { "SECONDS", COLUMN_RIGHT },
        { "REASON", COLUMN_WRAP },
};

static void set_time(struct table *t, size_t column, uint64_t usec)
{
        char text[TIME_TEXT_SIZE];

        if (usec == 0)
                return;
        format_time(usec, text);
        table_set(t, column, text);
}

static void set_seconds(struct table *t, size_t column, uint64_t start, uint64_t end)
{
        if (start > 0 && end >= start)
                table_setf(t, column, "%.3f", (double)(end - start) / USEC_PER_SEC);
}

/* 0: not a terminal, or one that does not say. */
static struct winsize terminal_size(void)
{
        struct winsize size = {};

        if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0)
                size = (struct winsize){};
        return size;
}

static void add_step(struct table *t, const struct step_record *s, bool utf8)
{
        bool narrow = terminal_size().ws_col > 0 && terminal_size().ws_col < WIDE;
        char bar[8 * STEP_BAR_WIDTH];

        table_row(t);
        table_set(t, 0, s->name);
        table_set(t, 1, step_state_to_string(s->state));
        if (s->state == STEP_RUNNING || s->state == STEP_DONE || s->progress > 0) {
                bar_render(bar, sizeof(bar), s->progress, STEP_BAR_WIDTH, utf8);
                table_set(t, 2, bar);
        }
        set_time(t, 3, narrow ? 0 : s->start);
        set_time(t, 4, narrow ? 0 : s->end);
        set_seconds(t, 5, s->start, s->end);
        table_set(t, 6, s->message);
}

/* "UPGRADE 1 -> 2  IN_PROGRESS  40 %  goes on at the next shutdown" and the steps. */
static char *operation_text(const struct operation *op, bool utf8)
{
        _cleanup_table_ struct table *t = table_new(step_columns, ARRAY_SIZE(step_columns));
        _cleanup_buf_ struct buf b = {};
        _cleanup_free_ char *steps = NULL;

        if (!t)
                return NULL;
        for (size_t i = 0; i < op->n_steps; i++)
                add_step(t, &op->steps[i], utf8);
        steps = table_text(t);
        if (!steps)
                return NULL;
        buf_printf(&b, "%s %s -> %s  %s  %u %%%s%s\n", operation_kind_to_string(op->kind),
                   *op->from_version ? op->from_version : "(nothing)", *op->to_version ? op->to_version : "(unknown)",
                   operation_result_to_string(op->result), operation_progress(op), op->automatic ? "  automatic" : "",
                   op->staged ? "  goes on at the next shutdown" : "");
        if (op->reason && op->automatic && op->kind == OPERATION_ROLLBACK)
                buf_printf(&b, "version %s FAILED: ", op->from_version);
        if (op->reason)
                buf_printf(&b, "%s\n", op->reason);
        buf_printf(&b, "\n%s", steps);
        return buf_take(&b);
}

/* What is shown: the machine's newest operation, or its cluster's. */
struct shown {
        struct operation op;
        json_t *json;
        char *laggards; /* of a cluster: who lags or failed; NULL: it is the machine's */
};

static void shown_done(struct shown *s)
{
        operation_done(&s->op);
        json_decref(s->json);
        free(s->laggards);
}
#define _cleanup_shown_ _cleanup_(shown_done)

/* What came of asking the cluster, with `why`: 1. Where nobody can be asked a node's own is better than nothing: 0. */
static int of_cluster(int result, struct error *why, struct error *e)
{
        if (result == -EHOSTUNREACH || result == -EAGAIN) {
                cli_warn("%s: only what this node did is shown", why->message ?: "no controller answers");
                return 0;
        }
        if (result < 0)
                *e = TAKE(*why, (struct error){});
        return result < 0 ? result : 1;
}

/* Opens the machine anew: record and files may have changed. -ENOENT: there never was an operation. */
static int load_current(struct verb_args *args, struct shown *ret, struct error *e)
{
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        _cleanup_error_ struct error why = {};
        _cleanup_json_ json_t *j = NULL;
        int r;

        r = cli_open_machine(args, &m, e);
        if (r >= 0 && is_member(&m)) {
                r = of_cluster(cluster_load_current(&m, &ret->op, &ret->json, &ret->laggards, &why), &why, e);
                if (r != 0)
                        return r;
        }
        if (r >= 0) {
                r = operation_current(&m, &ret->op, e);
        } else {
                r = remote_read(args, r, "GetOperation", &j, e);
                if (r >= 0)
                        r = json_is_null(j) ? -ENOENT : operation_from_json(j, &ret->op, e);
        }
        if (r >= 0)
                ret->json = operation_to_json(&ret->op);
        return r < 0 || ret->json ? r : -ENOMEM;
}

static char *shown_text(const struct shown *s, bool utf8)
{
        _cleanup_free_ char *text = operation_text(&s->op, utf8);

        if (!text || !s->laggards || !*s->laggards)
                return TAKE_PTR(text);
        return xasprintf("%s\nnodes that lag or failed:\n%s", text, s->laggards);
}

static int show_once(struct verb_args *args, const struct bar *bar, struct error *e)
{
        _cleanup_shown_ struct shown shown = {};
        _cleanup_free_ char *text = NULL;
        int r;

        r = load_current(args, &shown, e);
        if (r == -ENOENT && !e->message) {
                cli_say(bar->cli, "there was no operation yet");
                return bar->cli->json ? cli_print_json(bar->cli, json_null()) : 0;
        }
        if (r < 0)
                return r;
        if (bar->cli->json)
                return cli_print_json(bar->cli, json_incref(shown.json));
        text = shown_text(&shown, bar->utf8);
        if (!text)
                return -ENOMEM;
        fputs(text, stdout);
        return 0;
}

/* As many lines as there is room for; how many that were. */
static size_t print_lines(const char *text)
{
        size_t n = 0, rows = terminal_size().ws_row, length;

        for (; *text && (rows == 0 || n + 1 < rows); n++, text += length + (text[length] == '\n')) {
                length = strcspn(text, "\n");
                printf("%.*s\n", (int)length, text);
        }
        return n;
}

/* Draws over what was drawn before. */
static int redraw(const struct shown *shown, bool utf8, size_t *lines)
{
        _cleanup_free_ char *text = shown_text(shown, utf8);

        if (!text)
                return -ENOMEM;
        if (*lines > 0)
                printf("\033[%zuA\033[J", *lines);
        printf("\033[?7l"); /* no wrapping: a line that does not fit is cut by the terminal */
        *lines = print_lines(text);
        printf("\033[?7h");
        fflush(stdout);
        return 0;
}

/* One JSON object a line, at every change. */
static int print_change(const struct shown *shown, char **last)
{
        char *text = json_dumps(shown->json, 0);

        if (!text)
                return -ENOMEM;
        if (!streq(text, *last))
                puts(text);
        fflush(stdout);
        free(*last);
        *last = text;
        return 0;
}

static int watch(struct verb_args *args, struct bar *bar, struct error *e)
{
        _cleanup_free_ char *last = NULL;
        size_t lines = 0;

        while (!*cli_cancelled()) {
                _cleanup_shown_ struct shown shown = {};
                const struct operation *op = &shown.op;
                int r;

                r = load_current(args, &shown, e);
                if (r == -ENOENT && !e->message) {
                        cli_say(bar->cli, "there was no operation yet");
                        return bar->cli->json ? cli_print_json(bar->cli, json_null()) : 0;
                }
                if (r >= 0 && bar->cli->json)
                        r = print_change(&shown, &last);
                else if (r >= 0 && bar->terminal)
                        r = redraw(&shown, bar->utf8, &lines);
                else if (r >= 0)
                        bar_show(bar, op);
                if (r < 0)
                        return r;
                if (op->result != RESULT_IN_PROGRESS) {
                        if (!bar->terminal)
                                cli_say(bar->cli, "%s%s%s", operation_result_to_string(op->result), op->reason ? ": " : "",
                                        op->reason ?: "");
                        return 0;
                }
                cli_sleep(WATCH_INTERVAL);
        }
        cli_forget_cancel(); /* Ctrl-C is how one stops watching: no failure */
        return 0;
}

int verb_show_status(struct verb_args *args, struct error *e)
{
        _cleanup_bar_ struct bar bar;

        bar_init(&bar, cli_from(args));
        bar.since = 0;
        return verb_has(args, "watch") ? watch(args, &bar, e) : show_once(args, &bar, e);
}

/* What is not seen from the result: an upgrade whose image was never read back from the device. */
static const char *remark(const struct operation *op)
{
        for (size_t i = 0; i < op->n_steps; i++)
                if (streq(op->steps[i].name, "VERIFY_IMAGE") && op->steps[i].state == STEP_SKIPPED && op->steps[i].start > 0)
                        return "not read back";
        return NULL;
}

static int print_history(const struct cli *cli, const struct operation *ops, size_t n)
{
        _cleanup_table_ struct table *t = table_new(history_columns, ARRAY_SIZE(history_columns));

        if (!t)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                table_row(t);
                set_time(t, 0, ops[i].start);
                table_setf(t, 1, "%s%s", operation_kind_to_string(ops[i].kind), ops[i].automatic ? " (automatic)" : "");
                table_set(t, 2, ops[i].from_version);
                table_set(t, 3, ops[i].to_version);
                table_set(t, 4, operation_result_to_string(ops[i].result));
                set_seconds(t, 5, ops[i].start, ops[i].end);
                table_set(t, 6, ops[i].reason ?: remark(&ops[i]));
        }
        if (n == 0)
                cli_say(cli, "there was no operation yet");
        return table_print(t);
}

static json_t *history_to_json(const struct operation *ops, size_t n)
{
        json_t *list = json_array();

        for (size_t i = 0; i < n; i++)
                json_array_append_new(list, operation_to_json(&ops[i]));
        return list;
}

static int history_from_json(const json_t *list, struct operation **ret, size_t *ret_n, struct error *e)
{
        struct operation *ops = calloc(MAX(json_array_size(list), 1U), sizeof(*ops));
        size_t n = 0;
        int r = ops ? 0 : -ENOMEM;

        for (; r >= 0 && n < json_array_size(list); n += r >= 0)
                r = operation_from_json(json_array_get(list, n), &ops[n], e);
        *ret = ops;
        *ret_n = n;
        return r;
}

/* *ret_list: as it is printed, where it was told so; else NULL. */
static int load_history(struct verb_args *args, struct operation **ret, size_t *ret_n, json_t **ret_list, struct error *e)
{
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        _cleanup_error_ struct error why = {};
        int r;

        r = cli_open_machine(args, &m, e);
        if (r < 0) {
                r = remote_read(args, r, "GetHistory", ret_list, e);
                r = r < 0 ? r : 1;
        } else if (is_member(&m)) {
                r = of_cluster(cluster_load_history(&m, ret_list, &why), &why, e);
        }
        if (r > 0)
                return history_from_json(*ret_list, ret, ret_n, e);
        return r < 0 ? r : operation_history(&m, ret, ret_n, e);
}

int verb_show_history(struct verb_args *args, struct error *e)
{
        struct cli *cli = cli_from(args);
        _cleanup_json_ json_t *list = NULL;
        struct operation *ops = NULL;
        size_t n = 0;
        int r;

        r = load_history(args, &ops, &n, &list, e);
        if (r >= 0 && cli->json)
                r = cli_print_json(cli, list ? json_incref(list) : history_to_json(ops, n));
        else if (r >= 0)
                r = print_history(cli, ops, n);
        for (size_t i = 0; i < n; i++)
                operation_done(&ops[i]);
        free(ops);
        return r;
}
