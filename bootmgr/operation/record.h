/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Operations on disk: DATA/operations/<sequence>-<id>.json. */
#pragma once

#include "operation/operation.h"

#define OPERATION_KEEP 50 /* files; older ones go when a new one begins */

/* Gives it an id (`id`, or NULL: a new one), the next sequence and its start time. */
int operation_begin(struct machine *m, struct operation *op, const char *id, struct error *e);

/* Writes it. durable: flushed, at every change of a step; else for progress, which may be lost. Without a
 * data directory nothing is written and that is success: the record says enough. */
int operation_save(struct machine *m, const struct operation *op, bool durable, struct error *e);

/* The newest as it is on disk. -ENOENT. */
int operation_load_newest(struct machine *m, struct operation *ret, struct error *e);

/* Whether it is the one that the record speaks of. */
bool operation_is_of_record(const struct slot_set *set, const struct operation *op);

/* Whether a rollback is prepared that takes the place of `op`, which waits for health or confirmation. */
bool operation_is_superseded(const struct slot_set *set, const struct operation *op);

/* Under the lock, on an image: a switch that was cut is finished or dropped, as the next boot of a machine does it.
 * Nobody need boot an image before the next try. */
int operation_settle_switch(struct machine *m, struct error *e);

/* Under the lock: an operation whose worker died while it prepared is closed as FAILED. Where that cannot be written, it is
 * said, and the next one does it: what the steps say keeps no machine from anything. */
void operation_close_orphan(struct machine *m);

/* Ends it: result, reason (may be NULL), end time, its running step as FAILED or DONE and the waiting ones
 * as SKIPPED unless it is done. In memory only. */
void operation_end(struct operation *op, enum operation_result result, const char *reason);

/* The step of this name, or NULL. */
struct step_record *operation_step(struct operation *op, const char *name);
void step_begin(struct step_record *s);
void step_end(struct step_record *s, enum step_state state, const char *message); /* message NULL: kept */
