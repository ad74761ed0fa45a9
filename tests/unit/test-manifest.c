/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The manifest of a bundle: what is taken, and that nothing else is. */
#include "base/json.h"
#include "base/sha256.h"
#include "image/format.h"
#include "slot/kinds.h"

/* Check has a macro of this name. */
#include <check.h>
#include "suite.h"
#undef fail

#define HEX32 "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static const char good[] = "{\"format\": 1, \"compatible\": \"box\", \"version\": \"2.0~rc1\", \"security_version\": 7,"
                           " \"min_bootmgr\": \"0.1\", \"build_id\": \"b77\", \"images\": ["
                           "{\"name\": \"kernel\", \"size\": 5000, \"chunk_size\": 4096, \"index_digest\": \"" HEX32
                           "\", \"sha256\": \"" HEX32 "\"},"
                           "{\"name\": \"root\", \"size\": 4294967297, \"chunk_size\": 262144, \"index_digest\": \"" HEX32
                           "\"}]}";

static int parse(const char *text, struct manifest *ret, struct error *e)
{
        return manifest_parse(text, strlen(text), ret, e);
}

/* Refused, with a message that holds `word`; what was there is untouched. */
static void ck_text_refused(const char *text, const struct error_kind *kind, const char *word)
{
        _cleanup_error_ struct error e = {};
        struct manifest m = { .security_version = 4711 };
        int r = parse(text, &m, &e);

        ck_assert_msg(r < 0, "taken: %s", text);
        ck_assert_msg(e.kind == kind, "kind %s: %s: %s", e.kind ? e.kind->name : "none", e.message, text);
        ck_assert_ptr_nonnull(e.message);
        ck_assert_msg(!word || strstr(e.message, word), "'%s' is not in '%s' for %s", word, e.message, text);
        ck_assert_uint_eq(m.security_version, 4711);
        ck_assert_int_lt(parse(text, &m, NULL), 0); /* nobody listens */
}

static void ck_json_refused(json_t *j, const char *word)
{
        char *text = json_dumps(j, JSON_ENCODE_ANY);

        ck_assert_ptr_nonnull(text);
        ck_text_refused(text, &kind_bundle_invalid, word);
        free(text);
        json_decref(j);
}

static json_t *fresh(void)
{
        json_t *j = json_loads(good, 0, NULL);

        ck_assert_ptr_nonnull(j);
        return j;
}

static json_t *image_of(json_t *j, size_t i)
{
        return json_array_get(json_object_get(j, "images"), i);
}

START_TEST(a_good_one_is_read)
{
        struct manifest m = {};
        uint8_t digest[DIGEST_SIZE];

        ck_assert_int_eq(parse(good, &m, NULL), 0);
        ck_assert_uint_eq(m.format, 1);
        ck_assert_str_eq(m.compatible, "box");
        ck_assert_str_eq(m.version, "2.0~rc1");
        ck_assert_uint_eq(m.security_version, 7);
        ck_assert_str_eq(m.min_bootmgr, "0.1");
        ck_assert_str_eq(m.build_id, "b77");
        ck_assert_uint_eq(m.n_images, 2);
        ck_assert_uint_eq(m.images[0].n_chunks, 2);
        ck_assert_uint_eq(m.images[1].size, UINT64_C(4294967297));
        ck_assert_uint_eq(m.images[1].n_chunks, 16385);
        ck_assert_uint_eq(m.images[0].digest[1], 0x11);
        ck_assert(is_all_zero(m.images[1].digest, DIGEST_SIZE));
        ck_assert_ptr_eq(manifest_image(&m, "root"), &m.images[1]);
        ck_assert_ptr_null(manifest_image(&m, "initrd"));
        /* Its identity is that of its bytes, not of what they mean. */
        ck_assert_int_eq(sha256_data(good, strlen(good), digest), 0);
        ck_assert_mem_eq(m.digest, digest, DIGEST_SIZE);
}
END_TEST

START_TEST(what_is_written_is_read)
{
        struct manifest a = {}, b = {};
        char *text;

        ck_assert_int_eq(parse(good, &a, NULL), 0);
        text = manifest_format(&a);
        ck_assert_ptr_nonnull(text);
        ck_assert_int_eq(parse(text, &b, NULL), 0);
        memcpy(b.digest, a.digest, DIGEST_SIZE); /* other white space */
        ck_assert_mem_eq(&a, &b, sizeof(a));
        free(text);
}
END_TEST

static const char *const members[] = { "format",      "compatible", "version", "security_version",
                                       "min_bootmgr", "build_id",   "images" };
static const char *const image_members[] = { "name", "size", "chunk_size", "index_digest", "sha256" };

static json_t *wrong_value(size_t i)
{
        switch (i) {
        case 0:
                return json_null();
        case 1:
                return json_true();
        case 2:
                return json_real(1.0);
        case 3:
                return json_object();
        default:
                return NULL;
        }
}

/* Every member: missing, of every type that none of them has, and of the type of the others. */
START_TEST(members_must_be_there_and_of_their_type)
{
        const char *name = members[_i];
        json_t *j = fresh(), *value;
        bool text = json_is_string(json_object_get(j, name));

        json_object_del(j, name);
        ck_json_refused(j, name);
        for (size_t i = 0; (value = wrong_value(i)); i++) {
                j = fresh();
                json_object_set_new(j, name, value);
                ck_json_refused(j, name);
        }
        j = fresh();
        json_object_set_new(j, name, text ? json_integer(1) : json_string("1"));
        ck_json_refused(j, name);
}
END_TEST

START_TEST(members_of_an_image_too)
{
        const char *name = image_members[_i];
        json_t *j = fresh(), *value;
        bool text = json_is_string(json_object_get(image_of(j, 0), name));

        json_object_del(image_of(j, 0), name);
        ck_json_refused(j, name);
        for (size_t i = 0; (value = wrong_value(i)); i++) {
                j = fresh();
                json_object_set_new(image_of(j, 0), name, value);
                ck_json_refused(j, name);
        }
        j = fresh();
        json_object_set_new(image_of(j, 0), name, text ? json_integer(1) : json_string("1"));
        ck_json_refused(j, name);
}
END_TEST

/* A parser that takes the last of two and one that takes the first would see two manifests. */
START_TEST(nothing_is_there_twice)
{
        static const char *const texts[] = {
                "{\"format\": 1, \"format\": 1, \"compatible\": \"\"}",
                "{\"format\": 1, \"form\\u0061t\": 1}",
                "{\"images\": [{\"name\": \"root\", \"name\": \"root\"}]}",
        };
        json_t *j;

        for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
                ck_text_refused(texts[i], &kind_bundle_invalid, "uplicate");
        j = fresh();
        json_array_append(json_object_get(j, "images"), image_of(j, 1));
        ck_json_refused(j, "twice");
}
END_TEST

START_TEST(nothing_unknown_is_there)
{
        json_t *j = fresh();

        json_object_set_new(j, "formats", json_integer(1));
        ck_json_refused(j, "formats");
        j = fresh();
        json_object_set_new(image_of(j, 1), "mode", json_string("0644"));
        ck_json_refused(j, "mode");
}
END_TEST

START_TEST(only_json_is_json)
{
        static const char *const texts[] = {
                "",
                " ",
                "null",
                "1",
                "\"x\"",
                "[]",
                "{",
                "{}",
                "{}{}",
                "{\"format\": 1,}",
                "\xff\xfe",
                "{'format': 1}",
                "{\"format\": 01}",
                "{\"format\": NaN}",
                "{\"compatible\": \"\xc3\"}",
                "{\"compatible\": \"a\\u0000b\"}",
                "{\"compatible\": \"\\ud800\"}",
        };
        char *text;

        for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
                ck_text_refused(texts[i], &kind_bundle_invalid, NULL);
        text = malloc(sizeof(good) + 1);
        sprintf(text, "%sx", good);
        ck_text_refused(text, &kind_bundle_invalid, "JSON");
        /* Cut anywhere. */
        for (size_t n = strlen(good); n-- > 0;) {
                memcpy(text, good, n);
                text[n] = '\0';
                ck_text_refused(text, &kind_bundle_invalid, NULL);
        }
        free(text);
        text = calloc(1, BUNDLE_MAX_MANIFEST);
        memset(text, '[', BUNDLE_MAX_MANIFEST - 1);
        ck_text_refused(text, &kind_bundle_invalid, "deep");
        free(text);
}
END_TEST

START_TEST(a_nul_is_not_the_end)
{
        struct manifest m;
        char text[sizeof(good) + 8] = {};

        memcpy(text, good, sizeof(good));
        memcpy(text + sizeof(good), "{}", 2);
        ck_assert_int_lt(manifest_parse(text, sizeof(good) + 2, &m, NULL), 0);
        ck_assert_int_lt(manifest_parse(text, sizeof(good), &m, NULL), 0);
        ck_assert_int_eq(manifest_parse(text, sizeof(good) - 1, &m, NULL), 0);
}
END_TEST

START_TEST(other_formats_are_another_refusal)
{
        static const char *const texts[] = { "{\"format\": 4}", "{\"format\": 0}", "{\"format\": 9223372036854775807}" };

        for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
                ck_text_refused(texts[i], &kind_bundle_incompatible, "format");
        ck_text_refused("{\"format\": -1}", &kind_bundle_invalid, "format");
        ck_text_refused("{\"format\": 9223372036854775808}", &kind_bundle_invalid, "big");
        ck_text_refused("{\"format\": 1e0}", &kind_bundle_invalid, "format");
}
END_TEST

START_TEST(what_etcd_is_in_it_may_be_said)
{
        static const char *const bad[] = { "", "3", "3.", ".4", "3.4.1", "3.4 ", "v3.4", "3,4", "1234567.12345678" };
        _cleanup_free_ char *text = NULL;
        struct manifest m = {}, again = {};
        json_t *j = fresh();

        ck_assert_int_eq(json_object_set_new(j, "etcd", json_string("3.4")), 0);
        text = json_dumps(j, 0);
        json_decref(j);
        ck_assert_int_eq(parse(text, &m, NULL), 0);
        ck_assert_str_eq(m.etcd, "3.4");
        free(text);
        text = manifest_format(&m);
        ck_assert_int_eq(parse(text, &again, NULL), 0);
        ck_assert_str_eq(again.etcd, "3.4");
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                j = fresh();
                ck_assert_int_eq(json_object_set_new(j, "etcd", json_string(bad[i])), 0);
                ck_json_refused(j, "etcd");
        }
        j = fresh();
        ck_assert_int_eq(json_object_set_new(j, "etcd", json_integer(3)), 0);
        ck_json_refused(j, "etcd");
}
END_TEST

static char long_text[SLOT_VERSION_SIZE + 1]; /* one character more than any field takes */

START_TEST(texts_are_bounded)
{
        static const struct {
                const char *name, *value;
        } rows[] = {
                { "version", "" },           { "version", "a b" },
                { "version", "-1" },         { "version", "1/2" },
                { "version", "1\n" },        { "version", "../../x" },
                { "version", long_text },    { "min_bootmgr", "a b" },
                { "min_bootmgr", "/" },      { "min_bootmgr", long_text },
                { "compatible", long_text }, { "compatible", "a\nb" },
                { "compatible", "\x7f" },    { "compatible", "b\xc3\xb6x" },
                { "build_id", long_text },   { "build_id", "\x1b[31m" },
        };
        json_t *j;

        memset(long_text, '1', SLOT_VERSION_SIZE);
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                j = fresh();
                ck_assert_int_eq(json_object_set_new(j, rows[i].name, json_string(rows[i].value)), 0);
                ck_json_refused(j, NULL);
        }
        /* One character less is taken; what may be empty is. */
        long_text[SLOT_VERSION_SIZE - 1] = '\0';
        for (size_t i = 1; i < ARRAY_SIZE(members); i++) {
                struct manifest m;
                char *text;

                j = fresh();
                if (json_is_string(json_object_get(j, members[i]))) {
                        json_object_set_new(j, members[i], json_string(long_text));
                        text = json_dumps(j, 0);
                        ck_assert_int_eq(parse(text, &m, NULL), 0);
                        free(text);
                }
                json_decref(j);
        }
        j = fresh();
        json_object_set_new(j, "min_bootmgr", json_string(""));
        json_object_set_new(j, "compatible", json_string(""));
        json_object_set_new(j, "build_id", json_string(""));
        {
                struct manifest m;
                char *text = json_dumps(j, 0);

                ck_assert_int_eq(parse(text, &m, NULL), 0);
                free(text);
                json_decref(j);
        }
}
END_TEST

START_TEST(names_of_images_are_plain)
{
        static const char *const names[] = { "",    "Root", "a b",    "../x",
                                             "a/b", "a.b",  "root\n", "abcdefghijklmnopqrstuvwxyz012345" };

        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                json_t *j = fresh();

                json_object_set_new(image_of(j, 1), "name", json_string(names[i]));
                ck_json_refused(j, "name");
        }
}
END_TEST

START_TEST(digests_are_64_hex_digits)
{
        static const char *const values[] = { "", "00", HEX32 "00",
                                              "g0112233445566778899aabbccddeeff00112233445566778899aabbccddeeff" };

        for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
                json_t *j = fresh();

                json_object_set_new(image_of(j, 1), "index_digest", json_string(values[i]));
                ck_json_refused(j, "index_digest");
                j = fresh();
                json_object_set_new(image_of(j, 0), "sha256", json_string(values[i]));
                ck_json_refused(j, "sha256");
        }
}
END_TEST

/* What memory and time are asked for by is bounded here, before any of it. */
START_TEST(sizes_are_bounded)
{
        static const struct {
                json_int_t size, chunk_size;
                bool taken;
        } rows[] = {
                { 1, 4096, true },
                { 0, 4096, false },
                { -1, 4096, false },
                { INT64_MAX, 8 << 20, false },
                { (json_int_t)1 << 50, 8 << 20, false }, /* chunks: 2^27 */
                { ((json_int_t)1 << 50) + 1, 8 << 20, false },
                { 1000, 0, false },
                { 1000, 1, false },
                { 1000, 2048, false },
                { 1000, 4095, false },
                { 1000, 4097, false },
                { 1000, 12288, false },
                { 1000, 8 << 20, true },
                { 1000, 16 << 20, false },
                { 1000, (json_int_t)1 << 32, false },
                { 1000, ((json_int_t)1 << 32) + 4096, false },
                { 1000, INT64_MAX, false },
                { (INDEX_MAX / INDEX_ENTRY) * 4096, 4096, false }, /* with the kernel's two, two too many */
                { (INDEX_MAX / INDEX_ENTRY - 2) * 4096, 4096, true },
                { (INDEX_MAX / INDEX_ENTRY - 2) * 4096 + 1, 4096, false },
                { (json_int_t)1 << 40, 1 << 20, true },
        };
        json_t *j = fresh();
        struct manifest m;
        char *text;

        json_object_set_new(image_of(j, 1), "size", json_integer(rows[_i].size));
        json_object_set_new(image_of(j, 1), "chunk_size", json_integer(rows[_i].chunk_size));
        if (!rows[_i].taken) {
                ck_json_refused(j, NULL);
                return;
        }
        text = json_dumps(j, 0);
        ck_assert_int_eq(parse(text, &m, NULL), 0);
        ck_assert_uint_eq(m.images[1].size, (uint64_t)rows[_i].size);
        free(text);
        json_decref(j);
}
END_TEST
#define SIZE_ROWS 21

/* Format 3: as 2, and the root may have a hash tree. 300 blocks, a superblock, 3 + 1 blocks of the tree. */
static const char verified[] =
        "{\"format\": 3, \"compatible\": \"box\", \"version\": \"2\", \"security_version\": 0,"
        " \"min_bootmgr\": \"\", \"build_id\": \"\", \"images\": ["
        "{\"name\": \"kernel\", \"size\": 5000, \"chunk_size\": 4096, \"chunks\": 2, \"index_digest\": "
        "\"" HEX32 "\", \"sha256\": \"" HEX32 "\"},"
        "{\"name\": \"root\", \"size\": 1249280, \"chunk_size\": 262144, \"chunks\": 5, "
        "\"index_digest\": \"" HEX32 "\", \"verity\": {\"blocks\": 300, \"root_hash\": \"" HEX32 "\"}}]}";

static json_t *tree_of(json_t *j)
{
        return json_object_get(image_of(j, 1), "verity");
}

START_TEST(a_hash_tree_is_read)
{
        struct manifest a = {}, b = {};
        json_t *j = json_loads(verified, 0, NULL);
        char *text;

        ck_assert_int_eq(parse(verified, &a, NULL), 0);
        ck_assert(!verity_is_set(&a.images[0].verity));
        ck_assert_uint_eq(a.images[1].verity.blocks, 300);
        ck_assert_uint_eq(a.images[1].verity.root_hash[1], 0x11);
        text = manifest_format(&a);
        ck_assert_int_eq(parse(text, &b, NULL), 0);
        memcpy(b.digest, a.digest, DIGEST_SIZE);
        ck_assert_mem_eq(&a, &b, sizeof(a));
        free(text);
        /* Without one it is a manifest all the same; in the formats before, the member is unknown. */
        json_object_del(image_of(j, 1), "verity");
        text = json_dumps(j, 0);
        ck_assert_int_eq(parse(text, &a, NULL), 0);
        free(text);
        json_decref(j);
        j = json_loads(verified, 0, NULL);
        json_object_set_new(j, "format", json_integer(2));
        ck_json_refused(j, "verity");
}
END_TEST

/* What ends on a kernel command line, and what the device mapper is told. */
START_TEST(a_hash_tree_is_strict)
{
        static const char *const hashes[] = { "", "00", HEX32 "00", HEX32 " init=/bin/sh",
                                              "0011223344 init=/bin/sh panic=0 99aabbccddeeff00112233445566778899" };
        static const json_int_t blocks[] = { 0, -1, 1, 299, 301, (json_int_t)1 << 38, ((json_int_t)1 << 38) + 1, INT64_MAX };
        static const json_int_t sizes[] = { 300 * 4096, 1249279, 1249281, 1249280 + 4096 };
        json_t *j, *value;

        for (size_t i = 0; i < ARRAY_SIZE(hashes); i++) {
                j = json_loads(verified, 0, NULL);
                json_object_set_new(tree_of(j), "root_hash", json_string(hashes[i]));
                ck_json_refused(j, "root_hash");
        }
        for (size_t i = 0; i < ARRAY_SIZE(blocks); i++) {
                j = json_loads(verified, 0, NULL);
                json_object_set_new(tree_of(j), "blocks", json_integer(blocks[i]));
                ck_json_refused(j, NULL);
        }
        for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
                j = json_loads(verified, 0, NULL);
                json_object_set_new(image_of(j, 1), "size", json_integer(sizes[i]));
                ck_json_refused(j, "hash tree");
        }
        for (size_t i = 0; (value = wrong_value(i)); i++) {
                j = json_loads(verified, 0, NULL);
                json_object_set_new(image_of(j, 1), "verity", value);
                ck_json_refused(j, NULL);
        }
        j = json_loads(verified, 0, NULL);
        json_object_set_new(tree_of(j), "salt", json_string(""));
        ck_json_refused(j, "salt");
        j = json_loads(verified, 0, NULL);
        json_object_set_new(image_of(j, 1), "name", json_string("other"));
        ck_json_refused(j, "other");
}
END_TEST

START_TEST(images_are_counted)
{
        json_t *j = fresh(), *images;

        json_object_set_new(j, "images", json_array());
        ck_json_refused(j, "0 images");
        j = fresh();
        json_object_set_new(j, "images", json_pack("[i]", 1));
        ck_json_refused(j, "image");
        j = fresh();
        images = json_object_get(j, "images");
        while (json_array_size(images) < BUNDLE_MAX_IMAGES) {
                char name[16];
                json_t *one = json_deep_copy(image_of(j, 1));

                snprintf(name, sizeof(name), "extra-%zu", json_array_size(images));
                json_object_set_new(one, "name", json_string(name));
                json_array_append_new(images, one);
        }
        {
                struct manifest m;
                char *text = json_dumps(j, 0);

                ck_assert_int_eq(parse(text, &m, NULL), 0);
                ck_assert_uint_eq(m.n_images, BUNDLE_MAX_IMAGES);
                free(text);
        }
        json_array_append_new(images, json_pack("{s:s}", "name", "one-more"));
        ck_json_refused(j, "17 images");
}
END_TEST

START_TEST(boot_files_need_their_digest)
{
        static const char *const names[] = { "kernel", "initrd" };

        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                json_t *j = fresh();

                json_object_set_new(image_of(j, 0), "name", json_string(names[i]));
                json_object_del(image_of(j, 0), "sha256");
                ck_json_refused(j, "sha256");
        }
}
END_TEST

int main(void)
{
        Suite *s = suite_create("manifest");
        TCase *t = tcase_create("manifest");

        tcase_set_timeout(t, 60);
        tcase_add_test(t, a_good_one_is_read);
        tcase_add_test(t, what_is_written_is_read);
        tcase_add_loop_test(t, members_must_be_there_and_of_their_type, 0, ARRAY_SIZE(members));
        tcase_add_loop_test(t, members_of_an_image_too, 0, ARRAY_SIZE(image_members));
        tcase_add_test(t, nothing_is_there_twice);
        tcase_add_test(t, nothing_unknown_is_there);
        tcase_add_test(t, only_json_is_json);
        tcase_add_test(t, a_nul_is_not_the_end);
        tcase_add_test(t, other_formats_are_another_refusal);
        tcase_add_test(t, what_etcd_is_in_it_may_be_said);
        tcase_add_test(t, texts_are_bounded);
        tcase_add_test(t, names_of_images_are_plain);
        tcase_add_test(t, digests_are_64_hex_digits);
        tcase_add_loop_test(t, sizes_are_bounded, 0, SIZE_ROWS);
        tcase_add_test(t, a_hash_tree_is_read);
        tcase_add_test(t, a_hash_tree_is_strict);
        tcase_add_test(t, images_are_counted);
        tcase_add_test(t, boot_files_need_their_digest);
        suite_add_tcase(s, t);
        return suite_run(s);
}
