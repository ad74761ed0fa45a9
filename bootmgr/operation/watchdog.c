/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "operation/watchdog.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/watchdog.h>

#include "base/buf.h"
#include "base/file.h"

#define BOOTSTATUS_MAX 4096 /* what sysfs says of the size of each of its files */

static bool has_reset(int directory, const char *name)
{
        _cleanup_free_ char *path = xasprintf("%s/bootstatus", name), *text = NULL;
        size_t size;

        if (!path || file_read(directory, path, BOOTSTATUS_MAX, &text, &size) < 0)
                return false;
        return (strtoul(text, NULL, 0) & WDIOF_CARDRESET) != 0;
}

bool watchdog_has_reset(const char *directory)
{
        DIR *dir = opendir(directory);
        struct dirent *entry;
        bool found = false;

        while (dir && !found && (entry = readdir(dir)))
                found = entry->d_name[0] != '.' && has_reset(dirfd(dir), entry->d_name);
        if (dir)
                closedir(dir);
        return found;
}
