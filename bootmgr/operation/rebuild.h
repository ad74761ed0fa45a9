/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* After the loss of both copies the record is made again from the boot entries (operation/boot.h), which the
 * initramfs can read. What only the data directory knows is given back here, in the booted system. */
#pragma once

#include "operation/machine.h"

/* Fills in what slots with a system lack: digest and security version from the manifest kept in slots/ (only where its
 * version, kernel and initrd are those of the slot's boot entry), the snapshot by its own digest, the previous slot
 * from the operations, the floor and whether the way back was given up from DATA/finalized. A slot of which nobody knows
 * what lies in it is EMPTY again. Returns 1 when m->state.set changed: the caller saves it. Damaged files are passed over.
 */
int rebuild_record(struct machine *m);

/* Keeps for it that the running version was finalized, and the floor: DATA/finalized. Before the record says so. */
int rebuild_keep_finalized(struct machine *m, uint64_t generation, uint64_t floor, struct error *e);
