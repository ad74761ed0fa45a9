/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The slot model: long random lives of a machine that never break an invariant. */
#include "slot/slot.h"

#include <check.h>
#include "suite.h"
#undef fail

/* A machine that lives at random: `running` booted, the rest as the record says. */
struct life {
        struct slot_set set;
        int running;
        uint64_t random, highest;
};

static unsigned dice(struct life *l, unsigned n)
{
        l->random ^= l->random << 13; /* xorshift64: the same on every machine */
        l->random ^= l->random >> 7;
        l->random ^= l->random << 17;
        return (unsigned)(l->random % n);
}

static int switch_target(struct life *l)
{
        int slot = (int)dice(l, (unsigned)l->set.n_slots);

        return slot != l->running && slot_is_selectable(&l->set.slots[slot]) ? slot : SLOT_NONE;
}

static void live_write(struct life *l)
{
        int slot = slot_set_upgrade_target(&l->set, l->running);

        ck_assert_int_ne(slot, l->running);
        if (slot == SLOT_NONE || l->set.slots[l->running].state != SLOT_CONFIRMED)
                return; /* an upgrade from a version on trial is refused */
        slot_set_begin_write(&l->set, slot);
        if (dice(l, 4) > 0)
                slot_set_end_write(&l->set, slot);
}

static void live_switch(struct life *l)
{
        int slot = switch_target(l);

        /* From a version on trial there is only the rollback, tested where it is decided (operation). */
        if (slot == SLOT_NONE || l->set.slots[l->running].state != SLOT_CONFIRMED)
                return;
        l->set.previous = dice(l, 2) ? l->running : SLOT_NONE;
        slot_set_begin_switch(&l->set, slot, dice(l, 3) ? 0 : l->set.generation + dice(l, 5));
        ck_assert_int_eq(slot_set_check(&l->set, NULL), 0);
        if (dice(l, 4) == 0)
                slot_set_drop_switch(&l->set);
        else
                slot_set_end_switch(&l->set, 1 + (int)dice(l, SLOT_MAX_TRIES));
}

/* The loader: the newest selectable slot. Counted when on trial. */
static void live_boot(struct life *l)
{
        uint8_t boot[16] = {};
        int best = SLOT_NONE;

        for (int i = 0; i < l->set.n_slots; i++)
                if (slot_is_selectable(&l->set.slots[i]) &&
                    (best == SLOT_NONE || l->set.slots[i].generation > l->set.slots[best].generation))
                        best = i;
        ck_assert_int_ne(best, SLOT_NONE);
        l->running = best;
        for (size_t i = 0; i < sizeof(boot); i++)
                boot[i] = (uint8_t)dice(l, 256);
        slot_set_count_attempt(&l->set, best, boot);
}

static void live_confirm(struct life *l)
{
        slot_set_confirm(&l->set, l->running);
}

static void live_fail(struct life *l)
{
        int slot = (int)dice(l, (unsigned)l->set.n_slots);

        if (slot == l->running || !slot_has_system(&l->set.slots[slot]) || l->set.slots[l->running].state != SLOT_CONFIRMED)
                return; /* never the fallback of what is on trial */
        slot_set_mark_bad(&l->set, slot, (enum slot_reason)dice(l, _REASON_MAX));
        slot_set_note_auto_rollback(&l->set, 1 + dice(l, 1000));
}

static void check_life(struct life *l)
{
        const struct slot_set *set = &l->set;
        struct error e = {};

        ck_assert_msg(slot_set_check(set, &e) == 0, "%s", e.message);
        ck_assert_int_ge(slot_set_selectable(set), 1);
        ck_assert_uint_ge(set->generation, l->highest);
        l->highest = set->generation;
        for (int i = 0; i < set->n_slots; i++) {
                const struct slot *s = &set->slots[i];

                if (s->state == SLOT_EMPTY || s->state == SLOT_INCOMPLETE || s->state == SLOT_BAD)
                        ck_assert(!slot_is_selectable(s));
                if (s->state == SLOT_TRIAL)
                        ck_assert_int_gt(s->tries, 0);
                if (s->state == SLOT_CONFIRMED)
                        ck_assert(s->tries == 0 && s->attempts == 0);
                for (int j = 0; j < i; j++)
                        ck_assert(s->generation == 0 || s->generation != set->slots[j].generation);
        }
        if (set->phase == SWITCH_SWITCHED) {
                ck_assert_int_eq(set->slots[set->target].state, SLOT_TRIAL);
                ck_assert_uint_eq(set->slots[set->target].generation, set->target_generation);
        }
}

START_TEST(random_lives)
{
        static void (*const events[])(struct life *) = { live_write, live_switch, live_boot, live_confirm, live_fail };
        struct life l = { .random = 0x9e3779b97f4a7c15u * (uint64_t)(_i + 1) };
        unsigned seen[_SLOT_STATE_MAX] = {};

        slot_set_init(&l.set, 2 + _i % (SLOT_MAX - 1));
        slot_set_begin_write(&l.set, 0);
        slot_set_end_write(&l.set, 0);
        slot_set_begin_switch(&l.set, 0, 0);
        slot_set_end_switch(&l.set, 0);
        for (int step = 0; step < 5000; step++) {
                events[dice(&l, ARRAY_SIZE(events))](&l);
                check_life(&l);
                for (int i = 0; i < l.set.n_slots; i++)
                        seen[l.set.slots[i].state]++;
        }
        for (int state = SLOT_INCOMPLETE; state < _SLOT_STATE_MAX; state++)
                ck_assert_msg(seen[state] > 0, "never %s", slot_state_to_string((enum slot_state)state));
}
END_TEST

int main(void)
{
        Suite *s = suite_create("slot-lives");
        TCase *t = tcase_create("slot");

        tcase_set_timeout(t, 60);
        tcase_add_loop_test(t, random_lives, 0, 16);
        suite_add_tcase(s, t);
        return suite_run(s);
}
