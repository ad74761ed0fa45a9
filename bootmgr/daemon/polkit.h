/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* polkit's CheckAuthorization, asynchronously: libsystemd has no helper for it. */
#pragma once

#include <systemd/sd-bus.h>

/* Calls `allowed` (once the authority has said yes; at once for root) with the same message and userdata; on
 * a no the caller gets an AccessDenied error. 1: the reply comes later or was sent. */
int polkit_check(sd_bus_message *message, const char *action, sd_bus_message_handler_t allowed, void *userdata, sd_bus_error *error);
