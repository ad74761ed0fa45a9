/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "loader/firmware.h"

#include "loader/efivar.h"

#define GLOBAL_GUID "8be4df61-93ca-11d2-aa0d-00e098032b8c"
#define ORDER       "BootOrder-" GLOBAL_GUID
#define CURRENT     "BootCurrent-" GLOBAL_GUID
#define NAME_SIZE   sizeof(CURRENT) /* the longest */
#define ORDER_MAX   256
#define OURS_MAX    16

struct firmware {
        const char *efivars;
        struct load_option partition; /* how the ESP is named */
        uint16_t order[ORDER_MAX];
        size_t n_order;
        uint16_t ours[OURS_MAX]; /* those of ours that the order has */
        size_t n_ours;
        bool dry;
        unsigned changed;
};

static int read_variable(struct firmware *f, const char *name, char **ret, size_t *ret_size)
{
        return efivar_read(f->efivars, name, LOAD_OPTION_MAX, ret, ret_size);
}

static int write_variable(struct firmware *f, const char *name, const void *data, size_t size, struct error *e)
{
        _cleanup_free_ char *old = NULL;
        size_t old_size;
        int r;

        if (read_variable(f, name, &old, &old_size) >= 0 && old_size == size && memcmp(old, data, size) == 0)
                return 0;
        f->changed++;
        if (f->dry)
                return 0;
        r = efivar_write(f->efivars, name, data, size);
        return r < 0 ? fail_errno(e, r, "cannot write the EFI variable %s", name) : 0;
}

static void option_name(uint16_t number, char name[static NAME_SIZE])
{
        snprintf(name, NAME_SIZE, "Boot%04X-" GLOBAL_GUID, number);
}

static int read_option(struct firmware *f, uint16_t number, struct load_option *ret)
{
        _cleanup_free_ char *data = NULL;
        char name[NAME_SIZE];
        size_t size;
        int r;

        option_name(number, name);
        r = read_variable(f, name, &data, &size);
        return r < 0 ? r : load_option_parse(data, size, ret);
}

/* Ours: named so, and on this ESP. Those of another disk with bootmgr on it are not. */
static bool is_ours(const struct firmware *f, const struct load_option *o)
{
        return startswith(o->description, "bootmgr ") && memcmp(o->guid, f->partition.guid, sizeof(o->guid)) == 0;
}

/* What is not read as a whole must not be written: the options of others would be out of it. */
static int read_order(struct firmware *f, struct error *e)
{
        _cleanup_free_ char *data = NULL;
        size_t size = 0;
        int r;

        r = read_variable(f, ORDER, &data, &size);
        if (r >= 0 && size > 2 * ORDER_MAX)
                r = -E2BIG;
        if (r < 0 && r != -ENOENT)
                return fail_errno(e, r, "cannot read the EFI variable %s", ORDER);
        for (size_t i = 0; i + 1 < size; i += 2)
                f->order[f->n_order++] = get_le16(data + i);
        return 0;
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
        char name[NAME_SIZE];
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

static bool find_like_named(struct firmware *f, const char *description, uint16_t *ret)
{
        for (size_t i = 0; i < f->n_ours; i++) {
                _cleanup_load_option_ struct load_option o = {};

                if (read_option(f, f->ours[i], &o) < 0 || !streq(o.description, description))
                        continue;
                *ret = f->ours[i];
                return true;
        }
        return false;
}

/* The number under which an option stands or will stand: the equal or like-named one of ours, else a free one. */
static int number_for(struct firmware *f, const char *description, const uint16_t *taken, size_t n, uint16_t *ret)
{
        if (find_like_named(f, description, ret))
                return 0;
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
        char name[NAME_SIZE];
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
        if (read_variable(f, CURRENT, &data, &size) >= 0 && size == 2)
                for (size_t i = 0; i < f->n_order; i++)
                        if (f->order[i] == get_le16(data))
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
        return write_variable(f, ORDER, bytes, size, e);
}

/* What the order has just lost. Left where they are, they would not be found again, and a variable more would be made
 * each time that a fallback comes and goes, until the firmware has no room. */
static int remove_others(struct firmware *f, const uint16_t *wanted, size_t n, struct error *e)
{
        for (size_t i = 0; i < f->n_ours && !f->dry; i++) {
                char name[NAME_SIZE];
                int r;

                if (contains(wanted, n, f->ours[i]))
                        continue;
                option_name(f->ours[i], name);
                r = efivar_remove(f->efivars, name);
                if (r < 0)
                        return fail_errno(e, r, "cannot remove the EFI variable %s", name);
        }
        return 0;
}

/* The options are there before the order names them, and are named no more before they go. */
static int sync_options(struct firmware *f, const struct firmware_option *wanted, size_t n, struct error *e)
{
        uint16_t numbers[OURS_MAX];
        size_t k = 0;
        int r;

        for (size_t i = 0; i < n; i++) {
                if (!wanted[i].path) {
                        k += find_like_named(f, wanted[i].description, &numbers[k]);
                        continue;
                }
                r = number_for(f, wanted[i].description, numbers, k, &numbers[k]);
                if (r < 0)
                        return fail_errno(e, r, "no number is free for the boot option '%s'", wanted[i].description);
                r = write_option(f, numbers[k++], &wanted[i], e);
                if (r < 0)
                        return r;
        }
        r = write_order(f, numbers, k, e);
        return r < 0 ? r : remove_others(f, numbers, k, e);
}

int firmware_sync(const char *efivars, const struct disk *disk, const struct firmware_option *wanted, size_t n, bool dry,
                  unsigned *changed, struct error *e)
{
        const struct partition *esp = &disk->esp;
        unsigned sector = disk->sector_size ?: 512;
        struct firmware f = { .efivars = efivars,
                              .dry = dry,
                              .partition = { .attributes = LOAD_OPTION_ACTIVE,
                                             .partition = esp->number,
                                             .start = esp->offset / sector,
                                             .size = esp->size / sector } };
        int r;

        if (changed)
                *changed = 0;
        if (!efivars || access(efivars, F_OK) < 0 || n == 0 || !esp->present ||
            efi_guid_parse(esp->uuid, f.partition.guid) < 0)
                return 0;
        if (n > OURS_MAX)
                return -E2BIG;
        r = read_order(&f, e);
        if (r < 0)
                return r;
        find_ours(&f);
        r = sync_options(&f, wanted, n, e);
        if (r >= 0 && changed)
                *changed = f.changed;
        return r;
}
