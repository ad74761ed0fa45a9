/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A server in the process of the test, which knows ranges of one file. */
#pragma once

#include <arpa/inet.h>
#include <pthread.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "image/bundle.h"

#include <check.h>

static const uint8_t *served;
static uint64_t served_size, sent; /* bytes of bodies; atomic */
static char url[64];
static void (*on_request)(uint64_t offset); /* before it is answered, from any thread; NULL: nothing */

static void answer(int fd, const char *request)
{
        unsigned long long first = 0, last = served_size - 1;
        const char *range = strstr(request, "Range: bytes=");
        char head[256];

        ck_assert_ptr_nonnull(range);
        ck_assert_int_ge(sscanf(range, "Range: bytes=%llu-%llu", &first, &last), 1);
        last = MIN(last, (unsigned long long)served_size - 1);
        if (on_request)
                on_request(first);
        snprintf(head, sizeof(head),
                 "HTTP/1.1 206 Partial Content\r\nContent-Length: %llu\r\nContent-Range: bytes %llu-%llu/%llu\r\n\r\n",
                 last - first + 1, first, last, (unsigned long long)served_size);
        if (send(fd, head, strlen(head), MSG_NOSIGNAL) < 0)
                return;
        for (unsigned long long at = first; at <= last;) {
                ssize_t n = send(fd, served + at, (size_t)MIN(last - at + 1, 65536ULL), MSG_NOSIGNAL);

                if (n < 0)
                        return;
                at += (unsigned long long)n;
                __atomic_fetch_add(&sent, (uint64_t)n, __ATOMIC_RELAXED);
        }
}

static void *serve_one(void *userdata)
{
        _cleanup_close_ int fd = (int)(intptr_t)userdata;
        char request[4096];
        size_t n = 0;

        for (;;) {
                ssize_t r = recv(fd, request + n, sizeof(request) - 1 - n, 0);

                if (r <= 0)
                        return NULL;
                n += (size_t)r;
                request[n] = '\0';
                if (strstr(request, "\r\n\r\n")) {
                        answer(fd, request);
                        n = 0;
                }
        }
}

static void *serve(void *userdata)
{
        int listener = (int)(intptr_t)userdata, fd;
        pthread_t thread;

        while ((fd = accept(listener, NULL, NULL)) >= 0)
                if (pthread_create(&thread, NULL, serve_one, (void *)(intptr_t)fd) == 0)
                        pthread_detach(thread);
        return NULL;
}

/* In the process of the test: it ends with it. */
static void serve_file(const uint8_t *data, uint64_t size)
{
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t length = sizeof(address);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        pthread_t thread;

        served = data;
        served_size = size;
        ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, length), 0);
        ck_assert_int_eq(listen(fd, 16), 0);
        ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &length), 0);
        snprintf(url, sizeof(url), "http://127.0.0.1:%d/file", ntohs(address.sin_port));
        ck_assert_int_eq(pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd), 0);
}
