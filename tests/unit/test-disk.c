/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The reference layout on image files: made through libfdisk, found again through libblkid, opened as ranges. */
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/io.h"
#include "base/sha256.h"
#include "slot/kinds.h"
#include "storage/content.h"
#include "storage/table.h"

/* Check has a macro of this name. */
#include "scratch.h"
#include "suite.h"
#undef fail

static void make_file(const char *path, uint64_t size)
{
        int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(ftruncate(fd, (off_t)size), 0);
        close(fd);
}

static void write_at(const char *path, uint64_t offset, const char *text)
{
        int fd = open(path, O_WRONLY | O_CLOEXEC);

        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(io_pwrite(fd, text, strlen(text), offset), 0);
        close(fd);
}

static void hash(const char *path, uint8_t digest[static DIGEST_SIZE])
{
        int fd = open(path, O_RDONLY | O_CLOEXEC);

        ck_assert_int_eq(sha256_fd(fd, 0, UINT64_MAX, digest), 0);
        close(fd);
}

/* With 4096-byte sectors FAT32 needs 256 MiB. */
static struct layout_spec spec_for(unsigned sector)
{
        return (struct layout_spec){ .esp_size = sector == 4096 ? MIB(260) : MIB(34),
                                     .root_size = MIB(4),
                                     .sector_size = sector,
                                     .image_size = sector == 4096 ? MIB(300) : MIB(64) };
}

static void make(const char *path, const struct layout_spec *spec)
{
        struct layout layout;
        struct error e = {};
        int r = layout_make(path, spec, &layout, &e);

        ck_assert_msg(r == 0, "%s", e.message);
        layout_done(&layout);
}

static void find(const char *path, struct disk *disk)
{
        struct disk_spec spec = { .path = path };
        struct error e = {};
        int r = disk_find(&spec, disk, &e);

        ck_assert_msg(r == 0, "%s", e.message);
}

START_TEST(the_layout_is_found_as_it_was_made)
{
        unsigned sector = _i ? 4096 : 512;
        struct layout_spec spec = spec_for(sector);
        struct layout layout;
        struct disk disk;
        const struct partition *parts[] = { &disk.esp, &disk.state, &disk.slots[0], &disk.slots[1], &disk.data };

        ck_assert_int_eq(layout_make("image", &spec, &layout, NULL), 0);
        find("image", &disk);
        ck_assert(disk.image);
        ck_assert_uint_eq(disk.sector_size, sector);
        ck_assert_int_eq(disk.n_slots, 2);
        ck_assert_uint_eq(layout.n_parts, 5);
        for (size_t i = 0; i < layout.n_parts; i++) {
                ck_assert(parts[i]->present);
                ck_assert_uint_eq(parts[i]->number, i + 1);
                ck_assert_uint_eq(parts[i]->offset, layout.parts[i].offset);
                ck_assert_uint_eq(parts[i]->size, layout.parts[i].size);
                ck_assert_uint_eq(parts[i]->offset % MIB(1), 0);
                ck_assert_str_eq(parts[i]->label, layout.parts[i].label);
                ck_assert_uint_eq(strlen(parts[i]->uuid), 36);
                ck_assert_str_eq(parts[i]->node, "");
                for (size_t j = 0; j < i; j++) {
                        ck_assert_uint_le(parts[j]->offset + parts[j]->size, parts[i]->offset);
                        ck_assert_str_ne(parts[i]->uuid, parts[j]->uuid);
                }
        }
        ck_assert_uint_le(disk.data.offset + disk.data.size, spec.image_size - 33 * sector);
        ck_assert_int_eq(disk_slot_by_partuuid(&disk, disk.slots[1].uuid), 1);
        for (char *p = disk.slots[0].uuid; *p; p++)
                *p = (char)(*p >= 'a' && *p <= 'z' ? *p - 32 : *p);
        ck_assert_int_eq(disk_slot_by_partuuid(&disk, parts[2]->uuid), 0);
        ck_assert_int_eq(disk_slot_by_partuuid(&disk, disk.esp.uuid), SLOT_NONE);
        ck_assert_int_eq(disk_slot_by_partuuid(&disk, ""), SLOT_NONE);
        layout_done(&layout);
}
END_TEST

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

START_TEST(both_copies_of_the_record_are_made)
{
        struct layout_spec spec = spec_for(512);
        struct state_place place;
        struct state state;
        struct disk disk;

        spec.n_slots = 3;
        make("image", &spec);
        find("image", &disk);
        ck_assert_int_eq(disk.n_slots, 3);
        ck_assert_int_eq(state_place_open(&disk, NULL, O_RDWR, &place, NULL), 0);
        ck_assert_int_eq(state_load(&place, &state, NULL), 0);
        ck_assert_int_eq(state.n_valid, 2);
        ck_assert_int_eq(state.set.n_slots, 3);
        ck_assert_uint_eq(place.offset[1] - place.offset[0], STATE_COPY_DISTANCE);
        ck_assert_uint_eq(place.offset[0], disk.state.offset);
        state_place_close(&place);
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
        int fsyncs, fail_at;
        volatile bool cancelled;
} fault;

static int faulty_fsync(int fd)
{
        if (fault.fsyncs++ != fault.fail_at)
                return io_system_ops.fsync(fd);
        if (fault.cancelled)
                return -EIO;
        fault.cancelled = true;
        return 0;
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
        io_set_ops(&ops);
        for (at = 0; at < 20 && r < 0; at++) {
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

START_TEST(paths_that_cannot_be)
{
        struct layout_spec spec = { .esp_size = MIB(34), .root_size = MIB(4) };
        char longest[300];
        struct layout layout;
        struct disk_spec find_spec = {};
        struct disk disk;
        struct error e = {};

        memset(longest, 'x', sizeof(longest));
        longest[299] = '\0';
        ck_assert_int_eq(layout_make(longest, &spec, &layout, &e), -ENAMETOOLONG);
        error_done(&e);
        ck_assert_int_eq(layout_make("gone", &spec, &layout, &e), -ENOENT);
        ck_assert_ptr_nonnull(e.hint);
        error_done(&e);
        ck_assert_int_eq(layout_make("/dev/null", &spec, &layout, &e), -ENOTBLK);
        error_done(&e);
        find_spec.path = longest;
        ck_assert_int_eq(disk_find(&find_spec, &disk, &e), -ENAMETOOLONG);
        error_done(&e);
        find_spec.path = "gone";
        ck_assert_int_eq(disk_find(&find_spec, &disk, NULL), -ENOENT);
        ck_assert_int_eq(disk_find(&find_spec, &disk, &e), -ENOENT);
        ck_assert_ptr_nonnull(strstr(e.hint, "bootmgr init --image-size SIZE gone"));
        error_done(&e);
        find_spec.path = "/dev/null";
        ck_assert_int_eq(disk_find(&find_spec, &disk, &e), -ENOTBLK);
        error_done(&e);
        make_file("empty", MIB(64));
        find_spec.path = "empty";
        ck_assert_int_eq(disk_find(&find_spec, &disk, &e), -ENODEV);
        ck_assert_ptr_eq(e.kind, &kind_no_machine);
        ck_assert_ptr_nonnull(e.hint);
        error_done(&e);
}
END_TEST

/* A table by somebody else: slots by label, whatever their types and numbers are. */
START_TEST(other_tables)
{
        static const struct {
                const char *table;
                int result;
                unsigned a, b;
        } rows[] = {
                { "label: gpt\n2: size=4M, name=root-b\n7: size=4M, name=root-a\n3: size=4M, name=root-z\n", 0, 7, 2 },
                { "label: gpt\nsize=4M, name=root-a\nsize=4M, name=root-b\nsize=4M, name=root-a\n", -EUCLEAN, 0, 0 },
                { "label: gpt\nsize=4M, name=root-a\nsize=4M, name=home\n", -ENODEV, 0, 0 },
                { "label: dos\nsize=4M\nsize=4M\n", -ENODEV, 0, 0 },
        };
        struct disk_spec spec = { .path = "image" };
        struct error e = {};
        struct disk disk;
        struct range range;
        FILE *f;

        make_file("image", MIB(64));
        f = popen("sfdisk -q image", "w");
        fputs(rows[_i].table, f);
        ck_assert_int_eq(pclose(f), 0);
        ck_assert_int_eq(disk_find(&spec, &disk, &e), rows[_i].result);
        if (rows[_i].result < 0) {
                ck_assert_ptr_eq(e.kind, &kind_no_machine);
                error_done(&e);
                return;
        }
        ck_assert_uint_eq(disk.slots[0].number, rows[_i].a);
        ck_assert_uint_eq(disk.slots[1].number, rows[_i].b);
        ck_assert_int_eq(disk.n_slots, 2);
        ck_assert(!disk.esp.present && !disk.state.present && !disk.data.present);
        ck_assert_int_eq(range_open(&disk, &disk.data, O_RDONLY, &range, &e), -ENOENT);
        error_done(&e);
        ck_assert_int_eq(state_place_open(&disk, NULL, O_RDWR, &(struct state_place){}, &e), -ENOENT);
        ck_assert_ptr_nonnull(strstr(e.hint, "State="));
        error_done(&e);
}
END_TEST

/* The primary table is gone: the backup serves. */
START_TEST(the_backup_table_is_read)
{
        struct layout_spec spec = spec_for(512);
        struct disk disk;
        int fd;

        make("image", &spec);
        fd = open("image", O_RDWR | O_CLOEXEC);
        ck_assert_int_eq(io_zero(fd, 512, 33 * 512), 0);
        close(fd);
        find("image", &disk);
        ck_assert_int_eq(disk.n_slots, 2);
}
END_TEST

START_TEST(ranges_are_what_the_table_says)
{
        struct layout_spec spec = spec_for(512);
        struct error e = {};
        struct range range;
        struct disk disk;
        char text[8] = "";

        make("image", &spec);
        find("image", &disk);
        ck_assert_int_eq(range_open(&disk, &disk.slots[1], O_RDWR | O_EXCL, &range, NULL), 0);
        ck_assert_uint_eq(range.offset, disk.slots[1].offset);
        ck_assert_uint_eq(range.size, MIB(4));
        write_at("image", disk.slots[1].offset, "slot b");
        ck_assert_int_eq(io_pread(range.fd, text, 6, range.offset), 0);
        ck_assert_str_eq(text, "slot b");
        range_close(&range);
        ck_assert_int_eq(range.fd, -1);
        ck_assert_int_eq(truncate("image", (off_t)(disk.slots[1].offset + disk.slots[1].size - 1)), 0);
        ck_assert_int_eq(range_open(&disk, &disk.slots[1], O_RDONLY, &range, &e), -EUCLEAN);
        ck_assert_ptr_nonnull(strstr(e.message, "smaller"));
        error_done(&e);
        ck_assert_int_eq(unlink("image"), 0);
        ck_assert_int_eq(range_open(&disk, &disk.slots[1], O_RDONLY, &range, NULL), -ENOENT);
        disk.image = false; /* a device whose node is not there */
        ck_assert_int_eq(range_open(&disk, &disk.slots[1], O_RDONLY, &range, NULL), -ENODEV);
}
END_TEST

START_TEST(the_record_in_files)
{
        char *files[] = { (char *)"one", (char *)"two" }, *device[] = { (char *)"one", NULL };
        struct disk disk = {};
        struct state_place place;
        struct error e = {};

        ck_assert_int_eq(state_place_open(&disk, files, O_RDWR, &place, &e), -ENOENT);
        ck_assert_ptr_nonnull(strstr(e.hint, "fallocate -l 4096 one"));
        error_done(&e);
        make_file("one", STATE_COPY_SIZE);
        make_file("two", STATE_COPY_SIZE - 1);
        ck_assert_int_eq(state_place_open(&disk, files, O_RDWR, &place, &e), -EUCLEAN);
        ck_assert_ptr_nonnull(e.hint);
        error_done(&e);
        ck_assert_int_eq(state_place_open(&disk, device, O_RDWR, &place, &e), -EUCLEAN);
        error_done(&e);
        make_file("two", STATE_COPY_SIZE);
        ck_assert_int_eq(state_place_open(&disk, files, O_RDWR, &place, NULL), 0);
        ck_assert_int_ne(place.fd[0], place.fd[1]);
        state_place_close(&place);
        make_file("one", MIB(1));
        ck_assert_int_eq(state_place_open(&disk, device, O_RDWR, &place, NULL), 0);
        ck_assert_int_eq(place.fd[0], place.fd[1]);
        ck_assert_uint_eq(place.offset[1], STATE_COPY_DISTANCE);
        state_place_close(&place);
        device[0] = (char *)"gone";
        ck_assert_int_eq(state_place_open(&disk, device, O_RDWR, &place, NULL), -ENOENT);
        ck_assert_int_eq(state_place_open(&disk, device, O_RDWR, &place, &e), -ENOENT);
        ck_assert_ptr_nonnull(strstr(e.hint, "State="));
        error_done(&e);
}
END_TEST

START_TEST(one_writer_at_a_time)
{
        struct layout_spec spec = spec_for(512);
        struct disk disk = { .path = "image" };
        struct error e = {};
        struct layout layout;
        int fd, second;

        make_file("image", MIB(64));
        fd = disk_lock(&disk, 0, NULL);
        ck_assert_int_ge(fd, 0);
        second = disk_lock(&disk, 100000, &e);
        ck_assert_int_eq(second, -EAGAIN);
        ck_assert_ptr_eq(e.kind, &kind_busy);
        error_done(&e);
        ck_assert_int_eq(layout_make("image", &spec, &layout, &e), -EAGAIN);
        error_done(&e);
        close(fd);
        fd = disk_lock(&disk, 0, NULL);
        ck_assert_int_ge(fd, 0);
        close(fd);
        strcpy(disk.path, "gone");
        ck_assert_int_eq(disk_lock(&disk, 0, NULL), -ENOENT);
}
END_TEST

/* Slots that the configuration names, as a machine that came without our labels has them. */
START_TEST(named_slots)
{
        const char *devices[SLOT_MAX] = { "one", "two" };
        struct disk_spec spec = { .path = "image", .slot_device = devices };
        struct error e = {};
        struct disk disk;
        struct range range;

        make_file("image", MIB(64));
        ck_assert_int_eq(system("printf 'label: gpt\\n,10M\\n' | sfdisk -q image"), 0);
        ck_assert_int_eq(disk_find(&spec, &disk, &e), -ENOENT);
        ck_assert_ptr_nonnull(strstr(e.message, "one"));
        error_done(&e);
        make_file("one", MIB(2));
        make_file("two", MIB(3));
        ck_assert_int_eq(disk_find(&spec, &disk, NULL), 0);
        ck_assert_int_eq(disk.n_slots, 2);
        ck_assert_uint_eq(disk.slots[1].size, MIB(3));
        ck_assert_int_eq(range_open(&disk, &disk.slots[1], O_RDONLY, &range, NULL), 0);
        ck_assert_uint_eq(range.offset, 0);
        range_close(&range);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("disk");
        TCase *t = tcase_create("disk");

        tcase_set_timeout(t, 120);
        tcase_add_checked_fixture(t, scratch_begin, scratch_end);
        tcase_add_loop_test(t, the_layout_is_found_as_it_was_made, 0, 2);
        tcase_add_test(t, hidden_from_discovery);
        tcase_add_test(t, both_copies_of_the_record_are_made);
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
        tcase_add_test(t, paths_that_cannot_be);
        tcase_add_loop_test(t, other_tables, 0, 4);
        tcase_add_test(t, the_backup_table_is_read);
        tcase_add_test(t, ranges_are_what_the_table_says);
        tcase_add_test(t, the_record_in_files);
        tcase_add_test(t, one_writer_at_a_time);
        tcase_add_test(t, named_slots);
        suite_add_tcase(s, t);
        return suite_run(s);
}
