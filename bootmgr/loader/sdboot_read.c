/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What systemd-boot would read: entries of both types, the automatic ones, and the pins. */
#include "loader/sdboot.h"

#include <fcntl.h>
#include <strings.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/io.h"
#include "loader/efivar.h"
#include "loader/uki.h"
#include "slot/kinds.h"

#define ENTRIES_MAX   512
#define PINS_MAX      4096
#define UKI_DIRECTORY "EFI/Linux"

void entry_list_done(struct entry_list *l)
{
        for (size_t i = 0; i < l->n; i++)
                entry_done(&l->items[i]);
        free(TAKE_PTR(l->items));
        l->n = 0;
}

/* systemd-boot hides an entry of another architecture, and one whose file cannot be opened. */
static bool is_usable(struct sdboot *s, const struct entry *entry)
{
        const char *path = entry->linux_ ?: entry->efi;

        /* Absolute, with one slash in front; the root itself can be opened too. */
        return path && entry_is_for_machine(entry) && faccessat(s->esp.fd, path[1] ? path + 1 : ".", F_OK, 0) == 0;
}

/* Whether systemd-boot looks at a file of this name at all. */
static bool is_entry_name(const char *name, const char *suffix)
{
        size_t n = strlen(name), m = strlen(suffix);

        return *name != '.' && !startswith(name, "auto-") && n > m && strcasecmp(name + n - m, suffix) == 0;
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

int sdboot_open_directory(struct sdboot *s, const char *path, DIR **ret)
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

int entry_list_add(struct entry_list *l, struct entry *entry)
{
        struct entry *grown = reallocarray(l->items, l->n + 1, sizeof(struct entry));

        if (!grown) {
                entry_done(entry);
                return -ENOMEM;
        }
        l->items = grown;
        l->items[l->n++] = TAKE(*entry, (struct entry){});
        return 0;
}

/* Every file of the directory that read_one() makes an entry of. One that cannot be read is not seen by systemd-boot
 * either. */
static int read_directory(struct sdboot *s, const char *path, const char *suffix,
                          int (*read_one)(struct sdboot *s, const char *name, struct entry *ret), struct entry_list *list,
                          struct error *e)
{
        _cleanup_closedir_ DIR *dir = NULL;
        struct dirent *found;
        int r;

        r = sdboot_open_directory(s, path, &dir);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return fail(e, r, &kind_esp_unusable, "cannot read %s on %s: %s", path, s->esp.where, error_text(r));
        while ((errno = 0, found = readdir(dir))) {
                struct entry entry;

                if (!is_entry_name(found->d_name, suffix))
                        continue;
                if (list->n == ENTRIES_MAX)
                        return fail(e, -E2BIG, &kind_esp_unusable, "%s has more than %d boot entries", s->esp.where,
                                    ENTRIES_MAX);
                r = read_one(s, found->d_name, &entry);
                if (r >= 0)
                        r = entry_list_add(list, &entry);
                if (r == -ENOMEM)
                        return r;
                list->incomplete |= r < 0 && r != -ENOENT && r != -EFBIG && r != -EINVAL && r != -EISDIR;
        }
        return errno ? fail(e, -errno, &kind_esp_unusable, "cannot read %s on %s: %s", path, s->esp.where,
                            error_text(-errno))
                     : 0;
}

int sdboot_read_entries(struct sdboot *s, struct entry_list *ret, struct error *e)
{
        _cleanup_entries_ struct entry_list list = {};
        int r;

        r = read_directory(s, ENTRIES_DIRECTORY, ".conf", read_entry, &list, e);
        if (r >= 0)
                *ret = TAKE(list, (struct entry_list){});
        return r;
}

static int read_uki(struct sdboot *s, const char *name, struct entry *ret)
{
        _cleanup_free_ char *path = xasprintf(UKI_DIRECTORY "/%s", name);
        _cleanup_close_ int fd = path ? io_open(s->esp.fd, path, O_RDONLY, 0) : -ENOMEM;

        return fd < 0 ? fd : uki_read(fd, name, ret);
}

/* EFI/BOOT is an entry of its own unless a systemd-boot lies there: this one, most likely, or one behind shim. */
static bool has_other_default(struct sdboot *s)
{
        static const char *const paths[] = { "EFI/BOOT/BOOT" EFI_MACHINE ".efi", "EFI/BOOT/GRUB" EFI_MACHINE ".EFI" };

        for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
                _cleanup_close_ int fd = io_open(s->esp.fd, paths[i], O_RDONLY, 0);

                if (fd < 0 && i == 0)
                        return false;
                if (fd >= 0 && pe_is_systemd_boot(fd))
                        return false;
        }
        return true;
}

/* Those that a pin could name, in systemd-boot's order. (macOS lies on another partition, the firmware's menu is one
 * where the firmware has it: nobody pins these on a machine that is to boot by itself.) */
static int add_automatic(struct sdboot *s, struct entry_list *list)
{
        const struct {
                const char *id;
                bool there;
        } entries[] = {
                { "auto-windows", faccessat(s->esp.fd, "EFI/Microsoft/Boot/bootmgfw.efi", F_OK, 0) == 0 },
                { "auto-efi-shell", faccessat(s->esp.fd, "shell" EFI_MACHINE ".efi", F_OK, 0) == 0 },
                { "auto-efi-default", has_other_default(s) },
        };

        for (size_t i = 0; i < ARRAY_SIZE(entries); i++) {
                struct entry entry = { .name.slot = SLOT_NONE, .usable = true, .automatic = true };
                int r;

                if (!entries[i].there)
                        continue;
                strcpy(entry.name.file, entries[i].id);
                strcpy(entry.name.id, entries[i].id);
                r = entry_list_add(list, &entry);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* A variable of systemd-boot: UTF-16LE. Only ASCII can name an entry of ours; anything else becomes '?', which matches
 * like any other character. */
static char *read_variable(const char *efivars, const char *name)
{
        _cleanup_free_ char *data = NULL;
        char *text;
        size_t size, n = 0;

        if (efivar_read(efivars, name, PINS_MAX, &data, &size) < 0)
                return NULL;
        text = calloc(1, size / 2 + 1);
        for (size_t i = 0; text && i + 1 < size; i += 2) {
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
        pins->efi_default = read_variable(l->efivars, "LoaderEntryDefault-" LOADER_GUID);
        pins->efi_saved = read_variable(l->efivars, "LoaderEntryLastBooted-" LOADER_GUID);
        pins->efi_oneshot = read_variable(l->efivars, "LoaderEntryOneShot-" LOADER_GUID);
}

int sdboot_read_choice(struct loader *l, struct entry_list *ret, struct loader_pins *pins, struct error *e)
{
        _cleanup_entries_ struct entry_list list = {};
        struct sdboot *s = l->priv;
        int r;

        r = read_directory(s, UKI_DIRECTORY, ".efi", read_uki, &list, e);
        if (r >= 0)
                r = read_directory(s, ENTRIES_DIRECTORY, ".conf", read_entry, &list, e);
        if (r < 0)
                return r;
        read_pins(l, pins);
        r = pins->no_automatic ? 0 : add_automatic(s, &list);
        if (r < 0) {
                loader_pins_done(pins);
                return r;
        }
        *ret = TAKE(list, (struct entry_list){});
        return 0;
}

bool sdboot_is_named(const struct entry_list *l, const char *path)
{
        for (size_t i = 0; i < l->n; i++) {
                const struct entry *entry = &l->items[i];

                if ((entry->linux_ && strcasecmp(entry->linux_, path) == 0) ||
                    (entry->efi && strcasecmp(entry->efi, path) == 0))
                        return true;
                for (char **s = entry->initrds; s && *s; s++)
                        if (strcasecmp(*s, path) == 0)
                                return true;
        }
        return false;
}
