/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What of bootmgr-recover needs no machine: its page, and whether a root could be started. Its sources are no part of the
 * library. */
#include "recover/coming_up.c"
#include "recover/mount.c"
#include "recover/page.c"

/* Check has a macro of this name. */
#include "scratch.h"
#include "suite.h"
#undef fail

/* ---- the page ---- */

static struct slot_set both_bad(void)
{
        struct slot_set set;

        slot_set_init(&set, 2);
        for (int i = 0; i < 2; i++) {
                set.slots[i] = (struct slot){ .state = SLOT_BAD, .reason = REASON_INIT, .kernel = { 1 } };
                snprintf(set.slots[i].version, sizeof(set.slots[i].version), "%d.0", i + 1);
        }
        return set;
}

/* Each choice as a letter: a slot's name, or again, rescue, power off. */
static void check_choices(const struct page_input *in, const char *expected)
{
        static const char letters[] = { [CHOICE_AGAIN] = 'A', [CHOICE_RESCUE] = 'R', [CHOICE_POWER_OFF] = 'P' };
        _cleanup_page_ struct page page = {};
        char found[PAGE_MAX_CHOICES + 1] = "";

        page_make(in, &page);
        for (size_t i = 0; i < page.n; i++) {
                const struct choice *c = &page.choices[i];
                char number[32];

                found[i] = c->kind == CHOICE_TRY ? slot_name(c->slot) : letters[c->kind];
                snprintf(number, sizeof(number), "\n  %zu  ", i + 1);
                ck_assert_msg(strstr(page.text, number) != NULL, "%s", page.text);
        }
        ck_assert_str_eq(found, expected);
}

START_TEST(only_what_can_be_done_is_offered)
{
        struct slot_set set = both_bad();
        struct page_input in = { .set = &set, .slot = 1, .can_switch = true, .seconds = 300 };

        check_choices(&in, "AabP");
        in.rescue = true;
        check_choices(&in, "AabRP");
        in.can_switch = false; /* no entry could be made for a try */
        check_choices(&in, "ARP");
        in.can_switch = true;
        set.slots[0].reason = REASON_WRITING;
        check_choices(&in, "AbRP");
}
END_TEST

START_TEST(the_page_says_what_is_wrong)
{
        struct slot_set set = both_bad();
        struct page_input in = { .set = &set, .slot = 1, .can_switch = true, .rescue = true, .seconds = 17 };
        static const struct {
                bool goes_on;
                enum slot_state state[2];
                const char *headline, *first, *last;
        } rows[] = {
                { false,
                  { SLOT_BAD, SLOT_BAD },
                  "bootmgr: no slot can be booted\n",
                  "start the machine again now",
                  "The machine tries again in 17 seconds. Any other key: that time begins anew." },
                { false,
                  { SLOT_BAD, SLOT_CONFIRMED },
                  "bootmgr: no slot can be booted\n",
                  "start the machine again now",
                  "The machine tries again in 17 seconds. Any other key: that time begins anew." },
                { false,
                  { SLOT_CONFIRMED, SLOT_BAD },
                  "bootmgr: the bootloader starts a slot that cannot be used, whatever it is told\n",
                  "start the machine again now",
                  "The machine tries again in 17 seconds. Any other key: that time begins anew." },
                { true,
                  { SLOT_BAD, SLOT_TRIAL },
                  "bootmgr: the slot that boots has used up its tries, and no other can be booted\n",
                  "boot it now",
                  "It boots all the same in 17 seconds; 'bootmgr upgrade system' writes the other slot anew." },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                _cleanup_page_ struct page page = {};

                for (int s = 0; s < 2; s++)
                        set.slots[s].state = rows[i].state[s];
                set.slots[1].tries = rows[i].state[1] == SLOT_TRIAL;
                in.goes_on = rows[i].goes_on;
                page_make(&in, &page);
                ck_assert_msg(startswith(page.text, rows[i].headline) != NULL, "%s", page.text);
                ck_assert_msg(strstr(page.text, rows[i].first) != NULL, "%s", page.text);
                ck_assert_msg(strstr(page.text, rows[i].last) != NULL, "%s", page.text);
                ck_assert_msg(strstr(page.text, "start the rescue system: ") != NULL, "%s", page.text);
                ck_assert_msg(strstr(page.text, "slot b: version 2.0, ") != NULL, "%s", page.text);
        }
}
END_TEST

/* ---- a root ---- */

/* The root is the directory "root"; outside of it lies a program. */
static const struct {
        const char *script, *cmdline;
        bool has;
} roots[] = {
        { ":", "", false },
        { "rm -r root", "", true }, /* nothing is known of it */
        { "rm -r root/usr", "", false },
        { "rmdir root/usr/lib", "", true }, /* another partition is to be mounted on /usr */
        { "install -D /bin/true root/sbin/init", "", true },
        { "install -D /bin/true root/usr/lib/systemd/systemd", "", true },
        { "install -D -m 644 /bin/true root/sbin/init", "", false },
        { "mkdir -p root/sbin/init", "", false },
        { "mkdir root/sbin; ln -s ../../outside root/sbin/init", "", false },
        { "mkdir root/sbin; ln -s $PWD/outside root/sbin/init", "", false },
        { "mkdir root/sbin; ln -s /my/own root/sbin/init; install -D /bin/true root/my/own", "", true },
        { "install -D /bin/true root/my/own", "quiet init=/my/own", true },
        { "install -D /bin/true root/my/own", "init=/my/other", false },
};

START_TEST(a_root_has_an_init)
{
        _cleanup_free_ char *script = xasprintf("set -e; mkdir -p root/usr/lib; cp /bin/true outside; %s", roots[_i].script);

        ck_assert_int_eq(system(script), 0);
        ck_assert_int_eq(root_has_init("root", roots[_i].cmdline), roots[_i].has);
}
END_TEST

/* How many boots of the same slot came before, until it is up; another slot's are not its own. */
static void shell(const char *script)
{
        ck_assert_int_eq(system(script), 0);
}

START_TEST(boots_that_do_not_come_up_are_counted)
{
        _cleanup_close_ int root = -1;

        shell("mkdir -p marked");
        root = open("marked", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        ck_assert_uint_eq(coming_up_mark(root, 1), 0); /* no data */
        ck_assert_uint_eq(coming_up_mark(root, 1), 0);
        shell("mkdir -p marked/data/bootmgr");
        for (unsigned i = 0; i < 12; i++)
                ck_assert_uint_eq(coming_up_mark(root, 1), MIN(i, 9U));
        ck_assert_uint_eq(coming_up_mark(root, 0), 0);
        ck_assert_uint_eq(coming_up_mark(root, 0), 1);
        ck_assert_uint_eq(coming_up_mark(root, 1), 0);
        coming_up_forget(root);
        ck_assert_uint_eq(coming_up_mark(root, 1), 0);
        shell("printf 'b\\n' >marked/data/bootmgr/coming-up"); /* as it was written before boots were counted */
        ck_assert_uint_eq(coming_up_mark(root, 1), 1);
        ck_assert_uint_eq(coming_up_mark(root, 1), 2);
        for (const char *const *s = (const char *const[]){ "", "b", "b 0", "b x", "zz", NULL }; *s; s++) {
                ck_assert_int_ge(file_replace(root, MARK, *s, strlen(*s), 0644), 0);
                ck_assert_uint_le(coming_up_mark(root, 1), 1);
        }
        ck_assert(coming_up_root_is_whole(1)); /* none that is verified */
}
END_TEST

START_TEST(what_is_no_filesystem_cannot_be_mounted)
{
        struct error e = {};

        shell("truncate -s 1M zeros");
        ck_assert(!root_can_be_mounted("zeros", "zeros", &e));
        ck_assert_str_eq(e.message, "there is no filesystem on zeros");
        error_done(&e);
        ck_assert(!root_has_filesystem("zeros", &e)); /* not one that a check could mend either */
        ck_assert_str_eq(e.message, "there is no filesystem on zeros");
        error_done(&e);
        ck_assert_int_eq(system("mkfs.ext4 -q -F -O ^has_journal zeros && truncate -s 100K zeros"), 0);
        ck_assert(root_has_filesystem("zeros", NULL)); /* however damaged */
        ck_assert(root_has_filesystem("no-such-device", NULL));
        ck_assert(root_can_be_mounted("no-such-device", "no-such-device", NULL)); /* it cannot be looked at: no verdict */
        ck_assert(is_mount_point("/proc"));
        ck_assert(!is_mount_point("/proc/self"));
        ck_assert(!is_mount_point("/no/such/directory"));
}
END_TEST

START_TEST(a_root_that_no_disk_has)
{
        struct disk without = {}, with = { .has_root = true };
        const char *cmdline = "root=PARTUUID=11111111-2222-4333-8444-555555555555 ro";

        ck_assert(root_was_found(&with, cmdline));
        ck_assert(!root_was_found(&without, cmdline));
        ck_assert(root_was_found(&without, "root=/dev/sda2 ro")); /* not ours to judge */
        ck_assert(root_was_found(&without, "quiet"));
}
END_TEST

int main(void)
{
        Suite *s = suite_create("recover");
        TCase *t = tcase_create("page"), *r = tcase_create("root");

        tcase_add_test(t, only_what_can_be_done_is_offered);
        tcase_add_test(t, the_page_says_what_is_wrong);
        suite_add_tcase(s, t);
        tcase_add_checked_fixture(r, scratch_begin, scratch_end);
        tcase_add_loop_test(r, a_root_has_an_init, 0, (int)ARRAY_SIZE(roots));
        tcase_add_test(r, what_is_no_filesystem_cannot_be_mounted);
        tcase_add_test(r, a_root_that_no_disk_has);
        tcase_add_test(r, boots_that_do_not_come_up_are_counted);
        suite_add_tcase(s, r);
        return suite_run(s);
}
