/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The EFI system partition as a directory. A partition is mounted with fsopen(2)/fsmount(2) without
 * ever being attached to the tree: private to this process, gone with the descriptor, and a mount by
 * somebody else stays as it was. A path to a directory is used as it is. */
#pragma once

#include "storage/disk.h"

struct esp {
        int fd;          /* of its root directory; -1: closed */
        char where[256]; /* for messages: "/dev/vda1" or the directory */
};
#define ESP_CLOSED ((struct esp){ .fd = -1 })

/* `directory` (--esp DIR or Esp= of a directory) wins over the partition. Writable is checked by
 * really trying when `write` is set. kind_esp_unusable: missing, read-only, corrupt. */
int esp_open(const struct disk *disk, const char *directory, bool write, struct esp *ret, struct error *e);
void esp_close(struct esp *esp);

/* Room in its directories (loader/vfat.h), where nobody has it mounted: a mount knows how long its directories are. Else,
 * and where there is something that is not known, it stays as it is. esp_open() for writing does it, and the initramfs: a
 * system may have its ESP mounted from its start to its end. Whether something was written. */
bool esp_make_room(const struct disk *disk);

/* Free bytes, with `going` that are removed before; for the check before writing (room for directory growth kept back). */
int esp_free_bytes(const struct esp *esp, uint64_t going, uint64_t *ret);
