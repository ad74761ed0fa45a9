/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The methods of org.bootmgr1.Manager: each becomes words for `bootmgr`, once polkit has allowed it. */
#pragma once

#include <systemd/sd-bus.h>

/* Handles every method of the table in methods.c, found by its name; userdata is the manager. */
int handle_method(sd_bus_message *message, void *userdata, sd_bus_error *error);
