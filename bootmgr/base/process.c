/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/process.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"

#define OUTPUT_MAX (64 * 1024)
#define PIPE_READS 16 /* of 4096 bytes: the size of a pipe */
#define KILL_AFTER (5 * USEC_PER_SEC)

static void child(const char *const *argv, const char *const *env, int output)
{
        sigset_t none;
        int null = open("/dev/null", O_RDONLY);

        setpgid(0, 0);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        for (int s = 1; s < 32; s++)
                signal(s, SIG_DFL);
        if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0 || dup2(output, STDERR_FILENO) < 0)
                _exit(127);
        close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
        for (; env && *env; env++)
                putenv((char *)*env);
        execvp(argv[0], (char *const *)argv);
        dprintf(STDERR_FILENO, "%s: %s", argv[0], strerror(errno));
        _exit(127);
}

/* Milliseconds for poll(2) until `deadline` (monotonic; 0: none). */
static int wait_time(uint64_t deadline)
{
        uint64_t now = now_monotonic();

        if (deadline == 0)
                return -1;
        return deadline <= now ? 0 : (int)MIN((deadline - now + 999) / 1000, (uint64_t)60000);
}

/* Keeps what has been written so far, at most what a full pipe holds; false at its end. */
static bool collect(int output, struct buf *b)
{
        char chunk[4096];

        for (int i = 0; i < PIPE_READS; i++) {
                ssize_t n = read(output, chunk, sizeof(chunk));

                if (n <= 0)
                        return n < 0;
                buf_append(b, chunk, MIN((size_t)n, OUTPUT_MAX - b->size));
        }
        return true;
}

/* Collects output until the program ends; escalates at the deadline. A program that leaves the pipe to a
 * background child does not keep us waiting: its own end counts. */
static void supervise(pid_t pid, int pidfd, int output, uint64_t timeout, struct buf *b, bool *timed_out)
{
        uint64_t deadline = timeout ? now_monotonic() + timeout : 0;
        struct pollfd fds[] = { { .fd = pidfd, .events = POLLIN }, { .fd = output, .events = POLLIN } };
        bool terminated = false;

        for (;;) {
                int r = poll(fds, ARRAY_SIZE(fds), wait_time(deadline));

                if (r < 0 && errno != EINTR)
                        return;
                /* The program's end and the deadline count also while output never stops. */
                if (r > 0 && fds[1].revents && !collect(output, b))
                        fds[1].fd = -1;
                if (r > 0 && fds[0].revents) {
                        collect(output, b); /* written between the poll and its end */
                        return;
                }
                if (deadline && now_monotonic() >= deadline) {
                        *timed_out = true;
                        kill(-pid, terminated ? SIGKILL : SIGTERM);
                        terminated = true;
                        deadline = now_monotonic() + KILL_AFTER;
                }
        }
}

int process_run(const char *const *argv, const char *const *env, uint64_t timeout_usec, struct process_result *ret)
{
        _cleanup_close_ int pidfd = -1, from = -1, to = -1;
        _cleanup_buf_ struct buf b = {};
        struct process_result result = {};
        int pipe_fds[2], status, r;
        pid_t pid;

        if (pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK) < 0)
                return -errno;
        from = pipe_fds[0];
        to = pipe_fds[1];
        fcntl(to, F_SETFL, 0);
        pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0)
                child(argv, env, to);
        setpgid(pid, pid);
        to = fd_close(to);
        pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
        r = pidfd < 0 ? -errno : 0;
        if (r >= 0)
                supervise(pid, pidfd, from, timeout_usec, &b, &result.timed_out);
        /* What it left running in its group must not go on behind the caller's back. */
        if (r < 0 || result.timed_out)
                kill(-pid, SIGKILL);
        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return -errno;
        if (r < 0)
                return r;
        result.exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        result.output = buf_take(&b);
        if (!result.output)
                return -ENOMEM;
        *ret = result;
        return 0;
}

void process_result_done(struct process_result *r)
{
        free(TAKE_PTR(r->output));
}

bool process_is_aside(const char *name)
{
        return name[0] == '.' || (name[0] && name[strlen(name) - 1] == '~');
}

bool process_is_meant(int dir, const char *path, const char *name)
{
        struct stat st;

        if (process_is_aside(name))
                return false;
        if (fstatat(dir, name, &st, 0) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 0111))
                return true;
        log_warning("%s/%s is not run: it is no executable file", path, name);
        return false;
}

char *process_last_line(const char *output)
{
        _cleanup_free_ char *line = NULL;
        size_t end = strlen(output), begin, n;
        char *text;

        while (end > 0 && strchr("\n\r\t ", output[end - 1]))
                end--;
        for (begin = end; begin > 0 && output[begin - 1] != '\n';)
                begin--;
        if (begin == end)
                return strdup("no output");
        line = strndup(output + begin,
                       MIN(end - begin, (size_t)PROCESS_LINE_MAX + 1)); /* one more tells that it is longer */
        text = line ? text_escape(line) : NULL;
        if (!text || strlen(text) <= PROCESS_LINE_MAX)
                return text;
        /* Not within a character of several bytes. */
        for (n = PROCESS_LINE_MAX - strlen("…"); n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80;)
                n--;
        strcpy(text + n, "…");
        return text;
}

int process_must(const char *const *argv, uint64_t timeout_usec, struct error *e)
{
        _cleanup_process_ struct process_result result = {};
        _cleanup_free_ char *line = NULL;
        int r;

        r = process_run(argv, NULL, timeout_usec, &result);
        if (r < 0)
                return fail_errno(e, r, "cannot run %s", argv[0]);
        if (result.timed_out)
                return fail(e, -ETIMEDOUT, NULL, "%s did not end in time", argv[0]);
        if (result.exit_status == 0)
                return 0;
        line = process_last_line(result.output);
        return fail(e, result.exit_status == 127 ? -ENOENT : -EIO, NULL, "%s failed with status %d: %s", argv[0],
                    result.exit_status, line ?: "");
}
