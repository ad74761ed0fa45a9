/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Room in the directories of the ESP, made where no file system is mounted.
 *
 * A directory of vfat that grows is a chain of clusters that gets one more: the link to the new cluster and the end
 * mark in it lie in two sectors of the FAT, and neither Linux nor firmware orders the two. A power cut between leaves a
 * chain into the void, which firmware takes for an empty directory: no entry, or no kernel. So ours do not grow while
 * they are in use:
 *
 *      loader/entries    | . | .. | entries, some deleted | deleted: made 0 again | 0 0 0 0 0 0 … |
 *      bootmgr                                                                    VFAT_ROOM slots at least
 *
 * Firmware of EDK2 (FatPkg) gives a name that it changes a place behind all that were ever used: each try that is counted
 * takes 3 or 4 slots there, and nothing but this gives them back. Linux takes the first that is free. */
#pragma once

#include "base/util.h"

#define VFAT_ROOM 48 /* slots of 32 bytes: 9 tries, of 4 each, and what Linux writes meanwhile */

/* `fd`: the partition. Both directories get room, where they have not: what is deleted behind the last file becomes 0 again,
 * and where that is not enough, clusters are added. Every write is made durable before one that stands on it: a power cut
 * leaves the directories whole, at worst with some clusters that nothing names. Not of FAT12, nor where anything is not as
 * it should be. 1: something was written; 0: there is room; with `dry` nothing is written, and 1 says that there is
 * something to do. -EUCLEAN: no vfat that this knows, or a damaged one. */
int vfat_make_room(int fd, bool dry);
