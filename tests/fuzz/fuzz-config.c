/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A configuration file: what is accepted is within bootmgr.conf(5), and says the same when it is read again. */
#define FUZZ_HAS_INITIALIZE
#include "fuzz.h"

#include "base/clock.h"
#include "base/version.h"
#include "slot/config.h"

static char file[PATH_MAX + 16];
static int directory = -1;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
        static char path[PATH_MAX];

        log_set_max_level(0);
        directory = scratch_open(path);
        snprintf(file, sizeof(file), "%s/bootmgr.conf", path);
        return 0;
}

static size_t check_paths(char *const *list)
{
        size_t n = 0;

        for (; list && list[n]; n++)
                must(list[n][0] == '/' && !strpbrk(list[n], " \t\n"));
        must(list && n <= 64);
        return n;
}

static void check(const struct config *c)
{
        const char *const lines[] = { c->compatible, c->cmdline, c->disk, c->esp, c->data, c->trust_directory };

        for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
                must(!lines[i] || !strchr(lines[i], '\n'));
        must(!c->rollback_min_version || version_valid(c->rollback_min_version));
        must(c->data && c->data[0] == '/' && c->trust_directory && c->trust_directory[0] == '/');
        must(c->loader && (streq(c->loader, "systemd-boot") || streq(c->loader, "none")));
        must(c->cmdline && c->tries >= 1 && c->tries <= SLOT_MAX_TRIES);
        must(c->trust_threshold >= 1 && c->trust_threshold <= 16 && c->max_auto_rollbacks < AUTO_ROLLBACK_MEMORY);
        must(c->hook_timeout >= USEC_PER_SEC && c->health_deadline >= USEC_PER_SEC && c->health_timeout >= USEC_PER_SEC);
        for (int i = 0; i < SLOT_MAX; i++)
                must(!c->slot_device[i] || c->slot_device[i][0] == '/');
        must(c->state[0] || !c->state[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_config_ struct config a = {}, b = {};
        _cleanup_error_ struct error e = {};

        put_file(directory, "bootmgr.conf", data, size);
        if (config_load(file, &a, &e) < 0) {
                must(e.message);
                return 0;
        }
        check(&a);
        must(config_load(file, &b, NULL) >= 0);
        must(check_paths(a.carried) == check_paths(b.carried) && check_paths(a.shared) == check_paths(b.shared));
        must(streq(a.cmdline, b.cmdline) && streq(a.data, b.data) && a.tries == b.tries);
        return 0;
}
