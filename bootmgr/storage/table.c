/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/table.h"

#include <blkid/blkid.h>
#include <fcntl.h>
#include <libfdisk/libfdisk.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/process.h"
#include "slot/kinds.h"

#define ALIGNMENT MIB(1)
#define STATE_SIZE MIB(1)
#define ESP_DEFAULT MIB(512)
#define ESP_MIN MIB(34) /* the smallest that mkfs.vfat makes a FAT32 of with 512-byte sectors */
#define ROOT_MIN MIB(1)
#define ROOT_MAX GIB(16)
#define DATA_MIN MIB(8)
#define GPT_END MIB(1)  /* for the backup table, rounded up to the alignment */
#define MKFS_TIMEOUT (600 * USEC_PER_SEC)
#define NODES_TIMEOUT (10 * USEC_PER_SEC)

static void context_free(struct fdisk_context **cxt)
{
        if (*cxt)
                fdisk_unref_context(*cxt);
}

static void probe_free(blkid_probe *probe)
{
        blkid_free_probe(*probe);
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
        esp = (esp + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        root = (root + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        if (__builtin_mul_overflow(root ?: ROOT_MIN, (uint64_t)slots, &fixed) ||
            __builtin_add_overflow(fixed, esp + ALIGNMENT + STATE_SIZE + DATA_MIN + GPT_END, &fixed) || fixed > l->disk_size) {
                fail(e, -ENOSPC, &kind_usage, "the disk has %llu MiB, the layout needs at least %llu MiB",
                     (unsigned long long)(l->disk_size >> 20), (unsigned long long)(fixed >> 20));
                return fail_hint(e, "choose smaller parts with --esp-size and --root-size");
        }
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

static bool has_bytes(int fd, uint64_t size)
{
        uint8_t block[4096];

        for (uint64_t offset = 0; offset < MIN(size, MIB(1)); offset += sizeof(block))
                if (io_pread(fd, block, sizeof(block), offset) >= 0 && !is_all_zero(block, sizeof(block)))
                        return true;
        return false;
}

/* What lies on the disk, for people; NULL: nothing. */
static char *describe(int fd, uint64_t size)
{
        _cleanup_(probe_free) blkid_probe probe = blkid_new_probe();
        const char *table = NULL, *type = NULL;
        int r;

        if (!probe || blkid_probe_set_device(probe, fd, 0, 0) < 0)
                return strdup("something that cannot be probed");
        blkid_probe_enable_superblocks(probe, 1);
        blkid_probe_enable_partitions(probe, 1);
        r = blkid_do_safeprobe(probe);
        if (r == -2)
                return strdup("more than one signature");
        if (r == 0) {
                blkid_probe_lookup_value(probe, "PTTYPE", &table, NULL);
                blkid_probe_lookup_value(probe, "TYPE", &type, NULL);
                if (table || type)
                        return xasprintf("%s%s", table ? "a partition table of type " : "a filesystem of type ", table ?: type);
        }
        return has_bytes(fd, size) ? strdup("data of an unknown kind") : NULL;
}

static int refuse_used(const char *path, const struct layout *l, const struct layout_spec *spec, struct error *e)
{
        if (!l->found || spec->force || spec->dry_run)
                return 0;
        fail(e, -EEXIST, &kind_disk_not_empty, "%s holds %s", path, l->found);
        return fail_hint(e, "--force overwrites it, all that is on it is lost then; --dry-run says what would be made");
}

static int open_disk(const char *path, const struct layout_spec *spec, struct error *e)
{
        struct stat st;
        int fd, flags = spec->dry_run ? O_RDONLY : O_RDWR;

        if (stat(path, &st) < 0) {
                if (errno != ENOENT || !spec->image_size) {
                        fail_errno(e, -errno, "cannot open %s", path);
                        return fail_hint(e, "an image file that does not exist is made with --image-size SIZE");
                }
                if (spec->dry_run)
                        return io_open(AT_FDCWD, ".", O_TMPFILE | O_RDWR, 0600);
                flags |= O_CREAT | O_EXCL;
        } else if (S_ISBLK(st.st_mode) && !spec->dry_run) {
                /* -EBUSY when it, or a part of it, is mounted. Not kept: mkfs wants its part for itself. */
                fd = io_open(AT_FDCWD, path, O_RDONLY | O_EXCL, 0);
                if (fd == -EBUSY) {
                        fail(e, fd, &kind_disk_not_empty, "%s or a part of it is mounted or held by another program", path);
                        return fail_hint(e, "unmount it first ('lsblk %s' shows what is in use)", path);
                }
                fd_close(fd);
        } else if (!S_ISBLK(st.st_mode) && !S_ISREG(st.st_mode)) {
                return fail(e, -ENOTBLK, &kind_usage, "%s is neither a block device nor an image file", path);
        }
        fd = io_open(AT_FDCWD, path, flags, 0644);
        return fd < 0 ? fail_errno(e, fd, "cannot open %s", path) : fd;
}

static int measure(int fd, const char *path, const struct layout_spec *spec, struct layout *l, struct error *e)
{
        struct stat st;
        int r;

        if (fstat(fd, &st) < 0)
                return fail_errno(e, -errno, "cannot look at %s", path);
        if (S_ISBLK(st.st_mode)) {
                int sector = 0;

                if (ioctl(fd, BLKGETSIZE64, &l->disk_size) < 0 || ioctl(fd, BLKSSZGET, &sector) < 0)
                        return fail_errno(e, -errno, "cannot tell the size of %s", path);
                l->sector_size = (unsigned)sector;
                return 0;
        }
        l->sector_size = spec->sector_size ?: 512;
        if (l->sector_size != 512 && l->sector_size != 4096)
                return fail(e, -EINVAL, &kind_usage, "a sector size of %u: it is 512 or 4096", l->sector_size);
        l->disk_size = (uint64_t)st.st_size;
        if (l->disk_size == 0 && spec->image_size) {
                l->disk_size = spec->image_size / ALIGNMENT * ALIGNMENT;
                r = spec->dry_run ? 0 : io_truncate(fd, l->disk_size);
                if (r < 0)
                        return fail_errno(e, r, "cannot make %s %llu bytes long", path, (unsigned long long)l->disk_size);
        }
        return 0;
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

/* libfdisk 2.38 ignores the results of its own fsync: we flush ourselves, and read back later. */
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
                r = add_to_table(cxt, &l->parts[i], i, fdisk_get_sector_size(cxt) ? (unsigned)fdisk_get_sector_size(cxt) : 512);
        if (r < 0)
                return fail_errno(e, r, "cannot lay out %s", path);
        r = fdisk_write_disklabel(cxt);
        if (r >= 0)
                r = io_fsync(fd);
        if (r < 0)
                return fail_errno(e, r, "cannot write the partition table of %s", path);
        if (S_ISBLK(st.st_mode))
                fdisk_reread_partition_table(cxt);
        fdisk_deassign_device(cxt, 1);
        return 0;
}

/* Old signatures in the new parts would be found again: their first MiB is zeroed before anything is made. */
static int clear_parts(int fd, const char *path, const struct layout *l, struct error *e)
{
        int r = 0;

        for (size_t i = 0; i < l->n_parts && r >= 0; i++)
                r = io_zero(fd, l->parts[i].offset, MIN(l->parts[i].size, MIB(1)));
        if (r >= 0)
                r = io_fsync(fd);
        return r < 0 ? fail_errno(e, r, "cannot clear the parts of %s", path) : 0;
}

/* FAT32 has at least 65525 clusters: with fewer, readers take it for FAT16 and find nothing. So a small ESP gets
 * clusters of one sector, and one that is too small for that becomes what mkfs makes of it. */
static int make_vfat(const struct disk *disk, const struct layout_part *part, struct error *e)
{
        char sector[16], offset[32], blocks[32];
        const char *argv[20] = { "mkfs.vfat", "-n", "ESP" };
        bool small = part->size < MIB(260), fat32 = part->size / disk->sector_size > 68000;
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

static int make(int fd, const char *path, const struct layout *l, struct error *e)
{
        struct disk disk;
        int r;

        r = clear_parts(fd, path, l, e);
        if (r >= 0)
                r = write_table(fd, path, l, e);
        if (r >= 0)
                r = read_back(path, l, &disk, e);
        if (r >= 0)
                r = make_vfat(&disk, &l->parts[0], e);
        if (r >= 0)
                r = make_ext4(&disk, &l->parts[l->n_parts - 1], e);
        if (r >= 0)
                r = make_record(&disk, disk.n_slots, e);
        if (r >= 0)
                r = io_fsync(fd);
        return r;
}

int layout_make(const char *path, const struct layout_spec *spec, struct layout *ret, struct error *e)
{
        _cleanup_close_ int fd = -1, lock = -1;
        struct disk lockable = {};
        struct layout l = {};
        int r;

        if (strlen(path) >= sizeof(lockable.path))
                return fail(e, -ENAMETOOLONG, &kind_usage, "the path %s is too long", path);
        strcpy(lockable.path, path);
        fd = open_disk(path, spec, e);
        if (fd < 0)
                return fd;
        if (!spec->dry_run) {
                lock = disk_lock(&lockable, 5 * USEC_PER_SEC, e);
                if (lock < 0)
                        return lock;
        }
        r = measure(fd, path, spec, &l, e);
        if (r >= 0)
                r = plan(spec, &l, e);
        if (r >= 0) {
                l.found = describe(fd, l.disk_size);
                r = refuse_used(path, &l, spec, e);
        }
        if (r >= 0 && !spec->dry_run)
                r = make(fd, path, &l, e);
        if (r < 0) {
                layout_done(&l);
                return r;
        }
        *ret = l;
        return 0;
}

void layout_done(struct layout *l)
{
        free(TAKE_PTR(l->found));
        l->n_parts = 0;
}
