/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The superblock of ext4, torn by a power cut. It is the only thing on such a filesystem that lies in two sectors and must
 * be right before the journal is looked at. Everything that Linux changes in it while the filesystem is used lies in the
 * first sector (offsets 0 to 0x1ff), its checksum at the end of the second one (0x3fc): a cut between the two leaves a
 * superblock that is complete, old or new, and the checksum of another. The kernel mounts no such filesystem, and fsck -p
 * gives up before it replays the journal. */
#pragma once

#include "base/error.h"

/* Makes the checksum of the filesystem on fd (O_RDWR) right where it is all that is wrong: what no use of a filesystem
 * changes must be as in its backup superblock. Writes that one sector. 1: it was torn, and is right now. 0: nothing is
 * wrong, or it is no ext4 with checksums. -EUCLEAN: it is damaged otherwise, and nothing was changed; -EIO and what else
 * reading and writing give. */
int superblock_mend(int fd, struct error *e);

/* Whether the kernel has found errors in the filesystem on fd that nobody has mended since (s_state): it mounts one like
 * that all the same. False for what is no ext4. -errno: it cannot be read. */
int superblock_has_errors(int fd);

/* The same as superblock_mend() for a device that nobody has mounted (else -EBUSY). */
int superblock_mend_device(const char *node, struct error *e);
