/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whether there is room to leave a slot for another one. Its shutdown seals the configuration; the boot keeps it as
 * discarded, and restores the other one beside it. Without room for the seal the shutdown gives the switch up; without room
 * for the rest the version comes up in the degraded target. Who goes there because he must, an automatic rollback, is asked
 * for none. */
#include <sys/statvfs.h>

#include "base/buf.h"
#include "operation/check.h"
#include "operation/reserve.h"
#include "operation/steps.h"
#include "slot/kinds.h"
#include "snapshot/owner.h"

#define BLOCK UINT64_C(4096) /* the part of one that a file or a directory takes more than it holds */
#define TRIES 3

struct need {
        unsigned archives; /* of what is there: the seal, and the discarded one */
        uint64_t back;     /* of what is restored; 0: nothing is */
        uint64_t sum;
};

static void add_up(struct need *need, uint64_t archive)
{
        need->sum = need->archives * (archive + 2 * BLOCK) + need->back; /* and the description of each */
}

/* As the shutdown will find it (switch.c), and the boot (snapshot/owner.h). */
static int count_archives(struct machine *m, int from, int to, bool restores, struct need *need, struct error *e)
{
        const struct slot_set *set = &m->state.set;
        struct owner owner;
        bool seals, is_there;
        int r = owner_read(m->snapshots.data, &owner, e);

        if (r < 0)
                return r;
        seals = from != SLOT_NONE && slot_is_known(&set->slots[from]) &&
                (owner.phase == OWNER_NONE || (owner.phase == OWNER_OWNED && owner.slot == from));
        is_there = owner.phase == OWNER_OWNED && owner.slot == to && streq(owner.version, set->slots[to].version);
        need->archives = seals + (restores && !is_there);
        if (!restores || is_there)
                need->back = 0;
        return 0;
}

/* Services run: what is cut short under the look is looked at again; `archive` is what it takes at most. */
static int measure(struct machine *m, const struct snapshot *s, uint64_t archive, struct need *need, struct error *e)
{
        uint8_t now[DIGEST_SIZE] = {};
        int r = -EAGAIN;

        for (int i = 0; i < TRIES && r == -EAGAIN; i++) {
                error_done(e);
                r = snapshot_measure(&m->snapshots, m->config.shared, &archive, now, e);
        }
        if (r == -EAGAIN)
                error_done(e);
        else if (r < 0)
                return r;
        if (memcmp(now, s->digest, DIGEST_SIZE) == 0) { /* it is what would be restored */
                need->back = 0;
        } else if (need->back > 0) {
                r = snapshot_content(&m->snapshots, s, &need->back, e);
                if (r < 0)
                        return r;
                need->back += s->nodes * BLOCK;
        }
        add_up(need, archive);
        return 0;
}

int check_slot_room(struct machine *m, int slot, bool restores, struct buf *good, struct error *e)
{
        const struct slot *to = &m->state.set.slots[slot];
        _cleanup_snapshot_ struct snapshot s = {};
        struct need need = {};
        struct statvfs st;
        uint64_t archive, room;
        int r = machine_need_data(m, e);

        /* Paths that cannot be sealed fail here: a mount point, say. */
        if (r >= 0)
                r = snapshot_estimate(&m->snapshots, m->config.shared, &archive, e);
        if (r < 0)
                return r;
        if (fstatvfs(m->snapshots.data, &st) < 0)
                return fail_errno(e, -errno, "cannot tell the room in %s", m->data_path);
        room = (uint64_t)st.f_bavail * st.f_frsize + reserve_held(m);
        /* One that cannot be found is another check's. */
        if (restores && snapshot_find(&m->snapshots, to->snapshot, &s, NULL) >= 0)
                need.back = s.bytes + s.nodes * BLOCK;
        r = count_archives(m, machine_reference_slot(m), slot, restores, &need, e);
        if (r < 0)
                return r;
        add_up(&need, archive);
        /* At most so much; only where that is too much is it worth to compress all of it once. */
        if (room < need.sum)
                r = measure(m, &s, archive, &need, e);
        if (r < 0)
                return r;
        if (room < need.sum) {
                fail(e, -ENOSPC, &kind_no_space,
                     "%s has %llu KiB for the way, with what is held for it, and it needs %llu KiB: to seal the "
                     "configuration%s",
                     m->data_path, (unsigned long long)(room / 1024), (unsigned long long)(need.sum / 1024),
                     need.back > 0 ? ", and to restore the other one beside it" : "");
                return fail_hint(e, "make room on the data partition, then try again");
        }
        if (good)
                buf_printf(good, "%llu KiB in %s, with what is held for it; it needs at most %llu KiB",
                           (unsigned long long)(room / 1024), m->data_path, (unsigned long long)(need.sum / 1024));
        return 0;
}
