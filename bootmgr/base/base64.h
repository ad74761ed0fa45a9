/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Base64 with the standard alphabet and padding (RFC 4648, section 4), without line ends. */
#pragma once

#include "base/buf.h"

/* Bytes that `size` bytes become. */
#define BASE64_SIZE(size) (((size) + 2) / 3 * 4)

void base64_append(struct buf *b, const void *data, size_t size);
/* Exactly what base64_append() makes: -EINVAL for other characters, missing padding, or bits behind the end. *ret is
 * malloc'ed, NUL-terminated behind *ret_size bytes. */
int base64_decode(const char *text, size_t size, char **ret, size_t *ret_size);
