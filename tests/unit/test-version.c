/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* UAPI.10: the specification's examples, a table for every rule, and that it is an order at all. */
#include "base/version.h"

#include <check.h>
#include "suite.h"
#undef fail

static int sign(int n)
{
        return n < 0 ? -1 : n > 0;
}

static const struct {
        const char *a;
        char relation;
        const char *b;
} pairs[] = {
        /* the specification's examples */
        { "11", '=', "11" },
        { "systemd-123", '=', "systemd-123" },
        { "bar-123", '<', "foo-123" },
        { "123a", '>', "123" },
        { "123.a", '>', "123" },
        { "123.a", '<', "123.b" },
        { "123a", '>', "123.a" },
        { "11α", '=', "11β" },
        { "B", '<', "a" },
        { "", '<', "0" },
        { "0.", '>', "0" },
        { "0.0", '>', "0" },
        { "0", '>', "~" },
        { "", '>', "~" },
        { "1_", '=', "1" },
        { "_1", '=', "1" },
        { "1_", '<', "1.2" },
        { "1_2_3", '>', "1.3.3" },
        { "1+", '=', "1" },
        { "+1", '=', "1" },
        { "1+", '<', "1.2" },
        { "1+2+3", '>', "1.3.3" },
        /* a number is newer than none, 0 too: as systemd-analyze 252 compares and systemd-boot 252 sorts */
        { "1.0", '>', "1.a" },
        { "1.a", '<', "1.00" },
        { "0", '>', "a" },
        { "1.0a", '>', "1.a" },
        { "1-0", '>', "1-a" },
        { "1.00", '>', "1." },
        { "1.@0", '<', "1.0" },
        { "1.0.1", '>', "1.a.1" },
        /* 1: what is outside the set only separates */
        { "1 2", '=', "1_2" },
        { "12", '>', "1_2" },
        { "a_b", '=', "a+b" },
        { "ab", '>', "a_b" },
        /* 2: tilde is lower than anything, the end included; behind a pair of them 3 comes next */
        { "1.0~rc1", '<', "1.0" },
        { "1.0~rc1", '<', "1.0~rc2" },
        { "1.0~~", '>', "1.0~" },
        { "1~", '<', "1-" },
        { "1~", '<', "1^" },
        { "1~9", '<', "1.0" },
        /* 3: what goes on is higher */
        { "", '=', "" },
        { "1.", '>', "1" },
        { "1^", '>', "1" },
        { "1-", '>', "1" },
        /* 4: minus is lower than a caret, a dot, a letter or a digit */
        { "1-9", '<', "1^0" },
        { "1-9", '<', "1.0" },
        { "1-9", '<', "1a" },
        { "1-2", '<', "1-10" },
        /* 5: caret is lower than a dot, a letter or a digit */
        { "1^9", '<', "1.0" },
        { "1^9", '<', "1a" },
        { "1^1", '<', "1^2" },
        /* 6: dot is lower than a letter or a digit */
        { "1.9", '<', "1a" },
        { "1..1", '<', "1.1" },
        /* 7: numbers by value, of any length */
        { "9", '<', "10" },
        { "007", '=', "7" },
        { "1.000", '=', "1.0" },
        { "18446744073709551616", '>', "18446744073709551615" },
        { "99999999999999999999999999999999", '<', "100000000000000000000000000000000" },
        { "1", '>', "a" },
        { "a1", '<', "ab" },
        { "123-a", '<', "123-1" },
        /* 8: letters by their code, the longer run is higher */
        { "abc", '<', "abd" },
        { "ab", '<', "abc" },
        { "Z", '<', "a" },
        { "rc10", '>', "rc9" },
        { "alpha", '<', "beta" },
        /* ours */
        { "17.1", '>', "16.2" },
        { "16.2", '>', "16.1" },
        { "16.10", '>', "16.9" },
};

START_TEST(every_rule)
{
        int expected = pairs[_i].relation == '<' ? -1 : pairs[_i].relation == '>';

        ck_assert_msg(sign(version_compare(pairs[_i].a, pairs[_i].b)) == expected, "'%s' %c '%s'", pairs[_i].a,
                      pairs[_i].relation, pairs[_i].b);
        ck_assert_msg(sign(version_compare(pairs[_i].b, pairs[_i].a)) == -expected, "'%s' %c '%s', the other way",
                      pairs[_i].a, pairs[_i].relation, pairs[_i].b);
}
END_TEST

/* Each smaller than every one behind it: the specification's list, with the one of systemd's own test. */
START_TEST(a_list_in_order)
{
        static const char *const list[] = {
                "~1",      "",           "ab",        "abb",     "abc",     "0001",    "002",    "12",       "122",
                "122.9",   "123~rc1",    "123~rc1-1", "123",     "123-a",   "123-a.1", "123-a1", "123-a1.1", "123-3",
                "123-3.1", "123^patch1", "123^1",     "123.a-1", "123.1-1", "123a-1",  "124",    "124-1",
        };

        for (size_t i = 0; i < ARRAY_SIZE(list); i++)
                for (size_t j = 0; j < ARRAY_SIZE(list); j++)
                        ck_assert_msg(sign(version_compare(list[i], list[j])) == (i < j ? -1 : i > j), "'%s' and '%s'",
                                      list[i], list[j]);
}
END_TEST

/* All strings of up to three of these (without "_": after a mark the specification skips it in the next round
 * only, so ".a" == ".0a" < "._1" < ".a"): antisymmetric, transitive, and equal ones compare alike with all others. */
#define ALPHABET  "01aB.-~^"
#define N_LETTERS (sizeof(ALPHABET) - 1)
#define N_STRINGS (1 + N_LETTERS + N_LETTERS * N_LETTERS + N_LETTERS * N_LETTERS * N_LETTERS)
static int8_t order[N_STRINGS][N_STRINGS];

static void nth_string(size_t n, char text[static 4])
{
        size_t length = 0, count = 1;

        while (n >= count) {
                n -= count;
                count *= N_LETTERS;
                length++;
        }
        for (size_t i = 0; i < length; i++, n /= N_LETTERS)
                text[i] = ALPHABET[n % N_LETTERS];
        text[length] = '\0';
}

START_TEST(it_is_an_order)
{
        static char strings[N_STRINGS][4];

        for (size_t i = 0; i < N_STRINGS; i++)
                nth_string(i, strings[i]);
        for (size_t i = 0; i < N_STRINGS; i++)
                for (size_t j = 0; j < N_STRINGS; j++)
                        order[i][j] = (int8_t)sign(version_compare(strings[i], strings[j]));
        for (size_t i = 0; i < N_STRINGS; i++) {
                ck_assert_int_eq(order[i][i], 0);
                for (size_t j = 0; j < N_STRINGS; j++) {
                        ck_assert_msg(order[i][j] == -order[j][i], "'%s' and '%s'", strings[i], strings[j]);
                        if (order[i][j] > 0)
                                continue;
                        for (size_t k = 0; k < N_STRINGS; k++)
                                if (order[j][k] <= 0 && order[i][k] != MIN(order[i][j], order[j][k]))
                                        ck_abort_msg("'%s', '%s', '%s'", strings[i], strings[j], strings[k]);
                }
        }
}
END_TEST

START_TEST(what_is_a_version)
{
        static const char *const good[] = { "0", "a", "1.0~rc1", "17.1", "V2_3", "1+2", "1^post1-2" };
        static const char *const bad[] = { "", ".1", "-1", "~1", "1 2", "1/2", "1\n", "1:2", "1\xce\xb1", "1=2", "1\"" };
        char text[65] = "";

        for (size_t i = 0; i < ARRAY_SIZE(good); i++)
                ck_assert_msg(version_valid(good[i]), "%s", good[i]);
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                ck_assert_msg(!version_valid(bad[i]), "%s", bad[i]);
        memset(text, '7', 63);
        ck_assert(version_valid(text));
        text[63] = '7';
        ck_assert(!version_valid(text));
}
END_TEST

int main(void)
{
        Suite *s = suite_create("version");
        TCase *t = tcase_create("version");

        tcase_set_timeout(t, 120);
        tcase_add_loop_test(t, every_rule, 0, (int)ARRAY_SIZE(pairs));
        tcase_add_test(t, a_list_in_order);
        tcase_add_test(t, it_is_an_order);
        tcase_add_test(t, what_is_a_version);
        suite_add_tcase(s, t);
        return suite_run(s);
}
