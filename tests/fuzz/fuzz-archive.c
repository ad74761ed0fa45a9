/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Hostile archives: read, and unpacked below a directory. Beside it lie a file, a directory and links to them; they stay as
 * they are, nothing is made outside, no device anywhere, and no more bytes and files than were allowed. Input: a byte (bit
 * 0: the rest is read as it is, not as a tar that is compressed first), then a tar. */
#define FUZZ_HAS_INITIALIZE
#include "tar.h"

#include "slot/kinds.h"
#include "snapshot/archive.h"
#include "snapshot/path.h"
#include "snapshot/unpack.h"

#define BYTES_MAX MIB(1)
#define NODES_MAX 64

static int top = -1, outside = -1;
static uint32_t outside_digest;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
        static char path[PATH_MAX];

        log_set_max_level(0);
        top = scratch_open(path);
        must(mkdir_parents(top, "outside/directory", 0755) == 0);
        outside = dir_open(top, "outside");
        put_file(outside, "file", "untouched", 9);
        put_file(outside, "directory/file", "untouched", 9);
        must(symlinkat("directory", outside, "link") == 0);
        outside_digest = tree_digest(outside, 0);
        return 0;
}

static int content(void *userdata, const struct node *n, int fd, struct error *e)
{
        uint64_t offset, at = 0;
        const void *data;
        size_t size;
        int r;

        while ((r = tar_reader_block(userdata, &data, &size, &offset, e)) > 0) {
                must(offset >= at && size > 0 && size <= n->size && offset <= n->size - size);
                at = offset + size;
                must(pwrite(fd, data, size, (off_t)offset) == (ssize_t)size);
        }
        return r;
}

static void check_node(const struct node *n)
{
        must(path_is_clean(n->path) && (!n->hardlink || path_is_clean(n->hardlink)));
        must(S_ISREG(n->mode) || S_ISDIR(n->mode) || S_ISLNK(n->mode) || S_ISFIFO(n->mode));
        must(S_ISLNK(n->mode) == (n->target != NULL) && n->size <= INT64_MAX);
        for (const struct xattr *x = n->xattrs; x; x = x->next)
                must(x->size <= XATTR_VALUE_MAX && xattr_is_wanted(x->name));
}

static void unpack_all(int archive, struct unpack *u)
{
        _cleanup_tar_reader_ struct tar_reader *tar = NULL;
        int r = tar_reader_new(archive, NULL, &tar, NULL);

        while (r >= 0) {
                _cleanup_node_ struct node n = {};
                _cleanup_error_ struct error e = {};

                r = tar_reader_next(tar, &n, &e);
                if (r <= 0) {
                        must(r == 0 || r == -ENOMEM || e.kind == &kind_snapshot_altered);
                        break;
                }
                check_node(&n);
                r = unpack_add(u, &n, content, tar, &e);
        }
        if (r >= 0)
                unpack_finish(u, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct input in = { data, size };
        bool raw = take_byte(&in) & 1;
        size_t tar_size;
        _cleanup_free_ uint8_t *tar = (uint8_t *)take_bytes(&in, in.size, false, &tar_size);
        _cleanup_close_ int archive = make_archive(tar, tar_size, raw, NULL, 0), work = -1;
        struct root roots[] = { { "cfg", -1, "beside" }, { "deep/er/cfg", -1, "beside 2" } };
        struct unpack u = { .roots = { roots, ARRAY_SIZE(roots) }, .bytes_max = BYTES_MAX, .nodes_max = NODES_MAX };
        uint64_t bytes = 0, nodes = 0;

        must(remove_tree(top, "work") == 0 && mkdirat(top, "work", 0755) == 0);
        work = dir_open(top, "work");
        must(symlinkat("../outside", work, "link") == 0);
        roots[0].parent = roots[1].parent = work;
        unpack_all(archive, &u);
        unpack_done(&u);
        measure(work, &bytes, &nodes);
        must(bytes <= BYTES_MAX && nodes <= NODES_MAX + 1);
        must(tree_digest(outside, 0) == outside_digest);
        bytes = nodes = 0;
        measure(top, &bytes, &nodes);
        must(nodes <= NODES_MAX + 1 + 2 + 4); /* no new name in `top` or outside */
        return 0;
}
