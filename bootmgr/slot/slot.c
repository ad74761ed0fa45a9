/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "slot/slot.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/version.h"

static const char *const state_names[_SLOT_STATE_MAX] = {
        [SLOT_EMPTY] = "empty", [SLOT_INCOMPLETE] = "incomplete", [SLOT_INSTALLED] = "installed",
        [SLOT_TRIAL] = "trial", [SLOT_CONFIRMED] = "confirmed",   [SLOT_BAD] = "bad",
};

static const struct {
        const char *name, *phrase;
} reasons[_REASON_MAX] = {
        [REASON_NONE] = { "none", "" },
        [REASON_WRITING] = { "writing", "its write is at work or was interrupted" },
        [REASON_CONTENT] = { "content", "what was written did not match its digest" },
        [REASON_TRIES_EXHAUSTED] = { "tries-exhausted", "it did not come up in any of its tries" },
        [REASON_ROOT_MOUNT] = { "root-mount", "its root could not be mounted" },
        [REASON_INIT] = { "init", "its init is missing or died" },
        [REASON_MIGRATION] = { "migration", "a migration hook failed" },
        [REASON_HEALTH] = { "health", "a required health check failed" },
        [REASON_DEADLINE] = { "deadline", "it was not healthy in time" },
        [REASON_TRIGGER] = { "trigger", "rollback.target was started" },
        [REASON_OPERATOR] = { "operator", "marked by an operator" },
        [REASON_BOOT_FILES] = { "boot-files", "its kernel or initrd on the ESP is missing or damaged" },
        [REASON_CORRUPT] = { "corrupt", "its root is not what was installed: dm-verity found a damaged block" },
        [REASON_NOT_STARTED] = { "not-started", "neither the bootloader nor the firmware could start it" },
        [REASON_NOT_UP] = { "not-up", "it was confirmed, but several boots in a row did not come up" },
};

static const char *const phases[_SWITCH_PHASE_MAX] = {
        [SWITCH_NONE] = "none",
        [SWITCH_SWITCHING] = "switching",
        [SWITCH_SWITCHED] = "switched",
};

static const char *const kinds[_OPERATION_KIND_MAX] = {
        [OPERATION_NONE] = "NONE",
        [OPERATION_UPGRADE] = "UPGRADE",
        [OPERATION_ROLLBACK] = "ROLLBACK",
        [OPERATION_ACTIVATE] = "ACTIVATE",
};

int slot_from_name(const char *name)
{
        return name[0] >= 'a' && name[0] < 'a' + SLOT_MAX && !name[1] ? name[0] - 'a' : SLOT_NONE;
}

const char *slot_state_to_string(enum slot_state state)
{
        return state < _SLOT_STATE_MAX ? state_names[state] : "unknown";
}

const char *slot_reason_to_string(enum slot_reason reason)
{
        return reason < _REASON_MAX ? reasons[reason].phrase : "for a reason that this version does not know";
}

const char *slot_reason_to_name(enum slot_reason reason)
{
        return reason < _REASON_MAX ? reasons[reason].name : "unknown";
}

const char *switch_phase_to_string(enum switch_phase phase)
{
        return phase < _SWITCH_PHASE_MAX ? phases[phase] : "unknown";
}

const char *operation_kind_to_string(enum operation_kind kind)
{
        return kind < _OPERATION_KIND_MAX ? kinds[kind] : "UNKNOWN";
}

void slot_set_init(struct slot_set *set, int n_slots)
{
        *set = (struct slot_set){
                .n_slots = n_slots,
                .previous = SLOT_NONE,
                .target = SLOT_NONE,
                .operation_from = SLOT_NONE,
                .operation_to = SLOT_NONE,
        };
}

bool slot_has_system(const struct slot *slot)
{
        return slot->state == SLOT_INSTALLED || slot->state == SLOT_TRIAL || slot->state == SLOT_CONFIRMED;
}

bool slot_is_selectable(const struct slot *slot)
{
        return slot->state == SLOT_TRIAL ? slot_tries_left(slot) > 0 : slot_has_system(slot);
}

bool slot_has_snapshot(const struct slot *slot)
{
        return !is_all_zero(slot->snapshot, DIGEST_SIZE);
}

int slot_tries_left(const struct slot *slot)
{
        return slot->state == SLOT_TRIAL && slot->attempts < slot->tries ? slot->tries - slot->attempts : 0;
}

int slot_set_selectable(const struct slot_set *set)
{
        int n = 0;

        for (int i = 0; i < set->n_slots; i++)
                n += slot_is_selectable(&set->slots[i]);
        return n;
}

/* The order in which slots are given up. */
static uint64_t worth(const struct slot *slot)
{
        return slot_has_system(slot) ? 1 + slot->generation : 0;
}

int slot_set_upgrade_target(const struct slot_set *set, int running)
{
        int best = SLOT_NONE;

        for (int i = 0; i < set->n_slots; i++)
                if (i != running && (best == SLOT_NONE || worth(&set->slots[i]) < worth(&set->slots[best])))
                        best = i;
        return best;
}

void slot_set_begin_write(struct slot_set *set, int slot)
{
        set->slots[slot] = (struct slot){ .state = SLOT_INCOMPLETE, .reason = REASON_WRITING };
        if (set->previous == slot) {
                set->previous = SLOT_NONE;
                set->finalized = false;
        }
        if (set->target == slot)
                slot_set_drop_switch(set);
}

void slot_set_end_write(struct slot_set *set, int slot)
{
        set->slots[slot].state = SLOT_INSTALLED;
        set->slots[slot].reason = REASON_NONE;
}

bool generation_is_credible(uint64_t generation, uint64_t known)
{
        return generation <= known || generation - known <= GENERATION_LEAP;
}

uint64_t slot_set_begin_switch(struct slot_set *set, int slot, uint64_t esp_generation)
{
        set->generation = MAX(set->generation, esp_generation) + 1;
        set->phase = SWITCH_SWITCHING;
        set->target = slot;
        set->target_generation = set->generation;
        set->once = false;
        return set->generation;
}

void slot_set_end_switch(struct slot_set *set, int tries)
{
        struct slot *slot = &set->slots[set->target];

        slot->generation = set->target_generation;
        slot->state = tries > 0 ? SLOT_TRIAL : SLOT_CONFIRMED;
        slot->reason = REASON_NONE;
        slot->tries = (uint8_t)tries;
        slot->attempts = 0;
        memset(slot->last_boot, 0, sizeof(slot->last_boot));
        set->phase = tries > 0 ? SWITCH_SWITCHED : SWITCH_NONE;
        if (tries == 0)
                set->target = SLOT_NONE;
}

void slot_set_drop_switch(struct slot_set *set)
{
        set->phase = SWITCH_NONE;
        set->target = SLOT_NONE;
        set->once = false;
}

bool slot_set_count_attempt(struct slot_set *set, int slot, const uint8_t boot[static 16])
{
        struct slot *s = &set->slots[slot];

        if (s->state != SLOT_TRIAL || memcmp(s->last_boot, boot, sizeof(s->last_boot)) == 0)
                return false;
        memcpy(s->last_boot, boot, sizeof(s->last_boot));
        if (s->attempts < UINT8_MAX)
                s->attempts++;
        return true;
}

void slot_set_confirm(struct slot_set *set, int slot)
{
        struct slot *s = &set->slots[slot];

        s->state = SLOT_CONFIRMED;
        s->reason = REASON_NONE;
        s->tries = 0;
        s->attempts = 0;
        if (set->target == slot || set->target == SLOT_NONE)
                slot_set_drop_switch(set);
}

void slot_set_mark_bad(struct slot_set *set, int slot, enum slot_reason reason)
{
        struct slot *s = &set->slots[slot];

        s->state = SLOT_BAD;
        s->reason = reason;
        s->tries = 0;
        s->attempts = 0;
        if (set->target == slot)
                slot_set_drop_switch(set);
}

void slot_set_note_auto_rollback(struct slot_set *set, uint64_t now)
{
        memmove(set->auto_rollbacks + 1, set->auto_rollbacks, sizeof(set->auto_rollbacks) - sizeof(uint64_t));
        set->auto_rollbacks[0] = now;
}

int slot_set_auto_rollbacks(const struct slot_set *set, uint64_t now)
{
        int n = 0;

        /* A time in the future is a clock that was set back: it counts, so that the limit holds. */
        for (size_t i = 0; i < AUTO_ROLLBACK_MEMORY; i++)
                n += set->auto_rollbacks[i] && (set->auto_rollbacks[i] > now || now - set->auto_rollbacks[i] < USEC_PER_DAY);
        return n;
}

bool slot_set_correct_auto_rollbacks(struct slot_set *set, uint64_t now, uint64_t instead)
{
        bool changed = false;

        for (size_t i = 0; i < AUTO_ROLLBACK_MEMORY; i++) {
                if (set->auto_rollbacks[i] <= now || set->auto_rollbacks[i] - now <= USEC_PER_DAY)
                        continue;
                set->auto_rollbacks[i] = instead;
                changed = true;
        }
        return changed;
}

static bool is_slot(const struct slot_set *set, int slot)
{
        return slot >= 0 && slot < set->n_slots;
}

static int check_slot(const struct slot_set *set, int i, struct error *e)
{
        const struct slot *s = &set->slots[i];

        if (s->state >= _SLOT_STATE_MAX)
                return fail(e, -EINVAL, NULL, "slot %c has the unknown state %d", slot_name(i), (int)s->state);
        if (s->state == SLOT_TRIAL && s->tries == 0)
                return fail(e, -EINVAL, NULL, "slot %c is on trial without any tries", slot_name(i));
        if (s->state == SLOT_CONFIRMED && s->tries != 0)
                return fail(e, -EINVAL, NULL, "slot %c is confirmed and has %d tries", slot_name(i), s->tries);
        if (s->tries > SLOT_MAX_TRIES)
                return fail(e, -EINVAL, NULL, "slot %c has %d tries", slot_name(i), s->tries);
        if (s->generation > set->generation)
                return fail(e, -EINVAL, NULL, "slot %c has generation %llu, the highest is %llu", slot_name(i),
                            (unsigned long long)s->generation, (unsigned long long)set->generation);
        if (!memchr(s->version, '\0', sizeof(s->version)))
                return fail(e, -EINVAL, NULL, "the version of slot %c does not end", slot_name(i));
        /* It becomes the title of a boot entry: no line of an entry may come in with it. */
        if (*s->version && !version_valid(s->version))
                return fail(e, -EINVAL, NULL, "the version of slot %c is not one", slot_name(i));
        return 0;
}

int slot_set_check(const struct slot_set *set, struct error *e)
{
        int r;

        if (set->n_slots < 1 || set->n_slots > SLOT_MAX)
                return fail(e, -EINVAL, NULL, "there are %d slots", set->n_slots);
        if (set->generation > GENERATION_MAX)
                return fail(e, -EINVAL, NULL, "generation %llu leaves no room above it",
                            (unsigned long long)set->generation);
        for (int i = 0; i < set->n_slots; i++) {
                r = check_slot(set, i, e);
                if (r < 0)
                        return r;
        }
        if (set->previous != SLOT_NONE && !is_slot(set, set->previous))
                return fail(e, -EINVAL, NULL, "the previous slot is number %d", set->previous);
        if (set->previous != SLOT_NONE &&
            (set->slots[set->previous].state == SLOT_EMPTY || set->slots[set->previous].state == SLOT_INCOMPLETE))
                return fail(e, -EINVAL, NULL, "the previous slot %c is %s", slot_name(set->previous),
                            slot_state_to_string(set->slots[set->previous].state));
        if (set->phase >= _SWITCH_PHASE_MAX || (set->phase == SWITCH_NONE) != (set->target == SLOT_NONE))
                return fail(e, -EINVAL, NULL, "the switch phase %d and its target %d do not fit", (int)set->phase,
                            set->target);
        if (set->target != SLOT_NONE && set->target_generation > set->generation)
                return fail(e, -EINVAL, NULL, "the target of the switch has generation %llu, the highest is %llu",
                            (unsigned long long)set->target_generation, (unsigned long long)set->generation);
        if (set->target != SLOT_NONE && (!is_slot(set, set->target) || !slot_has_system(&set->slots[set->target])))
                return fail(e, -EINVAL, NULL, "the target of the switch, number %d, has no system", set->target);
        if (set->operation >= _OPERATION_KIND_MAX || set->operation_state >= _OPERATION_STATE_MAX)
                return fail(e, -EINVAL, NULL, "the operation %d in state %d is not known", (int)set->operation,
                            (int)set->operation_state);
        return 0;
}
