/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* rescue: the small system on the ESP that installs a version when no slot can boot. */
#include <fcntl.h>

#include "cli/cli.h"
#include "cli/verbs.h"
#include "loader/rescue.h"
#include "operation/upkeep.h"
#include "slot/kinds.h"

static int open_file(struct verb_args *args, const char *option, struct error *e)
{
        const char *path = verb_value(args, option);
        int fd;

        if (!path)
                return fail(e, -EINVAL, &kind_usage, "--%s FILE is missing", option);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        return fd < 0 ? fail_errno(e, -errno, "cannot open %s", path) : fd;
}

/* Under the lock: an upgrade prunes boot files that no entry names yet. */
static int open_loader(struct verb_args *args, struct machine *m, struct loader *ret, struct error *e)
{
        int r = cli_open_machine(args, m, e);

        if (r >= 0)
                r = machine_lock(m, e);
        return r < 0 ? r : machine_open_loader(m, true, ret, e);
}

/* The firmware's last boot option comes with the entry, and goes with it. As upkeep(), which makes up for it. */
static void tell_firmware(struct machine *m, struct loader *loader)
{
        if (m->booted != SLOT_NONE && !m->state_lost)
                upkeep_firmware(m, loader);
}

int verb_rescue_install(struct verb_args *args, struct error *e)
{
        _cleanup_close_ int kernel = open_file(args, "kernel", e);
        _cleanup_close_ int initrd = kernel < 0 ? kernel : open_file(args, "initrd", e);
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        const char *cmdline = verb_value(args, "append");
        struct loader loader;
        int r = initrd;

        if (r >= 0)
                r = open_loader(args, &m, &loader, e);
        if (r < 0)
                return r;
        r = rescue_install(&loader, kernel, initrd, cmdline ?: m.config.cmdline, e);
        if (r >= 0)
                tell_firmware(&m, &loader);
        loader_close(&loader);
        return r < 0 ? r : cli_done(cli_from(args), "the rescue entry is in place");
}

int verb_rescue_remove(struct verb_args *args, struct error *e)
{
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        struct loader loader;
        int r;

        r = open_loader(args, &m, &loader, e);
        if (r < 0)
                return r;
        r = rescue_remove(&loader, e);
        if (r >= 0)
                tell_firmware(&m, &loader);
        loader_close(&loader);
        return r < 0 ? r : cli_done(cli_from(args), "there is no rescue entry");
}
