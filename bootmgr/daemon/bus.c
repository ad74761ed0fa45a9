/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/bus.h"

#include <ctype.h>

#include "base/buf.h"
#include "daemon/polkit.h"

#define NAME "org.bootmgr1"
#define PATH "/org/bootmgr1"
#define OPERATION_PATH "/org/bootmgr1/operation"
#define MANAGER_INTERFACE "org.bootmgr1.Manager"
#define OPERATION_INTERFACE "org.bootmgr1.Operation"
#define ERROR_PREFIX "org.bootmgr1.Error."
#define WORDS_MAX 16

static sd_bus *published; /* where changes are announced: there is one bus */

/* --- methods: each becomes words for `bootmgr` ------------------------------------------------------------ */

/* One call that waits for a task. */
struct call {
        struct manager *manager;
        sd_bus_message *message; /* NULL: answered */
        bool wants_id;           /* answered with the operation's id as soon as it is known */
};

static void answer_error(struct call *c, const json_t *last, int exit_status)
{
        const char *kind = json_string_value(json_object_get(last, "kind")) ?: "failed";
        const char *message = json_string_value(json_object_get(last, "message"));
        const char *hint = json_string_value(json_object_get(last, "hint"));
        _cleanup_free_ char *name = xasprintf(ERROR_PREFIX "%s", kind);

        /* The names of D-Bus errors may not hold a '-'. */
        for (char *p = name; p && *p; p++)
                if (*p == '-')
                        *p = '_';
        if (message)
                sd_bus_reply_method_errorf(c->message, name, "%s%s%s", message, hint ? "\n" : "", hint ?: "");
        else
                sd_bus_reply_method_errorf(c->message, name, "bootmgr ended with status %d", exit_status);
        c->message = sd_bus_message_unref(c->message);
}

static void on_line(struct task *t, const json_t *line, void *userdata)
{
        struct call *c = userdata;
        const char *id = json_string_value(json_object_get(line, "id"));

        manager_set_operation(c->manager, line);
        if (c->message && c->wants_id && id && *id) {
                sd_bus_reply_method_return(c->message, "s", id);
                c->message = sd_bus_message_unref(c->message);
        }
}

static void on_done(struct task *t, int exit_status, const json_t *last, void *userdata)
{
        struct call *c = userdata;

        if (c->message && exit_status != 0) {
                answer_error(c, last, exit_status);
        } else if (c->message) {
                sd_bus_reply_method_return(c->message, c->wants_id ? "s" : NULL, json_string_value(json_object_get(last, "id")) ?: "");
                c->message = sd_bus_message_unref(c->message);
        }
        manager_refresh(c->manager);
        free(c);
}

static int run_words(struct manager *m, sd_bus_message *message, const char *const *words, bool worker, sd_bus_error *error)
{
        struct call *c;
        struct task_spec spec = { .argv = words, .worker = worker, .line = worker ? on_line : NULL, .done = on_done };
        int r;

        if (worker && m->worker)
                return sd_bus_error_setf(error, ERROR_PREFIX "operation_in_progress", "another operation is at work");
        c = calloc(1, sizeof(*c));
        if (!c)
                return -ENOMEM;
        *c = (struct call){ .manager = m, .message = sd_bus_message_ref(message), .wants_id = worker };
        spec.userdata = c;
        r = manager_run(m, &spec, NULL);
        if (r < 0) {
                sd_bus_message_unref(c->message);
                free(c);
                return r;
        }
        return 1;
}

/* a{sv} of booleans: each true one becomes a word. Unknown ones are refused. */
static int read_options(sd_bus_message *message, const char *const *known, const char **words, size_t *n, sd_bus_error *error)
{
        int r = sd_bus_message_enter_container(message, 'a', "{sv}");

        while (r >= 0 && (r = sd_bus_message_enter_container(message, 'e', "sv")) > 0) {
                const char *name;
                size_t i = 0;
                int value;

                r = sd_bus_message_read(message, "s", &name);
                if (r < 0)
                        return r;
                while (known[i] && !streq(known[i] + 2, name))
                        i++;
                if (!known[i])
                        return sd_bus_error_setf(error, SD_BUS_ERROR_INVALID_ARGS, "the option '%s' is not known", name);
                r = sd_bus_message_read(message, "v", "b", &value);
                if (r < 0)
                        return r;
                if (value)
                        words[(*n)++] = known[i];
                r = sd_bus_message_exit_container(message);
        }
        return r < 0 ? r : sd_bus_message_exit_container(message);
}

/* Methods run again from the start once polkit has said yes, so the message is rewound. */
static int do_upgrade(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        static const char *const known[] = { "--no-reboot", "--automatic", NULL };
        const char *words[WORDS_MAX] = { "upgrade", "system" }, *source;
        size_t n = 2;
        int r;

        sd_bus_message_rewind(message, 1);
        r = sd_bus_message_read(message, "s", &source);
        if (r >= 0)
                r = read_options(message, known, words, &n, error);
        if (r < 0)
                return r;
        words[n++] = "--";
        words[n++] = source;
        return run_words(userdata, message, words, true, error);
}

static int do_rollback(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        static const char *const known[] = { "--no-reboot", "--local", NULL };
        const char *words[WORDS_MAX] = { "rollback", "system" };
        size_t n = 2;
        int r;

        sd_bus_message_rewind(message, 1);
        r = read_options(message, known, words, &n, error);
        return r < 0 ? r : run_words(userdata, message, words, true, error);
}

static int do_slot_activate(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        static const char *const known[] = { "--no-reboot", NULL };
        const char *words[WORDS_MAX] = { "slot", "activate" }, *slot;
        size_t n = 2;
        int r;

        sd_bus_message_rewind(message, 1);
        r = sd_bus_message_read(message, "s", &slot);
        if (r >= 0)
                r = read_options(message, known, words, &n, error);
        if (r < 0)
                return r;
        words[n++] = "--";
        words[n++] = slot;
        return run_words(userdata, message, words, true, error);
}

static int do_simple(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        static const struct {
                const char *member, *words[3];
                bool slot;
        } methods[] = {
                { "Abort", { "abort" }, false },
                { "Finalize", { "finalize" }, false },
                { "ClearRefused", { "upgrade", "clear" }, false },
                { "MarkGood", { "slot", "mark-good" }, true },
                { "MarkBad", { "slot", "mark-bad" }, true },
        };

        for (size_t i = 0; i < ARRAY_SIZE(methods); i++) {
                const char *words[WORDS_MAX] = {}, *slot = NULL;
                size_t n = 0;

                if (!streq(methods[i].member, sd_bus_message_get_member(message)))
                        continue;
                for (; methods[i].words[n]; n++)
                        words[n] = methods[i].words[n];
                if (methods[i].slot) {
                        int r;

                        sd_bus_message_rewind(message, 1);
                        r = sd_bus_message_read(message, "s", &slot);
                        if (r < 0)
                                return r;
                        words[n++] = "--";
                        words[n++] = slot;
                }
                return run_words(userdata, message, words, false, error);
        }
        return sd_bus_error_setf(error, SD_BUS_ERROR_UNKNOWN_METHOD, "no such method");
}

static int method_upgrade(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        return polkit_check(message, "org.bootmgr1.upgrade", do_upgrade, userdata, error);
}

static int method_rollback(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        return polkit_check(message, "org.bootmgr1.rollback", do_rollback, userdata, error);
}

static int method_slot_activate(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        return polkit_check(message, "org.bootmgr1.reboot", do_slot_activate, userdata, error);
}

static int method_force(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        return polkit_check(message, "org.bootmgr1.force", do_simple, userdata, error);
}

static char *dump(const json_t *j)
{
        return j ? json_dumps(j, JSON_COMPACT) : strdup("null");
}

/* The newest status: read for this caller, since somebody may have worked without the daemon. */
static void on_fresh(struct task *t, int exit_status, const json_t *last, void *userdata)
{
        struct call *c = userdata;
        _cleanup_free_ char *text = dump(last);

        if (exit_status != 0) {
                answer_error(c, last, exit_status);
        } else {
                sd_bus_reply_method_return(c->message, "s", text ?: "null");
                sd_bus_message_unref(c->message);
        }
        free(c);
}

static int method_read(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        static const char *const status[] = { "status", NULL }, *const history[] = { "show", "upgrade", "history", NULL };
        struct call *c = calloc(1, sizeof(*c));
        struct task_spec spec = { .done = on_fresh, .userdata = c };
        int r;

        if (!c)
                return -ENOMEM;
        *c = (struct call){ .manager = userdata, .message = sd_bus_message_ref(message) };
        spec.argv = streq(sd_bus_message_get_member(message), "GetHistory") ? history : status;
        r = manager_run(userdata, &spec, NULL);
        if (r < 0) {
                sd_bus_message_unref(c->message);
                free(c);
                return r;
        }
        return 1;
}

/* --- properties: from what was read last ------------------------------------------------------------------ */

static int get_json(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply, void *userdata,
                    sd_bus_error *error)
{
        struct manager *m = userdata;
        _cleanup_free_ char *text = dump(streq(property, "StatusJSON") ? m->status : m->operation);

        return sd_bus_message_append(reply, "s", text ?: "null");
}

static int get_slot(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply, void *userdata,
                    sd_bus_error *error)
{
        struct manager *m = userdata;
        char name[16];

        snprintf(name, sizeof(name), "%s", property);
        name[0] = (char)tolower((unsigned char)name[0]);
        return sd_bus_message_append(reply, "s", json_string_value(json_object_get(m->status, name)) ?: "");
}

static int get_generation(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply, void *userdata,
                          sd_bus_error *error)
{
        struct manager *m = userdata;

        return sd_bus_message_append(reply, "t", (uint64_t)json_integer_value(json_object_get(m->status, "generation")));
}

static int get_version(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply, void *userdata,
                       sd_bus_error *error)
{
        return sd_bus_message_append(reply, "s", BOOTMGR_VERSION);
}

static const char *text_of(const json_t *o, const char *name)
{
        return json_string_value(json_object_get(o, name)) ?: "";
}

static int get_operation_text(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
                              void *userdata, sd_bus_error *error)
{
        static const struct {
                const char *property, *member;
        } names[] = {
                { "Id", "id" },           { "Kind", "operation" }, { "State", "state" }, { "Reason", "reason" }, { "FromVersion", "from_version" },
                { "ToVersion", "to_version" },
        };
        struct manager *m = userdata;

        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                if (streq(property, names[i].property))
                        return sd_bus_message_append(reply, "s", text_of(m->operation, names[i].member));
        return -ENOENT;
}

static int get_progress(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply, void *userdata,
                        sd_bus_error *error)
{
        struct manager *m = userdata;

        return sd_bus_message_append(reply, "u", (uint32_t)json_integer_value(json_object_get(m->operation, "progress")));
}

static int get_steps(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply, void *userdata,
                     sd_bus_error *error)
{
        struct manager *m = userdata;
        const json_t *steps = json_object_get(m->operation, "steps");
        int r = sd_bus_message_open_container(reply, 'a', "(ssusss)");

        for (size_t i = 0; r >= 0 && i < json_array_size(steps); i++) {
                const json_t *s = json_array_get(steps, i);

                r = sd_bus_message_append(reply, "(ssusss)", text_of(s, "name"), text_of(s, "state"),
                                          (uint32_t)json_integer_value(json_object_get(s, "progress")), text_of(s, "start"),
                                          text_of(s, "end"), text_of(s, "message"));
        }
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

#define ANYONE SD_BUS_VTABLE_UNPRIVILEGED
#define EMITS SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE
static const sd_bus_vtable manager_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("Upgrade", "sa{sv}", "s", method_upgrade, ANYONE),
        SD_BUS_METHOD("Rollback", "a{sv}", "s", method_rollback, ANYONE),
        SD_BUS_METHOD("SlotActivate", "sa{sv}", "s", method_slot_activate, ANYONE),
        SD_BUS_METHOD("Abort", NULL, NULL, method_force, ANYONE),
        SD_BUS_METHOD("Finalize", NULL, NULL, method_force, ANYONE),
        SD_BUS_METHOD("ClearRefused", NULL, NULL, method_force, ANYONE),
        SD_BUS_METHOD("MarkGood", "s", NULL, method_force, ANYONE),
        SD_BUS_METHOD("MarkBad", "s", NULL, method_force, ANYONE),
        SD_BUS_METHOD("GetStatus", NULL, "s", method_read, ANYONE),
        SD_BUS_METHOD("GetHistory", NULL, "s", method_read, ANYONE),
        SD_BUS_PROPERTY("Version", "s", get_version, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Booted", "s", get_slot, 0, EMITS),
        SD_BUS_PROPERTY("Next", "s", get_slot, 0, EMITS),
        SD_BUS_PROPERTY("Previous", "s", get_slot, 0, EMITS),
        SD_BUS_PROPERTY("Generation", "t", get_generation, 0, EMITS),
        SD_BUS_PROPERTY("StatusJSON", "s", get_json, 0, EMITS),
        SD_BUS_PROPERTY("OperationJSON", "s", get_json, 0, EMITS),
        SD_BUS_VTABLE_END,
};

static const sd_bus_vtable operation_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_PROPERTY("Id", "s", get_operation_text, 0, EMITS),
        SD_BUS_PROPERTY("Kind", "s", get_operation_text, 0, EMITS),
        SD_BUS_PROPERTY("FromVersion", "s", get_operation_text, 0, EMITS),
        SD_BUS_PROPERTY("ToVersion", "s", get_operation_text, 0, EMITS),
        SD_BUS_PROPERTY("State", "s", get_operation_text, 0, EMITS),
        SD_BUS_PROPERTY("Reason", "s", get_operation_text, 0, EMITS),
        SD_BUS_PROPERTY("Progress", "u", get_progress, 0, EMITS),
        SD_BUS_PROPERTY("Steps", "a(ssusss)", get_steps, 0, EMITS),
        SD_BUS_SIGNAL("ProgressChanged", "ssu", 0),
        SD_BUS_VTABLE_END,
};

/* The step that is at work, for the signal. */
static const json_t *running_step(const json_t *operation)
{
        const json_t *steps = json_object_get(operation, "steps");

        for (size_t i = 0; i < json_array_size(steps); i++)
                if (streq(text_of(json_array_get(steps, i), "state"), "RUNNING"))
                        return json_array_get(steps, i);
        return NULL;
}

static void on_change(struct manager *m, void *userdata)
{
        const json_t *step = running_step(m->operation);

        sd_bus_emit_properties_changed(published, PATH, MANAGER_INTERFACE, "Booted", "Next", "Previous", "Generation", "StatusJSON",
                                       "OperationJSON", NULL);
        sd_bus_emit_properties_changed(published, OPERATION_PATH, OPERATION_INTERFACE, "Id", "Kind", "FromVersion", "ToVersion", "State",
                                       "Reason", "Progress", "Steps", NULL);
        if (step)
                sd_bus_emit_signal(published, OPERATION_PATH, OPERATION_INTERFACE, "ProgressChanged", "ssu", text_of(m->operation, "id"),
                                   text_of(step, "name"), (uint32_t)json_integer_value(json_object_get(step, "progress")));
}

int bus_publish(sd_bus *bus, struct manager *m)
{
        int r;

        published = bus;
        m->changed = on_change;
        r = sd_bus_add_object_vtable(bus, NULL, PATH, MANAGER_INTERFACE, manager_vtable, m);
        if (r >= 0)
                r = sd_bus_add_object_vtable(bus, NULL, OPERATION_PATH, OPERATION_INTERFACE, operation_vtable, m);
        return r < 0 ? r : sd_bus_request_name(bus, NAME, 0);
}
