/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "operation/boot_files.h"

#include "base/log.h"
#include "operation/steps.h"
#include "operation/upkeep.h"
#include "slot/kinds.h"

/* What a file's code must not be where none was looked at. */
static int not_checked(int code)
{
        return boot_files_are_damaged(code) ? -ENODEV : code;
}

/* An empty directory where the ESP is not mounted has no file either, and says nothing of one. */
static int check_place(struct machine *m, struct loader *loader, struct error *e)
{
        _cleanup_free_ struct loader_entry *entries = NULL;
        size_t n = 0;
        int r = loader->ops->list(loader, &entries, &n, e);

        if (r < 0 || n > 0)
                return not_checked(r);
        fail(e, -ENODEV, &kind_esp_unusable, "the ESP of %s has no boot entry of any slot", m->disk.path);
        return fail_hint(e, "see whether it is mounted where Esp= says");
}

int boot_files_check(struct machine *m, int slot, struct error *e)
{
        _cleanup_error_ struct error why = {};
        struct loader loader;
        int r, place;

        r = machine_open_loader(m, false, &loader, e);
        if (r < 0)
                return not_checked(r);
        r = loader_check_slot(&loader, &m->state.set.slots[slot], &why);
        place = r == -ENOENT ? check_place(m, &loader, e) : 0;
        loader_close(&loader);
        if (place < 0)
                return place;
        return r >= 0 ? 0 : fail(e, r, why.kind, "%s", why.message ?: error_text(r));
}

bool boot_files_are_damaged(int code)
{
        return code == -ENOENT || code == -EBADMSG;
}

/* As an entry in the menu, and as what the firmware falls back to. */
static int remove_entries(struct machine *m, int slot, struct error *e)
{
        struct loader loader;
        int r = machine_open_loader(m, true, &loader, e);

        if (r < 0)
                return r;
        r = loader.ops->remove_slot(&loader, slot, e);
        upkeep_firmware(m, &loader);
        loader_close(&loader);
        return r;
}

void boot_files_give_up(struct machine *m, int slot)
{
        _cleanup_error_ struct error why = {};
        int r;

        slot_set_mark_bad(&m->state.set, slot, REASON_BOOT_FILES);
        r = machine_save(m, &why);
        if (r >= 0)
                r = remove_entries(m, slot, &why);
        if (r < 0)
                log_error("slot %c may be started all the same: %s", slot_name(slot), why.message ?: error_text(r));
}

int boot_files_target(struct machine *m, int from, struct error *why)
{
        struct slot_set left = m->state.set;
        int unchecked = SLOT_NONE, to, r;

        while ((to = automatic_target(&left, from)) != SLOT_NONE) {
                error_done(why);
                r = boot_files_check(m, to, why);
                if (r >= 0)
                        return to;
                if (boot_files_are_damaged(r)) {
                        log_warning("slot %c is not gone back to: %s", slot_name(to), why->message ?: error_text(r));
                        boot_files_give_up(m, to);
                } else if (unchecked == SLOT_NONE) {
                        log_warning("the boot files of slot %c cannot be checked: %s", slot_name(to),
                                    why->message ?: error_text(r));
                        unchecked = to;
                }
                left.slots[to].state = SLOT_BAD;
        }
        return unchecked;
}
