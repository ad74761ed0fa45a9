/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who is kept and who is ended while nobody knows who they are, and what the body of a request may say. */
#include <arpa/inet.h>
#include <fcntl.h>

#include "base/clock.h"
#include "daemon/api_body.h"
#include "daemon/http_peer.h"
#include "slot/kinds.h"

#include <check.h>
#include "suite.h"
#undef fail

#define START (1000 * USEC_PER_SEC)

struct client {
        struct http_connection *connection;
        int fds[2];
};

static struct client arrive(struct http_peers *p, const char *address, uint64_t now)
{
        struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
        struct sockaddr_in v4 = { .sin_family = AF_INET };
        bool is_v4 = inet_pton(AF_INET, address, &v4.sin_addr) == 1;
        struct client c;

        ck_assert(is_v4 || inet_pton(AF_INET6, address, &v6.sin6_addr) == 1);
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, c.fds), 0);
        c.connection = http_peers_add(p, c.fds[0], is_v4 ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6, now);
        ck_assert_ptr_nonnull(c.connection);
        return c;
}

/* What the other end sees. */
static bool is_ended(const struct client *c)
{
        char byte;
        bool ended = read(c->fds[1], &byte, 1) == 0;

        ck_assert_int_eq(ended, c->connection->ended);
        return ended;
}

static void leave(struct http_peers *p, struct client *c)
{
        http_peers_remove(p, c->connection);
        close(c->fds[0]);
        close(c->fds[1]);
}

START_TEST(the_oldest_unknown_of_the_largest_address_goes)
{
        struct http_peers p = { .max = 8 };
        struct client many[4], few[2], known[2], next, last;

        known[0] = arrive(&p, "192.0.2.1", START);
        http_peers_know(&p, known[0].connection);
        known[1] = arrive(&p, "192.0.2.9", START);
        http_peers_know(&p, known[1].connection);
        few[0] = arrive(&p, "192.0.2.2", START);
        few[1] = arrive(&p, "192.0.2.2", START);
        for (size_t i = 0; i < ARRAY_SIZE(many); i++)
                many[i] = arrive(&p, "192.0.2.1", START);
        ck_assert_uint_eq(p.n, 8);
        ck_assert_uint_eq(p.evicted, 0);
        next = arrive(&p, "192.0.2.3", START);
        ck_assert(is_ended(&many[0]) && !is_ended(&many[1]) && !is_ended(&few[0]) && !is_ended(&next));
        leave(&p, &many[0]);
        last = arrive(&p, "192.0.2.1", START);
        ck_assert(is_ended(&many[1]) && !is_ended(&last));
        ck_assert(!is_ended(&known[0]) && !is_ended(&known[1]));
        ck_assert_uint_eq(p.n_known, 2);
        for (size_t i = 1; i < ARRAY_SIZE(many); i++)
                leave(&p, &many[i]);
        for (size_t i = 0; i < 2; i++) {
                leave(&p, &few[i]);
                leave(&p, &known[i]);
        }
        leave(&p, &next);
        leave(&p, &last);
        ck_assert_uint_eq(p.n + p.n_known, 0);
        http_peers_done(&p);
        ck_assert_uint_eq(p.n_addresses, 0);
}
END_TEST

START_TEST(an_address_has_half_while_it_is_unknown)
{
        struct http_peers p = { .max = 8 };
        struct client c[8];

        for (size_t i = 0; i < 5; i++)
                c[i] = arrive(&p, "2001:db8::1", START);
        ck_assert(is_ended(&c[0]) && !is_ended(&c[1]));
        /* The same network of 64 bits, and one written as IPv6 */
        c[5] = arrive(&p, "2001:db8::ffff:2", START);
        ck_assert(is_ended(&c[1]));
        c[6] = arrive(&p, "::ffff:192.0.2.1", START);
        c[7] = arrive(&p, "192.0.2.1", START);
        ck_assert_ptr_eq(c[6].connection->peer, c[7].connection->peer);
        ck_assert_uint_eq(p.n_addresses, 2);
        for (size_t i = 0; i < 8; i++)
                leave(&p, &c[i]);
        http_peers_done(&p);
}
END_TEST

static struct http_connection *come(struct http_peers *p, unsigned network, unsigned host, uint64_t now)
{
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(network << 24 | host) };
        struct http_connection *c = http_peers_add(p, -1, (struct sockaddr *)&address, now);

        ck_assert_ptr_nonnull(c);
        return c;
}

/* Thousands of nodes hold connections; strangers have little room, but a moment in which they may be many. */
START_TEST(room_for_nodes_is_no_room_for_strangers)
{
        static struct http_connection *known[3000], *strangers[PEER_CROWD_MAX + 3];
        const uint64_t later = START + PEER_YOUNG_SEC * USEC_PER_SEC;
        struct http_peers p = { .max = 20000 };
        unsigned n = 0;

        for (unsigned i = 0; i < ARRAY_SIZE(known); i++) {
                known[i] = come(&p, 10, i, START);
                http_peers_know(&p, known[i]);
        }
        while (n < PEER_CROWD_MAX)
                strangers[n] = come(&p, 11, n, START), n++;
        ck_assert_uint_eq(p.evicted + p.refused, 0); /* they all may be nodes that come back */
        strangers[n++] = come(&p, 11, 5001, START);
        ck_assert(p.evicted == 1 && strangers[0]->ended && !strangers[n - 1]->ended);
        strangers[n++] = come(&p, 11, 5002, later); /* the crowd has had its moment */
        strangers[n++] = come(&p, 11, 5003, later);
        ck_assert(p.evicted == 3 && strangers[1]->ended && strangers[2]->ended && !strangers[3]->ended && p.refused == 0);
        http_peers_know(&p, strangers[3]);
        http_peers_sweep(&p, START + PEER_PATIENCE_SEC * USEC_PER_SEC);
        ck_assert(!strangers[3]->ended && strangers[4]->ended && !strangers[n - 1]->ended && !known[0]->ended);
        for (unsigned i = 0; i < n; i++)
                http_peers_remove(&p, strangers[i]);
        for (n = 0; n < PEER_UNKNOWN_MAX; n++)
                strangers[n] = come(&p, 11, n, later);
        ck_assert_uint_eq(p.evicted, 3);
        strangers[n++] = come(&p, 11, 5004, later);
        ck_assert_uint_eq(p.evicted, 3);
        strangers[n++] = come(&p, 11, 5005, later + PEER_YOUNG_SEC * USEC_PER_SEC);
        ck_assert(p.evicted == 4 && strangers[0]->ended); /* who says nothing is ended for a new one … */
        ck_assert(!known[0]->ended && p.n_known == ARRAY_SIZE(known));
        for (unsigned i = 0; i < n; i++)
                http_peers_remove(&p, strangers[i]);
        for (unsigned i = 0; i < ARRAY_SIZE(known); i++)
                http_peers_remove(&p, known[i]);
        ck_assert_uint_eq(p.n + p.n_known + p.n_connected, 0);
        http_peers_done(&p);
        ck_assert_uint_eq(p.n_addresses, 0);
}
END_TEST

/* One address, which may be a whole site, has half of it. */
START_TEST(an_address_has_half_of_the_crowd)
{
        static struct http_connection *c[PEER_CROWD_MAX / 2 + 2];
        struct http_peers p = { .max = 20000 };
        unsigned n = 0;

        while (n < PEER_CROWD_MAX / 2)
                c[n++] = come(&p, 10, 1, START);
        ck_assert_uint_eq(p.evicted + p.refused, 0);
        c[n++] = come(&p, 10, 1, START);
        ck_assert(p.evicted == 1 && c[0]->ended);
        c[n++] = come(&p, 10, 2, START);
        ck_assert_uint_eq(p.evicted, 1);
        for (unsigned i = 0; i < n; i++)
                http_peers_remove(&p, c[i]);
        http_peers_done(&p);
}
END_TEST

START_TEST(full_of_known_ones_nobody_is_ended_for_a_new_one)
{
        struct http_peers p = { .max = 4 };
        struct client c[5];

        for (size_t i = 0; i < 4; i++) {
                c[i] = arrive(&p, "192.0.2.1", START);
                http_peers_know(&p, c[i].connection);
        }
        c[4] = arrive(&p, "192.0.2.2", START);
        ck_assert(is_ended(&c[4]));
        ck_assert_uint_eq(p.refused, 1);
        for (size_t i = 0; i < 4; i++)
                ck_assert(!is_ended(&c[i]));
        for (size_t i = 0; i < 5; i++)
                leave(&p, &c[i]);
        http_peers_done(&p);
}
END_TEST

START_TEST(who_does_not_say_who_it_is_is_late)
{
        struct http_peers p = { .max = 8 };
        struct client silent = arrive(&p, "192.0.2.1", START), known = arrive(&p, "192.0.2.1", START);

        http_peers_know(&p, known.connection);
        http_peers_sweep(&p, START + (PEER_PATIENCE_SEC - 1) * USEC_PER_SEC);
        ck_assert(!is_ended(&silent));
        http_peers_sweep(&p, START + PEER_PATIENCE_SEC * USEC_PER_SEC);
        ck_assert(is_ended(&silent) && !is_ended(&known));
        ck_assert_uint_eq(p.late, 1);
        leave(&p, &silent);
        leave(&p, &known);
        http_peers_done(&p);
}
END_TEST

START_TEST(coming_back_gives_no_new_share)
{
        struct http_peers p = { .max = 8 };
        struct client c = arrive(&p, "192.0.2.1", START), other;
        unsigned n = 0;

        while (http_peers_take(&p, c.connection, START))
                n++;
        ck_assert_uint_eq(n, PEER_BURST);
        leave(&p, &c);
        http_peers_sweep(&p, START);
        c = arrive(&p, "192.0.2.1", START);
        other = arrive(&p, "192.0.2.2", START);
        ck_assert(!http_peers_take(&p, c.connection, START));
        ck_assert(http_peers_take(&p, other.connection, START));
        for (n = 0; http_peers_take(&p, c.connection, START + USEC_PER_SEC); n++)
                ;
        ck_assert_uint_eq(n, PEER_RATE);
        http_peers_give(c.connection); /* it was known after all */
        ck_assert(http_peers_take(&p, c.connection, START + USEC_PER_SEC));
        ck_assert(!http_peers_take(&p, c.connection, START + USEC_PER_SEC));
        leave(&p, &c);
        leave(&p, &other);
        http_peers_sweep(&p, START + 60 * USEC_PER_SEC);
        ck_assert_uint_eq(p.n_addresses, 0);
        http_peers_done(&p);
}
END_TEST

#define ID  "00112233445566778899aabbccddeeff"
#define ALL (API_ID | API_SOURCE | API_NO_REBOOT | API_AUTOMATIC)

static const struct {
        const char *text, *key;
        unsigned members;
        bool good;
} bodies[] = {
        { "{\"id\":\"" ID "\",\"source\":\"/b\"}", NULL, ALL, true },
        { "{\"source\":\"https://x/b\",\"no_reboot\":true,\"automatic\":false}", ID, ALL, true },
        { "{\"id\":\"" ID "\",\"source\":\"/b\"}", "00112233-4455-6677-8899-AABBCCDDEEFF", ALL, true },
        { "", ID, API_ID, true },
        { "{\"prechecks_only\":true}", NULL, API_ID | API_PRECHECKS_ONLY, true },
        { "{\"prechecks_only\":true}", ID, API_ID | API_PRECHECKS_ONLY, true },
        { "{\"prechecks_only\":true}", "none", API_ID | API_PRECHECKS_ONLY, false },
        { "{\"prechecks_only\":false}", NULL, API_ID | API_PRECHECKS_ONLY, false },
        { "{\"prechecks_only\":true}", ID, API_ID, false },
        { "", NULL, API_ID, false },
        { "{}", "0011223344556677-8899aabbccddeeff", API_ID, false },
        { "{\"id\":\"" ID "\"}", "00112233445566778899aabbccddee00", API_ID, false },
        { "{\"id\":\"" ID "\",\"source\":\"b\"}", NULL, ALL, false },
        { "{\"id\":\"" ID "\"}", NULL, ALL, false },
        { "{\"id\":17}", NULL, API_ID, false },
        { "{\"id\":\"" ID "\",\"source\":\"/b\",\"no_reboot\":\"yes\"}", NULL, ALL, false },
        { "[]", ID, API_ID, false },
        { "{\"strict\":true,\"engines\":\"rolling\",\"max_unavailable\":3}", ID, API_ID | API_CLUSTER, true },
        { "{\"engines\":\"together\"}", ID, API_ID | API_CLUSTER, true },
        { "{\"engines\":\"none\"}", ID, API_ID | API_CLUSTER, false },
        { "{\"engines\":7}", ID, API_ID | API_CLUSTER, false },
        { "{\"one_instant\":true,\"prepare_limit_sec\":9,\"switch_limit_sec\":8,\"lead_sec\":7}", ID, API_ID | API_CLUSTER,
          true },
        { "{\"lead_sec\":7}", ID, API_ID, false },
        { "{\"lead_sec\":\"7s\"}", ID, API_ID | API_CLUSTER, false },
        { "{\"max_unavailable\":-1}", ID, API_ID | API_CLUSTER, false },
        { "{\"max_unavailable\":\"3\"}", ID, API_ID | API_CLUSTER, false },
        { "{\"strict\":\"yes\"}", ID, API_ID | API_CLUSTER, false },
        { "{\"strict\":true}", ID, API_ID, false },
};

START_TEST(a_body)
{
        struct error e = {};
        struct api_body b = {};
        int r = api_body_parse(bodies[_i].text, strlen(bodies[_i].text), bodies[_i].key, bodies[_i].members, &b, &e);

        ck_assert_msg((r == 0) == bodies[_i].good, "%s: %s", bodies[_i].text, e.message ?: "it was taken");
        if (r < 0)
                ck_assert_ptr_eq(e.kind, &kind_usage);
        else
                ck_assert_str_eq(b.id, b.prechecks_only ? "" : ID);
        api_body_done(&b);
        error_done(&e);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("api");
        TCase *t = tcase_create("peers");

        tcase_add_test(t, the_oldest_unknown_of_the_largest_address_goes);
        tcase_add_test(t, an_address_has_half_while_it_is_unknown);
        tcase_add_test(t, room_for_nodes_is_no_room_for_strangers);
        tcase_add_test(t, an_address_has_half_of_the_crowd);
        tcase_add_test(t, full_of_known_ones_nobody_is_ended_for_a_new_one);
        tcase_add_test(t, who_does_not_say_who_it_is_is_late);
        tcase_add_test(t, coming_back_gives_no_new_share);
        suite_add_tcase(s, t);
        t = tcase_create("body");
        tcase_add_loop_test(t, a_body, 0, ARRAY_SIZE(bodies));
        suite_add_tcase(s, t);
        return suite_run(s);
}
