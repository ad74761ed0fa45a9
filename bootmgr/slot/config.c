/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "slot/config.h"

#include <fcntl.h>
#include <libeconf.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "slot/config_keys.h"
#include "slot/kinds.h"

#define VENDOR_DIRECTORY "/usr/lib/bootmgr"
#define SYSTEM_DIRECTORY "/etc/bootmgr"
#define FILE_MAX         (256 * 1024)

static int set_defaults(struct config *c)
{
        *c = (struct config){
                .data = strdup(CONFIG_DATA),
                .etc_overlay = true,
                .loader = strdup("systemd-boot"),
                .cmdline = strdup(""),
                .tries = SLOT_DEFAULT_TRIES,
                .hook_timeout = 60 * USEC_PER_SEC,
                .fetch = FETCH_DEFAULTS,
                .trust_directory = strdup(SYSTEM_DIRECTORY "/trust.d"),
                .trust_threshold = 1,
                .health_deadline = 300 * USEC_PER_SEC,
                .health_timeout = 60 * USEC_PER_SEC,
                .api_certificate = strdup(CONFIG_CERTIFICATE),
                .api_key = strdup(CONFIG_KEY),
                .api_tokens = strdup(SYSTEM_DIRECTORY "/tokens"),
                .api_max_connections = 24576,
                .max_auto_rollbacks = 3,
                .cluster_role = strdup("standalone"),
        };
        if (config_list_split("/etc", &c->carried) < 0 || config_list_split("", &c->shared) < 0 ||
            config_list_split("", &c->controllers) < 0 || !c->data || !c->cluster_role || !c->loader || !c->cmdline ||
            !c->trust_directory || !c->api_certificate || !c->api_key || !c->api_tokens)
                return -ENOMEM;
        return 0;
}

static int apply(struct config *c, econf_file *file, const char *where, const char *group, const char *name, struct error *e)
{
        const struct config_key *key = config_key_find(group, name);
        const char *expected = "another value";
        _cleanup_free_ char *value = NULL;
        int r;

        if (!key) {
                log_warning("%s: the key %s= in [%s] is not known", where, name, group ?: "");
                return 0;
        }
        if (econf_getStringValue(file, group, name, &value) != ECONF_SUCCESS)
                return 0; /* a key without a value: the default */
        r = key->set(value ?: "", (char *)c + key->field, &expected);
        if (r >= 0)
                return 0;
        fail(e, r, &kind_config_invalid, "%s: [%s] %s=%s is not %s", where, group, name, value ?: "", expected);
        fail_hint(e, "see bootmgr.conf(5)");
        return r;
}

static int apply_group(struct config *c, econf_file *file, const char *where, const char *group, struct error *e)
{
        char **names = NULL;
        size_t n = 0;
        int r = 0;

        if (econf_getKeys(file, group, &n, &names) != ECONF_SUCCESS)
                return 0;
        for (size_t i = 0; i < n && r >= 0; i++)
                r = apply(c, file, where, group, names[i], e);
        econf_freeArray(names);
        return r;
}

static int apply_file(struct config *c, econf_file *file, const char *where, struct error *e)
{
        char **groups = NULL;
        size_t n = 0;
        int r;

        r = apply_group(c, file, where, NULL, e); /* keys before the first [section]: never known */
        if (r < 0 || econf_getGroups(file, &n, &groups) != ECONF_SUCCESS)
                return r;
        for (size_t i = 0; i < n && r >= 0; i++)
                r = apply_group(c, file, where, groups[i], e);
        econf_freeArray(groups);
        return r;
}

static int fail_econf(enum econf_err error, const char *where, struct error *e)
{
        _cleanup_free_ char *file = NULL;
        uint64_t line = 0;

        econf_errLocation(&file, &line);
        fail(e, -EINVAL, &kind_config_invalid, "%s, line %llu: %s", where, (unsigned long long)line, econf_errString(error));
        return fail_hint(e, "see bootmgr.conf(5)");
}

/* libeconf reads whatever it is given, a pipe or gigabytes too: so it is given a file that was looked at. */
static int open_bounded(const char *path, struct error *e)
{
        _cleanup_close_ int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
                return fail(e, -errno, &kind_config_invalid, "cannot read %s: %s", path, error_text(-errno));
        if (S_ISREG(st.st_mode) && st.st_size <= FILE_MAX)
                return TAKE_FD(fd);
        fail(e, -EINVAL, &kind_config_invalid, "%s is not a file of at most %d KiB", path, FILE_MAX / 1024);
        return fail_hint(e, "see bootmgr.conf(5)");
}

static int apply_path(struct config *c, const char *path, struct error *e)
{
        _cleanup_close_ int fd = open_bounded(path, e);
        econf_file *file = NULL;
        enum econf_err error;
        char opened[32];
        int r;

        if (fd < 0)
                return fd;
        snprintf(opened, sizeof(opened), "/proc/self/fd/%d", fd);
        error = econf_readFile(&file, opened, "=", "#");
        r = error == ECONF_SUCCESS ? apply_file(c, file, path, e) : fail_econf(error, path, e);
        econf_freeFile(file);
        return r;
}

static int is_drop_in(const struct dirent *entry)
{
        size_t n = strlen(entry->d_name);

        return entry->d_name[0] != '.' && n > 5 && streq(entry->d_name + n - 5, ".conf");
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
        return strcmp((*a)->d_name, (*b)->d_name);
}

struct drop_ins {
        const char *directory; /* that holds bootmgr.conf.d */
        struct dirent **list;
        int n, next;
};

static int list_drop_ins(const char *directory, struct drop_ins *ret, struct error *e)
{
        _cleanup_free_ char *path = xasprintf("%s/bootmgr.conf.d", directory);

        *ret = (struct drop_ins){ .directory = directory };
        if (!path)
                return -ENOMEM;
        ret->n = scandir(path, &ret->list, is_drop_in, by_name);
        if (ret->n >= 0)
                return 0;
        ret->n = 0;
        return errno == ENOENT ? 0 : fail(e, -errno, &kind_config_invalid, "cannot read %s: %s", path, error_text(errno));
}

static void free_drop_ins(struct drop_ins *d)
{
        for (int i = 0; i < d->n; i++)
                free(d->list[i]);
        free(d->list);
}

/* Both directories as one list in the order of names; the system's file hides the vendor's of the same name. */
static int apply_drop_ins(struct config *c, struct drop_ins *vendor, struct drop_ins *system, struct error *e)
{
        int r = 0;

        while (r >= 0 && (vendor->next < vendor->n || system->next < system->n)) {
                int order = vendor->next == vendor->n   ? 1
                            : system->next == system->n ? -1
                                                        : by_name((const struct dirent **)&vendor->list[vendor->next],
                                                                  (const struct dirent **)&system->list[system->next]);
                struct drop_ins *from = order < 0 ? vendor : system;
                _cleanup_free_ char *path = xasprintf("%s/bootmgr.conf.d/%s", from->directory,
                                                      from->list[from->next]->d_name);

                r = path ? apply_path(c, path, e) : -ENOMEM;
                vendor->next += order <= 0;
                system->next += order >= 0;
        }
        return r;
}

static int apply_places(struct config *c, const char *vendor, const char *system, struct error *e)
{
        const char *const directories[] = { system, vendor };
        struct drop_ins vendors = {}, systems = {};
        int r = 0;

        for (size_t i = 0; i < ARRAY_SIZE(directories); i++) {
                _cleanup_free_ char *path = xasprintf("%s/bootmgr.conf", directories[i]);

                if (!path)
                        return -ENOMEM;
                if (access(path, F_OK) < 0 && errno == ENOENT)
                        continue;
                r = apply_path(c, path, e);
                break;
        }
        if (r >= 0)
                r = list_drop_ins(vendor, &vendors, e);
        if (r >= 0)
                r = list_drop_ins(system, &systems, e);
        if (r >= 0)
                r = apply_drop_ins(c, &vendors, &systems, e);
        free_drop_ins(&vendors);
        free_drop_ins(&systems);
        return r;
}

/* `file`: this one alone; else the places. */
static int load(const char *file, const char *vendor, const char *system, struct config *ret, struct error *e)
{
        struct config c;
        int r;

        r = set_defaults(&c);
        if (r >= 0)
                r = file ? apply_path(&c, file, e) : apply_places(&c, vendor, system, e);
        if (r >= 0 && !c.cmdline && !(c.cmdline = strdup("")))
                r = -ENOMEM;
        if (r < 0) {
                config_done(&c);
                return r;
        }
        *ret = c;
        return 0;
}

int config_load(const char *file, struct config *ret, struct error *e)
{
        return load(file, VENDOR_DIRECTORY, SYSTEM_DIRECTORY, ret, e);
}

int config_load_from(const char *vendor, const char *system, struct config *ret, struct error *e)
{
        return load(NULL, vendor, system, ret, e);
}

void config_done(struct config *c)
{
        free(c->compatible);
        free(c->rollback_min_version);
        free(c->disk);
        free(c->esp);
        free(c->state[0]);
        free(c->state[1]);
        free(c->data);
        for (int i = 0; i < SLOT_MAX; i++)
                free(c->slot_device[i]);
        free(c->loader);
        free(c->cmdline);
        config_list_free(c->carried);
        config_list_free(c->shared);
        config_list_free(c->fetch.mirrors);
        free(c->fetch.proxy);
        free(c->fetch.ca_certificate);
        free(c->fetch.certificate);
        free(c->fetch.key);
        free(c->fetch.header_file);
        free(c->trust_directory);
        free(c->api_listen);
        free(c->api_certificate);
        free(c->api_key);
        free(c->api_client_ca);
        free(c->api_tokens);
        free(c->cluster_role);
        free(c->cluster_name);
        config_list_free(c->controllers);
        *c = (struct config){};
}
