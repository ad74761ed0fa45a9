/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Everything that is read of an ESP and of the EFI variables: entries, loader.conf, unified kernels, systemd-boot's own
 * variables. Input: files, each as one letter for its kind, the length (16 bits) and the content; an entry's first line is
 * its name. Whatever lies there: looking changes nothing, and removing what is ours leaves what is not. */
#define FUZZ_HAS_INITIALIZE
#include "fuzz.h"

#include "loader/loader.h"
#include "loader/uki.h"
#include "storage/disk.h"

#define FILES_MAX 12

static char path[PATH_MAX], esp_path[PATH_MAX + 8], efivars_path[PATH_MAX + 8];
static int directory = -1, entries = -1, unified = -1, efivars = -1;

static const char foreign[] = "loader/entries/zz-foreign.conf", kernel[] = "bootmgr/00000000000000000000000000000001";

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
        log_set_max_level(0);
        directory = scratch_open(path);
        snprintf(esp_path, sizeof(esp_path), "%s/esp", path);
        snprintf(efivars_path, sizeof(efivars_path), "%s/vars", path);
        return 0;
}

static void make_esp(void)
{
        static const char text[] = "title x\nsort-key zz\nlinux /bootmgr/00000000000000000000000000000001\n";
        _cleanup_close_ int esp = -1;

        must(remove_tree(directory, "esp") == 0 && remove_tree(directory, "vars") == 0);
        must(mkdir_parents(directory, "esp/loader/entries", 0755) == 0 &&
             mkdir_parents(directory, "esp/EFI/Linux", 0755) == 0);
        must(mkdir_parents(directory, "esp/bootmgr", 0755) == 0 && mkdir_parents(directory, "vars", 0755) == 0);
        esp = dir_open(directory, "esp");
        entries = dir_open(esp, "loader/entries");
        unified = dir_open(esp, "EFI/Linux");
        efivars = dir_open(directory, "vars");
        put_file(esp, foreign, text, strlen(text));
        put_file(esp, kernel, "k", 1);
}

/* What vfat can hold as a name; no temporary name of ours, which may be removed. */
static bool is_name(const char *name)
{
        size_t n = strlen(name);

        return n > 0 && n < 200 && !strchr(name, '/') && !streq(name, ".") && !streq(name, "..") &&
               !streq(name, "zz-foreign.conf") && !strcasestr(name, ".tmp");
}

static void put_variable(const char *name, const void *data, size_t size)
{
        _cleanup_free_ char *full = xasprintf("%s-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f", name);

        put_file(efivars, full, data, size);
}

/* bootmgr-previous-SLOT-GENERATION.conf: no entry that is started by itself, and gone with its slot. */
static bool is_menu_entry(const char *name)
{
        unsigned long long generation;
        char slot, exact[64];

        if (sscanf(name, "bootmgr-previous-%c-%llu.conf", &slot, &generation) != 2 || slot < 'a' || slot >= 'a' + SLOT_MAX)
                return false;
        snprintf(exact, sizeof(exact), "bootmgr-previous-%c-%llu.conf", slot, generation);
        return streq(name, exact);
}

static bool is_foreign(const char *name)
{
        struct entry_name parsed;

        return (entry_name_parse(name, &parsed) < 0 || !parsed.ours) && !is_menu_entry(name);
}

static void put_one(uint8_t kind, struct input *in, size_t *n_foreign)
{
        if (kind == 'e') {
                _cleanup_free_ char *name = take_until(in, '\n');
                struct stat st;

                if (!is_name(name))
                        return;
                if (fstatat(entries, name, &st, 0) < 0)
                        *n_foreign += is_foreign(name);
                put_file(entries, name, in->data, in->size);
        } else if (kind == 'u') {
                static const char *const names[] = { "a.efi", "b+3-0.efi", "c+0-3.EFI" };
                _cleanup_close_ int fd = memory_file(in->data, in->size);
                struct entry entry;

                put_file(unified, names[in->size % 3], in->data, in->size);
                pe_is_systemd_boot(fd);
                if (uki_read(fd, "a.efi", &entry) == 0) {
                        must(entry.title && entry.usable);
                        entry_done(&entry);
                }
        } else if (kind == 'c') {
                put_file(entries, "../loader.conf", in->data, in->size);
        } else if (kind == 'd') {
                put_variable("LoaderEntryDefault", in->data, in->size);
        } else if (kind == 'o') {
                put_variable("LoaderEntryOneShot", in->data, in->size);
        } else if (kind == 'l') {
                put_variable("LoaderEntryLastBooted", in->data, in->size);
        }
}

static size_t count(int dir, bool foreign_only)
{
        _cleanup_closedir_ DIR *d = fdopendir(dir_open(dir, "."));
        struct dirent *e;
        size_t n = 0;

        must(d);
        while ((e = readdir(d)))
                if (e->d_name[0] != '.' || (!streq(e->d_name, ".") && !streq(e->d_name, "..")))
                        n += !foreign_only || is_foreign(e->d_name);
        return n;
}

static void look(struct loader *l)
{
        uint8_t id[BOOT_FILE_ID_SIZE] = { [BOOT_FILE_ID_SIZE - 1] = 1 };
        struct entry_spec spec = { .generation = 9, .version = "9", .root_partuuid = "x", .kernel = id };
        _cleanup_free_ struct loader_entry *list = NULL;
        _cleanup_buf_ struct buf notes = {};
        struct loader_entry next;
        uint64_t highest = 0;
        size_t n = 0;

        if (l->ops->list(l, &list, &n, NULL) >= 0) {
                must(loader_highest_generation(l, &highest, NULL) >= 0);
                for (size_t i = 0; i < n; i++) {
                        must(list[i].slot >= 0 && list[i].slot < SLOT_MAX && list[i].generation <= highest);
                        must(highest <= GENERATION_MAX && memchr(list[i].version, '\0', SLOT_VERSION_SIZE));
                }
        }
        l->ops->would_choose(l, &spec, 3, NULL);
        if (l->ops->next(l, &next, NULL) == 0)
                must(next.slot >= 0 && next.slot < SLOT_MAX && next.generation <= highest);
        l->ops->inspect(l, &notes, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct disk disk = { .path = "image" };
        struct input in = { data, size };
        uint64_t keep[] = { 7 };
        size_t n_foreign = 1, n;
        struct loader l;

        make_esp();
        for (int i = 0; i < FILES_MAX && in.size > 0; i++) {
                uint8_t kind = take_byte(&in);
                size_t length = take_byte(&in);
                struct input one = { in.data + MIN(in.size, (size_t)1), 0 };

                length |= (size_t)take_byte(&in) << 8;
                one.size = MIN(length, in.size);
                in.data += one.size;
                in.size -= one.size;
                put_one(kind, &one, &n_foreign);
        }
        n = count(entries, false);
        must(loader_open(&l, "systemd-boot", &disk, esp_path, efivars_path, true, NULL) == 0);
        look(&l);
        must(count(entries, false) == n && count(entries, true) == n_foreign);
        l.ops->confirm(&l, 8, NULL);
        must(count(entries, true) == n_foreign);
        l.ops->prune(&l, keep, 1, NULL);
        must(count(entries, true) == n_foreign &&
             faccessat(entries, "../../bootmgr/00000000000000000000000000000001", F_OK, 0) == 0);
        for (int slot = 0; slot < SLOT_MAX; slot++)
                l.ops->remove_slot(&l, slot, NULL);
        must(count(entries, true) == n_foreign);
        loader_close(&l);
        fd_close(entries);
        fd_close(unified);
        fd_close(efivars);
        return 0;
}
