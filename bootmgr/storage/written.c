/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/written.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/file.h"
#include "base/io.h"
#include "base/parse.h"

#define STAT_MAX  4096 /* what sysfs says of the size of each of its files */
#define LOOKS_MAX 32

/* Documentation/block/stat.rst, from 0 */
enum { FIELD_WRITTEN = 6, FIELD_DISCARDED = 13 };

static int read_sectors(int dirfd, const char *path, uint64_t *ret)
{
        _cleanup_free_ char *text = NULL;
        char *cursor, *word;
        uint64_t value, sum = 0;
        int field = 0, r;

        r = file_read(dirfd, path, STAT_MAX, &text, NULL);
        if (r < 0)
                return r;
        cursor = text;
        while ((word = strsep(&cursor, " \n"))) {
                if (!*word)
                        continue;
                if (parse_u64(word, &value) < 0)
                        return -EBADMSG;
                if (field == FIELD_WRITTEN || field == FIELD_DISCARDED)
                        sum += value;
                field++;
        }
        if (field <= FIELD_DISCARDED)
                return -ENOTSUP;
        *ret = sum;
        return 0;
}

static int read_number(int dirfd, const char *path, uint64_t *ret)
{
        _cleanup_free_ char *text = NULL;
        int r = file_read(dirfd, path, STAT_MAX, &text, NULL);

        if (r < 0)
                return r;
        text[strcspn(text, "\n")] = 0;
        return parse_u64(text, ret);
}

/* Of all partitions of a disk together; `device` is the one that is asked for. */
static int sum_partitions(int sys, const char *device, uint64_t *ret_sum, uint64_t *ret_device)
{
        int fd = dir_open(sys, "."), r = 0;
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        struct dirent *entry;
        bool found = false;

        if (!dir) {
                fd_close(fd);
                return -EIO;
        }
        *ret_sum = 0;
        while (r >= 0 && (entry = readdir(dir))) {
                char path[300];
                uint64_t sectors;

                snprintf(path, sizeof(path), "%s/partition", entry->d_name);
                if (entry->d_name[0] == '.' || faccessat(sys, path, F_OK, 0) < 0)
                        continue;
                snprintf(path, sizeof(path), "%s/stat", entry->d_name);
                r = read_sectors(sys, path, &sectors);
                if (r < 0)
                        break;
                *ret_sum += sectors;
                if (streq(entry->d_name, device)) {
                        *ret_device = sectors;
                        found = true;
                }
        }
        closedir(dir);
        return r < 0 ? r : found ? 0 : -ENOTSUP;
}

/* What waits in the device's own page cache was not counted yet. */
static int write_cached(const char *node)
{
        int fd = io_open(AT_FDCWD, node, O_RDONLY | O_NONBLOCK, 0), r;

        if (fd < 0)
                return fd;
        r = ioctl(fd, BLKFLSBUF, 0) < 0 ? -errno : 0;
        fd_close(fd);
        return r;
}

/* The counters are read one after the other: they fit when those of the partitions are the same before and after. */
static int look(int sys, const char *device, struct written *ret)
{
        uint64_t before, after, whole;
        int r;

        for (int i = 0; i < LOOKS_MAX; i++) {
                r = sum_partitions(sys, device, &before, &ret->partition);
                if (r >= 0)
                        r = read_sectors(sys, "stat", &whole);
                if (r >= 0)
                        r = sum_partitions(sys, device, &after, &ret->partition);
                if (r < 0)
                        return r;
                if (before == after) {
                        ret->elsewhere = whole - after;
                        return 0;
                }
        }
        return -EBUSY;
}

int written_read(int sys, const char *device, struct written *ret)
{
        uint64_t counts;

        if (read_number(sys, "queue/iostats", &counts) < 0 || counts != 1 ||
            read_number(sys, "diskseq", &ret->disk_sequence) < 0)
                return -ENOTSUP;
        return look(sys, device, ret);
}

int written_look(const struct disk *disk, const struct partition *p, struct written *ret)
{
        const char *device = startswith(p->node, "/dev/");
        _cleanup_close_ int sys = -1;
        struct stat st;
        char path[64];
        int r;

        if (disk->image || !device || p->number == 0 || stat(disk->path, &st) < 0 || !S_ISBLK(st.st_mode))
                return -ENOTSUP;
        snprintf(path, sizeof(path), "/sys/dev/block/%u:%u", major(st.st_rdev), minor(st.st_rdev));
        sys = dir_open(AT_FDCWD, path);
        if (sys < 0)
                return -ENOTSUP;
        r = write_cached(p->node);
        if (r >= 0)
                r = write_cached(disk->path);
        return r < 0 ? r : written_read(sys, device, ret);
}
