/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* systemd-boot: one entry per generation (design section 3). Nothing that booting needs is ever
 * replaced, truncated or renamed over; every barrier is fsync of the file, then of its directory. */
#include "loader/sdboot.h"

#include <fcntl.h>
#include <inttypes.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/io.h"
#include "base/parse.h"
#include "base/version.h"
#include "slot/kinds.h"

static int sdboot_open(struct loader *l, bool write, struct error *e)
{
        struct sdboot *s = calloc(1, sizeof(*s));
        int r;

        if (!s)
                return -ENOMEM;
        r = esp_open(l->disk, l->esp_directory, write, &s->esp, e);
        if (r < 0) {
                free(s);
                return r;
        }
        l->priv = s;
        return 0;
}

static void sdboot_close(struct loader *l)
{
        struct sdboot *s = l->priv;

        if (!s)
                return;
        esp_close(&s->esp);
        free(s);
}

/* "title VERSION (slot a)", as entry_format() writes it. */
static void title_version(const struct entry *entry, char version[static SLOT_VERSION_SIZE])
{
        const char *end = entry->title ? strstr(entry->title, " (slot ") : NULL;

        if (end && end - entry->title < SLOT_VERSION_SIZE)
                memcpy(version, entry->title, (size_t)(end - entry->title));
        if (!version_valid(version))
                memset(version, 0, SLOT_VERSION_SIZE);
}

int sdboot_menu_slot(const char *file)
{
        const char *name = startswith(file, MENU_ENTRY);
        int slot = name && *name ? slot_from_name((char[]){ *name, '\0' }) : SLOT_NONE;
        char digits[21] = "", exact[64];
        uint64_t generation;
        size_t n;

        if (slot == SLOT_NONE || name[1] != '-')
                return SLOT_NONE;
        n = strcspn(name + 2, ".");
        if (n >= sizeof(digits))
                return SLOT_NONE;
        memcpy(digits, name + 2, n);
        if (parse_u64(digits, &generation) < 0)
                return SLOT_NONE;
        snprintf(exact, sizeof(exact), MENU_ENTRY "%c-%" PRIu64 ".conf", slot_name(slot), generation);
        return streq(file, exact) ? slot : SLOT_NONE;
}

static struct loader_entry to_loader_entry(const struct entry *entry)
{
        struct loader_entry ours = {
                .generation = entry->name.generation,
                .slot = entry->name.slot,
                .tries_left = entry->name.counted ? entry->name.left : -1,
                .tries_done = entry->name.done,
                .confirmed = entry->confirmed,
                .usable = entry->usable,
        };

        if (!boot_file_id(entry->linux_, ours.kernel))
                memset(ours.kernel, 0, sizeof(ours.kernel));
        if (!boot_file_id(entry->initrds ? entry->initrds[0] : NULL, ours.initrd))
                memset(ours.initrd, 0, sizeof(ours.initrd));
        title_version(entry, ours.version);
        if (entry->options)
                verity_from_cmdline(entry->options, &ours.verity);
        return ours;
}

/* Newest first; of one generation what the loader shows, then the name without a counter: it is the one that counts. A
 * counter that was made full again may have left the former one behind, and either of them a name without content. */
static int compare_loader_entries(const void *a, const void *b)
{
        const struct loader_entry *x = a, *y = b;

        if (x->generation != y->generation)
                return x->generation < y->generation ? 1 : -1;
        if (x->usable != y->usable)
                return y->usable - x->usable;
        if ((x->tries_left < 0) != (y->tries_left < 0))
                return x->tries_left < 0 ? -1 : 1;
        return y->tries_left - x->tries_left;
}

static int sdboot_list(struct loader *l, struct loader_entry **ret, size_t *ret_n, struct error *e)
{
        _cleanup_entries_ struct entry_list list = {};
        struct loader_entry *ours;
        size_t n = 0;
        int r;

        r = sdboot_read_entries(l->priv, &list, e);
        if (r < 0)
                return r;
        ours = calloc(MAX(list.n, 1U), sizeof(*ours));
        if (!ours)
                return -ENOMEM;
        for (size_t i = 0; i < list.n; i++)
                if (list.items[i].name.ours)
                        ours[n++] = to_loader_entry(&list.items[i]);
        if (n > 1)
                qsort(ours, n, sizeof(*ours), compare_loader_entries);
        *ret = ours;
        *ret_n = n;
        return 0;
}

static int refuse_choice(const struct entry *chosen, const char *why, struct error *e)
{
        if (!chosen)
                return fail(e, -EPERM, &kind_loader_pinned, "systemd-boot would start no entry: %s", why);
        fail(e, -EPERM, &kind_loader_pinned, "systemd-boot would start the entry %s instead: it is %s", chosen->name.id,
             why);
        if (strstr(why, "loader.conf"))
                return fail_hint(e, "take the line 'default' out of loader/loader.conf on the ESP");
        if (strstr(why, "EFI variable"))
                return fail_hint(e, "clear it with 'bootctl set-default \"\"' or 'bootctl set-oneshot \"\"'");
        return fail_hint(e, "give that entry a sort-key behind 'bootmgr', or remove it");
}

/* The entry that a switch would make, as its reader would see it. */
static int add_ours(struct entry_list *list, const struct entry_spec *spec, int tries)
{
        char version[24], name[ENTRY_NAME_MAX];
        struct entry ours = { .usable = true };
        int r;

        snprintf(version, sizeof(version), "%llu", (unsigned long long)spec->generation);
        entry_name_format(spec->generation, spec->slot, tries > 0 ? tries : -1, 0, name);
        r = entry_name_parse(name, &ours.name);
        if (r < 0)
                return r;
        ours.version = strdup(version);
        ours.sort_key = strdup("bootmgr");
        if (!ours.version || !ours.sort_key) {
                entry_done(&ours);
                return -ENOMEM;
        }
        return entry_list_add(list, &ours);
}

static int sdboot_would_choose(struct loader *l, const struct entry_spec *spec, int tries, struct error *e)
{
        _cleanup_entries_ struct entry_list list = {};
        struct loader_pins pins;
        const char *why = "";
        int chosen, ours, r;

        r = sdboot_read_choice(l, &list, &pins, e);
        if (r < 0)
                return r;
        ours = (int)list.n;
        r = add_ours(&list, spec, tries);
        chosen = r < 0 ? r : entry_choose(list.items, list.n, &pins, &why);
        loader_pins_done(&pins);
        if (r < 0 || chosen == ours)
                return r;
        return refuse_choice(chosen < 0 ? NULL : &list.items[chosen], why, e);
}

/* Whether there is an entry of ours: it was made after the directories were flushed. */
static bool has_entry_of_ours(struct sdboot *s)
{
        _cleanup_closedir_ DIR *dir = NULL;
        struct dirent *found;

        if (sdboot_open_directory(s, ENTRIES_DIRECTORY, &dir) < 0)
                return false;
        while ((found = readdir(dir))) {
                struct entry_name name;

                if (entry_name_parse(found->d_name, &name) >= 0 && name.ours)
                        return true;
        }
        return false;
}

/* The directories themselves must be as durable as what is put into them. */
static int make_entries_directory(struct sdboot *s)
{
        int r;

        if (has_entry_of_ours(s))
                return 0;
        r = mkdir_parents(s->esp.fd, ENTRIES_DIRECTORY, 0755);
        if (r >= 0)
                r = io_fsync_dir(s->esp.fd, "loader");
        return r < 0 ? r : io_fsync_dir(s->esp.fd, ".");
}

int sdboot_create_entry(struct sdboot *s, const char *name, const char *text, size_t size, struct error *e)
{
        _cleanup_free_ char *path = xasprintf(ENTRIES_DIRECTORY "/%s", name);
        int r;

        r = path ? make_entries_directory(s) : -ENOMEM;
        if (r >= 0)
                r = file_create(s->esp.fd, path, text, size, 0644);
        if (r < 0 && r != -EEXIST)
                fail(e, r, &kind_esp_unusable, "cannot write the boot entry %s on %s: %s", name, s->esp.where,
                     error_text(r));
        return r;
}

/* systemd-boot hides an entry whose kernel is not there, and fails on one whose initrd is not. */
static int check_boot_file(struct sdboot *s, const uint8_t *id, struct error *e)
{
        char path[BOOT_FILE_PATH_SIZE];

        boot_file_path(id, path);
        if (faccessat(s->esp.fd, path, F_OK, 0) == 0)
                return 0;
        fail(e, -errno, &kind_esp_unusable, "the boot file /%s on %s cannot be opened: %s", path, s->esp.where,
             error_text(-errno));
        return fail_hint(e, "install the version again");
}

static int sdboot_switch_to(struct loader *l, const struct entry_spec *spec, int tries, struct error *e)
{
        _cleanup_free_ char *text = NULL;
        char name[ENTRY_NAME_MAX];
        int r;

        r = check_boot_file(l->priv, spec->kernel, e);
        if (r >= 0 && spec->initrd)
                r = check_boot_file(l->priv, spec->initrd, e);
        if (r >= 0)
                r = entry_format(spec, &text, e);
        if (r < 0)
                return r;
        entry_name_format(spec->generation, spec->slot, tries > 0 ? tries : -1, 0, name);
        r = sdboot_create_entry(l->priv, name, text, strlen(text), e);
        return r == -EEXIST ? fail(e, r, &kind_esp_unusable, "the boot entry %s exists already", name) : r;
}

static int sdboot_next(struct loader *l, struct loader_entry *ret, struct error *e)
{
        _cleanup_entries_ struct entry_list list = {};
        struct loader_entry next;
        struct loader_pins pins;
        int chosen, r;

        r = sdboot_read_choice(l, &list, &pins, e);
        if (r < 0)
                return r;
        chosen = entry_choose(list.items, list.n, &pins, NULL);
        loader_pins_done(&pins);
        if (chosen < 0)
                return -ENOENT;
        next = to_loader_entry(&list.items[chosen]);
        if (!list.items[chosen].name.ours) {
                next.slot = sdboot_menu_slot(list.items[chosen].name.file);
                if (parse_u64(list.items[chosen].version ?: "", &next.generation) < 0)
                        next.generation = 0;
        }
        if (next.slot == SLOT_NONE)
                return -ENOENT;
        *ret = next;
        return 0;
}

int sdboot_unlink_entry(struct sdboot *s, const struct entry *entry, struct error *e)
{
        _cleanup_free_ char *path = xasprintf(ENTRIES_DIRECTORY "/%s", entry->name.file);
        int r;

        r = path ? io_unlink(s->esp.fd, path, 0) : -ENOMEM;
        if (r < 0 && r != -ENOENT)
                return fail(e, r, &kind_esp_unusable, "cannot remove the boot entry %s: %s", entry->name.file,
                            error_text(r));
        return 0;
}

/* Not flushed: an entry that the record does not know of is removed by whoever finds it. */
static int sdboot_drop(struct loader *l, uint64_t generation, struct error *e)
{
        struct sdboot *s = l->priv;
        _cleanup_entries_ struct entry_list list = {};
        size_t removed = 0;
        int r;

        r = sdboot_read_entries(s, &list, e);
        for (size_t i = 0; i < list.n && r >= 0; i++) {
                if (!list.items[i].name.ours || list.items[i].name.generation != generation)
                        continue;
                r = sdboot_unlink_entry(s, &list.items[i], e);
                removed++;
        }
        /* Before the record says that there was no switch. */
        if (r >= 0 && removed > 0)
                r = io_fsync_dir(s->esp.fd, ENTRIES_DIRECTORY);
        return r < 0 ? fail_errno(e, r, "cannot take back the boot entry of generation %llu", (unsigned long long)generation)
                     : 0;
}

static int sdboot_remove_slot(struct loader *l, int slot, struct error *e)
{
        struct sdboot *s = l->priv;
        _cleanup_entries_ struct entry_list list = {};
        size_t removed = 0;
        int r;

        r = sdboot_read_entries(s, &list, e);
        for (size_t i = 0; i < list.n && r >= 0; i++) {
                const struct entry_name *name = &list.items[i].name;
                int of = name->ours ? name->slot : sdboot_menu_slot(name->file);

                if (of == SLOT_NONE || of != slot)
                        continue;
                r = sdboot_unlink_entry(s, &list.items[i], e);
                removed++;
        }
        if (r >= 0 && removed > 0)
                r = io_fsync_dir(s->esp.fd, ENTRIES_DIRECTORY);
        return r;
}

static bool is_kept(uint64_t generation, const uint64_t *keep, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (keep[i] == generation)
                        return true;
        return false;
}

static bool boots_with(const struct slot *slot, const uint8_t id[BOOT_FILE_ID_SIZE])
{
        return memcmp(slot->kernel, id, BOOT_FILE_ID_SIZE) == 0 || memcmp(slot->initrd, id, BOOT_FILE_ID_SIZE) == 0;
}

static bool is_of_a_slot(const struct loader *l, const uint8_t id[BOOT_FILE_ID_SIZE])
{
        const struct slot_set *set = l->slots;

        for (int i = 0; set && i < set->n_slots; i++)
                if (slot_is_selectable(&set->slots[i]) && boots_with(&set->slots[i], id))
                        return true;
        return l->coming && boots_with(l->coming, id);
}

/* Nobody else remembers the rescue system's files: those of slots are in the record. */
static bool may_be_of_rescue(const struct entry_list *l, const uint8_t id[BOOT_FILE_ID_SIZE])
{
        return l->incomplete && boot_file_is_of(id, BOOT_FILE_OF_RESCUE);
}

/* Files below /bootmgr that nothing needs, and temporary ones of an interrupted write. */
static int prune_files(struct loader *l, struct error *e)
{
        struct sdboot *s = l->priv;
        _cleanup_entries_ struct entry_list list = {};
        _cleanup_closedir_ DIR *dir = NULL;
        struct dirent *found;
        bool removed = false;
        int r;

        r = sdboot_read_entries(s, &list, e);
        if (r >= 0)
                r = sdboot_open_directory(s, BOOT_FILE_DIRECTORY, &dir);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        while ((found = readdir(dir))) {
                _cleanup_free_ char *path = xasprintf("/" BOOT_FILE_DIRECTORY "/%s", found->d_name);
                uint8_t id[BOOT_FILE_ID_SIZE];
                size_t n = strlen(found->d_name);
                bool temporary = n == 12 && strcasecmp(found->d_name + 8, ".TMP") == 0;

                if (!path)
                        return -ENOMEM;
                if (!temporary && (hex_decode(found->d_name, id, sizeof(id)) < 0 || sdboot_is_named(&list, path) ||
                                   is_of_a_slot(l, id) || may_be_of_rescue(&list, id)))
                        continue;
                r = io_unlink(s->esp.fd, path + 1, 0);
                if (r < 0)
                        return fail(e, r, &kind_esp_unusable, "cannot remove %s from the ESP: %s", path, error_text(r));
                removed = true;
        }
        /* Their clusters are used again at once: by then no name may lead there. */
        return removed ? io_fsync_dir(s->esp.fd, BOOT_FILE_DIRECTORY) : 0;
}

static int sdboot_prune(struct loader *l, const uint64_t *keep, size_t n, struct error *e)
{
        struct sdboot *s = l->priv;
        _cleanup_entries_ struct entry_list list = {};
        int r;

        r = sdboot_read_entries(s, &list, e);
        for (size_t i = 0; i < list.n && r >= 0; i++)
                if (list.items[i].name.ours && !is_kept(list.items[i].name.generation, keep, n))
                        r = sdboot_unlink_entry(s, &list.items[i], e);
        /* Entries must be gone for good before what they name goes. */
        if (r >= 0 && list.n > 0)
                r = io_fsync_dir(s->esp.fd, ENTRIES_DIRECTORY);
        return r < 0 ? r : prune_files(l, e);
}

static const char *what_else(const struct entry *entry)
{
        if (sdboot_menu_slot(entry->name.file) != SLOT_NONE)
                return "the menu's previous version";
        return streq(entry->name.id, RESCUE_ID) ? "the rescue system" : "not ours";
}

static int sdboot_inspect(struct loader *l, struct buf *notes, struct error *e)
{
        _cleanup_entries_ struct entry_list list = {};
        struct loader_pins pins;
        const char *why = "";
        int chosen, r;

        r = sdboot_read_choice(l, &list, &pins, e);
        if (r < 0)
                return r;
        chosen = entry_choose(list.items, list.n, &pins, &why);
        if (chosen >= 0 && !list.items[chosen].name.ours)
                buf_printf(notes, "systemd-boot will start the entry %s, which is %s: it is %s\n",
                           list.items[chosen].name.id, what_else(&list.items[chosen]), why);
        else if (chosen >= 0 && !startswith(why, "first"))
                buf_printf(notes, "the entry %s is %s: it would boot again and again, whatever its tries\n",
                           list.items[chosen].name.id, why);
        loader_pins_done(&pins);
        return 0;
}

const struct loader_ops loader_systemd_boot = {
        .name = "systemd-boot",
        .open = sdboot_open,
        .close = sdboot_close,
#ifndef BOOTMGR_RECOVER
        .add_boot_file = sdboot_add_boot_file,
        .find_boot_file = sdboot_find_boot_file,
        .check_boot_file = sdboot_check_boot_file,
        .offer = sdboot_offer,
        .firmware = sdboot_firmware,
#endif
        .list = sdboot_list,
        .would_choose = sdboot_would_choose,
        .switch_to = sdboot_switch_to,
        .next = sdboot_next,
        .confirm = sdboot_confirm,
        .arm = sdboot_arm,
        .remove_slot = sdboot_remove_slot,
        .drop = sdboot_drop,
        .prune = sdboot_prune,
        .inspect = sdboot_inspect,
};
