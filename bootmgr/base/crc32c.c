/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/buf.h"

#define POLYNOMIAL 0x82f63b78u /* reflected */

static uint32_t crc32c_table(uint32_t crc, const uint8_t *p, size_t size)
{
        static uint32_t table[256]; /* filled by whoever comes first: every thread writes the same values */

        if (!__atomic_load_n(&table[255], __ATOMIC_ACQUIRE))
                for (uint32_t i = 0; i < 256; i++) {
                        uint32_t c = i;

                        for (int bit = 0; bit < 8; bit++)
                                c = c & 1 ? c >> 1 ^ POLYNOMIAL : c >> 1;
                        __atomic_store_n(&table[i], c, __ATOMIC_RELEASE);
                }
        for (; size > 0; size--)
                crc = table[(crc ^ *p++) & 255] ^ crc >> 8;
        return crc;
}

#ifdef __x86_64__
__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, const uint8_t *p, size_t size)
{
        uint64_t wide = crc, word;

        for (; size >= 8; size -= 8, p += 8) {
                memcpy(&word, p, 8);
                wide = __builtin_ia32_crc32di(wide, word);
        }
        crc = (uint32_t)wide;
        for (; size > 0; size--)
                crc = __builtin_ia32_crc32qi(crc, *p++);
        return crc;
}
#endif

uint32_t crc32c(uint32_t crc, const void *data, size_t size)
{
        crc = ~crc;
#ifdef __x86_64__
        if (__builtin_cpu_supports("sse4.2"))
                return ~crc32c_sse42(crc, data, size);
#endif
        return ~crc32c_table(crc, data, size);
}
