/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an upgrade in the rescue system finds and an upgrade in a slot does not. */
#pragma once

#include "operation/machine.h"

/* Under the lock, before an upgrade: a lost record is made again from what is there (entries, manifests, owner marker; also
 * when none of it is), and an operation that never came to its end is given up. */
int rescue_settle(struct machine *m, struct error *e);
