/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The I/O layer's calls, done and put into the models. One that reaches a volume is an event; events can fail, and a barrier
 * can be taken out. */
#include "crash.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>

char work[PATH_MAX];
static struct trace *now;
static struct io_ops ops;
static char paths[N_VOLUMES][PATH_MAX + 16];

void record_place(const char *path)
{
        static const char *const names[] = { "disk.img", "esp", "data", "data/root" };

        snprintf(work, sizeof(work), "%s", path);
        for (enum volume v = RAW; v < N_VOLUMES; v++)
                snprintf(paths[v], sizeof(paths[v]), "%s/%s", work, names[v]);
}

const char *volume_path(enum volume v)
{
        return paths[v];
}

/* Which volume an absolute path is on; *rest: the path there. */
static enum volume volume_of(const char *path, const char **rest)
{
        for (int v = N_VOLUMES - 1; v >= 0; v--) {
                const char *below = startswith(path, volume_path((enum volume)v));

                if (!below || (*below && *below != '/'))
                        continue;
                *rest = *below ? below + 1 : below;
                return (enum volume)v;
        }
        return NO_VOLUME;
}

struct place {
        enum volume volume;
        char path[PATH_MAX]; /* absolute */
        const char *rest;
};

static struct place place_of_fd(int fd)
{
        struct place p = { .volume = NO_VOLUME };
        char link[32];
        ssize_t n;

        snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        n = readlink(link, p.path, sizeof(p.path) - 1);
        p.path[MAX(n, (ssize_t)0)] = '\0';
        p.rest = "";
        if (!strchr(p.path, '(')) /* "… (deleted)": without a name it is gone at a power cut */
                p.volume = volume_of(p.path, &p.rest);
        return p;
}

static struct place place_at(int dirfd, const char *path)
{
        struct place p = { .volume = NO_VOLUME, .rest = "" };

        path = startswith(path, "./") ?: path;
        if (*path == '/') {
                snprintf(p.path, sizeof(p.path), "%s", path);
        } else {
                struct place dir = dirfd == AT_FDCWD ? (struct place){} : place_of_fd(dirfd);

                if (dirfd == AT_FDCWD || snprintf(p.path, sizeof(p.path), "%s/%s", dir.path, path) >= (int)sizeof(p.path))
                        return p;
        }
        p.volume = volume_of(p.path, &p.rest);
        return p;
}

/* rest points into the place itself: it must not be copied without this. */
static struct place *settle(struct place *p)
{
        p->volume = *p->path && !strchr(p->path, '(') ? volume_of(p->path, &p->rest) : NO_VOLUME;
        return p;
}

static bool recorded(const struct place *p)
{
        return p->volume != NO_VOLUME;
}

/* One more event. 0, or how it fails. */
static int event(const struct place *p, const char *what, const char *more)
{
        bool fails;

        if (!recorded(p))
                return 0;
        now->n_events++;
        now->stories = reallocarray(now->stories, now->n_events, sizeof(char *));
        if (!now->stories || asprintf(&now->stories[now->n_events - 1], "%s %s%s%s", what, p->path + strlen(work) + 1,
                                      *more ? " " : "", more) < 0)
                die("no memory");
        if (now->fail_in && startswith(now->stories[now->n_events - 1], now->fail_in)) {
                now->fail_in = NULL;
                return -EIO;
        }
        if (now->gone)
                return -EIO;
        fails = now->fail_at && (now->n_events == now->fail_at || (now->fail_on && now->n_events > now->fail_at));
        now->gone = fails && now->fail_gone;
        return fails ? now->fail_with : 0;
}

/* One more call that changes nothing: no cut lies behind it that did not lie before. Whether it fails. */
static bool quiet_fails(const struct place *p)
{
        if (!recorded(p))
                return false;
        now->n_quiet++;
        if (now->n_quiet == now->quiet_at)
                now->gone = now->fail_gone;
        now->blind |= now->fail_blind && now->n_quiet == now->quiet_at;
        return now->gone || now->blind || now->n_quiet == now->quiet_at;
}

static int record_open(int dirfd, const char *path, int flags, mode_t mode)
{
        struct place p = place_at(dirfd, path);
        bool unnamed = (flags & O_TMPFILE) == O_TMPFILE, there;
        int fd, r;

        settle(&p);
        if (unnamed || !(flags & (O_CREAT | O_TRUNC)) || !recorded(&p))
                return io_system_ops.open(dirfd, path, flags, mode);
        there = access(p.path, F_OK) == 0;
        if (there && !(flags & O_TRUNC))
                return io_system_ops.open(dirfd, path, flags, mode);
        r = event(&p, there ? "truncate" : "create", "");
        fd = r < 0 ? r : io_system_ops.open(dirfd, path, flags, mode);
        if (fd < 0)
                return fd;
        if (p.volume == ESP)
                there ? vfat_truncate(now, p.rest, 0) : vfat_create(now, p.rest, false);
        else if (p.volume != RAW)
                there ? ext4_truncate(now, p.volume, p.rest, 0)
                      : ext4_create(now, p.volume, p.rest, S_IFREG | (mode & 07777), NULL);
        return fd;
}

static void model_write(const struct place *p, const void *data, size_t n, uint64_t offset)
{
        if (p->volume == RAW)
                raw_write(now, data, n, offset);
        else if (p->volume == ESP)
                vfat_write(now, p->rest, data, n, offset);
        else
                ext4_write(now, p->volume, p->rest, data, n, offset);
}

static ssize_t record_pwrite(int fd, const void *data, size_t n, uint64_t offset)
{
        struct place p = place_of_fd(fd);
        bool gone = now->gone;
        char more[48];
        ssize_t done;
        int r;

        settle(&p);
        snprintf(more, sizeof(more), "%zu bytes at %llu", n, (unsigned long long)offset);
        r = event(&p, "write", more);
        if (r < 0 && gone)
                return r;
        if (r < 0) { /* half of it may have arrived */
                if (n > 1 && p.volume == RAW)
                        raw_write(now, data, n / 2, offset);
                done = n > 1 ? io_system_ops.pwrite(fd, data, n / 2, offset) : 0;
                if (n > 1 && p.volume != RAW)
                        model_write(&p, data, n / 2, offset);
                return r;
        }
        if (recorded(&p) && p.volume == RAW) /* before, as it looks at what was there */
                raw_write(now, data, n, offset);
        done = io_system_ops.pwrite(fd, data, n, offset);
        if (recorded(&p) && p.volume != RAW && done > 0)
                model_write(&p, data, (size_t)done, offset);
        return done;
}

static ssize_t record_pread(int fd, void *data, size_t n, uint64_t offset)
{
        struct place p = place_of_fd(fd);

        settle(&p);
        return quiet_fails(&p) ? -EIO : io_system_ops.pread(fd, data, n, offset);
}

static int record_zero(int fd, uint64_t offset, uint64_t length)
{
        struct place p = place_of_fd(fd);
        int r;

        settle(&p);
        r = event(&p, "zero", "");
        if (r < 0)
                return r;
        if (recorded(&p) && length < MIB(2)) {
                _cleanup_free_ uint8_t *zeros = calloc(1, length);

                if (!zeros)
                        die("no memory");
                model_write(&p, zeros, length, offset);
        }
        return io_system_ops.zero(fd, offset, length);
}

static bool is_skipped(void)
{
        return now->skip && io_site && streq(now->skip, io_site);
}

static int record_fsync(int fd)
{
        struct place p = place_of_fd(fd);
        int r;

        settle(&p);
        if (!recorded(&p))
                return 0;
        if (p.volume == ESP && vfat_is_stale(now, p.rest)) {
                r = event(&p, "write back", "");
                if (r < 0)
                        return r;
                if (!is_skipped())
                        vfat_write_back(now, p.rest);
        }
        r = event(&p, "FLUSH", io_site ?: "");
        if (r < 0)
                return r;
        now->barriers = reallocarray(now->barriers, now->n_barriers + 1, sizeof(*now->barriers));
        if (!now->barriers)
                die("no memory");
        now->barriers[now->n_barriers++] = (struct barrier){ now->n_events, io_site };
        if (is_skipped()) {
                now->skipped = now->skipped ?: now->n_events;
                return 0;
        }
        if (p.volume == RAW)
                raw_flush(now);
        else if (p.volume == ESP)
                vfat_flush(now, p.rest);
        else
                ext4_flush(now, p.volume, p.rest);
        return 0;
}

static int record_truncate(int fd, uint64_t size)
{
        struct place p = place_of_fd(fd);
        int r;

        settle(&p);
        r = event(&p, "truncate", "");
        if (r >= 0)
                r = io_system_ops.truncate(fd, size);
        if (r < 0 || !recorded(&p) || p.volume == RAW)
                return r;
        p.volume == ESP ? vfat_truncate(now, p.rest, size) : ext4_truncate(now, p.volume, p.rest, size);
        return 0;
}

static int record_rename(int olddir, const char *old, int newdir, const char *new, unsigned flags)
{
        struct place from = place_at(olddir, old), to = place_at(newdir, new);
        int r;

        settle(&from);
        settle(&to);
        r = event(&from, flags & RENAME_EXCHANGE ? "exchange" : "rename",
                  to.path + (recorded(&from) ? strlen(work) + 1 : 0));
        if (r >= 0)
                r = io_system_ops.rename(olddir, old, newdir, new, flags);
        if (r < 0 || !recorded(&from))
                return r;
        if (from.volume == ESP)
                vfat_rename(now, from.rest, to.rest);
        else
                ext4_rename(now, from.volume, from.rest, to.rest, flags & RENAME_EXCHANGE);
        return 0;
}

static int record_unlink(int dirfd, const char *path, int flags)
{
        struct place p = place_at(dirfd, path);
        int r;

        settle(&p);
        if (!recorded(&p) || faccessat(AT_FDCWD, p.path, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
                return io_system_ops.unlink(dirfd, path, flags);
        r = event(&p, "unlink", "");
        if (r >= 0)
                r = io_system_ops.unlink(dirfd, path, flags);
        if (r < 0)
                return r;
        if (p.volume == ESP)
                vfat_unlink(now, p.rest);
        else if (p.volume != RAW)
                ext4_unlink(now, p.volume, p.rest);
        return 0;
}

static int record_mkdir(int dirfd, const char *path, mode_t mode)
{
        struct place p = place_at(dirfd, path);
        int r;

        settle(&p);
        if (!recorded(&p) || access(p.path, F_OK) == 0)
                return io_system_ops.mkdir(dirfd, path, mode);
        r = event(&p, "mkdir", "");
        if (r >= 0)
                r = io_system_ops.mkdir(dirfd, path, mode);
        if (r < 0)
                return r;
        if (p.volume == ESP)
                vfat_create(now, p.rest, true);
        else
                ext4_create(now, p.volume, p.rest, S_IFDIR | mode, NULL);
        return 0;
}

static int record_link(int olddir, const char *old, int newdir, const char *new)
{
        struct place from = place_at(olddir, old), to = place_at(newdir, new);
        int r;

        settle(&from);
        settle(&to);
        r = event(&to, "link", "");
        if (r >= 0)
                r = io_system_ops.link(olddir, old, newdir, new);
        if (r >= 0 && recorded(&to))
                ext4_link(now, from.volume, from.rest, to.rest);
        return r;
}

static int record_symlink(const char *target, int dirfd, const char *path)
{
        struct place p = place_at(dirfd, path);
        int r;

        settle(&p);
        r = event(&p, "symlink", "");
        if (r >= 0)
                r = io_system_ops.symlink(target, dirfd, path);
        if (r >= 0 && recorded(&p))
                ext4_create(now, p.volume, p.rest, S_IFLNK | 0777, target);
        return r;
}

static int record_mknod(int dirfd, const char *path, mode_t mode, dev_t dev)
{
        struct place p = place_at(dirfd, path);
        int r;

        settle(&p);
        r = event(&p, "mknod", "");
        if (r >= 0)
                r = io_system_ops.mknod(dirfd, path, mode, dev);
        if (r >= 0 && recorded(&p))
                ext4_create(now, p.volume, p.rest, mode, NULL);
        return r;
}

static int record_attribute(int dirfd, const char *path, int fd, const struct io_attribute *a)
{
        struct place p = place_at(dirfd, path);
        int r;

        settle(&p);
        if (a->what == IO_REMOVE_XATTR || a->what == IO_OWNER) /* nothing that the tests have or look at */
                return io_system_ops.attribute(dirfd, path, fd, a);
        r = event(&p, "attribute", "");
        if (r >= 0)
                r = io_system_ops.attribute(dirfd, path, fd, a);
        if (r >= 0 && recorded(&p))
                ext4_attribute(now, p.volume, p.rest);
        return r;
}

/* A hint, whose failure is nobody's business. */
static int no_write_back(int fd)
{
        return 0;
}

/* Room that is kept holds no content. */
static int no_allocate(int fd, uint64_t size)
{
        return 0;
}

static int record_allocate(int fd, uint64_t size)
{
        struct place p = place_of_fd(fd);

        settle(&p);
        return quiet_fails(&p) ? -ENOSPC : 0;
}

static void record_written(int fd)
{
        struct place p = place_of_fd(fd);

        settle(&p);
        if (p.volume != RAW)
                return;
        event(&p, "written by another program", ""); /* which has not failed */
        raw_foreign(now);
}

/* ---- only to undo: the image alone ---- */

static ssize_t undo_pwrite(int fd, const void *data, size_t n, uint64_t offset)
{
        if (raw_is_image(fd))
                raw_write(now, data, n, offset);
        return io_system_ops.pwrite(fd, data, n, offset);
}

static int undo_zero(int fd, uint64_t offset, uint64_t length)
{
        _cleanup_free_ uint8_t *zeros = raw_is_image(fd) ? calloc(1, length) : NULL;

        if (zeros)
                raw_write(now, zeros, length, offset);
        return io_system_ops.zero(fd, offset, length);
}

static int no_fsync(int fd)
{
        return 0;
}

/* The system's calls, but nothing waits for a disk. */
static void begin(struct trace *t)
{
        ops = io_system_ops;
        ops.fsync = no_fsync;
        ops.write_back = no_write_back;
        ops.allocate = no_allocate;
        now = t;
        io_set_ops(&ops);
}

void record_undo_begin(struct trace *t)
{
        begin(t);
        ops.pwrite = undo_pwrite;
        ops.zero = undo_zero;
}

void record_begin(struct trace *t)
{
        begin(t);
        ops.open = record_open;
        ops.pwrite = record_pwrite;
        ops.pread = record_pread;
        ops.allocate = record_allocate;
        ops.fsync = record_fsync;
        ops.truncate = record_truncate;
        ops.rename = record_rename;
        ops.unlink = record_unlink;
        ops.mkdir = record_mkdir;
        ops.zero = record_zero;
        ops.link = record_link;
        ops.symlink = record_symlink;
        ops.mknod = record_mknod;
        ops.attribute = record_attribute;
        ops.written = record_written;
}

void record_end(void)
{
        io_set_ops(NULL);
        now = NULL;
}
