/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The owner marker: DATA/owner, "key=value" lines, replaced atomically, readable without any library.
 *
 * The rule at every boot (design section 3), decided by owner_decide() and carried out by
 * owner_apply(): the configuration always belongs to the booted version before anything reads it.
 *
 *      owner is …                         booted slot has a snapshot    has none
 *      the booted version                 nothing                       nothing
 *      another version, whole             restore its snapshot          take over: migrate
 *      being restored for the booted one  go on restoring               go on (take over: restore the
 *                                                                       former owner's, migrate again)
 *      being changed for another          restore its snapshot          restore former owner's, migrate
 *      there is no marker                 nothing: it becomes the owner (first boot of a machine)
 */
#pragma once

#include "slot/config.h"
#include "snapshot/snapshot.h"

enum owner_phase { OWNER_NONE, OWNER_OWNED, OWNER_RESTORING, OWNER_MIGRATING };

struct owner {
        enum owner_phase phase;
        int slot;
        char version[SLOT_VERSION_SIZE];
        uint64_t generation;
        /* while RESTORING or MIGRATING: whose configuration it was */
        int from_slot;
        char from_version[SLOT_VERSION_SIZE];
        uint8_t from_snapshot[DIGEST_SIZE]; /* sealed when `from` was left; zeros: none */
};

int owner_read(int data, struct owner *ret, struct error *e); /* missing: phase OWNER_NONE, success */
int owner_write(int data, const struct owner *o, struct error *e);

enum owner_action { OWNER_NOTHING, OWNER_ADOPT, OWNER_RESTORE, OWNER_MIGRATE, OWNER_RESTORE_AND_MIGRATE };

/* Pure. `snapshot_of_former`: the record's snapshot digest of the slot the marker names (zeros: none). */
enum owner_action owner_decide(const struct owner *o, const struct slot *booted, int booted_slot);

/* Carries it out for the booted slot: marker, restore, hooks in hook_directory (each executable file in
 * order, with BOOTMGR_FROM_VERSION, BOOTMGR_TO_VERSION, BOOTMGR_SLOT, BOOTMGR_DATA in its
 * environment; stops at the first that fails: kind_hook). `done` becomes what was done. */
int owner_apply(const struct snapshot_place *place, const struct config *config, const struct slot_set *set, int booted_slot,
                uint64_t generation, const char *hook_directory, struct progress *progress, enum owner_action *done,
                struct error *e);
