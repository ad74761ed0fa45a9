/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A polkit for 70-daemon.sh: answers CheckAuthorization from the file `answers` in the working directory, one
 * "ACTION yes|no|challenge" a line (default no), and notes every question in `questions`. */
#include <stdio.h>
#include <string.h>
#include <systemd/sd-bus.h>

static void look_up(const char *action, char answer[static 16])
{
        FILE *f = fopen("answers", "re");
        char found[128], what[16];

        strcpy(answer, "no");
        while (f && fscanf(f, "%127s %15s", found, what) == 2)
                if (strcmp(found, action) == 0)
                        strcpy(answer, what);
        if (f)
                fclose(f);
}

static int check_authorization(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        const char *kind, *key, *name, *action;
        char answer[16];
        unsigned flags;
        FILE *f;
        int r;

        r = sd_bus_message_enter_container(m, 'r', "sa{sv}");
        if (r >= 0)
                r = sd_bus_message_read(m, "sa{sv}", &kind, 1, &key, "s", &name);
        if (r >= 0)
                r = sd_bus_message_exit_container(m);
        if (r >= 0)
                r = sd_bus_message_read(m, "sa{ss}us", &action, 0, &flags, NULL);
        if (r < 0)
                return r;
        look_up(action, answer);
        f = fopen("questions", "ae");
        if (f) {
                fprintf(f, "%s %s %s\n", action, kind, flags & 1 ? "interactive" : "quiet");
                fclose(f);
        }
        return sd_bus_reply_method_return(m, "(bba{ss})", strcmp(answer, "yes") == 0, strcmp(answer, "challenge") == 0, 0);
}

static const sd_bus_vtable vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("CheckAuthorization", "(sa{sv})sa{ss}us", "(bba{ss})", check_authorization,
                      SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

int main(void)
{
        sd_bus *bus;
        int r;

        r = sd_bus_default_system(&bus);
        if (r >= 0)
                r = sd_bus_add_object_vtable(bus, NULL, "/org/freedesktop/PolicyKit1/Authority",
                                             "org.freedesktop.PolicyKit1.Authority", vtable, NULL);
        if (r >= 0)
                r = sd_bus_request_name(bus, "org.freedesktop.PolicyKit1", 0);
        while (r >= 0) {
                r = sd_bus_process(bus, NULL);
                if (r == 0)
                        r = sd_bus_wait(bus, UINT64_MAX);
        }
        fprintf(stderr, "fake-polkit: %s\n", strerror(-r));
        return 1;
}
