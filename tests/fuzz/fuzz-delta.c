/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A delta and its base. Whatever head, table and frames say: what reaches a sink is what the index says. Input: what is
 * repaired (one byte), the length of the base (two), the base, the delta, whose table is a zstd frame of one block as it is.
 */
#include "bundle.h"

#include <zstd.h>

#include "storage/disk.h"

#define KEEP_CHECKSUMS 1
#define UNKNOWN_SIZE   2
#define NO_BASE        4
#define BEFORE_TABLE   12 /* magic, descriptor, content size, block header */

/* Of each frame, in a table that is there as it is. */
static void repair_records(uint8_t *table, size_t size, const uint8_t *frames, const uint8_t *end)
{
        static const uint8_t as_it_is[] = { 0x28, 0xb5, 0x2f, 0xfd, 0xa0 };

        if (size < BEFORE_TABLE || memcmp(table, as_it_is, sizeof(as_it_is)) != 0)
                return;
        for (uint8_t *at = table + BEFORE_TABLE; at + DELTA_RECORD <= table + size; at += DELTA_RECORD) {
                size_t n = MIN((size_t)get_le32(at + R_STORED), (size_t)(end - frames));

                put_le32(at + R_CRC, n ? crc32c(0, frames, n) : 0);
                frames += n;
        }
}

static void repair(uint8_t *bytes, size_t size)
{
        uint8_t *head, *table;
        uint64_t before;
        struct header h;
        size_t url;

        if (size < HEADER_SIZE)
                return;
        put_le64(bytes + H_TOTAL, size);
        put_le32(bytes + H_CRC, crc32c(0, bytes, H_CRC));
        if (header_decode(bytes, &h, NULL) < 0 || h.major != BUNDLE_DELTA)
                return;
        before = HEADER_SIZE + (uint64_t)h.manifest + h.signatures;
        if (size < before + DELTA_HEAD + h.index)
                return;
        head = bytes + before;
        url = get_le16(head + D_URL);
        if (size < before + DELTA_HEAD + url + h.index + get_le32(head + D_TABLE))
                return;
        table = head + DELTA_HEAD + url + h.index;
        repair_records(table, get_le32(head + D_TABLE), table + get_le32(head + D_TABLE), bytes + size);
        put_le32(head + D_TABLE_CRC, crc32c(0, table, get_le32(head + D_TABLE)));
        put_le32(head + D_CRC, crc32c(crc32c(0, head, D_CRC), head + DELTA_HEAD, url));
}

static void check_head(const struct bundle *b)
{
        const struct bundle_delta *delta = bundle_delta(b);

        if (!delta)
                return;
        must(strnlen(delta->version, SLOT_VERSION_SIZE) < SLOT_VERSION_SIZE && delta->size <= IMAGE_MAX);
        must(!delta->url || (strlen(delta->url) <= DELTA_URL_MAX && delta_url_valid(delta->url)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct input all = { data, size }, in;
        uint8_t flags = take_byte(&all);
        size_t n = take_byte(&all), base_size, bytes_size;
        _cleanup_free_ char *base = NULL;
        _cleanup_free_ uint8_t *bytes = NULL;
        _cleanup_bundle_ struct bundle *b = NULL;
        struct range range = RANGE_CLOSED;
        struct trust trust = {};

        n |= (size_t)take_byte(&all) << 8;
        base = take_bytes(&all, n, false, &base_size);
        bytes = (uint8_t *)take_bytes(&all, all.size, false, &bytes_size);
        if (!(flags & KEEP_CHECKSUMS))
                repair(bytes, bytes_size);
        in = (struct input){ bytes, bytes_size };
        if (bundle_open(memory_source(&in, flags & UNKNOWN_SIZE ? UINT64_MAX : bytes_size), &trust, &b, NULL) < 0)
                return 0;
        check_head(b);
        if (bundle_delta(b) && !(flags & NO_BASE)) {
                range = (struct range){ .fd = memory_file(base, base_size), .size = base_size };
                bundle_use_base(b, &range, NULL);
        }
        extract(b);
        range_close(&range);
        return 0;
}
