/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Variables of the firmware, as efivarfs shows them: four bytes of attributes, then the value. `efivars` is where it is
 * mounted, or a directory that looks like it (tests); `name` has the GUID behind it: "BootOrder-8be4df61-…". */
#pragma once

#include "base/util.h"

/* The value, at most `max` bytes; *ret is malloc'ed, with a NUL behind it. -ENOENT; -EBADMSG: it has no attributes. */
int efivar_read(const char *efivars, const char *name, size_t max, char **ret, size_t *ret_size);

/* Non-volatile, seen by boot services and by the running system. The firmware replaces the value as a whole. */
int efivar_write(const char *efivars, const char *name, const void *data, size_t size);
int efivar_remove(const char *efivars, const char *name); /* 0 also when there is none */
