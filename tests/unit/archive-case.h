/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the tests of archives share: a file for one, and everything that its reader says. */
#pragma once

#include "slot/kinds.h"
#include "snapshot/archive.h"

#include "tree.h"

static inline int new_file(const char *name)
{
        int fd = openat(place.root, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        ck_assert_int_ge(fd, 0);
        return fd;
}

/* What the reader says, as one text; -errno at the first failure. */
static inline int read_all(int fd, struct buf *b)
{
        _cleanup_tar_reader_ struct tar_reader *tar = NULL;
        _cleanup_error_ struct error why = {};
        int r = tar_reader_new(fd, NULL, &tar, &why);

        while (r >= 0) {
                _cleanup_node_ struct node n = {};
                uint64_t offset, at = 0;
                const void *data;
                size_t size;

                r = tar_reader_next(tar, &n, &why);
                if (r <= 0)
                        break;
                buf_printf(b, "%s %o %u %u %lld.%ld %llu %s %s", n.path, n.mode, n.uid, n.gid, (long long)n.mtime.tv_sec,
                           n.mtime.tv_nsec, (unsigned long long)n.size, n.target ?: "-", n.hardlink ?: "-");
                for (const struct xattr *x = n.xattrs; x; x = x->next)
                        buf_printf(b, " %s:%08x:%zu", x->name, crc32c(0, x->value, x->size), x->size);
                while ((r = tar_reader_block(tar, &data, &size, &offset, &why)) > 0) {
                        ck_assert_uint_ge(offset, at);
                        at = offset + size;
                        ck_assert_uint_le(at, n.size);
                        buf_printf(b, " %08x", crc32c(0, data, size));
                }
                buf_puts(b, "\n");
        }
        if (r < 0) {
                ck_assert_ptr_nonnull(why.message);
                ck_assert_ptr_eq(why.kind, &kind_snapshot_altered);
        }
        return r;
}
