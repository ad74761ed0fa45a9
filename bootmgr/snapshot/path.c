/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "snapshot/path.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <sys/syscall.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/io.h"
#include "base/text.h"
#include "slot/kinds.h"

/* "a/b": no empty component, no "." and no "..". */
bool path_is_clean(const char *path)
{
        for (;;) {
                size_t n = strcspn(path, "/");

                if (n == 0 || (n == 1 && path[0] == '.') || (n == 2 && path[0] == '.' && path[1] == '.'))
                        return false;
                if (!path[n])
                        return true;
                path += n + 1;
        }
}

const char *path_problem(const char *path)
{
        const char *name;

        if (path[0] != '/')
                return "it is not absolute";
        if (!path[1])
                return "the root directory as a whole cannot be shared";
        if (!path_is_clean(path + 1))
                return "it is not normalised: no '//', '.', '..' and no slash at its end";
        if (strlen(path) >= PATH_MAX || !text_is_printable(path, strlen(path)) || strpbrk(path, "\n\t\r\f"))
                return "it is too long, or holds control characters, or is not UTF-8";
        name = strrchr(path, '/') + 1;
        if (strlen(name) > NAME_MAX - strlen(BESIDE_PREFIX))
                return "its last component is too long: its new content would find no name beside it";
        if (startswith(name, BESIDE_PREFIX))
                return "names that begin with '" BESIDE_PREFIX "' are bootmgr's own";
        return NULL;
}

const char *path_below(const char *path, const char *root)
{
        const char *rest = startswith(path, root);

        if (!rest || (*rest && *rest != '/'))
                return NULL;
        return *rest ? rest + 1 : rest;
}

int path_open_beneath(int dir, const char *path, const char **ret_name)
{
        int fd = dir_open(dir, ".");

        while (fd >= 0) {
                const char *slash = strchr(path, '/');
                char component[NAME_MAX + 1];
                int next;

                if (!slash) {
                        *ret_name = path;
                        break;
                }
                if ((size_t)(slash - path) >= sizeof(component)) {
                        fd_close(fd);
                        return -ENAMETOOLONG;
                }
                memcpy(component, path, (size_t)(slash - path));
                component[slash - path] = '\0';
                next = openat(fd, component, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (next < 0)
                        next = -errno;
                fd_close(fd);
                fd = next;
                path = slash + 1;
        }
        return fd;
}

/* Without openat2(2), or where a sandbox forbids it, no symbolic link is followed at all. */
static int open_in_root(int root, const char *path)
{
        struct open_how how = { .flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
                                .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS };
        _cleanup_free_ char *below = NULL;
        const char *name;
        int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));

        if (fd >= 0 || (errno != ENOSYS && errno != EPERM))
                return fd < 0 ? -errno : fd;
        below = xasprintf("%s/.", path);
        return below ? path_open_beneath(root, below, &name) : -ENOMEM;
}

/* Makes `path` and its parents below `root`. */
static int make_in_root(int root, const char *path)
{
        _cleanup_free_ char *copy = strdup(path);
        _cleanup_close_ int parent = -1;
        char *slash;
        int fd, r;

        if (!copy)
                return -ENOMEM;
        fd = open_in_root(root, copy);
        if (fd != -ENOENT)
                return fd;
        slash = strrchr(copy, '/');
        if (slash)
                *slash = '\0';
        parent = slash ? make_in_root(root, copy) : dir_open(root, ".");
        if (parent < 0)
                return parent;
        r = io_mkdir(parent, slash ? slash + 1 : copy, 0755);
        return r < 0 ? r : open_in_root(root, path);
}

int path_open_parent(int root, const char *path, bool create, const char **ret_name)
{
        const char *slash = strrchr(path, '/');
        _cleanup_free_ char *parent = NULL;

        *ret_name = slash + 1;
        if (slash == path)
                return dir_open(root, ".");
        parent = strndup(path + 1, (size_t)(slash - path - 1));
        if (!parent)
                return -ENOMEM;
        return create ? make_in_root(root, parent) : open_in_root(root, parent);
}

int fail_write(struct error *e, int code, const char *fmt, ...)
{
        _cleanup_free_ char *what = NULL;
        va_list ap;

        va_start(ap, fmt);
        if (vasprintf(&what, fmt, ap) < 0)
                what = NULL;
        va_end(ap);
        if (code != -ENOSPC && code != -EDQUOT)
                return fail_errno(e, code, "%s", what ?: "cannot write");
        fail(e, code, &kind_no_space, "%s: no space is left", what ?: "cannot write");
        fail_hint(e, "make room on the file system of the data directory, then try again");
        return code;
}

int fail_mount_point(struct error *e, const char *path)
{
        fail(e, -EBUSY, &kind_config_path, "/%s is a mount point: it cannot be part of a slot's configuration", path);
        fail_hint(e, "unmount it, or name paths in SharedPaths= that do not contain it");
        return -EBUSY;
}

int fail_changed(struct error *e, const char *path)
{
        fail(e, -EAGAIN, NULL, "/%s changed while it was read", path);
        fail_hint(e, "stop the service that writes it first");
        return -EAGAIN;
}
