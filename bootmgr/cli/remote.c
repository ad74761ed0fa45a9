/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/remote.h"

#include <fcntl.h>
#include <systemd/sd-bus.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "cli/bar.h"
#include "cli/go_on.h"
#include "slot/kinds.h"

#define BUS_NAME           "org.bootmgr1"
#define BUS_PATH           "/org/bootmgr1"
#define BUS_MANAGER        "org.bootmgr1.Manager"
#define ERROR_PREFIX       "org.bootmgr1.Error."
#define POLL_INTERVAL      (250 * USEC_PER_MSEC)
#define UNKNOWN_TIMEOUT    (3 * USEC_PER_SEC)  /* of an operation that nobody works at */
#define ANSWER_TIMEOUT     (20 * USEC_PER_SEC) /* of a question; a daemon that was killed is started again by it */
#define OPERATION_JSON_MAX (256 * 1024)

static void bus_closep(sd_bus **bus)
{
        sd_bus_flush_close_unref(*bus);
}
#define _cleanup_bus_ _cleanup_(bus_closep)

/* The names of D-Bus errors hold no '-': there it is a '_'. */
static const struct error_kind *find_kind(const char *bus_name)
{
        _cleanup_free_ char *name = strdup(bus_name);

        for (char *p = name; p && *p; p++)
                if (*p == '_')
                        *p = '-';
        return error_kind_find(name);
}

/* Errors that say that nobody is there, rather than what went wrong. */
static bool is_absent(const sd_bus_error *error)
{
        static const char *const names[] = {
                SD_BUS_ERROR_SERVICE_UNKNOWN,          SD_BUS_ERROR_NAME_HAS_NO_OWNER,
                "org.freedesktop.systemd1.NoSuchUnit", "org.freedesktop.systemd1.UnitMasked",
                "org.freedesktop.systemd1.LoadFailed", "org.freedesktop.DBus.Error.Spawn.ServiceNotFound",
        };

        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                if (sd_bus_error_has_name(error, names[i]))
                        return true;
        return false;
}

/* The kind is the last part of the error's name, the hint follows the message on a line of its own. */
static int take_error(const sd_bus_error *error, int code, struct error *e)
{
        const char *kind = error->name ? startswith(error->name, ERROR_PREFIX) : NULL;
        const char *message = error->message ?: error_text(code);
        const char *newline = strchr(message, '\n');

        if (sd_bus_error_has_name(error, SD_BUS_ERROR_ACCESS_DENIED) ||
            sd_bus_error_has_name(error, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED)) {
                fail(e, -EACCES, &kind_not_authorized, "bootmgrd does not allow this: %s", message);
                return fail_hint(e, "run it as root, or see the polkit actions in org.bootmgr1(5)");
        }
        code = fail(e, code, kind ? find_kind(kind) : NULL, "%.*s",
                    newline ? (int)(newline - message) : (int)strlen(message), message);
        return newline && newline[1] ? fail_hint(e, "%s", newline + 1) : code;
}

static int append_option(sd_bus_message *m, const char *name)
{
        return sd_bus_message_append(m, "{sv}", name, "b", 1);
}

/* A file is opened here and handed over: bootmgrd has a /tmp of its own, sees no home directories and reads
 * nothing that its caller may not read. */
static int append_source(sd_bus_message *m, const char *source, int fd)
{
        if (!source)
                return 0;
        return fd >= 0 ? sd_bus_message_append(m, "h", fd) : sd_bus_message_append(m, "s", source);
}

static int new_request(sd_bus *bus, const struct remote_request *request, int fd, sd_bus_message **ret)
{
        sd_bus_message *m = NULL;
        int r;

        r = sd_bus_message_new_method_call(bus, &m, BUS_NAME, BUS_PATH, BUS_MANAGER,
                                           fd >= 0 ? "UpgradeFile" : request->method);
        if (r >= 0)
                r = sd_bus_message_set_allow_interactive_authorization(m, 1);
        if (r >= 0)
                r = append_source(m, request->source, fd);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0 && request->no_reboot)
                r = append_option(m, "no-reboot");
        if (r >= 0 && request->automatic)
                r = append_option(m, "automatic");
        if (r >= 0 && request->no_read_back)
                r = append_option(m, "no-read-back");
        if (r >= 0 && request->full_speed)
                r = append_option(m, "full-speed");
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        if (r < 0) {
                sd_bus_message_unref(m);
                return r;
        }
        *ret = m;
        return 0;
}

/* What came back for a call. */
struct answer {
        bool there;
        sd_bus_message *message;
};

static int on_answer(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        struct answer *a = userdata;

        a->there = true;
        a->message = sd_bus_message_ref(m);
        return 0;
}

/* Not sd_bus_call(): the answer may take long (polkit asks a person, a bundle's head is fetched), and a signal
 * must end the waiting. -ECANCELED then. */
static int call(sd_bus *bus, sd_bus_message *m, sd_bus_message **ret)
{
        struct answer a = {};
        sd_bus_slot *slot = NULL;
        int r = sd_bus_call_async(bus, &slot, m, on_answer, &a, UINT64_MAX);

        while (r >= 0 && !a.there) {
                r = sd_bus_process(bus, NULL);
                if (r == 0)
                        r = sd_bus_wait(bus, POLL_INTERVAL);
                if (r == -EINTR)
                        r = 0;
                if (r >= 0 && !a.there && *cli_cancelled())
                        r = -ECANCELED;
        }
        sd_bus_slot_unref(slot);
        if (r < 0 && !a.there)
                return r;
        *ret = a.message;
        return 0;
}

/* Starts the operation; *ret_id is malloc'ed. */
static int start(sd_bus *bus, const struct remote_request *request, char **ret_id, struct error *e)
{
        bool file = request->source && !strstr(request->source, "://");
        _cleanup_close_ int fd = file ? open(request->source, O_RDONLY | O_CLOEXEC) : -1;
        sd_bus_message *m = NULL, *reply = NULL;
        const char *id = "";
        int r;

        if (file && fd < 0)
                return REMOTE_ABSENT; /* trying it here says why */
        r = new_request(bus, request, fd, &m);
        if (r >= 0)
                r = call(bus, m, &reply);
        sd_bus_message_unref(m);
        if (r < 0)
                return r == -ECANCELED ? r : fail_errno(e, r, "cannot ask bootmgrd");
        if (sd_bus_message_is_method_error(reply, NULL))
                r = is_absent(sd_bus_message_get_error(reply))
                            ? REMOTE_ABSENT
                            : take_error(sd_bus_message_get_error(reply), -sd_bus_message_get_errno(reply), e);
        else if (sd_bus_message_read(reply, "s", &id) < 0 || !(*ret_id = strdup(id)))
                r = fail(e, -ENOMEM, NULL, "bootmgrd's answer cannot be read");
        sd_bus_message_unref(reply);
        return r;
}

static int read_json(sd_bus *bus, const char *property, json_t **ret, struct error *e)
{
        sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *text = NULL;
        int r;

        r = sd_bus_get_property_string(bus, BUS_NAME, BUS_PATH, BUS_MANAGER, property, &error, &text);
        if (r < 0)
                fail(e, r, NULL, "bootmgrd does not answer: %s", error.message ?: error_text(r));
        sd_bus_error_free(&error);
        if (r < 0)
                return fail_hint(e, "'bootmgr show upgrade status' tells how the operation stands");
        if (strlen(text) > OPERATION_JSON_MAX)
                return fail(e, -EFBIG, NULL, "bootmgrd's answer is too long");
        return json_parse_strict(text, strlen(text), "bootmgrd's answer", ret, e);
}

/* The operation of this id as bootmgrd sees it now; 0: it is another one or none. */
static int read_operation(sd_bus *bus, const char *id, struct operation *ret, struct error *e)
{
        _cleanup_json_ json_t *j = NULL;
        int r;

        r = read_json(bus, "OperationJSON", &j, e);
        if (r < 0 || !streq(json_string_value(json_object_get(j, "id")), id))
                return r;
        r = operation_from_json(j, ret, e);
        return r < 0 ? r : 1;
}

/* Whether bootmgrd's process for it is still there: only then it knows all about how it ended. */
static bool is_at_work(sd_bus *bus)
{
        int working = 0;

        return sd_bus_get_property_trivial(bus, BUS_NAME, BUS_PATH, BUS_MANAGER, "Working", NULL, 'b', &working) >= 0 &&
               working;
}

/* The operation itself knows its reason, but neither the kind nor the way out. */
static int take_failure(sd_bus *bus, const struct operation *op, struct error *e)
{
        _cleanup_json_ json_t *j = NULL;
        const char *kind, *message, *hint;

        if (op->result == RESULT_ABORTED)
                return fail(e, -ECANCELED, &kind_interrupted, "%s", op->reason ?: "it was interrupted");
        read_json(bus, "FailureJSON", &j, NULL);
        kind = json_string_value(json_object_get(j, "kind"));
        message = json_string_value(json_object_get(j, "message"));
        hint = json_string_value(json_object_get(j, "hint"));
        if (!kind || !message)
                return fail(e, -EIO, NULL, "%s", op->reason ?: "it failed");
        fail(e, -EIO, find_kind(kind), "%s", message);
        return hint ? fail_hint(e, "%s", hint) : e->code;
}

/* How it ended, or how it stands when there is nothing more to see here. */
static int conclude(sd_bus *bus, const struct cli *cli, const struct operation *op, bool rebooting, struct error *e)
{
        if (op->result != RESULT_IN_PROGRESS && op->result != RESULT_DONE)
                return take_failure(bus, op, e);
        if (cli->json)
                return cli_print_json(cli, operation_to_json(op));
        say_outcome(cli, op, rebooting);
        return 0;
}

static bool is_over(const struct operation *op)
{
        return op->staged || op->generation > 0 || op->result != RESULT_IN_PROGRESS;
}

static int detach(void)
{
        cli_forget_cancel();
        cli_warn("bootmgrd goes on with it: 'bootmgr show upgrade status --watch' shows how far it is");
        return 0;
}

/* A daemon that is killed meanwhile is started again and knows the operation: its death is not the end. */
static int follow(sd_bus *bus, struct cli *cli, const char *id, const struct remote_request *request, struct error *e)
{
        _cleanup_bar_ struct bar bar;
        uint64_t answered = now_monotonic(), known = answered;

        bar_init(&bar, cli);
        bar.since = 0; /* it began when we asked */
        while (!*cli_cancelled()) {
                _cleanup_operation_ struct operation op = {};
                _cleanup_error_ struct error why = {};
                bool working = is_at_work(bus); /* first: what is read while it works may not be its end */
                int r = read_operation(bus, id, &op, &why);

                if (r < 0 && now_monotonic() - answered >= ANSWER_TIMEOUT) {
                        *e = TAKE(why, (struct error){});
                        return r;
                }
                if (r >= 0)
                        answered = now_monotonic();
                if (r > 0)
                        bar_show(&bar, &op);
                if (r != 0 || working)
                        known = now_monotonic();
                /* It could not even be written down. A daemon that has just been started knows nothing yet. */
                if (now_monotonic() - known >= UNKNOWN_TIMEOUT) {
                        bar_done(&bar);
                        return take_failure(bus, &op, e);
                }
                if (r > 0 && is_over(&op) && !working) {
                        bar_done(&bar);
                        return conclude(bus, cli, &op, !request->no_reboot, e);
                }
                cli_sleep(POLL_INTERVAL);
        }
        bar_done(&bar);
        return detach();
}

static int open_bus(sd_bus **ret)
{
        int r = sd_bus_open_system(ret);

        if (r >= 0)
                r = sd_bus_set_method_call_timeout(*ret, ANSWER_TIMEOUT);
        if (r < 0)
                log_debug("no system bus: %s", error_text(r));
        return r;
}

int remote_run(struct cli *cli, const struct remote_request *request, struct error *e)
{
        _cleanup_bus_ sd_bus *bus = NULL;
        _cleanup_free_ char *id = NULL;
        int r;

        if (open_bus(&bus) < 0)
                return REMOTE_ABSENT;
        r = start(bus, request, &id, e);
        if (r == -ECANCELED)
                return detach();
        return r != 0 ? r : follow(bus, cli, id, request, e);
}

bool remote_may_help(struct verb_args *args, int failed)
{
        return (failed == -EACCES || failed == -EPERM) && !cli_from(args)->worker && !cli_names_machine(args);
}

int remote_read(struct verb_args *args, int failed, const char *method, json_t **ret, struct error *e)
{
        sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus_message *reply = NULL;
        _cleanup_bus_ sd_bus *bus = NULL;
        const char *text;
        int r;

        if (!remote_may_help(args, failed) || open_bus(&bus) < 0)
                return failed;
        r = sd_bus_call_method(bus, BUS_NAME, BUS_PATH, BUS_MANAGER, method, &error, &reply, NULL);
        if (r >= 0 && sd_bus_message_read(reply, "s", &text) >= 0)
                r = json_parse_strict(text, strlen(text), "bootmgrd's answer", ret, NULL);
        else
                log_debug("bootmgrd does not say either: %s", error.message ?: error_text(r));
        sd_bus_message_unref(reply);
        sd_bus_error_free(&error);
        if (r < 0)
                return failed;
        error_done(e);
        return 0;
}
