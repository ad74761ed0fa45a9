/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cluster/client_socket.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/util.h"

struct client_socket {
        sd_event_source *source;
        int fd;        /* libcurl's */
        int duplicate; /* ours */
        client_socket_ready ready;
        void *userdata;
};

/* It may be the last thing that is done with it. */
static int on_ready(sd_event_source *source, int duplicate, uint32_t events, void *userdata)
{
        const struct client_socket *s = userdata;

        s->ready(s->fd, events, s->userdata);
        return 0;
}

static bool is_same_file(int a, int b)
{
        struct stat x, y;

        return fstat(a, &x) >= 0 && fstat(b, &y) >= 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

int client_socket_watch(struct client_socket **s, sd_event *event, int fd, uint32_t events, client_socket_ready ready,
                        void *userdata)
{
        struct client_socket *new;
        int r;

        if (*s && is_same_file(fd, (*s)->duplicate))
                return sd_event_source_set_io_events((*s)->source, events);
        new = calloc(1, sizeof(*new));
        if (!new)
                return -ENOMEM;
        *new = (struct client_socket){ .fd = fd, .ready = ready, .userdata = userdata };
        new->duplicate = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        r = new->duplicate < 0 ? -errno : sd_event_add_io(event, &new->source, new->duplicate, events, on_ready, new);
        if (r < 0) {
                client_socket_end(new);
                return r;
        }
        client_socket_end(*s);
        *s = new;
        return 0;
}

struct client_socket *client_socket_end(struct client_socket *s)
{
        if (!s)
                return NULL;
        sd_event_source_disable_unref(s->source);
        fd_close(s->duplicate);
        free(s);
        return NULL;
}
