/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/table.h"

#include <libsmartcols.h>
#include <stdarg.h>

#include "base/buf.h"

struct table {
        const struct column *columns;
        size_t n_columns;
        struct buf text; /* of all cells, each with its NUL */
        size_t *cells;   /* n_rows * n_columns places in it, from 1; 0: an empty cell */
        size_t n_rows;
        bool failed;
};

struct table *table_new(const struct column *columns, size_t n)
{
        struct table *t = calloc(1, sizeof(*t));

        if (t)
                *t = (struct table){ .columns = columns, .n_columns = n };
        return t;
}

struct table *table_free(struct table *t)
{
        if (!t)
                return NULL;
        buf_done(&t->text);
        free(t->cells);
        free(t);
        return NULL;
}

void table_row(struct table *t)
{
        size_t *grown = t->failed ? NULL : reallocarray(t->cells, (t->n_rows + 1) * t->n_columns, sizeof(*grown));

        if (!grown) {
                t->failed = true;
                return;
        }
        t->cells = grown;
        memset(t->cells + t->n_rows * t->n_columns, 0, t->n_columns * sizeof(*grown));
        t->n_rows++;
}

void table_set(struct table *t, size_t column, const char *text)
{
        if (text && *text)
                table_setf(t, column, "%s", text);
}

void table_setf(struct table *t, size_t column, const char *fmt, ...)
{
        va_list ap;

        if (t->failed || t->n_rows == 0)
                return;
        t->cells[(t->n_rows - 1) * t->n_columns + column] = t->text.size + 1;
        va_start(ap, fmt);
        buf_vprintf(&t->text, fmt, ap);
        va_end(ap);
        buf_append(&t->text, "", 1);
        t->failed = t->text.failed;
}

static const char *cell(const struct table *t, size_t row, size_t column)
{
        size_t place = t->cells[row * t->n_columns + column];

        return place ? t->text.data + place - 1 : NULL;
}

static bool column_is_used(const struct table *t, size_t column)
{
        for (size_t row = 0; row < t->n_rows; row++)
                if (cell(t, row, column))
                        return true;
        return false;
}

static int add_columns(const struct table *t, struct libscols_table *out)
{
        for (size_t i = 0; i < t->n_columns; i++) {
                int flags = t->columns[i].flags & COLUMN_RIGHT ? SCOLS_FL_RIGHT : 0;

                flags |= t->columns[i].flags & COLUMN_WRAP ? SCOLS_FL_WRAP : 0;
                if (!scols_table_new_column(out, t->columns[i].name, 0,
                                            flags | (column_is_used(t, i) ? 0 : SCOLS_FL_HIDDEN)))
                        return -ENOMEM;
        }
        return 0;
}

static int add_rows(const struct table *t, struct libscols_table *out)
{
        for (size_t row = 0; row < t->n_rows; row++) {
                struct libscols_line *line = scols_table_new_line(out, NULL);

                if (!line)
                        return -ENOMEM;
                for (size_t i = 0; i < t->n_columns; i++)
                        if (scols_line_set_data(line, i, cell(t, row, i)) < 0)
                                return -ENOMEM;
        }
        return 0;
}

char *table_text(struct table *t)
{
        _cleanup_buf_ struct buf b = {};
        _cleanup_free_ char *text = NULL;
        struct libscols_table *out;
        int r;

        if (!t || t->failed)
                return NULL;
        out = t->n_rows > 0 ? scols_new_table() : NULL;
        if (!out)
                return t->n_rows > 0 ? NULL : strdup("");
        r = add_columns(t, out);
        if (r >= 0)
                r = add_rows(t, out);
        if (r >= 0)
                r = scols_print_table_to_string(out, &text);
        scols_unref_table(out);
        if (r < 0)
                return NULL;
        buf_puts(&b, text);
        buf_puts(&b, "\n"); /* the library ends the last line without one */
        return buf_take(&b);
}

int table_print(struct table *t)
{
        _cleanup_free_ char *text = table_text(t);

        if (!text)
                return -ENOMEM;
        fputs(text, stdout);
        return 0;
}
