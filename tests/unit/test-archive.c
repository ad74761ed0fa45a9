/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Nodes through archives and back, what damage does to them, and the names in them. */
#include <archive.h>
#include <archive_entry.h>
#include <locale.h>

#include "base/text.h"
#include "snapshot/acl.h"
#include "snapshot/path.h"
#include "snapshot/walk.h"

#include "archive-case.h"

static int add_node(struct walk *w, struct node *n, int dirfd, const char *name, int fd, struct error *e)
{
        return tar_writer_add(w->userdata, n, fd, e);
}

static void archive_tree(int fd, const char *name, const char *trailer, uint64_t *size, uint8_t digest[static 32])
{
        _cleanup_tar_writer_ struct tar_writer *tar = NULL;

        ck_ok(tar_writer_new(fd, &tar, e));
        {
                _cleanup_walk_ struct walk w = { .visit = add_node, .userdata = tar };

                ck_ok(walk_tree(&w, place.root, name, name, e));
        }
        ck_ok(tar_writer_finish(tar, trailer, strlen(trailer), size, digest, e));
}

/* Two passes give the same bytes, whatever the locale. */
START_TEST(test_round_trip)
{
        static const char *const locales[] = { "C", "C.UTF-8" };
        int fd = new_file("a"), other = new_file("b");
        uint8_t digest[32], again[32], whole[32];
        uint64_t size, size2;
        struct buf b = {};

        make_every_kind("root/tree");
        setlocale(LC_ALL, locales[_i]);
        archive_tree(fd, "tree", "{\"trailer\":1}", &size, digest);
        setlocale(LC_ALL, locales[!_i]);
        archive_tree(other, "tree", "{\"trailer\":1}", &size2, again);
        ck_assert_int_eq(memcmp(digest, again, 32), 0);
        ck_assert_uint_eq(size, size2);
        ck_assert_int_eq(sha256_fd(fd, 0, UINT64_MAX, whole), 0);
        ck_assert_int_eq(memcmp(digest, whole, 32), 0);
        ck_assert_int_eq(read_all(fd, &b), 0);
        sh("zstd -q -t < root/a; zstd -qdc < root/a | tar -tf - > /dev/null 2>&1; ! grep -q trailer root/tree/plain;"
           "tail -c 13 root/a | grep -q '^{\"trailer\":1}$'");
        ck_assert_ptr_nonnull(strstr(b.data, "tree/bad\377\376utf "));
        ck_assert_ptr_nonnull(strstr(b.data, "tree/gr\303\274n "));
        ck_assert_ptr_nonnull(strstr(b.data, "tree/new\nline "));
        ck_assert_ptr_nonnull(strstr(b.data, " user.od=d%41:"));
        ck_assert_ptr_nonnull(strstr(b.data, "280/end "));
        buf_done(&b);
        close(fd);
        close(other);
}
END_TEST

/* Any damage is an error or goes unseen here (the digest sees it), and never more than that. */
START_TEST(test_damage)
{
        int fd = new_file("a"), damaged = new_file("b");
        uint64_t size;
        uint8_t digest[32], *bytes;

        sh("mkdir root/tree; cd root/tree; echo x > plain; setfattr -n user.x -v 1 plain; setfacl -m u:5:r plain;"
           "ln -s y soft; ln plain hard; truncate -s 1M sparse; printf x >> sparse");
        archive_tree(fd, "tree", "t", &size, digest);
        bytes = malloc(size);
        ck_assert_int_eq(io_pread(fd, bytes, size, 0), 0);
        for (uint64_t i = 0; i < 8 * size; i += 3) {
                struct buf b = {};

                bytes[i / 8] ^= (uint8_t)(1 << i % 8);
                ck_assert_int_eq(io_pwrite(damaged, bytes, size, 0), 0);
                bytes[i / 8] ^= (uint8_t)(1 << i % 8);
                read_all(damaged, &b);
                buf_done(&b);
        }
        for (uint64_t i = 0; i < size; i++) {
                struct buf b = {};

                ck_assert_int_eq(ftruncate(fd, (off_t)(size - 1 - i)), 0);
                read_all(fd, &b);
                buf_done(&b);
        }
        free(bytes);
        close(fd);
        close(damaged);
}
END_TEST

/* The same for the tar inside, which the frame's checks would hide: it is compressed again. */
START_TEST(test_damage_inside)
{
        int fd = new_file("a");
        uint8_t digest[32];
        uint64_t size;
        struct stat st;
        char *tar;

        sh("mkdir root/tree; cd root/tree; echo x > plain; setfattr -n user.x -v 1 plain; setfacl -m u:5:r plain;"
           "ln -s y soft; truncate -s 1M sparse; printf x >> sparse; echo u > \"$(printf 'gr\\303\\274n')\"");
        archive_tree(fd, "tree", "t", &size, digest);
        close(fd);
        sh("zstd -qdc root/a > root/tar");
        ck_assert_int_eq(fstatat(place.root, "tar", &st, 0), 0);
        tar = malloc((size_t)st.st_size);
        fd = openat(place.root, "tar", O_RDONLY);
        ck_assert_int_eq(io_pread(fd, tar, (size_t)st.st_size, 0), 0);
        close(fd);
        fd = new_file("b");
        for (off_t i = 0; i < st.st_size; i++) {
                struct archive *zstd;
                struct archive_entry *entry;
                struct buf b = {};

                /* Blocks of zeros stay. */
                if (is_all_zero(tar + i / 512 * 512, 512) && i % 512)
                        continue;
                zstd = archive_write_new();
                entry = archive_entry_new();
                tar[i] ^= 1 << i % 7;
                ck_assert_int_eq(ftruncate(fd, 0), 0);
                ck_assert_int_eq(lseek(fd, 0, SEEK_SET), 0);
                archive_write_set_format_raw(zstd);
                archive_write_add_filter_zstd(zstd);
                archive_write_set_filter_option(zstd, "zstd", "compression-level", "1");
                archive_write_set_bytes_in_last_block(zstd, 1);
                ck_assert_int_eq(archive_write_open_fd(zstd, fd), ARCHIVE_OK);
                archive_entry_set_filetype(entry, AE_IFREG);
                archive_write_header(zstd, entry);
                archive_write_data(zstd, tar, (size_t)st.st_size);
                archive_write_free(zstd);
                archive_entry_free(entry);
                tar[i] ^= 1 << i % 7;
                read_all(fd, &b);
                buf_done(&b);
        }
        free(tar);
        close(fd);
}
END_TEST

/* The bytes that were read are those that are held against the digest, the trailer too. */
START_TEST(test_digest_at_the_end)
{
        uint8_t digest[32];
        uint64_t size;
        int fd = new_file("a");

        sh("mkdir root/tree; echo x > root/tree/x");
        archive_tree(fd, "tree", "trailer", &size, digest);
        for (int i = 0; i < 2; i++) {
                _cleanup_tar_reader_ struct tar_reader *tar = NULL;
                _cleanup_error_ struct error why = {};
                int r;

                ck_ok(tar_reader_new(fd, digest, &tar, e));
                do {
                        _cleanup_node_ struct node n = {};

                        r = tar_reader_next(tar, &n, &why);
                } while (r > 0);
                ck_assert_int_eq(r, i == 0 ? 0 : -EBADMSG);
                ck_assert(i == 0 || why.kind == &kind_snapshot_altered);
                ck_assert_int_eq(pwrite(fd, "T", 1, (off_t)size - 7), 1);
        }
        close(fd);
}
END_TEST

struct acl_entry {
        uint16_t tag, permissions;
        uint32_t id;
};

static const struct {
        size_t n;
        struct acl_entry entries[8];
        uint32_t version;
        size_t cut; /* bytes missing at the end */
        bool good;
} acls[] = {
        { 6,
          { { 1, 7, -1U }, { 2, 5, 10 }, { 4, 4, -1U }, { 8, 6, 4000000000 }, { 16, 7, -1U }, { 32, 0, -1U } },
          2,
          0,
          true },
        { 5, { { 1, 6, -1U }, { 2, 7, 3 }, { 4, 4, -1U }, { 16, 5, -1U }, { 32, 1, -1U } }, 2, 0, true },
        { 6, { { 1, 6, -1U }, { 2, 7, 9 }, { 2, 6, 3 }, { 4, 4, -1U }, { 16, 5, -1U }, { 32, 1, -1U } }, 2, 0, true },
        { 5, { { 1, 6, -1U }, { 2, 7, 3 }, { 4, 4, -1U }, { 16, 5, -1U }, { 32, 1, -1U } }, 1, 0, false },
        { 5, { { 1, 6, -1U }, { 2, 7, 3 }, { 4, 4, -1U }, { 16, 5, -1U }, { 32, 1, -1U } }, 2, 1, false },
        { 1, { { 64, 7, -1U } }, 2, 0, false },
        { 1, { { 1, 8, -1U } }, 2, 0, false },
        { 0, {}, 2, 2, false },
};

START_TEST(test_acl)
{
        static const int types[] = { ARCHIVE_ENTRY_ACL_TYPE_ACCESS, ARCHIVE_ENTRY_ACL_TYPE_DEFAULT };
        static const char *const names[] = { XATTR_ACL_ACCESS, XATTR_ACL_DEFAULT };
        uint8_t bytes[128];
        size_t size = 4;

        put_le32(bytes, acls[_i].version);
        for (size_t i = 0; i < acls[_i].n; i++, size += 8) {
                put_le16(bytes + size, acls[_i].entries[i].tag);
                put_le16(bytes + size + 2, acls[_i].entries[i].permissions);
                put_le32(bytes + size + 4, acls[_i].entries[i].id);
        }
        for (size_t t = 0; t < 2; t++) {
                struct archive_entry *entry = archive_entry_new();
                struct node n = {}, back = { .mode = S_IFREG | 0600 };
                const struct xattr *x;
                int r;

                ck_assert_int_eq(xattr_add(&n.xattrs, names[t], bytes, size - acls[_i].cut), 0);
                archive_entry_set_mode(entry, S_IFREG | 0777);
                r = acl_to_entry(n.xattrs, types[t], entry);
                ck_assert_int_eq(r, acls[_i].good ? 0 : -EBADMSG);
                if (r >= 0) {
                        ck_assert_int_eq(acl_from_entry(entry, &back), 0);
                        x = xattr_find(back.xattrs, names[t]);
                        ck_assert_ptr_nonnull(x);
                        ck_assert_ptr_null(x->next);
                        ck_assert(xattr_same(n.xattrs, back.xattrs));
                }
                archive_entry_free(entry);
                node_done(&n);
                node_done(&back);
        }
}
END_TEST

/* The device is full in the middle of a large file. */
START_TEST(test_full)
{
        _cleanup_tar_writer_ struct tar_writer *tar = NULL;
        _cleanup_node_ struct node n = {};
        int fd = new_file("a"), from;

        sh("head -c 3000000 /dev/urandom > root/random");
        ck_ok(node_stat(place.root, "random", "random", &n, e));
        ck_ok(node_open(place.root, "random", &n, &from, e));
        ck_ok(tar_writer_new(fd, &tar, e));
        faults_begin(3, -ENOSPC, true);
        ck_refused(tar_writer_add(tar, &n, from, e), kind_no_space);
        tar_writer_free(tar);
        tar = NULL;
        ck_assert_uint_eq(faults_end(), 3);
        close(from);
        close(fd);
}
END_TEST

/* A file that is cut short while it is read. */
START_TEST(test_shrinks)
{
        _cleanup_tar_writer_ struct tar_writer *tar = NULL;
        _cleanup_node_ struct node n = {};
        int fd = new_file("a"), from;

        sh("head -c 3000000 /dev/urandom > root/random");
        ck_ok(node_stat(place.root, "random", "random", &n, e));
        ck_ok(node_open(place.root, "random", &n, &from, e));
        ck_ok(tar_writer_new(fd, &tar, e));
        sh("truncate -s 1000000 root/random");
        ck_assert_int_eq(tar_writer_add(tar, &n, from, NULL), -EAGAIN);
        close(from);
        close(fd);
}
END_TEST

static const struct {
        const char *path, *printable;
        bool clean;
} names[] = {
        { "a/b", "a/b", true },
        { "a", "a", true },
        { "", "", false },
        { "/a", "/a", false },
        { "a/", "a/", false },
        { "a//b", "a//b", false },
        { ".", ".", false },
        { "a/..", "a/..", false },
        { "a/.../..b", "a/.../..b", true },
        { "tab\t\n\\", "tab\\x09\\x0a\\x5c", true },
        { "gr\303\274n \342\202\254 \360\237\230\200", "gr\303\274n \342\202\254 \360\237\230\200", true },
        { "\377\302", "\\xff\\xc2", true },
        { "\300\200", "\\xc0\\x80", true },          /* overlong */
        { "\355\240\200", "\\xed\\xa0\\x80", true }, /* a surrogate */
        { "\364\220\200\200", "\\xf4\\x90\\x80\\x80", true },
        { "\302\233[2J\033[", "\\xc2\\x9b[2J\\x1b[", true }, /* what would steer a terminal */
        { "\177", "\\x7f", true },
};

START_TEST(test_names)
{
        char *printable = text_escape(names[_i].path);

        ck_assert_str_eq(printable, names[_i].printable);
        ck_assert_int_eq(path_is_clean(names[_i].path), names[_i].clean);
        free(printable);
}
END_TEST

START_TEST(test_below)
{
        ck_assert_str_eq(path_below("/a/b", "/a"), "b");
        ck_assert_str_eq(path_below("/a/b/c", "/a"), "b/c");
        ck_assert_str_eq(path_below("/a", "/a"), "");
        ck_assert_ptr_null(path_below("/ab", "/a"));
        ck_assert_ptr_null(path_below("/", "/a"));
        ck_assert(text_is_printable("a\tb\r\n\f", 6));
        ck_assert(!text_is_printable("a\0b", 3));
        ck_assert(!text_is_printable("\033[1m", 4));
        ck_assert(!text_is_printable("\303", 1));
        ck_assert(text_is_printable("", 0));
}
END_TEST

int main(void)
{
        Suite *s = suite_create("archive");
        TCase *t = tcase_create("all");

        say_reduced("owners, trusted and security attributes");
        tcase_add_checked_fixture(t, machine_begin, machine_end);
        tcase_set_timeout(t, 120);
        tcase_add_loop_test(t, test_round_trip, 0, 2);
        tcase_add_test(t, test_damage);
        tcase_add_test(t, test_damage_inside);
        tcase_add_test(t, test_digest_at_the_end);
        tcase_add_loop_test(t, test_acl, 0, ARRAY_SIZE(acls));
        tcase_add_test(t, test_full);
        tcase_add_test(t, test_shrinks);
        tcase_add_loop_test(t, test_names, 0, ARRAY_SIZE(names));
        tcase_add_test(t, test_below);
        suite_add_tcase(s, t);
        return suite_run(s);
}
