/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* bootmgr(1). */
#include <locale.h>
#include <malloc.h>
#include <signal.h>

#include "base/log.h"
#include "cli/cli.h"
#include "cli/verbs.h"
#include "slot/kinds.h"

static volatile bool cancelled;

const volatile bool *cli_cancelled(void)
{
        return &cancelled;
}

void cli_forget_cancel(void)
{
        cancelled = false;
}

static void on_signal(int signal)
{
        cancelled = true;
}

/* Without SA_RESTART, so that waiting ends too. */
static void catch_signals(void)
{
        struct sigaction action = { .sa_handler = on_signal };

        sigaction(SIGINT, &action, NULL);
        sigaction(SIGTERM, &action, NULL);
        /* A reader that goes away must not end an upgrade. */
        signal(SIGPIPE, SIG_IGN);
}

/* An install has a score of threads, and buffers that come and go. By itself glibc keeps an arena for each thread, and in
 * each what was freed there: of 40 MiB that an update over HTTP took, 15 were nothing else. */
static void give_memory_back(void)
{
        mallopt(M_ARENA_MAX, 2);
        mallopt(M_MMAP_THRESHOLD, 64 * 1024); /* that of glibc grows with what is freed */
}

/* Options that must be known even where the words cannot be understood. */
static bool has_option(int argc, char **argv, const char *option, const char *letter)
{
        for (int i = 1; i < argc && !streq(argv[i], "--"); i++)
                if (streq(argv[i], option) || (letter && streq(argv[i], letter)))
                        return true;
        return false;
}

static bool is_alone(int argc, char **argv)
{
        const char **words = calloc((size_t)argc, sizeof(*words));
        bool alone = words && verb_words(cli_verbs, n_cli_verbs, cli_global_options, argc, argv, words) == 0;

        free(words);
        return alone;
}

static int help_for(int argc, char **argv, struct error *e)
{
        const char **words = calloc((size_t)argc, sizeof(*words));
        int r;

        if (!words)
                return -ENOMEM;
        r = print_help(words, verb_words(cli_verbs, n_cli_verbs, cli_global_options, argc, argv, words), stdout, e);
        free(words);
        return r;
}

int cli_run(struct cli *cli, int argc, char **argv)
{
        _cleanup_error_ struct error e = {};
        int r;

        cli->worker |= has_option(argc, argv, "--worker", NULL);
        cli->json |= cli->worker || has_option(argc, argv, "--json", NULL);
        if (has_option(argc, argv, "--help", "-h"))
                r = help_for(argc, argv, &e);
        else if (has_option(argc, argv, "--version", NULL) && is_alone(argc, argv))
                r = puts("bootmgr " BOOTMGR_VERSION) < 0 ? -EIO : 0;
        else if (argc < 2)
                r = print_help(NULL, 0, stderr, &e) < 0 ? -ENOMEM : fail(&e, -EINVAL, &kind_usage, "no verb was given");
        else
                r = verb_dispatch(cli_verbs, n_cli_verbs, cli_global_options, argc, argv, cli, &e);
        if ((fflush(stdout) != 0 || ferror(stdout)) && r >= 0)
                r = fail_errno(&e, -errno, "cannot write the output");
        if (r < 0 && cancelled)
                fail(&e, r, &kind_interrupted, "interrupted");
        cli_report(cli, &e, r);
        json_decref(TAKE_PTR(cli->checks));
        return r < 0 ? error_exit_status(&e, r) : cli->status;
}

int main(int argc, char **argv)
{
        const char *worker = getenv("BOOTMGR_WORKER");
        struct cli cli = { .worker = streq(worker, "1") };

        setlocale(LC_CTYPE, "");
        log_set_name("bootmgr");
        catch_signals();
        give_memory_back();
        return cli_run(&cli, argc, argv);
}
