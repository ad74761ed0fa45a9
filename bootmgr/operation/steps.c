/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "operation/steps.h"

#include <stdarg.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "loader/entry.h"
#include "operation/messages.h"
#include "operation/reserve.h"
#include "slot/kinds.h"

#define REPORT_INTERVAL (250 * USEC_PER_MSEC)

static const struct step upgrade_steps[] = {
        { "CHECK_BUNDLE", STEP_PREPARE, step_check_bundle },
        { "WRITE_IMAGE", STEP_PREPARE, step_write_image },
        { "VERIFY_IMAGE", STEP_PREPARE, step_verify_image },
        { "INSTALL_BOOT_FILES", STEP_PREPARE, step_install_boot_files },
        { "STOP_SERVICES", STEP_SHUTDOWN, step_stop_services },
        { "CARRY_CONFIG", STEP_SHUTDOWN, step_carry_config },
        { "SNAPSHOT_CONFIG", STEP_SHUTDOWN, step_snapshot_config },
        { "RECORD_PREVIOUS", STEP_SHUTDOWN, step_record_previous },
        { "SWITCH_ENTRY", STEP_SHUTDOWN, step_switch_entry }, /* the commit */
        { "REBOOT", STEP_BOOT, NULL },
        { "MIGRATE_CONFIG", STEP_BOOT, NULL },
        { "CHECK_HEALTH", STEP_BOOT, NULL },
        { "CONFIRM", STEP_BOOT, NULL },
        {},
};

static const struct step rollback_steps[] = {
        { "CHECK_PREVIOUS", STEP_PREPARE, step_check_previous },
        { "STOP_SERVICES", STEP_SHUTDOWN, step_stop_services },
        { "SNAPSHOT_CONFIG", STEP_SHUTDOWN, step_snapshot_config },
        { "SWITCH_ENTRY", STEP_SHUTDOWN, step_switch_entry }, /* the commit */
        { "REBOOT", STEP_BOOT, NULL },
        { "RESTORE_CONFIG", STEP_BOOT, NULL },
        { "CHECK_HEALTH", STEP_BOOT, NULL },
        { "CONFIRM", STEP_BOOT, NULL },
        {},
};

const struct step *steps_of(enum operation_kind kind)
{
        /* Going to a slot by name takes the steps of a rollback: only the checks differ. */
        return kind == OPERATION_UPGRADE ? upgrade_steps : rollback_steps;
}

const char *operation_way_out(const struct machine *m, const struct operation *op)
{
        if (op->staged)
                return "reboot, or " GIVE_IT_UP;
        if (m->state.set.previous != SLOT_NONE)
                return "wait until it is confirmed, or 'bootmgr rollback system'";
        return "wait until it is confirmed: a version that does not come up is left by itself";
}

/* What is at work now is said at once: if it hangs, that is what must be there to be read. */
static bool is_news(const struct step_record *step, const char *message)
{
        return step && message && (!step->message || !streq(step->message, message));
}

/* "312 of 700 MiB, 4.1 MiB/s, 95 s left; 512 KiB fetched, 100 MiB reused": over the whole step, so that the time left does
 * not jump about; once what is reused is there, over what comes, since nothing else does any more. */
static void show_transfer(struct step_record *s, const struct transfer *from, uint64_t done)
{
        struct step_transfer *t = &s->transfer;
        uint64_t start = MAX(from->since, s->start), usec = MAX(now_realtime(), start + 1) - start;
        uint64_t moved = done - MIN(from->before, done);
        char rate[SIZE_TEXT], fetched[SIZE_TEXT], reused[SIZE_TEXT];
        struct buf b = {};

        *t = (struct step_transfer){ .done = done, .total = from->total, .fetched = from->fetched, .reused = from->reused };
        t->rate = (uint64_t)((double)moved * USEC_PER_SEC / (double)usec);
        t->left = t->rate ? (t->total - MIN(done, t->total)) / t->rate : 0;
        format_size(t->rate, rate);
        format_size(t->fetched, fetched);
        format_size(t->reused, reused);
        buf_printf(&b, "%llu of %llu MiB, %s/s, %llu s left", (unsigned long long)(done >> 20),
                   (unsigned long long)(t->total >> 20), rate, (unsigned long long)t->left);
        if (t->fetched > 0 || t->reused > 0)
                buf_printf(&b, "; %s fetched, %s reused", fetched, reused);
        free(s->message);
        s->message = buf_take(&b);
}

static int report(struct progress *p, uint64_t done, uint64_t total, const char *message)
{
        struct run *run = p->userdata;
        uint64_t now = now_monotonic();

        if (run->o && run->o->cancelled && *run->o->cancelled)
                return -ECANCELED;
        if (now - run->last_report < REPORT_INTERVAL && done < total && !is_news(run->current, message))
                return 0;
        run->last_report = now;
        if (run->current) {
                run->current->progress = total ? (unsigned)(MIN(done, total) * 100 / total) : 0;
                if (message) {
                        free(run->current->message);
                        run->current->message = strdup(message);
                } else if (p->transfer.total > 0) {
                        show_transfer(run->current, &p->transfer, done);
                }
        }
        run_save(run, false, NULL);
        return 0;
}

void run_init(struct run *run, struct machine *m, enum operation_kind kind, int from, int to, struct observer *o)
{
        const struct step *table = steps_of(kind);

        *run = (struct run){
                .m = m,
                .o = o,
                .root = RANGE_CLOSED,
                .op = { .kind = kind, .from_slot = from, .to_slot = to, .start = now_realtime() },
        };
        run->progress = (struct progress){ .report = report, .userdata = run };
        if (from != SLOT_NONE)
                strcpy(run->op.from_version, m->state.set.slots[from].version);
        if (to != SLOT_NONE && kind != OPERATION_UPGRADE)
                strcpy(run->op.to_version, m->state.set.slots[to].version);
        for (size_t i = 0; table[i].name; i++)
                strcpy(run->op.steps[run->op.n_steps++].name, table[i].name);
}

int run_resume(struct run *run, struct machine *m, struct observer *o, struct error *e)
{
        *run = (struct run){ .m = m, .o = o, .root = RANGE_CLOSED };
        run->progress = (struct progress){ .report = report, .userdata = run };
        return operation_load_newest(m, &run->op, e);
}

void run_close_loader(struct run *run)
{
        if (TAKE(run->loader_open, false))
                loader_close(&run->loader);
}

void run_done(struct run *run)
{
        run->bundle = bundle_free(run->bundle);
        range_close(&run->root);
        run_close_loader(run);
        free(TAKE_PTR(run->note));
        operation_done(&run->op);
}

void run_note(struct run *run, const char *fmt, ...)
{
        struct buf b = {};
        va_list ap;

        va_start(ap, fmt);
        buf_vprintf(&b, fmt, ap);
        va_end(ap);
        free(run->note);
        run->note = buf_take(&b);
}

int run_save(struct run *run, bool durable, struct error *e)
{
        int r = 0;

        if (run->op.sequence > 0)
                r = operation_save(run->m, &run->op, durable, e);
        if (run->o && run->o->changed)
                run->o->changed(run->o, &run->op);
        return r;
}

void run_save_if_possible(struct run *run)
{
        _cleanup_error_ struct error why = {};

        if (run_save(run, true, &why) < 0)
                log_warning("%s", why.message ?: "the steps of the operation cannot be written");
}

bool run_must_go_on(const struct run *run)
{
        return run->op.kind == OPERATION_ROLLBACK && run->op.automatic;
}

/* One of an operation that a version with other steps began: before those that wait. NULL: there is no room. */
static struct step_record *add_step(struct operation *op, const char *name)
{
        struct step_record *s = op->steps;

        if (op->n_steps == OPERATION_MAX_STEPS)
                return NULL;
        while (s < op->steps + op->n_steps && s->state != STEP_WAITING)
                s++;
        memmove(s + 1, s, (size_t)(op->steps + op->n_steps - s) * sizeof(*s));
        op->n_steps++;
        *s = (struct step_record){};
        snprintf(s->name, sizeof(s->name), "%s", name);
        return s;
}

/* What is done is done without a line of its own, too. */
static void end_step(struct run *run, int code, const struct error *e)
{
        struct step_record *s = TAKE_PTR(run->current);
        _cleanup_free_ char *note = TAKE_PTR(run->note);

        if (!s)
                return;
        if (code < 0)
                step_end(s, STEP_FAILED, e && e->message ? e->message : error_text(code));
        else
                step_end(s, code == STEP_SKIP ? STEP_SKIPPED : STEP_DONE, note);
}

int run_step(struct run *run, const char *name, int (*function)(struct run *run, struct error *e), struct error *e)
{
        int r;

        run->current = operation_step(&run->op, name) ?: add_step(&run->op, name);
        run->progress.transfer = (struct transfer){};
        if (run->current)
                step_begin(run->current);
        run_save(run, false, NULL);
        r = run->o && run->o->cancelled && *run->o->cancelled ? -ECANCELED : function(run, e);
        if (r == -ECANCELED)
                fail(e, r, &kind_interrupted, "interrupted in %s", name);
        end_step(run, r, e);
        if (r < 0) {
                run_save(run, true, NULL);
                return r;
        }
        if (run->op.generation == 0 && !run_must_go_on(run))
                return run_save(run, true, e);
        run_save_if_possible(run);
        return 0;
}

int run_steps(struct run *run, enum step_when when, struct error *e)
{
        for (const struct step *s = steps_of(run->op.kind); s->name; s++) {
                int r;

                if (s->when != when)
                        continue;
                r = run_step(run, s->name, s->run, e);
                if (r < 0)
                        return r;
        }
        return 0;
}

void run_fail(struct run *run, int code, const struct error *e)
{
        const char *why = e && e->message ? e->message : error_text(code);
        const char *fields[] = { "BOOTMGR_RESULT=failed", NULL };

        operation_end(&run->op, code == -ECANCELED ? RESULT_ABORTED : RESULT_FAILED, why);
        record_operation(&run->m->state.set, &run->op, code == -ECANCELED ? OPERATION_ABORTED : OPERATION_FAILED,
                         run->m->state.set.operation_reason);
        if (run->op.sequence > 0)
                log_event(MESSAGE_OPERATION_FAILED, fields, "%s failed: %s", operation_kind_to_string(run->op.kind), why);
        run_save(run, true, NULL);
}

int run_abandon(struct run *run, int code, struct error *e)
{
        struct slot_set *set = &run->m->state.set;
        struct error why = {};

        run_fail(run, code, e);
        if (set->previous == run->op.from_slot)
                set->previous = SLOT_NONE; /* it was recorded for a switch that does not happen */
        reserve_keep(run->m);
        if (machine_save(run->m, &why) < 0)
                log_error("%s", why.message ?: "the state record could not be written");
        error_done(&why);
        return code;
}

void record_operation(struct slot_set *set, const struct operation *op, enum operation_state state, enum slot_reason reason)
{
        if (hex_decode(op->id, set->operation_id, sizeof(set->operation_id)) < 0)
                memset(set->operation_id, 0, sizeof(set->operation_id));
        set->operation = op->kind;
        set->operation_state = state;
        set->operation_reason = reason;
        set->operation_automatic = op->automatic;
        set->operation_from = op->from_slot;
        set->operation_to = op->to_slot;
}

bool slot_is_known(const struct slot *slot)
{
        return slot_has_system(slot) && *slot->version;
}

struct entry_spec entry_spec_for(struct machine *m, int slot, uint64_t generation)
{
        return boot_entry_spec(&m->disk, &m->state.set, slot, generation, m->config.cmdline, !m->config.etc_overlay);
}

int check_entry(struct machine *m, struct loader *loader, const struct entry_spec *spec, struct error *e)
{
        _cleanup_free_ char *text = NULL;
        int r;

        if (loader->ops == &loader_none)
                return 0;
        if (!*spec->root_partuuid) {
                fail(e, -ENODEV, &kind_slot_not_bootable,
                     "slot %c lies on %s, which has no PARTUUID that a boot entry could name", slot_name(spec->slot),
                     m->disk.slots[spec->slot].node);
                return fail_hint(e, "name a partition of a GPT in Slots=, or set Loader=none");
        }
        r = entry_format(spec, &text, e);
        if (r < 0 && e && e->message && e->kind == &kind_failed)
                e->kind = &kind_config_invalid; /* KernelCommandLine= is what makes it too long */
        return r < 0 ? r : loader->ops->would_choose(loader, spec, (int)m->config.tries, e);
}

int automatic_target(const struct slot_set *set, int from)
{
        if (set->previous != SLOT_NONE && set->previous != from && slot_is_selectable(&set->slots[set->previous]))
                return set->previous;
        for (int i = 0; i < set->n_slots; i++)
                if (i != from && slot_is_selectable(&set->slots[i]) && set->slots[i].state != SLOT_INSTALLED)
                        return i;
        return SLOT_NONE;
}
