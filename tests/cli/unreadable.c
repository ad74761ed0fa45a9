/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* For LD_PRELOAD: while there is a file $UNREADABLE, what lies at the offsets $UNREADABLE_AT (two of them) cannot be read.
 * As on a disk it can be written, and then be read again: the file goes; unless there is $UNWRITABLE: then it cannot. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static int is_hit(off_t offset)
{
        const char *file = getenv("UNREADABLE"), *at = getenv("UNREADABLE_AT");
        long long first, second;

        return file && at && access(file, F_OK) == 0 && sscanf(at, "%lld %lld", &first, &second) == 2 &&
               (offset == first || offset == second);
}

ssize_t pread(int fd, void *data, size_t n, off_t offset)
{
        if (is_hit(offset)) {
                errno = EIO;
                return -1;
        }
        return syscall(SYS_pread64, fd, data, n, offset);
}

ssize_t pread64(int fd, void *data, size_t n, off_t offset)
{
        return pread(fd, data, n, offset);
}

ssize_t pwrite(int fd, const void *data, size_t n, off_t offset)
{
        if (is_hit(offset)) {
                if (getenv("UNWRITABLE")) {
                        errno = EIO;
                        return -1;
                }
                unlink(getenv("UNREADABLE"));
        }
        return syscall(SYS_pwrite64, fd, data, n, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t n, off_t offset)
{
        return pwrite(fd, data, n, offset);
}
