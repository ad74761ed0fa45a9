/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A root with a hash tree of dm-verity behind its filesystem:
 *
 *      filesystem, `blocks` of 4096 bytes | superblock | the tree, its root first
 *
 * One form only: version 1 of the format (the kernel's Documentation/admin-guide/device-mapper/verity.rst), SHA-256, blocks
 * of 4096 bytes on either side, no salt. So the two numbers here say everything. */
#pragma once

#include "base/util.h"

#define VERITY_BLOCK     4096
#define VERITY_HASH_SIZE 32
#define VERITY_MAX       (UINT64_C(1) << 38) /* blocks: what an image may have */
#define VERITY_KEY       "bootmgr.verity"    /* on the kernel command line: verity_format() behind "=" */
#define VERITY_TEXT_SIZE (12 + 1 + 2 * VERITY_HASH_SIZE + 1)

struct verity {
        uint64_t blocks; /* of the filesystem; 0: there is no tree */
        uint8_t root_hash[VERITY_HASH_SIZE];
};

static inline bool verity_is_set(const struct verity *v)
{
        return v->blocks > 0;
}

/* Bytes of filesystem, superblock and tree together. */
uint64_t verity_size(uint64_t blocks);
/* Where the tree itself begins, in blocks. */
static inline uint64_t verity_tree_start(uint64_t blocks)
{
        return blocks + 1;
}

/* "BLOCKS:ROOTHASH". */
void verity_format(const struct verity *v, char text[static VERITY_TEXT_SIZE]);
/* Exactly what verity_format() writes; -EINVAL. */
int verity_parse(const char *text, struct verity *ret);
/* What a kernel command line, or the options of a boot entry, say: 0; -ENOENT: nothing; -EINVAL: what cannot be. */
int verity_from_cmdline(const char *cmdline, struct verity *ret);
