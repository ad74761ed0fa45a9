/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What must hold before an operation: each check has a name, a result, a sentence, and a way out. The same
 * list refuses, and is what --dry-run shows. Nothing here writes. */
#pragma once

#include "base/buf.h"
#include "operation/machine.h"

struct check {
        const char *name; /* "previous", "version-gate", … */
        bool ok;
        const struct error_kind *kind; /* of the refusal when it is not ok */
        char *message;                 /* a sentence either way; owned */
        char *hint;                    /* way out when it is not ok; owned */
};

struct check_list {
        struct check *items;
        size_t n;
};
void check_list_done(struct check_list *l);
#define _cleanup_checks_ _cleanup_(check_list_done)

struct rollback_options;

/* All checks of an operator's rollback to set->previous; 0 also when some are not ok. Of the options, `local` leaves
 * out the version gate, `without_snapshot` the snapshot. */
int check_rollback(struct machine *m, const struct rollback_options *options, struct check_list *ret, struct error *e);

/* Whether the sealed configuration of a slot is there and whole: kind_snapshot_missing, kind_snapshot_altered. `good`
 * gets the sentence when it is; NULL: nobody reads it. */
int check_slot_snapshot(struct machine *m, int slot, struct buf *good, struct error *e);

/* Whether the shared paths can be sealed as they are now, and the data partition has room for that and, with `restores`, for
 * what the slot brings back: kind_config_path, kind_no_space. What is held for it counts. `good` as above. In room.c. */
int check_slot_room(struct machine *m, int slot, bool restores, struct buf *good, struct error *e);

/* One more, by others than this layer: what is wrong (its message is not NULL), else what is right. */
int check_list_add(struct check_list *l, const char *name, const struct error *wrong, const char *right);

/* 0, or the first failed check as an error with its kind and hint. */
int check_list_verdict(const struct check_list *l, struct error *e);

/* [{"name","ok","message","hint"}]. New reference. */
json_t *check_list_to_json(const struct check_list *l);
