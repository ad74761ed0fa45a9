/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* After the root is mounted: whether it holds a system; data, and the slot's own /etc over the root's. */
#pragma once

#include "storage/disk.h"

/* Mounts the data partition at ROOT/data and the overlay of `slot` at ROOT/etc, and makes sure that there is a
 * machine id on data. -errno; what was mounted before stays. *ret_data_usec: what mounting data alone took, which the
 * system would do later if it were not done here. */
int mount_slot(const struct disk *disk, int slot, const char *root, uint64_t *ret_data_usec, struct error *e);

/* A superblock of ext4 that a power cut has torn is made right, and said so: 1; 0: nothing to do; -errno, said too
 * (storage/superblock.h). */
int mend_superblock(const char *node);

/* Whether a disk has the root that the command line names, as disk_find() has seen; true for one named otherwise than by its
 * PARTUUID. */
bool root_was_found(const struct disk *disk, const char *cmdline);
/* Whether the filesystem on a partition is there and can be mounted from `device`, the partition itself or what verifies it,
 * read-only; it is unmounted again. What has other causes (a directory that cannot be made, memory) is no verdict on it:
 * then true. */
bool root_can_be_mounted(const char *node, const char *device, struct error *e);
/* The first half of that, for a root that may still be checked and mended before it is mounted. */
bool root_has_filesystem(const char *node, struct error *e);

/* Whether the error of a mount(2) says that the filesystem, or its device, is unusable. */
bool is_verdict_on_filesystem(int error);

/* Whether the root mounted at ROOT has an init: the one that the command line names, or one where systemd is or where
 * initramfs-tools and systemd look for one. A shell is none: as PID 1 it would wait for a person. True also when it
 * cannot be told, e.g. because /usr lies on another partition. */
bool root_has_init(const char *root, const char *cmdline);

/* Whether something is mounted at that directory. */
bool is_mount_point(const char *path);
