/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "loader/firmware.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include "base/file.h"
#include "base/io.h"
#include "slot/kinds.h"

#define GLOBAL_GUID "8be4df61-93ca-11d2-aa0d-00e098032b8c"
#define ATTRIBUTES  UINT32_C(7) /* non-volatile, seen by boot services and by the running system */
#define PREFIX      4           /* efivarfs: the attributes, then the value */
#define ORDER_MAX   256
#define OURS_MAX    16

struct firmware {
        int dir;
        const struct disk *disk;
        struct load_option partition; /* how the ESP is named */
        uint16_t order[ORDER_MAX + OURS_MAX];
        size_t n_order;
        uint16_t ours[OURS_MAX]; /* those of ours that the order has */
        size_t n_ours;
        bool dry;
        unsigned changed;
};

static int read_variable(struct firmware *f, const char *name, char **ret, size_t *ret_size)
{
        char file[64];
        size_t size;
        char *data;
        int r;

        snprintf(file, sizeof(file), "%s-" GLOBAL_GUID, name);
        r = file_read(f->dir, file, PREFIX + LOAD_OPTION_MAX, &data, &size);
        if (r < 0)
                return r;
        if (size < PREFIX) {
                free(data);
                return -EBADMSG;
        }
        *ret = data;
        *ret_size = size - PREFIX;
        return 0;
}

/* efivarfs makes what it does not know immutable. */
static void make_mutable(int fd)
{
        int flags = 0;

        if (ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0 || !(flags & FS_IMMUTABLE_FL))
                return;
        flags &= ~FS_IMMUTABLE_FL;
        if (ioctl(fd, FS_IOC_SETFLAGS, &flags) < 0)
                return; /* the write will say so */
}

static void clear_immutable(struct firmware *f, const char *file)
{
        _cleanup_close_ int fd = io_open(f->dir, file, O_RDONLY, 0);

        if (fd >= 0)
                make_mutable(fd);
}

/* One write(2) is one SetVariable(): the firmware replaces the value as a whole. In a plain directory (tests) a shorter
 * value must not leave the end of the longer one. */
static int write_variable(struct firmware *f, const char *name, const void *data, size_t size, struct error *e)
{
        _cleanup_free_ char *old = NULL;
        _cleanup_close_ int fd = -1;
        _cleanup_buf_ struct buf b = {};
        char file[64];
        size_t old_size;
        int r;

        if (read_variable(f, name, &old, &old_size) >= 0 && old_size == size && memcmp(old + PREFIX, data, size) == 0)
                return 0;
        f->changed++;
        if (f->dry)
                return 0;
        snprintf(file, sizeof(file), "%s-" GLOBAL_GUID, name);
        clear_immutable(f, file);
        buf_append(&b, (uint8_t[PREFIX]){ ATTRIBUTES }, PREFIX);
        buf_append(&b, data, size);
        if (b.failed)
                return -ENOMEM;
        fd = io_open(f->dir, file, O_WRONLY | O_CREAT | O_TRUNC, 0644);
        r = fd < 0 ? fd : io_pwrite(fd, b.data, b.size, 0);
        return r < 0 ? fail_errno(e, r, "cannot write the EFI variable %s", name) : 0;
}

static void option_name(uint16_t number, char name[static 16])
{
        snprintf(name, 16, "Boot%04X", number);
}

static int read_option(struct firmware *f, uint16_t number, struct load_option *ret)
{
        _cleanup_free_ char *data = NULL;
        char name[16];
        size_t size;
        int r;

        option_name(number, name);
        r = read_variable(f, name, &data, &size);
        return r < 0 ? r : load_option_parse(data + PREFIX, size, ret);
}

/* Ours: named so, and on this ESP. Those of another disk with bootmgr on it are not. */
static bool is_ours(const struct firmware *f, const struct load_option *o)
{
        return startswith(o->description, "bootmgr ") && memcmp(o->guid, f->partition.guid, sizeof(o->guid)) == 0;
}

static void read_order(struct firmware *f)
{
        _cleanup_free_ char *data = NULL;
        size_t size;

        if (read_variable(f, "BootOrder", &data, &size) < 0)
                return;
        for (size_t i = 0; i + 1 < size && f->n_order < ORDER_MAX; i += 2)
                f->order[f->n_order++] = get_le16(data + PREFIX + i);
}

/* Those of ours that the order has. One that was taken out of it stays where it is: its number is taken. */
static void find_ours(struct firmware *f)
{
        for (size_t i = 0; i < f->n_order && f->n_ours < OURS_MAX; i++) {
                _cleanup_load_option_ struct load_option o = {};

                if (read_option(f, f->order[i], &o) >= 0 && is_ours(f, &o))
                        f->ours[f->n_ours++] = f->order[i];
        }
}

static bool is_free(struct firmware *f, uint16_t number, const uint16_t *taken, size_t n)
{
        _cleanup_free_ char *data = NULL;
        char name[16];
        size_t size;

        for (size_t i = 0; i < n; i++)
                if (taken[i] == number)
                        return false;
        for (size_t i = 0; i < f->n_order; i++)
                if (f->order[i] == number)
                        return false;
        option_name(number, name);
        return read_variable(f, name, &data, &size) == -ENOENT;
}

/* The number under which an option stands or will stand: the equal or like-named one of ours, else a free one. */
static int number_for(struct firmware *f, const char *description, const uint16_t *taken, size_t n, uint16_t *ret)
{
        for (size_t i = 0; i < f->n_ours; i++) {
                _cleanup_load_option_ struct load_option o = {};

                if (read_option(f, f->ours[i], &o) < 0 || !streq(o.description, description))
                        continue;
                *ret = f->ours[i];
                return 0;
        }
        for (unsigned number = 0x10; number < 0xffff; number++)
                if (is_free(f, (uint16_t)number, taken, n)) {
                        *ret = (uint16_t)number;
                        return 0;
                }
        return -ENOSPC;
}

static int write_option(struct firmware *f, uint16_t number, const struct firmware_option *wanted, struct error *e)
{
        struct load_option o = f->partition; /* borrows what is wanted */
        _cleanup_buf_ struct buf b = {};
        char name[16];
        int r;

        o.description = (char *)wanted->description;
        o.path = (char *)wanted->path;
        o.arguments = (char *)wanted->arguments;
        r = load_option_format(&o, &b);
        if (r < 0)
                return fail_errno(e, r, "cannot make the boot option '%s'", wanted->description);
        option_name(number, name);
        return write_variable(f, name, b.data, b.size, e);
}

static bool contains(const uint16_t *numbers, size_t n, uint16_t number)
{
        for (size_t i = 0; i < n; i++)
                if (numbers[i] == number)
                        return true;
        return false;
}

/* Where ours go: in place of the first of ours, else in front of what this boot was started by, else in front. */
static size_t find_place(struct firmware *f)
{
        _cleanup_free_ char *data = NULL;
        size_t size;

        for (size_t i = 0; i < f->n_order; i++)
                if (contains(f->ours, f->n_ours, f->order[i]))
                        return i;
        if (read_variable(f, "BootCurrent", &data, &size) >= 0 && size == 2)
                for (size_t i = 0; i < f->n_order; i++)
                        if (f->order[i] == get_le16(data + PREFIX))
                                return i;
        return 0;
}

/* Foreign options keep their order. */
static int write_order(struct firmware *f, const uint16_t *wanted, size_t n, struct error *e)
{
        uint8_t bytes[2 * (ORDER_MAX + OURS_MAX)];
        size_t place = find_place(f), size = 0;

        for (size_t i = 0; i <= f->n_order; i++) {
                for (size_t k = 0; i == place && k < n; k++, size += 2)
                        put_le16(bytes + size, wanted[k]);
                if (i == f->n_order || contains(f->ours, f->n_ours, f->order[i]) || contains(wanted, n, f->order[i]))
                        continue;
                put_le16(bytes + size, f->order[i]);
                size += 2;
        }
        return write_variable(f, "BootOrder", bytes, size, e);
}

/* What the order has just lost. Left where they are, they would not be found again, and a variable more would be made
 * each time that a fallback comes and goes, until the firmware has no room. */
static int remove_others(struct firmware *f, const uint16_t *wanted, size_t n, struct error *e)
{
        for (size_t i = 0; i < f->n_ours && !f->dry; i++) {
                char file[64];
                int r;

                if (contains(wanted, n, f->ours[i]))
                        continue;
                snprintf(file, sizeof(file), "Boot%04X-" GLOBAL_GUID, f->ours[i]);
                clear_immutable(f, file);
                r = io_unlink(f->dir, file, 0);
                if (r < 0 && r != -ENOENT)
                        return fail_errno(e, r, "cannot remove the EFI variable Boot%04X", f->ours[i]);
        }
        return 0;
}

/* The options are there before the order names them, and are named no more before they go. */
static int sync_options(struct firmware *f, const struct firmware_option *wanted, size_t n, struct error *e)
{
        uint16_t numbers[OURS_MAX];
        int r;

        for (size_t i = 0; i < n; i++) {
                r = number_for(f, wanted[i].description, numbers, i, &numbers[i]);
                if (r < 0)
                        return fail_errno(e, r, "no number is free for the boot option '%s'", wanted[i].description);
                r = write_option(f, numbers[i], &wanted[i], e);
                if (r < 0)
                        return r;
        }
        r = write_order(f, numbers, n, e);
        return r < 0 ? r : remove_others(f, numbers, n, e);
}

int firmware_sync(const char *efivars, const struct disk *disk, const struct firmware_option *wanted, size_t n, bool dry,
                  unsigned *changed, struct error *e)
{
        const struct partition *esp = &disk->esp;
        unsigned sector = disk->sector_size ?: 512;
        struct firmware f = { .disk = disk,
                              .dry = dry,
                              .partition = { .attributes = LOAD_OPTION_ACTIVE,
                                             .partition = esp->number,
                                             .start = esp->offset / sector,
                                             .size = esp->size / sector } };
        _cleanup_close_ int dir = efivars ? dir_open(AT_FDCWD, efivars) : -ENOENT;
        int r;

        if (changed)
                *changed = 0;
        if (dir < 0 || n == 0 || !esp->present || efi_guid_parse(esp->uuid, f.partition.guid) < 0)
                return 0;
        if (n > OURS_MAX)
                return -E2BIG;
        f.dir = dir;
        read_order(&f);
        find_ours(&f);
        r = sync_options(&f, wanted, n, e);
        if (r >= 0 && changed)
                *changed = f.changed;
        return r;
}
