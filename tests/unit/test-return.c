/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The boot-time decision: what becomes of the record's operation when a version is given up. */
#include "boot-case.h"
#include "suite.h"

static const uint8_t its_id[16] = { 33 };

/* b runs, on trial, and an operation to go back from it is prepared; then power is cut, and `runs` boots. */
static void staged(struct case_ *c, int runs, enum operation_kind kind, bool automatic)
{
        struct slot_set *set = &c->in.set;

        upgraded(c, runs);
        set->operation = kind;
        set->operation_state = OPERATION_STAGED;
        set->operation_reason = automatic ? REASON_HEALTH : REASON_OPERATOR;
        set->operation_automatic = automatic;
        set->operation_from = 1;
        set->operation_to = 0;
        memcpy(set->operation_id, its_id, sizeof(its_id));
        if (automatic)
                slot_set_note_auto_rollback(set, 3);
        set->slots[1].attempts = 3;
}

static void check_goes_on(const struct case_ *c, bool automatic)
{
        const struct slot_set *set = &c->d.set;

        ck_assert_int_eq(c->d.switch_to, 0);
        ck_assert_int_eq(c->d.bad_slot, 1);
        ck_assert_int_eq(set->slots[1].state, SLOT_BAD);
        ck_assert_int_eq(set->operation, OPERATION_ROLLBACK);
        ck_assert_int_eq(set->operation_state, OPERATION_RUNNING);
        ck_assert_int_eq(set->operation_reason, automatic ? REASON_HEALTH : REASON_OPERATOR);
        ck_assert_mem_eq(set->operation_id, its_id, sizeof(its_id));
        ck_assert_mem_eq(set->refused, set->slots[1].digest, DIGEST_SIZE);
        ck_assert_int_eq(set->previous, SLOT_NONE);
        /* counted once: when it was prepared, or now */
        ck_assert_uint_eq(set->auto_rollbacks[0], automatic ? 3 : 5);
        ck_assert_uint_eq(set->auto_rollbacks[1], 0);
}

/* It was to go where the machine went by itself. */
START_TEST(a_prepared_rollback_goes_on)
{
        struct case_ c;

        staged(&c, 0, OPERATION_ROLLBACK, _i); /* the bootloader falls back */
        run(&c, BOOT_FOUND_FALLBACK, BOOT_CONTINUE);
        check_goes_on(&c, _i);
        staged(&c, 1, OPERATION_ROLLBACK, _i); /* the initramfs of b leaves it */
        run(&c, BOOT_FOUND_EXHAUSTED, BOOT_REBOOT);
        check_goes_on(&c, _i);
        staged(&c, 1, OPERATION_ROLLBACK, _i);
        c.in.set.slots[1].attempts = 1;
        c.in.root_failed = REASON_ROOT_MOUNT;
        run(&c, BOOT_FOUND_ROOT, BOOT_REBOOT);
        check_goes_on(&c, _i);
        slot_set_confirm(&c.in.set, 1); /* b was not on trial any more */
        run(&c, BOOT_FOUND_ROOT, BOOT_REBOOT);
        check_goes_on(&c, _i);
}
END_TEST

/* The slot that it goes to is on an unfinished trial of its own, which it takes up. */
START_TEST(a_prepared_rollback_goes_on_to_a_trial)
{
        struct case_ c;

        staged(&c, 0, OPERATION_ROLLBACK, true);
        put_slot(&c.in.set.slots[0], 3, GENERATION_A);
        run(&c, BOOT_FOUND_FALLBACK, BOOT_CONTINUE);
        ck_assert_int_eq(c.d.switch_to, SLOT_NONE);
        ck_assert_int_eq(c.d.set.slots[0].attempts, 1);
        ck_assert_int_eq(c.d.set.target, 0);
        ck_assert_int_eq(c.d.set.operation_state, OPERATION_RUNNING);
        ck_assert_int_eq(c.d.set.operation_reason, REASON_HEALTH);
}
END_TEST

/* A version that was confirmed once, and whose entry had to be made again: nothing in the record says that it is on trial.
 */
START_TEST(what_nothing_has_led_to_is_left_by_a_rollback)
{
        static const enum operation_state ended[] = { OPERATION_DONE, OPERATION_FAILED, OPERATION_ABORTED };
        static const enum boot_found how[] = { BOOT_FOUND_FALLBACK, BOOT_FOUND_EXHAUSTED, BOOT_FOUND_ROOT };
        struct case_ c;

        for (size_t i = 0; i < ARRAY_SIZE(ended); i++) {
                const struct slot_set *set = &c.d.set;

                upgraded(&c, how[_i] != BOOT_FOUND_FALLBACK);
                c.in.set.operation_state = ended[i];
                c.in.set.slots[1].attempts = 3;
                if (how[_i] == BOOT_FOUND_ROOT)
                        c.in.root_failed = REASON_ROOT_MOUNT;
                run(&c, how[_i], how[_i] == BOOT_FOUND_FALLBACK ? BOOT_CONTINUE : BOOT_REBOOT);
                ck_assert_int_eq(set->slots[1].state, SLOT_BAD);
                ck_assert_int_eq(c.d.switch_to, 0);
                ck_assert_int_eq(set->operation, OPERATION_ROLLBACK);
                ck_assert_int_eq(set->operation_state, OPERATION_RUNNING);
                ck_assert_int_eq(set->operation_reason, set->slots[1].reason);
                ck_assert(set->operation_automatic);
                ck_assert_int_eq(set->operation_from, 1);
                ck_assert_int_eq(set->operation_to, 0);
                ck_assert_mem_eq(set->operation_id, this_boot, 16);
                ck_assert_uint_eq(set->auto_rollbacks[0], 5);
                ck_assert_uint_eq(set->auto_rollbacks[1], 0);
        }
}
END_TEST

/* It would get an entry, which starts nothing. */
START_TEST(a_foreign_system_is_no_rollback)
{
        struct case_ c;

        upgraded(&c, 0);
        c.in.set.operation_state = OPERATION_DONE;
        c.in.set.slots[1].attempts = 3;
        *c.in.set.slots[0].version = '\0';
        run(&c, BOOT_FOUND_FALLBACK, BOOT_CONTINUE);
        ck_assert_int_eq(c.d.set.slots[1].state, SLOT_BAD);
        ck_assert_int_eq(c.d.switch_to, SLOT_NONE);
        ck_assert_int_eq(c.d.set.operation_state, OPERATION_DONE);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("return");
        TCase *t = tcase_create("return");

        tcase_add_loop_test(t, a_prepared_rollback_goes_on, 0, 2);
        tcase_add_test(t, a_prepared_rollback_goes_on_to_a_trial);
        tcase_add_loop_test(t, what_nothing_has_led_to_is_left_by_a_rollback, 0, 3);
        tcase_add_test(t, a_foreign_system_is_no_rollback);
        suite_add_tcase(s, t);
        return suite_run(s);
}
