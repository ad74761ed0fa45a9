/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A version on trial whose migration hook fails at its first boot: it is left for the other slot, with the hook's own words;
 * without another slot it stays. */
#include "bundles.h"

#include "operation/operation.h"
#include "operation/record.h"
#include "operation/run.h"
#include "storage/table.h"

#define RUNS_A "bootmgr.slot=a bootmgr.generation=1"
#define RUNS_B "bootmgr.slot=b bootmgr.generation=2"
#define BACK_A "bootmgr.slot=a bootmgr.generation=3" /* the entry that the failing boot has made */

static void open_machine(struct machine *m, const char *cmdline)
{
        struct machine_options options = { .disk = in_dir("disk.img"),
                                           .esp = in_dir("esp"),
                                           .data = in_dir("machine-data"),
                                           .config = in_dir("conf"),
                                           .hooks = in_dir("hooks"),
                                           .cmdline = cmdline };

        ck_ok(machine_open(&options, m, e));
}

static void upgrade(const char *cmdline)
{
        struct upgrade_options options = { .source = in_dir("bundle") };
        _cleanup_machine_ struct machine m;

        open_machine(&m, cmdline);
        ck_ok(upgrade_prepare(&m, &options, NULL, e));
        ck_ok(operation_switch(&m, NULL, e));
}

static void boot(const char *cmdline)
{
        _cleanup_machine_ struct machine m;

        open_machine(&m, cmdline);
        ck_ok(operation_at_boot(&m, NULL, e));
        ck_ok(operation_confirm(&m, NULL, e));
}

/* Slot a runs; b is on trial, and its hook will say no. */
static void begin(void)
{
        struct layout_spec spec = { .image_size = MIB(64), .esp_size = MIB(34), .root_size = MIB(4) };
        struct layout layout = {};

        bundles_begin();
        sh("mkdir esp machine-data hooks; printf '[System]\\nCompatible=box\\n[Trust]\\nDirectory=%s/trust\\n' >conf", dir);
        ck_ok(layout_make(in_dir("disk.img"), &spec, &layout, e));
        layout_done(&layout);
        upgrade("");
        boot(RUNS_A);
        upgrade(RUNS_A);
        sh("printf '#!/bin/sh\\necho no room for the new format; exit 3\\n' >hooks/10-format; chmod 755 hooks/10-format");
        sh("cp -a machine-data before");
}

static void ck_left(const char *reason)
{
        _cleanup_machine_ struct machine m;
        struct operation op = {};

        boot(BACK_A);
        open_machine(&m, BACK_A);
        ck_assert_int_eq(m.state.set.slots[0].state, SLOT_CONFIRMED);
        ck_ok(operation_load_newest(&m, &op, e));
        ck_assert_int_eq(op.result, RESULT_FAILED);
        ck_assert_str_eq(op.reason, reason);
        operation_done(&op);
}

START_TEST(another_slot_boots_instead)
{
        _cleanup_machine_ struct machine m;
        struct error e = {};

        open_machine(&m, RUNS_B);
        ck_assert_int_eq(operation_at_boot(&m, NULL, &e), -EHOSTDOWN);
        ck_assert_ptr_eq(e.kind, &kind_hook);
        error_done(&e);
        ck_assert_int_eq(m.state.set.slots[1].state, SLOT_BAD);
        ck_assert_int_eq(m.state.set.slots[1].reason, REASON_MIGRATION);
        ck_assert_int_eq(m.state.set.operation_state, OPERATION_FAILED);
        machine_close(&m);
        m = MACHINE_CLOSED;
        sh("test \"$(ls esp/loader/entries)\" = \"$(printf 'bootmgr-1-a.conf\\nbootmgr-3-a+3-0.conf')\"");
        if (_i) /* power went before the operation could say so: the record alone does */
                sh("rm -r machine-data; mv before machine-data");
        ck_left(_i ? "slot b, version 2.0: a migration hook failed (found out when the configuration was migrated)"
                   : "migration hook 10-format failed with status 3: no room for the new format (found out when the "
                     "configuration was migrated)");
}
END_TEST

/* The shutdown has released it for the seal; whatever the hook writes, the other slot comes up with its own. */
START_TEST(room_is_held_while_hooks_run)
{
        _cleanup_machine_ struct machine m;
        struct error e = {};

        sh("test ! -e machine-data/snapshots-reserve; printf '#!/bin/sh\\nfind \"$BOOTMGR_DATA\" -maxdepth 1 -name "
           "\"*-reserve\" "
           "-size +0 | wc -l >%s/held; exit 3\\n' >hooks/10-format",
           dir);
        open_machine(&m, RUNS_B);
        ck_assert_int_eq(operation_at_boot(&m, NULL, &e), -EHOSTDOWN);
        error_done(&e);
        sh("test \"$(cat held)\" = 2");
        machine_close(&m);
        m = MACHINE_CLOSED;
        boot(BACK_A); /* it is released for what is restored, and there is no way back any more */
        sh("test ! -e machine-data/snapshots-reserve && test ! -e machine-data/operations-reserve");
}
END_TEST

START_TEST(without_another_slot_it_stays)
{
        _cleanup_machine_ struct machine m;

        open_machine(&m, RUNS_B);
        ck_ok(machine_lock(&m, e));
        slot_set_mark_bad(&m.state.set, 0, REASON_OPERATOR);
        ck_ok(machine_save(&m, e));
        ck_refused_saying(operation_at_boot(&m, NULL, e), kind_hook, "no room for the new format");
        ck_assert_int_eq(m.state.set.slots[1].state, SLOT_TRIAL);
        sh("rm hooks/10-format"); /* mended by hand, it goes on */
        ck_ok(operation_at_boot(&m, NULL, e));
        ck_ok(operation_confirm(&m, NULL, e));
        ck_assert_int_eq(m.state.set.slots[1].state, SLOT_CONFIRMED);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("migration");
        TCase *t = tcase_create("migration");

        tcase_set_timeout(t, 120);
        tcase_add_checked_fixture(t, begin, machine_end);
        tcase_add_loop_test(t, another_slot_boots_instead, 0, 2);
        tcase_add_test(t, room_is_held_while_hooks_run);
        tcase_add_test(t, without_another_slot_it_stays);
        suite_add_tcase(s, t);
        return suite_run(s);
}
