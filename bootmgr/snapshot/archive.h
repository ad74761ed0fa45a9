/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The archive of a snapshot: libarchive, wrapped once.
 *
 *      ┌──────────────────────────────────────┬───────────────────────────────────┐
 *      │ one zstd frame: a pax tar            │ one skippable zstd frame: trailer │
 *      └──────────────────────────────────────┴───────────────────────────────────┘
 *
 * The same nodes give the same bytes: fixed level, numeric owners, no access or change times, no inode
 * numbers. Names are bytes (those that are not ASCII with hdrcharset=BINARY), holes are GNU.sparse 1.0, attributes
 * SCHILY.xattr.*, ACLs SCHILY.acl.*: `tar --zstd --xattrs --xattrs-include='*' --acls -xf` unpacks it all. The trailer is
 * bytes of the caller's that belong under the digest and that tar and zstd pass over (RFC 8878, 3.1.2).
 */
#pragma once

#include "base/buf.h"
#include "base/sha256.h"
#include "snapshot/node.h"

struct tar_writer;

/* Writes from offset 0 of `fd`, which stays the caller's; -1: nothing is written, only counted. */
int tar_writer_new(int fd, struct tar_writer **ret, struct error *e);
/* Appends a node with the content of `fd` (regular files without ->hardlink; else unused). */
int tar_writer_add(struct tar_writer *w, const struct node *n, int fd, struct error *e);
/* Ends the archive: its size and the digest of all its bytes. Not flushed. */
int tar_writer_finish(struct tar_writer *w, const void *trailer, size_t trailer_size, uint64_t *ret_size,
                      uint8_t digest[static SHA256_SIZE], struct error *e);
void tar_writer_free(struct tar_writer *w);
static inline void tar_writer_freep(struct tar_writer **w)
{
        tar_writer_free(*w);
}
#define _cleanup_tar_writer_ _cleanup_(tar_writer_freep)

/* The bytes with which an archive with this trailer ends. */
int tar_trailer(const void *trailer, size_t size, struct buf *ret);

/* Reading. What comes out is checked: clean relative names, only regular files, directories, symbolic links
 * and pipes, hard links only to clean names. -EBADMSG (kind_snapshot_altered) when it is anything else. */
struct tar_reader;

/* digest: what all bytes of the file give, held against those that were really read, at the end; NULL: not asked for. */
int tar_reader_new(int fd, const uint8_t *digest, struct tar_reader **ret, struct error *e);
/* 1: *ret is the next node, 0: the end, and the digest is right. */
int tar_reader_next(struct tar_reader *r, struct node *ret, struct error *e);
/* The next stretch of data of the present node, in order and within its size; between them are holes. 1, or 0 at the end.
 * The buffer is valid until the next call. */
int tar_reader_block(struct tar_reader *r, const void **ret, size_t *ret_size, uint64_t *ret_offset, struct error *e);
void tar_reader_free(struct tar_reader *r);
static inline void tar_reader_freep(struct tar_reader **r)
{
        tar_reader_free(*r);
}
#define _cleanup_tar_reader_ _cleanup_(tar_reader_freep)
