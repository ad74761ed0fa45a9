/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Showing how far work is: a bar that is drawn again and again on a terminal, plain lines otherwise, one
 * JSON operation per line for bootmgrd (--worker), nothing with --json and --quiet. */
#pragma once

#include "base/progress.h"
#include "cli/cli.h"

struct bar {
        struct observer observer; /* for operations */
        struct progress progress; /* for everything else */
        const struct cli *cli;
        const char *label; /* of `progress` */
        bool terminal, utf8;
        bool drawn; /* a bar stands in the current line */
        char id[OPERATION_ID_SIZE];
        size_t shown;   /* steps whose end was shown already */
        uint64_t since; /* realtime µs: steps that ended before are no news; as it was made, 0: all are shown */
        uint64_t last;  /* monotonic µs of the last line or drawing */
};

void bar_init(struct bar *b, const struct cli *cli);
/* Clears what is drawn; before any other output, too. */
void bar_done(struct bar *b);
#define _cleanup_bar_ _cleanup_(bar_done)

/* b->progress, with this in front of its lines. */
struct progress *bar_labelled(struct bar *b, const char *label);
/* An operation as it stands now, from wherever it was read. */
void bar_show(struct bar *b, const struct operation *op);

/* "[#####.....]  50 %": `width` cells between the brackets. */
void bar_render(char *text, size_t size, unsigned percent, unsigned width, bool utf8);
