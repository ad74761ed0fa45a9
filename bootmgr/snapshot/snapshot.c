/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "snapshot/snapshot.h"

#include <fcntl.h>

#include "base/file.h"
#include "base/io.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/sha256.h"
#include "slot/kinds.h"
#include "snapshot/archive.h"
#include "snapshot/path.h"
#include "snapshot/seal.h"
#include "snapshot/walk.h"

#define DISCARDED_KEPT 3
#define EXPORT_SIZE    KIB(256)

int snapshot_take(const struct snapshot_place *place, char *const *shared, int slot, const char *version,
                  uint64_t generation, struct progress *progress, struct snapshot *ret, struct error *e)
{
        _cleanup_snapshot_ struct snapshot s = { .slot = slot, .generation = generation };
        _cleanup_close_ int dir = -1;
        int r;

        snprintf(s.version, sizeof(s.version), "%s", version);
        dir = seal_directory(place, SNAPSHOTS, true, e);
        if (dir < 0)
                return dir;
        r = seal_write(place, shared, dir, progress, &s, e);
        if (r >= 0)
                r = seal_publish(dir, s.id, &s, e);
        if (r < 0)
                return r;
        *ret = TAKE(s, (struct snapshot){});
        return 0;
}

int snapshot_find(const struct snapshot_place *place, const uint8_t digest[static DIGEST_SIZE], struct snapshot *ret,
                  struct error *e)
{
        _cleanup_snapshot_ struct snapshot s = {};
        _cleanup_close_ int dir = -1;
        char name[STEM_SIZE + sizeof(ARCHIVE_SUFFIX)], id[17];
        int r;

        snapshot_id(digest, id);
        dir = dir_open(place->data, SNAPSHOTS);
        if (dir == -ENOENT)
                return fail(e, dir, &kind_snapshot_missing, "there is no snapshot %s", id);
        if (dir < 0)
                return fail_errno(e, dir, "cannot open the directory of the snapshots");
        r = metadata_read(dir, id, &s, e);
        if (r < 0)
                return r;
        if (memcmp(s.digest, digest, DIGEST_SIZE) != 0)
                return fail(e, -EBADMSG, &kind_snapshot_altered, "the description of snapshot %s names another digest", id);
        snprintf(name, sizeof(name), "%s" ARCHIVE_SUFFIX, id);
        if (faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
                return fail(e, -ENOENT, &kind_snapshot_missing, "the archive of snapshot %s is missing", id);
        *ret = TAKE(s, (struct snapshot){});
        return 0;
}

/* The description is not sealed, but what of it decides about files is: as the trailer. */
static int check_trailer(int fd, const struct snapshot *s, struct error *e)
{
        _cleanup_buf_ struct buf text = {}, frame = {};
        _cleanup_free_ char *found = NULL;
        int r;

        r = metadata_trailer(s, &text);
        if (r >= 0)
                r = tar_trailer(text.data, text.size, &frame);
        if (r < 0)
                return r;
        found = malloc(frame.size);
        if (!found)
                return -ENOMEM;
        r = s->size < frame.size ? -EBADMSG : io_pread(fd, found, frame.size, s->size - frame.size);
        if (r < 0 || memcmp(found, frame.data, frame.size) != 0)
                return fail(e, -EBADMSG, &kind_snapshot_altered, "the description of snapshot %s was altered", s->id);
        return 0;
}

int seal_open(const struct snapshot_place *place, const struct snapshot *s, struct error *e)
{
        char name[sizeof(SNAPSHOTS) + STEM_SIZE + sizeof(ARCHIVE_SUFFIX)];
        _cleanup_close_ int fd = -1;
        uint8_t digest[DIGEST_SIZE];
        int r;

        snprintf(name, sizeof(name), SNAPSHOTS "/%s" ARCHIVE_SUFFIX, s->id);
        fd = io_open(place->data, name, O_RDONLY | O_NOFOLLOW, 0);
        if (fd == -ENOENT)
                return fail(e, fd, &kind_snapshot_missing, "the archive of snapshot %s is missing", s->id);
        if (fd < 0)
                return fail_errno(e, fd, "cannot open %s", name);
        r = sha256_fd(fd, 0, UINT64_MAX, digest);
        if (r < 0)
                return fail_errno(e, r, "cannot read %s", name);
        if (memcmp(digest, s->digest, DIGEST_SIZE) != 0) {
                fail(e, -EBADMSG, &kind_snapshot_altered, "snapshot %s was altered: its digest is another", s->id);
                fail_hint(e, "it cannot be restored; what can still be read of it lies in %s", name);
                return -EBADMSG;
        }
        r = check_trailer(fd, s, e);
        return r < 0 ? r : TAKE_FD(fd);
}

static bool is_under(const char *path, char *const *roots)
{
        for (; roots && *roots; roots++)
                if (path_below(path, *roots + 1))
                        return true;
        return false;
}

static int check_nodes(int fd, const struct snapshot *s, struct error *e)
{
        _cleanup_tar_reader_ struct tar_reader *tar = NULL;
        uint64_t nodes = 0, bytes = 0;
        int r = tar_reader_new(fd, NULL, &tar, e);

        while (r >= 0) {
                _cleanup_node_ struct node n = {};

                r = tar_reader_next(tar, &n, e);
                if (r <= 0)
                        break;
                if (!is_under(n.path, s->paths) || n.size > s->bytes - bytes || ++nodes > s->nodes)
                        return fail(e, -EBADMSG, &kind_snapshot_altered,
                                    "snapshot %s holds something else than its description says", s->id);
                bytes += n.size;
        }
        if (r >= 0 && (nodes != s->nodes || bytes != s->bytes))
                return fail(e, -EBADMSG, &kind_snapshot_altered, "snapshot %s holds less than its description says", s->id);
        return r;
}

int snapshot_verify(const struct snapshot_place *place, const struct snapshot *s, struct error *e)
{
        _cleanup_close_ int fd = seal_open(place, s, e);

        return fd < 0 ? fd : check_nodes(fd, s, e);
}

static int add_content(struct tar_reader *tar, uint64_t *sum, struct error *e)
{
        const void *data;
        uint64_t offset;
        size_t size;
        int r;

        while ((r = tar_reader_block(tar, &data, &size, &offset, e)) > 0)
                *sum += size;
        return r;
}

int snapshot_content(const struct snapshot_place *place, const struct snapshot *s, uint64_t *ret_bytes, struct error *e)
{
        _cleanup_close_ int fd = seal_open(place, s, e);
        _cleanup_tar_reader_ struct tar_reader *tar = NULL;
        uint64_t sum = 0;
        int r = fd < 0 ? fd : tar_reader_new(fd, NULL, &tar, e);

        while (r >= 0) {
                _cleanup_node_ struct node n = {};

                r = tar_reader_next(tar, &n, e);
                if (r == 0)
                        *ret_bytes = sum;
                if (r <= 0)
                        break;
                r = S_ISREG(n.mode) && !n.hardlink ? add_content(tar, &sum, e) : 0;
        }
        return r;
}

static int compare_snapshots(const void *a, const void *b)
{
        const struct snapshot *x = a, *y = b;

        if (x->created != y->created)
                return x->created > y->created ? -1 : 1;
        return x->generation == y->generation ? strcmp(x->id, y->id) : x->generation > y->generation ? -1 : 1;
}

/* The stem of a name with this suffix. */
static bool get_stem(const char *name, const char *suffix, char stem[static STEM_SIZE])
{
        size_t n = strlen(name), s = strlen(suffix);

        if (n <= s || n - s >= STEM_SIZE || !streq(name + n - s, suffix))
                return false;
        memcpy(stem, name, n - s);
        stem[n - s] = '\0';
        return true;
}

/* The names in a directory of DATA; an empty list when it is not there. */
static int list_names(const struct snapshot_place *place, const char *directory, int *ret_dir, char ***ret, struct error *e)
{
        int dir = dir_open(place->data, directory), r;

        if (dir == -ENOENT) {
                *ret_dir = -1;
                *ret = NULL;
                return 0;
        }
        r = dir < 0 ? dir : directory_names(dir, ret);
        if (r < 0) {
                fd_close(dir);
                return fail_errno(e, r, "cannot list %s in the data directory", directory);
        }
        *ret_dir = dir;
        return 0;
}

int snapshot_list(const struct snapshot_place *place, struct snapshot **ret, size_t *ret_n, struct error *e)
{
        _cleanup_names_ char **names = NULL;
        _cleanup_close_ int dir = -1;
        struct snapshot *list;
        size_t n = 0;
        int r;

        r = list_names(place, SNAPSHOTS, &dir, &names, e);
        if (r < 0)
                return r;
        list = calloc(paths_count(names) + 1, sizeof(*list));
        if (!list)
                return -ENOMEM;
        for (char **name = names; name && *name; name++) {
                _cleanup_error_ struct error why = {};
                char stem[STEM_SIZE], archive[STEM_SIZE + sizeof(ARCHIVE_SUFFIX)];

                if (!get_stem(*name, METADATA_SUFFIX, stem))
                        continue;
                snprintf(archive, sizeof(archive), "%s" ARCHIVE_SUFFIX, stem);
                if (metadata_read(dir, stem, &list[n], &why) < 0)
                        log_warning("%s", why.message ?: "a snapshot cannot be read");
                else if (faccessat(dir, archive, F_OK, AT_SYMLINK_NOFOLLOW) < 0 || !streq(list[n].id, stem))
                        snapshot_done(&list[n]); /* a description without its archive */
                else
                        n++;
        }
        qsort(list, n, sizeof(*list), compare_snapshots);
        *ret = list;
        *ret_n = n;
        return 0;
}

/* Removes the archive and its description; the archive first: without its description it is nothing. */
static int remove_one(int dir, const char *stem, struct error *e)
{
        static const char *const suffixes[] = { ARCHIVE_SUFFIX, METADATA_SUFFIX };

        for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
                char name[STEM_SIZE + 16];
                int r;

                snprintf(name, sizeof(name), "%s%s", stem, suffixes[i]);
                r = io_unlink(dir, name, 0);
                if (r < 0 && r != -ENOENT)
                        return fail_errno(e, r, "cannot remove %s", name);
        }
        return 0;
}

static bool is_kept(const char *stem, const uint8_t (*keep)[DIGEST_SIZE], size_t n)
{
        char id[17];

        for (size_t i = 0; i < n; i++) {
                snapshot_id(keep[i], id);
                if (streq(stem, id))
                        return true;
        }
        return false;
}

static int prune_snapshots(const struct snapshot_place *place, const uint8_t (*keep)[DIGEST_SIZE], size_t n, struct error *e)
{
        _cleanup_names_ char **names = NULL;
        _cleanup_close_ int dir = -1;
        int r = list_names(place, SNAPSHOTS, &dir, &names, e);

        /* By the names alone: a damaged description protects nothing and endangers nothing. */
        for (char **name = names; r >= 0 && name && *name; name++) {
                char stem[STEM_SIZE];

                if ((get_stem(*name, ARCHIVE_SUFFIX, stem) || get_stem(*name, METADATA_SUFFIX, stem)) &&
                    !is_kept(stem, keep, n))
                        r = remove_one(dir, stem, e);
        }
        return r;
}

/* "7" or "7-2": its generation, and how manieth of it. */
static bool parse_discarded(const char *stem, uint64_t *ret_generation, uint64_t *ret_number)
{
        char text[STEM_SIZE], *dash;

        snprintf(text, sizeof(text), "%s", stem);
        dash = strchr(text, '-');
        if (dash)
                *dash++ = '\0';
        *ret_number = 1;
        return parse_u64(text, ret_generation) >= 0 && (!dash || parse_u64(dash, ret_number) >= 0);
}

static int compare_discarded(const void *a, const void *b)
{
        uint64_t g[2], n[2];

        parse_discarded(a, &g[0], &n[0]);
        parse_discarded(b, &g[1], &n[1]);
        if (g[0] != g[1])
                return g[0] > g[1] ? -1 : 1;
        return n[0] == n[1] ? 0 : n[0] > n[1] ? -1 : 1;
}

static int prune_discarded(const struct snapshot_place *place, struct error *e)
{
        _cleanup_names_ char **names = NULL;
        _cleanup_free_ char(*stems)[STEM_SIZE] = NULL;
        _cleanup_close_ int dir = -1;
        uint64_t generation, number;
        size_t n = 0;
        int r = list_names(place, DISCARDED, &dir, &names, e);

        if (r < 0 || !names)
                return r;
        stems = calloc(paths_count(names) + 1, sizeof(*stems));
        if (!stems)
                return -ENOMEM;
        for (char **name = names; *name; name++)
                if (get_stem(*name, ARCHIVE_SUFFIX, stems[n]) && parse_discarded(stems[n], &generation, &number))
                        n++;
        qsort(stems, n, sizeof(*stems), compare_discarded);
        for (size_t i = DISCARDED_KEPT; r >= 0 && i < n; i++)
                r = remove_one(dir, stems[i], e);
        return r;
}

int snapshot_prune(const struct snapshot_place *place, const uint8_t (*keep)[DIGEST_SIZE], size_t n, struct error *e)
{
        int r = prune_snapshots(place, keep, n, e);

        return r < 0 ? r : prune_discarded(place, e);
}

int snapshot_export(const struct snapshot_place *place, const struct snapshot *s, int fd, struct error *e)
{
        _cleanup_free_ char *buffer = malloc(EXPORT_SIZE);
        _cleanup_sha256_ struct sha256 *hash = sha256_new();
        _cleanup_close_ int from = seal_open(place, s, e);
        uint8_t digest[DIGEST_SIZE];
        int r = from < 0 ? from : 0;

        if (!buffer || !hash)
                return -ENOMEM;
        for (uint64_t at = 0; r >= 0 && at < s->size;) {
                size_t n = (size_t)MIN(s->size - at, EXPORT_SIZE);

                r = io_pread(from, buffer, n, at);
                if (r >= 0)
                        r = sha256_update(hash, buffer, n);
                if (r < 0)
                        return fail_errno(e, r, "cannot read snapshot %s", s->id);
                /* To wherever the caller wants it, a pipe too: not through the I/O layer. */
                for (size_t done = 0; done < n;) {
                        ssize_t written = write(fd, buffer + done, n - done);

                        if (written < 0 && errno != EINTR)
                                return fail_errno(e, -errno, "cannot write snapshot %s", s->id);
                        done += written < 0 ? 0 : (size_t)written;
                }
                at += n;
        }
        if (r >= 0)
                r = sha256_final(hash, digest);
        /* What was verified may have been written to while it was copied. */
        if (r >= 0 && memcmp(digest, s->digest, DIGEST_SIZE) != 0)
                r = fail(e, -EBADMSG, &kind_snapshot_altered, "snapshot %s was altered while it was copied", s->id);
        return r;
}
