/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Bundles that were changed, cut, lengthened, or made to lie: found, named, and nothing acted on before; and what is
 * never made. */
#include "bundles.h"

struct watch_sink {
        struct chunk_sink sink;
        const char *truth;
        uint64_t end; /* of what came */
};

/* What comes is right and in order: of a bad bundle too, as far as it comes. */
static int watch(struct chunk_sink *sink, uint64_t offset, void *data, size_t size, struct io_queue *queue, struct error *e)
{
        struct watch_sink *s = (struct watch_sink *)sink;

        ck_assert_uint_eq(offset, s->end);
        if (data)
                ck_assert_mem_eq(data, s->truth + offset, size);
        else
                ck_assert(is_all_zero(s->truth + offset, size));
        s->end += size;
        return 0;
}

/* What a changed byte at `offset` must be called. */
struct verdict {
        const struct error_kind *kind;
        char word[64];
        uint64_t kernel, root; /* content that comes before it is found */
};

/* `index`: of the kernel's one chunk and the root's four. */
static struct verdict verdict_of(const struct parts *p, const uint8_t *index, uint64_t offset)
{
        struct verdict v = { .kind = &kind_bundle_invalid };
        uint64_t start = p->chunks;

        if (offset < p->manifest) {
                strcpy(v.word, offset < 8 ? "not a bundle" : "header");
        } else if (offset < p->signatures) {
                v.kind = &kind_bundle_untrusted;
                strcpy(v.word, "match the manifest");
        } else if (offset < p->index) {
                strcpy(v.word, "signatures");
        } else if (offset < p->chunks) {
                sprintf(v.word, "chunk index of image %s", offset < p->index + INDEX_ENTRY ? "kernel" : "root");
        } else {
                for (unsigned i = 0; i < 5; i++) {
                        uint32_t stored = get_le32(index + i * INDEX_ENTRY + I_STORED);

                        if (offset >= start && offset < start + stored) {
                                v.kind = &kind_content;
                                sprintf(v.word, "chunk %u of image %s", i ? i - 1 : 0, i ? "root" : "kernel");
                                v.kernel = i ? KERNEL_SIZE : 0;
                                v.root = i ? MIN(i - 1, 2U) * CHUNK : 0; /* the last two come as one */
                        }
                        start += stored;
                }
        }
        ck_assert_msg(*v.word, "offset %llu is in no part", (unsigned long long)offset);
        return v;
}

static void try_changed(const char *data, size_t size, uint64_t offset, const struct verdict *v)
{
        struct watch_sink kernel = { .sink.write = watch, .truth = kernel_content };
        struct watch_sink root = { .sink.write = watch, .truth = root_content };
        struct chunk_sink *const sinks[] = { &kernel.sink, &root.sink };
        _cleanup_bundle_ struct bundle *b = NULL;
        _cleanup_error_ struct error e = {};
        int r;

        put("changed", data, size);
        r = open_with("changed", "trust", 1, &b, &e);
        if (v->kind == &kind_content)
                ck_assert_msg(r >= 0, "offset %llu: %s", (unsigned long long)offset, e.message);
        if (r >= 0)
                r = bundle_extract(b, sinks, NULL, &e);
        ck_assert_msg(r < 0, "a change at %llu is taken", (unsigned long long)offset);
        ck_assert_msg(e.kind == v->kind, "a change at %llu is %s: %s", (unsigned long long)offset, e.kind->name, e.message);
        ck_message(&e, v->word);
        ck_assert_uint_eq(kernel.end, v->kernel);
        ck_assert_uint_eq(root.end, v->root);
}

START_TEST(every_changed_byte_is_named)
{
        static const uint8_t masks[] = { 0x01, 0x80, 0xff };
        _cleanup_free_ char *data = NULL;
        size_t size;
        struct parts p;

        data = get("bundle", &size);
        p = parts_of(data);
        ck_assert_uint_eq(p.h.index, 5 * INDEX_ENTRY);
        ck_assert_uint_eq(p.h.total, size);
        for (uint64_t i = 0; i < size; i++) {
                /* Of the true index: data is changed while it is tried. */
                struct verdict v = verdict_of(&p, (uint8_t *)data + p.index, i);

                data[i] ^= (char)masks[_i];
                try_changed(data, size, i, &v);
                data[i] ^= (char)masks[_i];
        }
        put("changed", data, size);
        ck_ok(verify_with("changed", "trust", 1, e));
}
END_TEST

START_TEST(every_cut_is_found)
{
        _cleanup_free_ char *data = NULL;
        size_t size;

        data = get("bundle", &size);
        for (size_t n = 0; n < size; n++) {
                put("cut", data, n);
                ck_refused(verify_with("cut", "trust", 1, e), kind_bundle_invalid);
                ck_refused(verify_pipe(data, n, e), kind_bundle_invalid);
        }
        ck_ok(verify_pipe(data, size, e));
}
END_TEST

START_TEST(nothing_follows_the_end)
{
        _cleanup_free_ char *data = NULL;
        size_t size;

        data = get("bundle", &size);
        data = realloc(data, size + 8192);
        memset(data + size, 0, 8192);
        for (size_t n = 1; n <= 8192; n *= 2) {
                put("longer", data, size + n);
                ck_refused(verify_with("longer", "trust", 1, e), kind_bundle_invalid);
                ck_refused_saying(verify_pipe(data, size + n, e), kind_bundle_invalid, "trailing");
        }
}
END_TEST

/* Lengths that lie under a right checksum: refused before memory of that length is asked for. */
START_TEST(a_header_cannot_lie)
{
        static const struct {
                unsigned field, width;
                uint64_t value;
        } rows[] = {
                { H_MANIFEST, 4, 0 },
                { H_MANIFEST, 4, BUNDLE_MAX_MANIFEST + 1 },
                { H_MANIFEST, 4, UINT32_MAX },
                { H_SIGNATURES, 4, 0 },
                { H_SIGNATURES, 4, 3 },
                { H_SIGNATURES, 4, SIGNATURES_MAX_SIZE + 1 },
                { H_SIGNATURES, 4, UINT32_MAX },
                { H_INDEX, 8, 0 },
                { H_INDEX, 8, 39 },
                { H_INDEX, 8, 4 * INDEX_ENTRY },
                { H_INDEX, 8, INDEX_MAX / INDEX_ENTRY * INDEX_ENTRY },
                { H_INDEX, 8, INDEX_MAX + INDEX_ENTRY },
                { H_INDEX, 8, UINT64_MAX },
                { H_INDEX, 8, UINT64_MAX / INDEX_ENTRY * INDEX_ENTRY },
                { H_TOTAL, 8, 0 },
                { H_TOTAL, 8, 64 },
                { H_TOTAL, 8, UINT64_C(1) << 60 },
                { H_TOTAL, 8, UINT64_MAX },
        };
        _cleanup_free_ char *data = NULL;
        size_t size;

        data = get("bundle", &size);
        if (rows[_i].width == 4)
                put_le32(data + rows[_i].field, (uint32_t)rows[_i].value);
        else
                put_le64(data + rows[_i].field, rows[_i].value);
        seal_header((uint8_t *)data);
        put("lie", data, size);
        ck_refused(verify_with("lie", "trust", 1, e), kind_bundle_invalid);
        ck_refused(verify_pipe(data, size, e), kind_bundle_invalid);
}
END_TEST
#define LIES 18

START_TEST(one_byte_more_or_less_in_the_total)
{
        _cleanup_free_ char *data = NULL;
        size_t size;

        data = get("bundle", &size);
        for (int d = -1; d <= 1; d += 2) {
                put_le64(data + H_TOTAL, size + (uint64_t)(int64_t)d);
                seal_header((uint8_t *)data);
                ck_refused_saying(verify_pipe(data, size, e), kind_bundle_invalid, "header");
        }
}
END_TEST

START_TEST(versions_of_the_format)
{
        _cleanup_free_ char *data = NULL;
        size_t size;

        data = get("bundle", &size);
        put_le16(data + H_MAJOR, BUNDLE_DELTA + 1);
        seal_header((uint8_t *)data);
        put("newer", data, size);
        ck_refused(verify_with("newer", "trust", 1, e), kind_bundle_incompatible);
        put_le16(data + H_MAJOR, BUNDLE_DELTA);
        seal_header((uint8_t *)data);
        put("newer", data, size);
        ck_refused(verify_with("newer", "trust", 1, e), kind_bundle_invalid);
        /* A minor version, and the bytes that are reserved, are for what an older program may pass over. */
        put_le16(data + H_MAJOR, BUNDLE_FIXED);
        put_le16(data + H_MINOR, BUNDLE_MINOR + 1);
        data[H_RESERVED] = data[40] = 1;
        seal_header((uint8_t *)data);
        put("newer", data, size);
        ck_ok(verify_with("newer", "trust", 1, e));
}
END_TEST

/* The signatures are judged before the manifest is even parsed: of one that is no JSON it is not said so. */
START_TEST(an_unverified_manifest_is_not_looked_at)
{
        static const char nonsense[] = "}{ no manifest at all";
        _cleanup_free_ char *data = NULL;
        _cleanup_buf_ struct buf other = {};
        struct parts p;
        size_t size;

        put_signed("nonsense", nonsense, "stranger.key", NULL, 0, NULL, 0);
        ck_refused(verify_with("nonsense", "trust", 1, e), kind_bundle_untrusted);
        /* With the record of a trusted key that signed something else. */
        data = get("bundle", &size);
        p = parts_of(data);
        buf_append(&other, data + p.signatures, p.h.signatures);
        put_together("nonsense", nonsense, &other, NULL, 0, NULL, 0);
        ck_refused_saying(verify_with("nonsense", "trust", 1, e), kind_bundle_untrusted, "good.pem");
        /* Only when somebody trusted has signed it is it read, and refused for what it is. */
        put_signed("nonsense", nonsense, "good.key", NULL, 0, NULL, 0);
        ck_refused(verify_with("nonsense", "trust", 1, e), kind_bundle_invalid);
        ck_refused(verify_with("nonsense", NULL, 1, e), kind_bundle_invalid); /* inspect */
}
END_TEST

/* A manifest that asks for much, rightly signed: its bounds hold before memory is asked for. */
START_TEST(signed_nonsense_is_bounded)
{
        static const char text[] =
                "{\"format\": 1, \"compatible\": \"box\", \"version\": \"1\", \"security_version\": 0, \"min_bootmgr\": "
                "\"\","
                " \"build_id\": \"\", \"images\": [{\"name\": \"root\", \"size\": %s, \"chunk_size\": 4096,"
                " \"index_digest\": \"%s\"}]}";
        uint8_t index[INDEX_ENTRY] = {}, digest[DIGEST_SIZE];
        char manifest[1024], hex[2 * DIGEST_SIZE + 1], chunk[64] = {};

        /* 2^50 bytes in chunks of 4096, and an index of one. */
        hex_encode(index, DIGEST_SIZE, hex);
        snprintf(manifest, sizeof(manifest), text, "1125899906842624", hex);
        put_signed("much", manifest, "good.key", index, sizeof(index), NULL, 0);
        ck_refused(verify_with("much", "trust", 1, e), kind_bundle_invalid);
        snprintf(manifest, sizeof(manifest), text, "27487788000", hex);
        put_signed("much", manifest, "good.key", index, sizeof(index), NULL, 0);
        ck_refused(verify_with("much", "trust", 1, e), kind_bundle_invalid);
        /* A chunk that says that it is stored in 4 GiB. */
        put_le32(index + I_STORED, UINT32_MAX);
        ck_assert_int_eq(sha256_data(index, sizeof(index), digest), 0);
        hex_encode(digest, DIGEST_SIZE, hex);
        snprintf(manifest, sizeof(manifest), text, "4096", hex);
        put_signed("much", manifest, "good.key", index, sizeof(index), chunk, sizeof(chunk));
        ck_refused_saying(verify_with("much", "trust", 1, e), kind_content, "chunk 0 of image root");
}
END_TEST

/* Chunks that decode to something else than their entry says, each rightly signed. */
START_TEST(chunks_are_what_their_entries_say)
{
        struct chunk_codec *codec = chunk_codec_new(CHUNK, INDEX_ENTRY);
        uint8_t entry[INDEX_ENTRY], zero[INDEX_ENTRY];
        uint8_t stored[2 * CHUNK];
        uint8_t data[CHUNK];
        char content[CHUNK];

        memset(content, 'c', sizeof(content));
        ck_assert_int_eq(chunk_pack(codec, content, CHUNK, 3, entry, stored), 0);
        ck_assert_uint_le(chunk_stored_max(CHUNK), sizeof(stored));
        ck_assert_int_eq(chunk_unpack(codec, entry, CHUNK, stored, data), 0);
        ck_assert_mem_eq(data, content, CHUNK);
        ck_assert_int_eq(chunk_unpack(codec, entry, CHUNK - 1, stored, data), -EBADMSG); /* shorter than it decodes to */
        entry[I_DIGEST] ^= 1;
        ck_assert_int_eq(chunk_unpack(codec, entry, CHUNK, stored, data), -EBADMSG);
        entry[I_DIGEST] ^= 1;
        entry[I_CRC] ^= 1;
        ck_assert_int_eq(chunk_unpack(codec, entry, CHUNK, stored, data), -EBADMSG);
        /* Zeros: only those whose digest is that of as many zeros, in any order with others. */
        ck_assert_int_eq(chunk_zero_entry(codec, 100, zero), 0);
        ck_assert_int_eq(chunk_unpack(codec, zero, 100, stored, data), 0);
        ck_assert_int_eq(chunk_unpack(codec, zero, 101, stored, data), -EBADMSG);
        ck_assert_int_eq(chunk_unpack(codec, zero, 100, stored, data), 0);
        put_le32(entry + I_STORED, 0);
        ck_assert_int_eq(chunk_unpack(codec, entry, CHUNK, stored, data), -EBADMSG);
        chunk_codec_free(codec);
}
END_TEST

static int stop(struct progress *p, uint64_t done, uint64_t total, const char *message)
{
        ck_assert_uint_eq(total, KERNEL_SIZE + ROOT_SIZE);
        ck_assert_uint_gt(done, *(uint64_t *)p->userdata);
        *(uint64_t *)p->userdata = done;
        return done >= KERNEL_SIZE + CHUNK ? -ECANCELED : 0;
}

START_TEST(it_stops_when_asked)
{
        uint64_t done = 0;
        struct progress progress = { .report = stop, .userdata = &done };
        _cleanup_bundle_ struct bundle *b = NULL;

        ck_ok(open_with("bundle", "trust", 1, &b, e));
        ck_assert_int_eq(bundle_extract(b, NULL, &progress, NULL), -ECANCELED);
        ck_assert_uint_eq(done, KERNEL_SIZE + CHUNK);
}
END_TEST

/* After the signatures were judged, the file is replaced, or written to in its chunk index or in its last chunk. */
START_TEST(swapped_under_the_reader)
{
        const char *const words[] = { NULL, "chunk index", "chunk 3 of image root" };
        size_t size;
        _cleanup_free_ char *data = get("bundle", &size);
        struct parts p = parts_of(data);
        const uint64_t offsets[] = { 0, p.index, size - 1 };
        _cleanup_bundle_ struct bundle *b = NULL;
        _cleanup_error_ struct error e = {};

        put("swapped", data, size);
        ck_assert_int_eq(open_with("swapped", "trust", 1, &b, &e), 0);
        if (_i == 0) {
                ck_assert_int_eq(unlink(in_dir("swapped")), 0);
                put("swapped", "another", 7);
                ck_assert_int_eq(bundle_extract(b, NULL, NULL, &e), 0);
                return;
        }
        {
                _cleanup_close_ int fd = open(in_dir("swapped"), O_WRONLY | O_CLOEXEC);
                char byte = (char)(data[offsets[_i]] ^ 1);

                ck_assert_int_eq(pwrite(fd, &byte, 1, (off_t)offsets[_i]), 1);
        }
        ck_assert_int_lt(bundle_extract(b, NULL, NULL, &e), 0);
        ck_message(&e, words[_i]);
}
END_TEST

START_TEST(sources_that_are_none)
{
        struct source *s;

        ck_refused(source_open(in_dir("nowhere"), NULL, &s, e), kind_fetch);
        ck_refused(source_open(in_dir("trust"), NULL, &s, e), kind_bundle_invalid);
        ck_refused(source_open("ftp://127.0.0.1/x", NULL, &s, e), kind_usage);
        ck_refused(source_open("file:///etc/passwd", NULL, &s, e), kind_usage);
}
END_TEST

static int create(const struct bundle_spec *spec, struct error *e)
{
        int r = bundle_create(in_dir("refused"), spec, NULL, e);

        ck_assert_int_lt(access(in_dir("refused"), F_OK), 0);
        ck_assert_int_lt(access(in_dir("refused.part"), F_OK), 0);
        return r;
}

START_TEST(what_cannot_be_made)
{
        const char *names[] = { "root", "root" }, *files[] = { in_dir("root.img"), in_dir("root.img") },
                   *keys[] = { in_dir("good.key") };
        const struct bundle_spec good = { .compatible = "c",
                                          .version = "1",
                                          .image_names = names,
                                          .image_files = files,
                                          .n_images = 1,
                                          .key_files = keys,
                                          .n_keys = 1 };
        const struct {
                struct bundle_spec spec;
                const char *word;
        } rows[] = {
                { { .compatible = "b\xc3\xb6x", .version = "1" }, "ASCII" },
                { { .compatible = "c", .version = "1", .build_id = "a\nb" }, "ASCII" },
                { { .compatible = "c", .version = "" }, "not a version" },
                { { .compatible = "c", .version = "1", .min_bootmgr = "a b" }, "not a version" },
                { { .compatible = "c", .version = "1", .security_version = UINT64_MAX }, "too large" },
                { { .compatible = "c", .version = "1", .chunk_size = 4095 }, "power of two" },
                { { .compatible = "c", .version = "1", .chunk_size = 2048 }, "power of two" },
                { { .compatible = "c", .version = "1", .chunk_size = 32 << 20 }, "power of two" },
                { { .compatible = "c", .version = "1", .n_images = 2 }, "twice" },
                { { .compatible = "c", .version = "1", .n_images = 17 }, "17 images" },
        };
        struct bundle_spec spec;

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                spec = good;
                spec.compatible = rows[i].spec.compatible;
                spec.version = rows[i].spec.version;
                spec.build_id = rows[i].spec.build_id;
                spec.min_bootmgr = rows[i].spec.min_bootmgr;
                spec.security_version = rows[i].spec.security_version;
                spec.chunk_size = rows[i].spec.chunk_size;
                spec.n_images = rows[i].spec.n_images ?: 1;
                ck_refused_saying(create(&spec, e), kind_usage, rows[i].word);
        }
        /* More chunks than an index holds: said before an hour's work. */
        sh("truncate -s 32G vast.img");
        files[0] = in_dir("vast.img");
        spec = good;
        spec.chunking = CHUNKING_FIXED; /* by content, so many zeros are few chunks */
        spec.chunk_size = 4096;
        ck_refused_saying(create(&spec, e), kind_usage, "chunks");
        sh("rm vast.img; : >none.img");
        files[0] = in_dir("none.img");
        ck_refused(create(&good, e), kind_usage);
        names[0] = "../x";
        files[0] = in_dir("root.img");
        ck_refused(create(&good, e), kind_usage);
        names[0] = "root";
        keys[0] = in_dir("good.pem");
        ck_refused(create(&good, e), kind_bundle_untrusted);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("bundle");
        TCase *t = tcase_create("bundle");

        tcase_add_unchecked_fixture(t, bundles_begin, machine_end);
        tcase_set_timeout(t, 240);
        tcase_add_loop_test(t, every_changed_byte_is_named, 0, 3);
        tcase_add_test(t, every_cut_is_found);
        tcase_add_test(t, nothing_follows_the_end);
        tcase_add_loop_test(t, a_header_cannot_lie, 0, LIES);
        tcase_add_test(t, one_byte_more_or_less_in_the_total);
        tcase_add_test(t, versions_of_the_format);
        tcase_add_test(t, an_unverified_manifest_is_not_looked_at);
        tcase_add_test(t, signed_nonsense_is_bounded);
        tcase_add_test(t, chunks_are_what_their_entries_say);
        tcase_add_test(t, it_stops_when_asked);
        tcase_add_loop_test(t, swapped_under_the_reader, 0, 3);
        tcase_add_test(t, sources_that_are_none);
        tcase_add_test(t, what_cannot_be_made);
        suite_add_tcase(s, t);
        return suite_run(s);
}
