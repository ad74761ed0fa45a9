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
#include "cluster/progress.h"
#include "slot/kinds.h"

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
        char *unasked;  /* of a member: why the cluster cannot be asked; then it is the machine's. NULL: it is what it should
                           be */
};

static void shown_done(struct shown *s)
{
        operation_done(&s->op);
        json_decref(s->json);
        free(s->laggards);
        free(s->unasked);
}
#define _cleanup_shown_ _cleanup_(shown_done)

/* What came of asking the cluster, with `why`: 1. Where nobody can be asked a node's own is better than nothing: 0, and
 * *ret_unasked. */
static int of_cluster(int result, struct error *why, char **ret_unasked, struct error *e)
{
        if (result == -EHOSTUNREACH || result == -EAGAIN) {
                *ret_unasked = strdup(why->message ?: "no controller answers");
                return *ret_unasked ? 0 : -ENOMEM;
        }
        if (result < 0)
                *e = TAKE(*why, (struct error){});
        return result < 0 ? result : 1;
}

/* There is nothing of its own to be shown instead. */
static int fail_unasked(const char *unasked, struct error *e)
{
        fail(e, -EHOSTUNREACH, &kind_store, "the cluster cannot be asked, and this machine has done nothing yet: %s",
             unasked);
        return fail_hint(e, "ask on a controller, or try again");
}

/* So that nobody takes it for the cluster's. */
static int mark_unasked(json_t *operation, const char *unasked)
{
        return unasked ? json_object_set_new(operation, CLUSTER_UNREACHABLE, json_string(unasked)) : 0;
}

static int load_own(struct machine *m, struct shown *ret, struct error *e)
{
        int r = operation_current(m, &ret->op, e);

        if (r == -ENOENT && ret->unasked && !(e && e->message))
                return fail_unasked(ret->unasked, e);
        if (r >= 0)
                ret->json = operation_to_json(&ret->op);
        return r < 0 || (ret->json && mark_unasked(ret->json, ret->unasked) >= 0) ? r : -ENOMEM;
}

static int load_told(const json_t *told, struct shown *ret, struct error *e)
{
        const char *unasked = json_string_value(json_object_get(told, CLUSTER_UNREACHABLE));
        int r = json_is_null(told) ? -ENOENT : operation_from_json(told, &ret->op, e);

        if (r < 0)
                return r;
        ret->json = json_deep_copy(told);
        ret->unasked = unasked ? strdup(unasked) : NULL;
        return ret->json && (ret->unasked || !unasked) ? 0 : -ENOMEM;
}

/* Opens the machine anew: record and files may have changed. -ENOENT: there never was an operation. */
static int load_current(struct verb_args *args, struct shown *ret, struct error *e)
{
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        _cleanup_error_ struct error why = {};
        _cleanup_json_ json_t *j = NULL;
        int r;

        r = cli_open_machine(args, &m, e);
        if (r < 0) {
                r = remote_read(args, r, "GetOperation", &j, e);
                return r < 0 ? r : load_told(j, ret, e);
        }
        if (is_member(&m)) {
                r = cluster_load_current(&m, &ret->op, &ret->json, &ret->laggards, &why);
                r = of_cluster(r, &why, &ret->unasked, e);
                if (r != 0)
                        return r;
        }
        return load_own(&m, ret, e);
}

static char *shown_text(const struct shown *s, bool utf8)
{
        _cleanup_free_ char *text = operation_text(&s->op, utf8);

        if (text && s->unasked)
                return xasprintf("The cluster cannot be asked (%s).\nThis is what this machine did itself:\n\n%s",
                                 s->unasked, text);
        if (!text || !s->laggards || !*s->laggards)
                return TAKE_PTR(text);
        return xasprintf("%s\nnodes that lag or failed:\n%s", text, s->laggards);
}

static void warn_unasked(const char *unasked)
{
        if (unasked)
                cli_warn("%s: only what this node did is shown", unasked);
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
        warn_unasked(shown.unasked);
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

/* Controllers that switch are away for as long as that takes: no reason to stop, and what this machine did is not it. */
static void await_cluster(const char *unasked, bool *said, size_t *lines)
{
        if (!*said)
                cli_warn("%s: no controller tells of the operation; this goes on until one does, Ctrl-C ends it", unasked);
        *said = true;
        *lines = 0; /* what is drawn next comes below */
        cli_sleep(WATCH_INTERVAL);
}

static int watch(struct verb_args *args, struct bar *bar, struct error *e)
{
        _cleanup_free_ char *last = NULL;
        bool said = false;
        size_t lines = 0;

        while (!*cli_cancelled()) {
                _cleanup_shown_ struct shown shown = {};
                const struct operation *op = &shown.op;
                int r;

                r = load_current(args, &shown, e);
                if (shown.unasked) {
                        if (e)
                                error_done(e);
                        await_cluster(shown.unasked, &said, &lines);
                        continue;
                }
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

/* *ret_list is as it is printed. */
static int load_own_history(struct machine *m, const char *unasked, struct operation **ret, size_t *ret_n, json_t **ret_list,
                            struct error *e)
{
        json_t *one;
        size_t i;
        int r = operation_history(m, ret, ret_n, e);

        if (r < 0)
                return r;
        if (*ret_n == 0 && unasked)
                return fail_unasked(unasked, e);
        warn_unasked(unasked);
        *ret_list = history_to_json(*ret, *ret_n);
        json_array_foreach(*ret_list, i, one)
        {
                if (mark_unasked(one, unasked) < 0)
                        return -ENOMEM;
        }
        return 0;
}

static int load_history(struct verb_args *args, struct operation **ret, size_t *ret_n, json_t **ret_list, struct error *e)
{
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        _cleanup_free_ char *unasked = NULL;
        _cleanup_error_ struct error why = {};
        int r;

        r = cli_open_machine(args, &m, e);
        if (r < 0) {
                r = remote_read(args, r, "GetHistory", ret_list, e);
                r = r < 0 ? r : 1;
        } else if (is_member(&m)) {
                r = of_cluster(cluster_load_history(&m, ret_list, &why), &why, &unasked, e);
        }
        if (r > 0)
                return history_from_json(*ret_list, ret, ret_n, e);
        return r < 0 ? r : load_own_history(&m, unasked, ret, ret_n, ret_list, e);
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
                r = cli_print_json(cli, json_incref(list));
        else if (r >= 0)
                r = print_history(cli, ops, n);
        for (size_t i = 0; i < n; i++)
                operation_done(&ops[i]);
        free(ops);
        return r;
}
