/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Libraries that are loaded when somebody needs them: they bring many others, and a machine does without what it never does.
 */
#pragma once

#include "base/error.h"

struct library_function {
        const char *name;
        void **function;
};

/* Finds all functions of libNAME.so.VERSION, and of what it depends on. It is never unloaded. -ENOPKG, of that kind, with
 * the package to install. May be called again. */
int library_load(const char *name, int version, const struct library_function *functions, size_t n,
                 const struct error_kind *kind, struct error *e);
