/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the tests of the state record share: a record in which no two fields are alike, and its checksum. */
#pragma once

#include "base/buf.h"
#include "slot/store.h"

/* Check has a macro of this name. */
#include <check.h>
#undef fail

#define HEADER  32
#define PAYLOAD (128 + SLOT_MAX * 208)

/* Bytes that differ everywhere, so that two fields that changed places are seen. */
static inline void fill(void *to, size_t size, uint8_t from)
{
        for (size_t i = 0; i < size; i++)
                ((uint8_t *)to)[i] = (uint8_t)(from + i);
}

static inline struct state sample(void)
{
        struct state s = { .sequence = UINT64_C(0x1122334455667788) };
        struct slot_set *set = &s.set;

        slot_set_init(set, SLOT_MAX);
        set->generation = UINT64_C(0x3877665544332211);
        set->previous = 1;
        set->phase = SWITCH_SWITCHED;
        set->target = 3;
        set->target_generation = UINT64_C(0x0102030405060708);
        fill(set->operation_id, sizeof(set->operation_id), 0x30);
        set->operation = OPERATION_ACTIVATE;
        set->operation_state = OPERATION_FAILED;
        set->operation_reason = REASON_DEADLINE;
        set->operation_automatic = true;
        set->operation_from = 4;
        set->operation_to = 5;
        set->finalized = true;
        set->floor = UINT64_C(0x1011121314151617);
        for (int i = 0; i < AUTO_ROLLBACK_MEMORY; i++)
                set->auto_rollbacks[i] = UINT64_C(0x2021222324252627) + (uint64_t)i;
        fill(set->refused, DIGEST_SIZE, 0x50);
        for (int i = 0; i < SLOT_MAX; i++) {
                struct slot *slot = &set->slots[i];

                snprintf(slot->version, sizeof(slot->version), "%d.2~rc1", i);
                slot->security_version = UINT64_C(0x3031323334353637) + (uint64_t)i;
                slot->generation = (uint64_t)i + 0x4041;
                fill(slot->digest, DIGEST_SIZE, (uint8_t)(0x60 + i));
                fill(slot->snapshot, DIGEST_SIZE, (uint8_t)(0x80 + i));
                fill(slot->kernel, BOOT_FILE_ID_SIZE, (uint8_t)(0xa0 + i));
                fill(slot->initrd, BOOT_FILE_ID_SIZE, (uint8_t)(0xb0 + i));
                fill(slot->last_boot, sizeof(slot->last_boot), (uint8_t)(0xc0 + i));
                slot->state = SLOT_TRIAL;
                slot->reason = REASON_BOOT_FILES;
                slot->tries = (uint8_t)(i + 1);
                slot->attempts = (uint8_t)(i + 20);
        }
        return s;
}

static inline void seal(uint8_t *copy)
{
        size_t length = get_le32(copy + 12);

        put_le32(copy + 28, crc32c(crc32c(0, copy, 28), copy + HEADER, length));
}
