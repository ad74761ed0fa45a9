/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a machine that wants to become a node and a controller say to each other. */
#include "base/clock.h"
#include "cluster/ask.h"
#include "cluster/etcd_members.h"
#include "cluster/home.h"
#include "cluster/join.h"
#include "cluster/renew.h"
#include "slot/kinds.h"
#include "scratch.h"
#include "suite.h"

static const struct {
        const char *text, *url; /* NULL: none */
} urls[] = {
        { "https://c1:1", "https://c1:1" },
        { "https://c1", "https://c1:8443" },
        { "https://c1/", "https://c1:8443" },
        { "c1.example.com:443", "https://c1.example.com:443" },
        { "192.0.2.1", "https://192.0.2.1:8443" },
        { "https://[2001:db8::1]", "https://[2001:db8::1]:8443" },
        { "https://[2001:db8::1]:65535/", "https://[2001:db8::1]:65535" },
        { "", NULL },
        { "https://", NULL },
        { "https:///", NULL },
        { "http://c1", NULL },
        { "https://c1:", NULL },
        { "https://c1:0", NULL },
        { "https://c1:65536", NULL },
        { "https://c1:-1", NULL },
        { "https://c1:1:2", NULL },
        { "https://u@c1", NULL },
        { "https://c1/path", NULL },
        { "https://c1?x", NULL },
        { "https://c1\n", NULL },
        { "https://[c1]", NULL },
        { "https://[::1", NULL },
        { "https://[]:1", NULL },
        { "https://[::1]x:1", NULL },
        { "https://2001:db8::1", NULL },
        { "HTTPS://c1", NULL },
};

START_TEST(a_url_has_one_form)
{
        char url[CLUSTER_TEXT_SIZE] = "untouched", again[CLUSTER_TEXT_SIZE];
        int r = controller_url(urls[_i].text, url);

        ck_assert_int_eq(r, urls[_i].url ? 0 : -EINVAL);
        ck_assert_str_eq(url, urls[_i].url ?: "untouched");
        if (r >= 0)
                ck_assert(controller_url(url, again) == 0 && streq(url, again));
}
END_TEST

START_TEST(a_url_has_a_bound)
{
        char text[1000], url[CLUSTER_TEXT_SIZE];

        for (size_t n = 1; n < sizeof(text) - 1; n++) {
                memset(text, 'a', n);
                text[n] = '\0';
                ck_assert_int_eq(controller_url(text, url), n < NODE_NAME_SIZE ? 0 : -EINVAL);
        }
}
END_TEST

static const char token[] = "bootmgr-engine-0a0a0a0a0a0a0a0a-1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b-"
                            "2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c";
static char *csr;

static void setup(void)
{
        _cleanup_pem_ char *key = NULL;

        ck_assert_int_eq(key_make(&key, NULL), 0);
        ck_assert_int_eq(csr_make(key, "e1", &csr, NULL), 0);
}

static void teardown(void)
{
        free(TAKE_PTR(csr));
}

START_TEST(a_request_goes_round)
{
        _cleanup_free_ char *text = join_request_format(token, "e1", csr, NULL);
        _cleanup_join_request_ struct join_request q = {};

        ck_assert_int_eq(join_request_parse(text, strlen(text), &q, NULL), 0);
        ck_assert_str_eq(q.name, "e1");
        ck_assert_str_eq(q.csr, csr);
        ck_assert(q.token.role == ROLE_ENGINE && q.token.id[0] == 0x0a && q.token.secret[0] == 0x1b &&
                  q.token.ca[0] == 0x2c);
        for (size_t n = 0; n < strlen(text); n++) {
                _cleanup_error_ struct error e = {};
                struct join_request cut;

                ck_assert_int_lt(join_request_parse(text, n, &cut, &e), 0);
                ck_assert_ptr_eq(e.kind, &kind_usage);
                ck_assert_ptr_nonnull(e.message);
        }
}
END_TEST

/* The request with one member changed (`value` NULL: taken out), and what is said to that. */
static const struct {
        const char *name, *value;
        const struct error_kind *kind;
} wrong[] = {
        { "token", NULL, &kind_usage },         { "token", "1", &kind_usage },
        { "token", "\"\"", &kind_token },       { "token", "\"bootmgr-operator-0a0a0a0a0a0a0a0a-00-00\"", &kind_token },
        { "name", NULL, &kind_usage },          { "name", "\"e2\"", &kind_usage },
        { "name", "\"../e1\"", &kind_usage },   { "name", "[]", &kind_usage },
        { "csr", NULL, &kind_usage },           { "csr", "\"\"", &kind_certificate },
        { "csr", "{\"csr\":{}}", &kind_usage }, { "role", "\"controller\"", &kind_usage },
};

START_TEST(a_wrong_request_is_refused)
{
        _cleanup_free_ char *good = join_request_format(token, "e1", csr, NULL), *text = NULL;
        _cleanup_json_ json_t *o = json_loads(good, 0, NULL);
        _cleanup_error_ struct error e = {};
        struct join_request q, before;

        memset(&q, 0x5a, sizeof(q));
        before = q;
        if (wrong[_i].value)
                json_object_set_new(o, wrong[_i].name, json_loads(wrong[_i].value, JSON_DECODE_ANY, NULL));
        else
                json_object_del(o, wrong[_i].name);
        text = json_dumps(o, 0);
        ck_assert_int_lt(join_request_parse(text, strlen(text), &q, &e), 0);
        ck_assert_msg(e.kind == wrong[_i].kind, "%s: %s", e.kind->name, e.message);
        ck_assert_msg(!strstr(e.message, "1b1b"), "the secret is quoted");
        ck_assert_int_eq(memcmp(&q, &before, sizeof(q)), 0);
}
END_TEST

START_TEST(what_is_too_large_is_refused)
{
        _cleanup_free_ char *text = calloc(1, JOIN_REQUEST_MAX + 2), *good = join_request_format(token, "e1", csr, NULL);
        struct join_request q;

        memset(text, ' ', JOIN_REQUEST_MAX + 1);
        memcpy(text, good, strlen(good));
        ck_assert_int_eq(join_request_parse(text, JOIN_REQUEST_MAX + 1, &q, NULL), -E2BIG);
        ck_assert_int_eq(join_request_parse(text, JOIN_REQUEST_MAX, &q, NULL), 0);
        join_request_done(&q);
}
END_TEST

#define ANSWER(role, controllers)                                                                                           \
        "{\"name\":\"e1\",\"role\":\"" role "\",\"epoch\":3,\"certificate\":\"x\",\"controllers\":[" controllers "]}"
#define NINE                                                                                                                \
        "\"https://a:1\",\"https://b:1\",\"https://c:1\",\"https://d:1\",\"https://e:1\",\"https://f:1\",\"https://g:1\","  \
        "\"https://h:1\",\"https://i:1\""

#define STORE(members, endpoint)                                                                                            \
        "{\"ca\":\"x\",\"ca_key\":\"x\",\"certificate\":\"x\",\"members\":\"" members "\",\"endpoints\":[\"" endpoint "\"]" \
        "}"
#define CONTROLLER(more)                                                                                                    \
        "{\"name\":\"c2\",\"role\":\"controller\",\"epoch\":3,\"certificate\":\"x\",\"controllers\":[\"https://"            \
        "c1:8443\"]," more "}"

static const struct {
        const char *text;
        bool good;
} answers[] = {
        { ANSWER("engine", "\"https://c1:8443\""), true },
        { ANSWER("engine", "\"https://c1:8443\",\"https://c2:8443\""), true },
        { ANSWER("controller", "\"https://c1:8443\""), false },
        { CONTROLLER("\"ca_key\":\"x\",\"store\":" STORE("c1=https://c1:2380", "https://c1:2379")), true },
        { CONTROLLER("\"store\":" STORE("c1=https://c1:2380", "https://c1:2379")), false },
        { CONTROLLER("\"ca_key\":\"x\",\"store\":[]"), false },
        { CONTROLLER("\"ca_key\":\"x\",\"store\":" STORE("", "https://c1:2379")), false },
        { CONTROLLER("\"ca_key\":\"x\",\"store\":" STORE("c1=https://c1:2380\\nETCD_DATA_DIR=/etc", "https://c1:2379")),
          false },
        { CONTROLLER("\"ca_key\":\"x\",\"store\":" STORE("c1=https://c1:2380", "c1:2379")), false },
        { ANSWER("operator", "\"https://c1:8443\""), false },
        { ANSWER("standalone", "\"https://c1:8443\""), false },
        { ANSWER("engine", ""), false },
        { ANSWER("engine", NINE), false },
        { ANSWER("engine", "1"), false },
        { ANSWER("engine", "\"https://c1\""), false }, /* not the form that is kept */
        { ANSWER("engine", "\"https://c1:1\\nhttps://x:1\""), false },
        { "{}", false },
        { "{\"name\":\"E1\",\"role\":\"engine\",\"epoch\":3,\"certificate\":\"x\",\"controllers\":[\"https://a:1\"]}",
          false },
        { "{\"name\":\"e1\",\"role\":\"engine\",\"epoch\":-3,\"certificate\":\"x\",\"controllers\":[\"https://a:1\"]}",
          false },
        { "{\"name\":\"e1\",\"role\":\"engine\",\"epoch\":3,\"certificate\":null,\"controllers\":[\"https://a:1\"]}",
          false },
};

START_TEST(an_answer_is_checked)
{
        _cleanup_json_ json_t *o = json_loads(answers[_i].text, 0, NULL);
        _cleanup_error_ struct error e = {};
        struct join_answer a;

        ck_assert_ptr_nonnull(o);
        ck_assert_int_eq(join_answer_from_json(o, &a, &e) >= 0, answers[_i].good);
        ck_assert(answers[_i].good || e.message);
}
END_TEST

/* A controller says more; an engine may not. */
START_TEST(a_controller_says_where_it_is)
{
        static const char *const addresses[] = { "192.0.2.1", "c2", "2001:db8::1", NULL };
        const struct controller_setup controller = { .addresses = addresses, .port = 1, .store_csr = csr };
        _cleanup_free_ char *of_engine = join_request_format(token, "e1", csr, &controller), *text;
        _cleanup_join_request_ struct join_request q = {};
        struct join_request none;

        ck_assert_int_eq(join_request_parse(of_engine, strlen(of_engine), &none, NULL), -EINVAL);
        text = join_request_format("bootmgr-controller-0a0a0a0a0a0a0a0a-1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b-"
                                   "2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c",
                                   "e1", csr, &controller);
        ck_assert_int_eq(join_request_parse(text, strlen(text), &q, NULL), 0);
        ck_assert_str_eq(q.url, "https://192.0.2.1:1");
        ck_assert_str_eq(q.store_csr, csr);
        ck_assert(streq(q.addresses[0], addresses[0]) && streq(q.addresses[2], addresses[2]) && !q.addresses[3]);
        for (size_t n = 0; n < 3; n++) {
                static const char *const bad[] = { "a b", "", "x,DNS:evil" };
                const char *const wrong_addresses[] = { bad[n], NULL };
                const struct controller_setup wrong_one = { .addresses = wrong_addresses, .port = 1, .store_csr = csr };
                _cleanup_free_ char *body = join_request_format(
                        "bootmgr-controller-0a0a0a0a0a0a0a0a-1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b-"
                        "2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c",
                        "e1", csr, &wrong_one);

                ck_assert_int_lt(join_request_parse(body, strlen(body), &none, NULL), 0);
        }
}
END_TEST

#define MEMBER "{\"ID\":\"7\",\"name\":\"c1\",\"peerURLs\":[\"https://c1:2380\"],\"clientURLs\":[\"https://c1:2379\"]}"

/* What etcd 3.4 has answered, and what it has not. */
START_TEST(members_of_etcd_are_checked)
{
        static const char *const bad[] = {
                "",
                "[]",
                "{}",
                "{\"members\":[]}",
                "{\"members\":[1]}",
                "{\"members\":[{\"ID\":\"x\",\"peerURLs\":[\"https://c1:2380\"]}]}",
                "{\"members\":[{\"ID\":\"7\"}]}",
                "{\"members\":[{\"ID\":\"7\",\"peerURLs\":[\"http://c1:2380\"]}]}",
                "{\"members\":[{\"ID\":\"7\",\"peerURLs\":[\"https://c1:2380,c9=https://evil:1\"]}]}",
                "{\"members\":[{\"ID\":\"7\",\"name\":\"../x\",\"peerURLs\":[\"https://c1:2380\"]}]}",
        };
        static const char good[] = "{\"header\":{\"cluster_id\":\"1\"},\"members\":[" MEMBER
                                   ",{\"ID\":\"18446744073709551615\","
                                   "\"peerURLs\":[\"https://c2:2380\"],\"isLearner\":true}]}";
        struct etcd_members m;

        ck_assert_int_eq(etcd_members_parse(good, strlen(good), &m, NULL), 0);
        ck_assert(m.n == 2 && m.list[0].id == 7 && !m.list[0].learner && m.list[1].id == UINT64_MAX && m.list[1].learner);
        ck_assert(streq(m.list[0].name, "c1") && streq(m.list[0].client, "https://c1:2379") && !*m.list[1].name);
        ck_assert_ptr_eq(etcd_members_find(&m, "https://c2:2380"), &m.list[1]);
        ck_assert_ptr_null(etcd_members_find(&m, "https://c3:2380"));
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                ck_assert_int_eq(etcd_members_parse(bad[i], strlen(bad[i]), &m, NULL), -EBADMSG);
}
END_TEST

/* What bootmgrd hands over is its own; the body is not. */
START_TEST(a_renewal_is_asked_for_by_its_node)
{
        static const char *const bodies[] = { "", "[]", "{}", "{\"csr\":1}", "{\"csr\":\"x\"}", "{\"csr\":\"\",\"x\":1}" };
        _cleanup_json_ json_t *body = json_pack("{s:s}", "csr", csr);
        _cleanup_free_ char *text = json_dumps(body, 0);
        _cleanup_renew_request_ struct renew_request q = {};

        for (size_t i = 0; i <= ARRAY_SIZE(bodies) + 1; i++) {
                bool good = i == ARRAY_SIZE(bodies);
                _cleanup_json_ json_t *o = json_pack("{s:s, s:s, s:s, s:s}", "name", i <= ARRAY_SIZE(bodies) ? "e1" : "e2",
                                                     "role", "engine", "key", strrchr(token, '-') + 1, "body",
                                                     i < ARRAY_SIZE(bodies) ? bodies[i] : text);
                _cleanup_free_ char *request = NULL;
                _cleanup_error_ struct error e = {};

                request = json_dumps(o, 0);
                ck_assert_int_eq(renew_request_parse(request, strlen(request), &q, &e) >= 0, good);
                ck_assert(good || (e.message && e.kind != &kind_failed));
                ck_assert(!good || (streq(q.name, "e1") && streq(q.csr, csr) && q.key[31] == 0x2c));
        }
}
END_TEST

static void verify_own(const char *ca_name, const char *name, uint64_t now, int expected)
{
        _cleanup_close_ int home = cluster_home("data", false, NULL);
        _cleanup_free_ char *ca = NULL, *certificate = NULL;
        struct certificate c;

        ck_assert_int_eq(cluster_get(home, ca_name, &ca, NULL), 0);
        ck_assert_int_eq(cluster_get(home, name, &certificate, NULL), 0);
        ck_assert_int_eq(certificate_verify(ca, certificate, now, &c, NULL), expected);
}

/* It was switched off for as long as that. Nobody else could: it has the key of the CA. */
START_TEST(a_controller_renews_what_has_expired)
{
        static const char *const addresses[] = { "192.0.2.1", NULL };
        const struct cluster_setup first = { .cluster = "acme", .name = "c1", .addresses = addresses, .port = 8443 };
        const uint64_t made = UINT64_C(1700000000) * USEC_PER_SEC, now = made + CERTIFICATE_LIFE + USEC_PER_DAY;
        _cleanup_pem_ char *other = NULL;
        _cleanup_close_ int home = -1;
        uint64_t expires;
        bool renewed;

        scratch_begin();
        ck_assert_int_eq(cluster_init("data", &first, made, NULL), 0);
        verify_own("ca.pem", "node.pem", now, -EKEYEXPIRED);
        /* A clock that is wrong is no reason to. */
        ck_assert_int_eq(node_renew("data", true, made - 2 * USEC_PER_DAY, &expires, &renewed, NULL), -EKEYEXPIRED);
        ck_assert_int_eq(node_renew("data", false, now, &expires, &renewed, NULL), 0);
        ck_assert(renewed && expires == now + CERTIFICATE_LIFE);
        verify_own("ca.pem", "node.pem", now, 0);
        verify_own("store-ca.pem", "store.pem", now, 0);
        /* With a clock that was ahead, and is set right. */
        ck_assert_int_eq(node_renew("data", false, now + CERTIFICATE_LIFE, &expires, &renewed, NULL), 0);
        verify_own("ca.pem", "node.pem", now, -EKEYEXPIRED);
        ck_assert_int_eq(node_renew("data", false, now, &expires, &renewed, NULL), 0);
        ck_assert(renewed && expires == now + CERTIFICATE_LIFE);
        verify_own("ca.pem", "node.pem", now, 0);
        verify_own("store-ca.pem", "store.pem", now, 0);
        /* Only for its own key and name. */
        home = cluster_home("data", false, NULL);
        ck_assert_int_eq(cluster_put(home, "name", "c2", NULL), 0);
        ck_assert_int_eq(node_renew("data", true, now + 2 * CERTIFICATE_LIFE, &expires, &renewed, NULL), -EKEYEXPIRED);
        ck_assert_int_eq(cluster_put(home, "name", "c1", NULL), 0);
        ck_assert_int_eq(key_make(&other, NULL), 0);
        ck_assert_int_eq(cluster_put(home, "node.key", other, NULL), 0);
        ck_assert_int_eq(node_renew("data", true, now + 2 * CERTIFICATE_LIFE, &expires, &renewed, NULL), -EKEYEXPIRED);
        scratch_end();
}
END_TEST

int main(void)
{
        Suite *s = suite_create("join");
        TCase *t = tcase_create("join");

        tcase_add_checked_fixture(t, setup, teardown);
        tcase_add_loop_test(t, a_url_has_one_form, 0, ARRAY_SIZE(urls));
        tcase_add_test(t, a_url_has_a_bound);
        tcase_add_test(t, a_request_goes_round);
        tcase_add_loop_test(t, a_wrong_request_is_refused, 0, ARRAY_SIZE(wrong));
        tcase_add_test(t, what_is_too_large_is_refused);
        tcase_add_test(t, a_controller_says_where_it_is);
        tcase_add_test(t, members_of_etcd_are_checked);
        tcase_add_test(t, a_renewal_is_asked_for_by_its_node);
        tcase_add_test(t, a_controller_renews_what_has_expired);
        tcase_add_loop_test(t, an_answer_is_checked, 0, ARRAY_SIZE(answers));
        suite_add_tcase(s, t);
        return suite_run(s);
}
