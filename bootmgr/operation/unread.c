/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "operation/unread.h"

#include <fcntl.h>

#include "base/file.h"
#include "base/io.h"
#include "base/log.h"

#define RUN_DIRECTORY "/run/bootmgr"
#define NAME          "record-unread"

/* Where there is no data directory the mark holds until the machine starts again: then it is up to a person, who runs
 * boot-config once more. */
static int open_unread(const struct machine *m)
{
        if (m->snapshots.data >= 0)
                return fcntl(m->snapshots.data, F_DUPFD_CLOEXEC, 0);
        return m->offline ? -ENOENT : dir_open(AT_FDCWD, RUN_DIRECTORY);
}

bool unread_before(const struct machine *m)
{
        _cleanup_close_ int fd = open_unread(m);

        return fd >= 0 && faccessat(fd, NAME, F_OK, 0) == 0;
}

void unread_keep(struct machine *m, const struct slot_set *set)
{
        _cleanup_close_ int fd = open_unread(m);

        log_warning("no copy of the state record can be read: this boot goes on without it, and leaves it as it is; where "
                    "the next one cannot read it either, it is made again from the boot entries");
        if (fd < 0 || file_replace_volatile(fd, NAME, "", 0, 0644) < 0)
                log_warning("the next boot will not know that");
        m->state.set = *set;
        m->state_kept = true;
}

void unread_forget(const struct machine *m)
{
        _cleanup_close_ int fd = open_unread(m);

        if (fd >= 0 && unread_before(m))
                io_unlink(fd, NAME, 0);
}
