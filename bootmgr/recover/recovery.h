/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What happens when no slot can boot: the page, and what was chosen on it. */
#pragma once

#include "recover/page.h"

struct recovery {
        int slot; /* that runs */
        const struct disk *disk;
        const struct state_place *place;
        struct state *state; /* as boot_carry_out() left it */
        struct loader *loader;
        const char *extra_cmdline;
        bool writable_root;
        bool goes_on;        /* the slot boots all the same after the wait */
        const char *stuck;   /* why the slot cannot be left; NULL: there is nowhere to go */
        unsigned seconds;    /* until what happens unattended */
        const char *console; /* this one, for tests; NULL: those of the machine */
        bool test;           /* nobody waits: without a key the time is over at once */
};

/* Shows the page until something is chosen or the time is over. Of CHOICE_TRY and CHOICE_RESCUE all that is needed has been
 * written when it returns: the caller only starts the machine again. What cannot be done is said, and the page comes back.
 */
enum choice_kind recovery_run(const struct recovery *r);

/* Until a boot that cannot go on is tried again: five minutes, unless bootmgr.retry= says another time, within bounds. */
unsigned recovery_retry_seconds(const char *cmdline);
