/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What happens at shutdown, once services are stopped. The order of writes:
 *
 *      the boot files of the new slot are read back: damaged, it is bad and the operation has failed
 *      the new slot's /etc                 cut: not switched, the next try makes it anew
 *      the seal of the running slot        cut: not switched, an unnamed archive, pruned later
 *      (local procedure) record: the seal; then the configuration of the target is restored
 *                                          cut: not switched; the next boot restores the running slot's own
 *      (--without-snapshot) record: the seal; then the owner marker names the target
 *                                          cut: not switched; the next boot restores the running slot's own
 *      record: previous, snapshot          cut: not switched; the next boot takes it back
 *      the counter of the running slot's entry, if it has come down
 *                                          cut: not switched; either name of it starts it
 *      record: SWITCHING(generation)       cut: the next boot drops the switch: no entry is there
 *      the entry            <- the commit  cut: the next boot is on the new slot, or on the old one which
 *                                               finds the entry and leaves it to the loader
 *      record: SWITCHED                    cut: the new slot is on trial
 *      the list of refused versions        cut: the next boot adds what the record refuses
 */
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/process.h"
#include "operation/boot.h"
#include "operation/boot_files.h"
#include "operation/messages.h"
#include "operation/record.h"
#include "operation/refused.h"
#include "operation/reserve.h"
#include "operation/steps.h"
#include "operation/upkeep.h"
#include "slot/kinds.h"
#include "snapshot/owner.h"

#define CARRY_TRIES   3
#define CARRY_TIMEOUT (300 * USEC_PER_SEC)

int step_stop_services(struct run *run, struct error *e)
{
        if (run->m->offline) {
                run_note(run, "nothing runs on an image");
                return STEP_SKIP;
        }
        /* systemd has done it: bootmgr-switch.service is stopped after everything that is ordered after
         * basic.target. */
        run_note(run, "stopped by the shutdown");
        return 0;
}

static int carry_now(struct machine *m, int from, int to, struct error *e)
{
        int r = -EAGAIN;

        for (int i = 0; i < CARRY_TRIES && r < 0; i++) {
                error_done(e);
                r = carry_config(&m->snapshots, m->config.carried, from, to, NULL, e);
        }
        return r;
}

int operation_carry(struct machine *m, struct observer *o, struct error *e)
{
        _cleanup_operation_ struct operation op = {};
        int r = operation_load_newest(m, &op, e);

        if (r < 0)
                return r;
        if (op.kind != OPERATION_UPGRADE || op.result != RESULT_IN_PROGRESS || op.staged || op.from_slot != m->booted ||
            op.to_slot == m->booted || op.to_slot == SLOT_NONE) {
                fail(e, -EINVAL, NULL, "no upgrade of the running slot is at work");
                return fail_hint(e, "bootmgr-carry.service is started by one");
        }
        return carry_now(m, op.from_slot, op.to_slot, e);
}

/* By a unit of its own: who fetches from the network need not be able to give files to others. Once more at the shutdown,
 * with what was changed until then. Here something may change while it is read, and what cannot
 * be carried is found out by the shutdown. */
void carry_beforehand(struct run *run)
{
        static const char *const by_its_unit[] = { "systemctl", "start", "bootmgr-carry.service", NULL };
        struct machine *m = run->m;
        _cleanup_error_ struct error why = {};
        int r;

        if (run->op.from_slot == SLOT_NONE || !m->config.etc_overlay)
                return;
        if (m->offline || m->rescue)
                r = carry_now(m, run->op.from_slot, run->op.to_slot, &why);
        else
                r = process_must(by_its_unit, CARRY_TIMEOUT, &why);
        if (r < 0)
                log_warning("the /etc of slot %c is not prepared: %s", slot_name(run->op.to_slot),
                            why.message ?: error_text(r));
}

int step_carry_config(struct run *run, struct error *e)
{
        struct machine *m = run->m;

        if (run->op.from_slot == SLOT_NONE) {
                run_note(run, "the first system on this disk");
                return STEP_SKIP;
        }
        if (!m->config.etc_overlay) {
                run_note(run, "EtcOverlay=no: /etc lies in the root itself and is not carried");
                return STEP_SKIP;
        }
        return carry_config(&m->snapshots, m->config.carried, run->op.from_slot, run->op.to_slot, &run->progress, e);
}

static int seal(struct run *run, struct error *e)
{
        struct machine *m = run->m;
        _cleanup_snapshot_ struct snapshot s = {};
        const char *fields[] = { NULL, NULL };
        struct owner owner;
        struct slot *from;
        int r;

        reserve_release(m);
        if (run->op.from_slot == SLOT_NONE) {
                run_note(run, "the first system on this disk");
                return STEP_SKIP;
        }
        from = &m->state.set.slots[run->op.from_slot];
        if (!slot_is_known(from)) {
                run_note(run, "what runs in slot %c was not installed by bootmgr: nothing would restore a seal of it",
                         slot_name(run->op.from_slot));
                return STEP_SKIP;
        }
        /* Only what belongs to this slot is its configuration: one that never took over what is there, or
         * did not finish, must not seal another version's as its own. */
        r = owner_read(m->snapshots.data, &owner, e);
        if (r < 0)
                return r;
        if (owner.phase != OWNER_NONE && (owner.phase != OWNER_OWNED || owner.slot != run->op.from_slot)) {
                run_note(run, "the configuration still belongs to slot %c",
                         slot_name(owner.phase == OWNER_OWNED ? owner.slot : owner.from_slot));
                return STEP_SKIP;
        }
        r = snapshot_take(&m->snapshots, m->config.shared, run->op.from_slot, from->version, from->generation,
                          &run->progress, &s, e);
        if (r < 0)
                return r;
        memcpy(from->snapshot, s.digest, DIGEST_SIZE);
        run_note(run, "%llu files, %llu bytes as %s", (unsigned long long)s.files, (unsigned long long)s.bytes, s.id);
        log_event(MESSAGE_SNAPSHOT_SEALED, fields, "configuration of slot %c sealed as %s", slot_name(run->op.from_slot),
                  s.id);
        return 0;
}

/* The local procedure goes back to versions that may not know the owner rule: what their boot would do is done
 * by the version that runs, before the switch, so that a failure leaves it the one that boots. Its own seal is
 * recorded first: by it the next boot finds its way back if there is no switch. */
static int restore_at_shutdown(struct run *run, struct error *e)
{
        struct machine *m = run->m;
        const struct slot *to = &m->state.set.slots[run->op.to_slot];
        enum owner_action done;
        int r;

        r = machine_save(m, e);
        if (r >= 0)
                r = owner_apply(&m->snapshots, &m->config, &m->state.set, run->op.to_slot, m->state.set.generation + 1, NULL,
                                &run->progress, &done, e);
        if (r >= 0)
                log_event(MESSAGE_CONFIG_RESTORED, NULL, "the configuration of version %s was restored", to->version);
        return r;
}

/* Nothing is restored: what is there becomes the target's, without any hook: what an older version's would make of
 * it is anybody's guess. What the running slot had is sealed and recorded first, so that it comes back with the slot; a
 * seal that nobody wants to trust is forgotten. */
static int hand_over(struct run *run, struct error *e)
{
        struct machine *m = run->m;
        struct slot *to = &m->state.set.slots[run->op.to_slot];
        struct owner owner = { .phase = OWNER_OWNED,
                               .slot = run->op.to_slot,
                               .generation = m->state.set.generation + 1,
                               .from_slot = SLOT_NONE };
        int r;

        memcpy(owner.version, to->version, sizeof(owner.version));
        memset(to->snapshot, 0, sizeof(to->snapshot));
        r = machine_save(m, e);
        return r < 0 ? r : owner_write(m->snapshots.data, &owner, e);
}

int step_snapshot_config(struct run *run, struct error *e)
{
        _cleanup_error_ struct error why = {};
        int sealed = seal(run, run_must_go_on(run) ? &why : e), r = 0;

        if (sealed < 0 && run_must_go_on(run)) { /* it is kept as discarded before anything else comes back */
                log_warning("the configuration is not sealed: %s", why.message ?: error_text(sealed));
                /* An older one is not what it had at last: the boot makes up for it, or says that there is none. */
                if (run->op.from_slot != SLOT_NONE)
                        memset(run->m->state.set.slots[run->op.from_slot].snapshot, 0, DIGEST_SIZE);
                run_note(run, "not sealed: %s", why.message ?: error_text(sealed));
                return STEP_SKIP;
        }
        if (sealed < 0)
                return sealed;
        if (run->op.without_snapshot)
                r = hand_over(run, e);
        else if (run->op.local)
                r = restore_at_shutdown(run, e);
        return r < 0 ? r : sealed;
}

int step_record_previous(struct run *run, struct error *e)
{
        struct machine *m = run->m;

        if (run->op.from_slot == SLOT_NONE) {
                run_note(run, "the first system on this disk");
                return STEP_SKIP;
        }
        /* A system that bootmgr did not put there cannot be gone back to by bootmgr. */
        if (!slot_is_known(&m->state.set.slots[run->op.from_slot])) {
                m->state.set.previous = SLOT_NONE;
                m->state.set.finalized = false;
                run_note(run,
                         "what runs in slot %c was not installed by bootmgr: the way back is the bootloader's own entry",
                         slot_name(run->op.from_slot));
                return STEP_SKIP;
        }
        m->state.set.previous = run->op.from_slot;
        m->state.set.finalized = false;
        run_note(run, "slot %c, version %s", slot_name(run->op.from_slot), run->op.from_version);
        return machine_save(m, e);
}

/* What leaving a slot by a rollback means for the record; part of the write that says SWITCHING. */
static void record_leaving(struct run *run)
{
        struct slot_set *set = &run->m->state.set;
        int from = run->op.from_slot;

        if (run->op.kind == OPERATION_UPGRADE)
                return;
        set->previous = run->op.way_back ? from : SLOT_NONE;
        set->finalized = false;
        if (from == SLOT_NONE || run->op.kind != OPERATION_ROLLBACK)
                return;
        memcpy(set->refused, set->slots[from].digest, DIGEST_SIZE);
        if (run->op.automatic && (set->slots[from].state == SLOT_TRIAL || set->operation_reason == REASON_BOOT_FILES ||
                                  set->operation_reason == REASON_CORRUPT))
                slot_set_mark_bad(set, from, set->operation_reason);
}

/* Where nothing else can boot, there is nothing to fall back to and no trial. */
static int tries_for(struct run *run)
{
        return run->op.from_slot == SLOT_NONE ? 0 : (int)run->m->config.tries;
}

/* What leaving the slot meant is taken back: it can be asked for again. Where the entry may be there all the same,
 * the record goes on saying SWITCHING, and the next boot looks. */
static void undo_switch(struct run *run, struct loader *loader, const struct slot_set *before)
{
        struct slot_set *set = &run->m->state.set, now = *set;

        *set = *before;
        set->generation = now.generation;
        /* Its boot files stay: what was installed goes on being whole. */
        if (loader->ops->drop(loader, run->op.generation, NULL) < 0) {
                set->phase = now.phase;
                set->target = now.target;
                set->target_generation = now.target_generation;
        }
        run->op.generation = 0;
}

/* What the loader goes to if the new version does not come up. Its own counter may have come down; with none of its starts
 * left, and none of the new version's, the loader would start the new one again and again. */
static int fill_counter(struct run *run, struct loader *loader, struct error *e)
{
        const struct slot *from = run->op.from_slot == SLOT_NONE ? NULL : &run->m->state.set.slots[run->op.from_slot];
        _cleanup_free_ struct loader_entry *entries = NULL;
        size_t n, i = 0;
        int r;

        if (!from || from->state != SLOT_CONFIRMED)
                return 0;
        r = loader->ops->list(loader, &entries, &n, e);
        if (r < 0)
                return r;
        while (i < n && (entries[i].slot != run->op.from_slot || entries[i].generation != from->generation))
                i++;
        if (i == n || !entries[i].usable || entries[i].tries_left < 0 || entries[i].tries_left > BOOT_ARM_AGAIN)
                return 0;
        return loader->ops->arm(loader, from->generation, BOOT_ARM_TRIES, e);
}

static int make_entry(struct run *run, struct loader *loader, struct error *e)
{
        struct machine *m = run->m;
        struct slot_set *set = &m->state.set, before;
        struct entry_spec spec;
        struct error why = {};
        uint64_t highest;
        int tries = tries_for(run), r;

        r = loader_highest_generation(loader, &highest, e);
        if (r >= 0)
                r = fill_counter(run, loader, e);
        if (r < 0)
                return r;
        before = *set;
        record_operation(set, &run->op, OPERATION_RUNNING, set->operation_reason);
        record_leaving(run);
        run->op.generation = slot_set_begin_switch(set, run->op.to_slot, highest);
        spec = entry_spec_for(m, run->op.to_slot, run->op.generation);
        r = loader->ops->would_choose(loader, &spec, tries, e);
        if (r >= 0)
                r = machine_save(m, e);
        if (r < 0) {
                *set = before; /* nothing was written */
                run->op.generation = 0;
                return r;
        }
        r = loader->ops->switch_to(loader, &spec, tries, e);
        if (r < 0) {
                undo_switch(run, loader, &before);
                return r;
        }
        slot_set_end_switch(set, tries);
        /* The entry has committed it: the next boot finds SWITCHING and finishes. */
        if (machine_save(m, &why) < 0)
                log_warning("%s: the next boot makes up for it", why.message ?: "the state record cannot be written");
        error_done(&why);
        return 0;
}

int step_switch_entry(struct run *run, struct error *e)
{
        int r;

        r = machine_open_loader(run->m, true, &run->loader, e);
        if (r < 0)
                return r;
        run->loader_open = true;
        r = make_entry(run, &run->loader, e);
        if (r < 0)
                return r;
        run_note(run, "generation %llu, slot %c", (unsigned long long)run->op.generation, slot_name(run->op.to_slot));
        return 0;
}

/* What can wait until the switch is done. */
static void tidy_entries(struct run *run)
{
        int from = run->op.from_slot;

        /* A slot that failed its trial has no business in the boot menu once the way back is durable. */
        if (from != SLOT_NONE && run->m->state.set.slots[from].state == SLOT_BAD)
                run->loader.ops->remove_slot(&run->loader, from, NULL);
        /* What it would go back to is another one now, once that is confirmed. */
        run->loader.ops->offer(&run->loader, NULL, NULL);
        run_close_loader(run);
}

int run_from_record(struct run *run, struct machine *m, struct observer *o, const char *note, struct error *e)
{
        const struct slot_set *set = &m->state.set;
        int r;

        run_init(run, m, set->operation, set->operation_from, set->operation_to, o);
        r = operation_begin(m, &run->op, NULL, e);
        if (r < 0)
                return r;
        hex_encode(set->operation_id, sizeof(set->operation_id), run->op.id);
        run->op.automatic = set->operation_automatic;
        strcpy(run->op.to_version, set->slots[set->operation_to].version);
        for (const struct step *s = steps_of(set->operation); s->when == STEP_PREPARE; s++)
                step_end(operation_step(&run->op, s->name), STEP_DONE, note);
        return 0;
}

static int resume_staged(struct run *run, struct machine *m, struct observer *o, struct error *e)
{
        const struct slot_set *set = &m->state.set;
        int to = set->operation_to;

        if (to < 0 || to >= set->n_slots || !slot_is_selectable(&set->slots[to])) {
                fail(e, -ENOEXEC, &kind_slot_not_bootable, "what is staged goes to a slot that cannot be booted");
                return fail_hint(e, GIVE_IT_UP);
        }
        if (run_resume(run, m, o, NULL) >= 0 && operation_is_of_record(set, &run->op) && run->op.to_slot == to &&
            run->op.from_slot == set->operation_from)
                return 0;
        run_done(run);
        return run_from_record(run, m, o, "known from the state record only", e);
}

/* Between the preparation and this shutdown the ESP may have been damaged. An upgrade of an image has just written the
 * files. */
static int check_target(struct run *run, struct error *e)
{
        struct machine *m = run->m;
        _cleanup_error_ struct error why = {};
        int r;

        if (run->op.kind == OPERATION_UPGRADE && m->offline)
                return 0;
        r = boot_files_check(m, run->op.to_slot, &why);
        if (r >= 0)
                return 0;
        if (boot_files_are_damaged(r))
                boot_files_give_up(m, run->op.to_slot);
        return fail(e, r, why.kind, "%s (found out at the shutdown, before the switch)", why.message ?: error_text(r));
}

/* The same for the version that runs, which nobody leaves: its tries are not counted any more. What goes on being
 * started may be a kernel that halts, or one that panics for want of its initrd, for ever; so the machine does not start
 * into it, as long as it has a version to go back to. */
static void leave_damaged(struct machine *m, struct observer *o)
{
        struct rollback_options options = { .automatic = true, .why = REASON_BOOT_FILES };
        const struct slot_set *set = &m->state.set;
        _cleanup_error_ struct error damage = {}, e = {};
        _cleanup_free_ char *reason = NULL;
        int from = m->booted, to, r;

        if (from == SLOT_NONE || set->slots[from].state != SLOT_CONFIRMED || set->phase != SWITCH_NONE)
                return;
        r = boot_files_check(m, from, &damage);
        if (r >= 0)
                return;
        to = automatic_target(set, from);
        r = !boot_files_are_damaged(r) ? r : to == SLOT_NONE ? -ENOENT : boot_files_check(m, to, &e);
        if (r >= 0) {
                reason = xasprintf("slot %c, version %s FAILED: %s", slot_name(from), set->slots[from].version,
                                   damage.message);
                options.reason = reason;
                r = rollback_prepare(m, &options, o, &e);
        }
        if (r < 0)
                log_error("%s; the machine starts as it is: %s", damage.message ?: "the boot files cannot be checked",
                          e.message
                                  ?: to == SLOT_NONE ? "there is no other version to go to"
                                                     : error_text(r));
}

int operation_switch(struct machine *m, struct observer *o, struct error *e)
{
        _cleanup_run_ struct run run = { .root = RANGE_CLOSED };
        _cleanup_error_ struct error why = {};
        struct step_record *reboot;
        int r;

        r = machine_lock(m, e);
        if (r >= 0)
                r = machine_need_record(m, e);
        if (r < 0)
                return r;
        if (m->state.set.operation_state != OPERATION_STAGED)
                leave_damaged(m, o);
        if (m->state.set.operation_state != OPERATION_STAGED)
                return 0;
        r = m->state.set.operation_automatic && m->state.set.operation == OPERATION_ROLLBACK ? 0 : machine_need_data(m, e);
        if (r < 0)
                return r;
        r = resume_staged(&run, m, o, e);
        if (r < 0)
                return r;
        run.op.staged = false;
        r = check_target(&run, e);
        if (r >= 0)
                r = run_steps(&run, STEP_SHUTDOWN, e);
        if (r < 0)
                return run_abandon(&run, r, e);
        tidy_entries(&run);
        log_event(MESSAGE_SWITCHED, NULL, "generation %llu boots slot %c, version %s", (unsigned long long)run.op.generation,
                  slot_name(run.op.to_slot), run.op.to_version);
        /* The record refuses it already; the next boot makes up for the list. */
        if (refused_note(m, &why) < 0)
                log_warning("%s", why.message ?: "the list of refused versions cannot be written");
        reboot = operation_step(&run.op, "REBOOT");
        if (reboot)
                step_begin(reboot);
        if (tries_for(&run) == 0) { /* the first system is no trial: nothing is left to wait for */
                record_operation(&m->state.set, &run.op, OPERATION_DONE, REASON_NONE);
                r = machine_save(m, e);
                operation_end(&run.op, RESULT_DONE, NULL);
        }
        run_save_if_possible(&run);
        return r;
}
