/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a running system keeps in order where it is booted from. What is right is left alone, so it may be called at every
 * boot; what cannot be done is logged and costs nothing. Under the lock, with the loader open for writing. */
#pragma once

#include "operation/machine.h"

/* The entry of every confirmed slot that is no newer than the running one, the menu's "previous version", the firmware's
 * boot options. */
void upkeep(struct machine *m, struct loader *loader);

/* The menu offers no previous version any more: before the way back is given up, so that it never offers what is refused. */
int upkeep_withdraw(struct machine *m, struct error *e);

/* The firmware's boot options alone: before a slot is overwritten, whose record says so already. */
void upkeep_firmware(struct machine *m, struct loader *loader);

/* For who has no loader open. */
void upkeep_alone(struct machine *m);

/* How many EFI variables upkeep_firmware() would write. Changes nothing, needs no lock. */
unsigned upkeep_firmware_lacks(struct machine *m, struct loader *loader);

/* The slot that the firmware starts by itself when the newest does not start: the newest confirmed one but that which
 * has an entry, else that one; SLOT_NONE: none is confirmed. Pure. */
int upkeep_fallback(const struct slot_set *set);
