/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The systemd-boot loader on a directory as ESP: what each operation leaves, what would be chosen, and an ESP that cannot
 * be used. */
#include "loader/load_option.h"
#include "slot/kinds.h"

#include "sdboot-case.h"
#include "suite.h"

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
        put("esp/loader/entries/bootmgr-previous-b-07.conf", "title x\n"); /* somebody else's */
        put("esp/loader/entries/bootmgr-previous-b-b.conf", "title x\n");
        ck_assert_int_eq(loader.ops->remove_slot(&loader, 1, NULL), 0);
        check_entries("bootmgr-previous-b-07.conf bootmgr-previous-b-b.conf");
        ck_assert_int_eq(unlink("esp/loader/entries/bootmgr-previous-b-07.conf"), 0);
        ck_assert_int_eq(unlink("esp/loader/entries/bootmgr-previous-b-b.conf"), 0);
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
                              "systemd.crash_reboot=1 bootmgr.slot=a bootmgr.generation=7 " FALLBACK_WORD,
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
        struct slot_set set = { .slots = { { .state = SLOT_INSTALLED }, { .state = SLOT_BAD } }, .n_slots = 2 };
        struct slot coming = {};
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
        put("esp/bootmgr/fedcba9876543210fedcba9876543210", "no entry names it, but a slot does");
        put("esp/bootmgr/00112233445566770011223344556677", "as does one that cannot be booted");
        hex_decode("fedcba9876543210fedcba9876543210", set.slots[0].initrd, BOOT_FILE_ID_SIZE);
        hex_decode("00112233445566770011223344556677", set.slots[1].kernel, BOOT_FILE_ID_SIZE);
        loader.slots = &set;
        put("esp/bootmgr/89abcdef0123456789abcdef01234567", "as does one that is being installed");
        hex_decode("89abcdef0123456789abcdef01234567", coming.initrd, BOOT_FILE_ID_SIZE);
        loader.coming = &coming;
        put("esp/bootmgr/01234567.TMP", "left behind");
        put("esp/bootmgr/readme.txt", "not ours");
        put("esp/loader/entries/foreign.conf", "title x\nlinux /bootmgr/00000000000000000000000000000001\n");
        put("esp/bootmgr/00000000000000000000000000000001", "a foreign entry names it");
        ck_assert_int_eq(loader.ops->prune(&loader, keep, 1, NULL), 0);
        check_entries("bootmgr-8-b.conf foreign.conf");
        ck_assert_int_eq(access("esp/bootmgr/0123456789abcdef0123456789abcdef", F_OK), -1);
        ck_assert_int_eq(access("esp/bootmgr/fedcba9876543210fedcba9876543210", F_OK), 0);
        ck_assert_int_eq(access("esp/bootmgr/00112233445566770011223344556677", F_OK), -1);
        ck_assert_int_eq(access("esp/bootmgr/89abcdef0123456789abcdef01234567", F_OK), 0);
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
        ck_assert_int_eq(loader.ops->add_boot_file(&loader, open("/dev/null", O_RDONLY | O_CLOEXEC), 0, digest, &e),
                         -EBADMSG);
        error_done(&e);
}
END_TEST

/* Two slots and the rescue system with the same kernel: what happens to one file says nothing of the others, and one that is
 * whole is found. */
START_TEST(each_has_a_file_of_its_own)
{
        static const int whose[] = { 0, 1, BOOT_FILE_OF_RESCUE };
        uint8_t ids[3][BOOT_FILE_ID_SIZE];
        char paths[3][BOOT_FILE_PATH_SIZE + 8], file[BOOT_FILE_PATH_SIZE], content[7] = "";
        int fd;

        strcpy(paths[0], "esp/");
        boot_file_path(digest_of_kernel, paths[0] + 4); /* by a bootmgr that names them by their content alone */
        ck_assert_int_eq(unlink(paths[0]), 0);
        ck_assert_int_eq(loader.ops->find_boot_file(&loader, digest_of_kernel, SLOT_NONE), -ENOENT);
        for (size_t i = 0; i < 3; i++) {
                fd = file_with("kernel");
                boot_file_make_id(digest_of_kernel, whose[i], ids[i]);
                ck_assert_int_eq(loader.ops->add_boot_file(&loader, fd, 6, ids[i], NULL), 0);
                boot_file_path(ids[i], file);
                snprintf(paths[i], sizeof(paths[i]), "esp/%s", file);
                fd_close(fd);
        }
        for (size_t i = 0; i < 3; i++) {
                for (size_t k = 0; k < 3; k++)
                        if (k != i)
                                put(paths[k], k < i ? "kernal" : "");
                ck_assert_int_eq(loader.ops->check_boot_file(&loader, ids[i], NULL), 0);
                ck_assert_int_eq(loader.ops->check_boot_file(&loader, ids[(i + 1) % 3], NULL), -EBADMSG);
                fd = loader.ops->find_boot_file(&loader, digest_of_kernel, SLOT_NONE);
                ck_assert_int_ge(fd, 0);
                ck_assert_int_eq(io_pread(fd, content, 6, 0), 0);
                ck_assert_str_eq(content, "kernel");
                fd_close(fd);
                ck_assert_int_eq(loader.ops->find_boot_file(&loader, digest_of_kernel, whose[i]), -ENOENT);
                put(paths[i], "kernal");
                ck_assert_int_eq(loader.ops->find_boot_file(&loader, digest_of_kernel, SLOT_NONE), -ENOENT);
                for (size_t k = 0; k < 3; k++)
                        put(paths[k], "kernel");
        }
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

/* Empty files: systemd-boot shows none of them. */
START_TEST(a_name_does_not_use_up_the_generations)
{
        struct slot_set set = { .n_slots = 2, .generation = 8, .slots = { { .state = SLOT_CONFIRMED, .generation = 8 } } };
        struct entry_spec spec;
        uint64_t highest, begun;

        loader.slots = &set;
        ck_assert_int_eq(switch_to(8, 0, 0, NULL), 0);
        put("esp/loader/entries/bootmgr-4611686018427387904-a.conf", "");
        ck_assert_int_eq(loader_highest_generation(&loader, &highest, NULL), 0);
        ck_assert_uint_eq(highest, 8);
        set.slots[1] = (struct slot){ .state = SLOT_INSTALLED };
        begun = slot_set_begin_switch(&set, 1, highest);
        ck_assert_uint_eq(begun, 9);
        ck_assert_int_eq(slot_set_check(&set, NULL), 0);
        spec = spec_of(begun, 1);
        ck_assert_int_eq(loader.ops->would_choose(&loader, &spec, 3, NULL), 0);
        ck_assert_int_eq(switch_to(begun, 1, 3, NULL), 0);
        /* what may have been given out counts, and is the next to be built on */
        put("esp/loader/entries/bootmgr-281474976710665-a.conf", "");
        ck_assert_int_eq(loader_highest_generation(&loader, &highest, NULL), 0);
        ck_assert_uint_eq(highest, 9 + GENERATION_LEAP);
        put("esp/loader/entries/bootmgr-281474976710666-a.conf", "");
        ck_assert_int_eq(loader_highest_generation(&loader, &highest, NULL), 0);
        ck_assert_uint_eq(highest, 9 + GENERATION_LEAP);
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
        ck_assert_int_eq(l.ops->add_boot_file(&l, -1, 0, digest_of_kernel, NULL), 0);
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
        tcase_add_test(t, each_has_a_file_of_its_own);
        tcase_add_loop_test(t, a_slot_needs_both_of_its_boot_files, 0, 2);
        tcase_add_test(t, an_esp_that_cannot_be_used);
        tcase_add_test(t, an_entries_directory_that_is_none);
        tcase_add_test(t, a_name_does_not_use_up_the_generations);
        tcase_add_test(t, no_loader_at_all);
        suite_add_tcase(s, t);
        return suite_run(s);
}
