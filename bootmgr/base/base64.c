/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/base64.h"

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_append(struct buf *b, const void *data, size_t size)
{
        const uint8_t *p = data;

        for (; size > 0; p += 3) {
                size_t n = MIN(size, (size_t)3);
                uint32_t bits = (uint32_t)p[0] << 16 | (n > 1 ? (uint32_t)p[1] << 8 : 0) | (n > 2 ? p[2] : 0);
                char text[4] = { digits[bits >> 18], digits[bits >> 12 & 63], n > 1 ? digits[bits >> 6 & 63] : '=',
                                 n > 2 ? digits[bits & 63] : '=' };

                buf_append(b, text, sizeof(text));
                size -= n;
        }
}

static int value_of(char c)
{
        const char *p = c ? strchr(digits, c) : NULL;

        return p ? (int)(p - digits) : -1;
}

int base64_decode(const char *text, size_t size, char **ret, size_t *ret_size)
{
        _cleanup_free_ char *data = NULL;
        size_t n = 0, padding = 0;

        if (size % 4 != 0)
                return -EINVAL;
        while (padding < 2 && padding < size && text[size - 1 - padding] == '=')
                padding++;
        data = malloc(size / 4 * 3 + 1);
        if (!data)
                return -ENOMEM;
        for (size_t i = 0; i < size; i += 4) {
                size_t missing = i + 4 == size ? padding : 0;
                uint32_t bits = 0;

                for (size_t k = 0; k < 4; k++) {
                        int value = k + missing >= 4 ? 0 : value_of(text[i + k]);

                        if (value < 0)
                                return -EINVAL;
                        bits = bits << 6 | (uint32_t)value;
                }
                if (bits & ((1U << (8 * missing)) - 1))
                        return -EINVAL;
                for (size_t k = 0; k < 3 - missing; k++)
                        data[n++] = (char)(bits >> (16 - 8 * k));
        }
        data[n] = '\0';
        *ret_size = n;
        *ret = TAKE_PTR(data);
        return 0;
}
