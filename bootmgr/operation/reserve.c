/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "operation/reserve.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/io.h"
#include "base/log.h"
#include "snapshot/owner.h"

#define OF_SEAL     "snapshots-reserve"
#define OF_RECORD   "operations-reserve"
#define RECORD_SIZE KIB(256) /* its steps, written anew at each, and the journal of a restore */

static const char *const names[] = { OF_RECORD, OF_SEAL };

uint64_t reserve_held(const struct machine *m)
{
        uint64_t sum = 0;
        struct stat st;

        for (size_t i = 0; m->snapshots.data >= 0 && i < ARRAY_SIZE(names); i++)
                if (fstatat(m->snapshots.data, names[i], &st, AT_SYMLINK_NOFOLLOW) == 0)
                        sum += (uint64_t)st.st_blocks * 512;
        return sum;
}

static bool is_held(const struct machine *m, const char *name)
{
        struct stat st;

        return fstatat(m->snapshots.data, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_size > 0;
}

/* Takes no more than `room`, and that off it. What is allocated in part only is given back: it would be everybody's last
 * room. What was held before stays. */
static void hold(struct machine *m, const char *name, uint64_t size, uint64_t *room)
{
        _cleanup_close_ int fd = io_open(m->snapshots.data, name, O_RDWR | O_CREAT, 0600);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
                return;
        size = MIN(size, (uint64_t)st.st_size + *room);
        if ((uint64_t)st.st_size >= size)
                return;
        if (io_allocate(fd, size) >= 0) {
                *room -= size - (uint64_t)st.st_size;
                return;
        }
        log_debug("no room could be held for the way back");
        if (st.st_size == 0 || io_truncate(fd, (uint64_t)st.st_size) < 0)
                io_unlink(m->snapshots.data, name, 0);
}

void reserve_hold(struct machine *m, uint64_t leave)
{
        struct statvfs st;
        uint64_t seal, record, half, room;

        if (m->snapshots.data < 0 || snapshot_estimate(&m->snapshots, m->config.shared, &seal, NULL) < 0 ||
            fstatvfs(m->snapshots.data, &st) < 0)
                return;
        room = (uint64_t)st.f_bavail * st.f_frsize;
        room -= MIN(room, leave);
        half = (room + reserve_held(m)) / 2;
        record = MIN(RECORD_SIZE, half);
        hold(m, OF_RECORD, record, &room);
        /* What is given up is sealed, and what comes back is unpacked beside it. */
        hold(m, OF_SEAL, MIN(2 * seal, half - record), &room);
}

static bool is_wanted(const struct machine *m)
{
        const struct slot_set *set = &m->state.set;

        return set->previous != SLOT_NONE || (m->booted != SLOT_NONE && set->slots[m->booted].state == SLOT_TRIAL);
}

/* What waits for the shutdown was prepared with the room for its steps: that stays free. */
static bool is_staged(const struct machine *m)
{
        return m->state.set.operation_state == OPERATION_STAGED;
}

void reserve_keep(struct machine *m)
{
        if (!is_wanted(m))
                reserve_release(m);
        else if (m->snapshots.data >= 0 && (!is_held(m, OF_SEAL) || (!is_staged(m) && !is_held(m, OF_RECORD))))
                reserve_hold(m, 0);
}

void reserve_renew(struct machine *m)
{
        if (!is_wanted(m))
                reserve_release(m);
        else if (!is_staged(m))
                reserve_hold(m, 0);
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

/* A first boot: its hooks change what the shutdown has sealed as the former version's. */
static bool is_to_migrate(const struct machine *m, const struct owner *owner)
{
        const struct slot_set *set = &m->state.set;

        return owner_decide(owner, &set->slots[m->booted], m->booted) == OWNER_MIGRATE &&
               set->slots[m->booted].state == SLOT_TRIAL && owner->slot < set->n_slots &&
               streq(owner->version, set->slots[owner->slot].version) && slot_has_snapshot(&set->slots[owner->slot]);
}

void reserve_at_boot(struct machine *m)
{
        struct owner owner;

        if (m->snapshots.data < 0 || owner_read(m->snapshots.data, &owner, NULL) < 0)
                return;
        if (is_to_migrate(m, &owner))
                reserve_keep(m);
        else if (owner_decide(&owner, &m->state.set.slots[m->booted], m->booted) != OWNER_NOTHING)
                reserve_release(m);
}
