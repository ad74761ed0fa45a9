/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The firmware's boot options: the codec, byte for byte and against every damage, and what is written to a directory that
 * looks like efivarfs. */
#include <dirent.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/io.h"
#include "loader/firmware.h"
#include "operation/upkeep.h"
#include "scratch.h"

/* Check has a macro of this name. */
#include <check.h>
#include "suite.h"
#undef fail

#define GUID    "-8be4df61-93ca-11d2-aa0d-00e098032b8c"
#define ESP     "4f551100-77ff-49c1-beb0-279596370b19"
#define FOREIGN "a0000000-77ff-49c1-beb0-279596370b19"

/* Put together by hand from the specification; of such a shape OVMF has started one. */
static const uint8_t real[] = {
        0x01, 0,    0,    0,    0x52, 0,    'b',  0,    'o',  0,    'o',  0,    't',  0,    0,    0,    0x04, 0x01,
        0x2a, 0,    0x01, 0,    0,    0,    0,    0x08, 0,    0,    0,    0,    0,    0,    0,    0,    0x04, 0,
        0,    0,    0,    0,    0,    0x11, 0x55, 0x4f, 0xff, 0x77, 0xc1, 0x49, 0xbe, 0xb0, 0x27, 0x95, 0x96, 0x37,
        0x0b, 0x19, 0x02, 0x02, 0x04, 0x04, 0x24, 0,    '\\', 0,    'E',  0,    'F',  0,    'I',  0,    '\\', 0,
        'B',  0,    'O',  0,    'O',  0,    'T',  0,    '\\', 0,    'X',  0,    '.',  0,    'E',  0,    'F',  0,
        'I',  0,    0,    0,    0x7f, 0xff, 0x04, 0,    'r',  0,    'o',  0,    0,    0,
};

static struct load_option real_option(void)
{
        struct load_option o = { .attributes = LOAD_OPTION_ACTIVE,
                                 .partition = 1,
                                 .start = 2048,
                                 .size = 0x40000,
                                 .description = (char *)"boot",
                                 .path = (char *)"\\EFI\\BOOT\\X.EFI",
                                 .arguments = (char *)"ro" };

        ck_assert_int_eq(efi_guid_parse(ESP, o.guid), 0);
        return o;
}

START_TEST(bytes_are_those_of_the_specification)
{
        struct load_option o = real_option(), parsed;
        struct buf b = {};

        ck_assert_int_eq(load_option_format(&o, &b), 0);
        ck_assert_int_eq(load_option_parse(b.data, b.size, &parsed), 0);
        ck_assert_uint_eq(b.size, sizeof(real));
        ck_assert_mem_eq(b.data, real, sizeof(real));
        ck_assert_str_eq(parsed.description, o.description);
        ck_assert_str_eq(parsed.path, o.path);
        ck_assert_str_eq(parsed.arguments, o.arguments);
        ck_assert_mem_eq(parsed.guid, o.guid, 16);
        ck_assert_uint_eq(parsed.size, o.size);
        ck_assert_uint_eq(parsed.start, o.start);
        ck_assert_uint_eq(parsed.partition, o.partition);
        ck_assert_uint_eq(parsed.attributes, o.attributes);
        load_option_done(&parsed);
        buf_done(&b);
}
END_TEST

/* Cut anywhere, and every bit of it turned over: an answer, and nothing read beyond the end. */
START_TEST(damage_is_survived)
{
        for (size_t n = 0; n <= sizeof(real); n++) {
                _cleanup_free_ uint8_t *copy = malloc(n ?: 1);
                struct load_option o;
                int r;

                memcpy(copy, real, n);
                r = load_option_parse(copy, n, &o);
                ck_assert(n >= sizeof(real) - 6 ? r == 0 : r < 0);
                if (r >= 0)
                        load_option_done(&o);
        }
        for (size_t bit = 0; bit < 8 * sizeof(real); bit++) {
                _cleanup_free_ uint8_t *copy = malloc(sizeof(real));
                struct load_option o;

                memcpy(copy, real, sizeof(real));
                copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
                if (load_option_parse(copy, sizeof(real), &o) >= 0)
                        load_option_done(&o);
        }
}
END_TEST

/* One byte of the above is another. */
START_TEST(other_shapes_are_told_from_damage)
{
        static const struct {
                size_t at;
                uint8_t byte;
                int result;
        } rows[] = {
                { 4, 0xff, -EINVAL },                          /* the path is longer than all of it */
                { 4, 0x4e, -EINVAL },                          /* it ends before its end node */
                { 6, 0x1f, -ENOTSUP },  { 7, 0x01, -ENOTSUP }, /* beyond ASCII */
                { 16, 0x03, -ENOTSUP },                        /* a network card */
                { 18, 0x29, -ENOTSUP },                        /* a partition's node of another length */
                { 56, 0x01, -ENOTSUP },                        /* a partition of an MBR */
                { 57, 0x01, -ENOTSUP },                        /* named by its signature */
                { 60, 0x03, -EINVAL },                         /* a node without its own header */
                { 60, 0xff, -EINVAL },  { 92, 'x', -EINVAL },  /* a path without a NUL */
                { 94, 0x04, -ENOTSUP },                        /* something behind the file */
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct load_option o = { .size = 77 };
                uint8_t copy[sizeof(real)];
                int r;

                memcpy(copy, real, sizeof(real));
                copy[rows[i].at] = rows[i].byte;
                r = load_option_parse(copy, sizeof(copy), &o);
                ck_assert_msg(r == rows[i].result, "byte %zu: %d", rows[i].at, r);
                ck_assert_uint_eq(o.size, 77);
        }
}
END_TEST

START_TEST(size_has_a_bound)
{
        _cleanup_free_ uint8_t *copy = calloc(1, LOAD_OPTION_MAX + 1);
        struct load_option o;

        memcpy(copy, real, sizeof(real));
        ck_assert_int_eq(load_option_parse(copy, LOAD_OPTION_MAX + 1, &o), -EINVAL);
        ck_assert_int_eq(load_option_parse(copy, LOAD_OPTION_MAX, &o), 0);
        load_option_done(&o);
}
END_TEST

START_TEST(what_cannot_be_written_is_refused)
{
        _cleanup_free_ char *longest = malloc(LOAD_OPTION_MAX);
        struct load_option o = real_option();
        struct buf b = {};
        uint8_t guid[16];

        memset(longest, 'x', LOAD_OPTION_MAX - 1);
        longest[LOAD_OPTION_MAX - 1] = '\0';
        o.arguments = longest;
        ck_assert_int_eq(load_option_format(&o, &b), -E2BIG);
        o.arguments = (char *)"quiet\xc3\xa4";
        ck_assert_int_eq(load_option_format(&o, &b), -EINVAL);
        o = real_option();
        o.description = (char *)"b\xc3\xb6se";
        ck_assert_int_eq(load_option_format(&o, &b), -EINVAL);
        o = real_option();
        o.path = (char *)"\\EFI\n";
        ck_assert_int_eq(load_option_format(&o, &b), -EINVAL);
        ck_assert_uint_eq(b.size, 0);
        ck_assert_int_eq(efi_guid_parse("4f551100-77ff-49c1-beb0-279596370b1", guid), -EINVAL);
        ck_assert_int_eq(efi_guid_parse("4f551100+77ff-49c1-beb0-279596370b19", guid), -EINVAL);
        ck_assert_int_eq(efi_guid_parse("4f55110x-77ff-49c1-beb0-279596370b19", guid), -EINVAL);
}
END_TEST

/* ---- variables ---- */

static struct disk disk;
static unsigned writes;

static ssize_t count_pwrite(int fd, const void *buf, size_t n, uint64_t offset)
{
        writes++;
        return io_system_ops.pwrite(fd, buf, n, offset);
}

static void put(const char *name, const void *data, size_t size)
{
        _cleanup_free_ char *path = xasprintf("efivars/%s" GUID, name);
        struct buf b = {};

        buf_append(&b, (uint8_t[4]){ 7 }, 4);
        buf_append(&b, data, size);
        ck_assert_int_eq(file_replace(AT_FDCWD, path, b.data, b.size, 0644), 0);
        buf_done(&b);
}

static void put_option(const char *name, const char *description, const char *esp, const char *path)
{
        struct load_option o = real_option();
        struct buf b = {};

        o.description = (char *)description;
        o.path = (char *)path;
        ck_assert_int_eq(efi_guid_parse(esp, o.guid), 0);
        ck_assert_int_eq(load_option_format(&o, &b), 0);
        put(name, b.data, b.size);
        buf_done(&b);
}

static void check_bytes(const char *name, const void *expected, size_t n)
{
        _cleanup_free_ char *path = xasprintf("efivars/%s" GUID, name), *data = NULL;
        size_t size;

        ck_assert_int_eq(file_read(AT_FDCWD, path, 4096, &data, &size), 0);
        ck_assert_uint_eq(size, n);
        ck_assert_mem_eq(data, expected, n);
}

/* "0010 0011 …" */
static void check_order(const char *expected)
{
        _cleanup_free_ char *data = NULL;
        struct buf b = {};
        size_t size;

        ck_assert_int_eq(file_read(AT_FDCWD, "efivars/BootOrder" GUID, 4096, &data, &size), 0);
        for (size_t i = 4; i < size; i += 2)
                buf_printf(&b, "%s%04x", i > 4 ? " " : "", get_le16(data + i));
        ck_assert_str_eq(b.data, expected);
        buf_done(&b);
}

static const struct firmware_option wanted[] = {
        { "bootmgr 1", "\\EFI\\systemd\\systemd-bootx64.efi", NULL },
        { "bootmgr 2", "\\EFI\\systemd\\systemd-bootx64.efi", NULL },
        { "bootmgr fallback", "\\bootmgr\\0123", "initrd=\\bootmgr\\4567 bootmgr.slot=a " FALLBACK_WORD },
};

static unsigned sync_these(const struct firmware_option *options, size_t n, bool dry)
{
        struct error e = {};
        unsigned changed = 99;
        int r = firmware_sync("efivars", &disk, options, n, dry, &changed, &e);

        ck_assert_msg(r == 0, "%s", e.message);
        return changed;
}

static unsigned sync_all(void)
{
        return sync_these(wanted, ARRAY_SIZE(wanted), false);
}

static void setup(void)
{
        static const struct io_ops *system = &io_system_ops;
        static struct io_ops counting;

        scratch_begin();
        ck_assert_int_eq(mkdir("efivars", 0755), 0);
        disk = (struct disk){
                .sector_size = 512,
                .esp = { .present = true, .number = 1, .offset = 2048 * 512, .size = 0x40000 * 512ULL, .uuid = ESP }
        };
        counting = *system;
        counting.pwrite = count_pwrite;
        writes = 0;
        io_set_ops(&counting);
}

static void teardown(void)
{
        io_set_ops(NULL);
        scratch_end();
}

START_TEST(they_are_made_once)
{
        ck_assert_uint_eq(sync_these(wanted, 3, true), 4);
        ck_assert_uint_eq(writes, 0);
        ck_assert_uint_eq(sync_all(), 4);
        ck_assert_uint_eq(writes, 4);
        check_order("0010 0011 0012");
        ck_assert_uint_eq(sync_all(), 0);
        ck_assert_uint_eq(sync_these(wanted, 3, true), 0);
        ck_assert_uint_eq(writes, 4);
}
END_TEST

/* Attributes of the variable, then the option as the specification has it, with the partition in the disk's own sectors. */
START_TEST(what_is_written)
{
        static const struct firmware_option one = { "boot", "\\EFI\\BOOT\\X.EFI", "ro" };
        uint8_t expected[4 + sizeof(real)] = { 7 };

        memcpy(expected + 4, real, sizeof(real));
        ck_assert_uint_eq(sync_these(&one, 1, false), 2);
        check_bytes("Boot0010", expected, sizeof(expected));
        check_bytes("BootOrder", (uint8_t[]){ 7, 0, 0, 0, 0x10, 0 }, 6);
        ck_assert_int_eq(unlink("efivars/Boot0010" GUID), 0);
        disk.sector_size = 4096;
        disk.esp.offset *= 8;
        disk.esp.size *= 8;
        ck_assert_uint_eq(sync_these(&one, 1, false), 2); /* the order still names what is gone: its number is taken */
        check_bytes("Boot0011", expected, sizeof(expected));
        check_order("0011 0010");
}
END_TEST

static ssize_t no_pwrite(int fd, const void *buf, size_t n, uint64_t offset)
{
        return -ENOSPC;
}

START_TEST(a_write_that_fails_is_told)
{
        struct io_ops full = io_system_ops;
        struct error e = {};

        full.pwrite = no_pwrite;
        io_set_ops(&full);
        ck_assert_int_eq(firmware_sync("efivars", &disk, wanted, 3, false, NULL, &e), -ENOSPC);
        ck_assert_ptr_nonnull(strstr(e.message, "Boot0010"));
        error_done(&e);
}
END_TEST

START_TEST(others_stay_where_they_are)
{
        put_option("Boot0000", "a shell", FOREIGN, "\\shell.efi");
        put_option("Boot0001", "what booted", ESP, "\\EFI\\BOOT\\BOOTX64.EFI");
        put_option("Boot0011", "bootmgr 1", FOREIGN, "\\EFI\\systemd\\systemd-bootx64.efi");
        put("BootOrder", (uint8_t[]){ 0, 0, 1, 0, 0x11, 0, 3, 0 }, 8);
        put("BootCurrent", (uint8_t[]){ 1, 0 }, 2);
        ck_assert_uint_eq(sync_all(), 4);
        check_order("0000 0010 0012 0013 0001 0011 0003");
        ck_assert_uint_eq(sync_all(), 0);
}
END_TEST

START_TEST(what_somebody_changed_is_put_right)
{
        struct firmware_option other[3];

        ck_assert_uint_eq(sync_all(), 4);
        memcpy(other, wanted, sizeof(other));
        other[2].arguments = "initrd=\\bootmgr\\89ab bootmgr.slot=b " FALLBACK_WORD;
        ck_assert_uint_eq(sync_these(other, 3, false), 1);
        check_order("0010 0011 0012");
        put("BootOrder", (uint8_t[]){ 0x12, 0, 0x05, 0, 0x10, 0 }, 6); /* one of ours was taken out */
        ck_assert_uint_eq(sync_these(other, 3, false), 2);
        check_order("0010 0013 0012 0005");
        ck_assert_uint_eq(sync_these(other, 2, false), 1); /* nothing to fall back to */
        check_order("0010 0013 0005");
}
END_TEST

/* An order that cannot be read may hold options of others. */
START_TEST(an_order_that_is_not_understood_stays)
{
        _cleanup_free_ uint8_t *long_order = calloc(257, 2);
        struct error e = {};

        put("BootOrder", long_order, 2 * 257);
        ck_assert_int_eq(firmware_sync("efivars", &disk, wanted, 3, false, NULL, NULL), -E2BIG);
        ck_assert_int_eq(file_replace(AT_FDCWD, "efivars/BootOrder" GUID, "xx", 2, 0644), 0);
        ck_assert_int_eq(firmware_sync("efivars", &disk, wanted, 3, false, NULL, &e), -EBADMSG);
        ck_assert_ptr_nonnull(strstr(e.message, "cannot read the EFI variable BootOrder"));
        error_done(&e);
        put("BootOrder", long_order, 2 * 256);
        ck_assert_uint_eq(sync_all(), 4);
}
END_TEST

static unsigned count_variables(void)
{
        _cleanup_closedir_ DIR *dir = opendir("efivars");
        struct dirent *entry;
        unsigned n = 0;

        while ((entry = readdir(dir)))
                n += *entry->d_name != '.';
        return n;
}

/* A fallback that comes and goes, and fewer tries: the firmware's room is small. */
START_TEST(what_is_not_wanted_goes)
{
        put_option("Boot0000", "bootmgr 3", FOREIGN, "\\EFI\\systemd\\systemd-bootx64.efi");
        put("BootOrder", (uint8_t[]){ 0, 0 }, 2);
        ck_assert_uint_eq(sync_all(), 4);
        for (int i = 0; i < 3; i++) {
                ck_assert_uint_eq(sync_these(wanted, 1, true), 1);
                ck_assert_uint_eq(count_variables(), 5);
                ck_assert_uint_eq(sync_these(wanted, 1, false), 1);
                check_order("0010 0000");
                ck_assert_uint_eq(count_variables(), 3);
                ck_assert_uint_eq(sync_all(), 3);
                check_order("0010 0011 0012 0000");
        }
}
END_TEST

START_TEST(ours_stay_where_somebody_put_them)
{
        ck_assert_uint_eq(sync_all(), 4);
        put("BootOrder", (uint8_t[]){ 5, 0, 0x10, 0, 0x11, 0, 0x12, 0, 6, 0 }, 10);
        ck_assert_uint_eq(sync_all(), 0);
        put("BootOrder", (uint8_t[]){ 5, 0, 0x10, 0, 0x11, 0, 0x12, 0, 0x12, 0 }, 10); /* the end of it too many */
        ck_assert_uint_eq(sync_all(), 1);
        check_order("0005 0010 0011 0012");
}
END_TEST

/* Variables without a value are none, but their names are taken. */
START_TEST(damaged_variables)
{
        ck_assert_int_eq(file_replace(AT_FDCWD, "efivars/Boot0010" GUID, "\7", 1, 0644), 0);
        ck_assert_uint_eq(sync_all(), 4);
        check_order("0011 0012 0013");
        check_bytes("Boot0010", "\7", 1);
}
END_TEST

/* As many of others as an order may have, and more of ours than there may be. */
START_TEST(too_many)
{
        static const struct firmware_option all[17] = {};
        uint8_t numbers[2 * 256] = {};
        struct buf expected = {};
        char name[16];

        for (uint16_t i = 0; i < 20; i++) {
                snprintf(name, sizeof(name), "Boot%04X", 0x20 + i);
                put_option(name, "bootmgr old", ESP, "\\old.efi");
                put_le16(numbers + 2 * i, (uint16_t)(0x20 + i));
        }
        put("BootOrder", numbers, 40);
        ck_assert_uint_eq(sync_all(), 4);
        check_order("0010 0011 0012 0030 0031 0032 0033");
        ck_assert_uint_eq(sync_all(), 1);
        check_order("0010 0011 0012");

        ck_assert_int_eq(firmware_sync("efivars", &disk, all, ARRAY_SIZE(all), false, NULL, NULL), -E2BIG);
        buf_puts(&expected, "0010 0011 0012");
        for (uint16_t i = 0; i < 256; i++) {
                put_le16(numbers + 2 * i, (uint16_t)(0x100 + i));
                buf_printf(&expected, " %04x", 0x100 + i);
        }
        for (int i = 0x10; i < 0x13; i++) {
                _cleanup_free_ char *path = xasprintf("efivars/Boot%04X" GUID, i);

                ck_assert_int_eq(unlink(path), 0);
        }
        put("BootOrder", numbers, sizeof(numbers));
        ck_assert_uint_eq(sync_all(), 4);
        check_order(expected.data);
        buf_done(&expected);
}
END_TEST

START_TEST(the_fallback_is_the_newest_other)
{
        static const struct {
                enum slot_state state[2];
                int expected;
        } rows[] = {
                { { SLOT_CONFIRMED, SLOT_CONFIRMED }, 0 }, { { SLOT_CONFIRMED, SLOT_TRIAL }, 0 },
                { { SLOT_CONFIRMED, SLOT_BAD }, 0 },       { { SLOT_INCOMPLETE, SLOT_CONFIRMED }, 1 },
                { { SLOT_INSTALLED, SLOT_CONFIRMED }, 1 }, { { SLOT_TRIAL, SLOT_CONFIRMED }, 1 },
                { { SLOT_BAD, SLOT_TRIAL }, SLOT_NONE },   { { SLOT_EMPTY, SLOT_EMPTY }, SLOT_NONE },
        };
        struct slot_set set;

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                slot_set_init(&set, 2);
                for (int s = 0; s < 2; s++)
                        set.slots[s] = (struct slot){ .state = rows[i].state[s], .generation = 7 + (uint64_t)s };
                ck_assert_int_eq(upkeep_fallback(&set), rows[i].expected);
        }
}
END_TEST

START_TEST(without_variables_nothing_is_done)
{
        unsigned changed = 9;

        ck_assert_int_eq(firmware_sync(NULL, &disk, wanted, 3, false, &changed, NULL), 0);
        ck_assert_uint_eq(changed, 0);
        ck_assert_int_eq(firmware_sync("nowhere", &disk, wanted, 3, false, NULL, NULL), 0);
        disk.esp.present = false;
        ck_assert_int_eq(firmware_sync("efivars", &disk, wanted, 3, false, NULL, NULL), 0);
        ck_assert_uint_eq(writes, 0);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("firmware");
        TCase *t = tcase_create("codec"), *v = tcase_create("variables");

        tcase_add_test(t, bytes_are_those_of_the_specification);
        tcase_add_test(t, damage_is_survived);
        tcase_add_test(t, other_shapes_are_told_from_damage);
        tcase_add_test(t, size_has_a_bound);
        tcase_add_test(t, what_cannot_be_written_is_refused);
        suite_add_tcase(s, t);
        tcase_add_checked_fixture(v, setup, teardown);
        tcase_add_test(v, they_are_made_once);
        tcase_add_test(v, what_is_written);
        tcase_add_test(v, a_write_that_fails_is_told);
        tcase_add_test(v, others_stay_where_they_are);
        tcase_add_test(v, ours_stay_where_somebody_put_them);
        tcase_add_test(v, damaged_variables);
        tcase_add_test(v, too_many);
        tcase_add_test(v, what_somebody_changed_is_put_right);
        tcase_add_test(v, an_order_that_is_not_understood_stays);
        tcase_add_test(v, what_is_not_wanted_goes);
        tcase_add_test(v, the_fallback_is_the_newest_other);
        tcase_add_test(v, without_variables_nothing_is_done);
        suite_add_tcase(s, v);
        return suite_run(s);
}
