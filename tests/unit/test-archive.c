/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Nodes through archives and back, and archives that somebody else made. */
#include <archive.h>
#include <archive_entry.h>
#include <locale.h>
#include <sys/resource.h>
#include <zstd.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>

#include "base/text.h"
#include "slot/kinds.h"
#include "snapshot/acl.h"
#include "snapshot/archive.h"
#include "snapshot/path.h"
#include "snapshot/unpack.h"
#include "snapshot/walk.h"
#include "tree.h"

static int new_file(const char *name)
{
        int fd = openat(place.root, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        ck_assert_int_ge(fd, 0);
        return fd;
}

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

/* What the reader says, as one text; -errno at the first failure. */
static int read_all(int fd, struct buf *b)
{
        _cleanup_tar_reader_ struct tar_reader *tar = NULL;
        _cleanup_error_ struct error why = {};
        int r = tar_reader_new(fd, NULL, &tar, &why);

        while (r >= 0) {
                _cleanup_node_ struct node n = {};
                uint64_t offset, at = 0;
                const void *data;
                size_t size;

                r = tar_reader_next(tar, &n, &why);
                if (r <= 0)
                        break;
                buf_printf(b, "%s %o %u %u %lld.%ld %llu %s %s", n.path, n.mode, n.uid, n.gid, (long long)n.mtime.tv_sec,
                           n.mtime.tv_nsec, (unsigned long long)n.size, n.target ?: "-", n.hardlink ?: "-");
                for (const struct xattr *x = n.xattrs; x; x = x->next)
                        buf_printf(b, " %s:%08x:%zu", x->name, crc32c(0, x->value, x->size), x->size);
                while ((r = tar_reader_block(tar, &data, &size, &offset, &why)) > 0) {
                        ck_assert_uint_ge(offset, at);
                        at = offset + size;
                        ck_assert_uint_le(at, n.size);
                        buf_printf(b, " %08x", crc32c(0, data, size));
                }
                buf_puts(b, "\n");
        }
        if (r < 0) {
                ck_assert_ptr_nonnull(why.message);
                ck_assert_ptr_eq(why.kind, &kind_snapshot_altered);
        }
        return r;
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

/* What asks for memory before anything of it is of use: a window of 16 MiB, archives within archives, a list of extents
 * without an end. */
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
        tcase_add_loop_test(t, test_hostile, 0, ARRAY_SIZE(hostile));
        tcase_add_test(t, test_not_hostile);
        tcase_add_test(t, test_bombs);
        tcase_add_test(t, test_memory_is_bounded);
        tcase_add_loop_test(t, test_pax_records, 0, ARRAY_SIZE(pax));
        tcase_add_test(t, test_attribute_has_a_bound);
        tcase_add_test(t, test_frame_without_its_end);
        tcase_add_test(t, test_endless_list_of_extents);
        tcase_add_test(t, test_digest_at_the_end);
        tcase_add_loop_test(t, test_acl, 0, ARRAY_SIZE(acls));
        tcase_add_test(t, test_full);
        tcase_add_test(t, test_shrinks);
        tcase_add_loop_test(t, test_names, 0, ARRAY_SIZE(names));
        tcase_add_test(t, test_below);
        suite_add_tcase(s, t);
        return suite_run(s);
}
