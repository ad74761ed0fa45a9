/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Runs a command and says what it took:
 *
 *      launch REPORT COMMAND...
 *
 * REPORT gets one JSON object: peak_kib, of the largest process; read and written, bytes of devices and files, by all that
 * was waited for. Linux gives a child the peak of who started it until it calls exec, and counts that as its own: so it is
 * started by something small, and not by Python. SIGTERM is handed on. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t child;

static void hand_on(int sig)
{
        kill(child, sig);
}

/* /proc/PID/io of one that has ended, and was not waited for yet. */
static void count_bytes(unsigned long long *read, unsigned long long *written)
{
        char line[80];
        FILE *f;

        snprintf(line, sizeof(line), "/proc/%d/io", (int)child);
        f = fopen(line, "re");
        while (f && fgets(line, sizeof(line), f)) {
                sscanf(line, "read_bytes: %llu", read);
                sscanf(line, "write_bytes: %llu", written);
        }
        if (f)
                fclose(f);
}

int main(int argc, char **argv)
{
        struct sigaction action = { .sa_handler = hand_on };
        unsigned long long read = 0, written = 0;
        struct rusage usage;
        siginfo_t info;
        int status;
        FILE *report;

        if (argc < 3)
                return 127;
        child = fork();
        if (child == 0) {
                execvp(argv[2], argv + 2);
                fprintf(stderr, "%s: %s\n", argv[2], strerror(errno));
                _exit(127);
        }
        if (child < 0 || sigaction(SIGTERM, &action, NULL) < 0)
                return 126;
        while (waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT) < 0 && errno == EINTR)
                ;
        count_bytes(&read, &written);
        if (wait4(child, &status, 0, &usage) < 0)
                return 126;
        report = fopen(argv[1], "we");
        if (!report ||
            fprintf(report, "{\"peak_kib\": %ld, \"read\": %llu, \"written\": %llu}\n", usage.ru_maxrss, read, written) <
                    0 ||
            fclose(report) != 0)
                return 126;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
