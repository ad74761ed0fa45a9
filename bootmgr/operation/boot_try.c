/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "operation/boot_try.h"

#include "base/buf.h"

bool boot_can_try(const struct slot_set *set, int slot)
{
        const struct slot *s = &set->slots[slot];

        /* What was incomplete when it was found bad has no boot files either, unless its write failed at the very end. */
        return s->state == SLOT_BAD && s->reason != REASON_WRITING && s->reason != REASON_CONTENT &&
               !is_all_zero(s->kernel, BOOT_FILE_ID_SIZE) && s->security_version >= set->floor;
}

/* What went to another slot has failed: the confirmation of this one must not end it as done. */
static void settle_operation(struct slot_set *set, int slot)
{
        int to = set->operation_to;

        if (set->operation_state == OPERATION_STAGED)
                set->operation_state = OPERATION_ABORTED;
        if (set->operation_state == OPERATION_RUNNING && to != slot) {
                bool known = to >= 0 && to < set->n_slots && set->slots[to].reason;

                set->operation_state = OPERATION_FAILED;
                set->operation_reason = known ? set->slots[to].reason : REASON_TRIES_EXHAUSTED;
        }
        if (set->previous == slot) {
                set->previous = SLOT_NONE; /* it is gone back to: there is nothing behind it */
                set->finalized = false;
        }
}

void boot_decide_try(const struct slot_set *set, int slot, uint64_t esp_generation, struct boot_decision *ret)
{
        struct boot_decision d = {
                .found = BOOT_FOUND_ROOT,
                .action = BOOT_REBOOT,
                .set = *set,
                .save = true,
                .bad_slot = SLOT_NONE,
                .switch_to = slot,
                .tries = 1,
        };

        settle_operation(&d.set, slot);
        d.set.slots[slot].state = SLOT_INSTALLED;
        slot_set_begin_switch(&d.set, slot, esp_generation);
        d.set.once = true;
        *ret = d;
}
