/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How a boot-time decision is carried out: the order of writes, and what a failure leaves. */
#include <sys/mman.h>

#include "boot-case.h"
#include "suite.h"

/* A loader that writes down what it is asked, with what the record says at that moment. */
static struct buf story;
static struct state_place place;
static int switch_result, remove_result, drop_result;
static bool removing_helps; /* against a switch_result of -ENOSPC */
static bool unlabelled;     /* no partition of a slot is known */

static const char *recorded_phase(void)
{
        struct state state;

        ck_assert_int_eq(state_load(&place, &state, NULL), 0);
        return switch_phase_to_string(state.set.phase);
}

static int fake_switch_to(struct loader *l, const struct entry_spec *spec, int tries, struct error *e)
{
        buf_printf(&story, "switch to %c %d +%d initrd %s record %s; ", slot_name(spec->slot), (int)spec->generation, tries,
                   spec->initrd ? "yes" : "no", recorded_phase());
        return switch_result < 0 ? fail(e, switch_result, NULL, "the ESP is full") : 0;
}

static int fake_remove_slot(struct loader *l, int slot, struct error *e)
{
        buf_printf(&story, "remove %c record %s; ", slot_name(slot), recorded_phase());
        if (removing_helps)
                switch_result = 0;
        return remove_result;
}

static int fake_drop(struct loader *l, uint64_t generation, struct error *e)
{
        buf_printf(&story, "drop %d; ", (int)generation);
        return drop_result < 0 ? fail(e, drop_result, NULL, "it cannot be taken back") : 0;
}

static const struct loader_ops fake_ops = {
        .name = "fake", .switch_to = fake_switch_to, .remove_slot = fake_remove_slot, .drop = fake_drop
};

static int carry_out(struct case_ *c, const struct loader_ops *ops, bool writable, struct state *state, struct error *e)
{
        struct loader loader = { .ops = ops, .writable = writable };
        struct disk disk = { .n_slots = 2 };
        int fd = memfd_create("record", MFD_CLOEXEC);

        for (int i = 0; i < 2 && !unlabelled; i++)
                strcpy(disk.slots[i].uuid, "2f5d8ad2-51f1-4f8f-9d6e-6d1a6e6f7a01");
        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(ftruncate(fd, STATE_COPY_DISTANCE + STATE_COPY_SIZE), 0);
        place = (struct state_place){ .fd = { fd, fd }, .offset = { 0, STATE_COPY_DISTANCE } };
        *state = (struct state){ .set = c->in.set };
        ck_assert_int_eq(state_save(&place, state, NULL), 0);
        story = (struct buf){};
        return boot_carry_out(&c->d, &disk, &place, state, &loader, "quiet", false, e);
}

static void check_recorded(const struct state *state)
{
        struct state read;

        ck_assert_int_eq(state_load(&place, &read, NULL), 0);
        ck_assert_mem_eq(&read.set, &state->set, sizeof(read.set));
        state_place_close(&place);
        buf_done(&story);
}

static void exhausted(struct case_ *c)
{
        upgraded(c, 1);
        c->in.set.slots[1].attempts = 3;
        run(c, BOOT_FOUND_EXHAUSTED, BOOT_REBOOT);
        switch_result = remove_result = 0;
}

START_TEST(a_switch_is_carried_out_in_order)
{
        struct state state;
        struct case_ c;

        exhausted(&c);
        ck_assert_int_eq(carry_out(&c, &fake_ops, true, &state, NULL), 0);
        ck_assert_str_eq(story.data, "switch to a 9 +3 initrd no record switching; remove b record switched; ");
        ck_assert_int_eq(state.set.phase, SWITCH_SWITCHED);
        ck_assert_int_eq(state.set.slots[0].state, SLOT_TRIAL);
        check_recorded(&state);
}
END_TEST

START_TEST(old_entries_that_stay_do_not_stop_it)
{
        struct state state;
        struct case_ c;

        exhausted(&c);
        remove_result = -EIO;
        log_set_max_level(LOG_LEVEL_ERROR);
        ck_assert_int_eq(carry_out(&c, &fake_ops, true, &state, NULL), 0);
        ck_assert_int_eq(state.set.phase, SWITCH_SWITCHED);
        check_recorded(&state);
}
END_TEST

/* The entry was not made: nothing of the old slot goes, and the next boot drops the switch. */
START_TEST(a_switch_that_fails_removes_nothing)
{
        struct error e = {};
        struct state state;
        struct case_ c;

        exhausted(&c);
        switch_result = -ENOSPC;
        ck_assert_int_eq(carry_out(&c, &fake_ops, true, &state, &e), -ENOSPC);
        ck_assert_ptr_null(strstr(story.data, "remove"));
        ck_assert_int_eq(state.set.phase, SWITCH_SWITCHING);
        c.in.set = state.set;
        boot_decide(&c.in, &c.d);
        ck_assert_int_eq(c.d.action, BOOT_REBOOT); /* it is tried again */
        ck_assert_int_eq(c.d.switch_to, 0);
        check_recorded(&state);
        error_done(&e);
}
END_TEST

/* Nobody can be told: the marks are kept, the switch is not begun, and the caller knows. */
START_TEST(a_loader_that_cannot_be_told)
{
        struct error e = {};
        struct state state;
        struct case_ c;

        exhausted(&c);
        unlabelled = _i == 2;
        ck_assert_int_eq(carry_out(&c, _i == 1 ? &loader_none : &fake_ops, _i, &state, &e), -EROFS);
        unlabelled = false;
        ck_assert_ptr_nonnull(strstr(e.message, "slot a"));
        ck_assert_uint_eq(story.size, 0);
        ck_assert_int_eq(state.set.slots[1].state, SLOT_BAD);
        ck_assert_int_eq(state.set.phase, SWITCH_NONE);
        check_recorded(&state);
        error_done(&e);
        /* a switch under way stays under way */
        upgraded(&c, 0);
        c.in.entries = c.entries + 1;
        c.in.n_entries = 1;
        run(&c, BOOT_FOUND_VANISHED, BOOT_REBOOT);
        ck_assert_int_eq(carry_out(&c, &fake_ops, false, &state, NULL), -EROFS);
        ck_assert_int_eq(state.set.phase, SWITCH_SWITCHED);
        ck_assert_int_eq(state.set.target, 1);
        ck_assert_int_eq(state.set.slots[1].attempts, 1);
        check_recorded(&state);
        /* a person's choice goes with this boot, and the way back stays */
        older_runs(&c, BOOT_START_ROLLBACK);
        run(&c, BOOT_FOUND_CHOSEN, BOOT_CONTINUE);
        log_set_max_level(LOG_LEVEL_ERROR);
        ck_assert_int_eq(carry_out(&c, &fake_ops, false, &state, NULL), 0);
        ck_assert_uint_eq(story.size, 0);
        ck_assert_uint_eq(state.sequence, 2);
        ck_assert_int_eq(state.set.previous, 0);
        ck_assert_int_eq(state.set.operation_state, OPERATION_DONE);
        check_recorded(&state);
        /* an automatic one is begun: the slot that does not start is bad all the same */
        older_runs(&c, BOOT_START_FALLBACK);
        run(&c, BOOT_FOUND_PASSED, BOOT_CONTINUE);
        ck_assert_int_eq(carry_out(&c, &fake_ops, false, &state, NULL), 0);
        ck_assert_uint_eq(story.size, 0);
        ck_assert_int_eq(state.set.slots[1].state, SLOT_BAD);
        ck_assert_int_eq(state.set.operation, OPERATION_ROLLBACK);
        ck_assert_int_eq(state.set.phase, SWITCH_NONE);
        check_recorded(&state);
}
END_TEST

/* The way back begins in the slot that runs: it is not to be held up by an entry that cannot be made. */
START_TEST(a_rollback_that_begins_here_needs_no_entry)
{
        struct state state;
        struct case_ c;

        log_set_max_level(LOG_LEVEL_ERROR);
        switch_result = remove_result = drop_result = 0;
        /* what is left has room for it */
        older_runs(&c, BOOT_START_FALLBACK);
        run(&c, BOOT_FOUND_PASSED, BOOT_CONTINUE);
        switch_result = -ENOSPC;
        removing_helps = true;
        ck_assert_int_eq(carry_out(&c, &fake_ops, true, &state, NULL), 0);
        removing_helps = false;
        ck_assert_str_eq(story.data, "switch to a 9 +3 initrd no record switching; remove b record switching; "
                                     "switch to a 9 +3 initrd no record switching; remove b record switched; ");
        ck_assert_int_eq(state.set.slots[0].state, SLOT_TRIAL);
        check_recorded(&state);
        /* or there is none: it is as where nobody can be told, and the number is not given out again */
        switch_result = _i ? -EIO : -ENOSPC;
        ck_assert_int_eq(carry_out(&c, &fake_ops, true, &state, NULL), 0);
        ck_assert_ptr_nonnull(strstr(story.data, "drop 9; remove b record none; "));
        ck_assert_int_eq(state.set.slots[0].state, SLOT_CONFIRMED);
        ck_assert_int_eq(state.set.slots[1].state, SLOT_BAD);
        ck_assert_int_eq(state.set.operation, OPERATION_ROLLBACK);
        ck_assert_int_eq(state.set.operation_state, OPERATION_RUNNING);
        ck_assert_int_eq(state.set.phase, SWITCH_NONE);
        ck_assert_uint_eq(state.set.generation, 9);
        /* the next boot tries it again */
        c.in.set = state.set;
        check_recorded(&state);
        c.in.start = BOOT_START_ENTRY;
        c.in.entries = c.entries + 1;
        c.in.n_entries = 1;
        run(&c, BOOT_FOUND_CHOSEN, BOOT_CONTINUE);
        ck_assert_int_eq(carry_out(&c, &fake_ops, true, &state, NULL), 0);
        ck_assert_int_eq(state.set.operation_state, OPERATION_RUNNING);
        ck_assert_int_eq(state.set.slots[1].state, SLOT_BAD);
        ck_assert_uint_eq(state.set.generation, 10);
        check_recorded(&state);
        /* what a person chose stays a look */
        older_runs(&c, BOOT_START_ROLLBACK);
        run(&c, BOOT_FOUND_CHOSEN, BOOT_CONTINUE);
        ck_assert_int_eq(carry_out(&c, &fake_ops, true, &state, NULL), 0);
        ck_assert_int_eq(state.set.previous, 0);
        ck_assert_int_eq(state.set.operation_state, OPERATION_DONE);
        ck_assert_int_eq(state.set.phase, SWITCH_NONE);
        ck_assert_uint_eq(state.set.generation, 9);
        check_recorded(&state);
        /* it may be there all the same: the next boot looks */
        drop_result = -EIO;
        ck_assert_int_eq(carry_out(&c, &fake_ops, true, &state, NULL), -EIO);
        ck_assert_int_eq(state.set.phase, SWITCH_SWITCHING);
        check_recorded(&state);
}
END_TEST

static int go_without(struct case_ *c, bool writable, struct state *state)
{
        struct loader loader = { .ops = &fake_ops, .writable = writable };

        return boot_go_without(&c->d, &c->in.set, &place, state, &loader, NULL);
}

/* Another version than the one that runs has lost its entry: a confirmed one, one that a prepared rollback is about to
 * leave, one on trial. A cut while it is made again, or an ESP that is full, costs neither the way back nor the operation.
 */
START_TEST(a_lost_entry_is_made_again_until_it_is_there)
{
        static const enum operation_state operation[] = { OPERATION_DONE, OPERATION_STAGED, OPERATION_RUNNING };
        enum boot_found found = _i == 2 ? BOOT_FOUND_VANISHED : BOOT_FOUND_MISSING;
        struct state state;
        struct case_ c;

        log_set_max_level(LOG_LEVEL_ERROR);
        switch_result = remove_result = drop_result = 0;
        if (_i == 2)
                upgraded(&c, 0);
        else
                older_runs(&c, BOOT_START_ENTRY);
        if (_i == 1) {
                c.in.set.operation = OPERATION_ROLLBACK;
                c.in.set.operation_state = OPERATION_STAGED;
                c.in.set.operation_from = 1;
                c.in.set.operation_to = 0;
        }
        c.in.entries = c.entries + 1;
        c.in.n_entries = 1;
        for (uint8_t boot = 1; boot < 3; boot++) { /* each is cut before the entry */
                memset(c.in.boot_id, boot, sizeof(c.in.boot_id));
                run(&c, found, BOOT_REBOOT);
                ck_assert_int_eq(c.d.switch_to, 1);
                ck_assert_int_eq(c.d.set.phase, SWITCH_SWITCHING);
                ck_assert_int_eq(c.d.set.previous, 0);
                ck_assert_int_eq(c.d.set.operation_state, operation[_i]);
                ck_assert_int_eq(c.d.set.slots[1].attempts, _i == 2 ? boot : 0);
                ck_assert_uint_eq(c.d.set.target_generation, (uint64_t)GENERATION_B + boot);
                if (boot < 2)
                        c.in.set = c.d.set;
        }
        switch_result = -ENOSPC;
        for (int writable = 0; writable < 2; writable++) {
                ck_assert_int_eq(carry_out(&c, &fake_ops, writable, &state, NULL), writable ? -ENOSPC : -EROFS);
                if (writable)
                        ck_assert_int_eq(go_without(&c, true, &state), 0);
                ck_assert_int_eq(state.set.phase, _i == 2 ? SWITCH_SWITCHED : SWITCH_NONE);
                ck_assert_int_eq(state.set.target, _i == 2 ? 1 : SLOT_NONE);
                ck_assert_int_eq(state.set.previous, 0);
                ck_assert_int_eq(state.set.operation_state, operation[_i]);
                if (_i == 2)
                        ck_assert_uint_eq(state.set.target_generation, GENERATION_B);
                check_recorded(&state);
        }
        /* a loader that always loses it comes to an end */
        if (_i == 2) {
                c.in.set = c.d.set;
                memset(c.in.boot_id, 3, sizeof(c.in.boot_id));
                boot_decide(&c.in, &c.d);
                ck_assert_int_eq(c.d.action, BOOT_CONTINUE);
                ck_assert_int_eq(c.d.set.slots[1].state, SLOT_BAD);
                ck_assert_int_eq(c.d.set.operation_state, OPERATION_FAILED);
                ck_assert_int_eq(c.d.set.phase, SWITCH_NONE);
        }
}
END_TEST

START_TEST(nothing_to_do_writes_nothing)
{
        struct state state;
        struct case_ c;

        upgraded(&c, 0);
        run(&c, BOOT_FOUND_DETOUR, BOOT_CONTINUE);
        ck_assert_int_eq(carry_out(&c, &fake_ops, true, &state, NULL), 0);
        ck_assert_uint_eq(state.sequence, 2); /* as both copies were made */
        ck_assert_uint_eq(story.size, 0);
        check_recorded(&state);
}
END_TEST

/* A record that breaks an invariant is never written. */
START_TEST(an_impossible_record_is_refused)
{
        struct error e = {};
        struct state state;
        struct case_ c;

        exhausted(&c);
        c.d.set.slots[0].generation = 1000;
        ck_assert_int_eq(carry_out(&c, &fake_ops, true, &state, &e), -EINVAL);
        ck_assert_uint_eq(story.size, 0);
        state_place_close(&place);
        buf_done(&story);
        error_done(&e);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("carry-out");
        TCase *t = tcase_create("carry-out");

        tcase_add_test(t, a_switch_is_carried_out_in_order);
        tcase_add_test(t, old_entries_that_stay_do_not_stop_it);
        tcase_add_test(t, a_switch_that_fails_removes_nothing);
        tcase_add_loop_test(t, a_loader_that_cannot_be_told, 0, 3);
        tcase_add_loop_test(t, a_rollback_that_begins_here_needs_no_entry, 0, 2);
        tcase_add_loop_test(t, a_lost_entry_is_made_again_until_it_is_there, 0, 3);
        tcase_add_test(t, nothing_to_do_writes_nothing);
        tcase_add_test(t, an_impossible_record_is_refused);
        suite_add_tcase(s, t);
        return suite_run(s);
}
