/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the versions' own services make of the configuration, and whose it is. */
#include "crash.h"

#include <fcntl.h>

#include "slot/slot.h"

/* The shared configuration: a directory with a file, a file, and one that only version 2 and later have. */
static void config_of(char version, char *text, size_t size)
{
        memset(text, version, size);
        snprintf(text, size, "format %c\n", version);
        text[9] = version;
        text[size - 1] = '\n';
}

#define CONFIG_SIZE 1200
#define SINGLE_SIZE 700

static int put_file(const char *path, const char *text, size_t size)
{
        char real[PATH_MAX];
        int fd, r;

        snprintf(real, sizeof(real), "%s/root/%s", volume_path(DATA), path);
        fd = io_open(AT_FDCWD, real, O_WRONLY | O_CREAT | O_TRUNC, 0644);
        r = fd < 0 ? fd : io_pwrite(fd, text, size, 0);
        if (r >= 0)
                r = io_fsync(fd);
        fd_close(fd);
        return r;
}

/* What a version's own services make of the configuration. */
int service_migrates(char version, struct error *e)
{
        char text[CONFIG_SIZE], real[PATH_MAX];
        int r;

        snprintf(real, sizeof(real), "%s/root/cfg", volume_path(DATA));
        r = mkdir_parents(AT_FDCWD, real, 0755);
        config_of(version, text, CONFIG_SIZE);
        if (r >= 0)
                r = put_file("cfg/settings", text, CONFIG_SIZE);
        config_of(version, text, SINGLE_SIZE);
        if (r >= 0)
                r = put_file("single", text, SINGLE_SIZE);
        if (r >= 0 && version >= '2')
                r = put_file("late", text, SINGLE_SIZE);
        if (r >= 0 && version == '1')
                r = put_file("early", text, SINGLE_SIZE);
        snprintf(real, sizeof(real), "%s/root/early", volume_path(DATA));
        if (r >= 0 && version >= '2' && access(real, F_OK) == 0)
                r = io_unlink(AT_FDCWD, real, 0);
        return r < 0 ? fail_errno(e, r, "the service cannot write its configuration") : 0;
}

/* Linked in place of the real one (--wrap): every version's hooks, which flush what they write, and not what they remove. */
int __wrap_hooks_run(const char *directory, const char *const *env, uint64_t timeout, struct error *e);
int __wrap_hooks_run(const char *directory, const char *const *env, uint64_t timeout, struct error *e)
{
        for (; *env; env++) {
                const char *to = startswith(*env, "BOOTMGR_TO_VERSION=");

                if (to)
                        return service_migrates(*to, e);
        }
        return 0;
}

/* Whose configuration is there, whole: '1' …; '!': a mixture or damage. */
char whose_config(void)
{
        char path[PATH_MAX], text[CONFIG_SIZE];
        bool early, late;

        snprintf(path, sizeof(path), "%s/root/late", volume_path(DATA));
        late = access(path, F_OK) == 0;
        snprintf(path, sizeof(path), "%s/root/early", volume_path(DATA));
        early = access(path, F_OK) == 0;
        for (char v = '1'; v <= LAST_VERSION; v++) {
                config_of(v, text, CONFIG_SIZE);
                snprintf(path, sizeof(path), "%s/root/cfg/settings", volume_path(DATA));
                if (!is_file(path, text, CONFIG_SIZE))
                        continue;
                config_of(v, text, SINGLE_SIZE);
                snprintf(path, sizeof(path), "%s/root/single", volume_path(DATA));
                return is_file(path, text, SINGLE_SIZE) && late == (v >= '2') && early == (v == '1') ? v : '!';
        }
        return '!';
}

/* The slot's own /etc holds what version 1 or its carrying put there; never half of it. */
int check_etc(int slot, bool carried, struct error *e)
{
        char path[PATH_MAX], stale[PATH_MAX], deep[PATH_MAX];

        snprintf(path, sizeof(path), "%s/etc/%c/upper/marker", volume_path(DATA), slot_name(slot));
        snprintf(stale, sizeof(stale), "%s/etc/%c/upper/stale", volume_path(DATA), slot_name(slot));
        snprintf(deep, sizeof(deep), "%s/etc/%c/upper/dir/deep", volume_path(DATA), slot_name(slot));
        if (is_file(path, "a\n", 2) && (!carried || (access(stale, F_OK) < 0 && is_file(deep, "deep\n", 5))))
                return 0;
        return fail(e, -EIO, NULL, "the /etc of slot %c is not what was carried", slot_name(slot));
}
