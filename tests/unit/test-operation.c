/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The model of an operation, its JSON, the tables of steps, and the health checks. */
#include <sys/stat.h>

#include "base/buf.h"
#include "base/process.h"
#include "base/text.h"
#include "operation/health.h"
#include "operation/steps.h"
#include "operation/watchdog.h"
#include "slot/kinds.h"

/* Check has a macro of this name. */
#include "scratch.h"
#include "suite.h"
#undef fail

static struct operation sample(void)
{
        struct operation op = {
                .id = "00112233445566778899aabbccddeeff",
                .kind = OPERATION_UPGRADE,
                .from_slot = 0,
                .to_slot = 1,
                .from_version = "1.0",
                .to_version = "2.0~rc1",
                .generation = UINT64_C(1) << 40,
                .result = RESULT_IN_PROGRESS,
                .reason = strdup("a \"quoted\" reason"),
                .automatic = true,
                .source = strdup("http://example/2.bundle"),
                .superseded_by = "fedcba98765432100123456789abcdef",
                .start = UINT64_C(1790000000123000),
        };
        const struct step *table = steps_of(OPERATION_UPGRADE);

        for (size_t i = 0; table[i].name; i++)
                strcpy(op.steps[op.n_steps++].name, table[i].name);
        step_begin(&op.steps[0]);
        step_end(&op.steps[0], STEP_DONE, "fine");
        step_begin(&op.steps[1]);
        op.steps[1].progress = 40;
        return op;
}

START_TEST(json_goes_round)
{
        struct operation a = sample(), b = {};
        struct error e = {};
        json_t *j = operation_to_json(&a), *again;

        ck_assert_ptr_nonnull(j);
        ck_assert_str_eq(json_string_value(json_object_get(j, "operation")), "UPGRADE");
        ck_assert_str_eq(json_string_value(json_object_get(j, "state")), "IN_PROGRESS");
        ck_assert_str_eq(json_string_value(json_object_get(json_array_get(json_object_get(j, "steps"), 1), "state")),
                         "RUNNING");
        ck_assert_int_eq(operation_from_json(j, &b, &e), 0);
        ck_assert_str_eq(b.id, a.id);
        ck_assert_int_eq(b.generation, a.generation);
        ck_assert_int_eq(b.start, a.start);
        ck_assert_str_eq(b.reason, a.reason);
        ck_assert_str_eq(b.superseded_by, a.superseded_by);
        ck_assert_int_eq(b.steps[1].progress, 40);
        again = operation_to_json(&b);
        ck_assert(json_equal(j, again));
        json_decref(j);
        json_decref(again);
        operation_done(&a);
        operation_done(&b);
}
END_TEST

/* Programs know two words; going to a slot by name is the second, and is known again by its own member. */
START_TEST(activate_is_a_rollback_to_programs)
{
        static const enum operation_kind kinds[] = { OPERATION_UPGRADE, OPERATION_ROLLBACK, OPERATION_ACTIVATE };
        struct operation a = sample(), b = {};
        bool activate = kinds[_i] == OPERATION_ACTIVATE;
        json_t *j;

        a.kind = kinds[_i];
        j = operation_to_json(&a);
        ck_assert_str_eq(json_string_value(json_object_get(j, "operation")),
                         kinds[_i] == OPERATION_UPGRADE ? "UPGRADE" : "ROLLBACK");
        ck_assert(json_is_boolean(json_object_get(j, "activate")));
        ck_assert_int_eq(json_is_true(json_object_get(j, "activate")), activate);
        ck_assert_int_eq(operation_from_json(j, &b, NULL), 0);
        ck_assert_int_eq(b.kind, kinds[_i]);
        json_decref(j);
        operation_done(&a);
        operation_done(&b);
}
END_TEST

/* While the checks of a trial run, a rollback takes its place: by the record, never by the steps' own file. */
START_TEST(a_trial_is_superseded)
{
        struct operation op = sample();
        struct slot_set set;

        slot_set_init(&set, 2);
        op.sequence = 7;
        record_operation(&set, &op, OPERATION_RUNNING, REASON_NONE);
        ck_assert(!operation_is_superseded(&set, &op));
        record_operation(&set, &op, OPERATION_STAGED, REASON_NONE);
        ck_assert(operation_is_superseded(&set, &op));
        record_operation(&set, &op, OPERATION_RUNNING, REASON_NONE);
        set.operation_id[3] ^= 1;
        ck_assert(operation_is_superseded(&set, &op));
        op.sequence = 0; /* its steps are lost: the record alone speaks */
        ck_assert(!operation_is_superseded(&set, &op));
        set.operation_state = OPERATION_STAGED;
        ck_assert(operation_is_superseded(&set, &op));
        operation_done(&op);
}
END_TEST

START_TEST(watchdogs_are_asked)
{
        static const struct {
                const char *text;
                bool reset;
        } tests[] = { { "0\n", false },  { "32\n", true }, { "33\n", true },
                      { "16\n", false }, { "", false },    { "x\n", false } };

        ck_assert(!watchdog_has_reset("watchdogs"));
        for (size_t i = 0; i < 2 * ARRAY_SIZE(tests); i++) { /* the other of the two says nothing */
                const char *text = tests[i / 2].text;
                const char *path = i % 2 ? "watchdogs/watchdog1/bootstatus" : "watchdogs/watchdog0/bootstatus";

                ck_assert_int_eq(mkdir_parents(AT_FDCWD, "watchdogs/watchdog0", 0755), 0);
                ck_assert_int_eq(mkdir_parents(AT_FDCWD, "watchdogs/watchdog1", 0755), 0);
                ck_assert_int_eq(file_replace_volatile(AT_FDCWD, path, text, strlen(text), 0644), 0);
                ck_assert_int_eq(truncate(path, 4096), 0); /* as sysfs says it */
                ck_assert_int_eq(watchdog_has_reset("watchdogs"), tests[i / 2].reset);
                ck_assert_int_eq(remove_tree(AT_FDCWD, "watchdogs"), 0);
        }
}
END_TEST

#define ID "\"id\":\"00112233445566778899aabbccddeeff\""
START_TEST(bad_json_is_refused)
{
        static const char *const texts[] = {
                "{\"operation\":\"UPGRADE\",\"id\":\"1\",\"state\":\"DONE\",\"steps\":[]}",
                /* 32 bytes of a file's name */
                "{\"operation\":\"UPGRADE\",\"id\":\"/../../../../etc/cron.d/x.aaaaaaaa\",\"state\":\"DONE\",\"steps\":[]}",
                "{}",
                "[]",
                "{\"operation\":\"DANCE\"," ID ",\"state\":\"DONE\",\"steps\":[]}",
                "{\"operation\":\"UPGRADE\"," ID ",\"state\":\"MAYBE\",\"steps\":[]}",
                "{\"operation\":\"UPGRADE\"," ID ",\"state\":\"DONE\"}",
                "{\"operation\":\"UPGRADE\"," ID ",\"state\":\"DONE\",\"steps\":[{\"name\":\"X\"}]}",
                "{\"operation\":\"UPGRADE\"," ID ",\"state\":\"DONE\",\"steps\":[{\"name\":\"X\",\"state\":\"Y\"}]}",
                "{\"operation\":\"UPGRADE\"," ID ",\"state\":\"DONE\",\"steps\":[{\"name\":\"X\",\"state\":\"DONE\","
                "\"progress\":101}]}",
                "{\"operation\":\"UPGRADE\"," ID ",\"state\":\"DONE\",\"start\":\"yesterday\",\"steps\":[]}",
        };
        json_t *j = json_loads(texts[_i], 0, NULL);
        struct operation op = { .n_steps = 77 };
        struct error e = {};

        ck_assert_int_lt(operation_from_json(j, &op, &e), 0);
        ck_assert_ptr_nonnull(e.message);
        ck_assert_int_eq(op.n_steps, 77); /* untouched */
        error_done(&e);
        json_decref(j);
}
END_TEST

START_TEST(ending_settles_every_step)
{
        static const struct {
                enum operation_result result;
                enum step_state running, waiting;
        } rows[] = {
                { RESULT_DONE, STEP_DONE, STEP_SKIPPED },
                { RESULT_FAILED, STEP_FAILED, STEP_SKIPPED },
                { RESULT_ABORTED, STEP_FAILED, STEP_SKIPPED },
        };
        struct operation op = sample();

        operation_end(&op, rows[_i].result, "because");
        ck_assert_int_eq(op.steps[0].state, STEP_DONE);
        ck_assert_int_eq(op.steps[1].state, rows[_i].running);
        ck_assert_int_eq(op.steps[2].state, rows[_i].waiting);
        ck_assert_str_eq(op.reason, "because");
        ck_assert_int_gt(op.end, op.start);
        ck_assert_int_eq(operation_progress(&op) == 100, rows[_i].result == RESULT_DONE);
        operation_done(&op);
}
END_TEST

START_TEST(tables_are_in_order)
{
        enum operation_kind kind = _i == 0 ? OPERATION_UPGRADE : OPERATION_ROLLBACK;
        enum step_when last = STEP_PREPARE;
        size_t n = 0;

        for (const struct step *s = steps_of(kind); s->name; s++, n++) {
                ck_assert_int_ge(s->when, last);
                ck_assert_int_eq(s->run == NULL, s->when == STEP_BOOT);
                ck_assert_uint_lt(strlen(s->name), sizeof(((struct step_record *)0)->name));
                last = s->when;
        }
        ck_assert_uint_eq(n, _i == 0 ? 13 : 8);
        ck_assert_uint_le(n, OPERATION_MAX_STEPS);
}
END_TEST

START_TEST(automatic_target_needs_only_a_bootable_slot)
{
        struct slot_set set;

        slot_set_init(&set, 2);
        ck_assert_int_eq(automatic_target(&set, 1), SLOT_NONE);
        set.slots[0].state = SLOT_CONFIRMED;
        ck_assert_int_eq(automatic_target(&set, 1), 0);
        set.previous = 0;
        set.finalized = true;
        ck_assert_int_eq(automatic_target(&set, 1), 0);
        set.slots[0].state = SLOT_BAD;
        ck_assert_int_eq(automatic_target(&set, 1), SLOT_NONE);
        ck_assert_int_eq(automatic_target(&set, 0), SLOT_NONE);
}
END_TEST

static void write_check(const char *directory, const char *name, const char *script)
{
        _cleanup_free_ char *path = xasprintf("%s/%s", directory, name);
        FILE *f;

        mkdir(directory, 0755);
        f = fopen(path, "w");
        ck_assert_ptr_nonnull(f);
        fprintf(f, "#!/bin/sh\n%s\n", script);
        fclose(f);
        ck_assert_int_eq(chmod(path, 0755), 0);
}

START_TEST(health_checks_decide)
{
        static const struct {
                const char *required, *wanted;
                int result;
                const char *says;
        } rows[] = {
                { "exit 0", "exit 0", 0, NULL },
                { "exit 0", "exit 1", 0, NULL },
                { "echo one; echo the disk is on fire; exit 3", "exit 0", -EBADMSG, "status 3: the disk is on fire" },
                { "sleep 30", "exit 0", -ETIMEDOUT, "did not end" },
        };
        struct health_result result = {};
        struct error e = {};

        write_check("required", "10-first", "exit 0");
        write_check("required", "50-check", rows[_i].required);
        write_check("wanted", "50-check", rows[_i].wanted);
        ck_assert_int_eq(health_run(".", 500000, NULL, &result, &e), rows[_i].result);
        if (rows[_i].result == 0) {
                ck_assert_uint_eq(result.passed + result.warned, 3);
        } else {
                ck_assert_ptr_eq(e.kind, &kind_unhealthy);
                ck_assert_ptr_nonnull(strstr(e.message, "50-check"));
                ck_assert_ptr_nonnull(strstr(e.message, rows[_i].says));
        }
        error_done(&e);
}
END_TEST

/* What a check prints may come from anywhere, and goes to terminals and into records. */
START_TEST(output_of_checks_is_text_with_a_bound)
{
        static const char *const scripts[] = {
                "printf 'x\\033]0;title\\007\\377y\\r\\n\\n'; exit 1",
                "head -c 60000 /dev/zero | tr '\\0' '\\377'; exit 1",
                "i=0; while [ $i -lt 400 ]; do printf 'ä€'; i=$((i + 1)); done; exit 1",
                "printf '\\0\\0'; exit 1",
        };
        static const char *const says[] = { "status 1: x\\x1b]0;title\\x07\\xffy", "\\xff\\x", "ä€", "no output" };
        struct operation op = sample(), again = {};
        struct health_result result = {};
        struct error e = {};
        json_t *j;

        write_check("required", "50-check", scripts[_i]);
        ck_assert_int_eq(health_run(".", 5000000, NULL, &result, &e), -EBADMSG);
        ck_assert_msg(strstr(e.message, says[_i]) != NULL, "%s", e.message);
        ck_assert_uint_lt(strlen(e.message), PROCESS_LINE_MAX + 200);
        ck_assert_int_eq(strstr(e.message, "…") != NULL, _i == 1 || _i == 2); /* cut */
        ck_assert(text_is_printable(e.message, strlen(e.message)) && !strchr(e.message, '\n'));
        operation_end(&op, RESULT_FAILED, e.message);
        j = operation_to_json(&op);
        ck_assert_ptr_nonnull(j);
        ck_assert_int_eq(operation_from_json(j, &again, NULL), 0);
        ck_assert_str_eq(again.reason, e.message);
        json_decref(j);
        operation_done(&op);
        operation_done(&again);
        error_done(&e);
}
END_TEST

START_TEST(what_is_no_check_is_passed_over)
{
        struct health_result result = {};

        write_check("required", "10-first", "exit 0");
        write_check("required", "20-edited~", "exit 1");
        write_check("required", ".30-hidden", "exit 1");
        ck_assert_int_eq(symlink("10-first", "required/70-link"), 0);
        write_check("wanted", "20-edited~", "exit 1");
        write_check("wanted", "40-README", "exit 1");
        ck_assert_int_eq(chmod("wanted/40-README", 0644), 0);
        ck_assert_int_eq(mkdir("wanted/50-directory", 0755), 0);
        ck_assert_int_eq(symlink("nowhere", "wanted/60-dangling"), 0);
        ck_assert_int_eq(health_run(".", 5000000, NULL, &result, NULL), 0);
        ck_assert_uint_eq(result.passed, 2);
        ck_assert_uint_eq(result.warned, 0);
}
END_TEST

/* One that has lost its mode has not passed: a version without it is not healthy. */
START_TEST(a_required_check_that_cannot_be_run_fails)
{
        struct health_result result = {};
        struct error e = {};

        write_check("required", "10-first", "exit 0");
        if (_i == 0) {
                write_check("required", "40-check", "exit 0");
                ck_assert_int_eq(chmod("required/40-check", 0644), 0);
        } else if (_i == 1) {
                ck_assert_int_eq(mkdir("required/40-check", 0755), 0);
        } else {
                ck_assert_int_eq(symlink("nowhere", "required/40-check"), 0);
        }
        ck_assert_int_eq(health_run(".", 5000000, NULL, &result, &e), -EBADMSG);
        ck_assert_msg(strstr(e.message, "40-check") != NULL, "%s", e.message);
        error_done(&e);
}
END_TEST

START_TEST(no_health_directory_means_no_checks)
{
        struct health_result result = { .passed = 9 };

        ck_assert_int_eq(health_run("no/such/directory", 1000000, NULL, &result, NULL), 0);
        ck_assert_uint_eq(result.passed, 0);
}
END_TEST

START_TEST(somebody_waits_for_the_shutdown)
{
        static const char *const says[] = { "exit 0", "exit 3", "exit 1" /* no systemd */ };
        _cleanup_free_ char *script = xasprintf("[ \"$*\" = 'is-active --quiet bootmgr-switch.service' ] || exit 3; %s",
                                                says[_i]);

        write_check("bin", "systemctl", script);
        setenv("PATH", "bin", 1);
        ck_assert_int_eq(switch_is_awaited(), _i != 1);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("operation");
        TCase *t = tcase_create("operation");

        tcase_set_timeout(t, 60);
        tcase_add_checked_fixture(t, scratch_begin, scratch_end);
        tcase_add_test(t, json_goes_round);
        tcase_add_test(t, a_trial_is_superseded);
        tcase_add_test(t, watchdogs_are_asked);
        tcase_add_loop_test(t, activate_is_a_rollback_to_programs, 0, 3);
        tcase_add_loop_test(t, bad_json_is_refused, 0, 11);
        tcase_add_loop_test(t, ending_settles_every_step, 0, 3);
        tcase_add_loop_test(t, tables_are_in_order, 0, 2);
        tcase_add_test(t, automatic_target_needs_only_a_bootable_slot);
        tcase_add_loop_test(t, health_checks_decide, 0, 4);
        tcase_add_loop_test(t, output_of_checks_is_text_with_a_bound, 0, 4);
        tcase_add_test(t, what_is_no_check_is_passed_over);
        tcase_add_loop_test(t, a_required_check_that_cannot_be_run_fails, 0, 3);
        tcase_add_test(t, no_health_directory_means_no_checks);
        tcase_add_loop_test(t, somebody_waits_for_the_shutdown, 0, 3);
        suite_add_tcase(s, t);
        return suite_run(s);
}
