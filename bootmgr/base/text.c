/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/text.h"

#include "base/buf.h"

/* Length of the UTF-8 sequence of a printable character at `s`, or 0. Overlong forms, surrogates and
 * C1 controls are none. */
static size_t printable_length(const unsigned char *s, size_t size)
{
        static const struct {
                unsigned char first, last;
                size_t length;
                uint32_t lowest;
        } table[] = {
                { 0x20, 0x7e, 1, 0x20 }, { 0xc2, 0xdf, 2, 0xa0 }, { 0xe0, 0xef, 3, 0x800 }, { 0xf0, 0xf4, 4, 0x10000 }
        };

        for (size_t t = 0; t < ARRAY_SIZE(table); t++) {
                size_t length = table[t].length;
                uint32_t c;

                if (s[0] < table[t].first || s[0] > table[t].last)
                        continue;
                if (length > size)
                        return 0;
                c = length == 1 ? s[0] : s[0] & (0x7fU >> length);
                for (size_t i = 1; i < length; i++) {
                        if ((s[i] & 0xc0) != 0x80)
                                return 0;
                        c = c << 6 | (s[i] & 0x3f);
                }
                return c < table[t].lowest || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff) ? 0 : length;
        }
        return 0;
}

bool text_is_printable(const char *text, size_t size)
{
        for (size_t i = 0; i < size;) {
                size_t n = printable_length((const unsigned char *)text + i, size - i);

                if (n == 0 && (text[i] == '\0' || !strchr("\n\t\r\f", text[i])))
                        return false;
                i += MAX(n, (size_t)1);
        }
        return true;
}

char *text_escape(const char *text)
{
        size_t size = strlen(text);
        struct buf b = {};

        for (size_t i = 0; i < size;) {
                size_t n = text[i] == '\\' ? 0 : printable_length((const unsigned char *)text + i, size - i);

                if (n > 0)
                        buf_append(&b, text + i, n);
                else
                        buf_printf(&b, "\\x%02x", (unsigned char)text[i]);
                i += MAX(n, (size_t)1);
        }
        return buf_take(&b);
}

void text_format(char *text, size_t size, const char *fmt, ...)
{
        size_t last = size - 1;
        va_list ap;
        int n;

        va_start(ap, fmt);
        n = vsnprintf(text, size, fmt, ap);
        va_end(ap);
        if (n < 0 || (size_t)n < size)
                return;
        while (last > 0 && ((unsigned char)text[--last] & 0xc0) == 0x80)
                ;
        if ((unsigned char)text[last] >= 0x80 && printable_length((const unsigned char *)text + last, size - 1 - last) == 0)
                text[last] = '\0';
}

void format_size(uint64_t bytes, char text[static SIZE_TEXT])
{
        static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
        double value = (double)bytes;
        size_t unit = 0;

        while (value >= 1024 && unit + 1 < ARRAY_SIZE(units)) {
                value /= 1024;
                unit++;
        }
        snprintf(text, SIZE_TEXT, value < 10 && value != (double)(uint64_t)value ? "%.1f %s" : "%.0f %s", value,
                 units[unit]);
}
