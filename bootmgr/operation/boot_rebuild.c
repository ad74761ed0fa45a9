/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "operation/boot_rebuild.h"

#include "base/buf.h"

/* What an entry says of its slot. */
static void rebuild_slot(const struct boot_input *in, const struct loader_entry *entry, struct slot *slot)
{
        int left = MIN(entry->tries_left, SLOT_MAX_TRIES), done = MIN(entry->tries_done, SLOT_MAX_TRIES);

        *slot = (struct slot){ .generation = entry->generation, .state = SLOT_CONFIRMED };
        memcpy(slot->version, entry->version, sizeof(slot->version));
        memcpy(slot->kernel, entry->kernel, sizeof(slot->kernel));
        memcpy(slot->initrd, entry->initrd, sizeof(slot->initrd));
        slot->verity = entry->verity;
        if (left >= 0 && !entry->confirmed) {
                slot->state = SLOT_TRIAL;
                slot->tries = (uint8_t)MIN(MAX(left + done, 1), SLOT_MAX_TRIES);
                slot->attempts = (uint8_t)MIN(done, slot->tries);
        }
        if (!entry->usable && entry->slot != in->slot) {
                slot->state = SLOT_BAD;
                slot->reason = REASON_BOOT_FILES;
        }
}

/* The running slot has a system whatever the entries say, and this boot is one of the attempts. */
static void rebuild_running(const struct boot_input *in, struct slot *slot)
{
        if (!slot_has_system(slot)) {
                slot->state = SLOT_CONFIRMED;
                slot->generation = in->generation;
        }
        if (slot->state == SLOT_TRIAL) {
                slot->attempts = MAX(slot->attempts, 1);
                memcpy(slot->last_boot, in->boot_id, sizeof(slot->last_boot));
        }
}

void boot_rebuild(const struct boot_input *in, enum slot_reason why, struct boot_decision *d)
{
        const struct slot *newest = NULL;

        for (size_t i = in->n_entries; i > 0; i--) { /* newest last, so that it wins */
                const struct loader_entry *entry = &in->entries[i - 1];

                if (entry->slot >= d->set.n_slots || !generation_is_credible(entry->generation, in->generation))
                        continue;
                rebuild_slot(in, entry, &d->set.slots[entry->slot]);
                d->set.generation = MAX(d->set.generation, entry->generation);
                newest = &d->set.slots[entry->slot];
        }
        rebuild_running(in, &d->set.slots[in->slot]);
        d->set.generation = MAX(d->set.generation, in->generation);
        if (newest && newest->state == SLOT_TRIAL) { /* an older one was superseded: no switch waits for it */
                d->set.phase = SWITCH_SWITCHED;
                d->set.target = (int)(newest - d->set.slots);
                d->set.target_generation = newest->generation;
        }
        d->save = true;
}
