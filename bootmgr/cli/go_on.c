/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/go_on.h"

void say_outcome(const struct cli *cli, const struct operation *op, bool rebooting)
{
        char slot = op->to_slot == SLOT_NONE ? '?' : slot_name(op->to_slot);

        if (rebooting)
                cli_say(cli, "version %s in slot %c is prepared; the machine reboots into it", op->to_version, slot);
        else if (op->staged)
                cli_say(cli,
                        "version %s in slot %c is prepared; it goes on at the next shutdown\n"
                        "('bootmgr abort' gives it up, on a node of a cluster 'bootmgr abort --local')",
                        op->to_version, slot);
        else if (op->result == RESULT_DONE)
                cli_say(cli, "version %s in slot %c boots next", op->to_version, slot);
        else
                cli_say(cli, "version %s in slot %c boots next, on trial", op->to_version, slot);
}

/* The newest operation as it stands now: as JSON, or as a sentence. */
static int print_outcome(const struct cli *cli, struct machine *m, bool rebooting, struct error *e)
{
        _cleanup_operation_ struct operation op = {};
        int r;

        r = operation_current(m, &op, e);
        if (r < 0)
                return r;
        if (cli->json)
                return cli_print_json(cli, operation_to_json(&op));
        say_outcome(cli, &op, rebooting);
        return 0;
}

int go_on(const struct cli *cli, struct machine *m, bool no_reboot, struct bar *bar, struct error *e)
{
        int r = 0;

        if (!no_reboot)
                r = m->offline || m->rescue ? operation_switch(m, &bar->observer, e) : operation_reboot(m, 0, e);
        bar_done(bar);
        return r < 0 ? r : print_outcome(cli, m, !no_reboot && !m->offline && !m->rescue, e);
}
