/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where an image is cut by its content, and what a chunk index with lengths may say. */
#include "bundles.h"

#include "image/split.h"

#define SIZE (MIB(4) + 1234)
static uint8_t image[SIZE + 1];
static struct cut cut;

static void fill(void)
{
        uint64_t x = 88172645463325252u;

        for (size_t i = 0; i < SIZE; i++) {
                x ^= x << 13, x ^= x >> 7, x ^= x << 17;
                image[i] = (uint8_t)x;
        }
        cut_init(&cut, CUT_DEFAULT);
}

struct cuts {
        size_t n, end[4096];
        bool zeros[4096];
};

static void cut_all(const uint8_t *data, size_t size, struct cuts *c)
{
        c->n = 0;
        for (size_t at = 0; at < size; at = c->end[c->n++]) {
                ck_assert_uint_lt(c->n, ARRAY_SIZE(c->end));
                c->end[c->n] = at + cut_next(&cut, data + at, size - at, at, &c->zeros[c->n]);
        }
}

/* They are part of the format in so far as another table would find nothing of what is installed. */
START_TEST(known_cuts)
{
        static const size_t known[] = { 17079, 29266, 48890, 71545, 108598, 118141, 137586, 172361 };
        struct cuts c;

        fill();
        cut_all(image, SIZE, &c);
        for (size_t i = 0; i < ARRAY_SIZE(known); i++)
                ck_assert_uint_eq(c.end[i], known[i]);
        ck_assert_uint_eq(c.end[c.n - 1], SIZE);
}
END_TEST

START_TEST(lengths_are_bounded)
{
        struct cuts c;
        size_t before = 0;

        fill();
        memset(image + 300000, 0, 40000);  /* shorter than a run: content */
        memset(image + 900000, 7, 200000); /* the hash never changes */
        cut_all(image, SIZE, &c);
        for (size_t i = 0; i < c.n; before = c.end[i++]) {
                ck_assert(!c.zeros[i]);
                ck_assert_uint_le(c.end[i] - before, cut.max);
                if (i + 1 < c.n)
                        ck_assert_uint_ge(c.end[i] - before, cut.min);
        }
        ck_assert_uint_ge(c.n, SIZE / cut.average * 2 / 3);
        ck_assert_uint_le(c.n, SIZE / cut.average * 3 / 2);
}
END_TEST

/* A byte more in the middle: the cuts before it stay, and those behind it move along, but for a few. */
START_TEST(an_insertion_moves_the_cuts)
{
        struct cuts before, after;
        size_t same = 0;

        fill();
        cut_all(image, SIZE, &before);
        memmove(image + SIZE / 2 + 1, image + SIZE / 2, SIZE - SIZE / 2);
        cut_all(image, SIZE + 1, &after);
        for (size_t i = 0, j = 0; i < before.n; i++) {
                size_t want = before.end[i] + (before.end[i] > SIZE / 2);

                while (j < after.n && after.end[j] < want)
                        j++;
                same += j < after.n && after.end[j] == want;
        }
        ck_assert_uint_ge(same, before.n - 4);
}
END_TEST

/* Runs of zeros are chunks of their own, where whole blocks of the image are. */
START_TEST(zeros_are_set_apart)
{
        static const struct {
                size_t from, to, start, end; /* what is zeros; the chunk of it */
        } rows[] = {
                { 100000, 1000000, 102400, 999424 },
                { 4096, 4096 + CUT_ZEROS, 4096, 4096 + CUT_ZEROS },
                { 4097, 4097 + CUT_ZEROS, 0, 0 },
                { 0, 200000, 0, 196608 },
                { SIZE - 100000, SIZE, (SIZE - 100000 + 4095) / 4096 * 4096, SIZE },
                { SIZE - 2000, SIZE, MIB(4), SIZE },
                { SIZE - 1000, SIZE, 0, 0 },
        };
        struct cuts c;
        size_t found = 0;

        fill();
        memset(image + rows[_i].from, 0, rows[_i].to - rows[_i].from);
        cut_all(image, SIZE, &c);
        for (size_t i = 0; i < c.n; i++) {
                if (!c.zeros[i])
                        continue;
                found++;
                ck_assert_uint_eq(i ? c.end[i - 1] : 0, rows[_i].start);
                ck_assert_uint_eq(c.end[i], rows[_i].end);
        }
        ck_assert_uint_eq(found, rows[_i].end > 0);
}
END_TEST
#define ZERO_ROWS 7

static uint64_t chunks_of(const char *name, uint64_t *zeros)
{
        _cleanup_close_ int fd = open(in_dir(name), O_RDONLY | O_CLOEXEC);
        struct bundle_image i = { .chunk_size = cut.max };
        struct split s;
        uint64_t sum = 0, offset = 0;

        i.size = (uint64_t)lseek(fd, 0, SEEK_END);
        *zeros = 0;
        ck_assert_int_eq(split_begin(&s, fd, &i, &cut), 0);
        while (s.size > 0) {
                ck_assert_uint_eq(s.offset, offset);
                ck_assert_uint_le(s.size, s.zeros ? ZEROS_MAX : cut.max);
                sum = sum * 1099511628211u + s.size;
                *zeros += s.zeros;
                offset += s.size;
                ck_assert_int_eq(split_next(&s), 0);
        }
        ck_assert_uint_eq(offset, i.size);
        split_end(&s);
        return sum;
}

/* Holes and zeros that are written are the same; a run that is longer than a chunk can be is several. */
START_TEST(holes_are_zeros)
{
        uint64_t sum, zeros;

        fill();
        put("a", image, MIB(1) + 5000);
        sh("cp a b; truncate -s 150M a; head -c %d /dev/zero >>b; head -c 3000000 /dev/zero | tr '\\0' x >t; cat t >>a; cat "
           "t >>b",
           150 * 1048576 - 1048576 - 5000);
        sum = chunks_of("a", &zeros);
        ck_assert_uint_eq(zeros, 3);
        ck_assert_uint_eq(chunks_of("b", &zeros), sum);
        ck_assert_uint_eq(zeros, 3);
        sh("rm a b t");
}
END_TEST

/* --- the index */

#define ENTRIES 4
static void fill_entries(uint8_t index[static ENTRIES * INDEX_ENTRY_CUT])
{
        memset(index, 0, ENTRIES * INDEX_ENTRY_CUT);
        for (unsigned i = 0; i < ENTRIES; i++) {
                uint8_t *entry = index + i * INDEX_ENTRY_CUT;

                put_le32(entry + I_LENGTH, 1000 * (i + 1));
                if (i != 1) {
                        entry[I_DIGEST] = (uint8_t)i + 1;
                        put_le32(entry + I_STORED, 10);
                }
        }
}

/* Each field of an entry, and whether the chunks are then still the image. */
START_TEST(an_index_is_bounded)
{
        static const struct {
                unsigned entry, field;
                uint32_t value;
                uint64_t size, bad; /* of the image; which entry is wrong, ENTRIES: the end is */
                bool good;
        } rows[] = {
                { 0, I_LENGTH, 1000, 10000, ENTRIES, true },
                { 0, I_LENGTH, 0, 9000, 0, false },
                { 0, I_LENGTH, 999, 10000, ENTRIES, false },
                { 0, I_LENGTH, 1001, 10000, 3, false },
                { 2, I_LENGTH, UINT32_MAX, 10000, 2, false },
                { 3, I_LENGTH, 65536, 6000 + 65536, ENTRIES, true },
                { 3, I_LENGTH, 65537, 6000 + 65537, 3, false },
                { 1, I_LENGTH, 64 << 20, 8000 + (64 << 20), ENTRIES, true },
                { 1, I_LENGTH, (64 << 20) + 1, 8001 + (64 << 20), 1, false },
                { 1, I_DIGEST, 1, 10000, 1, false },
                { 1, I_CRC, 1, 10000, 1, false },
                { 0, I_STORED, 0, 10000, 0, false },
        };
        struct bundle_image i = {
                .size = rows[_i].size, .chunk_size = 65536, .entry_size = INDEX_ENTRY_CUT, .n_chunks = ENTRIES
        };
        uint8_t index[ENTRIES * INDEX_ENTRY_CUT];
        uint64_t bad;

        fill_entries(index);
        put_le32(index + rows[_i].entry * INDEX_ENTRY_CUT + rows[_i].field, rows[_i].value);
        ck_assert(index_is_complete(&i, index, &bad) == rows[_i].good);
        ck_assert_uint_eq(bad, rows[_i].bad);
}
END_TEST
#define INDEX_ROWS 12

/* The same from a file, and what a file is that ends too early. */
START_TEST(an_index_is_read_from_a_file)
{
        uint8_t index[ENTRIES * INDEX_ENTRY_CUT];
        struct bundle_image i = { .size = 10000, .chunk_size = 65536, .entry_size = INDEX_ENTRY_CUT, .n_chunks = ENTRIES };
        struct chunk_walk w;
        uint64_t offset = 0;
        int fd;

        fill_entries(index);
        put("index", index, sizeof(index));
        fd = open(in_dir("index"), O_RDWR | O_CLOEXEC);
        ck_assert_int_eq(chunk_walk_begin_file(&w, &i, fd), 0);
        for (unsigned n = 0; n < ENTRIES; n++, chunk_walk_next(&w)) {
                ck_assert_ptr_nonnull(w.entry);
                ck_assert_uint_eq(w.number, n);
                ck_assert_uint_eq(w.offset, offset);
                ck_assert_mem_eq(w.entry, index + n * INDEX_ENTRY_CUT, INDEX_ENTRY_CUT);
                offset += w.size;
        }
        ck_assert(chunk_walk_complete(&w));
        chunk_walk_done(&w);
        ck_assert_int_eq(ftruncate(fd, sizeof(index) - 1), 0);
        ck_assert_int_eq(chunk_walk_begin_file(&w, &i, fd), 0);
        ck_assert_ptr_null(w.entry);
        ck_assert(!chunk_walk_complete(&w));
        chunk_walk_done(&w);
        close(fd);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("cut");
        TCase *t = tcase_create("cut");

        tcase_add_unchecked_fixture(t, machine_begin, machine_end);
        tcase_set_timeout(t, 120);
        tcase_add_test(t, known_cuts);
        tcase_add_test(t, lengths_are_bounded);
        tcase_add_test(t, an_insertion_moves_the_cuts);
        tcase_add_loop_test(t, zeros_are_set_apart, 0, ZERO_ROWS);
        tcase_add_test(t, holes_are_zeros);
        tcase_add_loop_test(t, an_index_is_bounded, 0, INDEX_ROWS);
        tcase_add_test(t, an_index_is_read_from_a_file);
        suite_add_tcase(s, t);
        return suite_run(s);
}
