/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How a test program ends. */
#pragma once

#include <check.h>

/* Runs the suite and says how it went: an exit status. The suite is gone after that. */
static inline int suite_run(Suite *s)
{
        SRunner *runner = srunner_create(s);
        int failed;

        srunner_run_all(runner, CK_NORMAL);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? 1 : 0;
}
