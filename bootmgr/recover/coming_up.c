/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "recover/coming_up.h"

#include <fcntl.h>

#include "base/file.h"
#include "base/io.h"
#include "base/log.h"
#include "operation/boot.h"
#include "storage/verified.h"

#define DIRECTORY "data/bootmgr"
#define MARK      DIRECTORY "/" COMING_UP_NAME
#define COUNT_MAX 9

static unsigned count_of(const char *mark, int slot)
{
        if (mark[0] != slot_name(slot))
                return 0;
        return mark[1] == ' ' && mark[2] >= '1' && mark[2] <= '9' ? (unsigned)(mark[2] - '0') : 1;
}

unsigned coming_up_mark(int root, int slot)
{
        _cleanup_free_ char *mark = NULL;
        char ours[8];
        unsigned n;
        int r;

        if (faccessat(root, DIRECTORY, F_OK, 0) < 0)
                return 0;
        n = file_read(root, MARK, 16, &mark, NULL) >= 0 ? count_of(mark, slot) : 0;
        snprintf(ours, sizeof(ours), "%c %u\n", slot_name(slot), MIN(n + 1, (unsigned)COUNT_MAX));
        r = file_replace(root, MARK, ours, strlen(ours), 0644);
        if (r < 0)
                log_warning("cannot write " MARK ": %s", error_text(r));
        return n;
}

void coming_up_forget(int root)
{
        io_unlink(root, MARK, 0);
}

bool coming_up_root_is_whole(int slot)
{
        _cleanup_error_ struct error why = {};

        if (access(VERIFIED_ROOT, F_OK) < 0)
                return true;
        log_warning("the last boot of slot %c did not come up: all of its root is read", slot_name(slot));
        if (verified_root_read(&why) < 0)
                log_warning("%s", why.message ?: "it cannot be read");
        return !verified_root_is_corrupt();
}
