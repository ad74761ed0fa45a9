/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What starts this loader, and what it offers a person: neither is needed to boot what is confirmed. */
#include <fcntl.h>

#include "base/file.h"
#include "base/io.h"
#include "loader/firmware.h"
#include "loader/sdboot.h"
#include "slot/kinds.h"

static bool has_text(struct sdboot *s, const struct entry *entry, const char *text)
{
        _cleanup_free_ char *path = xasprintf(ENTRIES_DIRECTORY "/%s", entry->name.file), *found = NULL;
        size_t size;

        return path && file_read(s->esp.fd, path, ENTRY_READ_MAX, &found, &size) >= 0 && size == strlen(text) &&
               memcmp(found, text, size) == 0;
}

/* Those that are not wanted go first: of two for one slot a person could not tell which is true. */
static int remove_others(struct sdboot *s, const char *name, const char *text, bool *ret_there, struct error *e)
{
        _cleanup_entries_ struct entry_list list = {};
        bool removed = false;
        int r;

        *ret_there = false;
        r = sdboot_read_entries(s, &list, e);
        for (size_t i = 0; i < list.n && r >= 0; i++) {
                const struct entry *entry = &list.items[i];

                if (sdboot_menu_slot(entry->name.file) == SLOT_NONE)
                        continue;
                if (text && streq(entry->name.file, name) && has_text(s, entry, text)) {
                        *ret_there = true;
                        continue;
                }
                r = sdboot_unlink_entry(s, entry, e);
                removed = true;
        }
        if (r >= 0 && removed)
                r = io_fsync_dir(s->esp.fd, ENTRIES_DIRECTORY);
        return r;
}

int sdboot_offer(struct loader *l, const struct entry_spec *spec, struct error *e)
{
        _cleanup_free_ char *text = NULL;
        char name[64] = "";
        bool there;
        int r;

        r = spec ? entry_format(spec, &text, e) : 0;
        if (r < 0)
                return r;
        if (spec)
                snprintf(name, sizeof(name), MENU_ENTRY "%c-%llu.conf", slot_name(spec->slot),
                         (unsigned long long)spec->generation);
        r = remove_others(l->priv, name, text, &there, e);
        if (r < 0 || there || !spec)
                return r;
        return sdboot_create_entry(l->priv, name, text, strlen(text), e);
}

static char *with_backslashes(char *path)
{
        for (char *c = path; c && *c; c++)
                if (*c == '/')
                        *c = '\\';
        return path;
}

/* What systemd-boot would give the kernel: its initrds, then the options of the entry. */
static char *stub_arguments(const struct entry *entry, const char *word)
{
        _cleanup_buf_ struct buf b = {};

        for (char **s = entry->initrds; s && *s; s++) {
                _cleanup_free_ char *path = with_backslashes(strdup(*s));

                buf_printf(&b, "initrd=%s ", path ?: "");
        }
        buf_printf(&b, "%s%s", entry->options ?: "", word);
        return buf_take(&b);
}

/* An entry by itself; owns its strings. */
struct direct {
        char *path, *arguments;
};

static void direct_done(struct direct *d)
{
        free(d->path);
        free(d->arguments);
}
#define _cleanup_direct_ _cleanup_(direct_done)

/* The entry of this generation, 0: the rescue entry. false when there is none that could be started. One that is there and
 * could not be read may be it: then its option stays. */
static bool add_direct(const struct entry_list *list, uint64_t generation, struct direct *d, struct firmware_option *ret)
{
        const char *description = generation ? "bootmgr fallback" : "bootmgr rescue";

        for (size_t i = 0; i < list->n; i++) {
                const struct entry *entry = &list->items[i];
                bool wanted = generation ? entry->name.ours && entry->name.generation == generation
                                         : streq(entry->name.id, RESCUE_ID);

                if (!wanted || !entry->usable || !entry->linux_)
                        continue;
                d->path = with_backslashes(strdup(entry->linux_));
                d->arguments = stub_arguments(entry, generation ? " " FALLBACK_WORD : "");
                *ret = (struct firmware_option){ description, d->path, d->arguments };
                return d->path && d->arguments;
        }
        *ret = (struct firmware_option){ .description = description };
        return list->incomplete;
}

int sdboot_firmware(struct loader *l, uint64_t fallback, int tries, bool dry, unsigned *changed, struct error *e)
{
        static const char *const loaders[] = { "EFI/systemd/systemd-boot" EFI_MACHINE ".efi",
                                               "EFI/BOOT/BOOT" EFI_MACHINE ".EFI" };
        static const char *const names[SLOT_MAX_TRIES] = { "bootmgr 1", "bootmgr 2", "bootmgr 3", "bootmgr 4", "bootmgr 5",
                                                           "bootmgr 6", "bootmgr 7", "bootmgr 8", "bootmgr 9" };
        _cleanup_direct_ struct direct other = {}, rescue = {};
        char *starts[ARRAY_SIZE(loaders)] = {};
        struct firmware_option options[SLOT_MAX_TRIES + 3];
        _cleanup_entries_ struct entry_list list = {};
        struct sdboot *s = l->priv;
        size_t n = 0, n_starts = 0;
        int r;

        *changed = 0;
        r = sdboot_read_entries(s, &list, e);
        if (r < 0)
                return r;
        for (size_t i = 0; i < ARRAY_SIZE(loaders); i++)
                if (faccessat(s->esp.fd, loaders[i], F_OK, 0) == 0)
                        starts[n_starts++] = xasprintf("\\%s", loaders[i]);
        /* Started by something else, from elsewhere: nothing is known to fall through. */
        for (int i = 0; i < MIN(MAX(tries, 1), SLOT_MAX_TRIES) && n_starts > 0; i++)
                options[n++] = (struct firmware_option){ names[i], with_backslashes(starts[0]), NULL };
        if (n_starts > 1)
                options[n++] = (struct firmware_option){ "bootmgr removable", with_backslashes(starts[1]), NULL };
        if (n > 0 && fallback && add_direct(&list, fallback, &other, &options[n]))
                n++;
        if (n > 0 && add_direct(&list, 0, &rescue, &options[n])) /* better than the firmware's own shell */
                n++;
        r = firmware_sync(l->efivars, l->disk, options, n, dry, changed, e);
        free(starts[0]);
        free(starts[1]);
        return r;
}
