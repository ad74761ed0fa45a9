/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Putting the rescue system on the ESP; needs a hash, so bootmgr-recover goes without it. The order of writes:
 *
 *      kernel, initrd, flushed, read back      cut: files that no entry names, pruned later; the older entry starts its own
 *      the new entry           <- the commit   cut: two entries, each with its files; the next try removes the older
 *      the older entries, then their files
 */
#include <fcntl.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/io.h"
#include "base/sha256.h"
#include "loader/rescue.h"
#include "loader/sdboot.h"
#include "slot/kinds.h"

static int add_file(struct loader *l, int fd, uint8_t id[static BOOT_FILE_ID_SIZE], struct error *e)
{
        uint8_t digest[DIGEST_SIZE];
        struct stat st;
        int r;

        if (fstat(fd, &st) < 0)
                return fail_errno(e, -errno, "cannot look at a boot file");
        if (!S_ISREG(st.st_mode) || st.st_size == 0)
                return fail(e, -EINVAL, &kind_usage, "kernel and initrd must be files that are not empty");
        r = sha256_fd(fd, 0, (uint64_t)st.st_size, digest);
        if (r < 0)
                return fail_errno(e, r, "cannot read a boot file");
        boot_file_make_id(digest, BOOT_FILE_OF_RESCUE, id);
        return sdboot_add_boot_file(l, fd, (uint64_t)st.st_size, id, e);
}

static char *format_entry(const uint8_t *kernel, const uint8_t *initrd, const char *cmdline)
{
        char kernel_path[BOOT_FILE_PATH_SIZE], initrd_path[BOOT_FILE_PATH_SIZE];

        boot_file_path(kernel, kernel_path);
        boot_file_path(initrd, initrd_path);
        return xasprintf("title Rescue\nsort-key bootmgr-rescue\nlinux /%s\ninitrd /%s\noptions " RESCUE_WORD " gpt%s%s\n",
                         kernel_path, initrd_path, *cmdline ? " " : "", cmdline);
}

/* The first name of the form that is not there: what is there stays until the new one is durable. */
static int create_entry(struct sdboot *s, const char *text, struct error *e)
{
        int r = -EEXIST;

        for (int done = 0; r == -EEXIST && done < 10; done++) {
                char name[64];

                snprintf(name, sizeof(name), RESCUE_ID "+0-%d.conf", done);
                r = sdboot_create_entry(s, name, text, strlen(text), e);
        }
        return r == -EEXIST ? fail(e, r, &kind_esp_unusable, "%s has too many rescue entries", s->esp.where) : r;
}

/* Whether an entry with exactly this text is there; `remove` unlinks all others. */
static int find_entry(struct sdboot *s, const char *text, bool remove, bool *ret_found, struct error *e)
{
        _cleanup_entries_ struct entry_list list = {};
        bool found = false;
        int r;

        r = sdboot_read_entries(s, &list, e);
        for (size_t i = 0; i < list.n && r >= 0; i++) {
                _cleanup_free_ char *path = xasprintf(ENTRIES_DIRECTORY "/%s", list.items[i].name.file), *there = NULL;

                if (!streq(list.items[i].name.id, RESCUE_ID))
                        continue;
                if (!path)
                        return -ENOMEM;
                if (text && !found && file_read(s->esp.fd, path, ENTRY_READ_MAX, &there, NULL) >= 0 && streq(there, text)) {
                        found = true;
                        continue;
                }
                r = remove ? io_unlink(s->esp.fd, path, 0) : 0;
                if (r < 0)
                        fail(e, r, &kind_esp_unusable, "cannot remove the rescue entry %s: %s", path, error_text(r));
        }
        if (r >= 0)
                *ret_found = found;
        return r;
}

static int check_loader(const struct loader *l, struct error *e)
{
        if (l->ops == &loader_systemd_boot)
                return 0;
        fail(e, -EOPNOTSUPP, &kind_usage, "the bootloader %s has no rescue entry", l->ops->name);
        return fail_hint(e, "make one for it by hand, with " RESCUE_WORD " on its kernel command line");
}

int rescue_install(struct loader *l, int kernel, int initrd, const char *cmdline, struct error *e)
{
        uint8_t kernel_id[BOOT_FILE_ID_SIZE], initrd_id[BOOT_FILE_ID_SIZE];
        _cleanup_free_ char *text = NULL;
        bool found = false;
        int r;

        r = check_loader(l, e);
        if (r >= 0)
                r = add_file(l, kernel, kernel_id, e);
        if (r >= 0)
                r = add_file(l, initrd, initrd_id, e);
        if (r < 0)
                return r;
        text = format_entry(kernel_id, initrd_id, cmdline);
        if (!text)
                return -ENOMEM;
        if (strlen(text) > ENTRY_SIZE_MAX)
                return fail(e, -E2BIG, &kind_usage, "the rescue entry would have %zu bytes, more than %d", strlen(text),
                            ENTRY_SIZE_MAX);
        r = find_entry(l->priv, text, false, &found, e);
        if (r >= 0 && !found)
                r = create_entry(l->priv, text, e);
        if (r >= 0)
                r = find_entry(l->priv, text, true, &found, e);
        return r < 0 ? r : loader_prune_files(l, e);
}

int rescue_remove(struct loader *l, struct error *e)
{
        bool found;
        int r;

        r = check_loader(l, e);
        if (r >= 0)
                r = find_entry(l->priv, NULL, true, &found, e);
        return r < 0 ? r : loader_prune_files(l, e);
}
