/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "operation/boot_files.h"

#include "base/log.h"
#include "operation/steps.h"
#include "operation/upkeep.h"

int boot_files_check(struct machine *m, int slot, struct error *e)
{
        struct loader loader;
        int r;

        r = machine_open_loader(m, false, &loader, e);
        if (r < 0)
                return r;
        r = loader_check_slot(&loader, &m->state.set.slots[slot], e);
        loader_close(&loader);
        return r;
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
        int to, r;

        while ((to = automatic_target(&left, from)) != SLOT_NONE) {
                error_done(why);
                r = boot_files_check(m, to, why);
                if (r >= 0)
                        return to;
                log_warning("slot %c is not gone back to: %s", slot_name(to), why->message ?: error_text(r));
                if (boot_files_are_damaged(r))
                        boot_files_give_up(m, to);
                left.slots[to].state = SLOT_BAD;
        }
        return SLOT_NONE;
}
