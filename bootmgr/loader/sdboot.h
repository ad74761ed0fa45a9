/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the parts of the systemd-boot loader share: its operations (sdboot.c), what systemd-boot reads (sdboot_read.c) and
 * boot files (sdboot_files.c, which needs a hash and is left out of bootmgr-recover). Inside loader/ only. */
#pragma once

#include "loader/loader.h"

#define ENTRIES_DIRECTORY "loader/entries"
#define LOADER_GUID       "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f" /* of systemd-boot's EFI variables */

/* loader->priv */
struct sdboot {
        struct esp esp;
};

/* All entries of type 1 with their content, foreign ones too, in no order. */
struct entry_list {
        struct entry *items;
        size_t n;
        bool incomplete; /* one is there that could not be read this time: what it names is not known */
};
int sdboot_read_entries(struct sdboot *s, struct entry_list *ret, struct error *e);
/* Those, the unified kernels, the automatic entries, and the pins: all that a choice is made of. */
int sdboot_read_choice(struct loader *l, struct entry_list *ret, struct loader_pins *pins, struct error *e);
int entry_list_add(struct entry_list *l, struct entry *entry); /* takes the entry, also on failure */
void entry_list_done(struct entry_list *l);
#define _cleanup_entries_ _cleanup_(entry_list_done)

int sdboot_open_directory(struct sdboot *s, const char *path, DIR **ret);

/* Whether any entry names this path ("/bootmgr/…", compared as vfat does). */
bool sdboot_is_named(const struct entry_list *l, const char *path);

/* The menu's "previous version": its file is MENU_ENTRY, slot, "-", generation, ".conf". Not one of ours to list(), which
 * knows what boots by itself as long as that has a try left. The slot, or SLOT_NONE: it is another entry. */
#define MENU_ENTRY "bootmgr-previous-"
int sdboot_menu_slot(const char *file);

#define RESCUE_ID "bootmgr-rescue"

int sdboot_create_entry(struct sdboot *s, const char *name, const char *text, size_t size, struct error *e);
int sdboot_unlink_entry(struct sdboot *s, const struct entry *entry, struct error *e);

int sdboot_confirm(struct loader *l, uint64_t generation, struct error *e);
int sdboot_arm(struct loader *l, uint64_t generation, int tries, struct error *e);
int sdboot_offer(struct loader *l, const struct entry_spec *spec, struct error *e);
int sdboot_firmware(struct loader *l, uint64_t fallback, int tries, bool dry, unsigned *changed, struct error *e);

int sdboot_add_boot_file(struct loader *l, int fd, uint64_t size, const uint8_t id[BOOT_FILE_ID_SIZE], struct error *e);
int sdboot_find_boot_file(struct loader *l, const uint8_t digest[DIGEST_SIZE], int slot);
int sdboot_check_boot_file(struct loader *l, const uint8_t id[BOOT_FILE_ID_SIZE], struct error *e);
