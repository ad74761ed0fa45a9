/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The format of a FAT file system, as far as the model goes: clusters of one sector. */
#pragma once

#include "crash.h"

#define CLUSTERS   4096
#define ROOT       2
#define PER_FAT    128 /* entries in a sector of the FAT */
#define FAT_KEY    UINT64_C(1000000)
#define ENTRY      32
#define PER_DIR    16
#define ATTR_DIR   0x10
#define ATTR_LABEL 0x08
#define ATTR_LONG  0x0f

/* Where the characters of a long entry lie. */
static const uint8_t long_at[13] = { 1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30 };

static inline uint8_t checksum(const uint8_t name[static 11])
{
        uint8_t sum = 0;

        for (int i = 0; i < 11; i++)
                sum = (uint8_t)((sum >> 1 | sum << 7) + name[i]);
        return sum;
}
