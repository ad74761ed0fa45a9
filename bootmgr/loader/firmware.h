/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The boot options that the firmware goes through when one of them fails (UEFI specification 2.10, section 3.1):
 *
 *      bootmgr 1 … bootmgr N   the bootloader, as often as a slot on trial has tries: each start that fails costs
 *                              one, and the one after them starts the entry behind
 *      bootmgr removable       its other copy, where there is one: the first may be what is damaged
 *      bootmgr fallback        another slot's kernel by its EFI stub, with its whole command line and
 *                              FALLBACK_WORD: the bootloader goes on choosing a confirmed entry that has no
 *                              counter, or starts left
 *      bootmgr rescue          the rescue system in the same way, where there is one: neither kernel could be started
 *
 * They stand together, in this order, where the machine was booted from. Variables are worn out by writing: equal ones
 * are kept, others of ours are written over, and those that are not wanted any more are removed. */
#pragma once

#include "loader/load_option.h"
#include "loader/loader.h"

/* Everything that is wanted, in order; borrowed strings. `path` NULL: what it starts is not known this time; what is there
 * under its description stays as it is. */
struct firmware_option {
        const char *description, *path, *arguments;
};

/* Where efivars is NULL or not there, or is another disk's: nothing, and success. *changed counts the variables that
 * were (with `dry`: would be) written; may be NULL. */
int firmware_sync(const char *efivars, const struct disk *disk, const struct firmware_option *wanted, size_t n, bool dry,
                  unsigned *changed, struct error *e);
