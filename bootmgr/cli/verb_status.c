/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* status: printed from the JSON, so that both say the same. */
#include "cli/cli.h"
#include "cli/remote.h"
#include "cli/verb_slot.h"
#include "cli/verbs.h"

static const char *text(const json_t *o, const char *member)
{
        return json_string_value(json_object_get(o, member)) ?: "";
}

static json_int_t number(const json_t *o, const char *member)
{
        return json_integer_value(json_object_get(o, member));
}

static const json_t *find_slot(const json_t *status, const char *name)
{
        const json_t *slot;
        size_t i;

        json_array_foreach(json_object_get(status, "slots"), i, slot)
        {
                if (streq(text(slot, "name"), name))
                        return slot;
        }
        return NULL;
}

/* "slot a, version 1 (confirmed, root checked by dm-verity)" */
static void print_slot_line(const json_t *status, const char *label, const char *member, const char *none)
{
        const char *name = text(status, member);
        const json_t *slot = find_slot(status, name);

        if (slot)
                printf("%-10s slot %s, version %s (%s%s)\n", label, name, text(slot, "version"), text(slot, "state"),
                       *text(slot, "root_hash") ? ", root checked by dm-verity" : "");
        else
                printf("%-10s %s\n", label, none);
}

static void print_snapshot(const json_t *s)
{
        char size[SIZE_TEXT];

        if (!json_is_object(s))
                return;
        format_size((uint64_t)number(s, "bytes"), size);
        if (json_is_true(json_object_get(s, "valid")))
                printf("%-10s %s of version %s: %lld files, %s, sealed and whole\n", "Snapshot", text(s, "id"),
                       text(s, "version"), (long long)number(s, "files"), size);
        else
                printf("%-10s of version %s: MISSING OR ALTERED\n", "Snapshot", text(s, "version"));
}

static void print_rescue(const json_t *r)
{
        if (json_is_object(r))
                printf("%-10s %s\n", "Rescue",
                       json_is_true(json_object_get(r, "usable"))
                               ? "its entry is in the boot menu, for when no slot can boot"
                               : "ITS KERNEL OR INITRD IS MISSING: install it again");
}

static void print_operation(const json_t *op)
{
        if (!json_is_object(op))
                return;
        printf("%-10s %s %s -> %s, %s, %lld %%%s\n", "Operation", text(op, "operation"), text(op, "from_version"),
               text(op, "to_version"), text(op, "state"), (long long)number(op, "progress"),
               json_is_true(json_object_get(op, "staged")) ? ", goes on at the next shutdown" : "");
}

/* `m` NULL: bootmgrd told it, which knows only the machine it runs on. */
static int print_status(const json_t *status, const struct machine *m)
{
        const json_t *note;
        size_t i;

        printf("%-10s %s, generation %lld, bootmgr %s\n", "Machine", m ? m->disk.path : "this one",
               (long long)number(status, "generation"), text(status, "bootmgr"));
        print_slot_line(status, "Running", "booted", m && m->offline ? "nothing: an image" : "a system outside the slots");
        print_slot_line(status, "Next", "next", "none of the slots");
        print_slot_line(status, "Previous", "previous", "none: there is nothing to go back to");
        if (json_is_true(json_object_get(status, "finalized")))
                printf("%-10s the way back was given up, the security floor is %lld\n", "Finalized",
                       (long long)number(status, "security_floor"));
        print_snapshot(json_object_get(status, "snapshot"));
        print_operation(json_object_get(status, "operation"));
        print_rescue(json_object_get(status, "rescue"));
        json_array_foreach(json_object_get(status, "notes"), i, note) printf("%-10s %s\n", "Note", json_string_value(note));
        putchar('\n');
        return print_slots(status);
}

int verb_status(struct verb_args *args, struct error *e)
{
        struct cli *cli = cli_from(args);
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        _cleanup_json_ json_t *status = NULL;
        bool opened;
        int r;

        r = cli_open_machine(args, &m, e);
        opened = r >= 0;
        r = opened ? status_json(&m, &status, e) : remote_read(args, r, "GetStatus", &status, e);
        if (r < 0)
                return r;
        return cli->json ? cli_print_json(cli, json_incref(status)) : print_status(status, opened ? &m : NULL);
}
