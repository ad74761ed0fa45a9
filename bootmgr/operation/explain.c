/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "operation/explain.h"

#include <fcntl.h>

#include "base/buf.h"
#include "base/file.h"
#include "operation/watchdog.h"

/* The tries of a version were used up: what this boot can still see of the cause. NULL: nothing. */
static char *closer_look(struct machine *m, int slot)
{
        _cleanup_error_ struct error why = {};
        struct loader loader;
        int r;

        r = machine_open_loader(m, false, &loader, NULL);
        if (r >= 0) {
                r = loader_check_slot(&loader, &m->state.set.slots[slot], &why);
                loader_close(&loader);
        }
        if (r == -ENOENT || r == -EBADMSG)
                return xasprintf("; %s (found out when it was read again after that)", why.message);
        if (m->booted != slot && watchdog_has_reset("/sys/class/watchdog"))
                return strdup("; the watchdog reset the machine in the last of them (found out from the watchdog)");
        return NULL;
}

/* Where the record says that it failed, an earlier boot or this one has found it out. Which: in the initramfs of the slot
 * that failed the switch to this one was made, so it has the higher generation; the bootloader and the firmware go back to
 * what was there before. */
char *explain_failure(struct machine *m, const struct operation *op)
{
        const struct slot_set *set = &m->state.set;
        const char *why = slot_reason_to_string(set->operation_reason), *more, *who;
        _cleanup_free_ char *seen = NULL;
        int to = op->to_slot, now = m->booted;
        char slot = to == SLOT_NONE ? '-' : slot_name(to);

        if (to == SLOT_NONE || now == SLOT_NONE)
                return xasprintf("version %s: %s (found out at boot)", op->to_version, why);
        /* The running system has left it, by a switch as the initramfs makes it. */
        if (set->operation_reason == REASON_MIGRATION)
                return xasprintf("slot %c, version %s: %s%s", slot, op->to_version, why, explain_place(REASON_MIGRATION));
        if (set->operation_reason == REASON_TRIES_EXHAUSTED && !m->offline)
                seen = closer_look(m, to);
        more = seen ?: "";
        if (to == now)
                return xasprintf("slot %c, version %s: %s (found out in the initramfs; no other slot can be booted)%s", slot,
                                 op->to_version, why, more);
        if (set->slots[now].generation > set->slots[to].generation)
                return xasprintf(
                        "slot %c, version %s: %s (found out in the initramfs of slot %c, which switched to slot %c)%s", slot,
                        op->to_version, why, slot, slot_name(now), more);
        who = m->start == BOOT_START_FALLBACK || set->operation_reason == REASON_NOT_STARTED ? "firmware" : "bootloader";
        return xasprintf("slot %c, version %s: %s (found out by the %s, which started slot %c)%s", slot, op->to_version, why,
                         who, slot_name(now), more);
}

const char *explain_place(enum slot_reason why)
{
        static const char *const where[_REASON_MAX] = {
                [REASON_MIGRATION] = " (found out when the configuration was migrated)",
                [REASON_HEALTH] = " (found out by the health checks)",
                [REASON_DEADLINE] = " (found out by the deadline for its confirmation)",
                [REASON_BOOT_FILES] = " (found out at the shutdown)",
                [REASON_CORRUPT] = " (found out by the kernel while it ran)",
                [REASON_ROOT_MOUNT] = " (found out in the initramfs)",
                [REASON_INIT] = " (found out in the initramfs)",
                [REASON_NOT_UP] = " (found out in the initramfs)",
                [REASON_TRIGGER] = " (found out by rollback.target)",
        };

        return where[why] ?: "";
}

void explain_refine(struct machine *m)
{
        struct slot_set *set = &m->state.set;
        struct slot *from = &set->slots[set->operation_from];
        struct loader loader;

        if ((set->operation_reason != REASON_NOT_STARTED && set->operation_reason != REASON_TRIES_EXHAUSTED) ||
            machine_open_loader(m, false, &loader, NULL) < 0)
                return;
        if (loader_check_slot(&loader, from, NULL) < 0)
                from->reason = set->operation_reason = REASON_BOOT_FILES;
        loader_close(&loader);
}

char *explain_beginning(const struct machine *m)
{
        const struct slot_set *set = &m->state.set;
        const struct slot *from = &set->slots[set->operation_from];

        if (!set->operation_automatic)
                return strdup("asked for by a person at the boot menu");
        /* Its steps could not be written: the record alone knows of it. */
        if (set->operation_reason != REASON_BOOT_FILES && *explain_place(set->operation_reason))
                return xasprintf("slot %c, version %s FAILED: %s%s", slot_name(set->operation_from), from->version,
                                 slot_reason_to_string(set->operation_reason), explain_place(set->operation_reason));
        return xasprintf("slot %c, version %s FAILED: %s (found out by %s, which started slot %c)",
                         slot_name(set->operation_from), from->version, slot_reason_to_string(set->operation_reason),
                         m->start == BOOT_START_FALLBACK ? "the firmware" : "the bootloader", slot_name(set->operation_to));
}

bool explain_initramfs_found(const struct machine *m, enum boot_found found)
{
        _cleanup_free_ char *text = NULL;
        char *cursor, *line;

        if (m->offline || file_read(AT_FDCWD, BOOT_RESULT, BOOT_RESULT_MAX, &text, NULL) < 0)
                return false;
        cursor = text;
        while ((line = line_next(&cursor))) {
                const char *value = startswith(line, "found=");

                if (value)
                        return streq(value, boot_found_to_string(found));
        }
        return false;
}
