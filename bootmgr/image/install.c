/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A bundle into a slot. The order of writes on the root (root.c):
 *
 *      what it is to hold, on data         a second try begins with it, and with what came of kernel and initrd
 *      its first block zeroed, flushed     cut from here on: it does not mount
 *      everything else, flushed
 *      what it holds, on data              the same under its own name
 *      its first block, flushed            it is whole
 */
#include "image/install.h"

#include <fcntl.h>

#include "base/file.h"
#include "base/io.h"
#include "base/version.h"
#include "image/boot_file_sink.h"
#include "image/format.h"
#include "image/reuse.h"
#include "slot/kinds.h"

#define NAMES_ROOM KIB(128) /* the manifest, directories, what a file system writes down of all these */

static int too_large(struct error *e, const char *what, uint64_t need, uint64_t have)
{
        return fail(e, -EFBIG, &kind_bundle_incompatible, "%s needs %llu KiB, there are %llu KiB", what,
                    (unsigned long long)(need + 1023) / 1024, (unsigned long long)have / 1024);
}

int install_check(const struct manifest *m, const struct install_limits *limits, struct error *e)
{
        const struct bundle_image *root = manifest_image(m, "root"), *kernel = manifest_image(m, "kernel");
        const struct bundle_image *initrd = manifest_image(m, "initrd");
        bool keeps_boot_files = limits->esp_free != UINT64_MAX;
        uint64_t boot_files;

        if (limits->compatible && !streq(limits->compatible, m->compatible)) {
                fail(e, -EINVAL, &kind_bundle_incompatible, "the bundle is for '%s', this machine is '%s'", m->compatible,
                     limits->compatible);
                return fail_hint(e, "see Compatible= in bootmgr.conf(5)");
        }
        if (*m->min_bootmgr && version_compare(limits->bootmgr_version, m->min_bootmgr) < 0)
                return fail(e, -EINVAL, &kind_bundle_incompatible, "the bundle needs bootmgr %s, this is %s", m->min_bootmgr,
                            limits->bootmgr_version);
        if (m->security_version < limits->floor) {
                fail(e, -EPERM, &kind_below_floor, "version %s has security version %llu, below the floor %llu", m->version,
                     (unsigned long long)m->security_version, (unsigned long long)limits->floor);
                return fail_hint(e, "install a version whose security version is at least %llu",
                                 (unsigned long long)limits->floor);
        }
        if (!root || (!kernel && keeps_boot_files))
                return fail(e, -EINVAL, &kind_bundle_incompatible, "the bundle has no %s image", root ? "kernel" : "root");
        if (verity_is_set(&root->verity) && limits->writable_root) {
                fail(e, -EROFS, &kind_bundle_incompatible,
                     "the root of the bundle has a hash tree, and the root of this machine "
                     "is writable");
                return fail_hint(e, "set EtcOverlay=yes, or make the bundle without --verity");
        }
        if (root->size > limits->root_size)
                return too_large(e, "the root image", root->size, limits->root_size);
        boot_files = (kernel ? kernel->size : 0) + (initrd ? initrd->size : 0);
        if (boot_files > limits->esp_free)
                return fail(e, -ENOSPC, &kind_esp_unusable, "the ESP has %llu KiB free, kernel and initrd need %llu KiB",
                            (unsigned long long)limits->esp_free / 1024, (unsigned long long)(boot_files + 1023) / 1024);
        return 0;
}

/* What was known of the old version goes before its first byte does. What the new one is made of is kept apart until it is
 * whole: for a second try after this one was cut (reuse.c), and for nobody else. */
static int announce_slot(const struct bundle *b, const struct install_target *t, size_t root, struct error *e)
{
        char path[32], part[32], file[48];
        _cleanup_close_ int fd = -1;
        size_t size;
        const char *manifest = bundle_manifest_bytes(b, &size);
        int r;

        if (t->data < 0)
                return 0;
        slot_path(t, "", path);
        slot_path(t, SLOT_PART, part);
        r = remove_tree(t->data, path);
        if (r < 0)
                return fail_errno(e, r, "cannot remove %s", path);
        r = mkdir_parents(t->data, part, 0755);
        snprintf(file, sizeof(file), "%s/manifest", part);
        if (r >= 0)
                r = file_replace(t->data, file, manifest, size, 0644);
        snprintf(file, sizeof(file), "%s/chunks", part);
        /* Another file: that of the last try is still read (reuse.c). */
        if (r >= 0 && io_unlink(t->data, file, 0) >= 0)
                r = 0;
        if (r >= 0)
                r = fd = io_open(t->data, file, O_WRONLY | O_CREAT | O_EXCL, 0644);
        if (r >= 0)
                r = bundle_copy_index(b, root, fd);
        if (r >= 0)
                r = io_fsync(fd);
        return r < 0 ? fail_data(e, r, "cannot write what the slot is to hold") : 0;
}

/* From here on the slot is checked against it (verify_slot.c). The name is durable with the end of the step, which is
 * written to the same file system before the record says that the slot is installed. */
static int remember_slot(const struct install_target *t, struct error *e)
{
        char path[32], part[32];
        int r;

        if (t->data < 0)
                return 0;
        slot_path(t, "", path);
        slot_path(t, SLOT_PART, part);
        r = io_rename(t->data, part, t->data, path, 0);
        return r < 0 ? fail_errno(e, r, "cannot make %s", path) : 0;
}

int install_check_base(struct bundle *b, const struct install_target *t, struct progress *progress, struct error *e)
{
        const struct manifest *m = bundle_manifest(b);
        int r;

        bundle_keep_index(b, t->data);
        r = bundle_read_index(b, e);
        for (size_t i = 0; i < m->n_images && r >= 0; i++)
                if (streq(m->images[i].name, "root") || boot_file_is_lacking(&m->images[i], t))
                        r = delta_check_base(b, i, progress, e);
        return r;
}

static uint64_t in_blocks(uint64_t size)
{
        return (size + KIB(4) - 1) / KIB(4) * KIB(4);
}

uint64_t install_data_room(const struct bundle *b, const struct install_target *t)
{
        const struct manifest *m = bundle_manifest(b);
        uint64_t sum = NAMES_ROOM + in_blocks(bundle_index_room(b)), held = boot_files_held(t);

        for (size_t i = 0; i < m->n_images; i++) {
                const struct bundle_image *image = &m->images[i];

                if (streq(image->name, "root"))
                        sum += in_blocks(image->n_chunks * image->entry_size);
                else if (boot_file_is_lacking(image, t))
                        sum += in_blocks(image->size);
        }
        return sum - MIN(sum, held);
}

static size_t choose_sinks(const struct manifest *m, struct root_sink *root, struct boot_file_sink *files,
                           struct chunk_sink **sinks)
{
        size_t number = 0;

        for (size_t i = 0; i < m->n_images; i++) {
                bool is_root = streq(m->images[i].name, "root");

                sinks[i] = is_root ? &root->sink : &files[i].sink;
                number = is_root ? i : number;
        }
        return number;
}

static int look_after_boot_files(const struct bundle *b, struct boot_file_sink *files, uint64_t *ret_kept)
{
        const struct manifest *m = bundle_manifest(b);
        uint64_t size;
        int r = 0;

        *ret_kept = 0;
        for (size_t i = 0; i < m->n_images && r >= 0; i++) {
                r = boot_file_sink_look(&files[i], &m->images[i], bundle_chunk_index(b, i, &size));
                *ret_kept += files[i].kept;
        }
        return r;
}

static int add_boot_files(const struct manifest *m, const struct boot_file_sink *files, const struct install_target *t,
                          struct error *e)
{
        int r = 0;

        for (size_t i = 0; i < m->n_images && r >= 0; i++)
                r = boot_file_sink_add(&files[i], &m->images[i], t, e);
        return r < 0 ? r : boot_file_sinks_forget(t, e);
}

static void fill_report(struct install_report *report, const struct root_sink *s, const struct bundle *b,
                        const struct reuse *u)
{
        *report = (struct install_report){ .written = s->written,
                                           .zeroed = s->zeroed,
                                           .kept = u->kept + u->boot_files,
                                           .copied = u->copied,
                                           .fetched = bundle_fetched(b),
                                           .full = bundle_full_use(b),
                                           .times = *bundle_extract_times(b),
                                           .reuse = u->time,
                                           .flush = s->flush };
}

/* What is fetched and what is found are one number. */
struct both {
        struct progress progress; /* of what is fetched */
        struct progress *shown;
        const struct reuse *reuse;
};

/* The search does what it finds in no time that says anything of the rest: until it has ended the rate is of both. */
static int report_both(struct progress *p, uint64_t done, uint64_t total, const char *message)
{
        struct both *s = (struct both *)p;
        uint64_t found = reuse_found(s->reuse), named = s->reuse->named;
        int r = reuse_result(s->reuse);

        if (r < 0 && r != -EAGAIN)
                return -ECANCELED;
        if (!s->shown)
                return 0;
        s->shown->transfer = (struct transfer){ .total = total,
                                                .fetched = p->transfer.fetched,
                                                .reused = found + s->reuse->boot_files };
        if (r >= 0) {
                s->shown->transfer.since = p->transfer.since;
                s->shown->transfer.before = p->transfer.before - named + found;
        }
        return progress_report(s->shown, done - named + found, total, message);
}

/* What no hint names is fetched while the hints are looked after. */
static int bring_beside(struct bundle *b, struct chunk_sink *const *sinks, struct root_sink *root, struct reuse *reuse,
                        struct progress *progress, struct error *e)
{
        struct both both = { .progress.report = report_both, .shown = progress, .reuse = reuse };
        const struct manifest *m = bundle_manifest(b);
        struct chunk_sink rest = { .whole = true }, *missing[BUNDLE_MAX_IMAGES] = {};
        uint64_t all = 0;
        int r;

        for (size_t i = 0; i < m->n_images; i++) {
                all += m->images[i].size;
                missing[i] = sinks[i] == &root->sink ? sinks[i] : &rest;
        }
        r = bundle_extract(b, sinks, &both.progress, e);
        r = reuse_end(reuse, r, &both.progress, all, all, e);
        return r < 0 || reuse_found(reuse) == reuse->named ? r : bundle_extract_rest(b, missing, progress, e);
}

static int bring_chunks(struct bundle *b, size_t number, struct chunk_sink *const *sinks, struct root_sink *root,
                        struct reuse *reuse, struct progress *progress, struct error *e)
{
        const struct bundle_image *image = &bundle_manifest(b)->images[number];
        bool beside = reuse_has_hints(reuse) && bundle_can_go_back(b) && io_is_system();
        uint64_t size;
        int r;

        r = reuse_begin(reuse, root, image, bundle_chunk_index(b, number, &size), beside, progress, e);
        if (r < 0)
                return r;
        return reuse->search ? bring_beside(b, sinks, root, reuse, progress, e) : bundle_extract(b, sinks, progress, e);
}

static int write_images(struct bundle *b, const struct install_target *t, struct root_sink *root, struct reuse *reuse,
                        struct boot_file_sink *files, struct progress *progress, struct error *e)
{
        const struct manifest *m = bundle_manifest(b);
        struct chunk_sink *sinks[BUNDLE_MAX_IMAGES] = {};
        size_t number = choose_sinks(m, root, files, sinks);
        uint64_t size;
        int r;

        bundle_keep_index(b, t->data);
        r = boot_file_sinks_begin(files, m, t, e);
        if (r >= 0)
                r = bundle_read_index(b, e);
        if (r >= 0)
                r = reuse_look(reuse, t->data, t->slot, t->running, t->running_slot);
        if (r >= 0)
                reuse_guess(reuse, t->root, t->running, &m->images[number], bundle_chunk_index(b, number, &size));
        if (r >= 0)
                r = look_after_boot_files(b, files, &reuse->boot_files);
        if (r >= 0 && progress)
                progress->transfer.reused = reuse->boot_files;
        if (r >= 0)
                r = announce_slot(b, t, number, e);
        if (r >= 0)
                r = root_begin(root, t->root, m->images[number].size, reuse_has_hints(reuse), e);
        if (r >= 0)
                r = bring_chunks(b, number, sinks, root, reuse, progress, e);
        if (r < 0)
                root_give_up(root);
        if (r >= 0)
                r = add_boot_files(m, files, t, e);
        if (r >= 0)
                r = remember_slot(t, e);
        return r < 0 ? r : root_finish(root, e);
}

int install_images(struct bundle *b, const struct install_target *t, struct progress *progress, struct error *e)
{
        struct root_sink root = { .direct = -1 };
        struct reuse reuse = { .target.index = -1, .running.index = -1 };
        struct boot_file_sink files[BUNDLE_MAX_IMAGES];
        int r;

        for (size_t i = 0; i < BUNDLE_MAX_IMAGES; i++)
                files[i] = BOOT_FILE_SINK_NONE;
        r = write_images(b, t, &root, &reuse, files, progress, e);
        if (t->report)
                fill_report(t->report, &root, b, &reuse);
        for (size_t i = 0; i < BUNDLE_MAX_IMAGES; i++)
                boot_file_sink_done(&files[i]);
        /* How it ended has to be written there, too. */
        if (r == -ENOSPC || r == -EDQUOT)
                (void)!boot_file_sinks_forget(t, NULL);
        reuse_done(&reuse);
        root_done(&root);
        return r;
}
