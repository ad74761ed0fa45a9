/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The store of a cluster, against real etcd servers with TLS: what every store does, and what is its own: certificates, lost
 * answers, compaction. */
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>

#include "base/file.h"
#include "cluster/client.h"
#include "etcd.h"
#include "suite.h"

static void start_one(void)
{
        cluster_start(1);
}

static void use_store_as(const char *name)
{
        const char *endpoints[MEMBERS_MAX + 1];
        char text[MEMBERS_MAX][40];

        store_close(store);
        endpoint_list(endpoints, text);
        ck_assert_int_eq(try_open_as(name, endpoints, event, &store), 0);
}

START_TEST(only_controllers_get_in)
{
        static const struct {
                const char *name;
                enum node_role role;
                bool other_ca, expired, in;
        } rows[] = {
                { "another", ROLE_CONTROLLER, false, false, true },
                { "controller-of-the-cluster", ROLE_CONTROLLER, true, false, false },
                { "engine", ROLE_ENGINE, true, false, false },
                { "operator", ROLE_OPERATOR, true, false, false },
                { "late", ROLE_CONTROLLER, false, true, false },
        };
        uint64_t now = now_realtime() - (rows[_i].expired ? CERTIFICATE_LIFE + USEC_PER_DAY : 0);
        _cleanup_pem_ char *key = NULL, *ca = NULL;
        uint64_t revision;
        bool made;
        int r;

        ck_assert_int_eq(ca_make("test", now_realtime(), &key, &ca, NULL), 0);
        issue_to(rows[_i].name, rows[_i].other_ca ? key : store_ca_key, rows[_i].other_ca ? ca : store_ca, rows[_i].role,
                 now);
        use_store_as(rows[_i].name);
        r = commit(&(struct store_txn){ .writes = &(struct store_write){ "case/intruder", false, "1", 1 }, .n_writes = 1 },
                   &made, &revision);
        ck_assert_int_eq(r == 0, rows[_i].in);
        use_store_as("controller");
        if (rows[_i].in)
                put("x", "1");
}
END_TEST

START_TEST(a_server_that_is_no_controller)
{
        _cleanup_pem_ char *key = NULL, *ca = NULL;

        /* We trust another CA than the server's */
        ck_assert_int_eq(ca_make("test", now_realtime(), &key, &ca, NULL), 0);
        write_in_dir("ca.pem", ca);
        use_store_as("controller");
        ck_assert_int_eq(range_result(), -EACCES); /* at once, not when the patience ends */
        write_in_dir("ca.pem", store_ca);
        use_store_as("controller");
        ck_assert_int_eq(range_result(), 0);
}
END_TEST

static void note_done(int result, const char *body, size_t size, const struct error *e, void *userdata)
{
        ck_assert_msg(result == 0, "%s", body);
        *(bool *)userdata = true;
}

static void compact(uint64_t revision)
{
        const char *endpoints[MEMBERS_MAX + 1];
        char text[MEMBERS_MAX][40];
        _cleanup_free_ char *ca = in_dir("ca.pem"), *pem = in_dir("controller.pem"), *key = in_dir("controller.key"),
                            *body = xasprintf("{\"revision\":\"%" PRIu64 "\",\"physical\":true}", revision);
        struct client_ask ask = { .path = "/v3/kv/compaction",
                                  .body = body,
                                  .timeout = PATIENCE,
                                  .deadline = PATIENCE,
                                  .max = 10000,
                                  .endpoint = -1,
                                  .answered = note_done };
        struct client_request *q;
        struct client *c;
        bool done = false;

        ask.userdata = &done;
        endpoint_list(endpoints, text);
        ck_assert_int_eq(client_new(endpoints, &(struct client_tls){ ca, pem, key }, event, NULL, &c, NULL), 0);
        ck_assert_int_eq(client_start(c, &ask, &q, NULL), 0);
        run_until(&done);
        client_free(c);
}

START_TEST(what_was_compacted_is_told_anew)
{
        uint64_t first = put("a", "1"), last;
        struct answered a = {};
        struct watcher w = {};

        put("b", "2");
        put("b", NULL);
        last = put("a", "3");
        compact(last);
        ck_assert_int_eq(store_range(store, &(struct store_range){ prefix, true, first }, note_answer, &a, NULL, NULL), 0);
        run_until(&a.done);
        ck_assert_int_eq(a.result, -ESTALE);
        watch(&w, first);
        run_until_changes(&w, 1);
        ck_assert_str_eq(w.seen.data, "![a=3]");
        put("b", "4");
        run_until_changes(&w, 2);
        ck_assert_str_eq(w.seen.data, "![a=3][b=4]");
        buf_done(&w.seen);
}
END_TEST

START_TEST(many_at_once)
{
        static struct answered all[500];
        unsigned done = 0;

        for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
                _cleanup_free_ char *name = xasprintf("many%03u", i), *key = full(name);

                ck_assert_int_eq(
                        store_commit(store,
                                     &(struct store_txn){ .writes = &(struct store_write){ key, false, name, strlen(name) },
                                                          .n_writes = 1 },
                                     note_answer, &all[i], NULL, NULL),
                        0);
        }
        for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
                run_until(&all[i].done);
                done += all[i].result == 0 && all[i].made;
        }
        ck_assert_uint_eq(done, ARRAY_SIZE(all));
        struct answered a = {};
        ck_assert_int_eq(store_range(store, &(struct store_range){ prefix, true }, note_answer, &a, NULL, NULL), 0);
        run_until(&a.done);
        ck_assert_uint_eq(a.n, ARRAY_SIZE(all));
        buf_done(&a.state);
}
END_TEST

/* A wire that can be told to lose what the server says: what was asked has arrived by then. */
struct wire {
        int listening, client, server;
        unsigned port;
        volatile bool lose;
        pthread_t thread;
};

/* false: the connection has ended. */
static bool pump(struct wire *w, int from, int to, bool drop)
{
        char data[65536];
        ssize_t n = read(from, data, sizeof(data));

        return n > 0 && (drop || write(to, data, (size_t)n) == n);
}

static void *wire_run(void *userdata)
{
        struct wire *w = userdata;

        while ((w->client = accept4(w->listening, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
                struct sockaddr_in address = { .sin_family = AF_INET,
                                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                               .sin_port = htons((uint16_t)members[0].client_port) };
                bool good = true, lost = false;

                w->server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
                good = connect(w->server, (struct sockaddr *)&address, sizeof(address)) == 0;
                while (good && !lost) {
                        struct pollfd fds[] = { { w->client, POLLIN }, { w->server, POLLIN } };

                        poll(fds, 2, -1);
                        if (fds[0].revents)
                                good = pump(w, w->client, w->server, false);
                        if (good && fds[1].revents) {
                                lost = w->lose;
                                good = pump(w, w->server, w->client, lost);
                        }
                }
                close(w->client);
                close(w->server);
                if (lost)
                        w->lose = false;
        }
        return NULL;
}

static void wire_start(struct wire *w)
{
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t n = sizeof(address);

        w->listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        ck_assert_int_eq(bind(w->listening, (struct sockaddr *)&address, n), 0);
        ck_assert_int_eq(listen(w->listening, 8), 0);
        ck_assert_int_eq(getsockname(w->listening, (struct sockaddr *)&address, &n), 0);
        w->port = ntohs(address.sin_port);
        ck_assert_int_eq(pthread_create(&w->thread, NULL, wire_run, w), 0);
}

/* What libcurl does by itself, to send a request again where a kept connection ends, must not happen to a transaction. */
START_TEST(a_lost_answer_is_not_asked_for_again)
{
        static struct wire w;
        _cleanup_free_ char *key = full("a");
        struct store_write write = { key, false, "2", 1 };
        struct store_compare compare = { STORE_VALUE, key, 0, "1", 1 };
        char url[40];
        const char *endpoints[] = { url, NULL };
        uint64_t first = put("a", "1"), revision;
        _cleanup_free_ char *state = NULL;
        bool made;

        wire_start(&w);
        snprintf(url, sizeof(url), "https://127.0.0.1:%u", w.port);
        store_close(store);
        ck_assert_int_eq(try_open_as("controller", endpoints, event, &store), 0);
        ck_assert_int_eq(range_result(), 0);
        w.lose = true;
        ck_assert_int_eq(commit(&(struct store_txn){ &compare, 1, &write, 1 }, &made, &revision), -EREMOTEIO);
        ck_assert(!w.lose);
        /* It was made, once. */
        state = state_at(0, first - 1);
        ck_assert_str_eq(state, "a=2:1/2");
        /* What only reads is asked again. */
        w.lose = true;
        ck_assert_int_eq(range_result(), 0);
        ck_assert(!w.lose);
        store = store_close(store);
        shutdown(w.listening, SHUT_RDWR);
        pthread_join(w.thread, NULL);
        close(w.listening);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("etcd");
        TCase *t = tcase_create("every store"), *own = tcase_create("etcd");

        tcase_add_unchecked_fixture(t, start_one, cluster_stop);
        add_cases(t);
        tcase_set_timeout(t, 100);
        suite_add_tcase(s, t);
        tcase_add_unchecked_fixture(own, start_one, cluster_stop);
        tcase_add_checked_fixture(own, cases_begin, cases_end);
        tcase_set_timeout(own, 100);
        tcase_add_loop_test(own, only_controllers_get_in, 0, 5);
        tcase_add_test(own, a_server_that_is_no_controller);
        tcase_add_test(own, what_was_compacted_is_told_anew);
        tcase_add_test(own, many_at_once);
        tcase_add_test(own, a_lost_answer_is_not_asked_for_again);
        suite_add_tcase(s, own);
        return suite_run(s);
}
