/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "operation/boot.h"

#include "base/buf.h"
#include "operation/boot_rebuild.h"

/* Without any entry of ours something else has started this slot. */
static bool knows_entries(const struct boot_input *in)
{
        return in->entries_known && in->n_entries > 0;
}

/* The entry of a slot's generation, or NULL. */
static const struct loader_entry *entry_of(const struct boot_input *in, int slot, uint64_t generation)
{
        for (size_t i = 0; i < in->n_entries; i++)
                if (in->entries[i].slot == slot && in->entries[i].generation == generation)
                        return &in->entries[i];
        return NULL;
}

static bool is_counted(const struct boot_input *in, const struct slot *slot)
{
        return memcmp(slot->last_boot, in->boot_id, sizeof(slot->last_boot)) == 0;
}

/* Where the loader's tries and the record's attempts differ, fewer tries left wins: a kernel that dies early is
 * counted by the loader only. This boot is among the loader's, and not yet among the record's. */
static bool take_loader_count(const struct boot_input *in, struct slot_set *set, int slot)
{
        struct slot *s = &set->slots[slot];
        const struct loader_entry *entry = entry_of(in, slot, s->generation);
        int used;

        if (s->state != SLOT_TRIAL || !entry || entry->tries_left < 0 || entry->tries_left > s->tries)
                return false;
        used = s->tries - entry->tries_left - (slot == in->slot && !is_counted(in, s));
        if (used <= s->attempts)
                return false;
        s->attempts = (uint8_t)used;
        return true;
}

/* A name that was not durable as a whole when power was cut: nothing is in it. */
static bool is_empty(const struct loader_entry *entry)
{
        return !entry->usable && is_all_zero(entry->kernel, sizeof(entry->kernel));
}

static enum boot_found find_switching(const struct boot_input *in, const struct slot_set *set)
{
        const struct loader_entry *entry = entry_of(in, set->target, set->target_generation);

        if (in->slot == set->target && in->generation == set->target_generation)
                return BOOT_FOUND_FINISH;
        if (!knows_entries(in))
                return BOOT_FOUND_DETOUR;
        return entry && !is_empty(entry) ? BOOT_FOUND_FINISH : BOOT_FOUND_DROP;
}

/* What a power cut has left of a confirmation: the name without a counter, and nothing in it. */
static bool is_remnant(const struct loader_entry *entry)
{
        return entry->tries_left < 0 && is_empty(entry);
}

/* Another slot than the one that was switched to. */
static enum boot_found find_other(const struct boot_input *in, const struct slot_set *set, enum slot_reason *why)
{
        const struct slot *target = &set->slots[set->target];
        const struct loader_entry *entry = entry_of(in, set->target, target->generation);

        *why = REASON_TRIES_EXHAUSTED;
        if (target->state != SLOT_TRIAL)
                return BOOT_FOUND_DETOUR;
        if (slot_tries_left(target) == 0)
                return BOOT_FOUND_FALLBACK;
        if (!knows_entries(in))
                return BOOT_FOUND_DETOUR;
        if (!entry || is_remnant(entry))
                return BOOT_FOUND_VANISHED;
        *why = entry->usable ? REASON_NOT_STARTED : REASON_BOOT_FILES;
        return entry->usable && in->start != BOOT_START_FALLBACK ? BOOT_FOUND_DETOUR : BOOT_FOUND_FALLBACK;
}

/* The confirmed slot that should have booted: newer than the running one. */
static int find_newer(const struct boot_input *in, const struct slot_set *set)
{
        uint64_t generation = set->slots[in->slot].generation;
        int found = SLOT_NONE;

        for (int i = 0; i < set->n_slots; i++) {
                if (i == in->slot || set->slots[i].state != SLOT_CONFIRMED || set->slots[i].generation <= generation)
                        continue;
                generation = set->slots[i].generation;
                found = i;
        }
        return found;
}

static bool may_choose(const struct slot_set *set, int slot)
{
        return set->previous == slot && !set->finalized && set->slots[slot].security_version >= set->floor;
}

/* An older slot boots although a newer one is confirmed. */
static enum boot_found find_older(const struct boot_input *in, const struct slot_set *set, enum slot_reason *why)
{
        int newer = find_newer(in, set);
        const struct loader_entry *entry;
        bool spent;

        if (newer == SLOT_NONE)
                return BOOT_FOUND_DETOUR;
        if (in->start == BOOT_START_ROLLBACK && may_choose(set, in->slot)) {
                *why = REASON_OPERATOR;
                return BOOT_FOUND_CHOSEN;
        }
        /* All entries gone and no word of the firmware's: another loader's machine. */
        if (!knows_entries(in) && !(in->entries_known && in->start == BOOT_START_FALLBACK))
                return BOOT_FOUND_DETOUR;
        entry = entry_of(in, newer, set->slots[newer].generation);
        if (!entry)
                return BOOT_FOUND_MISSING;
        spent = entry->confirmed && entry->tries_left == 0;
        *why = !entry->usable ? REASON_BOOT_FILES : spent ? REASON_TRIES_EXHAUSTED : REASON_NOT_STARTED;
        return entry->usable && !spent && in->start != BOOT_START_FALLBACK ? BOOT_FOUND_DETOUR : BOOT_FOUND_PASSED;
}

/* Its record was written, its entry was not. */
static bool was_begun_here(const struct slot_set *set, int slot)
{
        return set->operation == OPERATION_ROLLBACK && set->operation_state == OPERATION_RUNNING &&
               set->operation_to == slot && set->operation_from != SLOT_NONE;
}

/* The same, to leave this slot: from here it is left again. */
static bool is_being_left(const struct slot_set *set, int slot)
{
        return set->operation == OPERATION_ROLLBACK && set->operation_state == OPERATION_RUNNING &&
               set->operation_from == slot && set->slots[slot].state == SLOT_BAD;
}

/* An operation whose slot was marked bad before it could say that it failed. */
static bool left_bad(const struct slot_set *set, int running)
{
        return set->operation_state == OPERATION_RUNNING && set->phase == SWITCH_NONE && set->operation_to >= 0 &&
               set->operation_to < set->n_slots && set->operation_to != running &&
               set->slots[set->operation_to].state == SLOT_BAD;
}

/* What this boot is; *why: the reason for which a slot is to be marked bad, where one is. */
static enum boot_found classify(const struct boot_input *in, const struct slot_set *set, enum slot_reason *why)
{
        const struct slot *slot = &set->slots[in->slot];
        enum boot_found found = set->phase == SWITCH_SWITCHING ? find_switching(in, set) : BOOT_FOUND_DETOUR;

        if (found != BOOT_FOUND_DETOUR)
                return found;
        *why = in->root_failed;
        if (in->root_failed)
                return BOOT_FOUND_ROOT;
        *why = slot->reason;
        if (!slot_has_system(slot))
                return BOOT_FOUND_ROOT;
        if (set->phase == SWITCH_SWITCHED && set->target != in->slot)
                found = find_other(in, set, why);
        if (found != BOOT_FOUND_DETOUR)
                return found;
        if (left_bad(set, in->slot)) {
                *why = set->slots[set->operation_to].reason;
                return BOOT_FOUND_FALLBACK;
        }
        if (set->phase == SWITCH_NONE && slot->state == SLOT_CONFIRMED) {
                *why = set->operation_reason;
                if (was_begun_here(set, in->slot))
                        return BOOT_FOUND_CHOSEN;
                found = find_older(in, set, why);
                return found == BOOT_FOUND_DETOUR ? BOOT_FOUND_CONFIRMED : found;
        }
        /* Also when it is not the newest: what a pin starts again and again must come to an end. */
        *why = REASON_TRIES_EXHAUSTED;
        if (slot->state == SLOT_TRIAL)
                return is_counted(in, slot) || slot_tries_left(slot) > 0 ? BOOT_FOUND_TRIAL : BOOT_FOUND_EXHAUSTED;
        return set->phase == SWITCH_NONE || set->target == in->slot ? BOOT_FOUND_CONFIRMED : BOOT_FOUND_DETOUR;
}

/* Whether the loader could start the slot: the entries that it has are not all without their files. */
static bool has_files(const struct boot_input *in, int slot)
{
        bool any = false;

        for (size_t i = 0; i < in->n_entries; i++) {
                if (in->entries[i].slot != slot)
                        continue;
                if (in->entries[i].usable)
                        return true;
                any = true;
        }
        return !any;
}

static int other_selectable(const struct boot_input *in, const struct slot_set *set)
{
        int best = SLOT_NONE;

        for (int i = 0; i < set->n_slots; i++)
                if (i != in->slot && slot_is_selectable(&set->slots[i]) && has_files(in, i) &&
                    (best == SLOT_NONE || set->slots[i].generation > set->slots[best].generation))
                        best = i;
        return best;
}

/* A rollback that was to make at the next shutdown what the machine makes by itself. */
static bool is_staged_return(const struct slot_set *set, int from, int to)
{
        return set->operation == OPERATION_ROLLBACK && set->operation_state == OPERATION_STAGED &&
               set->operation_from == from && set->operation_to == to;
}

/* As an operation of its own, which the slot that boots next takes up; unless another one has led here, and fails. */
static void record_rollback(const struct boot_input *in, int from, int to, enum slot_reason why, struct slot_set *set)
{
        memcpy(set->operation_id, in->boot_id, sizeof(set->operation_id));
        set->operation = OPERATION_ROLLBACK;
        set->operation_state = OPERATION_RUNNING;
        set->operation_reason = why;
        set->operation_automatic = why != REASON_OPERATOR;
        set->operation_from = from;
        set->operation_to = to;
        memcpy(set->refused, set->slots[from].digest, DIGEST_SIZE);
}

/* What becomes of the operation as `bad` is left for `to`: what has led to it has failed. Where something else was done
 * last, e.g. an entry that was gone was made again, nobody knows yet that anything is gone back from. A system that bootmgr
 * did not install takes no operation up. */
static void end_operation(const struct boot_input *in, int bad, int to, enum slot_reason why, struct slot_set *set)
{
        bool goes_on = is_staged_return(set, bad, to), is_counted = goes_on && set->operation_automatic;
        bool leads = set->operation_state == OPERATION_RUNNING && set->operation_to == bad;

        if (goes_on) {
                set->operation_state = OPERATION_RUNNING;
        } else if (leads) {
                set->operation_state = OPERATION_FAILED;
                set->operation_reason = why;
        } else if (*set->slots[to].version) {
                record_rollback(in, bad, to, why, set);
        } else if (set->operation_state == OPERATION_STAGED) {
                set->operation_state = OPERATION_ABORTED;
        }
        memcpy(set->refused, set->slots[bad].digest, DIGEST_SIZE);
        if (why != REASON_OPERATOR && !is_counted)
                slot_set_note_auto_rollback(set, in->now);
        set->previous = SLOT_NONE;
        set->finalized = false;
}

/* The actions: each turns d->set into what the record is to say. */
typedef void (*action_function)(const struct boot_input *in, enum slot_reason why, struct boot_decision *d);

static void do_nothing(const struct boot_input *in, enum slot_reason why, struct boot_decision *d) {}

static void switch_to(const struct boot_input *in, int slot, int tries, struct boot_decision *d)
{
        slot_set_begin_switch(&d->set, slot, loader_entries_highest(in->entries, in->n_entries, d->set.generation));
        d->switch_to = slot;
        d->tries = tries;
        d->action = BOOT_REBOOT;
        d->save = true;
}

static void mark_running_bad(const struct boot_input *in, int other, enum slot_reason why, struct boot_decision *d)
{
        struct slot_set *set = &d->set;
        struct slot *slot = &set->slots[in->slot];

        d->bad_slot = in->slot;
        if (slot->state == SLOT_EMPTY || slot->state == SLOT_BAD)
                return;
        if ((set->phase == SWITCH_SWITCHED && set->target == in->slot) || is_staged_return(set, in->slot, other))
                end_operation(in, in->slot, other, why, set);
        else if (set->operation_state == OPERATION_STAGED)
                set->operation_state = OPERATION_ABORTED; /* what it was to leave or seal cannot be used any more */
        slot_set_mark_bad(set, in->slot, why);
        d->save = true;
}

/* The switch away from this slot was made already, and the loader has started it all the same: something pins it. */
static bool was_left(const struct slot_set *set, int slot, int other)
{
        return !slot_has_system(&set->slots[slot]) && set->phase == SWITCH_SWITCHED && set->target == other;
}

/* Nothing else can boot: the slot keeps its state, so that the next try may find its root again; its reason says what
 * is wrong. Its tries used up, it boots all the same, but the operation that brought it here has failed. */
static void keep_last(const struct boot_input *in, enum slot_reason why, struct boot_decision *d)
{
        struct slot *slot = &d->set.slots[in->slot];

        d->action = BOOT_RECOVERY;
        d->save |= slot->reason != why;
        slot->reason = why;
        if (d->found != BOOT_FOUND_EXHAUSTED || d->set.operation_state != OPERATION_RUNNING)
                return;
        d->set.operation_state = OPERATION_FAILED;
        d->set.operation_reason = why;
        d->save = true;
}

static bool is_at_rest(const struct slot_set *set, int slot)
{
        return set->phase == SWITCH_NONE && set->slots[slot].state == SLOT_CONFIRMED &&
               set->operation_state != OPERATION_STAGED && set->operation_state != OPERATION_RUNNING;
}

static void leave_slot(const struct boot_input *in, enum slot_reason why, struct boot_decision *d)
{
        int other = other_selectable(in, &d->set);

        if (other == SLOT_NONE) {
                keep_last(in, why, d);
                return;
        }
        if (was_left(&d->set, in->slot, other)) {
                d->action = BOOT_RECOVERY; /* slowly: another entry would change nothing */
                d->bad_slot = in->slot;
                return;
        }
        if (is_at_rest(&d->set, in->slot)) {
                record_rollback(in, in->slot, other, why, &d->set);
                slot_set_note_auto_rollback(&d->set, in->now);
        }
        mark_running_bad(in, other, why, d);
        if (d->set.previous == other) {
                d->set.previous = SLOT_NONE; /* it is gone back to: there is nothing behind it */
                d->set.finalized = false;
        }
        switch_to(in, other, SLOT_DEFAULT_TRIES, d);
}

static void finish_switch(const struct boot_input *in, enum slot_reason why, struct boot_decision *d)
{
        const struct loader_entry *entry = entry_of(in, d->set.target, d->set.target_generation);
        int tries = SLOT_DEFAULT_TRIES;

        if (entry && entry->tries_left < 0)
                tries = 0;
        else if (entry)
                tries = MIN(MAX(MIN(entry->tries_left, SLOT_MAX_TRIES) + MIN(entry->tries_done, SLOT_MAX_TRIES), 1),
                            SLOT_MAX_TRIES);
        slot_set_end_switch(&d->set, tries);
        d->save = true;
}

/* The slot on trial, which had lost its entry, was to have it again: what has led to it goes on. */
static bool is_still_on_trial(const struct boot_input *in, const struct slot_set *set, int target)
{
        const struct slot *slot = &set->slots[target];
        const struct loader_entry *entry = entry_of(in, target, slot->generation);

        return target != in->slot && slot->state == SLOT_TRIAL && (!entry || is_remnant(entry)) && !in->root_failed &&
               slot_has_system(&set->slots[in->slot]);
}

static void drop_switch(const struct boot_input *in, enum slot_reason why, struct boot_decision *d)
{
        struct slot_set *set = &d->set;
        int target = set->target;
        /* Every operation that switches says so in the same write. Else a confirmed version was to have its entry again. */
        bool running = set->operation_state == OPERATION_RUNNING;

        /* What a person wanted to try is as bad as it was. */
        if (set->once)
                slot_set_mark_bad(set, target, set->slots[target].reason);
        d->save = true;
        if (is_still_on_trial(in, set, target)) {
                set->phase = SWITCH_SWITCHED;
                set->target_generation = set->slots[target].generation;
                return;
        }
        slot_set_drop_switch(set);
        if (was_begun_here(set, in->slot) || is_being_left(set, in->slot))
                return; /* it is begun again */
        if (running && set->previous == in->slot)
                set->previous = SLOT_NONE; /* recorded for a switch that did not happen */
        /* What the same write said of the slot that a rollback was about to leave; it can be asked for again. */
        if (running && set->operation == OPERATION_ROLLBACK && target != in->slot) {
                set->previous = target;
                if (memcmp(set->refused, set->slots[in->slot].digest, DIGEST_SIZE) == 0)
                        memset(set->refused, 0, DIGEST_SIZE);
        }
        if (running)
                set->operation_state = OPERATION_ABORTED;
}

/* A reason that an earlier boot left on it holds no longer. */
static void go_on(const struct boot_input *in, enum slot_reason why, struct boot_decision *d)
{
        struct slot *slot = &d->set.slots[in->slot];

        d->save |= slot->reason != REASON_NONE;
        slot->reason = REASON_NONE;
}

static void count_attempt(const struct boot_input *in, enum slot_reason why, struct boot_decision *d)
{
        go_on(in, why, d);
        d->save |= slot_set_count_attempt(&d->set, in->slot, in->boot_id);
}

/* The slot that runs instead is what is left: confirmed, or it takes its own unfinished trial up again. */
static void take_up(const struct boot_input *in, struct boot_decision *d)
{
        struct slot *slot = &d->set.slots[in->slot];

        if (slot->state != SLOT_TRIAL) {
                slot_set_confirm(&d->set, in->slot);
                return;
        }
        d->set.phase = SWITCH_SWITCHED;
        d->set.target = in->slot;
        d->set.target_generation = slot->generation;
        slot_set_count_attempt(&d->set, in->slot, in->boot_id);
}

static void restore_entry(const struct boot_input *in, enum slot_reason why, struct boot_decision *d)
{
        switch_to(in, find_newer(in, &d->set), SLOT_DEFAULT_TRIES, d);
}

static void begin_rollback(const struct boot_input *in, enum slot_reason why, struct boot_decision *d)
{
        struct slot_set *set = &d->set;
        int from = find_newer(in, set);

        if (!was_begun_here(set, in->slot))
                record_rollback(in, from, in->slot, why, set);
        if (set->slots[set->operation_from].state == SLOT_BAD)
                d->bad_slot = set->operation_from;
        set->previous = SLOT_NONE;
        set->finalized = false;
        switch_to(in, in->slot, SLOT_DEFAULT_TRIES, d);
        d->action = BOOT_CONTINUE;
}

static void fall_back(const struct boot_input *in, enum slot_reason why, struct boot_decision *d)
{
        int bad = d->set.phase == SWITCH_SWITCHED ? d->set.target : d->set.operation_to;

        end_operation(in, bad, in->slot, why, &d->set);
        slot_set_mark_bad(&d->set, bad, why);
        take_up(in, d);
        d->bad_slot = bad;
        d->save = true;
        if (d->set.slots[in->slot].state == SLOT_CONFIRMED && was_begun_here(&d->set, in->slot))
                begin_rollback(in, why, d);
}

/* One try is taken for it, so that a loader which always loses the entry comes to an end. */
static void make_again(const struct boot_input *in, enum slot_reason why, struct boot_decision *d)
{
        int target = d->set.target, left;

        slot_set_count_attempt(&d->set, target, in->boot_id);
        left = slot_tries_left(&d->set.slots[target]);
        if (left == 0)
                fall_back(in, REASON_TRIES_EXHAUSTED, d);
        else
                switch_to(in, target, left, d);
}

static void pass_over(const struct boot_input *in, enum slot_reason why, struct boot_decision *d)
{
        int newer = find_newer(in, &d->set);

        begin_rollback(in, why, d);
        slot_set_mark_bad(&d->set, newer, why);
        slot_set_note_auto_rollback(&d->set, in->now);
        d->bad_slot = newer;
}

static const action_function actions[_BOOT_FOUND_MAX] = {
        [BOOT_FOUND_NOTHING] = do_nothing,    [BOOT_FOUND_LOST] = boot_rebuild,     [BOOT_FOUND_ROOT] = leave_slot,
        [BOOT_FOUND_FINISH] = finish_switch,  [BOOT_FOUND_DROP] = drop_switch,      [BOOT_FOUND_TRIAL] = count_attempt,
        [BOOT_FOUND_EXHAUSTED] = leave_slot,  [BOOT_FOUND_FALLBACK] = fall_back,    [BOOT_FOUND_VANISHED] = make_again,
        [BOOT_FOUND_DETOUR] = go_on,          [BOOT_FOUND_MISSING] = restore_entry, [BOOT_FOUND_PASSED] = pass_over,
        [BOOT_FOUND_CHOSEN] = begin_rollback, [BOOT_FOUND_CONFIRMED] = go_on,       [BOOT_FOUND_UNREAD] = boot_rebuild,
};

/* The one boot that a person at the console gave a slot is over, whatever boots now: it is bad again, so that nothing boots
 * it by itself. */
static void end_try(const struct boot_input *in, struct boot_decision *d)
{
        struct slot_set *set = &d->set;
        const struct slot *slot = set->once && set->phase == SWITCH_SWITCHED ? &set->slots[set->target] : NULL;
        bool runs = slot && set->target == in->slot && (is_counted(in, slot) || slot_tries_left(slot) > 0);
        bool waits = slot && set->target != in->slot && slot_tries_left(slot) > 0 &&
                     (!knows_entries(in) || entry_of(in, set->target, slot->generation));

        if (!slot || (runs && !in->root_failed) || waits)
                return;
        slot_set_mark_bad(set, set->target, runs ? in->root_failed : REASON_TRIES_EXHAUSTED);
        d->save = true;
}

static void decide(const struct boot_input *in, struct boot_decision *d)
{
        enum slot_reason why = REASON_NONE;

        end_try(in, d);
        d->found = classify(in, &d->set, &why);
        actions[d->found](in, why, d);
        if (d->found == BOOT_FOUND_CONFIRMED && d->action == BOOT_CONTINUE)
                d->arm = boot_to_be_armed(in, &d->set);
}

void boot_decide(const struct boot_input *in, struct boot_decision *ret)
{
        struct boot_decision d = {
                .found = BOOT_FOUND_NOTHING, .set = in->set, .bad_slot = SLOT_NONE, .switch_to = SLOT_NONE
        };

        memcpy(d.boot_id, in->boot_id, sizeof(d.boot_id));
        if (in->slot < 0 || in->slot >= d.set.n_slots) {
                *ret = d;
                return;
        }
        if (in->record_lost) {
                d.found = BOOT_FOUND_LOST;
                boot_rebuild(in, REASON_NONE, &d);
                if (in->root_failed) {
                        decide(in, &d);
                } else if (in->record_unread) {
                        d.found = BOOT_FOUND_UNREAD;
                        d.save = false;
                }
                *ret = d;
                return;
        }
        for (int i = 0; i < d.set.n_slots && d.set.phase != SWITCH_SWITCHING; i++)
                d.save |= take_loader_count(in, &d.set, i);
        decide(in, &d);
        /* A begun switch is settled first; what this boot is shows only then. It is settled for good, so there
         * is no third round. */
        if (d.found == BOOT_FOUND_FINISH || d.found == BOOT_FOUND_DROP) {
                for (int i = 0; i < d.set.n_slots; i++)
                        take_loader_count(in, &d.set, i);
                decide(in, &d);
        }
        *ret = d;
}
