/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a rollback would give up, of the shared paths and of the slots' own /etc; and carrying that from slot to slot. */
#include "slot/kinds.h"
#include "snapshot/text_diff.h"
#include "tree.h"
#include "suite.h"

static char *const app[] = { (char *)"/data/app", NULL };
static char *const whole_etc[] = { (char *)"/etc", NULL };
static char *const parts[] = { (char *)"/etc/hostname", (char *)"/etc/net/lan", NULL };

/* "change path" lines; malloc'ed. */
static char *listed(const struct difference_list *l)
{
        struct buf b = {};

        for (size_t i = 0; i < l->n; i++)
                buf_printf(&b, "%s%s %s", i ? "\n" : "", change_to_string(l->items[i].change), l->items[i].path);
        return b.data ? buf_take(&b) : strdup("");
}

static const char *text_of(const struct difference_list *l, const char *path)
{
        for (size_t i = 0; i < l->n; i++)
                if (streq(l->items[i].path, path))
                        return l->items[i].text;
        ck_abort_msg("%s is not listed", path);
        return NULL;
}

/* From a tree, by these commands in it, to another: what is listed, and the text of /data/app/f if that is asked for. */
static const struct {
        const char *name, *before, *after, *listed, *text;
} changes[] = {
        { "nothing", "echo x >f", ":", "", NULL },
        { "times alone", "echo x >f; mkdir d", "touch -d 2001-01-01 f d", "", NULL },
        { "the same again", "echo x >f", "rm f; echo x >f", "", NULL },
        { "content", "seq 10 >f", "sed -i 's/^5$/five/' f", "content /data/app/f",
          "--- /data/app/f\n+++ /data/app/f\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n" },
        { "no newline at the end", "echo x >f", "printf y >f", "content /data/app/f",
          "--- /data/app/f\n+++ /data/app/f\n@@ -1 +1 @@\n-x\n+y\n\\ No newline at end of file\n" },
        { "added", ":", "echo x >f", "added /data/app/f", "--- /data/app/f\n+++ /data/app/f\n@@ -0,0 +1 @@\n+x\n" },
        { "removed", "echo x >f", "rm f", "removed /data/app/f", "--- /data/app/f\n+++ /data/app/f\n@@ -1 +0,0 @@\n-x\n" },
        { "two hunks", "seq 30 >f", "sed -i '2d; 28d' f", "content /data/app/f",
          "--- /data/app/f\n+++ /data/app/f\n@@ -1,5 +1,4 @@\n 1\n-2\n 3\n 4\n 5\n"
          "@@ -25,6 +24,5 @@\n 25\n 26\n 27\n-28\n 29\n 30\n" },
        { "bytes that are no text", "printf 'a\\0b' >f", "printf 'a\\0c' >f", "content /data/app/f", NULL },
        { "long", "seq 20000 >f", "sed -i 's/^9999$/x/' f", "content /data/app/f", NULL },
        { "long, of the same size", "seq 20000 >f", "sed -i 's/^9999$/nine/' f", "content /data/app/f", NULL },
        { "long, and the same", "seq 20000 >f", "touch f", "", NULL },
        { "sparse, and the same", "truncate -s 1M f; echo x >>f", "cp --sparse=never f g; mv g f", "", NULL },
        { "a hole that was filled", "truncate -s 1M f; echo x >>f",
          "printf y | dd of=f bs=1 seek=5000 conv=notrunc status=none", "content /data/app/f", NULL },
        { "mode", "echo x >f", "chmod 600 f", "metadata /data/app/f", NULL },
        { "attributes", "echo x >f", "setfattr -n user.a -v b f", "metadata /data/app/f", NULL },
        { "ACL", "echo x >f", "setfacl -m u:5:r f", "metadata /data/app/f", NULL },
        { "link target", "ln -s a f", "ln -snf b f", "content /data/app/f", NULL },
        { "a file that became a directory", "echo x >f", "rm f; mkdir f; echo y >f/g",
          "type /data/app/f\nadded /data/app/f/g", NULL },
        { "a directory that became a file", "mkdir f; echo y >f/g", "rm -r f; echo x >f",
          "type /data/app/f\nremoved /data/app/f/g", NULL },
        { "a directory that became a link", "mkdir f e; echo y >f/g; cp f/g e", "rm -r f; ln -s e f",
          "type /data/app/f\nremoved /data/app/f/g", NULL },
        { "a directory that went", "mkdir -p d/e; echo y >d/e/g", "rm -r d",
          "removed /data/app/d\nremoved /data/app/d/e\nremoved /data/app/d/e/g", NULL },
        { "hard links, the same", "echo x >f; ln f g", ":", "", NULL },
        { "a hard link that was cut", "echo x >f; ln f g", "rm g; echo x >g", "metadata /data/app/g", NULL },
        { "a hard link that is another file", "echo x >f; ln f g", "rm g; echo y >g", "content /data/app/g", NULL },
        { "a hard link that is a directory", "echo x >f; ln f g", "rm g; mkdir g", "type /data/app/g", NULL },
        { "names that are no text", ":",
          "printf x >\"$(printf 'a\\377')\"; printf x >'a\\xff'; mkfifo \"$(printf 'n\\nl')\"",
          "added /data/app/a\\x5cxff\nadded /data/app/a\\xff\nadded /data/app/n\\x0al", NULL },
};

START_TEST(test_change)
{
        _cleanup_(difference_list_done) struct difference_list with = {}, without = {};
        _cleanup_free_ char *now = NULL, *plain = NULL;
        _cleanup_snapshot_ struct snapshot s = {};

        sh("cd root/data/app; %s", changes[_i].before);
        ck_ok(snapshot_take(&place, app, 0, "1", 1, NULL, &s, e));
        sh("cd root/data/app; %s", changes[_i].after);
        ck_ok(snapshot_diff(&place, &s, true, &with, e));
        ck_ok(snapshot_diff(&place, &s, false, &without, e));
        now = listed(&with);
        plain = listed(&without);
        ck_assert_msg(streq(now, changes[_i].listed), "%s: %s", changes[_i].name, now);
        ck_assert_str_eq(plain, now);
        for (size_t i = 0; i < without.n; i++)
                ck_assert_ptr_null(without.items[i].text);
        if (changes[_i].text)
                ck_assert_str_eq(text_of(&with, "/data/app/f"), changes[_i].text);
        else if (strstr(now, "content /data/app/f"))
                ck_assert_ptr_null(text_of(&with, "/data/app/f"));
        /* What is listed is what a restore changes. */
        ck_ok(snapshot_restore(&place, &s, 2, NULL, NULL, e));
        difference_list_done(&with);
        ck_ok(snapshot_diff(&place, &s, true, &with, e));
        ck_assert_uint_eq(with.n, 0);
}
END_TEST

/* The text diff against diff -u, on files of random lines. */
START_TEST(test_as_diff_would)
{
        char *text, *patched, *old, *new;
        size_t old_size, new_size;
        char path[PATH_MAX + 8];

        sh("awk 'BEGIN { srand(%d); for (i = 0; i < 60; i++) { l = int(rand() * 9); r = rand(); if (r < .8) print l "
           ">\"old\";"
           "if (r > .1) print (rand() < .1 ? \"x\" : l) >\"new\" } }'",
           _i);
        snprintf(path, sizeof(path), "%s/old", dir);
        ck_assert_int_ge(file_read(AT_FDCWD, path, MIB(1), &old, &old_size), 0);
        snprintf(path, sizeof(path), "%s/new", dir);
        ck_assert_int_ge(file_read(AT_FDCWD, path, MIB(1), &new, &new_size), 0);
        text = text_diff("old", old, old_size, new, new_size);
        ck_assert_ptr_nonnull(text);
        snprintf(path, sizeof(path), "%s/patch", dir);
        ck_assert_int_ge(file_replace_volatile(AT_FDCWD, path, text, strlen(text), 0600), 0);
        /* Applied by hand, without fuzz: ranges and contexts must be right. */
        patched = sh_output("python3 - <<'END'\n"
                            "import re\n"
                            "old, out, at = open('old').readlines(), [], 0\n"
                            "for line in open('patch').readlines()[2:]:\n"
                            "    m = re.match(r'@@ -(\\d+)', line)\n"
                            "    if m:\n"
                            "        out += old[at:int(m[1]) - 1]\n"
                            "        at = int(m[1]) - 1\n"
                            "        continue\n"
                            "    if line[0] != '+':\n"
                            "        assert old[at] == line[1:], (at, line)\n"
                            "        at += 1\n"
                            "    if line[0] != '-':\n"
                            "        out.append(line[1:])\n"
                            "open('patched', 'w').writelines(out + old[at:])\n"
                            "END\ncmp patched new && echo same");
        ck_assert_str_eq(patched, "same");
        free(patched);
        free(text);
        free(old);
        free(new);
}
END_TEST

/* Two slots with an /etc each; what the overlay's lower directory holds is below root/etc. */
static void make_slots(void)
{
        sh("mkdir -p root/etc/net root/data/bootmgr/etc/a/upper/net/lan root/data/bootmgr/etc/a/work\n"
           "echo lower >root/etc/hostname; echo lower >root/etc/motd; echo lower >root/etc/net/dns\n"
           "cd root/data/bootmgr/etc/a/upper; echo box >hostname; mkdir -p ssh; echo key >ssh/key; chmod 600 ssh/key\n"
           "echo 10.0.0.1 >net/lan/address; chmod 750 net; setfattr -n user.note -v x net; echo id >machine-id\n"
           "mknod motd c 0 0");
}

START_TEST(test_carry_whole)
{
        char *a, *b;

        make_slots();
        a = listing("root/data/bootmgr/etc/a/upper");
        /* What an interrupted one left is no obstacle, and what the slot had goes. */
        sh("mkdir -p root/data/bootmgr/etc/b && cd root/data/bootmgr/etc/b\n"
           "mkdir -p upper.new/junk upper work/w && echo old >upper/gone");
        ck_ok(carry_config(&place, whole_etc, 0, 1, NULL, e));
        ck_same_tree("root/data/bootmgr/etc/b/upper", a);
        b = listing("root/data/bootmgr/etc/a/upper");
        ck_assert_str_eq(a, b);
        free(b);
        b = sh_output("cd root/data/bootmgr/etc/b; find . -maxdepth 2 ! -path './upper/*' | sort | tr '\\n' ' '");
        ck_assert_str_eq(b, ". ./upper ./work ");
        free(a);
        free(b);
}
END_TEST

START_TEST(test_carry_parts)
{
        char *now;

        make_slots();
        sh("mkdir -p root/data/bootmgr/etc/b/upper/net/lan; cd root/data/bootmgr/etc/b/upper\n"
           "echo other >hostname; echo stays >net/wifi; echo stale >net/lan/stale; echo mine >own");
        ck_ok(carry_config(&place, parts, 0, 1, NULL, e));
        now = sh_output("cd root/data/bootmgr/etc/b/upper; grep -r . . | sort");
        ck_assert_str_eq(now, "./hostname:box\n./net/lan/address:10.0.0.1\n./net/wifi:stays\n./own:mine");
        free(now);

        /* Removed in slot a: removed in b; a directory that was replaced shows nothing of the lower one. */
        sh("cd root/data/bootmgr/etc/a/upper; rm -r hostname net; mknod hostname c 0 0; mknod net c 0 0");
        ck_ok(carry_config(&place, parts, 0, 1, NULL, e));
        now = sh_output("cd root/data/bootmgr/etc/b/upper; stat -c '%%F %%n' hostname net/lan net/wifi own");
        ck_assert_str_eq(now, "character special file hostname\ncharacter special file net/lan\nregular file net/wifi\n"
                              "regular file own");
        free(now);

        /* Nothing said in a: nothing in b. */
        sh("cd root/data/bootmgr/etc/a/upper; rm hostname net");
        ck_ok(carry_config(&place, parts, 0, 1, NULL, e));
        now = sh_output("cd root/data/bootmgr/etc/b/upper; find . -type f | sort; ls -d hostname net/lan 2>/dev/null || :");
        ck_assert_str_eq(now, "./net/wifi\n./own");
        free(now);
}
END_TEST

START_TEST(test_carry_into_what_was_removed)
{
        char *now;

        if (!is_root())
                return; /* trusted.overlay.opaque */
        make_slots();
        sh("mkdir -p root/data/bootmgr/etc/b/upper; mknod root/data/bootmgr/etc/b/upper/net c 0 0\n"
           "chown 7:8 root/data/bootmgr/etc/a/upper/net");
        ck_ok(carry_config(&place, parts, 0, 1, NULL, e));
        now = sh_output("cd root/data/bootmgr/etc/b/upper; stat -c '%%F %%a %%u:%%g' net; cat net/lan/address\n"
                        "getfattr --only-values -n trusted.overlay.opaque net");
        ck_assert_str_eq(now, "directory 750 7:8\n10.0.0.1\ny");
        free(now);
        /* From an opaque directory without the path: it is not there. */
        sh("cd root/data/bootmgr/etc/a/upper; rm -r net/lan; setfattr -n trusted.overlay.opaque -v y net");
        ck_ok(carry_config(&place, parts, 0, 1, NULL, e));
        now = sh_output("stat -c '%%F' root/data/bootmgr/etc/b/upper/net/lan");
        ck_assert_str_eq(now, "character special file");
        free(now);
}
END_TEST

START_TEST(test_carry_refused)
{
        static char *const wrong[][2] = { { (char *)"/data/app", NULL },
                                          { (char *)"/etcetera", NULL },
                                          { (char *)"etc", NULL },
                                          { (char *)"/etc/../data", NULL } };

        make_slots();
        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
                ck_refused(carry_config(&place, wrong[i], 0, 1, NULL, e), kind_config_path);
        sh("[ ! -e root/data/bootmgr/etc/b ]");
        ck_ok(carry_config(&place, (char *const[]){ NULL }, 0, 1, NULL, e));
        sh("[ ! -e root/data/bootmgr/etc/b ]");
}
END_TEST

/* Whatever is cut: slot b has its old /etc or the new one, and the next try ends it. */
START_TEST(test_carry_cut_anywhere)
{
        unsigned calls = 1;
        char *of_a, *of_b;

        make_slots();
        of_a = listing("root/data/bootmgr/etc/a/upper");
        sh("mkdir -p root/data/bootmgr/etc/b/upper; echo old >root/data/bootmgr/etc/b/upper/hostname\n"
           "cp -a root/data/bootmgr/etc/b saved");
        of_b = listing("saved/upper");
        for (unsigned n = 1; n <= 2 * calls; n++) {
                _cleanup_error_ struct error why = {};
                char *now;
                int r;

                sh("rm -rf root/data/bootmgr/etc/b; cp -a saved root/data/bootmgr/etc/b");
                faults_begin((n + 1) / 2, n % 3 ? -EIO : -ENOSPC, n % 2);
                r = carry_config(&place, whole_etc, 0, 1, NULL, &why);
                calls = MAX(calls, faults_end());
                ck_assert_msg(r >= 0 || why.message, "%s, and no message", error_text(r));
                now = listing("root/data/bootmgr/etc/b/upper");
                ck_assert_msg(streq(now, of_a) || (r < 0 && streq(now, of_b)), "after write %u: %s", (n + 1) / 2, now);
                free(now);
                ck_ok(carry_config(&place, whole_etc, 0, 1, NULL, e));
                ck_same_tree("root/data/bootmgr/etc/b/upper", of_a);
                sh("[ ! -e root/data/bootmgr/etc/b/upper.new ]");
        }
        free(of_a);
        free(of_b);
}
END_TEST

static char *carried(char *const *paths, bool with_text, struct difference_list *l)
{
        ck_ok(carried_diff(&place, paths, 0, 1, with_text, l, e));
        for (size_t i = 0; i < l->n; i++)
                ck_assert(l->items[i].carried);
        return listed(l);
}

START_TEST(test_carried_diff)
{
        _cleanup_(difference_list_done) struct difference_list l = {}, again = {}, some = {};
        char *now;

        make_slots();
        ck_ok(carry_config(&place, whole_etc, 0, 1, NULL, e));
        now = carried(whole_etc, true, &l);
        ck_assert_str_eq(now, "");
        free(now);
        sh("cd root/data/bootmgr/etc/b/upper; echo other >hostname; rm ssh/key; echo new >net/lan/gateway; chmod 700 ssh\n"
           "echo changes >machine-id; ln -s /dev/null unit; mkdir dir; echo below >dir/file");
        now = carried(whole_etc, true, &again);
        ck_assert_str_eq(now, "added /etc/dir\nadded /etc/dir/file\ncontent /etc/hostname\nadded /etc/net/lan/gateway\n"
                              "metadata /etc/ssh\nremoved /etc/ssh/key\nadded /etc/unit");
        free(now);
        ck_assert_str_eq(text_of(&again, "/etc/hostname"),
                         "--- /etc/hostname\n+++ /etc/hostname\n@@ -1 +1 @@\n-box\n+other\n");
        now = carried(parts, false, &some);
        ck_assert_str_eq(now, "content /etc/hostname\nadded /etc/net/lan/gateway");
        ck_assert_ptr_null(text_of(&some, "/etc/hostname"));
        free(now);
}
END_TEST

/* A file that only one slot has touched is compared with the root's; a whiteout hides that. */
START_TEST(test_carried_diff_with_root)
{
        _cleanup_(difference_list_done) struct difference_list l = {};
        char *now;

        if (!own_mounts())
                return;
        sh("mkdir -p root/etc/d root/data/bootmgr/etc/a/upper root/data/bootmgr/etc/b/upper\n"
           "for f in same other gone d/kept big; do echo lower >root/etc/$f; done; seq 30000 >root/etc/big\n"
           "cd root/data/bootmgr/etc/b/upper; cp -a ../../../../../etc/same .; echo mine >other; mknod gone c 0 0; mkdir d\n"
           "setfattr -n trusted.overlay.opaque -v y d; sed 's/^999$/nnn/' ../../../../../etc/big >big");
        now = carried(whole_etc, true, &l);
        ck_assert_str_eq(now, "content /etc/big\nremoved /etc/d/kept\nremoved /etc/gone\ncontent /etc/other");
        ck_assert_str_eq(text_of(&l, "/etc/other"), "--- /etc/other\n+++ /etc/other\n@@ -1 +1 @@\n-lower\n+mine\n");
        ck_assert_ptr_null(text_of(&l, "/etc/big"));
        free(now);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("diff");
        TCase *t = tcase_create("all");

        say_reduced("overlayfs's attributes, and the root below an overlay");
        tcase_add_checked_fixture(t, machine_begin, machine_end);
        tcase_set_timeout(t, 120);
        tcase_add_loop_test(t, test_change, 0, ARRAY_SIZE(changes));
        tcase_add_loop_test(t, test_as_diff_would, 0, 20);
        tcase_add_test(t, test_carry_whole);
        tcase_add_test(t, test_carry_parts);
        tcase_add_test(t, test_carry_into_what_was_removed);
        tcase_add_test(t, test_carry_refused);
        tcase_add_test(t, test_carry_cut_anywhere);
        tcase_add_test(t, test_carried_diff);
        tcase_add_test(t, test_carried_diff_with_root);
        suite_add_tcase(s, t);
        return suite_run(s);
}
