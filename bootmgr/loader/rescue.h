/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The rescue entry of systemd-boot: a small system of its own on the ESP, for when no slot can boot.
 *
 *      loader/entries/bootmgr-rescue+0-0.conf      its counter is used up from the start: systemd-boot sorts it behind
 *                                                  everything else, exhausted entries of ours too (their sort key is lower),
 *                                                  and starts it by itself only when nothing else is left
 *      bootmgr/<32 hex>                            kernel and initrd, its own also where a slot has the same; they stay
 *                                                  as long as the entry names them
 *
 * It is no entry of a slot: list(), prune() and remove_slot() of loader_ops leave it alone. */
#pragma once

#include "loader/loader.h"

#define RESCUE_WORD "bootmgr.rescue" /* on its kernel command line */

struct rescue {
        char file[ENTRY_NAME_MAX]; /* the entry's name now: systemd-boot counts on */
        bool usable;               /* its kernel and initrds are there; what they hold is not looked at */
        uint8_t kernel[BOOT_FILE_ID_SIZE], initrd[BOOT_FILE_ID_SIZE];
};

/* -ENOENT: there is none, or the loader has no such thing. */
int rescue_find(struct loader *l, struct rescue *ret, struct error *e);

/* It is what boots next, once: by LoaderEntryOneShot, which systemd-boot deletes when it reads it. */
int rescue_boot_next(struct loader *l, const struct rescue *rescue, struct error *e);

/* Kernel and initrd as open files at their start. The files first, flushed and read back, then the entry; an older entry
 * goes last. The same once more changes nothing. `cmdline` is appended to our own words. */
int rescue_install(struct loader *l, int kernel, int initrd, const char *cmdline, struct error *e);
int rescue_remove(struct loader *l,
                  struct error *e); /* the entry, then the files that no other names; 0 when there is none */
