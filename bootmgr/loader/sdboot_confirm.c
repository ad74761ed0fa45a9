/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The counter of an entry goes, or is made full again: the new name is durable before the former goes. Renaming is for an
 * ESP that is full. */
#include <fcntl.h>
#include <linux/fs.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/io.h"
#include "loader/sdboot.h"
#include "slot/kinds.h"

static int flush_entries(struct sdboot *s, struct error *e)
{
        int r = io_fsync_dir(s->esp.fd, ENTRIES_DIRECTORY);

        return r < 0 ? fail_errno(e, r, "cannot flush " ENTRIES_DIRECTORY) : 0;
}

static int flush_entry(struct sdboot *s, const char *path, struct error *e)
{
        _cleanup_close_ int fd = io_open(s->esp.fd, path, O_RDONLY, 0);
        int r = fd < 0 ? fd : io_fsync(fd);

        return r < 0 ? fail(e, r, &kind_esp_unusable, "cannot flush /%s on %s: %s", path, s->esp.where, error_text(r))
                     : flush_entries(s, e);
}

/* An earlier try may have made it and failed to flush it: the counted one must not go before it is durable. */
static int flush_same(struct sdboot *s, const char *path, const char *text, size_t size, struct error *e)
{
        _cleanup_free_ char *found = NULL;
        size_t found_size = 0;
        int r;

        r = file_read(s->esp.fd, path, ENTRY_READ_MAX, &found, &found_size);
        if (r >= 0 && (found_size != size || memcmp(found, text, size) != 0))
                r = -EUCLEAN;
        return r < 0 ? fail(e, r, &kind_esp_unusable, "the boot entry /%s on %s is not usable: %s", path, s->esp.where,
                            error_text(r))
                     : flush_entry(s, path, e);
}

/* The same generation's entry without a counter, or NULL. */
static const struct entry *plain_of(const struct entry_list *list, const struct entry *entry)
{
        for (size_t i = 0; i < list->n; i++) {
                const struct entry_name *name = &list->items[i].name;

                if (name->ours && !name->counted && name->generation == entry->name.generation &&
                    name->slot == entry->name.slot)
                        return &list->items[i];
        }
        return NULL;
}

/* Under a name with another counter or none; with `mark` it says that it is that of a confirmed version. */
static int copy_as(struct sdboot *s, const struct entry *entry, const char *name, bool mark, struct error *e)
{
        static const char line[] = CONFIRMED_KEY " yes\n";
        _cleanup_free_ char *from = xasprintf(ENTRIES_DIRECTORY "/%s", entry->name.file), *text = NULL;
        _cleanup_free_ char *to = xasprintf(ENTRIES_DIRECTORY "/%s", name);
        _cleanup_buf_ struct buf b = {};
        size_t size;
        int r;

        r = from && to ? file_read(s->esp.fd, from, ENTRY_READ_MAX, &text, &size) : -ENOMEM;
        if (r < 0)
                return fail(e, r, &kind_esp_unusable, "cannot read the boot entry %s: %s", entry->name.file, error_text(r));
        buf_append(&b, text, size);
        if (mark && !entry->confirmed)
                buf_puts(&b, line);
        if (b.failed)
                return -ENOMEM;
        if (mark && b.size > ENTRY_SIZE_MAX)
                return fail(e, -E2BIG, &kind_esp_unusable, "the boot entry %s would be larger than a sector", name);
        r = sdboot_create_entry(s, name, b.data, b.size, e);
        return r == -EEXIST ? flush_same(s, to, b.data, b.size, e) : r;
}

/* A power cut can leave either name without its content: the plain one's is there with the flush behind its rename, the
 * counted one's is free before its name is gone. Such a remnant starts nothing, and the other one is whole. */
static int confirm_entry(struct sdboot *s, const struct entry_list *list, const struct entry *entry, struct error *e)
{
        const struct entry *plain = plain_of(list, entry);
        char name[ENTRY_NAME_MAX];
        int r = 0;

        entry_name_format(entry->name.generation, entry->name.slot, -1, 0, name);
        if (plain && !plain->usable && entry->usable)
                r = sdboot_unlink_entry(s, plain, e);
        if (r >= 0)
                r = copy_as(s, plain && plain->usable && !entry->usable ? plain : entry, name, false, e);
        return r < 0 ? r : sdboot_unlink_entry(s, entry, e);
}

/* The plain name is made durable first; only then the counted one goes. A cut between leaves both, of which
 * systemd-boot takes either: the same system. */
int sdboot_confirm(struct loader *l, uint64_t generation, struct error *e)
{
        struct sdboot *s = l->priv;
        _cleanup_entries_ struct entry_list list = {};
        bool found = false;
        int r;

        r = sdboot_read_entries(s, &list, e);
        for (size_t i = 0; i < list.n && r >= 0; i++) {
                const struct entry_name *name = &list.items[i].name;

                if (!name->ours || name->generation != generation)
                        continue;
                found = true;
                if (!name->counted)
                        continue;
                r = confirm_entry(s, &list, &list.items[i], e);
        }
        if (r < 0)
                return r;
        if (!found) {
                fail(e, -ENOENT, &kind_esp_unusable, "the boot entry of generation %llu is gone from %s",
                     (unsigned long long)generation, s->esp.where);
                return fail_hint(e, "reboot: the entry is made again, or the previous version boots");
        }
        return flush_entries(s, e);
}

/* The one that is whole: without a counter, or with the most tries left. */
static const struct entry *best_of(const struct entry_list *list, uint64_t generation)
{
        const struct entry *best = NULL;

        for (size_t i = 0; i < list->n; i++) {
                const struct entry *entry = &list->items[i];

                if (!entry->name.ours || entry->name.generation != generation || !entry->usable)
                        continue;
                if (!best || !entry->name.counted || (best->name.counted && entry->name.left > best->name.left))
                        best = entry;
        }
        return best;
}

/* The other names of its generation go. It may be what an earlier try has made and failed to flush. */
static int keep_only(struct sdboot *s, const struct entry_list *list, const struct entry *kept, struct error *e)
{
        _cleanup_free_ char *path = xasprintf(ENTRIES_DIRECTORY "/%s", kept->name.file);
        bool others = false;
        int r = path ? 0 : -ENOMEM;

        for (size_t i = 0; i < list->n && r >= 0; i++) {
                const struct entry *entry = &list->items[i];

                if (!entry->name.ours || entry->name.generation != kept->name.generation || entry == kept)
                        continue;
                if (!others)
                        r = flush_entry(s, path, e);
                if (r >= 0)
                        r = sdboot_unlink_entry(s, entry, e);
                others = true;
        }
        return r < 0 || !others ? r : flush_entries(s, e);
}

/* A counter comes down through names with one sum, and systemd-boot goes on without a word where such a name is there
 * already: the counter would stand still. So what is made anew has another sum than what it follows, which a cut may
 * leave. */
static int tries_after(const struct entry *former, int tries)
{
        return former->name.counted && former->name.left + former->name.done == tries ? tries - 1 : tries;
}

static bool is_full(const struct entry *entry, int tries)
{
        return entry->confirmed && entry->name.counted && entry->name.left >= tries - 1 && entry->name.done == 0;
}

/* Takes no room. A cut may lose the entry, as it may whenever the loader counts, and then the slot that starts instead makes
 * it again; a counter that nobody can make full ends with a version being left that has started each time. */
static int rename_to(struct sdboot *s, const struct entry *entry, const char *name, struct error *e)
{
        _cleanup_free_ char *from = xasprintf(ENTRIES_DIRECTORY "/%s", entry->name.file);
        _cleanup_free_ char *to = xasprintf(ENTRIES_DIRECTORY "/%s", name);
        int r = from && to ? io_rename(s->esp.fd, from, s->esp.fd, to, RENAME_NOREPLACE) : -ENOMEM;

        return r < 0 ? fail(e, r, &kind_esp_unusable, "cannot rename the boot entry %s to %s: %s", entry->name.file, name,
                            error_text(r))
                     : flush_entry(s, to, e);
}

/* Durable before the former name goes. That one may come back: it is the same system that it starts. */
int sdboot_arm(struct loader *l, uint64_t generation, int tries, struct error *e)
{
        struct sdboot *s = l->priv;
        _cleanup_entries_ struct entry_list list = {};
        const struct entry *best;
        char name[ENTRY_NAME_MAX];
        int r;

        r = sdboot_read_entries(s, &list, e);
        if (r < 0)
                return r;
        best = best_of(&list, generation);
        if (!best)
                return -ENOENT;
        r = keep_only(s, &list, best, e);
        if (r < 0 || is_full(best, tries))
                return r;
        entry_name_format(generation, best->name.slot, tries_after(best, tries), 0, name);
        r = copy_as(s, best, name, true, e);
        if (r == -ENOSPC && best->name.counted && best->confirmed) {
                if (e)
                        error_done(e);
                return rename_to(s, best, name, e);
        }
        if (r >= 0)
                r = sdboot_unlink_entry(s, best, e);
        return r < 0 ? r : flush_entries(s, e);
}
