/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/cli.h"

#include <stdarg.h>
#include <time.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "slot/kinds.h"

static const char *const machine_options[] = { "disk", "esp", "data", "config", "cmdline", "efivars" };

struct cli *cli_from(struct verb_args *args)
{
        struct cli *cli = args->context;

        cli->worker |= verb_has(args, "worker");
        cli->json |= verb_has(args, "json") || cli->worker;
        cli->quiet |= verb_has(args, "quiet");
        if (verb_has(args, "verbose"))
                log_set_max_level(LOG_LEVEL_DEBUG);
        else if (cli->quiet)
                log_set_max_level(LOG_LEVEL_WARNING);
        return cli;
}

bool cli_names_machine(const struct verb_args *args)
{
        if (getenv("BOOTMGR_HAND_OVER"))
                return false; /* tests: there is a bootmgrd for this very image */
        for (size_t i = 0; i < ARRAY_SIZE(machine_options); i++)
                if (verb_has(args, machine_options[i]))
                        return true;
        return false;
}

int cli_open_machine(struct verb_args *args, struct machine *ret, struct error *e)
{
        struct machine_options options = {
                .disk = verb_value(args, "disk"),
                .esp = verb_value(args, "esp"),
                .data = verb_value(args, "data"),
                .config = verb_value(args, "config"),
                .cmdline = verb_value(args, "cmdline"),
                .efivars = verb_value(args, "efivars"),
        };

        return machine_open(&options, ret, e);
}

int cli_slot(const char *name, int *ret, struct error *e)
{
        int slot = slot_from_name(name);

        if (slot == SLOT_NONE) {
                fail(e, -EINVAL, &kind_usage, "'%s' is not the name of a slot", name);
                return fail_hint(e, "slots are named a to %c; 'bootmgr slot list' shows them", slot_name(SLOT_MAX - 1));
        }
        *ret = slot;
        return 0;
}

void cli_say(const struct cli *cli, const char *fmt, ...)
{
        va_list ap;

        if (cli->json || cli->quiet)
                return;
        va_start(ap, fmt);
        vprintf(fmt, ap);
        va_end(ap);
        putchar('\n');
}

void cli_warn(const char *fmt, ...)
{
        va_list ap;

        fflush(stdout);
        fputs("bootmgr: ", stderr);
        va_start(ap, fmt);
        vfprintf(stderr, fmt, ap);
        va_end(ap);
        fputc('\n', stderr);
}

int cli_print_json(const struct cli *cli, json_t *j)
{
        _cleanup_json_ json_t *owned = j;
        _cleanup_free_ char *text = owned ? json_dumps(owned, (cli->worker ? 0 : JSON_INDENT(2)) | JSON_ENCODE_ANY) : NULL;

        if (!text)
                return -ENOMEM;
        puts(text);
        return fflush(stdout) == 0 ? 0 : -errno;
}

int cli_done(const struct cli *cli, const char *fmt, ...)
{
        va_list ap;

        if (cli->json)
                return cli_print_json(cli, json_pack("{s:s}", "result", "done"));
        if (cli->quiet)
                return 0;
        va_start(ap, fmt);
        vprintf(fmt, ap);
        va_end(ap);
        putchar('\n');
        return 0;
}

json_t *error_to_json(const struct error *e, json_t *checks)
{
        return json_pack("{s:s, s:o, s:o, s:o}", "kind", (e->kind ?: &kind_failed)->name, "message",
                         json_text(e->message ?: ""), "checks", checks ? json_incref(checks) : json_array(), "hint",
                         json_string_or_null(e->hint));
}

/* The checks that failed besides the one that is the message. */
static void print_other_checks(const json_t *checks, const char *message)
{
        const json_t *check;
        size_t i;

        json_array_foreach(checks, i, check)
        {
                const char *name = json_string_value(json_object_get(check, "name"));
                const char *text = json_string_value(json_object_get(check, "message"));

                if (!json_is_true(json_object_get(check, "ok")) && name && text && !streq(text, message))
                        fprintf(stderr, "  also refused by %s: %s\n", name, text);
        }
}

void cli_report(struct cli *cli, struct error *e, int code)
{
        if (code >= 0 || cli->printed)
                return;
        if (!e->message)
                fail(e, code, e->kind, "%s", error_text(code));
        if (cli->json) {
                cli_print_json(cli, error_to_json(e, cli->checks));
                return;
        }
        cli_warn("%s", e->message);
        if (e->hint)
                fprintf(stderr, "  %s\n", e->hint);
        print_other_checks(cli->checks, e->message);
}

void cli_sleep(uint64_t usec)
{
        struct timespec t = { .tv_sec = (time_t)(usec / USEC_PER_SEC), .tv_nsec = (long)(usec % USEC_PER_SEC) * 1000 };

        if (!*cli_cancelled())
                nanosleep(&t, NULL);
}
