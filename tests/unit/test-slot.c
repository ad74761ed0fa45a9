/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The slot model: predicates and transitions in every state, the target of an upgrade for every input, and each broken
 * invariant. */
#include "slot/slot.h"

#include "base/clock.h"
#include "slot/kinds.h"

#include <check.h>
#include "suite.h"
#undef fail

static const uint8_t boot_1[16] = { 1 }, boot_2[16] = { 2 };

static struct slot_set two_slots(void)
{
        struct slot_set set;

        slot_set_init(&set, 2);
        return set;
}

START_TEST(names)
{
        static const char *const bad[] = { "", "i", "A", "aa", "1", "`" };

        for (int i = 0; i < SLOT_MAX; i++) {
                char name[2] = { slot_name(i) };

                ck_assert_int_eq(slot_from_name(name), i);
        }
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                ck_assert_int_eq(slot_from_name(bad[i]), SLOT_NONE);
        ck_assert_str_eq(slot_state_to_string(SLOT_EMPTY), "empty");
        ck_assert_str_eq(slot_state_to_string(SLOT_INCOMPLETE), "incomplete");
        ck_assert_str_eq(slot_state_to_string(SLOT_INSTALLED), "installed");
        ck_assert_str_eq(slot_state_to_string(SLOT_TRIAL), "trial");
        ck_assert_str_eq(slot_state_to_string(SLOT_CONFIRMED), "confirmed");
        ck_assert_str_eq(slot_state_to_string(SLOT_BAD), "bad");
        ck_assert_str_eq(slot_state_to_string(_SLOT_STATE_MAX), "unknown");
        ck_assert_str_eq(slot_reason_to_string(REASON_NONE), "");
        ck_assert_str_eq(slot_reason_to_name(REASON_TRIES_EXHAUSTED), "tries-exhausted");
        ck_assert_str_eq(slot_reason_to_name(_REASON_MAX), "unknown");
        ck_assert_ptr_nonnull(strstr(slot_reason_to_string((enum slot_reason)200), "does not know"));
        for (int i = 1; i < _REASON_MAX; i++) {
                ck_assert_uint_gt(strlen(slot_reason_to_string((enum slot_reason)i)), 0);
                for (int j = 0; j < i; j++)
                        ck_assert_str_ne(slot_reason_to_name((enum slot_reason)i), slot_reason_to_name((enum slot_reason)j));
        }
        ck_assert_str_eq(switch_phase_to_string(SWITCH_SWITCHING), "switching");
        ck_assert_str_eq(switch_phase_to_string(_SWITCH_PHASE_MAX), "unknown");
        ck_assert_str_eq(operation_kind_to_string(OPERATION_ROLLBACK), "ROLLBACK");
        ck_assert_str_eq(operation_kind_to_string(_OPERATION_KIND_MAX), "UNKNOWN");
}
END_TEST

/* Scripts decide on the kinds: each has its own name and one of the exit statuses that are promised. */
START_TEST(kinds_are_distinct)
{
#define ADDRESS(id, text, status) &kind_##id,
        static const struct error_kind *const kinds[] = { &kind_failed, &kind_usage, ERROR_KINDS(ADDRESS) };

        for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
                ck_assert_int_ge(kinds[i]->exit_status, 1);
                ck_assert_int_le(kinds[i]->exit_status, 3);
                for (size_t j = 0; j < i; j++)
                        ck_assert_str_ne(kinds[i]->name, kinds[j]->name);
        }
}
END_TEST

START_TEST(predicates)
{
        static const struct {
                bool has_system, selectable;
        } expected[_SLOT_STATE_MAX] = {
                [SLOT_EMPTY] = { false, false }, [SLOT_INCOMPLETE] = { false, false }, [SLOT_INSTALLED] = { true, true },
                [SLOT_TRIAL] = { true, true },   [SLOT_CONFIRMED] = { true, true },    [SLOT_BAD] = { false, false },
        };

        for (int state = 0; state < _SLOT_STATE_MAX; state++) {
                for (int tries = 0; tries <= SLOT_MAX_TRIES; tries++) {
                        for (int attempts = 0; attempts <= UINT8_MAX; attempts++) {
                                struct slot s = { .state = (enum slot_state)state,
                                                  .tries = (uint8_t)tries,
                                                  .attempts = (uint8_t)attempts };
                                int left = state == SLOT_TRIAL ? MAX(tries - attempts, 0) : 0;

                                ck_assert_int_eq(slot_tries_left(&s), left);
                                ck_assert_int_eq(slot_has_system(&s), expected[state].has_system);
                                ck_assert_int_eq(slot_is_selectable(&s),
                                                 state == SLOT_TRIAL ? left > 0 : expected[state].selectable);
                                ck_assert(!slot_has_snapshot(&s));
                        }
                }
        }
        for (int i = 0; i < DIGEST_SIZE; i++) {
                struct slot s = {};

                s.snapshot[i] = 1;
                ck_assert(slot_has_snapshot(&s));
        }
}
END_TEST

START_TEST(a_new_disk)
{
        struct slot_set set = two_slots();

        ck_assert_int_eq(slot_set_check(&set, NULL), 0);
        ck_assert_int_eq(slot_set_selectable(&set), 0);
        ck_assert_int_eq(set.previous, SLOT_NONE);
        ck_assert_int_eq(set.target, SLOT_NONE);
        ck_assert_int_eq(set.operation_from, SLOT_NONE);
        ck_assert_int_eq(set.operation_to, SLOT_NONE);
        ck_assert_int_eq(slot_set_upgrade_target(&set, SLOT_NONE), 0);
}
END_TEST

/* Every state of both slots, both orders of generations, each slot or none running. */
START_TEST(upgrade_target)
{
        for (int a = 0; a < _SLOT_STATE_MAX; a++)
                for (int b = 0; b < _SLOT_STATE_MAX; b++)
                        for (int newer = 0; newer < 2; newer++) {
                                struct slot_set set = two_slots();
                                bool system_a, system_b;

                                set.slots[0].state = (enum slot_state)a;
                                set.slots[1].state = (enum slot_state)b;
                                set.slots[newer].generation = 8;
                                set.slots[!newer].generation = 7;
                                system_a = slot_has_system(&set.slots[0]);
                                system_b = slot_has_system(&set.slots[1]);
                                ck_assert_int_eq(slot_set_upgrade_target(&set, 0), 1);
                                ck_assert_int_eq(slot_set_upgrade_target(&set, 1), 0);
                                ck_assert_int_eq(slot_set_upgrade_target(&set, SLOT_NONE), !system_a   ? 0
                                                                                           : !system_b ? 1
                                                                                                       : !newer);
                        }
}
END_TEST

START_TEST(upgrade_target_of_other_numbers)
{
        struct slot_set set;

        slot_set_init(&set, 1);
        ck_assert_int_eq(slot_set_upgrade_target(&set, 0), SLOT_NONE);
        ck_assert_int_eq(slot_set_upgrade_target(&set, SLOT_NONE), 0);
        slot_set_init(&set, 3);
        for (int running = 0; running < 3; running++)
                for (int bits = 0; bits < _SLOT_STATE_MAX * _SLOT_STATE_MAX * _SLOT_STATE_MAX; bits++) {
                        int target, rest = bits;

                        for (int i = 0; i < 3; i++, rest /= _SLOT_STATE_MAX)
                                set.slots[i] = (struct slot){ .state = (enum slot_state)(rest % _SLOT_STATE_MAX),
                                                              .generation = (uint64_t)(10 - i) };
                        target = slot_set_upgrade_target(&set, running);
                        ck_assert_int_ne(target, running);
                        ck_assert(target >= 0 && target < 3);
                        for (int i = 0; i < 3; i++) {
                                if (i == running || i == target)
                                        continue;
                                /* What is given up is not worth more than what is kept. */
                                ck_assert(!slot_has_system(&set.slots[target]) || slot_has_system(&set.slots[i]));
                                if (slot_has_system(&set.slots[target]))
                                        ck_assert_uint_lt(set.slots[target].generation, set.slots[i].generation);
                        }
                }
}
END_TEST

/* Slot b in the state of the loop, with everything a slot can hold; a runs. */
static struct slot_set sample(int state)
{
        struct slot_set set = two_slots();

        set.generation = 8;
        set.slots[0] = (struct slot){ .version = "1", .state = SLOT_CONFIRMED, .generation = 7 };
        set.slots[1] = (struct slot){ .version = "2",
                                      .security_version = 4,
                                      .state = (enum slot_state)state,
                                      .generation = 8,
                                      .tries = state == SLOT_TRIAL ? 3 : 0,
                                      .attempts = state == SLOT_TRIAL ? 1 : 0 };
        memset(set.slots[1].snapshot, 0x55, DIGEST_SIZE);
        memset(set.slots[1].digest, 0x66, DIGEST_SIZE);
        set.finalized = true;
        if (slot_has_system(&set.slots[1])) {
                set.phase = SWITCH_SWITCHED;
                set.target = 1;
                set.previous = 1;
        }
        ck_assert_int_eq(slot_set_check(&set, NULL), 0);
        return set;
}

START_TEST(write_in_every_state)
{
        struct slot_set set = sample(_i), before = set;

        slot_set_begin_write(&set, 1);
        ck_assert_int_eq(slot_set_check(&set, NULL), 0);
        ck_assert_int_eq(set.slots[1].state, SLOT_INCOMPLETE);
        ck_assert_int_eq(set.slots[1].reason, REASON_WRITING);
        ck_assert(!slot_has_snapshot(&set.slots[1]));
        ck_assert(!slot_is_selectable(&set.slots[1]));
        ck_assert_str_eq(set.slots[1].version, "");
        ck_assert_uint_eq(set.slots[1].generation, 0);
        ck_assert_int_eq(set.previous, SLOT_NONE);
        ck_assert_int_eq(set.target, SLOT_NONE);
        ck_assert_int_eq(set.phase, SWITCH_NONE);
        ck_assert_uint_eq(set.generation, 8);
        ck_assert_mem_eq(&set.slots[0], &before.slots[0], sizeof(struct slot));
        slot_set_end_write(&set, 1);
        ck_assert_int_eq(slot_set_check(&set, NULL), 0);
        ck_assert_int_eq(set.slots[1].state, SLOT_INSTALLED);
        ck_assert_int_eq(set.slots[1].reason, REASON_NONE);
}
END_TEST

/* Writing one slot leaves what is known of the others. */
START_TEST(write_leaves_the_others)
{
        struct slot_set set = sample(SLOT_TRIAL);

        slot_set_begin_write(&set, 0);
        ck_assert_int_eq(set.previous, 1);
        ck_assert(set.finalized);
        ck_assert_int_eq(set.target, 1);
        ck_assert_int_eq(set.phase, SWITCH_SWITCHED);
        ck_assert(slot_has_snapshot(&set.slots[1]));
}
END_TEST

START_TEST(switch_in_every_state)
{
        static const uint64_t esp[] = { 0, 7, 8, 9, UINT64_C(1) << 40 };
        struct slot_set begun = sample(_i), set;

        if (!slot_has_system(&begun.slots[1]))
                return; /* refused before: there is nothing to switch to */
        slot_set_drop_switch(&begun);
        for (size_t i = 0; i < ARRAY_SIZE(esp); i++) {
                set = begun;
                ck_assert_uint_eq(slot_set_begin_switch(&set, 1, esp[i]), MAX(UINT64_C(8), esp[i]) + 1);
                ck_assert_uint_eq(set.generation, MAX(UINT64_C(8), esp[i]) + 1);
                ck_assert_uint_eq(set.target_generation, set.generation);
                ck_assert_int_eq(set.phase, SWITCH_SWITCHING);
                ck_assert_int_eq(set.target, 1);
                ck_assert_mem_eq(set.slots, begun.slots, sizeof(set.slots)); /* nothing else until it is durable */
                ck_assert_int_eq(slot_set_check(&set, NULL), 0);
        }
        begun = set;
        for (int tries = 0; tries <= SLOT_MAX_TRIES; tries++) {
                set = begun;
                memcpy(set.slots[1].last_boot, boot_1, 16);
                slot_set_end_switch(&set, tries);
                ck_assert_int_eq(slot_set_check(&set, NULL), 0);
                ck_assert_int_eq(set.slots[1].state, tries ? SLOT_TRIAL : SLOT_CONFIRMED);
                ck_assert_int_eq(slot_tries_left(&set.slots[1]), tries);
                ck_assert_uint_eq(set.slots[1].generation, begun.target_generation);
                ck_assert_int_eq(set.phase, tries ? SWITCH_SWITCHED : SWITCH_NONE);
                ck_assert_int_eq(set.target, tries ? 1 : SLOT_NONE);
                ck_assert_mem_eq(&set.slots[0], &begun.slots[0], sizeof(struct slot)); /* the fallback */
                /* This boot id was counted for the switch before. */
                ck_assert_int_eq(slot_set_count_attempt(&set, 1, boot_1), tries > 0);
        }
        slot_set_drop_switch(&begun);
        ck_assert_int_eq(slot_set_check(&begun, NULL), 0);
        ck_assert_int_eq(begun.phase, SWITCH_NONE);
        ck_assert_uint_eq(begun.generation, (UINT64_C(1) << 40) + 1); /* stays used */
}
END_TEST

START_TEST(attempts_in_every_state)
{
        struct slot_set set = sample(_i), before = set;

        if (_i != SLOT_TRIAL) {
                ck_assert(!slot_set_count_attempt(&set, 1, boot_1));
                ck_assert_mem_eq(&set, &before, sizeof(set));
                return;
        }
        ck_assert(slot_set_count_attempt(&set, 1, boot_1));
        ck_assert(!slot_set_count_attempt(&set, 1, boot_1));
        ck_assert_int_eq(slot_tries_left(&set.slots[1]), 1);
        ck_assert(slot_set_count_attempt(&set, 1, boot_2));
        ck_assert_int_eq(slot_tries_left(&set.slots[1]), 0);
        ck_assert(!slot_is_selectable(&set.slots[1]));
        for (int i = 0; i < 600; i++)
                slot_set_count_attempt(&set, 1, i % 2 ? boot_2 : boot_1);
        ck_assert_int_eq(set.slots[1].attempts, UINT8_MAX); /* does not begin again */
        ck_assert_int_eq(slot_tries_left(&set.slots[1]), 0);
}
END_TEST

START_TEST(confirm_and_bad_in_every_state)
{
        struct slot_set set = sample(_i);

        slot_set_confirm(&set, 1);
        ck_assert_int_eq(slot_set_check(&set, NULL), 0);
        ck_assert_int_eq(set.slots[1].state, SLOT_CONFIRMED);
        ck_assert_int_eq(set.slots[1].tries, 0);
        ck_assert_int_eq(set.slots[1].attempts, 0);
        ck_assert_int_eq(set.phase, SWITCH_NONE);
        ck_assert_uint_eq(set.slots[1].security_version, 4);
        set = sample(_i);
        slot_set_mark_bad(&set, 1, REASON_HEALTH);
        ck_assert_int_eq(slot_set_check(&set, NULL), 0);
        ck_assert_int_eq(set.slots[1].state, SLOT_BAD);
        ck_assert_int_eq(set.slots[1].reason, REASON_HEALTH);
        ck_assert_int_eq(set.phase, SWITCH_NONE);
        ck_assert_int_eq(set.target, SLOT_NONE);
        ck_assert(!slot_is_selectable(&set.slots[1]));
        ck_assert_int_eq(slot_set_selectable(&set), 1);
        /* The one that runs is confirmed or bad: what is switched to stays on trial. */
        set = sample(SLOT_TRIAL);
        slot_set_confirm(&set, 0);
        ck_assert_int_eq(set.target, 1);
        slot_set_mark_bad(&set, 0, REASON_HEALTH);
        ck_assert_int_eq(set.target, 1);
        ck_assert_int_eq(slot_set_check(&set, NULL), 0);
}
END_TEST

START_TEST(automatic_rollbacks_of_a_day)
{
        struct slot_set set = two_slots();
        const uint64_t now = 20000 * USEC_PER_DAY;

        ck_assert_int_eq(slot_set_auto_rollbacks(&set, now), 0);
        slot_set_note_auto_rollback(&set, now - USEC_PER_DAY);
        ck_assert_int_eq(slot_set_auto_rollbacks(&set, now), 0);
        ck_assert_int_eq(slot_set_auto_rollbacks(&set, now - 1), 1);
        for (int i = 1; i <= 6; i++) {
                slot_set_note_auto_rollback(&set, now - 10 + (uint64_t)i);
                ck_assert_int_eq(slot_set_auto_rollbacks(&set, now), MIN(i, AUTO_ROLLBACK_MEMORY));
                ck_assert_uint_eq(set.auto_rollbacks[0], now - 10 + (uint64_t)i);
        }
        ck_assert_int_eq(slot_set_auto_rollbacks(&set, now - 2 * USEC_PER_DAY), 4); /* a clock set back does not help */
        ck_assert_int_eq(slot_set_auto_rollbacks(&set, now + USEC_PER_DAY), 0);
}
END_TEST

/* Once the clock is known to be right, or a person says so. */
START_TEST(automatic_rollbacks_of_a_clock_that_was_ahead)
{
        struct slot_set set = two_slots();
        const uint64_t now = 20000 * USEC_PER_DAY;

        slot_set_note_auto_rollback(&set, now - 1);
        slot_set_note_auto_rollback(&set, now + USEC_PER_DAY); /* it may have been set right by a little */
        ck_assert(!slot_set_correct_auto_rollbacks(&set, now, now));
        slot_set_note_auto_rollback(&set, now + USEC_PER_DAY + 1);
        slot_set_note_auto_rollback(&set, now * 2);
        ck_assert(slot_set_correct_auto_rollbacks(&set, now, now));
        ck_assert(!slot_set_correct_auto_rollbacks(&set, now, now));
        ck_assert_int_eq(slot_set_auto_rollbacks(&set, now), 4);
        ck_assert_int_eq(slot_set_auto_rollbacks(&set, now + USEC_PER_DAY - 1), 3);
        ck_assert_int_eq(slot_set_auto_rollbacks(&set, now + USEC_PER_DAY), 1);
        slot_set_note_auto_rollback(&set, now * 2);
        ck_assert(slot_set_correct_auto_rollbacks(&set, now, 0)); /* forgotten */
        ck_assert_int_eq(slot_set_auto_rollbacks(&set, now), 3);
}
END_TEST

static void no_slots(struct slot_set *s)
{
        s->n_slots = 0;
}
static void many_slots(struct slot_set *s)
{
        s->n_slots = SLOT_MAX + 1;
}
static void unknown_state(struct slot_set *s)
{
        s->slots[1].state = _SLOT_STATE_MAX;
}
static void trial_without_tries(struct slot_set *s)
{
        s->slots[1].tries = 0;
}
static void confirmed_with_tries(struct slot_set *s)
{
        s->slots[0].tries = 1;
}
static void ten_tries(struct slot_set *s)
{
        s->slots[1].tries = 10;
}
static void future_generation(struct slot_set *s)
{
        s->slots[1].generation = 9;
}
static void endless_version(struct slot_set *s)
{
        memset(s->slots[1].version, 'x', SLOT_VERSION_SIZE);
}
static void previous_of_others(struct slot_set *s)
{
        s->previous = 2;
}
static void previous_below(struct slot_set *s)
{
        s->previous = -2;
}
static void previous_empty(struct slot_set *s)
{
        s->previous = 0, s->slots[0].state = SLOT_EMPTY;
}
static void previous_incomplete(struct slot_set *s)
{
        s->previous = 0, s->slots[0].state = SLOT_INCOMPLETE;
}
static void phase_without_target(struct slot_set *s)
{
        s->target = SLOT_NONE;
}
static void target_without_phase(struct slot_set *s)
{
        s->phase = SWITCH_NONE;
}
static void unknown_phase(struct slot_set *s)
{
        s->phase = _SWITCH_PHASE_MAX;
}
static void target_of_others(struct slot_set *s)
{
        s->target = 2;
}
static void target_bad(struct slot_set *s)
{
        s->slots[1].state = SLOT_BAD;
}
static void unknown_operation(struct slot_set *s)
{
        s->operation = _OPERATION_KIND_MAX;
}
static void unknown_operation_state(struct slot_set *s)
{
        s->operation_state = _OPERATION_STATE_MAX;
}

static void version_of_two_lines(struct slot_set *s)
{
        strcpy(s->slots[1].version, "2\noptions init=/bin/sh");
}
static void future_target(struct slot_set *s)
{
        s->target_generation = 9;
}
static void last_generation(struct slot_set *s)
{
        s->generation = UINT64_MAX;
}

static const struct {
        void (*damage)(struct slot_set *set);
        const char *says;
} broken[] = {
        { no_slots, "0 slots" },
        { many_slots, "9 slots" },
        { unknown_state, "slot b has the unknown state 6" },
        { trial_without_tries, "slot b is on trial without any tries" },
        { confirmed_with_tries, "slot a is confirmed and has 1 tries" },
        { ten_tries, "slot b has 10 tries" },
        { future_target, "target of the switch has generation 9, the highest is 8" },
        { future_generation, "slot b has generation 9, the highest is 8" },
        { endless_version, "version of slot b" },
        { version_of_two_lines, "version of slot b is not one" },
        { last_generation, "generation 18446744073709551615 leaves no room" },
        { previous_of_others, "previous slot is number 2" },
        { previous_below, "previous slot is number -2" },
        { previous_empty, "previous slot a is empty" },
        { previous_incomplete, "previous slot a is incomplete" },
        { phase_without_target, "phase 2 and its target -1" },
        { target_without_phase, "phase 0 and its target 1" },
        { unknown_phase, "phase 3" },
        { target_of_others, "number 2, has no system" },
        { target_bad, "number 1, has no system" },
        { unknown_operation, "operation 4" },
        { unknown_operation_state, "in state 6" },
};

START_TEST(what_is_broken_is_named)
{
        struct slot_set set = sample(SLOT_TRIAL);
        struct error e = {};

        broken[_i].damage(&set);
        ck_assert_int_eq(slot_set_check(&set, &e), -EINVAL);
        ck_assert_msg(strstr(e.message, broken[_i].says), "%s", e.message);
        error_done(&e);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("slot");
        TCase *t = tcase_create("slot");

        tcase_set_timeout(t, 60);
        tcase_add_test(t, names);
        tcase_add_test(t, kinds_are_distinct);
        tcase_add_test(t, predicates);
        tcase_add_test(t, a_new_disk);
        tcase_add_test(t, upgrade_target);
        tcase_add_test(t, upgrade_target_of_other_numbers);
        tcase_add_loop_test(t, write_in_every_state, 0, _SLOT_STATE_MAX);
        tcase_add_test(t, write_leaves_the_others);
        tcase_add_loop_test(t, switch_in_every_state, 0, _SLOT_STATE_MAX);
        tcase_add_loop_test(t, attempts_in_every_state, 0, _SLOT_STATE_MAX);
        tcase_add_loop_test(t, confirm_and_bad_in_every_state, 0, _SLOT_STATE_MAX);
        tcase_add_test(t, automatic_rollbacks_of_a_day);
        tcase_add_test(t, automatic_rollbacks_of_a_clock_that_was_ahead);
        tcase_add_loop_test(t, what_is_broken_is_named, 0, (int)ARRAY_SIZE(broken));
        suite_add_tcase(s, t);
        return suite_run(s);
}
