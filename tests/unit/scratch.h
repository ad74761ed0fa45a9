/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A directory of its own for a test, the current one: below $TMPDIR or /tmp, gone after a test that passed. */
#pragma once

#include <check.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>

#include "base/file.h"

static char scratch_path[PATH_MAX];

static void scratch_begin(void)
{
        ck_assert_int_lt(snprintf(scratch_path, sizeof(scratch_path), "%s/bootmgr-test-XXXXXX", getenv("TMPDIR") ?: "/tmp"),
                         (int)sizeof(scratch_path));
        ck_assert_ptr_nonnull(mkdtemp(scratch_path));
        ck_assert_int_eq(chdir(scratch_path), 0);
}

static void scratch_end(void)
{
        ck_assert_int_eq(chdir("/"), 0);
        ck_assert_int_eq(remove_tree(AT_FDCWD, scratch_path), 0);
}

/* A command of the shell that succeeds. */
static inline void must(const char *format, ...) _printf_(1, 2);
static inline void must(const char *format, ...)
{
        char command[1024];
        va_list ap;

        va_start(ap, format);
        vsnprintf(command, sizeof(command), format, ap);
        va_end(ap);
        ck_assert_msg(system(command) == 0, "%s", command);
}
