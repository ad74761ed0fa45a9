/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the units call. On an image nothing is rebooted: there the switch follows at once. */
#include <fcntl.h>
#include <time.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/parse.h"
#include "cli/bar.h"
#include "cli/cli.h"
#include "cli/verbs.h"
#include "operation/degraded.h"
#include "slot/kinds.h"

#define CONFIRMED_INTERVAL (2 * USEC_PER_SEC)

/* Leaves the slot that failed. */
static int leave(struct machine *m, struct observer *o, struct error *e)
{
        return m->offline ? operation_switch(m, o, e) : operation_reboot(m, 0, e);
}

typedef int (*unit_work)(struct machine *m, struct observer *o, struct error *e);

/* Opens the machine, shows what is at work; `done` is said at the end, NULL: the caller has the last word. */
static int run_for_unit(struct verb_args *args, unit_work work, const char *done, struct error *e)
{
        struct cli *cli = cli_from(args);
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        _cleanup_bar_ struct bar bar;
        int r;

        bar_init(&bar, cli);
        r = cli_open_machine(args, &m, e);
        if (r >= 0)
                r = work(&m, &bar.observer, e);
        bar_done(&bar);
        return r < 0 || !done ? r : cli_done(cli, "%s", done);
}

static int configure(struct machine *m, struct observer *o, struct error *e)
{
        int r = operation_at_boot(m, o, e);

        degraded_note(m, r, e);
        if (r != -EHOSTDOWN)
                return r;
        fail(e, r, NULL, "slot %c cannot go on and was marked bad: another slot boots now", slot_name(m->booted));
        if (!m->offline)
                operation_reboot(m, 0, NULL);
        return r;
}

static int check_health(struct machine *m, struct observer *o, struct error *e)
{
        bool rollback = false;
        int r = operation_check_health(m, o, &rollback, e);

        if (rollback)
                leave(m, o, NULL);
        return r;
}

/* A system of somebody else, e.g. an existing machine's before its first upgrade. */
static bool runs_foreign(struct verb_args *args)
{
        const char *given = verb_value(args, "cmdline");
        _cleanup_free_ char *text = NULL, *slot = NULL;

        if (!given && (verb_has(args, "disk") || file_read(AT_FDCWD, "/proc/cmdline", 65536, &text, NULL) < 0))
                return false;
        slot = cmdline_get(given ?: text, "bootmgr.slot");
        return !slot;
}

int verb_boot_config(struct verb_args *args, struct error *e)
{
        int r = run_for_unit(args, configure, "the configuration is this version's", e);

        if (r >= 0 || r == -EHOSTDOWN || !runs_foreign(args))
                return r;
        /* What it runs with was never ours to give, and no reason for the degraded target. */
        cli_warn("%s", e->message ?: error_text(r));
        error_done(e);
        return cli_done(cli_from(args), "what runs was not installed by bootmgr: its configuration is its own");
}

int verb_switch_at_shutdown(struct verb_args *args, struct error *e)
{
        return run_for_unit(args, operation_switch, "nothing is left to be done at this shutdown", e);
}

int verb_carry_config(struct verb_args *args, struct error *e)
{
        return run_for_unit(args, operation_carry, "the /etc of the other slot is prepared", e);
}

int verb_check_health(struct verb_args *args, struct error *e)
{
        return run_for_unit(args, check_health, "healthy", e);
}

int verb_confirm(struct verb_args *args, struct error *e)
{
        return run_for_unit(args, operation_confirm, "confirmed", e);
}

/* Since boot, suspended time included: a machine that sleeps is not healthy either. */
static uint64_t since_boot(void)
{
        struct timespec t = {};

        clock_gettime(CLOCK_BOOTTIME, &t);
        return (uint64_t)t.tv_sec * USEC_PER_SEC + (uint64_t)t.tv_nsec / 1000;
}

/* What a record that cannot be read would say of the running slot. */
static bool entry_is_on_trial(struct machine *m)
{
        _cleanup_free_ struct loader_entry *entries = NULL;
        size_t n = 0;

        if (machine_list_entries(m, &entries, &n, NULL) < 0)
                return false;
        for (size_t i = 0; i < n; i++)
                if (entries[i].slot == m->booted && entries[i].generation == m->booted_generation)
                        return entries[i].tries_left >= 0 && !entries[i].confirmed;
        return false;
}

/* 1: the booted slot is on trial; 0: it is not. Opened anew each time: another process confirms. */
static int on_trial(struct verb_args *args, uint64_t *ret_deadline, struct error *e)
{
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        int r;

        r = cli_open_machine(args, &m, e);
        if (r < 0)
                return r;
        *ret_deadline = m.config.health_deadline;
        if (m.booted != SLOT_NONE && m.state_lost)
                return entry_is_on_trial(&m);
        return m.booted != SLOT_NONE && m.state.set.slots[m.booted].state == SLOT_TRIAL;
}

static int go_back(struct machine *m, struct observer *o, struct error *e)
{
        struct rollback_options options = { .automatic = true, .why = REASON_DEADLINE };
        int r = machine_lock_patiently(m, e);

        if (r >= 0)
                r = machine_need_record(m, e);
        /* It was being confirmed when the time was over. */
        if (r >= 0 && (m->booted == SLOT_NONE || m->state.set.slots[m->booted].state != SLOT_TRIAL))
                return 1;
        if (r >= 0)
                r = rollback_prepare(m, &options, o, e);
        return r < 0 ? r : leave(m, o, e);
}

static int give_up_waiting(struct verb_args *args, uint64_t deadline, struct error *e)
{
        int r = run_for_unit(args, go_back, NULL, e);

        if (r < 0)
                return r;
        if (r > 0)
                return cli_done(cli_from(args), "not on trial");
        return fail(e, -ETIMEDOUT, &kind_unhealthy, "not confirmed within %llu s after the boot: rolled back",
                    (unsigned long long)(deadline / USEC_PER_SEC));
}

int verb_wait_confirmed(struct verb_args *args, struct error *e)
{
        struct cli *cli = cli_from(args);
        uint64_t deadline = 0;
        int r;

        while (!*cli_cancelled()) {
                r = on_trial(args, &deadline, e);
                if (r < 0)
                        return r;
                if (r == 0)
                        return cli_done(cli, "not on trial");
                if (since_boot() >= deadline)
                        return give_up_waiting(args, deadline, e);
                cli_sleep(MIN(CONFIRMED_INTERVAL, deadline - since_boot()));
        }
        return fail(e, -ECANCELED, &kind_interrupted, "interrupted before the running version was confirmed");
}
