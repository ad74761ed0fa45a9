/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Archives that somebody else made: what is outside stays as it is, and memory and disk do not run out. */
#include <archive.h>
#include <archive_entry.h>
#include <sys/resource.h>
#include <zstd.h>

#include "snapshot/unpack.h"

#include "archive-case.h"

/* One entry that no archive of ours holds. */
static const struct hostile {
        const char *name;
        mode_t mode;
        const char *link, *symlink;
        bool reader; /* refused already when it is read */
} hostile[] = {
        { "/etc/passwd", S_IFREG, NULL, NULL, true },
        { "tree/../../out", S_IFREG, NULL, NULL, true },
        { "..", S_IFDIR, NULL, NULL, true },
        { "tree/..", S_IFDIR, NULL, NULL, true },
        { "./tree/x", S_IFREG, NULL, NULL, true },
        { "tree/./x", S_IFREG, NULL, NULL, true },
        { "tree//x", S_IFREG, NULL, NULL, true },
        { "tree/null", S_IFCHR, NULL, NULL, true },
        { "tree/disk", S_IFBLK, NULL, NULL, true },
        { "tree/hard", S_IFREG, "/etc/passwd", NULL, true },
        { "tree/hard", S_IFREG, "../out", NULL, true },
        { "tree/hard", S_IFREG, "tree/../../out", NULL, true },
        { "tree/hard", S_IFREG, "out", NULL, false },
        { "tree/hard", S_IFREG, "tree/missing", NULL, false },
        { "tree/hard", S_IFREG, "tree/link/x", NULL, false },
        { "out/x", S_IFREG, NULL, NULL, false },
        { "tree2", S_IFREG, NULL, NULL, false },
        { "tree/link/x", S_IFREG, NULL, NULL, false }, /* through the symbolic link */
        { "tree/link/x", S_IFDIR, NULL, NULL, false },
        { "tree/link", S_IFREG, NULL, NULL, false }, /* over it */
        { "tree/link", S_IFDIR, NULL, NULL, false },
        { "tree/dir", S_IFDIR, NULL, NULL, false }, /* twice */
        { "tree/dir", S_IFLNK, NULL, "/", false },
        { "tree/dir/link2/x", S_IFREG, NULL, NULL, false },
        { "tree/no/such/dir", S_IFREG, NULL, NULL, false },
        { "tree/file/x", S_IFREG, NULL, NULL, false },
};

static void put_entry(struct archive *a, const struct hostile *h)
{
        struct archive_entry *entry = archive_entry_new();

        archive_entry_set_pathname(entry, h->name);
        archive_entry_set_mode(entry, h->mode | 0755);
        archive_entry_set_size(entry, 0);
        if (h->symlink)
                archive_entry_set_symlink(entry, h->symlink);
        if (h->link)
                archive_entry_set_hardlink(entry, h->link);
        ck_assert_int_le(archive_write_header(a, entry), ARCHIVE_OK);
        archive_entry_free(entry);
}

static int no_content(void *userdata, const struct node *n, int fd, struct error *e)
{
        return 0;
}

/* Reads and unpacks as tree -> new; the reader's failure counts as one. */
static int unpack_archive(int fd, bool *ret_reader, struct error *e)
{
        const struct root root = { "tree", place.root, "new" };
        _cleanup_unpack_ struct unpack u = { .roots = { &root, 1 }, .bytes_max = 100, .nodes_max = 100 };
        _cleanup_tar_reader_ struct tar_reader *tar = NULL;
        int r = tar_reader_new(fd, NULL, &tar, e);

        while (r >= 0) {
                _cleanup_node_ struct node n = {};

                r = tar_reader_next(tar, &n, e);
                *ret_reader = r < 0;
                if (r <= 0)
                        break;
                n.uid = geteuid();
                n.gid = getegid();
                r = unpack_add(&u, &n, no_content, NULL, e);
        }
        return r < 0 ? r : unpack_finish(&u, e);
}

START_TEST(test_hostile)
{
        static const struct hostile before[] = {
                { "tree", S_IFDIR },
                { "tree/dir", S_IFDIR },
                { "tree/file", S_IFREG },
                { "tree/link", S_IFLNK, NULL, "../out" },
                { "tree/dir/link2", S_IFLNK, NULL, "/etc" },
        };
        struct archive *a = archive_write_new();
        _cleanup_error_ struct error why = {};
        int fd = new_file("a"), r;
        bool reader = false;
        char *outside;

        sh("mkdir root/out; echo mine > root/out/mine");
        outside = listing("root/out");
        archive_write_set_format_pax(a);
        archive_write_add_filter_zstd(a);
        ck_assert_int_eq(archive_write_open_fd(a, fd), ARCHIVE_OK);
        for (size_t i = 0; i < ARRAY_SIZE(before); i++)
                put_entry(a, &before[i]);
        if (_i >= 0)
                put_entry(a, &hostile[_i]);
        archive_write_free(a);
        r = unpack_archive(fd, &reader, &why);
        ck_assert_int_lt(r, 0);
        ck_assert_ptr_nonnull(why.message);
        ck_assert_msg(reader == hostile[_i].reader, "%s", why.message);
        ck_same_tree("root/out", outside);
        free(outside);
        close(fd);
}
END_TEST

/* What stands before the hostile entries is good. */
START_TEST(test_not_hostile)
{
        struct archive *a = archive_write_new();
        int fd = new_file("a");
        bool reader = false;

        archive_write_set_format_pax(a);
        archive_write_add_filter_zstd(a);
        ck_assert_int_eq(archive_write_open_fd(a, fd), ARCHIVE_OK);
        put_entry(a, &(struct hostile){ "tree", S_IFDIR });
        put_entry(a, &(struct hostile){ "tree/link", S_IFLNK, NULL, "../../out" });
        put_entry(a, &(struct hostile){ "tree/file", S_IFREG });
        put_entry(a, &(struct hostile){ "tree/hard", S_IFREG, "tree/file" });
        archive_write_free(a);
        ck_ok(unpack_archive(fd, &reader, e));
        sh("test -L root/new/link; test root/new/file -ef root/new/hard");
        close(fd);
}
END_TEST

/* Compressed as somebody else would. */
static int put_frame(const char *name, const void *data, size_t size, int window)
{
        ZSTD_CCtx *c = ZSTD_createCCtx();
        size_t room = ZSTD_compressBound(size), n;
        char *frame = malloc(room);
        int fd = new_file(name);

        ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, window);
        ZSTD_CCtx_setParameter(c, ZSTD_c_contentSizeFlag, window == 0);
        ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1);
        n = ZSTD_compress2(c, frame, room, data, size);
        ck_assert(!ZSTD_isError(n));
        ck_assert_int_eq(pwrite(fd, frame, n, 0), (ssize_t)n);
        free(frame);
        ZSTD_freeCCtx(c);
        return fd;
}

/* What asks for memory before anything of it is of use: a window of 16 MiB, archives within archives. */
START_TEST(test_memory_is_bounded)
{
        struct hostile good = { "tree", S_IFDIR };
        struct archive *a = archive_write_new();
        _cleanup_free_ char *tar = calloc(1, MIB(16));
        struct buf out = {};
        size_t used = 0;
        int fd;

        archive_write_set_format_pax(a);
        ck_assert_int_eq(archive_write_open_memory(a, tar, MIB(16), &used), ARCHIVE_OK);
        put_entry(a, &good);
        archive_write_free(a);
        fd = put_frame("good", tar, used, 0);
        ck_assert_int_eq(read_all(fd, &out), 0);
        close(fd);
        fd = put_frame("window", tar, MIB(16), 24);
        ck_assert_int_lt(read_all(fd, &out), 0);
        close(fd);
        {
                char *frame = malloc(used);
                size_t n = ZSTD_compress(frame, used, tar, used, 3);

                fd = put_frame("twice", frame, n, 0);
                ck_assert_int_lt(read_all(fd, &out), 0);
                close(fd);
                free(frame);
        }
        buf_done(&out);
}
END_TEST

/* A file and the pax records that are about it, as the two headers of a tar; returns where its `size` bytes begin. */
static char *put_headers(char *tar, const char *records, int size)
{
        char *p = tar;

        for (int i = 0; i < 2; i++, p += 512) {
                unsigned sum = 0;

                snprintf(p, 100, "x");
                memcpy(p + 100, "0000644\0000000000\0000000000", 24);
                snprintf(p + 124, 12, "%011o", i ? size : (int)strlen(records));
                memcpy(p + 136, "00000000000", 12);
                memset(p + 148, ' ', 8);
                p[156] = i ? '0' : 'x';
                memcpy(p + 257, "ustar\00000", 8);
                for (int k = 0; k < 512; k++)
                        sum += (uint8_t)p[k];
                snprintf(p + 148, 8, "%06o", sum);
                if (i == 0) {
                        memcpy(p + 512, records, strlen(records));
                        p += (strlen(records) + 511) / 512 * 512;
                }
        }
        return p;
}

/* What libarchive reads, leaves out, or makes of it what it likes: extents that go back, records and names that are
 * none, attributes that no file may get. */
static const struct {
        const char *records;
        bool good;
} pax[] = {
        { "24 SCHILY.xattr.user.a=\n", true },
        { "24 GNU.sparse.size=2048\n26 GNU.sparse.numblocks=2\n"
          "33 GNU.sparse.map=0,512,1024,512\n",
          true },
        { "24 GNU.sparse.size=2048\n26 GNU.sparse.numblocks=2\n"
          "33 GNU.sparse.map=1024,512,0,512\n",
          false },
        { "11 novalue\n", false },
        { "11 uname=\377\n", false },
        { "31 SCHILY.xattr.security.evm=x\n", false },
        { "35 SCHILY.xattr.system.something=x\n", false },
        { "20 path=tree/../out\n", false },
};

START_TEST(test_pax_records)
{
        _cleanup_free_ char *tar = calloc(1, 8 * 512);
        size_t length = 0, stated = 0;
        struct buf out = {};
        int fd;

        for (const char *p = pax[_i].records; *p; p += stated, length += stated)
                ck_assert_msg((stated = strtoul(p, NULL, 10)) > 0 && p[stated - 1] == '\n', "at %zu", length);
        memset(put_headers(tar, pax[_i].records, 1024), 'x', 1024);
        fd = put_frame("pax", tar, 8 * 512, 0);
        if (pax[_i].good)
                ck_assert_msg(read_all(fd, &out) == 0, "%s", out.data);
        else
                ck_assert_int_eq(read_all(fd, &out), -EBADMSG);
        close(fd);
        buf_done(&out);
}
END_TEST

/* One attribute with a value that no file can have. */
START_TEST(test_attribute_has_a_bound)
{
        for (size_t more = 0; more < 2; more++) {
                size_t value = XATTR_VALUE_MAX + more, size = value + 64;
                _cleanup_free_ char *tar = calloc(1, size + 8 * 512), *records = calloc(1, size);
                struct buf out = {};
                char *end;
                int fd;

                end = records + snprintf(records, size, "%zu SCHILY.xattr.user.a=", value + 27);
                memset(end, 'v', value);
                end[value] = '\n';
                ck_assert_uint_eq(strlen(records), value + 27);
                put_headers(tar, records, 0);
                fd = put_frame("attribute", tar, size + 8 * 512, 0);
                ck_assert_int_eq(read_all(fd, &out), more ? -EBADMSG : 0);
                close(fd);
                buf_done(&out);
        }
}
END_TEST

/* All of the tar can be read, but what follows of its frame is missing. */
START_TEST(test_frame_without_its_end)
{
        _cleanup_free_ char *tar = calloc(1, 4 * 512);
        struct buf out = {};
        struct stat st;
        int fd;

        put_headers(tar, "24 SCHILY.xattr.user.a=\n", 0);
        fd = put_frame("end", tar, 3 * 512, 0);
        ck_assert_int_eq(read_all(fd, &out), 0);
        ck_assert_int_eq(fstat(fd, &st), 0);
        ck_assert_int_eq(ftruncate(fd, st.st_size - 1), 0); /* of its checksum */
        ck_assert_int_eq(read_all(fd, &out), -EBADMSG);
        close(fd);
        buf_done(&out);
}
END_TEST

/* GNU.sparse 1.0: the list stands before the data, and says how long it is. */
START_TEST(test_endless_list_of_extents)
{
        enum { LIST = 100 << 20 };
        char *tar = calloc(1, LIST + 16 * 512), *p;
        struct rlimit limit, before;
        struct buf out = {};
        int fd;

        p = put_headers(tar,
                        "22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n25 GNU.sparse.name=tree/f\n"
                        "28 GNU.sparse.realsize=4096\n",
                        LIST);
        p += snprintf(p, 32, "99999999\n");
        for (int i = 0; i + 4 < LIST - 32; i += 4)
                memcpy(p + i, "0\n0\n", 4);
        fd = put_frame("list", tar, LIST + 4 * 512, 0);
        free(tar);
        ck_assert_int_eq(getrlimit(RLIMIT_AS, &before), 0);
        limit = before;
#ifndef __SANITIZE_ADDRESS__ /* which reserves terabytes */
        limit.rlim_cur = GIB(1);
#endif
        ck_assert_int_eq(setrlimit(RLIMIT_AS, &limit), 0);
        ck_assert_int_lt(read_all(fd, &out), 0);
        setrlimit(RLIMIT_AS, &before);
        close(fd);
        buf_done(&out);
}
END_TEST

/* More than the description says. */
START_TEST(test_bombs)
{
        const struct root root = { "tree", place.root, "new" };
        struct unpack u = { .roots = { &root, 1 }, .bytes_max = 10, .nodes_max = 3 };
        struct node n = { .path = (char *)"tree", .mode = S_IFDIR | 0755, .uid = geteuid(), .gid = getegid() };
        struct node top = n;

        top.path = strdup("tree");
        ck_ok(unpack_add(&u, &top, no_content, NULL, e));
        n.mode = S_IFREG | 0644;
        n.path = (char *)"tree/a";
        n.size = 11;
        ck_refused(unpack_add(&u, &n, no_content, NULL, e), kind_snapshot_altered);
        n.size = 10;
        ck_ok(unpack_add(&u, &n, no_content, NULL, e));
        n.path = (char *)"tree/b";
        n.size = 1;
        ck_refused(unpack_add(&u, &n, no_content, NULL, e), kind_snapshot_altered);
        n.size = 0;
        ck_ok(unpack_add(&u, &n, no_content, NULL, e));
        n.path = (char *)"tree/c";
        ck_refused(unpack_add(&u, &n, no_content, NULL, e), kind_snapshot_altered);
        ck_ok(unpack_finish(&u, e));
        unpack_done(&u);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("archive-hostile");
        TCase *t = tcase_create("all");

        tcase_add_checked_fixture(t, machine_begin, machine_end);
        tcase_set_timeout(t, 120);
        tcase_add_loop_test(t, test_hostile, 0, ARRAY_SIZE(hostile));
        tcase_add_test(t, test_not_hostile);
        tcase_add_test(t, test_bombs);
        tcase_add_test(t, test_memory_is_bounded);
        tcase_add_loop_test(t, test_pax_records, 0, ARRAY_SIZE(pax));
        tcase_add_test(t, test_attribute_has_a_bound);
        tcase_add_test(t, test_frame_without_its_end);
        tcase_add_test(t, test_endless_list_of_extents);
        suite_add_tcase(s, t);
        return suite_run(s);
}
