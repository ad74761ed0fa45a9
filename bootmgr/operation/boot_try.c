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

        d.set.slots[slot].state = SLOT_INSTALLED;
        slot_set_begin_switch(&d.set, slot, esp_generation);
        d.set.once = true;
        *ret = d;
}
