/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/progress.h"

int progress_report(struct progress *p, uint64_t done, uint64_t total, const char *message)
{
        return p && p->report ? p->report(p, done, total, message) : 0;
}
