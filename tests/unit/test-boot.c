/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The boot-time decision: the rows of the design's table (section 4), one after another. */
#include "boot-case.h"
#include "suite.h"

START_TEST(nothing_of_ours_runs)
{
        struct case_ c;

        for (int slot = SLOT_NONE; slot < 3; slot += 3) {
                upgraded(&c, 0);
                c.in.slot = slot;
                run(&c, BOOT_FOUND_NOTHING, BOOT_CONTINUE);
                ck_assert(!c.d.save);
        }
        ck_assert_str_eq(boot_found_to_string(_BOOT_FOUND_MAX), "unknown");
}
END_TEST

START_TEST(a_trial_is_counted_once)
{
        struct case_ c;

        upgraded(&c, 1);
        run(&c, BOOT_FOUND_TRIAL, BOOT_CONTINUE);
        ck_assert(c.d.save);
        ck_assert_int_eq(c.d.set.slots[1].attempts, 1);
        c.in.set = c.d.set;
        run(&c, BOOT_FOUND_TRIAL, BOOT_CONTINUE);
        ck_assert(!c.d.save);
        memcpy(c.in.boot_id, other_boot, 16);
        run(&c, BOOT_FOUND_TRIAL, BOOT_CONTINUE);
        ck_assert_int_eq(c.d.set.slots[1].attempts, 2);
}
END_TEST

/* Fewer tries left wins, either way. */
START_TEST(loader_and_record_may_count_differently)
{
        static const struct {
                int left, done, attempts, result;
        } rows[] = {
                { 3, 0, 0, 1 }, /* the loader cannot count */
                { 2, 1, 0, 1 }, /* both saw this boot only */
                { 1, 2, 0, 2 }, /* the boot before died before it was recorded */
                { 0, 3, 0, 3 }, /* two did */
                { 2, 1, 2, 3 }, /* the loader's count was lost */
                { 9, 0, 1, 2 }, /* somebody gave it more */
        };
        struct case_ c;

        upgraded(&c, 1);
        c.entries[0].tries_left = rows[_i].left;
        c.entries[0].tries_done = rows[_i].done;
        c.in.set.slots[1].attempts = (uint8_t)rows[_i].attempts;
        run(&c, BOOT_FOUND_TRIAL, BOOT_CONTINUE);
        ck_assert_int_eq(c.d.set.slots[1].attempts, rows[_i].result);
}
END_TEST

START_TEST(an_exhausted_trial_is_left)
{
        struct case_ c;

        upgraded(&c, 1);
        c.in.set.slots[1].attempts = 3;
        run(&c, BOOT_FOUND_EXHAUSTED, BOOT_REBOOT);
        ck_assert_int_eq(c.d.switch_to, 0);
        ck_assert_int_eq(c.d.bad_slot, 1);
        ck_assert_int_eq(c.d.set.slots[1].state, SLOT_BAD);
        ck_assert_int_eq(c.d.set.operation_state, OPERATION_FAILED);
        ck_assert_int_eq(c.d.set.operation_reason, REASON_TRIES_EXHAUSTED);
        ck_assert_int_eq(c.d.set.previous, SLOT_NONE);
        ck_assert_int_eq(c.d.set.target_generation, GENERATION_NEW);
        ck_assert_mem_eq(c.d.set.refused, c.in.set.slots[1].digest, DIGEST_SIZE);
        ck_assert_uint_eq(c.d.set.auto_rollbacks[0], 5);
        /* An older record beside a newer ESP: the generation is above both. */
        c.entries[2] = c.entries[1];
        c.entries[1] = c.entries[0];
        c.entries[0] = (struct loader_entry){ 20, 0, -1, 0, true, {}, {}, "" };
        c.in.n_entries = 3;
        run(&c, BOOT_FOUND_EXHAUSTED, BOOT_REBOOT);
        ck_assert_uint_eq(c.d.set.target_generation, 21);
}
END_TEST

/* The design: "a lower generation, and the newest has no tries or attempts left, or is marked bad". */
START_TEST(a_failed_trial_is_recorded_by_the_fallback)
{
        static const struct {
                int attempts, left;
                bool usable, marked;
                enum slot_reason why;
        } rows[] = {
                { 3, 0, true, false, REASON_TRIES_EXHAUSTED },
                { 0, 0, true, false, REASON_TRIES_EXHAUSTED }, /* never came as far as us */
                { 3, 3, true, false, REASON_TRIES_EXHAUSTED }, /* the loader cannot count */
                { 0, 3, false, false, REASON_BOOT_FILES },
                { 0, 3, true, true, REASON_OPERATOR },
        };
        struct case_ c;

        upgraded(&c, 0);
        c.in.set.slots[1].attempts = (uint8_t)rows[_i].attempts;
        c.entries[0].tries_left = rows[_i].left;
        c.entries[0].tries_done = 3 - rows[_i].left;
        c.entries[0].usable = rows[_i].usable;
        if (rows[_i].marked)
                slot_set_mark_bad(&c.in.set, 1, REASON_OPERATOR);
        run(&c, BOOT_FOUND_FALLBACK, BOOT_CONTINUE);
        ck_assert_int_eq(c.d.bad_slot, 1);
        ck_assert_int_eq(c.d.set.slots[1].state, SLOT_BAD);
        ck_assert_int_eq(c.d.set.slots[1].reason, rows[_i].why);
        ck_assert_int_eq(c.d.set.slots[0].state, SLOT_CONFIRMED);
        ck_assert_int_eq(c.d.set.operation_state, OPERATION_FAILED);
        ck_assert_int_eq(c.d.set.operation_reason, rows[_i].why);
        ck_assert_int_eq(c.d.set.phase, SWITCH_NONE);
        ck_assert_uint_eq(c.d.set.auto_rollbacks[0], rows[_i].marked ? 0 : 5);
}
END_TEST

/* "… or still has tries: nothing failed, nothing is restored". */
START_TEST(a_detour_changes_nothing)
{
        struct case_ c;

        upgraded(&c, 0);
        c.entries[0].tries_left -= _i;
        c.entries[0].tries_done += _i;
        c.in.set.slots[1].attempts = (uint8_t)_i;
        run(&c, BOOT_FOUND_DETOUR, BOOT_CONTINUE);
        ck_assert(!c.d.save);
}
END_TEST

/* Another loader starts the slots: no entries, and nothing follows from that. */
START_TEST(without_entries_only_the_record_counts)
{
        struct case_ c;

        upgraded(&c, 0);
        c.in.n_entries = 0;
        c.in.entries_known = _i;
        run(&c, BOOT_FOUND_DETOUR, BOOT_CONTINUE);
        ck_assert(!c.d.save);
        c.in.set.slots[1].attempts = 3;
        run(&c, BOOT_FOUND_FALLBACK, BOOT_CONTINUE);
        ck_assert_int_eq(c.d.set.slots[1].state, SLOT_BAD);
        slot_set_begin_switch(&c.in.set, 1, 0);
        run(&c, BOOT_FOUND_DETOUR, BOOT_CONTINUE);
        ck_assert(!c.d.save);
}
END_TEST

/* The one without a counter was about to be made when the power went, and the counted one went with the next boot. */
START_TEST(a_remnant_of_a_confirmation_is_no_entry)
{
        struct case_ c;

        upgraded(&c, 0);
        c.entries[0].tries_left = -1;
        c.entries[0].usable = false;
        memset(c.entries[0].kernel, 0, sizeof(c.entries[0].kernel));
        run(&c, BOOT_FOUND_VANISHED, BOOT_REBOOT);
        ck_assert_int_eq(c.d.switch_to, 1);
        c.entries[0].kernel[0] = 1; /* one whose files are not there */
        run(&c, BOOT_FOUND_FALLBACK, BOOT_CONTINUE);
}
END_TEST

/* EDK2 deletes the old directory entry before it creates the new one. */
START_TEST(a_vanished_entry_is_made_again)
{
        struct case_ c;

        upgraded(&c, 0);
        c.in.entries = c.entries + 1;
        c.in.n_entries = 1;
        run(&c, BOOT_FOUND_VANISHED, BOOT_REBOOT);
        ck_assert_int_eq(c.d.switch_to, 1);
        ck_assert_int_eq(c.d.tries, 2);
        ck_assert_int_eq(c.d.bad_slot, SLOT_NONE);
        ck_assert_int_eq(c.d.set.operation_state, OPERATION_RUNNING);
        ck_assert_int_eq(c.d.set.previous, 0);
        c.in.set.slots[1].attempts = 2;
        run(&c, BOOT_FOUND_VANISHED, BOOT_CONTINUE); /* its last try went */
        ck_assert_int_eq(c.d.set.slots[1].state, SLOT_BAD);
        ck_assert_int_eq(c.d.set.operation_state, OPERATION_FAILED);
}
END_TEST

static void check_begun(const struct case_ *c, enum slot_reason why, bool automatic)
{
        const struct slot_set *set = &c->d.set;

        ck_assert_int_eq(c->d.switch_to, 0);
        ck_assert_int_eq(c->d.tries, SLOT_DEFAULT_TRIES);
        ck_assert_int_eq(set->phase, SWITCH_SWITCHING);
        ck_assert_int_eq(set->operation, OPERATION_ROLLBACK);
        ck_assert_int_eq(set->operation_state, OPERATION_RUNNING);
        ck_assert_int_eq(set->operation_reason, why);
        ck_assert_int_eq(set->operation_automatic, automatic);
        ck_assert_int_eq(set->operation_from, 1);
        ck_assert_int_eq(set->operation_to, 0);
        ck_assert_mem_eq(set->operation_id, this_boot, 16);
        ck_assert_mem_eq(set->refused, set->slots[1].digest, DIGEST_SIZE);
        ck_assert_int_eq(set->previous, SLOT_NONE);
        ck_assert(!set->finalized);
}

START_TEST(a_confirmed_slot_that_does_not_start_is_left)
{
        struct case_ c;

        older_runs(&c, BOOT_START_FALLBACK);
        c.in.set.finalized = true; /* what is final bounds persons only */
        run(&c, BOOT_FOUND_PASSED, BOOT_CONTINUE);
        check_begun(&c, REASON_NOT_STARTED, true);
        ck_assert_int_eq(c.d.set.slots[1].state, SLOT_BAD);
        ck_assert_int_eq(c.d.bad_slot, 1);
        ck_assert_uint_eq(c.d.set.auto_rollbacks[0], 5);
        older_runs(&c, BOOT_START_ENTRY);
        c.entries[0].usable = false; /* its kernel is gone: the bootloader hides the entry */
        run(&c, BOOT_FOUND_PASSED, BOOT_CONTINUE);
        check_begun(&c, REASON_BOOT_FILES, true);
        older_runs(&c, BOOT_START_FALLBACK);
        c.in.entries_known = false;
        run(&c, BOOT_FOUND_CONFIRMED, BOOT_CONTINUE);
        upgraded(&c, 0); /* on trial, with more tries than the firmware has boot options */
        c.in.start = BOOT_START_FALLBACK;
        run(&c, BOOT_FOUND_FALLBACK, BOOT_CONTINUE);
        ck_assert_int_eq(c.d.set.slots[1].reason, REASON_NOT_STARTED);
}
END_TEST

START_TEST(a_person_chooses_the_previous_version)
{
        struct case_ c;

        older_runs(&c, BOOT_START_ROLLBACK);
        run(&c, BOOT_FOUND_CHOSEN, BOOT_CONTINUE);
        check_begun(&c, REASON_OPERATOR, false);
        ck_assert_int_eq(c.d.set.slots[1].state, SLOT_CONFIRMED);
        ck_assert_int_eq(c.d.bad_slot, SLOT_NONE);
        ck_assert_uint_eq(c.d.set.auto_rollbacks[0], 0);
        older_runs(&c, BOOT_START_ENTRY);
        run(&c, BOOT_FOUND_CONFIRMED, BOOT_CONTINUE); /* its own entry: just a look */
        ck_assert(!c.d.save);
        for (int i = 0; i < 3; i++) { /* an entry that should be gone */
                older_runs(&c, BOOT_START_ROLLBACK);
                c.in.set.finalized = i == 0;
                c.in.set.floor = i == 1;
                c.in.set.previous = i == 2 ? SLOT_NONE : 0;
                run(&c, BOOT_FOUND_CONFIRMED, BOOT_CONTINUE);
                ck_assert(!c.d.save);
        }
        upgraded(&c, 0);
        c.in.start = BOOT_START_ROLLBACK;
        run(&c, BOOT_FOUND_DETOUR, BOOT_CONTINUE);
}
END_TEST

/* Power was cut between the record and the entry. */
START_TEST(a_begun_rollback_is_begun_again)
{
        struct case_ c;

        for (int bad = 0; bad < 2; bad++) {
                older_runs(&c, bad ? BOOT_START_FALLBACK : BOOT_START_ROLLBACK);
                run(&c, bad ? BOOT_FOUND_PASSED : BOOT_FOUND_CHOSEN, BOOT_CONTINUE);
                c.in.set = c.d.set;
                c.in.start = BOOT_START_ENTRY;
                memcpy(c.in.boot_id, other_boot, 16);
                run(&c, BOOT_FOUND_CHOSEN, BOOT_CONTINUE);
                check_begun(&c, bad ? REASON_NOT_STARTED : REASON_OPERATOR, bad);
                ck_assert_int_eq(c.d.bad_slot, bad ? 1 : SLOT_NONE);
                ck_assert_uint_eq(c.d.set.target_generation, 10);
        }
        /* It was a person's choice, and the newer one boots: there was no rollback. */
        older_runs(&c, BOOT_START_ROLLBACK);
        run(&c, BOOT_FOUND_CHOSEN, BOOT_CONTINUE);
        c.in.set = c.d.set;
        c.in.slot = 1;
        c.in.generation = GENERATION_B;
        c.in.start = BOOT_START_ENTRY;
        run(&c, BOOT_FOUND_CONFIRMED, BOOT_CONTINUE);
        ck_assert_int_eq(c.d.set.previous, 0);
        ck_assert_int_eq(c.d.set.operation_state, OPERATION_ABORTED);
}
END_TEST

START_TEST(a_deleted_entry_is_made_again)
{
        struct case_ c;

        for (int all = 0; all < 2; all++) {
                older_runs(&c, all ? BOOT_START_FALLBACK : BOOT_START_ENTRY);
                c.in.entries = c.entries + 1;
                c.in.n_entries = all ? 0 : 1;
                run(&c, BOOT_FOUND_MISSING, BOOT_REBOOT);
                ck_assert_int_eq(c.d.switch_to, 1);
                ck_assert_int_eq(c.d.bad_slot, SLOT_NONE);
                ck_assert_int_eq(c.d.set.operation_state, OPERATION_DONE);
                ck_assert_int_eq(c.d.set.previous, 0);
        }
        older_runs(&c, BOOT_START_ENTRY);
        c.in.n_entries = 0; /* another loader's machine */
        run(&c, BOOT_FOUND_CONFIRMED, BOOT_CONTINUE);
}
END_TEST

START_TEST(the_command_line_says_what_started_it)
{
        ck_assert_int_eq(boot_start_parse("root=x bootmgr.slot=a quiet"), BOOT_START_ENTRY);
        ck_assert_int_eq(boot_start_parse("root=x " FALLBACK_WORD), BOOT_START_FALLBACK);
        ck_assert_int_eq(boot_start_parse(ROLLBACK_WORD " quiet"), BOOT_START_ROLLBACK);
        ck_assert_int_eq(boot_start_parse("bootmgr.rollback=12"), BOOT_START_ENTRY);
}
END_TEST

START_TEST(a_begun_switch_is_finished_or_dropped)
{
        struct case_ c;

        /* cut before the entry */
        upgraded(&c, 0);
        slot_set_begin_switch(&c.in.set, 1, 0);
        c.in.set.slots[1].state = SLOT_INSTALLED;
        run(&c, BOOT_FOUND_CONFIRMED, BOOT_CONTINUE);
        ck_assert(c.d.save);
        ck_assert_int_eq(c.d.set.phase, SWITCH_NONE);
        ck_assert_int_eq(c.d.set.operation_state, OPERATION_ABORTED);
        ck_assert_int_eq(c.d.set.previous, SLOT_NONE);
        ck_assert_int_eq(c.d.set.slots[1].state, SLOT_INSTALLED);
        ck_assert_uint_eq(c.d.set.generation, GENERATION_NEW); /* it stays used */
        /* cut while its name became durable: there is nothing in it, which says nothing of the version */
        c.entries[0] = (struct loader_entry){ GENERATION_NEW, 1, 3, 0, false, {}, {}, "" };
        run(&c, BOOT_FOUND_CONFIRMED, BOOT_CONTINUE);
        ck_assert_int_eq(c.d.set.operation_state, OPERATION_ABORTED);
        ck_assert_int_eq(c.d.set.slots[1].state, SLOT_INSTALLED);
        ck_assert(is_all_zero(c.d.set.refused, DIGEST_SIZE));
        /* cut before SWITCHED, the loader starts the new one */
        c.entries[0] = (struct loader_entry){ GENERATION_NEW, 1, 1, 1, true, {}, {}, "" };
        c.in.slot = 1;
        c.in.generation = GENERATION_NEW;
        run(&c, BOOT_FOUND_TRIAL, BOOT_CONTINUE);
        ck_assert_int_eq(c.d.set.phase, SWITCH_SWITCHED);
        ck_assert_int_eq(c.d.set.slots[1].tries, 2); /* as the entry had them */
        ck_assert_int_eq(c.d.set.slots[1].attempts, 1);
        /* … or a person the old one */
        c.in.slot = 0;
        run(&c, BOOT_FOUND_DETOUR, BOOT_CONTINUE);
        ck_assert_int_eq(c.d.set.phase, SWITCH_SWITCHED);
        ck_assert_int_eq(c.d.set.operation_state, OPERATION_RUNNING);
        /* an entry without a counter is a confirmed system */
        c.entries[0].tries_left = -1;
        c.in.slot = 1;
        run(&c, BOOT_FOUND_CONFIRMED, BOOT_CONTINUE);
        ck_assert_int_eq(c.d.set.slots[1].state, SLOT_CONFIRMED);
}
END_TEST

/* A rollback that was cut before its entry can be asked for again. */
START_TEST(a_dropped_rollback_keeps_the_way_back)
{
        struct case_ c;

        upgraded(&c, 1);
        slot_set_confirm(&c.in.set, 1);
        c.entries[0].tries_left = -1;
        c.in.set.operation = OPERATION_ROLLBACK;
        c.in.set.operation_from = 1;
        c.in.set.operation_to = 0;
        c.in.set.previous = SLOT_NONE;
        memcpy(c.in.set.refused, c.in.set.slots[1].digest, DIGEST_SIZE);
        slot_set_begin_switch(&c.in.set, 0, 0);
        run(&c, BOOT_FOUND_CONFIRMED, BOOT_CONTINUE);
        ck_assert_int_eq(c.d.set.previous, 0);
        ck_assert(is_all_zero(c.d.set.refused, DIGEST_SIZE));
        ck_assert_int_eq(c.d.set.operation_state, OPERATION_ABORTED);
}
END_TEST

START_TEST(a_failed_root_goes_to_the_other_slot)
{
        struct case_ c;

        upgraded(&c, 1);
        c.in.root_failed = REASON_ROOT_MOUNT;
        run(&c, BOOT_FOUND_ROOT, BOOT_REBOOT);
        ck_assert_int_eq(c.d.switch_to, 0);
        ck_assert_int_eq(c.d.set.slots[1].reason, REASON_ROOT_MOUNT);
        ck_assert_int_eq(c.d.set.operation_state, OPERATION_FAILED);
        /* a confirmed one too, and what was its way back is no way back of itself */
        slot_set_confirm(&c.in.set, 1);
        c.in.set.operation_state = OPERATION_DONE;
        run(&c, BOOT_FOUND_ROOT, BOOT_REBOOT);
        ck_assert_int_eq(c.d.set.slots[1].state, SLOT_BAD);
        ck_assert_int_eq(c.d.set.previous, SLOT_NONE);
        /* which is an operation of its own, that nobody asked for, in the record of the other slot's boot */
        ck_assert_int_eq(c.d.set.operation, OPERATION_ROLLBACK);
        ck_assert_int_eq(c.d.set.operation_state, OPERATION_RUNNING);
        ck_assert_int_eq(c.d.set.operation_reason, REASON_ROOT_MOUNT);
        ck_assert(c.d.set.operation_automatic);
        ck_assert_int_eq(c.d.set.operation_from, 1);
        ck_assert_int_eq(c.d.set.operation_to, 0);
        ck_assert_mem_eq(c.d.set.refused, c.d.set.slots[1].digest, DIGEST_SIZE);
        ck_assert_uint_eq(c.d.set.auto_rollbacks[0], c.in.now);
        /* a cut before its entry was made: it is left again, by the same operation */
        c.in.set = c.d.set;
        c.in.root_failed = REASON_NONE;
        memset(c.in.boot_id, 77, sizeof(c.in.boot_id));
        boot_decide(&c.in, &c.d);
        ck_assert_int_eq(c.d.found, BOOT_FOUND_ROOT);
        ck_assert_int_eq(c.d.switch_to, 0);
        ck_assert_int_eq(c.d.set.operation_state, OPERATION_RUNNING);
        ck_assert_mem_ne(c.d.set.operation_id, c.in.boot_id, sizeof(c.in.boot_id));
        /* also in the middle of a switch, with an ESP that cannot be read */
        upgraded(&c, 0);
        slot_set_begin_switch(&c.in.set, 1, 0);
        c.in.entries_known = false;
        c.in.n_entries = 0;
        c.in.root_failed = REASON_ROOT_MOUNT;
        run(&c, BOOT_FOUND_ROOT, BOOT_REBOOT);
        ck_assert_int_eq(c.d.switch_to, 1);
}
END_TEST

START_TEST(bad_and_incomplete_slots_are_left)
{
        struct case_ c;

        upgraded(&c, 1);
        slot_set_mark_bad(&c.in.set, 1, REASON_HEALTH);
        run(&c, BOOT_FOUND_ROOT, BOOT_REBOOT);
        ck_assert_int_eq(c.d.set.slots[1].reason, REASON_HEALTH);
        ck_assert_int_eq(c.d.bad_slot, 1); /* its entries are still there */
        slot_set_begin_write(&c.in.set, 1);
        run(&c, BOOT_FOUND_ROOT, BOOT_REBOOT);
        ck_assert_int_eq(c.d.set.slots[1].state, SLOT_BAD);
        ck_assert_int_eq(c.d.set.slots[1].reason, REASON_WRITING);
        /* The loader starts it all the same: slowly. */
        c.in.set = c.d.set;
        slot_set_end_switch(&c.in.set, 3);
        c.entries[2] = c.entries[1];
        c.entries[1] = c.entries[0];
        c.entries[0] = (struct loader_entry){ GENERATION_NEW, 0, 3, 0, true, {}, {}, "" };
        c.in.n_entries = 3;
        run(&c, BOOT_FOUND_ROOT, BOOT_RECOVERY);
        ck_assert_int_eq(c.d.bad_slot, 1);
}
END_TEST

START_TEST(the_last_slot_is_tried_again)
{
        struct case_ c;

        upgraded(&c, 1);
        slot_set_confirm(&c.in.set, 1);
        slot_set_mark_bad(&c.in.set, 0, REASON_ROOT_MOUNT);
        c.in.root_failed = REASON_ROOT_MOUNT;
        run(&c, BOOT_FOUND_ROOT, BOOT_RECOVERY);
        ck_assert_int_eq(c.d.set.slots[1].state, SLOT_CONFIRMED);
        ck_assert_int_eq(c.d.set.slots[1].reason, REASON_ROOT_MOUNT);
        ck_assert_int_eq(c.d.bad_slot, SLOT_NONE);
        c.in.set = c.d.set;
        c.in.root_failed = REASON_NONE;
        c.in.set.operation_state = OPERATION_DONE;
        run(&c, BOOT_FOUND_CONFIRMED, BOOT_CONTINUE);
        ck_assert_int_eq(c.d.set.slots[1].reason, REASON_NONE);
        /* One whose files are gone is no place to go to. */
        upgraded(&c, 1);
        c.entries[1].usable = false;
        c.in.root_failed = REASON_ROOT_MOUNT;
        run(&c, BOOT_FOUND_ROOT, BOOT_RECOVERY);
}
END_TEST

/* The slot that a rollback left is bad, and power was cut in each try of the one it went to: that boots all the same,
 * as often as it takes, and the operation does not wait for ever. */
START_TEST(the_last_slot_boots_without_tries)
{
        struct case_ c;

        upgraded(&c, 1);
        slot_set_mark_bad(&c.in.set, 1, REASON_HEALTH);
        slot_set_begin_switch(&c.in.set, 0, 0);
        slot_set_end_switch(&c.in.set, 3);
        c.in.set.operation = OPERATION_ROLLBACK;
        c.in.set.operation_from = 1;
        c.in.set.operation_to = 0;
        c.in.set.slots[0].attempts = 3;
        c.in.slot = 0;
        c.in.generation = c.in.set.generation;
        c.entries[0] = (struct loader_entry){ c.in.generation, 0, 0, 3, true, {}, {}, "" };
        for (int boot = 0; boot < 3; boot++) {
                memset(c.in.set.slots[0].last_boot, boot, 16);
                run(&c, BOOT_FOUND_EXHAUSTED, BOOT_RECOVERY);
                ck_assert_int_eq(c.d.set.slots[0].state, SLOT_TRIAL);
                ck_assert_int_eq(c.d.set.operation_state, OPERATION_FAILED);
                ck_assert_int_eq(c.d.set.operation_reason, REASON_TRIES_EXHAUSTED);
                ck_assert_int_eq(c.d.save, boot == 0);
                c.in.set = c.d.set;
        }
        slot_set_confirm(&c.in.set, 0);
        run(&c, BOOT_FOUND_CONFIRMED, BOOT_CONTINUE);
        /* A root that fails may be there the next time: nothing is decided about the operation. */
        upgraded(&c, 1);
        slot_set_mark_bad(&c.in.set, 0, REASON_ROOT_MOUNT);
        c.in.root_failed = REASON_ROOT_MOUNT;
        run(&c, BOOT_FOUND_ROOT, BOOT_RECOVERY);
        ck_assert_int_eq(c.d.set.operation_state, OPERATION_RUNNING);
}
END_TEST

/* A rollback from a version on trial to one that does not boot: back to where it came from, whose trial goes on. */
START_TEST(a_failed_rollback_takes_the_trial_up_again)
{
        struct case_ c;

        upgraded(&c, 1);
        c.in.set.slots[1].attempts = 1;
        c.in.set.operation = OPERATION_ROLLBACK;
        c.in.set.operation_from = 1;
        c.in.set.operation_to = 0;
        slot_set_begin_switch(&c.in.set, 0, 0);
        slot_set_end_switch(&c.in.set, 3);
        c.in.set.slots[0].attempts = 3;
        c.entries[1] = c.entries[0];
        c.entries[0] = (struct loader_entry){ GENERATION_NEW, 0, 0, 3, true, {}, {}, "" };
        run(&c, BOOT_FOUND_FALLBACK, BOOT_CONTINUE);
        ck_assert_int_eq(c.d.set.slots[0].state, SLOT_BAD);
        ck_assert_int_eq(c.d.set.operation_state, OPERATION_FAILED);
        ck_assert_int_eq(c.d.set.slots[1].state, SLOT_TRIAL);
        ck_assert_int_eq(c.d.set.slots[1].attempts, 2);
        ck_assert_int_eq(c.d.set.phase, SWITCH_SWITCHED);
        ck_assert_int_eq(c.d.set.target, 1);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("boot");
        TCase *t = tcase_create("boot");

        tcase_add_test(t, nothing_of_ours_runs);
        tcase_add_test(t, a_trial_is_counted_once);
        tcase_add_loop_test(t, loader_and_record_may_count_differently, 0, 6);
        tcase_add_test(t, an_exhausted_trial_is_left);
        tcase_add_loop_test(t, a_failed_trial_is_recorded_by_the_fallback, 0, 5);
        tcase_add_loop_test(t, a_detour_changes_nothing, 0, 3);
        tcase_add_loop_test(t, without_entries_only_the_record_counts, 0, 2);
        tcase_add_test(t, a_remnant_of_a_confirmation_is_no_entry);
        tcase_add_test(t, a_vanished_entry_is_made_again);
        tcase_add_test(t, a_confirmed_slot_that_does_not_start_is_left);
        tcase_add_test(t, a_person_chooses_the_previous_version);
        tcase_add_test(t, a_begun_rollback_is_begun_again);
        tcase_add_test(t, a_deleted_entry_is_made_again);
        tcase_add_test(t, the_command_line_says_what_started_it);
        tcase_add_test(t, a_begun_switch_is_finished_or_dropped);
        tcase_add_test(t, a_dropped_rollback_keeps_the_way_back);
        tcase_add_test(t, a_failed_root_goes_to_the_other_slot);
        tcase_add_test(t, bad_and_incomplete_slots_are_left);
        tcase_add_test(t, the_last_slot_is_tried_again);
        tcase_add_test(t, the_last_slot_boots_without_tries);
        tcase_add_test(t, a_failed_rollback_takes_the_trial_up_again);
        suite_add_tcase(s, t);
        return suite_run(s);
}
