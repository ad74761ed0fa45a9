/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The rescue entry of systemd-boot, on a directory as ESP: what is refused, and how it is made to boot next. */
#include "loader/rescue.h"

#include <sys/stat.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/io.h"
#include "loader/entry.h"
#include "loader/load_option.h"
#include "slot/kinds.h"

/* Check has a macro of this name. */
#include "scratch.h"
#include "suite.h"
#undef fail

#define ONE_SHOT "efivars/LoaderEntryOneShot-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"

static struct disk disk = { .path = "image" };
static struct loader loader;

static void setup(void)
{
        scratch_begin();
        ck_assert_int_eq(
                system("mkdir -p esp/loader/entries efivars; echo k >kernel; echo i >initrd; echo o >other; : >empty"), 0);
        ck_assert_int_eq(loader_open(&loader, "systemd-boot", &disk, "esp", "efivars", true, NULL), 0);
}

static void teardown(void)
{
        loader_close(&loader);
        scratch_end();
}

static int install(const char *kernel, const char *initrd, const char *cmdline, struct error *e)
{
        _cleanup_close_ int k = open(kernel, O_RDONLY | O_CLOEXEC), i = open(initrd, O_RDONLY | O_CLOEXEC);

        return rescue_install(&loader, k, i, cmdline, e);
}

START_TEST(what_cannot_be_installed)
{
        char longest[ENTRY_SIZE_MAX] = "";
        struct error e = {};
        struct rescue rescue;

        ck_assert_int_eq(install("kernel", "empty", "", &e), -EINVAL);
        ck_assert_ptr_eq(e.kind, &kind_usage);
        error_done(&e);
        ck_assert_int_eq(install("esp", "initrd", "", NULL), -EINVAL);
        memset(longest, 'x', sizeof(longest) - 1);
        ck_assert_int_eq(install("kernel", "initrd", longest, NULL), -E2BIG);
        ck_assert_int_eq(rescue_find(&loader, &rescue, NULL), -ENOENT);
        loader_close(&loader);
        ck_assert_int_eq(loader_open(&loader, "none", &disk, NULL, NULL, true, NULL), 0);
        ck_assert_int_eq(install("kernel", "initrd", "", &e), -EOPNOTSUPP);
        ck_assert_ptr_nonnull(strstr(e.hint, RESCUE_WORD));
        error_done(&e);
        ck_assert_int_eq(rescue_remove(&loader, NULL), -EOPNOTSUPP);
        ck_assert_int_eq(rescue_find(&loader, &rescue, NULL), -ENOENT);
}
END_TEST

/* A power cut has left an older one beside it, and one that is cut off under the name that comes next. */
START_TEST(what_a_power_cut_left_goes)
{
        struct rescue rescue;

        ck_assert_int_eq(install("kernel", "initrd", "", NULL), 0);
        ck_assert_int_eq(system("cd esp/loader/entries; cp bootmgr-rescue+0-0.conf bootmgr-rescue+0-5.conf; "
                                "head -c 40 bootmgr-rescue+0-0.conf >bootmgr-rescue+0-1.conf"),
                         0);
        ck_assert_int_eq(install("kernel", "initrd", "quiet", NULL), 0);
        ck_assert_int_eq(system("test \"$(ls esp/loader/entries)\" = bootmgr-rescue+0-2.conf"), 0);
        ck_assert_int_eq(system("cp esp/loader/entries/bootmgr-rescue+0-2.conf esp/loader/entries/bootmgr-rescue+0-3.conf"),
                         0);
        ck_assert_int_eq(install("kernel", "initrd", "quiet", NULL), 0); /* two that are equal */
        ck_assert_int_eq(system("test $(ls esp/loader/entries | wc -l) = 1"), 0);
        ck_assert_int_eq(rescue_find(&loader, &rescue, NULL), 0);
        ck_assert(rescue.usable);
        ck_assert_int_eq(rescue_remove(&loader, NULL), 0);
        ck_assert_int_eq(system("test -z \"$(ls esp/loader/entries esp/bootmgr | grep -v :)\""), 0);
}
END_TEST

/* Its entry cannot be read for once: nobody else knows what it names. */
START_TEST(a_read_that_fails_takes_nothing)
{
        struct rescue rescue;

        ck_assert_int_eq(install("kernel", "initrd", "", NULL), 0);
        ck_assert_int_eq(system("cd esp/loader/entries; mv bootmgr-rescue+0-0.conf ../kept; "
                                "ln -s bootmgr-rescue+0-0.conf bootmgr-rescue+0-0.conf"),
                         0); /* ELOOP */
        ck_assert_int_eq(loader.ops->prune(&loader, NULL, 0, NULL), 0);
        ck_assert_int_eq(system("test $(ls esp/bootmgr | wc -l) = 2 && mv esp/loader/kept "
                                "esp/loader/entries/bootmgr-rescue+0-0.conf"),
                         0);
        ck_assert_int_eq(rescue_find(&loader, &rescue, NULL), 0);
        ck_assert(rescue.usable);
        /* what no entry names goes, once all of them are read */
        ck_assert_int_eq(system("rm esp/loader/entries/bootmgr-rescue+0-0.conf"), 0);
        ck_assert_int_eq(loader.ops->prune(&loader, NULL, 0, NULL), 0);
        ck_assert_int_eq(system("test $(ls esp/bootmgr | wc -l) = 0"), 0);
}
END_TEST

static char story[256];

static int spy_fsync(int fd)
{
        strcat(story, "f");
        return io_system_ops.fsync(fd);
}

static int spy_rename(int olddir, const char *old, int newdir, const char *new, unsigned flags)
{
        strcat(story, strstr(new, "bootmgr-rescue") ? "E" : "B");
        return io_system_ops.rename(olddir, old, newdir, new, flags);
}

static int spy_unlink(int dirfd, const char *path, int flags)
{
        strcat(story, strstr(path, "bootmgr-rescue") ? "e" : "b");
        return io_system_ops.unlink(dirfd, path, flags);
}

/* E: the new entry gets its name; e: the old one goes; b: a boot file goes; f: a flush. Never an entry without its files. */
START_TEST(the_order_of_an_exchange)
{
        struct io_ops ops = io_system_ops;
        char *made, *gone;

        ck_assert_int_eq(install("kernel", "initrd", "", NULL), 0);
        ops.fsync = spy_fsync;
        ops.rename = spy_rename;
        ops.unlink = spy_unlink;
        io_set_ops(&ops);
        ck_assert_int_eq(install("kernel", "other", "", NULL), 0);
        io_set_ops(NULL);
        made = strchr(story, 'E');
        ck_assert_msg(made && (gone = strchr(made, 'e')) && strchr(gone, 'b'), "%s", story);
        ck_assert_msg(memchr(made, 'f', (size_t)(gone - made)) && startswith(gone, "ef"), "%s", story);
}
END_TEST

/* The name as systemd-boot lists it, in lower case, UTF-16 with its NUL, behind the variable's attributes. */
START_TEST(it_boots_next)
{
        struct rescue rescue = { .file = "Bootmgr-RESCUE+0-0.conf" };
        static const char expected[] = "bootmgr-rescue+0-0.conf";
        _cleanup_free_ char *data = NULL;
        struct error e = {};
        size_t size;

        ck_assert_int_eq(rescue_boot_next(&loader, &rescue, NULL), 0);
        ck_assert_int_eq(file_read(AT_FDCWD, ONE_SHOT, 4096, &data, &size), 0);
        ck_assert_uint_eq(size, 4 + 2 * sizeof(expected));
        ck_assert_mem_eq(data, "\7\0\0", 4);
        for (size_t i = 0; i < sizeof(expected); i++)
                ck_assert_uint_eq(get_le16(data + 4 + 2 * i), expected[i]);
        ck_assert_int_eq(system("rm -r efivars"), 0);
        ck_assert_int_eq(rescue_boot_next(&loader, &rescue, &e), -ENOENT);
        error_done(&e);
        loader_close(&loader);
        ck_assert_int_eq(loader_open(&loader, "systemd-boot", &disk, "esp", NULL, true, NULL), 0);
        ck_assert_int_eq(rescue_boot_next(&loader, &rescue, &e), -ENODEV);
        ck_assert_ptr_nonnull(strstr(e.hint, "boot menu"));
        error_done(&e);
}
END_TEST

/* The option behind all others, by number; NULL: that variable is not there. */
static void check_option(const char *name, const char *description)
{
        _cleanup_free_ char *file = xasprintf("efivars/%s-8be4df61-93ca-11d2-aa0d-00e098032b8c", name), *data = NULL;
        _cleanup_load_option_ struct load_option o = {};
        size_t size;

        if (!description) {
                ck_assert_int_lt(access(file, F_OK), 0);
                return;
        }
        ck_assert_int_eq(file_read(AT_FDCWD, file, 4096, &data, &size), 0);
        ck_assert_int_eq(load_option_parse(data + 4, size - 4, &o), 0);
        ck_assert_str_eq(o.description, description);
        if (!streq(description, "bootmgr rescue"))
                return;
        ck_assert_ptr_nonnull(startswith(o.path, "\\bootmgr\\"));
        ck_assert_ptr_nonnull(startswith(o.arguments, "initrd=\\bootmgr\\"));
        ck_assert_ptr_nonnull(strstr(o.arguments, " " RESCUE_WORD " "));
        ck_assert_ptr_null(strstr(o.arguments, FALLBACK_WORD));
}

static void lose_entry(const char *way)
{
        _cleanup_free_ char *command = xasprintf("cd esp/loader/entries && %s", way);

        ck_assert_int_eq(system(command), 0);
}

START_TEST(the_firmware_has_it_at_the_end)
{
        unsigned changed;

        disk.esp = (struct partition){ .present = true,
                                       .number = 1,
                                       .offset = 1 << 20,
                                       .size = 1 << 27,
                                       .uuid = "4f551100-77ff-49c1-beb0-279596370b19" };
        ck_assert_int_eq(system("mkdir -p esp/EFI/systemd; echo x >esp/EFI/systemd/systemd-boot" EFI_MACHINE ".efi"), 0);
        ck_assert_int_eq(loader.ops->firmware(&loader, 0, 2, false, &changed, NULL), 0);
        check_option("Boot0012", NULL);
        ck_assert_int_eq(install("kernel", "initrd", "quiet", NULL), 0);
        ck_assert_int_eq(loader.ops->firmware(&loader, 0, 2, false, &changed, NULL), 0);
        ck_assert_uint_eq(changed, 2); /* it and the order */
        check_option("Boot0011", "bootmgr 2");
        check_option("Boot0012", "bootmgr rescue");
        ck_assert_int_eq(loader.ops->firmware(&loader, 0, 2, true, &changed, NULL), 0);
        ck_assert_uint_eq(changed, 0);
        /* its entry cannot be read for once: what starts its files stays, as they do, and nothing is missing */
        lose_entry("mv bootmgr-rescue+0-0.conf ../kept && ln -s bootmgr-rescue+0-0.conf bootmgr-rescue+0-0.conf");
        ck_assert_int_eq(loader.ops->firmware(&loader, 0, 2, false, &changed, NULL), 0);
        ck_assert_uint_eq(changed, 0);
        check_option("Boot0012", "bootmgr rescue");
        ck_assert_int_eq(loader.ops->firmware(&loader, 0, 1, false, &changed, NULL), 0); /* and the others follow */
        ck_assert_uint_eq(changed, 1);
        check_option("Boot0011", NULL);
        check_option("Boot0012", "bootmgr rescue");
        ck_assert_int_eq(loader.ops->firmware(&loader, 7, 2, false, &changed, NULL), 0); /* no fallback was there to stay */
        check_option("Boot0011", "bootmgr 2");
        check_option("Boot0013", NULL);
        lose_entry("mv ../kept bootmgr-rescue+0-0.conf");
        ck_assert_int_eq(loader.ops->firmware(&loader, 0, 2, false, &changed, NULL), 0);
        ck_assert_uint_eq(changed, 0);
        ck_assert_int_eq(rescue_remove(&loader, NULL), 0);
        ck_assert_int_eq(loader.ops->firmware(&loader, 0, 2, false, &changed, NULL), 0);
        check_option("Boot0012", NULL);
        disk.esp = (struct partition){};
}
END_TEST

int main(void)
{
        Suite *s = suite_create("rescue");
        TCase *t = tcase_create("rescue");

        tcase_add_checked_fixture(t, setup, teardown);
        tcase_add_test(t, what_cannot_be_installed);
        tcase_add_test(t, what_a_power_cut_left_goes);
        tcase_add_test(t, a_read_that_fails_takes_nothing);
        tcase_add_test(t, the_order_of_an_exchange);
        tcase_add_test(t, it_boots_next);
        tcase_add_test(t, the_firmware_has_it_at_the_end);
        suite_add_tcase(s, t);
        return suite_run(s);
}
