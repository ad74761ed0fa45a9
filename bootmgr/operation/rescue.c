/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "operation/rescue.h"

#include "base/clock.h"
#include "base/log.h"
#include "operation/boot.h"
#include "operation/messages.h"
#include "operation/rebuild.h"
#include "operation/record.h"
#include "snapshot/owner.h"

#define GIVEN_UP "given up: a version is installed from the rescue system"

/* Generations never go back, also where every entry is gone. */
static void raise_generation(struct machine *m)
{
        struct slot_set *set = &m->state.set;
        struct operation *list = NULL;
        struct owner owner;
        size_t n = 0;

        if (m->snapshots.data < 0)
                return;
        if (owner_read(m->snapshots.data, &owner, NULL) >= 0 && owner.phase != OWNER_NONE)
                set->generation = MAX(set->generation, owner.generation);
        if (operation_history(m, &list, &n, NULL) < 0)
                return;
        for (size_t i = 0; i < n; i++) {
                set->generation = MAX(set->generation, list[i].generation);
                operation_done(&list[i]);
        }
        free(list);
}

/* As the boot of the newest entry would: no slot runs here that could say more. */
static int rebuild(struct machine *m, struct error *e)
{
        _cleanup_free_ struct loader_entry *entries = NULL;
        struct boot_input in = { .now = now_realtime(), .record_lost = true, .set = m->state.set, .entries_known = true };
        struct boot_decision d;
        int r;

        r = machine_list_entries(m, &entries, &in.n_entries, e);
        if (r < 0)
                return r;
        if (in.n_entries > 0) {
                in.entries = entries;
                in.slot = entries[0].slot;
                in.generation = entries[0].generation;
                boot_decide(&in, &d);
                m->state.set = d.set;
        }
        rebuild_record(m);
        raise_generation(m);
        log_event(MESSAGE_STATE_REBUILT, NULL, "both copies of the state record were lost: it was made again from %s",
                  in.n_entries > 0 ? "the boot entries" : "nothing: no boot entry is left either");
        return 0;
}

static int give_up_operation(struct machine *m, struct error *e)
{
        _cleanup_operation_ struct operation op = {};
        struct slot_set *set = &m->state.set;

        if (set->operation_state == OPERATION_RUNNING)
                set->operation_state = OPERATION_FAILED;
        else if (set->operation_state == OPERATION_STAGED)
                set->operation_state = OPERATION_ABORTED;
        if (operation_load_newest(m, &op, NULL) < 0 || op.result != RESULT_IN_PROGRESS)
                return 0;
        operation_end(&op, RESULT_FAILED, GIVEN_UP);
        return operation_save(m, &op, true, e);
}

int rescue_settle(struct machine *m, struct error *e)
{
        int r = m->state_lost ? rebuild(m, e) : 0;

        return r < 0 ? r : give_up_operation(m, e);
}
