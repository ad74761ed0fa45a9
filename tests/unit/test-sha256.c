/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Several messages at once: each way of hashing them against the library, for every length around a block and for lengths as
 * chunks have them. */
#include "base/sha256_each.c"

#include <check.h>
#include "suite.h"

#define MOST 150

static uint8_t content[600000];
static uint64_t state = 1;

static uint64_t next(void)
{
        state = state * 6364136223846793005 + 1442695040888963407;
        return state >> 33;
}

static void fill_content(void)
{
        for (size_t i = 0; i < sizeof(content); i++)
                content[i] = (uint8_t)next();
}

static void ck_digests(const struct sha256_job *jobs, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                uint8_t digest[SHA256_SIZE];

                ck_assert_int_eq(sha256_data(jobs[i].data, jobs[i].size, digest), 0);
                ck_assert_msg(memcmp(digest, jobs[i].digest, SHA256_SIZE) == 0, "message %zu of %zu, %zu bytes", i, n,
                              jobs[i].size);
        }
}

/* Anywhere, so that nothing depends on where it lies. */
static void choose_jobs(struct sha256_job *jobs, size_t n, size_t longest)
{
        for (size_t i = 0; i < n; i++) {
                jobs[i].size = next() % (longest + 1);
                jobs[i].data = content + next() % (sizeof(content) - longest);
        }
}

START_TEST(as_the_library)
{
        struct sha256_job jobs[MOST];

        fill_content();
        for (size_t n = 0; n <= MOST; n++) {
                choose_jobs(jobs, n, n % 3 ? 300 : 70000);
                ck_assert_int_eq(sha256_each(jobs, n), 0);
                ck_digests(jobs, n);
        }
}
END_TEST

#if defined(__x86_64__)

static const struct {
        const char *name;
        hash_lanes *hash;
} ways[] = { { "avx2", hash_avx2 }, { "avx512vl", hash_avx512 } };

static bool is_supported(int way)
{
        return way == 0 ? __builtin_cpu_supports("avx2") : __builtin_cpu_supports("avx512vl");
}

START_TEST(each_way)
{
        struct sha256_job jobs[MESSAGES], *order[MESSAGES];

        if (!is_supported(_i)) {
                printf("SKIPPED: this processor has no %s\n", ways[_i].name);
                return;
        }
        fill_content();
        for (size_t size = 0; size < 4 * BLOCK; size++) {
                size_t n = 1 + size % 11;

                for (size_t i = 0; i < n; i++) {
                        jobs[i] = (struct sha256_job){ .data = content + size * 7 + i * 1000, .size = size + (i % 3) * 64 };
                        order[i] = &jobs[i];
                }
                hash_all(ways[_i].hash, order, n);
                ck_digests(jobs, n);
        }
        for (size_t n = 1; n <= MESSAGES; n++) {
                choose_jobs(jobs, n, 70000);
                for (size_t i = 0; i < n; i++)
                        order[i] = &jobs[n - 1 - i];
                hash_all(ways[_i].hash, order, n);
                ck_digests(jobs, n);
        }
}
END_TEST

#else

static const int ways[0];
START_TEST(each_way) {}
END_TEST

#endif

int main(void)
{
        Suite *s = suite_create("sha256");
        TCase *t = tcase_create("sha256");

        tcase_add_test(t, as_the_library);
        tcase_add_loop_test(t, each_way, 0, (int)ARRAY_SIZE(ways));
        suite_add_tcase(s, t);
        return suite_run(s);
}
