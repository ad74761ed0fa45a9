/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What no hint names is fetched while the search goes on, and what a hint names falsely afterwards. */
#include "bundles.h"
#include "server.h"

#include <signal.h>
#include <sys/resource.h>

#include "image/install.h"
#include "storage/disk.h"

#define SIZE    MIB(48)
#define PIECE   KIB(64) /* of a chunk */
#define NEW     MIB(20) /* here the second version begins to differ, … */
#define NEW_END (NEW + 16 * PIECE)
#define BEFORE  (KIB(128) + KIB(256) + KIB(64)) /* fetched before the index was read; of gaps, the head and the index */

static struct loader_ops loader_ops = { .check_boot_file = no_boot_file };
static struct loader loader = { .ops = &loader_ops };
static uint8_t *image;
static struct range a, b;
static struct install_report report;
static uint64_t seed = 88172645463325252u;

static void scramble(uint64_t from, uint64_t n)
{
        for (uint64_t i = from; i < from + n; i += 8) {
                seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
                put_le64(image + i, seed);
        }
}

static struct range slot_in(const char *name)
{
        struct range range = { .size = SIZE };

        sh("rm -f %s && truncate -s %llu %s", name, (unsigned long long)SIZE, name);
        range.fd = open(in_dir(name), O_RDWR | O_CLOEXEC);
        ck_assert_int_ge(range.fd, 0);
        return range;
}

static void pack(const char *name)
{
        const char *names[] = { "root" }, *files[] = { in_dir("root.img") }, *keys[] = { in_dir("good.key") };
        struct bundle_spec spec = { .compatible = "box",
                                    .version = name,
                                    .image_names = names,
                                    .image_files = files,
                                    .n_images = 1,
                                    .key_files = keys,
                                    .n_keys = 1,
                                    .chunking = CHUNKING_FIXED,
                                    .chunk_size = PIECE,
                                    .level = 1 };

        put("root.img", image, SIZE);
        ck_ok(bundle_create(in_dir(name), &spec, NULL, e));
}

static int install(const char *where, int slot, struct progress *progress, struct error *e)
{
        struct install_target t = { .root = slot ? &b : &a,
                                    .loader = &loader,
                                    .data = place.data,
                                    .slot = slot,
                                    .running = slot ? &a : &b,
                                    .running_slot = !slot,
                                    .report = &report };
        struct trust trust = { .directory = in_dir("trust"), .threshold = 1 };
        _cleanup_bundle_ struct bundle *bundle = NULL;
        struct source *source;
        int r = source_open(where, NULL, &source, e);

        if (r >= 0)
                r = bundle_open(source, &trust, &bundle, e);
        return r < 0 ? r : install_images(bundle, &t, progress, e);
}

/* Version 1 runs in a, nothing is in b, and version 2 lies on the server. */
static void begin(void)
{
        char *data;
        size_t n;

        bundles_begin();
        image = malloc(SIZE);
        ck_assert_ptr_nonnull(image);
        a = slot_in("a");
        b = slot_in("b");
        scramble(0, SIZE);
        pack("1");
        ck_ok(install(in_dir("1"), 0, NULL, e));
        scramble(NEW, NEW_END - NEW);
        pack("2");
        data = get("2", &n);
        serve_file((uint8_t *)data, n);
}

static void ck_holds_2(void)
{
        _cleanup_free_ uint8_t *found = malloc(SIZE);

        ck_assert_int_eq(io_pread(b.fd, found, SIZE, 0), 0);
        ck_assert_mem_eq(found, image, SIZE);
}

static int searching = -1; /* when what is new was asked for first */

static void look_at_the_end(uint64_t offset)
{
        uint8_t last[PIECE];
        int unknown = -1;

        if (offset < BEFORE)
                return;
        ck_assert_int_eq(io_pread(b.fd, last, PIECE, SIZE - PIECE), 0);
        __atomic_compare_exchange_n(&searching, &unknown, is_all_zero(last, PIECE), false, __ATOMIC_RELAXED,
                                    __ATOMIC_RELAXED);
}

START_TEST(what_is_new_comes_meanwhile)
{
        struct progress progress = {};

        on_request = look_at_the_end;
        ck_ok(install(url, 1, &progress, e));
        ck_holds_2();
        ck_assert_int_eq(searching, 1);
        ck_assert_uint_eq(report.kept, 0);
        ck_assert_uint_eq(report.copied, SIZE - (NEW_END - NEW));
        ck_assert_uint_eq(progress.transfer.reused, report.copied);
        ck_assert_uint_le(report.fetched, NEW_END - NEW + BEFORE);
        ck_assert_uint_gt(report.reuse, 0);
}
END_TEST

/* Chunks before, beside and behind what is new. What came first is not fetched again. */
START_TEST(false_hints_are_made_up_for)
{
        static const uint64_t damaged[] = { 0, MIB(3), NEW - 1, NEW_END, MIB(36), MIB(36) + PIECE, SIZE - 1 };

        for (size_t i = 0; i < ARRAY_SIZE(damaged); i++)
                ck_assert_int_eq(io_pwrite(a.fd, "!", 1, damaged[i]), 0);
        ck_ok(install(url, 1, NULL, e));
        ck_holds_2();
        ck_assert_uint_eq(report.copied, SIZE - (NEW_END - NEW) - ARRAY_SIZE(damaged) * PIECE);
        ck_assert_uint_le(report.fetched, NEW_END - NEW + ARRAY_SIZE(damaged) * (PIECE + KIB(1)) + BEFORE);
}
END_TEST

/* Nothing is true: neither what a holds nor what b is said to hold. */
START_TEST(no_hint_is_true)
{
        ck_ok(install(in_dir("1"), 1, NULL, e));
        for (uint64_t at = 0; at < SIZE; at += PIECE) {
                ck_assert_int_eq(io_pwrite(a.fd, "damaged", 7, at), 0);
                ck_assert_int_eq(io_pwrite(b.fd, "damaged", 7, at), 0);
        }
        ck_ok(install(url, 1, NULL, e));
        ck_holds_2();
        ck_assert_uint_eq(report.copied + report.kept, 0);
        ck_assert_uint_le(report.fetched, served_size + BEFORE);
}
END_TEST

static void be_slow(uint64_t offset)
{
        if (offset >= BEFORE)
                nanosleep(&(struct timespec){ .tv_sec = 1 }, NULL);
}

/* The search cannot write what it found behind 40 MiB: what is beside it, and has not ended by then, ends, too. */
START_TEST(the_search_fails)
{
        struct rlimit limit = { MIB(40), MIB(40) };
        _cleanup_error_ struct error e = {};

        on_request = be_slow;
        signal(SIGXFSZ, SIG_IGN);
        ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
        ck_assert_int_eq(install(url, 1, NULL, &e), -EFBIG);
        ck_message(&e, "cannot write the root");
}
END_TEST

static int stop(struct progress *p, uint64_t done, uint64_t total, const char *message)
{
        ck_assert_uint_le(done, total);
        return -ECANCELED;
}

START_TEST(it_is_cancelled)
{
        struct progress progress = { .report = stop };

        ck_assert_int_eq(install(url, 1, &progress, NULL), -ECANCELED);
        ck_ok(install(url, 1, NULL, e)); /* what it was to hold is known, and what it holds is kept */
        ck_holds_2();
        ck_assert_uint_ge(report.kept + report.copied, SIZE - (NEW_END - NEW));
}
END_TEST

int main(void)
{
        Suite *s = suite_create("beside");
        TCase *t = tcase_create("beside");

        tcase_add_checked_fixture(t, begin, machine_end);
        tcase_set_timeout(t, 120);
        tcase_add_test(t, what_is_new_comes_meanwhile);
        tcase_add_test(t, false_hints_are_made_up_for);
        tcase_add_test(t, no_hint_is_true);
        tcase_add_test(t, the_search_fails);
        tcase_add_test(t, it_is_cancelled);
        suite_add_tcase(s, t);
        return suite_run(s);
}
