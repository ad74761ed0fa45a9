/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is done to a machine before an operation. */
#include "crash.h"

#include <fcntl.h>

#include "operation/machine.h"

static int change_sector(uint64_t offset, struct error *e)
{
        _cleanup_close_ int fd = open(volume_path(RAW), O_RDWR | O_CLOEXEC);
        char noise[SECTOR];

        memset(noise, 0xa5, sizeof(noise));
        return pwrite(fd, noise, sizeof(noise), (off_t)offset) == sizeof(noise) ? 0 : fail_errno(e, -errno, "cannot damage");
}

int damage_root_b(struct error *e)
{
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        int r = open_machine(&m, "", e);

        return r < 0 ? r : change_sector(m.disk.slots[1].offset + 4096, e);
}

int lose_record(struct error *e)
{
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        int r = open_machine(&m, "", e);

        if (r >= 0)
                r = change_sector(m.place.offset[0], e);
        return r < 0 ? r : change_sector(m.place.offset[1], e);
}

int exhaust(struct error *e)
{
        sh("cd work/esp/loader/entries; for f in *+*.conf; do mv \"$f\" \"${f%%+*}+0-3.conf\"; done");
        return 0;
}

int have_counted(struct error *e)
{
        sh("cd work/esp/loader/entries; echo 'bootmgr-confirmed yes' >>bootmgr-2-b.conf; mv bootmgr-2-b.conf "
           "bootmgr-2-b+6-3.conf");
        return 0;
}

int damage_kernel_a(struct error *e)
{
        sh("f=work/esp$(sed -n 's/^linux //p' work/esp/loader/entries/bootmgr-*-a.conf) && printf damage | dd of=$f bs=1 "
           "seek=100 conv=notrunc status=none");
        return 0;
}

/* As if nothing had been carried while the upgrade was prepared. */
int have_former_etc(struct error *e)
{
        sh("rm -rf work/data/etc/b && mkdir -p work/data/etc/b/upper && echo a >work/data/etc/b/upper/marker && "
           "echo stale >work/data/etc/b/upper/stale");
        return 0;
}

int lose_entry(struct error *e)
{
        sh("rm work/esp/loader/entries/*+*.conf");
        return 0;
}

/* systemd-boot's installer was here. */
int have_loader(struct error *e)
{
        sh("mkdir work/esp/loader; echo timeout 0 >work/esp/loader/loader.conf");
        return 0;
}

/* The slot that failed is marked, and what boots it was not removed any more. */
int leave_bad(struct error *e)
{
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        int r = open_machine(&m, "", e);

        if (r >= 0)
                r = machine_lock(&m, e);
        if (r < 0)
                return r;
        slot_set_mark_bad(&m.state.set, 1, REASON_HEALTH);
        return machine_save(&m, e);
}

/* No slot can boot, and a person tries the first one on the recovery page. */
int have_page(struct error *e)
{
        page_key = '2'; /* behind "again" */
        return leave_bad(e);
}

int stop_in_switch(struct error *e)
{
        int r = lose_entry(e);
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;

        if (r >= 0)
                r = open_machine(&m, "", e);
        if (r >= 0)
                r = machine_lock(&m, e);
        if (r < 0)
                return r;
        m.state.set.phase = SWITCH_SWITCHING;
        m.state.set.slots[1].state = SLOT_INSTALLED;
        m.state.set.operation_state = OPERATION_STAGED;
        return machine_save(&m, e);
}
