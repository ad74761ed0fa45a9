/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "loader/efivar.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/io.h"

#define ATTRIBUTES UINT32_C(7)
#define PREFIX     4 /* the attributes */

int efivar_read(const char *efivars, const char *name, size_t max, char **ret, size_t *ret_size)
{
        _cleanup_free_ char *path = xasprintf("%s/%s", efivars, name), *data = NULL;
        size_t size;
        int r;

        r = path ? file_read(AT_FDCWD, path, PREFIX + max, &data, &size) : -ENOMEM;
        if (r < 0)
                return r;
        if (size < PREFIX)
                return -EBADMSG;
        memmove(data, data + PREFIX, size - PREFIX + 1);
        *ret = TAKE_PTR(data);
        *ret_size = size - PREFIX;
        return 0;
}

/* efivarfs makes what it does not know immutable. Where that cannot be undone, what follows says so. */
static void make_mutable(const char *path)
{
        _cleanup_close_ int fd = io_open(AT_FDCWD, path, O_RDONLY, 0);
        int flags = 0;

        if (fd < 0 || ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0 || !(flags & FS_IMMUTABLE_FL))
                return;
        flags &= ~FS_IMMUTABLE_FL;
        ioctl(fd, FS_IOC_SETFLAGS, &flags);
}

/* One write(2) is one SetVariable(). In a plain directory a shorter value must not leave the end of the longer one. */
int efivar_write(const char *efivars, const char *name, const void *data, size_t size)
{
        _cleanup_free_ char *path = xasprintf("%s/%s", efivars, name);
        _cleanup_buf_ struct buf b = {};
        _cleanup_close_ int fd = -1;
        uint8_t attributes[PREFIX];

        put_le32(attributes, ATTRIBUTES);
        buf_append(&b, attributes, PREFIX);
        buf_append(&b, data, size);
        if (!path || b.failed)
                return -ENOMEM;
        make_mutable(path);
        fd = io_open(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
        return fd < 0 ? fd : io_pwrite(fd, b.data, b.size, 0);
}

int efivar_remove(const char *efivars, const char *name)
{
        _cleanup_free_ char *path = xasprintf("%s/%s", efivars, name);
        int r;

        if (!path)
                return -ENOMEM;
        make_mutable(path);
        r = io_unlink(AT_FDCWD, path, 0);
        return r == -ENOENT ? 0 : r;
}
