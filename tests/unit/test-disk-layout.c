/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The reference layout made through libfdisk: what lies there already, sizes, and what is left of a failure. */
#include <sys/stat.h>

#include "base/sha256.h"
#include "slot/kinds.h"
#include "storage/content.h"

#include "disk-case.h"
#include "suite.h"

static void hash(const char *path, uint8_t digest[static DIGEST_SIZE])
{
        int fd = open(path, O_RDONLY | O_CLOEXEC);

        ck_assert_int_eq(sha256_fd(fd, 0, UINT64_MAX, digest), 0);
        close(fd);
}

/* Root partitions must not be mounted by discovery: the one with the higher label would win. */
START_TEST(hidden_from_discovery)
{
        struct layout_spec spec = spec_for(512);
        uint8_t table[5 * 128];
        int fd;

        make("image", &spec);
        fd = open("image", O_RDONLY | O_CLOEXEC);
        ck_assert_int_eq(io_pread(fd, table, sizeof(table), 1024), 0);
        for (size_t i = 0; i < 5; i++)
                ck_assert_int_eq(table[i * 128 + 48 + 7] >> 7, i >= 1 && i <= 3); /* bit 63 of the attributes */
        close(fd);
}
END_TEST

#define GPT        "printf 'label: gpt\\n,10M\\n' | sfdisk -q image"
#define ZERO_START "dd if=/dev/zero of=image bs=1M count=1 conv=notrunc status=none"
#define PUT_X(at)  "printf x | dd of=image bs=1 seek=" at " conv=notrunc status=none"

START_TEST(filesystems_are_known)
{
        static const struct {
                const char *command, *type;
        } rows[] = {
                { "true", "" },
                { "mkfs.ext4 -q -F image", "ext4" },
                { "mkfs.vfat image >/dev/null", "vfat" },
                { "mkfs.ext4 -q -F image && " ZERO_START, "" },
        };
        char type[32] = "untouched";

        ck_assert_int_eq(disk_filesystem("gone", type), -ENOENT);
        ck_assert_str_eq(type, "untouched");
        make_file("image", MIB(64));
        ck_assert_int_eq(system(rows[_i].command), 0);
        ck_assert_int_eq(disk_filesystem("image", type), 0);
        ck_assert_str_eq(type, rows[_i].type);
}
END_TEST

START_TEST(what_holds_something_is_refused)
{
        static const struct {
                const char *command; /* puts it there */
                const char *says;
        } rows[] = {
                { "mkfs.ext4 -q -F image", "a filesystem of type ext4 (its signature is at byte 1080)" },
                { "mkswap -q image 2>/dev/null || mkswap image >/dev/null", "swap" },
                { PUT_X("700000"), "unknown kind at byte 700000" },
                { PUT_X("1048576"), "unknown kind at byte 1048576" },
                { PUT_X("33333333"), "unknown kind at byte 33333333" },
                { PUT_X("67108863"), "unknown kind at byte 67108863" },
                { "printf 'label: dos\\n,10M\\n' | sfdisk -q image", "dos" },
                { GPT, "a partition table of type gpt (its signature is at byte 512)" },
                { GPT " && " ZERO_START, "gpt (its signature is at byte 67108352)" }, /* the backup at the end alone */
                /* Two, which blkid(8) would not name, the one with a wrong checksum */
                { "mkfs.ext4 -q -F image && printf 'LABELONE\\1\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\40\\0\\0\\0LVM2 001' |"
                  "dd of=image bs=1 seek=512 conv=notrunc status=none",
                  "volume group of type LVM2_member (its signature is at byte 536)" },
                { "mkfs.ext4 -q -F image && " PUT_X("1100"), "ext4" },
                { GPT " && dd if=/dev/zero of=image bs=512 seek=1 count=1 conv=notrunc status=none &&"
                      "truncate -s 65M image", /* no GPT is left but in name */
                  "PMBR (its signature is at byte 510)" },
                /* A FAT far behind what a look at the beginning would find */
                { "mkfs.vfat --offset 81920 image 10240 >/dev/null 2>&1", "unknown kind at byte 41943" },
        };
        struct layout_spec spec = spec_for(512);
        uint8_t before[DIGEST_SIZE], after[DIGEST_SIZE];
        struct layout layout = { .n_parts = 77 };
        struct error e = {};
        struct disk disk;

        spec.image_size = 0;
        make_file("image", MIB(64));
        ck_assert_int_eq(system(rows[_i].command), 0);
        hash("image", before);
        for (int dry = 0; dry < 2; dry++) {
                spec.dry_run = dry;
                ck_assert_int_eq(layout_make("image", &spec, &layout, &e), -EEXIST);
                ck_assert_ptr_eq(e.kind, &kind_disk_not_empty);
                ck_assert_msg(strstr(e.message, rows[_i].says) != NULL, "%s", e.message);
                ck_assert_msg(strstr(e.hint, "--force") != NULL, "%s", e.hint);
                ck_assert_uint_eq(layout.n_parts, 77); /* untouched */
                error_done(&e);
        }
        spec.force = true;
        ck_assert_int_eq(layout_make("image", &spec, &layout, NULL), 0);
        layout_done(&layout);
        hash("image", after);
        ck_assert_mem_eq(before, after, DIGEST_SIZE);
        spec.dry_run = false;
        make("image", &spec);
        find("image", &disk);
}
END_TEST

/* All zeros, written or never written. */
START_TEST(zeros_are_nothing)
{
        struct layout_spec spec = spec_for(512);

        make_file("image", MIB(64));
        ck_assert_int_eq(system("dd if=/dev/zero of=image bs=1M count=50 conv=notrunc status=none"), 0);
        make("image", &spec);
}
END_TEST

static ssize_t broken_pread(int fd, void *buf, size_t n, uint64_t offset)
{
        return offset <= MIB(20) && offset + n > MIB(20) ? -EIO : io_system_ops.pread(fd, buf, n, offset);
}

/* As on a device, of which not every byte is read. 2 GiB: the samples are 2 MiB apart. */
START_TEST(a_large_device_is_sampled)
{
        static const struct {
                uint64_t offset;
                bool found;
        } rows[] = {
                { 0, true },
                { MIB(1) - 1, true },
                { GIB(2) - 1, true },
                { GIB(2) - MIB(1), true },
                { MIB(701) + 999999, true }, /* the beginning of a part of the layout */
                { MIB(702), true },          /* a sample */
                { MIB(702) + 4095, true },   /* its last byte */
                { MIB(702) + 4096, false },  /* nobody looks there */
                { GIB(2) - MIB(2), true },   /* the last sample */
                { GIB(2) - MIB(1) - 1, false },
        };
        struct layout layout = { .n_parts = 1, .disk_size = GIB(2), .parts[0] = { .offset = MIB(701), .size = MIB(900) } };
        _cleanup_free_ char *found = NULL, *all = NULL;
        char says[64];
        int fd;

        make_file("image", GIB(2));
        write_at("image", rows[_i].offset, "x");
        snprintf(says, sizeof(says), "data of an unknown kind at byte %llu", (unsigned long long)rows[_i].offset);
        fd = open("image", O_RDONLY | O_CLOEXEC);
        ck_assert_int_eq(content_find(fd, &layout, false, NULL, &found), 0);
        if (rows[_i].found)
                ck_assert_str_eq(found, says);
        else
                ck_assert_ptr_null(found);
        ck_assert_int_eq(content_find(fd, &layout, true, NULL, &all), 0);
        ck_assert_str_eq(all, says);
        close(fd);
}
END_TEST

START_TEST(what_cannot_be_read_is_not_nothing)
{
        struct layout_spec spec = spec_for(512);
        struct io_ops ops = io_system_ops;
        struct layout layout;
        struct error e = {};

        make_file("image", MIB(64));
        ck_assert_int_eq(system("dd if=/dev/zero of=image bs=1M count=50 conv=notrunc status=none"), 0);
        ops.pread = broken_pread;
        io_set_ops(&ops);
        ck_assert_int_eq(layout_make("image", &spec, &layout, &e), -EEXIST);
        io_set_ops(NULL);
        ck_assert_msg(strstr(e.message, "cannot be read at byte") != NULL, "%s", e.message);
        error_done(&e);
}
END_TEST

/* Nothing of the table that lay there with other sectors is found again. */
START_TEST(other_sectors_over_the_old_ones)
{
        struct layout_spec old = spec_for(_i ? 4096 : 512), new = spec_for(_i ? 512 : 4096);
        struct disk disk;
        int fd;

        old.image_size = new.image_size = MIB(300);
        make("image", &old);
        new.force = true;
        make("image", &new);
        find("image", &disk);
        ck_assert_uint_eq(disk.sector_size, new.sector_size);
        ck_assert_uint_eq(disk.esp.size, new.esp_size);
        /* The primary table is lost: the new backup serves, not the old one. */
        fd = open("image", O_RDWR | O_CLOEXEC);
        ck_assert_int_eq(io_zero(fd, 512, MIB(1) - 512), 0);
        close(fd);
        find("image", &disk);
        ck_assert_uint_eq(disk.sector_size, new.sector_size);
        ck_assert_uint_eq(disk.esp.size, new.esp_size);
}
END_TEST

static struct {
        int calls, fail_at;
        volatile bool cancelled;
} fault;

/* 1: this call is not the one. */
static int meet_fault(void)
{
        if (fault.calls++ != fault.fail_at)
                return 1;
        if (fault.cancelled)
                return -EIO;
        fault.cancelled = true;
        return 0;
}

static int faulty_fsync(int fd)
{
        int r = meet_fault();

        return r > 0 ? io_system_ops.fsync(fd) : r;
}

static int faulty_zero(int fd, uint64_t offset, uint64_t length)
{
        int r = meet_fault();

        return r > 0 ? io_system_ops.zero(fd, offset, length) : r;
}

/* Whatever goes wrong and whenever: an image that was made here is gone, one that was there has its size again. */
START_TEST(nothing_is_left_of_a_failure)
{
        struct layout_spec spec = spec_for(512);
        struct io_ops ops = io_system_ops;
        bool interrupt = _i % 2, empty = _i / 2;
        struct layout layout;
        struct stat st;
        int at, r = -1;

        ops.fsync = faulty_fsync;
        ops.zero = faulty_zero;
        io_set_ops(&ops);
        for (at = 0; at < 40 && r < 0; at++) {
                struct error e = {};

                fault = (typeof(fault)){ .fail_at = at, .cancelled = !interrupt };
                spec.cancelled = interrupt ? &fault.cancelled : NULL;
                if (empty)
                        make_file("image", 0);
                r = layout_make("image", &spec, &layout, &e);
                if (r < 0) {
                        ck_assert_int_eq(r, interrupt ? -EINTR : -EIO);
                        ck_assert_ptr_eq(e.kind, interrupt ? &kind_interrupted : &kind_failed);
                        ck_assert_int_eq(stat("image", &st), empty ? 0 : -1);
                        ck_assert(!empty || st.st_size == 0);
                }
                error_done(&e);
        }
        io_set_ops(NULL);
        ck_assert_int_eq(r, 0);
        ck_assert_int_gt(at, 2); /* some did fail */
        layout_done(&layout);
}
END_TEST

START_TEST(the_size_of_an_image)
{
        static const struct {
                uint64_t exists, size; /* 0: does not exist */
                int result;
                uint64_t becomes; /* 0: does not exist after */
        } rows[] = {
                { 0, MIB(64), 0, MIB(64) },
                { 0, MIB(64) + 12345, 0, MIB(64) }, /* whole MiB */
                { MIB(64), MIB(64), 0, MIB(64) },
                { MIB(64), MIB(64) + 5, 0, MIB(64) },
                { MIB(64) + 1, 0, 0, MIB(64) + 1 }, /* used as it is */
                { MIB(80), MIB(64), -EEXIST, MIB(80) },
                { MIB(64), MIB(80), -EEXIST, MIB(64) },
                { 0, 4096, -ENOSPC, 0 },
                { 0, MIB(49), -ENOSPC, 0 },
                { 0, MIB(54), -ENOSPC, 0 },
                { 0, MIB(53) + MIB(2), 0, MIB(55) },
                { 0, UINT64_C(1) << 63, -EFBIG, 0 },
                { 0, UINT64_MAX, -EFBIG, 0 },
        };
        struct layout_spec spec = { .esp_size = MIB(34), .root_size = MIB(5), .image_size = rows[_i].size };
        struct layout layout;
        struct error e = {};
        struct stat st;
        int r;

        if (rows[_i].exists)
                make_file("image", rows[_i].exists);
        for (int dry = 1; dry >= 0; dry--) {
                spec.dry_run = dry;
                r = layout_make("image", &spec, &layout, &e);
                ck_assert_msg(r == rows[_i].result, "%d: %s", r, e.message);
                if (r < 0) {
                        ck_assert_ptr_eq(e.kind, &kind_usage);
                        error_done(&e);
                } else {
                        ck_assert_uint_eq(layout.disk_size, rows[_i].becomes);
                        layout_done(&layout);
                }
                if (dry && !rows[_i].exists)
                        ck_assert_int_eq(access("image", F_OK), -1);
        }
        r = stat("image", &st);
        ck_assert_int_eq(r, rows[_i].becomes ? 0 : -1);
        ck_assert(r < 0 || (uint64_t)st.st_size == rows[_i].becomes);
}
END_TEST

START_TEST(a_dry_run_makes_no_file)
{
        struct layout_spec spec = spec_for(512);
        struct layout layout;

        spec.dry_run = true;
        spec.root_size = 0;
        spec.image_size = GIB(100);
        ck_assert_int_eq(layout_make("image", &spec, &layout, NULL), 0);
        ck_assert_int_eq(access("image", F_OK), -1);
        ck_assert_ptr_null(layout.found);
        ck_assert_uint_eq(layout.parts[2].size, GIB(16)); /* the most that is taken unasked */
        layout_done(&layout);
}
END_TEST

START_TEST(layouts_that_cannot_be)
{
        static const struct {
                struct layout_spec spec;
                uint64_t size;
                int result;
        } rows[] = {
                { { .esp_size = MIB(34), .root_size = MIB(4), .n_slots = 1 }, MIB(64), -EINVAL },
                { { .esp_size = MIB(34), .root_size = MIB(4), .n_slots = 9 }, MIB(64), -EINVAL },
                { { .esp_size = MIB(33), .root_size = MIB(4) }, MIB(64), -EINVAL },
                { { .esp_size = MIB(34), .root_size = 4096 }, MIB(64), -EINVAL },
                { { .esp_size = MIB(34), .root_size = MIB(4), .sector_size = 520 }, MIB(64), -EINVAL },
                { { .esp_size = MIB(34), .root_size = MIB(4) }, MIB(50), -ENOSPC },
                { { .esp_size = MIB(34), .root_size = UINT64_C(1) << 63 }, MIB(64), -ENOSPC },
                { { .root_size = MIB(4) }, MIB(64), -ENOSPC }, /* the ESP takes 512 MiB unasked */
                { { .esp_size = MIB(34) }, 0, -ENOSPC },
                { { .esp_size = UINT64_MAX, .root_size = MIB(4) }, MIB(64), -ENOSPC }, /* rounded up it would be 0 */
                { { .esp_size = MIB(34), .root_size = UINT64_MAX }, MIB(64), -ENOSPC },
                { { .esp_size = GIB(2048), .root_size = MIB(4) }, GIB(4000), -EFBIG },
        };
        struct layout layout;
        struct error e = {};
        struct stat st;

        make_file("image", rows[_i].size);
        ck_assert_int_eq(layout_make("image", &rows[_i].spec, &layout, &e), rows[_i].result);
        ck_assert_ptr_eq(e.kind, &kind_usage);
        error_done(&e);
        ck_assert_int_eq(stat("image", &st), 0);
        ck_assert_int_eq(st.st_blocks, 0); /* nothing was written */
}
END_TEST

int main(void)
{
        Suite *s = suite_create("disk-layout");
        TCase *t = tcase_create("disk");

        tcase_set_timeout(t, 120);
        tcase_add_checked_fixture(t, scratch_begin, scratch_end);
        tcase_add_test(t, hidden_from_discovery);
        tcase_add_loop_test(t, filesystems_are_known, 0, 4);
        tcase_add_loop_test(t, what_holds_something_is_refused, 0, 13);
        tcase_add_test(t, zeros_are_nothing);
        tcase_add_loop_test(t, a_large_device_is_sampled, 0, 10);
        tcase_add_test(t, what_cannot_be_read_is_not_nothing);
        tcase_add_loop_test(t, other_sectors_over_the_old_ones, 0, 2);
        tcase_add_loop_test(t, nothing_is_left_of_a_failure, 0, 4);
        tcase_add_loop_test(t, the_size_of_an_image, 0, 13);
        tcase_add_test(t, a_dry_run_makes_no_file);
        tcase_add_loop_test(t, layouts_that_cannot_be, 0, 12);
        suite_add_tcase(s, t);
        return suite_run(s);
}
