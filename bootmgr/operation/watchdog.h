/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a hardware watchdog says of how this boot came about. */
#pragma once

#include "base/error.h"

/* Whether one of the watchdogs in that directory (/sys/class/watchdog) has reset the machine before this boot:
 * WDIOF_CARDRESET in `bootstatus`, as the kernel's watchdog API has it. */
bool watchdog_has_reset(const char *directory);
