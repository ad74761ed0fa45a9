/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Images that are large enough for threads, made and installed; and what of them is there already. */
#include "bundles.h"

#include "base/crew.h"
#include "image/install.h"
#include "storage/disk.h"

#define OFFSET 8192 /* of the slot in its image */
#define FIRST  4096 /* the block that is written last */

static int take_boot_file(struct loader *l, int fd, uint64_t size, const uint8_t id[BOOT_FILE_ID_SIZE], struct error *e)
{
        return 0;
}

static const struct loader_ops loader_ops = {
        .name = "test", .add_boot_file = take_boot_file, .check_boot_file = no_boot_file, .find_boot_file = find_no_boot_file
};
static struct loader loader = { .ops = &loader_ops };

/* Content of every kind, an end that is no whole block. */
#define LARGE_CHUNKS 96
#define LARGE_SIZE   (LARGE_CHUNKS * CHUNK - 1000)
static char large[LARGE_SIZE];
static uint32_t chunk_size = CHUNK;

static void pack_large(void)
{
        const char *image_names[] = { "root", "kernel" }, *image_files[] = { in_dir("large.img"), in_dir("kernel.img") },
                   *keys[] = { in_dir("good.key") };
        struct bundle_spec spec = { .compatible = "box",
                                    .version = "2.0",
                                    .image_names = image_names,
                                    .image_files = image_files,
                                    .n_images = 2,
                                    .key_files = keys,
                                    .n_keys = 1,
                                    .chunking = CHUNKING_FIXED,
                                    .chunk_size = chunk_size };

        put("large.img", large, LARGE_SIZE);
        sh("rm -f large");
        ck_ok(bundle_create(in_dir("large"), &spec, NULL, e));
}

static void make_large(void)
{
        uint32_t x = 7;

        memset(large, 0, sizeof(large));
        for (size_t i = 0; i < LARGE_SIZE; i++)
                if (i / CHUNK % 10 < 7)
                        large[i] = (char)((x = x * 1103515245 + 12345) >> 16);
        pack_large();
}

static struct range open_large(const char *name)
{
        struct range range = { .offset = OFFSET, .size = LARGE_CHUNKS * CHUNK };

        sh("head -c %d /dev/zero | tr '\\0' o >%s", 2 * OFFSET + LARGE_CHUNKS * CHUNK, name);
        range.fd = open(in_dir(name), O_RDWR | O_CLOEXEC);
        ck_assert_int_ge(range.fd, 0);
        return range;
}

/* Over something else. */
static int install_large(struct bundle *b, struct error *e)
{
        _cleanup_free_ char *content = malloc(LARGE_SIZE);
        struct range range = open_large("disk");
        struct install_target t = { .root = &range, .loader = &loader, .data = place.data, .slot = 1 };
        char behind[1000];
        int r = install_images(b, &t, NULL, e);

        ck_assert_int_eq(io_pread(range.fd, content, LARGE_SIZE, OFFSET), 0);
        if (r >= 0) {
                ck_assert_mem_eq(content, large, LARGE_SIZE);
                ck_assert_int_eq(install_verify(b, &t, NULL, e), 0);
        } else {
                ck_assert(is_all_zero(content, FIRST));
        }
        ck_assert_int_eq(io_pread(range.fd, behind, sizeof(behind), OFFSET + LARGE_SIZE), 0);
        for (size_t i = 0; i < sizeof(behind); i++)
                ck_assert_int_eq(behind[i], 'o');
        range_close(&range);
        return r;
}

START_TEST(by_several_threads)
{
        _cleanup_bundle_ struct bundle *b = NULL;

        make_large();
        ck_ok(open_with("large", "trust", 1, &b, e));
        ck_ok(install_large(b, e));
        if (crew_processors(8) > 1)
                ck_assert_uint_gt(bundle_extract_times(b)->threads, 1);
}
END_TEST

/* Of two bad chunks the first is named, whichever is found first; the root does not become whole. */
START_TEST(threads_name_the_first_bad_chunk)
{
        _cleanup_free_ char *data = NULL;
        struct bundle *b = NULL;
        const uint8_t *entry;
        uint64_t at;
        size_t size;
        struct parts p;

        make_large();
        data = get("large", &size);
        p = parts_of(data);
        entry = (uint8_t *)data + p.index;
        at = p.chunks;
        for (unsigned i = 0; i < 1 + LARGE_CHUNKS; i++, entry += INDEX_ENTRY) {
                if (i == 1 + 41 || i == 1 + 42)
                        data[at] ^= 1;
                at += get_le32(entry + I_STORED);
        }
        put("broken", data, size);
        for (int i = 0; i < 10; i++) {
                ck_ok(open_with("broken", "trust", 1, &b, e));
                ck_refused_saying(install_large(b, e), kind_content, "chunk 41 of image root (offset 167936)");
                bundle_free(b);
        }
}
END_TEST

static void install_into(struct range *range, int slot, const struct range *running, struct install_report *report)
{
        _cleanup_free_ char *content = malloc(LARGE_SIZE);
        struct progress progress = {};
        struct install_target t = { .root = range,
                                    .loader = &loader,
                                    .data = place.data,
                                    .slot = slot,
                                    .running = running,
                                    .running_slot = !slot,
                                    .report = report };
        struct bundle *b = NULL;

        ck_ok(open_with("large", "trust", 1, &b, e));
        ck_ok(install_images(b, &t, &progress, e));
        ck_ok(install_verify(b, &t, NULL, e));
        ck_assert_int_eq(io_pread(range->fd, content, LARGE_SIZE, range->offset), 0);
        ck_assert_mem_eq(content, large, LARGE_SIZE);
        bundle_free(b);
}

/* Version 2 over version 1: what is the same stays, what the running slot holds is copied, where both say what they held and
 * both are read first. Neither is believed: a byte that changed there since is found, and the chunk comes from the bundle.
 */
START_TEST(what_is_there_is_not_fetched)
{
        struct range other = open_large("a"), slot = open_large("b");
        struct install_report report;
        uint64_t zeros = 0;

        sh("rm -rf root/data/bootmgr/slots");
        make_large();
        install_into(&slot, 1, &other, &report); /* nothing is known of either */
        ck_assert_uint_eq(report.kept + report.copied, 0);
        for (size_t i = 0; i < LARGE_CHUNKS; i++)
                zeros += i % 10 >= 7 ? MIN((size_t)CHUNK, LARGE_SIZE - i * CHUNK) : 0;
        ck_assert_uint_eq(report.zeroed, zeros);
        ck_assert_uint_eq(report.written + report.zeroed, LARGE_SIZE - FIRST);
        install_into(&slot, 1, NULL, &report); /* the same again */
        ck_assert_uint_eq(report.kept, LARGE_SIZE);
        ck_assert_uint_eq(report.written + report.zeroed, 0);
        for (size_t i = 20; i < 24; i++)
                large[i * CHUNK + 5] ^= 1;
        memset(large + 30 * CHUNK, 0, CHUNK);
        pack_large();
        install_into(&other, 0, NULL, &report);
        ck_assert_uint_eq(report.kept + report.copied, 0);
        install_into(&slot, 1, &other, &report);
        ck_assert_uint_eq(report.kept, LARGE_SIZE - 5 * CHUNK);
        ck_assert_uint_eq(report.copied, 4 * CHUNK);
        ck_assert_uint_eq(report.written, 4 * CHUNK);
        ck_assert_uint_eq(report.zeroed, CHUNK);
        for (size_t i = 40; i < 44; i++)
                large[i * CHUNK + 5] ^= 1;
        pack_large();
        install_into(&other, 0, NULL, &report);
        ck_assert_int_eq(io_pwrite(other.fd, "X", 1, OFFSET + 41 * CHUNK), 0);
        ck_assert_int_eq(io_pwrite(slot.fd, "X", 1, OFFSET + 50 * CHUNK), 0);
        ck_assert_int_eq(io_pwrite(slot.fd, "X", 1, OFFSET), 0);
        install_into(&slot, 1, &other, &report);
        ck_assert_uint_eq(report.copied, (3 + 2) * CHUNK); /* those that are not in their place after all, too */
        ck_assert_uint_eq(report.kept, LARGE_SIZE - 6 * CHUNK);
        range_close(&other);
        range_close(&slot);
}
END_TEST

static int stop_half_way(struct progress *p, uint64_t done, uint64_t total, const char *message)
{
        return done < total / 2 ? 0 : -ECANCELED;
}

/* What the first try wrote is read and left where it is. */
START_TEST(a_second_try_goes_on)
{
        struct progress half = { .report = stop_half_way };
        struct range slot = open_large("b");
        struct install_target t = { .root = &slot, .loader = &loader, .data = place.data, .slot = 1 };
        struct install_report report;
        struct bundle *b;

        sh("rm -rf root/data/bootmgr/slots");
        make_large();
        for (int i = 0; i < 2; i++) { /* again: the second one finds what it was to hold, as the first one left it */
                ck_ok(open_with("large", "trust", 1, &b, e));
                ck_assert_int_eq(install_images(b, &t, &half, NULL), -ECANCELED);
                ck_refused(install_check_slot(&slot, place.data, 1, bundle_manifest(b)->digest, NULL, e),
                           kind_previous_altered);
                bundle_free(b);
                sh("test ! -e root/data/bootmgr/slots/b");
        }
        install_into(&slot, 1, NULL, &report);
        ck_assert_uint_ge(report.kept, LARGE_SIZE / 2 - 3 * CHUNK); /* without its first block, and the last one */
        ck_assert_uint_le(report.written + report.zeroed, LARGE_SIZE - report.kept);
        ck_assert_uint_gt(report.fetched, 0);
        ck_assert_uint_le(report.fetched, LARGE_SIZE - report.kept + KERNEL_SIZE);
        sh("test ! -e root/data/bootmgr/slots/b.part");
        range_close(&slot);
}
END_TEST

/* Of chunks that changed a little the blocks that did. */
START_TEST(only_blocks_that_differ_are_written)
{
        struct range slot = open_large("b");
        struct install_report report;

        sh("rm -rf root/data/bootmgr/slots");
        chunk_size = 4 * CHUNK;
        make_large();
        install_into(&slot, 1, NULL, &report);
        large[20 * CHUNK] ^= 1;
        large[21 * CHUNK - 1] ^= 1;
        large[40 * CHUNK + 5] ^= 1;
        memset(large + 60 * CHUNK, 0, CHUNK);
        pack_large();
        install_into(&slot, 1, NULL, &report);
        ck_assert_uint_eq(report.kept, LARGE_SIZE - 3 * 4 * CHUNK);
        ck_assert_uint_eq(report.written, 3 * CHUNK);
        ck_assert_uint_eq(report.zeroed, 0);
        chunk_size = CHUNK;
        range_close(&slot);
}
END_TEST

/* The same file, by however many threads and through whichever table. */
START_TEST(bundles_are_the_same_to_the_byte)
{
        _cleanup_free_ char *first = NULL, *again = NULL;
        struct io_ops ops = io_system_ops;
        size_t size, size_again;

        make_large();
        first = get("large", &size);
        io_set_ops(&ops);
        make_large();
        io_set_ops(NULL);
        again = get("large", &size_again);
        ck_assert_uint_eq(size, size_again);
        ck_assert_mem_eq(first, again, size);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("large");
        TCase *t = tcase_create("large");

        tcase_add_unchecked_fixture(t, bundles_begin, machine_end);
        tcase_set_timeout(t, 120);
        tcase_add_test(t, by_several_threads);
        tcase_add_test(t, threads_name_the_first_bad_chunk);
        tcase_add_test(t, what_is_there_is_not_fetched);
        tcase_add_test(t, a_second_try_goes_on);
        tcase_add_test(t, only_blocks_that_differ_are_written);
        tcase_add_test(t, bundles_are_the_same_to_the_byte);
        suite_add_tcase(s, t);
        return suite_run(s);
}
