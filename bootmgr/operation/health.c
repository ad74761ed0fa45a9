/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "operation/health.h"

#include <fcntl.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/process.h"
#include "slot/kinds.h"
#include "snapshot/walk.h"

static int run_check(const char *path, uint64_t timeout, struct error *e)
{
        _cleanup_process_ struct process_result result = {};
        const char *argv[] = { path, NULL };
        _cleanup_free_ char *line = NULL;
        int r;

        r = process_run(argv, NULL, timeout, &result);
        if (r < 0)
                return fail(e, r, &kind_unhealthy, "health check %s cannot be run: %s", path, error_text(r));
        if (result.timed_out)
                return fail(e, -ETIMEDOUT, &kind_unhealthy, "health check %s did not end within %llu s", path,
                            (unsigned long long)(timeout / USEC_PER_SEC));
        if (result.exit_status == 0)
                return 0;
        line = process_last_line(result.output);
        return fail(e, -EBADMSG, &kind_unhealthy, "health check %s failed with status %d: %s", path, result.exit_status,
                    line ?: "");
}

/* A required check that cannot be run, e.g. has lost its mode, is tried: it has not passed. */
static int list_checks(const char *directory, bool required, char ***ret, size_t *ret_n)
{
        _cleanup_close_ int dir = dir_open(AT_FDCWD, directory);
        int r = dir < 0 ? dir : directory_names(dir, ret);

        *ret_n = 0;
        for (char **name = *ret; r >= 0 && *name; name++)
                if (required ? !process_is_aside(*name) : process_is_meant(dir, directory, *name))
                        (*ret)[(*ret_n)++] = *name;
                else
                        free(*name);
        if (r >= 0)
                (*ret)[*ret_n] = NULL;
        return r;
}

static int run_directory(const char *directory, uint64_t timeout, struct progress *progress, bool required,
                         struct health_result *result, struct error *e)
{
        _cleanup_names_ char **names = NULL;
        size_t n;
        int r = list_checks(directory, required, &names, &n);

        if (r < 0)
                return r == -ENOENT ? 0 : fail_errno(e, r, "cannot read %s", directory);
        for (size_t i = 0; i < n && r >= 0; i++) {
                _cleanup_free_ char *path = xasprintf("%s/%s", directory, names[i]);
                struct error why = {};

                r = path ? progress_report(progress, i, n, names[i]) : -ENOMEM;
                if (r < 0)
                        break;
                r = run_check(path, timeout, &why);
                if (r >= 0) {
                        result->passed++;
                } else if (required) {
                        fail(e, r, why.kind, "%s", why.message);
                } else {
                        log_warning("%s (wanted only)", why.message);
                        result->warned++;
                        r = 0;
                }
                error_done(&why);
        }
        return r;
}

int health_run(const char *directory, uint64_t timeout, struct progress *progress, struct health_result *ret,
               struct error *e)
{
        _cleanup_free_ char *required = xasprintf("%s/required", directory), *wanted = xasprintf("%s/wanted", directory);
        struct health_result result = {};
        int r;

        if (!required || !wanted)
                return -ENOMEM;
        r = run_directory(required, timeout, progress, true, &result, e);
        if (r >= 0)
                r = run_directory(wanted, timeout, progress, false, &result, e);
        if (r >= 0)
                *ret = result;
        return r;
}
