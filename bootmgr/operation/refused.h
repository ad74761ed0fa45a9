/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Versions that were rolled back from: an automatic updater may not install them again until an operator clears
 * them. The state record has room for the newest only, which must be known when data is missing; DATA/refused keeps
 * them all. The record comes first: what it says and the list does not is added at the switch, and at each boot. */
#pragma once

#include "operation/machine.h"

#define REFUSED_KEEP 64 /* the oldest go first */

/* Adds what the record refuses, if it is not there. 0 as well when there is nothing to add or no data directory. */
int refused_note(struct machine *m, struct error *e);

/* 1: refused by the record or by the list; 0: not; or -errno. */
int refused_has(struct machine *m, const uint8_t digest[static DIGEST_SIZE], struct error *e);

/* Takes one manifest, or all of them, out of the list and out of the record; the record is saved by the caller. */
int refused_forget(struct machine *m, const uint8_t digest[static DIGEST_SIZE], struct error *e);
int refused_clear(struct machine *m, struct error *e);

/* [{"digest","version"}], newest first; a list that cannot be read is empty. New reference. */
json_t *refused_to_json(struct machine *m);
