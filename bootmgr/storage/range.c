/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "base/io.h"
#include "slot/kinds.h"
#include "storage/disk.h"

#define LOCK_POLL_NSEC 50000000

static int fd_size(int fd, uint64_t *ret)
{
        struct stat st;

        if (fstat(fd, &st) < 0)
                return -errno;
        if (S_ISBLK(st.st_mode))
                return ioctl(fd, BLKGETSIZE64, ret) < 0 ? -errno : 0;
        *ret = (uint64_t)st.st_size;
        return 0;
}

int range_open(const struct disk *disk, const struct partition *p, int flags, struct range *ret, struct error *e)
{
        const char *path = *p->node ? p->node : disk->path;
        struct range range = { .offset = *p->node ? 0 : p->offset, .size = p->size };
        uint64_t size;
        int r;

        if (!p->present)
                return fail(e, -ENOENT, &kind_no_machine, "%s has no such partition", disk->path);
        if (!*p->node && !disk->image)
                return fail(e, -ENODEV, &kind_no_machine, "partition %u of %s has no device node", p->number, disk->path);
        /* O_EXCL without O_CREAT means something for block devices only. */
        range.fd = io_open(AT_FDCWD, path, disk->image ? flags & ~O_EXCL : flags, 0);
        if (range.fd == -EBUSY) {
                fail(e, -EBUSY, &kind_slot_in_use, "%s is mounted or held by another program", path);
                return fail_hint(e, "unmount it ('findmnt %s' says where it is), then try again", path);
        }
        if (range.fd < 0)
                return fail_errno(e, range.fd, "cannot open %s", path);
        r = fd_size(range.fd, &size);
        if (r < 0 || size < range.offset || size - range.offset < range.size) {
                fd_close(range.fd);
                return fail(e, r < 0 ? r : -EUCLEAN, NULL, "%s is smaller than its partition table says", path);
        }
        *ret = range;
        return 0;
}

void range_close(struct range *r)
{
        r->fd = fd_close(r->fd);
}

int range_open_direct(const struct range *r, int flags)
{
        char path[32];

        snprintf(path, sizeof(path), "/proc/self/fd/%d", r->fd);
        return io_open(AT_FDCWD, path, flags | O_DIRECT, 0);
}

int range_read(const struct range *r, int direct, uint64_t offset, size_t size, uint8_t *buffer, uint8_t **ret)
{
        uint64_t start = offset - offset % DIRECT_ALIGNMENT, end = offset + size + DIRECT_ALIGNMENT - 1;
        bool aligned;

        end = MIN(end - end % DIRECT_ALIGNMENT, r->size);
        aligned = ((r->offset | end) & (DIRECT_ALIGNMENT - 1)) == 0;
        *ret = buffer + (offset - start);
        return io_pread(aligned && direct >= 0 ? direct : r->fd, buffer, (size_t)(end - start), r->offset + start);
}

static int fail_open(const char *path, int code, bool file, struct error *e)
{
        fail(e, code, code == -ENOENT ? &kind_no_machine : NULL, "cannot open the state record %s: %s", path,
             error_text(code));
        if (code != -ENOENT)
                return code;
        if (file)
                return fail_hint(e, "make it with 'fallocate -l %d %s', or correct State= in bootmgr.conf", STATE_COPY_SIZE,
                                 path);
        return fail_hint(e, "State= in bootmgr.conf names one partition of 1 MiB or two files");
}

static int open_files(char *const files[2], int flags, struct state_place *place, struct error *e)
{
        for (int i = 0; i < 2; i++) {
                uint64_t size;
                int fd = io_open(AT_FDCWD, files[i], flags, 0), r;

                if (fd < 0)
                        return fail_open(files[i], fd, true, e);
                place->fd[i] = fd;
                r = fd_size(fd, &size);
                if (r < 0 || size < STATE_COPY_SIZE) {
                        fail(e, -EUCLEAN, &kind_state_unreadable, "the state record %s is shorter than %d bytes", files[i],
                             STATE_COPY_SIZE);
                        return fail_hint(e, "make it with 'fallocate -l %d %s'", STATE_COPY_SIZE, files[i]);
                }
        }
        return 0;
}

/* One device, named in the configuration: as a partition. */
static int open_device(const char *path, int flags, struct state_place *place, struct error *e)
{
        uint64_t size;
        int fd = io_open(AT_FDCWD, path, flags, 0), r;

        if (fd < 0)
                return fail_open(path, fd, false, e);
        place->fd[0] = place->fd[1] = fd;
        place->offset[1] = STATE_COPY_DISTANCE;
        r = fd_size(fd, &size);
        if (r < 0 || size < STATE_COPY_DISTANCE + STATE_COPY_SIZE)
                return fail(e, -EUCLEAN, &kind_state_unreadable, "the state partition %s is too small", path);
        return 0;
}

int state_place_open(const struct disk *disk, char *const files[2], int flags, struct state_place *ret, struct error *e)
{
        struct state_place place = { .fd = { -1, -1 } };
        struct range range;
        int r;

        if (files && files[0]) {
                r = files[1] ? open_files(files, flags, &place, e) : open_device(files[0], flags, &place, e);
        } else if (!disk->state.present) {
                fail(e, -ENOENT, &kind_no_machine, "%s has no state partition", disk->path);
                return fail_hint(
                        e, "'bootmgr init' makes one; an existing machine can name two preallocated files with State=");
        } else {
                r = range_open(disk, &disk->state, flags, &range, e);
                if (r >= 0)
                        place = (struct state_place){ .fd = { range.fd, range.fd },
                                                      .offset = { range.offset, range.offset + STATE_COPY_DISTANCE } };
        }
        if (r < 0) {
                state_place_close(&place);
                return r;
        }
        *ret = place;
        return 0;
}

int disk_lock(const struct disk *disk, uint64_t timeout_usec, struct error *e)
{
        uint64_t deadline = now_monotonic() + timeout_usec;
        int fd = io_open(AT_FDCWD, disk->path, O_RDONLY, 0);

        if (fd < 0)
                return fail_errno(e, fd, "cannot open %s", disk->path);
        while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
                if (errno != EWOULDBLOCK || now_monotonic() >= deadline) {
                        int r = errno == EWOULDBLOCK ? -EAGAIN : -errno;

                        fd_close(fd);
                        fail(e, r, &kind_busy, "%s is locked by another program", disk->path);
                        return fail_hint(e, "'lslocks' names it; try again when it has ended");
                }
                nanosleep(&(struct timespec){ .tv_nsec = LOCK_POLL_NSEC }, NULL);
        }
        return fd;
}
