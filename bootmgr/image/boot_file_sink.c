/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "image/boot_file_sink.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/io.h"
#include "image/format.h"
#include "image/reuse.h"
#include "slot/kinds.h"

#define KEEP_BOOT_FILE "cannot keep a boot file"

static const char *const names[] = { "kernel", "initrd" };

int fail_data(struct error *e, int r, const char *what)
{
        if (r != -ENOSPC && r != -EDQUOT)
                return fail_errno(e, r, "%s", what);
        fail(e, r, &kind_no_space, "%s: no space is left on the data partition", what);
        return fail_hint(e, "free space on the data partition");
}

void slot_path(const struct install_target *t, const char *suffix, char path[static 32])
{
        snprintf(path, 32, "slots/%c%s", slot_name(t->slot), suffix);
}

static void part_path(const struct install_target *t, const char *name, char path[static 48])
{
        char part[32];

        slot_path(t, SLOT_PART, part);
        snprintf(path, 48, "%s/%s", part, name);
}

static int write_part(struct chunk_sink *sink, uint64_t offset, void *data, size_t size, struct io_queue *queue,
                      struct error *e)
{
        struct boot_file_sink *s = (struct boot_file_sink *)sink;
        int r = 0;

        if (data)
                r = io_pwrite(s->fd, data, size, offset);
        else if (s->old)
                r = io_zero(s->fd, offset, size); /* a new one was made with its length: zeros are there */
        return r < 0 ? fail_data(e, r, KEEP_BOOT_FILE) : 0;
}

/* Whether the ESP has a boot file of this content. *fd is that of another than the slot's, to copy it from. */
static bool is_there(const struct bundle_image *image, const struct install_target *t, int *fd)
{
        uint8_t id[BOOT_FILE_ID_SIZE];

        boot_file_make_id(image->digest, t->slot, id);
        if (t->loader->ops->check_boot_file(t->loader, id, NULL) >= 0)
                return true;
        *fd = t->loader->ops->find_boot_file(t->loader, image->digest, SLOT_NONE);
        return *fd >= 0;
}

static int remove_part(const struct install_target *t, const char *name, struct error *e)
{
        char path[48];
        int r;

        part_path(t, name, path);
        r = remove_tree(t->data, path);
        return r < 0 ? fail_errno(e, r, "cannot remove %s", path) : 0;
}

/* What an earlier try left. That of another length is of another file, and that of a file that need not come is in the way.
 */
static int find_part(struct boot_file_sink *s, const struct bundle_image *image, const struct install_target *t,
                     struct error *e)
{
        struct stat st;
        char path[48];

        if (!s->sink.whole) {
                part_path(t, image->name, path);
                s->fd = io_open(t->data, path, O_RDWR | O_NOFOLLOW, 0);
                s->old = s->fd >= 0 && fstat(s->fd, &st) >= 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size == image->size;
                if (s->old)
                        return 0;
                s->fd = fd_close(s->fd);
        }
        return remove_part(t, image->name, e);
}

/* The room is taken now, not when an hour of fetching has come to it; where there is no data directory, in memory. */
static int make_part(struct boot_file_sink *s, const struct bundle_image *image, const struct install_target *t)
{
        char part[32], path[48];
        int r;

        if (t->data < 0) {
                s->fd = memfd_create("bootmgr", MFD_CLOEXEC);
                return s->fd < 0 ? -errno : io_truncate(s->fd, image->size);
        }
        slot_path(t, SLOT_PART, part);
        part_path(t, image->name, path);
        r = s->old ? 0 : mkdir_parents(t->data, part, 0755);
        if (r >= 0 && !s->old)
                r = s->fd = io_open(t->data, path, O_RDWR | O_CREAT | O_EXCL, 0600);
        return r < 0 ? r : io_allocate(s->fd, image->size);
}

/* What is in the way goes before anything takes room. */
int boot_file_sinks_begin(struct boot_file_sink *s, const struct manifest *m, const struct install_target *t,
                          struct error *e)
{
        int r = 0;

        for (size_t i = 0; i < ARRAY_SIZE(names) && r >= 0 && t->data >= 0; i++)
                r = manifest_image(m, names[i]) ? 0 : remove_part(t, names[i], e);
        for (size_t i = 0; i < m->n_images && r >= 0; i++) {
                s[i] = (struct boot_file_sink){ .sink.write = write_part, .fd = -1 };
                s[i].sink.whole = !image_is_boot_file(&m->images[i]) || is_there(&m->images[i], t, &s[i].fd);
                if (image_is_boot_file(&m->images[i]) && t->data >= 0)
                        r = find_part(&s[i], &m->images[i], t, e);
        }
        for (size_t i = 0; i < m->n_images && r >= 0; i++) {
                if (s[i].sink.whole)
                        continue;
                r = make_part(&s[i], &m->images[i], t);
                if (r < 0)
                        fail_data(e, r, KEEP_BOOT_FILE);
        }
        return r;
}

int boot_file_sink_look(struct boot_file_sink *s, const struct bundle_image *image, const uint8_t *index)
{
        _cleanup_free_ uint8_t *content = NULL;
        struct chunk_walk w;

        if (!s->old)
                return 0;
        content = malloc(image->chunk_size);
        s->sink.present = s->present = calloc(MAX(image->n_chunks, UINT64_C(1)), 1);
        if (!content || !s->present)
                return -ENOMEM;
        for (chunk_walk_begin(&w, image, index); w.entry; chunk_walk_next(&w)) {
                /* Zeros cost nothing to bring. */
                if (entry_is_zeros(w.entry) || io_pread(s->fd, content, w.size, w.offset) < 0 ||
                    !chunk_matches(w.entry, content, w.size))
                        continue;
                s->present[w.number] = 1;
                s->kept += w.size;
        }
        return 0;
}

int boot_file_sink_add(const struct boot_file_sink *s, const struct bundle_image *image, const struct install_target *t,
                       struct error *e)
{
        uint8_t id[BOOT_FILE_ID_SIZE];

        if (s->fd < 0)
                return 0;
        boot_file_make_id(image->digest, t->slot, id);
        return t->loader->ops->add_boot_file(t->loader, s->fd, image->size, id, e);
}

void boot_file_sink_done(struct boot_file_sink *s)
{
        fd_close(s->fd);
        free(s->present);
        *s = BOOT_FILE_SINK_NONE;
}

int boot_file_sinks_forget(const struct install_target *t, struct error *e)
{
        int r = 0;

        for (size_t i = 0; i < ARRAY_SIZE(names) && r >= 0 && t->data >= 0; i++)
                r = remove_part(t, names[i], e);
        return r;
}

bool boot_file_is_lacking(const struct bundle_image *image, const struct install_target *t)
{
        _cleanup_close_ int fd = -1;

        return image_is_boot_file(image) && !is_there(image, t, &fd);
}

uint64_t boot_files_held(const struct install_target *t)
{
        uint64_t sum = 0;

        for (size_t i = 0; i < ARRAY_SIZE(names) && t->data >= 0; i++) {
                struct stat st;
                char path[48];

                part_path(t, names[i], path);
                if (fstatat(t->data, path, &st, AT_SYMLINK_NOFOLLOW) == 0)
                        sum += (uint64_t)st.st_blocks * 512;
        }
        return sum;
}
