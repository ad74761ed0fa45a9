/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A node, and what it is told: an engine that is in place, where a test begins. */
#pragma once

#include "cluster.h"
#include "cluster/participant.h"

static struct cluster_record record;
static struct cluster_operation operation;
static struct slot_set set;
static struct journal journal;
static struct participant_input in;

static void put_slot(int slot, unsigned v, enum slot_state state, uint64_t generation)
{
        struct version_id id = version(v);

        set.slots[slot] = (struct slot){ .state = state, .generation = generation, .tries = state == SLOT_TRIAL ? 3 : 0 };
        memcpy(set.slots[slot].version, id.version, sizeof(id.version));
        memcpy(set.slots[slot].digest, id.digest, sizeof(id.digest));
}

/* An engine in place: the record has version 2 in epoch 5; slot b runs it (generation 8), slot a holds version 1 (7). */
static void setup(void)
{
        record = (struct cluster_record){ .epoch = 5, .running = version(2), .previous = version(1), .previous_epoch = 3 };
        operation = (struct cluster_operation){ .id = { 9 }, .kind = OPERATION_ROLLBACK, .phase = PHASE_PREPARE };
        journal = (struct journal){ .attempted = 5, .attempted_generation = 7, .reached = 5 };
        slot_set_init(&set, 2);
        set.generation = 8;
        set.previous = 0;
        put_slot(0, 1, SLOT_CONFIRMED, 7);
        put_slot(1, 2, SLOT_CONFIRMED, 8);
        in = (struct participant_input){ .member = true,
                                         .asked = true,
                                         .role = ROLE_ENGINE,
                                         .revision = 50,
                                         .record = &record,
                                         .set = &set,
                                         .slot = 1,
                                         .journal = &journal };
}

/* The commit of the rollback to version 1: there is nothing to go back to then. */
static void commit(enum cluster_phase phase)
{
        record.epoch = 6;
        record.running = version(1);
        record.previous = (struct version_id){};
        record.origin = ORIGIN_COMMIT;
        operation.phase = phase;
        operation.epoch = 6;
        operation.controllers_at = 100;
        operation.engines_at = phase == PHASE_CONTROLLERS ? 0 : 200;
        in.operation = &operation;
}

static struct participant_decision decide(void)
{
        struct participant_decision d;

        participant_decide(&in, &d);
        ck_assert_int_eq(slot_set_check(&set, NULL), 0);
        return d;
}

static void expect(enum participant_stand stand, enum participant_hears hears, enum participant_action action)
{
        struct participant_decision d = decide();

        ck_assert_str_eq(participant_stand_to_string(d.stand), participant_stand_to_string(stand));
        ck_assert_str_eq(participant_hears_to_string(d.hears), participant_hears_to_string(hears));
        ck_assert_str_eq(participant_action_to_string(d.action), participant_action_to_string(action));
}

static void stage(int slot)
{
        memset(journal.staged, 4, sizeof(journal.staged));
        memset(set.operation_id, 4, sizeof(set.operation_id));
        set.operation_state = OPERATION_STAGED;
        set.operation = OPERATION_ROLLBACK;
        set.operation_from = in.slot;
        set.operation_to = slot;
}
