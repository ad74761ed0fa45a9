/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "operation/upkeep.h"

#include "base/buf.h"
#include "base/log.h"
#include "operation/boot.h"
#include "operation/steps.h"

int upkeep_fallback(const struct slot_set *set)
{
        int newest = SLOT_NONE, found = SLOT_NONE;

        for (int i = 0; i < set->n_slots; i++)
                if ((set->slots[i].state == SLOT_CONFIRMED || set->slots[i].state == SLOT_TRIAL) &&
                    (newest == SLOT_NONE || set->slots[i].generation > set->slots[newest].generation))
                        newest = i;
        for (int i = 0; i < set->n_slots; i++)
                if (i != newest && set->slots[i].state == SLOT_CONFIRMED && set->slots[i].generation > 0 &&
                    (found == SLOT_NONE || set->slots[i].generation > set->slots[found].generation))
                        found = i;
        if (found != SLOT_NONE)
                return found;
        return newest != SLOT_NONE && set->slots[newest].state == SLOT_CONFIRMED ? newest : SLOT_NONE;
}

static int sync_firmware(struct machine *m, struct loader *loader, bool dry, unsigned *changed, struct error *e)
{
        int fallback = upkeep_fallback(&m->state.set);

        return loader->ops->firmware(loader, fallback == SLOT_NONE ? 0 : m->state.set.slots[fallback].generation,
                                     (int)m->config.tries, dry, changed, e);
}

void upkeep_firmware(struct machine *m, struct loader *loader)
{
        _cleanup_error_ struct error why = {};
        unsigned changed;

        if (sync_firmware(m, loader, false, &changed, &why) < 0)
                log_warning("the firmware's boot options are not as they should be: %s", why.message ?: "");
        else if (changed)
                log_info("%u EFI variables written: the firmware's boot options", changed);
}

unsigned upkeep_firmware_lacks(struct machine *m, struct loader *loader)
{
        unsigned changed = 0;

        return sync_firmware(m, loader, true, &changed, NULL) < 0 ? 0 : changed;
}

static bool is_offered(const struct machine *m)
{
        const struct slot_set *set = &m->state.set;
        const struct slot *s = set->previous == SLOT_NONE ? NULL : &set->slots[set->previous];

        return s && set->previous != m->booted && !set->finalized && s->state == SLOT_CONFIRMED && s->generation > 0 &&
               s->security_version >= set->floor && set->slots[m->booted].state == SLOT_CONFIRMED;
}

static void upkeep_menu(struct machine *m, struct loader *loader)
{
        _cleanup_error_ struct error why = {};
        struct entry_spec spec;
        bool offered = m->booted != SLOT_NONE && is_offered(m);

        if (offered) {
                spec = entry_spec_for(m, m->state.set.previous, m->state.set.slots[m->state.set.previous].generation);
                spec.rollback = true;
        }
        if (loader->ops->offer(loader, offered ? &spec : NULL, &why) < 0)
                log_warning("the boot menu does not offer the previous version as it should: %s", why.message ?: "");
}

int upkeep_withdraw(struct machine *m, struct error *e)
{
        struct loader loader;
        int r = machine_open_loader(m, true, &loader, e);

        if (r < 0)
                return r;
        r = loader.ops->offer(&loader, NULL, e);
        loader_close(&loader);
        return r;
}

static bool has_entry(const struct loader_entry *entries, size_t n, int slot, uint64_t generation)
{
        for (size_t i = 0; i < n; i++)
                if (entries[i].slot == slot && entries[i].generation == generation)
                        return true;
        return false;
}

/* A newer one that has none was started by nobody: the next boot looks into that (operation/boot.h). */
static void restore_entries(struct machine *m, struct loader *loader)
{
        _cleanup_free_ struct loader_entry *entries = NULL;
        const struct slot *running = &m->state.set.slots[m->booted];
        size_t n = 0;

        if (loader->ops == &loader_none || running->state != SLOT_CONFIRMED ||
            loader->ops->list(loader, &entries, &n, NULL) < 0)
                return;
        for (int i = 0; i < m->state.set.n_slots; i++) {
                const struct slot *s = &m->state.set.slots[i];
                _cleanup_error_ struct error why = {};
                struct entry_spec spec;

                if (s->state != SLOT_CONFIRMED || s->generation == 0 || s->generation > running->generation ||
                    has_entry(entries, n, i, s->generation) || is_all_zero(s->kernel, BOOT_FILE_ID_SIZE))
                        continue;
                spec = entry_spec_for(m, i, s->generation);
                if (loader->ops->switch_to(loader, &spec, 0, &why) >= 0)
                        log_warning("the boot entry of slot %c was gone: it is made again", slot_name(i));
                else
                        log_warning("the boot entry of slot %c is gone: %s", slot_name(i), why.message ?: "");
        }
}

/* From the next start on; each start that gets as far as the initramfs looks after it, too. */
static void count_starts(struct machine *m, struct loader *loader)
{
        _cleanup_free_ struct loader_entry *entries = NULL;
        struct boot_input in = { .slot = m->booted, .counts = !m->offline, .set = m->state.set, .entries_known = true };
        _cleanup_error_ struct error why = {};
        uint64_t generation;

        if (!in.counts || loader->ops->list(loader, &entries, &in.n_entries, NULL) < 0)
                return;
        in.entries = entries;
        generation = boot_to_be_armed(&in, &in.set);
        if (generation && loader->ops->arm(loader, generation, BOOT_ARM_TRIES, &why) < 0)
                log_warning("the starts of slot %c are not counted: %s", slot_name(m->booted), why.message ?: "");
}

void upkeep(struct machine *m, struct loader *loader)
{
        if (m->booted == SLOT_NONE || m->state_lost)
                return;
        restore_entries(m, loader);
        upkeep_menu(m, loader);
        upkeep_firmware(m, loader);
        count_starts(m, loader);
}

void upkeep_alone(struct machine *m)
{
        _cleanup_error_ struct error why = {};
        struct loader loader;

        if (machine_open_loader(m, true, &loader, &why) < 0) {
                log_warning("%s", why.message ?: "the bootloader cannot be looked after");
                return;
        }
        upkeep(m, &loader);
        loader_close(&loader);
}
