/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/remote.h"

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
#define OPERATION_JSON_MAX (256 * 1024)

static void bus_closep(sd_bus **bus)
{
        sd_bus_flush_close_unref(*bus);
}
#define _cleanup_bus_ _cleanup_(bus_closep)

static const struct error_kind *const kinds[] = { &kind_failed, &kind_usage,
#define KIND_POINTER(id, name, status) &kind_##id,
                                                  ERROR_KINDS(KIND_POINTER)
#undef KIND_POINTER
};

/* The names of D-Bus errors may not hold a '-': bootmgrd writes '_'. */
/* The names of D-Bus errors hold no '-': there it is a '_'. */
static const struct error_kind *find_kind(const char *bus_name)
{
        _cleanup_free_ char *name = strdup(bus_name);

        for (char *p = name; p && *p; p++)
                if (*p == '_')
                        *p = '-';
        for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
                if (streq(kinds[i]->name, name))
                        return kinds[i];
        return &kind_failed;
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

static int new_request(sd_bus *bus, const struct remote_request *request, const char *source, sd_bus_message **ret)
{
        sd_bus_message *m = NULL;
        int r;

        r = sd_bus_message_new_method_call(bus, &m, BUS_NAME, BUS_PATH, BUS_MANAGER, request->method);
        if (r >= 0)
                r = sd_bus_message_set_allow_interactive_authorization(m, 1);
        if (r >= 0 && source)
                r = sd_bus_message_append(m, "s", source);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0 && request->no_reboot)
                r = append_option(m, "no-reboot");
        if (r >= 0 && request->automatic)
                r = append_option(m, "automatic");
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        if (r < 0) {
                sd_bus_message_unref(m);
                return r;
        }
        *ret = m;
        return 0;
}

/* bootmgrd has another working directory. */
static char *absolute(const char *source)
{
        if (!source || strstr(source, "://"))
                return source ? strdup(source) : NULL;
        return realpath(source, NULL) ?: strdup(source);
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
        sd_bus_message *m = NULL, *reply = NULL;
        _cleanup_free_ char *source = absolute(request->source);
        const char *id = "";
        int r;

        r = new_request(bus, request, source, &m);
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

/* The operation of this id as bootmgrd sees it now; 0: it is another one or none. */
static int read_operation(sd_bus *bus, const char *id, struct operation *ret, struct error *e)
{
        sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *text = NULL;
        _cleanup_json_ json_t *j = NULL;
        const char *found = NULL;
        int r;

        r = sd_bus_get_property_string(bus, BUS_NAME, BUS_PATH, BUS_MANAGER, "OperationJSON", &error, &text);
        if (r < 0)
                fail(e, r, NULL, "bootmgrd does not answer: %s", error.message ?: error_text(r));
        sd_bus_error_free(&error);
        if (r < 0)
                return fail_hint(e, "'bootmgr show upgrade status' tells how the operation stands");
        if (strlen(text) > OPERATION_JSON_MAX)
                return fail(e, -EFBIG, NULL, "bootmgrd's answer is too long");
        if (!*text)
                return 0;
        r = json_parse_strict(text, strlen(text), "bootmgrd's answer", &j, e);
        if (r < 0 || json_is_null(j))
                return r;
        if (json_opt_string(j, "id", &found, NULL) < 0 || !streq(found, id))
                return 0;
        r = operation_from_json(j, ret, e);
        return r < 0 ? r : 1;
}

/* How it ended, or how it stands when there is nothing more to see here. */
static int conclude(const struct cli *cli, const struct operation *op, bool rebooting, struct error *e)
{
        if (op->result != RESULT_IN_PROGRESS && op->result != RESULT_DONE)
                return fail(e, -EIO, op->result == RESULT_ABORTED ? &kind_interrupted : NULL, "%s",
                            op->reason ?: "it failed");
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

static int follow(sd_bus *bus, struct cli *cli, const char *id, const struct remote_request *request, struct error *e)
{
        _cleanup_bar_ struct bar bar;

        bar_init(&bar, cli);
        while (!*cli_cancelled()) {
                _cleanup_operation_ struct operation op = {};
                int r;

                r = read_operation(bus, id, &op, e);
                if (r < 0)
                        return r;
                if (r > 0)
                        bar_show(&bar, &op);
                if (r > 0 && is_over(&op)) {
                        bar_done(&bar);
                        return conclude(cli, &op, !request->no_reboot, e);
                }
                cli_sleep(POLL_INTERVAL);
        }
        bar_done(&bar);
        return detach();
}

static int open_bus(sd_bus **ret)
{
        int r = sd_bus_open_system(ret);

        if (r < 0)
                log_debug("no system bus: %s", error_text(r));
        return r;
}

/* bootmgrd has a /tmp of its own and sees no home directories. */
static bool is_hidden_from_daemon(const struct remote_request *request, const struct error *e)
{
        return e->kind == &kind_fetch && request->source && !strstr(request->source, "://") && access(request->source, R_OK) == 0;
}

int remote_run(struct cli *cli, const struct remote_request *request, struct error *e)
{
        _cleanup_error_ struct error why = {};
        _cleanup_bus_ sd_bus *bus = NULL;
        _cleanup_free_ char *id = NULL;
        int r;

        if (open_bus(&bus) < 0)
                return REMOTE_ABSENT;
        r = start(bus, request, &id, &why);
        if (r == -ECANCELED)
                return detach();
        if (r < 0 && is_hidden_from_daemon(request, &why)) {
                log_info("bootmgrd cannot read %s: it is done here", request->source);
                return REMOTE_ABSENT;
        }
        if (r < 0)
                *e = TAKE(why, (struct error){});
        return r != 0 ? r : follow(bus, cli, id, request, e);
}

int remote_read(const char *method, json_t **ret, struct error *e)
{
        sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus_message *reply = NULL;
        _cleanup_bus_ sd_bus *bus = NULL;
        const char *text;
        int r;

        if (open_bus(&bus) < 0)
                return REMOTE_ABSENT;
        r = sd_bus_call_method(bus, BUS_NAME, BUS_PATH, BUS_MANAGER, method, &error, &reply, NULL);
        if (r < 0)
                r = is_absent(&error) ? REMOTE_ABSENT : take_error(&error, r, e);
        else if (sd_bus_message_read(reply, "s", &text) < 0)
                r = fail(e, -EBADMSG, NULL, "bootmgrd's answer cannot be read");
        else
                r = json_parse_strict(text, strlen(text), "bootmgrd's answer", ret, e);
        sd_bus_message_unref(reply);
        sd_bus_error_free(&error);
        return r;
}
