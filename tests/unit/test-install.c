/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A bundle into a slot: the order of writes, recorded by the I/O layer; what stops it; what is checked before and after. */
#include "bundles.h"

#include <sys/stat.h>

#include "image/install.h"
#include "storage/disk.h"

#define OFFSET     8192 /* of the slot in its image */
#define SLOT_BYTES (8 * CHUNK)
#define FIRST      4096 /* the block that is written last */

/* What happened, in order: writes and flushes of the root, the boot files, what is kept on data. */
enum what { WRITE, ZERO, FLUSH, BOOT_FILE, KEPT };
static struct {
        enum what what;
        uint64_t offset, size; /* within the slot */
} events[256];
static size_t n_events;
static struct stat root_file;

/* Through whichever descriptor. */
static bool is_slot(int fd)
{
        struct stat st;

        return fstat(fd, &st) == 0 && st.st_dev == root_file.st_dev && st.st_ino == root_file.st_ino;
}

static void note(enum what what, uint64_t offset, uint64_t size)
{
        ck_assert_uint_lt(n_events, ARRAY_SIZE(events));
        events[n_events].what = what;
        events[n_events].offset = offset - OFFSET;
        events[n_events++].size = size;
}

static ssize_t record_pwrite(int fd, const void *data, size_t n, uint64_t offset)
{
        if (is_slot(fd))
                note(WRITE, offset, n);
        return io_system_ops.pwrite(fd, data, n, offset);
}

static int record_zero(int fd, uint64_t offset, uint64_t length)
{
        if (is_slot(fd))
                note(ZERO, offset, length);
        return io_system_ops.zero(fd, offset, length);
}

static int record_fsync(int fd)
{
        if (is_slot(fd))
                note(FLUSH, OFFSET, 0);
        return 0;
}

static int record_rename(int olddir, const char *old, int newdir, const char *new, unsigned flags)
{
        if (streq(new, "slots/b"))
                note(KEPT, OFFSET, 0);
        return io_system_ops.rename(olddir, old, newdir, new, flags);
}

static uint8_t boot_file[KERNEL_SIZE];

static int take_boot_file(struct loader *l, int fd, uint64_t size, const uint8_t id[BOOT_FILE_ID_SIZE], struct error *e)
{
        uint8_t digest[DIGEST_SIZE], own[BOOT_FILE_ID_SIZE];

        note(BOOT_FILE, OFFSET, size);
        ck_assert_uint_eq(size, KERNEL_SIZE);
        ck_assert_int_eq(sha256_fd(fd, 0, UINT64_MAX, digest), 0);
        boot_file_make_id(digest, 1, own);
        ck_assert_mem_eq(id, own, BOOT_FILE_ID_SIZE);
        return io_pread(fd, boot_file, KERNEL_SIZE, 0);
}

static const struct loader_ops loader_ops = {
        .name = "test", .add_boot_file = take_boot_file, .check_boot_file = no_boot_file, .find_boot_file = find_no_boot_file
};
static struct loader loader = { .ops = &loader_ops };
static struct range root = RANGE_CLOSED;

/* A slot full of something else, between other things. */
static void open_slot(void)
{
        char old[OFFSET + SLOT_BYTES + OFFSET];

        memset(old, 'o', sizeof(old));
        put("disk", old, sizeof(old));
        root = (struct range){ .fd = open(in_dir("disk"), O_RDWR | O_CLOEXEC), .offset = OFFSET, .size = SLOT_BYTES };
        ck_assert_int_ge(root.fd, 0);
        ck_assert_int_eq(fstat(root.fd, &root_file), 0);
        n_events = 0;
        memset(boot_file, 0, sizeof(boot_file));
}

static struct install_target target(void)
{
        return (struct install_target){ .root = &root, .loader = &loader, .data = place.data, .slot = 1 };
}

static int install(const char *name, struct bundle **ret, struct error *e)
{
        struct install_target t = target();
        int r = open_with(name, "trust", 1, ret, e);

        return r < 0 ? r : install_images(*ret, &t, NULL, e);
}

static int install_recorded(const char *name, struct bundle **ret, struct error *e)
{
        struct io_ops ops = io_system_ops;
        int r;

        ops.pwrite = record_pwrite;
        ops.zero = record_zero;
        ops.fsync = record_fsync;
        ops.rename = record_rename;
        io_set_ops(&ops);
        r = install(name, ret, e);
        io_set_ops(NULL);
        return r;
}

/* Nothing but the slot itself was written. */
static void ck_neighbours(void)
{
        char before[OFFSET], behind[SLOT_BYTES + OFFSET - ROOT_SIZE];

        ck_assert_int_eq(io_pread(root.fd, before, sizeof(before), 0), 0);
        ck_assert_int_eq(io_pread(root.fd, behind, sizeof(behind), OFFSET + ROOT_SIZE), 0);
        for (size_t i = 0; i < sizeof(before); i++)
                ck_assert_int_eq(before[i], 'o');
        for (size_t i = 0; i < sizeof(behind); i++)
                ck_assert_int_eq(behind[i], 'o');
}

static void read_slot(char content[static ROOT_SIZE])
{
        ck_assert_int_eq(io_pread(root.fd, content, ROOT_SIZE, OFFSET), 0);
}

static size_t last_of(enum what what)
{
        size_t last = 0;

        for (size_t i = 0; i < n_events; i++)
                if (events[i].what == what)
                        last = i;
        return last;
}

START_TEST(the_order_of_writes)
{
        _cleanup_bundle_ struct bundle *b = NULL;
        char content[ROOT_SIZE];
        size_t last;

        open_slot();
        ck_ok(install_recorded("bundle", &b, e));
        read_slot(content);
        ck_assert_mem_eq(content, root_content, ROOT_SIZE);
        ck_assert_mem_eq(boot_file, kernel_content, KERNEL_SIZE);
        ck_neighbours();
        /* The first block goes first, flushed before anything else … */
        ck_assert(events[0].what == WRITE && events[0].offset == 0 && events[0].size == FIRST);
        ck_assert_int_eq(events[1].what, FLUSH);
        /* … and comes back last: everything flushed before it, and it after that. */
        last = last_of(WRITE);
        ck_assert_uint_eq(last, n_events - 2);
        ck_assert(events[last].offset == 0 && events[last].size == FIRST);
        ck_assert_int_eq(events[last - 1].what, FLUSH);
        ck_assert_int_eq(events[last + 1].what, FLUSH);
        for (size_t i = 2; i < last; i++)
                ck_assert(events[i].what > ZERO || events[i].offset >= FIRST);
        ck_assert_uint_gt(last_of(BOOT_FILE), last_of(ZERO));
        ck_assert_uint_lt(last_of(BOOT_FILE), last);
        ck_assert_uint_lt(last_of(KEPT), last);
        ck_assert_uint_gt(last_of(KEPT), last_of(BOOT_FILE));
        range_close(&root);
}
END_TEST

static void break_chunk(size_t from_end)
{
        _cleanup_free_ char *data = NULL;
        size_t size;

        data = get("bundle", &size);
        data[size - from_end] ^= 4;
        put("broken", data, size);
}

START_TEST(a_bad_chunk_stops_it)
{
        _cleanup_bundle_ struct bundle *b = NULL;
        char content[ROOT_SIZE];

        sh("rm -rf root/data/bootmgr/slots");
        break_chunk(3); /* in the last one */
        open_slot();
        ck_refused_saying(install_recorded("broken", &b, e), kind_content, "chunk 3 of image root (offset 12288)");
        read_slot(content);
        ck_assert(is_all_zero(content, FIRST));
        ck_assert_mem_eq(content + FIRST, root_content + FIRST, CHUNK);
        for (size_t i = 2 * CHUNK; i < ROOT_SIZE; i++)
                ck_assert_int_eq(content[i], 'o'); /* nothing of it came here, nor of what comes together with it */
        ck_neighbours();
        for (size_t i = 0; i < n_events; i++)
                ck_assert(events[i].what <= FLUSH); /* no boot file, nothing kept */
        ck_assert_int_lt(faccessat(place.data, "slots/b/manifest", F_OK, 0), 0);
        range_close(&root);
}
END_TEST

/* The chunk of the kernel in "broken" is bad. */
static void break_kernel(void)
{
        _cleanup_free_ char *data = NULL;
        size_t size;

        data = get("bundle", &size);
        break_chunk(size - parts_of(data).chunks - 20);
}

static int has_boot_file(struct loader *l, const uint8_t id[BOOT_FILE_ID_SIZE], struct error *e)
{
        return 0;
}

/* Its chunk may even be bad. */
START_TEST(a_kernel_that_is_there_is_left_there)
{
        static const struct loader_ops has = { .add_boot_file = take_boot_file, .check_boot_file = has_boot_file };
        _cleanup_bundle_ struct bundle *b = NULL;
        char content[ROOT_SIZE];

        break_kernel();
        loader.ops = &has;
        open_slot();
        ck_ok(install_recorded("broken", &b, e));
        loader.ops = &loader_ops;
        read_slot(content);
        ck_assert_mem_eq(content, root_content, ROOT_SIZE);
        for (size_t i = 0; i < n_events; i++)
                ck_assert(events[i].what != BOOT_FILE);
        range_close(&root);
}
END_TEST

static int find_boot_file(struct loader *l, const uint8_t digest[DIGEST_SIZE], int slot)
{
        _cleanup_close_ int fd = open(in_dir("kernel.img"), O_RDONLY | O_CLOEXEC);
        uint8_t found[DIGEST_SIZE];

        ck_assert_int_eq(sha256_fd(fd, 0, UINT64_MAX, found), 0);
        return memcmp(found, digest, DIGEST_SIZE) == 0 ? TAKE_FD(fd) : -ENOENT;
}

/* Each slot has a file of its own; what is in another's need not come. */
START_TEST(the_kernel_of_another_slot_is_copied)
{
        static const struct loader_ops others = { .add_boot_file = take_boot_file,
                                                  .check_boot_file = no_boot_file,
                                                  .find_boot_file = find_boot_file };
        _cleanup_bundle_ struct bundle *b = NULL;

        break_kernel();
        loader.ops = &others;
        open_slot();
        ck_ok(install_recorded("broken", &b, e));
        loader.ops = &loader_ops;
        ck_assert_mem_eq(boot_file, kernel_content, KERNEL_SIZE);
        range_close(&root);
}
END_TEST

START_TEST(the_first_bad_chunk_too)
{
        _cleanup_free_ char *data = NULL;
        _cleanup_bundle_ struct bundle *b = NULL;
        size_t size;
        struct parts p;

        data = get("bundle", &size);
        p = parts_of(data);
        data[p.chunks] ^= 1;
        put("broken", data, size);
        open_slot();
        ck_refused_saying(install_recorded("broken", &b, e), kind_content, "chunk 0 of image kernel");
        ck_assert_uint_eq(n_events, 2); /* the first block, zeroed and flushed */
        range_close(&root);
}
END_TEST

/* An install that was cut behind the kernel: it is on data, and need not come again. */
START_TEST(the_kernel_of_an_earlier_try_is_kept)
{
        struct install_target t = target();
        struct install_report report;
        _cleanup_bundle_ struct bundle *b = NULL, *cut = NULL, *altered = NULL;

        sh("rm -rf root/data/bootmgr/slots");
        break_chunk(3);
        open_slot();
        ck_refused(install("broken", &cut, e), kind_content);
        sh("cmp root/data/bootmgr/slots/b.part/kernel kernel.img");
        /* It is hashed: what was altered meanwhile comes again, and here comes wrong. */
        break_kernel();
        sh("printf K | dd of=root/data/bootmgr/slots/b.part/kernel bs=1 seek=300 conv=notrunc status=none");
        ck_refused_saying(install("broken", &altered, e), kind_content, "chunk 0 of image kernel");
        sh("cp kernel.img root/data/bootmgr/slots/b.part/kernel; echo old >root/data/bootmgr/slots/b.part/initrd");
        ck_ok(open_with("broken", "trust", 1, &b, e));
        t.report = &report;
        ck_ok(install_images(b, &t, NULL, e));
        ck_assert_mem_eq(boot_file, kernel_content, KERNEL_SIZE);
        ck_assert_uint_ge(report.kept, KERNEL_SIZE);
        sh("cd root/data/bootmgr/slots && test ! -e b.part && test \"$(ls b | tr '\\n' ' ')\" = 'chunks manifest '");
        range_close(&root);
}
END_TEST

/* What is there is less to be found room for. */
START_TEST(the_room_of_an_earlier_try_counts)
{
        struct install_target t = target();
        _cleanup_bundle_ struct bundle *b = NULL, *other = NULL;
        uint64_t before;

        open_slot();
        sh("mkdir -p root/data/bootmgr/slots/b.part");
        ck_ok(open_with("bundle", "trust", 1, &b, e));
        before = install_data_room(b, &t);
        sh("cp kernel.img root/data/bootmgr/slots/b.part/kernel");
        ck_assert_uint_eq(install_data_room(b, &t), before - 4096); /* that of another bundle is given back: */
        sh("head -c 90000 /dev/zero >root/data/bootmgr/slots/b.part/initrd");
        ck_assert_uint_le(install_data_room(b, &t), before - 4096 - 90000);
        ck_ok(install("bundle", &other, e));
        sh("test ! -e root/data/bootmgr/slots/b/initrd && test ! -e root/data/bootmgr/slots/b.part");
        range_close(&root);
}
END_TEST

static int allocate_in_part(int fd, uint64_t size)
{
        return io_system_ops.allocate(fd, size / 2) < 0 ? -EIO : -ENOSPC;
}

/* It would be the last room of all. */
START_TEST(what_found_no_room_takes_none)
{
        struct io_ops ops = io_system_ops;
        _cleanup_bundle_ struct bundle *b = NULL;

        open_slot();
        ops.allocate = allocate_in_part;
        io_set_ops(&ops);
        ck_refused(install("bundle", &b, e), kind_no_space);
        io_set_ops(NULL);
        sh("test -z \"$(find root/data/bootmgr/slots -name kernel)\"");
        range_close(&root);
}
END_TEST

/* What of the old version is known is forgotten before its first byte goes. */
START_TEST(what_was_kept_goes_first)
{
        _cleanup_bundle_ struct bundle *b = NULL, *again = NULL;
        const struct manifest *m;

        sh("rm -rf root/data/bootmgr/slots");
        open_slot();
        ck_ok(install("bundle", &b, e));
        m = bundle_manifest(b);
        ck_ok(install_check_slot(&root, place.data, 1, m->digest, NULL, e));
        break_chunk(3);
        ck_assert_int_eq(io_pwrite(root.fd, "x", 1, OFFSET + 3 * CHUNK), 0); /* else what is there would do */
        ck_refused(install("broken", &again, e), kind_content);
        sh("test ! -e root/data/bootmgr/slots/b");
        ck_refused(install_check_slot(&root, place.data, 1, m->digest, NULL, e), kind_previous_altered);
        range_close(&root);
}
END_TEST

/* Every write and flush fails once, with all that follow: the root is never whole before the last. */
START_TEST(every_cut)
{
        for (unsigned n = 1;; n++) {
                _cleanup_bundle_ struct bundle *b = NULL;
                char content[ROOT_SIZE];
                bool whole, old;
                unsigned calls;
                int r;

                sh("rm -rf root/data/bootmgr/slots");
                open_slot();
                faults_begin(n, _i ? -ENOSPC : -EIO, true);
                r = install("bundle", &b, NULL);
                calls = faults_end();
                read_slot(content);
                whole = memcmp(content, root_content, FIRST) == 0;
                old = content[0] == 'o' && content[FIRST - 1] == 'o';
                if (whole) {
                        ck_assert_mem_eq(content, root_content, ROOT_SIZE);
                        sh("test -s root/data/bootmgr/slots/b/manifest; test -s root/data/bootmgr/slots/b/chunks");
                } else {
                        sh("test ! -e root/data/bootmgr/slots/b || test -s root/data/bootmgr/slots/b/chunks");
                }
                if (old)
                        ck_assert_int_eq(content[ROOT_SIZE - 1], 'o');
                ck_neighbours();
                range_close(&root);
                if (calls < n) {
                        ck_assert_int_eq(r, 0);
                        ck_assert(whole);
                        ck_assert_uint_gt(n, 15);
                        return;
                }
                ck_assert_msg(r < 0, "call %u failed and nobody cared", n);
        }
}
END_TEST

START_TEST(it_is_read_back)
{
        struct install_target t = target();
        _cleanup_bundle_ struct bundle *b = NULL;
        const struct manifest *m;

        open_slot();
        ck_ok(install("bundle", &b, e));
        m = bundle_manifest(b);
        ck_ok(install_verify(b, &t, NULL, e));
        for (uint64_t at = 0; at < ROOT_SIZE; at += at < 64 ? 1 : 511) {
                char saved, changed, where[64];

                ck_assert_int_eq(io_pread(root.fd, &saved, 1, OFFSET + at), 0);
                changed = (char)~saved;
                ck_assert_int_eq(io_pwrite(root.fd, &changed, 1, OFFSET + at), 0);
                snprintf(where, sizeof(where), "first at offset %llu", (unsigned long long)(at / CHUNK * CHUNK));
                ck_refused_saying(install_verify(b, &t, NULL, e), kind_content, where);
                ck_refused_saying(install_check_slot(&root, place.data, 1, m->digest, NULL, e), kind_previous_altered,
                                  where);
                ck_assert_int_eq(io_pwrite(root.fd, &saved, 1, OFFSET + at), 0);
        }
        ck_ok(install_check_slot(&root, place.data, 1, m->digest, NULL, e));
        open_slot(); /* all of it is something else */
        ck_refused_saying(install_verify(b, &t, NULL, e), kind_content, "first at offset 0");
        range_close(&root);
}
END_TEST

static unsigned reads[2]; /* through the page cache, past it; by several threads */
static bool reads_fail;

static ssize_t count_pread(int fd, void *data, size_t n, uint64_t offset)
{
        __atomic_add_fetch(&reads[(fcntl(fd, F_GETFL) & O_DIRECT) != 0], 1, __ATOMIC_RELAXED);
        return reads_fail ? -EIO : io_system_ops.pread(fd, data, n, offset);
}

/* What the page cache says is not what the next boot finds. */
START_TEST(it_is_read_from_the_device)
{
        int direct = open(in_dir("."), O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);
        struct install_target t = target();
        _cleanup_bundle_ struct bundle *b = NULL;
        struct io_ops ops = io_system_ops;

        open_slot();
        ck_ok(install("bundle", &b, e));
        ops.pread = count_pread;
        io_set_ops(&ops);
        reads_fail = false;
        ck_ok(install_verify(b, &t, NULL, e));
        ck_assert_uint_eq(reads[1], direct < 0 ? 0 : 1); /* not every file system can */
        ck_assert_uint_eq(reads[0] + reads[1], 1);
        reads_fail = true;
        ck_assert_int_eq(install_verify(b, &t, NULL, NULL), -EIO);
        io_set_ops(NULL);
        fd_close(direct);
        range_close(&root);
}
END_TEST

/* Only what the state record's digest vouches for is believed. */
START_TEST(what_is_kept_on_data_is_not_trusted)
{
        static const char *const changes[] = {
                "rm slots/b/manifest",
                "rm slots/b/chunks",
                "printf x >>slots/b/manifest",
                "sed -i s/2.0/2.1/ slots/b/manifest",
                ": >slots/b/manifest",
                "printf x >>slots/b/chunks",
                ": >slots/b/chunks",
                "head -c 120 slots/b/chunks >t; mv t slots/b/chunks",
                "printf x | dd of=slots/b/chunks bs=1 seek=5 conv=notrunc status=none",
                "rm slots/b/chunks; mkdir slots/b/chunks",
        };
        _cleanup_bundle_ struct bundle *b = NULL;
        struct range small;

        open_slot();
        ck_ok(install("bundle", &b, e));
        small = root;
        small.size = ROOT_SIZE - 1;
        ck_refused_saying(install_check_slot(&small, place.data, 1, bundle_manifest(b)->digest, NULL, e),
                          kind_previous_altered, "smaller");
        ck_refused(install_check_slot(&root, -1, 1, bundle_manifest(b)->digest, NULL, e), kind_previous_altered);
        ck_refused(install_check_slot(&root, place.data, 0, bundle_manifest(b)->digest, NULL, e), kind_previous_altered);
        sh("cd root/data/bootmgr; %s", changes[_i]);
        ck_refused(install_check_slot(&root, place.data, 1, bundle_manifest(b)->digest, NULL, e), kind_previous_altered);
        sh("rm -rf root/data/bootmgr/slots");
        range_close(&root);
}
END_TEST
#define CHANGES 10

START_TEST(what_is_refused_before_the_first_byte)
{
        struct manifest m = {
                .compatible = "box",
                .version = "2",
                .min_bootmgr = "1.5",
                .security_version = 3,
                .images = { { .name = "kernel", .size = 1000 },
                            { .name = "initrd", .size = 500 },
                            { .name = "root", .size = 5000 } },
                .n_images = 3,
        };
        const struct install_limits good = {
                .compatible = "box", .bootmgr_version = "1.5", .floor = 3, .root_size = 5000, .esp_free = 1500
        };
        struct install_limits l = good;

        ck_ok(install_check(&m, &l, e));
        l.compatible = NULL;
        ck_ok(install_check(&m, &l, e));
        l.compatible = "other";
        ck_refused(install_check(&m, &l, e), kind_bundle_incompatible);
        l = good;
        l.bootmgr_version = "1.5~rc1";
        ck_refused(install_check(&m, &l, e), kind_bundle_incompatible);
        l.bootmgr_version = "1.10";
        ck_ok(install_check(&m, &l, e));
        l = good;
        l.floor = 4;
        ck_refused(install_check(&m, &l, e), kind_below_floor);
        l = good;
        l.root_size = 4999;
        ck_refused(install_check(&m, &l, e), kind_bundle_incompatible);
        l = good;
        l.esp_free = 1499;
        ck_refused(install_check(&m, &l, e), kind_esp_unusable);
        l = good;
        l.root_size = UINT64_C(1) << 32;
        m.images[2].size = (UINT64_C(1) << 32) + 1;
        ck_refused(install_check(&m, &l, e), kind_bundle_incompatible);
        m.images[2].size = 1;
        strcpy(m.images[2].name, "extra");
        ck_refused_saying(install_check(&m, &l, e), kind_bundle_incompatible, "no root");
        strcpy(m.images[2].name, "root");
        strcpy(m.images[0].name, "extra");
        ck_refused_saying(install_check(&m, &l, e), kind_bundle_incompatible, "no kernel");
        l.esp_free = UINT64_MAX; /* a loader that keeps no boot files */
        ck_ok(install_check(&m, &l, e));
        strcpy(m.images[2].name, "other");
        ck_refused_saying(install_check(&m, &l, e), kind_bundle_incompatible, "no root");
}
END_TEST

int main(void)
{
        Suite *s = suite_create("install");
        TCase *t = tcase_create("install");

        tcase_add_unchecked_fixture(t, bundles_begin, machine_end);
        tcase_set_timeout(t, 120);
        tcase_add_test(t, the_order_of_writes);
        tcase_add_test(t, a_bad_chunk_stops_it);
        tcase_add_test(t, a_kernel_that_is_there_is_left_there);
        tcase_add_test(t, the_kernel_of_another_slot_is_copied);
        tcase_add_test(t, the_first_bad_chunk_too);
        tcase_add_test(t, the_kernel_of_an_earlier_try_is_kept);
        tcase_add_test(t, the_room_of_an_earlier_try_counts);
        tcase_add_test(t, what_found_no_room_takes_none);
        tcase_add_test(t, what_was_kept_goes_first);
        tcase_add_loop_test(t, every_cut, 0, 2);
        tcase_add_test(t, it_is_read_back);
        tcase_add_test(t, it_is_read_from_the_device);
        tcase_add_loop_test(t, what_is_kept_on_data_is_not_trusted, 0, CHANGES);
        tcase_add_test(t, what_is_refused_before_the_first_byte);
        suite_add_tcase(s, t);
        return suite_run(s);
}
