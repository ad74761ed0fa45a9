/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Early in the booted system, before anything reads its configuration: what this boot means for the
 * operation, and whose configuration it is. */
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "operation/boot.h"
#include "operation/messages.h"
#include "operation/steps.h"
#include "slot/kinds.h"
#include "snapshot/owner.h"

#define HOOK_DIRECTORY "/usr/lib/bootmgr/migrate.d"

/* The decision that the initramfs has made already comes out as "nothing to do" here; without its hook it is
 * made now. */
static int decide(struct machine *m, struct boot_decision *d, struct error *e)
{
        _cleanup_free_ struct loader_entry *entries = NULL;
        struct boot_input in = { .slot = m->booted,
                                 .generation = m->booted_generation,
                                 .now = now_realtime(),
                                 .record_lost = m->state_lost,
                                 .set = m->state.set };
        struct loader loader;
        size_t n = 0;
        int r;

        memcpy(in.boot_id, m->boot_id, sizeof(in.boot_id));
        r = machine_open_loader(m, true, &loader, e);
        if (r < 0)
                return r;
        in.entries_known = loader.ops->list(&loader, &entries, &n, NULL) >= 0;
        in.entries = entries;
        in.n_entries = n;
        boot_decide(&in, d);
        if (d->save) {
                r = machine_open_for_writing(m, e);
                if (r >= 0)
                        r = boot_carry_out(d, &m->disk, &m->place, &m->state, &loader, m->config.cmdline, !m->config.etc_overlay, e);
        }
        loader_close(&loader);
        if (r < 0)
                return r;
        if (d->found == BOOT_FOUND_LOST)
                log_event(MESSAGE_STATE_REBUILT, NULL, "both copies of the state record were lost: it was made again from the boot entries");
        m->state_lost = false;
        if (d->bad_slot != SLOT_NONE)
                log_event(MESSAGE_MARKED_BAD, NULL, "slot %c is marked bad: %s", slot_name(d->bad_slot),
                          slot_reason_to_string(m->state.set.slots[d->bad_slot].reason));
        return 0;
}

static int end_operation(struct run *run, enum operation_result result, const char *reason, struct error *e)
{
        const char *fields[] = { NULL };

        operation_end(&run->op, result, reason);
        log_event(MESSAGE_OPERATION_FAILED, fields, "%s to version %s: %s", operation_kind_to_string(run->op.kind), run->op.to_version,
                  reason);
        return run_save(run, true, e);
}

/* What the record says of the newest operation becomes what its steps say. */
static int reconcile(struct machine *m, struct run *run, struct error *e)
{
        const struct slot_set *set = &m->state.set;
        char id[OPERATION_ID_SIZE];
        struct step_record *reboot;

        if (!run->op.n_steps || run->op.result != RESULT_IN_PROGRESS)
                return 0;
        hex_encode(set->operation_id, sizeof(set->operation_id), id);
        if (!streq(id, run->op.id))
                return end_operation(run, RESULT_FAILED, "interrupted before it was recorded", e);
        if (set->operation_state == OPERATION_FAILED) {
                _cleanup_free_ char *why = xasprintf("slot %c, version %s: %s (found out at the boot of slot %c)",
                                                     slot_name(run->op.to_slot), run->op.to_version,
                                                     slot_reason_to_string(set->operation_reason),
                                                     m->booted == SLOT_NONE ? '-' : slot_name(m->booted));

                return end_operation(run, RESULT_FAILED, why, e);
        }
        if (set->operation_state == OPERATION_ABORTED)
                return end_operation(run, RESULT_FAILED, "the machine stopped before the switch was durable", e);
        if (set->operation_state == OPERATION_DONE) {
                operation_end(&run->op, RESULT_DONE, NULL);
                return run_save(run, true, e);
        }
        if (set->operation_state == OPERATION_STAGED || m->booted != run->op.to_slot)
                return 0;
        reboot = operation_step(&run->op, "REBOOT");
        if (reboot && reboot->state != STEP_DONE) {
                _cleanup_free_ char *note = xasprintf("generation %llu runs", (unsigned long long)m->booted_generation);

                run->op.generation = set->target_generation;
                step_end(reboot, STEP_DONE, note);
        }
        return run_save(run, true, e);
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

        r = machine_need_data(m, e);
        if (r < 0)
                return r;
        r = owner_apply(&m->snapshots, &m->config, &m->state.set, m->booted,
                        m->booted_generation ?: m->state.set.slots[m->booted].generation, m->offline ? NULL : HOOK_DIRECTORY,
                        run->current ? &run->progress : NULL, &done, e);
        if (r < 0)
                return r;
        run_note(run, "%s", words[done]);
        if (done == OWNER_RESTORE)
                log_event(MESSAGE_CONFIG_RESTORED, NULL, "the configuration of version %s was restored", m->state.set.slots[m->booted].version);
        else if (done == OWNER_MIGRATE || done == OWNER_RESTORE_AND_MIGRATE)
                log_event(MESSAGE_CONFIG_MIGRATED, NULL, "the configuration was migrated to version %s", m->state.set.slots[m->booted].version);
        return 0;
}

/* A version that cannot take the configuration over is a failed boot: marked bad, so that the loader has only
 * the other to start. */
static int give_up_slot(struct machine *m, struct run *run, const struct error *why, struct error *e)
{
        struct boot_input in = { .slot = m->booted,
                                 .generation = m->booted_generation,
                                 .now = now_realtime(),
                                 .set = m->state.set,
                                 .root_failed = REASON_MIGRATION };
        struct boot_decision d;
        struct loader loader;
        int r;

        r = machine_open_loader(m, true, &loader, e);
        if (r < 0)
                return r;
        boot_decide(&in, &d);
        if (d.action == BOOT_REBOOT) {
                r = machine_open_for_writing(m, e);
                if (r >= 0)
                        r = boot_carry_out(&d, &m->disk, &m->place, &m->state, &loader, m->config.cmdline, !m->config.etc_overlay, e);
        } else {
                r = -ENOENT; /* nothing else can boot: the degraded target, with the reason */
        }
        loader_close(&loader);
        if (r < 0)
                return r;
        if (run->op.n_steps)
                end_operation(run, RESULT_FAILED, why->message ?: "the configuration could not be taken over", NULL);
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
        r = reconcile(m, &run, e);
        if (r < 0)
                return r;
        name = run.op.kind == OPERATION_UPGRADE ? "MIGRATE_CONFIG" : "RESTORE_CONFIG";
        tracked = run.op.n_steps && run.op.result == RESULT_IN_PROGRESS && !run.op.staged && run.op.to_slot == m->booted;
        r = tracked ? run_step(&run, name, step_config, &why) : step_config(&run, &why);
        if (r >= 0) {
                error_done(&why);
                return 0;
        }
        if (why.kind == &kind_hook && m->state.set.slots[m->booted].state == SLOT_TRIAL && give_up_slot(m, &run, &why, NULL) == -EHOSTDOWN)
                r = -EHOSTDOWN;
        fail(e, r, why.kind, "%s", why.message ?: error_text(r));
        if (why.hint)
                fail_hint(e, "%s", why.hint);
        error_done(&why);
        return r;
}
