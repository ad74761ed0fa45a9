/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The root of a slot through dm-verity: what the kernel reads of it is checked against the hash tree behind it, block by
 * block, up to the root hash. A block that does not match is an I/O error for who reads it, no reason for the kernel to
 * stop: so there is somebody left to say why, and to go to another slot in order.
 *
 *      initramfs   verified_root_open()        before anything mounts the root
 *      any time    verified_root_is_corrupt()  whether a block was read that did not match
 */
#pragma once

#include "base/error.h"
#include "slot/verity.h"

#define VERIFIED_NAME "bootmgr-root"               /* of the device */
#define VERIFIED_ROOT "/run/bootmgr/verified-root" /* a link to it, for who mounts the root (initramfs-hooks/) */

/* Makes the device, read-only, over the partition `node`; one that is there already is taken as it is. */
int verified_root_open(const char *node, const struct verity *v, struct error *e);

/* False also when there is no such device, or it cannot be asked. */
bool verified_root_is_corrupt(void);

/* Reads all of it, past what is cached, up to the first block that does not match: is_corrupt() tells of it. */
int verified_root_read(struct error *e);

/* The device's table, as it is given to the kernel: pure. `major`, `minor`: of the partition. */
#define VERIFIED_TABLE_SIZE 256
void verified_root_table(const struct verity *v, unsigned major, unsigned minor, char text[static VERIFIED_TABLE_SIZE]);
