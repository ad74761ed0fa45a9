/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Disks as image files: the slots, the record and the rest found through libblkid, opened as ranges, and locked. */
#include "slot/kinds.h"

#include "disk-case.h"
#include "suite.h"

START_TEST(the_layout_is_found_as_it_was_made)
{
        unsigned sector = _i ? 4096 : 512;
        struct layout_spec spec = spec_for(sector);
        struct layout layout;
        struct disk disk;
        const struct partition *parts[] = { &disk.esp, &disk.state, &disk.slots[0], &disk.slots[1], &disk.data };

        ck_assert_int_eq(layout_make("image", &spec, &layout, NULL), 0);
        find("image", &disk);
        ck_assert(disk.image);
        ck_assert_uint_eq(disk.sector_size, sector);
        ck_assert_int_eq(disk.n_slots, 2);
        ck_assert_uint_eq(layout.n_parts, 5);
        for (size_t i = 0; i < layout.n_parts; i++) {
                ck_assert(parts[i]->present);
                ck_assert_uint_eq(parts[i]->number, i + 1);
                ck_assert_uint_eq(parts[i]->offset, layout.parts[i].offset);
                ck_assert_uint_eq(parts[i]->size, layout.parts[i].size);
                ck_assert_uint_eq(parts[i]->offset % MIB(1), 0);
                ck_assert_str_eq(parts[i]->label, layout.parts[i].label);
                ck_assert_uint_eq(strlen(parts[i]->uuid), 36);
                ck_assert_str_eq(parts[i]->node, "");
                for (size_t j = 0; j < i; j++) {
                        ck_assert_uint_le(parts[j]->offset + parts[j]->size, parts[i]->offset);
                        ck_assert_str_ne(parts[i]->uuid, parts[j]->uuid);
                }
        }
        ck_assert_uint_le(disk.data.offset + disk.data.size, spec.image_size - 33 * sector);
        ck_assert_int_eq(disk_slot_by_partuuid(&disk, disk.slots[1].uuid), 1);
        for (char *p = disk.slots[0].uuid; *p; p++)
                *p = (char)(*p >= 'a' && *p <= 'z' ? *p - 32 : *p);
        ck_assert_int_eq(disk_slot_by_partuuid(&disk, parts[2]->uuid), 0);
        ck_assert_int_eq(disk_slot_by_partuuid(&disk, disk.esp.uuid), SLOT_NONE);
        ck_assert_int_eq(disk_slot_by_partuuid(&disk, ""), SLOT_NONE);
        layout_done(&layout);
}
END_TEST

START_TEST(both_copies_of_the_record_are_made)
{
        struct layout_spec spec = spec_for(512);
        struct state_place place;
        struct state state;
        struct disk disk;

        spec.n_slots = 3;
        make("image", &spec);
        find("image", &disk);
        ck_assert_int_eq(disk.n_slots, 3);
        ck_assert_int_eq(state_place_open(&disk, NULL, O_RDWR, &place, NULL), 0);
        ck_assert_int_eq(state_load(&place, &state, NULL), 0);
        ck_assert_int_eq(state.n_valid, 2);
        ck_assert_int_eq(state.set.n_slots, 3);
        ck_assert_uint_eq(place.offset[1] - place.offset[0], STATE_COPY_DISTANCE);
        ck_assert_uint_eq(place.offset[0], disk.state.offset);
        state_place_close(&place);
}
END_TEST

START_TEST(paths_that_cannot_be)
{
        struct layout_spec spec = { .esp_size = MIB(34), .root_size = MIB(4) };
        char longest[300];
        struct layout layout;
        struct disk_spec find_spec = {};
        struct disk disk;
        struct error e = {};

        memset(longest, 'x', sizeof(longest));
        longest[299] = '\0';
        ck_assert_int_eq(layout_make(longest, &spec, &layout, &e), -ENAMETOOLONG);
        error_done(&e);
        ck_assert_int_eq(layout_make("gone", &spec, &layout, &e), -ENOENT);
        ck_assert_ptr_nonnull(e.hint);
        error_done(&e);
        ck_assert_int_eq(layout_make("/dev/null", &spec, &layout, &e), -ENOTBLK);
        error_done(&e);
        find_spec.path = longest;
        ck_assert_int_eq(disk_find(&find_spec, &disk, &e), -ENAMETOOLONG);
        error_done(&e);
        find_spec.path = "gone";
        ck_assert_int_eq(disk_find(&find_spec, &disk, NULL), -ENOENT);
        ck_assert_int_eq(disk_find(&find_spec, &disk, &e), -ENOENT);
        ck_assert_ptr_nonnull(strstr(e.hint, "bootmgr init --image-size SIZE gone"));
        error_done(&e);
        find_spec.path = "/dev/null";
        ck_assert_int_eq(disk_find(&find_spec, &disk, &e), -ENOTBLK);
        error_done(&e);
        make_file("empty", MIB(64));
        find_spec.path = "empty";
        ck_assert_int_eq(disk_find(&find_spec, &disk, &e), -ENODEV);
        ck_assert_ptr_eq(e.kind, &kind_no_machine);
        ck_assert_ptr_nonnull(e.hint);
        error_done(&e);
}
END_TEST

/* A table by somebody else: slots by label, whatever their types and numbers are. */
START_TEST(other_tables)
{
        static const struct {
                const char *table;
                int result;
                unsigned a, b;
        } rows[] = {
                { "label: gpt\n2: size=4M, name=root-b\n7: size=4M, name=root-a\n3: size=4M, name=root-z\n", 0, 7, 2 },
                { "label: gpt\nsize=4M, name=root-a\nsize=4M, name=root-b\nsize=4M, name=root-a\n", -EUCLEAN, 0, 0 },
                { "label: gpt\nsize=4M, name=root-a\nsize=4M, name=home\n", -ENODEV, 0, 0 },
                { "label: dos\nsize=4M\nsize=4M\n", -ENODEV, 0, 0 },
        };
        struct disk_spec spec = { .path = "image" };
        struct error e = {};
        struct disk disk;
        struct range range;
        FILE *f;

        make_file("image", MIB(64));
        f = popen("sfdisk -q image", "w");
        fputs(rows[_i].table, f);
        ck_assert_int_eq(pclose(f), 0);
        ck_assert_int_eq(disk_find(&spec, &disk, &e), rows[_i].result);
        if (rows[_i].result < 0) {
                ck_assert_ptr_eq(e.kind, &kind_no_machine);
                error_done(&e);
                return;
        }
        ck_assert_uint_eq(disk.slots[0].number, rows[_i].a);
        ck_assert_uint_eq(disk.slots[1].number, rows[_i].b);
        ck_assert_int_eq(disk.n_slots, 2);
        ck_assert(!disk.esp.present && !disk.state.present && !disk.data.present);
        ck_assert_int_eq(range_open(&disk, &disk.data, O_RDONLY, &range, &e), -ENOENT);
        error_done(&e);
        ck_assert_int_eq(state_place_open(&disk, NULL, O_RDWR, &(struct state_place){}, &e), -ENOENT);
        ck_assert_ptr_nonnull(strstr(e.hint, "State="));
        error_done(&e);
}
END_TEST

/* The primary table is gone: the backup serves. */
START_TEST(the_backup_table_is_read)
{
        struct layout_spec spec = spec_for(512);
        struct disk disk;
        int fd;

        make("image", &spec);
        fd = open("image", O_RDWR | O_CLOEXEC);
        ck_assert_int_eq(io_zero(fd, 512, 33 * 512), 0);
        close(fd);
        find("image", &disk);
        ck_assert_int_eq(disk.n_slots, 2);
}
END_TEST

START_TEST(ranges_are_what_the_table_says)
{
        struct layout_spec spec = spec_for(512);
        struct error e = {};
        struct range range;
        struct disk disk;
        char text[8] = "";

        make("image", &spec);
        find("image", &disk);
        ck_assert_int_eq(range_open(&disk, &disk.slots[1], O_RDWR | O_EXCL, &range, NULL), 0);
        ck_assert_uint_eq(range.offset, disk.slots[1].offset);
        ck_assert_uint_eq(range.size, MIB(4));
        write_at("image", disk.slots[1].offset, "slot b");
        ck_assert_int_eq(io_pread(range.fd, text, 6, range.offset), 0);
        ck_assert_str_eq(text, "slot b");
        range_close(&range);
        ck_assert_int_eq(range.fd, -1);
        ck_assert_int_eq(truncate("image", (off_t)(disk.slots[1].offset + disk.slots[1].size - 1)), 0);
        ck_assert_int_eq(range_open(&disk, &disk.slots[1], O_RDONLY, &range, &e), -EUCLEAN);
        ck_assert_ptr_nonnull(strstr(e.message, "smaller"));
        error_done(&e);
        ck_assert_int_eq(unlink("image"), 0);
        ck_assert_int_eq(range_open(&disk, &disk.slots[1], O_RDONLY, &range, NULL), -ENOENT);
        disk.image = false; /* a device whose node is not there */
        ck_assert_int_eq(range_open(&disk, &disk.slots[1], O_RDONLY, &range, NULL), -ENODEV);
}
END_TEST

START_TEST(the_record_in_files)
{
        char *files[] = { (char *)"one", (char *)"two" }, *device[] = { (char *)"one", NULL };
        struct disk disk = {};
        struct state_place place;
        struct error e = {};

        ck_assert_int_eq(state_place_open(&disk, files, O_RDWR, &place, &e), -ENOENT);
        ck_assert_ptr_nonnull(strstr(e.hint, "fallocate -l 4096 one"));
        error_done(&e);
        make_file("one", STATE_COPY_SIZE);
        make_file("two", STATE_COPY_SIZE - 1);
        ck_assert_int_eq(state_place_open(&disk, files, O_RDWR, &place, &e), -EUCLEAN);
        ck_assert_ptr_nonnull(e.hint);
        error_done(&e);
        ck_assert_int_eq(state_place_open(&disk, device, O_RDWR, &place, &e), -EUCLEAN);
        error_done(&e);
        make_file("two", STATE_COPY_SIZE);
        ck_assert_int_eq(state_place_open(&disk, files, O_RDWR, &place, NULL), 0);
        ck_assert_int_ne(place.fd[0], place.fd[1]);
        state_place_close(&place);
        make_file("one", MIB(1));
        ck_assert_int_eq(state_place_open(&disk, device, O_RDWR, &place, NULL), 0);
        ck_assert_int_eq(place.fd[0], place.fd[1]);
        ck_assert_uint_eq(place.offset[1], STATE_COPY_DISTANCE);
        state_place_close(&place);
        device[0] = (char *)"gone";
        ck_assert_int_eq(state_place_open(&disk, device, O_RDWR, &place, NULL), -ENOENT);
        ck_assert_int_eq(state_place_open(&disk, device, O_RDWR, &place, &e), -ENOENT);
        ck_assert_ptr_nonnull(strstr(e.hint, "State="));
        error_done(&e);
}
END_TEST

START_TEST(one_writer_at_a_time)
{
        struct layout_spec spec = spec_for(512);
        struct disk disk = { .path = "image" };
        struct error e = {};
        struct layout layout;
        int fd, second;

        make_file("image", MIB(64));
        fd = disk_lock(&disk, 0, NULL);
        ck_assert_int_ge(fd, 0);
        second = disk_lock(&disk, 100000, &e);
        ck_assert_int_eq(second, -EAGAIN);
        ck_assert_ptr_eq(e.kind, &kind_busy);
        error_done(&e);
        ck_assert_int_eq(layout_make("image", &spec, &layout, &e), -EAGAIN);
        error_done(&e);
        close(fd);
        fd = disk_lock(&disk, 0, NULL);
        ck_assert_int_ge(fd, 0);
        close(fd);
        strcpy(disk.path, "gone");
        ck_assert_int_eq(disk_lock(&disk, 0, NULL), -ENOENT);
}
END_TEST

/* Slots that the configuration names, as a machine that came without our labels has them. */
START_TEST(named_slots)
{
        const char *devices[SLOT_MAX] = { "one", "two" };
        struct disk_spec spec = { .path = "image", .slot_device = devices };
        struct error e = {};
        struct disk disk;
        struct range range;

        make_file("image", MIB(64));
        ck_assert_int_eq(system("printf 'label: gpt\\n,10M\\n' | sfdisk -q image"), 0);
        ck_assert_int_eq(disk_find(&spec, &disk, &e), -ENOENT);
        ck_assert_ptr_nonnull(strstr(e.message, "one"));
        error_done(&e);
        make_file("one", MIB(2));
        make_file("two", MIB(3));
        ck_assert_int_eq(disk_find(&spec, &disk, NULL), 0);
        ck_assert_int_eq(disk.n_slots, 2);
        ck_assert_uint_eq(disk.slots[1].size, MIB(3));
        ck_assert_int_eq(range_open(&disk, &disk.slots[1], O_RDONLY, &range, NULL), 0);
        ck_assert_uint_eq(range.offset, 0);
        range_close(&range);
}
END_TEST

/* A spare disk with the same layout may be there before the one that this boot comes from. */
START_TEST(the_disk_of_this_boot)
{
        struct layout_spec layout = spec_for(512);
        char *paths[] = { (char *)"former", (char *)"gone", (char *)"spare", (char *)"ours" };
        struct disk_spec spec = { .gpt_only = true, .root_only = true };
        struct disk ours, disk = {};
        struct error e = {};

        make("former", &layout);
        make("spare", &layout);
        make("ours", &layout);
        find("ours", &ours);
        spec.root_partuuid = ours.slots[1].uuid;
        ck_assert_int_eq(disk_choose(&spec, paths, 2, &disk, &e), -ENODEV); /* it is waited for */
        ck_assert_ptr_nonnull(strstr(e.message, ours.slots[1].uuid));
        ck_assert_str_eq(disk.path, "");
        error_done(&e);
        ck_assert_int_eq(disk_choose(&spec, paths, 4, &disk, NULL), 0);
        ck_assert_str_eq(disk.path, "ours");

        spec.root_only = false; /* the time is over */
        ck_assert_int_eq(disk_choose(&spec, paths, 2, &disk, NULL), 0);
        ck_assert_str_eq(disk.path, "former");
        ck_assert_int_eq(disk_choose(&spec, paths, 3, &disk, &e), -ENOTUNIQ);
        ck_assert_ptr_nonnull(strstr(e.message, "both former and spare"));
        error_done(&e);
        ck_assert_int_eq(disk_choose(&spec, paths, 4, &disk, NULL), 0);
        ck_assert_str_eq(disk.path, "ours");

        /* The root need not be labelled as a slot. */
        make_file("plain", MIB(64));
        ck_assert_int_eq(system("printf 'label: gpt\\ntype=" TYPE_UUID_STATE ", size=1M\\n"
                                "uuid=11111111-2222-4333-8444-00000000000A\\n' | sfdisk -q plain"),
                         0);
        paths[1] = (char *)"plain";
        spec.root_only = true;
        spec.root_partuuid = "11111111-2222-4333-8444-00000000000a";
        ck_assert_int_eq(disk_choose(&spec, paths, 4, &disk, NULL), 0);
        ck_assert_str_eq(disk.path, "plain");

        spec = (struct disk_spec){ .root_only = true }; /* a root of another name says nothing */
        ck_assert_int_eq(disk_choose(&spec, paths, 1, &disk, NULL), 0);
        ck_assert_str_eq(disk.path, "former");
        paths[1] = (char *)"gone";
        ck_assert_int_eq(disk_choose(&spec, paths + 1, 1, &disk, NULL), -ENODEV);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("disk");
        TCase *t = tcase_create("disk");

        tcase_set_timeout(t, 120);
        tcase_add_checked_fixture(t, scratch_begin, scratch_end);
        tcase_add_loop_test(t, the_layout_is_found_as_it_was_made, 0, 2);
        tcase_add_test(t, both_copies_of_the_record_are_made);
        tcase_add_test(t, paths_that_cannot_be);
        tcase_add_loop_test(t, other_tables, 0, 4);
        tcase_add_test(t, the_backup_table_is_read);
        tcase_add_test(t, ranges_are_what_the_table_says);
        tcase_add_test(t, the_record_in_files);
        tcase_add_test(t, one_writer_at_a_time);
        tcase_add_test(t, named_slots);
        tcase_add_test(t, the_disk_of_this_boot);
        suite_add_tcase(s, t);
        return suite_run(s);
}
