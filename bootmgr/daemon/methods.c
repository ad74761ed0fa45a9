/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/methods.h"

#include "base/buf.h"
#include "daemon/manager.h"
#include "daemon/polkit.h"

#define ERROR_PREFIX "org.bootmgr1.Error."
#define WORDS_MAX    12
#define ACTIONS_MAX  4

/* What a method may need to be allowed. */
#define UPGRADE  "org.bootmgr1.upgrade"
#define ROLLBACK "org.bootmgr1.rollback"
#define REBOOT   "org.bootmgr1.reboot"
#define FORCE    "org.bootmgr1.force"

enum answer {
        ANSWER_NOTHING,
        ANSWER_ID,   /* of the operation, as soon as it is recorded */
        ANSWER_JSON, /* what was printed */
};

enum argument {
        ARGUMENT_NONE,
        ARGUMENT_SOURCE, /* an absolute path or a URL */
        ARGUMENT_FILE,   /* a descriptor: the task's standard input */
        ARGUMENT_SLOT,
};

/* A member of a{sv}, a boolean. */
struct option {
        const char *name, *word, *action; /* action: needed besides, NULL: none */
};

static const struct option upgrade_options[] = {
        { "no-reboot", "--no-reboot" },
        { "automatic", "--automatic" },
        { "no-read-back", "--no-read-back" },
        { "full-speed", "--full-speed" },
        {},
};
static const struct option rollback_options[] = { { "no-reboot", "--no-reboot" }, { "local", "--local", FORCE }, {} };
static const struct option activate_options[] = { { "no-reboot", "--no-reboot" }, {} };

static const struct method {
        const char *name;
        const char *words[4];
        enum argument argument;
        const struct option *options; /* NULL: it has none */
        const char *action;           /* NULL: anyone may */
        bool reboots;                 /* unless it is called with no-reboot */
        enum task_kind kind;
        enum answer answer;
} methods[] = {
        { "Upgrade", { "upgrade", "system" }, ARGUMENT_SOURCE, upgrade_options, UPGRADE, true, TASK_WORK, ANSWER_ID },
        { "UpgradeFile", { "upgrade", "system" }, ARGUMENT_FILE, upgrade_options, UPGRADE, true, TASK_WORK, ANSWER_ID },
        { "Rollback", { "rollback", "system" }, ARGUMENT_NONE, rollback_options, ROLLBACK, true, TASK_WORK, ANSWER_ID },
        { "SlotActivate", { "slot", "activate" }, ARGUMENT_SLOT, activate_options, ROLLBACK, true, TASK_WORK, ANSWER_ID },
        /* It shows what is in configuration files that not everybody may read. */
        { "CheckRollback",
          { "rollback", "system", "--dry-run" },
          .action = ROLLBACK,
          .kind = TASK_READ,
          .answer = ANSWER_JSON },
        { "Abort", { "abort" }, .action = FORCE, .kind = TASK_CHANGE },
        { "Finalize", { "finalize" }, .action = FORCE, .kind = TASK_CHANGE },
        { "ClearRefused", { "upgrade", "clear" }, .action = FORCE, .kind = TASK_CHANGE },
        { "MarkGood", { "slot", "mark-good" }, ARGUMENT_SLOT, .action = FORCE, .kind = TASK_CHANGE },
        { "MarkBad", { "slot", "mark-bad" }, ARGUMENT_SLOT, .action = FORCE, .kind = TASK_CHANGE },
        { "GetStatus", { "status" }, .kind = TASK_READ, .answer = ANSWER_JSON },
        { "GetOperation", { "show", "upgrade", "status" }, .kind = TASK_READ, .answer = ANSWER_JSON },
        { "GetHistory", { "show", "upgrade", "history" }, .kind = TASK_READ, .answer = ANSWER_JSON },
};

/* One call, until its task has ended. */
struct call {
        struct manager *manager;
        const struct method *method;
        sd_bus_message *message; /* strings and the descriptor below are its; NULL: answered */
        const char *words[WORDS_MAX + 1];
        size_t n_words;
        const char *actions[ACTIONS_MAX + 1];
        size_t n_actions;
        int input;
};

static void call_free(struct call *c)
{
        sd_bus_message_unref(c->message);
        free(c);
}

/* --- answering ----------------------------------------------------------------------------------------- */

static void answered(struct call *c)
{
        c->message = sd_bus_message_unref(c->message);
}

/* The kind is the last part of the error's name, in which '-' is not allowed; the hint follows the message on
 * a line of its own. */
static void answer_failure(struct call *c, const json_t *last, int exit_status)
{
        const char *kind = json_string_value(json_object_get(last, "kind")) ?: "failed";
        const char *message = json_string_value(json_object_get(last, "message"));
        const char *hint = json_string_value(json_object_get(last, "hint"));
        _cleanup_free_ char *name = xasprintf(ERROR_PREFIX "%s", kind);

        for (char *p = name; p && *p; p++)
                if (*p == '-')
                        *p = '_';
        if (message)
                sd_bus_reply_method_errorf(c->message, name, "%s%s%s", message, hint ? "\n" : "", hint ?: "");
        else if (exit_status > 128)
                sd_bus_reply_method_errorf(c->message, name, "the process that worked was killed by signal %d",
                                           exit_status - 128);
        else
                sd_bus_reply_method_errorf(c->message, name, "bootmgr ended with status %d and no word", exit_status);
        answered(c);
}

static void answer(struct call *c, const json_t *last)
{
        _cleanup_free_ char *text = NULL;

        switch (c->method->answer) {
        case ANSWER_NOTHING:
                sd_bus_reply_method_return(c->message, NULL);
                break;
        case ANSWER_ID:
                sd_bus_reply_method_return(c->message, "s", json_string_value(json_object_get(last, "id")) ?: "");
                break;
        case ANSWER_JSON:
                text = json_dumps(last, JSON_COMPACT | JSON_ENCODE_ANY);
                sd_bus_reply_method_return(c->message, "s", text ?: "null");
                break;
        }
        answered(c);
}

static void on_line(const json_t *line, void *userdata)
{
        struct call *c = userdata;
        const char *id = json_string_value(json_object_get(line, "id"));

        if (c->method->kind != TASK_WORK)
                return;
        manager_set_operation(c->manager, line);
        if (c->message && id && *id)
                answer(c, line);
}

static void on_done(int exit_status, const json_t *last, void *userdata)
{
        struct call *c = userdata;
        /* A dry run that says no is an answer, too. */
        bool told = exit_status == 0 || json_is_boolean(json_object_get(last, "allowed"));

        if (c->message && told)
                answer(c, last);
        else if (c->message)
                answer_failure(c, last, exit_status);
        manager_ran(c->manager, c->method->kind, exit_status == 0 ? NULL : last);
        call_free(c);
}

static void refuse(struct call *c, const sd_bus_error *error)
{
        sd_bus_reply_method_error(c->message, error);
        call_free(c);
}

static void run_call(const sd_bus_error *refusal, void *userdata)
{
        struct call *c = userdata;
        struct task_spec spec = { .kind = c->method->kind,
                                  .words = c->words,
                                  .input = c->input,
                                  .line = on_line,
                                  .done = on_done,
                                  .userdata = c };
        sd_bus_error error = SD_BUS_ERROR_NULL;
        int r;

        if (refusal) {
                refuse(c, refusal);
                return;
        }
        r = manager_run(c->manager, &spec);
        if (r >= 0)
                return;
        if (r == -EBUSY)
                sd_bus_error_setf(&error, ERROR_PREFIX "operation_in_progress",
                                  "bootmgrd is at work already\n"
                                  "wait for it: 'bootmgr show upgrade status --watch'");
        else if (r == -EUSERS)
                sd_bus_error_setf(&error, SD_BUS_ERROR_LIMITS_EXCEEDED, "too many calls at once: try again");
        else
                sd_bus_error_set_errno(&error, r);
        refuse(c, &error);
        sd_bus_error_free(&error);
}

/* --- understanding ------------------------------------------------------------------------------------- */

static void add_word(struct call *c, const char *word)
{
        if (c->n_words < WORDS_MAX)
                c->words[c->n_words++] = word;
}

static void need(struct call *c, const char *action)
{
        if (action && c->n_actions < ACTIONS_MAX)
                c->actions[c->n_actions++] = action;
}

/* bootmgrd has another working directory than its caller. */
static int check_source(const char *source, sd_bus_error *error)
{
        if (*source == '/' || strstr(source, "://"))
                return 0;
        return sd_bus_error_setf(error, SD_BUS_ERROR_INVALID_ARGS, "'%s' is neither an absolute path nor a URL", source);
}

static int read_argument(struct call *c, const char **word, sd_bus_error *error)
{
        int r = 0;

        switch (c->method->argument) {
        case ARGUMENT_NONE:
                break;
        case ARGUMENT_FILE:
                r = sd_bus_message_read(c->message, "h", &c->input);
                *word = "-";
                break;
        case ARGUMENT_SLOT:
                r = sd_bus_message_read(c->message, "s", word);
                break;
        case ARGUMENT_SOURCE:
                r = sd_bus_message_read(c->message, "s", word);
                if (r >= 0 && *word)
                        r = check_source(*word, error);
                break;
        }
        return r;
}

static int read_option(struct call *c, bool *reboots, sd_bus_error *error)
{
        const struct option *o = c->method->options;
        const char *name;
        int value, r;

        r = sd_bus_message_read(c->message, "s", &name);
        if (r < 0)
                return r;
        while (o->name && !streq(o->name, name))
                o++;
        if (!o->name)
                return sd_bus_error_setf(error, SD_BUS_ERROR_INVALID_ARGS, "%s has no option '%s'", c->method->name, name);
        r = sd_bus_message_read(c->message, "v", "b", &value);
        if (r < 0)
                return sd_bus_error_setf(error, SD_BUS_ERROR_INVALID_ARGS, "the option '%s' takes a boolean", name);
        if (!value)
                return 0;
        add_word(c, o->word);
        need(c, o->action);
        if (streq(name, "no-reboot"))
                *reboots = false;
        return 0;
}

static int read_options(struct call *c, sd_bus_error *error)
{
        bool reboots = c->method->reboots;
        int r;

        if (c->method->options) {
                r = sd_bus_message_enter_container(c->message, 'a', "{sv}");
                while (r >= 0 && (r = sd_bus_message_enter_container(c->message, 'e', "sv")) > 0) {
                        r = read_option(c, &reboots, error);
                        if (r >= 0)
                                r = sd_bus_message_exit_container(c->message);
                }
                if (r < 0)
                        return r;
        }
        need(c, reboots ? REBOOT : NULL);
        return 0;
}

static int read_call(struct call *c, sd_bus_error *error)
{
        const char *argument = NULL;
        int r;

        for (size_t i = 0; c->method->words[i]; i++)
                add_word(c, c->method->words[i]);
        need(c, c->method->action);
        r = read_argument(c, &argument, error);
        if (r >= 0)
                r = read_options(c, error);
        if (r >= 0 && argument) {
                add_word(c, "--");
                add_word(c, argument);
        }
        return r;
}

static const struct method *find_method(const char *name)
{
        for (size_t i = 0; i < ARRAY_SIZE(methods); i++)
                if (streq(methods[i].name, name))
                        return &methods[i];
        return NULL;
}

int handle_method(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        const struct method *method = find_method(sd_bus_message_get_member(message));
        struct call *c = method ? calloc(1, sizeof(*c)) : NULL;
        int r;

        if (!method)
                return sd_bus_error_setf(error, SD_BUS_ERROR_UNKNOWN_METHOD, "no such method");
        if (!c)
                return -ENOMEM;
        *c = (struct call){ .manager = userdata, .method = method, .message = sd_bus_message_ref(message), .input = -1 };
        r = read_call(c, error);
        if (r >= 0)
                r = polkit_check(message, c->actions, run_call, c);
        if (r < 0) {
                call_free(c);
                return r;
        }
        return 1;
}
