/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* crash [--operation NAME]… [--bits N] [--samples N] [--nested N] [--errors N] [--seed N]
 *       [--state STATE] [--stop] [--list] [--mutate | --without FILE:LINE]
 * Prints failures, and at the end of each operation its figures as one line of JSON. */
#include "crash.h"

#include <fcntl.h>
#include <getopt.h>
#include <sys/stat.h>

#include "base/log.h"

_Noreturn void die(const char *fmt, ...)
{
        va_list ap;

        va_start(ap, fmt);
        vprintf(fmt, ap);
        va_end(ap);
        printf("\n");
        fflush(stdout);
        _exit(3);
}

static const struct option options[] = {
        { "operation", required_argument, NULL, 'o' },
        { "without", required_argument, NULL, 'w' },
        { "bits", required_argument, NULL, 'b' },
        { "samples", required_argument, NULL, 's' },
        { "nested", required_argument, NULL, 'n' },
        { "errors", required_argument, NULL, 'e' },
        { "seed", required_argument, NULL, 'r' },
        { "state", required_argument, NULL, 't' },
        { "stop", no_argument, NULL, 'x' },
        { "list", no_argument, NULL, 'l' },
        { "mutate", no_argument, NULL, 'm' },
        {},
};

static void scratch(char *base, size_t size)
{
        char place[PATH_MAX];

        snprintf(base, size, "%s/bootmgr-crash-XXXXXX",
                 getenv("TMPDIR")
                         ?: access("/dev/shm", W_OK) == 0 ? "/dev/shm"
                                                          : "/tmp");
        if (!mkdtemp(base))
                die("cannot make %s: %m", base);
        snprintf(place, sizeof(place), "%s/work", base);
        record_place(place);
        if (mkdir(work, 0755) < 0)
                die("cannot make %s: %m", work);
}

static bool is_chosen(const char *chosen, const char *name)
{
        size_t n = strlen(name);

        for (const char *p = chosen; *chosen && (p = strstr(p, name)); p += n)
                if ((p == chosen || p[-1] == ' ') && (p[n] == ' ' || p[n] == '\0'))
                        return true;
        return !*chosen;
}

static void run_one(const struct operation_test *op, const struct limits *limits, struct figures *all)
{
        struct figures f = {};

        enumerate(op, limits, &f);
        printf("{\"operation\": \"%s\", \"states\": %lu, \"failures\": %lu, \"cut_points\": %lu, \"nested\": %lu, "
               "\"errors\": "
               "%lu}\n",
               op->name, f.states, f.failures, f.cuts, f.nested, f.errors);
        fflush(stdout);
        all->failures += f.failures;
}

int main(int argc, char **argv)
{
        struct limits limits = { .bits = 13, .samples = 16, .seed = 1 };
        char chosen[4096] = "", base[PATH_MAX - 16];
        bool list = false, mutations = false;
        const char *without = NULL;
        struct figures all = {};
        int c;

        while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
                switch (c) {
                case 'o':
                        snprintf(chosen + strlen(chosen), sizeof(chosen) - strlen(chosen), "%s%s", *chosen ? " " : "",
                                 optarg);
                        break;
                case 'w':
                        without = optarg;
                        mutations = true;
                        break;
                case 'b':
                        limits.bits = (unsigned)atoi(optarg);
                        break;
                case 's':
                        limits.samples = (unsigned)atoi(optarg);
                        break;
                case 'n':
                        limits.nested = (unsigned)atoi(optarg);
                        break;
                case 'e':
                        limits.errors = (unsigned)atoi(optarg);
                        break;
                case 'r':
                        limits.seed = (unsigned)atoi(optarg);
                        break;
                case 't':
                        limits.only = optarg;
                        break;
                case 'x':
                        limits.stop = true;
                        break;
                case 'l':
                        list = true;
                        break;
                case 'm':
                        mutations = true;
                        break;
                default:
                        return 2;
                }
        }
        for (size_t i = 0; list && i < n_operation_tests; i++)
                printf("%s\n", operation_tests[i].name);
        if (list)
                return 0;
        log_set_max_level(getenv("CRASH_LOG") ? LOG_LEVEL_DEBUG : 0);
        scratch(base, sizeof(base));
        stages_make();
        for (size_t i = 0; i < n_operation_tests && !(limits.stop && all.failures); i++)
                if (!mutations && is_chosen(chosen, operation_tests[i].name))
                        run_one(&operation_tests[i], &limits, &all);
        for (int late = 0; mutations && late < 2; late++) /* whose states cost more come last: little is left to find then */
                for (size_t i = 0; i < n_operation_tests; i++)
                        if (is_chosen(chosen, operation_tests[i].name) && !!operation_tests[i].check == late)
                                mutate(&operation_tests[i], &limits, without, &all);
        remove_tree(AT_FDCWD, base);
        return !mutations && all.failures > 0;
}
