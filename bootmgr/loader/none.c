/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Something else boots the machine: bootmgr keeps its record and its configuration, and no entries. */
#include "loader/loader.h"

#include <fcntl.h>

#include "base/io.h"

static int none_open(struct loader *l, bool write, struct error *e)
{
        return 0;
}

static void none_close(struct loader *l) {}

static int none_add_boot_file(struct loader *l, int fd, uint64_t size, const uint8_t id[BOOT_FILE_ID_SIZE], struct error *e)
{
        return 0;
}

/* Each is as good as there. */
static int none_find_boot_file(struct loader *l, const uint8_t digest[DIGEST_SIZE], int slot)
{
        return io_open(AT_FDCWD, "/dev/null", O_RDONLY, 0);
}

static int none_check_boot_file(struct loader *l, const uint8_t id[BOOT_FILE_ID_SIZE], struct error *e)
{
        return 0;
}

static int none_list(struct loader *l, struct loader_entry **ret, size_t *ret_n, struct error *e)
{
        *ret = NULL;
        *ret_n = 0;
        return 0;
}

static int none_entry(struct loader *l, const struct entry_spec *spec, int tries, struct error *e)
{
        return 0;
}

static int none_next(struct loader *l, struct loader_entry *ret, struct error *e)
{
        return -ENOENT;
}

static int none_confirm(struct loader *l, uint64_t generation, struct error *e)
{
        return 0;
}

static int none_remove_slot(struct loader *l, int slot, struct error *e)
{
        return 0;
}

static int none_drop(struct loader *l, uint64_t generation, struct error *e)
{
        return 0;
}

static int none_arm(struct loader *l, uint64_t generation, int tries, struct error *e)
{
        return 0;
}

static int none_prune(struct loader *l, const uint64_t *keep, size_t n, struct error *e)
{
        return 0;
}

static int none_offer(struct loader *l, const struct entry_spec *spec, struct error *e)
{
        return 0;
}

static int none_firmware(struct loader *l, uint64_t fallback, int tries, bool dry, unsigned *changed, struct error *e)
{
        *changed = 0;
        return 0;
}

static int none_inspect(struct loader *l, struct buf *notes, struct error *e)
{
        buf_puts(notes, "Loader=none: which slot boots is decided elsewhere\n");
        return 0;
}

const struct loader_ops loader_none = {
        .name = "none",
        .open = none_open,
        .close = none_close,
        .add_boot_file = none_add_boot_file,
        .find_boot_file = none_find_boot_file,
        .check_boot_file = none_check_boot_file,
        .list = none_list,
        .would_choose = none_entry,
        .switch_to = none_entry,
        .next = none_next,
        .confirm = none_confirm,
        .arm = none_arm,
        .remove_slot = none_remove_slot,
        .drop = none_drop,
        .prune = none_prune,
        .offer = none_offer,
        .firmware = none_firmware,
        .inspect = none_inspect,
};
