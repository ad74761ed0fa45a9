/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* After the root is mounted: data, and the slot's own /etc over the root's. */
#pragma once

#include "storage/disk.h"

/* Mounts the data partition at ROOT/data and the overlay of `slot` at ROOT/etc, and makes sure that there is a
 * machine id on data. -errno; what was mounted before stays. */
int mount_slot(const struct disk *disk, int slot, const char *root, struct error *e);
