/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Deltas: what one is made of and gives, what of a table cannot be, and a base that is another one. */
#include "bundles.h"

#include <zstd.h>

#include "cluster/bundles.h"
#include "image/similar.h"
#include "image/source.h"
#include "storage/disk.h"

#define BASE_SIZE 300000

static uint8_t base[BASE_SIZE], root[BASE_SIZE];

static void scramble(uint8_t *data, size_t n, uint64_t seed)
{
        for (size_t i = 0; i < n; i++) {
                seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
                data[i] = (uint8_t)seed;
        }
}

static void make(const char *name, const char *version, const char *kernel)
{
        const char *names[] = { "root", "kernel" }, *files[] = { in_dir("delta.img"), in_dir(kernel) };
        const char *keys[] = { in_dir("good.key") };
        struct bundle_spec spec = { .compatible = "box",
                                    .version = version,
                                    .image_names = names,
                                    .image_files = files,
                                    .n_images = 2,
                                    .key_files = keys,
                                    .n_keys = 1,
                                    .chunking = CHUNKING_CONTENT,
                                    .level = 1 };

        ck_ok(bundle_create(in_dir(name), &spec, NULL, e));
}

/* Zeros, what is as it was, what differs a little, what has moved, and what is new. */
static void deltas_begin(void)
{
        struct delta_spec spec = {};

        bundles_begin();
        scramble(base, BASE_SIZE, 1);
        memset(base + 100000, 0, 100000);
        put("delta.img", base, BASE_SIZE);
        make("old", "1", "kernel.img");
        memcpy(root, base, BASE_SIZE);
        root[5000] ^= 1;
        memmove(root + 210007, base + 210000, 70000);
        scramble(root + 285000, 15000, 2);
        put("delta.img", root, BASE_SIZE);
        make("new", "2", "kernel.img");
        spec.from = in_dir("old");
        spec.bundle = in_dir("new");
        ck_ok(bundle_make_delta(in_dir("delta"), &spec, NULL, e));
}

struct check {
        struct chunk_sink sink;
        uint64_t taken;
};

static int compare(struct chunk_sink *sink, uint64_t offset, void *data, size_t size, struct io_queue *queue,
                   struct error *e)
{
        struct check *c = (struct check *)sink;

        if (data)
                ck_assert_mem_eq(data, root + offset, size);
        else
                ck_assert(is_all_zero(root + offset, size));
        __atomic_add_fetch(&c->taken, size, __ATOMIC_RELAXED);
        return 0;
}

/* With a base of `size` bytes, of which there are `there`. */
static int open_over(const char *name, const uint8_t *from, uint64_t size, uint64_t there, struct range *range,
                     struct bundle **ret, struct error *e)
{
        int r;

        put("base", from, there);
        *range = (struct range){ .fd = open(in_dir("base"), O_RDONLY | O_CLOEXEC), .size = size };
        r = open_with(name, "trust", 1, ret, e);
        if (r >= 0)
                bundle_use_base(*ret, range, NULL);
        return r;
}

/* The root only: the kernel is on the ESP. */
static int extract(const char *name, const uint8_t *from, uint64_t size, struct error *e)
{
        struct check c = { .sink.write = compare };
        struct chunk_sink *sinks[BUNDLE_MAX_IMAGES] = { NULL, &c.sink };
        _cleanup_bundle_ struct bundle *b = NULL;
        struct range range;
        int r = open_over(name, from, size, BASE_SIZE, &range, &b, e);

        if (r >= 0)
                r = bundle_extract(b, sinks, NULL, e);
        if (r >= 0)
                ck_assert_uint_eq(c.taken, BASE_SIZE);
        range_close(&range);
        return r;
}

/* Beforehand: whether the base has what is needed. */
static int look(const char *name, const uint8_t *from, uint64_t there, struct error *e)
{
        _cleanup_bundle_ struct bundle *b = NULL;
        struct range range;
        int r = open_over(name, from, BASE_SIZE, there, &range, &b, e);

        if (r >= 0)
                r = bundle_read_index(b, e);
        if (r >= 0)
                r = delta_check_base(b, 1, NULL, e);
        range_close(&range);
        return r;
}

START_TEST(it_gives_the_same)
{
        _cleanup_bundle_ struct bundle *old = NULL, *new = NULL, *delta = NULL;
        size_t full_size, delta_size;

        ck_ok(extract("delta", base, BASE_SIZE, e));
        ck_ok(open_with("old", "trust", 1, &old, e));
        ck_ok(open_with("new", "trust", 1, &new, e));
        ck_ok(open_with("delta", "trust", 1, &delta, e));
        ck_assert_mem_eq(bundle_manifest(delta)->digest, bundle_manifest(new)->digest, DIGEST_SIZE);
        ck_assert_mem_eq(bundle_delta(delta)->digest, bundle_manifest(old)->digest, DIGEST_SIZE);
        ck_assert_str_eq(bundle_delta(delta)->version, "1");
        ck_assert_uint_eq(bundle_delta(delta)->size, BASE_SIZE);
        ck_assert_ptr_null(bundle_delta(new));
        free(get("new", &full_size));
        free(get("delta", &delta_size));
        ck_assert_uint_lt(delta_size, 20000); /* what is new, and the index */
        ck_assert_uint_gt(full_size, 190000);
}
END_TEST

/* Whatever was written to: what comes out is right, or nothing does. */
START_TEST(an_altered_base_is_found_out)
{
        uint8_t altered[BASE_SIZE];
        unsigned refused = 0;

        for (size_t at = 7; at < BASE_SIZE; at += 20011) {
                _cleanup_error_ struct error found = {};

                memcpy(altered, base, BASE_SIZE);
                altered[at] ^= 0x10;
                if (extract("delta", altered, BASE_SIZE, &found) >= 0)
                        continue;
                ck_assert_ptr_eq(found.kind, &kind_content);
                ck_message(&found, "not what version 1 was");
                refused++;
                ck_refused_saying(look("delta", altered, BASE_SIZE, e), kind_content, "not what version 1 was");
        }
        ck_ok(look("delta", base, BASE_SIZE, e));
        ck_assert_uint_gt(refused, 5);
        ck_refused_saying(extract("delta", base, BASE_SIZE - 1, e), kind_content, "not what version 1 was");
}
END_TEST

/* --- tables that cannot be */

/* The delta, with record `number` of the root altered: all checksums are right. */
static void put_altered(uint64_t number, size_t at, uint64_t value, size_t bytes)
{
        size_t size, url, table_size;
        _cleanup_free_ char *data = get("delta", &size);
        struct parts p = parts_of(data);
        uint8_t *head = (uint8_t *)data + p.index, *table, records[64 * DELTA_RECORD], packed[8192];
        _cleanup_buf_ struct buf b = {};
        struct header h = p.h;

        url = get_le16(head + D_URL);
        table = head + DELTA_HEAD + url + h.index;
        table_size = ZSTD_decompress(records, sizeof(records), table, get_le32(head + D_TABLE));
        ck_assert(!ZSTD_isError(table_size));
        for (size_t i = 0; i < bytes; i++)
                records[(number + 1) * DELTA_RECORD + at + i] = (uint8_t)(value >> 8 * i); /* the kernel is one chunk */
        table_size = ZSTD_compress(packed, sizeof(packed), records,
                                   number == UINT64_MAX ? table_size + DELTA_RECORD : table_size, 1);
        h.total += table_size - get_le32(head + D_TABLE);
        buf_append(&b, data, p.index);
        header_encode(&h, (uint8_t *)b.data);
        buf_append(&b, head, DELTA_HEAD + url + h.index);
        buf_append(&b, packed, table_size);
        buf_append(&b, table + get_le32(head + D_TABLE), (size_t)(data + size - (char *)table) - get_le32(head + D_TABLE));
        head = (uint8_t *)b.data + p.index;
        put_le32(head + D_TABLE, (uint32_t)table_size);
        put_le32(head + D_TABLE_CRC, crc32c(0, packed, table_size));
        put_le32(head + D_CRC, crc32c(crc32c(0, head, D_CRC), head + DELTA_HEAD, url));
        put("altered", b.data, b.size);
}

static struct delta_record record_of(uint64_t number)
{
        size_t size;
        _cleanup_free_ char *data = get("delta", &size);
        struct parts p = parts_of(data);
        const uint8_t *head = (uint8_t *)data + p.index, *at;
        uint8_t records[64 * DELTA_RECORD];

        ck_assert(!ZSTD_isError(
                ZSTD_decompress(records, sizeof(records), head + DELTA_HEAD + p.h.index, get_le32(head + D_TABLE))));
        at = records + (number + 1) * DELTA_RECORD;
        return (struct delta_record){ .offset = get_le64(at + R_OFFSET),
                                      .length = get_le32(at + R_LENGTH),
                                      .stored = get_le32(at + R_STORED),
                                      .crc = get_le32(at + R_CRC) };
}

/* Number of a chunk of the root: zeros, as it was, or a frame with a base. */
static uint64_t find(bool zeros, bool stored)
{
        for (uint64_t i = 0;; i++) {
                struct delta_record r = record_of(i);

                if ((r.length == 0 && r.stored == 0) == zeros && (r.stored > 0) == stored)
                        return i;
        }
}

START_TEST(tables_that_cannot_be)
{
        uint64_t zeros = find(true, false), same = find(false, false), patch = find(false, true);
        const struct {
                uint64_t number;
                size_t at;
                uint64_t value;
                size_t bytes;
        } cases[] = {
                { zeros, R_OFFSET, 1, 8 },
                { zeros, R_LENGTH, 1, 4 },
                { zeros, R_STORED, 1, 4 },
                { zeros, R_CRC, 1, 4 },
                { zeros, R_DIGEST, 1, 8 },
                { same, R_OFFSET, BASE_SIZE, 8 },
                { same, R_OFFSET, UINT64_MAX, 8 },
                { same, R_LENGTH, 0, 4 },
                { same, R_LENGTH, record_of(same).length - 1, 4 },
                { same, R_DIGEST, 1, 8 },
                { same, R_CRC, 1, 4 },
                { patch, R_OFFSET, BASE_SIZE - record_of(patch).length + 1, 8 },
                { patch, R_LENGTH, UINT32_MAX, 4 },
                { patch, R_LENGTH, DELTA_BASE_MAX + 1, 4 },
                { patch, R_STORED, UINT32_MAX, 4 },
                { UINT64_MAX, 0, 0, 0 },
        };

        ck_refused_saying((put_altered(cases[_i].number, cases[_i].at, cases[_i].value, cases[_i].bytes),
                           extract("altered", base, BASE_SIZE, e)),
                          kind_bundle_invalid, "delta table");
}
END_TEST

START_TEST(tables_that_lie)
{
        uint64_t same = find(false, false), patch = find(false, true);

        put_altered(same, R_OFFSET, record_of(same).offset ?: 1, 8);
        ck_ok(extract(record_of(same).offset ? "altered" : "delta", base, BASE_SIZE, e));
        put_altered(same, R_OFFSET, record_of(same).offset + 1, 8);
        ck_refused_saying(extract("altered", base, BASE_SIZE, e), kind_content, "not what version 1 was");
        ck_refused_saying(look("altered", base, BASE_SIZE, e), kind_content, "not what version 1 was");
        /* What comes of it is right all the same. */
        put_altered(patch, R_DIGEST, 1, 8);
        ck_ok(extract("altered", base, BASE_SIZE, e));
        ck_refused_saying(look("altered", base, BASE_SIZE, e), kind_content, "not what version 1 was");
        put_altered(patch, R_CRC, record_of(patch).crc ^ 1, 4);
        ck_refused_saying(extract("altered", base, BASE_SIZE, e), kind_content, "does not match");
}
END_TEST

/* What is read together with bytes that cannot be read is not lost with them: the first chunk is named that needs those. */
START_TEST(a_base_that_ends_early)
{
        uint64_t records = 0, size;
        _cleanup_bundle_ struct bundle *b = NULL;
        char expected[64];

        ck_ok(open_with("delta", "trust", 1, &b, e));
        ck_ok(bundle_read_index(b, e));
        (void)bundle_chunk_index(b, 1, &size);
        records = size / INDEX_ENTRY_CUT;
        for (size_t end = 4096; end < BASE_SIZE; end += 28672) {
                uint64_t first = 0;

                while (first < records && (record_of(first).length == 0 ||
                                           (record_of(first).offset + record_of(first).length + 4095) / 4096 * 4096 <= end))
                        first++;
                if (first == records)
                        continue;
                snprintf(expected, sizeof(expected), "chunk %llu of image root", (unsigned long long)first);
                ck_refused_saying(look("delta", base, end, e), kind_content, expected);
        }
}
END_TEST

START_TEST(heads_that_cannot_be)
{
        static const struct {
                size_t at;
                uint64_t value;
                size_t bytes;
        } cases[] = {
                { D_VERSION, 0, 1 },        { D_VERSION, '/', 1 }, { D_SIZE, UINT64_MAX, 8 },
                { D_TABLE, UINT32_MAX, 4 }, { D_URL, 3, 2 },       { D_URL, UINT16_MAX, 2 },
        };
        size_t size;
        _cleanup_free_ char *data = get("delta", &size);
        uint8_t *head = (uint8_t *)data + parts_of(data).index;

        for (size_t i = 0; i < cases[_i].bytes; i++)
                head[cases[_i].at + i] = (uint8_t)(cases[_i].value >> 8 * i);
        put_le32(head + D_CRC, crc32c(crc32c(0, head, D_CRC), head + DELTA_HEAD, get_le16(head + D_URL) == 3 ? 3 : 0));
        put("altered", data, size);
        ck_refused_saying(extract("altered", base, BASE_SIZE, e), kind_bundle_invalid, "delta head");
}
END_TEST

/* Not every node could install it. */
START_TEST(a_cluster_takes_full_bundles)
{
        struct machine m = { .snapshots = place,
                             .data_path = in_dir("data"),
                             .config = {
                                     .trust_directory = in_dir("trust"), .trust_threshold = 1, .fetch = FETCH_DEFAULTS } };
        struct version_id id;

        ck_refused_saying(bundles_keep(&m, in_dir("delta"), NULL, 0, &id, e), kind_bundle_incompatible,
                          "is a delta to version 1");
        ck_assert_int_lt(faccessat(place.data, "cluster", F_OK, 0), 0);
        ck_assert_int_eq(symlink("root/data/bootmgr", in_dir("data")), 0);
        ck_ok(bundles_keep(&m, in_dir("new"), NULL, 0, &id, e));
        ck_assert_str_eq(id.version, "2");
}
END_TEST

START_TEST(urls)
{
        char longest[DELTA_URL_MAX + 2] = "https://host/";

        ck_assert(delta_url_valid("http://host/2.bundle"));
        ck_assert(!delta_url_valid("ftp://host/2.bundle"));
        ck_assert(!delta_url_valid("file:///2.bundle"));
        ck_assert(!delta_url_valid("http://host/2.bundle http://other/2.bundle"));
        ck_assert(!delta_url_valid("http://host/\n"));
        memset(longest + 13, 'x', DELTA_URL_MAX - 13);
        ck_assert(delta_url_valid(longest));
        longest[DELTA_URL_MAX] = 'x';
        ck_assert(!delta_url_valid(longest));
}
END_TEST

/* --- what a piece is like */

START_TEST(similar_pieces_are_found)
{
        struct similar *s;
        uint8_t piece[20000];
        int64_t at;

        ck_assert_int_eq(similar_new(base, BASE_SIZE, &s), 0);
        memcpy(piece, base + 250000, sizeof(piece));
        for (size_t i = 0; i < sizeof(piece); i += 500)
                piece[i] ^= 0x55;
        ck_assert(similar_find(s, piece, sizeof(piece), &at));
        ck_assert_int_eq(at, 250000);
        memmove(piece, piece + 100, sizeof(piece) - 100);
        ck_assert(similar_find(s, piece, sizeof(piece) - 100, &at));
        ck_assert_int_eq(at, 250100);
        scramble(piece, sizeof(piece), 77);
        ck_assert(!similar_find(s, piece, sizeof(piece), &at));
        memset(piece, 0, sizeof(piece));
        ck_assert(!similar_find(s, piece, sizeof(piece), &at));
        ck_assert(!similar_find(s, piece, 0, &at));
        similar_free(s);
}
END_TEST

/* What neither may be, and what is nothing. */
START_TEST(nothing_is_too_small)
{
        struct similar *s;
        int64_t at;

        ck_assert_int_eq(similar_new(base, 1, &s), 0);
        ck_assert(!similar_find(s, base, 1, &at));
        similar_free(s);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("delta");
        TCase *t = tcase_create("delta");

        tcase_add_unchecked_fixture(t, deltas_begin, machine_end);
        tcase_set_timeout(t, 120);
        tcase_add_test(t, it_gives_the_same);
        tcase_add_test(t, an_altered_base_is_found_out);
        tcase_add_loop_test(t, tables_that_cannot_be, 0, 16);
        tcase_add_test(t, tables_that_lie);
        tcase_add_test(t, a_base_that_ends_early);
        tcase_add_loop_test(t, heads_that_cannot_be, 0, 6);
        tcase_add_test(t, a_cluster_takes_full_bundles);
        tcase_add_test(t, urls);
        tcase_add_test(t, similar_pieces_are_found);
        tcase_add_test(t, nothing_is_too_small);
        suite_add_tcase(s, t);
        return suite_run(s);
}
