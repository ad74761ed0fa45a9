/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "slot/kinds.h"

#define DEFINE_KIND(id, text, status) const struct error_kind kind_##id = { .name = text, .exit_status = status };
ERROR_KINDS(DEFINE_KIND)

static const struct error_kind *const kinds[] = { &kind_failed, &kind_usage,
#define KIND_POINTER(id, name, status) &kind_##id,
                                                  ERROR_KINDS(KIND_POINTER)
#undef KIND_POINTER
};

const struct error_kind *error_kind_find(const char *name)
{
        for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
                if (streq(kinds[i]->name, name))
                        return kinds[i];
        return &kind_failed;
}
