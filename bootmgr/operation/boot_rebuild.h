/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The record made again from the boot entries, when no copy of it is left: part of the boot-time decision, and as pure. */
#pragma once

#include "operation/boot.h"

/* Fills d->set, which is initialised and empty; `why` is not asked for. What the entries do not tell (the way back, the
 * operation, digests) is left as it is. */
void boot_rebuild(const struct boot_input *in, enum slot_reason why, struct boot_decision *d);
