/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The starts of a confirmed version are counted by the loader: what ends before the initramfs each time comes to an end. */
#include "slot/kinds.h"

#include "boot-case.h"
#include "sdboot-case.h"
#include "suite.h"

/* ---- the decision ---- */

/* b is confirmed and runs; a can be gone back to. */
static void confirmed_runs(struct case_ *c, int left, bool armed)
{
        upgraded(c, 1);
        slot_set_confirm(&c->in.set, 1);
        c->in.set.operation_state = OPERATION_DONE;
        c->in.counts = true;
        c->entries[0].tries_left = left;
        c->entries[0].tries_done = left < 0 ? 0 : 9 - left;
        c->entries[0].confirmed = armed;
}

START_TEST(a_start_that_succeeds_is_counted_anew)
{
        static const struct {
                int left;
                uint64_t arm;
        } rows[] = { { -1, GENERATION_B }, { 9, 0 }, { 8, 0 }, { 7, 0 }, { 6, GENERATION_B }, { 0, GENERATION_B } };
        struct case_ c;

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                confirmed_runs(&c, rows[i].left, true);
                run(&c, BOOT_FOUND_CONFIRMED, BOOT_CONTINUE);
                ck_assert_uint_eq(c.d.arm, rows[i].arm);
                ck_assert(!c.d.save); /* the record knows nothing of it */
        }
        confirmed_runs(&c, -1, false);
        c.in.counts = false; /* an image */
        run(&c, BOOT_FOUND_CONFIRMED, BOOT_CONTINUE);
        ck_assert_uint_eq(c.d.arm, 0);
        /* Nothing to go to: counting would lead to what is not ours. What is counted already goes on being. */
        confirmed_runs(&c, -1, false);
        slot_set_mark_bad(&c.in.set, 0, REASON_HEALTH);
        run(&c, BOOT_FOUND_CONFIRMED, BOOT_CONTINUE);
        ck_assert_uint_eq(c.d.arm, 0);
        c.entries[0].tries_left = 2;
        run(&c, BOOT_FOUND_CONFIRMED, BOOT_CONTINUE);
        ck_assert_uint_eq(c.d.arm, GENERATION_B);
        /* Nor is there where the loader has no entry that could be started. */
        for (int i = 0; i < 4; i++) {
                confirmed_runs(&c, -1, false);
                if (i == 0)
                        c.in.n_entries = 1;
                else if (i == 1)
                        c.entries[1].usable = false;
                else if (i == 2)
                        c.entries[1].tries_left = 0;
                run(&c, BOOT_FOUND_CONFIRMED, BOOT_CONTINUE);
                ck_assert_uint_eq(c.d.arm, i == 3 ? GENERATION_B : 0);
        }
        /* Not what is left, nor a trial. */
        confirmed_runs(&c, 2, true);
        c.in.root_failed = REASON_ROOT_MOUNT;
        run(&c, BOOT_FOUND_ROOT, BOOT_REBOOT);
        ck_assert_uint_eq(c.d.arm, 0);
        upgraded(&c, 1);
        c.in.counts = true;
        run(&c, BOOT_FOUND_TRIAL, BOOT_CONTINUE);
        ck_assert_uint_eq(c.d.arm, 0);
}
END_TEST

START_TEST(what_has_used_up_its_starts_is_left)
{
        struct case_ c;

        older_runs(&c, BOOT_START_ENTRY);
        c.entries[0].confirmed = true;
        c.entries[0].tries_left = 1; /* a person has chosen the older one */
        run(&c, BOOT_FOUND_CONFIRMED, BOOT_CONTINUE);
        c.entries[0].tries_left = 0;
        c.entries[0].tries_done = 9;
        run(&c, BOOT_FOUND_PASSED, BOOT_CONTINUE);
        ck_assert_int_eq(c.d.set.slots[1].state, SLOT_BAD);
        ck_assert_int_eq(c.d.set.slots[1].reason, REASON_TRIES_EXHAUSTED);
        ck_assert_int_eq(c.d.switch_to, 0);
        ck_assert_int_eq(c.d.set.operation, OPERATION_ROLLBACK);
        ck_assert(c.d.set.operation_automatic);
        ck_assert_int_eq(c.d.set.operation_reason, REASON_TRIES_EXHAUSTED);
        /* The counter of a trial that was confirmed while the entry could not be written says nothing. */
        c.entries[0].confirmed = false;
        run(&c, BOOT_FOUND_CONFIRMED, BOOT_CONTINUE);
}
END_TEST

START_TEST(a_record_that_was_lost_takes_it_for_confirmed)
{
        struct case_ c;

        confirmed_runs(&c, 7, true);
        c.in.record_lost = true;
        slot_set_init(&c.in.set, 2);
        run(&c, BOOT_FOUND_LOST, BOOT_CONTINUE);
        ck_assert_int_eq(c.d.set.slots[1].state, SLOT_CONFIRMED);
        ck_assert_int_eq(c.d.set.phase, SWITCH_NONE);
        c.entries[0].confirmed = false;
        run(&c, BOOT_FOUND_LOST, BOOT_CONTINUE);
        ck_assert_int_eq(c.d.set.slots[1].state, SLOT_TRIAL);
}
END_TEST

/* ---- the entry ---- */

static int arm(void)
{
        return loader.ops->arm(&loader, 8, 9, NULL);
}

static void move(const char *from, const char *to)
{
        ck_assert_int_eq(renameat(AT_FDCWD, from, AT_FDCWD, to), 0);
}
#define E "esp/loader/entries/bootmgr-"

/* As list() has it first of that generation. */
static void check_first(int left, bool confirmed)
{
        _cleanup_free_ struct loader_entry *list = NULL;
        size_t n;

        ck_assert_int_eq(loader.ops->list(&loader, &list, &n, NULL), 0);
        ck_assert_uint_gt(n, 0);
        ck_assert_uint_eq(list[0].generation, 8);
        ck_assert_int_eq(list[0].tries_left, left);
        ck_assert(list[0].confirmed == confirmed);
        ck_assert(list[0].usable);
}

START_TEST(an_entry_is_armed_and_armed_again)
{
        struct loader_entry next;

        ck_assert_int_eq(switch_to(7, 0, 0, NULL), 0);
        ck_assert_int_eq(switch_to(8, 1, 3, NULL), 0);
        ck_assert_int_eq(loader.ops->confirm(&loader, 8, NULL), 0);
        for (int twice = 0; twice < 2; twice++) {
                ck_assert_int_eq(arm(), 0);
                check_entries("bootmgr-7-a.conf bootmgr-8-b+9-0.conf");
                check_first(9, true);
        }
        move(E "8-b+9-0.conf", E "8-b+6-3.conf"); /* systemd-boot */
        check_first(6, true);
        ck_assert_int_eq(loader.ops->next(&loader, &next, NULL), 0);
        ck_assert_uint_eq(next.generation, 8);
        for (int twice = 0; twice < 2; twice++) { /* through other names than those that the former one leads through */
                ck_assert_int_eq(arm(), 0);
                check_entries("bootmgr-7-a.conf bootmgr-8-b+8-0.conf");
        }
        move(E "8-b+8-0.conf", E "8-b+0-8.conf");
        ck_assert_int_eq(arm(), 0);
        check_entries("bootmgr-7-a.conf bootmgr-8-b+9-0.conf");
        move(E "8-b+9-0.conf", E "8-b+0-9.conf");
        ck_assert_int_eq(loader.ops->next(&loader, &next, NULL), 0);
        ck_assert_uint_eq(next.generation, 7);
        /* Confirmed again, after a record that was lost: then there is no counter. */
        ck_assert_int_eq(loader.ops->confirm(&loader, 8, NULL), 0);
        check_entries("bootmgr-7-a.conf bootmgr-8-b.conf");
        check_first(-1, true);
        ck_assert_int_eq(loader.ops->arm(&loader, 9, 9, NULL), -ENOENT);
        ck_assert_int_eq(loader.ops->drop(&loader, 8, NULL), 0);
        check_entries("bootmgr-7-a.conf");
}
END_TEST

/* What a cut may leave: both names, of which either starts it, or a name without content. */
START_TEST(what_a_cut_leaves_is_mended)
{
        static const char text[] = "title 2.0 (slot b)\nlinux /bootmgr/none\n";

        ck_assert_int_eq(switch_to(8, 1, 0, NULL), 0);
        put(E "8-b+9-0.conf", "");
        check_first(-1, false);
        ck_assert_int_eq(arm(), 0);
        check_entries("bootmgr-8-b+9-0.conf");
        check_first(9, true);
        put(E "8-b+7-2.conf", "");
        check_first(9, true);
        ck_assert_int_eq(arm(), 0);
        check_entries("bootmgr-8-b+9-0.conf");
        move(E "8-b+9-0.conf", E "8-b+6-3.conf");
        put(E "8-b+9-0.conf", "");
        check_first(6, true);
        ck_assert_int_eq(arm(), 0);
        check_entries("bootmgr-8-b+8-0.conf");
        check_first(8, true);
        /* Nothing that could be started is made into something that says it has proved itself. */
        put(E "8-b+8-0.conf", text);
        ck_assert_int_eq(arm(), -ENOENT);
        check_entries("bootmgr-8-b+8-0.conf");
}
END_TEST

/* As systemd-boot 252 and a firmware do it: a name that is there already is refused, and the start goes on without a word.
 */
static uint64_t start(void)
{
        struct loader_entry next;
        char from[128], to[128];

        ck_assert_int_eq(loader.ops->next(&loader, &next, NULL), 0);
        if (next.tries_left <= 0)
                return next.generation;
        snprintf(from, sizeof(from), E "%d-%c+%d-%d.conf", (int)next.generation, slot_name(next.slot), next.tries_left,
                 next.tries_done);
        snprintf(to, sizeof(to), E "%d-%c+%d-%d.conf", (int)next.generation, slot_name(next.slot), next.tries_left - 1,
                 next.tries_done + 1);
        renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE);
        return next.generation;
}

/* The initramfs of `slot`. */
static void initramfs(struct case_ *c, int slot)
{
        _cleanup_free_ struct loader_entry *list = NULL;

        c->in.slot = slot;
        c->in.generation = slot ? GENERATION_B : GENERATION_A;
        ck_assert_int_eq(loader.ops->list(&loader, &list, &c->in.n_entries, NULL), 0);
        c->in.entries = list;
        boot_decide(&c->in, &c->d);
        if (c->d.arm)
                ck_assert_int_eq(loader.ops->arm(&loader, c->d.arm, BOOT_ARM_TRIES, NULL), 0);
}

/* a, and b, which is confirmed, runs and is armed. */
static void armed(struct case_ *c)
{
        confirmed_runs(c, -1, false);
        ck_assert_int_eq(switch_to(GENERATION_A, 0, 0, NULL), 0);
        ck_assert_int_eq(switch_to(GENERATION_B, 1, 0, NULL), 0);
        initramfs(c, 1);
        check_entries("bootmgr-7-a.conf bootmgr-8-b+9-0.conf");
}

static void dies_early_until_the_other_one_starts(void)
{
        int starts = 0;

        while (start() == GENERATION_B)
                ck_assert_int_lt(starts++, 2 * BOOT_ARM_TRIES);
}

/* The counter was made full again, and the cut has brought the former name back. */
START_TEST(a_name_that_a_cut_brings_back_does_not_hold_the_counter)
{
        _cleanup_free_ char *text = NULL;
        struct case_ c;

        armed(&c);
        for (int i = 0; i < 3; i++)
                start();
        ck_assert_int_eq(file_read(AT_FDCWD, E "8-b+6-3.conf", ENTRY_READ_MAX, &text, NULL), 0);
        initramfs(&c, 1);
        put(E "8-b+6-3.conf", text);
        if (_i == 0) { /* nothing comes as far as the initramfs any more */
                dies_early_until_the_other_one_starts();
                return;
        }
        for (int i = 0; i < 2 * BOOT_ARM_TRIES; i++) {
                _cleanup_free_ char *found = NULL;

                ck_assert_uint_eq(start(), GENERATION_B);
                initramfs(&c, 1);
                found = names("esp/loader/entries");
                ck_assert_msg(strchr(found, ' ') == strrchr(found, ' '), "%s", found); /* that of a and one */
        }
        dies_early_until_the_other_one_starts();
}
END_TEST

/* The first time: while the name without a counter goes, its content goes first. */
START_TEST(a_name_without_content_does_not_hide_the_counter)
{
        struct case_ c;

        armed(&c);
        put(E "8-b.conf", "");
        check_first(9, true);
        initramfs(&c, 0); /* a person looks at the older one: nothing is wrong with the newer */
        ck_assert_str_eq(boot_found_to_string(c.d.found), "confirmed");
        if (_i == 0) {
                dies_early_until_the_other_one_starts();
                initramfs(&c, 0); /* all of its starts are used up, whatever name is there beside that */
                ck_assert_str_eq(boot_found_to_string(c.d.found), "passed");
                ck_assert_int_eq(c.d.set.slots[1].reason, REASON_TRIES_EXHAUSTED);
                return;
        }
        for (int i = 0; i < 2 * BOOT_ARM_TRIES; i++) {
                ck_assert_uint_eq(start(), GENERATION_B);
                initramfs(&c, 1);
                ck_assert_int_lt(access(E "8-b.conf", F_OK), 0);
        }
}
END_TEST

static int open_without_room(int dirfd, const char *path, int flags, mode_t mode)
{
        return flags & O_CREAT ? -ENOSPC : io_system_ops.open(dirfd, path, flags, mode);
}

static void fill_esp(void)
{
        static struct io_ops ops;

        ops = io_system_ops;
        ops.open = open_without_room;
        io_set_ops(&ops);
}

/* The firmware needs no room to count. */
START_TEST(a_full_esp_takes_no_version_away_that_starts)
{
        struct case_ c;

        armed(&c);
        fill_esp();
        for (int i = 0; i < 3 * BOOT_ARM_TRIES; i++) {
                ck_assert_uint_eq(start(), GENERATION_B);
                initramfs(&c, 1);
                ck_assert_str_eq(boot_found_to_string(c.d.found), "confirmed");
        }
        dies_early_until_the_other_one_starts();
        initramfs(&c, 0);
        ck_assert_str_eq(boot_found_to_string(c.d.found), "passed");
}
END_TEST

/* What says nothing of having proved itself must not be counted as if it were on trial. */
START_TEST(what_was_never_armed_is_not_counted_on_a_full_esp)
{
        struct error e = {};

        ck_assert_int_eq(switch_to(8, 1, 0, NULL), 0);
        fill_esp();
        ck_assert_int_eq(loader.ops->arm(&loader, 8, 9, &e), -ENOSPC);
        ck_assert_ptr_nonnull(e.message);
        error_done(&e);
        check_entries("bootmgr-8-b.conf");
}
END_TEST

/* A sector at most, as every entry of ours: rather not counted. */
START_TEST(an_entry_that_fills_its_sector_stays_as_it_is)
{
        _cleanup_free_ char *before = NULL, *after = NULL;
        struct entry_spec spec = spec_of(8, 1);
        char extra[ENTRY_SIZE_MAX] = "";
        struct error e = {};
        size_t size;

        ck_assert_int_eq(loader.ops->switch_to(&loader, &spec, 0, NULL), 0);
        ck_assert_int_eq(file_read(AT_FDCWD, E "8-b.conf", ENTRY_READ_MAX, &before, &size), 0);
        ck_assert_int_eq(unlink(E "8-b.conf"), 0);
        memset(extra, 'x', ENTRY_SIZE_MAX - size - 2);
        spec.extra_cmdline = extra;
        ck_assert_int_eq(loader.ops->switch_to(&loader, &spec, 0, NULL), 0);
        ck_assert_int_eq(loader.ops->arm(&loader, 8, 9, &e), -E2BIG);
        ck_assert_ptr_nonnull(strstr(e.message, "bootmgr-8-b+9-0.conf"));
        error_done(&e);
        check_entries("bootmgr-8-b.conf");
        check_first(-1, false);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("arm");
        TCase *t = tcase_create("decision"), *u = tcase_create("entry");

        tcase_add_test(t, a_start_that_succeeds_is_counted_anew);
        tcase_add_test(t, what_has_used_up_its_starts_is_left);
        tcase_add_test(t, a_record_that_was_lost_takes_it_for_confirmed);
        suite_add_tcase(s, t);
        tcase_add_checked_fixture(u, setup, teardown);
        tcase_add_test(u, an_entry_is_armed_and_armed_again);
        tcase_add_test(u, what_a_cut_leaves_is_mended);
        tcase_add_loop_test(u, a_name_that_a_cut_brings_back_does_not_hold_the_counter, 0, 2);
        tcase_add_loop_test(u, a_name_without_content_does_not_hide_the_counter, 0, 2);
        tcase_add_test(u, a_full_esp_takes_no_version_away_that_starts);
        tcase_add_test(u, what_was_never_armed_is_not_counted_on_a_full_esp);
        tcase_add_test(u, an_entry_that_fills_its_sector_stays_as_it_is);
        suite_add_tcase(s, u);
        return suite_run(s);
}
