/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an operator says about slots and operations, apart from going anywhere. */
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "operation/messages.h"
#include "operation/rebuild.h"
#include "operation/refused.h"
#include "operation/reserve.h"
#include "operation/steps.h"
#include "operation/upkeep.h"
#include "slot/kinds.h"

static int give_up(struct machine *m, struct operation *op, const char *reason, struct error *e)
{
        struct slot_set *set = &m->state.set;
        int r;

        set->operation_state = OPERATION_ABORTED;
        if (set->previous == set->operation_from) /* a shutdown was cut between that record and the switch */
                set->previous = SLOT_NONE;
        r = machine_save(m, e);
        if (r < 0)
                return r;
        reserve_keep(m);
        operation_end(op, RESULT_ABORTED, reason);
        return op->sequence ? operation_save(m, op, true, e) : 0;
}

int operation_abort(struct machine *m, struct error *e)
{
        _cleanup_operation_ struct operation op = {};
        int r;

        r = machine_lock(m, e);
        if (r < 0)
                return r;
        r = operation_load_newest(m, &op, NULL);
        if (m->state.set.operation_state != OPERATION_STAGED) {
                if (r >= 0 && op.result == RESULT_IN_PROGRESS) {
                        fail(e, -EBUSY, &kind_busy, "%s to %s was switched to already", operation_kind_to_string(op.kind),
                             op.to_version);
                        return fail_hint(e, "%s", operation_way_out(m, &op));
                }
                return fail(e, -ENOENT, &kind_usage, "no operation is prepared: there is nothing to abort");
        }
        return give_up(m, &op, "aborted by an operator", e);
}

int operation_give_up(struct machine *m, const uint8_t id[static 16], const char *reason, struct error *e)
{
        const struct slot_set *set = &m->state.set;
        _cleanup_operation_ struct operation op = {};
        int r = machine_lock(m, e);

        if (r < 0)
                return r;
        if (set->operation_state != OPERATION_STAGED || memcmp(set->operation_id, id, sizeof(set->operation_id)) != 0)
                return 0;
        /* Its file may be gone, or be another's: the record is what the shutdown goes by. */
        if (operation_load_newest(m, &op, NULL) >= 0 && !operation_is_of_record(set, &op)) {
                operation_done(&op);
                op = (struct operation){};
        }
        return give_up(m, &op, reason, e);
}

int operation_finalize(struct machine *m, struct error *e)
{
        struct slot_set *set = &m->state.set;
        int running, r;

        r = machine_lock(m, e);
        if (r < 0)
                return r;
        running = machine_reference_slot(m);
        if (running == SLOT_NONE)
                return fail(e, -ENOENT, &kind_no_machine, "no slot of %s runs or would boot", m->disk.path);
        if (set->slots[running].state != SLOT_CONFIRMED || set->operation_state == OPERATION_STAGED) {
                fail(e, -EBUSY, &kind_busy, "version %s in slot %c is not confirmed, or an operation is under way",
                     set->slots[running].version, slot_name(running));
                return fail_hint(e, "wait until 'bootmgr show upgrade status' says DONE");
        }
        if (set->finalized && set->floor >= set->slots[running].security_version)
                return 0;
        set->finalized = true;
        set->floor = MAX(set->floor, set->slots[running].security_version);
        r = upkeep_withdraw(m, e);
        if (r >= 0)
                r = rebuild_keep_finalized(m, set->slots[running].generation, set->floor, e);
        if (r >= 0)
                r = machine_save(m, e);
        if (r >= 0)
                log_event(MESSAGE_FINALIZED, NULL, "version %s is final: the way back is given up, the floor is %llu",
                          set->slots[running].version, (unsigned long long)set->floor);
        return r;
}

int operation_clear_refused(struct machine *m, struct error *e)
{
        int r;

        r = machine_lock(m, e);
        if (r < 0)
                return r;
        /* It may be whole, and would refuse it still. */
        if (m->state_lost && m->state.unread) {
                fail(e, -ENODATA, &kind_state_unreadable, "no copy of the state record of %s can be read", m->disk.path);
                return fail_hint(e, "'bootmgr boot-config' makes it again from the boot entries, as the next boot does");
        }
        /* Whoever is there to clear can tell the time, too. */
        slot_set_correct_auto_rollbacks(&m->state.set, now_realtime(), 0);
        r = refused_clear(m, e);
        /* A lost record refuses nothing; what is written in its place is for the boot to decide. */
        return r < 0 || m->state_lost ? r : machine_save(m, e);
}

static int check_slot_number(struct machine *m, int slot, struct error *e)
{
        if (slot >= 0 && slot < m->state.set.n_slots)
                return 0;
        fail(e, -ENOENT, &kind_usage, "%s has no such slot", m->disk.path);
        return fail_hint(e, "its slots are a to %c", slot_name(m->state.set.n_slots - 1));
}

/* What was bad may have lost its kernel, once something else was confirmed. */
static int check_boot_files(struct machine *m, const struct slot *s, struct error *e)
{
        struct loader loader;
        int r = machine_open_loader(m, false, &loader, e);

        if (r < 0)
                return r;
        r = loader_check_slot(&loader, s, e);
        loader_close(&loader);
        return r < 0 ? fail_hint(e, "install a version with 'bootmgr upgrade system'") : 0;
}

/* The record comes first: an entry of a slot that is bad would be one to be left again. */
static int give_entry_back(struct machine *m, int slot, struct error *e)
{
        struct entry_spec spec = entry_spec_for(m, slot, m->state.set.slots[slot].generation);
        struct loader loader;
        int r = machine_open_loader(m, true, &loader, e);

        if (r < 0)
                return r;
        r = loader.ops->drop(&loader, spec.generation, e); /* what could not be removed when it was marked bad */
        if (r >= 0)
                r = loader.ops->switch_to(&loader, &spec, 0, e);
        if (r >= 0)
                upkeep(m, &loader);
        loader_close(&loader);
        return r;
}

/* Its entries went when it was marked bad. Under the generation that it has, which no other has, it gets one again and is a
 * way back for the loader too, as long as that is behind the running one's: else it would boot next. Then it has none, and
 * no boot is to miss it. */
static int take_back_bad(struct machine *m, int slot, struct error *e)
{
        int running = machine_reference_slot(m), r;
        struct slot_set *set = &m->state.set, before = *set;
        struct slot *s = &set->slots[slot];

        slot_set_confirm(set, slot);
        if (running == SLOT_NONE || s->generation >= set->slots[running].generation)
                s->generation = 0;
        r = machine_save(m, e);
        if (r < 0 || s->generation == 0)
                return r;
        r = give_entry_back(m, slot, e);
        if (r < 0) {
                *set = before;
                machine_save(m, NULL); /* else the next boot that can makes the entry */
        }
        return r;
}

int slot_mark_good(struct machine *m, int slot, struct error *e)
{
        struct slot *s;
        int r;

        r = machine_lock(m, e);
        if (r >= 0)
                r = check_slot_number(m, slot, e);
        if (r < 0)
                return r;
        s = &m->state.set.slots[slot];
        if (s->state == SLOT_TRIAL && slot == m->booted)
                return operation_confirm(m, NULL, e);
        if (s->state == SLOT_CONFIRMED || s->state == SLOT_INSTALLED)
                return 0;
        if (s->state == SLOT_TRIAL) {
                fail(e, -EBUSY, &kind_busy, "slot %c is on trial and does not run: what runs can be confirmed",
                     slot_name(slot));
                return fail_hint(e, "boot it: it is confirmed once it is healthy");
        }
        if (s->state != SLOT_BAD || is_all_zero(s->digest, DIGEST_SIZE)) {
                fail(e, -ENOEXEC, &kind_slot_not_bootable, "slot %c is %s: no whole system lies in it", slot_name(slot),
                     slot_state_to_string(s->state));
                return fail_hint(e, "install a version with 'bootmgr upgrade system'");
        }
        r = check_boot_files(m, s, e);
        return r < 0 ? r : take_back_bad(m, slot, e);
}

/* What runs may not come up yet another time, and then this is where the loader goes. */
static bool is_only_fallback(const struct slot_set *set, int slot, int running)
{
        if (running == SLOT_NONE || set->slots[running].state != SLOT_TRIAL || !slot_is_selectable(&set->slots[slot]))
                return false;
        for (int i = 0; i < set->n_slots; i++)
                if (i != slot && i != running && slot_is_selectable(&set->slots[i]))
                        return false;
        return true;
}

int slot_mark_bad_by_operator(struct machine *m, int slot, struct error *e)
{
        struct slot_set *set = &m->state.set;
        struct loader loader;
        int r;

        r = machine_lock(m, e);
        if (r >= 0)
                r = check_slot_number(m, slot, e);
        if (r < 0)
                return r;
        if (slot == machine_reference_slot(m)) {
                fail(e, -EBUSY, &kind_slot_in_use, "slot %c is the one that runs or boots next", slot_name(slot));
                return fail_hint(e, "'bootmgr rollback system' leaves it");
        }
        if (is_only_fallback(set, slot, machine_reference_slot(m))) {
                fail(e, -EBUSY, &kind_slot_in_use, "slot %c is what boots if the version on trial does not come up",
                     slot_name(slot));
                return fail_hint(e, "wait until that is confirmed, or 'bootmgr slot mark-good %c'",
                                 slot_name(machine_reference_slot(m)));
        }
        if (!slot_has_system(&set->slots[slot]) && set->slots[slot].state != SLOT_BAD)
                return fail(e, -ENOEXEC, &kind_slot_not_bootable, "slot %c is %s: there is nothing to mark", slot_name(slot),
                            slot_state_to_string(set->slots[slot].state));
        r = machine_open_loader(m, true, &loader, e);
        if (r < 0)
                return r;
        slot_set_mark_bad(set, slot, REASON_OPERATOR);
        r = machine_save(m, e);
        if (r >= 0)
                r = loader.ops->remove_slot(&loader, slot, e);
        if (r >= 0)
                upkeep_firmware(m, &loader);
        loader_close(&loader);
        if (r >= 0)
                log_event(MESSAGE_MARKED_BAD, NULL, "slot %c is marked bad by an operator", slot_name(slot));
        return r;
}
