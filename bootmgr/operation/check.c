/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "operation/check.h"

#include "base/buf.h"
#include "base/version.h"
#include "operation/content.h"
#include "operation/operation.h"
#include "operation/steps.h"
#include "slot/kinds.h"

struct context {
        struct machine *m;
        const struct rollback_options *options;
        int previous; /* SLOT_NONE: the checks of the slot have nothing to look at */
        const struct slot *slot;
};

void check_list_done(struct check_list *l)
{
        for (size_t i = 0; i < l->n; i++) {
                free(l->items[i].message);
                free(l->items[i].hint);
        }
        free(TAKE_PTR(l->items));
        l->n = 0;
}

/* Each check says in `e` what is wrong, or in `good` what is right. */
typedef int (*check_function)(struct context *c, struct buf *good, struct error *e);

static int check_operation(struct context *c, struct buf *good, struct error *e)
{
        _cleanup_operation_ struct operation op = {};

        if (operation_current(c->m, &op, NULL) >= 0 && op.result == RESULT_IN_PROGRESS && op.generation == 0) {
                fail(e, -EBUSY, &kind_busy, "%s to %s is %s", operation_kind_to_string(op.kind), op.to_version,
                     op.staged ? "prepared and goes on at the next shutdown" : "at work");
                return fail_hint(e, op.staged ? "reboot, or " GIVE_IT_UP : "wait until it has ended");
        }
        buf_puts(good, "no other operation is at work");
        return 0;
}

static int check_previous(struct context *c, struct buf *good, struct error *e)
{
        if (c->previous == SLOT_NONE) {
                fail(e, -ENOENT, &kind_no_previous, "there is no previous version to go back to");
                return fail_hint(
                        e, "an upgrade records one; 'bootmgr slot activate SLOT' boots another slot that has a system");
        }
        buf_printf(good, "version %s in slot %c", c->slot->version, slot_name(c->previous));
        return 0;
}

static int check_finalized(struct context *c, struct buf *good, struct error *e)
{
        if (c->m->state.set.finalized) {
                fail(e, -EPERM, &kind_finalized, "version %s was finalized: the way back was given up",
                     c->m->booted == SLOT_NONE ? "now running" : c->m->state.set.slots[c->m->booted].version);
                return fail_hint(e, "install the older version as an upgrade");
        }
        buf_puts(good, "the upgrade is not finalized");
        return 0;
}

static int check_bootable(struct context *c, struct buf *good, struct error *e)
{
        if (!slot_is_selectable(c->slot)) {
                fail(e, -ENOEXEC, &kind_previous_not_bootable, "slot %c is %s%s%s", slot_name(c->previous),
                     slot_state_to_string(c->slot->state), c->slot->reason ? ": " : "",
                     slot_reason_to_string(c->slot->reason));
                return fail_hint(
                        e,
                        "'bootmgr slot mark-good %c' if you know better, or install a version with 'bootmgr upgrade system'",
                        slot_name(c->previous));
        }
        buf_printf(good, "slot %c is %s", slot_name(c->previous), slot_state_to_string(c->slot->state));
        return 0;
}

static int check_content(struct context *c, struct buf *good, struct error *e)
{
        int r = content_check(c->m, c->previous, CONTENT_REUSE, good, e);

        return r < 0 ? fail_hint(e, "install a version with 'bootmgr upgrade system'") : 0;
}

int check_slot_snapshot(struct machine *m, int slot, struct buf *good, struct error *e)
{
        const struct slot *of = &m->state.set.slots[slot];
        _cleanup_snapshot_ struct snapshot s = {};
        char id[17];
        int r;

        r = machine_need_data(m, e);
        if (r < 0)
                return r;
        if (!slot_has_snapshot(of)) {
                fail(e, -ENOENT, &kind_snapshot_missing, "slot %c has no snapshot of its configuration", slot_name(slot));
                return fail_hint(e, "install version %s with 'bootmgr upgrade system'", of->version);
        }
        r = snapshot_find(&m->snapshots, of->snapshot, &s, e);
        if (r >= 0)
                r = snapshot_verify(&m->snapshots, &s, e);
        if (r >= 0) {
                if (good)
                        buf_printf(good, "%s: %llu files, sealed and whole", s.id, (unsigned long long)s.files);
                return 0;
        }
        hex_encode(of->snapshot, sizeof(id) / 2, id);
        return fail_hint(e,
                         "put a copy of it back as %s/snapshots/%s.tar.zst and .json, or install version %s with 'bootmgr "
                         "upgrade system'",
                         m->data_path, id, of->version);
}

static int check_snapshot(struct context *c, struct buf *good, struct error *e)
{
        char *hint;
        int r;

        if (c->options->without_snapshot) {
                buf_printf(good, "not asked for: version %s takes the configuration over as it is", c->slot->version);
                return machine_need_data(c->m, e);
        }
        r = check_slot_snapshot(c->m, c->previous, good, e);
        if (r >= 0 || !e || !e->hint || c->m->snapshots.data < 0)
                return r;
        hint = xasprintf("%s; 'bootmgr rollback system --without-snapshot' restores nothing", e->hint);
        if (hint) {
                free(e->hint);
                e->hint = hint;
        }
        return r;
}

/* A rollback that somebody asks for would end at the shutdown for want of it. */
static int check_room(struct context *c, struct buf *good, struct error *e)
{
        return check_slot_room(c->m, c->previous, !c->options->without_snapshot, good, e);
}

static int check_floor(struct context *c, struct buf *good, struct error *e)
{
        uint64_t floor = c->m->state.set.floor;

        if (c->slot->security_version < floor) {
                fail(e, -EPERM, &kind_below_floor, "version %s has security version %llu, below the floor %llu",
                     c->slot->version, (unsigned long long)c->slot->security_version, (unsigned long long)floor);
                return fail_hint(e, "install a version whose security version is at least %llu", (unsigned long long)floor);
        }
        buf_printf(good, "security version %llu, floor %llu", (unsigned long long)c->slot->security_version,
                   (unsigned long long)floor);
        return 0;
}

static int check_gate(struct context *c, struct buf *good, struct error *e)
{
        const char *min = c->m->config.rollback_min_version;

        if (c->options->local || !min) {
                buf_puts(good, c->options->local ? "not asked for: local procedure" : "no RollbackMinVersion= is set");
                return 0;
        }
        if (version_compare(c->slot->version, min) < 0) {
                fail(e, -EPERM, &kind_previous_too_old, "version %s is older than RollbackMinVersion=%s", c->slot->version,
                     min);
                return fail_hint(e, "use the local procedure: run '/usr/lib/bootmgr/install.sh --rollback' on this machine, "
                                    "then reboot it");
        }
        buf_printf(good, "version %s is at least RollbackMinVersion=%s", c->slot->version, min);
        return 0;
}

static int check_loader(struct context *c, struct buf *good, struct error *e)
{
        struct entry_spec spec;
        struct loader loader;
        uint64_t highest;
        int r;

        r = machine_check_esp(c->m, e);
        if (r >= 0)
                r = machine_open_loader(c->m, true, &loader, e);
        if (r < 0)
                return r;
        r = loader_highest_generation(&loader, &highest, e);
        if (r >= 0) {
                spec = entry_spec_for(c->m, c->previous, MAX(highest, c->m->state.set.generation) + 1);
                r = check_entry(c->m, &loader, &spec, e);
        }
        loader_close(&loader);
        if (r >= 0)
                buf_puts(good, "the bootloader will choose it");
        return r;
}

static const struct check_row {
        const char *name;
        check_function function;
        bool of_slot; /* needs a previous slot to look at */
} rows[] = {
        { "operation", check_operation, false }, { "previous", check_previous, false },
        { "finalized", check_finalized, true },  { "bootable", check_bootable, true },
        { "version-gate", check_gate, true },    { "security-floor", check_floor, true },
        { "snapshot", check_snapshot, true },    { "space", check_room, true },
        { "bootloader", check_loader, true },    { "content", check_content, true }, /* last: it reads the whole slot */
};

static void run_check(const struct check_row *row, struct context *c, struct check *ret)
{
        struct error why = {};
        struct buf good = {};
        int r = row->function(c, &good, &why);

        *ret = (struct check){ .name = row->name, .ok = r >= 0, .kind = why.kind };
        if (ret->ok) {
                ret->message = buf_take(&good);
        } else {
                ret->message = why.message ? TAKE_PTR(why.message) : strdup(error_text(r));
                ret->hint = TAKE_PTR(why.hint);
                if (!ret->kind)
                        ret->kind = &kind_failed;
        }
        buf_done(&good);
        error_done(&why);
}

int check_rollback(struct machine *m, const struct rollback_options *options, struct check_list *ret, struct error *e)
{
        struct context c = { .m = m, .options = options, .previous = m->state.set.previous };
        struct check_list l = { .items = calloc(ARRAY_SIZE(rows), sizeof(struct check)) };

        if (!l.items)
                return -ENOMEM;
        /* Recorded at a shutdown that was cut before it switched: it is no way back from itself. */
        if (c.previous == machine_reference_slot(m) && m->state.set.phase != SWITCH_SWITCHED)
                c.previous = SLOT_NONE;
        if (c.previous != SLOT_NONE)
                c.slot = &m->state.set.slots[c.previous];
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                if (c.slot || !rows[i].of_slot)
                        run_check(&rows[i], &c, &l.items[l.n++]);
        *ret = l;
        return 0;
}

int check_list_add(struct check_list *l, const char *name, const struct error *wrong, const char *right)
{
        struct check *grown = reallocarray(l->items, l->n + 1, sizeof(*grown)), *c;

        if (!grown)
                return -ENOMEM;
        l->items = grown;
        c = &l->items[l->n];
        *c = (struct check){ .name = name, .ok = !wrong->message, .kind = wrong->kind ?: &kind_failed };
        c->message = strdup(wrong->message ?: right);
        c->hint = wrong->hint ? strdup(wrong->hint) : NULL;
        if (!c->message) {
                free(c->hint);
                return -ENOMEM;
        }
        l->n++;
        return 0;
}

int check_list_verdict(const struct check_list *l, struct error *e)
{
        for (size_t i = 0; i < l->n; i++) {
                const struct check *c = &l->items[i];

                if (c->ok)
                        continue;
                fail(e, -EPERM, c->kind, "%s", c->message);
                return c->hint ? fail_hint(e, "%s", c->hint) : -EPERM;
        }
        return 0;
}

json_t *check_list_to_json(const struct check_list *l)
{
        json_t *list = json_array();

        for (size_t i = 0; i < l->n; i++) {
                const struct check *c = &l->items[i];

                json_array_append_new(list,
                                      json_pack("{s:s, s:b, s:o, s:o, s:o}", "name", c->name, "ok", c->ok, "kind",
                                                json_string_or_null(c->ok ? NULL : c->kind->name), "message",
                                                json_string_or_null(c->message), "hint", json_string_or_null(c->hint)));
        }
        return list;
}
