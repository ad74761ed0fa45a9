/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The prompt: the same words as on the command line, with history and completion (libedit). Lines from a
 * pipe or file are read as they are. */
#include <errno.h>
#include <histedit.h>

#include "base/buf.h"
#include "cli/cli.h"
#include "cli/verbs.h"

#define HISTORY_SIZE 500
#define HISTORY_FILE ".bootmgr_history"
#define MAX_WORDS    256

/* Splits a line in place: blanks separate, quotes and backslashes protect. -EINVAL: a quote is not closed. */
static int split_words(char *line, char **words, int max)
{
        char *in = line, *out = line;
        int n = 0;

        for (;;) {
                char quote = 0;

                in += strspn(in, " \t\n");
                if (!*in || *in == '#')
                        return n;
                if (n == max)
                        return -E2BIG;
                words[n++] = out;
                for (; *in && (quote || !strchr(" \t\n", *in)); in++) {
                        if (quote ? *in == quote : *in == '"' || *in == '\'')
                                quote = quote ? 0 : *in;
                        else if (*in == '\\' && in[1] && quote != '\'')
                                *out++ = *++in;
                        else
                                *out++ = *in;
                }
                if (quote)
                        return -EINVAL;
                in += *in != '\0'; /* before the NUL is written: it may fall on this very byte */
                *out++ = '\0';
        }
}

static int run_words(struct cli *session, char **words, int n)
{
        struct cli cli = { .json = session->json, .quiet = session->quiet, .worker = session->worker };
        char *argv[MAX_WORDS + MAX_WORDS + 2];
        int argc = 0;

        argv[argc++] = (char *)"bootmgr";
        for (int i = 0; i < MIN(session->n_global, MAX_WORDS); i++)
                argv[argc++] = session->global[i];
        for (int i = 0; i < n; i++)
                argv[argc++] = words[i];
        argv[argc] = NULL;
        cli_forget_cancel();
        return cli_run(&cli, argc, argv);
}

/* Returns whether to go on. */
static bool run_line(struct cli *session, const char *text, int *status)
{
        _cleanup_free_ char *line = strdup(text);
        char *words[MAX_WORDS];
        int n;

        n = line ? split_words(line, words, MAX_WORDS) : -ENOMEM;
        if (n < 0) {
                cli_warn("%s", n == -EINVAL ? "a quote is not closed" : error_text(n));
                *status = kind_usage.exit_status;
                return true;
        }
        if (n == 0)
                return true;
        if (n == 1 && (streq(words[0], "exit") || streq(words[0], "quit")))
                return false;
        if (streq(words[0], "shell")) {
                cli_warn("this is the shell already");
                return true;
        }
        *status = run_words(session, words, n);
        return true;
}

static void read_lines(struct cli *session, int *status)
{
        _cleanup_free_ char *line = NULL;
        size_t size = 0;

        while (!*cli_cancelled() && getline(&line, &size, stdin) >= 0)
                if (!run_line(session, line, status))
                        break;
}

static char *prompt(EditLine *el)
{
        static char text[] = "bootmgr> ";

        return text;
}

/* The longest text that all candidates begin with. */
static size_t common_prefix(char *const *words)
{
        size_t n = strlen(words[0]);

        for (char *const *word = words + 1; *word; word++) {
                size_t i = 0;

                while (i < n && (*word)[i] == words[0][i])
                        i++;
                n = i;
        }
        return n;
}

static unsigned char insert_candidate(EditLine *el, char *const *words, size_t typed)
{
        size_t n = common_prefix(words);
        char rest[256];

        if (n > typed && n - typed < sizeof(rest) - 1) {
                snprintf(rest, sizeof(rest), "%.*s%s", (int)(n - typed), words[0] + typed, words[1] ? "" : " ");
                return el_insertstr(el, rest) < 0 ? CC_ERROR : CC_REFRESH;
        }
        if (!words[1])
                return el_insertstr(el, " ") < 0 ? CC_ERROR : CC_REFRESH;
        putchar('\n');
        for (char *const *word = words; *word; word++)
                printf("%s  ", *word);
        putchar('\n');
        fflush(stdout);
        return CC_REDISPLAY;
}

static unsigned char complete(EditLine *el, wint_t key)
{
        const LineInfo *info = el_line(el);
        _cleanup_free_ char *line = strndup(info->buffer, (size_t)(info->cursor - info->buffer));
        char **words = line ? verb_complete(cli_verbs, n_cli_verbs, cli_global_options, line) : NULL;
        unsigned char result = CC_ERROR;
        const char *start;

        if (words && *words) {
                start = strrchr(line, ' ');
                result = insert_candidate(el, words, strlen(start ? start + 1 : line));
        }
        for (char **word = words; word && *word; word++)
                free(*word);
        free(words);
        return result;
}

static void edit_lines(struct cli *session, EditLine *el, History *h, int *status)
{
        HistEvent event;
        const char *line;
        int n;

        for (;;) {
                cli_forget_cancel();
                line = el_gets(el, &n);
                if (!line || n <= 0) {
                        if (*cli_cancelled()) {
                                putchar('\n'); /* Ctrl-C drops the line */
                                el_reset(el);
                                continue;
                        }
                        putchar('\n');
                        return;
                }
                if (line[strspn(line, " \t\n")])
                        history(h, &event, H_ENTER, line);
                if (!run_line(session, line, status))
                        return;
        }
}

static void prompt_lines(struct cli *session, int *status)
{
        const char *home = getenv("HOME");
        _cleanup_free_ char *file = home && *home == '/' ? xasprintf("%s/" HISTORY_FILE, home) : NULL;
        EditLine *el = el_init("bootmgr", stdin, stdout, stderr);
        History *h = history_init();
        HistEvent event;

        if (el && h) {
                history(h, &event, H_SETSIZE, HISTORY_SIZE);
                history(h, &event, H_SETUNIQUE, 1);
                if (file)
                        history(h, &event, H_LOAD, file);
                el_set(el, EL_PROMPT, prompt);
                el_set(el, EL_EDITOR, "emacs");
                el_set(el, EL_HIST, history, h);
                /* The wide one: el_set() makes copies of the two strings that nothing frees. */
                el_wset(el, EL_ADDFN, L"bootmgr-complete", L"complete words", complete);
                el_set(el, EL_BIND, "^I", "bootmgr-complete", NULL);
                el_source(el, NULL);
                edit_lines(session, el, h, status);
                if (file)
                        history(h, &event, H_SAVE, file);
        }
        if (h)
                history_end(h);
        if (el)
                el_end(el);
}

static void strings_free(char ***strings)
{
        for (char **s = *strings; s && *s; s++)
                free(*s);
        free(*strings);
}

/* The global options that the shell was started with, as words again. NULL when memory ran out. */
static char **global_words(const struct verb_args *args)
{
        char **words = calloc((size_t)args->n_seen + 1, sizeof(*words));

        for (int i = 0; words && i < args->n_seen; i++) {
                const char *value = args->values[i];

                words[i] = xasprintf("--%s%s%s", args->seen[i]->name, value ? "=" : "", value ?: "");
                if (!words[i]) {
                        strings_free(&words);
                        return NULL;
                }
        }
        return words;
}

int verb_shell(struct verb_args *args, struct error *e)
{
        struct cli *cli = cli_from(args);
        _cleanup_(strings_free) char **words = global_words(args);

        if (!words)
                return -ENOMEM;
        cli->global = words;
        cli->n_global = args->n_seen;
        if (isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1)
                prompt_lines(cli, &cli->status);
        else
                read_lines(cli, &cli->status);
        cli->global = NULL;
        return 0;
}
