/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Numbers, sizes, booleans and time spans from text. 0 or -EINVAL/-ERANGE; outputs untouched on
 * failure. Nothing is skipped: leading blanks, signs and trailing text are errors. */
#pragma once

#include "base/util.h"

int parse_u64(const char *s, uint64_t *ret);
int parse_u32(const char *s, uint32_t *ret);
int parse_bool(const char *s, bool *ret);             /* yes/no/true/false/on/off/1/0 */
int parse_size(const char *s, uint64_t *ret);         /* 512M, 2G, 4096, 1.5G: powers of 1024, suffix B allowed */
int parse_seconds(const char *s, uint64_t *ret_usec); /* 90, 90s, 5min, 1h, 250ms */

/* One word of a kernel command line: the value of the last `key=` outside quotes, malloc'ed, or NULL
 * when it is not there or memory ran out. */
char *cmdline_get(const char *cmdline, const char *key);
bool cmdline_has(const char *cmdline, const char *word);
