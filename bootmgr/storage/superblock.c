/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* ext4: Documentation/filesystems/ext4/super.rst of Linux. */
#include "storage/superblock.h"

#include <fcntl.h>

#include "base/buf.h"
#include "base/io.h"

#define SECTOR        512
#define SIZE          1024
#define PLACE         1024 /* of the first one; a backup lies at the start of its group */
#define MAGIC         0xef53
#define BLOCK_LOG     6 /* the largest block has 64 KiB */
#define CRC32C        1
#define FIRST_DATA    0x14
#define BLOCK_SIZE    0x18
#define PER_GROUP     0x20
#define MAGIC_AT      0x38
#define STATE         0x3a
#define COMPAT        0x5c
#define INCOMPAT      0x60
#define RO_COMPAT     0x64
#define CHECKSUM_TYPE 0x175
#define BACKUPS       0x24c
#define CHECKSUM      0x3fc

#define STATE_ERRORS         0x2u
#define COMPAT_EXT_ATTR      0x8u /* set with the first extended attribute */
#define COMPAT_SPARSE_SUPER2 0x200u
#define INCOMPAT_RECOVER     0x4u
#define RO_COMPAT_LARGE_FILE 0x2u /* set with the first large file */
#define RO_COMPAT_METADATA   0x400u
#define RO_COMPAT_ORPHANS    0x10000u

/* Without the inversion at the end that crc32c() has. */
static uint32_t checksum(const uint8_t *sb)
{
        return ~crc32c(0, sb, CHECKSUM);
}

static bool has_checksum(const uint8_t *sb)
{
        return get_le16(sb + MAGIC_AT) == MAGIC && (get_le32(sb + RO_COMPAT) & RO_COMPAT_METADATA) &&
               sb[CHECKSUM_TYPE] == CRC32C && get_le32(sb + BLOCK_SIZE) <= BLOCK_LOG;
}

static bool is_right(const uint8_t *sb)
{
        return get_le32(sb + CHECKSUM) == checksum(sb);
}

/* What mkfs decided; what a resize or tune2fs changes, it changes in the backups, too. */
static bool is_same_filesystem(const uint8_t *a, const uint8_t *b)
{
        static const struct {
                uint16_t from, to;
        } fixed[] = {
                { 0x00, 0x0c },   /* inodes, blocks, reserved blocks */
                { 0x14, 0x2c },   /* first block, sizes of blocks, clusters and groups */
                { 0x38, 0x3a },   /* the magic number */
                { 0x48, 0x50 },   /* creator, revision */
                { 0x54, 0x5a },   /* first inode, size of an inode */
                { 0x68, 0x78 },   /* UUID */
                { 0xd0, 0xe8 },   /* the journal */
                { 0xec, 0x100 },  /* hash seed, size of a group's descriptor */
                { 0x104, 0x10c }, /* first meta group, when it was made */
                { 0x150, 0x158 }, /* high halves of counts of blocks */
                { 0x174, 0x176 }, /* groups per flex group, kind of checksum */
                { 0x24c, 0x268 }, /* where backups are, encryption */
                { 0x270, 0x274 }, /* the seed of checksums */
        };
        static const struct {
                uint16_t at;
                uint32_t may_differ;
        } features[] = {
                { COMPAT, COMPAT_EXT_ATTR },
                { INCOMPAT, INCOMPAT_RECOVER },
                { RO_COMPAT, RO_COMPAT_LARGE_FILE | RO_COMPAT_ORPHANS },
        };

        for (size_t i = 0; i < ARRAY_SIZE(fixed); i++)
                if (memcmp(a + fixed[i].from, b + fixed[i].from, fixed[i].to - fixed[i].from) != 0)
                        return false;
        for (size_t i = 0; i < ARRAY_SIZE(features); i++)
                if ((get_le32(a + features[i].at) ^ get_le32(b + features[i].at)) & ~features[i].may_differ)
                        return false;
        return true;
}

/* Where the first backup lies, in bytes: in group 1, unless the filesystem says where. 0: there is none. */
static uint64_t backup_place(const uint8_t *sb)
{
        uint32_t group = get_le32(sb + COMPAT) & COMPAT_SPARSE_SUPER2 ? get_le32(sb + BACKUPS) : 1;
        uint64_t block = get_le32(sb + FIRST_DATA) + (uint64_t)group * get_le32(sb + PER_GROUP);

        return group > 0 ? block << (10 + get_le32(sb + BLOCK_SIZE)) : 0;
}

int superblock_mend(int fd, struct error *e)
{
        uint8_t sb[SIZE], backup[SIZE];
        uint64_t place;
        int r;

        r = io_pread(fd, sb, sizeof(sb), PLACE);
        if (r < 0)
                return fail_errno(e, r, "cannot read the superblock");
        if (!has_checksum(sb) || is_right(sb))
                return 0;
        place = backup_place(sb);
        r = place > 0 ? io_pread(fd, backup, sizeof(backup), place) : -EIO;
        if (r < 0 || !has_checksum(backup) || !is_right(backup) || !is_same_filesystem(sb, backup))
                return fail(e, -EUCLEAN, NULL,
                            "the checksum of the superblock does not fit, and a backup does not say that it is torn");
        put_le32(sb + CHECKSUM, checksum(sb));
        /* Not flushed: who mounts or checks it reads the same cache, and what is lost with another cut is done again. */
        r = io_pwrite(fd, sb + SECTOR, SECTOR, PLACE + SECTOR);
        return r < 0 ? fail_errno(e, r, "cannot write the superblock") : 1;
}

int superblock_has_errors(int fd)
{
        uint8_t sb[SIZE];
        int r = io_pread(fd, sb, sizeof(sb), PLACE);

        return r < 0 ? r : get_le16(sb + MAGIC_AT) == MAGIC && (get_le16(sb + STATE) & STATE_ERRORS);
}

int superblock_mend_device(const char *node, struct error *e)
{
        _cleanup_close_ int fd = io_open(AT_FDCWD, node, O_RDWR | O_EXCL, 0);

        return fd < 0 ? fail_errno(e, fd, "cannot open %s", node) : superblock_mend(fd, e);
}
