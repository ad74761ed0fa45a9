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
#include "base/log.h"
#include "base/parse.h"
#include "storage/superblock.h"

#define TRANSIENT_ETC "/run/bootmgr/etc" /* operation/at_boot.c and units/resume look for it */
#define DATA_ERROR                                                                                                          \
        "/run/bootmgr/data-error" /* why there is none: operation/machine.c, units/data.mount.conf, units/resume */
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

static int mount_ext4(const char *node, const char *target)
{
        return mount(node, target, "ext4", MS_NOSUID | MS_NODEV, NULL) < 0 ? -errno : 0;
}

int mend_superblock(const char *node)
{
        _cleanup_error_ struct error why = {};
        int r = superblock_mend_device(node, &why);

        if (r < 0)
                log_warning("%s: %s", node, why.message ?: error_text(r));
        else if (r > 0)
                log_warning("%s: the superblock was torn by a power cut, and is right again", node);
        return r;
}

static bool has_errors(const char *node)
{
        _cleanup_close_ int fd = io_open(AT_FDCWD, node, O_RDONLY, 0);

        return fd >= 0 && superblock_has_errors(fd) > 0;
}

/* The kernel would mount it, and damage it further. */
static int refuse_unchecked(const char *node, struct error *e)
{
        return fail(e, -EUCLEAN, NULL, "the filesystem on %s has errors, and must be checked before it is used", node);
}

static int mount_data(const struct disk *disk, const char *root, uint64_t *ret_usec, struct error *e)
{
        uint64_t start = now_monotonic();
        _cleanup_free_ char *target = xasprintf("%s/" DATA, root);
        const char *node = disk->data.node;
        int r;

        if (!target)
                return -ENOMEM;
        if (!disk->data.present || !*node)
                return fail(e, -ENODEV, NULL, "%s has no data partition", disk->path);
        if (has_errors(node))
                return refuse_unchecked(node, e);
        r = mount_ext4(node, target);
        if (r == -EBADMSG && mend_superblock(node) > 0)
                r = mount_ext4(node, target);
        if (r < 0)
                return fail_errno(e, r, "cannot mount %s", node);
        /* Of errors that only the journal knew the superblock tells once that is replayed. */
        if (has_errors(node) && umount2(target, 0) >= 0)
                return refuse_unchecked(node, e);
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

static void leave_reason(const char *text)
{
        if (mkdir_parents(AT_FDCWD, "/run/bootmgr", 0755) >= 0)
                file_replace_volatile(AT_FDCWD, DATA_ERROR, text, strlen(text), 0644);
}

int mount_slot(const struct disk *disk, int slot, const char *root, uint64_t *ret_data_usec, struct error *e)
{
        int r;

        r = mount_data(disk, root, ret_data_usec, e);
        if (r >= 0)
                r = mount_etc(slot, root, e);
        if (r < 0) {
                leave_reason(e && e->message ? e->message : error_text(r));
                mount_transient_etc(root, NULL);
        }
        return r;
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

/* Its type; "": it cannot be looked at, which is no verdict. */
static bool has_filesystem(const char *node, char type[static 32], struct error *e)
{
        *type = '\0';
        if (disk_filesystem(node, type) < 0 || *type)
                return true;
        fail(e, -EINVAL, NULL, "there is no filesystem on %s", node);
        return false;
}

bool root_was_found(const struct disk *disk, const char *cmdline)
{
        _cleanup_free_ char *root = cmdline_get(cmdline, "root");

        return disk->has_root || !root || !startswith(root, "PARTUUID=");
}

bool root_has_filesystem(const char *node, struct error *e)
{
        char type[32];

        return has_filesystem(node, type, e);
}

bool root_can_be_mounted(const char *node, const char *device, struct error *e)
{
        char type[32];
        int r;

        if (!has_filesystem(node, type, e))
                return false;
        if (!*type)
                return true;
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
