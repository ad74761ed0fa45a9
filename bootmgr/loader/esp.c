/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "loader/esp.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/io.h"
#include "loader/vfat.h"
#include "slot/kinds.h"

#define RESERVE           KIB(256) /* for directories that grow and for entries */
#define READERS_TIMEOUT   (3 * USEC_PER_SEC)
#define READERS_POLL_NSEC 20000000

/* What the kernel said about a mount: the first line of the context's log. */
static void read_log(int fs, char *text, size_t size)
{
        ssize_t n = read(fs, text, size - 1);

        text[n > 0 ? n : 0] = '\0';
}

static int mount_detached(const char *device, bool write, struct error *e)
{
        _cleanup_close_ int fs = -1;
        char log[256] = "";
        int fd, r;

        fs = fsopen("vfat", FSOPEN_CLOEXEC);
        if (fs < 0)
                return fail(e, -errno, &kind_esp_unusable, "the kernel cannot mount vfat for %s: %s", device,
                            error_text(-errno));
        r = fsconfig(fs, FSCONFIG_SET_STRING, "source", device, 0);
        /* The options of a mount by somebody else are the superblock's: ours only make it safer to read. */
        if (r == 0)
                r = fsconfig(fs, FSCONFIG_SET_STRING, "umask", "0077", 0);
        if (r == 0 && !write)
                r = fsconfig(fs, FSCONFIG_SET_FLAG, "ro", NULL, 0);
        if (r == 0)
                r = fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
        if (r < 0 && errno == EBUSY && !write)
                return mount_detached(device, true, e); /* mounted read-write by somebody: share that */
        if (r < 0) {
                r = -errno;
                read_log(fs, log, sizeof(log));
                fail(e, r, &kind_esp_unusable, "the ESP %s cannot be mounted: %s%s%s", device, error_text(r),
                     *log ? ": " : "", log);
                return fail_hint(e, "check it with 'fsck.vfat %s'", device);
        }
        fd = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
        return fd < 0 ? fail(e, -errno, &kind_esp_unusable, "the ESP %s cannot be mounted: %s", device, error_text(-errno))
                      : fd;
}

/* By a person or by fstab: that lasts. What programs like this one mount is attached nowhere. */
static bool is_attached(const char *device)
{
        _cleanup_free_ char *text = NULL, *number = NULL;
        struct stat st;

        if (stat(device, &st) < 0 || file_read(AT_FDCWD, "/proc/self/mountinfo", MIB(1), &text, NULL) < 0)
                return false;
        number = xasprintf(" %u:%u ", major(st.st_rdev), minor(st.st_rdev));
        return number && strstr(text, number);
}

/* Who only looks has it mounted read-only, for a moment, and the kernel allows no other way meanwhile: 'bootmgr status'
 * must not be the reason why a rollback is refused. */
static int mount_patiently(const char *device, bool write, struct error *e)
{
        uint64_t deadline = now_monotonic() + READERS_TIMEOUT;

        for (;;) {
                int fd = mount_detached(device, write, e);

                if (fd != -EBUSY || now_monotonic() >= deadline || is_attached(device))
                        return fd;
                if (e)
                        error_done(e);
                nanosleep(&(struct timespec){ .tv_nsec = READERS_POLL_NSEC }, NULL);
        }
}

bool esp_make_room(const struct disk *disk)
{
        const char *device = disk->esp.node;
        _cleanup_close_ int fd = disk->esp.present && *device ? io_open(AT_FDCWD, device, O_RDONLY, 0) : -1, alone = -1;

        if (fd < 0 || vfat_make_room(fd, true) <= 0)
                return false;
        alone = io_open(AT_FDCWD, device, O_RDWR | O_EXCL, 0);
        return alone >= 0 && vfat_make_room(alone, false) > 0;
}

/* A mount point descriptor is O_PATH: reading directories and fsync need a real one. */
static int open_root(int mount)
{
        int fd = openat(mount, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        return fd < 0 ? -errno : fd;
}

/* Asked without writing, so that a refusal changes no byte. vfat turns read-only when it finds damage, and then this
 * says EROFS. Not statfs(2): vfat counts the free clusters of the whole table for it, 34 ms of a switch when measured. */
static int check_writable(const struct esp *esp, struct error *e)
{
        int r;

        if (faccessat(esp->fd, ".", W_OK, AT_EACCESS) == 0)
                return 0;
        r = -errno;
        fail(e, r, &kind_esp_unusable, "the ESP %s cannot be written: %s", esp->where, error_text(r));
        return fail_hint(e, r == -EROFS ? "it is mounted read-only or was found damaged: check it with 'fsck.vfat'"
                                        : "run this as root");
}

int esp_open(const struct disk *disk, const char *directory, bool write, struct esp *ret, struct error *e)
{
        struct esp esp = ESP_CLOSED;
        int mount = -1, r;

        snprintf(esp.where, sizeof(esp.where), "%s", directory ? directory : disk->esp.node);
        if (directory) {
                esp.fd = io_open(AT_FDCWD, directory, O_RDONLY | O_DIRECTORY, 0);
                if (esp.fd < 0)
                        return fail(e, esp.fd, &kind_esp_unusable, "the ESP directory %s cannot be opened: %s", directory,
                                    error_text(esp.fd));
        } else if (!disk->esp.present || !*disk->esp.node) {
                fail(e, -ENODEV, &kind_esp_unusable, "%s has no EFI system partition", disk->path);
                return fail_hint(e, "'bootmgr init' makes one; Esp= or --esp names another place");
        } else {
                if (write)
                        esp_make_room(disk);
                mount = mount_patiently(disk->esp.node, write, e);
                if (mount < 0)
                        return mount;
                esp.fd = open_root(mount);
                fd_close(mount); /* the open directory keeps the mount alive */
                if (esp.fd < 0)
                        return fail_errno(e, esp.fd, "cannot open the ESP %s", esp.where);
        }
        r = write ? check_writable(&esp, e) : 0;
        if (r < 0) {
                esp_close(&esp);
                return r;
        }
        *ret = esp;
        return 0;
}

void esp_close(struct esp *esp)
{
        esp->fd = fd_close(esp->fd);
}

int esp_free_bytes(const struct esp *esp, uint64_t going, uint64_t *ret)
{
        struct statvfs st;
        uint64_t bytes;

        if (fstatvfs(esp->fd, &st) < 0)
                return -errno;
        bytes = (uint64_t)st.f_bavail * st.f_frsize + going;
        *ret = bytes > RESERVE ? bytes - RESERVE : 0;
        return 0;
}
