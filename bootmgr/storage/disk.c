/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/disk.h"

#include <blkid/blkid.h>
#include <ctype.h>
#include <fcntl.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/io.h"
#include "slot/kinds.h"

/* libblkid counts in these whatever the sector size. */
#define BLKID_SECTOR   UINT64_C(512)
#define PARTITIONS_MAX 1024

static void probe_free(blkid_probe *probe)
{
        blkid_free_probe(*probe);
}

static void lower_copy(char *to, size_t size, const char *from)
{
        size_t i = 0;

        for (; from && from[i] && i + 1 < size; i++)
                to[i] = (char)tolower((unsigned char)from[i]);
        to[i] = '\0';
}

/* The kernel's names: vda3, nvme0n1p3. */
static void find_node(const struct disk *disk, struct partition *p)
{
        size_t n = strlen(disk->path);

        if (disk->image)
                return;
        if ((size_t)snprintf(p->node, sizeof(p->node), "%s%s%u", disk->path,
                             isdigit((unsigned char)disk->path[n - 1]) ? "p" : "", p->number) >= sizeof(p->node) ||
            access(p->node, F_OK) < 0)
                p->node[0] = '\0';
}

static bool is_type(blkid_partition part, const char *uuid)
{
        const char *type = blkid_partition_get_type_string(part);

        return type && strcasecmp(type, uuid) == 0;
}

/* Which of the disk's partitions this is, or NULL: none of ours. */
static struct partition *role_of(struct disk *disk, blkid_partition part)
{
        const char *label = blkid_partition_get_name(part) ?: "", *slot = startswith(label, "root-");
        int number = slot ? slot_from_name(slot) : SLOT_NONE;

        if (is_type(part, TYPE_UUID_STATE))
                return &disk->state;
        if (is_type(part, TYPE_UUID_ESP))
                return &disk->esp;
        if (number != SLOT_NONE) {
                disk->n_slots = MAX(disk->n_slots, number + 1);
                return &disk->slots[number];
        }
        return streq(label, "data") ? &disk->data : NULL;
}

static int add_partition(struct disk *disk, blkid_partition part, struct error *e)
{
        struct partition *p = role_of(disk, part);

        if (!p)
                return 0;
        if (p->present) {
                fail(e, -EUCLEAN, &kind_no_machine, "%s has two partitions for %s: number %u and number %d", disk->path,
                     blkid_partition_get_name(part) ?: "the same role", p->number, blkid_partition_get_partno(part));
                return fail_hint(e, "give one of them another label, or name the slots with Slots=");
        }
        p->present = true;
        p->number = (unsigned)blkid_partition_get_partno(part);
        p->offset = (uint64_t)blkid_partition_get_start(part) * BLKID_SECTOR;
        p->size = (uint64_t)blkid_partition_get_size(part) * BLKID_SECTOR;
        lower_copy(p->uuid, sizeof(p->uuid), blkid_partition_get_uuid(part));
        snprintf(p->label, sizeof(p->label), "%s", blkid_partition_get_name(part) ?: "");
        find_node(disk, p);
        return 0;
}

/* 0: the table was read; -ENODATA: there is none (with this sector size). */
static int probe_table(int fd, const struct disk_spec *spec, struct disk *disk, unsigned sector_size, struct error *e)
{
        static char *const gpt[] = { (char *)"gpt", NULL };
        _cleanup_(probe_free) blkid_probe probe = blkid_new_probe();
        blkid_partlist list;
        int r, n;

        if (!probe || blkid_probe_set_device(probe, fd, 0, 0) < 0)
                return fail(e, -EIO, NULL, "cannot probe %s", disk->path);
        if (sector_size)
                blkid_probe_set_sectorsize(probe, sector_size);
        blkid_probe_enable_superblocks(probe, 0);
        blkid_probe_enable_partitions(probe, 1);
        blkid_probe_set_partitions_flags(probe, BLKID_PARTS_ENTRY_DETAILS);
        if (spec->gpt_only)
                blkid_probe_filter_partitions_type(probe, BLKID_FLTR_ONLYIN, (char **)gpt);
        r = blkid_do_safeprobe(probe);
        if (r == -2)
                return fail(e, -EUCLEAN, NULL, "%s holds more than one kind of partition table: it is not touched",
                            disk->path);
        if (r != 0)
                return -ENODATA;
        list = blkid_probe_get_partitions(probe);
        n = list ? blkid_partlist_numof_partitions(list) : 0;
        if (n <= 0 || n > PARTITIONS_MAX)
                return -ENODATA;
        disk->sector_size = blkid_probe_get_sectorsize(probe);
        for (int i = 0; i < n; i++) {
                blkid_partition part = blkid_partlist_get_partition(list, i);

                disk->has_root |= spec->root_partuuid &&
                                  strcasecmp(blkid_partition_get_uuid(part) ?: "", spec->root_partuuid) == 0;
                r = add_partition(disk, part, e);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int probe_disk(const char *path, const struct disk_spec *spec, struct disk *ret, struct error *e)
{
        _cleanup_close_ int fd = -1;
        struct disk disk = {};
        struct stat st;
        int r;

        if (strlen(path) >= sizeof(disk.path))
                return fail(e, -ENAMETOOLONG, &kind_usage, "the path %s is too long", path);
        strcpy(disk.path, path);
        fd = io_open(AT_FDCWD, path, O_RDONLY | O_NONBLOCK, 0);
        if (fd < 0 || fstat(fd, &st) < 0) {
                r = fail_errno(e, fd < 0 ? fd : -errno, "cannot open the disk %s", path);
                return r == -ENOENT ? fail_hint(e, "'lsblk' lists disks; 'bootmgr init --image-size SIZE %s' makes an image",
                                                path)
                                    : r;
        }
        if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
                return fail(e, -ENOTBLK, &kind_usage, "%s is neither a block device nor an image file", path);
        disk.image = S_ISREG(st.st_mode);
        r = probe_table(fd, spec, &disk, 0, e);
        /* An image does not say its sector size: a table at 4096 shows only when asked for. */
        if (r == -ENODATA && disk.image)
                r = probe_table(fd, spec, &disk, 4096, e);
        if (r >= 0)
                *ret = disk;
        return r;
}

static bool is_machine(const struct disk *disk)
{
        return disk->state.present || (disk->slots[0].present && disk->slots[1].present);
}

static int fail_no_machine(struct error *e, const char *what)
{
        fail(e, -ENODEV, &kind_no_machine, "%s the partitions of bootmgr (root-a, root-b, bootmgr-state)", what);
        return fail_hint(e, "'bootmgr init DISK' makes the layout; '--disk' or Disk= names another disk");
}

/* Loop devices and card readers without anything in them: a machine has many, and each that is opened costs the boot
 * time. */
static bool is_empty(const char *name)
{
        _cleanup_free_ char *path = xasprintf("/sys/block/%s/size", name), *size = NULL;

        return path && file_read(AT_FDCWD, path, 4096, &size, NULL) >= 0 && streq(size, "0\n");
}

int disk_choose(const struct disk_spec *spec, char *const *paths, size_t n_paths, struct disk *ret, struct error *e)
{
        struct disk found = {}, other = {}, disk;
        bool closed = false;
        int r;

        for (size_t i = 0; i < n_paths; i++) {
                r = probe_disk(paths[i], spec, &disk, NULL);
                closed = closed || r == -EACCES || r == -EPERM;
                if (r < 0 || !is_machine(&disk))
                        continue;
                if (disk.has_root) {
                        *ret = disk; /* this one runs: whatever others there are */
                        return 0;
                }
                other = found;
                found = disk;
        }
        if (*found.path && spec->root_partuuid && spec->root_only)
                return fail(e, -ENODEV, &kind_no_machine, "no disk here has the root of this boot, PARTUUID=%s",
                            spec->root_partuuid);
        if (*other.path) {
                fail(e, -ENOTUNIQ, &kind_no_machine, "both %s and %s look like a bootmgr machine", other.path, found.path);
                return fail_hint(e, "name the one that is meant with '--disk' or Disk=");
        }
        if (!*found.path && closed)
                return geteuid() != 0
                               ? fail(e, -EACCES, &kind_not_authorized, "the disks of this machine can be read by root only")
                               : fail_no_machine(e, "no disk can be opened here, and so none is known that has");
        if (!*found.path)
                return fail_no_machine(e, "no disk here has");
        *ret = found;
        return 0;
}

/* Whole disks: those that sysfs lists in /sys/block, in the order of their names. */
static int scan(const struct disk_spec *spec, struct disk *ret, struct error *e)
{
        struct dirent **names;
        char **paths;
        size_t n_paths = 0;
        int n, r;

        n = scandir("/sys/block", &names, NULL, alphasort);
        if (n < 0)
                return fail_errno(e, -errno, "cannot list the disks in /sys/block");
        paths = calloc((size_t)n + 1, sizeof(*paths));
        for (int i = 0; paths && i < n; i++) {
                if (names[i]->d_name[0] == '.' || is_empty(names[i]->d_name))
                        continue;
                paths[n_paths] = xasprintf("/dev/%s", names[i]->d_name);
                n_paths += paths[n_paths] != NULL;
        }
        r = paths ? disk_choose(spec, paths, n_paths, ret, e) : -ENOMEM;
        for (int i = 0; i < n; i++)
                free(names[i]);
        free(names);
        for (size_t i = 0; i < n_paths; i++)
                free(paths[i]);
        free(paths);
        return r;
}

/* A slot that the configuration names by device: taken as it is, also from another disk. */
static int name_slot(struct disk *disk, int slot, const char *device, struct error *e)
{
        _cleanup_free_ char *node = realpath(device, NULL);
        _cleanup_(probe_free) blkid_probe probe = NULL;
        _cleanup_close_ int fd = -1;
        struct partition *p = &disk->slots[slot];
        const char *uuid = NULL;

        if (!node || strlen(node) >= sizeof(p->node))
                return fail_errno(e, node ? -ENAMETOOLONG : -errno, "Slots= names %s for slot %c", device, slot_name(slot));
        fd = io_open(AT_FDCWD, node, O_RDONLY, 0);
        probe = blkid_new_probe();
        if (fd < 0 || !probe || blkid_probe_set_device(probe, fd, 0, 0) < 0)
                return fail_errno(e, fd < 0 ? fd : -EIO, "Slots= names %s for slot %c", device, slot_name(slot));
        *p = (struct partition){ .present = true, .size = (uint64_t)blkid_probe_get_size(probe) };
        strcpy(p->node, node);
        blkid_probe_enable_superblocks(probe, 0);
        blkid_probe_enable_partitions(probe, 1);
        blkid_probe_set_partitions_flags(probe, BLKID_PARTS_ENTRY_DETAILS);
        if (blkid_do_safeprobe(probe) == 0)
                blkid_probe_lookup_value(probe, "PART_ENTRY_UUID", &uuid, NULL);
        lower_copy(p->uuid, sizeof(p->uuid), uuid);
        disk->n_slots = MAX(disk->n_slots, slot + 1);
        return 0;
}

int disk_find(const struct disk_spec *spec, struct disk *ret, struct error *e)
{
        struct disk disk;
        int r;

        if (spec->path) {
                r = probe_disk(spec->path, spec, &disk, e);
                if (r == -ENODATA || (r >= 0 && !is_machine(&disk) && !(spec->slot_device && spec->slot_device[0]))) {
                        char what[sizeof(disk.path) + 16];

                        snprintf(what, sizeof(what), "%s does not have", spec->path);
                        return fail_no_machine(e, what);
                }
        } else {
                r = scan(spec, &disk, e);
        }
        if (r < 0)
                return r;
        for (int i = 0; spec->slot_device && i < SLOT_MAX; i++) {
                if (!spec->slot_device[i])
                        continue;
                r = name_slot(&disk, i, spec->slot_device[i], e);
                if (r < 0)
                        return r;
        }
        *ret = disk;
        return 0;
}

int disk_filesystem(const char *path, char ret[static 32])
{
        _cleanup_(probe_free) blkid_probe probe = blkid_new_probe();
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        const char *type = NULL;
        int r;

        if (fd < 0)
                return -errno;
        if (!probe || blkid_probe_set_device(probe, fd, 0, 0) < 0)
                return -ENOMEM;
        blkid_probe_enable_superblocks(probe, 1);
        blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_TYPE);
        errno = 0;
        r = blkid_do_safeprobe(probe);
        if (r == -2)
                return -EUCLEAN;
        if (r < 0)
                return errno ? -errno : -EIO;
        if (r == 0)
                blkid_probe_lookup_value(probe, "TYPE", &type, NULL);
        snprintf(ret, 32, "%s", type ?: "");
        return 0;
}

int disk_slot_by_partuuid(const struct disk *disk, const char *partuuid)
{
        for (int i = 0; i < disk->n_slots; i++)
                if (disk->slots[i].present && *disk->slots[i].uuid && strcasecmp(disk->slots[i].uuid, partuuid) == 0)
                        return i;
        return SLOT_NONE;
}
