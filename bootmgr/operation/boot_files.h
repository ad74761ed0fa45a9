/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Kernel and initrd of a slot on the ESP, read before the machine is sent to them: nothing below bootmgr verifies them, and
 * a kernel that halts needs a person. */
#pragma once

#include "operation/machine.h"

/* 0 when both are what was installed, and on a machine whose loader keeps none. */
int boot_files_check(struct machine *m, int slot, struct error *e);
/* Of a code of that: one is missing, or not what was installed. Any other says nothing of them: they could not be read, or
 * the ESP cannot be opened, or what is in its place has no boot entry of bootmgr's. */
bool boot_files_are_damaged(int code);
/* The slot is bad: the record says so, and then nothing starts it any more. Under the lock; best effort. */
void boot_files_give_up(struct machine *m, int slot);

/* As automatic_target(), among the slots whose files are whole; else the first whose files cannot be checked: the next
 * shutdown sees again. A slot whose files are damaged is given up. *why is told of the last that was not whole. Under the
 * lock. */
int boot_files_target(struct machine *m, int from, struct error *why);
