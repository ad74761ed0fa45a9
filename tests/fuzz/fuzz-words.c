/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Short texts: versions and their order, numbers, sizes, times, kernel command lines, text for a terminal, what a health
 * check prints. The first byte says which; the pieces are separated by newlines. */
#include "fuzz.h"

#include "base/clock.h"
#include "base/parse.h"
#include "base/process.h"
#include "base/text.h"
#include "base/version.h"

static int sign(int n)
{
        return n < 0 ? -1 : n > 0;
}

/* An order without circles, or sorting would not end well. */
static void check_versions(struct input *in)
{
        char *v[3];

        for (size_t i = 0; i < 3; i++) {
                v[i] = take_until(in, '\n');
                must(version_compare(v[i], v[i]) == 0);
                if (version_valid(v[i]))
                        must(strlen(v[i]) < 64 && !strpbrk(v[i], "/ \n\"'\\"));
        }
        for (size_t i = 0; i < 3; i++) {
                const char *a = v[i], *b = v[(i + 1) % 3], *c = v[(i + 2) % 3];

                must(sign(version_compare(a, b)) == -sign(version_compare(b, a)));
                if (version_compare(a, b) <= 0 && version_compare(b, c) <= 0)
                        must(version_compare(a, c) <= 0);
        }
        for (size_t i = 0; i < 3; i++)
                free(v[i]);
}

static void check_numbers(const char *s)
{
        uint64_t n = 77, size = 77, usec = 77;
        uint32_t small;
        bool yes;

        if (parse_u64(s, &n) == 0)
                must(n == strtoull(s, NULL, 10) && strspn(s, "0123456789") == strlen(s));
        else
                must(n == 77);
        if (parse_u32(s, &small) == 0)
                must(small == n);
        if (parse_size(s, &size) < 0)
                must(size == 77);
        else if (parse_u64(s, &n) == 0)
                must(size == n);
        if (parse_seconds(s, &usec) < 0)
                must(usec == 77);
        parse_bool(s, &yes);
}

static void check_time(const char *s)
{
        char text[TIME_TEXT_SIZE];
        uint64_t usec, again;

        if (parse_time(s, &usec) < 0)
                return;
        format_time(usec, text);
        must(parse_time(text, &again) == 0);
        must(usec - again < USEC_PER_MSEC);
}

static void check_cmdline(struct input *in)
{
        _cleanup_free_ char *key = take_until(in, '\n'), *line = take_until(in, '\0'), *value = NULL;

        if (!*key)
                return;
        value = cmdline_get(line, key);
        if (value)
                must(strlen(value) <= strlen(line) && strstr(line, key) && !strchr(value, '"'));
        cmdline_has(line, key);
}

static void check_text(const char *s)
{
        _cleanup_free_ char *safe = text_escape(s), *line = process_last_line(s);
        uint8_t bytes[8];
        char hex[17];

        must(strlen(line) <= PROCESS_LINE_MAX && text_is_printable(line, strlen(line)) && !strpbrk(line, "\n\r\t\x1b"));
        must(safe && text_is_printable(safe, strlen(safe)) && !strpbrk(safe, "\n\r\t\x1b"));
        if (hex_decode(s, bytes, sizeof(bytes)) == 0) {
                hex_encode(bytes, sizeof(bytes), hex);
                must(strcasecmp(hex, s) == 0);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct input in = { data, size };
        uint8_t what = take_byte(&in);
        _cleanup_free_ char *text = NULL;

        if (what == 'v') {
                check_versions(&in);
        } else if (what == 'k') {
                check_cmdline(&in);
        } else {
                text = take_until(&in, '\0');
                check_numbers(text);
                check_time(text);
                check_text(text);
        }
        return 0;
}
