/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whether a slot still holds what was installed: kernel, initrd, and the whole root. Reading a root takes as long as
 * the disk and the hash take; so it is read beforehand ('bootmgr slot verify', bootmgr-verify.timer), and what was
 * found counts for a day of the same boot, as long as nothing was written there. */
#pragma once

#include "base/buf.h"
#include "operation/machine.h"

enum content_mode {
        CONTENT_ALL,   /* everything is read */
        CONTENT_REUSE, /* but for a root that was read before */
        CONTENT_ROOT,  /* the root only: the ESP is left alone */
};

/* kind_previous_altered names the first difference. `good` gets what was found. A writable root cannot be checked. */
int content_check(struct machine *m, int slot, enum content_mode mode, struct buf *good, struct error *e);

/* The same for an operator or the timer, of any slot that holds a system. kind_busy while an operation is at work, also
 * when one began meanwhile. */
int content_verify(struct machine *m, int slot, enum content_mode mode, struct buf *good, struct error *e);
