/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/http_listen.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <time.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/parse.h"
#include "slot/kinds.h"

#define PATIENCE        (5 * USEC_PER_SEC)
#define UNANSWERED_MSEC 30000 /* who acknowledges nothing for so long has lost its power, or its cable */
#define BACKLOG         4096  /* as the kernel has it: all nodes come at once when a controller comes up */

union address {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
};

static int parse_address(char *text, union address *ret)
{
        char *colon = strrchr(text, ':'), *host = text;
        union address a = {};
        uint32_t port;
        size_t n;

        if (!colon || parse_u32(colon + 1, &port) < 0 || port > UINT16_MAX)
                return -EINVAL;
        *colon = '\0';
        n = strlen(host);
        if (*host == '[' && host[n - 1] == ']') {
                host[n - 1] = '\0';
                host++;
        }
        if (streq(host, "*") || inet_pton(AF_INET6, host, &a.v6.sin6_addr) == 1) {
                a.v6.sin6_family = AF_INET6;
                a.v6.sin6_port = htons((uint16_t)port);
        } else if (inet_pton(AF_INET, host, &a.v4.sin_addr) == 1) {
                a.v4.sin_family = AF_INET;
                a.v4.sin_port = htons((uint16_t)port);
        } else {
                return -EINVAL;
        }
        *ret = a;
        return 0;
}

static int open_socket(union address *a)
{
        bool v6 = a->any.sa_family == AF_INET6;
        bool all = v6 && memcmp(&a->v6.sin6_addr, &in6addr_any, sizeof(in6addr_any)) == 0;
        _cleanup_close_ int fd = socket(a->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        int on = 1, only = !all, unanswered = UNANSWERED_MSEC;

        if (fd < 0)
                return -errno;
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &on, sizeof(on));
        setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unanswered, sizeof(unanswered)); /* connections inherit it */
        if (v6)
                setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only));
        if (bind(fd, &a->any, v6 ? sizeof(a->v6) : sizeof(a->v4)) < 0 || listen(fd, BACKLOG) < 0)
                return -errno;
        return TAKE_FD(fd);
}

/* A bootmgrd that was killed while it forked has its port until the child is another program. */
static int open_patiently(union address *a)
{
        uint64_t deadline = now_monotonic() + PATIENCE;
        int fd;

        while ((fd = open_socket(a)) == -EADDRINUSE && now_monotonic() < deadline)
                nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
        return fd;
}

int http_listen(const char *where, struct error *e)
{
        _cleanup_free_ char *text = strdup(where);
        bool any = *where == '*';
        union address a;
        int fd;

        if (!text)
                return -ENOMEM;
        if (parse_address(text, &a) < 0)
                return fail(e, -EINVAL, &kind_config_invalid, "Listen=%s has not the form ADDRESS:PORT", where);
        fd = open_patiently(&a);
        if (fd == -EAFNOSUPPORT && any) { /* a kernel without IPv6 */
                a = (union address){ .v4 = { .sin_family = AF_INET, .sin_port = a.v6.sin6_port } };
                fd = open_patiently(&a);
        }
        return fd < 0 ? fail_errno(e, fd, "cannot listen on %s", where) : fd;
}
