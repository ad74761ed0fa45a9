/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Snapshots: what they hold, how they are found, unpacked and removed, and of which paths they are made. */
#include <sys/wait.h>

#include "base/clock.h"
#include "base/sha256.h"
#include "slot/kinds.h"

#include "snapshot-case.h"

START_TEST(test_take_and_find)
{
        struct snapshot s, found = {};
        uint8_t none[DIGEST_SIZE] = { 1 };
        struct stat st;
        char name[64];

        make_every_kind("root/data/app");
        make_left_out("root/data/app");
        s = take((char *[]){ (char *)"/data/missing", (char *)"/data/app", NULL }, 7);
        ck_assert_int_eq(s.slot, 0);
        ck_assert_str_eq(s.version, "1.2");
        ck_assert_uint_eq(s.generation, 7);
        ck_assert_uint_gt(s.created, 0);
        ck_assert_uint_eq(s.skipped, is_root() ? 4 : 1);
        ck_assert_str_eq(s.paths[0], "/data/app");
        ck_assert_ptr_null(s.paths[1]);
        ck_assert_str_eq(s.absent[0], "/data/missing");
        ck_assert_ptr_null(s.absent[1]);

        snprintf(name, sizeof(name), "snapshots/%s.tar.zst", s.id);
        ck_assert_int_eq(fstatat(place.data, name, &st, 0), 0);
        ck_assert_int_eq(st.st_mode & 07777, 0600);
        ck_assert_uint_eq((uint64_t)st.st_size, s.size);
        snprintf(name, sizeof(name), "snapshots/%s.json", s.id);
        ck_assert_int_eq(fstatat(place.data, name, &st, 0), 0);
        ck_assert_int_eq(st.st_mode & 07777, 0600);
        ck_assert_int_eq(fstatat(place.data, "snapshots", &st, 0), 0);
        ck_assert_int_eq(st.st_mode & 07777, 0700);

        ck_ok(snapshot_find(&place, s.digest, &found, e));
        ck_assert_str_eq(found.id, s.id);
        ck_assert_uint_eq(found.files, s.files);
        ck_assert_uint_eq(found.bytes, s.bytes);
        ck_assert_uint_eq(found.nodes, s.nodes);
        ck_assert_uint_eq(found.skipped, s.skipped);
        ck_assert_uint_eq(found.generation, 7);
        ck_assert_uint_eq(found.created / USEC_PER_MSEC, s.created / USEC_PER_MSEC);
        ck_ok(snapshot_verify(&place, &found, e));
        ck_refused(snapshot_find(&place, none, &found, e), kind_snapshot_missing);
        snapshot_done(&found);
        snapshot_done(&s);
}
END_TEST

/* Counted by other means. */
START_TEST(test_counts)
{
        struct snapshot s;
        char *text;

        make_every_kind("root/data/app");
        s = take(app, 1);
        text = sh_output("find root/data/app -type f | tr -dc '\\n' | wc -c; find root/data/app -printf 'x' | wc -c;"
                         "find root/data/app -type f -printf '%%i %%s\\n' | sort -u | awk '{ s += $2 } END { print s }'");
        /* A name with a newline counts twice with find -type f. */
        {
                unsigned long long files, nodes, bytes;

                ck_assert_int_eq(sscanf(text, "%llu %llu %llu", &files, &nodes, &bytes), 3);
                ck_assert_uint_eq(s.files, files - 1);
                ck_assert_uint_eq(s.nodes, nodes);
                ck_assert_uint_eq(s.bytes, bytes);
        }
        free(text);
        snapshot_done(&s);
}
END_TEST

/* The same content, made at another time, in another order of names, inodes and paths. */
START_TEST(test_reproducible)
{
        char *paths[] = { (char *)"/data/app", (char *)"/data/two", NULL }, *turned[] = { paths[1], paths[0], NULL };
        struct snapshot a, b, c;

        make_every_kind("root/data/app");
        sh("mkdir root/data/two; echo 2 > root/data/two/x");
        a = take(paths, 1);
        sh("cd root/data; mv app old; python3 - <<'EOF'\n"
           "import os\n"
           "EOF\n"
           "cp -a --sparse=always old app; rm -rf old; (cd app; cp zeros /dev/null)\n"
           "dd if=/dev/zero of=app/zeros bs=4096 count=8 conv=notrunc status=none; touch -r app/plain x; rm x");
        /* cp --sparse=always punched holes into `zeros`; it was made dense again, which changed its time. */
        sh("touch -d '2000-01-01' root/data/app/zeros");
        b = take(turned, 2);
        ck_assert_int_ne(memcmp(a.digest, b.digest, DIGEST_SIZE), 0);
        snapshot_done(&a);
        a = take(paths, 3);
        ck_assert_int_eq(memcmp(a.digest, b.digest, DIGEST_SIZE), 0);
        ck_assert_str_eq(a.id, b.id);
        sh("cd root/data; cp -a app new; cp -a --sparse=always app/sparse new/sparse; rm -rf app; mv new app");
        c = take(paths, 4);
        ck_assert_int_eq(memcmp(a.digest, c.digest, DIGEST_SIZE), 0);
        /* It says for whom it was sealed last. */
        snapshot_done(&a);
        ck_ok(snapshot_find(&place, c.digest, &a, e));
        ck_assert_uint_eq(a.generation, 4);
        snapshot_done(&a);
        snapshot_done(&b);
        snapshot_done(&c);
}
END_TEST

/* What there was not is sealed too. */
START_TEST(test_absent_counts)
{
        struct snapshot a = take((char *[]){ (char *)"/data/app", (char *)"/data/x", NULL }, 1), b = take(app, 1),
                        c = take((char *[]){ (char *)"/data/app", (char *)"/data/y/z", NULL }, 1), d = take(NULL, 1);

        ck_assert_int_ne(memcmp(a.digest, b.digest, DIGEST_SIZE), 0);
        ck_assert_int_ne(memcmp(a.digest, c.digest, DIGEST_SIZE), 0);
        ck_assert_int_ne(memcmp(d.digest, b.digest, DIGEST_SIZE), 0);
        ck_assert_uint_eq(d.files, 0);
        ck_ok(snapshot_verify(&place, &d, e));
        snapshot_done(&a);
        snapshot_done(&b);
        snapshot_done(&c);
        snapshot_done(&d);
}
END_TEST

/* By hand, with tar(1) and zstd(1), in any locale. */
START_TEST(test_unpack_by_hand)
{
        char *before, *said;
        struct snapshot s;

        make_every_kind("root/data/app");
        before = listing("root/data/app");
        s = take(app, 1);
        said = sh_output("zstd -q -t root/data/bootmgr/snapshots/%s.tar.zst; mkdir out;"
                         "LC_ALL=C tar --zstd --acls --xattrs --xattrs-include='*' --same-owner -p"
                         " -xf root/data/bootmgr/snapshots/%s.tar.zst -C out 2>&1 | grep -v -e \"'hdrcharset'$\" -e "
                         "'implausibly old' || :",
                         s.id, s.id);
        /* Two names are not ASCII, and one file is older than tar believes. */
        ck_assert_msg(!*said, "tar says: %.500s", said);
        ck_same_tree("out/data/app", before);
        free(said);
        said = sh_output("stat -c %%b out/data/app/sparse out/data/app/allhole | tr '\\n' ' '");
        ck_assert_msg(atoi(said) <= 16, "sparse has %s blocks", said);
        free(said);
        free(before);
        snapshot_done(&s);
}
END_TEST

/* Only the holes are large. */
START_TEST(test_large_sparse)
{
        uint64_t begin = now_monotonic();
        struct snapshot s;

        sh("cd root/data/app; truncate -s 9G big; printf end | dd of=big bs=1 seek=5000000000 conv=notrunc status=none;"
           "truncate -s 20G hole");
        s = take(app, 1);
        ck_assert_uint_eq(s.bytes, GIB(29));
        ck_assert_uint_lt(s.size, KIB(64));
        ck_ok(snapshot_verify(&place, &s, e));
        ck_assert_uint_lt(now_monotonic() - begin, 10 * USEC_PER_SEC);
        snapshot_done(&s);
}
END_TEST

START_TEST(test_list_and_prune)
{
        struct snapshot s[3], *list;
        uint8_t keep[1][DIGEST_SIZE];
        char *names;
        size_t n;

        ck_ok(snapshot_list(&place, &list, &n, e));
        ck_assert_uint_eq(n, 0);
        free(list);
        ck_ok(snapshot_prune(&place, NULL, 0, e));
        for (int i = 0; i < 3; i++) {
                sh("echo %d > root/data/app/x", i);
                s[i] = take(app, (uint64_t)i + 1);
        }
        sh("cd root/data/bootmgr/snapshots; echo '{' > 0123456789abcdef.json; touch 0123456789abcdef.tar.zst;"
           "echo rest > .new.tar.zst; touch 00112233.tar.zst");
        ck_ok(snapshot_list(&place, &list, &n, e));
        ck_assert_uint_eq(n, 3);
        for (int i = 0; i < 3; i++) {
                ck_assert_str_eq(list[i].id, s[2 - i].id);
                snapshot_done(&list[i]);
        }
        free(list);
        sh("mkdir -m 700 root/data/bootmgr/discarded; cd root/data/bootmgr/discarded;"
           "for i in 9 10 10-2 11 notmine; do touch $i.tar.zst $i.json; done");
        memcpy(keep[0], s[1].digest, DIGEST_SIZE);
        ck_ok(snapshot_prune(&place, (const uint8_t(*)[DIGEST_SIZE])keep, 1, e));
        ck_ok(snapshot_list(&place, &list, &n, e));
        ck_assert_uint_eq(n, 1);
        ck_assert_str_eq(list[0].id, s[1].id);
        snapshot_done(&list[0]);
        free(list);
        names = sh_output("ls -A root/data/bootmgr/discarded root/data/bootmgr/snapshots | grep -c . ;"
                          "ls root/data/bootmgr/discarded | tr '\\n' ' '");
        ck_assert_str_eq(names,
                         "12\n10-2.json 10-2.tar.zst 10.json 10.tar.zst 11.json 11.tar.zst notmine.json notmine.tar.zst ");
        free(names);
        for (int i = 0; i < 3; i++)
                snapshot_done(&s[i]);
}
END_TEST

START_TEST(test_export)
{
        struct snapshot s;
        int fds[2];
        pid_t pid;
        int status;

        sh("seq 200000 > root/data/app/x");
        s = take(app, 1);
        ck_assert_int_eq(pipe(fds), 0);
        pid = fork();
        if (pid == 0) {
                close(fds[0]);
                _exit(snapshot_export(&place, &s, fds[1], NULL) < 0);
        }
        close(fds[1]);
        {
                uint8_t digest[DIGEST_SIZE], chunk[4096];
                _cleanup_sha256_ struct sha256 *h = sha256_new();
                ssize_t n;

                while ((n = read(fds[0], chunk, sizeof(chunk))) > 0)
                        ck_assert_int_eq(sha256_update(h, chunk, (size_t)n), 0);
                ck_assert_int_eq(sha256_final(h, digest), 0);
                ck_assert_int_eq(memcmp(digest, s.digest, DIGEST_SIZE), 0);
        }
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_int_eq(status, 0);
        close(fds[0]);
        ck_assert_int_lt(snapshot_export(&place, &s, -1, NULL), 0);
        snapshot_done(&s);
}
END_TEST

START_TEST(test_estimate_is_enough)
{
        uint64_t estimate = 0, exact = 0, content = 0;
        uint8_t digest[DIGEST_SIZE];
        struct snapshot s;

        make_every_kind("root/data/app");
        sh("head -c 3000000 /dev/urandom > root/data/app/random; for i in $(seq 300); do head -c 10 /dev/urandom > "
           "root/data/app/r$i; done");
        ck_ok(snapshot_estimate(&place, app, &estimate, e));
        ck_ok(snapshot_measure(&place, app, &exact, digest, e));
        s = take(app, 1);
        ck_assert_uint_eq(exact, s.size);
        ck_assert_mem_eq(digest, s.digest, DIGEST_SIZE);
        ck_assert_uint_ge(estimate, s.size);
        ck_assert_uint_lt(estimate, 3 * s.size);
        ck_ok(snapshot_estimate(&place, NULL, &estimate, e));
        ck_ok(snapshot_content(&place, &s, &content, e));
        ck_assert_uint_ge(content, 3003000);
        ck_assert_uint_le(content, s.bytes);
        snapshot_done(&s);
        sh("truncate -s 1G root/data/app/hole && printf x >> root/data/app/hole");
        s = take(app, 2);
        ck_assert_uint_gt(s.bytes, 1 << 30);
        ck_ok(snapshot_content(&place, &s, &exact, e));
        ck_assert_uint_gt(exact, content);
        ck_assert_uint_lt(exact, content + 8192); /* holes take no room */
        snapshot_done(&s);
}
END_TEST

static int stop_after(struct progress *p, uint64_t done, uint64_t total, const char *message)
{
        uint64_t *last = p->userdata;

        ck_assert_uint_le(done, total);
        ck_assert_uint_ge(done, *last);
        *last = done;
        return done > total / 2 ? -ECANCELED : 0;
}

START_TEST(test_progress_and_cancel)
{
        uint64_t last = 0;
        struct progress p = { .report = stop_after, .userdata = &last };
        struct snapshot s = {};

        sh("for i in 1 2 3 4 5 6 7 8; do head -c 100000 /dev/urandom > root/data/app/$i; done");
        ck_assert_int_eq(snapshot_take(&place, app, 0, "1", 1, &p, &s, NULL), -ECANCELED);
        ck_assert_uint_gt(last, 0);
        sh("test -z \"$(ls -A root/data/bootmgr/snapshots)\"");
}
END_TEST

static const struct {
        const char *setup, *paths[3];
        bool good;
} path_cases[] = {
        { ":", { "/data/app" }, true },
        { ":", { "/data/app/not/there", "/srv/neither" }, true },
        { "echo x > root/data/file", { "/data/file", "/data/app" }, true },
        { ":", { NULL }, true },
        { "mkdir -p root/data/app2", { "/data/app", "/data/app2" }, true },
        { "mkdir -p root/real/app; ln -s real root/link", { "/link/app" }, true },
        { "mkdir -p root/real; ln -s /real root/link", { "/link/app" }, true }, /* absolute: within the root */
        { ":", { "data/app" }, false },
        { ":", { "" }, false },
        { ":", { "/" }, false },
        { ":", { "/data//app" }, false },
        { ":", { "/data/./app" }, false },
        { ":", { "/data/../app" }, false },
        { ":", { "/data/app/" }, false },
        { ":", { "/data/app\n" }, false },
        { ":", { "/data/\377" }, false },
        { ":", { "/data/.bootmgr-new.x" }, false },
        { ":", { "/data/app", "/data/app" }, false },
        { ":", { "/data/app", "/data/app/sub" }, false },
        { ":", { "/data/app/sub", "/data/app" }, false },
        { ":", { "/etc" }, false },
        { ":", { "/etc/app" }, false },
        { ":", { "/etcetera" }, true },
        { ":", { "/data/bootmgr" }, false },
        { ":", { "/data/bootmgr/snapshots" }, false },
        { ":", { "/data/bootmgr/not/there" }, false },
        { ":", { "/data" }, false },
        { "ln -s app root/data/link", { "/data/link" }, false },
        { "ln -s data/bootmgr root/link", { "/link/x" }, false },
        { "mkdir root/data/app/sub; ln -s data/app/sub root/link", { "/data/app", "/link/x" }, false },
        { "mkdir -p root/data/app/sub/x; ln -s data/app/sub root/link", { "/link/x", "/data/app" }, false },
        { "ln -s nowhere root/link", { "/link/x" }, true },
};

START_TEST(test_check_paths)
{
        char *const *paths = (char *const *)path_cases[_i].paths;

        sh("%s", path_cases[_i].setup);
        if (path_cases[_i].good)
                ck_ok(snapshot_check_paths(&place, paths, e));
        else
                ck_refused(snapshot_check_paths(&place, paths, e), kind_config_path);
}
END_TEST

START_TEST(test_check_long_name)
{
        char path[300] = "/data/";

        memset(path + 6, 'n', 242);
        ck_ok(snapshot_check_paths(&place, (char *[]){ path, NULL }, e));
        path[6 + 242] = 'n';
        path[6 + 243] = 'n';
        ck_refused(snapshot_check_paths(&place, (char *[]){ path, NULL }, e), kind_config_path);
}
END_TEST

/* An image's root lies in its data directory. */
START_TEST(test_root_in_data)
{
        struct snapshot_place image = { .data = place.data };
        struct snapshot s = {};

        sh("mkdir -p root/data/bootmgr/root/data/app; echo x > root/data/bootmgr/root/data/app/x");
        image.root = dir_open(place.data, "root");
        ck_ok(snapshot_check_paths(&image, app, e));
        ck_ok(snapshot_take(&image, app, 1, "1", 1, NULL, &s, e));
        ck_assert_uint_eq(s.files, 1);
        ck_assert_int_eq(s.slot, 1);
        snapshot_done(&s);
        close(image.root);
}
END_TEST

/* In a mount namespace of its own; the parent sees nothing of it. */
START_TEST(test_mount_points)
{
        static const struct {
                const char *setup;
                char *path;
        } cases[] = {
                { "mount -t tmpfs none root/data/app", (char *)"/data/app" },
                { "mkdir root/data/app/sub; mount -t tmpfs none root/data/app/sub", (char *)"/data/app" },
                { "mkdir root/data/app/sub; mount --bind root/data root/data/app/sub", (char *)"/data/app" },
                { "echo > root/data/app/f; echo > root/data/g; mount --bind root/data/g root/data/app/f",
                  (char *)"/data/app" },
                { "echo > root/data/f; echo > root/data/g; mount --bind root/data/g root/data/f", (char *)"/data/f" },
        };
        struct snapshot s = {};
        uint64_t bytes;

        if (!own_mounts())
                return;
        sh("%s", cases[_i].setup);
        ck_refused(snapshot_check_paths(&place, (char *[]){ cases[_i].path, NULL }, e), kind_config_path);
        ck_refused(snapshot_estimate(&place, (char *[]){ cases[_i].path, NULL }, &bytes, e), kind_config_path);
        ck_refused(snapshot_take(&place, (char *[]){ cases[_i].path, NULL }, 0, "1", 1, NULL, &s, e), kind_config_path);
        sh("test -z \"$(ls -A root/data/bootmgr/snapshots)\"; umount root/data/app/* root/data/app root/data/f 2>/dev/null "
           "|| :");
}
END_TEST

/* Nothing outside the root is read, whatever the links among the parents say. */
START_TEST(test_links_stay_in_root)
{
        struct snapshot s = {};

        sh("mkdir -p outside/app; echo secret > outside/app/x; ln -s ../outside root/up; ln -s '%s/outside' root/abs", dir);
        s = take((char *[]){ (char *)"/up/app", (char *)"/abs/app", NULL }, 1);
        ck_assert_ptr_null(s.paths[0]);
        ck_assert_uint_eq(s.nodes, 0);
        snapshot_done(&s);
}
END_TEST

START_TEST(test_too_deep)
{
        struct snapshot s = {};

        sh("cd root/data/app; python3 -c '\nimport os\nfor i in range(600):\n os.mkdir(\"d\"); os.chdir(\"d\")'");
        ck_refused(snapshot_take(&place, app, 0, "1", 1, NULL, &s, e), kind_config_path);
        ck_refused(snapshot_check_paths(&place, app, e), kind_config_path);
}
END_TEST

START_TEST(test_symlink_as_path)
{
        struct snapshot s;

        sh("rmdir root/data/app; ln -s elsewhere root/data/app");
        s = take(app, 1);
        ck_assert_uint_eq(s.nodes, 1);
        ck_assert_uint_eq(s.files, 0);
        ck_ok(snapshot_verify(&place, &s, e));
        snapshot_done(&s);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("snapshot");
        TCase *t = tcase_create("all");

        say_reduced("mount points, owners, trusted and security attributes, device nodes");
        tcase_add_checked_fixture(t, machine_begin, machine_end);
        tcase_set_timeout(t, 120);
        tcase_add_test(t, test_take_and_find);
        tcase_add_test(t, test_counts);
        tcase_add_test(t, test_reproducible);
        tcase_add_test(t, test_absent_counts);
        tcase_add_test(t, test_unpack_by_hand);
        tcase_add_test(t, test_large_sparse);
        tcase_add_test(t, test_list_and_prune);
        tcase_add_test(t, test_export);
        tcase_add_test(t, test_estimate_is_enough);
        tcase_add_test(t, test_progress_and_cancel);
        tcase_add_loop_test(t, test_check_paths, 0, ARRAY_SIZE(path_cases));
        tcase_add_test(t, test_check_long_name);
        tcase_add_test(t, test_root_in_data);
        tcase_add_loop_test(t, test_mount_points, 0, 5);
        tcase_add_test(t, test_links_stay_in_root);
        tcase_add_test(t, test_too_deep);
        tcase_add_test(t, test_symlink_as_path);
        suite_add_tcase(s, t);
        return suite_run(s);
}
