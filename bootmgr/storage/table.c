/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/table.h"

#include <fcntl.h>
#include <libfdisk/libfdisk.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/process.h"
#include "slot/kinds.h"
#include "storage/content.h"

#define ALIGNMENT     MIB(1)
#define STATE_SIZE    MIB(1)
#define ESP_DEFAULT   MIB(512)
#define ESP_MIN       MIB(34)   /* the smallest that mkfs.vfat makes a FAT32 of with 512-byte sectors */
#define ESP_MAX       GIB(2047) /* FAT counts sectors in 32 bits */
#define ROOT_MIN      MIB(1)
#define ROOT_MAX      GIB(16)
#define DATA_MIN      MIB(8)
#define GPT_END       MIB(1) /* for the backup table, rounded up to the alignment */
#define MKFS_TIMEOUT  (600 * USEC_PER_SEC)
#define NODES_TIMEOUT (10 * USEC_PER_SEC)
#define LOCK_TIMEOUT  (5 * USEC_PER_SEC)

static void context_free(struct fdisk_context **cxt)
{
        if (*cxt)
                fdisk_unref_context(*cxt);
}

/* The root type of the machine this runs on: what is installed there is for it, mostly. */
static const char *root_type(void)
{
#ifdef __aarch64__
        return TYPE_UUID_ROOT_ARM64;
#else
        return TYPE_UUID_ROOT_X86_64;
#endif
}

static void add_part(struct layout *l, const char *what, const char *label, const char *type, uint64_t size)
{
        struct layout_part *p = &l->parts[l->n_parts];
        const struct layout_part *before = l->n_parts ? p - 1 : NULL;

        *p = (struct layout_part){ .what = what, .type = type, .size = size };
        snprintf(p->label, sizeof(p->label), "%s", label);
        p->offset = before ? before->offset + before->size : ALIGNMENT;
        l->n_parts++;
}

/* What there is beside ESP and roots. */
#define OTHERS  (ALIGNMENT + STATE_SIZE + DATA_MIN + GPT_END)
#define SUM_MAX (UINT64_C(1) << 56)

static int fail_room(const struct layout *l, uint64_t needed, struct error *e)
{
        fail(e, -ENOSPC, &kind_usage, "the disk has %llu MiB, the layout needs at least %llu MiB",
             (unsigned long long)(l->disk_size >> 20), (unsigned long long)((needed + MIB(1) - 1) >> 20));
        return fail_hint(e, "choose smaller parts with --esp-size and --root-size");
}

/* Sizes and offsets, purely. */
static int plan(const struct layout_spec *spec, struct layout *l, struct error *e)
{
        uint64_t esp = spec->esp_size ?: ESP_DEFAULT, root = spec->root_size, fixed, left;
        int slots = spec->n_slots ?: 2;

        if (slots < 2 || slots > SLOT_MAX)
                return fail(e, -EINVAL, &kind_usage, "%d slots: there can be 2 to %d", slots, SLOT_MAX);
        if (esp < ESP_MIN || (root && root < ROOT_MIN))
                return fail(e, -EINVAL, &kind_usage, "the ESP must have at least %llu MiB and a root at least %llu MiB",
                            (unsigned long long)(ESP_MIN >> 20), (unsigned long long)(ROOT_MIN >> 20));
        /* No part is larger than the disk, which has at most 2^63 bytes: so the sums below do not overflow. */
        if (MAX(esp, root) > l->disk_size)
                return fail_room(l, MIN(esp, SUM_MAX) + MIN(root ?: ROOT_MIN, SUM_MAX) * (uint64_t)slots + OTHERS, e);
        if (esp > ESP_MAX)
                return fail(e, -EFBIG, &kind_usage, "the ESP can have at most %llu GiB",
                            (unsigned long long)(ESP_MAX >> 30));
        esp = (esp + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        root = (root + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        if (__builtin_mul_overflow(root ?: ROOT_MIN, (uint64_t)slots, &fixed) ||
            __builtin_add_overflow(fixed, esp + OTHERS, &fixed))
                fixed = UINT64_MAX - MIB(1);
        if (fixed > l->disk_size)
                return fail_room(l, fixed, e);
        left = (l->disk_size - ALIGNMENT - GPT_END - esp - STATE_SIZE) / ALIGNMENT * ALIGNMENT;
        if (!root)
                root = MAX(MIN(left / (uint64_t)(slots + 1), ROOT_MAX) / ALIGNMENT * ALIGNMENT, ROOT_MIN);
        add_part(l, "ESP", "esp", TYPE_UUID_ESP, esp);
        add_part(l, "state", "bootmgr-state", TYPE_UUID_STATE, STATE_SIZE);
        for (int i = 0; i < slots; i++) {
                char label[8] = { 'r', 'o', 'o', 't', '-', slot_name(i) };

                add_part(l, "root", label, root_type(), root);
        }
        add_part(l, "data", "data", TYPE_UUID_LINUX_DATA, left - root * (uint64_t)slots);
        return 0;
}

/* The disk on its way through layout_make(). */
struct target {
        const char *path;
        int fd;        /* -1: an image file that is not made yet */
        bool image;    /* a regular file, or one to be made */
        bool created;  /* by us: it does not outlive a failure … */
        bool extended; /* … or was empty, and is again */
};

static int refuse_used(const struct target *t, const struct layout *l, const struct layout_spec *spec, struct error *e)
{
        if (!l->found || spec->force)
                return 0;
        fail(e, -EEXIST, &kind_disk_not_empty, "%s is not empty: it holds %s", t->path, l->found);
        return fail_hint(e,
                         "--force overwrites it, all that is on it is lost then; with --dry-run it says what would be made");
}

static int check_device(const struct target *t, const struct stat *st, const struct layout_spec *spec, struct error *e)
{
        char partition[64];
        int fd;

        if (spec->image_size) {
                fail(e, -EEXIST, &kind_usage, "--image-size makes an image file, but %s is a block device", t->path);
                return fail_hint(e, "leave it out: the layout takes the whole device");
        }
        snprintf(partition, sizeof(partition), "/sys/dev/block/%u:%u/partition", major(st->st_rdev), minor(st->st_rdev));
        if (access(partition, F_OK) == 0) {
                fail(e, -ENOTBLK, &kind_usage, "%s is a partition, the layout needs a whole disk", t->path);
                return fail_hint(e, "'lsblk' shows on which disk it lies");
        }
        /* -EBUSY when it, or a part of it, is mounted. Not kept: mkfs wants its part for itself. */
        fd = io_open(AT_FDCWD, t->path, O_RDONLY | O_EXCL, 0);
        if (fd == -EBUSY) {
                fail(e, fd, &kind_disk_not_empty, "%s or a part of it is mounted or held by another program", t->path);
                return fail_hint(e, "unmount it first ('lsblk %s' shows what is in use)", t->path);
        }
        fd_close(fd);
        return 0;
}

static int check_file(const struct target *t, const struct stat *st, const struct layout_spec *spec, struct error *e)
{
        uint64_t size = (uint64_t)st->st_size;

        if (!S_ISREG(st->st_mode))
                return fail(e, -ENOTBLK, &kind_usage, "%s is neither a block device nor an image file", t->path);
        if (!spec->image_size || size == 0 || size == spec->image_size / ALIGNMENT * ALIGNMENT)
                return 0;
        fail(e, -EEXIST, &kind_usage, "%s exists with %llu bytes, --image-size asks for %llu", t->path,
             (unsigned long long)size, (unsigned long long)(spec->image_size / ALIGNMENT * ALIGNMENT));
        return fail_hint(e, "remove it or name another file; without --image-size it is used as it is");
}

/* A file that is to be made is made only when all else is known to fit. A dry run opens for reading, and says beforehand
 * when it could not be written. */
static int open_disk(struct target *t, const struct layout_spec *spec, struct error *e)
{
        struct stat st;
        int r;

        t->image = true;
        if (stat(t->path, &st) < 0) {
                if (errno == ENOENT && spec->image_size)
                        return 0;
                fail_errno(e, -errno, "cannot open %s", t->path);
                return fail_hint(e, "an image file that does not exist is made with --image-size SIZE");
        }
        t->image = !S_ISBLK(st.st_mode);
        r = t->image ? check_file(t, &st, spec, e) : check_device(t, &st, spec, e);
        if (r < 0)
                return r;
        t->fd = io_open(AT_FDCWD, t->path, spec->dry_run ? O_RDONLY : O_RDWR, 0);
        if (t->fd < 0)
                return fail_errno(e, t->fd, "cannot open %s", t->path);
        if (spec->dry_run && access(t->path, W_OK) < 0)
                return fail_errno(e, -errno, "cannot write %s", t->path);
        return 0;
}

static int measure_image(const struct target *t, const struct layout_spec *spec, struct layout *l, struct error *e)
{
        struct stat st = {};

        if (t->fd >= 0 && fstat(t->fd, &st) < 0)
                return fail_errno(e, -errno, "cannot look at %s", t->path);
        l->sector_size = spec->sector_size ?: 512;
        if (l->sector_size != 512 && l->sector_size != 4096)
                return fail(e, -EINVAL, &kind_usage, "a sector size of %u: it is 512 or 4096", l->sector_size);
        if (spec->image_size > INT64_MAX)
                return fail(e, -EFBIG, &kind_usage, "--image-size: no file can have %llu bytes",
                            (unsigned long long)spec->image_size);
        l->disk_size = st.st_size ? (uint64_t)st.st_size : spec->image_size / ALIGNMENT * ALIGNMENT;
        return 0;
}

static int measure_device(const struct target *t, const struct layout_spec *spec, struct layout *l, struct error *e)
{
        int sector = 0;

        if (ioctl(t->fd, BLKGETSIZE64, &l->disk_size) < 0 || ioctl(t->fd, BLKSSZGET, &sector) < 0)
                return fail_errno(e, -errno, "cannot tell the size of %s", t->path);
        l->sector_size = (unsigned)sector;
        if (spec->sector_size && spec->sector_size != l->sector_size)
                return fail(e, -EINVAL, &kind_usage, "%s has sectors of %u bytes, not %u", t->path, l->sector_size,
                            spec->sector_size);
        return 0;
}

static int check_empty(const struct target *t, const struct layout_spec *spec, struct layout *l, struct error *e)
{
        int r;

        if (t->fd < 0)
                return 0;
        /* Whoever forces it does not wait until every byte was read. */
        r = content_find(t->fd, l, t->image && !spec->force, spec->cancelled, &l->found);
        if (r == -EINTR)
                return fail(e, r, &kind_interrupted, "interrupted: nothing was changed");
        return r < 0 ? fail_errno(e, r, "cannot look at %s", t->path) : refuse_used(t, l, spec, e);
}

/* In a dry run: whether it could be made. */
static int check_can_create(const char *path, struct error *e)
{
        const char *slash = strrchr(path, '/');
        _cleanup_free_ char *directory = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");

        if (!directory)
                return -ENOMEM;
        return access(directory, W_OK | X_OK) < 0 ? fail_errno(e, -errno, "cannot make %s", path) : 0;
}

/* An image file gets its size. */
static int create(struct target *t, const struct layout *l, struct error *e)
{
        struct stat st;
        int r;

        if (t->fd < 0) {
                t->fd = io_open(AT_FDCWD, t->path, O_RDWR | O_CREAT | O_EXCL, 0644);
                if (t->fd < 0)
                        return fail_errno(e, t->fd, "cannot make %s", t->path);
                t->created = true;
        }
        if (!t->image || fstat(t->fd, &st) < 0 || st.st_size > 0)
                return 0;
        t->extended = true;
        r = io_truncate(t->fd, l->disk_size);
        return r < 0 ? fail_errno(e, r, "cannot make %s %llu bytes long", t->path, (unsigned long long)l->disk_size) : 0;
}

/* After a failure: nothing of ours stays behind. */
static void discard_created(const struct target *t)
{
        if (t->created)
                io_unlink(AT_FDCWD, t->path, 0);
        else if (t->extended && io_truncate(t->fd, 0) < 0)
                log_warning("%s is left as an image that was not finished", t->path);
}

static int add_to_table(struct fdisk_context *cxt, const struct layout_part *part, size_t number, unsigned sector)
{
        struct fdisk_partition *p = fdisk_new_partition();
        struct fdisk_parttype *type = fdisk_label_get_parttype_from_string(fdisk_get_label(cxt, NULL), part->type);
        bool hidden = streq(part->what, "root") || streq(part->what, "state");
        size_t made;
        int r;

        if (!p)
                return -ENOMEM;
        if (!type)
                type = fdisk_new_unknown_parttype(0, part->type);
        r = type ? fdisk_partition_set_type(p, type) : -ENOMEM;
        if (r == 0)
                r = fdisk_partition_set_partno(p, number);
        if (r == 0)
                r = fdisk_partition_set_start(p, part->offset / sector);
        if (r == 0)
                r = fdisk_partition_set_size(p, part->size / sector);
        if (r == 0)
                r = fdisk_partition_set_name(p, part->label);
        if (r == 0 && hidden)
                r = fdisk_partition_set_attrs(p, "GUID:63");
        if (r == 0)
                r = fdisk_add_partition(cxt, p, &made);
        fdisk_unref_parttype(type); /* what belongs to the label is not counted */
        fdisk_unref_partition(p);
        return r < 0 ? r : r > 0 ? -EINVAL : 0;
}

/* libfdisk 2.38 ignores the results of its own fsync: make() flushes, and what it wrote is read back before. */
static int write_table(int fd, const char *path, const struct layout *l, struct error *e)
{
        _cleanup_(context_free) struct fdisk_context *cxt = fdisk_new_context();
        struct stat st;
        int r;

        if (!cxt || fstat(fd, &st) < 0)
                return fail_errno(e, -ENOMEM, "cannot use libfdisk");
        fdisk_disable_dialogs(cxt, 1);
        r = S_ISREG(st.st_mode) ? fdisk_save_user_sector_size(cxt, l->sector_size, l->sector_size) : 0;
        if (r == 0)
                r = fdisk_assign_device_by_fd(cxt, fd, path, 0);
        if (r == 0)
                r = fdisk_create_disklabel(cxt, "gpt");
        if (r < 0)
                return fail_errno(e, r, "cannot make a partition table on %s", path);
        fdisk_enable_wipe(cxt, 1);
        for (size_t i = 0; i < l->n_parts && r == 0; i++)
                r = add_to_table(cxt, &l->parts[i], i,
                                 fdisk_get_sector_size(cxt) ? (unsigned)fdisk_get_sector_size(cxt) : 512);
        if (r < 0)
                return fail_errno(e, r, "cannot lay out %s", path);
        r = fdisk_write_disklabel(cxt);
        io_written(fd);
        if (r < 0)
                return fail_errno(e, r, "cannot write the partition table of %s", path);
        if (S_ISBLK(st.st_mode))
                fdisk_reread_partition_table(cxt);
        fdisk_deassign_device(cxt, 1);
        return 0;
}

/* Old signatures would be found again, those of RAID members at the end of a part, too. And a table that was made with
 * other sectors lies in places that the new one leaves as they are. So both MiB at the ends of the disk and of each part are
 * zeroed before anything is made. */
static int clear_parts(int fd, const char *path, const struct layout *l, struct error *e)
{
        int r = io_zero(fd, 0, ALIGNMENT);

        if (r >= 0)
                r = io_zero(fd, l->disk_size - GPT_END, GPT_END);
        for (size_t i = 0; i < l->n_parts && r >= 0; i++) {
                uint64_t size = MIN(l->parts[i].size, MIB(1));

                r = io_zero(fd, l->parts[i].offset, size);
                if (r >= 0)
                        r = io_zero(fd, l->parts[i].offset + l->parts[i].size - size, size);
        }
        return r < 0 ? fail_errno(e, r, "cannot clear the parts of %s", path) : 0;
}

/* FAT32 has at least 65525 clusters: with fewer, readers take it for FAT16 and find nothing. So a small ESP gets
 * clusters of one sector, and one that is too small for that becomes what mkfs makes of it. */
static int make_vfat(const struct disk *disk, const struct layout_part *part, struct error *e)
{
        char sector[16], offset[32], blocks[32];
        const char *argv[20] = { "mkfs.vfat", "-n", "ESP" };
        bool small = part->size<MIB(260), fat32 = part->size / disk->sector_size> 68000;
        size_t n = 3;

        snprintf(sector, sizeof(sector), "%u", disk->sector_size);
        snprintf(offset, sizeof(offset), "%llu", (unsigned long long)(part->offset / disk->sector_size));
        snprintf(blocks, sizeof(blocks), "%llu", (unsigned long long)(part->size / 1024));
        if (fat32) {
                argv[n++] = "-F";
                argv[n++] = "32";
        }
        if (fat32 && small) {
                argv[n++] = "-s";
                argv[n++] = "1";
        }
        if (disk->image) {
                argv[n++] = "-S";
                argv[n++] = sector;
                argv[n++] = "--offset";
                argv[n++] = offset;
        }
        argv[n++] = *disk->esp.node ? disk->esp.node : disk->path;
        if (disk->image)
                argv[n++] = blocks;
        return process_must(argv, MKFS_TIMEOUT, e);
}

static int make_ext4(const struct disk *disk, const struct layout_part *part, struct error *e)
{
        char extended[64], size[32];
        const char *device = *disk->data.node ? disk->data.node : disk->path;
        const char *node_argv[] = { "mkfs.ext4", "-q", "-F", "-L", "data", device, NULL };
        const char *image_argv[] = { "mkfs.ext4", "-q", "-F", "-L", "data", "-E", extended, device, size, NULL };

        snprintf(extended, sizeof(extended), "offset=%llu", (unsigned long long)part->offset);
        snprintf(size, sizeof(size), "%lluk", (unsigned long long)(part->size / 1024));
        return process_must(disk->image ? image_argv : node_argv, MKFS_TIMEOUT, e);
}

static int make_record(const struct disk *disk, int n_slots, struct error *e)
{
        struct state_place place;
        struct slot_set set;
        int r;

        slot_set_init(&set, n_slots);
        r = state_place_open(disk, NULL, O_RDWR, &place, e);
        if (r < 0)
                return r;
        r = state_format(&place, &set, e);
        state_place_close(&place);
        return r;
}

/* The layout as an independent reader sees it, once the kernel has made its nodes. */
static int read_back(const char *path, const struct layout *l, struct disk *ret, struct error *e)
{
        uint64_t deadline = now_monotonic() + NODES_TIMEOUT;
        struct disk_spec spec = { .path = path };
        struct disk disk;
        int r;

        for (;;) {
                r = disk_find(&spec, &disk, e);
                if (r < 0)
                        return r;
                if (disk.image || *disk.data.node || now_monotonic() > deadline)
                        break;
                nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
        }
        if (!disk.esp.present || !disk.state.present || !disk.data.present || disk.n_slots != (int)l->n_parts - 3 ||
            disk.esp.offset != l->parts[0].offset || disk.data.size != l->parts[l->n_parts - 1].size)
                return fail(e, -EIO, NULL, "the partition table of %s does not read back as written", path);
        if (!disk.image && !*disk.data.node)
                return fail(e, -ENODEV, NULL, "the kernel does not show the new partitions of %s", path);
        *ret = disk;
        return 0;
}

/* Asked between two steps. What is half made has no state record yet, so nothing takes it for a machine's. */
static int go_on(const struct target *t, const struct layout_spec *spec, struct error *e)
{
        if (!spec->cancelled || !*spec->cancelled)
                return 0;
        if (t->created || t->extended)
                return fail(e, -EINTR, &kind_interrupted, "interrupted: %s was not made", t->path);
        fail(e, -EINTR, &kind_interrupted, "interrupted: what was on %s is lost, and the layout is not complete", t->path);
        return fail_hint(e, "'bootmgr init --force %s' begins again", t->path);
}

static int make(const struct target *t, const struct layout_spec *spec, const struct layout *l, struct error *e)
{
        struct disk disk = {};
        int r;

        r = clear_parts(t->fd, t->path, l, e);
        if (r >= 0)
                r = go_on(t, spec, e);
        if (r >= 0)
                r = write_table(t->fd, t->path, l, e);
        if (r >= 0)
                r = read_back(t->path, l, &disk, e);
        if (r >= 0)
                r = go_on(t, spec, e);
        if (r >= 0)
                r = make_vfat(&disk, &l->parts[0], e);
        if (r >= 0)
                r = go_on(t, spec, e);
        if (r >= 0)
                r = make_ext4(&disk, &l->parts[l->n_parts - 1], e);
        io_written(t->fd);
        if (r >= 0)
                r = go_on(t, spec, e);
        if (r < 0)
                return r;
        /* By the record the disk is a machine's: what it stands on is there before it. */
        r = io_fsync(t->fd);
        return r < 0 ? fail_errno(e, r, "cannot flush %s", t->path) : make_record(&disk, disk.n_slots, e);
}

/* Everything that is known before the first change. */
static int prepare(struct target *t, const struct layout_spec *spec, struct layout *l, struct error *e)
{
        int r;

        r = t->image ? measure_image(t, spec, l, e) : measure_device(t, spec, l, e);
        if (r >= 0)
                r = plan(spec, l, e);
        if (r >= 0)
                r = check_empty(t, spec, l, e);
        if (r >= 0 && spec->dry_run && t->fd < 0)
                r = check_can_create(t->path, e);
        return r;
}

int layout_make(const char *path, const struct layout_spec *spec, struct layout *ret, struct error *e)
{
        _cleanup_close_ int lock = -1;
        struct target t = { .path = path, .fd = -1 };
        struct disk lockable = {};
        struct layout l = {};
        int r;

        if (strlen(path) >= sizeof(lockable.path))
                return fail(e, -ENAMETOOLONG, &kind_usage, "the path %s is too long", path);
        strcpy(lockable.path, path);
        r = open_disk(&t, spec, e);
        if (r >= 0 && t.fd >= 0 && !spec->dry_run)
                r = lock = disk_lock(&lockable, LOCK_TIMEOUT, e);
        if (r >= 0)
                r = prepare(&t, spec, &l, e);
        if (r >= 0 && !spec->dry_run)
                r = create(&t, &l, e);
        if (r >= 0 && t.created)
                r = lock = disk_lock(&lockable, LOCK_TIMEOUT, e);
        if (r >= 0 && !spec->dry_run)
                r = make(&t, spec, &l, e);
        if (r < 0) {
                discard_created(&t);
                layout_done(&l);
        } else {
                *ret = l;
                r = 0;
        }
        fd_close(t.fd);
        return r;
}

void layout_done(struct layout *l)
{
        free(TAKE_PTR(l->found));
        l->n_parts = 0;
}
