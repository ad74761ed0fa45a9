/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Boot loaders. One loader is one file with a const ops table; all map to the same slot set.
 *
 * Calling order of a switch (operation/switch.c keeps it):
 *      loader_open -> add_boot_file (kernel, initrd) -> would_choose -> [record SWITCHING]
 *      -> switch_to -> [record SWITCHED] -> reboot … -> confirm -> prune -> loader_close
 */
#pragma once

#include "base/buf.h"
#include "loader/entry.h"
#include "loader/esp.h"
#include "slot/config.h"

/* One of our entries as the loader has it. */
struct loader_entry {
        uint64_t generation;
        int slot;
        int tries_left; /* -1: not counted */
        int tries_done;
        bool usable; /* its files are there */
        /* What it says of its system, for a record that was lost; zeros and "" where it says nothing. */
        uint8_t kernel[BOOT_FILE_ID_SIZE], initrd[BOOT_FILE_ID_SIZE];
        char version[SLOT_VERSION_SIZE];
        struct verity verity;
        bool confirmed; /* the counter is that of arm(), not of a trial */
};

struct loader; /* an opened loader */

struct loader_ops {
        const char *name; /* as in Loader= */
        /* Opens what it needs; *priv is the loader's own. */
        int (*open)(struct loader *l, bool write, struct error *e);
        void (*close)(struct loader *l);
        /* Puts a kernel or initrd, an open file from its start, where entries can name it, flushed and read back.
         * Already there and right: success. */
        int (*add_boot_file)(struct loader *l, int fd, uint64_t size, const uint8_t id[BOOT_FILE_ID_SIZE], struct error *e);
        /* 0 when the file is there and its content is what its id says (boot_file_make_id()). */
        int (*check_boot_file)(struct loader *l, const uint8_t id[BOOT_FILE_ID_SIZE], struct error *e);
        /* A boot file with this content that is not `slot`'s (SLOT_NONE: whoever's), checked and open for reading: the
         * caller closes it. -ENOENT. */
        int (*find_boot_file)(struct loader *l, const uint8_t digest[DIGEST_SIZE], int slot);
        /* Our entries, newest generation first, and of one generation the name that starts it; *ret malloc'ed. */
        int (*list)(struct loader *l, struct loader_entry **ret, size_t *ret_n, struct error *e);
        /* 0 when a new entry (spec, tries) would be what boots next; else kind_loader_pinned with what
         * would boot instead and how to undo it. Changes nothing. */
        int (*would_choose)(struct loader *l, const struct entry_spec *spec, int tries, struct error *e);
        /* Makes the entry, durable on return. tries 0: not counted. The commit of a switch. -ENOENT when the files it
         * would name are not there. */
        int (*switch_to)(struct loader *l, const struct entry_spec *spec, int tries, struct error *e);
        /* Which entry of a slot boots next: one of list(), or the menu's, which comes after all of them. -ENOENT: a foreign
         * one or none. */
        int (*next)(struct loader *l, struct loader_entry *ret, struct error *e);
        /* The entry of this generation loses its counter. Idempotent. */
        int (*confirm)(struct loader *l, uint64_t generation, struct error *e);
        /* The entry of this generation, which is confirmed, gets a counter again that is full: so many starts in a row may
         * fail before the loader goes on to the next entry. Idempotent. -ENOENT: there is none that could be started. */
        int (*arm)(struct loader *l, uint64_t generation, int tries, struct error *e);
        /* Removes our entries of a slot, the menu's too; their boot files go with the next prune. */
        int (*remove_slot)(struct loader *l, int slot, struct error *e);
        /* Removes the entries of this generation; what they name stays. */
        int (*drop)(struct loader *l, uint64_t generation, struct error *e);
        /* Removes our entries of other generations than `keep` (n of them), and the boot files that are named by no entry
         * and no slot that can be booted: entries that somebody deleted are made again. */
        int (*prune)(struct loader *l, const uint64_t *keep, size_t n, struct error *e);
        /* The menu's entry "previous version" becomes that of this spec (with .rollback), behind all of ours; NULL: there
         * is none. An equal one is kept. */
        int (*offer)(struct loader *l, const struct entry_spec *spec, struct error *e);
        /* The firmware's boot options (loader/firmware.h): this loader, as often as there are tries, then the entry of
         * this generation by itself (0: none), then the rescue entry. *changed as there. */
        int (*firmware)(struct loader *l, uint64_t fallback, int tries, bool dry, unsigned *changed, struct error *e);
        /* Things a person should know, e.g. that something else will boot, or a pin. Appends lines to `notes`. */
        int (*inspect)(struct loader *l, struct buf *notes, struct error *e);
};

struct loader {
        const struct loader_ops *ops;
        const struct disk *disk;
        const char *esp_directory; /* --esp, or NULL */
        const char *efivars;       /* "/sys/firmware/efi/efivars", or NULL: none (images) */
        /* Of the record, borrowed; NULL: not known. What its versions boot with is not pruned, and generations on the ESP
         * count that are credible beside its own. */
        const struct slot_set *slots;
        const struct slot *coming; /* borrowed: what it boots with is not pruned either; NULL: none */
        bool writable;
        void *priv;
};

extern const struct loader_ops loader_systemd_boot;
extern const struct loader_ops loader_none; /* something else boots the machine: records only */

/* The only dispatch: by config's Loader=. kind_config_invalid for an unknown name. */
int loader_open(struct loader *ret, const char *name, const struct disk *disk, const char *esp_directory,
                const char *efivars, bool write, struct error *e);
void loader_close(struct loader *l);

/* Reads kernel and initrd of a slot back; -ENOENT or -EBADMSG: one is missing or damaged, and which. */
int loader_check_slot(struct loader *l, const struct slot *slot, struct error *e);

/* The highest generation of these entries, newest first, that is credible beside the highest `known` one; 0: there is none.
 */
uint64_t loader_entries_highest(const struct loader_entry *entries, size_t n, uint64_t known);

/* The same of those on the ESP, beside what the record knows. */
int loader_highest_generation(struct loader *l, uint64_t *ret, struct error *e);

/* prune() of the boot files; every entry stays. */
int loader_prune_files(struct loader *l, struct error *e);
