/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A request whose connection never comes about: libcurl closes its socket before it says so. Whoever has a copy of it, as a
 * child has that was forked meanwhile, must not make the loop tell of an event source that is gone. */
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/util.h"
#include "cluster/client.h"
#include "cluster/client_socket.h"
#include "slot/kinds.h"
#include "suite.h"

#define QUEUED 8 /* connections that nobody accepts, until one more is not answered */

static sd_event *event;

static void make_event(void)
{
        ck_assert_int_ge(sd_event_new(&event), 0);
}

static void drop_event(void)
{
        event = sd_event_unref(event);
}

/* A port of loopback whose queue is full: who connects waits. */
static int silent_port(struct sockaddr_in *ret, int queued[static QUEUED])
{
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        socklen_t n = sizeof(*ret);

        *ret = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        ck_assert_int_ge(bind(fd, (struct sockaddr *)ret, sizeof(*ret)), 0);
        ck_assert_int_ge(listen(fd, 0), 0);
        ck_assert_int_ge(getsockname(fd, (struct sockaddr *)ret, &n), 0);
        for (int i = 0; i < QUEUED; i++) {
                queued[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
                connect(queued[i], (struct sockaddr *)ret, sizeof(*ret));
        }
        return fd;
}

/* Of the sockets that this process has, the newest that is about to connect to that port; a copy of it, or -1. */
static int copy_of_connecting(void)
{
        int found = -1;

        for (int fd = 3; fd < 64; fd++) {
                struct sockaddr_in own;
                socklen_t n = sizeof(own);

                if (getsockname(fd, (struct sockaddr *)&own, &n) >= 0 && n == sizeof(own) && own.sin_family == AF_INET)
                        found = fd;
        }
        return found < 0 ? -1 : fcntl(found, F_DUPFD_CLOEXEC, 100);
}

static void run_for(uint64_t usec)
{
        uint64_t end = now_monotonic() + usec;

        while (now_monotonic() < end)
                ck_assert_int_ge(sd_event_run(event, 20 * USEC_PER_MSEC), 0);
}

static void on_answered(int result, const char *body, size_t size, const struct error *e, void *userdata)
{
        *(int *)userdata = result;
}

START_TEST(a_copy_of_a_closed_socket)
{
        char url[64];
        const char *const endpoints[] = { url, NULL };
        const struct client_tls tls = { "/nonexistent/ca", "/nonexistent/pem", "/nonexistent/key" };
        int result = 1, queued[QUEUED], fd, copy;
        const struct client_ask ask = { .path = "/",
                                        .timeout = 200 * USEC_PER_MSEC,
                                        .deadline = 100 * USEC_PER_MSEC,
                                        .max = 100,
                                        .endpoint = 0,
                                        .answered = on_answered,
                                        .userdata = &result };
        struct sockaddr_in address;
        struct client_request *q;
        struct client *client;

        fd = silent_port(&address, queued);
        snprintf(url, sizeof(url), "https://127.0.0.1:%u", ntohs(address.sin_port));
        ck_assert_int_eq(client_new(endpoints, &tls, event, &kind_fetch, &client, NULL), 0);
        ck_assert_int_eq(client_start(client, &ask, &q, NULL), 0);
        run_for(50 * USEC_PER_MSEC);
        ck_assert_int_eq(result, 1);
        copy = copy_of_connecting();
        ck_assert_int_ge(copy, 0);
        for (int i = 0; i < 100 && result == 1; i++)
                run_for(20 * USEC_PER_MSEC);
        ck_assert_int_lt(result, 0);
        /* Now it has something to tell. */
        shutdown(copy, SHUT_RDWR);
        run_for(50 * USEC_PER_MSEC);
        client_free(client);
        run_for(50 * USEC_PER_MSEC);
        close(copy);
        for (int i = 0; i < QUEUED; i++)
                close(queued[i]);
        close(fd);
}
END_TEST

static void count(int fd, uint32_t events, void *userdata)
{
        ++*(int *)userdata;
}

START_TEST(a_number_that_is_another_files)
{
        int pairs[2][2], told = 0, number;
        struct client_socket *s = NULL;

        for (int i = 0; i < 2; i++)
                ck_assert_int_ge(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pairs[i]), 0);
        number = pairs[0][0];
        ck_assert_int_ge(client_socket_watch(&s, event, number, EPOLLIN, count, &told), 0);
        ck_assert_int_ge(dup2(pairs[1][0], number), 0);
        ck_assert_int_eq(write(pairs[1][1], "x", 1), 1);
        run_for(30 * USEC_PER_MSEC);
        ck_assert_int_eq(told, 0);
        ck_assert_int_ge(client_socket_watch(&s, event, number, EPOLLIN, count, &told), 0);
        run_for(30 * USEC_PER_MSEC);
        ck_assert_int_gt(told, 0);
        s = client_socket_end(s);
        told = 0;
        run_for(30 * USEC_PER_MSEC);
        ck_assert_int_eq(told, 0);
        close(number);
        for (int i = 0; i < 2; i++)
                close(pairs[i][1]);
        close(pairs[1][0]);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("client-socket");
        TCase *t = tcase_create("client-socket");

        tcase_add_checked_fixture(t, make_event, drop_event);
        tcase_add_test(t, a_copy_of_a_closed_socket);
        tcase_add_test(t, a_number_that_is_another_files);
        suite_add_tcase(s, t);
        return suite_run(s);
}
