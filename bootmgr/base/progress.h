/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How long work reports how far it is. The receiver decides what to show; see cli/ and operation/. */
#pragma once

#include "base/util.h"

/* Of work that moves bytes: what it says besides, set by the work before it reports. */
struct transfer {
        uint64_t total;   /* bytes of content that `done` goes up to; 0: it does not move bytes */
        uint64_t fetched; /* bytes read from the source, as they are stored there */
        uint64_t reused;  /* bytes of content that needed no fetching */
        uint64_t since;   /* realtime, µs: when what is not reused began to come; 0: not yet … */
        uint64_t before;  /* … and what `done` was then */
};

struct progress {
        /* `done` of `total` (unit as the work sees fit, bytes mostly); `message` may be NULL. Called
         * often: the receiver thins out. A negative errno asks the work to stop with that error. */
        int (*report)(struct progress *p, uint64_t done, uint64_t total, const char *message);
        void *userdata;
        struct transfer transfer;
};

/* NULL-safe. 0 or the error with which the work must stop. */
int progress_report(struct progress *p, uint64_t done, uint64_t total, const char *message);
