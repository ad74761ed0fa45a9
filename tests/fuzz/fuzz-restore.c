/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A whole restore from an archive and a description that somebody altered together with its digest: a failure leaves what is
 * there as it was, a success leaves what the archive says, and neither touches anything else. Input: as for `archive`, with
 * the numbers of the description (16 bits each: bytes, files) in front. */
#define FUZZ_HAS_INITIALIZE
#include "tar.h"

#include "base/sha256.h"
#include "snapshot/archive.h"
#include "snapshot/metadata.h"
#include "snapshot/seal.h"

static struct snapshot_place place = { -1, -1 };
static int top = -1;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
        static char path[PATH_MAX];

        log_set_max_level(0);
        top = scratch_open(path);
        return 0;
}

static void make_tree(void)
{
        must(remove_tree(top, "root") == 0 && remove_tree(top, "data") == 0);
        must(mkdir_parents(top, "root/srv/app/d", 0755) == 0 && mkdir_parents(top, "root/other", 0755) == 0);
        must(mkdir_parents(top, "data/snapshots", 0755) == 0);
        place.root = dir_open(top, "root");
        place.data = dir_open(top, "data");
        put_file(place.root, "srv/app/file", "now", 3);
        put_file(place.root, "srv/app/d/file", "now", 3);
        put_file(place.root, "srv/gone", "now", 3);
        put_file(place.root, "srv/neighbour", "stays", 5);
        put_file(place.root, "other/file", "stays", 5);
        must(symlinkat("../../other", place.root, "srv/app/link") == 0);
}

/* Of what no path of the snapshot covers. */
static uint32_t rest_digest(void)
{
        _cleanup_close_ int other = dir_open(place.root, "other");
        uint32_t crc = tree_digest(other, 0);
        char text[8] = "";
        int fd = openat(place.root, "srv/neighbour", O_RDONLY | O_CLOEXEC);
        uint64_t bytes = 0, nodes = 0;

        must(fd >= 0 && read(fd, text, sizeof(text)) == 5);
        close(fd);
        measure(place.root, &bytes, &nodes);
        return crc32c(crc, text, sizeof(text));
}

static bool describe(struct snapshot *s, uint8_t *tar, size_t tar_size, bool raw)
{
        static char *paths[] = { (char *)"/srv/app", NULL }, *absent[] = { (char *)"/srv/gone", NULL };
        _cleanup_free_ char *name = NULL;
        _cleanup_buf_ struct buf text = {}, frame = {};
        _cleanup_close_ int fd = -1;
        char *data;

        s->paths = paths_copy(paths);
        s->absent = paths_copy(absent);
        must(metadata_trailer(s, &text) >= 0 && tar_trailer(text.data, text.size, &frame) >= 0);
        fd = make_archive(tar, tar_size, raw, frame.data, frame.size);
        s->size = (uint64_t)lseek(fd, 0, SEEK_END);
        must(sha256_fd(fd, 0, UINT64_MAX, s->digest) >= 0);
        snapshot_id(s->digest, s->id);
        data = malloc(s->size + 1);
        must(data && pread(fd, data, s->size, 0) == (ssize_t)s->size);
        name = xasprintf(SNAPSHOTS "/%s" ARCHIVE_SUFFIX, s->id);
        put_file(place.data, name, data, s->size);
        free(data);
        return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct input in = { data, size };
        _cleanup_snapshot_ struct snapshot s = { .version = "1", .generation = 7 };
        _cleanup_free_ uint8_t *tar = NULL;
        uint32_t before, rest;
        size_t tar_size;
        bool raw;
        int r;

        s.bytes = take_byte(&in) | (uint64_t)take_byte(&in) << 8;
        s.nodes = take_byte(&in);
        raw = take_byte(&in) & 1;
        tar = (uint8_t *)take_bytes(&in, in.size, false, &tar_size);
        make_tree();
        describe(&s, tar, tar_size, raw);
        before = tree_digest(place.root, 0);
        rest = rest_digest();
        r = snapshot_restore(&place, &s, 8, NULL, NULL, NULL);
        if (r < 0) {
                must(tree_digest(place.root, 0) == before);
        } else {
                _cleanup_close_ int srv = dir_open(place.root, "srv");
                uint64_t bytes = 0, nodes = 0;

                must(faccessat(srv, "gone", F_OK, AT_SYMLINK_NOFOLLOW) < 0);
                must(faccessat(srv, ".bootmgr-new.app", F_OK, AT_SYMLINK_NOFOLLOW) < 0);
                measure(srv, &bytes, &nodes);
                must(bytes <= s.bytes + 5 && nodes <= s.nodes + 1);
                before = tree_digest(place.root, 0);
                must(snapshot_restore(&place, &s, 8, NULL, NULL, NULL) >= 0 && tree_digest(place.root, 0) == before);
        }
        must(rest_digest() == rest);
        fd_close(place.root);
        fd_close(place.data);
        return 0;
}
