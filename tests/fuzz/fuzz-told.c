/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a controller tells a node, and what the node makes of it: whatever it is told, it goes to no version but the
 * record's, and only to a slot that holds it. */
#include "fuzz.h"

#include "base/buf.h"
#include "cluster/participant.h"
#include "cluster/told.h"

/* Slot b runs version 2; slot a holds version 1, whose digests are that byte 32 times. */
static struct slot_set machine(void)
{
        struct slot_set set;

        slot_set_init(&set, 2);
        set.generation = 8;
        set.previous = 0;
        for (int i = 0; i < 2; i++) {
                set.slots[i] = (struct slot){ .state = SLOT_CONFIRMED, .generation = 7 + (uint64_t)i };
                snprintf(set.slots[i].version, sizeof(set.slots[i].version), "%d", i + 1);
                memset(set.slots[i].digest, i + 1, DIGEST_SIZE);
        }
        return set;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_error_ struct error e = {};
        _cleanup_told_ struct told told = {};
        struct slot_set set = machine();
        struct journal journal = { .attempted = 1, .attempted_generation = 7, .reached = 1 };
        struct participant_input in = { .set = &set, .slot = 1, .journal = &journal };
        struct participant_decision d;

        if (told_parse((const char *)data, size, &told, &e) < 0) {
                must(e.message && *e.message);
                return 0;
        }
        must(told.role < ROLE_OPERATOR && told.record.epoch <= CLUSTER_EPOCH_MAX && told.order <= INT64_MAX);
        must(!told.controllers || (startswith(told.controllers, "https://") && !strpbrk(told.controllers, " \"\\")));
        in.member = told.member;
        in.fenced = told.fenced;
        in.asked = told.asked;
        in.role = told.role;
        in.revision = told.revision;
        in.record = &told.record;
        in.operation = told.open ? &told.operation : NULL;
        in.voted = told.voted;
        in.order = told.order;
        participant_decide(&in, &d);
        must(d.stand < _STANDS_MAX && d.hears < _HEARS_MAX && d.action < _PARTICIPANT_ACTION_MAX);
        if (d.action != PARTICIPANT_SWITCH)
                return 0;
        must(told.member && !told.fenced && d.slot == 0 && d.journal.attempted == told.record.epoch);
        must(memcmp(set.slots[0].digest, told.record.running.digest, DIGEST_SIZE) == 0);
        must(told.record.epoch >= journal.reached);
        return 0;
}
