/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is asked for with an id of the asker's own is done once, however often it arrives: an answer that was lost
 * on the way is asked for again. An upgrade or a rollback takes the id as that of its operation, and is found among
 * the operations; what is done at once is kept in the store (cluster/once.h). Both outlive the process, and a restart of
 * the machine. */
#pragma once

#include "operation/operation.h"

/* 32 hexadecimal digits, or a UUID in its usual form, as lower-case digits. -EINVAL. */
int request_id(const char *text, char id[static OPERATION_ID_SIZE]);

enum request_state {
        REQUEST_NEW,
        REQUEST_KNOWN,  /* it was asked for before */
        REQUEST_STAGED, /* it was, and is prepared: the shutdown, which its asker wants, may never have been asked for */
};

/* Whether `id` is that of an operation: an enum request_state, and with all but REQUEST_NEW *ret is what is to be answered
 * (a new reference). -EEXIST, kind_id_reused: it was something else. `verb` is "upgrade", "rollback", "abort" or "finalize";
 * `source` that of an upgrade. */
int request_find(struct machine *m, const char *id, const char *verb, const char *source, json_t **ret, struct error *e);
