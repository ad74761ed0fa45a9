/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The systemd-boot loader on a directory as ESP: in which order each operation writes, and what is left when any one call
 * fails. */
#include <linux/fs.h>

#include "loader/rescue.h"

#include "sdboot-case.h"
#include "suite.h"

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
        check_story("create write fsync rename(bootmgr-8-b+3-0.conf) fsync fsync-dir ");
}
END_TEST

START_TEST(the_order_of_the_first_switch)
{
        spy(0, 0);
        ck_assert_int_eq(switch_to(7, 0, 0, NULL), 0);
        check_story("mkdir mkdir fsync-dir fsync-dir create write fsync rename(bootmgr-7-a.conf) fsync fsync-dir ");
}
END_TEST

START_TEST(the_order_of_a_confirmation)
{
        two_entries();
        spy(0, 0);
        ck_assert_int_eq(loader.ops->confirm(&loader, 8, NULL), 0);
        check_story("create write fsync rename(bootmgr-8-b.conf) fsync fsync-dir "
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
        check_story("unlink(bootmgr-previous-a-7.conf) fsync-dir create write fsync "
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
        ck_assert_int_eq(loader.ops->drop(&loader, 8, NULL), 0);
        check_story("unlink(bootmgr-8-b+3-0.conf) fsync-dir ");
        spy(0, 0);
        ck_assert_int_eq(loader.ops->drop(&loader, 8, NULL), 0); /* there is none */
        check_story("");
        ck_assert_int_eq(switch_to(8, 1, 3, NULL), 0);
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
        expected = xasprintf("write fsync-dir unlink(temporary) create write fsync rename(%s) fsync fsync-dir ", file + 8);
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

int main(void)
{
        Suite *s = suite_create("sdboot-writes");
        TCase *t = tcase_create("sdboot-writes");

        tcase_set_timeout(t, 60);
        tcase_add_checked_fixture(t, setup, teardown);
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
        suite_add_tcase(s, t);
        return suite_run(s);
}
