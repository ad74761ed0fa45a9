/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From paths to a durable archive, in two steps, so that the caller can look at the digest in between:
 *
 *         seal_write()      DIR/.new.tar.zst, whole and flushed        cut: removed or overwritten later
 *         seal_publish()    its name, then its metadata                cut: an archive without metadata, pruned
 *         seal_drop()       or nothing
 */
#pragma once

#include "snapshot/metadata.h"

#define SNAPSHOTS      "snapshots"
#define DISCARDED      "discarded"
#define SEAL_TEMPORARY ".new" ARCHIVE_SUFFIX

/* `dir` is DATA/snapshots or DATA/discarded. Of `s`, slot, version and generation are given; the rest is
 * filled in. */
int seal_write(const struct snapshot_place *place, char *const *paths, int dir, struct progress *progress,
               struct snapshot *s, struct error *e);
int seal_publish(int dir, const char *stem, const struct snapshot *s, struct error *e);
void seal_drop(int dir);

/* Opens an archive and holds it against its digest, and its description against what is sealed of it
 * (kind_snapshot_altered). fd or -errno. */
int seal_open(const struct snapshot_place *place, const struct snapshot *s, struct error *e);

/* Opens a directory of DATA; make: creates it, mode 0700. fd or -errno. */
int seal_directory(const struct snapshot_place *place, const char *name, bool make, struct error *e);
