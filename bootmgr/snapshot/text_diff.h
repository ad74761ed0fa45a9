/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A unified diff of two short texts. */
#pragma once

#include "base/util.h"

#define TEXT_DIFF_MAX KIB(64) /* a side */

/* With `label` in both header lines and three lines of context; patch(1) understands it. Malloc'ed; "" when they are equal;
 * NULL: no memory. The shortest one, unless so much changed that it would take too long to find: then
 * what lies between the first and the last change counts as replaced. */
char *text_diff(const char *label, const char *old, size_t old_size, const char *new, size_t new_size);
