/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Health checks: all of DIRECTORY/required that does not lie aside, and what is meant to be run of DIRECTORY/wanted
 * (base/process.h), in order of the names; exit status 0 is healthy. */
#pragma once

#include "base/error.h"
#include "base/progress.h"

#define HEALTH_DIRECTORY "/etc/bootmgr/health.d"

struct health_result {
        unsigned passed, warned; /* warned: wanted checks that failed */
};

/* Runs all checks, each for at most `timeout` µs. kind_unhealthy names the first required one that failed,
 * its exit status or that it hung, and its last line of output. A missing directory means no checks. */
int health_run(const char *directory, uint64_t timeout, struct progress *progress, struct health_result *ret,
               struct error *e);
