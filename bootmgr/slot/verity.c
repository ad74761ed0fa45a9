/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "slot/verity.h"

#include <inttypes.h>

#include "base/buf.h"
#include "base/parse.h"

#define HASHES (VERITY_BLOCK / VERITY_HASH_SIZE) /* in one block of the tree */

/* Each level has the hashes of the one below, down to a single block. */
uint64_t verity_size(uint64_t blocks)
{
        uint64_t all = blocks + 1;

        for (uint64_t level = blocks; level > 1;) {
                level = (level + HASHES - 1) / HASHES;
                all += level;
        }
        return all * VERITY_BLOCK;
}

void verity_format(const struct verity *v, char text[static VERITY_TEXT_SIZE])
{
        char hash[2 * VERITY_HASH_SIZE + 1];

        hex_encode(v->root_hash, VERITY_HASH_SIZE, hash);
        snprintf(text, VERITY_TEXT_SIZE, "%" PRIu64 ":%s", MIN(v->blocks, VERITY_MAX), hash);
}

int verity_parse(const char *text, struct verity *ret)
{
        const char *colon = strchr(text, ':');
        char number[16], again[VERITY_TEXT_SIZE];
        struct verity v;

        if (!colon || (size_t)(colon - text) >= sizeof(number))
                return -EINVAL;
        memcpy(number, text, (size_t)(colon - text));
        number[colon - text] = '\0';
        if (parse_u64(number, &v.blocks) < 0 || v.blocks == 0 || v.blocks > VERITY_MAX ||
            hex_decode(colon + 1, v.root_hash, VERITY_HASH_SIZE) < 0)
                return -EINVAL;
        verity_format(&v, again);
        if (!streq(again, text)) /* leading zeros, upper case */
                return -EINVAL;
        *ret = v;
        return 0;
}

int verity_from_cmdline(const char *cmdline, struct verity *ret)
{
        _cleanup_free_ char *text = cmdline_get(cmdline, VERITY_KEY);

        return text ? verity_parse(text, ret) : cmdline_has(cmdline, VERITY_KEY) ? -EINVAL : -ENOENT;
}
