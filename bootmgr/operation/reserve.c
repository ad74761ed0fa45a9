/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "operation/reserve.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/log.h"

#define OF_SEAL     "snapshots-reserve"
#define OF_RECORD   "operations-reserve"
#define RECORD_SIZE KIB(256) /* its steps, written anew at each, and the journal of a restore */

static void hold(struct machine *m, const char *name, uint64_t size)
{
        _cleanup_close_ int fd = io_open(m->snapshots.data, name, O_RDWR | O_CREAT, 0600);
        struct stat st;

        if (fd < 0 || (fstat(fd, &st) == 0 && (uint64_t)st.st_size >= size))
                return;
        if (io_allocate(fd, size) >= 0)
                return;
        log_debug("no room could be held for the way back");
        if (fstat(fd, &st) == 0 && st.st_size == 0)
                io_unlink(m->snapshots.data, name, 0);
}

void reserve_hold(struct machine *m)
{
        uint64_t seal;

        if (m->snapshots.data < 0 || snapshot_estimate(&m->snapshots, m->config.shared, &seal, NULL) < 0)
                return;
        hold(m, OF_RECORD, RECORD_SIZE);
        hold(m, OF_SEAL, 2 * seal); /* what is given up is sealed, and what comes back is unpacked beside it */
}

void reserve_keep(struct machine *m)
{
        const struct slot_set *set = &m->state.set;
        bool on_trial = m->booted != SLOT_NONE && set->slots[m->booted].state == SLOT_TRIAL;

        if (set->previous == SLOT_NONE && !on_trial)
                reserve_release(m);
        else if (m->snapshots.data >= 0 && faccessat(m->snapshots.data, OF_SEAL, F_OK, 0) < 0)
                reserve_hold(m);
}

void reserve_release_record(struct machine *m)
{
        if (m->snapshots.data >= 0)
                io_unlink(m->snapshots.data, OF_RECORD, 0);
}

void reserve_release(struct machine *m)
{
        reserve_release_record(m);
        if (m->snapshots.data >= 0)
                io_unlink(m->snapshots.data, OF_SEAL, 0);
}
