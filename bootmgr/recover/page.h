/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The recovery page: what is shown and what can be chosen, from what the decision found. Pure; recover/console.h shows it.
 */
#pragma once

#include "operation/boot_try.h"

enum choice_kind {
        CHOICE_AGAIN, /* the boot is tried again, from the firmware on; where it goes on by itself: it goes on now */
        CHOICE_TRY,   /* one boot of a slot that is bad */
        CHOICE_RESCUE,
        CHOICE_POWER_OFF,
};

struct choice {
        enum choice_kind kind;
        int slot; /* of CHOICE_TRY */
};

#define PAGE_MAX_CHOICES (SLOT_MAX + 3)

struct page_input {
        const struct slot_set *set;
        int slot;          /* that runs */
        bool goes_on;      /* the slot boots all the same after the wait; else the machine starts again */
        const char *stuck; /* why another one that could be booted cannot be switched to; NULL: it was, or there is none */
        bool can_switch;   /* the bootloader can be told what to boot */
        bool rescue;       /* there is a rescue entry */
        unsigned seconds;
};

struct page {
        struct choice choices[PAGE_MAX_CHOICES]; /* number 1 is the first; it is what happens unattended */
        size_t n;
        char *text; /* lines; owned. NULL: memory ran out */
};

void page_make(const struct page_input *in, struct page *ret);
void page_done(struct page *page);
#define _cleanup_page_ _cleanup_(page_done)
