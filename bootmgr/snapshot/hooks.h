/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Migration hooks: what brings the configuration of one version into the form of another. */
#pragma once

#include "base/error.h"

/* Runs what is meant to be run (base/process.h) of `directory` in the order of the names, each with `env` added to its
 * environment and `timeout` µs (0: none). Stops at the first that fails: kind_hook, with the end of its output. No directory
 * (or NULL), no hooks. */
int hooks_run(const char *directory, const char *const *env, uint64_t timeout, struct error *e);
