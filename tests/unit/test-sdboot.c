/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The systemd-boot loader on a directory as ESP: what each operation leaves, in which order it writes, and what is left
 * when any one call fails. */
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/io.h"
#include "base/sha256.h"
#include "loader/load_option.h"
#include "loader/loader.h"
#include "loader/rescue.h"
#include "slot/kinds.h"

/* Check has a macro of this name. */
#include "scratch.h"
#include "suite.h"
#undef fail

static struct disk disk = { .path = "image" };
static struct loader loader;
static uint8_t digest_of_kernel[DIGEST_SIZE], digest_of_initrd[DIGEST_SIZE];

static void put(const char *path, const char *text)
{
        _cleanup_free_ char *copy = strdup(path);
        FILE *f;

        *strrchr(copy, '/') = '\0';
        ck_assert_int_eq(mkdir_parents(AT_FDCWD, copy, 0755), 0);
        f = fopen(path, "w");
        ck_assert_ptr_nonnull(f);
        ck_assert_uint_eq(fwrite(text, 1, strlen(text), f), strlen(text));
        fclose(f);
}

/* The names below a directory, sorted, on one line. */
static char *names(const char *path)
{
        struct buf b = {};
        struct dirent **list;
        int n = scandir(path, &list, NULL, alphasort);

        buf_puts(&b, "");
        for (int i = 0; i < n; i++) {
                if (list[i]->d_name[0] != '.')
                        buf_printf(&b, "%s%s", b.size ? " " : "", list[i]->d_name);
                free(list[i]);
        }
        if (n >= 0)
                free(list);
        return buf_take(&b);
}

static void check_names(const char *path, const char *expected)
{
        _cleanup_free_ char *found = names(path);

        ck_assert_str_eq(found, expected);
}
#define check_entries(expected) check_names("esp/loader/entries", expected)

static void open_it(void)
{
        struct error e = {};
        int r = loader_open(&loader, "systemd-boot", &disk, "esp", "efivars", true, &e);

        ck_assert_msg(r == 0, "%s", e.message);
}

static int file_with(const char *text)
{
        char path[] = "file-XXXXXX";
        int fd = mkstemp(path);

        ck_assert_int_ge(fd, 0);
        unlink(path);
        ck_assert_int_eq(io_pwrite(fd, text, strlen(text), 0), 0);
        return fd;
}

static int add_file(const char *text, uint8_t digest[static DIGEST_SIZE], struct error *e)
{
        int fd = file_with(text), r;

        ck_assert_int_eq(sha256_fd(fd, 0, UINT64_MAX, digest), 0);
        r = loader.ops->add_boot_file(&loader, fd, strlen(text), digest, digest, e);
        fd_close(fd);
        return r;
}

static void setup(void)
{
        scratch_begin();
        ck_assert_int_eq(mkdir("esp", 0755), 0);
        ck_assert_int_eq(mkdir("efivars", 0755), 0);
        open_it();
        ck_assert_int_eq(add_file("kernel", digest_of_kernel, NULL), 0);
        ck_assert_int_eq(add_file("initrd", digest_of_initrd, NULL), 0);
}

static void teardown(void)
{
        io_set_ops(NULL);
        loader_close(&loader);
        scratch_end();
}

static struct entry_spec spec_of(uint64_t generation, int slot)
{
        return (struct entry_spec){ .generation = generation,
                                    .slot = slot,
                                    .version = slot ? "2.0" : "1.0",
                                    .root_partuuid = "11111111-2222-3333-4444-555555555555",
                                    .kernel = digest_of_kernel,
                                    .initrd = digest_of_initrd };
}

static int switch_to(uint64_t generation, int slot, int tries, struct error *e)
{
        struct entry_spec spec = spec_of(generation, slot);

        return loader.ops->switch_to(&loader, &spec, tries, e);
}

static int would_choose(uint64_t generation, int slot, struct error *e)
{
        struct entry_spec spec = spec_of(generation, slot);

        return loader.ops->would_choose(&loader, &spec, 3, e);
}

/* ---- what they leave ---- */

/* The menu's "previous version" is none of ours to list(), stands behind all of them, and goes with its slot. */
START_TEST(the_menu_offers_the_previous_version)
{
        _cleanup_free_ struct loader_entry *list = NULL;
        _cleanup_free_ char *text = NULL;
        struct loader_entry next;
        struct entry_spec spec;
        size_t n;

        ck_assert_int_eq(switch_to(7, 0, 0, NULL), 0);
        ck_assert_int_eq(switch_to(8, 1, 0, NULL), 0);
        spec = spec_of(7, 0);
        spec.rollback = true;
        for (int i = 0; i < 2; i++) {
                ck_assert_int_eq(loader.ops->offer(&loader, &spec, NULL), 0);
                check_entries("bootmgr-7-a.conf bootmgr-8-b.conf bootmgr-previous-a-7.conf");
        }
        ck_assert_int_eq(file_read(AT_FDCWD, "esp/loader/entries/bootmgr-previous-a-7.conf", 512, &text, NULL), 0);
        ck_assert_ptr_nonnull(strstr(text, "title Previous version: 1.0 (slot a)\nversion 7\nsort-key bootmgr-previous\n"));
        ck_assert_ptr_nonnull(strstr(text, " bootmgr.generation=7 " ROLLBACK_WORD "\n"));
        for (size_t i = 0; i < 2; i++) { /* a power cut has left a part of it; somebody wrote behind it */
                _cleanup_free_ char *other = i ? xasprintf("%slinux /x\n", text) : strndup(text, 40), *again = NULL;

                put("esp/loader/entries/bootmgr-previous-a-7.conf", other);
                ck_assert_int_eq(loader.ops->offer(&loader, &spec, NULL), 0);
                ck_assert_int_eq(file_read(AT_FDCWD, "esp/loader/entries/bootmgr-previous-a-7.conf", 512, &again, NULL), 0);
                ck_assert_str_eq(again, text);
        }
        ck_assert_int_eq(loader.ops->list(&loader, &list, &n, NULL), 0);
        ck_assert_uint_eq(n, 2);
        ck_assert_int_eq(loader.ops->next(&loader, &next, NULL), 0);
        ck_assert_uint_eq(next.generation, 8);
        ck_assert_int_eq(would_choose(9, 0, NULL), 0);
        ck_assert_int_eq(loader.ops->prune(&loader, (uint64_t[]){ 8 }, 1, NULL), 0);
        check_entries("bootmgr-8-b.conf bootmgr-previous-a-7.conf");
        ck_assert_int_eq(rename("esp/loader/entries/bootmgr-8-b.conf", "esp/loader/entries/bootmgr-8-b+0-3.conf"), 0);
        ck_assert_int_eq(loader.ops->next(&loader, &next, NULL), 0); /* what has no try left is behind it */
        ck_assert_int_eq(next.slot, 0);
        ck_assert_uint_eq(next.generation, 7);
        ck_assert_int_eq(rename("esp/loader/entries/bootmgr-8-b+0-3.conf", "esp/loader/entries/bootmgr-8-b.conf"), 0);
        spec.extra_cmdline = "quiet"; /* another text, and another slot */
        ck_assert_int_eq(loader.ops->offer(&loader, &spec, NULL), 0);
        check_entries("bootmgr-8-b.conf bootmgr-previous-a-7.conf");
        spec.slot = 1;
        ck_assert_int_eq(loader.ops->offer(&loader, &spec, NULL), 0);
        check_entries("bootmgr-8-b.conf bootmgr-previous-b-7.conf");
        ck_assert_int_eq(loader.ops->remove_slot(&loader, 0, NULL), 0);
        check_entries("bootmgr-8-b.conf bootmgr-previous-b-7.conf");
        ck_assert_int_eq(loader.ops->remove_slot(&loader, 1, NULL), 0);
        check_entries("");
        ck_assert_int_eq(loader.ops->offer(&loader, &spec, NULL), 0);
        ck_assert_int_eq(loader.ops->offer(&loader, NULL, NULL), 0);
        check_entries("");
}
END_TEST

#define GLOBAL_GUID "-8be4df61-93ca-11d2-aa0d-00e098032b8c"

static void check_option(const char *name, const char *description, const char *path, const char *arguments)
{
        _cleanup_free_ char *file = xasprintf("efivars/%s" GLOBAL_GUID, name), *data = NULL;
        _cleanup_load_option_ struct load_option o = {};
        size_t size;

        ck_assert_int_eq(file_read(AT_FDCWD, file, 4096, &data, &size), 0);
        ck_assert_int_eq(load_option_parse(data + 4, size - 4, &o), 0);
        ck_assert_str_eq(o.description, description);
        ck_assert_str_eq(o.path, path);
        ck_assert_str_eq(o.arguments ?: "", arguments);
}

/* How many variables are, or would be, written. */
static unsigned tell_firmware(uint64_t fallback, int tries, bool dry)
{
        unsigned changed = 99;

        ck_assert_int_eq(loader.ops->firmware(&loader, fallback, tries, dry, &changed, NULL), 0);
        return changed;
}

static const char systemd_boot[] = "\\EFI\\systemd\\systemd-bootx64.efi";

/* Only what is on this ESP, and only with an entry that could be started. */
START_TEST(the_firmware_is_told)
{
        _cleanup_free_ char *kernel = NULL, *arguments = NULL, *file = NULL;
        char kernel_file[BOOT_FILE_PATH_SIZE], kernel_id[33], initrd_id[33];

        hex_encode(digest_of_kernel, BOOT_FILE_ID_SIZE, kernel_id);
        hex_encode(digest_of_initrd, BOOT_FILE_ID_SIZE, initrd_id);
        boot_file_path(digest_of_kernel, kernel_file);
        ck_assert_int_eq(switch_to(7, 0, 0, NULL), 0);
        ck_assert_uint_eq(tell_firmware(7, 3, true), 0); /* this disk has no ESP partition */
        disk.esp = (struct partition){ .present = true,
                                       .number = 1,
                                       .offset = 1 << 20,
                                       .size = 1 << 27,
                                       .uuid = "4f551100-77ff-49c1-beb0-279596370b19" };
        ck_assert_uint_eq(tell_firmware(7, 3, true), 0); /* no loader lies there: who knows what starts it */
        put("esp/EFI/systemd/systemd-bootx64.efi", "x");
        ck_assert_uint_eq(tell_firmware(7, 3, true), 5); /* three starts, the fallback, the order */
        ck_assert_uint_eq(tell_firmware(6, 2, true), 3);
        ck_assert_uint_eq(tell_firmware(7, 3, false), 5);
        ck_assert_uint_eq(tell_firmware(7, 3, true), 0);
        check_option("Boot0010", "bootmgr 1", systemd_boot, "");
        check_option("Boot0012", "bootmgr 3", systemd_boot, "");
        kernel = xasprintf("\\bootmgr\\%s", kernel_id);
        arguments = xasprintf("initrd=\\bootmgr\\%s root=PARTUUID=11111111-2222-3333-4444-555555555555 ro gpt panic=10 "
                              "bootmgr.slot=a bootmgr.generation=7 " FALLBACK_WORD,
                              initrd_id);
        check_option("Boot0013", "bootmgr fallback", kernel, arguments);
        put("esp/EFI/BOOT/BOOTx64.EFI", "x");
        ck_assert_uint_eq(tell_firmware(7, 3, false), 2);
        check_option("Boot0014", "bootmgr removable", "\\EFI\\BOOT\\BOOTx64.EFI", "");
        ck_assert_uint_eq(tell_firmware(7, 0, true), 1);           /* one start at least */
        ck_assert_uint_eq(tell_firmware(7, INT_MAX, true), 6 + 1); /* nine at most */
        ck_assert_uint_eq(tell_firmware(6, 3, true), 1);           /* no such entry */
        file = xasprintf("esp/%s", kernel_file);
        ck_assert_int_eq(unlink(file), 0);
        ck_assert_uint_eq(tell_firmware(7, 3, true), 1); /* one that nobody could start */
        disk.esp = (struct partition){};
}
END_TEST

START_TEST(the_life_of_two_generations)
{
        _cleanup_free_ struct loader_entry *list = NULL;
        struct loader_entry next;
        uint64_t highest, keep[] = { 8 };
        size_t n;

        ck_assert_int_eq(loader_highest_generation(&loader, &highest, NULL), 0);
        ck_assert_uint_eq(highest, 0);
        ck_assert_int_eq(loader.ops->next(&loader, &next, NULL), -ENOENT);
        ck_assert_int_eq(switch_to(7, 0, 0, NULL), 0);
        ck_assert_int_eq(switch_to(8, 1, 3, NULL), 0);
        check_entries("bootmgr-7-a.conf bootmgr-8-b+3-0.conf");
        ck_assert_int_eq(loader.ops->list(&loader, &list, &n, NULL), 0);
        ck_assert_uint_eq(n, 2);
        ck_assert_uint_eq(list[0].generation, 8);
        ck_assert_int_eq(list[0].tries_left, 3);
        ck_assert_str_eq(list[0].version, "2.0");
        ck_assert_mem_eq(list[0].kernel, digest_of_kernel, BOOT_FILE_ID_SIZE);
        ck_assert_mem_eq(list[0].initrd, digest_of_initrd, BOOT_FILE_ID_SIZE);
        ck_assert_int_eq(list[1].tries_left, -1);
        ck_assert(list[0].usable && list[1].usable);
        ck_assert_int_eq(loader.ops->next(&loader, &next, NULL), 0);
        ck_assert_uint_eq(next.generation, 8);
        ck_assert_int_eq(rename("esp/loader/entries/bootmgr-8-b+3-0.conf", "esp/loader/entries/bootmgr-8-b+2-1.conf"), 0);
        for (int twice = 0; twice < 2; twice++)
                ck_assert_int_eq(loader.ops->confirm(&loader, 8, NULL), 0);
        check_entries("bootmgr-7-a.conf bootmgr-8-b.conf");
        put("esp/bootmgr/0123456789abcdef0123456789abcdef", "no entry names it");
        put("esp/bootmgr/01234567.TMP", "left behind");
        put("esp/bootmgr/readme.txt", "not ours");
        put("esp/loader/entries/foreign.conf", "title x\nlinux /bootmgr/00000000000000000000000000000001\n");
        put("esp/bootmgr/00000000000000000000000000000001", "a foreign entry names it");
        ck_assert_int_eq(loader.ops->prune(&loader, keep, 1, NULL), 0);
        check_entries("bootmgr-8-b.conf foreign.conf");
        ck_assert_int_eq(access("esp/bootmgr/0123456789abcdef0123456789abcdef", F_OK), -1);
        ck_assert_int_eq(access("esp/bootmgr/01234567.TMP", F_OK), -1);
        ck_assert_int_eq(access("esp/bootmgr/readme.txt", F_OK), 0);
        ck_assert_int_eq(access("esp/bootmgr/00000000000000000000000000000001", F_OK), 0);
        ck_assert_int_eq(loader.ops->check_boot_file(&loader, digest_of_kernel, NULL), 0);
        ck_assert_int_eq(loader.ops->remove_slot(&loader, 1, NULL), 0);
        ck_assert_int_eq(loader.ops->remove_slot(&loader, 1, NULL), 0);
        check_entries("foreign.conf");
}
END_TEST

/* A record that is rebuilt takes versions from titles: only what is one, or the record could not be written. */
START_TEST(titles_of_others_give_no_version)
{
        static const struct {
                const char *title, *version;
        } rows[] = { { "title 2.0 (slot b)", "2.0" },
                     { "title ../2 (slot b)", "" },
                     { "title 2.0", "" },
                     { "title  (slot b)", "" },
                     { "title 2\x1b[2J (slot b)", "" } };
        _cleanup_free_ char *text = xasprintf("%s\nlinux /x\n", rows[_i].title);
        _cleanup_free_ struct loader_entry *list = NULL;
        size_t n;

        put("esp/loader/entries/bootmgr-8-b.conf", text);
        ck_assert_int_eq(loader.ops->list(&loader, &list, &n, NULL), 0);
        ck_assert_uint_eq(n, 1);
        ck_assert_str_eq(list[0].version, rows[_i].version);
}
END_TEST

/* An entry of ours under a name that we would not write is still ours, and goes by the name it has. */
START_TEST(other_spellings_of_our_names)
{
        struct error e = {};

        put("esp/loader/entries/bootmgr-8-b+3.conf", "title 2 (slot b)\nlinux /x\n");
        put("esp/loader/entries/bootmgr-9-b.CONF", "title 2 (slot b)\nlinux /x\n");
        ck_assert_int_eq(loader.ops->confirm(&loader, 8, NULL), 0);
        check_entries("bootmgr-8-b.conf bootmgr-9-b.CONF");
        ck_assert_int_eq(loader.ops->remove_slot(&loader, 1, NULL), 0);
        check_entries("");
        ck_assert_int_eq(loader.ops->confirm(&loader, 8, &e), -ENOENT);
        ck_assert_ptr_eq(e.kind, &kind_esp_unusable);
        ck_assert_ptr_nonnull(strstr(e.message, "generation 8"));
        error_done(&e);
}
END_TEST

START_TEST(a_name_is_used_once)
{
        struct error e = {};

        ck_assert_int_eq(switch_to(7, 0, 3, NULL), 0);
        ck_assert_int_eq(switch_to(7, 0, 3, &e), -EEXIST);
        ck_assert_ptr_nonnull(strstr(e.message, "bootmgr-7-a+3-0.conf"));
        error_done(&e);
}
END_TEST

/* An entry that nothing could start is not made. */
START_TEST(no_entry_without_its_files)
{
        struct entry_spec spec = spec_of(8, 1);
        static const uint8_t unknown[BOOT_FILE_ID_SIZE] = { 1 };
        struct error e = {};

        *(_i ? &spec.kernel : &spec.initrd) = unknown;
        ck_assert_int_eq(loader.ops->switch_to(&loader, &spec, 3, &e), -ENOENT);
        ck_assert_ptr_eq(e.kind, &kind_esp_unusable);
        ck_assert_int_eq(access("esp/loader", F_OK), -1);
        error_done(&e);
}
END_TEST

START_TEST(boot_files_are_checked)
{
        _cleanup_free_ char *path = NULL;
        char file[BOOT_FILE_PATH_SIZE];
        uint8_t digest[DIGEST_SIZE], other[BOOT_FILE_ID_SIZE] = { 9 };
        struct error e = {};

        boot_file_path(digest_of_kernel, file);
        path = xasprintf("esp/%s", file);
        put(path, "kernal");
        ck_assert_int_eq(loader.ops->check_boot_file(&loader, digest_of_kernel, &e), -EBADMSG);
        ck_assert_ptr_eq(e.kind, &kind_content);
        error_done(&e);
        ck_assert_int_eq(loader.ops->check_boot_file(&loader, other, &e), -ENOENT);
        error_done(&e);
        /* No entry names it: it is written again. */
        ck_assert_int_eq(add_file("kernel", digest, NULL), 0);
        ck_assert_int_eq(loader.ops->check_boot_file(&loader, digest_of_kernel, NULL), 0);
        /* An entry does: it might be the fallback. */
        ck_assert_int_eq(switch_to(7, 0, 0, NULL), 0);
        put(path, "kernal");
        ck_assert_int_eq(add_file("kernel", digest, &e), -EBADMSG);
        ck_assert_ptr_nonnull(e.hint);
        error_done(&e);
        /* What does not become what its name says is found out. */
        memset(digest, 0x55, sizeof(digest));
        ck_assert_int_eq(loader.ops->add_boot_file(&loader, open("/dev/null", O_RDONLY | O_CLOEXEC), 0, digest, digest, &e),
                         -EBADMSG);
        error_done(&e);
}
END_TEST

/* ---- what would be chosen ---- */

static void put_variable(const char *name, const char *value)
{
        _cleanup_free_ char *path = xasprintf("efivars/%s-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f", name);
        FILE *f = fopen(path, "w");

        ck_assert_ptr_nonnull(f);
        fwrite("\x07\0\0\0", 1, 4, f);
        for (; *value; value++) {
                fputc(*value, f);
                fputc(0, f);
        }
        fwrite("\0", 1, 2, f);
        fclose(f);
}

START_TEST(pins_and_foreign_entries_refuse_a_switch)
{
        static const struct {
                const char *path, *text, *variable, *says;
        } rows[] = {
                { "esp/loader/entries/arch.conf", "title x\nsort-key arch\nlinux /vmlinuz\n", NULL, "entry arch instead" },
                { "esp/loader/loader.conf", "default bootmgr-7-a.conf\n", NULL, "loader.conf" },
                { NULL, "bootmgr-7-a.conf", "LoaderEntryDefault", "LoaderEntryDefault" },
                { NULL, "bootmgr-7-a.conf", "LoaderEntryOneShot", "LoaderEntryOneShot" },
                { "esp/loader/loader.conf", "default auto-efi-default\n", NULL, "auto-efi-default" },
        };
        struct error e = {};
        struct loader_entry next;
        struct buf notes = {};

        put("esp/vmlinuz", "x");
        put("esp/EFI/BOOT/BOOTx64.efi", "not a systemd-boot");
        put("esp/EFI/BOOT/BOOTaa64.efi", "not a systemd-boot");
        ck_assert_int_eq(switch_to(7, 0, 0, NULL), 0);
        ck_assert_int_eq(would_choose(8, 1, NULL), 0);
        if (rows[_i].variable)
                put_variable(rows[_i].variable, rows[_i].text);
        else
                put(rows[_i].path, rows[_i].text);
        ck_assert_int_eq(would_choose(8, 1, &e), -EPERM);
        ck_assert_ptr_eq(e.kind, &kind_loader_pinned);
        ck_assert_ptr_nonnull(strstr(e.message, rows[_i].says));
        ck_assert_ptr_nonnull(e.hint);
        error_done(&e);
        check_entries(_i == 0 ? "arch.conf bootmgr-7-a.conf" : "bootmgr-7-a.conf");
        ck_assert_int_eq(loader.ops->next(&loader, &next, NULL), _i == 0 || _i == 4 ? -ENOENT : 0);
        ck_assert_int_eq(loader.ops->inspect(&loader, &notes, NULL), 0);
        ck_assert_ptr_nonnull(strstr(notes.data, _i == 0 || _i == 4 ? "not ours" : "again and again"));
        buf_done(&notes);
}
END_TEST

START_TEST(what_does_not_matter_to_the_choice)
{
        static const char *const rows[][2] = {
                { "esp/loader/entries/arch.conf", "title x\nsort-key arch\nlinux /gone\n" },
                { "esp/loader/entries/arch.conf", "title x\nsort-key arch\narchitecture z80\nlinux /vmlinuz\n" },
                { "esp/loader/entries/arch.conf", "title x\nsort-key arch\n" },
                { "esp/loader/entries/.arch.conf", "title x\nsort-key arch\nlinux /vmlinuz\n" },
                { "esp/loader/entries/auto-arch.conf", "title x\nsort-key arch\nlinux /vmlinuz\n" },
                { "esp/loader/entries/arch.conf.bak", "title x\nsort-key arch\nlinux /vmlinuz\n" },
                { "esp/loader/entries/arch.conf/x", "a directory" },
                { "esp/EFI/Linux/arch.efi", "no PE file" },
                { "esp/loader/loader.conf", "default auto-windows\n" },
        };
        _cleanup_free_ char *big = calloc(1, 70001);

        put("esp/vmlinuz", "x");
        put(rows[_i][0], rows[_i][1]);
        memset(big, '#', 70000);
        put("esp/loader/entries/big.conf", big); /* not seen */
        put_variable("LoaderEntryDefault", "");
        ck_assert_int_eq(would_choose(8, 1, NULL), 0);
}
END_TEST

START_TEST(too_many_entries_are_an_error)
{
        struct error e = {};

        for (int i = 0; i < 513; i++) {
                _cleanup_free_ char *path = xasprintf("esp/loader/entries/%d.conf", i);

                put(path, "title x\nlinux /x\n");
        }
        ck_assert_int_eq(would_choose(8, 1, &e), -E2BIG);
        error_done(&e);
}
END_TEST

/* ---- the order of writes, and what is left when a call fails ---- */

static struct buf story;
static int fail_at, fail_with, calls; /* fail_at 0: never */
static bool broken;                   /* something that exists was changed */

static bool fails(void)
{
        return ++calls == fail_at;
}

static int spy_open(int dirfd, const char *path, int flags, mode_t mode)
{
        if (flags & (O_CREAT | O_TRUNC)) {
                broken = broken || flags & O_TRUNC || (flags & O_CREAT && !(flags & O_EXCL));
                if (fails())
                        return fail_with;
                buf_puts(&story, "create ");
        } else {
                broken = broken || (flags & O_ACCMODE) != O_RDONLY;
        }
        return io_system_ops.open(dirfd, path, flags, mode);
}

static ssize_t spy_pwrite(int fd, const void *data, size_t n, uint64_t offset)
{
        if (fails())
                return fail_with;
        buf_puts(&story, "write ");
        return io_system_ops.pwrite(fd, data, n, offset);
}

static int spy_fsync(int fd)
{
        struct stat st;

        if (fails())
                return fail_with;
        ck_assert_int_eq(fstat(fd, &st), 0);
        buf_puts(&story, S_ISDIR(st.st_mode) ? "fsync-dir " : "fsync ");
        return io_system_ops.fsync(fd);
}

static int spy_truncate(int fd, uint64_t size)
{
        broken = true;
        return io_system_ops.truncate(fd, size);
}

static int spy_rename(int olddir, const char *old, int newdir, const char *new, unsigned flags)
{
        broken = broken || flags != RENAME_NOREPLACE;
        if (fails())
                return fail_with;
        buf_printf(&story, "rename(%s) ", strrchr(new, '/') ? strrchr(new, '/') + 1 : new);
        return io_system_ops.rename(olddir, old, newdir, new, flags);
}

static int spy_unlink(int dirfd, const char *path, int flags)
{
        const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;

        if (fails())
                return fail_with;
        buf_printf(&story, "unlink(%s) ", strstr(base, ".TMP") ? "temporary" : base);
        return io_system_ops.unlink(dirfd, path, flags);
}

static int spy_mkdir(int dirfd, const char *path, mode_t mode)
{
        int r;

        if (fails())
                return fail_with;
        r = io_system_ops.mkdir(dirfd, path, mode);
        if (r == 0)
                buf_puts(&story, "mkdir ");
        return r;
}

static void spy(int at, int with)
{
        static struct io_ops ops;

        ops = io_system_ops;
        ops.open = spy_open;
        ops.pwrite = spy_pwrite;
        ops.fsync = spy_fsync;
        ops.truncate = spy_truncate;
        ops.rename = spy_rename;
        ops.unlink = spy_unlink;
        ops.mkdir = spy_mkdir;
        buf_done(&story);
        buf_puts(&story, "");
        fail_at = at;
        fail_with = with;
        calls = 0;
        broken = false;
        io_set_ops(&ops);
}

static void check_story(const char *expected)
{
        io_set_ops(NULL);
        ck_assert_str_eq(story.data, expected);
        ck_assert_msg(!broken, "something that exists was opened for writing, truncated or replaced");
        buf_done(&story);
}

/* One system confirmed, one on trial, and a foreign entry. */
static void two_entries(void)
{
        ck_assert_int_eq(switch_to(7, 0, 0, NULL), 0);
        ck_assert_int_eq(switch_to(8, 1, 3, NULL), 0);
        put("esp/loader/entries/foreign.conf", "title x\nlinux /x\n");
}

START_TEST(the_order_of_a_switch)
{
        ck_assert_int_eq(switch_to(7, 0, 0, NULL), 0);
        spy(0, 0);
        ck_assert_int_eq(switch_to(8, 1, 3, NULL), 0);
        check_story("create write fsync fsync-dir rename(bootmgr-8-b+3-0.conf) fsync fsync-dir ");
}
END_TEST

START_TEST(the_order_of_the_first_switch)
{
        spy(0, 0);
        ck_assert_int_eq(switch_to(7, 0, 0, NULL), 0);
        check_story(
                "mkdir mkdir fsync-dir fsync-dir create write fsync fsync-dir rename(bootmgr-7-a.conf) fsync fsync-dir ");
}
END_TEST

START_TEST(the_order_of_a_confirmation)
{
        two_entries();
        spy(0, 0);
        ck_assert_int_eq(loader.ops->confirm(&loader, 8, NULL), 0);
        check_story("create write fsync fsync-dir rename(bootmgr-8-b.conf) fsync fsync-dir "
                    "unlink(bootmgr-8-b+3-0.conf) fsync-dir ");
}
END_TEST

/* The menu never offers two: what it says no more is gone for good before the other one is made. */
START_TEST(the_order_of_the_menu)
{
        struct entry_spec spec;

        two_entries();
        spec = spec_of(7, 0);
        spec.rollback = true;
        ck_assert_int_eq(loader.ops->offer(&loader, &spec, NULL), 0);
        spy(0, 0);
        ck_assert_int_eq(loader.ops->offer(&loader, &spec, NULL), 0);
        check_story("");
        spec.generation = 9;
        spy(0, 0);
        ck_assert_int_eq(loader.ops->offer(&loader, &spec, NULL), 0);
        check_story("unlink(bootmgr-previous-a-7.conf) fsync-dir create write fsync fsync-dir "
                    "rename(bootmgr-previous-a-9.conf) fsync fsync-dir ");
        spy(0, 0);
        ck_assert_int_eq(loader.ops->offer(&loader, NULL, NULL), 0);
        check_story("unlink(bootmgr-previous-a-9.conf) fsync-dir ");
}
END_TEST

static bool is_whole(const char *name)
{
        _cleanup_free_ char *path = xasprintf("esp/loader/entries/%s", name), *text = NULL;

        return file_read(AT_FDCWD, path, ENTRY_SIZE_MAX, &text, NULL) >= 0 && strstr(text, "bootmgr.generation=") &&
               text[strlen(text) - 1] == '\n';
}

/* A power cut while the counted entry was removed has freed its content before its name; or left another's. */
START_TEST(confirms_beside_a_remnant)
{
        const char *const damages[] = { "", "bootmgr", "title x\nlinux /not-there\n" };

        for (size_t i = 0; i < ARRAY_SIZE(damages); i++) {
                two_entries();
                ck_assert_int_eq(loader.ops->confirm(&loader, 8, NULL), 0);
                put("esp/loader/entries/bootmgr-8-b+2-1.conf", damages[i]);
                ck_assert_int_eq(loader.ops->confirm(&loader, 8, NULL), 0);
                check_names("esp/loader/entries", "bootmgr-7-a.conf bootmgr-8-b.conf foreign.conf");
                ck_assert(is_whole("bootmgr-8-b.conf"));
                ck_assert_int_eq(loader.ops->remove_slot(&loader, 1, NULL), 0);
                /* The other way round: it was cut behind the rename of the plain one. */
                ck_assert_int_eq(switch_to(8, 1, 3, NULL), 0);
                put("esp/loader/entries/bootmgr-8-b.conf", damages[i]);
                ck_assert_int_eq(loader.ops->confirm(&loader, 8, NULL), 0);
                check_names("esp/loader/entries", "bootmgr-7-a.conf bootmgr-8-b.conf foreign.conf");
                ck_assert(is_whole("bootmgr-8-b.conf"));
                ck_assert_int_eq(loader.ops->remove_slot(&loader, 0, NULL), 0);
                ck_assert_int_eq(loader.ops->remove_slot(&loader, 1, NULL), 0);
        }
}
END_TEST

START_TEST(the_order_of_the_removals)
{
        char file[BOOT_FILE_PATH_SIZE];
        uint64_t keep[] = { 7 };
        _cleanup_free_ char *expected = NULL;

        two_entries();
        spy(0, 0);
        ck_assert_int_eq(loader.ops->prune(&loader, keep, 1, NULL), 0);
        check_story("unlink(bootmgr-8-b+3-0.conf) fsync-dir ");
        ck_assert_int_eq(unlink("esp/loader/entries/bootmgr-7-a.conf"), 0);
        ck_assert_int_eq(add_file("other", (uint8_t[DIGEST_SIZE]){}, NULL), 0);
        ck_assert_int_eq(loader.ops->prune(&loader, keep, 1, NULL), 0);
        check_names("esp/bootmgr", "");
        /* What they name goes only once the entries are gone for good. */
        ck_assert_int_eq(add_file("kernel", digest_of_kernel, NULL), 0);
        ck_assert_int_eq(add_file("initrd", digest_of_initrd, NULL), 0);
        ck_assert_int_eq(switch_to(9, 0, 0, NULL), 0);
        ck_assert_int_eq(unlink("esp/bootmgr/.none"), -1);
        boot_file_path(digest_of_kernel, file);
        spy(0, 0);
        ck_assert_int_eq(loader.ops->prune(&loader, keep, 0, NULL), 0);
        expected = xasprintf("unlink(bootmgr-9-a.conf) fsync-dir ");
        ck_assert_msg(startswith(story.data, expected) != NULL, "%s", story.data);
        ck_assert_ptr_nonnull(strstr(story.data + strlen(expected), file + 8));
        io_set_ops(NULL);
        buf_done(&story);
}
END_TEST

/* Each by itself: one that is whole says nothing of the other. */
START_TEST(a_slot_needs_both_of_its_boot_files)
{
        const uint8_t *digest = _i ? digest_of_initrd : digest_of_kernel;
        char file[BOOT_FILE_PATH_SIZE], path[BOOT_FILE_PATH_SIZE + 8];
        struct slot slot = {};

        memcpy(slot.kernel, digest_of_kernel, BOOT_FILE_ID_SIZE);
        memcpy(slot.initrd, digest_of_initrd, BOOT_FILE_ID_SIZE);
        ck_assert_int_eq(loader_check_slot(&loader, &slot, NULL), 0);
        boot_file_path(digest, file);
        snprintf(path, sizeof(path), "esp/%s", file);
        ck_assert_int_eq(truncate(path, 3), 0);
        ck_assert_int_eq(loader_check_slot(&loader, &slot, NULL), -EBADMSG);
        ck_assert_int_eq(unlink(path), 0);
        ck_assert_int_eq(loader_check_slot(&loader, &slot, NULL), -ENOENT);
}
END_TEST

START_TEST(the_order_of_a_boot_file)
{
        _cleanup_free_ char *expected = NULL;
        uint8_t digest[DIGEST_SIZE];
        char file[BOOT_FILE_PATH_SIZE];

        ck_assert_int_eq(add_file("new", digest, NULL), 0);
        boot_file_path(digest, file);
        ck_assert_int_eq(unlinkat(AT_FDCWD, "esp/bootmgr", 0), -1);
        spy(0, 0);
        ck_assert_int_eq(add_file("new", digest, NULL), 0); /* there already */
        ck_assert_str_eq(story.data, "write ");             /* the source of this test */
        spy(0, 0);
        ck_assert_int_eq(add_file("newer", digest, NULL), 0);
        boot_file_path(digest, file);
        expected = xasprintf("write fsync-dir unlink(temporary) create write fsync fsync-dir rename(%s) fsync fsync-dir ",
                             file + 8);
        io_set_ops(NULL);
        ck_assert_str_eq(story.data, expected);
        buf_done(&story);
}
END_TEST

/* Every call of an operation fails once, with both errors: the others' entries are there and whole, nothing temporary is
 * taken for an entry, and a second try succeeds. */
static int do_switch(void)
{
        return switch_to(9, 1, 3, NULL);
}

static int do_confirm(void)
{
        return loader.ops->confirm(&loader, 8, NULL);
}

static int do_remove(void)
{
        return loader.ops->remove_slot(&loader, 1, NULL);
}

static int do_prune(void)
{
        return loader.ops->prune(&loader, (uint64_t[]){ 7 }, 1, NULL);
}

static const struct {
        int (*run)(void);
        const char *after;
        bool keeps_trial; /* generation 8 can be started at every moment */
} operations[] = {
        { do_switch, "bootmgr-7-a.conf bootmgr-8-b+3-0.conf bootmgr-9-b+3-0.conf foreign.conf", true },
        { do_confirm, "bootmgr-7-a.conf bootmgr-8-b.conf foreign.conf", true },
        { do_remove, "bootmgr-7-a.conf foreign.conf", false },
        { do_prune, "bootmgr-7-a.conf foreign.conf", false },
};

START_TEST(a_call_that_fails_leaves_the_old_entries)
{
        static const int errors[] = { -EIO, -ENOSPC };
        int last = 1;

        for (int e = 0; e < 2; e++)
                for (int at = 1; at <= last; at++) {
                        _cleanup_free_ struct loader_entry *list = NULL;
                        size_t n;
                        int r;

                        ck_assert_int_eq(system("rm -rf esp/loader"), 0);
                        two_entries();
                        spy(at, errors[e]);
                        r = operations[_i].run();
                        last = MAX(last, calls < at ? 0 : at + 1);
                        io_set_ops(NULL);
                        ck_assert(!broken);
                        if (calls < at)
                                break; /* there are no more calls */
                        /* Making a directory that is there is no failure worth a word. */
                        ck_assert_msg(r < 0 || strstr(story.data, "rename") || strstr(story.data, "unlink"), "call %d: %s",
                                      at, story.data);
                        ck_assert(is_whole("bootmgr-7-a.conf"));
                        ck_assert_int_eq(access("esp/loader/entries/foreign.conf", F_OK), 0);
                        ck_assert(!operations[_i].keeps_trial || is_whole("bootmgr-8-b+3-0.conf") ||
                                  is_whole("bootmgr-8-b.conf"));
                        ck_assert_int_eq(loader.ops->list(&loader, &list, &n, NULL), 0);
                        for (size_t i = 0; i < n; i++)
                                ck_assert(list[i].usable);
                        r = operations[_i].run();
                        ck_assert_msg(r == 0 || (r == -EEXIST && _i == 0), "call %d: a second try fails: %s", at,
                                      error_text(r));
                        check_entries(operations[_i].after);
                }
        ck_assert_int_gt(last, 2);
        buf_done(&story);
}
END_TEST

static int install_rescue(int kernel, int initrd)
{
        return rescue_install(&loader, kernel, initrd, "quiet", NULL);
}

/* Whatever fails, a whole rescue entry is there; a second try leaves the new one alone. */
START_TEST(the_rescue_entry_is_replaced)
{
        _cleanup_close_ int kernel = file_with("kernel"), initrd = file_with("older"), newer = file_with("newer");
        struct rescue older, rescue;
        int last = 1;

        for (int at = 1; at <= last; at++) {
                ck_assert_int_eq(system("rm -rf esp/loader"), 0);
                ck_assert_int_eq(install_rescue(kernel, initrd), 0);
                ck_assert_int_eq(rescue_find(&loader, &older, NULL), 0);
                spy(at, -EIO);
                install_rescue(kernel, newer);
                last = MAX(last, calls < at ? 0 : at + 1);
                io_set_ops(NULL);
                ck_assert_int_eq(rescue_find(&loader, &rescue, NULL), 0);
                ck_assert_msg(rescue.usable, "call %d: %s", at, story.data);
                ck_assert_int_eq(install_rescue(kernel, newer), 0);
                check_names("esp/loader/entries", "bootmgr-rescue+0-1.conf");
                ck_assert_int_eq(rescue_find(&loader, &rescue, NULL), 0);
                ck_assert(rescue.usable && memcmp(rescue.initrd, older.initrd, BOOT_FILE_ID_SIZE) != 0);
        }
        ck_assert_int_gt(last, 10);
        buf_done(&story);
}
END_TEST

/* As systemd-boot 252 reads it: attributes, then the entry's file name in lower case, UTF-16 with its NUL. */
START_TEST(the_rescue_entry_boots_next)
{
        static const char name[] = "bootmgr-rescue+0-0.conf";
        _cleanup_free_ char *data = NULL;
        _cleanup_close_ int kernel = file_with("kernel"), initrd = file_with("initrd");
        struct loader_entry next;
        struct rescue rescue;
        size_t size;

        ck_assert_int_eq(install_rescue(kernel, initrd), 0);
        ck_assert_int_eq(rescue_find(&loader, &rescue, NULL), 0);
        put("efivars/LoaderEntryOneShot-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f",
            "something longer than what is written over it");
        ck_assert_int_eq(rescue_boot_next(&loader, &rescue, NULL), 0);
        ck_assert_int_eq(
                file_read(AT_FDCWD, "efivars/LoaderEntryOneShot-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f", 4096, &data, &size),
                0);
        ck_assert_uint_eq(size, 4 + 2 * sizeof(name));
        ck_assert_mem_eq(data, "\7\0\0\0", 4);
        for (size_t i = 0; i < sizeof(name); i++)
                ck_assert_uint_eq(get_le16(data + 4 + 2 * i), (uint8_t)name[i]);
        ck_assert_int_eq(loader.ops->next(&loader, &next, NULL), -ENOENT);
}
END_TEST

/* The plain name was made, and its last flush failed: the counted one goes only after a flush that worked. */
START_TEST(a_confirmation_flushes_what_an_earlier_one_made)
{
        struct error e = {};

        two_entries();
        spy(7, -EIO); /* the last of the seven calls that make the new file, a flush */
        ck_assert_int_eq(loader.ops->confirm(&loader, 8, NULL), -EIO);
        io_set_ops(NULL);
        check_entries("bootmgr-7-a.conf bootmgr-8-b+3-0.conf bootmgr-8-b.conf foreign.conf");
        spy(0, 0);
        ck_assert_int_eq(loader.ops->confirm(&loader, 8, NULL), 0);
        check_story("fsync fsync-dir unlink(bootmgr-8-b+3-0.conf) fsync-dir ");
        /* Not the same: neither is touched. */
        put("esp/kernel", "another");
        put("esp/loader/entries/bootmgr-8-b+3-0.conf", "title another\nlinux /kernel\n");
        ck_assert_int_eq(loader.ops->confirm(&loader, 8, &e), -EUCLEAN);
        check_entries("bootmgr-7-a.conf bootmgr-8-b+3-0.conf bootmgr-8-b.conf foreign.conf");
        error_done(&e);
}
END_TEST

/* ---- opening ---- */

START_TEST(an_esp_that_cannot_be_used)
{
        struct loader l;
        struct error e = {};

        ck_assert_int_eq(loader_open(&l, "systemd-boot", &disk, "nowhere", NULL, false, &e), -ENOENT);
        ck_assert_ptr_eq(e.kind, &kind_esp_unusable);
        error_done(&e);
        ck_assert_int_eq(loader_open(&l, "systemd-boot", &disk, NULL, NULL, false, &e), -ENODEV);
        ck_assert_ptr_nonnull(e.hint);
        error_done(&e);
        ck_assert_int_eq(loader_open(&l, "lilo", &disk, "esp", NULL, false, &e), -EINVAL);
        ck_assert_ptr_eq(e.kind, &kind_config_invalid);
        error_done(&e);
        if (geteuid() == 0)
                return; /* root may write anywhere */
        ck_assert_int_eq(chmod("esp", 0555), 0);
        ck_assert_int_lt(loader_open(&l, "systemd-boot", &disk, "esp", NULL, true, &e), 0);
        ck_assert_ptr_eq(e.kind, &kind_esp_unusable);
        error_done(&e);
        ck_assert_int_eq(loader_open(&l, "systemd-boot", &disk, "esp", NULL, false, &e), 0);
        loader_close(&l);
        ck_assert_int_eq(chmod("esp", 0755), 0);
}
END_TEST

START_TEST(an_entries_directory_that_is_none)
{
        struct error e = {};
        struct loader_entry *list;
        size_t n;

        put("esp/loader/entries", "a file");
        ck_assert_int_eq(loader.ops->list(&loader, &list, &n, &e), -ENOTDIR);
        ck_assert_ptr_eq(e.kind, &kind_esp_unusable);
        error_done(&e);
        ck_assert_int_lt(switch_to(7, 0, 0, &e), 0);
        error_done(&e);
        ck_assert_int_eq(would_choose(7, 0, NULL), -ENOTDIR);
        ck_assert_int_eq(loader.ops->confirm(&loader, 7, NULL), -ENOTDIR);
        ck_assert_int_eq(loader.ops->prune(&loader, NULL, 0, NULL), -ENOTDIR);
}
END_TEST

START_TEST(no_loader_at_all)
{
        struct entry_spec spec = spec_of(8, 1);
        struct loader_entry next, *list;
        struct buf notes = {};
        struct loader l;
        uint64_t highest = 9;
        size_t n = 9;

        ck_assert_int_eq(loader_open(&l, "none", &disk, NULL, NULL, true, NULL), 0);
        ck_assert_int_eq(l.ops->add_boot_file(&l, -1, 0, digest_of_kernel, digest_of_kernel, NULL), 0);
        ck_assert_int_eq(l.ops->check_boot_file(&l, digest_of_kernel, NULL), 0);
        ck_assert_int_eq(l.ops->would_choose(&l, &spec, 3, NULL), 0);
        ck_assert_int_eq(l.ops->switch_to(&l, &spec, 3, NULL), 0);
        ck_assert_int_eq(l.ops->list(&l, &list, &n, NULL), 0);
        ck_assert_uint_eq(n, 0);
        ck_assert_int_eq(loader_highest_generation(&l, &highest, NULL), 0);
        ck_assert_uint_eq(highest, 0);
        ck_assert_int_eq(l.ops->next(&l, &next, NULL), -ENOENT);
        ck_assert_int_eq(l.ops->confirm(&l, 8, NULL), 0);
        ck_assert_int_eq(l.ops->remove_slot(&l, 1, NULL), 0);
        ck_assert_int_eq(l.ops->prune(&l, NULL, 0, NULL), 0);
        ck_assert_int_eq(l.ops->inspect(&l, &notes, NULL), 0);
        ck_assert_ptr_nonnull(strstr(notes.data, "Loader=none"));
        buf_done(&notes);
        loader_close(&l);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("sdboot");
        TCase *t = tcase_create("sdboot");

        tcase_set_timeout(t, 60);
        tcase_add_checked_fixture(t, setup, teardown);
        tcase_add_test(t, the_life_of_two_generations);
        tcase_add_test(t, the_menu_offers_the_previous_version);
        tcase_add_test(t, the_firmware_is_told);
        tcase_add_test(t, other_spellings_of_our_names);
        tcase_add_loop_test(t, titles_of_others_give_no_version, 0, 5);
        tcase_add_test(t, a_name_is_used_once);
        tcase_add_loop_test(t, no_entry_without_its_files, 0, 2);
        tcase_add_test(t, boot_files_are_checked);
        tcase_add_loop_test(t, pins_and_foreign_entries_refuse_a_switch, 0, 5);
        tcase_add_loop_test(t, what_does_not_matter_to_the_choice, 0, 9);
        tcase_add_test(t, too_many_entries_are_an_error);
        tcase_add_test(t, the_order_of_a_switch);
        tcase_add_test(t, the_order_of_the_first_switch);
        tcase_add_test(t, the_order_of_a_confirmation);
        tcase_add_test(t, the_order_of_the_menu);
        tcase_add_test(t, confirms_beside_a_remnant);
        tcase_add_test(t, the_order_of_the_removals);
        tcase_add_test(t, the_order_of_a_boot_file);
        tcase_add_loop_test(t, a_call_that_fails_leaves_the_old_entries, 0, 4);
        tcase_add_test(t, the_rescue_entry_is_replaced);
        tcase_add_test(t, the_rescue_entry_boots_next);
        tcase_add_test(t, a_confirmation_flushes_what_an_earlier_one_made);
        tcase_add_loop_test(t, a_slot_needs_both_of_its_boot_files, 0, 2);
        tcase_add_test(t, an_esp_that_cannot_be_used);
        tcase_add_test(t, an_entries_directory_that_is_none);
        tcase_add_test(t, no_loader_at_all);
        suite_add_tcase(s, t);
        return suite_run(s);
}
