/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whether the starts of the version that runs are to be counted anew (operation/boot.h). */
#include "operation/boot.h"

/* Whether the loader has somewhere to go once all starts are used up. What has no entry, or none that starts it, is no such
 * place, whatever the record says of it. */
static bool has_way_out(const struct boot_input *in, const struct slot_set *set)
{
        for (size_t i = 0; i < in->n_entries; i++) {
                const struct loader_entry *entry = &in->entries[i];

                if (entry->slot != in->slot && entry->slot < set->n_slots && entry->usable && entry->tries_left != 0 &&
                    slot_is_selectable(&set->slots[entry->slot]))
                        return true;
        }
        return false;
}

/* This start has shown that the loader can start it. The counter is made full before it is nearly empty, not each time: an
 * ESP wears out, and a name that changes can be lost. A name that a cut has left beside it goes at once. */
uint64_t boot_to_be_armed(const struct boot_input *in, const struct slot_set *set)
{
        const struct slot *slot = &set->slots[in->slot];
        const struct loader_entry *entry = NULL;
        size_t names = 0;

        for (size_t i = in->n_entries; i > 0; i--) { /* the first is the one that starts it */
                if (in->entries[i - 1].slot != in->slot || in->entries[i - 1].generation != slot->generation)
                        continue;
                entry = &in->entries[i - 1];
                names++;
        }
        if (!in->counts || slot->state != SLOT_CONFIRMED || !entry || !entry->usable)
                return 0;
        if (entry->tries_left < 0)
                return has_way_out(in, set) ? slot->generation : 0;
        return entry->tries_left <= BOOT_ARM_AGAIN || names > 1 ? slot->generation : 0;
}
