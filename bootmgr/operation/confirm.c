/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* When the system is up: health, confirmation. The order of writes of a confirmation:
 *
 *      the entry without a counter, then the counted one goes     cut: the next boot is this slot's again
 *      record: CONFIRMED, operation DONE                          cut: JSON is behind; the next boot says so
 *      JSON, then what became unreachable is removed
 */
#include <fcntl.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/log.h"
#include "operation/health.h"
#include "operation/messages.h"
#include "operation/reserve.h"
#include "operation/steps.h"
#include "operation/upkeep.h"
#include "slot/kinds.h"
#include "snapshot/owner.h"

static bool on_trial(const struct machine *m)
{
        return m->booted != SLOT_NONE && m->state.set.slots[m->booted].state == SLOT_TRIAL;
}

/* The newest operation, when it is the one whose trial runs now; else run->op stays empty. */
static void resume_trial(struct run *run, struct machine *m, struct observer *o)
{
        if (run_resume(run, m, o, NULL) < 0)
                *run = (struct run){ .m = m, .o = o, .root = RANGE_CLOSED };
        if (run->op.result != RESULT_IN_PROGRESS || run->op.staged || run->op.to_slot != m->booted)
                operation_done(&run->op);
}

/* Under the lock again, with what the record says by now: while the checks run, a rollback may take the place of what
 * they belong to (the deadline, rollback.target, an operator). What is at work then owns the steps. */
static int resume_checks(struct run *run)
{
        int r;

        r = machine_lock_patiently(run->m, NULL);
        if (r < 0)
                return r;
        if (!operation_is_superseded(&run->m->state.set, &run->op))
                return 0;
        run->op.sequence = 0; /* not to be saved any more */
        return -ECANCELED;
}

static int report_check(struct progress *p, uint64_t done, uint64_t total, const char *message)
{
        struct run *run = p->userdata;
        int r;

        r = resume_checks(run);
        if (r >= 0)
                r = progress_report(run->current ? &run->progress : NULL, done, total, message);
        machine_unlock(run->m);
        return r;
}

/* A check may take its time, or hang: the lock is not held meanwhile. */
static int run_checks(struct run *run, struct health_result *ret, struct error *e)
{
        struct progress progress = { .report = report_check, .userdata = run };
        int r, again;

        machine_unlock(run->m);
        r = health_run(HEALTH_DIRECTORY, run->m->config.health_timeout, &progress, ret, e);
        again = resume_checks(run);
        if (again >= 0)
                return r;
        if (e)
                error_done(e);
        return again;
}

static int step_health(struct run *run, struct error *e)
{
        struct health_result result = {};
        int r;

        if (run->m->offline) {
                run_note(run, "nothing runs on an image");
                return STEP_SKIP;
        }
        if (run->m->lock >= 0)
                r = run_checks(run, &result, e);
        else /* not on trial: nothing follows from it */
                r = health_run(HEALTH_DIRECTORY, run->m->config.health_timeout, NULL, &result, e);
        if (r >= 0)
                run_note(run, "%u checks passed%s", result.passed, result.warned ? ", some wanted ones failed" : "");
        return r;
}

int operation_check_health(struct machine *m, struct observer *o, bool *ret_rollback, struct error *e)
{
        _cleanup_run_ struct run run = { .root = RANGE_CLOSED };
        struct rollback_options back = { .automatic = true, .why = REASON_HEALTH };
        _cleanup_free_ char *reason = NULL;
        struct error why = {};
        int r;

        *ret_rollback = false;
        operation_came_up(m);
        if (!on_trial(m)) {
                run = (struct run){ .m = m, .root = RANGE_CLOSED };
                r = step_health(&run, e);
                return MIN(r, 0);
        }
        r = machine_lock_patiently(m, e);
        if (r < 0)
                return r;
        resume_trial(&run, m, o);
        r = run.op.n_steps ? run_step(&run, "CHECK_HEALTH", step_health, e) : MIN(step_health(&run, e), 0);
        /* Only a check that failed is a reason to go back; one that could not be made or was stopped by a
         * shutdown, leaves it to the deadline. */
        if (r >= 0 || !e || e->kind != &kind_unhealthy || (o && o->cancelled && *o->cancelled))
                return r;
        reason = xasprintf("%s (found out by the health checks)", e->message);
        back.reason = reason;
        if (rollback_prepare(m, &back, o, &why) >= 0)
                *ret_rollback = true;
        else
                log_error("%s", why.message ?: "the automatic rollback could not be prepared");
        error_done(&why);
        return r;
}

/* The entry by which the loader can start a slot: its newest that has its files, else its newest. NULL: none. */
static const struct loader_entry *entry_to_keep(const struct loader_entry *entries, size_t n, int slot)
{
        const struct loader_entry *newest = NULL;

        for (size_t i = 0; i < n; i++) {
                if (entries[i].slot != slot)
                        continue;
                if (entries[i].usable)
                        return &entries[i];
                newest = newest ?: &entries[i];
        }
        return newest;
}

/* What must stay: what runs, and one entry of every other slot that can be booted. */
static int keep_list(struct machine *m, struct loader *l, uint64_t keep[static SLOT_MAX], struct error *e)
{
        _cleanup_free_ struct loader_entry *entries = NULL;
        size_t n;
        int r, kept = 0;

        r = l->ops->list(l, &entries, &n, e);
        if (r < 0)
                return r;
        for (int s = 0; s < m->state.set.n_slots; s++) {
                const struct loader_entry *entry = entry_to_keep(entries, n, s);

                if (entry && slot_is_selectable(&m->state.set.slots[s]))
                        keep[kept++] = entry->generation;
        }
        return kept;
}

static void remove_unreachable(struct machine *m, struct loader *l)
{
        uint64_t keep[SLOT_MAX];
        uint8_t digests[SLOT_MAX][DIGEST_SIZE];
        struct error why = {};
        size_t n_digests = 0;
        int n;

        n = keep_list(m, l, keep, &why);
        if (n > 0)
                n = l->ops->prune(l, keep, (size_t)n, &why);
        if (n < 0)
                log_warning("old boot entries stay: %s", why.message ?: error_text(n));
        error_done(&why);
        for (int s = 0; s < m->state.set.n_slots; s++)
                if (slot_has_snapshot(&m->state.set.slots[s]))
                        memcpy(digests[n_digests++], m->state.set.slots[s].snapshot, DIGEST_SIZE);
        if (m->snapshots.data >= 0 && snapshot_prune(&m->snapshots, digests, n_digests, &why) < 0)
                log_warning("old snapshots stay: %s", why.message ?: "");
        error_done(&why);
}

/* A power cut may have taken the entry while its tries were counted, and an older one of the same slot has started it. */
static int confirm_entry(struct run *run, struct error *e)
{
        const struct slot *slot = &run->m->state.set.slots[run->m->booted];
        struct entry_spec spec;
        int r = run->loader.ops->confirm(&run->loader, slot->generation, e);

        if (r != -ENOENT || is_all_zero(slot->kernel, BOOT_FILE_ID_SIZE))
                return r;
        if (e)
                error_done(e);
        spec = entry_spec_for(run->m, run->m->booted, slot->generation);
        return run->loader.ops->switch_to(&run->loader, &spec, 0, e);
}

static int step_confirm(struct run *run, struct error *e)
{
        struct machine *m = run->m;
        struct slot *slot = &m->state.set.slots[m->booted];
        int r;

        r = confirm_entry(run, e);
        if (r < 0)
                return r;
        slot_set_confirm(&m->state.set, m->booted);
        if (run->op.n_steps)
                record_operation(&m->state.set, &run->op, OPERATION_DONE, m->state.set.operation_reason);
        else if (m->state.set.operation_state == OPERATION_RUNNING)
                m->state.set.operation_state = OPERATION_DONE;
        r = machine_save(m, e);
        if (r >= 0)
                run_note(run, "generation %llu, slot %c", (unsigned long long)slot->generation, slot_name(m->booted));
        return r;
}

/* A version that runs with another one's configuration, or a half restored one, has not proved anything. */
static int check_owner(struct machine *m, struct error *e)
{
        const struct slot *slot = &m->state.set.slots[m->booted];
        struct owner owner = {};
        int r;

        r = m->snapshots.data < 0 ? 0 : owner_read(m->snapshots.data, &owner, e);
        if (r < 0)
                return r;
        if (owner.phase == OWNER_OWNED && owner.slot == m->booted && streq(owner.version, slot->version))
                return 0;
        fail(e, -EBUSY, &kind_degraded, "version %s runs without its configuration: it is not confirmed", slot->version);
        return fail_hint(e, "'bootmgr boot-config' says why, and puts it in place once it can");
}

void operation_came_up(const struct machine *m)
{
        if (m->booted != SLOT_NONE && m->snapshots.data >= 0 &&
            faccessat(m->snapshots.data, COMING_UP_NAME, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
                io_unlink(m->snapshots.data, COMING_UP_NAME, 0);
}

int operation_confirm(struct machine *m, struct observer *o, struct error *e)
{
        _cleanup_run_ struct run run = { .root = RANGE_CLOSED };
        const char *version;
        int r;

        r = machine_lock_patiently(m, e);
        if (r < 0)
                return r;
        r = machine_need_record(m, e);
        if (r < 0)
                return r;
        if (!on_trial(m)) {
                operation_came_up(m);
                if (m->booted == SLOT_NONE)
                        return 0;
                upkeep_alone(m); /* confirmed already: what somebody took away meanwhile is put back */
                reserve_renew(m);
                return 0;
        }
        if (m->state.set.operation_state == OPERATION_STAGED)
                return 0; /* it is about to be left: a rollback was prepared meanwhile */
        r = check_owner(m, e);
        if (r < 0)
                return r;
        resume_trial(&run, m, o);
        r = machine_open_loader(m, true, &run.loader, e);
        if (r < 0)
                return r;
        run.loader_open = true;
        r = run.op.n_steps ? run_step(&run, "CONFIRM", step_confirm, e) : step_confirm(&run, e);
        if (r < 0)
                return r;
        if (run.op.n_steps) {
                operation_end(&run.op, RESULT_DONE, NULL);
                run_save(&run, true, NULL);
        }
        operation_came_up(m);
        version = m->state.set.slots[m->booted].version;
        log_event(MESSAGE_CONFIRMED, NULL, "version %s in slot %c is confirmed", version, slot_name(m->booted));
        remove_unreachable(m, &run.loader);
        upkeep(m, &run.loader);
        reserve_renew(m);
        return 0;
}
