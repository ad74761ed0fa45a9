/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "snapshot/text_diff.h"

#include "base/buf.h"

#define CONTEXT   3
#define CELLS_MAX (UINT64_C(8) << 20) /* of the table below: 16 MiB and some tens of milliseconds */

struct line {
        const char *text; /* borrowed, with its newline if it has one */
        size_t size;
};

struct text {
        struct line *lines; /* owned */
        size_t n;
};

/* What becomes of a line: ' ' stays, '-' goes, '+' comes. */
struct edit {
        char what;
        const struct line *line;
};

struct script {
        struct edit *edits; /* owned; room for every line of both texts */
        size_t n;
};

static int split(const char *data, size_t size, struct text *ret)
{
        size_t n = 0;
        struct line *lines;

        for (size_t i = 0; i < size; i++)
                n += data[i] == '\n' || i + 1 == size;
        lines = calloc(n + 1, sizeof(*lines));
        if (!lines)
                return -ENOMEM;
        *ret = (struct text){ .lines = lines, .n = n };
        for (const char *end = data + size; data < end; lines++) {
                const char *newline = memchr(data, '\n', (size_t)(end - data));

                *lines = (struct line){ data, newline ? (size_t)(newline - data) + 1 : (size_t)(end - data) };
                data += lines->size;
        }
        return 0;
}

static bool same(const struct line *a, const struct line *b)
{
        return a->size == b->size && memcmp(a->text, b->text, a->size) == 0;
}

static void add(struct script *s, char what, const struct line *lines, size_t n)
{
        for (size_t i = 0; i < n; i++)
                s->edits[s->n++] = (struct edit){ what, &lines[i] };
}

/* The shortest script by the longest common subsequence of what differs: length[i][j] is that of the rests behind
 * line i of `a` and line j of `b`. */
static int add_changes(struct script *s, const struct line *a, size_t n, const struct line *b, size_t m)
{
        _cleanup_free_ uint16_t *length = NULL; /* CELLS_MAX bounds the shorter side to 2896 lines */
        size_t i = 0, j = 0, width = m + 1;

        if ((uint64_t)(n + 1) * width > CELLS_MAX) {
                add(s, '-', a, n);
                add(s, '+', b, m);
                return 0;
        }
        length = calloc((n + 1) * width, sizeof(*length));
        if (!length)
                return -ENOMEM;
        for (size_t y = n; y-- > 0;)
                for (size_t x = m; x-- > 0;)
                        length[y * width + x] = same(&a[y], &b[x])
                                                        ? (uint16_t)(length[(y + 1) * width + x + 1] + 1)
                                                        : MAX(length[(y + 1) * width + x], length[y * width + x + 1]);
        while (i < n || j < m) {
                if (i < n && j < m && same(&a[i], &b[j])) {
                        add(s, ' ', &a[i++], 1);
                        j++;
                } else if (i < n && (j == m || length[(i + 1) * width + j] >= length[i * width + j + 1])) {
                        add(s, '-', &a[i++], 1);
                } else {
                        add(s, '+', &b[j++], 1);
                }
        }
        return 0;
}

static int make_script(const struct text *a, const struct text *b, struct script *s)
{
        size_t head = 0, tail = 0, most = MIN(a->n, b->n);
        int r;

        while (head < most && same(&a->lines[head], &b->lines[head]))
                head++;
        while (tail < most - head && same(&a->lines[a->n - 1 - tail], &b->lines[b->n - 1 - tail]))
                tail++;
        add(s, ' ', a->lines, head);
        r = add_changes(s, a->lines + head, a->n - head - tail, b->lines + head, b->n - head - tail);
        add(s, ' ', a->lines + a->n - tail, tail);
        return r;
}

/* "12,3": the first line, and how many unless one; where there are none, the line before. */
static void print_range(struct buf *b, char sign, size_t first, size_t n)
{
        buf_printf(b, "%c%zu", sign, n == 0 ? first - 1 : first);
        if (n != 1)
                buf_printf(b, ",%zu", n);
}

/* Edits [from, to), of which the first stands at line `old` and `new`. */
static void print_hunk(struct buf *b, const struct script *s, size_t from, size_t to, size_t old, size_t new)
{
        size_t n_old = 0, n_new = 0;

        for (size_t i = from; i < to; i++) {
                n_old += s->edits[i].what != '+';
                n_new += s->edits[i].what != '-';
        }
        buf_puts(b, "@@ ");
        print_range(b, '-', old, n_old);
        buf_puts(b, " ");
        print_range(b, '+', new, n_new);
        buf_puts(b, " @@\n");
        for (size_t i = from; i < to; i++) {
                const struct line *l = s->edits[i].line;

                buf_append(b, &s->edits[i].what, 1);
                buf_append(b, l->text, l->size);
                if (l->text[l->size - 1] != '\n')
                        buf_puts(b, "\n\\ No newline at end of file\n");
        }
}

/* Where the hunk ends whose first change is `i`: CONTEXT lines behind the last change that has no more than twice
 * as many lines between it and the one before. */
static size_t hunk_end(const struct script *s, size_t i)
{
        size_t last = i;

        for (; i < s->n && i <= last + 2 * CONTEXT + 1; i++)
                if (s->edits[i].what != ' ')
                        last = i;
        return MIN(last + 1 + CONTEXT, s->n);
}

static void print_hunks(struct buf *b, const struct script *s)
{
        size_t old = 1, new = 1, begin = 0; /* lines of edit `begin` */

        for (size_t i = 0; i < s->n; i++) {
                size_t end, from;

                if (s->edits[i].what == ' ')
                        continue;
                from = i - MIN(i - begin, (size_t)CONTEXT);
                end = hunk_end(s, i);
                /* Between two hunks all lines stay. */
                old += from - begin;
                new += from - begin;
                print_hunk(b, s, from, end, old, new);
                for (size_t k = from; k < end; k++) {
                        old += s->edits[k].what != '+';
                        new += s->edits[k].what != '-';
                }
                begin = end;
                i = end - 1;
        }
}

char *text_diff(const char *label, const char *old, size_t old_size, const char *new, size_t new_size)
{
        struct text a = {}, b = {};
        struct script s = {};
        struct buf out = {};
        int r;

        r = split(old, old_size, &a);
        if (r >= 0)
                r = split(new, new_size, &b);
        if (r >= 0)
                s.edits = calloc(a.n + b.n + 1, sizeof(*s.edits));
        r = s.edits ? make_script(&a, &b, &s) : -ENOMEM;
        if (r >= 0 && (old_size != new_size || memcmp(old, new, old_size) != 0)) {
                buf_printf(&out, "--- %s\n+++ %s\n", label, label);
                print_hunks(&out, &s);
        }
        free(s.edits);
        free(a.lines);
        free(b.lines);
        if (r < 0) {
                buf_done(&out);
                return NULL;
        }
        return buf_take(&out);
}
