/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Why a machine is degraded, in files of /run: whoever finds it out may be gone by the time that somebody asks. */
#pragma once

#include "operation/machine.h"

/* Once it was tried to give the configuration to the version that runs: why that failed (r < 0), or that it did not. */
void degraded_note(const struct machine *m, int r, const struct error *e);

/* That reason, malloc'ed; NULL: the configuration was given, or the machine is none that runs. */
char *degraded_reason(const struct machine *m);

/* Why the initramfs has not mounted the data partition, or the slot's /etc; then what units/resume has found of it.
 * Malloc'ed; NULL: there was no trouble. */
char *degraded_data_reason(const struct machine *m);
