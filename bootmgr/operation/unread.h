/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A state record of which no copy can be read, as opposed to one that is damaged: it may be whole the next time. So one boot
 * goes on without it and leaves it as it is; the next one that cannot read it either makes it again, which is also what has
 * a disk put another sector in the place of one that cannot be read. */
#pragma once

#include "operation/machine.h"

/* Whether the boot before this one, or an earlier boot-config, has left a mark. */
bool unread_before(const struct machine *m);
/* Leaves the mark, and goes by `set` from here on: machine_save() writes nothing. */
void unread_keep(struct machine *m, const struct slot_set *set);
/* The record was read, or is made again: there is no mark any more. */
void unread_forget(const struct machine *m);
