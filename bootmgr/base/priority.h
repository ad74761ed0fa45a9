/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How much of the disk's time this thread wants, and those that it makes from then on: ioprio_set(2). */
#pragma once

#include "base/util.h"

/* Only what nobody else wants. Returns what it was, for priority_restore(); negative errno: it stays as it is. Schedulers
 * that know no priorities ignore it. */
int priority_lower(void);
void priority_restore(int before); /* negative: nothing to do */
