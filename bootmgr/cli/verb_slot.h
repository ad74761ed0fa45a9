/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "base/json.h"

/* The table of slots in the JSON of status. 0 or -ENOMEM. */
int print_slots(const json_t *status);
