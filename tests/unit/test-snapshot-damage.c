/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Snapshots that are altered, damaged or exchanged, and that are taken while calls fail. */
#include "slot/kinds.h"

#include "snapshot-case.h"

/* One bit anywhere in the archive, and what decides about files in the description. */
START_TEST(test_altered)
{
        struct snapshot s, found = {};
        int fd;

        sh("echo hello > root/data/app/x");
        s = take((char *[]){ (char *)"/data/app", (char *)"/data/none", NULL }, 1);
        fd = openat(place.data, "snapshots", O_RDONLY | O_DIRECTORY);
        {
                char name[64];
                int a;

                snprintf(name, sizeof(name), "%s.tar.zst", s.id);
                a = openat(fd, name, O_RDWR);
                for (uint64_t at = 0; at < s.size; at += 7) {
                        uint8_t byte;

                        ck_assert_int_eq(pread(a, &byte, 1, (off_t)at), 1);
                        byte ^= 0x10;
                        ck_assert_int_eq(pwrite(a, &byte, 1, (off_t)at), 1);
                        ck_refused(snapshot_verify(&place, &s, e), kind_snapshot_altered);
                        byte ^= 0x10;
                        ck_assert_int_eq(pwrite(a, &byte, 1, (off_t)at), 1);
                }
                ck_ok(snapshot_verify(&place, &s, e));
                ck_assert_int_eq(ftruncate(a, (off_t)s.size - 1), 0);
                ck_refused(snapshot_verify(&place, &s, e), kind_snapshot_altered);
                close(a);
        }
        close(fd);
        ck_refused(snapshot_export(&place, &s, STDERR_FILENO, e), kind_snapshot_altered);
        snapshot_done(&s);

        s = take((char *[]){ (char *)"/data/app", (char *)"/data/none", NULL }, 1);
        ck_ok(snapshot_verify(&place, &s, e));
        sh("sed -i s,/data/none,/data/nine, root/data/bootmgr/snapshots/%s.json", s.id);
        ck_ok(snapshot_find(&place, s.digest, &found, e));
        ck_refused(snapshot_verify(&place, &found, e), kind_snapshot_altered);
        snapshot_done(&found);
        sh("sed -i s,/data/nine,/data/none/../x, root/data/bootmgr/snapshots/%s.json", s.id);
        ck_refused(snapshot_find(&place, s.digest, &found, e), kind_snapshot_altered);
        sh("cd root/data/bootmgr/snapshots; sed -i s,/data/none/../x,/data/none, %s.json; sed -i 's/\"nodes\": 2/\"nodes\": "
           "1/' %s.json",
           s.id, s.id);
        ck_ok(snapshot_find(&place, s.digest, &found, e));
        ck_refused(snapshot_verify(&place, &found, e), kind_snapshot_altered);
        snapshot_done(&found);
        sh("cd root/data/bootmgr/snapshots; sed -i 's/\"nodes\": 1/\"nodes\": 3/' %s.json", s.id);
        ck_ok(snapshot_find(&place, s.digest, &found, e));
        ck_refused(snapshot_verify(&place, &found, e), kind_snapshot_altered);
        snapshot_done(&found);
        sh("rm root/data/bootmgr/snapshots/%s.tar.zst", s.id);
        ck_refused(snapshot_find(&place, s.digest, &found, e), kind_snapshot_missing);
        ck_refused(snapshot_verify(&place, &s, e), kind_snapshot_missing);
        snapshot_done(&s);
}
END_TEST

static const struct {
        const char *from, *to;
} damages[] = {
        { "\"format\": 1", "\"format\": 2" },
        { "\"slot\": \"a\"", "\"slot\": \"z\"" },
        { "\"version\": \"1.2\"", "\"version\": \"1/2\"" },
        { "\"digest\": \"", "\"digest\": \"q" },
        { "\"digest\": \"\\([0-9]\\|[a-f]\\)", "\"digest\": \"\\1\\1" },
        { "\"created\": \"2", "\"created\": \"x" },
        { "\"files\": ", "\"files\": -" },
        { "\"paths\"", "\"pfade\"" },
        { "\"/data/app\"", "17" },
        { "\"/data/app\"", "\"data/app\"" },
        { "\"/data/app\"", "\"/data/app\"\\x2c \"/data/app/in/it\"" }, /* exchanged one through the other */
        { "\"/data/app\"", "\"/data/app\"\\x2c \"/data/app\"" },       /* exchanged twice */
};

START_TEST(test_damaged_description)
{
        struct snapshot s, found = {};

        sh("echo hello > root/data/app/x");
        s = take(app, 1);
        sh("cd root/data/bootmgr/snapshots; cp %s.json good; sed -i 's,%s,%s,' %s.json; ! cmp -s good %s.json", s.id,
           damages[_i].from, damages[_i].to, s.id, s.id);
        ck_refused(snapshot_find(&place, s.digest, &found, e), kind_snapshot_altered);
        snapshot_done(&s);
}
END_TEST

/* Somebody who can write to the data directory waits until the archive was verified. */
static struct {
        struct snapshot *s;
        bool by_name; /* another file takes its name; else the file itself is written to */
        int reads;    /* of its beginning, until then; -1: when something else is made */
} attack;

static void strike(void)
{
        _cleanup_free_ char *name = xasprintf("snapshots/%s.tar.zst", attack.s->id);
        _cleanup_close_ int fd = openat(place.data, name, O_RDWR | O_CLOEXEC);
        uint8_t byte;

        if (attack.by_name) {
                ck_assert_int_eq(unlinkat(place.data, name, 0), 0);
                sh("echo other > root/data/bootmgr/%s", name);
        } else {
                /* In the trailer, which tar never looks at. */
                ck_assert_int_eq(pread(fd, &byte, 1, (off_t)attack.s->size - 2), 1);
                byte ^= 1;
                ck_assert_int_eq(pwrite(fd, &byte, 1, (off_t)attack.s->size - 2), 1);
        }
        attack.s = NULL;
}

static int open_and_strike(int dirfd, const char *path, int flags, mode_t mode)
{
        if (attack.s && attack.reads < 0 && (flags & O_CREAT))
                strike();
        return io_system_ops.open(dirfd, path, flags, mode);
}

static ssize_t read_and_strike(int fd, void *buffer, size_t n, uint64_t offset)
{
        if (attack.s && attack.reads >= 0 && offset == 0 && attack.reads-- == 0)
                strike();
        return io_system_ops.pread(fd, buffer, n, offset);
}

START_TEST(test_swapped_under_a_restore)
{
        struct io_ops ops = io_system_ops;
        struct snapshot s;
        char *before, *sealed;

        sh("echo sealed > root/data/app/x");
        sealed = listing("root/data/app");
        s = take(app, 1);
        sh("echo now > root/data/app/x");
        before = listing("root/data/app");
        ops.open = open_and_strike;
        attack.s = &s;
        attack.by_name = _i == 0;
        attack.reads = -1;
        io_set_ops(&ops);
        if (_i == 0)
                ck_ok(snapshot_restore(&place, &s, 2, NULL, NULL, e));
        else
                ck_refused(snapshot_restore(&place, &s, 2, NULL, NULL, e), kind_snapshot_altered);
        io_set_ops(NULL);
        ck_assert_ptr_null(attack.s); /* it happened */
        ck_same_tree("root/data/app", _i == 0 ? sealed : before);
        sh("! ls -A root/data | grep -F .bootmgr-new");
        free(before);
        free(sealed);
        snapshot_done(&s);
}
END_TEST

START_TEST(test_swapped_under_an_export)
{
        struct io_ops ops = io_system_ops;
        _cleanup_close_ int fd = openat(place.root, "exported", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        struct snapshot s;

        sh("echo sealed > root/data/app/x");
        s = take(app, 1);
        ops.pread = read_and_strike;
        attack.s = &s;
        attack.by_name = _i == 0;
        attack.reads = 1; /* once to be verified, then to be copied */
        io_set_ops(&ops);
        if (_i == 0)
                ck_ok(snapshot_export(&place, &s, fd, e));
        else
                ck_refused(snapshot_export(&place, &s, fd, e), kind_snapshot_altered);
        io_set_ops(NULL);
        ck_assert_ptr_null(attack.s);
        snapshot_done(&s);
}
END_TEST

/* What the previous take left, or an interrupted one, is never touched by one that fails; what fails leaves nothing. */
START_TEST(test_take_with_faults)
{
        struct snapshot first, again = {};
        unsigned calls;
        char *names;

        sh("head -c 700000 /dev/urandom > root/data/app/random; seq 1000 > root/data/app/seq");
        first = take(app, 1);
        sh("echo more > root/data/app/more");
        faults_begin(0, -EIO, false);
        again = take(app, 2);
        calls = faults_end();
        snapshot_done(&again);
        ck_assert_uint_gt(calls, 8);
        for (unsigned n = 1; n <= 2 * calls; n++) {
                int error = n % 3 ? -EIO : -ENOSPC, r;
                _cleanup_error_ struct error why = {};

                sh("rm -f root/data/bootmgr/snapshots/[!%c]* root/data/bootmgr/snapshots/.new*", first.id[0]);
                faults_begin((n + 1) / 2, error, n % 2);
                r = snapshot_take(&place, app, 0, "1.2", 2, NULL, &again, &why);
                faults_end();
                /* Cleaning up may fail and nothing is lost; making what is there fails with a reason. */
                if (r >= 0) {
                        ck_ok(snapshot_verify(&place, &again, e));
                        snapshot_done(&again);
                } else {
                        ck_assert_ptr_nonnull(why.message);
                        ck_assert_msg(why.kind == (error == -ENOSPC ? &kind_no_space : &kind_failed), "%s", why.message);
                }
                ck_ok(snapshot_verify(&place, &first, e));
                again = take(app, 2);
                ck_ok(snapshot_verify(&place, &again, e));
                snapshot_done(&again);
                names = sh_output("ls -A root/data/bootmgr/snapshots | grep -c new || :");
                ck_assert_str_eq(names, "0");
                free(names);
        }
        snapshot_done(&first);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("snapshot-damage");
        TCase *t = tcase_create("all");

        tcase_add_checked_fixture(t, machine_begin, machine_end);
        tcase_set_timeout(t, 120);
        tcase_add_test(t, test_altered);
        tcase_add_loop_test(t, test_damaged_description, 0, ARRAY_SIZE(damages));
        tcase_add_loop_test(t, test_swapped_under_a_restore, 0, 2);
        tcase_add_loop_test(t, test_swapped_under_an_export, 0, 2);
        tcase_add_test(t, test_take_with_faults);
        suite_add_tcase(s, t);
        return suite_run(s);
}
