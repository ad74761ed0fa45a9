/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Verb tables: dispatch, options, usage errors with the nearest word, help and completion. */
#include "base/verb.h"

#include "base/buf.h"

#include <check.h>
#include "suite.h"
#undef fail

static char called[512];

static int note(const char *name, struct verb_args *args)
{
        _cleanup_buf_ struct buf b = {};

        buf_printf(&b, "%s(", name);
        for (int i = 0; i < args->n_positional; i++)
                buf_printf(&b, "%s%s", i ? "," : "", args->positional[i]);
        ck_assert_ptr_null(args->positional[args->n_positional]);
        buf_puts(&b, ")");
        for (int i = 0; i < args->n_seen; i++)
                buf_printf(&b, " %s=%s", args->seen[i]->name, args->values[i] ?: "-");
        snprintf(called, sizeof(called), "%s", b.data);
        return args->context ? *(int *)args->context : 0;
}

static int run_status(struct verb_args *args, struct error *e)
{
        return note("status", args);
}
static int run_install(struct verb_args *args, struct error *e)
{
        return note("install", args);
}
static int run_show(struct verb_args *args, struct error *e)
{
        return note("show", args);
}
static int run_echo(struct verb_args *args, struct error *e)
{
        return note("echo", args);
}

static const struct verb_option global[] = {
        { "json", NULL, "print JSON" },
        { "disk", "DISK", "this disk", 'd' },
        { "quiet", NULL, "say less", 'q' },
        { "inner", NULL, NULL },
        {},
};
static const struct verb_option install_options[] = {
        { "force", NULL, "anyway", 'f' },
        { "tries", "N", "how many" },
        {},
};
static const struct verb verbs[] = {
        { "status", NULL, 0, 0, NULL, "what runs", .run = run_status },
        { "upgrade system", "FILE", 1, 1, install_options, "install", .run = run_install },
        { "upgrade clear", NULL, 0, 0, NULL, "allow again", .run = run_show },
        { "show upgrade status", NULL, 0, 0, NULL, "the steps", .run = run_show },
        { "show upgrade history", NULL, 0, 0, NULL, "the past", .run = run_show },
        { "echo", "[WORD]...", 0, -1, NULL, "words", .run = run_echo },
        { "secret", NULL, 0, 0, NULL, "for units", true, run_status },
};

/* Words separated by single blanks, as a shell would split them. */
static int dispatch(const char *line, void *context, struct error *e)
{
        char copy[4096], *argv[600] = { (char *)"program" }, *cursor = copy, *word;
        int argc = 1;

        called[0] = '\0';
        snprintf(copy, sizeof(copy), "%s", line);
        while ((word = strsep(&cursor, " ")))
                if (*word)
                        argv[argc++] = word;
        return verb_dispatch(verbs, ARRAY_SIZE(verbs), global, argc, argv, context, e);
}

static const struct {
        const char *line, *call;
} good[] = {
        { "status", "status()" },
        { "--json status", "status() json=-" },
        { "status --json", "status() json=-" },
        { "-q status -q", "status() quiet=- quiet=-" },
        { "--disk x status", "status() disk=x" },
        { "-d x status", "status() disk=x" },
        { "--disk=x=y status", "status() disk=x=y" },
        { "--disk= status", "status() disk=" },
        { "--disk=--json status", "status() disk=--json" },
        { "--disk -x status", "status() disk=-x" },
        { "--disk status status", "status() disk=status" },
        { "upgrade system file", "install(file)" },
        { "upgrade --force system --tries 5 file", "install(file) force=- tries=5" },
        { "--tries 5 upgrade system file -f", "install(file) tries=5 force=-" },
        { "upgrade system -- --force", "install(--force)" },
        { "upgrade system -", "install(-)" },
        { "echo", "echo()" },
        { "echo a b status", "echo(a,b,status)" },
        { "-- echo --json", "echo(--json)" },
        { "show upgrade history", "show()" },
        { "secret", "status()" },
        { "status --inner", "status() inner=-" },
};

START_TEST(dispatched)
{
        struct error e = {};

        ck_assert_msg(dispatch(good[_i].line, NULL, &e) == 0, "%s: %s", good[_i].line, e.message);
        ck_assert_str_eq(called, good[_i].call);
}
END_TEST

static const struct {
        const char *line, *message, *hint;
} bad[] = {
        { "", "a verb is missing", "'help' lists all verbs" },
        { "--json", "a verb is missing", "'help' lists all verbs" },
        { "stauts", "'stauts' is not a verb", "did you mean 'status'?" },
        { "upgrade sytem a-file-with-a-long-name.bundle", "is not a verb", "did you mean 'upgrade system'?" },
        { "upgrde system file", "is not a verb", "did you mean 'upgrade system'?" },
        { "upgrade", "'upgrade' is not a verb", "did you mean 'upgrade system'?" },
        { "show", "'show' is not a verb", "did you mean 'show upgrade status'?" },
        { "show upgrade histroy", "is not a verb", "did you mean 'show upgrade history'?" },
        { "secrte", "is not a verb", "'help' lists all verbs" }, /* hidden ones are not suggested */
        { "frobnicate", "'frobnicate' is not a verb", "'help' lists all verbs" },
        { "status --jsno", "the option --jsno is not known to status", "did you mean --json?" },
        { "upgrade system x --froce", "the option --froce is not known to upgrade system", "did you mean --force?" },
        { "status --frobnicate", "the option --frobnicate is not known", "'help status' lists the options" },
        { "status --force", "the option --force is not known to status", NULL }, /* another verb's */
        { "status -x", "the option -x is not known", NULL },
        { "status -qq", "the option -qq is not known", NULL },
        { "status --frob=1", "the option --frob is not known", NULL },
        { "status --json=1", "the option --json takes no value", NULL },
        { "status --disk", "the option --disk needs a value", "--disk DISK: this disk" },
        { "status -d", "the option --disk needs a value", NULL },
        { "status --disk --json", "the option --disk needs a value, not the option --json",
          "a value that begins with dashes is written --disk=--json" },
        { "--disk --json status", "the option --disk needs a value, not the option --json", NULL },
        { "upgrade system x -d --force", "the option --disk needs a value, not the option --force", NULL },
        { "status --disk --", "the option --disk needs a value, not the option --", "--disk DISK: this disk" },
        { "upgrade system", "upgrade system needs FILE", "usage: upgrade system FILE" },
        { "upgrade system a b", "upgrade system does not take 'b'", "usage: upgrade system FILE" },
        { "status now", "status does not take 'now'", "usage: status" },
};

START_TEST(refused)
{
        struct error e = {};

        ck_assert_int_lt(dispatch(bad[_i].line, NULL, &e), 0);
        ck_assert_str_eq(called, "");
        ck_assert_ptr_eq(e.kind, &kind_usage);
        ck_assert_int_eq(error_exit_status(&e, e.code), 2);
        ck_assert_msg(strstr(e.message, bad[_i].message), "'%s': %s", bad[_i].line, e.message);
        ck_assert_msg(!bad[_i].hint || (e.hint && startswith(e.hint, bad[_i].hint)), "'%s': %s", bad[_i].line, e.hint);
        error_done(&e);
}
END_TEST

START_TEST(too_many)
{
        char line[4096] = "echo";
        struct error e = {};

        for (int i = 0; i < 255; i++)
                strcat(line, " x");
        ck_assert_int_eq(dispatch(line, NULL, &e), 0);
        strcat(line, " x");
        ck_assert_int_eq(dispatch(line, NULL, &e), -E2BIG);
        error_done(&e);
        strcpy(line, "echo");
        for (int i = 0; i < 256; i++)
                strcat(line, " -q");
        ck_assert_int_eq(dispatch(line, NULL, &e), 0);
        strcat(line, " -q");
        ck_assert_int_eq(dispatch(line, NULL, &e), -E2BIG);
        error_done(&e);
}
END_TEST

START_TEST(context_and_result)
{
        int result = -EXDEV;

        ck_assert_int_eq(dispatch("status", &result, NULL), -EXDEV);
}
END_TEST

START_TEST(values)
{
        const struct verb_option *seen[] = { &global[1], &global[0], &global[1] };
        const char *const given[] = { "one", NULL, "two" };
        struct verb_args args = { .seen = seen, .values = given, .n_seen = 3 };

        ck_assert(verb_has(&args, "json"));
        ck_assert(!verb_has(&args, "quiet"));
        ck_assert_str_eq(verb_value(&args, "disk"), "two");
        ck_assert_ptr_null(verb_value(&args, "json"));
        ck_assert_ptr_null(verb_value(&args, "quiet"));
}
END_TEST

START_TEST(help)
{
        char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        verb_help(verbs, ARRAY_SIZE(verbs), global, "program", f);
        fclose(f);
        ck_assert_ptr_nonnull(strstr(text, "Usage: program "));
        ck_assert_ptr_nonnull(strstr(text, "\n  upgrade system FILE "));
        ck_assert_ptr_nonnull(strstr(text, "-f, --force "));
        ck_assert_ptr_nonnull(strstr(text, "    --tries N "));
        ck_assert_ptr_nonnull(strstr(text, "-d, --disk DISK "));
        ck_assert_ptr_null(strstr(text, "secret"));
        ck_assert_ptr_null(strstr(text, "inner"));
        ck_assert_ptr_null(strstr(text, "(null)"));
        free(text);
}
END_TEST

static const struct {
        const char *line, *candidates;
} completions[] = {
        { "", "status upgrade show echo" },
        { "s", "status show" },
        { "x", "" },
        { "upgrade ", "system clear" },
        { "upgrade s", "system" },
        { "  show   upgrade ", "status history" },
        { "status ", "" },
        { "status --", "--json --disk --quiet" },
        { "status --d", "--disk" },
        { "upgrade system --", "--force --tries --json --disk --quiet" },
        { "upgrade system file --f", "--force" },
        { "--disk ", "" }, /* a value: nothing that is known here */
        { "--disk x st", "status" },
        { "--json st", "status" },
        { "--disk=x st", "status" },
        { "sec", "" },
        { "status --inn", "" },
        { "nonsense ", "" },
};

START_TEST(completed)
{
        char **list = verb_complete(verbs, ARRAY_SIZE(verbs), global, completions[_i].line);
        _cleanup_buf_ struct buf b = {};

        ck_assert_ptr_nonnull(list);
        for (char **s = list; *s; s++) {
                buf_printf(&b, "%s%s", s == list ? "" : " ", *s);
                free(*s);
        }
        free(list);
        ck_assert_str_eq(b.data ?: "", completions[_i].candidates);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("verb");
        TCase *t = tcase_create("verb");

        tcase_add_loop_test(t, dispatched, 0, (int)ARRAY_SIZE(good));
        tcase_add_loop_test(t, refused, 0, (int)ARRAY_SIZE(bad));
        tcase_add_test(t, too_many);
        tcase_add_test(t, context_and_result);
        tcase_add_test(t, values);
        tcase_add_test(t, help);
        tcase_add_loop_test(t, completed, 0, (int)ARRAY_SIZE(completions));
        suite_add_tcase(s, t);
        return suite_run(s);
}
