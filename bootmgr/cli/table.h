/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Tables on the terminal; the only user of libsmartcols. Columns that stay empty are not shown. */
#pragma once

#include "base/util.h"

enum column_flags {
        COLUMN_RIGHT = 1, /* numbers */
        COLUMN_WRAP = 2,  /* text that may take several lines where the terminal is narrow */
};

struct column {
        const char *name;
        int flags;
};

struct table;

/* NULL when memory ran out. `columns` is borrowed as long as the table lives. */
struct table *table_new(const struct column *columns, size_t n);
struct table *table_free(struct table *t);
static inline void table_freep(struct table **t)
{
        *t = table_free(*t);
}
#define _cleanup_table_ _cleanup_(table_freep)

/* A new row; later table_set() calls fill it. Cell texts are copied; out of memory is remembered. */
void table_row(struct table *t);
void table_set(struct table *t, size_t column, const char *text);
void table_setf(struct table *t, size_t column, const char *fmt, ...) _printf_(3, 4);

/* The whole table with its header as text; "" without rows. malloc'ed, NULL when memory ran out. */
char *table_text(struct table *t);
/* The same, printed on stdout. 0 or -ENOMEM. */
int table_print(struct table *t);
