/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Every operation that writes, and the machines on which each begins. */
#include "crash.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "cluster/bundles.h"
#include "loader/entry.h"
#include "loader/rescue.h"
#include "operation/boot.h"
#include "operation/steps.h"
#include "slot/kinds.h"
#include "storage/table.h"

/* ---- the steps of a machine's life ---- */

static int with_machine(int (*run)(struct machine *m, struct error *e), struct error *e)
{
        _cleanup_free_ char *cmdline = running_cmdline();
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        int r = open_machine(&m, cmdline ?: "", e);

        return r < 0 ? r : run(&m, e);
}

static int install_version(struct machine *m, char version, struct error *e)
{
        char bundle[PATH_MAX + 32];
        struct upgrade_options options = { .source = bundle };

        bundle_of(version, bundle);
        return upgrade_prepare(m, &options, NULL, e);
}

/* What one controller does for its cluster. */
static int run_keep(struct machine *m, struct error *e)
{
        char bundle[PATH_MAX + 32];
        struct version_id version;

        bundle_of('2', bundle);
        return bundles_keep(m, bundle, NULL, 0, &version, e);
}

static int run_install_2(struct machine *m, struct error *e)
{
        return install_version(m, '2', e);
}
static int run_install_3(struct machine *m, struct error *e)
{
        return install_version(m, '3', e);
}
static int run_switch(struct machine *m, struct error *e)
{
        return operation_switch(m, NULL, e);
}
static int run_first(struct machine *m, struct error *e)
{
        int r = install_version(m, '1', e);

        return r < 0 ? r : operation_switch(m, NULL, e);
}
static int run_confirm(struct machine *m, struct error *e)
{
        return operation_confirm(m, NULL, e);
}
static int run_rollback(struct machine *m, struct error *e)
{
        struct rollback_options options = {};

        return rollback_prepare(m, &options, NULL, e);
}
static int run_local(struct machine *m, struct error *e)
{
        struct rollback_options options = { .local = true };
        int r = rollback_prepare(m, &options, NULL, e);

        return r < 0 ? r : operation_switch(m, NULL, e);
}
static int run_automatic(struct machine *m, struct error *e)
{
        struct rollback_options options = { .automatic = true, .why = REASON_HEALTH };
        int r = rollback_prepare(m, &options, NULL, e);

        return r < 0 ? r : operation_switch(m, NULL, e);
}
/* As each start of a confirmed version on a real machine does it, once its counter has come down. */
static int run_arm(struct machine *m, struct error *e)
{
        struct loader loader;
        int r = machine_open_loader(m, true, &loader, e);

        if (r < 0)
                return r;
        r = loader.ops->arm(&loader, m->state.set.slots[m->booted].generation, BOOT_ARM_TRIES, e);
        loader_close(&loader);
        return r;
}

/* Nowhere to go: the slot that it would go to is given up. */
static int run_stay(struct machine *m, struct error *e)
{
        struct rollback_options options = { .automatic = true, .why = REASON_HEALTH };
        int r = rollback_prepare(m, &options, NULL, e);

        if (r >= 0)
                return fail(e, -EIO, NULL, "it goes to a kernel that is damaged");
        if (!e || e->kind != &kind_previous_not_bootable || m->state.set.slots[0].state != SLOT_BAD)
                return r;
        error_done(e);
        return 0;
}
static int run_activate(struct machine *m, struct error *e)
{
        int r = activate_prepare(m, 0, NULL, NULL, e);

        return r < 0 ? r : operation_switch(m, NULL, e);
}
static int run_mark_bad(struct machine *m, struct error *e)
{
        return slot_mark_bad_by_operator(m, 0, e);
}
static int run_mark_good(struct machine *m, struct error *e)
{
        return slot_mark_good(m, 0, e);
}

/* Ended between writing a copy and its flush; the next program saves. */
static int run_record_killed(struct machine *m, struct error *e)
{
        uint8_t copy[STATE_COPY_SIZE];
        int r = machine_lock(m, e), to = !m->state.copy;

        if (r >= 0 && m->state_lost)
                r = fail(e, -ENODATA, NULL, "there is no record");
        if (r >= 0)
                r = machine_open_for_writing(m, e);
        m->state.set.generation++;
        m->state.set.slots[1].last_boot[15]++;
        m->state.sequence++;
        state_encode(&m->state, copy);
        if (r >= 0)
                r = io_pwrite(m->place.fd[to], copy, sizeof(copy), m->place.offset[to]);
        machine_unlock(m);
        return r;
}

static int run_carry(struct machine *m, struct error *e)
{
        return carry_config(&m->snapshots, m->config.carried, 0, 1, NULL, e);
}

/* A confirmation was ended when the entry without a counter had its name, and that was not flushed; or it is a remnant. */
static int confirm_after(struct machine *m, bool whole, struct error *e)
{
        char from[PATH_MAX], to[PATH_MAX], text[1024];
        _cleanup_close_ int fd = -1;
        ssize_t n;
        int r;

        snprintf(from, sizeof(from), "%s/loader/entries/bootmgr-2-b+2-1.conf", volume_path(ESP));
        snprintf(to, sizeof(to), "%s/loader/entries/bootmgr-2-b.conf", volume_path(ESP));
        fd = io_open(AT_FDCWD, from, O_RDONLY, 0);
        n = fd < 0 ? fd : read(fd, text, sizeof(text));
        fd_close(fd);
        snprintf(from, sizeof(from), "%s/loader/entries/ENDED.TMP", volume_path(ESP));
        fd = n < 0 ? -EIO : io_open(AT_FDCWD, whole ? from : to, O_WRONLY | O_CREAT | O_EXCL, 0644);
        r = fd < 0 ? fd : whole ? io_pwrite(fd, text, (size_t)n, 0) : 0;
        if (r >= 0 && whole)
                r = io_fsync(fd);
        if (r >= 0 && whole)
                r = io_rename(AT_FDCWD, from, AT_FDCWD, to, 0);
        return r < 0 ? fail_errno(e, r, "cannot make %s", to) : run_confirm(m, e);
}
static int run_confirm_again(struct machine *m, struct error *e)
{
        return confirm_after(m, true, e);
}
static int run_confirm_empty(struct machine *m, struct error *e)
{
        return confirm_after(m, false, e);
}

/* Its kernel and initrd are files that are there: what they hold makes no difference. */
static int run_rescue(struct machine *m, struct error *e)
{
        _cleanup_close_ int kernel = -1, initrd = -1;
        char path[PATH_MAX + 32];
        struct loader l;
        int r;

        snprintf(path, sizeof(path), "%.*s/kernel-%c", (int)(strlen(work) - strlen("/work")), work, LAST_VERSION);
        kernel = open(path, O_RDONLY | O_CLOEXEC);
        snprintf(path, sizeof(path), "%.*s/kernel-3", (int)(strlen(work) - strlen("/work")), work);
        initrd = open(path, O_RDONLY | O_CLOEXEC);
        r = machine_open_loader(m, true, &l, e);
        if (r < 0)
                return r;
        r = rescue_install(&l, kernel, initrd, "console=ttyS0", e);
        if (r >= 0)
                r = rescue_install(&l, kernel, initrd, "quiet", e);
        loader_close(&l);
        return r;
}

/* The record alone, a few times over. */
static int run_record(struct machine *m, struct error *e)
{
        int r = machine_lock(m, e);

        if (r >= 0 && m->state_lost)
                r = fail(e, -ENODATA, NULL, "there is no record");
        for (int i = 0; r >= 0 && i < 4; i++) {
                m->state.set.generation++;
                m->state.set.slots[1].last_boot[15]++; /* in another sector */
                r = machine_save(m, e);
        }
        return r;
}

#define OPERATION(name)                                                                                                     \
        static int do_##name(struct error *e)                                                                               \
        {                                                                                                                   \
                return with_machine(run_##name, e);                                                                         \
        }
OPERATION(install_2)
OPERATION(install_3)
OPERATION(keep)
OPERATION(switch)
OPERATION(first)
OPERATION(confirm)
OPERATION(rollback)
OPERATION(local)
OPERATION(automatic)
OPERATION(stay)
OPERATION(arm)
OPERATION(activate)
OPERATION(mark_bad)
OPERATION(mark_good)
OPERATION(record)
OPERATION(record_killed)
OPERATION(carry)
OPERATION(confirm_again)
OPERATION(confirm_empty)
OPERATION(rescue)

static int do_record_twice(struct error *e)
{
        int r = do_record_killed(e);

        return r < 0 ? r : do_record(e);
}

static int do_finalize(struct error *e)
{
        return with_machine(operation_finalize, e);
}
static int do_abort(struct error *e)
{
        return with_machine(operation_abort, e);
}
static int do_clear(struct error *e)
{
        return with_machine(operation_clear_refused, e);
}

static int do_boot(struct error *e)
{
        int r = boot_once(e);

        return MIN(r, 0);
}

/* A boot that makes the record again, and is up without one only where the disk cannot be read. */
static int do_rebuild(struct error *e)
{
        int r = do_boot(e);

        return r >= 0 && ran_without_record() ? fail(e, -EIO, NULL, "the record was left as it is") : r;
}

/* By the firmware's last boot option: what is newer was not started. */
static int do_fallback(struct error *e)
{
        int r = boot_slot(0, FALLBACK_WORD, e);

        return MIN(r, 0);
}

/* By the menu's entry for the previous version. */
static int do_chosen(struct error *e)
{
        int r = boot_slot(0, ROLLBACK_WORD, e);

        return MIN(r, 0);
}

/* The running version's services have made the configuration theirs. */
static int do_serve(struct error *e)
{
        return service_migrates(running_version(), e);
}

/* What the factory's image holds: also the slots' own /etc, which upgrades carry; of an older one in slot b a file is left.
 */
static int do_factory(struct error *e)
{
        sh("mkdir -p work/data/root work/data/etc/a/upper/dir work/data/etc/b/upper; echo a >work/data/etc/a/upper/marker; "
           "echo a >work/data/etc/b/upper/marker; echo stale >work/data/etc/b/upper/stale; "
           "echo deep >work/data/etc/a/upper/dir/deep; ln -s marker work/data/etc/a/upper/link; "
           "ln work/data/etc/a/upper/dir/deep work/data/etc/a/upper/hard");
        return service_migrates('1', e);
}

static int do_init(struct error *e)
{
        struct layout_spec spec = { .image_size = MIB(64), .esp_size = MIB(34), .root_size = MIB(4), .force = true };
        struct layout layout = {};
        int r = layout_make(volume_path(RAW), &spec, &layout, e);

        layout_done(&layout);
        sh("cp --sparse=always work/disk.img made.img");
        return r;
}

static int boot_first(struct error *e)
{
        int r = boot_once(e);

        return r > 0 ? 0 : r < 0 ? r : fail(e, -EIO, NULL, "it started again");
}

/* Nothing is installed yet: either nothing boots and the installation can be done again, or the first version boots. */
static int check_first(const struct expectation *x, bool completed, struct error *e)
{
        _cleanup_free_ char *cmdline = running_cmdline();
        int r;

        if (!cmdline) {
                if (completed)
                        return fail(e, -EIO, NULL, "done and not durable: the first entry");
                r = do_first(e);
                if (r < 0)
                        return r;
        }
        return boot_and_check(x, completed || !cmdline, false, e);
}

/* Both copies of the record are lost with the cut: what is there is all that there is, and the owner marker says whose the
 * configuration is. */
static int check_without_record(const struct expectation *x, bool completed, struct error *e)
{
        _cleanup_close_ int fd = io_open(AT_FDCWD, volume_path(RAW), O_RDWR, 0);
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        struct expectation without = *x;
        char noise[SECTOR];
        int r = open_machine(&m, "", e);

        memset(noise, 0xa5, sizeof(noise));
        for (int i = 0; i < 2 && r >= 0; i++)
                r = io_pwrite(fd, noise, sizeof(noise), m.place.offset[i]);
        if (r < 0)
                return r;
        without.generation = 0; /* nobody knows any more */
        return boot_and_check(&without, completed, false, e);
}

/* ---- machines ---- */

struct stage {
        const char *name, *from;
        int (*steps[4])(struct error *e);
};

static const struct stage stages[] = {
        { "blank", NULL, {} },
        { "made", "blank", { do_init, do_factory } },
        { "one", "made", { do_first, boot_first, do_serve, do_confirm } },
        { "staged", "one", { do_install_2 } },
        { "switched", "staged", { do_switch } },
        { "trial", "switched", { boot_first, do_serve } },
        { "two", "trial", { do_confirm } },
        { "back-staged", "two", { do_rollback } },
        { "back-switched", "back-staged", { do_switch } },
        { "back-trial", "back-switched", { boot_first } },
        { "back", "back-trial", { do_confirm } },
        { "marked", "two", { do_mark_bad } },
        { "over-staged", "two", { do_install_3 } },
};

static void stage_make(const struct stage *s, uint64_t stream)
{
        _cleanup_error_ struct error e = {};

        if (!s->from)
                sh("mkdir -p stages/blank/esp stages/blank/data/root; : >stages/blank/disk.img; truncate -s 64M "
                   "stages/blank/disk.img");
        if (!s->from)
                return;
        stage_enter(s->from);
        chance_begin(stream, 0);
        for (size_t i = 0; i < ARRAY_SIZE(s->steps) && s->steps[i]; i++)
                if (s->steps[i](&e) < 0)
                        die("stage %s, step %zu: %s", s->name, i, e.message ?: "failed");
        sh("find work -exec touch -h -d @%lld {} +; mv work stages/%s", (long long)chance_mtime().tv_sec, s->name);
}

void stages_make(void)
{
        versions_make();
        for (size_t i = 0; i < ARRAY_SIZE(stages); i++)
                stage_make(&stages[i], i + 1);
}

/* ---- the operations ---- */

const struct operation_test operation_tests[] = {
        { .name = "init", .stage = "blank", .run = do_init, .check = check_init },
        { .name = "first", .stage = "made", .run = do_first, .expected = { "1", '1' }, .check = check_first },
        { .name = "first-beside",
          .stage = "made",
          .prepare = have_loader,
          .run = do_first,
          .expected = { "1", '1' },
          .check = check_first },
        { .name = "record-killed", .stage = "one", .run = do_record_twice, .expected = { "1", '1' } },
        { .name = "carry",
          .stage = "staged",
          .prepare = have_former_etc,
          .run = do_carry,
          .expected = { "1", '1', .after = after_carry } },
        { .name = "confirm-again",
          .stage = "trial",
          .run = do_confirm_again,
          .expected = { "2", '2', .after = after_confirm } },
        { .name = "confirm-empty",
          .stage = "trial",
          .run = do_confirm_empty,
          .expected = { "2", '2', .after = after_confirm } },
        { .name = "rescue", .stage = "two", .run = do_rescue, .expected = { "2", '2', .after = after_rescue } },
        { .name = "record", .stage = "one", .run = do_record, .expected = { "1", '1', .after = after_record } },
        { .name = "install", .stage = "one", .run = do_install_2, .expected = { "1", '1', .after = after_install } },
        { .name = "keep", .stage = "one", .run = do_keep, .check = check_bundle },
        { .name = "switch", .stage = "staged", .run = do_switch, .expected = { "12", '2' } },
        { .name = "switch-undone",
          .stage = "staged",
          .run = do_switch,
          .fails = "write back esp/loader/entries/bootmgr-",
          .expected = { "1", '1' } },
        { .name = "abort", .stage = "staged", .run = do_abort, .expected = { "1", '1', .after = after_abort } },
        { .name = "boot-trial", .stage = "switched", .run = do_boot, .expected = { "2", '2' } },
        { .name = "confirm", .stage = "trial", .run = do_confirm, .expected = { "2", '2', .after = after_confirm } },
        { .name = "finalize", .stage = "two", .run = do_finalize, .expected = { "2", '2', .after = after_finalize } },
        { .name = "mark-bad", .stage = "two", .run = do_mark_bad, .expected = { "2", '2', .after = after_mark_bad } },
        { .name = "mark-good", .stage = "marked", .run = do_mark_good, .expected = { "2", '2', .after = after_mark_good } },
        { .name = "install-over", .stage = "two", .run = do_install_3, .expected = { "2", '2', .after = after_install } },
        { .name = "switch-over", .stage = "over-staged", .run = do_switch, .expected = { "23", '3' } },
        { .name = "rollback", .stage = "two", .run = do_rollback, .expected = { "2", '2', .after = after_staged } },
        { .name = "rollback-switch",
          .stage = "back-staged",
          .run = do_switch,
          .expected = { "12", '1', .after = after_refused } },
        { .name = "restore", .stage = "back-switched", .run = do_boot, .expected = { "1", '1' } },
        { .name = "rollback-confirm",
          .stage = "back-trial",
          .run = do_confirm,
          .expected = { "1", '1', .after = after_confirm } },
        { .name = "confirm-bad",
          .stage = "back-trial",
          .prepare = leave_bad,
          .run = do_confirm,
          .expected = { "1", '1', .after = after_confirm } },
        { .name = "clear", .stage = "back", .run = do_clear, .expected = { "1", '1', .after = after_clear } },
        { .name = "local", .stage = "two", .run = do_local, .expected = { "12", '1', .after = after_refused } },
        { .name = "activate", .stage = "two", .run = do_activate, .expected = { "12", '1' } },
        { .name = "automatic", .stage = "trial", .run = do_automatic, .expected = { "12", '1', .after = after_refused } },
        { .name = "arm", .stage = "two", .run = do_arm, .expected = { "2", '2' } },
        { .name = "arm-again", .stage = "two", .prepare = have_counted, .run = do_arm, .expected = { "2", '2' } },
        { .name = "automatic-nowhere",
          .stage = "trial",
          .prepare = damage_kernel_a,
          .run = do_stay,
          .expected = { "2", '2', .kernel_damaged = true } },
        { .name = "exhausted", .stage = "trial", .prepare = exhaust, .run = do_boot, .expected = { "1", '1' } },
        { .name = "passed", .stage = "two", .run = do_fallback, .expected = { "12", '1', .after = after_refused } },
        { .name = "passed-trial", .stage = "trial", .run = do_fallback, .expected = { "12", '1', .after = after_refused } },
        { .name = "chosen", .stage = "two", .run = do_chosen, .expected = { "12", '1', .after = after_refused } },
        { .name = "page-try", .stage = "marked", .prepare = have_page, .run = do_boot, .expected = { "1", '1' } },
        { .name = "root-damaged",
          .stage = "trial",
          .prepare = damage_root_b,
          .run = do_boot,
          .expected = { "1", '1', .damaged = true } },
        { .name = "entry-lost", .stage = "switched", .prepare = lose_entry, .run = do_boot, .expected = { "12", 0 } },
        { .name = "switch-stopped",
          .stage = "switched",
          .prepare = stop_in_switch,
          .run = do_boot,
          .expected = { "1", '1' } },
        { .name = "record-lost",
          .stage = "two",
          .prepare = lose_record,
          .run = do_rebuild,
          .expected = { "2", '2', .record_lost = true, .after = after_rebuild } },
        { .name = "record-lost-trial",
          .stage = "back-switched",
          .prepare = lose_record,
          .run = do_rebuild,
          /* Counting a try may lose the entry (design section 8), and no record tells of it. */
          .expected = { "12", '1', .record_lost = true, .after = after_rebuild } },
        { .name = "restore-record-lost",
          .stage = "back-switched",
          .run = do_boot,
          .expected = { "12", '1', .record_lost = true },
          .check = check_without_record },
};
const size_t n_operation_tests = ARRAY_SIZE(operation_tests);
