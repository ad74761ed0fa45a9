/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Trees of files for the tests of bootmgr/snapshot: a machine in a temporary directory, shell for making things, a
 * listing that shares no code with what it tests, and an I/O layer that fails. */
#pragma once

#include <check.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/io.h"
#include "base/log.h"
#include "snapshot/snapshot.h"

#include "suite.h"

#define ck_ok(expression)                                                                                                   \
        do {                                                                                                                \
                _cleanup_error_ struct error _error = {};                                                                   \
                struct error *e = &_error;                                                                                  \
                int _r = (expression);                                                                                      \
                ck_assert_msg(_r >= 0, "%s: %s (%s)", #expression, error_text(_r), _error.message ?: "no message");         \
        } while (0)

/* The expression fails with this kind, and says why. */
#define ck_refused(expression, expected)                                                                                    \
        do {                                                                                                                \
                _cleanup_error_ struct error _error = {};                                                                   \
                struct error *e = &_error;                                                                                  \
                int _r = (expression);                                                                                      \
                ck_assert_msg(_r < 0, "%s succeeded", #expression);                                                         \
                ck_assert_msg(_error.message != NULL, "%s: no message", #expression);                                       \
                ck_assert_msg(_error.kind == &(expected), "%s: kind %s: %s", #expression, _error.kind->name,                \
                              _error.message);                                                                              \
        } while (0)

static char dir[PATH_MAX];
static struct snapshot_place place = { -1, -1 };

static void sh(const char *fmt, ...) _printf_(1, 2);
static void sh(const char *fmt, ...)
{
        char command[16384], *text;
        va_list ap;

        va_start(ap, fmt);
        ck_assert_int_ge(vasprintf(&text, fmt, ap), 0);
        va_end(ap);
        ck_assert_int_lt(snprintf(command, sizeof(command), "set -e; cd '%s'; umask 022; %s", dir, text),
                         (int)sizeof(command));
        ck_assert_msg(system(command) == 0, "failed: %s", text);
        free(text);
}

/* What a shell says, without the last newline; malloc'ed. */
static _unused_ char *sh_output(const char *fmt, ...) _printf_(1, 2);
static char *sh_output(const char *fmt, ...)
{
        char path[PATH_MAX + 16], *text, *output;
        va_list ap;
        size_t n;

        va_start(ap, fmt);
        ck_assert_int_ge(vasprintf(&text, fmt, ap), 0);
        va_end(ap);
        sh("{ %s\n} > .output", text);
        free(text);
        snprintf(path, sizeof(path), "%s/.output", dir);
        ck_assert_int_ge(file_read(AT_FDCWD, path, MIB(64), &output, &n), 0);
        if (n > 0 && output[n - 1] == '\n')
                output[n - 1] = '\0';
        return output;
}

static void machine_reopen(void)
{
        char path[PATH_MAX + 32];

        fd_close(place.root);
        fd_close(place.data);
        snprintf(path, sizeof(path), "%s/root", dir);
        place.root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        snprintf(path, sizeof(path), "%s/root/data/bootmgr", dir);
        place.data = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        ck_assert_int_ge(place.root, 0);
        ck_assert_int_ge(place.data, 0);
}

/* dir/root is the root of the machine, dir/root/data/bootmgr is DATA. */
static void machine_begin(void)
{
        const char *tmp = getenv("TMPDIR") ?: "/tmp";

        log_set_max_level(LOG_LEVEL_ERROR);
        snprintf(dir, sizeof(dir), "%s/bootmgr-test-XXXXXX", tmp);
        ck_assert_ptr_nonnull(mkdtemp(dir));
        sh("mkdir -p root/data/bootmgr root/data/app");
        machine_reopen();
}

static void machine_end(void)
{
        io_set_ops(NULL);
        place.root = fd_close(place.root);
        place.data = fd_close(place.data);
        sh("chmod -R u+rwX . 2>/dev/null || :; rm -rf '%s'", dir);
}

/* A mount namespace of its own, with descriptors that are in it. False without the right to. */
static _unused_ bool own_mounts(void)
{
        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
                return false;
        machine_reopen();
        return true;
}

static inline bool is_root(void)
{
        return geteuid() == 0;
}

/* For main(): what is missing without root, loudly. */
static _unused_ void say_reduced(const char *what)
{
        if (!is_root())
                fprintf(stderr, "SKIPPED for lack of root: %s\n", what);
}

static int compare_listed(const void *a, const void *b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

static void list_xattrs_of(const char *path, struct buf *b)
{
        char list[65536], value[65536], *names[1024];
        ssize_t n = llistxattr(path, list, sizeof(list));
        size_t count = 0;

        for (ssize_t i = 0; i < n; i += (ssize_t)strlen(list + i) + 1)
                names[count++] = list + i;
        if (count > 1)
                qsort(names, count, sizeof(*names), compare_listed);
        for (size_t i = 0; i < count; i++) {
                ssize_t size = lgetxattr(path, names[i], value, sizeof(value));

                ck_assert_int_ge(size, 0);
                buf_printf(b, " %s=%08x:%zd", names[i], crc32c(0, value, (size_t)size), size);
        }
}

static uint32_t checksum_of(const char *path)
{
        char buffer[65536];
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        uint32_t crc = 0;
        ssize_t n;

        ck_assert_int_ge(fd, 0);
        while ((n = read(fd, buffer, sizeof(buffer))) > 0)
                crc = crc32c(crc, buffer, (size_t)n);
        close(fd);
        return crc;
}

/* One line for each file, with everything that must come back. Links are told by the inode's place in the list. */
static void list_tree(const char *path, const char *shown, struct buf *b)
{
        char target[PATH_MAX] = "", **names = NULL;
        struct stat st;
        size_t n = 0;
        DIR *d;

        if (lstat(path, &st) < 0) {
                buf_printf(b, "%s absent\n", shown);
                return;
        }
        buf_printf(b, "%s %o %u:%u %lld.%09ld", shown, st.st_mode, st.st_uid, st.st_gid, (long long)st.st_mtim.tv_sec,
                   st.st_mtim.tv_nsec);
        if (!S_ISDIR(st.st_mode))
                buf_printf(b, " links %lu", (unsigned long)st.st_nlink);
        if (S_ISREG(st.st_mode))
                buf_printf(b, " size %lld %08x", (long long)st.st_size, st.st_size < (off_t)MIB(64) ? checksum_of(path) : 0);
        if (S_ISLNK(st.st_mode) && readlink(path, target, sizeof(target) - 1) > 0)
                buf_printf(b, " -> %s", target);
        list_xattrs_of(path, b);
        buf_puts(b, "\n");
        if (!S_ISDIR(st.st_mode))
                return;
        d = opendir(path);
        ck_assert_ptr_nonnull(d);
        for (struct dirent *entry; (entry = readdir(d));) {
                if (streq(entry->d_name, ".") || streq(entry->d_name, ".."))
                        continue;
                names = reallocarray(names, n + 1, sizeof(*names));
                names[n++] = strdup(entry->d_name);
        }
        closedir(d);
        if (n > 1)
                qsort(names, n, sizeof(*names), compare_listed);
        for (size_t i = 0; i < n; i++) {
                char *below = xasprintf("%s/%s", path, names[i]), *below_shown = xasprintf("%s/%s", shown, names[i]);

                list_tree(below, below_shown, b);
                free(below);
                free(below_shown);
                free(names[i]);
        }
        free(names);
}

/* Of a path below `dir`; malloc'ed. */
static _unused_ char *listing(const char *path)
{
        char *full = xasprintf("%s/%s", dir, path);
        struct buf b = {};

        list_tree(full, "", &b);
        free(full);
        return buf_take(&b);
}

/* Fails with the first line that differs. */
static _unused_ void ck_same_tree(const char *path, const char *expected)
{
        char *now = listing(path), *a = now, *b = strdup(expected), *expected_copy = b, *x, *y;

        do {
                x = line_next(&a);
                y = line_next(&b);
                ck_assert_msg(streq(x, y), "%s differs:\n  is     %.500s\n  not    %.500s", path, x ?: "(end)",
                              y ?: "(end)");
        } while (x && y);
        free(expected_copy);
        free(now);
}

/* The I/O layer, failing: the call with this number (from 1) fails with `error`; with `dead` so do all that follow, as
 * if the power went away before it. 0: nothing fails, calls are counted. */
static struct {
        unsigned fail_at, calls;
        bool dead;
        int error;
} faults;

static bool fault(void)
{
        faults.calls++;
        return faults.fail_at && (faults.calls == faults.fail_at || (faults.dead && faults.calls > faults.fail_at));
}

static int fault_open(int dirfd, const char *path, int flags, mode_t mode)
{
        /* Only what writes. */
        return (flags & O_CREAT) && fault() ? faults.error : io_system_ops.open(dirfd, path, flags, mode);
}

static ssize_t fault_pwrite(int fd, const void *buffer, size_t n, uint64_t offset)
{
        if (!fault())
                return io_system_ops.pwrite(fd, buffer, n, offset);
        /* Half of it may have arrived. */
        if (n > 1)
                io_system_ops.pwrite(fd, buffer, n / 2, offset);
        return faults.error;
}

static int fault_fsync(int fd)
{
        return fault() ? faults.error : io_system_ops.fsync(fd);
}

static int fault_truncate(int fd, uint64_t size)
{
        return fault() ? faults.error : io_system_ops.truncate(fd, size);
}

static int fault_rename(int olddir, const char *old, int newdir, const char *new, unsigned flags)
{
        return fault() ? faults.error : io_system_ops.rename(olddir, old, newdir, new, flags);
}

static int fault_unlink(int dirfd, const char *path, int flags)
{
        return fault() ? faults.error : io_system_ops.unlink(dirfd, path, flags);
}

static int fault_mkdir(int dirfd, const char *path, mode_t mode)
{
        return fault() ? faults.error : io_system_ops.mkdir(dirfd, path, mode);
}

static _unused_ void faults_begin(unsigned fail_at, int error, bool dead)
{
        static struct io_ops ops;

        ops = io_system_ops;
        ops.open = fault_open;
        ops.pwrite = fault_pwrite;
        ops.fsync = fault_fsync;
        ops.truncate = fault_truncate;
        ops.rename = fault_rename;
        ops.unlink = fault_unlink;
        ops.mkdir = fault_mkdir;
        faults.fail_at = fail_at;
        faults.calls = 0;
        faults.dead = dead;
        faults.error = error;
        io_set_ops(&ops);
}

/* How many calls there were. */
static _unused_ unsigned faults_end(void)
{
        io_set_ops(NULL);
        return faults.calls;
}

/* Every kind of file that a snapshot holds, in dir/`path`. */
static _unused_ void make_every_kind(const char *path)
{
        sh("mkdir -p '%s'; cd '%s'\n"
           "echo one > plain; printf 'no newline' > plain2; : > empty\n"
           "chmod 4751 plain; chmod 000 empty; touch -d '2001-02-03 04:05:06.123456789' plain\n"
           "mkdir -p d/e/f nothing; chmod 1777 d; echo deep > d/e/f/x; touch -d '1969-12-31 23:59:58 UTC' d/e/f/x\n"
           "ln plain d/hard; ln -s ../plain d/soft; ln -s /etc/nowhere dangling; ln d/e/f/x d/e/again\n"
           "ln -s \"$(printf '%%1000s' | tr ' ' t)\" longlink; mkfifo -m 640 pipe\n"
           "n=$(printf '%%0200d' 1); echo long > $n; mkdir -p $n.d/$n/$n; echo longer > $n.d/$n/$n/$n\n"
           "printf x > \"$(printf 'new\\nline')\"; printf y > \"$(printf 'bad\\377\\376utf')\"; printf z > 'sp ace \\ \" "
           "%%41 ='\n"
           "echo umlaut > \"$(printf 'gr\\303\\274n')\"; echo dash > -rf\n"
           "p=deep; for i in $(seq 280); do p=$p/$i; done; mkdir -p $p; echo bottom > $p/end\n"
           "truncate -s 3M sparse; printf data | dd of=sparse bs=1 seek=1500000 conv=notrunc status=none\n"
           "truncate -s 1M allhole; printf x > tailhole; truncate -s 100001 tailhole; cp sparse sparse2\n"
           "dd if=/dev/zero of=zeros bs=4096 count=8 status=none; seq 100000 > big\n"
           "setfattr -n user.note -v hello plain; setfattr -n user.empty plain; setfattr -n user.bin -v 0x00ff0a3d25 big\n"
           "setfattr -n 'user.od=d%%41' -v x d; setfattr -n user.large -v \"$(printf '%%2000s' | tr ' ' v)\" big\n"
           "setfacl -m u:12345:rwx,g:54321:r-x,u:7:--- plain2; setfacl -d -m u:12345:rw- -m m::r-x d; setfacl -m g:9:rwx d\n"
           "setfacl -d -m g:77:r nothing; touch -d '2020-01-01 00:00:00.000000001' d/e d\n",
           path, path);
        if (is_root())
                sh("cd '%s'; chown 1234:5678 plain2; chown -h 4000000:3000000 dangling; chown 99:98 d; chmod 6711 big\n"
                   "setfattr -n trusted.secret -v t big; setfattr -h -n trusted.onlink -v l dangling\n"
                   "setfattr -n security.capability -v 0x0100000200040000000000000000000000000000 sparse\n",
                   path);
}

/* What is left out, with a word. */
static _unused_ void make_left_out(const char *path)
{
        sh("cd '%s'; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"sock\")'", path);
        if (is_root())
                sh("cd '%s'; mknod null c 1 3; mknod disk b 7 200; mknod zero c 0 0", path);
}
