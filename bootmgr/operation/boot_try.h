/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* When no slot can boot, a person at the console may still try one: pure, carried out by boot_carry_out().
 *
 *      record: the slot INSTALLED with its old reason, SWITCHING, once      cut: the next boot drops it: bad as before
 *      the entry with one try              <- the commit                    cut: the next boot finishes it, with one try
 *      record: SWITCHED, the slot on trial, once                            its one boot counts, as on any trial
 *
 * It comes up and is confirmed like any other, or boot_decide() finds its only try used and marks it bad again: no loop.
 */
#pragma once

#include "operation/boot.h"

/* Bad, but whole: its write finished, its boot files are known, and its security version is not below the floor. */
bool boot_can_try(const struct slot_set *set, int slot);

/* What carrying out means of it; `set` is what boot_carry_out() saved last. Only for a slot that can be tried. */
void boot_decide_try(const struct slot_set *set, int slot, uint64_t esp_generation, struct boot_decision *ret);
