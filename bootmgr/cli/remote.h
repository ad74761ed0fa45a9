/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Handing long work to bootmgrd over D-Bus (org.bootmgr1(5)), so that a lost terminal stops nothing. */
#pragma once

#include "cli/cli.h"

#define REMOTE_ABSENT 1 /* there is no bus or no daemon: do it here */

struct remote_request {
        const char *method; /* "Upgrade", "Rollback" */
        const char *source; /* of an upgrade: path or URL; NULL */
        bool no_reboot, automatic, no_read_back, full_speed;
};

/* Asks, shows the progress until it is over, and says how it ended. SIGINT and SIGTERM only stop showing: the
 * daemon goes on, which is said. 0, REMOTE_ABSENT, or -errno with the daemon's error. */
int remote_run(struct cli *cli, const struct remote_request *request, struct error *e);

/* Whether what failed here with `failed` failed for want of rights that bootmgrd has. */
bool remote_may_help(struct verb_args *args, int failed);

/* Instead of reading the disk, when that failed for want of rights: "GetStatus", "GetOperation", "GetHistory".
 * 0: *ret is a new reference, and `e`, which held why it failed here, is empty again. Else `failed`. */
int remote_read(struct verb_args *args, int failed, const char *method, json_t **ret, struct error *e);
