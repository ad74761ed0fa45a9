/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Kernels and initrds on the ESP: named by their content and whose they are, written once, read back. */
#include "loader/sdboot.h"

#include <fcntl.h>
#include <linux/fs.h>

#include "base/file.h"
#include "base/io.h"
#include "base/sha256.h"
#include "slot/kinds.h"

#define TEMPORARY BOOT_FILE_DIRECTORY "/BOOTFILE.TMP" /* one writer at a time, under the machine's lock */

/* The file, open for reading, its content being what its name promises. Read from the device, not from the cache that
 * a write has just filled. */
static int open_checked(struct sdboot *s, const char *path, const uint8_t id[BOOT_FILE_ID_SIZE], struct error *e)
{
        _cleanup_close_ int fd = io_open(s->esp.fd, path, O_RDONLY, 0);
        uint8_t digest[DIGEST_SIZE];
        int r;

        if (fd < 0)
                return fail(e, fd, &kind_esp_unusable, "the boot file /%s on %s cannot be opened: %s", path, s->esp.where,
                            error_text(fd));
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        r = sha256_fd(fd, 0, UINT64_MAX, digest);
        if (r < 0)
                return fail(e, r, &kind_esp_unusable, "the boot file /%s on %s cannot be read: %s", path, s->esp.where,
                            error_text(r));
        if (!boot_file_has_digest(id, digest))
                return fail(e, -EBADMSG, &kind_content,
                            "the boot file /%s on %s is damaged: its content is not what its name says", path, s->esp.where);
        return TAKE_FD(fd);
}

static int check_content(struct sdboot *s, const char *path, const uint8_t id[BOOT_FILE_ID_SIZE], struct error *e)
{
        _cleanup_close_ int fd = open_checked(s, path, id, e);

        return MIN(fd, 0);
}

int sdboot_check_boot_file(struct loader *l, const uint8_t id[BOOT_FILE_ID_SIZE], struct error *e)
{
        char path[BOOT_FILE_PATH_SIZE];

        boot_file_path(id, path);
        return check_content(l->priv, path, id, e);
}

int sdboot_find_boot_file(struct loader *l, const uint8_t digest[DIGEST_SIZE], int slot)
{
        struct sdboot *s = l->priv;
        _cleanup_closedir_ DIR *dir = NULL;
        struct dirent *found;
        int fd, r;

        r = sdboot_open_directory(s, BOOT_FILE_DIRECTORY, &dir);
        if (r < 0)
                return r;
        while ((found = readdir(dir))) {
                char path[BOOT_FILE_PATH_SIZE];
                uint8_t id[BOOT_FILE_ID_SIZE];

                if (hex_decode(found->d_name, id, sizeof(id)) < 0 || !boot_file_has_digest(id, digest) ||
                    boot_file_is_of(id, slot))
                        continue;
                boot_file_path(id, path);
                fd = open_checked(s, path, id, NULL);
                if (fd >= 0)
                        return fd;
        }
        return -ENOENT;
}

/* A damaged file that an entry names cannot be mended: the entry might be the fallback. One that none names
 * makes room. */
static int make_way(struct sdboot *s, const char *path, struct error *e)
{
        _cleanup_entries_ struct entry_list list = {};
        _cleanup_free_ char *absolute = xasprintf("/%s", path);
        int r;

        if (!absolute)
                return -ENOMEM;
        r = sdboot_read_entries(s, &list, e);
        if (r < 0)
                return r;
        if (sdboot_is_named(&list, absolute)) {
                fail(e, -EBADMSG, &kind_esp_unusable, "the boot file /%s on %s is damaged, and a boot entry still names it",
                     path, s->esp.where);
                return fail_hint(
                        e, "remove the entry of the slot that cannot boot with 'bootmgr slot mark-bad', then try again");
        }
        r = io_unlink(s->esp.fd, path, 0);
        return r < 0 ? fail_errno(e, r, "cannot remove the damaged boot file /%s", path) : 0;
}

static int check_room(struct sdboot *s, uint64_t size, struct error *e)
{
        uint64_t room;
        int r = esp_free_bytes(&s->esp, 0, &room);

        if (r < 0)
                return fail_errno(e, r, "cannot tell the room on %s", s->esp.where);
        if (room >= size)
                return 0;
        fail(e, -ENOSPC, &kind_esp_unusable, "the ESP %s has %llu KiB free, a boot file needs %llu KiB", s->esp.where,
             (unsigned long long)(room / 1024), (unsigned long long)(size / 1024));
        return fail_hint(e, "remove what is not needed from it");
}

/* The safe sequence of file_create(), for content that comes from a descriptor. */
static int write_file(struct sdboot *s, const char *path, int from, uint64_t size)
{
        _cleanup_close_ int fd = -1;
        int r;

        io_unlink(s->esp.fd, TEMPORARY, 0);
        fd = io_open(s->esp.fd, TEMPORARY, O_RDWR | O_CREAT | O_EXCL, 0644);
        if (fd < 0)
                return fd;
        r = io_copy(from, 0, fd, 0, size);
        if (r >= 0)
                r = io_fsync(fd);
        if (r >= 0)
                r = io_rename(s->esp.fd, TEMPORARY, s->esp.fd, path, RENAME_NOREPLACE);
        if (r < 0) {
                io_unlink(s->esp.fd, TEMPORARY, 0);
                return r;
        }
        r = io_fsync(fd);
        return r < 0 ? r : io_fsync_dir(s->esp.fd, BOOT_FILE_DIRECTORY);
}

int sdboot_add_boot_file(struct loader *l, int fd, uint64_t size, const uint8_t id[BOOT_FILE_ID_SIZE], struct error *e)
{
        struct sdboot *s = l->priv;
        char path[BOOT_FILE_PATH_SIZE];
        int r;

        boot_file_path(id, path);
        if (faccessat(s->esp.fd, path, F_OK, 0) == 0) {
                if (check_content(s, path, id, NULL) == 0)
                        return 0;
                r = make_way(s, path, e);
                if (r < 0)
                        return r;
        }
        r = check_room(s, size, e);
        if (r < 0)
                return r;
        r = io_mkdir(s->esp.fd, BOOT_FILE_DIRECTORY, 0755);
        if (r >= 0)
                r = io_fsync_dir(s->esp.fd, ".");
        if (r >= 0)
                r = write_file(s, path, fd, size);
        if (r < 0)
                return fail(e, r, &kind_esp_unusable, "cannot write the boot file /%s on %s: %s", path, s->esp.where,
                            error_text(r));
        return check_content(s, path, id, e);
}
