/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a request that changes something says. Pure: fuzzed. */
#pragma once

#include "base/json.h"
#include "operation/operation.h"

enum api_member {
        API_ID = 1 << 0,     /* 32 hexadecimal digits or a UUID; in the header Idempotency-Key as well */
        API_SOURCE = 1 << 1, /* an absolute path or a URL: needed */
        API_NO_REBOOT = 1 << 2,
        API_AUTOMATIC = 1 << 3,
        API_PRECHECKS_ONLY = 1 << 4,
        API_CLUSTER = 1 << 5, /* strict, engines, one_instant, …: how a cluster does it */
};

struct api_body {
        char id[OPERATION_ID_SIZE]; /* "" with prechecks_only, and only then */
        char *source;               /* owned; NULL: none */
        bool no_reboot, automatic, prechecks_only, strict, one_instant;
        char engines[12]; /* "together", "rolling"; "": not said */
        /* Numbers as `bootmgr` takes them, of seconds with their unit; "": not said. */
        char max_unavailable[24], prepare_limit[24], switch_limit[24], lead[24];
};

/* `members`: those that the request may have. `key`: the header, or NULL. An empty text is an empty object. */
int api_body_parse(const char *text, size_t size, const char *key, unsigned members, struct api_body *ret, struct error *e);
void api_body_done(struct api_body *b);
