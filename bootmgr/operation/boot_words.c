/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How a boot is told of in words: on the kernel command line, and in what the initramfs leaves to the system. */
#include "base/parse.h"
#include "operation/boot.h"

static const char *const found_names[_BOOT_FOUND_MAX] = {
        [BOOT_FOUND_NOTHING] = "nothing",     [BOOT_FOUND_LOST] = "record-lost",    [BOOT_FOUND_ROOT] = "root-unusable",
        [BOOT_FOUND_FINISH] = "finish",       [BOOT_FOUND_DROP] = "drop",           [BOOT_FOUND_TRIAL] = "trial",
        [BOOT_FOUND_EXHAUSTED] = "exhausted", [BOOT_FOUND_FALLBACK] = "fallback",   [BOOT_FOUND_VANISHED] = "vanished",
        [BOOT_FOUND_DETOUR] = "detour",       [BOOT_FOUND_MISSING] = "missing",     [BOOT_FOUND_PASSED] = "passed",
        [BOOT_FOUND_CHOSEN] = "chosen",       [BOOT_FOUND_CONFIRMED] = "confirmed", [BOOT_FOUND_UNREAD] = "record-unread",
};

enum boot_start boot_start_parse(const char *cmdline)
{
        if (cmdline_has(cmdline, FALLBACK_WORD))
                return BOOT_START_FALLBACK;
        return cmdline_has(cmdline, ROLLBACK_WORD) ? BOOT_START_ROLLBACK : BOOT_START_ENTRY;
}

const char *boot_found_to_string(enum boot_found found)
{
        return found < _BOOT_FOUND_MAX ? found_names[found] : "unknown";
}
