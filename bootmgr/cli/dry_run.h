/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* rollback system --dry-run, and showing differences of the configuration. */
#pragma once

#include "cli/cli.h"

/* Every check, what would be given up, who would be fenced; changes nothing. A refusal is the result, with
 * its exit status. */
int rollback_dry_run(struct cli *cli, struct machine *m, const struct rollback_options *options, struct error *e);

/* What differs between the snapshot and what is there now, the carried paths of the snapshot's slot
 * included. Appends to `ret`. */
int collect_differences(struct machine *m, const struct snapshot *s, bool with_text, struct difference_list *ret,
                        struct error *e);
/* One line for each, and its text like diff -u. */
void print_differences(const struct difference_list *l);
/* [{"path","change","carried","text"}]. New reference. */
json_t *differences_to_json(const struct difference_list *l);
