/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "snapshot/seal.h"

#include <fcntl.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/io.h"
#include "snapshot/archive.h"
#include "snapshot/path.h"
#include "snapshot/walk.h"

#define ENTRY_OVERHEAD 4096 /* headers of one file in a tar, attributes not counted */

int seal_directory(const struct snapshot_place *place, const char *name, bool make, struct error *e)
{
        int r = make ? io_mkdir(place->data, name, 0700) : 0, fd;

        if (r < 0)
                return fail_write(e, r, "cannot make %s in the data directory", name);
        fd = dir_open(place->data, name);
        return fd >= 0 ? fd : fail_write(e, fd, "cannot open %s in the data directory", name);
}

/* Visits every path that is there; `visited` is told which were and which were not (it may be NULL). */
static int walk_paths(const struct snapshot_place *place, char *const *paths, struct walk *w,
                      int (*visited)(void *userdata, const char *path, bool there), struct error *e)
{
        for (char *const *p = paths; p && *p; p++) {
                const char *name;
                _cleanup_close_ int parent = path_open_parent(place->root, *p, false, &name);
                int r = parent < 0 ? parent : walk_tree(w, parent, name, *p + 1, e);

                if (r < 0 && r != -ENOENT && r != -ENOTDIR)
                        return parent < 0 ? fail_errno(e, r, "cannot open the directory of %s", *p) : r;
                r = visited ? visited(w->userdata, *p, r >= 0) : 0;
                if (r < 0)
                        return r;
        }
        return 0;
}

static int count_node(struct walk *w, struct node *n, int dirfd, const char *name, int fd, struct error *e)
{
        uint64_t *sum = w->userdata;

        *sum += ENTRY_OVERHEAD + 2 * strlen(n->path);
        for (const struct xattr *x = n->xattrs; x; x = x->next)
                *sum += x->size + strlen(x->name) + 64;
        if (!n->hardlink)
                *sum += node_data_bytes(n) + 64 * n->n_data;
        return 0;
}

int snapshot_estimate(const struct snapshot_place *place, char *const *shared, uint64_t *ret_bytes, struct error *e)
{
        uint64_t sum = 0;
        _cleanup_walk_ struct walk w = { .visit = count_node, .userdata = &sum, .changing = true, .quiet = true };
        int r = walk_paths(place, shared, &w, NULL, e);

        if (r < 0)
                return r;
        /* What does not compress grows by less than a part in 128 (ZSTD_COMPRESSBOUND); and the description. */
        *ret_bytes = sum + sum / 128 + KIB(64);
        return 0;
}

struct sealing {
        struct tar_writer *tar;
        struct snapshot *s;
        struct progress *progress;
        uint64_t total, done;
};

static int seal_node(struct walk *w, struct node *n, int dirfd, const char *name, int fd, struct error *e)
{
        struct sealing *sealing = w->userdata;
        int r = tar_writer_add(sealing->tar, n, fd, e);

        if (r < 0)
                return r;
        sealing->s->nodes++;
        if (S_ISREG(n->mode))
                sealing->s->files++;
        if (n->hardlink)
                return 0;
        sealing->s->bytes += n->size;
        sealing->done += node_data_bytes(n);
        return progress_report(sealing->progress, MIN(sealing->done, sealing->total), sealing->total, NULL);
}

static int note_path(void *userdata, const char *path, bool there)
{
        struct sealing *sealing = userdata;

        return paths_add(there ? sealing->s->paths : sealing->s->absent, path);
}

static int write_archive(const struct snapshot_place *place, char *const *paths, int fd, struct sealing *sealing,
                         struct error *e)
{
        _cleanup_walk_ struct walk w = { .visit = seal_node, .userdata = sealing, .changing = fd < 0, .quiet = fd < 0 };
        _cleanup_tar_writer_ struct tar_writer *tar = NULL;
        _cleanup_buf_ struct buf trailer = {};
        struct snapshot *s = sealing->s;
        int r = tar_writer_new(fd, &tar, e);

        if (r < 0)
                return r;
        sealing->tar = tar;
        r = walk_paths(place, paths, &w, note_path, e);
        s->skipped = w.skipped;
        if (r >= 0)
                r = metadata_trailer(s, &trailer);
        if (r >= 0)
                r = tar_writer_finish(tar, trailer.data, trailer.size, &s->size, s->digest, e);
        if (r < 0 || fd < 0)
                return r;
        r = io_fsync(fd);
        return r < 0 ? fail_write(e, r, "cannot flush the archive") : 0;
}

static int compare_paths(const void *a, const void *b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The order in which they are configured makes no other snapshot. */
static int prepare_paths(char *const *unsorted, struct snapshot *s, char ***ret)
{
        char **paths = paths_copy(unsorted);

        if (!paths)
                return -ENOMEM;
        qsort(paths, paths_count(paths), sizeof(*paths), compare_paths);
        s->paths = calloc(paths_count(paths) + 1, sizeof(*s->paths));
        s->absent = calloc(paths_count(paths) + 1, sizeof(*s->absent));
        *ret = paths;
        return s->paths && s->absent ? 0 : -ENOMEM;
}

int snapshot_measure(const struct snapshot_place *place, char *const *shared, uint64_t *ret_size,
                     uint8_t digest[static DIGEST_SIZE], struct error *e)
{
        _cleanup_snapshot_ struct snapshot s = {};
        _cleanup_(paths_freep) char **paths = NULL;
        struct sealing sealing = { .s = &s };
        int r = prepare_paths(shared, &s, &paths);

        if (r >= 0)
                r = write_archive(place, paths, -1, &sealing, e);
        if (r < 0)
                return r;
        memcpy(digest, s.digest, DIGEST_SIZE);
        *ret_size = s.size;
        return 0;
}

int seal_write(const struct snapshot_place *place, char *const *unsorted, int dir, struct progress *progress,
               struct snapshot *s, struct error *e)
{
        _cleanup_(paths_freep) char **paths = NULL;
        struct sealing sealing = { .s = s, .progress = progress };
        _cleanup_close_ int fd = -1;
        int r = prepare_paths(unsorted, s, &paths);

        if (r >= 0)
                r = snapshot_estimate(place, paths, &sealing.total, e);
        if (r < 0)
                return r;
        /* One operation at a time: a file of this name is what an interrupted one left. */
        io_unlink(dir, SEAL_TEMPORARY, 0);
        fd = io_open(dir, SEAL_TEMPORARY, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
        if (fd < 0)
                return fail_write(e, fd, "cannot make an archive in the data directory");
        r = write_archive(place, paths, fd, &sealing, e);
        if (r < 0) {
                seal_drop(dir);
                return r;
        }
        s->created = now_realtime();
        snapshot_id(s->digest, s->id);
        return progress_report(progress, sealing.total, sealing.total, NULL);
}

int seal_publish(int dir, const char *stem, const struct snapshot *s, struct error *e)
{
        char name[STEM_SIZE + sizeof(ARCHIVE_SUFFIX)];
        int r;

        snprintf(name, sizeof(name), "%s" ARCHIVE_SUFFIX, stem);
        /* Over one with the same name: it has the same content, and if it was damaged, it is no longer. */
        r = io_rename(dir, SEAL_TEMPORARY, dir, name, 0);
        if (r < 0) {
                seal_drop(dir);
                return fail_write(e, r, "cannot name the archive %s", name);
        }
        return metadata_write(dir, stem, s, e);
}

void seal_drop(int dir)
{
        io_unlink(dir, SEAL_TEMPORARY, 0);
}
