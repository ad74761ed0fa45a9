/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the tests of the cluster's decisions share. */
#pragma once

#include "base/buf.h"
#include "cluster/record.h"

/* Check has a macro of this name. */
#include <check.h>
#include "suite.h"
#undef fail

/* Version N, whose digest is that byte 32 times. */
static _unused_ struct version_id version(unsigned n)
{
        struct version_id v = {};

        snprintf(v.version, sizeof(v.version), "%u", n);
        memset(v.digest, (int)n, sizeof(v.digest));
        return v;
}
