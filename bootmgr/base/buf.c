/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/buf.h"

static bool reserve(struct buf *b, size_t more)
{
        size_t need, size;
        char *grown;

        if (b->failed || __builtin_add_overflow(b->size, more, &need) || need == SIZE_MAX) {
                b->failed = true;
                return false;
        }
        need++;
        if (need <= b->allocated)
                return true;
        size = MAX(need, b->allocated * 2);
        grown = realloc(b->data, size);
        if (!grown) {
                b->failed = true;
                return false;
        }
        b->data = grown;
        b->allocated = size;
        return true;
}

void buf_append(struct buf *b, const void *data, size_t size)
{
        if (!reserve(b, size))
                return;
        if (size > 0)
                memcpy(b->data + b->size, data, size);
        b->size += size;
        b->data[b->size] = '\0';
}

void buf_puts(struct buf *b, const char *s)
{
        buf_append(b, s, strlen(s));
}

void buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
        va_list again;
        int n;

        va_copy(again, ap);
        n = vsnprintf(NULL, 0, fmt, again);
        va_end(again);
        if (n < 0 || !reserve(b, (size_t)n)) {
                b->failed = true;
                return;
        }
        vsnprintf(b->data + b->size, (size_t)n + 1, fmt, ap);
        b->size += (size_t)n;
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
        va_list ap;

        va_start(ap, fmt);
        buf_vprintf(b, fmt, ap);
        va_end(ap);
}

char *buf_take(struct buf *b)
{
        char *data;

        buf_append(b, "", 0);
        if (b->failed) {
                buf_done(b);
                return NULL;
        }
        data = b->data;
        *b = (struct buf){};
        return data;
}

void buf_done(struct buf *b)
{
        free(b->data);
        *b = (struct buf){};
}

char *xasprintf(const char *fmt, ...)
{
        va_list ap;
        char *text;
        int n;

        va_start(ap, fmt);
        n = vasprintf(&text, fmt, ap);
        va_end(ap);
        return n < 0 ? NULL : text;
}

void hex_encode(const void *data, size_t size, char *hex)
{
        static const char digits[] = "0123456789abcdef";
        const uint8_t *p = data;

        for (size_t i = 0; i < size; i++) {
                hex[2 * i] = digits[p[i] >> 4];
                hex[2 * i + 1] = digits[p[i] & 15];
        }
        hex[2 * size] = '\0';
}

static int digit(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        if (c >= 'A' && c <= 'F')
                return c - 'A' + 10;
        return -1;
}

int hex_decode(const char *hex, void *data, size_t size)
{
        uint8_t *p = data;

        if (strlen(hex) != 2 * size)
                return -EINVAL;
        for (size_t i = 0; i < 2 * size; i++)
                if (digit(hex[i]) < 0)
                        return -EINVAL;
        for (size_t i = 0; i < size; i++)
                p[i] = (uint8_t)(digit(hex[2 * i]) << 4 | digit(hex[2 * i + 1]));
        return 0;
}

bool is_all_zero(const void *data, size_t size)
{
        const uint8_t *p = data;

        /* The first bytes decide for nearly all that is not zero; the rest is compared with itself, shifted. */
        for (size_t i = 0; i < MIN(size, (size_t)16); i++)
                if (p[i])
                        return false;
        return size <= 16 || memcmp(p, p + 16, size - 16) == 0;
}
