/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The cluster's certificates and join tokens; openssl(1) is asked for a second opinion. */
#include "base/base64.h"
#include "base/clock.h"
#include "base/process.h"
#include "cluster/ca.h"
#include "cluster/token.h"
#include "slot/kinds.h"

#include "scratch.h"
#include "suite.h"
#undef fail

#define NOW                     (UINT64_C(1800000000) * USEC_PER_SEC)
#define PREFIX_AND_ROLE(engine) ((engine) ? "bootmgr-engine-" : "bootmgr-controller-")

static char *ca_key, *ca, *other_key, *other;

static void make_cas(void)
{
        scratch_begin();
        ck_assert_int_eq(ca_make("test", NOW, &ca_key, &ca, NULL), 0);
        ck_assert_int_eq(ca_make("test", NOW, &other_key, &other, NULL), 0);
}

static void drop_cas(void)
{
        ca_key = pem_free(ca_key);
        other_key = pem_free(other_key);
        ca = pem_free(ca);
        other = pem_free(other);
        scratch_end();
}

static char *issue(const char *name, enum node_role role, const char *const *addresses, uint64_t now)
{
        _cleanup_pem_ char *key = NULL;
        _cleanup_free_ char *csr = NULL;
        char *certificate = NULL, found[NODE_NAME_SIZE];

        ck_assert_int_eq(key_make(&key, NULL), 0);
        ck_assert_int_eq(csr_make(key, name, &csr, NULL), 0);
        ck_assert_int_eq(csr_check(csr, found, NULL), 0);
        ck_assert_str_eq(found, name);
        ck_assert_int_eq(ca_issue(ca_key, ca, csr, name, role, addresses, now, &certificate, NULL), 0);
        ck_assert(certificate_has_key(certificate, key));
        ck_assert(!certificate_has_key(ca, key));
        return certificate;
}

static void write_text(const char *name, const char *text)
{
        ck_assert_int_eq(file_replace(AT_FDCWD, name, text, strlen(text), 0600), 0);
}

/* What openssl(1) says; its exit status is 0 when `good`. */
static char *openssl(bool good, const char *const *argv)
{
        struct process_result result = {};

        ck_assert_int_eq(process_run(argv, NULL, 20 * USEC_PER_SEC, &result), 0);
        ck_assert_msg((result.exit_status == 0) == good, "%s", result.output);
        return result.output;
}

static const struct issued {
        enum node_role role;
        bool server, client;
        const char *has, *has_not;
} issued[] = {
        { ROLE_CONTROLLER, true, true, "IP Address:192.0.2.7", NULL },
        { ROLE_CONTROLLER, true, true, "DNS:c1.example.com", NULL },
        { ROLE_CONTROLLER, true, true, "DNS:localhost", NULL },
        { ROLE_CONTROLLER, true, true, "IP Address:127.0.0.1", NULL },
        { ROLE_CONTROLLER, true, true, "IP Address:2001:DB8:0:0:0:0:0:1", NULL },
        { ROLE_ENGINE, false, true, "DNS:n-1", "localhost" },
        { ROLE_ENGINE, false, true, "DNS:n-1", "192.0.2.7" },
        { ROLE_OPERATOR, false, true, "OU = operator, CN = n-1", "DNS:" },
};

START_TEST(what_is_issued_verifies)
{
        static const char *const addresses[] = { "192.0.2.7", "c1.example.com", "2001:db8::1", NULL };
        const struct issued *row = &issued[_i];
        _cleanup_free_ char *certificate = issue("n-1", row->role, addresses, NOW), *text = NULL, *checked = NULL;
        struct certificate c;

        ck_assert_int_eq(certificate_verify(ca, certificate, NOW, &c, NULL), 0);
        ck_assert_str_eq(c.name, "n-1");
        ck_assert_int_eq(c.role, row->role);
        ck_assert_uint_eq(c.not_after - NOW, CERTIFICATE_LIFE);
        ck_assert_uint_eq(NOW - c.not_before, USEC_PER_DAY);
        write_text("ca.pem", ca);
        write_text("n.pem", certificate);
        text = openssl(true, (const char *[]){ "openssl", "x509", "-in", "n.pem", "-noout", "-text", NULL });
        ck_assert_msg(strstr(text, row->has), "%s", text);
        ck_assert_msg(!row->has_not || !strstr(text, row->has_not), "%s", text);
        for (int server = 0; server < 2; server++) {
                free(checked);
                checked = openssl(server ? row->server : row->client,
                                  (const char *[]){ "openssl", "verify", "-x509_strict", "-attime", "1800000000", "-purpose",
                                                    server ? "sslserver" : "sslclient", "-CAfile", "ca.pem", "n.pem",
                                                    NULL });
        }
}
END_TEST

START_TEST(it_is_valid_in_its_time)
{
        static const struct {
                uint64_t at;
                int result;
                bool due;
        } rows[] = {
                { NOW - 2 * USEC_PER_DAY, -EKEYEXPIRED, false },
                { NOW, 0, false },
                { NOW + CERTIFICATE_LIFE / 2, 0, false },
                { NOW + CERTIFICATE_LIFE - 200 * USEC_PER_DAY, 0, true },
                { NOW + CERTIFICATE_LIFE - USEC_PER_DAY, 0, true },
                { NOW + CERTIFICATE_LIFE + USEC_PER_SEC, -EKEYEXPIRED, true },
        };
        _cleanup_free_ char *certificate = issue("a", ROLE_ENGINE, NULL, NOW);
        _cleanup_error_ struct error e = {};
        struct certificate c;

        ck_assert_int_eq(certificate_verify(ca, certificate, rows[_i].at, &c, &e), rows[_i].result);
        ck_assert(rows[_i].result == 0 || e.kind == &kind_certificate);
        ck_assert_int_eq(certificate_verify(ca, certificate, NOW, &c, NULL), 0);
        ck_assert_int_eq(certificate_is_due(&c, rows[_i].at), rows[_i].due);
}
END_TEST

START_TEST(no_longer_than_the_ca)
{
        uint64_t late = NOW + CA_LIFE - 10 * USEC_PER_DAY;
        _cleanup_free_ char *certificate = issue("a", ROLE_ENGINE, NULL, late);
        struct certificate c;

        ck_assert_int_eq(certificate_verify(ca, certificate, late, &c, NULL), 0);
        ck_assert_uint_eq(c.not_after, NOW + CA_LIFE);
}
END_TEST

START_TEST(others_are_refused)
{
        _cleanup_free_ char *certificate = issue("a", ROLE_ENGINE, NULL, NOW), *cut = strdup(certificate), *changed = NULL;
        struct certificate c;

        /* The same name of the CA, another key */
        ck_assert_int_eq(certificate_verify(other, certificate, NOW, &c, NULL), -EKEYREJECTED);
        ck_assert_int_eq(certificate_verify(ca, ca, NOW, &c, NULL), -EKEYREJECTED);
        ck_assert_int_eq(certificate_verify(ca, "", NOW, &c, NULL), -EBADMSG);
        ck_assert_int_eq(certificate_verify("", certificate, NOW, &c, NULL), -EBADMSG);
        cut[strlen(cut) / 2] = '\0';
        ck_assert_int_eq(certificate_verify(ca, cut, NOW, &c, NULL), -EBADMSG);
        /* One letter of the base64 in its middle, where subject or key lie */
        changed = strdup(certificate);
        changed[strlen(changed) / 2] = changed[strlen(changed) / 2] == 'A' ? 'B' : 'A';
        ck_assert_int_lt(certificate_verify(ca, changed, NOW, &c, NULL), 0);
        ck_assert_int_lt(ca_issue(other_key, ca, "", "a", ROLE_ENGINE, NULL, NOW, &changed, NULL), 0);
}
END_TEST

START_TEST(requests_are_checked)
{
        static const struct {
                const char *name;
                enum node_role role;
                const char *address;
                int result;
        } rows[] = {
                { "n", ROLE_ENGINE, NULL, 0 },
                { "n", ROLE_CONTROLLER, "10.0.0.1", 0 },
                { "", ROLE_ENGINE, NULL, -EINVAL },
                { "N", ROLE_ENGINE, NULL, -EINVAL },
                { "n,DNS:boss", ROLE_ENGINE, NULL, -EINVAL },
                { "n..m", ROLE_ENGINE, NULL, -EINVAL },
                { "-n", ROLE_ENGINE, NULL, -EINVAL },
                { "n\n", ROLE_ENGINE, NULL, -EINVAL },
                { "0123456789012345678901234567890123456789012345678901234567890123", ROLE_ENGINE, NULL, -EINVAL },
                { "012345678901234567890123456789012345678901234567890123456789012", ROLE_ENGINE, NULL, 0 },
                { "n", ROLE_STANDALONE, NULL, -EINVAL },
                { "n", ROLE_CONTROLLER, "10.0.0.1,IP:10.0.0.2", -EINVAL },
                { "n", ROLE_CONTROLLER, "", -EINVAL },
        };
        _cleanup_pem_ char *key = NULL;
        _cleanup_free_ char *csr = NULL, *certificate = NULL;
        const char *addresses[] = { rows[_i].address, NULL };

        ck_assert_int_eq(key_make(&key, NULL), 0);
        ck_assert_int_eq(csr_make(key, "whatever", &csr, NULL), 0);
        ck_assert_int_eq(ca_issue(ca_key, ca, csr, rows[_i].name, rows[_i].role, addresses, NOW, &certificate, NULL),
                         rows[_i].result);
}
END_TEST

/* A request made by others: with a key of another kind, or with names that it wants for itself. */
START_TEST(a_request_decides_nothing)
{
        static const char *const rsa[] = { "openssl", "req",  "-new", "-newkey", "rsa:2048", "-nodes", "-keyout",
                                           "k",       "-out", "csr",  "-subj",   "/CN=n",    NULL };
        static const char *const greedy[] = { "openssl",
                                              "req",
                                              "-new",
                                              "-newkey",
                                              "ec",
                                              "-pkeyopt",
                                              "ec_paramgen_curve:P-256",
                                              "-nodes",
                                              "-keyout",
                                              "k",
                                              "-out",
                                              "csr",
                                              "-subj",
                                              "/CN=boss/OU=controller",
                                              "-addext",
                                              "subjectAltName=DNS:boss.example.com",
                                              "-addext",
                                              "basicConstraints=CA:TRUE",
                                              NULL };
        _cleanup_free_ char *output = NULL, *csr = NULL, *certificate = NULL, *text = NULL;
        char name[NODE_NAME_SIZE];
        struct certificate c;

        output = openssl(true, rsa);
        ck_assert_int_eq(file_read(AT_FDCWD, "csr", PEM_MAX, &csr, NULL), 0);
        ck_assert_int_eq(csr_check(csr, name, NULL), -EBADMSG);
        free(output);
        free(csr);
        output = openssl(true, greedy);
        ck_assert_int_eq(file_read(AT_FDCWD, "csr", PEM_MAX, &csr, NULL), 0);
        ck_assert_int_eq(ca_issue(ca_key, ca, csr, "n", ROLE_ENGINE, NULL, NOW, &certificate, NULL), 0);
        ck_assert_int_eq(certificate_verify(ca, certificate, NOW, &c, NULL), 0);
        ck_assert_str_eq(c.name, "n");
        ck_assert_int_eq(c.role, ROLE_ENGINE);
        write_text("n.pem", certificate);
        text = openssl(true, (const char *[]){ "openssl", "x509", "-in", "n.pem", "-noout", "-text", NULL });
        ck_assert_msg(!strstr(text, "example.com") && !strstr(text, "CA:TRUE") && !strstr(text, "boss"), "%s", text);
}
END_TEST

START_TEST(serials_and_fingerprints_differ)
{
        _cleanup_free_ char *one = issue("a", ROLE_ENGINE, NULL, NOW), *two = issue("a", ROLE_ENGINE, NULL, NOW),
                            *text = NULL;
        uint8_t a[SHA256_SIZE], b[SHA256_SIZE];
        char hex[2 * SHA256_SIZE + 1], *digits;

        ck_assert_int_eq(certificate_fingerprint(one, a, NULL), 0);
        ck_assert_int_eq(certificate_fingerprint(two, b, NULL), 0);
        ck_assert_mem_ne(a, b, sizeof(a));
        write_text("n.pem", one);
        text = openssl(true,
                       (const char *[]){ "openssl", "x509", "-in", "n.pem", "-noout", "-fingerprint", "-sha256", NULL });
        digits = strchr(text, '=') + 1;
        hex_encode(a, sizeof(a), hex);
        for (char *h = hex; *h; h++, digits++) {
                digits += *digits == ':';
                ck_assert_int_eq(strncasecmp(h, digits, 1), 0);
        }
}
END_TEST

START_TEST(what_a_certificate_is_for_can_be_read_again)
{
        static const char *const addresses[] = { "192.0.2.7", "c1.example.com", "2001:db8::1", NULL };
        _cleanup_free_ char *certificate = issue("c1", ROLE_CONTROLLER, addresses, NOW), *csr = NULL, *of_engine,
                            *found = NULL;
        _cleanup_pem_ char *key = NULL;
        uint8_t of_csr[SHA256_SIZE], of_certificate[SHA256_SIZE], of_ca[SHA256_SIZE];
        char *again;

        ck_assert_int_eq(certificate_addresses(certificate, &found, NULL), 0);
        ck_assert_str_eq(found, "192.0.2.7\nc1.example.com\n2001:db8::1\n");
        of_engine = issue("e1", ROLE_ENGINE, NULL, NOW);
        free(TAKE_PTR(found));
        ck_assert_int_eq(certificate_addresses(of_engine, &found, NULL), 0);
        ck_assert_str_eq(found, "");
        ck_assert_int_eq(certificate_addresses("no certificate", &again, NULL), -EBADMSG);
        ck_assert_int_eq(key_make(&key, NULL), 0);
        ck_assert_int_eq(csr_make(key, "c1", &csr, NULL), 0);
        ck_assert_int_eq(ca_issue(ca_key, ca, csr, "c1", ROLE_CONTROLLER, NULL, NOW, &again, NULL), 0);
        ck_assert_int_eq(csr_key_digest(csr, of_csr, NULL), 0);
        ck_assert_int_eq(certificate_key_digest(again, of_certificate, NULL), 0);
        ck_assert_int_eq(certificate_key_digest(ca, of_ca, NULL), 0);
        ck_assert_mem_eq(of_csr, of_certificate, sizeof(of_csr));
        ck_assert(memcmp(of_csr, of_ca, sizeof(of_csr)) != 0);
        ck_assert_int_eq(csr_key_digest("no request", of_csr, NULL), -EBADMSG);
        free(again);
}
END_TEST

static void make_token(enum node_role role, struct token *t, struct token_record *record)
{
        uint8_t fingerprint[SHA256_SIZE];

        ck_assert_int_eq(certificate_fingerprint(ca, fingerprint, NULL), 0);
        ck_assert_int_eq(token_make(role, fingerprint, t), 0);
        ck_assert_int_eq(token_record_make(t, NOW, record), 0);
}

START_TEST(tokens_go_through_text)
{
        struct token t, again;
        struct token_record record, read;
        char text[TOKEN_TEXT_MAX];
        _cleanup_json_ json_t *j = NULL;
        _cleanup_free_ char *dump = NULL;

        make_token(_i ? ROLE_ENGINE : ROLE_CONTROLLER, &t, &record);
        token_format(&t, text);
        ck_assert_int_eq(token_parse(text, &again, NULL), 0);
        ck_assert_mem_eq(t.secret, again.secret, sizeof(t.secret));
        ck_assert_mem_eq(t.ca, again.ca, sizeof(t.ca));
        j = token_record_to_json(&record);
        dump = json_dumps(j, 0);
        ck_assert_int_eq(token_record_from_json(j, &read, NULL), 0);
        ck_assert_int_eq(token_check(&again, &read, NOW - 1, NULL), 0);
        ck_assert_str_eq(read.used_by, "");
        ck_assert_int_eq(token_check(&again, &read, NOW, NULL), -EKEYEXPIRED);
        text[strlen(PREFIX_AND_ROLE(_i)) + 17 + 32] = '\0'; /* what is kept must not hold the secret */
        ck_assert_ptr_null(strstr(dump, text + strlen(PREFIX_AND_ROLE(_i)) + 17));
}
END_TEST

START_TEST(other_tokens_are_refused)
{
        struct token t, changed;
        struct token_record record;
        _cleanup_error_ struct error e = {};

        make_token(ROLE_ENGINE, &t, &record);
        for (size_t i = 0; i < TOKEN_SECRET_SIZE * 8; i++) {
                changed = t;
                changed.secret[i / 8] ^= (uint8_t)(1 << i % 8);
                ck_assert_int_eq(token_check(&changed, &record, 0, NULL), -EKEYREJECTED);
        }
        changed = t;
        changed.role = ROLE_CONTROLLER;
        ck_assert_int_eq(token_check(&changed, &record, 0, NULL), -EKEYREJECTED);
        record.role = ROLE_CONTROLLER; /* who can write the store cannot raise a token either */
        ck_assert_int_eq(token_check(&changed, &record, 0, NULL), -EKEYREJECTED);
        ck_assert_int_eq(token_parse("bootmgr-engine-12", &t, &e), -EINVAL);
        ck_assert_ptr_eq(e.kind, &kind_token);
        ck_assert_int_lt(token_make(ROLE_OPERATOR, t.ca, &t), 0);
}
END_TEST

START_TEST(base64_there_and_back)
{
        static const struct {
                const char *data, *text;
        } good[] = { { "", "" },
                     { "f", "Zg==" },
                     { "fo", "Zm8=" },
                     { "foo", "Zm9v" },
                     { "foob", "Zm9vYg==" },
                     { "fooba", "Zm9vYmE=" },
                     { "foobar", "Zm9vYmFy" },
                     { "\xff\xfe\xfb", "//77" } };
        static const char *const bad[] = { "Z",    "Zg=",  "Zg",     "=",    "====",     "Zh==",   "Zm9=",
                                           "Zm 9", "Zm-_", "Zm9v\n", "Z===", "Zg==Zg==", "Zm9vYg=" };

        for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
                _cleanup_buf_ struct buf b = {};
                _cleanup_free_ char *data = NULL;
                size_t size;

                base64_append(&b, good[i].data, strlen(good[i].data));
                ck_assert_str_eq(b.data ?: "", good[i].text);
                ck_assert_uint_eq(b.size, BASE64_SIZE(strlen(good[i].data)));
                ck_assert_int_eq(base64_decode(good[i].text, strlen(good[i].text), &data, &size), 0);
                ck_assert_str_eq(data, good[i].data);
                ck_assert_uint_eq(size, strlen(good[i].data));
        }
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                char *data = NULL;
                size_t size;

                ck_assert_msg(base64_decode(bad[i], strlen(bad[i]), &data, &size) == -EINVAL, "%s", bad[i]);
                ck_assert_ptr_null(data);
        }
}
END_TEST

int main(void)
{
        Suite *s = suite_create("ca");
        TCase *t = tcase_create("ca");

        tcase_add_checked_fixture(t, make_cas, drop_cas);
        tcase_set_timeout(t, 60);
        tcase_add_loop_test(t, what_is_issued_verifies, 0, ARRAY_SIZE(issued));
        tcase_add_loop_test(t, it_is_valid_in_its_time, 0, 6);
        tcase_add_test(t, no_longer_than_the_ca);
        tcase_add_test(t, others_are_refused);
        tcase_add_loop_test(t, requests_are_checked, 0, 13);
        tcase_add_test(t, a_request_decides_nothing);
        tcase_add_test(t, serials_and_fingerprints_differ);
        tcase_add_test(t, what_a_certificate_is_for_can_be_read_again);
        tcase_add_loop_test(t, tokens_go_through_text, 0, 2);
        tcase_add_test(t, other_tokens_are_refused);
        tcase_add_test(t, base64_there_and_back);
        suite_add_tcase(s, t);
        return suite_run(s);
}
