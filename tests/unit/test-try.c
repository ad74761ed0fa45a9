/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A slot that a person tries when none can boot: which may be tried, and that each end of the try is an end. */
#include "operation/boot_try.h"

#include <check.h>
#include <stdlib.h>

#include "base/buf.h"
#include "suite.h"

static struct boot_input machine(void)
{
        struct boot_input in = { .slot = 1, .generation = 2, .boot_id = { 9 }, .entries_known = true };

        slot_set_init(&in.set, 2);
        in.set.generation = 2;
        for (int i = 0; i < 2; i++) {
                in.set.slots[i] = (struct slot){ .state = SLOT_BAD,
                                                 .reason = REASON_ROOT_MOUNT,
                                                 .generation = (uint64_t)i + 1 };
                in.set.slots[i].kernel[0] = 1;
        }
        return in;
}

START_TEST(what_may_be_tried)
{
        struct boot_input in = machine();
        struct slot *s = &in.set.slots[0];

        for (int state = 0; state < _SLOT_STATE_MAX; state++)
                for (int reason = 0; reason < _REASON_MAX; reason++) {
                        bool whole = reason != REASON_WRITING && reason != REASON_CONTENT;

                        s->state = (enum slot_state)state;
                        s->reason = (enum slot_reason)reason;
                        ck_assert_int_eq(boot_can_try(&in.set, 0), state == SLOT_BAD && whole);
                }
        in = machine();
        in.set.floor = 1;
        ck_assert(!boot_can_try(&in.set, 0)); /* below the floor */
        in = machine();
        in.set.slots[0].kernel[0] = 0;
        ck_assert(!boot_can_try(&in.set, 0)); /* an incomplete one that was found bad */
}
END_TEST

/* What the record says after each write of the try, and what the next boot, of `slot`, makes of it. */
static struct boot_decision next(const struct slot_set *set, int slot, const struct loader_entry *entries, size_t n,
                                 uint8_t boot)
{
        struct boot_input in = { .slot = slot,
                                 .generation = slot == 1 ? 2 : 3,
                                 .boot_id = { boot },
                                 .set = *set,
                                 .entries = entries,
                                 .n_entries = n,
                                 .entries_known = true };
        struct boot_decision d;

        boot_decide(&in, &d);
        ck_assert_int_eq(slot_set_check(&d.set, NULL), 0);
        return d;
}

static void check_over(const struct boot_decision *d, enum slot_reason reason)
{
        ck_assert_int_eq(d->set.slots[0].state, SLOT_BAD);
        ck_assert_int_eq(d->set.slots[0].reason, reason);
        ck_assert_int_eq(d->set.phase, SWITCH_NONE);
        ck_assert(!d->set.once);
        ck_assert_int_eq(d->action, BOOT_RECOVERY);
        ck_assert_int_ne(d->found, BOOT_FOUND_EXHAUSTED); /* it would go on by itself */
        ck_assert_int_eq(d->bad_slot, SLOT_NONE);         /* the last entries stay: the firmware must find something */
}

START_TEST(every_end_is_an_end)
{
        struct boot_input in = machine();
        const struct loader_entry old = { .generation = 2, .slot = 1, .tries_left = -1, .usable = true };
        struct loader_entry both[] = { { .generation = 3, .slot = 0, .tries_left = 1, .usable = true }, old };
        struct boot_decision d, after;
        struct slot_set switched;

        boot_decide_try(&in.set, 0, 2, &d);
        ck_assert_int_eq(slot_set_check(&d.set, NULL), 0);
        ck_assert_uint_eq(d.set.target_generation, 3);
        ck_assert_int_eq(d.tries, 1);
        boot_decide_try(&in.set, 0, 9, &after);
        ck_assert_uint_eq(after.set.target_generation, 10); /* above every entry, too */

        after = next(&d.set, 1, &old, 1, 1); /* cut before the entry */
        check_over(&after, REASON_ROOT_MOUNT);

        both[0].tries_left = 0;
        both[0].tries_done = 1;
        after = next(&d.set, 0, both, 2, 1); /* cut behind the entry: it boots, once */
        ck_assert_int_eq(after.action, BOOT_CONTINUE);
        ck_assert_int_eq(after.set.slots[0].state, SLOT_TRIAL);
        ck_assert(after.set.once);

        switched = d.set;
        slot_set_end_switch(&switched, 1);
        after = next(&switched, 0, both, 2, 1); /* its boot */
        ck_assert_int_eq(after.action, BOOT_CONTINUE);
        switched = after.set;
        after = next(&switched, 0, both, 2, 1); /* looked at again in the same boot */
        ck_assert_int_eq(after.action, BOOT_CONTINUE);

        after = next(&switched, 0, both, 2, 2); /* another boot of it, by itself */
        check_over(&after, REASON_TRIES_EXHAUSTED);
        after = next(&switched, 1, both, 2, 2); /* the other one boots */
        check_over(&after, REASON_TRIES_EXHAUSTED);
        switched = d.set;
        slot_set_end_switch(&switched, 1);
        after = next(&switched, 1, &old, 1, 2); /* its entry was lost */
        check_over(&after, REASON_TRIES_EXHAUSTED);
        both[0].tries_left = 0;
        after = next(&switched, 1, both, 2, 2); /* its kernel died: only the loader has counted */
        check_over(&after, REASON_TRIES_EXHAUSTED);
}
END_TEST

START_TEST(a_root_that_fails)
{
        struct boot_input in = machine();
        struct boot_decision d;

        boot_decide_try(&in.set, 0, 2, &d);
        in.set = d.set;
        slot_set_end_switch(&in.set, 1);
        in.slot = 0;
        in.generation = 3;
        in.root_failed = REASON_ROOT_MOUNT;
        boot_decide(&in, &d);
        check_over(&d, REASON_ROOT_MOUNT);
        /* Found out by the running system, whose boot has used the only try: not what the try ended by. */
        slot_set_count_attempt(&in.set, 0, in.boot_id);
        in.root_failed = REASON_MIGRATION;
        boot_decide(&in, &d);
        check_over(&d, REASON_MIGRATION);
}
END_TEST

/* An upgrade to slot b whose root failed, slot a being bad: the record still says that it runs. */
START_TEST(what_led_here_has_failed)
{
        struct boot_input in = machine();
        struct boot_decision d;

        in.set.operation = OPERATION_UPGRADE;
        in.set.operation_state = OPERATION_RUNNING;
        in.set.operation_from = in.set.previous = 0;
        in.set.operation_to = 1;
        in.set.finalized = true;
        boot_decide_try(&in.set, 0, 2, &d);
        ck_assert_int_eq(d.set.operation_state, OPERATION_FAILED);
        ck_assert_int_eq(d.set.operation_reason, REASON_ROOT_MOUNT);
        ck_assert_int_eq(d.set.previous, SLOT_NONE);
        ck_assert(!d.set.finalized);
        boot_decide_try(&in.set, 1, 2, &d); /* its own slot: it may still come up */
        ck_assert_int_eq(d.set.operation_state, OPERATION_RUNNING);
        ck_assert_int_eq(d.set.previous, 0);
        ck_assert(d.set.finalized);
        for (int to = 1; to < SLOT_MAX; to += SLOT_MAX - 2) { /* nothing is known of where it went */
                in.set.slots[1].reason = REASON_NONE;
                in.set.slots[SLOT_MAX - 1].reason = REASON_INIT;
                in.set.operation_to = to;
                boot_decide_try(&in.set, 0, 2, &d);
                ck_assert_int_eq(d.set.operation_reason, REASON_TRIES_EXHAUSTED);
        }
        in.set.operation_state = OPERATION_STAGED; /* nothing went anywhere yet: no shutdown is to go on with it */
        for (int slot = 0; slot < 2; slot++) {
                boot_decide_try(&in.set, slot, 2, &d);
                ck_assert_int_eq(d.set.operation_state, OPERATION_ABORTED);
        }
}
END_TEST

START_TEST(one_that_is_confirmed)
{
        struct boot_input in = machine();
        struct boot_decision d;

        boot_decide_try(&in.set, 0, 2, &d);
        slot_set_end_switch(&d.set, 1);
        slot_set_confirm(&d.set, 0);
        ck_assert(!d.set.once);
        ck_assert_int_eq(slot_set_check(&d.set, NULL), 0);
}
END_TEST

int main(void)
{
        Suite *suite = suite_create("try");
        TCase *t = tcase_create("try");

        tcase_add_test(t, what_may_be_tried);
        tcase_add_test(t, every_end_is_an_end);
        tcase_add_test(t, a_root_that_fails);
        tcase_add_test(t, what_led_here_has_failed);
        tcase_add_test(t, one_that_is_confirmed);
        suite_add_tcase(suite, t);
        return suite_run(suite);
}
