/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "recover/mount.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/io.h"
#include "base/parse.h"

#define TRANSIENT_ETC "/run/bootmgr/etc" /* operation/at_boot.c and units/resume look for it */
#define DATA          "data"
#define BOOTMGR       DATA "/bootmgr"
#define TRY_DIRECTORY "/run/bootmgr/root"

#define MACHINE_ID_SIZE 34

/* A random UUID and a newline, as machine-id(5) wants it. */
static int new_machine_id(char text[static MACHINE_ID_SIZE])
{
        uint8_t id[16];
        int r = random_id(id);

        if (r < 0)
                return r;
        id[6] = (uint8_t)((id[6] & 0x0f) | 0x40);
        id[8] = (uint8_t)((id[8] & 0x3f) | 0x80);
        hex_encode(id, sizeof(id), text);
        strcat(text, "\n");
        return 0;
}

static int make_machine_id(int root)
{
        char text[MACHINE_ID_SIZE];
        int r;

        if (faccessat(root, BOOTMGR "/machine-id", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
                return 0;
        r = new_machine_id(text);
        if (r < 0)
                return r;
        r = file_create(root, BOOTMGR "/machine-id", text, strlen(text), 0444);
        return r == -EEXIST ? 0 : r;
}

static int mount_data(const struct disk *disk, const char *root, uint64_t *ret_usec, struct error *e)
{
        uint64_t start = now_monotonic();
        _cleanup_free_ char *target = xasprintf("%s/" DATA, root);

        if (!target)
                return -ENOMEM;
        if (!disk->data.present || !*disk->data.node)
                return fail(e, -ENODEV, NULL, "%s has no data partition", disk->path);
        if (mount(disk->data.node, target, "ext4", MS_NOSUID | MS_NODEV, NULL) < 0)
                return fail_errno(e, -errno, "cannot mount %s at %s", disk->data.node, target);
        *ret_usec = now_monotonic() - start;
        return 0;
}

/* Plain upper directories: what is in them can be copied by others, so nothing of index, metacopy and the like. */
static int mount_etc(int slot, const char *root, struct error *e)
{
        _cleanup_free_ char *target = xasprintf("%s/etc", root), *options = NULL;
        char directory[64];
        int fd = dir_open(AT_FDCWD, root), r = fd;

        for (int i = 0; i < 2 && r >= 0; i++) {
                snprintf(directory, sizeof(directory), BOOTMGR "/etc/%c/%s", slot_name(slot), i ? "work" : "upper");
                if (faccessat(fd, directory, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
                        r = mkdir_parents(fd, directory, 0755);
        }
        if (r >= 0)
                r = make_machine_id(fd);
        fd_close(fd);
        if (r < 0)
                return fail_errno(e, r, "cannot prepare %s/" BOOTMGR, root);
        options = xasprintf("lowerdir=%s/etc,upperdir=%s/" BOOTMGR "/etc/%c/upper,workdir=%s/" BOOTMGR
                            "/etc/%c/work,index=off,metacopy=off,redirect_dir=off,xino=off",
                            root, root, slot_name(slot), root, slot_name(slot));
        if (!options || !target)
                return -ENOMEM;
        if (mount("overlay", target, "overlay", 0, options) < 0)
                return fail_errno(e, -errno, "cannot mount the overlay of slot %c at %s", slot_name(slot), target);
        return 0;
}

/* Without the data partition: an /etc that is lost with the machine's power, with a machine id of this boot. Without one
 * neither D-Bus nor the network comes up, and nobody could look at what is wrong. TRANSIENT_ETC itself tells it from the
 * slot's own. */
static int mount_transient_etc(const char *root, struct error *e)
{
        _cleanup_free_ char *target = xasprintf("%s/etc", root), *options = NULL;
        char text[MACHINE_ID_SIZE];
        int r;

        r = mkdir_parents(AT_FDCWD, TRANSIENT_ETC "/upper", 0755);
        if (r >= 0)
                r = mkdir_parents(AT_FDCWD, TRANSIENT_ETC "/work", 0755);
        if (r >= 0)
                r = new_machine_id(text);
        if (r < 0)
                return fail_errno(e, r, "cannot prepare " TRANSIENT_ETC);
        r = file_replace_volatile(AT_FDCWD, TRANSIENT_ETC "/upper/machine-id", text, strlen(text), 0444);
        if (r < 0)
                return fail_errno(e, r, "cannot write " TRANSIENT_ETC "/upper/machine-id");
        options = xasprintf("lowerdir=%s/etc,upperdir=" TRANSIENT_ETC "/upper,workdir=" TRANSIENT_ETC "/work", root);
        if (!options || !target)
                return -ENOMEM;
        if (mount("overlay", target, "overlay", 0, options) < 0)
                return fail_errno(e, -errno, "cannot mount a transient overlay at %s", target);
        return 0;
}

int mount_slot(const struct disk *disk, int slot, const char *root, uint64_t *ret_data_usec, struct error *e)
{
        int r;

        r = mount_data(disk, root, ret_data_usec, e);
        if (r < 0) {
                mount_transient_etc(root, NULL);
                return r;
        }
        return mount_etc(slot, root, e);
}

bool is_verdict_on_filesystem(int error)
{
        switch (error) {
        case -EINVAL:  /* no superblock, or one that makes no sense */
        case -EUCLEAN: /* damaged */
        case -EBADMSG: /* a checksum that does not fit */
        case -EFBIG:   /* larger than its device */
        case -ENXIO:
        case -EIO:
        case -ENODEV: /* of a kind that this kernel does not know */
                return true;
        default:
                return false;
        }
}

bool root_can_be_mounted(const char *node, const char *device, struct error *e)
{
        char type[32];
        int r;

        r = disk_filesystem(node, type);
        if (r < 0)
                return true;
        if (!*type) {
                fail(e, -EINVAL, NULL, "there is no filesystem on %s", node);
                return false;
        }
        r = mkdir_parents(AT_FDCWD, TRY_DIRECTORY, 0700);
        if (r < 0)
                return true;
        if (mount(device, TRY_DIRECTORY, type, MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) >= 0) {
                umount2(TRY_DIRECTORY, MNT_DETACH);
                return true;
        }
        r = -errno;
        fail_errno(e, r, "cannot mount %s (%s)", node, type);
        return !is_verdict_on_filesystem(r);
}

/* Links are followed as they will be once it is the root. */
static bool is_program(int root, const char *path)
{
        struct open_how how = { .flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT };
        _cleanup_close_ int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
        struct stat st;

        return fd < 0 ? errno == ENOSYS : fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 0111) != 0;
}

/* /usr is there, but nothing is in it: another partition is to be mounted over it. */
static bool has_usr_elsewhere(int root)
{
        int fd = dir_open(root, "usr");
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        struct dirent *entry;
        bool empty = dir != NULL;

        while (empty && (entry = readdir(dir)))
                empty = streq(entry->d_name, ".") || streq(entry->d_name, "..");
        if (dir)
                closedir(dir);
        else
                fd_close(fd);
        return empty;
}

bool root_has_init(const char *root, const char *cmdline)
{
        static const char *const usual[] = { "/usr/lib/systemd/systemd", "/sbin/init", "/etc/init", "/bin/init" };
        _cleanup_free_ char *named = cmdline_get(cmdline, "init");
        _cleanup_close_ int fd = dir_open(AT_FDCWD, root);

        if (fd < 0 || (named && is_program(fd, named)) || has_usr_elsewhere(fd))
                return true;
        for (size_t i = 0; i < ARRAY_SIZE(usual); i++)
                if (is_program(fd, usual[i]))
                        return true;
        return false;
}

bool is_mount_point(const char *path)
{
        _cleanup_free_ char *parent = xasprintf("%s/..", path);
        struct stat at, above;

        return parent && stat(path, &at) == 0 && stat(parent, &above) == 0 && at.st_dev != above.st_dev;
}
