/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A superblock of ext4 and its backup, on a partition that somebody else has written (image.h). Nothing but the checksum of
 * the first one is written, and only where a backup that is right says of the same file system. The first byte: whether
 * the checksum of the backup is repaired, and that of the first one; a byte that changes in the first one, and where. */
#include "image.h"

#include "storage/superblock.h"

#define FIRST    1024
#define SIZE     1024
#define CHECKSUM 0x3fc

static uint32_t checksum_of(const uint8_t *sb)
{
        return ~crc32c(0, sb, CHECKSUM);
}

static bool is_right(const uint8_t *sb)
{
        return get_le16(sb + 0x38) == 0xef53 && get_le32(sb + CHECKSUM) == checksum_of(sb);
}

/* Of the first backup, as the format has it; 0: it lies outside. */
static size_t place_of_backup(const uint8_t *sb)
{
        uint64_t group = get_le32(sb + 0x5c) & 0x200 ? get_le32(sb + 0x24c) : 1, block;
        unsigned log = 10 + get_le32(sb + 0x18) % 7;

        block = get_le32(sb + 0x14) + group * get_le32(sb + 0x20);
        return group > 0 && block < image_size >> log && (block << log) + SIZE <= image_size ? (size_t)block << log : 0;
}

static void image_written(size_t at, const uint8_t *data, size_t n)
{
        must(at >= FIRST && n <= SIZE && at + n <= FIRST + SIZE);
}

static void repair(size_t place)
{
        put_le32(image + place + CHECKSUM, checksum_of(image + place));
        memcpy(image_before + place, image + place, SIZE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct input in = { data, size };
        uint8_t bits = take_byte(&in), change = take_byte(&in), where = take_byte(&in);
        _cleanup_error_ struct error e = {};
        const uint8_t *first, *backup;
        size_t place;
        int r;

        image_take(&in);
        place = place_of_backup(image + FIRST);
        if (bits & 1 && place)
                repair(place);
        if (bits & 2)
                repair(FIRST);
        image[FIRST + where] ^= change;
        image_before[FIRST + where] ^= change;
        io_set_ops(&image_ops);
        r = superblock_mend(IMAGE_FD, &e);
        must(r <= 1 && (r < 0) == (e.message != NULL));
        must((r > 0) == (image_writes > 0));
        if (r > 0) {
                first = image + FIRST;
                must(is_right(first) && !is_right(image_before + FIRST));
                must(memcmp(first, image_before + FIRST, CHECKSUM) == 0);
                place = place_of_backup(first);
                backup = image + place;
                must(place && place != FIRST && is_right(backup));
                must(memcmp(first + 0x68, backup + 0x68, 16) == 0 && memcmp(first, backup, 8) == 0); /* UUID, sizes */
                must(superblock_mend(IMAGE_FD, NULL) == 0 && image_writes == 1);
        }
        io_set_ops(NULL);
        return 0;
}
