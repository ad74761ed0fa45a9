/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cluster step: what bootmgrd runs for its node, once for each thing that it is told. */
#include <fcntl.h>

#include "base/file.h"
#include "base/parse.h"
#include "cli/cli.h"
#include "cli/verbs.h"
#include "cluster/node.h"
#include "slot/kinds.h"

#define OFFSET_MAX ((uint64_t)INT64_MAX / 2)

static int read_offset(const char *text, int64_t *ret, struct error *e)
{
        bool behind = text && *text == '-';
        uint64_t usec = 0;

        if (text && (parse_u64(text + behind, &usec) < 0 || usec > OFFSET_MAX))
                return fail(e, -EINVAL, &kind_usage, "--offset %s is not a number of microseconds", text);
        *ret = behind ? -(int64_t)usec : (int64_t)usec;
        return 0;
}

static int read_clock_error(const char *text, uint64_t *ret, struct error *e)
{
        *ret = CLOCK_ERROR_UNKNOWN;
        if (text && (parse_u64(text, ret) < 0 || *ret > CLOCK_ERROR_UNKNOWN))
                return fail(e, -EINVAL, &kind_usage, "--clock-error %s is not a number of microseconds", text);
        return 0;
}

static int read_told(struct told *ret, struct error *e)
{
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r = file_read(AT_FDCWD, "/dev/stdin", TOLD_MAX, &text, &size);

        return r < 0 ? fail_errno(e, r, "cannot read what the controller told") : told_parse(text, size, ret, e);
}

int verb_cluster_step(struct verb_args *args, struct error *e)
{
        struct cli *cli = cli_from(args);
        struct observer observer = { .cancelled = cli_cancelled() };
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        struct node_context c = { .machine = &m, .observer = &observer };
        _cleanup_told_ struct told told = {};
        struct node_answer answer;
        int r;

        r = read_offset(verb_value(args, "offset"), &c.offset, e);
        if (r >= 0)
                r = read_clock_error(verb_value(args, "clock-error"), &c.clock_error, e);
        if (r >= 0)
                r = read_told(&told, e);
        if (r >= 0)
                r = cli_open_machine(args, &m, e);
        if (r >= 0)
                r = node_step(&c, &told, &answer, e);
        return r < 0 ? r : cli_print_json(cli, node_answer_to_json(&answer));
}
