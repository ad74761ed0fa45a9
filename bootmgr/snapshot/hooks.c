/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "snapshot/hooks.h"

#include <fcntl.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/process.h"
#include "slot/kinds.h"
#include "snapshot/walk.h"

#define QUOTE_MAX 512 /* bytes of output in a message */

/* The end of what a program said, from the beginning of a line, as one line. */
static char *quote(const char *output)
{
        size_t size = strlen(output);
        struct buf b = {};
        const char *from;

        while (size > 0 && strchr("\n\r \t", output[size - 1]))
                size--;
        from = output + (size > QUOTE_MAX ? size - QUOTE_MAX : 0);
        if (from > output) {
                const char *line = memchr(from, '\n', (size_t)(output + size - from));

                from = line ? line + 1 : from;
        }
        for (; from < output + size; from++)
                if (*from == '\n')
                        buf_puts(&b, "; ");
                else
                        buf_append(&b, (unsigned char)*from < ' ' ? " " : from, 1);
        return buf_take(&b);
}

static int run_hook(const char *directory, const char *name, const char *const *env, uint64_t timeout, struct error *e)
{
        _cleanup_process_ struct process_result result = {};
        _cleanup_free_ char *path = xasprintf("%s/%s", directory, name), *text = NULL;
        const char *argv[] = { path, NULL };
        int r;

        if (!path)
                return -ENOMEM;
        log_info("migration hook %s", name);
        r = process_run(argv, env, timeout, &result);
        if (r < 0)
                return fail(e, r, &kind_hook, "migration hook %s cannot be run: %s", name, error_text(r));
        if (!result.timed_out && result.exit_status == 0)
                return 0;
        text = quote(result.output);
        if (result.timed_out)
                fail(e, -ETIMEDOUT, &kind_hook, "migration hook %s did not end within %llu s: %s", name,
                     (unsigned long long)(timeout / USEC_PER_SEC), text ?: "");
        else
                fail(e, -EIO, &kind_hook, "migration hook %s failed with status %d: %s", name, result.exit_status,
                     text ?: "");
        return result.timed_out ? -ETIMEDOUT : -EIO;
}

int hooks_run(const char *directory, const char *const *env, uint64_t timeout, struct error *e)
{
        _cleanup_close_ int dir = directory ? dir_open(AT_FDCWD, directory) : -ENOENT;
        _cleanup_names_ char **names = NULL;
        int r;

        if (dir == -ENOENT)
                return 0;
        r = dir < 0 ? dir : directory_names(dir, &names);
        if (r < 0)
                return fail(e, r, &kind_hook, "cannot list %s: %s", directory, error_text(r));
        for (char **name = names; r >= 0 && *name; name++)
                if (process_is_meant(dir, directory, *name))
                        r = run_hook(directory, *name, env, timeout, e);
        return r;
}
