/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Finding the disk and its slots through libblkid, and opening their ranges. Probing only: making
 * partition tables is storage/table.h, so that bootmgr-recover needs no libfdisk. */
#pragma once

#include "slot/slot.h"
#include "slot/store.h"

#define TYPE_UUID_ESP         "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
#define TYPE_UUID_ROOT_X86_64 "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
#define TYPE_UUID_ROOT_ARM64  "b921b045-1df0-41c3-af44-4c6f280d3fae"
#define TYPE_UUID_LINUX_DATA  "0fc63daf-8483-4772-8e79-3d69d8477de4"
#define TYPE_UUID_STATE       "82bd29ac-0de7-4774-91b2-c365ccf4cb9a" /* ours */

struct partition {
        bool present;
        unsigned number;       /* as in the table, from 1; 0: it is no partition of the disk */
        uint64_t offset, size; /* bytes within the disk */
        char uuid[37];         /* PARTUUID, lower case */
        char label[37 * 3];
        char node[64]; /* "/dev/vda3"; "" in an image file */
};

struct disk {
        char path[256]; /* "/dev/vda" or the image file */
        bool image;     /* a regular file: partitions are ranges in it */
        bool has_root;  /* one of its partitions, labelled or not, is the root_partuuid that was looked for */
        unsigned sector_size;
        struct partition esp, state, data;
        struct partition slots[SLOT_MAX]; /* labels root-a … root-h */
        int n_slots;                      /* highest present + 1 */
};

/* What to look for. All fields may be NULL. */
struct disk_spec {
        const char *path;          /* device or image; NULL: the disk that holds root_partuuid, else the only
                                    * disk with a state partition or with partitions root-a and root-b */
        const char *root_partuuid; /* from root=PARTUUID= on the kernel command line */
        bool root_only;            /* without a path no other disk will do: for the initramfs, where that of this boot may
                                    * still be coming and a spare or former one with the same layout is there first */
        const char *const *slot_device; /* SLOT_MAX entries, each NULL or a device named in the configuration */
        bool gpt_only;                  /* looks for no other kind of table, so that an ambivalent disk is not found out:
                                         * for the initramfs, where the kernel has read it already and time counts */
};

/* Probes without any cache (works in an initramfs without udev). kind_no_machine with the way out
 * when nothing fits or two disks do; -EUCLEAN on an ambivalent table. */
int disk_find(const struct disk_spec *spec, struct disk *ret, struct error *e);
/* The same among these devices or images, those that cannot be read left out; spec->path and ->slot_device do not count. */
int disk_choose(const struct disk_spec *spec, char *const *paths, size_t n_paths, struct disk *ret, struct error *e);

/* The type of the filesystem on a device or in an image, e.g. "ext4"; "" when nothing known is on it. -errno when that
 * cannot be told: it cannot be read, or -EUCLEAN: two are on it. */
int disk_filesystem(const char *path, char ret[static 32]);

/* Which slot has this PARTUUID, or SLOT_NONE. */
int disk_slot_by_partuuid(const struct disk *disk, const char *partuuid);

/* A partition as an open range: its own device (offset 0), or the image (its offset there). */
struct range {
        int fd;
        uint64_t offset, size;
};
#define RANGE_CLOSED ((struct range){ .fd = -1 })
/* flags: O_RDONLY or O_RDWR, O_EXCL (a device that is mounted or otherwise held: -EBUSY), O_DIRECT.
 * The size is checked against the table. */
int range_open(const struct disk *disk, const struct partition *p, int flags, struct range *ret, struct error *e);
void range_close(struct range *r);
#define _cleanup_range_ _cleanup_(range_close)
/* The same device or file once more, past the page cache (flags: O_RDONLY or O_RDWR): an fd with the same offsets, or
 * -errno where the file system knows no such thing. Offset, length and memory of each call are multiples of
 * DIRECT_ALIGNMENT; a device with larger blocks refuses them with -EINVAL. */
int range_open_direct(const struct range *r, int flags);
#define DIRECT_ALIGNMENT 4096
/* Bytes from `offset` of the range, with the whole blocks that they lie in, by `direct` where these end within it. *ret: the
 * first of them in `buffer`, which lies in whole blocks and has room for two more. */
int range_read(const struct range *r, int direct, uint64_t offset, size_t size, uint8_t *buffer, uint8_t **ret);

/* Opens both copies of the record: the state partition, or two files (config's State=a b; NULL: none).
 * The copies in a partition lie at 0 and STATE_COPY_DISTANCE. */
int state_place_open(const struct disk *disk, char *const files[2], int flags, struct state_place *ret, struct error *e);

/* Holds an exclusive lock on the disk (flock on the whole device or image, as systemd's
 * BLOCK_DEVICE_LOCKING says), waiting up to timeout_usec. fd or -EAGAIN/-errno. */
int disk_lock(const struct disk *disk, uint64_t timeout_usec, struct error *e);
