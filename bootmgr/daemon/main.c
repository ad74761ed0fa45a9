/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* bootmgrd: docs/bootmgrd.8 */
#include <signal.h>
#include <systemd/sd-daemon.h>

#include "base/log.h"
#include "cluster/home.h"
#include "daemon/api.h"
#include "daemon/bus.h"
#include "daemon/cluster.h"
#include "slot/config.h"

static int block_signals(sd_event *event)
{
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGTERM);
        sigaddset(&set, SIGINT);
        sigaddset(&set, SIGCHLD);
        if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
                return -errno;
        /* Without a handler sd-event ends the loop. */
        if (sd_event_add_signal(event, NULL, SIGTERM, NULL, NULL) < 0)
                return -EINVAL;
        return sd_event_add_signal(event, NULL, SIGINT, NULL, NULL);
}

/* Before the name on the bus: who sees that, or READY=1, finds everything served. What cannot be had of cluster and
 * interface is said, and the bus is served all the same: it is how a machine is mended. */
static void start_api(struct manager *m, struct api *api, struct cluster *cluster, struct config *config)
{
        _cleanup_error_ struct error e = {};
        int r;

        r = config_load(getenv("BOOTMGR_CONFIG"), config, &e);
        if (r >= 0)
                r = cluster_serve(config);
        if (r >= 0 && cluster_start(cluster, m, config, &e) < 0) {
                log_error("this machine takes no part in its cluster: %s", e.message ?: "no reason was given");
                error_done(&e);
        }
        if (r >= 0)
                r = api_start(api, m, cluster, config, &e);
        if (r < 0)
                log_error("there is no HTTPS interface: %s", e.message ?: error_text(r));
}

static int run(struct manager *m, struct api *api, struct cluster *cluster, struct config *config, sd_bus **bus)
{
        int r;

        r = sd_event_default(&m->event);
        if (r >= 0)
                r = block_signals(m->event);
        if (r >= 0)
                r = sd_event_set_watchdog(m->event, 1);
        if (r >= 0)
                r = sd_bus_default_system(bus);
        if (r >= 0)
                r = sd_bus_set_exit_on_disconnect(*bus, 1);
        if (r >= 0)
                r = sd_bus_attach_event(*bus, m->event, SD_EVENT_PRIORITY_NORMAL);
        if (r >= 0)
                r = manager_start(m);
        if (r < 0)
                return r;
        start_api(m, api, cluster, config);
        r = bus_publish(*bus, m);
        if (r < 0)
                return r;
        sd_notify(0, "READY=1");
        return sd_event_loop(m->event);
}

static int show_help(void)
{
        puts("usage: bootmgrd\n"
             "\n"
             "Offers org.bootmgr1 on the system bus. It takes no arguments and is started by systemd or D-Bus:\n"
             "see bootmgrd(8) and org.bootmgr1(5).");
        return 0;
}

int main(int argc, char **argv)
{
        struct manager m = {
                .program = getenv("BOOTMGR_PROGRAM") ?: "/usr/bin/bootmgr",
                .run_directory = getenv("RUNTIME_DIRECTORY") ?: "/run/bootmgr",
        };
        _cleanup_config_ struct config config = {};
        sd_bus *bus = NULL;
        struct cluster cluster = {};
        struct api api = {};
        int r;

        log_set_name("bootmgrd");
        if (argc == 2 && streq(argv[1], "--help"))
                return show_help();
        if (argc > 1) {
                fprintf(stderr, "bootmgrd takes no arguments; see bootmgrd(8)\n");
                return 2;
        }
        r = run(&m, &api, &cluster, &config, &bus);
        if (r < 0)
                log_error("%s", error_text(r));
        else if (r > 0 && r != EXIT_AGAIN)
                log_error("the bus is gone");
        sd_notify(0, "STOPPING=1");
        api_done(&api);
        cluster_done(&cluster);
        manager_stop(&m);
        sd_bus_flush_close_unref(bus);
        sd_event_unref(m.event);
        return r == 0 || r == EXIT_AGAIN ? r : 1;
}
