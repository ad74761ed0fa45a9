/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "operation/degraded.h"

#include <fcntl.h>

#include "base/file.h"
#include "base/io.h"
#include "base/log.h"

#define CONFIG_ERROR "/run/bootmgr/config-error"
#define DATA_ERROR   "/run/bootmgr/data-error" /* recover/mount.c writes it, and units/resume */
#define REASON_MAX   1024

void degraded_note(const struct machine *m, int r, const struct error *e)
{
        const char *text = e && e->message ? e->message : error_text(r);

        if (m->offline || r == -EBUSY) /* somebody else is at it */
                return;
        if (r >= 0) {
                io_unlink(AT_FDCWD, CONFIG_ERROR, 0);
                return;
        }
        r = file_replace_volatile(AT_FDCWD, CONFIG_ERROR, text, strlen(text), 0644);
        if (r < 0)
                log_warning("cannot write " CONFIG_ERROR ": %s", error_text(r));
}

static char *reason(const struct machine *m, const char *path)
{
        char *text = NULL;

        if (m->offline || file_read(AT_FDCWD, path, REASON_MAX, &text, NULL) < 0)
                return NULL;
        text[strcspn(text, "\n")] = '\0';
        return text;
}

char *degraded_reason(const struct machine *m)
{
        return reason(m, CONFIG_ERROR);
}

char *degraded_data_reason(const struct machine *m)
{
        return reason(m, DATA_ERROR);
}
