/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How long work reports how far it is. The receiver decides what to show; see cli/ and operation/. */
#pragma once

#include "base/util.h"

struct progress {
        /* `done` of `total` (unit as the work sees fit, bytes mostly); `message` may be NULL. Called
         * often: the receiver thins out. A negative errno asks the work to stop with that error. */
        int (*report)(struct progress *p, uint64_t done, uint64_t total, const char *message);
        void *userdata;
};

/* NULL-safe. 0 or the error with which the work must stop. */
int progress_report(struct progress *p, uint64_t done, uint64_t total, const char *message);
