/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What follows preparing an upgrade, a rollback or an activation. */
#pragma once

#include "cli/bar.h"

/* In an image the switch, on a machine the reboot whose shutdown switches; with no_reboot neither. Then says
 * or prints how it stands. */
int go_on(const struct cli *cli, struct machine *m, bool no_reboot, struct bar *bar, struct error *e);

/* The sentence that ends them. `rebooting`: the reboot was asked for. */
void say_outcome(const struct cli *cli, const struct operation *op, bool rebooting);
