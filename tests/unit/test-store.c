/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The state record: its bytes, and which bytes are none. */
#include "state-case.h"
#include "suite.h"

START_TEST(every_field_goes_round)
{
        struct state a = sample(), b;
        uint8_t copy[STATE_COPY_SIZE], again[STATE_COPY_SIZE];

        state_encode(&a, copy);
        ck_assert_int_eq(state_decode(copy, &b), 0);
        ck_assert_uint_eq(b.sequence, a.sequence);
        ck_assert_uint_eq(b.n_extra, 0);
        ck_assert_int_eq(b.set.n_slots, a.set.n_slots);
        ck_assert_uint_eq(b.set.generation, a.set.generation);
        ck_assert_int_eq(b.set.previous, 1);
        ck_assert_int_eq(b.set.phase, SWITCH_SWITCHED);
        ck_assert_int_eq(b.set.target, 3);
        ck_assert_uint_eq(b.set.target_generation, a.set.target_generation);
        ck_assert_mem_eq(b.set.operation_id, a.set.operation_id, 16);
        ck_assert_int_eq(b.set.operation, OPERATION_ACTIVATE);
        ck_assert_int_eq(b.set.operation_state, OPERATION_FAILED);
        ck_assert_int_eq(b.set.operation_reason, REASON_DEADLINE);
        ck_assert(b.set.operation_automatic && b.set.finalized);
        ck_assert_int_eq(b.set.operation_from, 4);
        ck_assert_int_eq(b.set.operation_to, 5);
        ck_assert_uint_eq(b.set.floor, a.set.floor);
        ck_assert_mem_eq(b.set.auto_rollbacks, a.set.auto_rollbacks, sizeof(a.set.auto_rollbacks));
        ck_assert_mem_eq(b.set.refused, a.set.refused, DIGEST_SIZE);
        for (int i = 0; i < SLOT_MAX; i++) {
                const struct slot *x = &a.set.slots[i], *y = &b.set.slots[i];

                ck_assert_str_eq(x->version, y->version);
                ck_assert_uint_eq(x->security_version, y->security_version);
                ck_assert_uint_eq(x->generation, y->generation);
                ck_assert_mem_eq(x->digest, y->digest, DIGEST_SIZE);
                ck_assert_mem_eq(x->snapshot, y->snapshot, DIGEST_SIZE);
                ck_assert_mem_eq(x->kernel, y->kernel, BOOT_FILE_ID_SIZE);
                ck_assert_mem_eq(x->initrd, y->initrd, BOOT_FILE_ID_SIZE);
                ck_assert_mem_eq(x->last_boot, y->last_boot, 16);
                ck_assert_int_eq(x->state, y->state);
                ck_assert_int_eq(x->reason, y->reason);
                ck_assert_int_eq(x->tries, y->tries);
                ck_assert_int_eq(x->attempts, y->attempts);
        }
        state_encode(&b, again);
        ck_assert_mem_eq(copy, again, STATE_COPY_SIZE);
}
END_TEST

START_TEST(each_flag_and_none_has_its_own_bit)
{
        struct state a = sample(), b;
        uint8_t copy[STATE_COPY_SIZE];

        for (int flags = 0; flags < 8; flags++) {
                a.set.operation_automatic = flags & 1;
                a.set.finalized = flags & 2;
                a.set.once = flags & 4;
                state_encode(&a, copy);
                ck_assert_int_eq(copy[HEADER + 7], flags);
                ck_assert_int_eq(state_decode(copy, &b), 0);
                ck_assert_int_eq(b.set.operation_automatic, flags & 1);
                ck_assert_int_eq(b.set.finalized, flags >> 1 & 1);
                ck_assert_int_eq(b.set.once, flags >> 2);
        }
        a.set.previous = a.set.target = a.set.operation_from = a.set.operation_to = SLOT_NONE;
        a.set.phase = SWITCH_NONE;
        state_encode(&a, copy);
        ck_assert_int_eq(copy[HEADER + 1], 0xff);
        ck_assert_int_eq(copy[HEADER + 3], 0xff);
        ck_assert_int_eq(state_decode(copy, &b), 0);
        ck_assert_int_eq(b.set.previous, SLOT_NONE);
        ck_assert_int_eq(b.set.target, SLOT_NONE);
        ck_assert_int_eq(b.set.operation_from, SLOT_NONE);
        ck_assert_int_eq(b.set.operation_to, SLOT_NONE);
}
END_TEST

/* What disks hold must never move: the offsets of the format, in bytes, not through the codec. */
static const struct {
        size_t offset;
        const char *hex;
} golden[] = {
        { 0, "424f4f544d475253" },        /* "BOOTMGRS" */
        { 8, "0100" },                    /* major */
        { 10, "0000" },                   /* minor */
        { 12, "00070000" },               /* payload: 128 + 8 * 208 */
        { 16, "8877665544332211" },       /* sequence */
        { 24, "00000000" },               /* reserved */
        { 32 + 0, "080102030304080304" }, /* slots, previous, phase, target, operation, its state, reason, flags, from */
        { 32 + 9, "05" },                 /* to */
        { 32 + 16, "1122334455667738" },  /* generation */
        { 32 + 24, "0807060504030201" },  /* generation of the target */
        { 32 + 32, "1716151413121110" },  /* floor */
        { 32 + 40, "303132333435363738393a3b3c3d3e3f" },
        { 32 + 56, "2726252423222120" }, /* automatic rollbacks */
        { 32 + 80, "2a26252423222120" },
        { 32 + 88, "505152" },             /* refused */
        { 160 + 0, "302e327e72633100" },   /* slot a: "0.2~rc1" */
        { 160 + 64, "3736353433323130" },  /* security version */
        { 160 + 72, "4140000000000000" },  /* generation */
        { 160 + 80, "606162" },            /* digest */
        { 160 + 112, "808182" },           /* snapshot */
        { 160 + 144, "a0a1a2" },           /* kernel */
        { 160 + 160, "b0b1b2" },           /* initrd */
        { 160 + 176, "c0c1c2" },           /* last boot */
        { 160 + 192, "030b0114" },         /* state, reason, tries, attempts */
        { 160 + 7 * 208 + 0, "372e327e" }, /* slot h */
        { 160 + 7 * 208 + 192, "030b081b" },
        { 160 + 8 * 208, "0000000000000000" },
};

START_TEST(golden_bytes)
{
        struct state a = sample();
        uint8_t copy[STATE_COPY_SIZE], bytes[32];
        size_t n = strlen(golden[_i].hex) / 2;

        state_encode(&a, copy);
        ck_assert_int_eq(hex_decode(golden[_i].hex, bytes, n), 0);
        ck_assert_mem_eq(copy + golden[_i].offset, bytes, n);
}
END_TEST

/* CRC-32C of the header without itself and the payload, bit by bit. */
START_TEST(checksum)
{
        struct state a = sample();
        uint8_t copy[STATE_COPY_SIZE];
        uint32_t crc = ~0u;

        state_encode(&a, copy);
        for (size_t i = 0; i < HEADER + PAYLOAD; i++) {
                if (i >= 28 && i < 32)
                        continue;
                crc ^= copy[i];
                for (int bit = 0; bit < 8; bit++)
                        crc = crc & 1 ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
        }
        ck_assert_uint_eq(get_le32(copy + 28), ~crc);
}
END_TEST

/* Each byte, each bit of it and all of them: not a record any more, or (behind its end) the same record. */
START_TEST(each_damaged_byte_is_detected)
{
        struct state a = sample(), b;
        uint8_t copy[STATE_COPY_SIZE], whole[STATE_COPY_SIZE];

        state_encode(&a, whole);
        for (size_t i = 0; i < STATE_COPY_SIZE; i++)
                for (int bit = 0; bit <= 8; bit++) {
                        int r;

                        memcpy(copy, whole, sizeof(copy));
                        copy[i] ^= (uint8_t)(bit < 8 ? 1 << bit : 0xff);
                        r = state_decode(copy, &b);
                        ck_assert_msg(r == (i < HEADER + PAYLOAD ? -EBADMSG : 0), "byte %zu, bit %d: %d", i, bit, r);
                }
}
END_TEST

/* What somebody who can write to the partition would do: the checksum is right. */
START_TEST(hostile_records_are_none)
{
        static const struct {
                size_t offset;
                uint64_t value;
        } rows[] = {
                { 16, 0 },                           /* sequence: never written */
                { 16, UINT64_MAX },                  /* the next would be older: no write would have an effect */
                { 16, (UINT64_C(1) << 63) + 1 },     /* */
                { HEADER + 16, UINT64_MAX },         /* generation: the next would be 0 */
                { HEADER + 24, GENERATION_MAX + 1 }, /* of the target */
                { 160, UINT64_C(0x78756e696c0a31) }, /* version "1\nlinux": a line of a boot entry */
                { 160, UINT64_C(0x2f2e2e) },         /* version "../" */
        };
        struct state a = sample(), b = { .sequence = 77 };
        uint8_t copy[STATE_COPY_SIZE];

        state_encode(&a, copy);
        put_le64(copy + rows[_i].offset, rows[_i].value);
        seal(copy);
        ck_assert_int_eq(state_decode(copy, &b), -EBADMSG);
        ck_assert_uint_eq(b.sequence, 77);
}
END_TEST

START_TEST(what_cannot_be_is_no_record)
{
        struct state a = sample(), b = { .sequence = 77 };
        uint8_t copy[STATE_COPY_SIZE];

        state_encode(&a, copy);
        copy[HEADER] = 9; /* slots */
        seal(copy);
        ck_assert_int_eq(state_decode(copy, &b), -EBADMSG);
        state_encode(&a, copy);
        copy[160 + 192] = 99; /* state of slot a */
        seal(copy);
        ck_assert_int_eq(state_decode(copy, &b), -EBADMSG);
        state_encode(&a, copy);
        put_le16(copy + 8, 2);
        seal(copy);
        ck_assert_int_eq(state_decode(copy, &b), -EPROTONOSUPPORT);
        state_encode(&a, copy);
        put_le32(copy + 12, PAYLOAD - 1);
        seal(copy);
        ck_assert_int_eq(state_decode(copy, &b), -EPROTONOSUPPORT);
        put_le32(copy + 12, UINT32_MAX);
        ck_assert_int_eq(state_decode(copy, &b), -EBADMSG);
        put_le32(copy + 12, STATE_COPY_SIZE - HEADER + 1);
        ck_assert_int_eq(state_decode(copy, &b), -EBADMSG);
        ck_assert_uint_eq(b.sequence, 77); /* untouched */
        /* A newer program may know more reasons and use what is reserved: still a record. */
        state_encode(&a, copy);
        copy[160 + 193] = 200;
        put_le16(copy + 10, 5);
        seal(copy);
        ck_assert_int_eq(state_decode(copy, &b), 0);
        ck_assert_int_eq(b.set.slots[0].reason, 200);
        memset(copy + 160, 'v', SLOT_VERSION_SIZE); /* a version that does not end is ended */
        seal(copy);
        ck_assert_int_eq(state_decode(copy, &b), 0);
        ck_assert_uint_eq(strlen(b.set.slots[0].version), SLOT_VERSION_SIZE - 1);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("store");
        TCase *t = tcase_create("store");

        tcase_set_timeout(t, 60);
        tcase_add_test(t, every_field_goes_round);
        tcase_add_test(t, each_flag_and_none_has_its_own_bit);
        tcase_add_loop_test(t, golden_bytes, 0, (int)ARRAY_SIZE(golden));
        tcase_add_test(t, checksum);
        tcase_add_test(t, each_damaged_byte_is_detected);
        tcase_add_test(t, what_cannot_be_is_no_record);
        tcase_add_loop_test(t, hostile_records_are_none, 0, 7);
        suite_add_tcase(s, t);
        return suite_run(s);
}
