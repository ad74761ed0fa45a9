/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* DATA/restore.journal: there from before the first exchange of a restore until what it replaced is removed. */
#pragma once

#include "snapshot/snapshot.h"

struct journal {
        bool valid;                  /* there is one */
        uint8_t digest[DIGEST_SIZE]; /* of the snapshot that is being restored … */
        uint64_t generation;         /* … for this generation */
        char **paths;                /* present and absent ones: beside them something may lie */
};
void journal_done(struct journal *j);
#define _cleanup_journal_ _cleanup_(journal_done)

/* Missing or damaged (a word in the log): not valid. Damaged is as good as missing: then what is there is
 * sealed once more. */
int journal_read(const struct snapshot_place *place, struct journal *ret, struct error *e);
int journal_write(const struct snapshot_place *place, const struct journal *j, struct error *e); /* durable */
int journal_remove(const struct snapshot_place *place, struct error *e);                         /* durable */
