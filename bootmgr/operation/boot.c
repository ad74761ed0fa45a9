/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "operation/boot.h"

#include "base/buf.h"

static const char *const found_names[_BOOT_FOUND_MAX] = {
        [BOOT_FOUND_NOTHING] = "nothing", [BOOT_FOUND_LOST] = "record-lost",   [BOOT_FOUND_ROOT] = "root-unusable",
        [BOOT_FOUND_FINISH] = "finish",   [BOOT_FOUND_DROP] = "drop",          [BOOT_FOUND_TRIAL] = "trial",
        [BOOT_FOUND_EXHAUSTED] = "exhausted", [BOOT_FOUND_FALLBACK] = "fallback", [BOOT_FOUND_DETOUR] = "detour",
        [BOOT_FOUND_CONFIRMED] = "confirmed",
};

const char *boot_found_to_string(enum boot_found found)
{
        return found < _BOOT_FOUND_MAX ? found_names[found] : "unknown";
}

/* The entry of a generation, or NULL. */
static const struct loader_entry *entry_of(const struct boot_input *in, uint64_t generation)
{
        for (size_t i = 0; i < in->n_entries; i++)
                if (in->entries[i].generation == generation)
                        return &in->entries[i];
        return NULL;
}

/* Whether the slot on trial can come up no more; *why becomes the reason. Fewer tries left wins. */
static bool trial_is_over(const struct boot_input *in, const struct slot_set *set, enum slot_reason *why)
{
        const struct slot *slot = &set->slots[set->target];
        const struct loader_entry *entry = entry_of(in, slot->generation);

        *why = REASON_TRIES_EXHAUSTED;
        if (slot->state != SLOT_TRIAL || slot_tries_left(slot) == 0)
                return true;
        if (!in->entries_known)
                return false;
        if (entry && entry->tries_left == 0)
                return true;
        *why = REASON_BOOT_FILES;
        return !entry || !entry->usable;
}

static enum boot_found find_switching(const struct boot_input *in, const struct slot_set *set)
{
        bool runs = in->slot == set->target && in->generation == set->target_generation;

        if (!in->entries_known)
                return runs ? BOOT_FOUND_FINISH : BOOT_FOUND_DETOUR;
        return runs || entry_of(in, set->target_generation) ? BOOT_FOUND_FINISH : BOOT_FOUND_DROP;
}

static enum boot_found find_switched(const struct boot_input *in, const struct slot_set *set, enum slot_reason *why)
{
        const struct slot *slot = &set->slots[in->slot];
        bool counted = memcmp(slot->last_boot, in->boot_id, sizeof(slot->last_boot)) == 0;

        if (in->slot != set->target)
                return trial_is_over(in, set, why) ? BOOT_FOUND_FALLBACK : BOOT_FOUND_DETOUR;
        *why = REASON_TRIES_EXHAUSTED;
        return counted || slot_tries_left(slot) > 0 ? BOOT_FOUND_TRIAL : BOOT_FOUND_EXHAUSTED;
}

/* What this boot is; *why: the reason for which a slot is to be marked bad, where one is. */
static enum boot_found classify(const struct boot_input *in, const struct slot_set *set, enum slot_reason *why)
{
        const struct slot *slot;

        *why = in->root_failed;
        if (in->slot < 0 || in->slot >= set->n_slots)
                return BOOT_FOUND_NOTHING;
        if (in->record_lost)
                return in->root_failed ? BOOT_FOUND_ROOT : BOOT_FOUND_LOST;
        slot = &set->slots[in->slot];
        if (set->phase == SWITCH_SWITCHING)
                return find_switching(in, set);
        if (in->root_failed)
                return BOOT_FOUND_ROOT;
        if (!slot_has_system(slot)) {
                *why = slot->reason;
                return BOOT_FOUND_ROOT;
        }
        if (set->phase == SWITCH_SWITCHED)
                return find_switched(in, set, why);
        return BOOT_FOUND_CONFIRMED;
}

static int other_selectable(const struct slot_set *set, int slot)
{
        int best = SLOT_NONE;

        for (int i = 0; i < set->n_slots; i++)
                if (i != slot && slot_is_selectable(&set->slots[i]) &&
                    (best == SLOT_NONE || set->slots[i].generation > set->slots[best].generation))
                        best = i;
        return best;
}

static void fail_operation(struct slot_set *set, int bad, enum slot_reason why, uint64_t now)
{
        if (set->operation != OPERATION_NONE && set->operation_state != OPERATION_DONE) {
                set->operation_state = OPERATION_FAILED;
                set->operation_reason = why;
        }
        memcpy(set->refused, set->slots[bad].digest, DIGEST_SIZE);
        slot_set_note_auto_rollback(set, now);
        set->previous = SLOT_NONE;
        set->finalized = false;
}

/* The actions: each turns d->set into what the record is to say. */
typedef void (*action_function)(const struct boot_input *in, enum slot_reason why, struct boot_decision *d);

static void do_nothing(const struct boot_input *in, enum slot_reason why, struct boot_decision *d)
{
}

static void rebuild(const struct boot_input *in, enum slot_reason why, struct boot_decision *d)
{
        for (size_t i = in->n_entries; i > 0; i--) { /* newest last, so that it wins */
                const struct loader_entry *entry = &in->entries[i - 1];
                struct slot *slot = &d->set.slots[entry->slot];

                if (entry->slot >= d->set.n_slots)
                        continue;
                slot->generation = entry->generation;
                slot->state = entry->tries_left >= 0 ? SLOT_TRIAL : SLOT_CONFIRMED;
                slot->tries = entry->tries_left >= 0 ? (uint8_t)MIN(MAX(entry->tries_left + entry->tries_done, 1), SLOT_MAX_TRIES) : 0;
                slot->attempts = entry->tries_left >= 0 ? (uint8_t)MIN(entry->tries_done, SLOT_MAX_TRIES) : 0;
                d->set.generation = MAX(d->set.generation, entry->generation);
                if (slot->state == SLOT_TRIAL) {
                        d->set.phase = SWITCH_SWITCHED;
                        d->set.target = entry->slot;
                        d->set.target_generation = entry->generation;
                }
        }
        if (!slot_has_system(&d->set.slots[in->slot])) {
                d->set.slots[in->slot].state = SLOT_CONFIRMED; /* it runs */
                d->set.slots[in->slot].generation = in->generation;
                d->set.generation = MAX(d->set.generation, in->generation);
        }
        d->save = true;
}

static void leave_slot(const struct boot_input *in, enum slot_reason why, struct boot_decision *d)
{
        int other = other_selectable(&d->set, in->slot);

        if (d->set.slots[in->slot].state == SLOT_TRIAL || slot_has_system(&d->set.slots[in->slot])) {
                if (d->set.phase == SWITCH_SWITCHED && d->set.target == in->slot)
                        fail_operation(&d->set, in->slot, why, in->now);
                slot_set_mark_bad(&d->set, in->slot, why);
                d->bad_slot = in->slot;
                d->save = true;
        }
        if (other == SLOT_NONE) {
                d->action = BOOT_RECOVERY;
                return;
        }
        slot_set_begin_switch(&d->set, other, in->n_entries ? in->entries[0].generation : 0);
        d->switch_to = other;
        d->action = BOOT_REBOOT;
        d->save = true;
}

static void finish_switch(const struct boot_input *in, enum slot_reason why, struct boot_decision *d)
{
        const struct loader_entry *entry = entry_of(in, d->set.target_generation);
        int tries = entry && entry->tries_left < 0 ? 0 : SLOT_DEFAULT_TRIES;

        slot_set_end_switch(&d->set, tries);
        d->save = true;
}

static void drop_switch(const struct boot_input *in, enum slot_reason why, struct boot_decision *d)
{
        slot_set_drop_switch(&d->set);
        if (d->set.operation_state == OPERATION_STAGED || d->set.operation_state == OPERATION_RUNNING)
                d->set.operation_state = OPERATION_ABORTED;
        if (d->set.previous == in->slot)
                d->set.previous = SLOT_NONE; /* recorded for a switch that did not happen */
        d->save = true;
}

static void count_attempt(const struct boot_input *in, enum slot_reason why, struct boot_decision *d)
{
        d->save |= slot_set_count_attempt(&d->set, in->slot, in->boot_id);
}

static void fall_back(const struct boot_input *in, enum slot_reason why, struct boot_decision *d)
{
        int bad = d->set.target;

        fail_operation(&d->set, bad, why, in->now);
        slot_set_mark_bad(&d->set, bad, why);
        d->bad_slot = bad;
        d->save = true;
}

static const action_function actions[_BOOT_FOUND_MAX] = {
        [BOOT_FOUND_NOTHING] = do_nothing,  [BOOT_FOUND_LOST] = rebuild,       [BOOT_FOUND_ROOT] = leave_slot,
        [BOOT_FOUND_FINISH] = finish_switch, [BOOT_FOUND_DROP] = drop_switch,  [BOOT_FOUND_TRIAL] = count_attempt,
        [BOOT_FOUND_EXHAUSTED] = leave_slot, [BOOT_FOUND_FALLBACK] = fall_back, [BOOT_FOUND_DETOUR] = do_nothing,
        [BOOT_FOUND_CONFIRMED] = do_nothing,
};

void boot_decide(const struct boot_input *in, struct boot_decision *ret)
{
        struct boot_decision d = { .set = in->set, .bad_slot = SLOT_NONE, .switch_to = SLOT_NONE };
        enum slot_reason why;

        d.found = classify(in, &d.set, &why);
        actions[d.found](in, why, &d);
        /* A begun switch is settled first; what this boot is shows only then. It is settled for good, so there
         * is no third round. */
        if (d.found == BOOT_FOUND_FINISH || d.found == BOOT_FOUND_DROP) {
                d.found = classify(in, &d.set, &why);
                actions[d.found](in, why, &d);
        }
        *ret = d;
}

int boot_carry_out(const struct boot_decision *d, const struct disk *disk, const struct state_place *place, struct state *state,
                   struct loader *loader, const char *extra_cmdline, bool writable_root, struct error *e)
{
        const struct slot *slot;
        struct entry_spec spec;
        int r;

        if (!d->save)
                return 0;
        state->set = d->set;
        r = state_save(place, state, e);
        if (r < 0)
                return r;
        if (d->action == BOOT_REBOOT) {
                slot = &state->set.slots[d->switch_to];
                spec = (struct entry_spec){
                        .generation = state->set.target_generation,
                        .slot = d->switch_to,
                        .version = slot->version,
                        .root_partuuid = disk->slots[d->switch_to].uuid,
                        .kernel = slot->kernel,
                        .initrd = is_all_zero(slot->initrd, BOOT_FILE_ID_SIZE) ? NULL : slot->initrd,
                        .writable_root = writable_root,
                        .extra_cmdline = extra_cmdline,
                };
                r = loader->ops->switch_to(loader, &spec, SLOT_DEFAULT_TRIES, e);
                if (r < 0)
                        return r;
                slot_set_end_switch(&state->set, SLOT_DEFAULT_TRIES);
                r = state_save(place, state, e);
                if (r < 0)
                        return r;
        }
        return d->bad_slot == SLOT_NONE ? 0 : loader->ops->remove_slot(loader, d->bad_slot, e);
}
