/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The steps of an upgrade that run while the machine works: the order of writes is
 *
 *      record: slot INCOMPLETE, operation RUNNING    a cut from here on: the old system boots, the slot is
 *      entries of the slot removed                   written again by the next try
 *      root, kernel, initrd written and flushed
 *      record: slot INSTALLED, operation STAGED      a cut from here on: the old system boots, the next
 *                                                    shutdown switches (switch.c commits)
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/priority.h"
#include "operation/messages.h"
#include "operation/refused.h"
#include "operation/rescue.h"
#include "operation/reserve.h"
#include "operation/steps.h"
#include "operation/upkeep.h"
#include "slot/kinds.h"

#define NO_WAY_BACK "what runs was not installed by bootmgr: the way back is the bootloader's own entry, not a rollback"

int upgrade_target(struct machine *m, int *ret_slot, struct error *e)
{
        int slot = slot_set_upgrade_target(&m->state.set, machine_reference_slot(m));

        if (slot == SLOT_NONE || !m->disk.slots[slot].present)
                return fail(e, -ENODEV, &kind_no_machine, "%s has no slot to write an upgrade to", m->disk.path);
        *ret_slot = slot;
        return 0;
}

static int refuse_while_busy(struct machine *m, int from, struct error *e)
{
        _cleanup_operation_ struct operation op = {};

        if (operation_current(m, &op, NULL) >= 0 && op.result == RESULT_IN_PROGRESS) {
                fail(e, -EBUSY, &kind_busy, "%s to %s is %s", operation_kind_to_string(op.kind), op.to_version,
                     op.staged ? "prepared and goes on at the next shutdown" : "not finished");
                return fail_hint(e, "%s", operation_way_out(m, &op));
        }
        if (!m->rescue && from != SLOT_NONE && m->state.set.slots[from].state == SLOT_TRIAL) {
                fail(e, -EBUSY, &kind_busy, "slot %c is on trial and not confirmed yet", slot_name(from));
                return fail_hint(e, "wait for it, 'bootmgr slot mark-good %c'%s", slot_name(from),
                                 m->state.set.previous != SLOT_NONE ? ", or 'bootmgr rollback system'" : "");
        }
        return 0;
}

/* By whatever name: a link to it is as good. */
static bool is_default_data(const char *path)
{
        struct stat a, b;

        return streq(path, CONFIG_DATA) ||
               (stat(path, &a) == 0 && stat(CONFIG_DATA, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino);
}

/* The initramfs would give the new version an empty /etc from there, and what is carried over would lie elsewhere. */
static int refuse_etc_elsewhere(const struct machine *m, struct error *e)
{
        if (m->offline || m->options.data || !m->config.etc_overlay || is_default_data(m->config.data))
                return 0;
        fail(e, -EINVAL, &kind_config_invalid,
             "the initramfs mounts the /etc of a slot from " CONFIG_DATA ", and DataDirectory= is %s", m->config.data);
        return fail_hint(e, "leave out DataDirectory=, or set EtcOverlay=no");
}

/* Without a record nobody can say what an upgrade would overwrite. One that never was is no loss. */
static int refuse_lost_record(struct machine *m, int from, struct error *e)
{
        if (!m->state_lost || m->rescue || from == SLOT_NONE)
                return 0;
        fail(e, -ENODATA, &kind_state_unreadable,
             "no copy of the state record of %s is valid: what lies in its slots is not known", m->disk.path);
        return fail_hint(e, m->booted == SLOT_NONE
                                    ? "boot the machine, or name what it boots with --cmdline and run 'bootmgr boot-config'"
                                    : "'bootmgr boot-config' makes it again from the boot entries, as the next boot does");
}

static struct install_target target_of(struct run *run)
{
        return (struct install_target){
                .root = &run->root, .loader = &run->loader, .data = run->m->snapshots.data, .slot = run->op.to_slot
        };
}

/* What is held is for the snapshot. What the slot is written with has to be free: afterwards there is no way back. */
static int check_space(struct run *run, struct error *e)
{
        struct machine *m = run->m;
        struct install_target target = target_of(run);
        uint64_t snapshot, install, room;
        struct statvfs st;
        int r;

        r = snapshot_estimate(&m->snapshots, m->config.shared, &snapshot, e);
        if (r < 0)
                return r;
        if (fstatvfs(m->snapshots.data, &st) < 0)
                return fail_errno(e, -errno, "cannot tell the room in %s", m->data_path);
        snapshot *= 2; /* the seal when this version is left, and what a restore would put beside it */
        install = install_data_room(run->bundle, &target);
        room = (uint64_t)st.f_bavail * st.f_frsize + MIN(reserve_held(m), snapshot);
        if (room < snapshot + install) {
                fail(e, -ENOSPC, &kind_no_space,
                     "%s has %llu KiB free, a snapshot and its restore need up to %llu KiB, kernel, initrd and chunk index "
                     "%llu KiB until they are written",
                     m->data_path, (unsigned long long)(room / 1024), (unsigned long long)(snapshot / 1024),
                     (unsigned long long)(install / 1024));
                return fail_hint(e, "free space on the data partition, or take paths out of SharedPaths=");
        }
        return 0;
}

static int check_manifest(struct run *run, const struct manifest *manifest, struct error *e)
{
        struct machine *m = run->m;
        struct install_limits limits = {
                .compatible = m->config.compatible,
                .bootmgr_version = BOOTMGR_VERSION,
                .floor = m->state.set.floor,
                .root_size = m->disk.slots[run->op.to_slot].size,
                .writable_root = !m->config.etc_overlay,
        };
        int r;

        r = machine_esp_free(m, run->op.to_slot, &limits.esp_free, e);
        if (r >= 0)
                r = install_check(manifest, &limits, e);
        if (r < 0)
                return r;
        r = run->upgrade->again ? 0 : refused_has(m, manifest->digest, e);
        if (r > 0) {
                fail(e, -EPERM, &kind_refused_version, "version %s was rolled back from and is not installed again",
                     manifest->version);
                return fail_hint(e, "'bootmgr upgrade clear' allows it again; a newer build needs no clearing");
        }
        return r;
}

/* systemd-boot must choose the entry that this upgrade will make: asked now, while nothing is lost. */
static int check_loader(struct run *run, const struct manifest *manifest, struct error *e)
{
        const struct bundle_image *kernel = manifest_image(manifest, "kernel"), *initrd = manifest_image(manifest, "initrd");
        const struct bundle_image *root = manifest_image(manifest, "root");
        struct entry_spec spec = entry_spec_for(run->m, run->op.to_slot, 0);
        uint8_t kernel_id[BOOT_FILE_ID_SIZE], initrd_id[BOOT_FILE_ID_SIZE];
        uint64_t highest;
        int r;

        r = machine_open_loader(run->m, true, &run->loader, e);
        if (r < 0)
                return r;
        run->loader_open = true;
        r = loader_highest_generation(&run->loader, &highest, e);
        if (r < 0)
                return r;
        spec.generation = MAX(highest, run->m->state.set.generation) + 1;
        spec.version = manifest->version;
        if (kernel) {
                boot_file_make_id(kernel->digest, run->op.to_slot, kernel_id);
                spec.kernel = kernel_id;
        }
        if (initrd)
                boot_file_make_id(initrd->digest, run->op.to_slot, initrd_id);
        spec.initrd = initrd ? initrd_id : NULL;
        spec.verity = root ? &root->verity : NULL;
        return check_entry(run->m, &run->loader, &spec, e);
}

/* An existing machine's first upgrade: what runs was put there by somebody else. */
static bool is_from_foreign(const struct run *run)
{
        return run->op.from_slot != SLOT_NONE && !slot_is_known(&run->m->state.set.slots[run->op.from_slot]);
}

static bool base_is_there(const struct run *run, const struct bundle_delta *delta)
{
        const struct machine *m = run->m;
        int from = run->op.from_slot;

        return from != SLOT_NONE && m->disk.slots[from].present && m->disk.slots[from].size >= delta->size &&
               memcmp(m->state.set.slots[from].digest, delta->digest, DIGEST_SIZE) == 0;
}

/* What the slot that runs holds is read and hashed before it is used: it may not be there, or not what it was. */
static void open_running(struct run *run, struct range *ret)
{
        struct machine *m = run->m;
        int from = run->op.from_slot;

        *ret = RANGE_CLOSED;
        if (from != SLOT_NONE && m->disk.slots[from].present)
                (void)range_open(&m->disk, &m->disk.slots[from], O_RDONLY, ret, NULL);
        if (bundle_delta(run->bundle))
                bundle_use_base(run->bundle, ret->fd >= 0 ? ret : NULL, &m->config.fetch);
}

/* All of it is read: with the time that the disk has left. */
static int read_base(struct run *run, struct error *e)
{
        struct install_target target = target_of(run);
        int priority = run->upgrade->full_speed ? -1 : priority_lower(), r;

        r = install_check_base(run->bundle, &target, &run->progress, e);
        priority_restore(priority);
        return r;
}

/* In place of the delta, as a whole. */
static int take_full(struct run *run, struct error *e)
{
        struct bundle *full;
        int r = bundle_open_full(run->bundle, &run->m->config.fetch, &full, e);

        if (r < 0)
                return r;
        run->op.fallback = strdup(bundle_delta(run->bundle)->url);
        bundle_free(run->bundle);
        run->bundle = full;
        return run->op.fallback ? 0 : -ENOMEM;
}

/* With a full bundle of which any part can be fetched there is a way on, whatever the base lacks. Without one that is read
 * before anything is changed; and what can only be fetched as a whole is, where it is needed. */
static int check_content(struct run *run, struct error *e)
{
        _cleanup_range_ struct range running = RANGE_CLOSED;
        _cleanup_error_ struct error full = {}, base = {};
        int r;

        open_running(run, &running);
        if (!bundle_delta(run->bundle)->url)
                return read_base(run, e);
        if (bundle_reach_full(run->bundle, &full) >= 0)
                return 0;
        r = read_base(run, &base);
        if (r == -ESTALE && full.code == -EOPNOTSUPP)
                return take_full(run, e);
        if (r == -ESTALE) {
                fail(e, full.code, full.kind, "%s; and %s", base.message, full.message);
                return fail_hint(e, "%s", base.hint);
        }
        if (r < 0 && e && e->code == 0)
                *e = TAKE(base, (struct error){});
        return r;
}

/* A delta whose base is not what runs is none for this machine: then it is the full bundle that is installed. */
static int check_base(struct run *run, struct error *e)
{
        const struct bundle_delta *delta = bundle_delta(run->bundle);
        char hex[17];

        if (!delta)
                return 0;
        if (base_is_there(run, delta))
                return check_content(run, e);
        hex_encode(delta->digest, 8, hex);
        if (!delta->url) {
                fail(e, -ESTALE, &kind_bundle_incompatible,
                     "the bundle is a delta for machines that run version %s (%s), which this one does not", delta->version,
                     hex);
                return fail_hint(e, "install the full bundle of version %s", bundle_manifest(run->bundle)->version);
        }
        return take_full(run, e);
}

int step_check_bundle(struct run *run, struct error *e)
{
        struct machine *m = run->m;
        struct trust trust = { .directory = m->config.trust_directory, .threshold = m->config.trust_threshold };
        const struct manifest *manifest;
        int r = bundle_open_from(run->upgrade->source, &m->config.fetch, &trust, &run->bundle, e);

        if (r < 0)
                return r;
        manifest = bundle_manifest(run->bundle);
        strcpy(run->op.to_version, manifest->version);
        r = check_manifest(run, manifest, e);
        if (r >= 0)
                r = check_loader(run, manifest, e);
        if (r >= 0)
                r = check_base(run, e);
        if (r >= 0)
                r = snapshot_check_paths(&m->snapshots, m->config.shared, e);
        if (r >= 0)
                r = check_space(run, e);
        if (r < 0)
                return r;
        manifest = bundle_manifest(run->bundle);
        run_note(run, "version %s, build %s, for slot %c%s%s%s", manifest->version, manifest->build_id,
                 slot_name(run->op.to_slot),
                 run->op.fallback ? "; the delta is not for what runs here, the full bundle is fetched: " : "",
                 run->op.fallback ?: "", is_from_foreign(run) ? "; " NO_WAY_BACK : "");
        return 0;
}

static void fill_slot(struct slot *slot, int number, const struct manifest *m)
{
        const struct bundle_image *kernel = manifest_image(m, "kernel"), *initrd = manifest_image(m, "initrd");

        strcpy(slot->version, m->version);
        slot->security_version = m->security_version;
        memcpy(slot->digest, m->digest, DIGEST_SIZE);
        slot->verity = manifest_image(m, "root")->verity; /* there is one: install_check() */
        memset(slot->kernel, 0, BOOT_FILE_ID_SIZE);
        memset(slot->initrd, 0, BOOT_FILE_ID_SIZE);
        if (kernel)
                boot_file_make_id(kernel->digest, number, slot->kernel);
        if (initrd)
                boot_file_make_id(initrd->digest, number, slot->initrd);
}

/* What an earlier try of the same bundle has put on the ESP is of use again. */
static int remove_old_entries(struct run *run, struct error *e)
{
        struct slot coming = {};
        int r;

        fill_slot(&coming, run->op.to_slot, bundle_manifest(run->bundle));
        r = run->loader.ops->remove_slot(&run->loader, run->op.to_slot, e);
        run->loader.coming = &coming;
        if (r >= 0)
                r = loader_prune_files(&run->loader, e);
        run->loader.coming = NULL;
        if (r >= 0)
                upkeep_firmware(run->m, &run->loader);
        return r;
}

static double seconds(uint64_t usec)
{
        return (double)usec / USEC_PER_SEC;
}

/* Owned by the caller; NULL: no memory. */
static char *say_why_full(const struct run *run, const struct bundle_delta *delta, const struct full_use *use)
{
        _cleanup_buf_ struct buf text = {};
        uint64_t chunks = 0;

        if (use->chunks[LACKS_BASE])
                buf_printf(&text, "; slot %c is not what version %s was", slot_name(run->op.from_slot), delta->version);
        if (use->chunks[LACKS_BOOT_FILE])
                buf_printf(&text, "; a boot file of version %s is not on the ESP, or damaged there", delta->version);
        if (use->chunks[LACKS_FRAME])
                buf_puts(&text, "; the delta is damaged");
        for (size_t i = 0; i < _DELTA_LACK_MAX; i++)
                chunks += use->chunks[i];
        buf_printf(&text, ": %llu chunks (%llu KiB) of the full bundle were fetched: %s", (unsigned long long)chunks,
                   (unsigned long long)(use->stored + 1023) / 1024, delta->url);
        return buf_take(&text);
}

/* Seconds of decoding, checking and writing are those of all threads together. */
static int note_report(struct run *run, const struct install_report *report)
{
        const struct bundle_delta *delta = bundle_delta(run->bundle);
        const struct extract_times *t = &report->times;
        _cleanup_free_ char *full = NULL;

        if (report->full.stored > 0) {
                run->op.fallback = strdup(delta->url);
                full = say_why_full(run, delta, &report->full);
                if (!run->op.fallback || !full)
                        return -ENOMEM;
        }
        run_note(run,
                 "%llu MiB written, %llu MiB zeros, %llu MiB kept, %llu MiB copied, %llu MiB fetched; "
                 "seconds: reuse %.2f, fetch %.2f, decode %.2f, check %.2f, write %.2f (%u threads%s), flush %.2f%s",
                 (unsigned long long)(report->written >> 20), (unsigned long long)(report->zeroed >> 20),
                 (unsigned long long)(report->kept >> 20), (unsigned long long)(report->copied >> 20),
                 (unsigned long long)(report->fetched >> 20), seconds(report->reuse), seconds(t->fetch), seconds(t->decode),
                 seconds(t->check), seconds(t->write), MAX(t->threads, 1U), t->queued > 0 ? ", io_uring" : "",
                 seconds(report->flush), full ?: "");
        return 0;
}

int step_write_image(struct run *run, struct error *e)
{
        struct machine *m = run->m;
        struct install_target target = target_of(run);
        _cleanup_range_ struct range running = RANGE_CLOSED;
        struct install_report report;
        int r;

        r = range_open(&m->disk, &m->disk.slots[run->op.to_slot], O_RDWR | O_EXCL, &run->root, e);
        if (r < 0)
                return r;
        slot_set_begin_write(&m->state.set, run->op.to_slot);
        record_operation(&m->state.set, &run->op, OPERATION_RUNNING, REASON_NONE);
        r = machine_save(m, e);
        if (r >= 0)
                r = remove_old_entries(run, e);
        if (r < 0)
                return r;
        reserve_hold(m, install_data_room(run->bundle, &target));
        open_running(run, &running);
        if (running.fd >= 0) {
                target.running = &running;
                target.running_slot = run->op.from_slot;
        }
        target.report = &report;
        r = install_images(run->bundle, &target, &run->progress, e);
        return r < 0 ? r : note_report(run, &report);
}

int step_verify_image(struct run *run, struct error *e)
{
        struct install_target target = target_of(run);
        int r;

        if (run->upgrade->no_read_back) {
                run_note(run, "not read back: what the device did not keep is not known");
                return STEP_SKIP;
        }
        r = install_verify(run->bundle, &target, &run->progress, e);
        if (r >= 0)
                run_note(run, "%llu MiB read back from the device",
                         (unsigned long long)(run->progress.transfer.total >> 20));
        return r;
}

int step_install_boot_files(struct run *run, struct error *e)
{
        struct machine *m = run->m;
        struct slot *slot = &m->state.set.slots[run->op.to_slot];
        int r;

        fill_slot(slot, run->op.to_slot, bundle_manifest(run->bundle));
        r = loader_check_slot(&run->loader, slot, e);
        if (r < 0)
                return r;
        carry_beforehand(run);
        slot_set_end_write(&m->state.set, run->op.to_slot);
        record_operation(&m->state.set, &run->op, run->upgrade->hold ? OPERATION_DONE : OPERATION_STAGED, REASON_NONE);
        r = machine_save(m, e);
        if (r < 0)
                return r;
        run->op.staged = !run->upgrade->hold;
        return 0;
}

/* It is what was asked for: no shutdown goes on with it. */
static int end_held(struct run *run, struct error *e)
{
        _cleanup_free_ char *reason = xasprintf("installed in slot %c, and not switched to before that is asked for",
                                                slot_name(run->op.to_slot));

        reserve_keep(run->m);
        operation_end(&run->op, RESULT_DONE, reason);
        return run_save(run, true, e);
}

static int prepare(struct run *run, struct error *e)
{
        struct machine *m = run->m;
        int r, inhibitor, priority;

        r = run_step(run, "CHECK_BUNDLE", step_check_bundle, e);
        if (r < 0)
                return r; /* refused: nothing was changed, so nothing is recorded */
        if (is_from_foreign(run))
                log_warning(NO_WAY_BACK);
        r = machine_need_data(m, e);
        if (r >= 0)
                r = operation_begin(m, &run->op, run->upgrade->id, e);
        if (r < 0)
                return r;
        priority = run->upgrade->full_speed ? -1 : priority_lower();
        if (priority < 0 && !run->upgrade->full_speed)
                log_warning("the slot is written with ordinary priority: %s", error_text(priority));
        inhibitor = m->offline ? -1 : inhibit_shutdown("an upgrade writes the other slot");
        for (const struct step *s = steps_of(OPERATION_UPGRADE) + 1; r >= 0 && s->when == STEP_PREPARE; s++)
                r = run_step(run, s->name, s->run, e);
        fd_close(inhibitor);
        priority_restore(priority);
        if (r < 0)
                return run_abandon(run, r, e);
        if (run->upgrade->hold)
                return end_held(run, e);
        log_event(MESSAGE_UPGRADE_STAGED, NULL, "version %s is staged in slot %c", run->op.to_version,
                  slot_name(run->op.to_slot));
        return 0;
}

/* Asked for twice is asked for once: one that was ended between preparing and switching has staged this very
 * bundle. Another one, or none that can be read: false. */
static bool is_staged_already(struct machine *m, const struct upgrade_options *options)
{
        const struct slot_set *set = &m->state.set;
        struct trust trust = { .directory = m->config.trust_directory, .threshold = m->config.trust_threshold };
        struct bundle *bundle = NULL;
        bool same;

        if (set->operation != OPERATION_UPGRADE || set->operation_state != OPERATION_STAGED ||
            set->operation_to == SLOT_NONE || set->slots[set->operation_to].state != SLOT_INSTALLED)
                return false;
        if (bundle_open_from(options->source, &m->config.fetch, &trust, &bundle, NULL) < 0)
                return false;
        same = memcmp(bundle_manifest(bundle)->digest, set->slots[set->operation_to].digest, DIGEST_SIZE) == 0;
        bundle_free(bundle);
        return same;
}

int upgrade_prepare(struct machine *m, const struct upgrade_options *options, struct observer *o, struct error *e)
{
        _cleanup_run_ struct run run = { .root = RANGE_CLOSED };
        int from, to, r;

        m->config.fetch.cancelled = o ? o->cancelled : NULL;
        r = refuse_etc_elsewhere(m, e);
        if (r >= 0)
                r = machine_lock(m, e);
        if (r < 0)
                return r;
        if (is_staged_already(m, options))
                return 0;
        r = m->rescue ? rescue_settle(m, e) : 0;
        if (r < 0)
                return r;
        from = machine_reference_slot(m);
        r = refuse_lost_record(m, from, e);
        if (r >= 0)
                r = refuse_while_busy(m, from, e);
        if (r >= 0)
                r = upgrade_target(m, &to, e);
        if (r >= 0)
                r = machine_need_data(m, e);
        if (r < 0)
                return r;
        run_init(&run, m, OPERATION_UPGRADE, from, to, o);
        run.upgrade = options;
        run.op.automatic = options->automatic;
        run.op.source = strdup(options->source);
        return prepare(&run, e);
}

int upgrade_release(struct machine *m, int slot, const char *reason, const char *id, struct observer *o, struct error *e)
{
        _cleanup_run_ struct run run = { .root = RANGE_CLOSED };
        struct slot_set *set = &m->state.set;
        int from, r;

        r = machine_lock(m, e);
        if (r < 0)
                return r;
        from = machine_reference_slot(m);
        if (set->operation_state == OPERATION_STAGED && set->operation == OPERATION_UPGRADE && set->operation_to == slot)
                return 0;
        if (slot < 0 || slot >= set->n_slots || slot == from || set->slots[slot].state != SLOT_INSTALLED)
                return fail(e, -ENOEXEC, &kind_slot_not_bootable, "nothing that is installed waits in slot %c",
                            slot_name(slot));
        r = refuse_while_busy(m, from, e);
        if (r < 0)
                return r;
        run_init(&run, m, OPERATION_UPGRADE, from, slot, o);
        strcpy(run.op.to_version, set->slots[slot].version);
        r = refused_forget(m, set->slots[slot].digest, e);
        if (r >= 0)
                r = operation_begin(m, &run.op, id, e);
        if (r < 0)
                return r;
        for (const struct step *s = steps_of(OPERATION_UPGRADE); s->when == STEP_PREPARE; s++)
                step_end(operation_step(&run.op, s->name), STEP_DONE, "done when it was installed");
        run.op.staged = true;
        run.op.reason = reason ? strdup(reason) : NULL;
        r = run_save(&run, true, e);
        if (r < 0)
                return r;
        record_operation(set, &run.op, OPERATION_STAGED, REASON_NONE);
        return machine_save(m, e);
}
