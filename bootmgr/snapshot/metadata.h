/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What stands beside an archive: <stem>.json. */
#pragma once

#include "base/buf.h"
#include "snapshot/snapshot.h"

#define ARCHIVE_SUFFIX  ".tar.zst"
#define METADATA_SUFFIX ".json"
#define STEM_SIZE       48 /* an id, or a generation with a number */

/* `dir` holds the archives. Durable. */
int metadata_write(int dir, const char *stem, const struct snapshot *s, struct error *e);
/* kind_snapshot_missing when it is not there, kind_snapshot_altered when it is malformed. */
int metadata_read(int dir, const char *stem, struct snapshot *ret, struct error *e);

/* What is sealed of it, as the trailer of the archive: the paths, and those that were absent. */
int metadata_trailer(const struct snapshot *s, struct buf *ret);

/* <id> of a digest. */
void snapshot_id(const uint8_t digest[static DIGEST_SIZE], char id[static 17]);

/* Copies a NULL-terminated list; NULL is an empty one. NULL: no memory. */
char **paths_copy(char *const *paths);
void paths_free(char **paths);
static inline void paths_freep(char ***paths)
{
        paths_free(*paths);
}
size_t paths_count(char *const *paths);
/* Appends a copy to a list that has room. -ENOMEM. */
int paths_add(char **paths, const char *path);
