/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "recover/console.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "base/file.h"

#define ACTIVE "/sys/class/tty/console/active"

/* Keys come one by one and unseen; Ctrl-C is a key like any other. No carrier is waited for on a serial line. */
static void make_raw(struct console *console)
{
        struct termios t;

        if (tcgetattr(console->fd, &console->before) < 0)
                return;
        t = console->before;
        t.c_lflag &= ~(tcflag_t)(ICANON | ECHO | ISIG);
        t.c_cflag |= CLOCAL | CREAD;
        t.c_oflag |= OPOST | ONLCR;
        t.c_cc[VMIN] = 1;
        t.c_cc[VTIME] = 0;
        console->restore = tcsetattr(console->fd, TCSANOW, &t) == 0;
        tcflush(console->fd, TCIFLUSH); /* what was typed before this page was not meant for it */
}

/* The same device under two names ("/dev/console" and what it stands for) is read once. */
static bool is_open(const struct consoles *c, int fd)
{
        struct stat a, b;

        for (size_t i = 0; i < c->n; i++)
                if (fstat(fd, &a) == 0 && fstat(c->each[i].fd, &b) == 0 && a.st_rdev && a.st_rdev == b.st_rdev)
                        return true;
        return false;
}

static void open_one(struct consoles *c, const char *path)
{
        struct console console = { .fd = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC) };

        if (console.fd < 0)
                return;
        if (c->n == CONSOLE_MAX || is_open(c, console.fd)) {
                fd_close(console.fd);
                return;
        }
        make_raw(&console);
        c->each[c->n++] = console;
}

void consoles_open(struct consoles *c, const char *path)
{
        _cleanup_free_ char *active = NULL;
        char *cursor, *name, device[64];

        c->n = 0;
        if (path) {
                open_one(c, path);
                return;
        }
        if (file_read(AT_FDCWD, ACTIVE, 4096, &active, NULL) >= 0) {
                for (cursor = active; (name = strsep(&cursor, " \n"));)
                        if (*name && snprintf(device, sizeof(device), "/dev/%s", name) < (int)sizeof(device))
                                open_one(c, device);
        }
        open_one(c, "/dev/tty0"); /* a person at the screen, where the kernel was told to write to the serial line only */
        if (c->n == 0)
                open_one(c, "/dev/console");
}

static void close_one(struct console *console)
{
        if (console->restore)
                tcsetattr(console->fd, TCSANOW, &console->before);
        console->fd = fd_close(console->fd);
}

void consoles_close(struct consoles *c)
{
        for (size_t i = 0; i < c->n; i++)
                close_one(&c->each[i]);
        c->n = 0;
}

/* A line that does not take it (flow control, nobody there) must not hold up the others. */
static void print_one(int fd, const char *text, size_t n)
{
        while (n > 0) {
                ssize_t written = write(fd, text, n);

                if (written < 0 && errno == EINTR)
                        continue;
                if (written < 0 && (errno != EAGAIN || poll(&(struct pollfd){ fd, POLLOUT }, 1, 1000) <= 0))
                        return;
                if (written > 0) {
                        text += written;
                        n -= (size_t)written;
                }
        }
}

void consoles_print(const struct consoles *c, const char *text)
{
        for (size_t i = 0; i < c->n; i++)
                print_one(c->each[i].fd, text, strlen(text));
}

/* A key of the first console that has one; consoles that hang up or end are left out from then on. 0: none yet. */
static int read_keys(struct consoles *c, const struct pollfd *polls)
{
        int key = 0;

        for (size_t i = 0, n = c->n; i < n; i++) {
                struct console *console = NULL;
                unsigned char byte;
                ssize_t got;

                for (size_t k = 0; k < c->n; k++)
                        if (c->each[k].fd == polls[i].fd)
                                console = &c->each[k];
                if (!console || !polls[i].revents || key)
                        continue;
                got = read(console->fd, &byte, 1);
                if (got == 1)
                        key = byte ?: ' ';
                else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
                        close_one(console);
                        *console = c->each[--c->n];
                }
        }
        return key;
}

int consoles_key(struct consoles *c, unsigned seconds)
{
        uint64_t end = now_monotonic() + seconds * USEC_PER_SEC;

        for (;;) {
                struct pollfd polls[CONSOLE_MAX];
                uint64_t now = now_monotonic();
                size_t before;
                int key;

                if (now >= end)
                        return -ETIMEDOUT;
                for (size_t i = 0; i < c->n; i++)
                        polls[i] = (struct pollfd){ c->each[i].fd, POLLIN };
                if (poll(polls, c->n, (int)((end - now) / 1000) + 1) < 0 && errno != EINTR)
                        return -errno;
                before = c->n;
                key = read_keys(c, polls);
                if (key)
                        return key;
                if (c->n == 0 && before > 0)
                        return -EPIPE;
        }
}
