/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The boot-time decision where no copy of the record is valid: it is made again from what the entries say. */
#include "boot-case.h"
#include "suite.h"

/* The record is gone: it comes back from the entries. */
START_TEST(a_lost_record_is_rebuilt)
{
        struct case_ c;

        upgraded(&c, 1);
        c.in.record_lost = true;
        slot_set_init(&c.in.set, 2);
        c.entries[0].tries_left = 2;
        c.entries[0].tries_done = 1;
        strcpy(c.entries[1].version, "16.2");
        memset(c.entries[1].kernel, 0x77, BOOT_FILE_ID_SIZE);
        run(&c, BOOT_FOUND_LOST, BOOT_CONTINUE);
        ck_assert(c.d.save);
        ck_assert_int_eq(c.d.set.slots[0].state, SLOT_CONFIRMED);
        ck_assert_str_eq(c.d.set.slots[0].version, "16.2");
        ck_assert_int_eq(c.d.set.slots[0].kernel[0], 0x77);
        ck_assert_int_eq(c.d.set.slots[1].state, SLOT_TRIAL);
        ck_assert_int_eq(c.d.set.slots[1].attempts, 1);
        ck_assert_int_eq(c.d.set.target, 1);
        ck_assert_uint_eq(c.d.set.generation, GENERATION_B);
        c.in.set = c.d.set;
        c.in.record_lost = false;
        run(&c, BOOT_FOUND_TRIAL, BOOT_CONTINUE); /* this boot was counted */
        ck_assert(!c.d.save);
        /* counted too where the loader cannot */
        c.in.record_lost = true;
        slot_set_init(&c.in.set, 2);
        c.entries[0].tries_left = 3;
        c.entries[0].tries_done = 0;
        run(&c, BOOT_FOUND_LOST, BOOT_CONTINUE);
        ck_assert_int_eq(c.d.set.slots[1].attempts, 1);
        /* its root fails as well: the other slot is known from its entry */
        c.in.record_lost = true;
        slot_set_init(&c.in.set, 2);
        c.in.root_failed = REASON_ROOT_MOUNT;
        run(&c, BOOT_FOUND_ROOT, BOOT_REBOOT);
        ck_assert_int_eq(c.d.switch_to, 0);
        ck_assert_int_eq(c.d.set.slots[0].kernel[0], 0x77);
}
END_TEST

START_TEST(a_lost_record_without_entries)
{
        struct case_ c;

        upgraded(&c, 0);
        c.in.record_lost = true;
        slot_set_init(&c.in.set, 2);
        c.in.n_entries = 0;
        run(&c, BOOT_FOUND_LOST, BOOT_CONTINUE);
        ck_assert_int_eq(c.d.set.slots[0].state, SLOT_CONFIRMED);
        ck_assert_uint_eq(c.d.set.generation, GENERATION_A);
        /* entries of a slot that this disk has not, of an older trial, without files */
        c.in.n_entries = 4;
        c.entries[0] = (struct loader_entry){ 12, 5, -1, 0, true, {}, {}, "" };
        c.entries[1] = (struct loader_entry){ 11, 0, -1, 0, true, {}, {}, "" };
        c.entries[2] = (struct loader_entry){ 10, 1, 2147483647, 2147483647, false, {}, {}, "" };
        c.entries[3] = (struct loader_entry){ 9, 0, 1, 2, true, {}, {}, "" };
        run(&c, BOOT_FOUND_LOST, BOOT_CONTINUE);
        ck_assert_int_eq(c.d.set.slots[0].state, SLOT_CONFIRMED);
        ck_assert_int_eq(c.d.set.slots[1].state, SLOT_BAD);
        ck_assert_int_eq(c.d.set.slots[1].reason, REASON_BOOT_FILES);
        ck_assert_int_eq(c.d.set.phase, SWITCH_NONE);
}
END_TEST

/* A name on the ESP that none of ours can be: the record that is made again does not take its generation over. */
START_TEST(a_lost_record_believes_no_name)
{
        struct case_ c;

        upgraded(&c, 1);
        c.in.record_lost = true;
        slot_set_init(&c.in.set, 2);
        c.entries[2] = c.entries[1];
        c.entries[1] = c.entries[0];
        c.entries[0] = (struct loader_entry){ GENERATION_MAX, 0, -1, 0, false, {}, {}, "" };
        c.in.n_entries = 3;
        run(&c, BOOT_FOUND_LOST, BOOT_CONTINUE);
        ck_assert_uint_eq(c.d.set.generation, GENERATION_B);
        ck_assert_int_eq(c.d.set.slots[0].state, SLOT_CONFIRMED);
        ck_assert_uint_eq(c.d.set.slots[0].generation, GENERATION_A);
        c.in.root_failed = REASON_ROOT_MOUNT;
        run(&c, BOOT_FOUND_ROOT, BOOT_REBOOT);
        ck_assert_uint_eq(c.d.set.target_generation, GENERATION_B + 1);
}
END_TEST

/* It may be whole, and a boot that goes on all the same writes nothing over it. One that has to leave its slot does. */
START_TEST(a_record_that_cannot_be_read_is_kept)
{
        struct case_ c;

        for (int runs = 0; runs < 2; runs++) {
                upgraded(&c, runs);
                c.in.record_lost = c.in.record_unread = true;
                slot_set_init(&c.in.set, 2);
                run(&c, BOOT_FOUND_UNREAD, BOOT_CONTINUE);
                ck_assert(!c.d.save);
                ck_assert_int_eq(c.d.switch_to, SLOT_NONE);
                ck_assert_int_eq(c.d.bad_slot, SLOT_NONE);
                ck_assert_int_eq(c.d.set.slots[1].state, SLOT_TRIAL);
                c.in.root_failed = REASON_ROOT_MOUNT;
                run(&c, BOOT_FOUND_ROOT, BOOT_REBOOT);
                ck_assert(c.d.save);
                ck_assert_int_eq(c.d.switch_to, !runs);
        }
}
END_TEST

int main(void)
{
        Suite *s = suite_create("lost-record");
        TCase *t = tcase_create("lost-record");

        tcase_add_test(t, a_lost_record_is_rebuilt);
        tcase_add_test(t, a_lost_record_without_entries);
        tcase_add_test(t, a_lost_record_believes_no_name);
        tcase_add_test(t, a_record_that_cannot_be_read_is_kept);
        suite_add_tcase(s, t);
        return suite_run(s);
}
