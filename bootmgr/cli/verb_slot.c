/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* slot list, activate, mark-good, mark-bad, verify. */
#include "cli/verb_slot.h"

#include "cli/bar.h"
#include "cli/cli.h"
#include "cli/go_on.h"
#include "cli/table.h"
#include "cli/verbs.h"
#include "cluster/node.h"
#include "operation/content.h"
#include "slot/kinds.h"

#define DIGEST_SHOWN 16 /* digits of a digest in a table */

static const struct column columns[] = {
        { "SLOT" },   { "VERSION" }, { "STATE" },  { "TRIES", COLUMN_RIGHT }, { "GENERATION", COLUMN_RIGHT },
        { "DEVICE" }, { "DIGEST" },  { "REASON" },
};

static void add_slot(struct table *t, const json_t *slot, const char *booted)
{
        const char *name = json_string_value(json_object_get(slot, "name"));
        const json_t *tries = json_object_get(slot, "tries_left");
        json_int_t generation = json_integer_value(json_object_get(slot, "generation"));
        const char *digest = json_string_value(json_object_get(slot, "digest"));

        table_row(t);
        table_setf(t, 0, "%s%s", name, streq(name, booted) ? " *" : "");
        table_set(t, 1, json_string_value(json_object_get(slot, "version")));
        table_set(t, 2, json_string_value(json_object_get(slot, "state")));
        if (json_is_integer(tries))
                table_setf(t, 3, "%lld", (long long)json_integer_value(tries));
        if (generation > 0)
                table_setf(t, 4, "%lld", (long long)generation);
        table_set(t, 5, json_string_value(json_object_get(slot, "device")));
        if (digest)
                table_setf(t, 6, "%.*s", DIGEST_SHOWN, digest);
        table_set(t, 7, json_string_value(json_object_get(slot, "reason")));
}

int print_slots(const json_t *status)
{
        _cleanup_table_ struct table *t = table_new(columns, ARRAY_SIZE(columns));
        const char *booted = json_string_value(json_object_get(status, "booted"));
        const json_t *slot;
        size_t i;

        if (!t)
                return -ENOMEM;
        json_array_foreach(json_object_get(status, "slots"), i, slot) add_slot(t, slot, booted);
        return table_print(t);
}

int verb_slot_list(struct verb_args *args, struct error *e)
{
        struct cli *cli = cli_from(args);
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        _cleanup_json_ json_t *status = NULL;
        int r;

        r = cli_open_machine(args, &m, e);
        if (r >= 0)
                r = status_json(&m, &status, e);
        if (r < 0)
                return r;
        return cli->json ? cli_print_json(cli, json_incref(json_object_get(status, "slots"))) : print_slots(status);
}

int verb_slot_activate(struct verb_args *args, struct error *e)
{
        struct cli *cli = cli_from(args);
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        _cleanup_bar_ struct bar bar;
        int slot, r;

        bar_init(&bar, cli);
        r = cli_slot(args->positional[0], &slot, e);
        if (r >= 0)
                r = cli_open_machine(args, &m, e);
        if (r >= 0)
                r = node_must_be_free(&m, e);
        if (r >= 0)
                r = activate_prepare(&m, slot, NULL, &bar.observer, e);
        return r < 0 ? r : go_on(cli, &m, verb_has(args, "no-reboot"), &bar, e);
}

static int mark_bad(struct machine *m, int slot, struct error *e)
{
        int r = node_must_be_free(m, e);

        return r < 0 ? r : slot_mark_bad_by_operator(m, slot, e);
}

static int mark(struct verb_args *args, int (*function)(struct machine *m, int slot, struct error *e), struct error *e)
{
        struct cli *cli = cli_from(args);
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        int slot, r;

        r = cli_slot(args->positional[0], &slot, e);
        if (r >= 0)
                r = cli_open_machine(args, &m, e);
        if (r >= 0)
                r = function(&m, slot, e);
        if (r < 0)
                return r;
        return cli_done(cli, "slot %c is %s", slot_name(slot), slot_state_to_string(m.state.set.slots[slot].state));
}

int verb_slot_mark_good(struct verb_args *args, struct error *e)
{
        return mark(args, slot_mark_good, e);
}

int verb_slot_mark_bad(struct verb_args *args, struct error *e)
{
        return mark(args, mark_bad, e);
}

int verb_slot_verify(struct verb_args *args, struct error *e)
{
        struct cli *cli = cli_from(args);
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        _cleanup_buf_ struct buf good = {};
        bool background = verb_has(args, "background");
        int slot = SLOT_NONE, r = 0;

        if (args->n_positional > 0)
                r = cli_slot(args->positional[0], &slot, e);
        if (r >= 0)
                r = cli_open_machine(args, &m, e);
        if (r < 0)
                return r;
        if (slot == SLOT_NONE)
                slot = m.state.set.previous;
        if (slot == SLOT_NONE)
                return cli_done(cli, "there is no previous version whose slot could be read");
        r = content_verify(&m, slot, background ? CONTENT_ROOT : CONTENT_ALL, &good, e);
        if (r < 0 && background && e->kind == &kind_busy) {
                error_done(e);
                return cli_done(cli, "an operation is at work: it reads what it needs");
        }
        return r < 0 ? r : cli_done(cli, "slot %c: %s", slot_name(slot), good.data);
}
