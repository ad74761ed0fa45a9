/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Room in the ESP's directories: given by what is deleted and by new clusters, and whatever a power cut leaves of that,
 * every file is still there. File systems and files are those of mkfs.vfat and mtools, fsck.vfat says whether they are
 * whole. */
#include <sys/stat.h>

#include "base/buf.h"
#include "base/io.h"
#include "loader/vfat.h"

#include "scratch.h"
#include "suite.h"

#define SECTOR  512
#define PENDING 256

static const struct form {
        const char *mkfs;
        unsigned mib, cluster;
} forms[] = {
        { "-F 32 -s 1", 40, 512 },
        { "-F 32 -s 8", 300, 4096 },
        { "-F 16 -s 4", 64, 2048 },
        { "-F 32 -s 1 -f 1", 40, 512 },
};

/* So many entries, and files between the directories and what is free: that is in another sector of the FAT. */
static int make(const struct form *f, int entries)
{
        int fd;

        must("rm -f esp; truncate -s %uM esp; mkfs.vfat %s esp >log; mmd -i esp ::loader ::loader/entries ::bootmgr", f->mib,
             f->mkfs);
        must("truncate -s %u big; mcopy -i esp big ::", f->cluster * 300);
        for (int i = 1; i <= entries; i++)
                must("echo title %d >bootmgr-%d-a.conf; mcopy -i esp bootmgr-%d-a.conf ::loader/entries", i, i, i);
        must("echo kernel >file; mcopy -i esp file ::bootmgr/000102030405060708090a0b0c0d0e0f; mcopy -i esp big ::bigger");
        fd = open("esp", O_RDWR | O_CLOEXEC);
        ck_assert_int_ge(fd, 0);
        return fd;
}

static void check_whole(int entries)
{
        must("fsck.vfat -n esp >log");
        for (int i = 1; i <= entries; i++)
                must("mtype -i esp ::loader/entries/bootmgr-%d-a.conf | cmp - bootmgr-%d-a.conf", i, i);
        must("mtype -i esp ::bootmgr/000102030405060708090a0b0c0d0e0f | cmp - file");
}

static unsigned clusters_of(const char *path)
{
        unsigned n = 0, first, last;
        char command[256], c = '\0';
        FILE *f;

        snprintf(command, sizeof(command), "mshowfat -i esp ::%s | grep -o '<[^>]*>' | tr -d '<>' | tr '-' ' '", path);
        f = popen(command, "r");
        ck_assert_ptr_nonnull(f);
        for (char line[64]; fgets(line, sizeof(line), f);)
                n += sscanf(line, "%u %u%c", &first, &last, &c) >= 2 ? last - first + 1 : 1;
        ck_assert_int_eq(pclose(f), 0);
        return n;
}

START_TEST(room_is_added_once)
{
        const struct form *f = &forms[_i];
        unsigned added = MAX(8192 / f->cluster, 1U), full = MAX(f->cluster / 32, 36U) / 3 - 7;
        int fd = make(f, (int)full);

        ck_assert_int_eq(vfat_make_room(fd, true), 1);
        check_whole((int)full);
        ck_assert_int_eq(vfat_make_room(fd, false), 1);
        check_whole((int)full);
        ck_assert_int_eq(vfat_make_room(fd, false), 0);
        ck_assert_uint_ge(clusters_of("loader/entries"), added + 1);
        /* As many names as firmware may add find their place without another cluster. */
        for (unsigned n = clusters_of("loader/entries"), i = 0; i < VFAT_ROOM / 3; i++) {
                must("echo title >t; mcopy -i esp t ::loader/entries/bootmgr-9%03u-a+3-0.conf", i);
                ck_assert_uint_eq(clusters_of("loader/entries"), n);
        }
        close(fd);
}
END_TEST

START_TEST(what_is_deleted_at_the_end_gives_room)
{
        const struct form *f = &forms[_i];
        int n = MAX((int)f->cluster / 32 / 3 - 7, 30), fd = make(f, n);
        unsigned before = clusters_of("loader/entries");

        must("for i in $(seq 11 %d); do mdel -i esp ::loader/entries/bootmgr-$i-a.conf; done", n);
        ck_assert_int_eq(vfat_make_room(fd, false), 1);
        check_whole(10);
        ck_assert_int_eq(vfat_make_room(fd, false), 0);
        ck_assert_uint_eq(clusters_of("loader/entries"), before);
        close(fd);
}
END_TEST

START_TEST(what_is_not_known_stays_as_it_is)
{
        static const struct {
                const char *how;
        } rows[] = {
                { "truncate -s 1M esp; mkfs.vfat -F 12 esp" },
                { "truncate -s 40M esp" },
                { "truncate -s 100 esp" },
                { "truncate -s 8M esp; mke2fs -q -F esp" },
                /* The root's chain ends nowhere. */
                { "truncate -s 40M esp; mkfs.vfat -F 32 -s 1 esp; printf '\\0\\0\\0\\0' | dd of=esp bs=1 seek=$((32 * 512 + "
                  "8)) conv=notrunc" },
                /* A file system of 32 TiB in 40 MiB. */
                { "truncate -s 40M esp; mkfs.vfat -F 32 -s 1 esp; printf '\\377\\377\\377\\377' | dd of=esp bs=1 seek=32 "
                  "conv=notrunc" },
                /* The partition ends before its file system: what is free lies behind the end. */
                { "truncate -s 12M esp; mkfs.vfat -F 16 -s 4 esp; mmd -i esp ::bootmgr; for i in $(seq 20); do mmd -i esp "
                  "::bootmgr/directory-$i; done; truncate -s 1M big; mcopy -i esp big ::; truncate -s 1M esp" },
                /* The name of a directory leads to a file's content, where some of it looks deleted. */
                { "truncate -s 40M esp; mkfs.vfat -F 32 -s 1 esp; mmd -i esp ::bootmgr; { printf '\\345%511s'; } >f; mcopy "
                  "-i "
                  "esp f ::; at=$(grep -abo 'BOOTMGR    ' esp | cut -d: -f1); printf '\\004' | dd of=esp bs=1 "
                  "seek=$((at + 26)) conv=notrunc" },
        };
        int fd;

        must("{ %s; } >log 2>&1; cp esp before", rows[_i].how);
        fd = open("esp", O_RDWR | O_CLOEXEC);
        ck_assert_int_ge(fd, 0);
        ck_assert_int_lt(vfat_make_room(fd, false), 0);
        must("cmp esp before");
        close(fd);
}
END_TEST

START_TEST(without_directories_there_is_nothing_to_do)
{
        int fd;

        must("truncate -s 40M esp; mkfs.vfat -F 32 -s 1 esp >log; cp esp before");
        fd = open("esp", O_RDWR | O_CLOEXEC);
        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(vfat_make_room(fd, false), 0);
        must("cmp esp before");
        close(fd);
}
END_TEST

/* Power cuts: what is durable, and the sectors that are not yet. A reader of its own says what firmware finds. */
static struct cuts {
        uint8_t *disk;
        struct {
                uint64_t number;
                uint8_t data[SECTOR];
        } pending[PENDING];
        unsigned n, states, broken;
        const char *skip, *sites[8];
        uint64_t chosen[PENDING / 64];
        uint32_t fat, data, expected; /* in sectors; files */
} cuts;

static const uint8_t *sector(uint64_t number)
{
        for (unsigned i = 0; i < cuts.n; i++)
                if (cuts.pending[i].number == number && cuts.chosen[i / 64] >> i % 64 & 1)
                        return cuts.pending[i].data;
        return cuts.disk + number * SECTOR;
}

static uint32_t next_cluster(uint32_t cluster)
{
        return get_le32(sector(cuts.fat + cluster / 128) + cluster % 128 * 4) & 0x0fffffff;
}

/* The names in a directory of clusters of one sector, or -1. Firmware stops at the first slot that was never used. */
static int count_names(uint32_t cluster, unsigned *unused, const char *name, uint32_t *ret)
{
        int n = 0;
        bool end = false;

        *unused = 0;
        for (unsigned steps = 0; cluster < 0x0ffffff8; cluster = next_cluster(cluster)) {
                if (cluster < 2 || cluster > 80000 || ++steps > 1000)
                        return -1;
                for (const uint8_t *s = sector(cuts.data + cluster - 2), *slot = s; slot < s + SECTOR; slot += 32) {
                        end = end || !*slot;
                        *unused += end;
                        if (end || *slot == 0xe5 || slot[11] & 8 || *slot == '.')
                                continue;
                        n++;
                        if (name && memcmp(slot, name, 11) == 0)
                                *ret = (uint32_t)get_le16(slot + 20) << 16 | get_le16(slot + 26);
                }
        }
        return n;
}

/* *unused: of both directories the smaller. */
static bool is_readable(unsigned *unused)
{
        uint32_t loader = 0, entries = 0, files = 0;
        unsigned other, of_files = 0;
        bool readable;

        *unused = 0;
        readable = count_names(2, &other, "LOADER     ", &loader) == 4 &&
                   count_names(2, &other, "BOOTMGR    ", &files) == 4 &&
                   count_names(loader, &other, "ENTRIES    ", &entries) == 1 &&
                   count_names(files, &of_files, NULL, NULL) == 1 &&
                   count_names(entries, unused, NULL, NULL) == (int)cuts.expected;
        *unused = MIN(*unused, of_files);
        return readable;
}

static void look(void)
{
        unsigned unused;

        cuts.states++;
        cuts.broken += !is_readable(&unused);
}

/* Prefixes, one alone, one left out, and by chance. */
static void enumerate(void)
{
        uint64_t random = 88172645463325252u;

        for (unsigned kind = 0; kind < 3; kind++)
                for (unsigned i = 0; i <= cuts.n; i++) {
                        for (unsigned k = 0; k < cuts.n; k++) {
                                uint64_t bit = (uint64_t)1 << k % 64;
                                bool in = kind == 0 ? k < i : kind == 1 ? k == i : k != i;

                                cuts.chosen[k / 64] = in ? cuts.chosen[k / 64] | bit : cuts.chosen[k / 64] & ~bit;
                        }
                        look();
                }
        for (unsigned i = 0; i < 500; i++) {
                for (size_t k = 0; k < ARRAY_SIZE(cuts.chosen); k++) {
                        random ^= random << 13;
                        random ^= random >> 7;
                        random ^= random << 17;
                        cuts.chosen[k] = random;
                }
                look();
        }
}

static ssize_t cut_pwrite(int fd, const void *data, size_t n, uint64_t offset)
{
        uint64_t number = offset / SECTOR;
        unsigned i = 0;

        ck_assert_uint_le(offset % SECTOR + n, SECTOR);
        while (i < cuts.n && cuts.pending[i].number != number)
                i++;
        ck_assert_uint_lt(i, PENDING);
        if (i == cuts.n) {
                cuts.pending[cuts.n++].number = number;
                memcpy(cuts.pending[i].data, cuts.disk + number * SECTOR, SECTOR);
        }
        memcpy(cuts.pending[i].data + offset % SECTOR, data, n);
        return io_system_ops.pwrite(fd, data, n, offset);
}

/* With one of them, wherever it is called, left out. */
static int cut_fsync(int fd _unused_)
{
        size_t i = 0;

        while (cuts.sites[i] && !streq(cuts.sites[i], io_site))
                i++;
        ck_assert_uint_lt(i, ARRAY_SIZE(cuts.sites) - 1);
        cuts.sites[i] = io_site;
        if (streq(cuts.skip, io_site))
                return 0;
        enumerate();
        for (i = 0; i < cuts.n; i++)
                memcpy(cuts.disk + cuts.pending[i].number * SECTOR, cuts.pending[i].data, SECTOR);
        cuts.n = 0;
        return 0;
}

/* How many states were not as they must be; what is durable at the end must have the room. */
static unsigned broken_without(const char *barrier, bool deleted)
{
        struct io_ops ops = io_system_ops;
        unsigned unused;
        struct stat st;
        int fd = make(&forms[0], 15);

        if (deleted)
                must("for i in $(seq 6 15); do mdel -i esp ::loader/entries/bootmgr-$i-a.conf; done");
        ck_assert_int_eq(fstat(fd, &st), 0);
        cuts = (struct cuts){ .disk = malloc((size_t)st.st_size), .skip = barrier, .expected = deleted ? 5 : 15 };
        ck_assert_ptr_nonnull(cuts.disk);
        ck_assert_int_eq(pread(fd, cuts.disk, (size_t)st.st_size, 0), (ssize_t)st.st_size);
        cuts.fat = get_le16(cuts.disk + 14);
        cuts.data = cuts.fat + cuts.disk[16] * get_le32(cuts.disk + 36);
        ck_assert(is_readable(&unused) && unused < VFAT_ROOM);
        ops.pwrite = cut_pwrite;
        ops.fsync = cut_fsync;
        io_set_ops(&ops);
        ck_assert_int_eq(vfat_make_room(fd, false), 1);
        io_set_ops(NULL);
        enumerate();
        memset(cuts.chosen, 0, sizeof(cuts.chosen));
        cuts.broken += !is_readable(&unused) || unused < VFAT_ROOM;
        free(cuts.disk);
        close(fd);
        return cuts.broken;
}

START_TEST(no_power_cut_loses_a_name)
{
        const char *sites[ARRAY_SIZE(cuts.sites)];

        ck_assert_uint_eq(broken_without(NULL, _i), 0);
        ck_assert_uint_gt(cuts.states, 1500);
        memcpy(sites, cuts.sites, sizeof(sites));
        for (size_t i = 0; sites[i]; i++)
                ck_assert_msg(broken_without(sites[i], _i) > 0, "everything holds without %s", sites[i]);
        ck_assert_ptr_nonnull(sites[1]);
}
END_TEST

int main(void)
{
        Suite *suite = suite_create("vfat");
        TCase *tests = tcase_create("vfat");

        tcase_set_timeout(tests, 60);
        tcase_add_checked_fixture(tests, scratch_begin, scratch_end);
        tcase_add_loop_test(tests, room_is_added_once, 0, ARRAY_SIZE(forms));
        tcase_add_loop_test(tests, what_is_deleted_at_the_end_gives_room, 0, ARRAY_SIZE(forms));
        tcase_add_loop_test(tests, what_is_not_known_stays_as_it_is, 0, 8);
        tcase_add_test(tests, without_directories_there_is_nothing_to_do);
        tcase_add_loop_test(tests, no_power_cut_loses_a_name, 0, 2);
        suite_add_tcase(suite, tests);
        return suite_run(suite);
}
