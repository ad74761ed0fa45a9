/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Buffers, numbers and times from text, strict JSON, errors, checksums and digests. */
#include <fcntl.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/progress.h"
#include "base/sha256.h"

#include <check.h>
#include "suite.h"
#undef fail

START_TEST(buffers_grow)
{
        _cleanup_buf_ struct buf b = {};
        char *text;

        for (int i = 0; i < 1000; i++)
                buf_printf(&b, "%d,", i);
        buf_puts(&b, "end");
        buf_append(&b, "\0x", 2);
        buf_append(&b, NULL, 0);
        ck_assert_uint_eq(b.size, 10 * 2 + 90 * 3 + 900 * 4 + 3 + 2);
        ck_assert_int_eq(b.data[b.size], '\0');
        ck_assert_ptr_nonnull(strstr(b.data, ",999,end"));
        text = buf_take(&b);
        ck_assert_ptr_nonnull(text);
        ck_assert_ptr_null(b.data);
        free(text);
        text = buf_take(&b); /* empty, not NULL */
        ck_assert_str_eq(text, "");
        free(text);
}
END_TEST

START_TEST(a_failed_buffer_stays_failed)
{
        struct buf b = {};

        buf_puts(&b, "x");
        buf_append(&b, "y", SIZE_MAX);
        ck_assert(b.failed);
        buf_puts(&b, "z");
        buf_printf(&b, "%d", 1);
        ck_assert_uint_eq(b.size, 1);
        ck_assert_ptr_null(buf_take(&b));
        ck_assert_ptr_null(b.data);
}
END_TEST

START_TEST(hexadecimal)
{
        static const char *const bad[] = { "", "00ff1", "00ff1g", "00ff1 ", "00ff100", "0x00ff" };
        uint8_t bytes[3] = { 0x00, 0xff, 0x1a }, back[3] = { 7, 7, 7 };
        char hex[7];

        hex_encode(bytes, 3, hex);
        ck_assert_str_eq(hex, "00ff1a");
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                ck_assert_int_eq(hex_decode(bad[i], back, 3), -EINVAL);
        ck_assert_int_eq(back[0], 7);
        ck_assert_int_eq(hex_decode("00Ff1A", back, 3), 0);
        ck_assert_mem_eq(bytes, back, 3);
}
END_TEST

START_TEST(zeros)
{
        uint8_t data[100] = {};

        for (size_t size = 0; size <= sizeof(data); size++) {
                ck_assert(is_all_zero(data, size));
                for (size_t i = 0; i < size; i++) {
                        data[i] = 1;
                        ck_assert_msg(!is_all_zero(data, size), "%zu of %zu", i, size);
                        data[i] = 0;
                }
        }
}
END_TEST

/* RFC 3720, B.4, and the usual check value; in one piece and in two. */
START_TEST(crc32c_vectors)
{
        uint8_t data[32];

        ck_assert_uint_eq(crc32c(0, "", 0), 0);
        ck_assert_uint_eq(crc32c(0, "123456789", 9), 0xe3069283);
        memset(data, 0, 32);
        ck_assert_uint_eq(crc32c(0, data, 32), 0x8a9136aa);
        memset(data, 0xff, 32);
        ck_assert_uint_eq(crc32c(0, data, 32), 0x62a8ab43);
        for (uint8_t i = 0; i < 32; i++)
                data[i] = i;
        ck_assert_uint_eq(crc32c(0, data, 32), 0x46dd794e);
        for (size_t i = 0; i <= 32; i++)
                ck_assert_uint_eq(crc32c(crc32c(0, data, i), data + i, 32 - i), 0x46dd794e);
}
END_TEST

/* FIPS 180-2. */
START_TEST(sha256_vectors)
{
        _cleanup_sha256_ struct sha256 *h = sha256_new();
        uint8_t expected[SHA256_SIZE], digest[SHA256_SIZE];
        FILE *f = tmpfile();

        hex_decode("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", expected, SHA256_SIZE);
        ck_assert_int_eq(sha256_data("abc", 3, digest), 0);
        ck_assert_mem_eq(digest, expected, SHA256_SIZE);
        for (int i = 0; i < 2; i++) { /* the end of one is the beginning of the next */
                ck_assert_int_eq(sha256_update(h, "a", 1), 0);
                ck_assert_int_eq(sha256_update(h, "bc", 2), 0);
                ck_assert_int_eq(sha256_final(h, digest), 0);
                ck_assert_mem_eq(digest, expected, SHA256_SIZE);
        }
        fputs("xxabcyy", f);
        fflush(f);
        ck_assert_int_eq(sha256_fd(fileno(f), 2, 3, digest), 0);
        ck_assert_mem_eq(digest, expected, SHA256_SIZE);
        ck_assert_int_eq(ftruncate(fileno(f), 5), 0);
        ck_assert_int_eq(sha256_fd(fileno(f), 2, UINT64_MAX, digest), 0);
        ck_assert_mem_eq(digest, expected, SHA256_SIZE);
        ck_assert_int_eq(sha256_fd(fileno(f), 2, 4, digest), -EIO);
        fclose(f);
        ck_assert_int_lt(sha256_fd(-1, 0, 1, digest), 0);
}
END_TEST

static const struct {
        int (*parse)(const char *s, uint64_t *ret);
        const char *text;
        int result;
        uint64_t value;
} numbers[] = {
        { parse_u64, "0", 0, 0 },
        { parse_u64, "007", 0, 7 },
        { parse_u64, "18446744073709551615", 0, UINT64_MAX },
        { parse_u64, "18446744073709551616", -ERANGE, 0 },
        { parse_u64, "99999999999999999999", -ERANGE, 0 },
        { parse_u64, "", -EINVAL, 0 },
        { parse_u64, "-1", -EINVAL, 0 },
        { parse_u64, "+1", -EINVAL, 0 },
        { parse_u64, " 1", -EINVAL, 0 },
        { parse_u64, "1 ", -EINVAL, 0 },
        { parse_u64, "0x1", -EINVAL, 0 },
        { parse_size, "4096", 0, 4096 },
        { parse_size, "1B", 0, 1 },
        { parse_size, "512M", 0, MIB(512) },
        { parse_size, "512MiB", 0, MIB(512) },
        { parse_size, "2g", 0, GIB(2) },
        { parse_size, "1.5G", 0, MIB(1536) },
        { parse_size, "4097MB", 0, MIB(4097) },
        { parse_size, "3T", 0, GIB(3072) },
        { parse_size, "0.25K", 0, 256 },
        { parse_size, "16777215T", 0, GIB(16777215ULL * 1024) },
        { parse_size, "16777216T", -ERANGE, 0 },
        { parse_size, "", -EINVAL, 0 },
        { parse_size, "G", -EINVAL, 0 },
        { parse_size, ".5G", -EINVAL, 0 },
        { parse_size, "1.G", -EINVAL, 0 },
        { parse_size, "1.2.3G", -EINVAL, 0 },
        { parse_size, "1.0000001G", -ERANGE, 0 },
        { parse_size, "1 G", -EINVAL, 0 },
        { parse_size, "-1G", -EINVAL, 0 },
        { parse_size, "1Q", -EINVAL, 0 },
        { parse_size, "00000000000000000000000000000000001", -ERANGE, 0 },
        { parse_seconds, "90", 0, 90 * USEC_PER_SEC },
        { parse_seconds, "90s", 0, 90 * USEC_PER_SEC },
        { parse_seconds, "5min", 0, 300 * USEC_PER_SEC },
        { parse_seconds, "1h", 0, 3600 * USEC_PER_SEC },
        { parse_seconds, "1d", 0, USEC_PER_DAY },
        { parse_seconds, "250ms", 0, 250 * USEC_PER_MSEC },
        { parse_seconds, "7us", 0, 7 },
        { parse_seconds, "0.5", 0, 500 * USEC_PER_MSEC },
        { parse_seconds, "soon", -EINVAL, 0 },
        { parse_seconds, "1min 5s", -EINVAL, 0 },
        { parse_seconds, "999999999999d", -ERANGE, 0 },
};

START_TEST(numbers_from_text)
{
        uint64_t value = 77;

        ck_assert_msg(numbers[_i].parse(numbers[_i].text, &value) == numbers[_i].result, "'%s'", numbers[_i].text);
        ck_assert_msg(value == (numbers[_i].result ? 77 : numbers[_i].value), "'%s': %llu", numbers[_i].text,
                      (unsigned long long)value);
}
END_TEST

START_TEST(small_numbers_and_booleans)
{
        static const char *const yes[] = { "yes", "TRUE", "on", "1" }, *const no[] = { "no", "False", "off", "0" };
        uint32_t n = 77;
        bool b;

        ck_assert_int_eq(parse_u32("4294967295", &n), 0);
        ck_assert_uint_eq(n, UINT32_MAX);
        ck_assert_int_eq(parse_u32("4294967296", &n), -ERANGE);
        ck_assert_int_eq(parse_u32("x", &n), -EINVAL);
        ck_assert_uint_eq(n, UINT32_MAX);
        for (int i = 0; i < 4; i++) {
                ck_assert_int_eq(parse_bool(yes[i], &b), 0);
                ck_assert(b);
                ck_assert_int_eq(parse_bool(no[i], &b), 0);
                ck_assert(!b);
        }
        ck_assert_int_eq(parse_bool("", &b), -EINVAL);
        ck_assert_int_eq(parse_bool("yes ", &b), -EINVAL);
}
END_TEST

START_TEST(command_lines)
{
        static const struct {
                const char *cmdline, *key, *value;
        } cases[] = {
                { "a=1 b=2", "b", "2" },
                { "a=1 a=2\n", "a", "2" },
                { "xa=1", "a", NULL },
                { "a", "a", NULL },
                { "a=", "a", "" },
                { "", "a", NULL },
                { "q=\"a=1 x\" a=3", "a", "3" },
                { "q=\"z a=1\"", "a", NULL },
                { "q=\"one two\"", "q", "one two" },
                { "\"q=one two\" r=1", "q", "one two" },
                { "  root=PARTUUID=x  ", "root", "PARTUUID=x" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                _cleanup_free_ char *value = cmdline_get(cases[i].cmdline, cases[i].key);

                ck_assert_msg(streq(value, cases[i].value), "%s: %s", cases[i].cmdline, value ?: "NULL");
        }
        ck_assert(cmdline_has("ro quiet gpt", "gpt"));
        ck_assert(cmdline_has("gpt", "gpt"));
        ck_assert(!cmdline_has("gpt=1 xgpt gptx \"a gpt \"", "gpt"));
}
END_TEST

static const struct {
        const char *text;
        int64_t usec; /* -1: refused */
} times[] = {
        { "1970-01-01T00:00:00Z", 0 },
        { "2026-11-23T08:09:29.123Z", INT64_C(1795421369123000) },
        { "2026-11-23T08:09:29.1234567z", INT64_C(1795421369123456) },
        { "2026-11-23T10:09:29+02:00", INT64_C(1795421369000000) },
        { "2026-11-23T02:39:29-05:30", INT64_C(1795421369000000) },
        { "2024-02-29T00:00:00Z", INT64_C(1709164800000000) },
        { "2016-12-31T23:59:60Z", INT64_C(1483228800000000) },
        { "9999-12-31T23:59:59Z", INT64_C(253402300799000000) },
        { "", -1 },
        { "yesterday", -1 },
        { "2026-11-23", -1 },
        { "2026-11-23T08:09:29", -1 },
        { "2026-11-23 08:09:29Z", -1 },
        { " 2026-11-23T08:09:29Z", -1 },
        { "2026-11-23T08:09:29Z ", -1 },
        { "2026-11-23T08:09:29.Z", -1 },
        { "2026-1-3T8:9:2Z", -1 },
        { "2026-02-30T00:00:00Z", -1 },
        { "2025-02-29T00:00:00Z", -1 },
        { "2026-13-01T00:00:00Z", -1 },
        { "2026-11-23T24:00:00Z", -1 },
        { "2026-11-23T08:09:61Z", -1 },
        { "2026-11-23T08:09:29+24:00", -1 },
        { "2026-11-23T08:09:29+01:60", -1 },
        { "2026-11-23T08:09:29+1:00", -1 },
        { "2026-11-23T08:09:29+ 1:00", -1 },
        { "2026-11-23T08:09:29++1:00", -1 },
        { "2026-11-23T08:09:29+01:00Z", -1 },
        { "1969-12-31T23:59:59Z", -1 },
        { "1970-01-01T00:00:00+00:01", -1 },
};

START_TEST(times_from_text)
{
        uint64_t usec = 77;
        int r = parse_time(times[_i].text, &usec);

        ck_assert_msg(r == (times[_i].usec < 0 ? -EINVAL : 0), "'%s': %d", times[_i].text, r);
        ck_assert_msg(usec == (times[_i].usec < 0 ? 77 : (uint64_t)times[_i].usec), "'%s': %llu", times[_i].text,
                      (unsigned long long)usec);
}
END_TEST

START_TEST(times_go_round)
{
        char text[TIME_TEXT_SIZE];
        uint64_t back, before = now_realtime();

        format_time(UINT64_C(1795421369123999), text);
        ck_assert_str_eq(text, "2026-11-23T08:09:29.123Z");
        for (uint64_t usec = 0; usec < UINT64_C(200000) * USEC_PER_DAY; usec += UINT64_C(86399999) * USEC_PER_MSEC * 7) {
                format_time(usec, text);
                ck_assert_int_eq(parse_time(text, &back), 0);
                ck_assert_uint_eq(back, usec);
        }
        format_time(UINT64_MAX, text); /* fits */
        ck_assert_uint_lt(strlen(text), TIME_TEXT_SIZE);
        ck_assert_uint_ge(now_realtime(), before);
        ck_assert_uint_gt(now_monotonic(), 0);
}
END_TEST

START_TEST(ids)
{
        uint8_t a[16] = {}, b[16] = {};

        ck_assert_int_eq(random_id(a), 0);
        ck_assert_int_eq(random_id(b), 0);
        ck_assert_mem_ne(a, b, 16);
        ck_assert_int_eq(boot_id(a), 0);
        ck_assert_int_eq(boot_id(b), 0);
        ck_assert_mem_eq(a, b, 16);
        ck_assert(!is_all_zero(a, 16));
}
END_TEST

static int parse(const char *text, json_t **ret, struct error *e)
{
        return json_parse_strict(text, strlen(text), "the sample", ret, e);
}

START_TEST(json_is_strict)
{
        static const char *const bad[] = {
                "",
                "{",
                "{}x",
                "{} {}",
                "[1,]",
                "{\"a\":1,\"a\":1}",
                "{\"o\":{\"a\":1,\"b\":2,\"a\":3}}",
                "{'a':1}",
                "[01]",
                "[NaN]",
                "[\"\xff\"]",
                "[\"\\ud800\"]",
                "{\"a\\u0000\":1}",
                "[\"a\\u0000b\"]",
                "[9223372036854775808]",
                "// x\n{}",
                "{\"a\":1,\"\\u0061\":2}",
        };
        json_t *j = NULL;

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                _cleanup_error_ struct error e = {};

                ck_assert_msg(parse(bad[i], &j, &e) == -EINVAL, "%s", bad[i]);
                ck_assert_msg(startswith(e.message, "the sample is not valid JSON: line "), "%s", e.message);
        }
        ck_assert_ptr_null(j);
}
END_TEST

START_TEST(json_depth)
{
        char text[80];
        struct error e = {};
        json_t *j;

        for (int depth = 31; depth <= 34; depth++) {
                memset(text, '[', (size_t)depth);
                memset(text + depth, ']', (size_t)depth);
                text[2 * depth] = '\0';
                ck_assert_int_eq(parse(text, &j, &e), depth <= 32 ? 0 : -EINVAL);
                if (depth <= 32)
                        json_decref(j);
                else
                        ck_assert_ptr_nonnull(strstr(e.message, "more than 32 levels"));
                error_done(&e);
        }
        /* Brackets in strings do not count. */
        ck_assert_int_eq(parse("[\"\\\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"]", &j, &e), 0);
        json_decref(j);
}
END_TEST

START_TEST(json_members)
{
        static const char *const known[] = { "s", "n", "b", "a", "o", "neg", "real", "nul", NULL }, *const few[] = { "s",
                                                                                                                     NULL };
        const char *s = "untouched";
        struct error e = {};
        json_t *j, *member = NULL;
        uint64_t n = 77;
        bool b = false;

        ck_assert_int_eq(parse("{\"s\":\"x\",\"n\":9223372036854775807,\"b\":true,\"a\":[],\"o\":{},\"neg\":-1,\"real\":1.0,"
                               "\"nul\":null}",
                               &j, NULL),
                         0);
        ck_assert_int_eq(json_get_string(j, "missing", &s, &e), -ENOENT);
        ck_assert_str_eq(e.message, "the member \"missing\" is missing");
        error_done(&e);
        ck_assert_int_eq(json_get_string(j, "n", &s, &e), -EINVAL);
        ck_assert_str_eq(e.message, "the member \"n\" is not a string");
        error_done(&e);
        ck_assert_int_eq(json_opt_string(j, "missing", &s, NULL), 0);
        ck_assert_int_eq(json_opt_string(j, "nul", &s, NULL), -EINVAL);
        ck_assert_str_eq(s, "untouched");
        ck_assert_int_eq(json_get_string(j, "s", &s, NULL), 0);
        ck_assert_str_eq(s, "x");
        ck_assert_int_eq(json_get_u64(j, "neg", &n, NULL), -EINVAL);
        ck_assert_int_eq(json_get_u64(j, "real", &n, NULL), -EINVAL);
        ck_assert_int_eq(json_opt_u64(j, "missing", &n, NULL), 0);
        ck_assert_uint_eq(n, 77);
        ck_assert_int_eq(json_opt_u64(j, "n", &n, NULL), 0);
        ck_assert_uint_eq(n, INT64_MAX);
        ck_assert_int_eq(json_get_bool(j, "b", &b, NULL), 0);
        ck_assert(b);
        ck_assert_int_eq(json_get_bool(j, "s", &b, NULL), -EINVAL);
        ck_assert_int_eq(json_get_bool(j, "missing", &b, NULL), -ENOENT);
        ck_assert_int_eq(json_get_array(j, "a", &member, NULL), 0);
        ck_assert(json_is_array(member));
        ck_assert_int_eq(json_get_array(j, "o", &member, NULL), -EINVAL);
        ck_assert_int_eq(json_get_object(j, "o", &member, NULL), 0);
        ck_assert(json_is_object(member));
        ck_assert_int_eq(json_get_object(j, "nul", &member, NULL), -EINVAL);
        ck_assert_int_eq(json_check_members(j, known, "the sample", NULL), 0);
        ck_assert_int_eq(json_check_members(j, few, "the sample", &e), -EINVAL);
        ck_assert_ptr_nonnull(strstr(e.message, "the sample has an unknown member"));
        error_done(&e);
        json_object_set_new(j, "s", json_stringn("a\0b", 3));
        ck_assert_int_eq(json_get_string(j, "s", &s, NULL), -EINVAL);
        json_decref(j);
}
END_TEST

START_TEST(json_or_null)
{
        json_t *j = json_pack("[o,o,o,o]", json_string_or_null(NULL), json_string_or_null("x"), json_time_or_null(0),
                              json_time_or_null(USEC_PER_SEC));
        char *text = json_dumps(j, JSON_COMPACT);

        ck_assert_str_eq(text, "[null,\"x\",null,\"1970-01-01T00:00:01.000Z\"]");
        free(text);
        json_decref(j);
}
END_TEST

START_TEST(errors)
{
        static const struct error_kind kind = { .name = "refused", .exit_status = 3 };
        struct error e = {};

        ck_assert_int_eq(fail(NULL, -EPERM, NULL, "x"), -EPERM);
        ck_assert_int_eq(fail_errno(NULL, -EPERM, "x"), -EPERM);
        ck_assert_int_eq(fail_errno(&e, -ECANCELED, "who interrupts says so"), -ECANCELED);
        ck_assert_int_eq(e.code, 0);
        ck_assert_int_lt(fail_hint(NULL, "x"), 0);
        fail(NULL, -EBUSY, &kind_usage, "no record is wanted");
        ck_assert_int_eq(fail_hint(NULL, "but its code is"), -EBUSY);
        fail_errno(NULL, -ENOSPC, "likewise");
        ck_assert_int_eq(fail_hint(NULL, "x"), -ENOSPC);
        ck_assert_int_eq(fail(&e, -EBUSY, &kind, "slot %c is busy", 'b'), -EBUSY);
        ck_assert_int_eq(fail(&e, -EIO, NULL, "later"), -EIO); /* the first is nearest to the cause */
        ck_assert_int_eq(fail_errno(&e, -EIO, "later"), -EIO);
        ck_assert_int_eq(fail_hint(&e, "wait %d s", 5), -EBUSY);
        ck_assert_int_eq(fail_hint(&e, "later"), -EBUSY);
        ck_assert_int_eq(e.code, -EBUSY);
        ck_assert_str_eq(e.message, "slot b is busy");
        ck_assert_str_eq(e.hint, "wait 5 s");
        ck_assert_int_eq(error_exit_status(&e, -EBUSY), 3);
        ck_assert_int_eq(error_exit_status(&e, 0), 0);
        ck_assert_int_eq(error_exit_status(NULL, -EIO), 1);
        error_done(&e);
        ck_assert_ptr_null(e.message);
        ck_assert_int_eq(error_exit_status(&e, -EIO), 1);
        ck_assert_int_eq(fail_errno(&e, -ENOSPC, "cannot write %s", "x"), -ENOSPC);
        ck_assert_str_eq(e.message, "cannot write x: No space left on device");
        ck_assert_ptr_eq(e.kind, &kind_failed);
        error_done(&e);
        ck_assert_str_eq(error_text(-ENOENT), error_text(ENOENT));
}
END_TEST

static int report(struct progress *p, uint64_t done, uint64_t total, const char *message)
{
        *(uint64_t *)p->userdata = done * 100 / total;
        return done == total ? -ECANCELED : 0;
}

START_TEST(progress_is_optional)
{
        uint64_t percent = 0;
        struct progress p = { .report = report, .userdata = &percent }, none = {};

        ck_assert_int_eq(progress_report(NULL, 1, 2, NULL), 0);
        ck_assert_int_eq(progress_report(&none, 1, 2, NULL), 0);
        ck_assert_int_eq(progress_report(&p, 1, 2, "x"), 0);
        ck_assert_uint_eq(percent, 50);
        ck_assert_int_eq(progress_report(&p, 2, 2, NULL), -ECANCELED);
}
END_TEST

START_TEST(the_log_says_what_is_wanted)
{
        FILE *f = tmpfile();
        char text[256] = "";
        int saved = dup(STDERR_FILENO);

        unsetenv("JOURNAL_STREAM");
        dup2(fileno(f), STDERR_FILENO);
        log_set_name("name");
        log_info("not by default");
        log_notice("one %d", 1);
        log_set_max_level(LOG_LEVEL_ERROR);
        log_warning("not any more");
        log_error("two");
        log_set_max_level(LOG_LEVEL_DEBUG);
        log_debug("three");
        dup2(saved, STDERR_FILENO);
        fd_close(saved);
        rewind(f);
        text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
        fclose(f);
        ck_assert_str_eq(text, "name: one 1\nname: two\nname: three\n");
}
END_TEST

int main(void)
{
        Suite *s = suite_create("base");
        TCase *t = tcase_create("base");

        tcase_set_timeout(t, 60);
        tcase_add_test(t, buffers_grow);
        tcase_add_test(t, a_failed_buffer_stays_failed);
        tcase_add_test(t, hexadecimal);
        tcase_add_test(t, zeros);
        tcase_add_test(t, crc32c_vectors);
        tcase_add_test(t, sha256_vectors);
        tcase_add_loop_test(t, numbers_from_text, 0, (int)ARRAY_SIZE(numbers));
        tcase_add_test(t, small_numbers_and_booleans);
        tcase_add_test(t, command_lines);
        tcase_add_loop_test(t, times_from_text, 0, (int)ARRAY_SIZE(times));
        tcase_add_test(t, times_go_round);
        tcase_add_test(t, ids);
        tcase_add_test(t, json_is_strict);
        tcase_add_test(t, json_depth);
        tcase_add_test(t, json_members);
        tcase_add_test(t, json_or_null);
        tcase_add_test(t, errors);
        tcase_add_test(t, progress_is_optional);
        tcase_add_test(t, the_log_says_what_is_wanted);
        suite_add_tcase(s, t);
        return suite_run(s);
}
