/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whether a disk holds anything: what init must not overwrite unasked. */
#pragma once

#include "storage/table.h"

/* *ret: what was found first and where, for people ("a filesystem of type ext4 (its signature is at byte 1080)"), or NULL
 * when the disk is empty; owned by the caller. Looks at:
 *  - every signature that libblkid knows, with both sector sizes, a backup GPT alone at the end too;
 *  - with `all` (image files) every byte that is not in a hole;
 *  - without (devices, for which that takes hours) the first and the last MiB, the first MiB of each part of the layout, and
 *    CONTENT_SAMPLES blocks in even distances.
 * What cannot be read counts as found. *cancelled ends it with -EINTR; may be NULL. */
#define CONTENT_SAMPLES 1024
int content_find(int fd, const struct layout *layout, bool all, const volatile bool *cancelled, char **ret);
