/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A bundle into a slot. The order of writes on the root (root.c):
 *
 *      what it is to hold, on data         a second try begins with it
 *      its first block zeroed, flushed     cut from here on: it does not mount
 *      everything else, flushed
 *      what it holds, on data              the same under its own name
 *      its first block, flushed            it is whole
 */
#include "image/install.h"

#include <fcntl.h>
#include <sys/mman.h>

#include "base/file.h"
#include "base/io.h"
#include "base/version.h"
#include "image/format.h"
#include "image/reuse.h"
#include "slot/kinds.h"

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

/* Kernel and initrd wait in an unnamed file until everything is checked. What lies on the ESP already is left there. */
struct file_sink {
        struct chunk_sink sink;
        int fd;           /* negative: it is there */
        uint8_t *present; /* then: of all chunks */
};

static int write_unnamed(struct chunk_sink *sink, uint64_t offset, void *data, size_t size, struct error *e)
{
        struct file_sink *s = (struct file_sink *)sink;
        int r = data ? io_pwrite(s->fd, data, size, offset) : 0; /* it was made with its length: zeros are there */

        return r < 0 ? fail_errno(e, r, "cannot keep a boot file") : 0;
}

static int open_unnamed(int data, uint64_t size)
{
        int fd = data >= 0 ? io_open(data, ".", O_TMPFILE | O_RDWR, 0600) : -1, r;

        if (fd < 0)
                fd = memfd_create("bootmgr", MFD_CLOEXEC);
        if (fd < 0)
                return -errno;
        r = io_truncate(fd, size);
        if (r < 0)
                fd_close(fd);
        return r < 0 ? r : fd;
}

static void slot_path(const struct install_target *t, const char *suffix, char path[static 32])
{
        snprintf(path, 32, "slots/%c%s", slot_name(t->slot), suffix);
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
        if (r >= 0)
                r = fd = io_open(t->data, file, O_WRONLY | O_CREAT | O_TRUNC, 0644);
        if (r >= 0)
                r = bundle_copy_index(b, root, fd);
        if (r >= 0)
                r = io_fsync(fd);
        return r < 0 ? fail_errno(e, r, "cannot write %s", file) : 0;
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

static int add_boot_files(const struct manifest *m, const struct file_sink *files, struct loader *loader, struct error *e)
{
        for (size_t i = 0; i < m->n_images; i++) {
                const struct bundle_image *image = &m->images[i];
                int r;

                if (!image_is_boot_file(image) || files[i].present)
                        continue;
                r = loader->ops->add_boot_file(loader, files[i].fd, image->size, image->digest, image->digest, e);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int prepare_boot_file(const struct bundle_image *image, const struct install_target *t, struct file_sink *ret)
{
        *ret = (struct file_sink){ .sink.write = write_unnamed, .fd = -1 };
        if (t->loader->ops->check_boot_file(t->loader, image->digest, NULL) >= 0) {
                ret->sink.present = ret->present = malloc(image->n_chunks);
                if (!ret->present)
                        return -ENOMEM;
                memset(ret->present, 1, image->n_chunks);
                return 0;
        }
        ret->fd = open_unnamed(t->data, image->size);
        return ret->fd < 0 ? ret->fd : 0;
}

int install_check_base(struct bundle *b, const struct install_target *t, struct progress *progress, struct error *e)
{
        const struct manifest *m = bundle_manifest(b);
        int r;

        bundle_keep_index(b, t->data);
        r = bundle_read_index(b, e);
        for (size_t i = 0; i < m->n_images && r >= 0; i++)
                if (streq(m->images[i].name, "root") ||
                    (image_is_boot_file(&m->images[i]) &&
                     t->loader->ops->check_boot_file(t->loader, m->images[i].digest, NULL) < 0))
                        r = delta_check_base(b, i, progress, e);
        return r;
}

static int prepare_sinks(const struct manifest *m, const struct install_target *t, struct root_sink *root,
                         struct file_sink *files, struct chunk_sink **sinks, size_t *ret_root)
{
        for (size_t i = 0; i < m->n_images; i++) {
                if (streq(m->images[i].name, "root")) {
                        sinks[i] = &root->sink;
                        *ret_root = i;
                } else if (image_is_boot_file(&m->images[i])) {
                        int r = prepare_boot_file(&m->images[i], t, &files[i]);

                        if (r < 0)
                                return r;
                        sinks[i] = &files[i].sink;
                }
        }
        return 0;
}

static void fill_report(struct install_report *report, const struct root_sink *s, const struct bundle *b,
                        const struct reuse *u, const struct progress *progress)
{
        uint64_t chunks, full = bundle_fetched_full(b, &chunks);

        *report = (struct install_report){ .written = s->written,
                                           .zeroed = s->zeroed,
                                           .kept = u->kept,
                                           .copied = u->copied,
                                           .fetched = progress ? progress->transfer.fetched : 0,
                                           .full = full,
                                           .full_chunks = chunks,
                                           .times = *bundle_extract_times(b),
                                           .flush = s->flush };
}

static int write_images(struct bundle *b, const struct install_target *t, struct root_sink *root, struct reuse *reuse,
                        struct file_sink *files, struct progress *progress, struct error *e)
{
        const struct manifest *m = bundle_manifest(b);
        struct chunk_sink *sinks[BUNDLE_MAX_IMAGES] = {};
        size_t number = 0;
        uint64_t size;
        int r;

        bundle_keep_index(b, t->data);
        r = prepare_sinks(m, t, root, files, sinks, &number);
        if (r >= 0)
                r = bundle_read_index(b, e);
        if (r >= 0)
                r = reuse_look(reuse, t->data, t->slot, t->running, t->running_slot);
        if (r >= 0)
                r = announce_slot(b, t, number, e);
        if (r >= 0)
                r = root_begin(root, t->root, m->images[number].size, reuse_has_hints(reuse), e);
        if (r >= 0)
                r = reuse_chunks(reuse, root, &m->images[number], bundle_chunk_index(b, number, &size), progress, e);
        if (r >= 0)
                r = bundle_extract(b, sinks, progress, e);
        if (r >= 0)
                r = add_boot_files(m, files, t->loader, e);
        if (r >= 0)
                r = remember_slot(t, e);
        return r < 0 ? r : root_finish(root, e);
}

int install_images(struct bundle *b, const struct install_target *t, struct progress *progress, struct error *e)
{
        struct root_sink root = { .direct = -1 };
        struct reuse reuse = { .target.index = -1, .running.index = -1 };
        struct file_sink files[BUNDLE_MAX_IMAGES];
        int r;

        for (size_t i = 0; i < BUNDLE_MAX_IMAGES; i++)
                files[i] = (struct file_sink){ .fd = -1 };
        r = write_images(b, t, &root, &reuse, files, progress, e);
        if (t->report)
                fill_report(t->report, &root, b, &reuse, progress);
        for (size_t i = 0; i < BUNDLE_MAX_IMAGES; i++) {
                fd_close(files[i].fd);
                free(files[i].present);
        }
        reuse_done(&reuse);
        root_done(&root);
        return r;
}
