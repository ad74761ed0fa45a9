/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The boot-time decision: every input against the invariants of the design's sections 3 and 4, and whole lives of a machine
 * whose boots fail again and again. */
#include "boot-case.h"
#include "suite.h"

/* ---- the product ---- */

/* The entries that one slot may have. */
static const struct {
        int left, done;
        bool there, usable, confirmed;
} shapes[] = {
        { .there = false },    { -1, 0, true, true },      { 3, 0, true, true },
        { 1, 2, true, true },  { 0, 3, true, true },       { -1, 0, true, false },
        { 2, 1, true, false }, { 5, 4, true, true, true }, { 0, 9, true, true, true },
};

static const struct {
        enum operation_kind kind;
        enum operation_state state;
} operations[] = {
        { OPERATION_NONE, OPERATION_IDLE },        { OPERATION_UPGRADE, OPERATION_RUNNING },
        { OPERATION_ROLLBACK, OPERATION_RUNNING }, { OPERATION_UPGRADE, OPERATION_STAGED },
        { OPERATION_ROLLBACK, OPERATION_STAGED },
};

static bool is_system(const struct slot_set *set, int slot)
{
        return set->slots[slot].state == SLOT_INSTALLED || set->slots[slot].state == SLOT_TRIAL ||
               set->slots[slot].state == SLOT_CONFIRMED;
}

static bool is_bad(const struct slot_set *set, int slot)
{
        return set->slots[slot].state == SLOT_BAD;
}

static const char *check_reboot(const struct boot_input *in, const struct boot_decision *d)
{
        if (d->switch_to == in->slot || d->switch_to < 0 || d->switch_to >= d->set.n_slots)
                return "a reboot goes to another slot";
        if (!slot_is_selectable(&d->set.slots[d->switch_to]))
                return "a reboot goes to a selectable slot";
        if (d->set.phase != SWITCH_SWITCHING || d->set.target != d->switch_to || !d->save)
                return "a reboot is a switch that is recorded before it is made";
        if (d->tries < 1 || d->tries > SLOT_MAX_TRIES)
                return "a switch grants tries";
        if (d->set.target_generation <= in->set.generation)
                return "a switch takes a new generation";
        for (size_t i = 0; i < in->n_entries; i++)
                if (d->set.target_generation <= in->entries[i].generation)
                        return "a new generation is above all on the ESP";
        return NULL;
}

/* Whether another slot could be started, as far as the record and the entries say. */
static bool other_can_boot(const struct boot_input *in, const struct slot_set *set)
{
        int other = !in->slot;
        bool any = false, usable = false;

        for (size_t i = 0; i < in->n_entries; i++) {
                any = any || in->entries[i].slot == other;
                usable = usable || (in->entries[i].slot == other && in->entries[i].usable);
        }
        return slot_is_selectable(&set->slots[other]) && (usable || !any);
}

static const char *check_marks(const struct boot_input *in, const struct boot_decision *d)
{
        int marked = 0;

        for (int i = 0; i < in->set.n_slots; i++) {
                const struct slot *before = &in->set.slots[i], *after = &d->set.slots[i];

                if (in->record_lost)
                        continue;
                marked += after->state == SLOT_BAD && before->state != SLOT_BAD;
                if (memcmp(before->digest, after->digest, DIGEST_SIZE) != 0 || !streq(before->version, after->version))
                        return "what lies in a slot is not forgotten";
                /* A switch to a confirmed slot that is finished by this boot has put it on trial. */
                if (after->state == SLOT_BAD && before->state == SLOT_CONFIRMED &&
                    !(in->set.phase == SWITCH_SWITCHING && in->set.target == i && in->start == BOOT_START_FALLBACK) &&
                    (d->found == BOOT_FOUND_PASSED ? i == in->slot : i != in->slot || !in->root_failed))
                        return "a confirmed slot is bad only when its root failed, or when it was passed over";
                if (after->state == SLOT_BAD && after->reason == REASON_NONE)
                        return "a bad slot has a reason";
                if (before->state == SLOT_BAD && after->state != SLOT_BAD)
                        return "a bad slot stays bad";
                if (before->state <= SLOT_INCOMPLETE && after->state != before->state && after->state != SLOT_BAD)
                        return "a slot without a whole system does not become one";
        }
        if (marked > 1)
                return "one boot marks one slot";
        if (d->bad_slot != SLOT_NONE && is_system(&d->set, d->bad_slot))
                return "entries go of a slot that cannot be selected only";
        return d->bad_slot != SLOT_NONE && d->bad_slot == d->switch_to ? "the entries of the slot that boots stay" : NULL;
}

/* A rollback that begins with this boot. */
static const char *check_beginning(const struct boot_input *in, const struct boot_decision *d)
{
        if (d->action == BOOT_REBOOT || d->switch_to == SLOT_NONE)
                return NULL;
        if (d->found != BOOT_FOUND_PASSED && d->found != BOOT_FOUND_CHOSEN && d->found != BOOT_FOUND_FALLBACK &&
            d->found != BOOT_FOUND_VANISHED)
                return "only a rollback begins without a reboot";
        if (d->switch_to != in->slot || d->set.phase != SWITCH_SWITCHING || d->set.target != in->slot || !d->save)
                return "it is a switch to the running slot, recorded before it is made";
        if (d->set.operation != OPERATION_ROLLBACK || d->set.operation_state != OPERATION_RUNNING ||
            d->set.operation_to != in->slot || d->set.previous != SLOT_NONE)
                return "it is an operation, and the way back is used up";
        if (d->found == BOOT_FOUND_CHOSEN && in->start != BOOT_START_ROLLBACK &&
            (in->set.operation != OPERATION_ROLLBACK || in->set.operation_to != in->slot))
                return "nobody asked for it";
        return d->tries < 1 ? "a switch grants tries" : NULL;
}

/* The broken invariant, or NULL. */
static const char *check_decision(const struct boot_input *in, const struct boot_decision *d)
{
        const char *broken;

        if (slot_set_check(&d->set, NULL) < 0)
                return "slot_set_check()";
        if (d->set.generation < in->set.generation)
                return "the generation never falls";
        if (!d->save && memcmp(&d->set, &in->set, sizeof(d->set)) != 0)
                return "what changed is saved";
        broken = check_marks(in, d);
        if (!broken && d->action == BOOT_REBOOT)
                broken = check_reboot(in, d);
        if (!broken)
                broken = check_beginning(in, d);
        if (broken)
                return broken;
        if (d->arm && (d->action != BOOT_CONTINUE || d->switch_to != SLOT_NONE || in->root_failed ||
                       d->set.slots[in->slot].state != SLOT_CONFIRMED || d->arm != d->set.slots[in->slot].generation))
                return "counted anew is only what is confirmed and has started";
        if (d->action == BOOT_CONTINUE && in->root_failed)
                return "without a root nothing goes on";
        if (d->action == BOOT_CONTINUE && !is_system(&d->set, in->slot))
                return "an empty, incomplete or bad slot does not go on";
        if (d->action == BOOT_RECOVERY && other_can_boot(in, &d->set) &&
            !(d->set.phase == SWITCH_SWITCHED && d->set.target == !in->slot && !is_system(&d->set, in->slot)))
                return "no recovery while another slot can boot, unless it was switched to already";
        if (d->action == BOOT_RECOVERY && !in->record_lost && is_system(&in->set, in->slot) && is_bad(&d->set, in->slot))
                return "the last slot is not marked bad";
        return NULL;
}

/* The same boot once more, as the booted system does after the initramfs: nothing is left to do. */
static const char *check_again(const struct boot_input *in, const struct boot_decision *d)
{
        struct boot_input again = *in;
        struct loader_entry entries[8];
        struct boot_decision second;

        again.set = d->set;
        again.record_lost = false;
        again.entries = entries;
        again.n_entries = 0;
        if (d->switch_to != SLOT_NONE) { /* what boot_carry_out() does */
                entries[again.n_entries++] = (struct loader_entry){
                        .generation = d->set.target_generation, .slot = d->switch_to, .tries_left = d->tries, .usable = true
                };
                slot_set_end_switch(&again.set, d->tries);
                slot_set_count_attempt(&again.set, d->switch_to, d->boot_id);
        }
        for (size_t i = 0; i < in->n_entries; i++)
                if (in->entries[i].slot != d->bad_slot)
                        entries[again.n_entries++] = in->entries[i];
        boot_decide(&again, &second);
        if (in->record_lost)
                return check_decision(&again, &second); /* the rebuilt record may show a failed trial */
        return second.save || second.action != BOOT_CONTINUE ? "a second decision in the same boot changes nothing" : NULL;
}

static unsigned long decisions;

static void judge(const struct boot_input *in)
{
        struct boot_decision d;
        const char *broken;

        boot_decide(in, &d);
        decisions++;
        broken = check_decision(in, &d);
        if (!broken && d.action == BOOT_CONTINUE)
                broken = check_again(in, &d);
        if (broken)
                ck_abort_msg("%s: slot %d generation %d, states %d %d, attempts %d %d, phase %d target %d, operation %d %d, "
                             "lost %d, "
                             "root %d, %zu entries: found %s, action %d, states %d %d",
                             broken, in->slot, (int)in->generation, (int)in->set.slots[0].state, (int)in->set.slots[1].state,
                             in->set.slots[0].attempts, in->set.slots[1].attempts, (int)in->set.phase, in->set.target,
                             (int)in->set.operation, (int)in->set.operation_state, in->record_lost, (int)in->root_failed,
                             in->n_entries, boot_found_to_string(d.found), (int)d.action, (int)d.set.slots[0].state,
                             (int)d.set.slots[1].state);
}

static size_t put_entry(struct loader_entry *entries, size_t n, int slot, uint64_t generation, size_t shape)
{
        if (shapes[shape].there)
                entries[n++] = (struct loader_entry){ .generation = generation,
                                                      .slot = slot,
                                                      .tries_left = shapes[shape].left,
                                                      .tries_done = shapes[shape].done,
                                                      .usable = shapes[shape].usable,
                                                      .confirmed = shapes[shape].confirmed };
        return n;
}

/* All that the ESP may hold; the entry of a begun switch is there, counted or not, or it is not. */
static void with_entries(struct boot_input *in)
{
        struct loader_entry entries[4];
        size_t news = in->set.phase == SWITCH_SWITCHING ? 3 : 1;

        in->entries = entries;
        in->n_entries = 0;
        in->entries_known = false;
        judge(in);
        in->entries_known = true;
        for (size_t new = 0; new < news; new ++)
                for (size_t a = 0; a < ARRAY_SIZE(shapes); a++)
                        for (size_t b = 0; b < ARRAY_SIZE(shapes); b++) {
                                size_t n = 0;

                                if (new > 0)
                                        n = put_entry(entries, n, in->set.target, GENERATION_NEW, new);
                                n = put_entry(entries, n, 1, GENERATION_B, b);
                                in->n_entries = put_entry(entries, n, 0, GENERATION_A, a);
                                judge(in);
                        }
        in->entries = NULL;
        in->n_entries = 0;
}

/* Which slot runs, told which generation, counted already or not, its root mounted or not. */
static void with_boots(struct boot_input *in)
{
        struct slot_set set = in->set;

        for (int variant = 0; variant < 48; variant++) {
                in->start = (enum boot_start)(variant / 16);
                in->set = set;
                in->slot = variant & 1;
                in->generation = variant & 2 ? GENERATION_NEW : in->slot ? GENERATION_B : GENERATION_A;
                memcpy(in->set.slots[in->slot].last_boot, variant & 4 ? this_boot : other_boot, 16);
                in->root_failed = variant & 8 ? REASON_ROOT_MOUNT : REASON_NONE;
                with_entries(in);
        }
        in->set = set;
}

static void with_operations(struct boot_input *in)
{
        struct slot_set set = in->set;

        for (size_t o = 0; o < ARRAY_SIZE(operations); o++)
                for (int previous = SLOT_NONE; previous < 2; previous++) {
                        in->set = set;
                        in->set.operation = operations[o].kind;
                        in->set.operation_state = operations[o].state;
                        in->set.operation_from = set.target == 0;
                        in->set.operation_to = set.target == 0 ? 0 : 1;
                        if (in->set.operation == OPERATION_ROLLBACK && in->set.operation_state == OPERATION_STAGED) {
                                in->set.operation_from = in->set.operation_to; /* from what is on trial */
                                in->set.operation_to = !in->set.operation_from;
                        }
                        in->set.previous = previous;
                        if (slot_set_check(&in->set, NULL) >= 0)
                                with_boots(in);
                }
        in->set = set;
}

START_TEST(every_input_keeps_the_invariants)
{
        struct boot_input in = { .now = 1, .counts = true };

        memcpy(in.boot_id, this_boot, 16);
        slot_set_init(&in.set, 2);
        put_slot(&in.set.slots[0], (size_t)_i / N_STATES, GENERATION_A);
        put_slot(&in.set.slots[1], (size_t)_i % N_STATES, GENERATION_B);
        in.set.generation = GENERATION_B;
        decisions = 0;
        with_operations(&in);
        for (int target = 0; target < 2; target++) {
                in.set.target = target;
                in.set.phase = SWITCH_SWITCHED;
                in.set.target_generation = in.set.slots[target].generation;
                with_operations(&in);
                in.set.phase = SWITCH_SWITCHING;
                in.set.target_generation = in.set.generation = GENERATION_NEW;
                with_operations(&in);
                in.set.generation = GENERATION_B;
        }
        ck_assert_uint_gt(decisions, 1000);
}
END_TEST

START_TEST(a_lost_record_keeps_the_invariants)
{
        struct boot_input in = { .now = 1, .counts = true, .record_lost = true };

        memcpy(in.boot_id, this_boot, 16);
        slot_set_init(&in.set, 2);
        decisions = 0;
        with_boots(&in);
        ck_assert_uint_gt(decisions, 500);
}
END_TEST

/* ---- lives ---- */

enum fate { FINE, DIES_EARLY, NO_ROOT, HANGS, _FATE_MAX };

struct life {
        struct slot_set set;
        struct loader_entry entries[32];
        size_t n;
        enum fate fate[2];
        bool fixed_counter; /* the ESP cannot be written by the loader */
        int pinned;         /* the loader starts this slot's entries only, while there are any */
        int cut_entries;    /* so many switches are cut before their entry */
        int runs;           /* slot of the last boot */
        int reboots, recoveries, boots;
        uint8_t boot_id;
};

static void sort_entries(struct life *l)
{
        for (size_t i = 0; i < l->n; i++)
                for (size_t j = i + 1; j < l->n; j++)
                        if (l->entries[j].generation > l->entries[i].generation) {
                                struct loader_entry e = l->entries[i];

                                l->entries[i] = l->entries[j];
                                l->entries[j] = e;
                        }
}

static void remove_entries(struct life *l, int slot)
{
        size_t n = 0;

        for (size_t i = 0; i < l->n; i++)
                if (l->entries[i].slot != slot)
                        l->entries[n++] = l->entries[i];
        l->n = n;
}

static struct loader_entry *loader_chooses(struct life *l)
{
        struct loader_entry *best = NULL;

        sort_entries(l);
        for (size_t i = 0; i < l->n; i++)
                if (l->entries[i].slot == l->pinned)
                        return &l->entries[i];
        for (size_t i = 0; i < l->n && !best; i++)
                if (l->entries[i].tries_left != 0)
                        best = &l->entries[i];
        return best ?: l->n ? &l->entries[0] : NULL;
}

/* True when the boot went on. */
static bool decide(struct life *l, int slot, uint64_t generation, enum slot_reason root)
{
        struct boot_input in = { .slot = slot,
                                 .generation = generation,
                                 .now = (uint64_t)l->boots,
                                 .set = l->set,
                                 .entries = l->entries,
                                 .n_entries = l->n,
                                 .entries_known = true,
                                 .counts = true,
                                 .root_failed = root };
        struct boot_decision d;
        const char *broken;

        memset(in.boot_id, l->boot_id, sizeof(in.boot_id));
        boot_decide(&in, &d);
        broken = check_decision(&in, &d);
        ck_assert_msg(!broken, "%s", broken);
        l->set = d.set;
        l->reboots += d.action == BOOT_REBOOT;
        l->recoveries += d.action == BOOT_RECOVERY;
        if (d.action == BOOT_REBOOT && l->cut_entries-- > 0)
                return false;
        if (d.switch_to != SLOT_NONE) {
                ck_assert_uint_lt(l->n, ARRAY_SIZE(l->entries));
                l->entries[l->n++] = (struct loader_entry){
                        l->set.target_generation, d.switch_to, d.tries, 0, true, {}, {}, ""
                };
                slot_set_end_switch(&l->set, d.tries);
                if (d.action == BOOT_CONTINUE)
                        slot_set_count_attempt(&l->set, d.switch_to, d.boot_id);
        }
        if (d.bad_slot != SLOT_NONE)
                remove_entries(l, d.bad_slot);
        for (size_t i = 0; i < l->n; i++)
                if (d.arm && l->entries[i].generation == d.arm)
                        l->entries[i] = (struct loader_entry){ d.arm, slot, BOOT_ARM_TRIES, 0, true, {}, {}, "", {}, true };
        sort_entries(l);
        return d.action == BOOT_CONTINUE;
}

static void confirm(struct life *l, int slot)
{
        struct slot *s = &l->set.slots[slot];

        if (s->state != SLOT_TRIAL)
                return;
        for (size_t i = 0; i < l->n; i++)
                if (l->entries[i].generation == s->generation)
                        l->entries[i].tries_left = -1;
        slot_set_confirm(&l->set, slot);
        if (l->set.operation_state == OPERATION_RUNNING)
                l->set.operation_state = OPERATION_DONE;
}

static void boot_once(struct life *l)
{
        struct loader_entry *chosen = loader_chooses(l), booted;

        l->boots++;
        l->boot_id++;
        ck_assert_msg(chosen != NULL, "no entry is left");
        if (chosen->tries_left > 0 && !l->fixed_counter) {
                chosen->tries_left--;
                chosen->tries_done++;
        }
        booted = *chosen;
        l->runs = booted.slot;
        if (l->fate[booted.slot] == DIES_EARLY || !decide(l, booted.slot, booted.generation, REASON_NONE))
                return;
        if (l->fate[booted.slot] == NO_ROOT)
                decide(l, booted.slot, booted.generation, REASON_ROOT_MOUNT);
        else if (l->fate[booted.slot] == FINE)
                confirm(l, booted.slot);
}

/* A machine whose newest switch is at one of its points: 0 upgraded a -> b, 1 gone back b -> a from a confirmed b, 2 gone
 * back from a b on trial, 3 b confirmed and nothing under way. */
static void begin(struct life *l, int story)
{
        struct slot *a = &l->set.slots[0], *b = &l->set.slots[1];
        bool back = story == 1 || story == 2;

        slot_set_init(&l->set, 2);
        put_slot(a, 6, GENERATION_A);
        put_slot(b, story == 2 ? 3 : 6, GENERATION_B);
        l->entries[l->n++] = (struct loader_entry){ GENERATION_A, 0, -1, 0, true, {}, {}, "" };
        l->set.generation = GENERATION_B;
        if (story != 0)
                l->entries[l->n++] = (struct loader_entry){ GENERATION_B, 1, story == 2 ? 2 : -1, story == 2, true, {},
                                                            {},           "" };
        if (story == 3)
                return;
        l->set.operation = back ? OPERATION_ROLLBACK : OPERATION_UPGRADE;
        l->set.operation_state = OPERATION_RUNNING;
        l->set.operation_from = back;
        l->set.operation_to = !back;
        l->set.previous = back ? SLOT_NONE : 0;
        if (!back) {
                b->state = SLOT_INSTALLED;
                b->generation = 0;
                l->set.generation = GENERATION_A;
        }
        slot_set_begin_switch(&l->set, !back, 0);
        slot_set_end_switch(&l->set, 3);
        l->entries[l->n++] = (struct loader_entry){ l->set.target_generation, !back, 3, 0, true, {}, {}, "" };
}

/* Every pair of fates: the machine ends on a slot that is fine, when there is one; it never spins. */
START_TEST(repeated_failures_come_to_an_end)
{
        for (int fates = 0; fates < _FATE_MAX * _FATE_MAX; fates++)
                for (int variant = 0; variant < 6; variant++) {
                        struct life l = { .fate = { fates / _FATE_MAX, fates % _FATE_MAX }, .pinned = SLOT_NONE };
                        bool fine = l.fate[0] == FINE || l.fate[1] == FINE;
                        int before;

                        begin(&l, _i);
                        l.fixed_counter = variant == 1;
                        l.pinned = variant == 2 ? 0 : variant == 3 ? 1 : SLOT_NONE;
                        l.cut_entries = variant >= 4 ? variant - 3 : 0;
                        for (int i = 0; i < 24; i++)
                                boot_once(&l);
                        before = l.reboots;
                        ck_assert_msg(l.reboots <= 6, "story %d fates %d variant %d: %d reboots", _i, fates, variant,
                                      l.reboots);
                        for (int i = 0; i < 12; i++)
                                boot_once(&l);
                        ck_assert_msg(l.reboots == before, "story %d fates %d variant %d: it spins", _i, fates, variant);
                        /* An early death is seen by the loader alone: with a counter that does not move, a pin, or a
                         * confirmed slot, nothing else can. */
                        if (!fine || l.fate[0] == DIES_EARLY || l.fate[1] == DIES_EARLY ||
                            (l.pinned != SLOT_NONE && l.fate[l.pinned] != FINE) || (_i == 3 && l.fate[1] == HANGS))
                                continue;
                        ck_assert_msg(l.fate[l.runs] == FINE && is_system(&l.set, l.runs),
                                      "story %d fates %d variant %d: ends on slot %d, %s", _i, fates, variant, l.runs,
                                      slot_state_to_string(l.set.slots[l.runs].state));
                }
}
END_TEST

/* What the loader sees alone. */
START_TEST(early_deaths_fall_back)
{
        struct life l = { .fate = { _i ? DIES_EARLY : FINE, _i ? FINE : DIES_EARLY }, .pinned = SLOT_NONE };

        begin(&l, _i);
        for (int i = 0; i < 8; i++)
                boot_once(&l);
        ck_assert_int_eq(l.runs, _i);
        ck_assert_int_eq(l.set.slots[_i].state, SLOT_CONFIRMED);
        ck_assert_int_eq(l.set.slots[!_i].state, SLOT_BAD);
        ck_assert_int_eq(l.set.slots[!_i].reason, REASON_TRIES_EXHAUSTED);
        ck_assert_int_eq(l.set.operation_state, OPERATION_FAILED);
        ck_assert_int_eq(l.reboots, 0);
}
END_TEST

/* A confirmed version that does not get as far as the initramfs any more, whatever it was that ended it. A machine whose
 * power goes a few times while it starts is not sent back. */
START_TEST(a_confirmed_version_that_dies_early_is_left)
{
        struct life l = { .pinned = SLOT_NONE };

        begin(&l, 3);
        for (int round = 0; round < 5; round++) {
                l.fate[1] = FINE;
                boot_once(&l);
                ck_assert_int_eq(l.runs, 1);
                l.fate[1] = DIES_EARLY;
                for (int i = 0; i < BOOT_ARM_AGAIN; i++)
                        boot_once(&l);
        }
        ck_assert_int_eq(l.set.slots[1].state, SLOT_CONFIRMED);
        for (int i = 0; i < 3 + 2; i++)
                boot_once(&l);
        ck_assert_int_eq(l.runs, 0);
        ck_assert_int_eq(l.set.slots[0].state, SLOT_CONFIRMED);
        ck_assert_int_eq(l.set.slots[1].state, SLOT_BAD);
        ck_assert_int_eq(l.set.slots[1].reason, REASON_TRIES_EXHAUSTED);
        ck_assert_int_eq(l.set.operation, OPERATION_ROLLBACK);
        ck_assert_int_eq(l.set.operation_state, OPERATION_DONE);
        ck_assert_int_eq(l.reboots, 0);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("decisions");
        TCase *t = tcase_create("decisions");

        tcase_set_timeout(t, 120);
        tcase_add_loop_test(t, every_input_keeps_the_invariants, 0, (int)(N_STATES * N_STATES));
        tcase_add_test(t, a_lost_record_keeps_the_invariants);
        tcase_add_loop_test(t, repeated_failures_come_to_an_end, 0, 4);
        tcase_add_loop_test(t, early_deaths_fall_back, 0, 2);
        tcase_add_test(t, a_confirmed_version_that_dies_early_is_left);
        suite_add_tcase(s, t);
        return suite_run(s);
}
