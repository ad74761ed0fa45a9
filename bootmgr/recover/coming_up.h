/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Boots that do not come up: from the moment at which the initramfs has mounted everything until the system is up a mark
 * lies on data (docs/formats.md). The kernel, a reset or a cut that ends such a boot leaves it there. */
#pragma once

#include "base/util.h"

#define COMING_UP_MAX 6 /* in a row: a power that comes and goes is no reason to leave a version */

/* `root`: a descriptor of the mounted root. Marks this boot of the slot; returns how many before it have not come up. Where
 * data is missing nothing is marked, and it is 0. */
unsigned coming_up_mark(int root, int slot);
void coming_up_forget(int root);
/* What the last boot did not get past may be a block that it needed: all of a root that is verified is read. */
bool coming_up_root_is_whole(int slot);
