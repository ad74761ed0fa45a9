/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What we ask of logind: the reboot, and that nobody else reboots while a slot is written. */
#include <fcntl.h>
#include <systemd/sd-bus.h>

#include "base/file.h"
#include "base/log.h"
#include "base/process.h"
#include "operation/steps.h"

#define RUN_DIRECTORY "/run/bootmgr"
#define INSTANT       RUN_DIRECTORY "/instant" /* realtime µs */
#define LOGIND        "org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager"

static inline void bus_unrefp(sd_bus **bus)
{
        sd_bus_flush_close_unref(*bus);
}

int inhibit_shutdown(const char *why)
{
        _cleanup_(bus_unrefp) sd_bus *bus = NULL;
        sd_bus_message *reply = NULL;
        int fd = -1, r;

        r = sd_bus_open_system(&bus);
        if (r >= 0)
                r = sd_bus_call_method(bus, LOGIND, "Inhibit", NULL, &reply, "ssss", "shutdown:sleep", "bootmgr", why,
                                       "block");
        if (r >= 0)
                r = sd_bus_message_read(reply, "h", &fd);
        if (r >= 0)
                r = fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        sd_bus_message_unref(reply);
        if (r < 0)
                log_debug("no shutdown inhibitor: %s", error_text(r));
        return r < 0 ? r : fd;
}

static int note_instant(uint64_t at, struct error *e)
{
        char text[24];
        int r = mkdir_parents(AT_FDCWD, RUN_DIRECTORY, 0755);

        snprintf(text, sizeof(text), "%llu\n", (unsigned long long)at);
        if (r >= 0)
                r = file_replace_volatile(AT_FDCWD, INSTANT, text, strlen(text), 0644);
        return r < 0 ? fail_errno(e, r, "cannot write " INSTANT) : 0;
}

bool switch_is_awaited(void)
{
        static const char *const argv[] = { "systemctl", "is-active", "--quiet", "bootmgr-switch.service", NULL };
        _cleanup_process_ struct process_result result = {};
        const int inactive = 3; /* the LSB's "program is not running" */

        return process_run(argv, NULL, 10 * UINT64_C(1000000), &result) < 0 || result.exit_status != inactive;
}

int operation_reboot(struct machine *m, uint64_t at, struct error *e)
{
        /* systemctl finds its way without logind or D-Bus too (early boot, degraded), and --no-block returns
         * before the shutdown reaches us. */
        static const char *const argv[] = { "systemctl", "--no-block", "reboot", NULL };
        int r = at ? note_instant(at, e) : 0;

        return r < 0 ? r : process_must(argv, 30 * UINT64_C(1000000), e);
}
