/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the tests of the boot-time decision share: states of slots, and a machine that was upgraded. */
#pragma once

#include "base/buf.h"
#include "base/log.h"
#include "operation/boot.h"

/* Check has a macro of this name. */
#include <check.h>
#undef fail

#define GENERATION_A   7
#define GENERATION_B   8
#define GENERATION_NEW 9

static const uint8_t this_boot[16] = { 1 }, other_boot[16] = { 2 };

static const struct {
        enum slot_state state;
        uint8_t attempts;
} states[] = {
        { SLOT_EMPTY, 0 }, { SLOT_INCOMPLETE, 0 }, { SLOT_INSTALLED, 0 }, { SLOT_TRIAL, 0 },
        { SLOT_TRIAL, 2 }, { SLOT_TRIAL, 3 },      { SLOT_CONFIRMED, 0 }, { SLOT_BAD, 0 },
};
#define N_STATES ARRAY_SIZE(states)

static inline void put_slot(struct slot *slot, size_t state, uint64_t generation)
{
        static const enum slot_reason reasons[_SLOT_STATE_MAX] = {
                [SLOT_INCOMPLETE] = REASON_WRITING,
                [SLOT_BAD] = REASON_HEALTH,
        };

        *slot = (struct slot){ .state = states[state].state,
                               .reason = reasons[states[state].state],
                               .generation = states[state].state <= SLOT_INCOMPLETE ? 0 : generation,
                               .attempts = states[state].attempts,
                               .tries = states[state].state == SLOT_TRIAL ? 3 : 0 };
        snprintf(slot->version, sizeof(slot->version), "%d", (int)generation);
        memset(slot->digest, (int)generation, DIGEST_SIZE);
        memset(slot->kernel, (int)generation, BOOT_FILE_ID_SIZE);
}

struct case_ {
        struct boot_input in;
        struct loader_entry entries[4];
        struct boot_decision d;
};

/* Upgraded from a (generation 7) to b (generation 8, on trial); `runs` boots. */
static inline void upgraded(struct case_ *c, int runs)
{
        struct slot_set *set = &c->in.set;

        *c = (struct case_){
                .in = { .slot = runs, .generation = runs ? GENERATION_B : GENERATION_A, .now = 5, .entries_known = true }
        };
        memcpy(c->in.boot_id, this_boot, 16);
        slot_set_init(set, 2);
        put_slot(&set->slots[0], 6, GENERATION_A);
        put_slot(&set->slots[1], 3, GENERATION_B);
        set->generation = set->target_generation = GENERATION_B;
        set->phase = SWITCH_SWITCHED;
        set->target = 1;
        set->previous = 0;
        set->operation = OPERATION_UPGRADE;
        set->operation_state = OPERATION_RUNNING;
        set->operation_from = 0;
        set->operation_to = 1;
        c->entries[0] = (struct loader_entry){ GENERATION_B, 1, 3, 0, true, {}, {}, "" };
        c->entries[1] = (struct loader_entry){ GENERATION_A, 0, -1, 0, true, {}, {}, "" };
        c->in.entries = c->entries;
        c->in.n_entries = 2;
}

static inline void run(struct case_ *c, enum boot_found found, enum boot_action action)
{
        boot_decide(&c->in, &c->d);
        ck_assert_str_eq(boot_found_to_string(c->d.found), boot_found_to_string(found));
        ck_assert_int_eq(c->d.action, action);
}

/* b was upgraded to and is confirmed, and yet a boots. */
static inline void older_runs(struct case_ *c, enum boot_start start)
{
        upgraded(c, 0);
        slot_set_confirm(&c->in.set, 1);
        c->in.set.operation_state = OPERATION_DONE;
        c->entries[0].tries_left = -1;
        c->in.start = start;
}
