/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Version strings, compared as the UAPI.10 Version Format Specification says. */
#pragma once

#include "base/util.h"

/* <0, 0, >0 as a is older than, equal to, newer than b. Any string has a place in the order. */
int version_compare(const char *a, const char *b);

/* Whether it is one: 1 to 63 of [A-Za-z0-9._~^+-], first a letter or digit. What we accept in
 * manifests and configuration, so that it can stand in file names and on command lines. */
bool version_valid(const char *v);
