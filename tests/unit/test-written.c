/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the kernel counts of a disk, on directories made as sysfs has them. */
#include <fcntl.h>

#include "base/file.h"
#include "storage/written.h"

#include "scratch.h"
#include "suite.h"
#undef fail

/* Documentation/block/stat.rst: the 7th field are the sectors written, the 14th those discarded. */
static void put_stat(const char *path, unsigned written, unsigned discarded)
{
        char text[256];

        snprintf(text, sizeof(text), "   11   12   13   14   15   16 %8u   18   0   19   20   21   22 %8u   24   25   26\n",
                 written, discarded);
        ck_assert_int_eq(file_replace(AT_FDCWD, path, text, strlen(text), 0644), 0);
}

static void put(const char *path, const char *text)
{
        ck_assert_int_eq(file_replace(AT_FDCWD, path, text, strlen(text), 0644), 0);
}

static void put_partition(const char *name, unsigned written, unsigned discarded)
{
        char path[64];

        snprintf(path, sizeof(path), "sys/%s", name);
        ck_assert_int_eq(mkdir_parents(AT_FDCWD, path, 0755), 0);
        snprintf(path, sizeof(path), "sys/%s/partition", name);
        put(path, "1\n");
        snprintf(path, sizeof(path), "sys/%s/stat", name);
        put_stat(path, written, discarded);
}

/* A disk whose partitions had 100 + 5 and 30 sectors written or discarded, and 7 past them. */
static void make_disk(void)
{
        ck_assert_int_eq(mkdir_parents(AT_FDCWD, "sys/queue", 0755), 0);
        put("sys/queue/iostats", "1\n");
        put("sys/diskseq", "9\n");
        put_stat("sys/stat", 137, 5);
        put_partition("vda1", 100, 5);
        put_partition("vda2", 30, 0);
        ck_assert_int_eq(mkdir_parents(AT_FDCWD, "sys/holders", 0755), 0); /* no partition */
}

static int read_it(const char *device, struct written *w)
{
        int sys = dir_open(AT_FDCWD, "sys"), r = written_read(sys, device, w);

        close(sys);
        return r;
}

START_TEST(what_is_counted)
{
        struct written w = {};

        make_disk();
        ck_assert_int_eq(read_it("vda1", &w), 0);
        ck_assert_uint_eq(w.disk_sequence, 9);
        ck_assert_uint_eq(w.partition, 105);
        ck_assert_uint_eq(w.elsewhere, 7);
        ck_assert_int_eq(read_it("vda2", &w), 0);
        ck_assert_uint_eq(w.partition, 30);
        ck_assert_uint_eq(w.elsewhere, 7);
}
END_TEST

/* Each way in which the disk may be written to, or be another one, makes a difference. */
START_TEST(what_differs)
{
        static const struct {
                const char *what, *path;
                unsigned written, discarded;
                const char *text;
                bool differs;
        } cases[] = {
                { "nothing", "sys/diskseq", 0, 0, "9\n", false },
                { "another disk", "sys/diskseq", 0, 0, "10\n", true },
                { "the partition is written", "sys/vda1/stat", 101, 5, NULL, true },
                { "the partition is discarded", "sys/vda1/stat", 100, 6, NULL, true },
                { "the disk is written past its partitions", "sys/stat", 138, 5, NULL, true },
                { "the disk is discarded past its partitions", "sys/stat", 137, 6, NULL, true },
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct written before = {}, after = {};

                make_disk();
                ck_assert_int_eq(read_it("vda1", &before), 0);
                if (cases[i].text)
                        put(cases[i].path, cases[i].text);
                else
                        put_stat(cases[i].path, cases[i].written, cases[i].discarded);
                ck_assert_int_eq(read_it("vda1", &after), 0);
                ck_assert_msg((memcmp(&before, &after, sizeof(before)) != 0) == cases[i].differs, "%s", cases[i].what);
        }
}
END_TEST

/* Another partition's writes are no one's that is asked for: they count for the disk and for that one alike. */
START_TEST(another_partition)
{
        struct written before = {}, after = {};

        make_disk();
        ck_assert_int_eq(read_it("vda1", &before), 0);
        put_partition("vda2", 40, 2);
        put_stat("sys/stat", 147, 7);
        ck_assert_int_eq(read_it("vda1", &after), 0);
        ck_assert_mem_eq(&before, &after, sizeof(before));
}
END_TEST

START_TEST(what_cannot_be_told)
{
        static const struct {
                const char *path, *text; /* NULL: the file is gone */
                int error;
        } cases[] = {
                { "sys/queue/iostats", "0\n", -ENOTSUP },
                { "sys/queue/iostats", NULL, -ENOTSUP },
                { "sys/diskseq", NULL, -ENOTSUP },
                { "sys/diskseq", "many\n", -ENOTSUP },
                { "sys/stat", "1 2 3 4 5 6 7 8 9 10 11\n", -ENOTSUP }, /* before Linux 4.18 */
                { "sys/vda1/stat", "1 2 3 4 5 6 7 8 9 10 11\n", -ENOTSUP },
                { "sys/vda2/stat", "1 2 3 4 5 6 7 8 9 10 11\n", -ENOTSUP },
                { "sys/stat", "", -ENOTSUP },
                { "sys/stat", "1 2 3 4 5 6 seven 8 9 10 11 12 13 14\n", -EBADMSG },
                { "sys/vda1/stat", "1 2 3 4 5 6 -7 8 9 10 11 12 13 14\n", -EBADMSG },
                { "sys/stat", NULL, -ENOENT },
                { "sys/vda1/stat", NULL, -ENOENT },
                { "sys/vda1/partition", NULL, -ENOTSUP }, /* it is gone */
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct written w;

                make_disk();
                if (cases[i].text)
                        put(cases[i].path, cases[i].text);
                else
                        ck_assert_int_eq(unlink(cases[i].path), 0);
                ck_assert_msg(read_it("vda1", &w) == cases[i].error, "%s: %s", cases[i].path, cases[i].text ?: "none");
        }
        make_disk();
        ck_assert_int_eq(read_it("vda3", &(struct written){}), -ENOTSUP);
}
END_TEST

/* Files are no disks. */
START_TEST(images)
{
        struct disk disk = { .image = true, .path = "disk.img" };
        struct partition p = { .present = true, .node = "/dev/vda1", .number = 1 };

        ck_assert_int_eq(written_look(&disk, &p, &(struct written){}), -ENOTSUP);
        disk = (struct disk){ .path = "/dev/null" };
        ck_assert_int_eq(written_look(&disk, &p, &(struct written){}), -ENOTSUP);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("written");
        TCase *t = tcase_create("written");

        tcase_add_checked_fixture(t, scratch_begin, scratch_end);
        tcase_add_test(t, what_is_counted);
        tcase_add_test(t, what_differs);
        tcase_add_test(t, another_partition);
        tcase_add_test(t, what_cannot_be_told);
        tcase_add_test(t, images);
        suite_add_tcase(s, t);
        return suite_run(s);
}
