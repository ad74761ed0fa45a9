/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Going back, and going to a slot by name: checks, then staged. The order of writes:
 *
 *      (automatic) record: a slot whose boot files are damaged is bad; its entries go
 *                                                                       cut: entries of a bad slot, which nothing chooses
 *      JSON: what it supersedes is closed, the new operation begins     cut: it is closed as interrupted
 *      record: STAGED, with the new operation's id  <- from here on     cut: the next shutdown goes on
 */
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "operation/boot_files.h"
#include "operation/explain.h"
#include "operation/messages.h"
#include "operation/refused.h"
#include "operation/reserve.h"
#include "operation/steps.h"
#include "slot/kinds.h"

/* An automatic return is bound by nothing but a bootable slot and the daily limit. */
static int check_automatic(struct run *run, struct error *e)
{
        struct slot_set *set = &run->m->state.set;
        int done = slot_set_auto_rollbacks(set, now_realtime());

        if (run->op.to_slot == SLOT_NONE) {
                fail(e, -ENOENT, &kind_previous_not_bootable, "no other slot can be booted");
                return fail_hint(e, "'bootmgr status' says what is wrong with each");
        }
        if (done >= (int)run->m->config.max_auto_rollbacks) {
                fail(e, -EDQUOT, &kind_too_many_rollbacks, "%d automatic rollbacks within a day: no further one is made",
                     done);
                return fail_hint(e,
                                 "look at 'bootmgr show upgrade history', then 'bootmgr rollback system'; 'bootmgr upgrade "
                                 "clear' forgets those of a clock that was ahead");
        }
        run_note(run, "automatic, %d within a day", done);
        return 0;
}

int step_check_previous(struct run *run, struct error *e)
{
        _cleanup_checks_ struct check_list checks = {};
        int r;

        if (run->op.automatic)
                return check_automatic(run, e);
        r = check_rollback(run->m, run->rollback, &checks, e);
        if (r >= 0)
                r = check_list_verdict(&checks, e);
        if (r >= 0)
                run_note(run, "%zu checks passed", checks.n);
        return r;
}

static int check_activate(struct run *run, struct error *e)
{
        struct machine *m = run->m;
        const struct slot *s = &m->state.set.slots[run->op.to_slot];
        struct entry_spec spec;
        uint64_t highest;
        int r;

        if (!slot_is_selectable(s) || s->state == SLOT_INSTALLED) {
                fail(e, -ENOEXEC, &kind_slot_not_bootable, "slot %c is %s%s%s", slot_name(run->op.to_slot),
                     s->state == SLOT_INSTALLED ? "installed but never ran, its configuration was not carried"
                                                : slot_state_to_string(s->state),
                     s->reason ? ": " : "", slot_reason_to_string(s->reason));
                return fail_hint(e, "install a version into it with 'bootmgr upgrade system'");
        }
        if (s->security_version < m->state.set.floor)
                return fail(e, -EPERM, &kind_below_floor, "version %s has security version %llu, below the floor %llu",
                            s->version, (unsigned long long)s->security_version, (unsigned long long)m->state.set.floor);
        r = check_slot_snapshot(m, run->op.to_slot, NULL, e);
        if (r >= 0)
                r = check_slot_room(m, run->op.to_slot, true, NULL, e);
        if (r >= 0)
                r = machine_check_esp(m, e);
        if (r >= 0)
                r = machine_open_loader(m, true, &run->loader, e);
        if (r < 0)
                return r;
        run->loader_open = true;
        r = run->loader.ops->check_boot_file(&run->loader, s->kernel, e);
        if (r >= 0)
                r = loader_highest_generation(&run->loader, &highest, e);
        if (r < 0)
                return r;
        spec = entry_spec_for(m, run->op.to_slot, MAX(highest, m->state.set.generation) + 1);
        return check_entry(m, &run->loader, &spec, e);
}

/* What an operation that is still on its way becomes when this one takes its place. */
static int supersede(struct machine *m, const struct operation *by, const char *reason, struct error *e)
{
        _cleanup_operation_ struct operation op = {};
        _cleanup_free_ char *why = NULL;
        int r;

        r = operation_load_newest(m, &op, NULL);
        if (r < 0 || op.result != RESULT_IN_PROGRESS)
                return 0;
        why = xasprintf("%s; superseded by a rollback", reason);
        operation_end(&op, op.staged ? RESULT_ABORTED : RESULT_FAILED, why);
        strcpy(op.superseded_by, by->id);
        return operation_save(m, &op, true, e);
}

static int write_steps(struct run *run, const char *sentence, struct error *e)
{
        int r;

        reserve_release_record(run->m);
        r = supersede(run->m, &run->op, sentence, e);
        if (r >= 0)
                r = run_save(run, true, e);
        return r < 0 ? fail_hint(e, "make room on the data partition, then try again") : 0;
}

static int stage(struct run *run, enum slot_reason reason, const char *sentence, const char *id, struct error *e)
{
        struct machine *m = run->m;
        _cleanup_error_ struct error why = {};
        int r;

        r = operation_begin(m, &run->op, id, e);
        if (r < 0)
                return r;
        run->op.staged = true;
        run->op.reason = strdup(sentence);
        r = write_steps(run, sentence, run_must_go_on(run) ? &why : e);
        if (r < 0 && !run_must_go_on(run)) {
                run->op.staged = false; /* who looks on was told what could not be written */
                operation_end(&run->op, RESULT_FAILED, e && e->message ? e->message : error_text(r));
                if (run->o && run->o->changed)
                        run->o->changed(run->o, &run->op);
                return r;
        }
        if (r < 0)
                log_warning("%s: the rollback goes on by the state record alone", why.message ?: error_text(r));
        record_operation(&m->state.set, &run->op, OPERATION_STAGED, reason);
        /* Counted before anybody knows whether the bootloader can be told: what cannot must not be tried for ever. */
        if (run->op.automatic)
                slot_set_note_auto_rollback(&m->state.set, now_realtime());
        r = machine_save(m, e);
        if (r < 0)
                return r;
        log_event(MESSAGE_ROLLBACK_STARTED, NULL, "going from version %s to version %s in slot %c: %s", run->op.from_version,
                  run->op.to_version, slot_name(run->op.to_slot), sentence);
        return 0;
}

/* Asked for twice is asked for once: the same return is staged already. */
static bool is_staged_already(const struct slot_set *set, int to)
{
        return set->operation_state == OPERATION_STAGED && set->operation == OPERATION_ROLLBACK && set->operation_to == to;
}

/* What the deadline has interrupted, e.g. a check that hangs: "CHECK_HEALTH was at 60-hangs"; NULL: nothing. */
static char *what_runs(struct machine *m)
{
        _cleanup_operation_ struct operation op = {};

        if (operation_load_newest(m, &op, NULL) < 0 || op.result != RESULT_IN_PROGRESS)
                return NULL;
        for (size_t i = 0; i < op.n_steps; i++)
                if (op.steps[i].state == STEP_RUNNING)
                        return xasprintf("%s%s%s", op.steps[i].name, op.steps[i].message ? " was at " : " had not ended",
                                         op.steps[i].message ?: "");
        return NULL;
}

/* Why, and where it was found out. */
static char *explain(struct machine *m, const struct rollback_options *options)
{
        const char *sentence = options->reason ?: options->automatic ? slot_reason_to_string(options->why) : NULL;
        _cleanup_free_ char *running = options->automatic && options->why == REASON_DEADLINE ? what_runs(m) : NULL;

        return xasprintf("%s%s%s%s", sentence ?: "asked for by an operator", running ? ": " : "", running ?: "",
                         options->automatic && options->why != REASON_HEALTH ? explain_place(options->why) : "");
}

int rollback_prepare(struct machine *m, const struct rollback_options *options, struct observer *o, struct error *e)
{
        _cleanup_run_ struct run run = { .root = RANGE_CLOSED };
        _cleanup_error_ struct error damage = {};
        _cleanup_free_ char *sentence = NULL;
        int from, to, r;

        r = options->automatic ? machine_lock_patiently(m, e) : machine_lock(m, e);
        if (r >= 0) /* a set without a slot would say that there is nothing to go back to */
                r = machine_need_record(m, e);
        if (r < 0)
                return r;
        from = machine_reference_slot(m);
        to = options->automatic ? automatic_target(&m->state.set, from) : m->state.set.previous;
        if (to != SLOT_NONE && is_staged_already(&m->state.set, to))
                return 0;
        if (options->automatic)
                to = boot_files_target(m, from, &damage);
        if (to == SLOT_NONE && damage.message) {
                fail(e, -ENOENT, &kind_previous_not_bootable, "no other slot can be booted: %s", damage.message);
                return fail_hint(e, "'bootmgr status' says what is wrong with each");
        }
        /* Switched away from, but still running: what is gone back from is where the switch went. */
        if (to != SLOT_NONE && from == to && m->state.set.phase == SWITCH_SWITCHED)
                from = m->state.set.target;
        sentence = explain(m, options);
        if (!sentence)
                return -ENOMEM;
        run_init(&run, m, OPERATION_ROLLBACK, from, to, o);
        run.rollback = options;
        run.op.automatic = options->automatic;
        run.op.local = options->local;
        run.op.without_snapshot = options->without_snapshot;
        r = run_step(&run, "CHECK_PREVIOUS", step_check_previous, e);
        if (r < 0)
                return r; /* refused: nothing was changed, so nothing is recorded */
        return stage(&run, options->automatic ? options->why : REASON_OPERATOR, sentence, options->id, e);
}

static int activate(struct machine *m, int slot, bool way_back, const char *reason, const char *id, struct observer *o,
                    struct error *e)
{
        _cleanup_run_ struct run run = { .root = RANGE_CLOSED };
        _cleanup_operation_ struct operation op = {};
        int from, r;

        r = machine_lock(m, e);
        if (r < 0)
                return r;
        if (slot < 0 || slot >= m->state.set.n_slots || !m->disk.slots[slot].present)
                return fail(e, -ENOENT, &kind_usage, "%s has no slot %c", m->disk.path, slot_name(slot));
        from = machine_reference_slot(m);
        if (operation_current(m, &op, NULL) >= 0 && op.result == RESULT_IN_PROGRESS) {
                fail(e, -EBUSY, &kind_busy, "%s to %s is not finished", operation_kind_to_string(op.kind), op.to_version);
                return fail_hint(e, "%s", operation_way_out(m, &op));
        }
        if (slot == from) {
                fail(e, -EEXIST, &kind_slot_in_use, "slot %c is the one that runs", slot_name(slot));
                return fail_hint(e, "'bootmgr status' lists the others");
        }
        run_init(&run, m, OPERATION_ACTIVATE, from, slot, o);
        run.op.way_back = way_back && from != SLOT_NONE && slot_is_known(&m->state.set.slots[from]);
        r = run_step(&run, "CHECK_PREVIOUS", check_activate, e);
        if (r < 0)
                return r;
        r = refused_forget(m, m->state.set.slots[slot].digest, e);
        if (r < 0)
                return r;
        return stage(&run, REASON_OPERATOR, reason, id, e);
}

int activate_prepare(struct machine *m, int slot, const char *id, struct observer *o, struct error *e)
{
        return activate(m, slot, false, "activated by an operator", id, o, e);
}

int activate_for_cluster(struct machine *m, int slot, bool way_back, const char *id, struct observer *o, struct error *e)
{
        return activate(m, slot, way_back, "the cluster runs that version", id, o, e);
}
