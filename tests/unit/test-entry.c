/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The codecs of boot entries: names, contents, what we write, and unified kernels. */
#include <sys/mman.h>

#include "base/buf.h"
#include "base/io.h"
#include "loader/uki.h"

/* Check has a macro of this name. */
#include <check.h>
#include "suite.h"
#undef fail

/* ---- names ---- */

static const struct {
        const char *file, *id;
        int left, done;      /* -1: not counted */
        uint64_t generation; /* 0: not ours */
        int slot;
} names[] = {
        { "bootmgr-8-b.conf", "bootmgr-8-b", -1, 0, 8, 1 },
        { "bootmgr-8-b+3-0.conf", "bootmgr-8-b", 3, 0, 8, 1 },
        { "bootmgr-8-b+0-3.conf", "bootmgr-8-b", 0, 3, 8, 1 },
        { "bootmgr-8-b+3.conf", "bootmgr-8-b", 3, 0, 8, 1 },
        { "bootmgr-4611686018427387904-h.conf", "bootmgr-4611686018427387904-h", -1, 0, GENERATION_MAX, 7 },
        { "bootmgr-8-b+2147483647-2147483647.conf", "bootmgr-8-b", 2147483647, 2147483647, 8, 1 },
        { "bootmgr-8-b.CONF", "bootmgr-8-b", -1, 0, 8, 1 },
        /* counters that are none, as systemd-boot 252 reads them */
        { "foo+2147483648.conf", "foo+2147483648", -1, 0, 0, SLOT_NONE },
        { "foo+1-2147483648.conf", "foo+1-2147483648", -1, 0, 0, SLOT_NONE },
        { "foo+3.CONF", "foo+3", -1, 0, 0, SLOT_NONE },
        { "foo+3-.conf", "foo+3-", -1, 0, 0, SLOT_NONE },
        { "foo+.conf", "foo+", -1, 0, 0, SLOT_NONE },
        { "foo+-1.conf", "foo+-1", -1, 0, 0, SLOT_NONE },
        { "foo+1-2-3.conf", "foo+1-2-3", -1, 0, 0, SLOT_NONE },
        { "foo+3x.conf", "foo+3x", -1, 0, 0, SLOT_NONE },
        { "foo+3+x.conf", "foo+3+x", -1, 0, 0, SLOT_NONE },
        { "foo-3-1.conf", "foo-3-1", -1, 0, 0, SLOT_NONE },
        { "foo+1+2-1.conf", "foo+1", 2, 1, 0, SLOT_NONE }, /* the last plus */
        { "foo+007-01.conf", "foo", 7, 1, 0, SLOT_NONE },
        { "+3.conf", "", 3, 0, 0, SLOT_NONE },
        { "kernel+3-1.efi", "kernel", 3, 1, 0, SLOT_NONE },
        /* nearly ours */
        { "bootmgr-0-a.conf", "bootmgr-0-a", -1, 0, 0, SLOT_NONE },
        { "bootmgr-08-b.conf", "bootmgr-08-b", -1, 0, 0, SLOT_NONE },
        { "bootmgr-8-i.conf", "bootmgr-8-i", -1, 0, 0, SLOT_NONE },
        { "bootmgr-8-B.conf", "bootmgr-8-B", -1, 0, 0, SLOT_NONE },
        { "bootmgr-8-bb.conf", "bootmgr-8-bb", -1, 0, 0, SLOT_NONE },
        { "bootmgr-8-.conf", "bootmgr-8-", -1, 0, 0, SLOT_NONE },
        { "bootmgr--b.conf", "bootmgr--b", -1, 0, 0, SLOT_NONE },
        { "bootmgr-8b.conf", "bootmgr-8b", -1, 0, 0, SLOT_NONE },
        { "bootmgr-8.conf", "bootmgr-8", -1, 0, 0, SLOT_NONE },
        { "Bootmgr-8-b.conf", "Bootmgr-8-b", -1, 0, 0, SLOT_NONE },
        { "xbootmgr-8-b.conf", "xbootmgr-8-b", -1, 0, 0, SLOT_NONE },
        /* one more than these would be none */
        { "bootmgr-4611686018427387905-h.conf", "bootmgr-4611686018427387905-h", -1, 0, 0, SLOT_NONE },
        { "bootmgr-18446744073709551615-h.conf", "bootmgr-18446744073709551615-h", -1, 0, 0, SLOT_NONE },
        { "bootmgr-18446744073709551616-a.conf", "bootmgr-18446744073709551616-a", -1, 0, 0, SLOT_NONE },
        { "bootmgr-8888888888888888888888888-a.conf", "bootmgr-8888888888888888888888888-a", -1, 0, 0, SLOT_NONE },
        { "bootmgr-8-b.efi", "bootmgr-8-b", -1, 0, 0, SLOT_NONE },
};

START_TEST(names_come_apart)
{
        struct entry_name name;

        ck_assert_int_eq(entry_name_parse(names[_i].file, &name), 0);
        ck_assert_str_eq(name.file, names[_i].file);
        ck_assert_str_eq(name.id, names[_i].id);
        ck_assert_int_eq(name.counted, names[_i].left >= 0);
        ck_assert_int_eq(name.left, MAX(names[_i].left, 0));
        ck_assert_int_eq(name.done, names[_i].done);
        ck_assert_int_eq(name.ours, names[_i].generation != 0);
        ck_assert_uint_eq(name.generation, names[_i].generation);
        ck_assert_int_eq(name.slot, names[_i].slot);
}
END_TEST

START_TEST(other_files_are_no_entries)
{
        static const char *const files[] = { "",          ".conf",        ".efi", "foo",         "foo.con",
                                             "foo.conf~", "foo.conf.bak", "conf", "12345678.TMP" };
        char longest[300];
        struct entry_name name = { .left = 77 };

        for (size_t i = 0; i < ARRAY_SIZE(files); i++)
                ck_assert_int_eq(entry_name_parse(files[i], &name), -EINVAL);
        memset(longest, 'x', sizeof(longest));
        strcpy(longest + ENTRY_NAME_MAX - 5, ".conf"); /* one too many */
        ck_assert_int_eq(entry_name_parse(longest, &name), -EINVAL);
        ck_assert_int_eq(name.left, 77); /* untouched */
        ck_assert_int_eq(entry_name_parse(longest + 1, &name), 0);
        ck_assert_uint_eq(strlen(name.id), ENTRY_NAME_MAX - 6);
}
END_TEST

START_TEST(names_go_round)
{
        static const uint64_t generations[] = { 1, 9, 10, 4294967296, GENERATION_MAX };
        char text[ENTRY_NAME_MAX];
        struct entry_name name;

        for (size_t g = 0; g < ARRAY_SIZE(generations); g++)
                for (int slot = 0; slot < SLOT_MAX; slot++)
                        for (int left = -1; left <= SLOT_MAX_TRIES; left++) {
                                entry_name_format(generations[g], slot, left, 2, text);
                                ck_assert_int_eq(entry_name_parse(text, &name), 0);
                                ck_assert(name.ours && name.generation == generations[g] && name.slot == slot);
                                ck_assert(name.counted == (left >= 0) &&
                                          (left < 0 || (name.left == left && name.done == 2)));
                        }
}
END_TEST

/* ---- contents ---- */

static void parse(const char *text, struct entry *entry)
{
        ck_assert_int_eq(entry_parse("foo.conf", text, strlen(text), entry), 0);
}

START_TEST(content_is_read_as_systemd_boot_reads_it)
{
        struct entry e;

        parse("# comment\n  title  Debian  12  \nversion\t6.1\nlinux \\EFI\\\\debian//vmlinuz\ninitrd a\ninitrd //b\n"
              "options  root=/dev/x   quiet\noptions \"b c\"\nmachine-id 0123\nsort-key debian\narchitecture x64\nunknown "
              "x\n"
              "title\nversion \n\n \t\n#sort-key no\nsort-key2 no",
              &e);
        ck_assert_str_eq(e.title, "Debian  12");
        ck_assert_str_eq(e.version, "6.1");
        ck_assert_str_eq(e.linux_, "/EFI/debian/vmlinuz");
        ck_assert_ptr_null(e.efi);
        ck_assert_str_eq(e.initrds[0], "/a");
        ck_assert_str_eq(e.initrds[1], "/b");
        ck_assert_ptr_null(e.initrds[2]);
        ck_assert_str_eq(e.options, "root=/dev/x   quiet b c");
        ck_assert_str_eq(e.machine_id, "0123");
        ck_assert_str_eq(e.sort_key, "debian");
        ck_assert_str_eq(e.architecture, "x64");
        entry_done(&e);
        ck_assert_ptr_null(e.title);
}
END_TEST

START_TEST(odd_lines)
{
        static const struct {
                const char *text, *title;
        } rows[] = {
                { "title a\rtitle b", "b" }, { "title a\r\n", "a" }, { "title \"a b\"", "a b" }, { "title \"", "" },
                { "title \"a", "\"a" },      { "title a\"", "a\"" }, { "title\ta", "a" },        { "titlea", NULL },
                { "TITLE a", NULL },         { "title ", NULL },     { " # title a", NULL },     { "title a # b", "a # b" },
                { "title=a", NULL },         { "", NULL },           { "\n\n\n", NULL },
        };
        struct entry e;

        parse(rows[_i].text, &e);
        ck_assert_pstr_eq(e.title, rows[_i].title);
        entry_done(&e);
}
END_TEST

START_TEST(the_last_loader_line_wins)
{
        struct entry e;

        parse("linux /a\nefi /b\n", &e);
        ck_assert_ptr_null(e.linux_);
        ck_assert_str_eq(e.efi, "/b");
        entry_done(&e);
        parse("efi /b\nlinux /a\nlinux /c", &e);
        ck_assert_ptr_null(e.efi);
        ck_assert_str_eq(e.linux_, "/c");
        entry_done(&e);
}
END_TEST

START_TEST(bad_content_is_refused)
{
        _cleanup_free_ char *big = calloc(1, ENTRY_READ_MAX + 1);
        struct entry e = { .usable = true };

        ck_assert_int_eq(entry_parse("foo.conf", big, ENTRY_READ_MAX + 1, &e), -EFBIG);
        ck_assert_int_eq(entry_parse("foo", "title a", 7, &e), -EINVAL);
        ck_assert(e.usable);
        ck_assert_int_eq(entry_parse("foo.conf", big, ENTRY_READ_MAX, &e), 0);
        entry_done(&e);
}
END_TEST

START_TEST(architectures)
{
        struct entry e;

        parse("linux /a", &e);
        ck_assert(entry_is_for_machine(&e));
        entry_done(&e);
        parse("architecture z80\nlinux /a", &e);
        ck_assert(!entry_is_for_machine(&e));
        entry_done(&e);
#ifdef __x86_64__
        parse("architecture x64\nlinux /a", &e);
        ck_assert(entry_is_for_machine(&e));
        entry_done(&e);
        parse("architecture X64\nlinux /a", &e);
        ck_assert(!entry_is_for_machine(&e));
        entry_done(&e);
#endif
}
END_TEST

/* ---- what we write ---- */

static const uint8_t kernel[BOOT_FILE_ID_SIZE] = { 0x01, 0xab }, initrd[BOOT_FILE_ID_SIZE] = { 0xff };

static struct entry_spec spec(void)
{
        return (struct entry_spec){ .generation = 8,
                                    .slot = 1,
                                    .version = "17.1",
                                    .root_partuuid = "11111111-2222-3333-4444-555555555555",
                                    .kernel = kernel,
                                    .initrd = initrd };
}

START_TEST(golden_text)
{
        _cleanup_free_ char *text = NULL, *plain = NULL;
        struct entry_spec s = spec();
        struct entry e;
        uint8_t id[BOOT_FILE_ID_SIZE];

        s.extra_cmdline = "console=ttyS0 quiet";
        ck_assert_int_eq(entry_format(&s, &text, NULL), 0);
        ck_assert_str_eq(text, "title 17.1 (slot b)\n"
                               "version 8\n"
                               "sort-key bootmgr\n"
                               "linux /bootmgr/01ab0000000000000000000000000000\n"
                               "initrd /bootmgr/ff000000000000000000000000000000\n"
                               "options root=PARTUUID=11111111-2222-3333-4444-555555555555 ro gpt panic=10 "
                               "systemd.crash_reboot=1 bootmgr.slot=b bootmgr.generation=8 console=ttyS0 quiet\n");
        ck_assert_int_eq(entry_parse("bootmgr-8-b.conf", text, strlen(text), &e), 0);
        ck_assert(boot_file_id(e.linux_, id));
        ck_assert_mem_eq(id, kernel, sizeof(id));
        entry_done(&e);
        s.initrd = NULL;
        s.extra_cmdline = "";
        s.writable_root = true;
        ck_assert_int_eq(entry_format(&s, &plain, NULL), 0);
        ck_assert_ptr_null(strstr(plain, "initrd"));
        ck_assert_ptr_nonnull(
                strstr(plain, " rw gpt panic=10 systemd.crash_reboot=1 bootmgr.slot=b bootmgr.generation=8\n"));
}
END_TEST

/* What an operator says of it stands; where there is no room the entry is made without it. */
START_TEST(a_system_that_crashes_starts_again)
{
        static const char *const said[] = { "quiet systemd.crash_reboot=0", "systemd.crash_reboot",
                                            "systemd.crash_action=poweroff a" };
        struct entry_spec s = spec();
        char extra[600], *text;
        size_t room;

        for (size_t i = 0; i < ARRAY_SIZE(said); i++) {
                s.extra_cmdline = said[i];
                ck_assert_int_eq(entry_format(&s, &text, NULL), 0);
                ck_assert_ptr_null(strstr(text, "crash_reboot=1"));
                ck_assert_ptr_nonnull(strstr(text, said[i]));
                free(text);
        }
        s.extra_cmdline = "";
        ck_assert_int_eq(entry_format(&s, &text, NULL), 0);
        room = ENTRY_SIZE_MAX - strlen(text) - 1;
        free(text);
        memset(extra, 'x', sizeof(extra));
        extra[room + strlen(" systemd.crash_reboot=1")] = '\0';
        s.extra_cmdline = extra;
        ck_assert_int_eq(entry_format(&s, &text, NULL), 0);
        ck_assert_uint_eq(strlen(text), ENTRY_SIZE_MAX);
        ck_assert_ptr_null(strstr(text, "crash_reboot"));
        free(text);
        extra[room] = '\0';
        ck_assert_int_eq(entry_format(&s, &text, NULL), 0);
        ck_assert_ptr_nonnull(strstr(text, " systemd.crash_reboot=1 "));
        free(text);
}
END_TEST

START_TEST(an_entry_fits_one_sector)
{
        static const char said[] = "systemd.crash_reboot=1 "; /* by the operator, so that it cannot be left out */
        char extra[600];
        struct entry_spec s = spec();
        size_t room;
        char *text;

        s.extra_cmdline = said;
        ck_assert_int_eq(entry_format(&s, &text, NULL), 0);
        room = ENTRY_SIZE_MAX - strlen(text) + strlen(said);
        free(text);
        memset(extra, 'x', sizeof(extra));
        memcpy(extra, said, strlen(said));
        extra[room] = '\0';
        s.extra_cmdline = extra;
        ck_assert_int_eq(entry_format(&s, &text, NULL), 0);
        ck_assert_uint_eq(strlen(text), ENTRY_SIZE_MAX);
        free(text);
        for (size_t over = 1; over < 20; over += 6) {
                struct error e = {};
                char hint[80];

                text = NULL;
                memset(extra, 'x', sizeof(extra));
                memcpy(extra, said, strlen(said));
                extra[room + over] = '\0';
                ck_assert_int_eq(entry_format(&s, &text, &e), -E2BIG);
                ck_assert_ptr_null(text);
                snprintf(hint, sizeof(hint), "KernelCommandLine= by %zu ", over);
                ck_assert_ptr_nonnull(strstr(e.hint, hint));
                error_done(&e);
        }
}
END_TEST

START_TEST(boot_file_ids)
{
        static const char *const others[] = { NULL,
                                              "",
                                              "/bootmgr/",
                                              "/bootmgr/01ab",
                                              "bootmgr/01ab0000000000000000000000000000",
                                              "/bootmgr/01ab00000000000000000000000000001",
                                              "/bootmgr/x1ab0000000000000000000000000000",
                                              "/other/01ab0000000000000000000000000000" };
        uint8_t id[BOOT_FILE_ID_SIZE];

        for (size_t i = 0; i < ARRAY_SIZE(others); i++)
                ck_assert(!boot_file_id(others[i], id));
        ck_assert(boot_file_id("/bootmgr/01ab0000000000000000000000000000", id));
        ck_assert_mem_eq(id, kernel, sizeof(id));
}
END_TEST

START_TEST(whose_boot_file)
{
        uint8_t digest[DIGEST_SIZE] = { 1, 2, 3, [14] = 15, 16, 17 }, id[BOOT_FILE_ID_SIZE];
        char path[BOOT_FILE_PATH_SIZE];

        boot_file_make_id(digest, 0, id);
        boot_file_path(id, path);
        ck_assert_str_eq(path, "bootmgr/01020300000000000000000000000f0a");
        boot_file_make_id(digest, 1, id);
        boot_file_path(id, path);
        ck_assert_str_eq(path, "bootmgr/01020300000000000000000000000f0b");
        boot_file_make_id(digest, BOOT_FILE_OF_RESCUE, id);
        boot_file_path(id, path);
        ck_assert_str_eq(path, "bootmgr/01020300000000000000000000000fff");
        ck_assert(boot_file_has_digest(id, digest));
        ck_assert(boot_file_has_digest(digest, digest));
        digest[14] = 14;
        ck_assert(!boot_file_has_digest(id, digest));
}
END_TEST

/* ---- unified kernels ---- */

#ifdef __x86_64__
#define MACHINE 0x8664
#else
#define MACHINE 0xaa64
#endif
#define PE      128
#define TABLE   (PE + 24 + 240)
#define CONTENT 1024

/* A PE file with one section. */
static void make_pe(uint8_t image[static 4096], const char *section, const char *content)
{
        memset(image, 0, 4096);
        memcpy(image, "MZ", 2);
        put_le32(image + 60, PE);
        memcpy(image + PE, "PE\0\0", 4);
        put_le16(image + PE + 4, MACHINE);
        put_le16(image + PE + 6, 1);
        put_le16(image + PE + 20, 240);
        put_le16(image + PE + 24, 0x20b);
        memcpy(image + TABLE, section, strlen(section));
        put_le32(image + TABLE + 8, (uint32_t)strlen(content));
        put_le32(image + TABLE + 16, 512);
        put_le32(image + TABLE + 20, CONTENT);
        memcpy(image + CONTENT, content, strlen(content));
}

static int put_file(const uint8_t *image, size_t size)
{
        int fd = memfd_create("pe", MFD_CLOEXEC);

        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(io_pwrite(fd, image, size, 0), 0);
        return fd;
}

START_TEST(unified_kernels)
{
        static const struct {
                const char *os_release, *title, *version, *sort_key;
        } rows[] = {
                { "ID=arch\nNAME=\"Arch Linux\"\nPRETTY_NAME=\"Arch\"\nBUILD_ID=rolling\n", "Arch", "rolling", "arch" },
                { "NAME=N\nID=debian\nVERSION_ID=12\nVERSION=\"12 (bookworm)\"\n", "N", "12 (bookworm)", "debian" },
                { "ID=x\nIMAGE_ID=box\nIMAGE_VERSION=7\nVERSION_ID=1\n", "box", "7", "box" },
                { "ID=only\n", "only", NULL, "only" },
                { "# no\nPRETTY_NAME=P\n", "P", NULL, NULL },
        };
        uint8_t image[4096];
        struct entry e;
        int fd;

        make_pe(image, ".osrel", rows[_i].os_release);
        fd = put_file(image, sizeof(image));
        ck_assert_int_eq(uki_read(fd, "linux+2-1.efi", &e), 0);
        ck_assert_str_eq(e.title, rows[_i].title);
        ck_assert_pstr_eq(e.version, rows[_i].version);
        ck_assert_pstr_eq(e.sort_key, rows[_i].sort_key);
        ck_assert(e.usable && e.name.counted && e.name.left == 2 && !e.name.ours);
        entry_done(&e);
        ck_assert(!pe_is_systemd_boot(fd));
        fd_close(fd);
}
END_TEST

START_TEST(what_is_no_unified_kernel)
{
        static const struct {
                size_t offset;
                uint32_t value;
        } damages[] = {
                { 0, 0 },                        /* no MZ */
                { 60, 5000 },                    /* behind the end */
                { PE, 0 },                       /* no PE */
                { PE + 4, 0x1234 | 1 << 16 },    /* another machine */
                { PE + 24, 0x107 },              /* a ROM image */
                { PE + 4, MACHINE | 97u << 16 }, /* too many sections */
                { PE + 4, MACHINE },             /* none */
                { PE + 20, 60000 },              /* the table behind the end */
                { TABLE, 0 },                    /* another section */
                { TABLE + 8, 0 },                /* an empty one */
                { TABLE + 8, 65537 },            /* a huge one */
                { TABLE + 20, 5000 },            /* behind the end */
                { CONTENT, 0x0a0a0a0a },         /* no name in it */
        };
        struct entry e = { .automatic = true };
        uint8_t image[4096];
        int fd;

        make_pe(image, ".osrel", "ID=x\n");
        put_le32(image + damages[_i].offset, damages[_i].value);
        fd = put_file(image, sizeof(image));
        ck_assert_int_eq(uki_read(fd, "x.efi", &e), -ENOEXEC);
        ck_assert(e.automatic); /* untouched */
        fd_close(fd);
}
END_TEST

START_TEST(cut_images)
{
        uint8_t image[4096];
        struct entry e;

        make_pe(image, ".osrel", "ID=x\n");
        for (size_t size = 0; size < CONTENT + 5; size += 7) {
                int fd = put_file(image, size);

                ck_assert_int_eq(uki_read(fd, "x.efi", &e), -ENOEXEC);
                fd_close(fd);
        }
        make_pe(image, ".sdmagic", "#### LoaderInfo");
        int fd = put_file(image, sizeof(image));

        ck_assert(pe_is_systemd_boot(fd));
        ck_assert_int_eq(uki_read(fd, "x.efi", &e), -ENOEXEC);
        ck_assert_int_eq(uki_read(fd, "x.exe", &e), -ENOEXEC);
        fd_close(fd);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("entry");
        TCase *t = tcase_create("entry");

        tcase_add_loop_test(t, names_come_apart, 0, (int)ARRAY_SIZE(names));
        tcase_add_test(t, other_files_are_no_entries);
        tcase_add_test(t, names_go_round);
        tcase_add_test(t, content_is_read_as_systemd_boot_reads_it);
        tcase_add_loop_test(t, odd_lines, 0, 15);
        tcase_add_test(t, the_last_loader_line_wins);
        tcase_add_test(t, bad_content_is_refused);
        tcase_add_test(t, architectures);
        tcase_add_test(t, golden_text);
        tcase_add_test(t, a_system_that_crashes_starts_again);
        tcase_add_test(t, an_entry_fits_one_sector);
        tcase_add_test(t, boot_file_ids);
        tcase_add_test(t, whose_boot_file);
        tcase_add_loop_test(t, unified_kernels, 0, 5);
        tcase_add_loop_test(t, what_is_no_unified_kernel, 0, 13);
        tcase_add_test(t, cut_images);
        suite_add_tcase(s, t);
        return suite_run(s);
}
