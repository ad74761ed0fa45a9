/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* base/log.h for the initramfs: to the kernel's log, which is on the console and, later, in the journal. */
#include "base/log.h"

#include <fcntl.h>
#include <stdarg.h>

static enum log_level max_level = LOG_LEVEL_INFO;

void log_set_max_level(enum log_level level)
{
        max_level = level;
}

void log_set_name(const char *name) {}

void log_message(enum log_level level, const char *fmt, ...)
{
        _cleanup_close_ int fd = -1;
        char text[900], line[1000];
        va_list ap;
        int n;

        if (level > max_level)
                return;
        va_start(ap, fmt);
        vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
        /* One write is one record. Not dprintf(3): it wants to know the offset, which /dev/kmsg does not tell. */
        n = snprintf(line, sizeof(line), "<%d>bootmgr-recover: %s\n", (int)level, text);
        if (fd < 0 || write(fd, line, (size_t)n) < 0)
                fprintf(stderr, "bootmgr-recover: %s\n", text);
}
