/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/priority.h"

#include <linux/ioprio.h>
#include <sys/syscall.h>

int priority_lower(void)
{
        long before = syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0);

        if (before < 0 || syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0)) < 0)
                return -errno;
        return (int)before;
}

void priority_restore(int before)
{
        if (before >= 0)
                syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, before);
}
