/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "loader/rescue.h"

#include "loader/efivar.h"
#include "loader/sdboot.h"
#include "slot/kinds.h"

#define ONE_SHOT "LoaderEntryOneShot-" LOADER_GUID

static bool has_initrds(struct sdboot *s, const struct entry *entry)
{
        for (char **path = entry->initrds; path && *path; path++)
                if (faccessat(s->esp.fd, *path + 1, F_OK, 0) < 0)
                        return false;
        return true;
}

int rescue_find(struct loader *l, struct rescue *ret, struct error *e)
{
        _cleanup_entries_ struct entry_list list = {};
        struct rescue rescue = {};
        int r;

        if (l->ops != &loader_systemd_boot)
                return -ENOENT;
        r = sdboot_read_entries(l->priv, &list, e);
        for (size_t i = 0; i < list.n && r >= 0; i++) {
                const struct entry *entry = &list.items[i];

                if (!streq(entry->name.id, RESCUE_ID))
                        continue;
                strcpy(rescue.file, entry->name.file);
                rescue.usable = entry->usable && has_initrds(l->priv, entry);
                if (boot_file_id(entry->linux_, rescue.kernel) &&
                    boot_file_id(entry->initrds ? entry->initrds[0] : NULL, rescue.initrd)) {
                        *ret = rescue;
                        return 0;
                }
        }
        return r < 0 ? r : -ENOENT;
}

int rescue_boot_next(struct loader *l, const struct rescue *rescue, struct error *e)
{
        uint8_t data[2 * ENTRY_NAME_MAX];
        size_t n = strlen(rescue->file) + 1;
        int r;

        if (!l->efivars) {
                fail(e, -ENODEV, NULL, "the firmware's variables cannot be written");
                return fail_hint(e, "choose 'Rescue' in the boot menu: hold the space bar down while the machine starts");
        }
        for (size_t i = 0; i < n; i++)
                put_le16(data + 2 * i, (uint16_t)(rescue->file[i] >= 'A' && rescue->file[i] <= 'Z' ? rescue->file[i] + 32
                                                                                                   : rescue->file[i]));
        r = efivar_write(l->efivars, ONE_SHOT, data, 2 * n);
        return r < 0 ? fail_errno(e, r, "cannot write the EFI variable LoaderEntryOneShot") : 0;
}
