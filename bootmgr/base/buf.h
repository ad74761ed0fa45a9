/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A growing byte buffer and text builder, and little-endian codecs. */
#pragma once

#include <endian.h>
#include <stdarg.h>

#include "base/util.h"

struct buf {
        char *data; /* NUL-terminated behind size when it was filled through these functions; owned */
        size_t size;
        size_t allocated;
        bool failed; /* out of memory: sticky, every later call is a no-op; check once at the end */
};

void buf_append(struct buf *b, const void *data, size_t size);
void buf_puts(struct buf *b, const char *s);
void buf_printf(struct buf *b, const char *fmt, ...) _printf_(2, 3);
void buf_vprintf(struct buf *b, const char *fmt, va_list ap) _printf_(2, 0);
/* Takes the data out (never NULL on success), or NULL when memory ran out. */
char *buf_take(struct buf *b);
void buf_done(struct buf *b);
#define _cleanup_buf_ _cleanup_(buf_done)

/* asprintf that returns NULL on failure. */
char *xasprintf(const char *fmt, ...) _printf_(1, 2);

/* Lower-case hexadecimal. hex must hold 2 * size + 1 bytes. */
void hex_encode(const void *data, size_t size, char *hex);
/* -EINVAL unless `hex` is exactly 2 * size hexadecimal digits. */
int hex_decode(const char *hex, void *data, size_t size);
bool is_all_zero(const void *data, size_t size); /* fast; for chunks too */

static inline uint16_t get_le16(const void *p)
{
        uint16_t v;
        memcpy(&v, p, 2);
        return le16toh(v);
}
static inline uint32_t get_le32(const void *p)
{
        uint32_t v;
        memcpy(&v, p, 4);
        return le32toh(v);
}
static inline uint64_t get_le64(const void *p)
{
        uint64_t v;
        memcpy(&v, p, 8);
        return le64toh(v);
}
static inline void put_le16(void *p, uint16_t v)
{
        v = htole16(v);
        memcpy(p, &v, 2);
}
static inline void put_le32(void *p, uint32_t v)
{
        v = htole32(v);
        memcpy(p, &v, 4);
}
static inline void put_le64(void *p, uint64_t v)
{
        v = htole64(v);
        memcpy(p, &v, 8);
}

/* CRC-32C (Castagnoli, RFC 3720 appendix B.4), `crc` 0 to start. */
uint32_t crc32c(uint32_t crc, const void *data, size_t size);
