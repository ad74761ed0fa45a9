/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/task.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/log.h"

#define OUTPUT_MAX MIB(16) /* of one value: a dry run holds the differences of all text files */
#define ARGS_MAX   32

struct task {
        struct task_spec spec; /* .words is not looked at any more */
        int fd;
        sd_event_source *io, *child;
        struct buf output; /* what was not yet parsed */
        json_t *last;
        bool ended, eof;
        int exit_status;
};

static void task_free(struct task *t)
{
        sd_event_source_disable_unref(t->io);
        sd_event_source_disable_unref(t->child);
        fd_close(t->fd);
        buf_done(&t->output);
        json_decref(t->last);
        free(t);
}

static void take_value(struct task *t, const char *text, size_t size)
{
        json_t *j = size ? json_loadb(text, size, JSON_DECODE_ANY, NULL) : NULL;

        if (!j)
                return;
        json_decref(t->last);
        t->last = j;
        if (t->spec.line)
                t->spec.line(j, t->spec.userdata);
}

/* A worker prints a value a line; everything else prints one value in all. */
static void take_lines(struct task *t)
{
        char *newline;

        while (t->spec.kind == TASK_WORK && t->output.data && (newline = memchr(t->output.data, '\n', t->output.size))) {
                size_t n = (size_t)(newline - t->output.data);

                take_value(t, t->output.data, n);
                t->output.size -= n + 1;
                memmove(t->output.data, newline + 1, t->output.size);
        }
}

/* Both must be over: the output may be read late, and a process may leave its output to others. */
static void settle(struct task *t)
{
        if (!t->ended || !t->eof)
                return;
        if (t->spec.kind != TASK_WORK)
                take_value(t, t->output.data ?: "", t->output.size);
        t->spec.done(t->exit_status, t->last, t->spec.userdata);
        task_free(t);
}

/* Closed at once: a task that still has something to say must not wait for us. */
static void end_output(struct task *t)
{
        t->io = sd_event_source_disable_unref(t->io);
        t->fd = fd_close(t->fd);
        t->eof = true;
        settle(t);
}

static int on_output(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
        struct task *t = userdata;
        char chunk[4096];
        ssize_t n = read(fd, chunk, sizeof(chunk));

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return 0;
        if (n > 0 && t->output.size + (size_t)n <= OUTPUT_MAX) {
                buf_append(&t->output, chunk, (size_t)n);
                take_lines(t);
                return 0;
        }
        if (n > 0) {
                log_warning("the output of %s is longer than %llu bytes: dropped", t->spec.program,
                            (unsigned long long)OUTPUT_MAX);
                buf_done(&t->output);
        }
        end_output(t);
        return 0;
}

static int on_child(sd_event_source *s, const siginfo_t *si, void *userdata)
{
        struct task *t = userdata;

        t->exit_status = si->si_code == CLD_EXITED ? si->si_status : 128 + si->si_status;
        t->ended = true;
        settle(t);
        return 0;
}

static void run_child(const struct task_spec *spec, int output)
{
        const char *argv[ARGS_MAX] = { spec->program, spec->kind == TASK_WORK ? "--worker" : "--json" };
        int input = spec->input >= 0 ? spec->input : open("/dev/null", O_RDONLY | O_CLOEXEC);
        sigset_t none;
        size_t n = 2;

        for (const char *const *a = spec->words; *a && n < ARGS_MAX - 1; a++)
                argv[n++] = *a;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        setpgid(0, 0); /* a signal to the daemon's group does not stop the work */
        unsetenv("NOTIFY_SOCKET");
        unsetenv("WATCHDOG_USEC");
        unsetenv("WATCHDOG_PID");
        if (input < 0 || dup2(input, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0)
                _exit(127);
        execv(spec->program, (char *const *)argv);
        _exit(127);
}

int task_input(const void *data, size_t size)
{
        int fd = memfd_create("input", MFD_CLOEXEC), r;

        if (fd < 0)
                return -errno;
        r = io_pwrite(fd, data, size, 0);
        if (r < 0) {
                fd_close(fd);
                return r;
        }
        return fd;
}

int task_start(sd_event *event, const struct task_spec *spec)
{
        struct task *t = calloc(1, sizeof(*t));
        int fds[2], r;
        pid_t pid;

        if (!t)
                return -ENOMEM;
        if (pipe2(fds, O_CLOEXEC) < 0) {
                r = -errno;
                free(t);
                return r;
        }
        *t = (struct task){ .spec = *spec, .fd = fds[0] };
        fcntl(t->fd, F_SETFL, O_NONBLOCK);
        pid = fork();
        if (pid == 0)
                run_child(spec, fds[1]);
        r = pid < 0 ? -errno : 0;
        fd_close(fds[1]);
        if (r >= 0 && spec->pid)
                *spec->pid = pid;
        if (r >= 0)
                r = sd_event_add_child(event, &t->child, pid, WEXITED, on_child, t);
        if (r >= 0)
                r = sd_event_add_io(event, &t->io, t->fd, EPOLLIN, on_output, t);
        if (r < 0)
                task_free(t);
        return r;
}
