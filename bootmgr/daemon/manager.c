/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/manager.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"

#define OUTPUT_MAX MIB(1)
#define ARGS_MAX 32
#define ANNOUNCE_INTERVAL (200 * USEC_PER_MSEC)

struct task {
        struct manager *manager;
        struct task_spec spec;
        pid_t pid;
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
                t->spec.line(t, j, t->spec.userdata);
}

/* A worker prints a value a line; everything else prints one value in all. */
static void take_lines(struct task *t)
{
        char *newline;

        while (t->spec.worker && t->output.data && (newline = memchr(t->output.data, '\n', t->output.size))) {
                size_t n = (size_t)(newline - t->output.data);

                take_value(t, t->output.data, n);
                t->output.size -= n + 1;
                memmove(t->output.data, newline + 1, t->output.size);
        }
}

static void task_settle(struct task *t)
{
        struct manager *m = t->manager;

        if (!t->ended || !t->eof)
                return;
        if (!t->spec.worker)
                take_value(t, t->output.data ?: "", t->output.size);
        if (m->worker == t)
                m->worker = NULL;
        if (m->refreshing == t)
                m->refreshing = NULL;
        t->spec.done(t, t->exit_status, t->last, t->spec.userdata);
        task_free(t);
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
        sd_event_source_set_enabled(s, SD_EVENT_OFF);
        t->eof = true;
        task_settle(t);
        return 0;
}

static int on_child(sd_event_source *s, const siginfo_t *si, void *userdata)
{
        struct task *t = userdata;

        t->exit_status = si->si_code == CLD_EXITED ? si->si_status : 128 + si->si_status;
        t->ended = true;
        task_settle(t);
        return 0;
}

static void run_child(const char *program, const struct task_spec *spec, int output)
{
        const char *argv[ARGS_MAX] = { program, spec->worker ? "--worker" : "--json" };
        int null = open("/dev/null", O_RDONLY);
        sigset_t none;
        size_t n = 2;

        for (const char *const *a = spec->argv; *a && n < ARGS_MAX - 1; a++)
                argv[n++] = *a;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        setpgid(0, 0); /* a signal to the daemon's group does not stop the work */
        unsetenv("NOTIFY_SOCKET");
        unsetenv("WATCHDOG_USEC");
        if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0)
                _exit(127);
        execv(program, (char *const *)argv);
        _exit(127);
}

int manager_run(struct manager *m, const struct task_spec *spec, struct task **ret)
{
        struct task *t = calloc(1, sizeof(*t));
        int fds[2], r;

        if (!t)
                return -ENOMEM;
        if (pipe2(fds, O_CLOEXEC) < 0) {
                free(t);
                return -errno;
        }
        *t = (struct task){ .manager = m, .spec = *spec, .fd = fds[0] };
        fcntl(t->fd, F_SETFL, O_NONBLOCK);
        t->pid = fork();
        if (t->pid == 0)
                run_child(m->program, spec, fds[1]);
        r = t->pid < 0 ? -errno : 0;
        fd_close(fds[1]);
        if (r >= 0)
                r = sd_event_add_child(m->event, &t->child, t->pid, WEXITED, on_child, t);
        if (r >= 0)
                r = sd_event_add_io(m->event, &t->io, t->fd, EPOLLIN, on_output, t);
        if (r < 0) {
                task_free(t);
                return r;
        }
        if (spec->worker)
                m->worker = t;
        if (ret)
                *ret = t;
        return 0;
}

static void announce(struct manager *m)
{
        m->last_change = now_monotonic();
        if (m->changed)
                m->changed(m, m->userdata);
}

void manager_set_operation(struct manager *m, const json_t *operation)
{
        bool first = !m->operation || !json_equal(json_object_get(m->operation, "id"), json_object_get(operation, "id"));

        if (!json_is_string(json_object_get(operation, "operation")))
                return; /* an error or a result, not an operation */
        json_decref(m->operation);
        m->operation = json_incref((json_t *)operation);
        if (first || now_monotonic() - m->last_change >= ANNOUNCE_INTERVAL)
                announce(m);
}

static void on_operation_read(struct task *t, int exit_status, const json_t *last, void *userdata)
{
        struct manager *m = userdata;

        if (exit_status == 0 && json_is_object(last) && !m->worker) {
                json_decref(m->operation);
                m->operation = json_incref((json_t *)last);
        }
        announce(m);
        if (m->refresh_again) {
                m->refresh_again = false;
                manager_refresh(m);
        }
}

static void on_status_read(struct task *t, int exit_status, const json_t *last, void *userdata)
{
        static const char *const argv[] = { "show", "upgrade", "status", NULL };
        struct task_spec spec = { .argv = argv, .done = on_operation_read, .userdata = userdata };
        struct manager *m = userdata;

        if (exit_status == 0 && json_is_object(last)) {
                json_decref(m->status);
                m->status = json_incref((json_t *)last);
        } else {
                log_warning("bootmgr status failed with %d: %s", exit_status, json_string_value(json_object_get(last, "message")) ?: "");
        }
        if (manager_run(m, &spec, &m->refreshing) < 0)
                announce(m);
}

void manager_refresh(struct manager *m)
{
        static const char *const argv[] = { "status", NULL };
        struct task_spec spec = { .argv = argv, .done = on_status_read, .userdata = m };

        if (m->refreshing) {
                m->refresh_again = true;
                return;
        }
        if (manager_run(m, &spec, &m->refreshing) < 0)
                log_warning("cannot run %s", m->program);
}

int manager_start(struct manager *m)
{
        manager_refresh(m);
        return 0;
}

void manager_stop(struct manager *m)
{
        json_decref(m->status);
        json_decref(m->operation);
        m->status = m->operation = NULL;
}
