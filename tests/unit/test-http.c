/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What of a file is fetched, and from which threads, against a server in this process that knows ranges. What servers do
 * wrong is tests/cli/22-http.sh. */
#include "server.h"
#include "suite.h"

#define FILE_SIZE MIB(8)

static uint8_t content[FILE_SIZE];

static void start(void)
{
        for (size_t i = 0; i < FILE_SIZE; i += 8)
                put_le64(content + i, i * UINT64_C(0x9e3779b97f4a7c15));
        serve_file(content, FILE_SIZE);
}

static struct source *opened(void)
{
        struct error e = {};
        struct source *s;

        ck_assert_msg(source_open(url, NULL, &s, &e) == 0, "%s", e.message);
        ck_assert_uint_eq(source_size(s), FILE_SIZE);
        return s;
}

static void reads(struct source *s, uint64_t offset, size_t n)
{
        _cleanup_free_ uint8_t *data = malloc(n);
        struct error e = {};

        ck_assert_msg(source_read(s, data, n, &e) == 0, "%s", e.message);
        ck_assert_mem_eq(data, content + offset, n);
}

START_TEST(everything)
{
        struct source *s = opened();
        uint8_t byte;

        for (uint64_t at = 0; at < FILE_SIZE; at += KIB(64))
                reads(s, at, KIB(64));
        ck_assert_int_eq(source_read(s, &byte, 1, NULL), -ENODATA);
        ck_assert_uint_eq(source_fetched(s), FILE_SIZE);
        source_free(s);
}
END_TEST

START_TEST(only_what_is_wanted)
{
        static const struct source_range wanted[] = { { MIB(2), KIB(100) }, { MIB(6) + 5, KIB(700) } };
        struct source *s = opened();

        reads(s, 0, 1000);
        ck_assert_int_eq(source_want(s, wanted, ARRAY_SIZE(wanted)), 0);
        ck_assert_int_eq(source_skip(s, MIB(2) - 1000, NULL), 0);
        reads(s, MIB(2), KIB(100));
        ck_assert_int_eq(source_skip(s, MIB(4) + 5 - KIB(100), NULL), 0);
        reads(s, MIB(6) + 5, KIB(700));
        reads(s, MIB(6) + 5 + KIB(700), 10); /* not in the list */
        source_free(s);
        ck_assert_uint_ge(__atomic_load_n(&sent, __ATOMIC_RELAXED), KIB(800) + 1000);
        ck_assert_uint_le(__atomic_load_n(&sent, __ATOMIC_RELAXED),
                          KIB(800) + KIB(128) + KIB(256) + 10); /* the first piece, and what was fetched ahead of the list */
}
END_TEST

START_TEST(nothing_is_wanted)
{
        struct source *s = opened();

        reads(s, 0, 1000);
        ck_assert_int_eq(source_want(s, NULL, 0), 0);
        ck_assert_int_eq(source_skip(s, FILE_SIZE - 1000, NULL), 0);
        source_free(s);
        ck_assert_uint_le(__atomic_load_n(&sent, __ATOMIC_RELAXED), KIB(128) + KIB(256));
}
END_TEST

static void *read_there(void *userdata)
{
        struct source *s = userdata;
        _cleanup_free_ uint8_t *data = malloc(KIB(64));

        for (uint64_t at = 0; at < FILE_SIZE; at += KIB(256)) {
                ck_assert_int_eq(source_read_at(s, at + 3, data, KIB(64), NULL), 0);
                ck_assert_mem_eq(data, content + at + 3, KIB(64));
        }
        return NULL;
}

START_TEST(from_several_threads)
{
        struct source *s = opened();
        pthread_t threads[4];
        uint8_t data[16];

        for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
                ck_assert_int_eq(pthread_create(&threads[i], NULL, read_there, s), 0);
        reads(s, 0, KIB(512));
        for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
                pthread_join(threads[i], NULL);
        ck_assert_int_eq(source_read_at(s, FILE_SIZE - 8, data, sizeof(data), NULL), -EBADMSG);
        reads(s, KIB(512), KIB(512));
        source_free(s);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("http");
        TCase *t = tcase_create("http");

        tcase_set_timeout(t, 120);
        tcase_add_checked_fixture(t, start, NULL);
        tcase_add_test(t, everything);
        tcase_add_test(t, only_what_is_wanted);
        tcase_add_test(t, nothing_is_wanted);
        tcase_add_test(t, from_several_threads);
        suite_add_tcase(s, t);
        return suite_run(s);
}
