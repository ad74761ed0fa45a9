/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A superblock of ext4 that a power cut has torn is made right, and no other. Filesystems and superblocks are made, and
 * judged, by e2fsprogs. */
#include "base/io.h"
#include "storage/superblock.h"

#include "scratch.h"
#include "suite.h"

#define PLACE  1024
#define SECTOR 512
#define SIZE   1024

static const struct form {
        const char *mkfs;
        unsigned mib;
} forms[] = {
        { "-b 1024", 24 },
        { "-b 4096", 160 },
        { "-b 2048 -O sparse_super2", 80 },
        { "-b 1024 -O metadata_csum_seed,orphan_file", 24 },
        { "-b 4096 -O bigalloc,^resize_inode", 2100 },
};

static int make(const struct form *f)
{
        int fd;

        must("truncate -s %uM fs; mke2fs -q -t ext4 %s fs", f->mib, f->mkfs);
        fd = open("fs", O_RDWR | O_CLOEXEC);
        ck_assert_int_ge(fd, 0);
        return fd;
}

static void get(int fd, uint8_t sb[static SIZE])
{
        ck_assert_int_eq(io_pread(fd, sb, SIZE, PLACE), 0);
}

static void put(int fd, const uint8_t sb[static SIZE])
{
        ck_assert_int_eq(io_pwrite(fd, sb, SIZE, PLACE), 0);
}

static int mend(int fd)
{
        _cleanup_error_ struct error e = {};
        int r = superblock_mend(fd, &e);

        ck_assert(r >= 0 || e.message);
        return r;
}

/* What use changes, as others' tool writes it. */
static void change(void)
{
        static const char *const values[] = { "mnt_count 7",      "wtime 20260102030405", "mtime 20260102030404",
                                              "kbytes_written 9", "last_mounted /data",   "lastcheck 20260101000000" };

        for (size_t i = 0; i < ARRAY_SIZE(values); i++)
                must("debugfs -w -R 'ssv %s' fs 2>log", values[i]);
}

START_TEST(both_halves_of_a_torn_one_are_taken)
{
        uint8_t versions[2][SIZE], torn[SIZE], found[SIZE];
        int fd = make(&forms[_i]);

        get(fd, versions[0]);
        change();
        get(fd, versions[1]);
        ck_assert_mem_ne(versions[0], versions[1], SECTOR);
        ck_assert_mem_ne(versions[0] + SECTOR, versions[1] + SECTOR, SECTOR);
        for (int first = 0; first < 2; first++) {
                memcpy(torn, versions[first], SECTOR);
                memcpy(torn + SECTOR, versions[!first] + SECTOR, SECTOR);
                put(fd, torn);
                ck_assert_msg(system("e2fsck -p fs >log 2>&1") != 0, "e2fsck mends it by itself");
                put(fd, torn);
                ck_assert_int_eq(mend(fd), 1);
                get(fd, found);
                ck_assert_mem_eq(found, versions[first], SIZE);
                must("e2fsck -fn fs >log");
                ck_assert_int_eq(mend(fd), 0);
                get(fd, found);
                ck_assert_mem_eq(found, versions[first], SIZE);
        }
        close(fd);
}
END_TEST

/* Offsets of the bytes that use, e2fsck or tune2fs change without the backups. */
static bool may_change(unsigned at)
{
        static const struct {
                uint16_t from, to;
        } fields[] = {
                { 0x0c, 0x14 }, /* s_free_blocks_count_lo, s_free_inodes_count */
                { 0x2c, 0x38 }, /* s_mtime, s_wtime, s_mnt_count, s_max_mnt_count */
                { 0x3a, 0x48 }, /* s_state, s_errors, s_minor_rev_level, s_lastcheck, s_checkinterval */
                { 0x50, 0x54 }, /* s_def_resuid, s_def_resgid */
                { 0x5a, 0x5c }, /* s_block_group_nr */
                { 0x78,
                  0xd0 }, /* s_volume_name, s_last_mounted, s_algorithm_usage_bitmap, s_prealloc_*, s_reserved_gdt_blocks */
                { 0xe8, 0xec },   /* s_last_orphan */
                { 0x100, 0x104 }, /* s_default_mount_opts */
                { 0x10c, 0x150 }, /* s_jnl_blocks */
                { 0x158, 0x174 }, /* s_free_blocks_count_hi … s_mmp_block, s_raid_stripe_width */
                { 0x176, 0x24c }, /* s_encryption_level … s_kbytes_written, errors, s_mount_opts, s_overhead_blocks */
                { 0x268, 0x270 }, /* s_lpf_ino, s_prj_quota_inum */
                { 0x274, 0x3fc }, /* s_wtime_hi … s_reserved */
        };

        for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
                if (at >= fields[i].from && at < fields[i].to)
                        return true;
        return false;
}

/* ext_attr, needs_recovery, large_file, orphan_present. */
static bool may_change_bit(unsigned at, unsigned bit)
{
        return may_change(at) || (at == 0x5c && bit == 3) || (at == 0x60 && bit == 2) || (at == 0x64 && bit == 1) ||
               (at == 0x66 && bit == 0);
}

START_TEST(what_is_damaged_otherwise_stays_as_it_is)
{
        uint8_t good[SIZE], bad[SIZE], found[SIZE];
        int fd = make(&forms[0]);

        get(fd, good);
        for (unsigned at = 0; at < 0x3fc; at++)
                for (unsigned bit = 0; bit < 8; bit++) {
                        memcpy(bad, good, SIZE);
                        bad[at] ^= (uint8_t)(1 << bit);
                        put(fd, bad);
                        if (may_change_bit(at, bit)) {
                                ck_assert_msg(mend(fd) == 1, "offset %#x, bit %u", at, bit);
                                continue;
                        }
                        ck_assert_msg(mend(fd) != 1, "offset %#x, bit %u", at, bit);
                        get(fd, found);
                        ck_assert_mem_eq(found, bad, SIZE);
                }
        close(fd);
}
END_TEST

START_TEST(a_backup_must_say_so)
{
        static const struct {
                const char *how;
                int expected;
        } rows[] = {
                { "true", 1 },
                { "printf x | dd of=fs bs=1 seek=$((8193 * 1024 + 0x78)) conv=notrunc 2>log", -EUCLEAN },
                { "dd if=/dev/zero of=fs bs=1024 seek=8193 count=1 conv=notrunc 2>log", -EUCLEAN },
                { "truncate -s 8M fs", -EUCLEAN },
        };
        uint8_t torn[SIZE], found[SIZE];
        int fd = make(&forms[0]);

        must("%s", rows[_i].how);
        get(fd, torn);
        torn[0x3fc] ^= 1;
        put(fd, torn);
        ck_assert_int_eq(mend(fd), rows[_i].expected);
        get(fd, found);
        ck_assert_int_eq(memcmp(found, torn, SIZE) == 0, rows[_i].expected < 0);
        close(fd);
}
END_TEST

START_TEST(what_has_no_checksum_is_left)
{
        static const char *const rows[] = { "mke2fs -q -t ext4 -O ^metadata_csum fs", "mke2fs -q -t ext2 fs", "true" };
        uint8_t sb[SIZE], found[SIZE];
        int fd;

        must("truncate -s 24M fs; %s", rows[_i]);
        fd = open("fs", O_RDWR | O_CLOEXEC);
        get(fd, sb);
        sb[0x30] ^= 1;
        put(fd, sb);
        ck_assert_int_eq(mend(fd), 0);
        get(fd, found);
        ck_assert_mem_eq(found, sb, SIZE);
        close(fd);
        fd = open("short", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        ck_assert_int_eq(mend(fd), -EIO);
        close(fd);
}
END_TEST

START_TEST(errors_that_were_found_are_seen)
{
        static const struct {
                const char *how;
                int expected;
        } rows[] = {
                { "mke2fs -q -t ext4 fs", 0 },
                { "mke2fs -q -t ext4 fs; tune2fs -E force_fsck fs >log", 1 },
                { "mke2fs -q -t ext4 fs; debugfs -w -R 'ssv state 0' fs 2>log", 0 }, /* not unmounted, e.g. by a power cut */
                { "mke2fs -q -t ext4 fs; debugfs -w -R 'ssv state 2' fs 2>log", 1 },
                { "mke2fs -q -t ext2 fs; tune2fs -E force_fsck fs >log", 1 },
                { "mke2fs -q -t ext4 fs; tune2fs -E force_fsck fs >log; e2fsck -p fs >log || [ $? -eq 1 ]", 0 },
                { "tr '\\0' '\\377' </dev/zero | head -c 24M >fs", 0 },
                { "truncate -s 512 fs", -EIO },
        };
        int fd;

        must("truncate -s 24M fs; %s", rows[_i].how);
        fd = open("fs", O_RDONLY | O_CLOEXEC);
        ck_assert_int_eq(superblock_has_errors(fd), rows[_i].expected);
        close(fd);
}
END_TEST

static int failing;

static ssize_t no_read(int fd, void *buf, size_t n, uint64_t offset)
{
        return failing-- == 0 ? -EIO : io_system_ops.pread(fd, buf, n, offset);
}

static ssize_t no_write(int fd, const void *buf, size_t n, uint64_t offset)
{
        ck_assert_uint_eq(offset, PLACE + SECTOR);
        ck_assert_uint_eq(n, SECTOR);
        return failing-- == 0 ? -EIO : io_system_ops.pwrite(fd, buf, n, offset);
}

START_TEST(disk_errors_are_told)
{
        struct io_ops ops = io_system_ops;
        int fd = make(&forms[0]), r;
        uint8_t torn[SIZE];

        ops.pread = no_read;
        ops.pwrite = no_write;
        get(fd, torn);
        torn[0x3fc] ^= 1;
        for (int call = 0; call < 4; call++) {
                put(fd, torn);
                failing = call;
                io_set_ops(&ops);
                r = mend(fd);
                io_set_ops(NULL);
                /* The backup that cannot be read says nothing. */
                ck_assert_int_eq(r, call == 3 ? 1 : call == 1 ? -EUCLEAN : -EIO);
        }
        close(fd);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("superblock");
        TCase *tc = tcase_create("superblock");

        tcase_set_timeout(tc, 120);
        tcase_add_checked_fixture(tc, scratch_begin, scratch_end);
        tcase_add_loop_test(tc, both_halves_of_a_torn_one_are_taken, 0, ARRAY_SIZE(forms));
        tcase_add_test(tc, what_is_damaged_otherwise_stays_as_it_is);
        tcase_add_loop_test(tc, a_backup_must_say_so, 0, 4);
        tcase_add_loop_test(tc, what_has_no_checksum_is_left, 0, 3);
        tcase_add_loop_test(tc, errors_that_were_found_are_seen, 0, 8);
        tcase_add_test(tc, disk_errors_are_told);
        suite_add_tcase(s, tc);
        return suite_run(s);
}
