/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The device mapper by its ioctls (linux/dm-ioctl.h): bootmgr-recover links no library for it. */
#include "storage/verified.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/dm-ioctl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"

#define CONTROL         "/dev/mapper/control"
#define CONTROL_TIMEOUT (5 * USEC_PER_SEC) /* until the module that was asked for is there */
#define UUID            "BOOTMGR-VERITY-root"
#define SECTOR          512
#define READ_SIZE       MIB(1)

/* A header and what belongs to one target. */
struct request {
        struct dm_ioctl head;
        struct dm_target_spec target;
        char text[VERIFIED_TABLE_SIZE + 64];
};

static void request_init(struct request *q, uint32_t flags)
{
        *q = (struct request){ .head = { .version = { DM_VERSION_MAJOR, 0, 0 },
                                         .data_size = sizeof(*q),
                                         .data_start = sizeof(q->head),
                                         .flags = flags } };
        strcpy(q->head.name, VERIFIED_NAME);
}

static int ask(int control, unsigned long what, struct request *q)
{
        return ioctl(control, what, q) < 0 ? -errno : 0;
}

void verified_root_table(const struct verity *v, unsigned major, unsigned minor, char text[static VERIFIED_TABLE_SIZE])
{
        char hash[2 * VERITY_HASH_SIZE + 1];

        hex_encode(v->root_hash, VERITY_HASH_SIZE, hash);
        snprintf(text, VERIFIED_TABLE_SIZE, "1 %u:%u %u:%u %d %d %" PRIu64 " %" PRIu64 " sha256 %s -", major, minor, major,
                 minor, VERITY_BLOCK, VERITY_BLOCK, v->blocks, verity_tree_start(v->blocks), hash);
}

static int open_control(void)
{
        uint64_t deadline = now_monotonic() + CONTROL_TIMEOUT;
        int fd;

        while ((fd = open(CONTROL, O_RDWR | O_CLOEXEC)) < 0 && errno == ENOENT && now_monotonic() < deadline)
                nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
        return fd < 0 ? -errno : fd;
}

static int load_table(int control, const struct verity *v, dev_t partition)
{
        struct request q;

        request_init(&q, DM_READONLY_FLAG);
        q.head.target_count = 1;
        q.target.length = v->blocks * (VERITY_BLOCK / SECTOR);
        strcpy(q.target.target_type, "verity");
        verified_root_table(v, major(partition), minor(partition), q.text);
        return ask(control, DM_TABLE_LOAD, &q);
}

static int make_link(uint64_t device)
{
        char target[32];
        int r = mkdir_parents(AT_FDCWD, "/run/bootmgr", 0755);

        if (r < 0)
                return r;
        snprintf(target, sizeof(target), "/dev/dm-%u", minor((dev_t)device));
        return symlink(target, VERIFIED_ROOT) < 0 && errno != EEXIST ? -errno : 0;
}

static int make_device(int control, const struct verity *v, dev_t partition)
{
        struct request q;
        uint64_t device;
        int r;

        request_init(&q, 0);
        strcpy(q.head.uuid, UUID);
        r = ask(control, DM_DEV_CREATE, &q);
        if (r < 0)
                return r;
        device = q.head.dev;
        r = load_table(control, v, partition);
        if (r >= 0) { /* "resume": the table that was loaded is in force */
                request_init(&q, DM_READONLY_FLAG);
                r = ask(control, DM_DEV_SUSPEND, &q);
        }
        if (r >= 0)
                r = make_link(device);
        if (r < 0) {
                request_init(&q, 0);
                ask(control, DM_DEV_REMOVE, &q);
        }
        return r;
}

int verified_root_open(const char *node, const struct verity *v, struct error *e)
{
        _cleanup_close_ int control = -1;
        struct stat st;
        int r;

        if (access(VERIFIED_ROOT, F_OK) == 0)
                return 0;
        if (stat(node, &st) < 0 || !S_ISBLK(st.st_mode))
                return fail(e, -ENODEV, NULL, "%s is no partition that could be verified", *node ? node : "the root");
        control = open_control();
        r = control < 0 ? control : make_device(control, v, st.st_rdev);
        return r < 0 ? fail_errno(e, r, "cannot set up dm-verity for %s", node) : 0;
}

/* Of its table's status: "V", or "C" once a block did not match. */
bool verified_root_is_corrupt(void)
{
        _cleanup_close_ int control = access(VERIFIED_ROOT, F_OK) < 0 ? -1 : open(CONTROL, O_RDWR | O_CLOEXEC);
        struct request q;

        if (control < 0)
                return false;
        request_init(&q, 0);
        return ask(control, DM_TABLE_STATUS, &q) >= 0 && q.head.target_count == 1 && q.text[0] == 'C';
}

int verified_root_read(struct error *e)
{
        _cleanup_close_ int fd = open(VERIFIED_ROOT, O_RDONLY | O_DIRECT | O_CLOEXEC);
        _cleanup_free_ uint8_t *buffer = aligned_alloc(VERITY_BLOCK, READ_SIZE);
        ssize_t n;

        if (fd < 0)
                return fail_errno(e, -errno, "cannot read the root");
        if (!buffer)
                return -ENOMEM;
        for (off_t at = 0; (n = pread(fd, buffer, READ_SIZE, at)) > 0; at += n)
                ;
        if (n < 0 && !verified_root_is_corrupt())
                return fail_errno(e, -errno, "cannot read the root");
        return 0;
}
