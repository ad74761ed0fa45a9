/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The boot-time decision: every input against the invariants of the design's sections 3 and 4, whole lives of a machine
 * whose boots fail again and again, the rows of the design's table, and how a decision is carried out. */
#include <sys/mman.h>

#include "base/buf.h"
#include "base/log.h"
#include "operation/boot.h"

/* Check has a macro of this name. */
#include <check.h>
#undef fail

#define GENERATION_A   7
#define GENERATION_B   8
#define GENERATION_NEW 9

static const uint8_t this_boot[16] = { 1 }, other_boot[16] = { 2 };

/* ---- the product ---- */

/* The entries that one slot may have. */
static const struct {
        int left, done;
        bool there, usable;
} shapes[] = {
        { .there = false },   { -1, 0, true, true },  { 3, 0, true, true },  { 1, 2, true, true },
        { 0, 3, true, true }, { -1, 0, true, false }, { 2, 1, true, false },
};

static const struct {
        enum slot_state state;
        uint8_t attempts;
} states[] = {
        { SLOT_EMPTY, 0 }, { SLOT_INCOMPLETE, 0 }, { SLOT_INSTALLED, 0 }, { SLOT_TRIAL, 0 },
        { SLOT_TRIAL, 2 }, { SLOT_TRIAL, 3 },      { SLOT_CONFIRMED, 0 }, { SLOT_BAD, 0 },
};
#define N_STATES ARRAY_SIZE(states)

static const struct {
        enum operation_kind kind;
        enum operation_state state;
} operations[] = {
        { OPERATION_NONE, OPERATION_IDLE },
        { OPERATION_UPGRADE, OPERATION_RUNNING },
        { OPERATION_ROLLBACK, OPERATION_RUNNING },
        { OPERATION_UPGRADE, OPERATION_STAGED },
};

static void put_slot(struct slot *slot, size_t state, uint64_t generation)
{
        static const enum slot_reason reasons[_SLOT_STATE_MAX] = {
                [SLOT_INCOMPLETE] = REASON_WRITING,
                [SLOT_BAD] = REASON_HEALTH,
        };

        *slot = (struct slot){ .state = states[state].state,
                               .reason = reasons[states[state].state],
                               .generation = states[state].state <= SLOT_INCOMPLETE ? 0 : generation,
                               .attempts = states[state].attempts,
                               .tries = states[state].state == SLOT_TRIAL ? 3 : 0 };
        snprintf(slot->version, sizeof(slot->version), "%d", (int)generation);
        memset(slot->digest, (int)generation, DIGEST_SIZE);
        memset(slot->kernel, (int)generation, BOOT_FILE_ID_SIZE);
}

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
        if (d->found != BOOT_FOUND_PASSED && d->found != BOOT_FOUND_CHOSEN)
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
                                                      .usable = shapes[shape].usable };
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
                        in->set.previous = previous;
                        if (slot_set_check(&in->set, NULL) >= 0)
                                with_boots(in);
                }
        in->set = set;
}

START_TEST(every_input_keeps_the_invariants)
{
        struct boot_input in = { .now = 1 };

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
        struct boot_input in = { .now = 1, .record_lost = true };

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

/* ---- the table ---- */

struct case_ {
        struct boot_input in;
        struct loader_entry entries[4];
        struct boot_decision d;
};

/* Upgraded from a (generation 7) to b (generation 8, on trial); `runs` boots. */
static void upgraded(struct case_ *c, int runs)
{
        struct slot_set *set = &c->in.set;

        *c = (struct case_){
                .in = { .slot = runs, .generation = runs ? GENERATION_B : GENERATION_A, .now = 5, .entries_known = true }
        };
        memcpy(c->in.boot_id, this_boot, 16);
        slot_set_init(set, 2);
        put_slot(&set->slots[0], 6, GENERATION_A);
        put_slot(&set->slots[1], 3, GENERATION_B);
        set->generation = set->target_generation = GENERATION_B;
        set->phase = SWITCH_SWITCHED;
        set->target = 1;
        set->previous = 0;
        set->operation = OPERATION_UPGRADE;
        set->operation_state = OPERATION_RUNNING;
        set->operation_from = 0;
        set->operation_to = 1;
        c->entries[0] = (struct loader_entry){ GENERATION_B, 1, 3, 0, true, {}, {}, "" };
        c->entries[1] = (struct loader_entry){ GENERATION_A, 0, -1, 0, true, {}, {}, "" };
        c->in.entries = c->entries;
        c->in.n_entries = 2;
}

static void run(struct case_ *c, enum boot_found found, enum boot_action action)
{
        boot_decide(&c->in, &c->d);
        ck_assert_str_eq(boot_found_to_string(c->d.found), boot_found_to_string(found));
        ck_assert_int_eq(c->d.action, action);
}

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

/* b was upgraded to and is confirmed, and yet a boots. */
static void older_runs(struct case_ *c, enum boot_start start)
{
        upgraded(c, 0);
        slot_set_confirm(&c->in.set, 1);
        c->in.set.operation_state = OPERATION_DONE;
        c->entries[0].tries_left = -1;
        c->in.start = start;
}

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
        ck_assert_int_eq(c.d.set.operation_state, OPERATION_DONE);
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

/* ---- carrying it out ---- */

/* A loader that writes down what it is asked, with what the record says at that moment. */
static struct buf story;
static struct state_place place;
static int switch_result, remove_result;

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
        return remove_result;
}

static const struct loader_ops fake_ops = { .name = "fake", .switch_to = fake_switch_to, .remove_slot = fake_remove_slot };

static int carry_out(struct case_ *c, const struct loader_ops *ops, bool writable, struct state *state, struct error *e)
{
        struct loader loader = { .ops = ops, .writable = writable };
        struct disk disk = { .n_slots = 2 };
        int fd = memfd_create("record", MFD_CLOEXEC);

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
        ck_assert_int_eq(carry_out(&c, _i ? &loader_none : &fake_ops, _i, &state, &e), -EROFS);
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

static void add_table(TCase *t)
{
        tcase_add_test(t, nothing_of_ours_runs);
        tcase_add_test(t, a_trial_is_counted_once);
        tcase_add_loop_test(t, loader_and_record_may_count_differently, 0, 6);
        tcase_add_test(t, an_exhausted_trial_is_left);
        tcase_add_loop_test(t, a_failed_trial_is_recorded_by_the_fallback, 0, 5);
        tcase_add_loop_test(t, a_detour_changes_nothing, 0, 3);
        tcase_add_loop_test(t, without_entries_only_the_record_counts, 0, 2);
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
        tcase_add_test(t, a_lost_record_is_rebuilt);
        tcase_add_test(t, a_lost_record_without_entries);
}

int main(void)
{
        Suite *s = suite_create("boot");
        TCase *t = tcase_create("boot");
        SRunner *runner;
        int failed;

        tcase_set_timeout(t, 120);
        tcase_add_loop_test(t, every_input_keeps_the_invariants, 0, (int)(N_STATES * N_STATES));
        tcase_add_test(t, a_lost_record_keeps_the_invariants);
        tcase_add_loop_test(t, repeated_failures_come_to_an_end, 0, 4);
        tcase_add_loop_test(t, early_deaths_fall_back, 0, 2);
        add_table(t);
        tcase_add_test(t, a_switch_is_carried_out_in_order);
        tcase_add_test(t, old_entries_that_stay_do_not_stop_it);
        tcase_add_test(t, a_switch_that_fails_removes_nothing);
        tcase_add_loop_test(t, a_loader_that_cannot_be_told, 0, 2);
        tcase_add_test(t, nothing_to_do_writes_nothing);
        tcase_add_test(t, an_impossible_record_is_refused);
        suite_add_tcase(s, t);
        runner = srunner_create(s);
        srunner_run_all(runner, CK_NORMAL);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? 1 : 0;
}
