/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/parse.h"

#include <ctype.h>
#include <strings.h>

int parse_u64(const char *s, uint64_t *ret)
{
        uint64_t value = 0;

        if (!*s)
                return -EINVAL;
        for (; *s; s++) {
                if (*s < '0' || *s > '9')
                        return -EINVAL;
                if (__builtin_mul_overflow(value, UINT64_C(10), &value) ||
                    __builtin_add_overflow(value, (uint64_t)(*s - '0'), &value))
                        return -ERANGE;
        }
        *ret = value;
        return 0;
}

int parse_u32(const char *s, uint32_t *ret)
{
        uint64_t value;
        int r = parse_u64(s, &value);

        if (r < 0)
                return r;
        if (value > UINT32_MAX)
                return -ERANGE;
        *ret = (uint32_t)value;
        return 0;
}

int parse_bool(const char *s, bool *ret)
{
        static const char *const yes[] = { "yes", "true", "on", "1" }, *const no[] = { "no", "false", "off", "0" };

        for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
                if (strcasecmp(s, yes[i]) == 0 || strcasecmp(s, no[i]) == 0) {
                        *ret = strcasecmp(s, yes[i]) == 0;
                        return 0;
                }
        }
        return -EINVAL;
}

/* "12" or "12.5" in `unit`s; *rest points behind it. */
static int parse_scaled(const char *s, size_t digits, uint64_t unit, uint64_t *ret)
{
        char number[32];
        char *dot;
        uint64_t whole, fraction = 0, scale = 1;
        int r;

        if (digits == 0 || digits >= sizeof(number))
                return digits ? -ERANGE : -EINVAL;
        memcpy(number, s, digits);
        number[digits] = '\0';
        dot = strchr(number, '.');
        if (dot)
                *dot++ = '\0';
        r = parse_u64(number, &whole);
        if (r >= 0 && dot) {
                if (strlen(dot) > 6)
                        return -ERANGE;
                r = parse_u64(dot, &fraction);
                for (size_t i = 0; i < strlen(dot); i++)
                        scale *= 10;
        }
        if (r < 0)
                return r;
        if (__builtin_mul_overflow(whole, unit, &whole) || __builtin_mul_overflow(fraction, unit, &fraction) ||
            __builtin_add_overflow(whole, fraction / scale, &whole))
                return -ERANGE;
        *ret = whole;
        return 0;
}

struct unit {
        const char *name;
        uint64_t factor;
};

static int parse_with_unit(const char *s, const struct unit *units, uint64_t *ret)
{
        size_t digits = strspn(s, "0123456789.");

        for (; units->name; units++)
                if (strcasecmp(s + digits, units->name) == 0)
                        return parse_scaled(s, digits, units->factor, ret);
        return -EINVAL;
}

int parse_size(const char *s, uint64_t *ret)
{
        static const struct unit units[] = {
                { "", 1 },         { "B", 1 },         { "K", KIB(1) },     { "KB", KIB(1) },     { "KiB", KIB(1) },
                { "M", MIB(1) },   { "MB", MIB(1) },   { "MiB", MIB(1) },   { "G", GIB(1) },      { "GB", GIB(1) },
                { "GiB", GIB(1) }, { "T", GIB(1024) }, { "TB", GIB(1024) }, { "TiB", GIB(1024) }, {},
        };

        return parse_with_unit(s, units, ret);
}

int parse_seconds(const char *s, uint64_t *ret_usec)
{
        static const struct unit units[] = {
                { "", 1000000 },
                { "s", 1000000 },
                { "sec", 1000000 },
                { "ms", 1000 },
                { "us", 1 },
                { "min", 60000000 },
                { "m", 60000000 },
                { "h", UINT64_C(3600000000) },
                { "d", UINT64_C(86400000000) },
                {},
        };

        return parse_with_unit(s, units, ret_usec);
}

/* The next word of a command line, quotes as the kernel reads them: *start and its length, or false. */
static bool next_word(const char **cursor, const char **start, size_t *length)
{
        const char *p = *cursor;
        bool quoted = false;

        while (isspace((unsigned char)*p))
                p++;
        if (!*p)
                return false;
        *start = p;
        for (; *p && (quoted || !isspace((unsigned char)*p)); p++)
                if (*p == '"')
                        quoted = !quoted;
        *length = (size_t)(p - *start);
        *cursor = p;
        return true;
}

static char *unquote(const char *s, size_t n)
{
        char *copy = malloc(n + 1), *to = copy;

        for (size_t i = 0; copy && i < n; i++)
                if (s[i] != '"')
                        *to++ = s[i];
        if (copy)
                *to = '\0';
        return copy;
}

char *cmdline_get(const char *cmdline, const char *key)
{
        size_t n = strlen(key), length;
        const char *word, *found = NULL;
        size_t found_length = 0;

        while (next_word(&cmdline, &word, &length)) {
                if (*word == '"' && length > 1) {
                        word++;
                        length--;
                }
                if (length > n && strncmp(word, key, n) == 0 && word[n] == '=') {
                        found = word + n + 1;
                        found_length = length - n - 1;
                }
        }
        return found ? unquote(found, found_length) : NULL;
}

bool cmdline_has(const char *cmdline, const char *word)
{
        const char *start;
        size_t length;

        while (next_word(&cmdline, &start, &length))
                if (length == strlen(word) && strncmp(start, word, length) == 0)
                        return true;
        return false;
}
