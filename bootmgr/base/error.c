/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/error.h"

#include <stdarg.h>

const struct error_kind kind_failed = { .name = "failed", .exit_status = 1 };
const struct error_kind kind_usage = { .name = "usage", .exit_status = 2 };

const char *error_text(int code)
{
        static _Thread_local char text[128];

        return strerror_r(code < 0 ? -code : code, text, sizeof(text));
}

/* Of the last fail(): what fail_hint() returns where the caller wants no record. */
static _Thread_local int last_code = -EINVAL;

static char *format(const char *fmt, va_list ap)
{
        char *text;

        return vasprintf(&text, fmt, ap) < 0 ? NULL : text;
}

int fail(struct error *e, int code, const struct error_kind *kind, const char *fmt, ...)
{
        va_list ap;

        last_code = code;
        if (!e || e->code)
                return code;
        va_start(ap, fmt);
        *e = (struct error){ .code = code, .kind = kind ?: &kind_failed, .message = format(fmt, ap) };
        va_end(ap);
        return code;
}

int fail_hint(struct error *e, const char *fmt, ...)
{
        va_list ap;

        /* Without a failure there is nothing to add to; it must not become a success for that. */
        if (!e || !e->code)
                return last_code;
        if (e->hint)
                return e->code;
        va_start(ap, fmt);
        e->hint = format(fmt, ap);
        va_end(ap);
        return e->code;
}

int fail_errno(struct error *e, int code, const char *fmt, ...)
{
        _cleanup_free_ char *what = NULL;
        va_list ap;

        last_code = code;
        if (!e || e->code || code == -ECANCELED)
                return code;
        va_start(ap, fmt);
        what = format(fmt, ap);
        va_end(ap);
        return fail(e, code, NULL, "%s: %s", what ?: "", error_text(code));
}

int error_exit_status(const struct error *e, int code)
{
        if (code >= 0)
                return 0;
        return e && e->kind ? e->kind->exit_status : kind_failed.exit_status;
}

void error_done(struct error *e)
{
        free(e->message);
        free(e->hint);
        *e = (struct error){};
}
