/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "slot/config.h"

#include <fcntl.h>
#include <libeconf.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/version.h"
#include "slot/kinds.h"

#define VENDOR_DIRECTORY "/usr/lib/bootmgr"
#define SYSTEM_DIRECTORY "/etc/bootmgr"
#define LIST_MAX         64
#define FILE_MAX         (256 * 1024)

/* Sets one field from its text; 0, or -errno with what would be right in *expected. */
typedef int (*setter)(struct config *c, const char *value, void *field, const char **expected);

static int set_string(struct config *c, const char *value, void *field, const char **expected)
{
        char **string = field, *copy = *value ? strdup(value) : NULL;

        /* libeconf appends a line without "=" to the value before it: a kernel command line must not hold that. */
        *expected = "one line";
        if (strchr(value, '\n')) {
                free(copy);
                return -EINVAL;
        }
        if (*value && !copy)
                return -ENOMEM;
        free(*string);
        *string = copy;
        return 0;
}

static int set_path(struct config *c, const char *value, void *field, const char **expected)
{
        *expected = "an absolute path";
        return *value == '/' && !strchr(value, '\n') ? set_string(c, value, field, expected) : -EINVAL;
}

/* Without a value: found, as when the key is not there. */
static int set_optional_path(struct config *c, const char *value, void *field, const char **expected)
{
        return *value ? set_path(c, value, field, expected) : set_string(c, value, field, expected);
}

static int set_version(struct config *c, const char *value, void *field, const char **expected)
{
        *expected = "a version";
        return !*value || version_valid(value) ? set_string(c, value, field, expected) : -EINVAL;
}

static int set_loader(struct config *c, const char *value, void *field, const char **expected)
{
        *expected = "systemd-boot or none";
        return streq(value, "systemd-boot") || streq(value, "none") ? set_string(c, value, field, expected) : -EINVAL;
}

static int set_bool(struct config *c, const char *value, void *field, const char **expected)
{
        *expected = "yes or no";
        return parse_bool(value, field);
}

static int set_time(struct config *c, const char *value, void *field, const char **expected)
{
        uint64_t usec;

        *expected = "a time span of at least 1 s, such as 90 or 5min";
        if (parse_seconds(value, &usec) < 0 || usec < USEC_PER_SEC)
                return -EINVAL;
        *(uint64_t *)field = usec;
        return 0;
}

static int set_number(const char *value, unsigned min, unsigned max, unsigned *field)
{
        uint32_t number;

        if (parse_u32(value, &number) < 0 || number < min || number > max)
                return -EINVAL;
        *field = number;
        return 0;
}

static int set_tries(struct config *c, const char *value, void *field, const char **expected)
{
        *expected = "a number from 1 to 9";
        return set_number(value, 1, SLOT_MAX_TRIES, field);
}

static int set_threshold(struct config *c, const char *value, void *field, const char **expected)
{
        *expected = "a number from 1 to 16";
        return set_number(value, 1, 16, field);
}

static int set_connections(struct config *c, const char *value, void *field, const char **expected)
{
        *expected = "a number from 1 to 16";
        return set_number(value, 1, FETCH_CONNECTIONS_MAX, field);
}

static int set_rate(struct config *c, const char *value, void *field, const char **expected)
{
        uint64_t rate = 0;

        *expected = "bytes per second, at least 1K, such as 500K or 2M";
        if (*value && (parse_size(value, &rate) < 0 || rate < 1024))
                return -EINVAL;
        *(uint64_t *)field = rate;
        return 0;
}

static int set_daily(struct config *c, const char *value, void *field, const char **expected)
{
        *expected = "a number from 0 to 3";
        return set_number(value, 0, AUTO_ROLLBACK_MEMORY - 1, field);
}

static int set_max_connections(struct config *c, const char *value, void *field, const char **expected)
{
        *expected = "a number from 16 to 65536";
        return set_number(value, 16, 65536, field);
}

/* 192.0.2.1:8443, [2001:db8::1]:8443, *:8443 */
static int set_listen(struct config *c, const char *value, void *field, const char **expected)
{
        const char *colon = strrchr(value, ':');
        uint32_t port;

        *expected = "an address and a port, such as 192.0.2.1:8443, [2001:db8::1]:8443 or *:8443";
        if (*value && (!colon || colon == value || parse_u32(colon + 1, &port) < 0 || port > UINT16_MAX))
                return -EINVAL;
        return set_string(c, value, field, expected);
}

static void free_list(char **list)
{
        for (char **s = list; s && *s; s++)
                free(*s);
        free(list);
}

/* Words separated by blanks; at most LIST_MAX. */
static int split(const char *value, char ***ret)
{
        _cleanup_free_ char *copy = strdup(value);
        char **list = calloc(LIST_MAX + 1, sizeof(char *)), *cursor = copy, *word;
        size_t n = 0;

        if (!copy || !list)
                goto fail;
        while ((word = strsep(&cursor, " \t\n"))) {
                if (!*word)
                        continue;
                if (n == LIST_MAX || !(list[n] = strdup(word)))
                        goto fail;
                n++;
        }
        *ret = list;
        return 0;
fail:
        free_list(list);
        return -E2BIG;
}

static int set_list(const char *value, void *field, bool (*fits)(const char *word))
{
        char **list, ***to = field;
        int r = split(value, &list);

        if (r < 0)
                return r;
        for (char **s = list; *s; s++)
                if (!fits(*s)) {
                        free_list(list);
                        return -EINVAL;
                }
        free_list(*to);
        *to = list;
        return 0;
}

static bool is_absolute(const char *word)
{
        return *word == '/';
}

static int set_paths(struct config *c, const char *value, void *field, const char **expected)
{
        *expected = "absolute paths separated by blanks";
        return set_list(value, field, is_absolute);
}

static int set_role(struct config *c, const char *value, void *field, const char **expected)
{
        *expected = "standalone, controller or engine";
        return streq(value, "standalone") || streq(value, "controller") || streq(value, "engine")
                       ? set_string(c, value, field, expected)
                       : -EINVAL;
}

#define NAME_CHARACTERS "abcdefghijklmnopqrstuvwxyz0123456789.-"

/* As it stands in certificates and keys of the store. */
static int set_node_name(struct config *c, const char *value, void *field, const char **expected)
{
        *expected = "the name of a node: at most 63 of a-z, 0-9, dot and hyphen";
        return strlen(value) <= 63 && strspn(value, NAME_CHARACTERS) == strlen(value) ? set_string(c, value, field, expected)
                                                                                      : -EINVAL;
}

static bool is_host(const char *word)
{
        return strspn(word, NAME_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZ:[]") == strlen(word);
}

static int set_hosts(struct config *c, const char *value, void *field, const char **expected)
{
        *expected = "hosts such as 10.0.0.1:7443 or [2001:db8::1], separated by blanks";
        return set_list(value, field, is_host);
}

static bool is_url(const char *word)
{
        return startswith(word, "http://") || startswith(word, "https://");
}

static int set_mirrors(struct config *c, const char *value, void *field, const char **expected)
{
        *expected = "URLs of directories, with http:// or https://, separated by blanks";
        return set_list(value, field, is_url);
}

static int set_state(struct config *c, const char *value, void *field, const char **expected)
{
        char **list, **to = field;
        size_t n = 0;
        int r = split(value, &list);

        *expected = "one device, or two files, as absolute paths";
        if (r < 0)
                return r;
        while (list[n] && list[n][0] == '/')
                n++;
        if (list[n] || n > 2) {
                free_list(list);
                return -EINVAL;
        }
        for (size_t i = 0; i < 2; i++) {
                free(to[i]);
                to[i] = i < n ? list[i] : NULL;
        }
        free(list);
        return 0;
}

static int set_slots(struct config *c, const char *value, void *field, const char **expected)
{
        char **list, **to = field;
        int r = split(value, &list);

        *expected = "words such as a:/dev/disk/by-partuuid/…, each slot once";
        if (r < 0)
                return r;
        for (int i = 0; i < SLOT_MAX; i++)
                free(TAKE_PTR(to[i]));
        for (char **s = list; r >= 0 && *s; s++) {
                char name[2] = { **s };
                int slot = slot_from_name(name);

                if (slot == SLOT_NONE || (*s)[1] != ':' || (*s)[2] != '/' || to[slot])
                        r = -EINVAL;
                else if (!(to[slot] = strdup(*s + 2)))
                        r = -ENOMEM;
        }
        free_list(list);
        return r;
}

#define FIELD(f) offsetof(struct config, f)
static const struct key {
        const char *group, *name;
        setter set;
        size_t field;
} keys[] = {
        { "System", "Compatible", set_string, FIELD(compatible) },
        { "System", "RollbackMinVersion", set_version, FIELD(rollback_min_version) },
        { "Storage", "Disk", set_optional_path, FIELD(disk) },
        { "Storage", "Esp", set_optional_path, FIELD(esp) },
        { "Storage", "State", set_state, FIELD(state) },
        { "Storage", "DataDirectory", set_path, FIELD(data) },
        { "Storage", "Slots", set_slots, FIELD(slot_device) },
        { "Storage", "EtcOverlay", set_bool, FIELD(etc_overlay) },
        { "Boot", "Loader", set_loader, FIELD(loader) },
        { "Boot", "KernelCommandLine", set_string, FIELD(cmdline) },
        { "Boot", "Tries", set_tries, FIELD(tries) },
        { "Configuration", "CarriedPaths", set_paths, FIELD(carried) },
        { "Configuration", "SharedPaths", set_paths, FIELD(shared) },
        { "Configuration", "HookTimeoutSec", set_time, FIELD(hook_timeout) },
        { "Fetch", "Mirrors", set_mirrors, FIELD(fetch.mirrors) },
        { "Fetch", "Connections", set_connections, FIELD(fetch.connections) },
        { "Fetch", "RateLimit", set_rate, FIELD(fetch.rate_limit) },
        { "Fetch", "RetrySec", set_time, FIELD(fetch.retry) },
        { "Fetch", "Proxy", set_string, FIELD(fetch.proxy) },
        { "Fetch", "CaCertificate", set_optional_path, FIELD(fetch.ca_certificate) },
        { "Fetch", "ClientCertificate", set_optional_path, FIELD(fetch.certificate) },
        { "Fetch", "ClientKey", set_optional_path, FIELD(fetch.key) },
        { "Fetch", "HeaderFile", set_optional_path, FIELD(fetch.header_file) },
        { "Trust", "Directory", set_path, FIELD(trust_directory) },
        { "Trust", "Threshold", set_threshold, FIELD(trust_threshold) },
        { "Health", "DeadlineSec", set_time, FIELD(health_deadline) },
        { "Health", "CheckTimeoutSec", set_time, FIELD(health_timeout) },
        { "API", "Listen", set_listen, FIELD(api_listen) },
        { "API", "Certificate", set_path, FIELD(api_certificate) },
        { "API", "Key", set_path, FIELD(api_key) },
        { "API", "ClientCA", set_optional_path, FIELD(api_client_ca) },
        { "API", "Tokens", set_path, FIELD(api_tokens) },
        { "API", "MaxConnections", set_max_connections, FIELD(api_max_connections) },
        { "Rollback", "MaxAutomaticPerDay", set_daily, FIELD(max_auto_rollbacks) },
        { "Cluster", "Role", set_role, FIELD(cluster_role) },
        { "Cluster", "Name", set_node_name, FIELD(cluster_name) },
        { "Cluster", "Controllers", set_hosts, FIELD(controllers) },
};

static int set_defaults(struct config *c)
{
        *c = (struct config){
                .data = strdup("/data/bootmgr"),
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
                .api_certificate = strdup("/data/bootmgr/cluster/node.pem"),
                .api_key = strdup("/data/bootmgr/cluster/node.key"),
                .api_tokens = strdup(SYSTEM_DIRECTORY "/tokens"),
                .api_max_connections = 512,
                .max_auto_rollbacks = 3,
                .cluster_role = strdup("standalone"),
        };
        if (split("/etc", &c->carried) < 0 || split("", &c->shared) < 0 || split("", &c->controllers) < 0 || !c->data ||
            !c->cluster_role || !c->loader || !c->cmdline || !c->trust_directory || !c->api_certificate || !c->api_key ||
            !c->api_tokens)
                return -ENOMEM;
        return 0;
}

static const struct key *find_key(const char *group, const char *name)
{
        for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
                if (group && streq(keys[i].name, name) && streq(keys[i].group, group))
                        return &keys[i];
        return NULL;
}

static int apply(struct config *c, econf_file *file, const char *where, const char *group, const char *name, struct error *e)
{
        const struct key *key = find_key(group, name);
        const char *expected = "another value";
        _cleanup_free_ char *value = NULL;
        int r;

        if (!key) {
                log_warning("%s: the key %s= in [%s] is not known", where, name, group ?: "");
                return 0;
        }
        if (econf_getStringValue(file, group, name, &value) != ECONF_SUCCESS)
                return 0; /* a key without a value: the default */
        r = key->set(c, value ?: "", (char *)c + key->field, &expected);
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
        free_list(c->carried);
        free_list(c->shared);
        free_list(c->fetch.mirrors);
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
        free_list(c->controllers);
        *c = (struct config){};
}
