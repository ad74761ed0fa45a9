/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Restoring, in the order of its writes, and what a power cut (or any failure) before each of them means:
 *
 *      verify the snapshot                           nothing has happened
 *   1. seal what is there as discarded/<generation>  nothing has happened; a temporary file, or an archive that
 *                                                    the next try finds equal and uses
 *   2. unpack every path beside itself, flush        what is there is as it was; the next try removes what
 *                                                    lies beside and begins at 1
 *   3. journal                                       from now on what is there may be a mixture, and all of what it was
 *                                                    lies sealed in 1: it is never sealed again for this restore
 *   4. path by path: exchange                        a mixture, which nothing reads: the owner marker says so.
 *                                                    The next try finds the journal and begins at 2
 *   5. remove what lies beside now: the old content  the new content is whole; the next try does 2 to 5 again
 *   6. remove the journal                            the next try seals what is there, finds that it is the snapshot, and is
 *                                                    done
 *
 * The journal does not say which paths were exchanged, on purpose: after an exchange and before its note is
 * durable nobody could know, and exchanging twice would bring the old content back. Beginning again at 2 needs
 * no such knowledge: what lies beside a path, new or old, is removed and unpacked anew.
 */
#include <fcntl.h>
#include <linux/fs.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/io.h"
#include "base/log.h"
#include "slot/kinds.h"
#include "snapshot/archive.h"
#include "snapshot/journal.h"
#include "snapshot/path.h"
#include "snapshot/seal.h"
#include "snapshot/unpack.h"

#define DISCARDED_MAX  1000 /* seals of one generation */
#define PROGRESS_TOTAL 1000

/* One half of the work, as the other sees it. */
struct half {
        struct progress progress;
        struct progress *outer;
        uint64_t begin; /* of PROGRESS_TOTAL */
};

static int report_half(struct progress *p, uint64_t done, uint64_t total, const char *message)
{
        struct half *half = p->userdata;
        double part = total ? (double)MIN(done, total) / (double)total : 1;

        return progress_report(half->outer, half->begin + (uint64_t)(part * PROGRESS_TOTAL / 2), PROGRESS_TOTAL, message);
}

/* A path that is restored, and its name beside. */
struct target {
        const char *path; /* borrowed */
        const char *name; /* within path */
        int parent;
        char beside[NAME_MAX + 1];
        bool present; /* in the snapshot */
};

struct targets {
        struct target *items;
        size_t n;
};

static void targets_done(struct targets *t)
{
        for (size_t i = 0; i < t->n; i++)
                fd_close(t->items[i].parent);
        free(t->items);
        *t = (struct targets){};
}

static int add_targets(const struct snapshot_place *place, char *const *paths, bool present, struct targets *t,
                       struct error *e)
{
        for (char *const *p = paths; p && *p; p++) {
                const char *name;
                int parent = path_open_parent(place->root, *p, present, &name);

                if (!present && (parent == -ENOENT || parent == -ENOTDIR))
                        continue; /* nothing to remove */
                if (parent < 0)
                        return fail_write(e, parent, "cannot open the directory of %s", *p);
                t->items[t->n] = (struct target){ .path = *p, .name = name, .parent = parent, .present = present };
                snprintf(t->items[t->n].beside, sizeof(t->items[t->n].beside), BESIDE_PREFIX "%s", name);
                t->n++;
        }
        return 0;
}

/* Opens the directories of all paths of a snapshot; makes those that are missing. */
static int open_targets(const struct snapshot_place *place, char *const *paths, char *const *absent, struct targets *t,
                        struct error *e)
{
        int r;

        t->items = calloc(paths_count(paths) + paths_count(absent) + 1, sizeof(*t->items));
        if (!t->items)
                return -ENOMEM;
        r = add_targets(place, paths, true, t, e);
        return r < 0 ? r : add_targets(place, absent, false, t, e);
}

static int remove_beside(const struct targets *t, struct error *e)
{
        for (size_t i = 0; i < t->n; i++) {
                int r = remove_tree(t->items[i].parent, t->items[i].beside);

                if (r < 0)
                        return fail_errno(e, r, "cannot remove %s beside %s", t->items[i].beside, t->items[i].path);
        }
        return 0;
}

/* Whether discarded/<stem> can become what was just sealed: it is free, has no description (an interrupted seal,
 * behind which nothing was exchanged), or is the same. */
static bool stem_is_usable(int dir, const char *stem, const struct snapshot *s)
{
        _cleanup_snapshot_ struct snapshot there = {};
        char name[STEM_SIZE + sizeof(ARCHIVE_SUFFIX)];
        int r;

        snprintf(name, sizeof(name), "%s" ARCHIVE_SUFFIX, stem);
        if (faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT;
        r = metadata_read(dir, stem, &there, NULL);
        return r == -ENOENT || (r >= 0 && memcmp(there.digest, s->digest, DIGEST_SIZE) == 0);
}

static int publish_discarded(int dir, uint64_t generation, const struct snapshot *s, struct error *e)
{
        for (unsigned i = 1; i <= DISCARDED_MAX; i++) {
                char stem[STEM_SIZE];

                if (i == 1)
                        snprintf(stem, sizeof(stem), "%llu", (unsigned long long)generation);
                else
                        snprintf(stem, sizeof(stem), "%llu-%u", (unsigned long long)generation, i);
                if (!stem_is_usable(dir, stem, s))
                        continue;
                log_notice("what is there is kept as " DISCARDED "/%s" ARCHIVE_SUFFIX, stem);
                return seal_publish(dir, stem, s, e);
        }
        return fail(e, -EEXIST, NULL, "generation %llu has discarded more than %d configurations",
                    (unsigned long long)generation, DISCARDED_MAX);
}

/* The present and the absent ones. NULL: no memory. */
static char **all_paths(const struct snapshot *s)
{
        char **all = calloc(paths_count(s->paths) + paths_count(s->absent) + 1, sizeof(*all));

        for (char *const *list = s->paths; all && list; list = list == s->paths ? s->absent : NULL)
                for (char *const *p = list; *p; p++)
                        if (paths_add(all, *p) < 0) {
                                paths_free(all);
                                return NULL;
                        }
        return all;
}

/* 1: what is there is the snapshot already. */
static int seal_discarded(const struct snapshot_place *place, const struct snapshot *s, uint64_t generation,
                          struct progress *progress, struct error *e)
{
        struct half half = { { report_half, &half }, progress, 0 };
        _cleanup_snapshot_ struct snapshot now = { .slot = SLOT_NONE, .generation = generation };
        _cleanup_close_ int dir = seal_directory(place, DISCARDED, true, e);
        _cleanup_(paths_freep) char **all = all_paths(s);
        int r;

        if (dir < 0)
                return dir;
        r = all ? seal_write(place, all, dir, &half.progress, &now, e) : -ENOMEM;
        if (r < 0)
                return r;
        if (memcmp(now.digest, s->digest, DIGEST_SIZE) == 0) {
                seal_drop(dir);
                return 1;
        }
        return publish_discarded(dir, generation, &now, e);
}

struct unpacking {
        struct tar_reader *tar;
        struct half half;
        uint64_t total, done;
};

static int unpack_blocks(void *userdata, const struct node *n, int fd, struct error *e)
{
        struct unpacking *u = userdata;
        const void *data;
        uint64_t offset;
        size_t size;
        int r;

        while ((r = tar_reader_block(u->tar, &data, &size, &offset, e)) > 0) {
                r = io_pwrite(fd, data, size, offset);
                if (r < 0)
                        return fail_write(e, r, "cannot write /%s", n->path);
                u->done += size;
                r = progress_report(&u->half.progress, u->done, u->total, NULL);
                if (r < 0)
                        return r;
        }
        return r;
}

static int unpack_nodes(const struct snapshot *s, int archive, struct unpack *u, struct progress *progress, struct error *e)
{
        struct unpacking unpacking = { .total = s->bytes };
        _cleanup_tar_reader_ struct tar_reader *tar = NULL;
        int r = tar_reader_new(archive, s->digest, &tar, e);

        unpacking.tar = tar;
        unpacking.half = (struct half){ { report_half, &unpacking.half }, progress, PROGRESS_TOTAL / 2 };
        while (r >= 0) {
                _cleanup_node_ struct node n = {};

                r = tar_reader_next(tar, &n, e);
                if (r <= 0)
                        break;
                r = unpack_add(u, &n, unpack_blocks, &unpacking, e);
        }
        return r < 0 ? r : unpack_finish(u, e);
}

/* Every path's new content, whole and flushed beside it. */
static int unpack_beside(const struct snapshot *s, int archive, const struct targets *t, struct progress *progress,
                         struct error *e)
{
        _cleanup_unpack_ struct unpack u = { .bytes_max = s->bytes, .nodes_max = s->nodes };
        struct root *roots = calloc(t->n + 1, sizeof(*roots));
        int r;

        if (!roots)
                return -ENOMEM;
        u.roots.items = roots;
        for (size_t i = 0; i < t->n; i++)
                if (t->items[i].present)
                        roots[u.roots.n++] = (struct root){ t->items[i].path + 1, t->items[i].parent, t->items[i].beside };
        r = remove_beside(t, e);
        if (r >= 0)
                r = unpack_nodes(s, archive, &u, progress, e);
        for (size_t i = 0; r >= 0 && i < u.roots.n; i++) {
                r = tree_flush(roots[i].parent, roots[i].name, e);
                if (r == -ENOENT)
                        fail(e, r, &kind_snapshot_altered, "snapshot %s does not hold /%s", s->id, roots[i].prefix);
        }
        free(roots);
        if (r < 0)
                remove_beside(t, NULL);
        return r;
}

/* Brings the new content to its place and the old one beside it; of a path that the snapshot does not have, only
 * the latter. */
static int exchange(const struct target *t, struct error *e)
{
        bool there = faccessat(t->parent, t->name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
        int r = 0;

        if (t->present)
                r = io_rename(t->parent, t->beside, t->parent, t->name, there ? RENAME_EXCHANGE : RENAME_NOREPLACE);
        else if (there)
                r = io_rename(t->parent, t->name, t->parent, t->beside, RENAME_NOREPLACE);
        return r < 0 ? fail_write(e, r, "cannot put %s in its place", t->path) : 0;
}

static int exchange_all(const struct targets *t, struct error *e)
{
        int r = 0;

        for (size_t i = 0; r >= 0 && i < t->n; i++)
                r = exchange(&t->items[i], e);
        if (r >= 0)
                r = remove_beside(t, e);
        /* The exchanges too. The journal says that something may lie beside, and shared paths may lie on another file system
         * than the journal: it goes after that. */
        for (size_t i = 0; r >= 0 && i < t->n; i++) {
                r = io_fsync(t->items[i].parent);
                if (r < 0)
                        fail_write(e, r, "cannot flush the directory of %s", t->items[i].path);
        }
        return r;
}

/* Another restore was interrupted, and this one takes its place: what it left beside paths that are not ours too.
 * All of that is sealed: it is from a snapshot, or from what was discarded then. */
static int forget_other(const struct snapshot_place *place, const struct journal *j, struct error *e)
{
        _cleanup_(targets_done) struct targets t = {};
        int r = open_targets(place, NULL, j->paths, &t, e);

        if (r >= 0)
                r = remove_beside(&t, e);
        return r < 0 ? r : journal_remove(place, e);
}

static int write_journal(const struct snapshot_place *place, const struct snapshot *s, uint64_t generation, struct error *e)
{
        _cleanup_journal_ struct journal j = { .valid = true, .generation = generation, .paths = all_paths(s) };

        memcpy(j.digest, s->digest, DIGEST_SIZE);
        return j.paths ? journal_write(place, &j, e) : -ENOMEM;
}

/* Step 1, unless an interrupted restore of the same has done it. 1: there is nothing to restore. */
static int keep_what_is_there(const struct snapshot_place *place, const struct snapshot *s, uint64_t generation,
                              struct progress *progress, struct error *e)
{
        _cleanup_journal_ struct journal j = {};
        int r = journal_read(place, &j, e);

        if (r < 0)
                return r;
        if (j.valid && j.generation == generation && memcmp(j.digest, s->digest, DIGEST_SIZE) == 0) {
                log_notice("an interrupted restore of snapshot %s goes on", s->id);
                return 0;
        }
        if (j.valid)
                r = forget_other(place, &j, e);
        return r < 0 ? r : seal_discarded(place, s, generation, progress, e);
}

int snapshot_restore(const struct snapshot_place *place, const struct snapshot *s, uint64_t generation,
                     struct progress *progress, bool *ret_begun, struct error *e)
{
        _cleanup_(targets_done) struct targets targets = {};
        _cleanup_close_ int archive = seal_open(place, s, e);
        int r;

        if (archive < 0)
                return archive;
        r = keep_what_is_there(place, s, generation, progress, e);
        if (r < 0)
                return r;
        if (r == 0) {
                r = open_targets(place, s->paths, s->absent, &targets, e);
                if (r >= 0)
                        r = unpack_beside(s, archive, &targets, progress, e);
                if (r >= 0 && ret_begun)
                        *ret_begun = true;
                if (r >= 0)
                        r = write_journal(place, s, generation, e);
                if (r >= 0)
                        r = exchange_all(&targets, e);
                if (r >= 0)
                        r = journal_remove(place, e);
                if (r < 0)
                        return r;
        }
        return progress_report(progress, PROGRESS_TOTAL, PROGRESS_TOTAL, NULL);
}
