/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The upgrade of a whole machine in an image file, every write recorded: before the first byte of a slot goes, the record
 * says so and the slot's entries are gone; after a bad chunk it stays so. */
#include "bundles.h"

#include <sys/stat.h>

#include "operation/operation.h"
#include "operation/run.h"
#include "storage/table.h"

enum what { RECORD, RECORD_FLUSHED, ENTRY_GONE, DIRECTORY_FLUSHED, ROOT, ROOT_FLUSHED };
static struct event {
        enum what what;
        enum slot_state state; /* of slot a, as the record says */
        int previous;
        uint64_t offset, size;
        bool zeros;
} events[512];
static size_t n_events;

static struct disk disk;  /* of the machine whose writes are recorded */
static struct stat image; /* its file */

static struct event *note(enum what what)
{
        ck_assert_uint_lt(n_events, ARRAY_SIZE(events));
        events[n_events] = (struct event){ .what = what };
        return &events[n_events++];
}

static bool is_image(int fd)
{
        struct stat st;

        return fstat(fd, &st) == 0 && st.st_dev == image.st_dev && st.st_ino == image.st_ino;
}

static bool is_in(const struct partition *p, uint64_t offset)
{
        return offset >= p->offset && offset < p->offset + p->size;
}

static ssize_t record_pwrite(int fd, const void *data, size_t n, uint64_t offset)
{
        if (is_image(fd) && is_in(&disk.state, offset)) {
                struct event *event = note(RECORD);
                struct state state;

                ck_assert_uint_eq(n, STATE_COPY_SIZE);
                ck_assert_int_eq(state_decode(data, &state), 0);
                event->state = state.set.slots[0].state;
                event->previous = state.set.previous;
        } else if (is_image(fd)) {
                struct event *event = note(ROOT);

                ck_assert(is_in(&disk.slots[0], offset)); /* nothing else is written */
                event->offset = offset - disk.slots[0].offset;
                event->size = n;
                event->zeros = is_all_zero(data, n);
        }
        return io_system_ops.pwrite(fd, data, n, offset);
}

static int record_zero(int fd, uint64_t offset, uint64_t length)
{
        struct event *event = note(ROOT);

        ck_assert(is_image(fd) && is_in(&disk.slots[0], offset));
        event->offset = offset - disk.slots[0].offset;
        event->size = length;
        return io_system_ops.zero(fd, offset, length);
}

static int record_fsync(int fd)
{
        struct stat st;

        if (is_image(fd))
                note(n_events && events[n_events - 1].what == RECORD ? RECORD_FLUSHED : ROOT_FLUSHED);
        else if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode))
                note(DIRECTORY_FLUSHED);
        return 0;
}

static int record_unlink(int dirfd, const char *path, int flags)
{
        if (strstr(path, "bootmgr-1-a.conf"))
                note(ENTRY_GONE);
        return io_system_ops.unlink(dirfd, path, flags);
}

static void open_machine(struct machine *m, const char *cmdline)
{
        static char paths[4][PATH_MAX + 64];
        static const char *const names[] = { "disk.img", "esp", "machine-data", "conf" };
        struct machine_options options;

        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                snprintf(paths[i], sizeof(paths[i]), "%s", in_dir(names[i]));
        options = (struct machine_options){
                .disk = paths[0], .esp = paths[1], .data = paths[2], .config = paths[3], .cmdline = cmdline
        };
        ck_ok(machine_open(&options, m, e));
}

static int upgrade(const char *name, const char *cmdline, struct error *e)
{
        struct upgrade_options options = { .source = in_dir(name) };
        _cleanup_machine_ struct machine m;
        int r;

        open_machine(&m, cmdline);
        disk = m.disk;
        r = upgrade_prepare(&m, &options, NULL, e);
        return r < 0 ? r : operation_switch(&m, NULL, e);
}

static void boot(const char *cmdline)
{
        _cleanup_machine_ struct machine m;

        open_machine(&m, cmdline);
        ck_ok(operation_at_boot(&m, NULL, e));
        ck_ok(operation_confirm(&m, NULL, e));
}

#define RUNS_A "bootmgr.slot=a bootmgr.generation=1"
#define RUNS_B "bootmgr.slot=b bootmgr.generation=2"

/* Slot b runs, a is what one could go back to. */
static void begin(void)
{
        struct layout_spec spec = { .image_size = MIB(64), .esp_size = MIB(34), .root_size = MIB(4) };
        struct layout layout = {};

        bundles_begin();
        sh("mkdir esp machine-data; printf '[System]\\nCompatible=box\\n[Trust]\\nDirectory=%s/trust\\n' >conf", dir);
        ck_ok(layout_make(in_dir("disk.img"), &spec, &layout, e));
        layout_done(&layout);
        ck_ok(upgrade("bundle", "", e));
        boot(RUNS_A);
        ck_ok(upgrade("bundle", RUNS_A, e));
        boot(RUNS_B);
        sh("test -e esp/loader/entries/bootmgr-1-a.conf; test -e esp/loader/entries/bootmgr-2-b.conf");
        ck_assert_int_eq(stat(in_dir("disk.img"), &image), 0);
        sh("mkdir saved; cp -a --sparse=always disk.img esp machine-data saved/");
}

static void restart(void)
{
        sh("rm -rf esp machine-data; cp -a saved/esp saved/machine-data .; cat saved/disk.img >disk.img");
        ck_assert_int_eq(stat(in_dir("disk.img"), &image), 0);
        n_events = 0;
}

static int upgrade_recorded(const char *name, struct error *e)
{
        struct io_ops ops = io_system_ops;
        int r;

        ops.pwrite = record_pwrite;
        ops.zero = record_zero;
        ops.fsync = record_fsync;
        ops.unlink = record_unlink;
        io_set_ops(&ops);
        r = upgrade(name, RUNS_B, e);
        io_set_ops(NULL);
        return r;
}

static size_t first_of(enum what what, size_t from)
{
        for (size_t i = from; i < n_events; i++)
                if (events[i].what == what)
                        return i;
        ck_abort_msg("event %d is missing", what);
        return 0;
}

/* What must have happened when the first byte of the root goes. */
static void ck_announced(void)
{
        size_t root = first_of(ROOT, 0), record = first_of(RECORD, 0), flushed = first_of(RECORD_FLUSHED, record);
        size_t gone = first_of(ENTRY_GONE, 0), directory = first_of(DIRECTORY_FLUSHED, gone);

        ck_assert_int_eq(events[record].state, SLOT_INCOMPLETE);
        ck_assert_int_eq(events[record].previous, SLOT_NONE); /* the way back is gone, and it is said so */
        ck_assert_uint_lt(flushed, gone);                     /* recorded before its entry goes */
        ck_assert_uint_lt(directory, root);
        ck_assert_uint_eq(events[root].offset, 0);
        ck_assert_uint_eq(events[root].size, 4096);
        ck_assert(events[root].zeros);
        ck_assert_int_eq(events[root + 1].what, ROOT_FLUSHED);
}

START_TEST(announced_before_the_first_byte)
{
        size_t last = 0;

        restart();
        ck_ok(upgrade_recorded("bundle", e));
        ck_announced();
        for (size_t i = 0; i < n_events; i++)
                if (events[i].what == ROOT)
                        last = i;
        /* Its first block comes last, and only behind that does a record say that it is whole. */
        ck_assert_uint_eq(events[last].offset, 0);
        ck_assert(!events[last].zeros);
        ck_assert_int_eq(events[last + 1].what, ROOT_FLUSHED);
        for (size_t i = 0; i < n_events; i++)
                if (events[i].what == RECORD)
                        ck_assert((events[i].state == SLOT_INCOMPLETE) == (i < last));
}
END_TEST

static void damage(uint64_t offset)
{
        _cleanup_close_ int fd = open(in_dir("disk.img"), O_WRONLY | O_CLOEXEC);

        ck_assert_int_eq(pwrite(fd, "x", 1, (off_t)offset), 1);
}

START_TEST(incomplete_after_a_bad_chunk)
{
        _cleanup_free_ char *data = NULL;
        _cleanup_machine_ struct machine m;
        size_t size;

        restart();
        /* What either slot holds would be taken from there. */
        damage(disk.slots[0].offset + 3 * CHUNK);
        damage(disk.slots[1].offset + 3 * CHUNK);
        data = get("bundle", &size);
        data[size - 3] ^= 1;
        put("broken", data, size);
        ck_refused_saying(upgrade_recorded("broken", e), kind_content, "chunk 3 of image root");
        ck_announced();
        for (size_t i = 0; i < n_events; i++)
                if (events[i].what == RECORD)
                        ck_assert_int_eq(events[i].state, SLOT_INCOMPLETE);
        sh("test \"$(ls esp/loader/entries)\" = bootmgr-2-b.conf");
        open_machine(&m, RUNS_B);
        ck_assert_int_eq(m.state.set.slots[0].state, SLOT_INCOMPLETE);
        ck_assert_int_eq(m.state.set.slots[1].state, SLOT_CONFIRMED);
        ck_assert_int_eq(m.state.set.previous, SLOT_NONE);
        /* And a second try succeeds. */
        ck_ok(upgrade("bundle", RUNS_B, e));
        sh("test -e esp/loader/entries/bootmgr-3-a+3-0.conf");
}
END_TEST

/* What is refused before is refused before anything is written. */
START_TEST(a_refusal_writes_nothing)
{
        _cleanup_free_ char *data = NULL;
        size_t size;

        restart();
        data = get("bundle", &size);
        for (size_t at = 0; at < parts_of(data).index; at += 41) {
                _cleanup_error_ struct error e = {};

                data[at] ^= 1;
                put("broken", data, size);
                data[at] ^= 1;
                ck_assert_int_lt(upgrade_recorded("broken", &e), 0);
                ck_assert_int_eq(e.kind->exit_status, 3);
                ck_assert_uint_eq(n_events, 0);
        }
        sh("cmp disk.img saved/disk.img; diff -r esp saved/esp; diff -r machine-data saved/machine-data");
}
END_TEST

static char *replaced(char *old, const char *text)
{
        free(old);
        return strdup(text);
}

/* Of a machine that runs: where the initramfs would not look for it, no version gets an /etc. */
START_TEST(an_etc_that_the_initramfs_would_not_find)
{
        struct upgrade_options options = { .source = in_dir("no-such-bundle") };
        _cleanup_machine_ struct machine m;

        restart();
        open_machine(&m, RUNS_B);
        m.offline = false;
        m.options.data = NULL;
        m.config.data = replaced(m.config.data, "/srv/bootmgr");
        ck_refused_saying(upgrade_prepare(&m, &options, NULL, e), kind_config_invalid, "DataDirectory= is /srv/bootmgr");
        m.config.etc_overlay = false;
        ck_refused_saying(upgrade_prepare(&m, &options, NULL, e), kind_fetch, "no-such-bundle");
        m.config.etc_overlay = true;
        m.config.data = replaced(m.config.data, CONFIG_DATA);
        ck_refused_saying(upgrade_prepare(&m, &options, NULL, e), kind_fetch, "no-such-bundle");
}
END_TEST

int main(void)
{
        Suite *s = suite_create("write-order");
        TCase *t = tcase_create("write-order");

        tcase_add_unchecked_fixture(t, begin, machine_end);
        tcase_set_timeout(t, 120);
        tcase_add_test(t, announced_before_the_first_byte);
        tcase_add_test(t, incomplete_after_a_bad_chunk);
        tcase_add_test(t, a_refusal_writes_nothing);
        tcase_add_test(t, an_etc_that_the_initramfs_would_not_find);
        suite_add_tcase(s, t);
        return suite_run(s);
}
