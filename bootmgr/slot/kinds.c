/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "slot/kinds.h"

#define DEFINE_KIND(id, text, status) const struct error_kind kind_##id = { .name = text, .exit_status = status };
ERROR_KINDS(DEFINE_KIND)
