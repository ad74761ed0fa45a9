/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* bootmgr-recover: what the initramfs runs.
 *
 *      boot         before the root is mounted: decide, count the attempt, switch away from what cannot boot
 *      mount ROOT   after it is mounted: data, the slot's /etc (not with a writable root, "rw": it has its own)
 *      failed       the root cannot be mounted
 *
 * It never makes a boot fail because it cannot work itself: it says why and lets the boot go on. Exit
 * status: 0 go on; 1 it could not do its work; it does not return when the machine is to start again. */
#include <fcntl.h>
#include <linux/reboot.h>
#include <sys/reboot.h>
#include <time.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/parse.h"
#include "operation/boot.h"
#include "recover/mount.h"

#define RUN_DIRECTORY "/run/bootmgr"
#define EFIVARS       "/sys/firmware/efi/efivars"
#define DISK_TIMEOUT  (10 * USEC_PER_SEC)
#define RETRY_SECONDS 300 /* until a boot that cannot go on is tried again */
#define PAGE_SECONDS  10  /* that a person has to read why the last slot boots without a try left */

struct recover {
        const char *disk_path, *esp, *cmdline_option; /* for tests on an image */
        char *cmdline;
        struct disk disk;
        int slot;
        uint64_t generation;
        uint64_t start; /* monotonic µs */
};

static void find_slot(struct recover *c)
{
        _cleanup_free_ char *slot = cmdline_get(c->cmdline, "bootmgr.slot");
        _cleanup_free_ char *generation = cmdline_get(c->cmdline, "bootmgr.generation");

        c->slot = slot ? slot_from_name(slot) : SLOT_NONE;
        if (!generation || parse_u64(generation, &c->generation) < 0)
                c->generation = 0;
}

/* There may be no udev, and disks appear when they like. */
static int find_disk(struct recover *c, struct error *e)
{
        _cleanup_free_ char *root = cmdline_get(c->cmdline, "root");
        struct disk_spec spec = { .path = c->disk_path, .root_partuuid = root ? startswith(root, "PARTUUID=") : NULL };
        uint64_t deadline = now_monotonic() + DISK_TIMEOUT;

        for (;;) {
                int r = disk_find(&spec, &c->disk, e);

                if (r >= 0 || c->disk_path || now_monotonic() > deadline)
                        return r;
                error_done(e);
                nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL);
        }
}

static int open_machine(struct recover *c, struct error *e)
{
        int r;

        c->start = now_monotonic();
        if (c->cmdline_option) {
                c->cmdline = strdup(c->cmdline_option);
                r = c->cmdline ? 0 : -ENOMEM;
        } else {
                r = file_read(AT_FDCWD, "/proc/cmdline", 65536, &c->cmdline, NULL);
        }
        if (r < 0)
                return fail_errno(e, r, "cannot read the kernel command line");
        find_slot(c);
        return c->slot == SLOT_NONE ? 0 : find_disk(c, e);
}

/* What a new entry for the other slot gets besides our own words: what this boot was given. */
static char *extra_cmdline(const char *cmdline)
{
        static const char *const ours[] = { "root=", "panic=", "bootmgr.", "initrd=", "BOOT_IMAGE=" };
        _cleanup_free_ char *copy = strdup(cmdline);
        struct buf b = {};
        char *cursor = copy, *word;

        while (cursor && (word = strsep(&cursor, " \n"))) {
                bool skip = !*word || streq(word, "ro") || streq(word, "rw") || streq(word, "gpt");

                for (size_t i = 0; i < ARRAY_SIZE(ours); i++)
                        skip = skip || startswith(word, ours[i]);
                if (!skip)
                        buf_printf(&b, "%s%s", b.size ? " " : "", word);
        }
        return buf_take(&b);
}

static void write_result(struct recover *c, const struct boot_decision *d)
{
        _cleanup_buf_ struct buf b = {};
        char hex[33];
        uint8_t id[16];

        if (c->disk_path || boot_id(id) < 0 || mkdir_parents(AT_FDCWD, RUN_DIRECTORY, 0755) < 0)
                return;
        hex_encode(id, sizeof(id), hex);
        buf_printf(&b, "boot_id=%s\nslot=%c\ngeneration=%llu\ndisk=%s\nfound=%s\nusec=%llu\n", hex, slot_name(c->slot),
                   (unsigned long long)c->generation, c->disk.path, boot_found_to_string(d->found),
                   (unsigned long long)(now_monotonic() - c->start));
        if (!b.failed)
                file_replace_volatile(AT_FDCWD, RUN_DIRECTORY "/boot", b.data, b.size, 0644);
}

/* How long the mounts took goes behind what the decision left. */
static void write_mount_time(const struct recover *c, uint64_t data_usec)
{
        _cleanup_close_ int fd = open(RUN_DIRECTORY "/boot", O_WRONLY | O_APPEND | O_CLOEXEC);
        char line[96];
        int n = snprintf(line, sizeof(line), "mount_usec=%llu\nmount_data_usec=%llu\n",
                         (unsigned long long)(now_monotonic() - c->start), (unsigned long long)data_usec);

        if (fd >= 0 && write(fd, line, (size_t)n) < 0)
                log_debug("the time of the mounts is not kept: %s", error_text(-errno));
}

static int mount_all(const struct recover *c, const char *root, struct error *e)
{
        uint64_t data_usec = 0;
        int r;

        if (c->slot == SLOT_NONE || cmdline_has(c->cmdline, "rw"))
                return 0;
        r = mount_slot(&c->disk, c->slot, root, &data_usec, e);
        if (r >= 0)
                write_mount_time(c, data_usec);
        return r;
}

static void start_again(const struct recover *c, const char *why)
{
        log_message(LOG_LEVEL_WARNING, "%s: starting again", why);
        if (c->disk_path)
                return; /* a test on an image */
        sync();
        reboot(LINUX_REBOOT_CMD_RESTART);
}

static void print_page(const struct recover *c, const struct slot_set *set, bool goes_on)
{
        log_error("%s", goes_on                    ? "the slot that boots has used up its tries, and no other can be booted"
                        : slot_set_selectable(set) ? "the bootloader starts a slot that cannot be used, whatever it is told"
                                                   : "no slot can be booted");
        for (int i = 0; i < set->n_slots; i++)
                log_error("  slot %c: %s%s%s", slot_name(i), slot_state_to_string(set->slots[i].state),
                          set->slots[i].reason ? ": " : "", slot_reason_to_string(set->slots[i].reason));
        if (goes_on)
                log_error("it boots all the same in %d seconds; 'bootmgr upgrade system' writes the other slot anew",
                          PAGE_SECONDS);
        else
                log_error("the machine tries again in %d seconds", RETRY_SECONDS);
}

/* A whole system without any try left is the last that may come up, e.g. when power was cut in each of its tries: it is
 * booted, by itself. The wait keeps one that dies at once from spinning. What cannot go on is tried again slowly. */
static void recover(struct recover *c, const struct boot_decision *d)
{
        bool goes_on = d->found == BOOT_FOUND_EXHAUSTED;

        print_page(c, &d->set, goes_on);
        if (!c->disk_path)
                nanosleep(&(struct timespec){ .tv_sec = goes_on ? PAGE_SECONDS : RETRY_SECONDS }, NULL);
        if (!goes_on)
                start_again(c, "no slot can be booted");
}

static int act(struct recover *c, struct state_place *place, struct state *state, const struct boot_decision *d,
               struct loader *loader, struct error *e)
{
        _cleanup_free_ char *extra = extra_cmdline(c->cmdline);
        int r;

        r = boot_carry_out(d, &c->disk, place, state, loader, extra, cmdline_has(c->cmdline, "rw"), e);
        if (r < 0)
                return r;
        log_info("slot %c, generation %llu: %s", slot_name(c->slot), (unsigned long long)c->generation,
                 boot_found_to_string(d->found));
        write_result(c, d);
        if (d->action == BOOT_REBOOT)
                start_again(c, "another slot boots instead");
        if (d->action == BOOT_RECOVERY)
                recover(c, d);
        return 0;
}

/* On an ESP that cannot be written the loader counts no tries: the record must, so the decision is made all the same,
 * from what can be read. */
static int open_loader(struct recover *c, struct loader *ret)
{
        const struct {
                const char *name;
                bool write;
        } ways[] = { { loader_systemd_boot.name, true }, { loader_systemd_boot.name, false }, { loader_none.name, false } };
        int r = 0;

        for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
                _cleanup_error_ struct error why = {};

                r = loader_open(ret, ways[i].name, &c->disk, c->esp, c->disk_path ? NULL : EFIVARS, ways[i].write, &why);
                if (r >= 0)
                        break;
                log_warning("%s", why.message ?: error_text(r));
        }
        return r;
}

static int run_decision(struct recover *c, enum slot_reason root_failed, struct error *e)
{
        struct boot_input in = {
                .slot = c->slot,
                .generation = c->generation,
                .start = boot_start_parse(c->cmdline),
                .now = now_realtime(),
                .root_failed = root_failed,
        };
        _cleanup_free_ struct loader_entry *entries = NULL;
        struct boot_decision d;
        struct state_place place;
        struct loader loader;
        struct state state;
        int r;

        if (c->slot == SLOT_NONE)
                return 0;
        r = boot_id(in.boot_id);
        if (r >= 0)
                r = state_place_open(&c->disk, NULL, O_RDWR, &place, e);
        if (r < 0)
                return r;
        r = state_load(&place, &state, NULL);
        in.record_lost = r == -ENODATA;
        if (in.record_lost)
                slot_set_init(&state.set, MAX(c->disk.n_slots, 2));
        if (r >= 0 || in.record_lost)
                r = open_loader(c, &loader);
        if (r >= 0) {
                in.set = state.set;
                in.entries_known = loader.ops->list(&loader, &entries, &in.n_entries, NULL) >= 0;
                in.entries = entries;
                boot_decide(&in, &d);
                r = act(c, &place, &state, &d, &loader, e);
                loader_close(&loader);
        }
        state_place_close(&place);
        return r;
}

static int usage(void)
{
        fprintf(stderr, "usage: bootmgr-recover [--disk IMAGE --esp DIR --cmdline STRING] boot | mount ROOT | failed\n");
        return 2;
}

int main(int argc, char **argv)
{
        struct recover c = { .slot = SLOT_NONE };
        struct error e = {};
        const char *verb;
        int i, r;

        for (i = 1; i + 1 < argc && startswith(argv[i], "--"); i += 2) {
                if (streq(argv[i], "--disk"))
                        c.disk_path = argv[i + 1];
                else if (streq(argv[i], "--esp"))
                        c.esp = argv[i + 1];
                else if (streq(argv[i], "--cmdline"))
                        c.cmdline_option = argv[i + 1];
                else
                        return usage();
        }
        verb = i < argc ? argv[i] : "";
        if (!streq(verb, "boot") && !streq(verb, "failed") && !(streq(verb, "mount") && i + 1 < argc))
                return usage();
        r = open_machine(&c, &e);
        if (r >= 0 && streq(verb, "mount"))
                r = mount_all(&c, argv[i + 1], &e);
        else if (r >= 0)
                r = run_decision(&c, streq(verb, "failed") ? REASON_ROOT_MOUNT : REASON_NONE, &e);
        if (r < 0)
                log_error("%s: %s", verb, e.message ?: error_text(r));
        error_done(&e);
        free(c.cmdline);
        return r < 0 ? 1 : 0;
}
