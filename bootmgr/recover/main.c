/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* bootmgr-recover: what the initramfs runs.
 *
 *      start [try]  begin with "boot" beside what else is done until then: it need not wait for all devices, and little is
 *                   left to wait for
 *      boot [try]   before the root is mounted: decide, count the attempt, switch away from what cannot boot, and from a
 *                   root without a filesystem; with "try" also from one that cannot be mounted: for an initramfs that
 *                   runs nothing once that has failed
 *      mount ROOT   after it is mounted: a root without an init is left; else data, the slot's /etc (not with a writable
 *                   root, "rw": it has its own)
 *      failed [ROOT]  the root cannot be mounted; or it is, at ROOT, and its system cannot be started
 *      superblock DEVICE  one that a power cut has torn is made right: before e2fsck, which does not (units/resume)
 *
 * It never makes a boot fail because it cannot work itself: it says why and lets the boot go on. Exit
 * status: 0 go on; 1 it could not do its work; it does not return when the machine is to start again. */
#include <fcntl.h>
#include <linux/reboot.h>
#include <sys/file.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <time.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/parse.h"
#include "loader/esp.h"
#include "operation/boot.h"
#include "recover/coming_up.h"
#include "recover/mount.h"
#include "recover/recovery.h"
#include "storage/verified.h"

#define RUN_DIRECTORY "/run/bootmgr"
#define STARTED       RUN_DIRECTORY "/recover.lock" /* held by what "start" has begun */
#define DECIDED       RUN_DIRECTORY "/decided"      /* that has ended well */
#define EFIVARS       "/sys/firmware/efi/efivars"
#define DISK_TIMEOUT  (10 * USEC_PER_SEC)
#define UNREAD_WAIT   10 /* seconds that a record which cannot be read gets before the slot is left without it */
#define PAGE_SECONDS  10 /* that a person has to read why the last slot boots without a try left */

struct recover {
        const char *disk_path, *esp, *cmdline_option, *console, *result; /* for tests on an image */
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
        if (!generation || parse_u64(generation, &c->generation) < 0 || c->generation > GENERATION_MAX)
                c->generation = 0;
}

/* A disk is there before its partitions are. */
static bool has_nodes(const struct disk *disk)
{
        const struct partition *all[] = { &disk->esp, &disk->state, &disk->data };

        for (size_t i = 0; i < ARRAY_SIZE(all); i++)
                if (*all[i]->node && access(all[i]->node, F_OK) < 0)
                        return false;
        for (int i = 0; i < disk->n_slots; i++)
                if (*disk->slots[i].node && access(disk->slots[i].node, F_OK) < 0)
                        return false;
        return true;
}

/* There may be no udev, and disks appear when they like: a spare or former one with the same layout perhaps before that of
 * this boot, whose record it is that counts. Once the time is over another one will do: where the partition of the root has
 * gone from the table the machine still has its other slot. */
static int find_disk(struct recover *c, struct error *e)
{
        _cleanup_free_ char *root = cmdline_get(c->cmdline, "root");
        struct disk_spec spec = { .path = c->disk_path,
                                  .root_partuuid = root ? startswith(root, "PARTUUID=") : NULL,
                                  .gpt_only = true };
        uint64_t deadline = now_monotonic() + DISK_TIMEOUT;

        for (;;) {
                int r;

                c->start = now_monotonic(); /* waiting for the disk is no work of ours */
                spec.root_only = c->start <= deadline;
                r = disk_find(&spec, &c->disk, e);
                if (r >= 0 && !spec.root_only && spec.root_partuuid && !c->disk.has_root)
                        log_warning("no disk has the root of this boot, PARTUUID=%s: %s is taken", spec.root_partuuid,
                                    c->disk.path);
                if ((r >= 0 && has_nodes(&c->disk)) || c->disk_path || !spec.root_only)
                        return r;
                error_done(e);
                nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
        }
}

/* What the decision of this boot has left: then the disk need not be searched again. */
static int read_data_node(struct recover *c)
{
        _cleanup_free_ char *text = NULL;
        char *cursor, *line, *data = c->disk.data.node;
        int r;

        r = c->disk_path ? -ENOENT : file_read(AT_FDCWD, BOOT_RESULT, BOOT_RESULT_MAX, &text, NULL);
        if (r < 0)
                return r;
        cursor = text;
        while ((line = line_next(&cursor))) {
                const char *value = startswith(line, "data=");

                if (value && strlen(value) < sizeof(c->disk.data.node))
                        strcpy(data, value);
        }
        c->disk.data.present = *data;
        return *data ? 0 : -ENOENT;
}

static int open_machine(struct recover *c, bool mount, struct error *e)
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
        if (c->slot == SLOT_NONE || (mount && read_data_node(c) >= 0))
                return 0;
        return find_disk(c, e);
}

/* What a new entry for the other slot gets besides our own words: what this boot was given. */
static char *extra_cmdline(const char *cmdline)
{
        static const char *const ours[] = {
                "root=", "panic=", "bootmgr.", "initrd=", "BOOT_IMAGE=", "systemd.crash_reboot=1"
        };
        _cleanup_free_ char *copy = strdup(cmdline);
        struct buf b = {};
        char *cursor = copy, *word;

        while (cursor && (word = strsep(&cursor, " \n"))) {
                bool skip = !*word || streq(word, "ro") || streq(word, "rw") || streq(word, "gpt");

                for (size_t i = 0; i < ARRAY_SIZE(ours); i++)
                        skip = skip || startswith(word, ours[i]);
                skip = skip && !startswith(word, "bootmgr.retry=");
                if (!skip)
                        buf_printf(&b, "%s%s", b.size ? " " : "", word);
        }
        return buf_take(&b);
}

/* `set`: what is so now, with a trial that has begun in this boot. */
static void write_result(struct recover *c, const struct boot_decision *d, const struct slot_set *set)
{
        _cleanup_buf_ struct buf b = {};
        char hex[33];
        uint8_t id[16];

        if (boot_id(id) < 0 || (!c->result && (c->disk_path || mkdir_parents(AT_FDCWD, RUN_DIRECTORY, 0755) < 0)))
                return;
        hex_encode(id, sizeof(id), hex);
        buf_printf(&b, "boot_id=%s\nslot=%c\ngeneration=%llu\ndisk=%s\ndata=%s\nfound=%s\ntrial=%d\nusec=%llu\n", hex,
                   slot_name(c->slot), (unsigned long long)c->generation, c->disk.path, c->disk.data.node,
                   boot_found_to_string(d->found), set->slots[c->slot].state == SLOT_TRIAL,
                   (unsigned long long)(now_monotonic() - c->start));
        if (!b.failed)
                file_replace_volatile(AT_FDCWD, c->result ?: BOOT_RESULT, b.data, b.size, 0644);
}

/* How long things took goes behind what the decision left. */
static void write_time(const char *name, uint64_t usec)
{
        _cleanup_close_ int fd = open(BOOT_RESULT, O_WRONLY | O_APPEND | O_CLOEXEC);
        char line[96];
        int n = snprintf(line, sizeof(line), "%s=%llu\n", name, (unsigned long long)usec);

        if (fd >= 0 && write(fd, line, (size_t)n) < 0)
                log_debug("%s is not kept: %s", name, error_text(-errno));
}

static int mount_all(const struct recover *c, const char *root, struct error *e)
{
        uint64_t data_usec = 0;
        int r;

        if (c->slot == SLOT_NONE || cmdline_has(c->cmdline, "rw"))
                return 0;
        r = mount_slot(&c->disk, c->slot, root, &data_usec, e);
        if (r >= 0) {
                write_time("mount_usec", now_monotonic() - c->start);
                write_time("mount_data_usec", data_usec);
        }
        return r;
}

static void start_again(const struct recover *c, const char *why)
{
        log_message(LOG_LEVEL_WARNING, "%s: starting again", why);
        if (c->disk_path)
                return; /* a test on an image */
        /* No sync(2): what was written is flushed already, and on vfat it sends no flush (design section 8). */
        reboot(LINUX_REBOOT_CMD_RESTART);
}

/* For those who read the log later: the page itself is for who stands before the machine. */
static void log_slots(const struct slot_set *set)
{
        for (int i = 0; i < set->n_slots; i++)
                log_error("slot %c: %s%s%s", slot_name(i), slot_state_to_string(set->slots[i].state),
                          set->slots[i].reason ? ": " : "", slot_reason_to_string(set->slots[i].reason));
}

static void power_off(const struct recover *c)
{
        log_message(LOG_LEVEL_WARNING, "switched off from the recovery page");
        if (c->disk_path)
                return; /* a test on an image */
        reboot(LINUX_REBOOT_CMD_POWER_OFF);
}

/* A whole system without any try left is the last that may come up, e.g. when power was cut in each of its tries: it is
 * booted, by itself. The wait keeps one that dies at once from spinning. What cannot go on is tried again slowly. */
static void recover(struct recover *c, struct recovery *r)
{
        r->seconds = r->goes_on && !r->stuck ? PAGE_SECONDS : recovery_retry_seconds(c->cmdline);
        r->console = c->console;
        r->test = c->disk_path;
        log_error("%s%s",
                  r->stuck     ? "the slot cannot be left: "
                  : r->goes_on ? "no other slot can be booted, and this one has no try left"
                               : "no slot can be booted",
                  r->stuck ?: "");
        log_slots(&r->state->set);
        switch (recovery_run(r)) {
        case CHOICE_POWER_OFF:
                power_off(c);
                break;
        case CHOICE_AGAIN:
                if (!r->goes_on)
                        start_again(c, "no slot can be booted");
                break;
        case CHOICE_TRY:
        case CHOICE_RESCUE:
                start_again(c, "chosen on the recovery page");
                break;
        }
}

/* Another slot was only to have its entry again, and could not: the record is as it was, for the system that goes on here.
 */
static void take_back(const struct boot_decision *d, const struct slot_set *before, const struct state_place *place,
                      struct state *state, struct loader *loader)
{
        if (d->action == BOOT_REBOOT && d->bad_slot == SLOT_NONE && loader->writable &&
            state->set.phase == SWITCH_SWITCHING && boot_go_without(d, before, place, state, loader, NULL) < 0)
                log_warning("the next boot takes back what was begun");
}

/* Where the slot cannot be left there is nothing to go on with if its root has failed (root_failed). One that is only not to
 * be booted is, slowly: it may come up, and be reached. What is healthy goes on. */
static int act(struct recover *c, struct state_place *place, struct state *state, const struct boot_decision *d,
               struct loader *loader, enum slot_reason root_failed, struct error *e)
{
        _cleanup_free_ char *extra = extra_cmdline(c->cmdline);
        struct recovery page = { .slot = c->slot,
                                 .disk = &c->disk,
                                 .place = place,
                                 .state = state,
                                 .loader = loader,
                                 .extra_cmdline = extra,
                                 .writable_root = cmdline_has(c->cmdline, "rw") };
        struct slot_set before = state->set;
        int r;

        r = boot_carry_out(d, &c->disk, place, state, loader, extra, cmdline_has(c->cmdline, "rw"), e);
        if (r < 0) {
                take_back(d, &before, place, state, loader);
                page.stuck = e->message ?: error_text(r);
                page.goes_on = !root_failed && d->action == BOOT_REBOOT && d->bad_slot == c->slot;
                if (root_failed || page.goes_on)
                        recover(c, &page);
                return page.goes_on ? 0 : r;
        }
        log_info("slot %c, generation %llu: %s", slot_name(c->slot), (unsigned long long)c->generation,
                 boot_found_to_string(d->found));
        if (d->found == BOOT_FOUND_UNREAD)
                log_warning("no copy of the state record can be read: this boot goes on without it, and leaves it as it is");
        write_result(c, d, d->save ? &state->set : &d->set);
        if (d->action == BOOT_REBOOT)
                start_again(c, "another slot boots instead");
        page.goes_on = d->found == BOOT_FOUND_EXHAUSTED;
        if (d->action == BOOT_RECOVERY)
                recover(c, &page);
        return 0;
}

/* On an ESP that cannot be written the loader counts no tries: the record must, so the decision is made all the same,
 * from what can be read. */
static int open_loader(struct recover *c, bool write, struct loader *ret)
{
        const struct {
                const char *name;
                bool write;
        } ways[] = { { loader_systemd_boot.name, true }, { loader_systemd_boot.name, false }, { loader_none.name, false } };
        int r = 0;

        _cleanup_free_ char *hibernated = cmdline_get(c->cmdline, "resume");

        /* A system that is about to be woken knows how long its directories are. */
        if (!write && !c->esp && !hibernated && esp_make_room(&c->disk))
                log_info("the directories of the ESP have room again");
        for (size_t i = write ? 0 : 1; i < ARRAY_SIZE(ways); i++) {
                _cleanup_error_ struct error why = {};

                r = loader_open(ret, ways[i].name, &c->disk, c->esp, c->disk_path ? NULL : EFIVARS, ways[i].write, &why);
                if (r >= 0)
                        break;
                log_warning("%s", why.message ?: error_text(r));
        }
        return r;
}

/* Most boots change no entry, and need not mark the ESP as in use and as clean again. */
static bool changes_entries(const struct boot_decision *d)
{
        return d->action != BOOT_CONTINUE || d->switch_to != SLOT_NONE || d->bad_slot != SLOT_NONE || d->arm;
}

static int run_decision(struct recover *c, enum slot_reason root_failed, struct error *e)
{
        struct boot_input in = {
                .slot = c->slot,
                .generation = c->generation,
                .start = boot_start_parse(c->cmdline),
                .now = now_realtime(),
                .counts = !c->disk_path && root_was_found(&c->disk, c->cmdline), /* else it may not come up this time */
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
        r = state_load_patiently(&place, &state, root_failed && !c->disk_path ? UNREAD_WAIT : 0);
        in.record_lost = r == -ENODATA;
        in.record_unread = in.record_lost && state.unread;
        if (in.record_lost)
                slot_set_init(&state.set, MAX(c->disk.n_slots, 2));
        if (r >= 0 || in.record_lost)
                r = open_loader(c, false, &loader);
        if (r >= 0) {
                in.set = state.set;
                in.entries_known = loader.ops->list(&loader, &entries, &in.n_entries, NULL) >= 0;
                in.entries = entries;
                boot_decide(&in, &d);
                if (changes_entries(&d)) {
                        loader_close(&loader);
                        r = open_loader(c, true, &loader);
                }
        }
        if (r >= 0) {
                r = act(c, &place, &state, &d, &loader, root_failed, e);
                loader_close(&loader);
        }
        state_place_close(&place);
        return r;
}

/* "failed": where the root is mounted, it is what lies in it that cannot be started. */
static enum slot_reason why_failed(const char *root)
{
        if (verified_root_is_corrupt())
                return REASON_CORRUPT;
        return root && is_mount_point(root) ? REASON_INIT : REASON_ROOT_MOUNT;
}

/* A root that is to be verified is set up to be, for whoever mounts it. Where that cannot be done there is no root: it is
 * never mounted unverified. */
static bool root_works(const struct recover *c, bool try_root, struct error *e)
{
        _cleanup_free_ char *root = cmdline_get(c->cmdline, "root");
        const char *node = c->slot == SLOT_NONE ? "" : c->disk.slots[c->slot].node, *device = node;
        bool is_partition = root && startswith(root, "PARTUUID="); /* what lies behind another name is not ours to judge */
        struct verity verity;
        int r = verity_from_cmdline(c->cmdline, &verity);

        if (c->slot == SLOT_NONE || c->disk.image)
                return true;
        if (r == -EINVAL)
                return fail(e, r, NULL, VERITY_KEY "= names no hash tree") >= 0;
        if (r >= 0 && verified_root_open(node, &verity, e) < 0)
                return false;
        if (r >= 0)
                device = VERIFIED_ROOT;
        else if (*node && cmdline_has(c->cmdline, "rw"))
                mend_superblock(node);
        if (!*node || !is_partition)
                return true;
        /* One that is to be tried later is checked before that, and may be mended: but not out of nothing. */
        return try_root ? root_can_be_mounted(node, device, e) : root_has_filesystem(node, e);
}

/* The attempt is counted before the root is tried: what is on it may stop the kernel. A decision that could not be made
 * lets the boot go on, so the root is tried all the same. */
static int run_boot(struct recover *c, bool try_root, struct error *e)
{
        _cleanup_error_ struct error why = {};
        int r = run_decision(c, REASON_NONE, e);

        if (root_works(c, try_root, &why))
                return r;
        error_done(e);
        log_error("the root of slot %c cannot be used: %s", slot_name(c->slot), why.message ?: "it cannot be mounted");
        return run_decision(c, why_failed(NULL), e);
}

/* What "start" has begun, waited for. Not begun, or not ended well: it is still to be done. */
static bool is_done(struct recover *c)
{
        _cleanup_close_ int fd = c->disk_path ? -1 : open(STARTED, O_RDWR | O_CLOEXEC);
        uint64_t start = now_monotonic();

        if (fd < 0 || flock(fd, LOCK_EX) < 0 || access(DECIDED, F_OK) < 0)
                return false;
        write_time("wait_usec", now_monotonic() - start);
        return true;
}

/* The lock is taken before this returns, and goes with the child. */
static int start(struct recover *c, bool try_root, struct error *e)
{
        _cleanup_close_ int fd = -1;
        int r = mkdir_parents(AT_FDCWD, RUN_DIRECTORY, 0755);

        if (r < 0)
                return fail_errno(e, r, "cannot make " RUN_DIRECTORY);
        fd = open(STARTED, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
                return fail_errno(e, -errno, "cannot lock " STARTED);
        switch (fork()) {
        case -1:
                r = fail_errno(e, -errno, "cannot begin beforehand");
                break;
        case 0:
                setsid();
                r = open_machine(c, false, e);
                if (r >= 0)
                        r = run_boot(c, try_root, e);
                if (r >= 0)
                        r = file_replace_volatile(AT_FDCWD, DECIDED, "", 0, 0644);
                break;
        }
        return r;
}

static int leave_root(struct recover *c, enum slot_reason why, struct error *e)
{
        int r = find_disk(c, e); /* only what is to be mounted was looked for */

        return r < 0 ? r : run_decision(c, why, e);
}

/* Confirmed, so that nobody counts its tries, and not the only one. */
static bool may_be_left(struct recover *c)
{
        struct state_place place;
        struct state state;
        bool other = false;
        int r = find_disk(c, NULL); /* only what is to be mounted was looked for */

        if (r >= 0)
                r = state_place_open(&c->disk, NULL, O_RDONLY, &place, NULL);
        if (r < 0)
                return false;
        r = state_load(&place, &state, NULL);
        state_place_close(&place);
        if (r < 0 || state.set.phase != SWITCH_NONE || state.set.slots[c->slot].state != SLOT_CONFIRMED)
                return false;
        for (int i = 0; i < state.set.n_slots; i++)
                other |= i != c->slot && slot_is_selectable(&state.set.slots[i]);
        return other;
}

/* A version that nobody counts tries of does not die of the same thing for ever. REASON_NONE: this boot goes on. */
static enum slot_reason why_not_up(struct recover *c, const char *root)
{
        _cleanup_close_ int fd = dir_open(AT_FDCWD, root);
        unsigned n;

        if (fd < 0 || cmdline_has(c->cmdline, "rw")) /* it has no data yet */
                return REASON_NONE;
        n = coming_up_mark(fd, c->slot);
        if (n > 0 && !coming_up_root_is_whole(c->slot))
                return REASON_CORRUPT;
        if (n < COMING_UP_MAX || !may_be_left(c))
                return REASON_NONE;
        /* Where it cannot be left after all it gets as many boots again. */
        coming_up_forget(fd);
        return REASON_NOT_UP;
}

static int run_mount(struct recover *c, const char *root, struct error *e)
{
        enum slot_reason why;
        int r = 0;

        if (c->slot != SLOT_NONE && !root_has_init(root, c->cmdline))
                r = leave_root(c, verified_root_is_corrupt() ? REASON_CORRUPT : REASON_INIT, e);
        if (r < 0)
                return r;
        r = mount_all(c, root, e);
        why = r < 0 || c->slot == SLOT_NONE ? REASON_NONE : why_not_up(c, root);
        if (why == REASON_NONE)
                return r;
        log_error("slot %c: %s", slot_name(c->slot), slot_reason_to_string(why));
        return leave_root(c, why, e);
}

static int usage(void)
{
        fprintf(stderr, "usage: bootmgr-recover [--disk IMAGE --esp DIR --cmdline STRING --console TTY --result FILE] "
                        "start [try] | boot [try] | mount ROOT | failed [ROOT] | superblock DEVICE\n");
        return 2;
}

static int report(struct recover *c, const char *verb, int r, struct error *e)
{
        if (r < 0)
                log_error("%s: %s", verb, e->message ?: error_text(r));
        error_done(e);
        free(c->cmdline);
        return r < 0 ? 1 : 0;
}

int main(int argc, char **argv)
{
        struct recover c = { .slot = SLOT_NONE };
        struct error e = {};
        const char *verb, *word;
        int i, r;

        for (i = 1; i + 1 < argc && startswith(argv[i], "--"); i += 2) {
                if (streq(argv[i], "--disk"))
                        c.disk_path = argv[i + 1];
                else if (streq(argv[i], "--esp"))
                        c.esp = argv[i + 1];
                else if (streq(argv[i], "--cmdline"))
                        c.cmdline_option = argv[i + 1];
                else if (streq(argv[i], "--console"))
                        c.console = argv[i + 1];
                else if (streq(argv[i], "--result"))
                        c.result = argv[i + 1];
                else
                        return usage();
        }
        verb = i < argc ? argv[i] : "";
        word = i + 1 < argc ? argv[i + 1] : NULL;
        if (!((streq(verb, "boot") || streq(verb, "start")) && (!word || streq(word, "try"))) && !streq(verb, "failed") &&
            !((streq(verb, "mount") || streq(verb, "superblock")) && word))
                return usage();
        if (streq(verb, "start") && c.disk_path)
                return usage(); /* an image waits for nothing */
        if (streq(verb, "superblock"))
                return mend_superblock(word) < 0 ? 1 : 0;
        if (streq(verb, "start"))
                return report(&c, verb, start(&c, word, &e), &e);
        if (streq(verb, "boot") && is_done(&c))
                return 0;
        r = open_machine(&c, streq(verb, "mount"), &e);
        if (r >= 0 && streq(verb, "mount"))
                r = run_mount(&c, word, &e);
        else if (r >= 0 && streq(verb, "failed"))
                r = run_decision(&c, why_failed(word), &e);
        else if (r >= 0)
                r = run_boot(&c, word, &e);
        return report(&c, verb, r, &e);
}
