/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A socket of libcurl's on an event loop.
 *
 * What is watched is a duplicate of our own. libcurl 7.88 closes a socket that was still connecting before it says that it
 * is not to be watched any more. Its number may be another file's by then, which would lose its place in the loop; and while
 * a child that was just forked has a copy, the kernel goes on telling of it, to an event source that is gone. */
#pragma once

#include <systemd/sd-event.h>

struct client_socket;

/* `fd` is libcurl's; `events` as of epoll. */
typedef void (*client_socket_ready)(int fd, uint32_t events, void *userdata);

/* Begins to watch where *s is NULL, else watches for these events from now on. Whatever has that number now is what is
 * watched. Negative errno; *s is as it was then. */
int client_socket_watch(struct client_socket **s, sd_event *event, int fd, uint32_t events, client_socket_ready ready,
                        void *userdata);
struct client_socket *client_socket_end(struct client_socket *s); /* NULL */
