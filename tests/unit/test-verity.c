/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is known of a root's hash tree, on its way from the manifest to the kernel: the word on the command line, the record,
 * the entry, the device's table. That the tree is right is judged by others' tools: tests/cli/26-verity.sh. */
#include "base/buf.h"
#include "loader/entry.h"
#include "operation/boot.h"
#include "state-case.h"
#include "storage/verified.h"
#include "suite.h"

#define HASH "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static struct verity tree(void)
{
        struct verity v;

        ck_assert_int_eq(verity_parse("65536:" HASH, &v), 0);
        return v;
}

START_TEST(sizes_are_those_of_the_format)
{
        static const struct {
                uint64_t blocks, all; /* of filesystem, superblock and tree */
        } rows[] = {
                { 1, 2 },
                { 2, 2 + 1 + 1 },
                { 128, 128 + 1 + 1 },
                { 129, 129 + 1 + 2 + 1 },
                { 16384, 16384 + 1 + 128 + 1 },
                { 16385, 16385 + 1 + 129 + 2 + 1 },
                { VERITY_MAX, VERITY_MAX + 1 + (VERITY_MAX >> 7) + (VERITY_MAX >> 14) + (1 << 17) + (1 << 10) + 8 + 1 },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                ck_assert_uint_eq(verity_size(rows[i].blocks), rows[i].all * VERITY_BLOCK);
}
END_TEST

START_TEST(the_word_goes_round_and_nothing_else_is_one)
{
        static const char *const others[] = {
                "",
                ":",
                "1",
                "1:",
                ":" HASH,
                "0:" HASH,
                "01:" HASH,
                " 1:" HASH,
                "1: " HASH,
                "1:" HASH " ",
                "-1:" HASH,
                "+1:" HASH,
                "1:" HASH "0",
                "1::" HASH,
                "0x1:" HASH,
                "1:00112233",
                "1:" HASH ":",
                "1," HASH,
                "99999999999999999999999999:" HASH,
                "274877906945:" HASH,
                "1:00112233445566778899AABBCCDDEEFF00112233445566778899aabbccddeeff",
        };
        struct verity v = { .blocks = 4711 };
        char text[VERITY_TEXT_SIZE];

        for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
                ck_assert_msg(verity_parse(others[i], &v) == -EINVAL, "taken: %s", others[i]);
                ck_assert_uint_eq(v.blocks, 4711);
        }
        ck_assert_int_eq(verity_parse("274877906944:" HASH, &v), 0);
        ck_assert_uint_eq(v.blocks, VERITY_MAX);
        verity_format(&v, text);
        ck_assert_str_eq(text, "274877906944:" HASH);
}
END_TEST

START_TEST(a_command_line_has_it_or_not)
{
        struct verity v;

        ck_assert_int_eq(verity_from_cmdline("root=PARTUUID=x ro bootmgr.slot=a", &v), -ENOENT);
        ck_assert_int_eq(verity_from_cmdline("xbootmgr.verity=1:" HASH, &v), -ENOENT);
        ck_assert_int_eq(verity_from_cmdline("ro bootmgr.verity=7:" HASH " quiet", &v), 0);
        ck_assert_uint_eq(v.blocks, 7);
        /* What is meant to be verified and cannot be is not a boot without. */
        ck_assert_int_eq(verity_from_cmdline("ro bootmgr.verity=7:00", &v), -EINVAL);
        ck_assert_int_eq(verity_from_cmdline("ro bootmgr.verity", &v), -EINVAL);
}
END_TEST

START_TEST(the_record_keeps_it)
{
        struct state a = sample(), b;
        uint8_t copy[STATE_COPY_SIZE], again[STATE_COPY_SIZE];

        state_encode(&a, copy);
        ck_assert_uint_eq(get_le32(copy + 12), PAYLOAD); /* without one it is as it always was */
        a.set.slots[3].verity = tree();
        state_encode(&a, copy);
        ck_assert_uint_eq(get_le32(copy + 12), PAYLOAD + SLOT_MAX * 64);
        ck_assert_int_eq(state_decode(copy, &b), 0);
        for (int i = 0; i < SLOT_MAX; i++)
                ck_assert_uint_eq(b.set.slots[i].verity.blocks, i == 3 ? 65536 : 0);
        ck_assert_mem_eq(&b.set.slots[3].verity, &a.set.slots[3].verity, sizeof(struct verity));
        state_encode(&b, again);
        ck_assert_mem_eq(copy, again, STATE_COPY_SIZE);
        /* One that does not know the table writes another version into the slot, and leaves the table. */
        copy[HEADER + 128 + 3 * 208 + 80] ^= 1;
        seal(copy);
        ck_assert_int_eq(state_decode(copy, &b), 0);
        ck_assert(!verity_is_set(&b.set.slots[3].verity));
        copy[HEADER + 128 + 3 * 208 + 80] ^= 1;
        put_le64(copy + HEADER + PAYLOAD + 3 * 64 + 32, VERITY_MAX + 1);
        seal(copy);
        ck_assert_int_eq(state_decode(copy, &b), 0);
        ck_assert(!verity_is_set(&b.set.slots[3].verity));
}
END_TEST

START_TEST(a_new_write_forgets_it)
{
        struct state a = sample();

        a.set.slots[3].verity = tree();
        slot_set_begin_write(&a.set, 3);
        ck_assert(!verity_is_set(&a.set.slots[3].verity));
}
END_TEST

/* In the initramfs as well, where nothing but the record is at hand. */
START_TEST(each_entry_of_the_slot_names_it)
{
        struct state a = sample();
        struct disk disk = { .n_slots = SLOT_MAX };
        struct entry_spec spec;
        struct verity found;
        struct entry entry;
        char *text;

        strcpy(disk.slots[3].uuid, "11111111-2222-3333-4444-555555555555");
        a.set.slots[3].verity = tree();
        spec = boot_entry_spec(&disk, &a.set, 3, 8, "quiet", false);
        ck_assert_int_eq(entry_format(&spec, &text, NULL), 0);
        ck_assert_msg(strstr(text, " bootmgr.generation=8 bootmgr.verity=65536:" HASH " quiet\n"), "%s", text);
        ck_assert_int_eq(entry_parse("bootmgr-8-d.conf", text, strlen(text), &entry), 0);
        ck_assert_int_eq(verity_from_cmdline(entry.options, &found), 0);
        ck_assert_mem_eq(&found, &a.set.slots[3].verity, sizeof(found));
        entry_done(&entry);
        free(text);
        spec = boot_entry_spec(&disk, &a.set, 2, 8, "quiet", false);
        ck_assert_int_eq(entry_format(&spec, &text, NULL), 0);
        ck_assert_ptr_null(strstr(text, "verity"));
        free(text);
}
END_TEST

/* A record that was lost gets it from the entries. */
START_TEST(entries_tell_it_to_a_lost_record)
{
        struct loader_entry entry = { .generation = 8, .slot = 1, .tries_left = -1, .usable = true, .version = "2" };
        struct boot_input in = {
                .slot = 1, .generation = 8, .record_lost = true, .entries = &entry, .n_entries = 1, .entries_known = true
        };
        struct boot_decision d;

        entry.verity = tree();
        slot_set_init(&in.set, 2);
        boot_decide(&in, &d);
        ck_assert_int_eq(d.found, BOOT_FOUND_LOST);
        ck_assert_mem_eq(&d.set.slots[1].verity, &entry.verity, sizeof(entry.verity));
}
END_TEST

/* Documentation/admin-guide/device-mapper/verity.rst: version, data device, hash device, their block sizes, blocks of data,
 * first block of the tree, algorithm, root hash, salt. */
START_TEST(the_kernel_is_told_all_of_it)
{
        char text[VERIFIED_TABLE_SIZE];
        struct verity v = tree();

        verified_root_table(&v, 254, 3, text);
        ck_assert_str_eq(text, "1 254:3 254:3 4096 4096 65536 65537 sha256 " HASH " -");
        v.blocks = VERITY_MAX;
        verified_root_table(&v, UINT32_MAX, UINT32_MAX, text);
        ck_assert_ptr_nonnull(strstr(text, HASH " -"));
}
END_TEST

int main(void)
{
        Suite *s = suite_create("verity");
        TCase *t = tcase_create("verity");

        tcase_add_test(t, sizes_are_those_of_the_format);
        tcase_add_test(t, the_word_goes_round_and_nothing_else_is_one);
        tcase_add_test(t, a_command_line_has_it_or_not);
        tcase_add_test(t, the_record_keeps_it);
        tcase_add_test(t, a_new_write_forgets_it);
        tcase_add_test(t, each_entry_of_the_slot_names_it);
        tcase_add_test(t, entries_tell_it_to_a_lost_record);
        tcase_add_test(t, the_kernel_is_told_all_of_it);
        suite_add_tcase(s, t);
        return suite_run(s);
}
