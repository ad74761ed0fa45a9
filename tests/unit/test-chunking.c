/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Images in chunks that end anywhere: made, installed over something else, over themselves, and beside what they were. */
#include "bundles.h"

#include <sys/stat.h>

#include "base/io.h"
#include "image/install.h"
#include "image/root.h"
#include "storage/disk.h"

#define OFFSET 8192 /* of the slot in its image */
#define ROOM   MIB(24)

static struct loader_ops loader_ops;
static struct loader loader = { .ops = &loader_ops };
static uint8_t *image;
static size_t size, largest; /* of the image; of those so far, and of the block that is zeroed first */
static uint32_t average;
static uint64_t seed;

static uint64_t next(void)
{
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        return seed;
}

static void scramble(size_t from, size_t n)
{
        for (size_t i = from; i < from + n; i++)
                image[i] = (uint8_t)next();
}

/* An end that is no whole block, and zeros in between. */
static void make_image(size_t n, uint32_t chunks)
{
        free(image);
        image = calloc(1, ROOM);
        ck_assert_ptr_nonnull(image);
        size = n;
        largest = 4096;
        average = chunks;
        seed = 88172645463325252u;
        for (size_t i = 0; i < n; i += 300000)
                scramble(i, MIN(n - i, (size_t)(i % 5 == 4 ? 200000 : 300000)));
        sh("rm -rf root/data/bootmgr/slots a b");
}

static void pack(void)
{
        const char *names[] = { "root" }, *files[] = { in_dir("root.img") }, *keys[] = { in_dir("good.key") };
        struct bundle_spec spec = { .compatible = "box",
                                    .version = "2.0",
                                    .image_names = names,
                                    .image_files = files,
                                    .n_images = 1,
                                    .key_files = keys,
                                    .n_keys = 1,
                                    .chunking = CHUNKING_CONTENT,
                                    .chunk_size = average,
                                    .level = 1 };

        put("root.img", image, size);
        sh("rm -f new");
        ck_ok(bundle_create(in_dir("new"), &spec, NULL, e));
}

static struct range open_slot(const char *name)
{
        struct range range = { .offset = OFFSET, .size = ROOM };

        if (access(in_dir(name), F_OK) < 0)
                sh("head -c %d /dev/zero | tr '\\0' o >%s", (int)(ROOM + 2 * OFFSET), name);
        range.fd = open(in_dir(name), O_RDWR | O_CLOEXEC);
        ck_assert_int_ge(range.fd, 0);
        return range;
}

static struct install_report install(int slot)
{
        static const char *const names[] = { "a", "b" };
        struct range range = open_slot(names[slot]), running = open_slot(names[!slot]);
        struct install_report report;
        struct progress progress = {};
        struct install_target t = { .root = &range,
                                    .loader = &loader,
                                    .data = place.data,
                                    .slot = slot,
                                    .running = &running,
                                    .running_slot = !slot,
                                    .report = &report };
        _cleanup_free_ uint8_t *found = malloc(ROOM);
        _cleanup_bundle_ struct bundle *b = NULL;

        pack();
        largest = MAX(largest, size);
        ck_ok(open_with("new", "trust", 1, &b, e));
        ck_ok(install_images(b, &t, &progress, e));
        ck_assert_int_eq(io_pread(range.fd, found, ROOM, OFFSET), 0);
        ck_assert_mem_eq(found, image, size);
        for (size_t i = largest; i < ROOM; i++) /* behind the image nothing is written */
                if (found[i] != 'o')
                        ck_abort_msg("byte %zu behind an image of %zu was written", i, size);
        ck_ok(install_verify(b, &t, NULL, e));
        ck_ok(install_check_slot(&range, place.data, slot, bundle_manifest(b)->digest, NULL, e));
        range_close(&range);
        range_close(&running);
        return report;
}

static const struct {
        size_t size;
        uint32_t average;
} sizes[] = {
        { 1, 16384 },      { 4095, 4096 },     { 4097, 4096 },     { 100001, 4096 },
        { 3000000, 4096 }, { 8000000, 16384 }, { 8388608, 65536 },
};

/* Each byte comes once, whatever shares its block. */
START_TEST(over_something_else)
{
        struct install_report report;

        make_image(sizes[_i].size, sizes[_i].average);
        report = install(1);
        ck_assert_uint_eq(report.kept + report.copied, 0);
        ck_assert_uint_eq(report.written + report.zeroed, size - MIN(size, (size_t)4096));
        report = install(1); /* the same again */
        ck_assert_uint_eq(report.kept, size);
        ck_assert_uint_eq(report.written + report.zeroed, 0);
        ck_assert_uint_le(report.fetched, 30000); /* head and index */
}
END_TEST

/* Blocks of both images that differ. */
static uint64_t differing(const uint8_t *old)
{
        uint64_t n = 0;

        for (size_t i = 0; i < size; i += 4096)
                n += memcmp(old + i, image + i, MIN(size - i, (size_t)4096)) != 0 ? MIN(size - i, (size_t)4096) : 0;
        return n;
}

/* A new version over the old one: little comes, and nothing is written that is there. */
START_TEST(in_its_place)
{
        _cleanup_free_ uint8_t *old = malloc(ROOM);
        struct install_report report;

        make_image(8000000, 16384);
        install(1);
        memcpy(old, image, ROOM);
        for (unsigned i = 0; i < 20; i++)
                scramble(next() % (size - 5000), 5000);
        scramble(0, 10);
        scramble(size - 3, 3);
        report = install(1);
        ck_assert_uint_ge(report.kept, size - 22 * 2 * 40000);
        ck_assert_uint_le(report.fetched, 22 * 2 * 40000);
        ck_assert_uint_le(report.written + report.zeroed, differing(old));
}
END_TEST

/* Bytes more in the middle: all that moved is found where it was, in the running slot, and copied to where it is. */
START_TEST(what_moved_is_copied)
{
        struct install_report report;

        make_image(8000000, 16384);
        install(0);
        memmove(image + 3000001, image + 3000000 - 776, 5000776);
        size += 777;
        report = install(1);
        ck_assert_uint_ge(report.copied, size * 9 / 10 - 500000); /* zeros are not copied but made */
        ck_assert_uint_le(report.fetched, 200000);
        ck_assert_uint_eq(report.written + report.zeroed, size - 4096);
}
END_TEST

/* Another image, beside one of few chunks: the search for what is not there ends. */
START_TEST(nothing_is_found_beside)
{
        struct install_report report;

        make_image(sizes[_i].size, sizes[_i].average);
        install(0);
        scramble(0, size);
        report = install(1);
        ck_assert_uint_eq(report.kept, 0);
        ck_assert_uint_eq(report.copied, 0);
}
END_TEST

/* A slot that was written to since: not one byte of it is believed. */
START_TEST(hints_are_not_believed)
{
        struct install_report report;
        struct range running;

        make_image(3000000, 4096);
        install(0);
        running = open_slot("a");
        for (unsigned i = 0; i < 100; i++)
                ck_assert_int_eq(io_pwrite(running.fd, "XYZ", 3, OFFSET + next() % (size - 3)), 0);
        ck_assert_int_eq(io_pwrite(running.fd, "X", 1, OFFSET), 0);
        range_close(&running);
        report = install(1);
        ck_assert_uint_gt(report.copied, size / 2);
        ck_assert_uint_gt(report.fetched, 0);
        running = open_slot("b");
        for (unsigned i = 0; i < 100; i++)
                ck_assert_int_eq(io_pwrite(running.fd, "XYZ", 3, OFFSET + next() % (size - 3)), 0);
        range_close(&running);
        report = install(1);
        ck_assert_uint_gt(report.kept, size / 2);
}
END_TEST

static int64_t file_size(const char *name)
{
        struct stat st;

        ck_assert_int_eq(stat(in_dir(name), &st), 0);
        return st.st_size;
}

/* More blocks are shared by chunks that lie there and such that come than memory is given for. */
START_TEST(edges_everywhere)
{
        _cleanup_free_ uint8_t *old = malloc(ROOM);
        struct install_report report;
        struct range slot;

        make_image(20000000, 4096);
        install(0);
        install(1);
        ck_assert_int_ge(file_size("root/data/bootmgr/slots/b/chunks"), KIB(128)); /* it was in a file */
        memcpy(old, image, ROOM);
        for (size_t i = 2000; i < size; i += 9001)
                image[i] ^= 1;
        report = install(1);
        ck_assert_uint_gt(report.kept, size / 4);
        ck_assert_uint_le(report.written + report.zeroed, differing(old) + differing(old) / 50);
        /* The same beside it, where nothing is in its place and everything is copied or comes. */
        sh("rm -r root/data/bootmgr/slots/b");
        memset(old, 'X', ROOM);
        slot = open_slot("b");
        ck_assert_int_eq(io_pwrite(slot.fd, old, size, OFFSET), 0);
        range_close(&slot);
        for (size_t i = 3000; i < size; i += 9001)
                image[i] ^= 1;
        report = install(1);
        ck_assert_uint_gt(report.copied, size / 4);
        ck_assert_uint_gt(report.fetched, size / 4);
}
END_TEST

#define UNREADABLE (500 * SINK_BLOCK) /* in the image */

static ssize_t pread_with_a_gap(int fd, void *data, size_t n, uint64_t offset)
{
        uint64_t at = OFFSET + UNREADABLE;

        return offset <= at && at < offset + n ? -EIO : io_system_ops.pread(fd, data, n, offset);
}

/* Of each block but the first, the bytes from `from` on. */
static void write_pieces(struct root_sink *s, size_t from, size_t n, uint8_t *room)
{
        for (size_t at = SINK_BLOCK; at < size; at += SINK_BLOCK) {
                memcpy(room + from, image + at + from, n);
                ck_ok(s->sink.write(&s->sink, at + from, room + from, n, NULL, e));
        }
}

/* A sector that cannot be read is about to be written: it is no reason to end, unless what lies there is needed. */
START_TEST(a_block_that_cannot_be_read)
{
        _cleanup_free_ uint8_t *room = aligned_alloc(SINK_BLOCK, SINK_BLOCK), *found = malloc(ROOM);
        struct io_ops ops = io_system_ops;
        struct root_sink s;
        struct range slot;

        make_image(ROOM, 4096);
        ck_assert_uint_gt(size / SINK_BLOCK, EDGES_MAX + EDGES_BUCKETS);
        slot = open_slot("b");
        ops.pread = pread_with_a_gap;
        io_set_ops(&ops);
        ck_ok(root_begin(&s, &slot, size, false, e));
        root_keep(&s, 0, image, SINK_BLOCK);
        write_pieces(&s, 0, 100, room);
        write_pieces(&s, 100, SINK_BLOCK - 100, room);
        ck_ok(root_finish(&s, e));
        root_done(&s);
        ck_ok(root_begin(&s, &slot, size, false, e));
        root_keep(&s, 0, image, SINK_BLOCK);
        write_pieces(&s, 0, 100, room);
        ck_refused_saying(root_finish(&s, e), kind_failed, "cannot read the root at 2048000");
        root_done(&s);
        io_set_ops(NULL);
        ck_assert_int_eq(io_pread(slot.fd, found, size, OFFSET), 0);
        ck_assert_mem_eq(found + SINK_BLOCK, image + SINK_BLOCK, size - SINK_BLOCK);
        range_close(&slot);
}
END_TEST

/* What came of a block that others share is of use to the next try, when there is no end to this one. */
START_TEST(what_waits_is_written_at_the_end)
{
        _cleanup_free_ uint8_t *room = aligned_alloc(SINK_BLOCK, SINK_BLOCK);
        struct root_sink s;
        struct range slot;

        make_image(400000, 4096);
        slot = open_slot("b");
        ck_ok(root_begin(&s, &slot, size, false, e));
        write_pieces(&s, 0, 100, room);
        root_give_up(&s);
        root_done(&s);
        for (size_t at = SINK_BLOCK; at < size; at += SINK_BLOCK) {
                ck_assert_int_eq(io_pread(slot.fd, room, SINK_BLOCK, OFFSET + at), 0);
                ck_assert_mem_eq(room, image + at, 100);
        }
        range_close(&slot);
}
END_TEST

/* Who wrote the slots is not known: what lies there is found all the same, and where there is nothing of it that is seen at
 * once. */
START_TEST(no_index_is_kept)
{
        _cleanup_free_ uint8_t *old = malloc(ROOM);
        struct install_report report;
        struct range slot;

        make_image(3000000, 4096);
        install(0);
        install(1);
        memcpy(old, image, ROOM);
        scramble(1000000, 50000);
        sh("rm -r root/data/bootmgr/slots");
        report = install(1);
        ck_assert_uint_gt(report.kept, size - 80000);
        ck_assert_uint_eq(report.copied, 0);
        ck_assert_uint_le(report.written + report.zeroed, differing(old) + 2 * 4096);
        /* What runs holds it in its place, and the target does not. */
        sh("rm -r root/data/bootmgr/slots");
        memset(old, 'X', ROOM);
        slot = open_slot("b");
        ck_assert_int_eq(io_pwrite(slot.fd, old, size, OFFSET), 0);
        range_close(&slot);
        report = install(1);
        ck_assert_uint_eq(report.kept, 0);
        ck_assert_uint_gt(report.copied, size - 80000);
        ck_assert_uint_lt(report.fetched, 200000);
        /* Neither does. */
        sh("rm -r root/data/bootmgr/slots");
        scramble(0, size);
        report = install(1);
        ck_assert_uint_eq(report.kept + report.copied, 0);
        ck_assert_uint_eq(report.reuse, 0); /* nothing was searched */
}
END_TEST

/* Whatever is changed, moved, cut or put in, in either slot. */
START_TEST(anything)
{
        make_image(2000000 + (unsigned)_i, 4096);
        seed += (unsigned)_i * 7919;
        install(0);
        for (unsigned round = 0; round < 6; round++) {
                for (unsigned i = 0; i < 1 + next() % 12; i++) {
                        size_t from = next() % (size - 100000), n = next() % 90000;

                        switch (next() % 5) {
                        case 0:
                                scramble(from, n);
                                break;
                        case 1:
                                memset(image + from, 0, n);
                                break;
                        case 2:
                                memmove(image + from, image + from + n, size - from - n);
                                size -= n;
                                break;
                        case 3:
                                memmove(image + from + n, image + from, size - from);
                                size += n;
                                break;
                        default:
                                memmove(image + next() % (size - 100000), image + from, n);
                        }
                }
                install(next() % 2 == 0);
        }
}
END_TEST

static int stop_half_way(struct progress *p, uint64_t done, uint64_t total, const char *message)
{
        return done < total / 2 ? 0 : -ECANCELED;
}

/* An install that was cut: the second one finds what the first one wrote. */
START_TEST(a_second_try_goes_on)
{
        struct progress half = { .report = stop_half_way };
        struct range slot;
        struct install_target t = { .root = &slot, .loader = &loader, .data = place.data, .slot = 1 };
        struct install_report report;
        struct bundle *b;

        make_image(8000000, 16384);
        slot = open_slot("b");
        pack();
        ck_ok(open_with("new", "trust", 1, &b, e));
        ck_assert_int_eq(install_images(b, &t, &half, NULL), -ECANCELED);
        bundle_free(b);
        range_close(&slot);
        report = install(1);
        ck_assert_uint_gt(report.kept, size / 3);
        ck_assert_uint_lt(report.fetched, size * 2 / 3);
}
END_TEST

/* The same file, by however many threads, however often. */
START_TEST(the_same_to_the_byte)
{
        _cleanup_free_ char *first = NULL, *again = NULL;
        struct io_ops ops = io_system_ops;
        size_t n, m;

        make_image(3000000, 4096);
        pack();
        first = get("new", &n);
        io_set_ops(&ops);
        pack();
        io_set_ops(NULL);
        again = get("new", &m);
        ck_assert_uint_eq(n, m);
        ck_assert_mem_eq(first, again, n);
}
END_TEST

/* In the header, the manifest and the index: what does not fit together is refused before anything of it is used. */
START_TEST(formats_are_not_mixed)
{
        _cleanup_free_ char *data = NULL;
        size_t n;
        struct parts p;

        make_image(100001, 4096);
        pack();
        data = get("new", &n);
        p = parts_of(data);
        ck_assert_uint_eq(p.h.major, BUNDLE_CUT);
        ck_assert_uint_eq(p.h.index % INDEX_ENTRY_CUT, 0);
        put_le16(data + H_MAJOR, BUNDLE_FIXED);
        seal_header((uint8_t *)data);
        put("mixed", data, n);
        ck_refused(verify_with("mixed", "trust", 1, e), kind_bundle_invalid);
        put_le16(data + H_MAJOR, BUNDLE_CUT);
        seal_header((uint8_t *)data);
        put("mixed", data, n);
        ck_ok(verify_with("mixed", "trust", 1, e));
        for (uint64_t i = p.index; i < p.chunks; i++) {
                data[i] ^= 1;
                put("mixed", data, n);
                ck_refused_saying(verify_with("mixed", "trust", 1, e), kind_bundle_invalid, "chunk index of image root");
                data[i] ^= 1;
        }
        for (uint64_t i = p.chunks; i < n; i += 97) {
                data[i] ^= 1;
                put("mixed", data, n);
                ck_refused_saying(verify_with("mixed", "trust", 1, e), kind_content, "of image root (offset ");
                data[i] ^= 1;
        }
}
END_TEST

/* Signed, but no index: the lengths do not add up. */
START_TEST(signed_lengths_are_checked)
{
        static const char text[] =
                "{\"format\": 2, \"compatible\": \"box\", \"version\": \"1\", \"security_version\": 0, \"min_bootmgr\": "
                "\"\","
                " \"build_id\": \"\", \"images\": [{\"name\": \"root\", \"size\": %s, \"chunk_size\": 4096, \"chunks\": %s,"
                " \"index_digest\": \"%s\"}]}";
        static const struct {
                const char *size, *chunks;
                uint32_t length, stored;
                const char *word;
        } rows[] = {
                { "5000", "1", 5000, 50, "lengths that cannot be, first in chunk 0" },
                { "4000", "1", 3999, 50, "lengths that cannot be, first in chunk 1" },
                { "4000", "1", 4001, 50, "lengths that cannot be, first in chunk 0" },
                { "4000", "1", 0, 50, "lengths that cannot be, first in chunk 0" },
                { "4000", "2", 4000, 50, "as many chunks as the manifest says" },
                { "4000", "0", 4000, 50, "number of chunks" },
                { "4000", "4001", 4000, 50, "number of chunks" },
                { "1125899906842624", "6100806", 4000, 50, "number of chunks" },
        };
        uint8_t index[INDEX_ENTRY_CUT] = { 1 }, digest[DIGEST_SIZE];
        char manifest[1024], hex[2 * DIGEST_SIZE + 1];

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                put_le32(index + I_LENGTH, rows[i].length);
                put_le32(index + I_STORED, rows[i].stored);
                ck_assert_int_eq(sha256_data(index, sizeof(index), digest), 0);
                hex_encode(digest, DIGEST_SIZE, hex);
                snprintf(manifest, sizeof(manifest), text, rows[i].size, rows[i].chunks, hex);
                put_signed_as(BUNDLE_CUT, "lies", manifest, "good.key", index, sizeof(index), "", 0);
                ck_refused_saying(verify_with("lies", "trust", 1, e), kind_bundle_invalid, rows[i].word);
        }
}
END_TEST

int main(void)
{
        Suite *s = suite_create("chunking");
        TCase *t = tcase_create("chunking");

        tcase_add_unchecked_fixture(t, bundles_begin, machine_end);
        tcase_set_timeout(t, 120);
        tcase_add_loop_test(t, over_something_else, 0, ARRAY_SIZE(sizes));
        tcase_add_test(t, in_its_place);
        tcase_add_test(t, what_moved_is_copied);
        tcase_add_loop_test(t, nothing_is_found_beside, 0, ARRAY_SIZE(sizes));
        tcase_add_test(t, hints_are_not_believed);
        tcase_add_test(t, edges_everywhere);
        tcase_add_test(t, a_block_that_cannot_be_read);
        tcase_add_test(t, what_waits_is_written_at_the_end);
        tcase_add_test(t, no_index_is_kept);
        tcase_add_loop_test(t, anything, 0, 12);
        tcase_add_test(t, a_second_try_goes_on);
        tcase_add_test(t, the_same_to_the_byte);
        tcase_add_test(t, formats_are_not_mixed);
        tcase_add_test(t, signed_lengths_are_checked);
        suite_add_tcase(s, t);
        return suite_run(s);
}
