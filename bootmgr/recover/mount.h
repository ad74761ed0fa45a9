/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* After the root is mounted: data, and the slot's own /etc over the root's. */
#pragma once

#include "storage/disk.h"

/* Mounts the data partition at ROOT/data and the overlay of `slot` at ROOT/etc, and makes sure that there is a
 * machine id on data. -errno; what was mounted before stays. *ret_data_usec: what mounting data alone took, which the
 * system would do later if it were not done here. */
int mount_slot(const struct disk *disk, int slot, const char *root, uint64_t *ret_data_usec, struct error *e);
