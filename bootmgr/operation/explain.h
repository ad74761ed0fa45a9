/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is said of the boots before this one, in words for people: the causes are seen best from the boot behind them. */
#pragma once

#include "operation/boot.h"
#include "operation/machine.h"
#include "operation/operation.h"

/* Where a reason was found out, " (found out by …)": of a rollback that the running system asks for. "": it does not say. */
const char *explain_place(enum slot_reason why);

/* Why the newest operation failed, and where that was found out. Where the record says that it failed, an earlier boot or
 * this one has found it out. Owned by the caller; NULL: no memory. */
char *explain_failure(struct machine *m, const struct operation *op);

/* Why a rollback was begun by the boot itself. The same. */
char *explain_beginning(const struct machine *m);

/* Puts the reason into the record that the initramfs cannot know: it has no hash. */
void explain_refine(struct machine *m);

/* Whether that is what this boot's initramfs has found. */
bool explain_initramfs_found(const struct machine *m, enum boot_found found);
