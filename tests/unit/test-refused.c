/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The list of versions that were rolled back from. */
#include <fcntl.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/file.h"
#include "operation/refused.h"

/* Check has a macro of this name. */
#include "scratch.h"
#include "suite.h"
#undef fail

static struct machine machine(void)
{
        struct machine m = { .data_path = strdup("."), .lock = -1, .place.fd = { -1, -1 }, .snapshots = { -1, -1 } };

        m.snapshots.data = dir_open(AT_FDCWD, ".");
        ck_assert_int_ge(m.snapshots.data, 0);
        slot_set_init(&m.state.set, 2);
        return m;
}

/* The record refuses what lies in slot b: version `number`. */
static void refuse(struct machine *m, unsigned number)
{
        struct slot *s = &m->state.set.slots[1];

        snprintf(s->version, sizeof(s->version), "%u", number);
        memset(s->digest, 0, DIGEST_SIZE);
        put_le32(s->digest, number);
        memcpy(m->state.set.refused, s->digest, DIGEST_SIZE);
}

static int has(struct machine *m, unsigned number)
{
        uint8_t digest[DIGEST_SIZE] = {};

        put_le32(digest, number);
        return refused_has(m, digest, NULL);
}

static void write_list(const char *text)
{
        ck_assert_int_ge(file_replace(AT_FDCWD, "refused", text, strlen(text), 0644), 0);
}

static char *first_version(struct machine *m)
{
        _cleanup_json_ json_t *list = refused_to_json(m);
        const char *version = json_string_value(json_object_get(json_array_get(list, 0), "version"));

        return version ? strdup(version) : NULL;
}

START_TEST(every_one_is_remembered_once)
{
        struct machine m = machine();
        _cleanup_free_ char *text = NULL, *again = NULL, *newest = NULL;

        ck_assert_int_eq(refused_note(&m, NULL), 0);
        ck_assert_int_lt(file_read(AT_FDCWD, "refused", 100, &text, NULL), 0); /* nothing to note, nothing written */
        ck_assert_int_eq(has(&m, 1), 0);
        for (unsigned i = 1; i <= 3; i++) {
                refuse(&m, i);
                ck_assert_int_eq(refused_note(&m, NULL), 0);
        }
        for (unsigned i = 1; i <= 3; i++)
                ck_assert_int_eq(has(&m, i), 1);
        ck_assert_int_eq(has(&m, 4), 0);
        newest = first_version(&m);
        ck_assert_str_eq(newest, "3");
        ck_assert_int_eq(file_read(AT_FDCWD, "refused", 1000, &text, NULL), 0);
        ck_assert_int_eq(refused_note(&m, NULL), 0);
        refuse(&m, 1);
        ck_assert_int_eq(refused_note(&m, NULL), 0);
        ck_assert_int_eq(file_read(AT_FDCWD, "refused", 1000, &again, NULL), 0);
        ck_assert_str_eq(text, again);
        machine_close(&m);
}
END_TEST

START_TEST(one_or_all_are_forgotten)
{
        struct machine m = machine();
        uint8_t digest[DIGEST_SIZE] = {};

        for (unsigned i = 1; i <= 3; i++) {
                refuse(&m, i);
                ck_assert_int_eq(refused_note(&m, NULL), 0);
        }
        put_le32(digest, 2);
        ck_assert_int_eq(refused_forget(&m, digest, NULL), 0);
        ck_assert_int_eq(refused_forget(&m, digest, NULL), 0);
        ck_assert_int_eq(has(&m, 1), 1);
        ck_assert_int_eq(has(&m, 2), 0);
        ck_assert_int_eq(has(&m, 3), 1);
        put_le32(digest, 3); /* the record's, too */
        ck_assert_int_eq(refused_forget(&m, digest, NULL), 0);
        ck_assert_int_eq(has(&m, 3), 0);
        refuse(&m, 5);
        ck_assert_int_eq(refused_clear(&m, NULL), 0);
        ck_assert_int_eq(refused_clear(&m, NULL), 0);
        ck_assert_int_eq(has(&m, 1), 0);
        ck_assert_int_eq(has(&m, 5), 0);
        machine_close(&m);
}
END_TEST

START_TEST(it_is_bounded_and_the_oldest_go)
{
        struct machine m = machine();

        for (unsigned i = 1; i <= REFUSED_KEEP + 3; i++) {
                refuse(&m, i);
                ck_assert_int_eq(refused_note(&m, NULL), 0);
        }
        ck_assert_int_eq(has(&m, 3), 0);
        ck_assert_int_eq(has(&m, 4), 1);
        ck_assert_int_eq(has(&m, REFUSED_KEEP + 3), 1);
        machine_close(&m);
}
END_TEST

/* Whatever lies there: what can be read of it counts, and it ends. */
START_TEST(damage_hides_no_other)
{
#define ONE "0100000000000000000000000000000000000000000000000000000000000000"
#define TWO "0200000000000000000000000000000000000000000000000000000000000000"
        static const struct {
                const char *text;
                int one, two;
        } rows[] = {
                { "", 0, 0 },
                { "\n\n", 0, 0 },
                { ONE " 1\n" TWO " 2\n", 1, 1 },
                { ONE " 1\n" TWO " 2", 1, 1 },
                { ONE "\n" TWO " -\n", 0, 1 },
                { ONE " not a version\n" TWO " 2\n", 0, 1 },
                { "x" ONE " 1\n" TWO " 2\n", 0, 1 },
                { ONE " \n" TWO " 2\n", 0, 1 },
                { "01 1\n" TWO "00 2\n", 0, 0 },
        };
        struct machine m = machine();

        write_list(rows[_i].text);
        ck_assert_int_eq(has(&m, 1), rows[_i].one);
        ck_assert_int_eq(has(&m, 2), rows[_i].two);
        refuse(&m, 3);
        ck_assert_int_eq(refused_note(&m, NULL), 0);
        ck_assert_int_eq(has(&m, 1), rows[_i].one);
        ck_assert_int_eq(has(&m, 2), rows[_i].two);
        ck_assert_int_eq(has(&m, 3), 1);
        machine_close(&m);
}
END_TEST

START_TEST(one_that_cannot_be_read_is_an_error)
{
        struct machine m = machine();
        struct error e = {};
        uint8_t digest[DIGEST_SIZE] = { 1 };

        ck_assert_int_eq(mkdir("refused", 0755), 0);
        ck_assert_int_lt(refused_has(&m, digest, &e), 0);
        ck_assert_ptr_nonnull(strstr(e.message, "refused"));
        error_done(&e);
        refuse(&m, 7);
        ck_assert_int_eq(has(&m, 7), 1); /* the record is enough to refuse */
        ck_assert_int_lt(refused_note(&m, &e), 0);
        error_done(&e);
        machine_close(&m);
}
END_TEST

START_TEST(without_data_the_record_counts)
{
        struct machine m = machine();

        close(m.snapshots.data);
        m.snapshots.data = -1;
        refuse(&m, 1);
        ck_assert_int_eq(refused_note(&m, NULL), 0);
        ck_assert_int_eq(has(&m, 1), 1);
        ck_assert_int_eq(has(&m, 2), 0);
        ck_assert_int_eq(refused_clear(&m, NULL), 0);
        ck_assert_int_eq(has(&m, 1), 0);
        machine_close(&m);
}
END_TEST

/* Its slot was written again before the list could be: the digest is what refuses. */
START_TEST(a_version_that_is_gone)
{
        struct machine m = machine();
        _cleanup_free_ char *version = NULL;

        refuse(&m, 1);
        slot_set_begin_write(&m.state.set, 1);
        ck_assert_int_eq(refused_note(&m, NULL), 0);
        version = first_version(&m);
        ck_assert_str_eq(version, "-");
        memset(m.state.set.refused, 0, DIGEST_SIZE);
        ck_assert_int_eq(has(&m, 1), 1);
        machine_close(&m);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("refused");
        TCase *t = tcase_create("refused");

        tcase_add_checked_fixture(t, scratch_begin, scratch_end);
        tcase_add_test(t, every_one_is_remembered_once);
        tcase_add_test(t, one_or_all_are_forgotten);
        tcase_add_test(t, it_is_bounded_and_the_oldest_go);
        tcase_add_loop_test(t, damage_hides_no_other, 0, 9);
        tcase_add_test(t, one_that_cannot_be_read_is_an_error);
        tcase_add_test(t, without_data_the_record_counts);
        tcase_add_test(t, a_version_that_is_gone);
        suite_add_tcase(s, t);
        return suite_run(s);
}
