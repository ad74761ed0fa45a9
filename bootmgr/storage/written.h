/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whether a partition was written to since an earlier look, as the kernel counts it: then what was read of it
 * needs not be read again. */
#pragma once

#include "storage/disk.h"

struct written {
        uint64_t disk_sequence; /* another one: the disk, or the medium in it, is another one */
        uint64_t partition;     /* sectors written and discarded through the partition's own device … */
        uint64_t elsewhere;     /* … and through the disk's, which may be anywhere on it */
};

/* Equal to an earlier look in the same boot: nothing was written in between. Writes what is cached for both devices
 * first, so that it counts. -ENOTSUP: that cannot be told (an image, no statistics, a kernel before 5.15); -EBUSY: the
 * disk is written to so fast that no look is consistent. */
int written_look(const struct disk *disk, const struct partition *p, struct written *ret);

/* The same without writing anything: of what the kernel says of a disk in the directory `sys` (/sys/dev/block/8:0), and
 * of its partition `device` ("sda3"). -EBADMSG: what it says is no statistics. */
int written_read(int sys, const char *device, struct written *ret);
