/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What of a file is fetched, and from which threads, against a server in this process that knows ranges. What servers do
 * wrong is tests/cli/22-http.sh. */
#include <arpa/inet.h>
#include <pthread.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "image/bundle.h"

#include <check.h>
#include "suite.h"

#define FILE_SIZE MIB(8)

static uint8_t content[FILE_SIZE];
static uint64_t sent;
static char url[64];

static void answer(int fd, const char *request)
{
        unsigned long long first = 0, last = FILE_SIZE - 1;
        const char *range = strstr(request, "Range: bytes=");
        char head[256];

        ck_assert_ptr_nonnull(range);
        ck_assert_int_ge(sscanf(range, "Range: bytes=%llu-%llu", &first, &last), 1);
        last = MIN(last, (unsigned long long)FILE_SIZE - 1);
        snprintf(head, sizeof(head),
                 "HTTP/1.1 206 Partial Content\r\nContent-Length: %llu\r\nContent-Range: bytes %llu-%llu/%llu\r\n\r\n",
                 last - first + 1, first, last, (unsigned long long)FILE_SIZE);
        if (send(fd, head, strlen(head), MSG_NOSIGNAL) < 0)
                return;
        for (unsigned long long at = first; at <= last;) {
                ssize_t n = send(fd, content + at, (size_t)MIN(last - at + 1, 65536ULL), MSG_NOSIGNAL);

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
static void start(void)
{
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t size = sizeof(address);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        pthread_t thread;

        for (size_t i = 0; i < FILE_SIZE; i += 8)
                put_le64(content + i, i * UINT64_C(0x9e3779b97f4a7c15));
        ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, size), 0);
        ck_assert_int_eq(listen(fd, 16), 0);
        ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &size), 0);
        snprintf(url, sizeof(url), "http://127.0.0.1:%d/file", ntohs(address.sin_port));
        ck_assert_int_eq(pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd), 0);
}

static struct source *opened(void)
{
        struct error e = {};
        struct source *s;

        ck_assert_msg(source_open(url, NULL, &s, &e) == 0, "%s", e.message);
        ck_assert_uint_eq(source_size(s), FILE_SIZE);
        return s;
}

static void reads(struct source *s, uint64_t offset, size_t n)
{
        _cleanup_free_ uint8_t *data = malloc(n);
        struct error e = {};

        ck_assert_msg(source_read(s, data, n, &e) == 0, "%s", e.message);
        ck_assert_mem_eq(data, content + offset, n);
}

START_TEST(everything)
{
        struct source *s = opened();
        uint8_t byte;

        for (uint64_t at = 0; at < FILE_SIZE; at += KIB(64))
                reads(s, at, KIB(64));
        ck_assert_int_eq(source_read(s, &byte, 1, NULL), -ENODATA);
        ck_assert_uint_eq(source_fetched(s), FILE_SIZE);
        source_free(s);
}
END_TEST

START_TEST(only_what_is_wanted)
{
        static const struct source_range wanted[] = { { MIB(2), KIB(100) }, { MIB(6) + 5, KIB(700) } };
        struct source *s = opened();

        reads(s, 0, 1000);
        ck_assert_int_eq(source_want(s, wanted, ARRAY_SIZE(wanted)), 0);
        ck_assert_int_eq(source_skip(s, MIB(2) - 1000, NULL), 0);
        reads(s, MIB(2), KIB(100));
        ck_assert_int_eq(source_skip(s, MIB(4) + 5 - KIB(100), NULL), 0);
        reads(s, MIB(6) + 5, KIB(700));
        reads(s, MIB(6) + 5 + KIB(700), 10); /* not in the list */
        source_free(s);
        ck_assert_uint_ge(__atomic_load_n(&sent, __ATOMIC_RELAXED), KIB(800) + 1000);
        ck_assert_uint_le(__atomic_load_n(&sent, __ATOMIC_RELAXED),
                          KIB(800) + KIB(128) + KIB(256) + 10); /* the first piece, and what was fetched ahead of the list */
}
END_TEST

START_TEST(nothing_is_wanted)
{
        struct source *s = opened();

        reads(s, 0, 1000);
        ck_assert_int_eq(source_want(s, NULL, 0), 0);
        ck_assert_int_eq(source_skip(s, FILE_SIZE - 1000, NULL), 0);
        source_free(s);
        ck_assert_uint_le(__atomic_load_n(&sent, __ATOMIC_RELAXED), KIB(128) + KIB(256));
}
END_TEST

static void *read_there(void *userdata)
{
        struct source *s = userdata;
        _cleanup_free_ uint8_t *data = malloc(KIB(64));

        for (uint64_t at = 0; at < FILE_SIZE; at += KIB(256)) {
                ck_assert_int_eq(source_read_at(s, at + 3, data, KIB(64), NULL), 0);
                ck_assert_mem_eq(data, content + at + 3, KIB(64));
        }
        return NULL;
}

START_TEST(from_several_threads)
{
        struct source *s = opened();
        pthread_t threads[4];
        uint8_t data[16];

        for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
                ck_assert_int_eq(pthread_create(&threads[i], NULL, read_there, s), 0);
        reads(s, 0, KIB(512));
        for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
                pthread_join(threads[i], NULL);
        ck_assert_int_eq(source_read_at(s, FILE_SIZE - 8, data, sizeof(data), NULL), -EBADMSG);
        reads(s, KIB(512), KIB(512));
        source_free(s);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("http");
        TCase *t = tcase_create("http");

        tcase_set_timeout(t, 120);
        tcase_add_checked_fixture(t, start, NULL);
        tcase_add_test(t, everything);
        tcase_add_test(t, only_what_is_wanted);
        tcase_add_test(t, nothing_is_wanted);
        tcase_add_test(t, from_several_threads);
        suite_add_tcase(s, t);
        return suite_run(s);
}
