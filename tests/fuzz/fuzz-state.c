/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The state record: two copies, the newest of them, what it says written and read again, and what is decided by it at boot.
 * The first byte says which of the two CRCs are repaired. */
#include "fuzz.h"

#include "operation/boot.h"

#define CRC_OFFSET  28
#define HEADER_SIZE 32

static void repair(uint8_t *copy)
{
        uint32_t length = get_le32(copy + 12);

        if (length <= STATE_COPY_SIZE - HEADER_SIZE)
                put_le32(copy + CRC_OFFSET, crc32c(crc32c(0, copy, CRC_OFFSET), copy + HEADER_SIZE, length));
}

static void check_decoded(const struct state *s)
{
        uint8_t copy[STATE_COPY_SIZE], again[STATE_COPY_SIZE];
        struct state second;

        must(slot_set_check(&s->set, NULL) == 0);
        must(s->n_extra <= sizeof(s->extra));
        state_encode(s, copy);
        must(state_decode(copy, &second) == 0);
        must(second.sequence == s->sequence && second.n_extra == s->n_extra);
        must(memcmp(second.extra, s->extra, s->n_extra) == 0);
        state_encode(&second, again);
        must(memcmp(copy, again, sizeof(copy)) == 0);
}

/* Every record has an answer, and the answer is a record. */
static void check_decision(const struct state *s, struct input *in)
{
        struct loader_entry entries[] = {
                { .generation = s->set.generation, .slot = 0, .tries_left = take_byte(in) % 5 - 1, .usable = true },
                { .generation = s->set.target_generation, .slot = 1, .tries_left = take_byte(in) % 5 - 1, .usable = true },
        };
        uint8_t bits = take_byte(in);
        struct boot_input input = {
                .slot = bits & 1 ? take_byte(in) % 3 - 1 : 0,
                .generation = bits & 2 ? s->set.generation : take_byte(in),
                .now = UINT64_C(1790000000000000),
                .set = s->set,
                .entries = entries,
                .n_entries = bits >> 2 & 3 ? (size_t)(bits >> 2 & 3) - 1 : 0,
                .entries_known = bits & 16,
                .root_failed = bits & 32 ? REASON_ROOT_MOUNT : REASON_NONE,
        };
        struct boot_decision d;

        /* No room for a further switch is refused when it is saved. */
        if (input.slot >= s->set.n_slots || s->set.generation == GENERATION_MAX)
                return;
        boot_decide(&input, &d);
        must(d.found >= 0 && d.found < _BOOT_FOUND_MAX && boot_found_to_string(d.found));
        if (d.save)
                must(slot_set_check(&d.set, NULL) == 0);
        must(d.set.generation >= s->set.generation);
        if (d.action == BOOT_REBOOT)
                must(d.switch_to >= 0 && d.switch_to < d.set.n_slots && d.switch_to != d.bad_slot);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        uint8_t copies[2][STATE_COPY_SIZE] = {}, repaired;
        struct state_place place = { .offset = { 0, STATE_COPY_SIZE } };
        struct input in = { data, size };
        struct state loaded, one;
        uint64_t best = 0;
        int fd, r, valid = 0;

        repaired = take_byte(&in);
        for (int i = 0; i < 2; i++) {
                size_t n;
                _cleanup_free_ char *bytes = take_bytes(&in, STATE_COPY_SIZE, false, &n);

                memcpy(copies[i], bytes, n);
                if (!(repaired & 1 << i))
                        repair(copies[i]);
                if (state_decode(copies[i], &one) < 0)
                        continue;
                check_decoded(&one);
                valid++;
                best = MAX(best, one.sequence);
        }
        fd = memory_file(copies, sizeof(copies));
        place.fd[0] = place.fd[1] = fd;
        r = state_load(&place, &loaded, NULL);
        must(r == 0 || r == -ENODATA || r == -EPROTONOSUPPORT);
        must(r != -ENODATA || valid == 0);
        if (r == 0) {
                must(valid > 0 && loaded.sequence == best && loaded.n_valid == valid);
                check_decision(&loaded, &in);
        }
        fd_close(fd);
        return 0;
}
