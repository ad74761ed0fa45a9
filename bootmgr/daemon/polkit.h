/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* polkit's CheckAuthorization, asynchronously: libsystemd has no helper for it. */
#pragma once

#include <systemd/sd-bus.h>

/* `refusal` is NULL when it is allowed, else what the caller is to be told. */
typedef void (*polkit_done)(const sd_bus_error *refusal, void *userdata);

/* Asks the authority about each of `actions` (NULL-terminated; it and the strings must live until the end) for
 * the sender of `message`; root and an empty list need no asking. 0: `done` was called or will be, once; or
 * -errno, and it will not. */
int polkit_check(sd_bus_message *message, const char *const *actions, polkit_done done, void *userdata);
