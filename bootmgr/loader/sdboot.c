/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* systemd-boot: one entry per generation (design section 3). Nothing that booting needs is ever
 * replaced, truncated or renamed over; every barrier is fsync of the file, then of its directory. */
#include "loader/sdboot.h"

#include <fcntl.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/io.h"
#include "slot/kinds.h"

#define LOADER_GUID "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
#define ENTRIES_MAX 512
#define PINS_MAX 4096
#define UKI_DIRECTORY "EFI/Linux"

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

void entry_list_done(struct entry_list *l)
{
        for (size_t i = 0; i < l->n; i++)
                entry_done(&l->items[i]);
        free(TAKE_PTR(l->items));
        l->n = 0;
}

/* systemd-boot hides an entry whose file cannot be opened. */
static bool is_usable(struct sdboot *s, const struct entry *entry)
{
        const char *path = entry->linux_ ?: entry->efi;

        if (!path)
                return false;
        path += strspn(path, "/\\");
        return *path && faccessat(s->esp.fd, path, F_OK, 0) == 0;
}

/* Whether systemd-boot looks at a file of this name at all. */
static bool is_entry_name(const char *name)
{
        size_t n = strlen(name);

        return *name != '.' && strncmp(name, "auto-", 5) != 0 && n > 5 && strcasecmp(name + n - 5, ".conf") == 0;
}

static int read_entry(struct sdboot *s, const char *name, struct entry *ret)
{
        _cleanup_free_ char *path = xasprintf(ENTRIES_DIRECTORY "/%s", name), *text = NULL;
        size_t size;
        int r;

        r = path ? file_read(s->esp.fd, path, ENTRY_READ_MAX, &text, &size) : -ENOMEM;
        if (r >= 0)
                r = entry_parse(name, text, size, ret);
        if (r >= 0)
                ret->usable = is_usable(s, ret);
        return r;
}

static int open_directory(struct sdboot *s, const char *path, DIR **ret)
{
        int fd = dir_open(s->esp.fd, path);

        if (fd < 0)
                return fd;
        *ret = fdopendir(fd);
        if (*ret)
                return 0;
        fd_close(fd);
        return -ENOMEM;
}

int sdboot_read_entries(struct sdboot *s, struct entry_list *ret, struct error *e)
{
        _cleanup_closedir_ DIR *dir = NULL;
        _cleanup_entries_ struct entry_list list = {};
        struct dirent *found;
        int r;

        r = open_directory(s, ENTRIES_DIRECTORY, &dir);
        if (r == -ENOENT) {
                *ret = (struct entry_list){};
                return 0;
        }
        if (r < 0)
                return fail(e, r, &kind_esp_unusable, "cannot read " ENTRIES_DIRECTORY " on %s: %s", s->esp.where, error_text(r));
        list.items = calloc(ENTRIES_MAX, sizeof(struct entry));
        if (!list.items)
                return -ENOMEM;
        while ((found = readdir(dir))) {
                if (!is_entry_name(found->d_name))
                        continue;
                if (list.n == ENTRIES_MAX)
                        return fail(e, -E2BIG, &kind_esp_unusable, "%s has more than %d boot entries", s->esp.where, ENTRIES_MAX);
                /* One that cannot be read is not seen by systemd-boot either. */
                if (read_entry(s, found->d_name, &list.items[list.n]) >= 0)
                        list.n++;
        }
        *ret = TAKE(list, (struct entry_list){});
        return 0;
}

bool sdboot_is_named(const struct entry_list *l, const char *path)
{
        for (size_t i = 0; i < l->n; i++) {
                const struct entry *entry = &l->items[i];

                if ((entry->linux_ && strcasecmp(entry->linux_, path) == 0) || (entry->efi && strcasecmp(entry->efi, path) == 0))
                        return true;
                for (char **s = entry->initrds; s && *s; s++)
                        if (strcasecmp(*s, path) == 0)
                                return true;
        }
        return false;
}

static struct loader_entry to_loader_entry(const struct entry *entry)
{
        return (struct loader_entry){
                .generation = entry->name.generation,
                .slot = entry->name.slot,
                .tries_left = entry->name.counted ? entry->name.left : -1,
                .tries_done = entry->name.done,
                .usable = entry->usable,
        };
}

/* Newest first; of one generation the confirmed name first: it is the one that counts. */
static int compare_loader_entries(const void *a, const void *b)
{
        const struct loader_entry *x = a, *y = b;

        if (x->generation != y->generation)
                return x->generation < y->generation ? 1 : -1;
        return (x->tries_left >= 0) - (y->tries_left >= 0);
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

/* A variable of systemd-boot as efivarfs shows it: 4 bytes of attributes, then UTF-16LE. Only ASCII can
 * name an entry of ours; anything else becomes '?', which matches like any other character. */
static char *read_variable(const char *efivars, const char *name)
{
        _cleanup_free_ char *path = xasprintf("%s/%s-" LOADER_GUID, efivars, name), *data = NULL;
        char *text;
        size_t size, n = 0;

        if (!path || file_read(AT_FDCWD, path, PINS_MAX, &data, &size) < 0 || size < 6)
                return NULL;
        text = calloc(1, size);
        for (size_t i = 4; text && i + 1 < size; i += 2) {
                uint16_t c = get_le16(data + i);

                if (c == 0)
                        break;
                text[n++] = c < 0x80 ? (char)c : '?';
        }
        if (text && n == 0)
                free(TAKE_PTR(text));
        return text;
}

static void read_pins(struct loader *l, struct loader_pins *pins)
{
        struct sdboot *s = l->priv;
        _cleanup_free_ char *text = NULL;
        size_t size;

        *pins = (struct loader_pins){};
        if (file_read(s->esp.fd, "loader/loader.conf", PINS_MAX, &text, &size) >= 0)
                loader_conf_parse(text, size, pins);
        if (!l->efivars || access(l->efivars, F_OK) < 0)
                return;
        pins->efi_readable = true;
        pins->efi_default = read_variable(l->efivars, "LoaderEntryDefault");
        pins->efi_oneshot = read_variable(l->efivars, "LoaderEntryOneShot");
        /* "@saved" means: what was booted last, which systemd-boot keeps in a variable of its own. */
        if (streq(pins->efi_default ?: pins->conf_default, "@saved")) {
                free(pins->efi_default);
                pins->efi_default = read_variable(l->efivars, "LoaderEntryLastBooted");
        }
}

static int refuse_choice(const struct entry *chosen, const char *why, struct error *e)
{
        fail(e, -EPERM, &kind_loader_pinned, "systemd-boot would start the entry %s instead: it is %s", chosen->name.id, why);
        if (strstr(why, "loader.conf"))
                return fail_hint(e, "take the line 'default' out of loader/loader.conf on the ESP");
        if (strstr(why, "EFI variable"))
                return fail_hint(e, "clear it with 'bootctl set-default \"\"' or 'bootctl set-oneshot \"\"'");
        return fail_hint(e, "give that entry a sort-key behind 'bootmgr', or remove it");
}

static int sdboot_would_choose(struct loader *l, const struct entry_spec *spec, int tries, struct error *e)
{
        _cleanup_entries_ struct entry_list list = {};
        struct loader_pins pins;
        char version[24], name[ENTRY_NAME_MAX];
        struct entry *grown, *ours;
        const char *why = "";
        int chosen, r;

        r = sdboot_read_entries(l->priv, &list, e);
        if (r < 0)
                return r;
        grown = reallocarray(list.items, list.n + 1, sizeof(struct entry));
        if (!grown)
                return -ENOMEM;
        list.items = grown;
        ours = &list.items[list.n++];
        *ours = (struct entry){ .usable = true };
        snprintf(version, sizeof(version), "%llu", (unsigned long long)spec->generation);
        entry_name_format(spec->generation, spec->slot, tries > 0 ? tries : -1, 0, name);
        r = entry_name_parse(name, &ours->name);
        ours->version = strdup(version);
        ours->sort_key = strdup("bootmgr");
        if (r < 0 || !ours->version || !ours->sort_key)
                return -ENOMEM;
        read_pins(l, &pins);
        chosen = entry_choose(list.items, list.n, &pins, &why);
        loader_pins_done(&pins);
        return chosen == (int)list.n - 1 ? 0 : refuse_choice(&list.items[MAX(chosen, 0)], why, e);
}

static int create_entry(struct sdboot *s, const char *name, const char *text, size_t size, struct error *e)
{
        _cleanup_free_ char *path = xasprintf(ENTRIES_DIRECTORY "/%s", name);
        int r;

        r = path ? mkdir_parents(s->esp.fd, ENTRIES_DIRECTORY, 0755) : -ENOMEM;
        /* The directories themselves must be as durable as what is put into them. */
        if (r >= 0)
                r = io_fsync_dir(s->esp.fd, "loader");
        if (r >= 0)
                r = io_fsync_dir(s->esp.fd, ".");
        if (r >= 0)
                r = file_create(s->esp.fd, path, text, size, 0644);
        if (r < 0 && r != -EEXIST)
                fail(e, r, &kind_esp_unusable, "cannot write the boot entry %s on %s: %s", name, s->esp.where, error_text(r));
        return r;
}

static int sdboot_switch_to(struct loader *l, const struct entry_spec *spec, int tries, struct error *e)
{
        _cleanup_free_ char *text = NULL;
        char name[ENTRY_NAME_MAX];
        int r;

        r = entry_format(spec, &text, e);
        if (r < 0)
                return r;
        entry_name_format(spec->generation, spec->slot, tries > 0 ? tries : -1, 0, name);
        r = create_entry(l->priv, name, text, strlen(text), e);
        return r == -EEXIST ? fail(e, r, &kind_esp_unusable, "the boot entry %s exists already", name) : r;
}

static int sdboot_next(struct loader *l, struct loader_entry *ret, struct error *e)
{
        _cleanup_entries_ struct entry_list list = {};
        struct loader_pins pins;
        int chosen, r;

        r = sdboot_read_entries(l->priv, &list, e);
        if (r < 0)
                return r;
        read_pins(l, &pins);
        chosen = entry_choose(list.items, list.n, &pins, NULL);
        loader_pins_done(&pins);
        if (chosen < 0 || !list.items[chosen].name.ours)
                return -ENOENT;
        *ret = to_loader_entry(&list.items[chosen]);
        return 0;
}

/* The file name of an entry, as it lies on the ESP. */
static void file_name(const struct entry *entry, char name[static ENTRY_NAME_MAX])
{
        const struct entry_name *n = &entry->name;

        entry_name_format(n->generation, n->slot, n->counted ? n->left : -1, n->done, name);
}

static int unlink_entry(struct sdboot *s, const struct entry *entry, struct error *e)
{
        char name[ENTRY_NAME_MAX];
        _cleanup_free_ char *path = NULL;
        int r;

        file_name(entry, name);
        path = xasprintf(ENTRIES_DIRECTORY "/%s", name);
        r = path ? io_unlink(s->esp.fd, path, 0) : -ENOMEM;
        if (r < 0 && r != -ENOENT)
                return fail(e, r, &kind_esp_unusable, "cannot remove the boot entry %s: %s", name, error_text(r));
        return 0;
}

static int copy_without_counter(struct sdboot *s, const struct entry *entry, struct error *e)
{
        char counted[ENTRY_NAME_MAX], plain[ENTRY_NAME_MAX];
        _cleanup_free_ char *path = NULL, *text = NULL;
        size_t size;
        int r;

        file_name(entry, counted);
        entry_name_format(entry->name.generation, entry->name.slot, -1, 0, plain);
        path = xasprintf(ENTRIES_DIRECTORY "/%s", counted);
        r = path ? file_read(s->esp.fd, path, ENTRY_READ_MAX, &text, &size) : -ENOMEM;
        if (r < 0)
                return fail(e, r, &kind_esp_unusable, "cannot read the boot entry %s: %s", counted, error_text(r));
        r = create_entry(s, plain, text, size, e);
        return r == -EEXIST ? 0 : r;
}

/* The plain name is made durable first; only then the counted one goes. A cut between leaves both, of which
 * systemd-boot takes either: the same system. */
static int sdboot_confirm(struct loader *l, uint64_t generation, struct error *e)
{
        struct sdboot *s = l->priv;
        _cleanup_entries_ struct entry_list list = {};
        bool found = false;
        int r;

        r = sdboot_read_entries(s, &list, e);
        for (size_t i = 0; i < list.n && r >= 0; i++) {
                const struct entry_name *name = &list.items[i].name;

                if (!name->ours || name->generation != generation)
                        continue;
                found = true;
                if (!name->counted)
                        continue;
                r = copy_without_counter(s, &list.items[i], e);
                if (r >= 0)
                        r = unlink_entry(s, &list.items[i], e);
        }
        if (r < 0)
                return r;
        if (!found) {
                fail(e, -ENOENT, &kind_esp_unusable, "the boot entry of generation %llu is gone from %s",
                     (unsigned long long)generation, s->esp.where);
                return fail_hint(e, "reboot: the entry is made again, or the previous version boots");
        }
        r = io_fsync_dir(s->esp.fd, ENTRIES_DIRECTORY);
        return r < 0 ? fail_errno(e, r, "cannot flush " ENTRIES_DIRECTORY) : 0;
}

static int sdboot_remove_slot(struct loader *l, int slot, struct error *e)
{
        struct sdboot *s = l->priv;
        _cleanup_entries_ struct entry_list list = {};
        size_t removed = 0;
        int r;

        r = sdboot_read_entries(s, &list, e);
        for (size_t i = 0; i < list.n && r >= 0; i++) {
                if (!list.items[i].name.ours || list.items[i].name.slot != slot)
                        continue;
                r = unlink_entry(s, &list.items[i], e);
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

/* Files below /bootmgr that no entry names, and temporary ones of an interrupted write. */
static int prune_files(struct sdboot *s, struct error *e)
{
        _cleanup_entries_ struct entry_list list = {};
        _cleanup_closedir_ DIR *dir = NULL;
        struct dirent *found;
        int r;

        r = sdboot_read_entries(s, &list, e);
        if (r >= 0)
                r = open_directory(s, FILES_DIRECTORY, &dir);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        while ((found = readdir(dir))) {
                _cleanup_free_ char *path = xasprintf("/" FILES_DIRECTORY "/%s", found->d_name);
                uint8_t id[BOOT_FILE_ID_SIZE];
                size_t n = strlen(found->d_name);
                bool temporary = n == 12 && strcasecmp(found->d_name + 8, ".TMP") == 0;

                if (!path)
                        return -ENOMEM;
                if (!temporary && (hex_decode(found->d_name, id, sizeof(id)) < 0 || sdboot_is_named(&list, path)))
                        continue;
                r = io_unlink(s->esp.fd, path + 1, 0);
                if (r < 0)
                        return fail(e, r, &kind_esp_unusable, "cannot remove %s from the ESP: %s", path, error_text(r));
        }
        return 0;
}

static int sdboot_prune(struct loader *l, const uint64_t *keep, size_t n, struct error *e)
{
        struct sdboot *s = l->priv;
        _cleanup_entries_ struct entry_list list = {};
        int r;

        r = sdboot_read_entries(s, &list, e);
        for (size_t i = 0; i < list.n && r >= 0; i++)
                if (list.items[i].name.ours && !is_kept(list.items[i].name.generation, keep, n))
                        r = unlink_entry(s, &list.items[i], e);
        /* Entries must be gone for good before what they name goes. */
        if (r >= 0 && list.n > 0)
                r = io_fsync_dir(s->esp.fd, ENTRIES_DIRECTORY);
        return r < 0 ? r : prune_files(s, e);
}

static void note_ukis(struct sdboot *s, struct buf *notes)
{
        _cleanup_closedir_ DIR *dir = NULL;
        struct dirent *found;
        unsigned n = 0;

        if (open_directory(s, UKI_DIRECTORY, &dir) < 0)
                return;
        while ((found = readdir(dir)))
                n += found->d_name[0] != '.';
        if (n)
                buf_printf(notes, "%u unified kernels in " UKI_DIRECTORY " are not counted in when the next boot is computed\n", n);
}

static int sdboot_inspect(struct loader *l, struct buf *notes, struct error *e)
{
        _cleanup_entries_ struct entry_list list = {};
        struct loader_pins pins;
        const char *why = "";
        int chosen, r;

        r = sdboot_read_entries(l->priv, &list, e);
        if (r < 0)
                return r;
        read_pins(l, &pins);
        chosen = entry_choose(list.items, list.n, &pins, &why);
        if (chosen >= 0 && !list.items[chosen].name.ours)
                buf_printf(notes, "systemd-boot will start the entry %s, which is not ours: it is %s\n", list.items[chosen].name.id, why);
        else if (chosen >= 0 && !startswith(why, "first"))
                buf_printf(notes, "the entry %s is %s: it would boot again and again, whatever its tries\n",
                           list.items[chosen].name.id, why);
        loader_pins_done(&pins);
        note_ukis(l->priv, notes);
        return 0;
}

const struct loader_ops loader_systemd_boot = {
        .name = "systemd-boot",
        .open = sdboot_open,
        .close = sdboot_close,
#ifndef BOOTMGR_RECOVER
        .add_boot_file = sdboot_add_boot_file,
        .check_boot_file = sdboot_check_boot_file,
#endif
        .list = sdboot_list,
        .would_choose = sdboot_would_choose,
        .switch_to = sdboot_switch_to,
        .next = sdboot_next,
        .confirm = sdboot_confirm,
        .remove_slot = sdboot_remove_slot,
        .prune = sdboot_prune,
        .inspect = sdboot_inspect,
};
