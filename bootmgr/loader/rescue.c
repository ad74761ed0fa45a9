/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "loader/rescue.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include "base/file.h"
#include "loader/sdboot.h"
#include "slot/kinds.h"

#define VARIABLE "LoaderEntryOneShot-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"

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

/* efivarfs makes what it does not know immutable; a variable that is not there has no flags. */
static int open_variable(const char *path)
{
        int fd = open(path, O_RDONLY | O_CLOEXEC), flags = 0;

        if (fd >= 0 && ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0 && (flags & FS_IMMUTABLE_FL)) {
                flags &= ~FS_IMMUTABLE_FL;
                if (ioctl(fd, FS_IOC_SETFLAGS, &flags) < 0) {
                        fd_close(fd);
                        return -errno;
                }
        }
        fd_close(fd);
        fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        return fd < 0 ? -errno : fd;
}

int rescue_boot_next(struct loader *l, const struct rescue *rescue, struct error *e)
{
        _cleanup_free_ char *path = l->efivars ? xasprintf("%s/" VARIABLE, l->efivars) : NULL;
        uint8_t data[4 + 2 * ENTRY_NAME_MAX] = { 7 }; /* non-volatile, for boot services and at run time */
        size_t n = strlen(rescue->file) + 1;
        _cleanup_close_ int fd = -1;
        ssize_t written;

        if (!path) {
                fail(e, -ENODEV, NULL, "the firmware's variables cannot be written");
                return fail_hint(e, "choose 'Rescue' in the boot menu: hold the space bar down while the machine starts");
        }
        for (size_t i = 0; i < n; i++)
                put_le16(data + 4 + 2 * i, (uint16_t)(rescue->file[i] >= 'A' && rescue->file[i] <= 'Z' ? rescue->file[i] + 32
                                                                                                       : rescue->file[i]));
        fd = open_variable(path);
        if (fd < 0)
                return fail_errno(e, fd, "cannot write the EFI variable LoaderEntryOneShot");
        written = write(fd, data, 4 + 2 * n); /* one write is one setting */
        return written < 0 ? fail_errno(e, -errno, "cannot write the EFI variable LoaderEntryOneShot") : 0;
}
