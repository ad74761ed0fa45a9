/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* org.bootmgr1 on the system bus: docs/org.bootmgr1.5. */
#pragma once

#include <systemd/sd-bus.h>

#include "daemon/manager.h"

/* Adds the objects and asks for the name. */
int bus_publish(sd_bus *bus, struct manager *m);
