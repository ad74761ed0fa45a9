/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Early in the booted system, before anything reads its configuration: what this boot means for the
 * operation, and whose configuration it is. */
#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/version.h"
#include "operation/boot.h"
#include "operation/degraded.h"
#include "operation/explain.h"
#include "operation/messages.h"
#include "operation/rebuild.h"
#include "operation/refused.h"
#include "operation/reserve.h"
#include "operation/steps.h"
#include "operation/unread.h"
#include "slot/kinds.h"
#include "snapshot/owner.h"

#define TRANSIENT_ETC  "/run/bootmgr/etc" /* recover/mount.c makes it where the data partition is missing */
#define HOOK_DIRECTORY "/usr/lib/bootmgr/migrate.d"

/* An ESP that cannot be written is no reason to fail where nothing is to be written; else carrying out says so. */
static int open_loader(struct machine *m, struct loader *ret, struct error *e)
{
        _cleanup_error_ struct error why = {};
        int r;

        r = machine_open_loader(m, true, ret, &why);
        if (r >= 0)
                return r;
        r = machine_open_loader(m, false, ret, e);
        if (r >= 0)
                log_warning("%s", why.message ?: error_text(-EROFS));
        return r;
}

/* A running system that bootmgr did not install, e.g. an existing machine's before its first upgrade: it boots by an
 * entry of its own, and is no slot to be left for another. As for any other running slot, an upgrade that did not
 * come up has failed. */
static void decide_for(const struct boot_input *in, struct boot_decision *d)
{
        struct boot_input as_confirmed = *in;
        bool foreign = !in->record_lost && in->set.slots[in->slot].state == SLOT_EMPTY;

        if (!foreign) {
                boot_decide(in, d);
                return;
        }
        as_confirmed.set.slots[in->slot].state = SLOT_CONFIRMED;
        boot_decide(&as_confirmed, d);
        d->set.slots[in->slot] = in->set.slots[in->slot];
}

static void log_decision(struct machine *m, const struct boot_decision *d)
{
        if (d->found == BOOT_FOUND_LOST || explain_initramfs_found(m, BOOT_FOUND_LOST))
                log_event(MESSAGE_STATE_REBUILT, NULL,
                          "both copies of the state record were lost: it was made again from the boot entries");
        if (d->bad_slot != SLOT_NONE)
                log_event(MESSAGE_MARKED_BAD, NULL, "slot %c is marked bad: %s", slot_name(d->bad_slot),
                          slot_reason_to_string(m->state.set.slots[d->bad_slot].reason));
}

/* What this boot looks like; *entries is the caller's to free. */
static struct boot_input look(const struct machine *m, struct loader *loader, struct loader_entry **entries)
{
        struct boot_input in = { .slot = m->booted,
                                 .generation = m->booted_generation,
                                 .start = m->start,
                                 .now = now_realtime(),
                                 .record_lost = m->state_lost,
                                 .counts = !m->offline,
                                 .record_unread = m->state_lost && m->state.unread && !unread_before(m),
                                 .set = m->state.set };

        memcpy(in.boot_id, m->boot_id, sizeof(in.boot_id));
        in.entries_known = loader->ops->list(loader, entries, &in.n_entries, NULL) >= 0;
        in.entries = *entries;
        return in;
}

static int carry_out(struct machine *m, const struct boot_decision *d, struct loader *loader, struct error *e)
{
        int r = machine_open_for_writing(m, e);

        return r < 0 ? r
                     : boot_carry_out(d, &m->disk, &m->place, &m->state, loader, m->config.cmdline, !m->config.etc_overlay,
                                      e);
}

/* What runs is as good as it was, without the entry of another slot. The next boot tries it again. */
static int go_on_here(struct machine *m, const struct slot_set *before, struct boot_decision *d, struct loader *loader,
                      const char *why, struct error *e)
{
        log_warning("slot %c goes on, and slot %c has no boot entry: %s", slot_name(m->booted), slot_name(d->switch_to),
                    why);
        d->action = BOOT_CONTINUE;
        return loader->writable && m->state.set.phase == SWITCH_SWITCHING
                       ? boot_go_without(d, before, &m->place, &m->state, loader, e)
                       : 0;
}

/* The decision that the initramfs has made already comes out as "nothing to do" here; without its hook it is
 * made now. */
static int decide(struct machine *m, struct boot_decision *d, struct error *e)
{
        _cleanup_free_ struct loader_entry *entries = NULL;
        _cleanup_error_ struct error why = {};
        struct boot_input in;
        struct loader loader;
        bool is_for_another;
        int r;

        r = open_loader(m, &loader, e);
        if (r < 0)
                return r;
        in = look(m, &loader, &entries);
        decide_for(&in, d);
        is_for_another = d->action == BOOT_REBOOT && d->bad_slot != m->booted;
        if (d->found == BOOT_FOUND_UNREAD)
                unread_keep(m, &d->set);
        else if (d->save || d->arm)
                r = carry_out(m, d, &loader, d->found == BOOT_FOUND_LOST || is_for_another ? &why : e);
        if (r < 0 && is_for_another)
                r = go_on_here(m, &in.set, d, &loader, why.message ?: error_text(r), e);
        loader_close(&loader);
        if (r < 0 && d->found == BOOT_FOUND_LOST) { /* made again, nothing but the record is written */
                log_warning("%s", why.message ?: error_text(r));
                d->found = BOOT_FOUND_UNREAD;
                unread_keep(m, &d->set);
                r = 0;
        }
        if (r < 0)
                return r;
        if (d->found != BOOT_FOUND_UNREAD)
                unread_forget(m);
        m->state_lost = false;
        log_decision(m, d);
        return 0;
}

/* What the data directory knows and the record does not, and the other way round. */
static int consult_data(struct machine *m, struct error *e)
{
        _cleanup_error_ struct error why = {};

        if (refused_note(m, &why) < 0)
                log_warning("%s", why.message ?: "the list of refused versions cannot be written");
        return rebuild_record(m) ? machine_save(m, e) : 0;
}

/* The first system on a disk: there is no slot that could find the switch unfinished. */
static void settle_first(struct slot_set *set, const struct loader_entry *entries, size_t n)
{
        bool made = n > 0 && entries[0].slot == set->target && entries[0].generation == set->target_generation;

        if (made)
                slot_set_end_switch(set, 0);
        else
                slot_set_drop_switch(set);
        set->operation_state = made ? OPERATION_DONE : OPERATION_ABORTED;
}

int operation_settle_switch(struct machine *m, struct error *e)
{
        _cleanup_free_ struct loader_entry *entries = NULL;
        struct slot_set *set = &m->state.set;
        struct boot_input in = { .slot = set->operation_from, .now = now_realtime(), .set = *set, .entries_known = true };
        struct boot_decision d;
        int r;

        if (!m->offline || set->phase != SWITCH_SWITCHING || m->booted == set->target)
                return 0;
        r = machine_list_entries(m, &entries, &in.n_entries, e);
        if (r < 0)
                return r;
        in.entries = entries;
        if (in.slot == SLOT_NONE) {
                settle_first(set, entries, in.n_entries);
                return machine_save(m, e);
        }
        boot_decide(&in, &d);
        if (!d.save || d.action != BOOT_CONTINUE)
                return 0;
        *set = d.set;
        return machine_save(m, e);
}

static void end_operation(struct run *run, enum operation_result result, const char *reason)
{
        const char *fields[] = { NULL };

        operation_end(&run->op, result, reason);
        log_event(MESSAGE_OPERATION_FAILED, fields, "%s to version %s: %s", operation_kind_to_string(run->op.kind),
                  run->op.to_version, reason);
        run_save_if_possible(run);
}

/* Done, or cut right behind a switch that is no trial: the first system on a disk. */
static bool is_over(const struct machine *m, const struct run *run)
{
        const struct slot_set *set = &m->state.set;

        return set->operation_state == OPERATION_DONE ||
               (set->operation_state == OPERATION_RUNNING && set->phase == SWITCH_NONE && m->booted == run->op.to_slot &&
                set->slots[m->booted].state == SLOT_CONFIRMED);
}

static int close_done(struct machine *m, struct run *run, struct error *e)
{
        int r;

        record_operation(&m->state.set, &run->op, OPERATION_DONE, m->state.set.operation_reason);
        r = machine_save(m, e);
        if (r < 0)
                return r;
        operation_end(&run->op, RESULT_DONE, NULL);
        run_save_if_possible(run);
        return 0;
}

static void close_failed(struct machine *m, struct run *run)
{
        _cleanup_free_ char *why = explain_failure(m, &run->op);

        end_operation(run, RESULT_FAILED, why ?: slot_reason_to_string(m->state.set.operation_reason));
}

static void end_reboot(struct machine *m, struct run *run)
{
        struct step_record *reboot = operation_step(&run->op, "REBOOT");

        if (reboot && reboot->state != STEP_DONE) {
                _cleanup_free_ char *note = xasprintf("generation %llu runs",
                                                      (unsigned long long)m->state.set.target_generation);

                run->op.generation = m->state.set.target_generation;
                step_end(reboot, STEP_DONE, note);
        }
        run_save_if_possible(run);
}

/* What the record says of the newest operation becomes what its steps say. */
static int reconcile(struct machine *m, struct run *run, struct error *e)
{
        const struct slot_set *set = &m->state.set;
        char id[OPERATION_ID_SIZE];

        if (!run->op.n_steps || run->op.result != RESULT_IN_PROGRESS)
                return 0;
        hex_encode(set->operation_id, sizeof(set->operation_id), id);
        /* What the shutdown has carried out and could not write. */
        if (set->operation_state == OPERATION_RUNNING && streq(id, run->op.id))
                run->op.staged = false;
        if (!streq(id, run->op.id))
                end_operation(run, RESULT_FAILED, "interrupted before it was recorded");
        else if (set->operation_state == OPERATION_FAILED)
                close_failed(m, run);
        else if (set->operation_state == OPERATION_ABORTED)
                end_operation(run, RESULT_FAILED, "the machine stopped before the switch was durable");
        else if (is_over(m, run))
                return close_done(m, run, e);
        else if (set->operation_state != OPERATION_STAGED && m->booted == run->op.to_slot)
                end_reboot(m, run);
        return 0;
}

/* A rollback that began at the boot menu or in the firmware has no steps yet. */
static bool is_unknown(const struct machine *m, const struct operation *newest)
{
        const struct slot_set *set = &m->state.set;

        return m->snapshots.data >= 0 && set->operation == OPERATION_ROLLBACK && set->operation_state == OPERATION_RUNNING &&
               set->operation_to == m->booted && set->operation_from != SLOT_NONE &&
               !(newest->n_steps && operation_is_of_record(set, newest));
}

/* A seal of what a slot had before it ran once more says nothing of what it had at last: nobody is to get it unasked. */
static int forget_seal(struct machine *m, int slot, struct error *e)
{
        struct slot *s = &m->state.set.slots[slot];

        if (!slot_has_snapshot(s))
                return 0;
        memset(s->snapshot, 0, DIGEST_SIZE);
        return machine_save(m, e);
}

/* Nothing runs yet that could write: what is there is what the slot was left with. */
static int seal_late(struct run *run, struct error *e)
{
        const struct slot *from = &run->m->state.set.slots[run->op.from_slot];
        int r;

        if (from->state == SLOT_BAD) {
                run_note(run, "slot %c cannot be gone back to: its configuration is kept as discarded",
                         slot_name(run->op.from_slot));
                r = forget_seal(run->m, run->op.from_slot, e);
                return r < 0 ? r : STEP_SKIP;
        }
        r = step_snapshot_config(run, e);
        return r == 0 ? machine_save(run->m, e) : r;
}

static void adopt_step(struct run *run, const char *name, enum step_state state, const char *message)
{
        struct step_record *s = operation_step(&run->op, name);

        step_begin(s);
        step_end(s, state, message);
}

/* By a rollback of which only the record knows. */
static void close_superseded(struct run *run, const char *reason)
{
        const struct slot_set *set = &run->m->state.set;
        _cleanup_free_ char *why = xasprintf("%s; superseded by a rollback", reason ?: "");

        if (run->op.to_slot == set->operation_from)
                hex_encode(set->operation_id, sizeof(set->operation_id), run->op.superseded_by);
        end_operation(run, RESULT_FAILED, why ?: "superseded by a rollback");
}

static int adopt(struct machine *m, struct run *run, struct observer *o, struct error *e)
{
        const struct slot_set *set = &m->state.set;
        _cleanup_free_ char *reason = NULL;
        int r;

        if (!is_unknown(m, &run->op))
                return 0;
        explain_refine(m);
        reason = explain_beginning(m);
        if (run->op.n_steps && run->op.result == RESULT_IN_PROGRESS)
                close_superseded(run, reason);
        run_done(run);
        r = run_from_record(run, m, o, "found at boot", e);
        if (r < 0)
                return r;
        run->op.reason = TAKE_PTR(reason);
        run->op.generation = set->target_generation;
        adopt_step(run, "STOP_SERVICES", STEP_SKIPPED, "nothing runs yet");
        adopt_step(run, "SWITCH_ENTRY", STEP_DONE, "made by the boot itself");
        run_save_if_possible(run);
        r = machine_save(m, e);
        if (r >= 0)
                log_event(MESSAGE_ROLLBACK_STARTED, NULL, "going from version %s to version %s in slot %c: %s",
                          run->op.from_version, run->op.to_version, slot_name(run->op.to_slot), run->op.reason);
        return r;
}

/* A seal that the shutdown did not take. */
static int make_up_seal(struct run *run, struct error *e)
{
        struct step_record *s = operation_step(&run->op, "SNAPSHOT_CONFIG");

        if (run->op.kind != OPERATION_ROLLBACK || run->op.result != RESULT_IN_PROGRESS || run->op.staged ||
            run->op.generation == 0 || run->op.to_slot != run->m->booted || !s || s->state == STEP_DONE ||
            s->state == STEP_SKIPPED)
                return 0;
        return MIN(run_step(run, "SNAPSHOT_CONFIG", seal_late, e), 0);
}

/* Whether the shutdown that led here left the slot by an operation, which sealed it. */
static bool was_left_by_operation(const struct machine *m, int slot)
{
        const struct slot_set *set = &m->state.set;

        return set->operation != OPERATION_NONE && set->operation_from == slot && set->operation_to == m->booted &&
               set->operation_state == OPERATION_RUNNING;
}

/* --without-snapshot has named the slot that was to boot, and then there was no switch: what is there is not its own. */
static bool was_to_be_handed_over(const struct machine *m, const struct owner *owner)
{
        const struct slot_set *set = &m->state.set;

        return owner->generation >= set->generation && owner->generation != set->slots[owner->slot].generation;
}

/* A slot that was left by an operation, and sealed, runs once more: a person chose it while the other one is on trial. */
static int forget_own_seal(struct machine *m, struct error *e)
{
        const struct slot_set *set = &m->state.set;
        bool was_left = set->operation != OPERATION_NONE && set->operation_state == OPERATION_RUNNING &&
                        set->operation_from == m->booted && set->phase == SWITCH_SWITCHED && set->target != m->booted;

        return was_left ? forget_seal(m, m->booted, e) : 0;
}

/* A slot that nobody switched away from: a person chose this one in the boot menu. What is there is that slot's own, and is
 * sealed as such before it makes way, so that the slot has it again when it boots next. Nothing runs yet that could write.
 * What cannot be gone back to is kept as discarded only. */
static int seal_former(struct run *run, struct error *e)
{
        struct machine *m = run->m;
        _cleanup_snapshot_ struct snapshot s = {};
        struct owner owner;
        struct slot *former;
        int r;

        if (m->snapshots.data < 0)
                return 0;
        r = owner_read(m->snapshots.data, &owner, e);
        if (r < 0 || owner.phase != OWNER_OWNED || owner.slot == m->booted || owner.slot >= m->state.set.n_slots)
                return r;
        former = &m->state.set.slots[owner.slot];
        if (!streq(former->version, owner.version) || was_to_be_handed_over(m, &owner))
                return 0;
        if (was_left_by_operation(m, owner.slot) && (slot_has_snapshot(former) || !slot_is_selectable(former)))
                return 0;
        if (!slot_is_selectable(former))
                return forget_seal(m, owner.slot, e);
        r = snapshot_take(&m->snapshots, m->config.shared, owner.slot, former->version, former->generation, NULL, &s, e);
        if (r < 0)
                return r;
        memcpy(former->snapshot, s.digest, DIGEST_SIZE);
        return machine_save(m, e);
}

static bool any_snapshot(const struct slot_set *set)
{
        for (int i = 0; i < set->n_slots; i++)
                if (slot_has_snapshot(&set->slots[i]))
                        return true;
        return false;
}

/* Never an old version with a new version's configuration: what the hooks of an older version would make of a newer
 * one's files is anybody's guess. Only an upgrade, which may go to an older version too, takes over what is there. */
static int check_takeover(const struct machine *m, struct error *e)
{
        const struct slot_set *set = &m->state.set;
        const struct slot *booted = &set->slots[m->booted];
        const char *version;
        struct owner owner;
        int r;

        if (slot_has_snapshot(booted) || (set->operation == OPERATION_UPGRADE && set->operation_to == m->booted))
                return 0;
        r = owner_read(m->snapshots.data, &owner, e);
        if (r < 0 || owner.phase == OWNER_NONE)
                return r;
        version = owner.phase == OWNER_OWNED ? owner.version : owner.from_version;
        if (version_compare(booted->version, version) >= 0)
                return 0;
        fail(e, -ENOENT, &kind_snapshot_missing,
             "version %s has no snapshot of its configuration, and what is there is that of version %s", booted->version,
             version);
        return fail_hint(
                e, "boot the other slot with 'bootmgr slot activate', or install a version with 'bootmgr upgrade system'");
}

/* The data partition may have appeared after the initramfs had looked for it: then the slot runs with the /etc of its image.
 */
static int check_etc(const struct machine *m, struct error *e)
{
        _cleanup_free_ char *reason = NULL;
        struct statfs fs;

        if (m->offline || !m->config.etc_overlay || statfs("/etc", &fs) < 0 ||
            (fs.f_type == OVERLAYFS_SUPER_MAGIC && access(TRANSIENT_ETC, F_OK) < 0))
                return 0;
        reason = degraded_data_reason(m);
        fail(e, -ENOTDIR, &kind_degraded, "the /etc of slot %c is not mounted: %s", slot_name(m->booted),
             reason ?: "the initramfs found no data partition");
        return fail_hint(e, "reboot, now that the data partition is there; EtcOverlay=no if no slot has an /etc of its own");
}

static int step_config(struct run *run, struct error *e)
{
        struct machine *m = run->m;
        static const char *const words[] = {
                [OWNER_NOTHING] = "the configuration is this version's already",
                [OWNER_ADOPT] = "the first version on this machine takes the configuration as it is",
                [OWNER_RESTORE] = "restored from its snapshot",
                [OWNER_MIGRATE] = "taken over and migrated",
                [OWNER_RESTORE_AND_MIGRATE] = "restored after an interruption, then migrated",
        };
        enum owner_action done = OWNER_NOTHING;
        int r;

        if (!slot_is_known(&m->state.set.slots[m->booted])) {
                run_note(run, "what runs was not installed by bootmgr: its configuration is its own");
                return 0;
        }
        /* Not made anew where there was one: an empty one would say that the configuration is anybody's. */
        if (m->snapshots.data < 0 && any_snapshot(&m->state.set)) {
                fail(e, -ENOENT, &kind_degraded, "%s", m->data_error.message ?: "the data directory is missing");
                return fail_hint(e, "mount the data partition, then run 'bootmgr boot-config'");
        }
        r = machine_need_data(m, e);
        if (r >= 0)
                r = check_etc(m, e);
        if (r >= 0)
                r = check_takeover(m, e);
        if (r < 0)
                return r;
        r = owner_apply(&m->snapshots, &m->config, &m->state.set, m->booted,
                        MAX(m->booted_generation, m->state.set.slots[m->booted].generation),
                        m->options.hooks ?: (m->offline ? NULL : HOOK_DIRECTORY), run->current ? &run->progress : NULL,
                        &done, e);
        if (r < 0)
                return r;
        run_note(run, "%s", words[done]);
        if (done == OWNER_RESTORE)
                log_event(MESSAGE_CONFIG_RESTORED, NULL, "the configuration of version %s was restored",
                          m->state.set.slots[m->booted].version);
        else if (done == OWNER_MIGRATE || done == OWNER_RESTORE_AND_MIGRATE)
                log_event(MESSAGE_CONFIG_MIGRATED, NULL, "the configuration was migrated to version %s",
                          m->state.set.slots[m->booted].version);
        return 0;
}

/* A version that cannot take the configuration over is a failed boot: marked bad, so that the loader has only
 * the other to start. */
static int give_up_slot(struct machine *m, struct run *run, const struct error *why, struct error *e)
{
        _cleanup_free_ struct loader_entry *entries = NULL;
        struct boot_decision d;
        struct boot_input in;
        struct loader loader;
        int r;

        r = machine_open_loader(m, true, &loader, e);
        if (r < 0)
                return r;
        in = look(m, &loader, &entries);
        in.root_failed = REASON_MIGRATION;
        boot_decide(&in, &d);
        /* Nothing else can boot: the degraded target, with the reason. */
        r = d.action == BOOT_REBOOT ? carry_out(m, &d, &loader, e) : -ENOENT;
        loader_close(&loader);
        if (r < 0)
                return r;
        if (run->op.n_steps) {
                _cleanup_free_ char *reason = xasprintf("%s%s", why->message ?: "the configuration could not be taken over",
                                                        explain_place(REASON_MIGRATION));

                end_operation(run, RESULT_FAILED, reason);
        }
        return -EHOSTDOWN;
}

int operation_at_boot(struct machine *m, struct observer *o, struct error *e)
{
        _cleanup_run_ struct run run = { .root = RANGE_CLOSED };
        struct boot_decision d;
        struct error why = {};
        const char *name;
        bool tracked;
        int r;

        r = machine_lock(m, e);
        if (r < 0 || m->booted == SLOT_NONE)
                return r;
        r = decide(m, &d, e);
        if (r < 0)
                return r;
        if (run_resume(&run, m, o, NULL) < 0)
                run = (struct run){ .m = m, .o = o, .root = RANGE_CLOSED };
        if (d.action == BOOT_REBOOT)
                return -EHOSTDOWN;
        reserve_at_boot(m);
        r = consult_data(m, e);
        if (r < 0)
                return r;
        r = adopt(m, &run, o, e);
        if (r >= 0)
                r = reconcile(m, &run, e);
        if (r >= 0)
                r = make_up_seal(&run, e);
        if (r >= 0)
                r = seal_former(&run, e);
        if (r < 0)
                return r;
        name = run.op.kind == OPERATION_UPGRADE ? "MIGRATE_CONFIG" : "RESTORE_CONFIG";
        tracked = run.op.n_steps && run.op.result == RESULT_IN_PROGRESS && !run.op.staged && run.op.to_slot == m->booted;
        r = tracked ? run_step(&run, name, step_config, &why) : step_config(&run, &why);
        if (r >= 0)
                r = forget_own_seal(m, &why);
        if (r >= 0) {
                reserve_keep(m);
                error_done(&why);
                return 0;
        }
        if (why.kind == &kind_hook && m->state.set.slots[m->booted].state == SLOT_TRIAL &&
            give_up_slot(m, &run, &why, NULL) == -EHOSTDOWN)
                r = -EHOSTDOWN;
        fail(e, r, why.kind, "%s", why.message ?: error_text(r));
        if (why.hint)
                fail_hint(e, "%s", why.hint);
        error_done(&why);
        return r;
}
