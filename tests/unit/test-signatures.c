/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who signed a bundle, and whether that is enough; making and adding signatures. */
#include "bundles.h"

static const char *const key_types[] = { "ED25519", "P-256", "P-384", "RSA-2048", "RSA-3072" };
static const unsigned algorithms[] = { 1, 2, 2, 3, 3 };

static void begin(void)
{
        bundles_begin();
        for (size_t i = 0; i < ARRAY_SIZE(key_types); i++) {
                make_key(key_types[i], key_types[i]);
                sh("mkdir trust-%s; cp %s.pem trust-%s/; mkdir -p all; cp %s.pem all/", key_types[i], key_types[i],
                   key_types[i], key_types[i]);
        }
        sh("cp good.pem all/");
}

/* The block of signatures of a bundle. */
static void get_block(const char *bundle, struct buf *ret, char **ret_manifest)
{
        _cleanup_free_ char *data = NULL;
        struct parts p;
        size_t size;

        data = get(bundle, &size);
        p = parts_of(data);
        buf_append(ret, data + p.signatures, p.h.signatures);
        *ret_manifest = strndup(data + p.manifest, p.h.manifest);
}

/* As somebody else would check it who has only docs/formats.md and OpenSSL. */
START_TEST(each_algorithm)
{
        const char *type = key_types[_i];
        _cleanup_free_ char *name = xasprintf("%s.bundle", type), *trust = xasprintf("trust-%s", type),
                            *pem = xasprintf("%s.pem", type);
        _cleanup_free_ char *manifest = NULL;
        _cleanup_buf_ struct buf block = {};
        EVP_MD_CTX *ctx = EVP_MD_CTX_new();
        unsigned char *der = NULL;
        uint8_t id[DIGEST_SIZE];
        EVP_PKEY *key;
        FILE *f;
        int n;

        make_bundle(name, (const char *const[]){ type, NULL });
        ck_ok(verify_with(name, trust, 1, e));
        ck_refused(verify_with(name, "trust", 1, e), kind_bundle_untrusted);
        get_block(name, &block, &manifest);
        f = fopen(in_dir(pem), "r");
        key = PEM_read_PUBKEY(f, NULL, NULL, NULL);
        fclose(f);
        n = i2d_PUBKEY(key, &der);
        ck_assert_int_gt(n, 0);
        ck_assert_int_eq(sha256_data(der, (size_t)n, id), 0);
        ck_assert_mem_eq(block.data, id, DIGEST_SIZE);
        ck_assert_uint_eq(get_le16(block.data + 32), algorithms[_i]);
        ck_assert_uint_eq(get_le16(block.data + 34) + 36 + 4, block.size);
        ck_assert_int_eq(EVP_DigestVerifyInit(ctx, NULL, algorithms[_i] == 1 ? NULL : EVP_sha256(), NULL, key), 1);
        ck_assert_int_eq(EVP_DigestVerify(ctx, (uint8_t *)block.data + 36, get_le16(block.data + 34), (uint8_t *)manifest,
                                          strlen(manifest)),
                         1);
        OPENSSL_free(der);
        EVP_PKEY_free(key);
        EVP_MD_CTX_free(ctx);
        remove(in_dir(name));
}
END_TEST

/* A changed byte of a signature under a right checksum, and another algorithm than the key's. */
START_TEST(each_byte_of_a_signature_counts)
{
        const char *type = key_types[_i];
        _cleanup_free_ char *manifest = NULL;
        _cleanup_buf_ struct buf block = {};

        make_bundle("signed", (const char *const[]){ type, NULL });
        get_block("signed", &block, &manifest);
        for (size_t i = 0; i < block.size - 4; i++) {
                _cleanup_error_ struct error e = {};
                _cleanup_buf_ struct buf changed = {};

                buf_append(&changed, block.data, block.size - 4);
                changed.data[i] ^= 0x10;
                seal_signatures(&changed);
                put_together("forged", manifest, &changed, NULL, 0, NULL, 0);
                ck_assert_msg(verify_with("forged", "all", 1, &e) < 0, "byte %zu", i);
                /* Its length is one of the bytes. */
                ck_assert(e.kind == &kind_bundle_untrusted || (e.kind == &kind_bundle_invalid && i / 2 == S_LENGTH / 2));
        }
        for (uint16_t a = 0; a < 5; a++) {
                _cleanup_buf_ struct buf changed = {};

                if (a == algorithms[_i])
                        continue;
                buf_append(&changed, block.data, block.size - 4);
                put_le16(changed.data + S_ALGORITHM, a);
                seal_signatures(&changed);
                put_together("forged", manifest, &changed, NULL, 0, NULL, 0);
                ck_refused(verify_with("forged", "all", 1, e), kind_bundle_untrusted);
        }
        remove(in_dir("signed"));
}
END_TEST

START_TEST(thresholds)
{
        const char *keys[ARRAY_SIZE(key_types) + 1] = {};

        for (unsigned n = 1; n <= ARRAY_SIZE(key_types); n++) {
                keys[n - 1] = key_types[n - 1];
                make_bundle("many", keys);
                for (unsigned threshold = 1; threshold <= ARRAY_SIZE(key_types) + 1; threshold++) {
                        if (threshold <= n)
                                ck_ok(verify_with("many", "all", threshold, e));
                        else
                                ck_refused_saying(verify_with("many", "all", threshold, e), kind_bundle_untrusted,
                                                  "valid signatures");
                }
                ck_ok(verify_with("many", "all", 0, e)); /* counts as 1 */
                ck_refused(verify_with("bundle", "all", 2, e), kind_bundle_untrusted);
                remove(in_dir("many"));
        }
}
END_TEST

/* The same record twice, and two signatures by one key (ECDSA: each is another). */
START_TEST(a_key_counts_once)
{
        _cleanup_free_ char *manifest = NULL;
        _cleanup_buf_ struct buf block = {}, twice = {}, again = {};
        const char *const key[] = { in_dir("P-256.key"), in_dir("P-256.key") };

        make_bundle("once", (const char *const[]){ "P-256", NULL });
        get_block("once", &block, &manifest);
        buf_append(&twice, block.data, block.size - 4);
        buf_append(&twice, block.data, block.size - 4);
        seal_signatures(&twice);
        put_together("twice", manifest, &twice, NULL, 0, NULL, 0);
        ck_refused_saying(verify_with("twice", "all", 2, e), kind_bundle_untrusted, "1 valid signatures of the 2");
        ck_ok(signatures_make(manifest, strlen(manifest), key, 1, NULL, 0, &again, e));
        buf_done(&twice);
        buf_append(&twice, block.data, block.size - 4);
        buf_append(&twice, again.data, again.size - 4);
        seal_signatures(&twice);
        put_together("twice", manifest, &twice, NULL, 0, NULL, 0);
        ck_refused(verify_with("twice", "all", 2, e), kind_bundle_untrusted);
        /* Who signs with it twice in one go signs once. */
        buf_done(&again);
        ck_ok(signatures_make(manifest, strlen(manifest), key, 2, NULL, 0, &again, e));
        ck_assert_uint_lt(again.size, 2 * SIGNATURE_HEADER + 4 + 2 * 64);
        remove(in_dir("once"));
}
END_TEST

START_TEST(unknown_signatures_refuse)
{
        make_bundle("both", (const char *const[]){ "good", "stranger", NULL });
        ck_refused_saying(verify_with("both", "trust", 1, e), kind_bundle_untrusted, "which is not in");
        sh("mkdir two; cp good.pem stranger.pem two/");
        ck_ok(verify_with("both", "two", 2, e));
        ck_refused(verify_with("bundle", "empty", 1, e), kind_bundle_untrusted);
        ck_refused(verify_with("bundle", "no-such-directory", 1, e), kind_bundle_untrusted);
        /* Only *.pem is looked at. */
        sh("mkdir other; cp good.pem other/good.pub; cp good.pem other/.hidden.pem; cp good.pem other/.pem");
        ck_refused(verify_with("bundle", "other", 1, e), kind_bundle_untrusted);
}
END_TEST

START_TEST(blocks_that_are_none)
{
        _cleanup_free_ char *manifest = NULL;
        _cleanup_buf_ struct buf block = {}, empty = {}, cut = {}, many = {};

        get_block("bundle", &block, &manifest);
        put_together("none", manifest, &empty, NULL, 0, NULL, 0);
        ck_refused(verify_with("none", "trust", 1, e), kind_bundle_invalid);
        ck_refused(verify_with("none", NULL, 1, e), kind_bundle_invalid);
        seal_signatures(&empty);
        put_together("none", manifest, &empty, NULL, 0, NULL, 0);
        ck_refused_saying(verify_with("none", "trust", 1, e), kind_bundle_untrusted, "0 valid signatures of the 1");
        ck_refused(verify_with("none", "trust", 0, e), kind_bundle_untrusted);
        for (size_t n = 1; n < block.size - 4; n++) {
                buf_done(&cut);
                buf_append(&cut, block.data, n);
                seal_signatures(&cut);
                put_together("none", manifest, &cut, NULL, 0, NULL, 0);
                ck_refused_saying(verify_with("none", "trust", 1, e), kind_bundle_invalid, "signatures");
        }
        for (size_t i = 0; i <= BUNDLE_MAX_SIGNATURES; i++)
                buf_append(&many, block.data, block.size - 4);
        seal_signatures(&many);
        put_together("none", manifest, &many, NULL, 0, NULL, 0);
        ck_refused_saying(verify_with("none", "trust", 1, e), kind_bundle_invalid, "16 signatures");
        ck_refused_saying(verify_with("none", NULL, 1, e), kind_bundle_invalid, "16 signatures");
}
END_TEST

/* A damaged file among the trusted keys must not look like a key that was never trusted. */
START_TEST(what_is_in_the_trust_directory_is_a_key)
{
        static const char *const bad[] = {
                ": >bad/a.pem",           "echo nonsense >bad/a.pem",  "head -c 60 stranger.pem >bad/a.pem",
                "cp good.key bad/a.pem",  "mkdir bad/a.pem",           "head -c 70000 /dev/zero >bad/a.pem",
                "cp P-224.pem bad/a.pem", "cp RSA-1024.pem bad/a.pem", "cp X25519.pem bad/a.pem",
        };
        _cleanup_bundle_ struct bundle *b = NULL;
        _cleanup_error_ struct error e = {};

        make_key("P-224", "P-224");
        make_key("RSA-1024", "RSA-1024");
        make_key("X25519", "X25519");
        sh("rm -rf bad; mkdir bad; %s", bad[_i]);
        ck_assert_int_lt(open_with("bundle", "bad", 1, &b, &e), 0);
        ck_assert_ptr_nonnull(e.message);
        ck_assert_msg(!strstr(e.message, "which is not in"), "%s", e.message);
}
END_TEST
#define BAD_TRUST 9

static int sign_with(const char *bundle, const char *key, struct error *e)
{
        const char *const keys[] = { in_dir(key) };

        return bundle_sign(in_dir(bundle), keys, 1, e);
}

START_TEST(signing_adds_and_replaces)
{
        _cleanup_free_ char *before = NULL, *after = NULL, *again = NULL;
        size_t size, new_size, again_size;
        struct parts p, q;

        sh("cp bundle more");
        before = get("bundle", &size);
        ck_ok(sign_with("more", "P-256.key", e));
        ck_ok(verify_with("more", "all", 2, e));
        after = get("more", &new_size);
        p = parts_of(before);
        q = parts_of(after);
        ck_assert_uint_eq(q.h.total, new_size);
        ck_assert_uint_eq(p.h.manifest, q.h.manifest);
        ck_assert_mem_eq(before + p.manifest, after + q.manifest, p.h.manifest);
        ck_assert_uint_eq(size - p.index, new_size - q.index);
        ck_assert_mem_eq(before + p.index, after + q.index, size - p.index);
        /* Ed25519 signs the same bytes the same way: signed again, it is the same file. */
        ck_ok(sign_with("more", "good.key", e));
        ck_ok(sign_with("more", "P-256.key", e));
        ck_ok(verify_with("more", "all", 2, e));
        ck_refused(verify_with("more", "all", 3, e), kind_bundle_untrusted);
        sh("cp bundle same");
        ck_ok(sign_with("same", "good.key", e));
        again = get("same", &again_size);
        ck_assert_uint_eq(size, again_size);
        ck_assert_mem_eq(before, again, size);
        ck_assert_int_lt(access(in_dir("more.part"), F_OK), 0);
}
END_TEST

START_TEST(signing_stops_at_16)
{
        char name[32];

        sh("cp bundle full; rm -rf many; mkdir many; cp good.pem many/");
        for (int i = 1; i < BUNDLE_MAX_SIGNATURES; i++) {
                snprintf(name, sizeof(name), "signer%d", i);
                make_key(name, "ED25519");
                sh("cp %s.pem many/", name);
                strcat(name, ".key");
                ck_ok(sign_with("full", name, e));
        }
        ck_ok(verify_with("full", "many", BUNDLE_MAX_SIGNATURES, e));
        sh("cp full full.before");
        ck_refused(sign_with("full", "stranger.key", e), kind_usage);
        ck_ok(sign_with("full", "good.key", e)); /* one that is there already */
        ck_ok(verify_with("full", "many", BUNDLE_MAX_SIGNATURES, e));
        sh("test ! -e full.part; cmp -s -n 16 full full.before");
}
END_TEST

START_TEST(what_cannot_be_signed_stays)
{
        _cleanup_free_ char *data = NULL;
        struct parts p;
        size_t size;

        data = get("bundle", &size);
        p = parts_of(data);
        for (size_t n = 0; n < size; n += n < p.chunks ? 7 : 97) {
                put("cut", data, n);
                {
                        _cleanup_error_ struct error e = {};

                        ck_assert_msg(sign_with("cut", "P-256.key", &e) < 0, "signed when cut at %zu", n);
                        ck_assert_ptr_nonnull(e.message);
                }
                sh("test $(stat -c %%s cut) = %zu; test ! -e cut.part", n);
        }
        put("cut", data, size);
        data[p.signatures] ^= 1;
        put("damaged", data, size);
        ck_refused(sign_with("damaged", "P-256.key", e), kind_bundle_invalid);
        ck_refused(sign_with("cut", "good.pem", e), kind_bundle_untrusted); /* no private key */
        ck_refused(sign_with("cut", "no-such.key", e), kind_failed);
        sh("openssl pkey -in good.key -aes256 -passout pass:secret -out locked.key");
        ck_refused(sign_with("cut", "locked.key", e), kind_bundle_untrusted); /* and nobody was asked for a word */
        sh("cmp cut bundle");
}
END_TEST

START_TEST(keys_are_made_once)
{
        ck_ok(bundle_keygen(in_dir("fresh"), e));
        sh("test $(stat -c %%a fresh.key) = 600");
        ck_refused(bundle_keygen(in_dir("fresh"), e), kind_usage);
        sh("rm fresh.key; cp fresh.pem kept");
        ck_refused(bundle_keygen(in_dir("fresh"), e), kind_usage);
        sh("test ! -e fresh.key; cmp kept fresh.pem");
}
END_TEST

int main(void)
{
        Suite *s = suite_create("signatures");
        TCase *t = tcase_create("signatures");

        tcase_add_unchecked_fixture(t, begin, machine_end);
        tcase_set_timeout(t, 120);
        tcase_add_loop_test(t, each_algorithm, 0, ARRAY_SIZE(key_types));
        tcase_add_loop_test(t, each_byte_of_a_signature_counts, 0, ARRAY_SIZE(key_types));
        tcase_add_test(t, thresholds);
        tcase_add_test(t, a_key_counts_once);
        tcase_add_test(t, unknown_signatures_refuse);
        tcase_add_test(t, blocks_that_are_none);
        tcase_add_loop_test(t, what_is_in_the_trust_directory_is_a_key, 0, BAD_TRUST);
        tcase_add_test(t, signing_adds_and_replaces);
        tcase_add_test(t, signing_stops_at_16);
        tcase_add_test(t, what_cannot_be_signed_stays);
        tcase_add_test(t, keys_are_made_once);
        suite_add_tcase(s, t);
        return suite_run(s);
}
