/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an error is in HTTP. */
#include "daemon/http.h"
#include "slot/kinds.h"

#define CONFLICT 409 /* refused by a check: the machine is not in a state for it */

static const struct {
        const struct error_kind *kind;
        unsigned status;
} statuses[] = {
        { &kind_usage, 400 },
        { &kind_not_authenticated, 401 },
        { &kind_not_authorized, 403 },
        { &kind_not_found, 404 },
        { &kind_method_not_allowed, 405 },
        { &kind_too_large, 413 },
        { &kind_bundle_invalid, 422 },
        { &kind_bundle_untrusted, 422 },
        { &kind_bundle_incompatible, 422 },
        { &kind_too_many_requests, 429 },
        { &kind_fetch, 502 },
        { &kind_interrupted, 503 },
        { &kind_no_space, 507 },
};

static const struct error_kind *const kinds[] = {
#define X(id, name, status) &kind_##id,
        ERROR_KINDS(X)
#undef X
};

unsigned http_status_of(const char *kind)
{
        for (size_t i = 0; i < ARRAY_SIZE(statuses); i++)
                if (streq(statuses[i].kind->name, kind))
                        return statuses[i].status;
        for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
                if (streq(kinds[i]->name, kind) && kinds[i]->exit_status == 3)
                        return CONFLICT;
        return 500;
}
