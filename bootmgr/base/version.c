/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* https://uapi-group.org/specifications/specs/version_format_specification/ */
#include "base/version.h"

static bool is_digit(char c)
{
        return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Characters that take part in the comparison; all others only separate. */
static bool is_valid(char c)
{
        return is_digit(c) || is_letter(c) || c == '-' || c == '.' || c == '~' || c == '^';
}

static int sign(int64_t n)
{
        return n < 0 ? -1 : n > 0;
}

/* The rule of one separator: the side that has it (alone) is older (-1) or newer (1). *decided tells. */
static int compare_mark(const char **a, const char **b, char mark, int with, bool *decided)
{
        bool in_a = **a == mark, in_b = **b == mark;

        *decided = in_a != in_b;
        if (*decided)
                return in_a ? with : -with;
        if (in_a) {
                (*a)++;
                (*b)++;
        }
        return 0;
}

static int compare_numbers(const char **a, const char **b)
{
        size_t n, m;
        int r;

        /* Any number is newer than none. */
        if (is_digit(**a) != is_digit(**b))
                return is_digit(**a) ? 1 : -1;
        while (**a == '0')
                (*a)++;
        while (**b == '0')
                (*b)++;
        n = strspn(*a, "0123456789");
        m = strspn(*b, "0123456789");
        if (n != m)
                return n < m ? -1 : 1;
        r = strncmp(*a, *b, n);
        *a += n;
        *b += n;
        return sign(r);
}

static int compare_letters(const char **a, const char **b)
{
        size_t n = 0, m = 0;
        int r;

        while (is_letter((*a)[n]))
                n++;
        while (is_letter((*b)[m]))
                m++;
        r = strncmp(*a, *b, MIN(n, m));
        if (r != 0)
                return sign(r);
        if (n != m)
                return n < m ? -1 : 1;
        *a += n;
        *b += n;
        return 0;
}

int version_compare(const char *a, const char *b)
{
        for (;;) {
                bool decided;
                int r;

                while (*a && !is_valid(*a))
                        a++;
                while (*b && !is_valid(*b))
                        b++;
                r = compare_mark(&a, &b, '~', -1, &decided);
                if (decided)
                        return r;
                if (!*a || !*b)
                        return !*a && !*b ? 0 : !*a ? -1 : 1;
                r = compare_mark(&a, &b, '-', -1, &decided);
                if (decided)
                        return r;
                r = compare_mark(&a, &b, '^', -1, &decided);
                if (decided)
                        return r;
                r = compare_mark(&a, &b, '.', -1, &decided);
                if (decided)
                        return r;
                r = is_digit(*a) || is_digit(*b) ? compare_numbers(&a, &b) : compare_letters(&a, &b);
                if (r != 0)
                        return r;
        }
}

bool version_valid(const char *v)
{
        size_t n = strlen(v);

        if (n < 1 || n > 63 || !(is_digit(*v) || is_letter(*v)))
                return false;
        return strspn(v, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._~^+-") == n;
}
