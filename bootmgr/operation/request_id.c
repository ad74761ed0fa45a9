/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Apart from request.c: bootmgrd reads no disk, and needs this alone. */
#include <ctype.h>

#include "operation/request.h"

#define DIGITS (OPERATION_ID_SIZE - 1)

int request_id(const char *text, char id[static OPERATION_ID_SIZE])
{
        bool uuid = strlen(text) == DIGITS + 4;
        char digits[OPERATION_ID_SIZE];
        size_t n = 0;

        for (const char *p = text; *p; p++) {
                size_t at = (size_t)(p - text);

                if (uuid && (at == 8 || at == 13 || at == 18 || at == 23)) {
                        if (*p != '-')
                                return -EINVAL;
                        continue;
                }
                if (!isxdigit((unsigned char)*p) || n == DIGITS)
                        return -EINVAL;
                digits[n++] = (char)tolower((unsigned char)*p);
        }
        digits[n] = '\0';
        /* Zeros are what the record holds where there is no operation. */
        if (n != DIGITS || strspn(digits, "0") == DIGITS)
                return -EINVAL;
        strcpy(id, digits);
        return 0;
}
