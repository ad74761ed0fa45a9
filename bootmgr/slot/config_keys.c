/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "slot/config_keys.h"

#include "base/clock.h"
#include "base/parse.h"
#include "base/version.h"
#include "slot/config.h"

#define LIST_MAX 64

static int set_string(const char *value, void *field, const char **expected)
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

static int set_path(const char *value, void *field, const char **expected)
{
        *expected = "an absolute path";
        return *value == '/' && !strchr(value, '\n') ? set_string(value, field, expected) : -EINVAL;
}

/* Without a value: found, as when the key is not there. */
static int set_optional_path(const char *value, void *field, const char **expected)
{
        return *value ? set_path(value, field, expected) : set_string(value, field, expected);
}

static int set_version(const char *value, void *field, const char **expected)
{
        *expected = "a version";
        return !*value || version_valid(value) ? set_string(value, field, expected) : -EINVAL;
}

static int set_loader(const char *value, void *field, const char **expected)
{
        *expected = "systemd-boot or none";
        return streq(value, "systemd-boot") || streq(value, "none") ? set_string(value, field, expected) : -EINVAL;
}

static int set_bool(const char *value, void *field, const char **expected)
{
        *expected = "yes or no";
        return parse_bool(value, field);
}

static int set_time(const char *value, void *field, const char **expected)
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

static int set_tries(const char *value, void *field, const char **expected)
{
        *expected = "a number from 1 to 9";
        return set_number(value, 1, SLOT_MAX_TRIES, field);
}

static int set_threshold(const char *value, void *field, const char **expected)
{
        *expected = "a number from 1 to 16";
        return set_number(value, 1, 16, field);
}

static int set_connections(const char *value, void *field, const char **expected)
{
        *expected = "a number from 1 to 16";
        return set_number(value, 1, FETCH_CONNECTIONS_MAX, field);
}

static int set_rate(const char *value, void *field, const char **expected)
{
        uint64_t rate = 0;

        *expected = "bytes per second, at least 1K, such as 500K or 2M";
        if (*value && (parse_size(value, &rate) < 0 || rate < 1024))
                return -EINVAL;
        *(uint64_t *)field = rate;
        return 0;
}

static int set_daily(const char *value, void *field, const char **expected)
{
        *expected = "a number from 0 to 3";
        return set_number(value, 0, AUTO_ROLLBACK_MEMORY - 1, field);
}

static int set_max_connections(const char *value, void *field, const char **expected)
{
        *expected = "a number from 16 to 65536";
        return set_number(value, 16, 65536, field);
}

/* 192.0.2.1:8443, [2001:db8::1]:8443, *:8443 */
static int set_listen(const char *value, void *field, const char **expected)
{
        const char *colon = strrchr(value, ':');
        uint32_t port;

        *expected = "an address and a port, such as 192.0.2.1:8443, [2001:db8::1]:8443 or *:8443";
        if (*value && (!colon || colon == value || parse_u32(colon + 1, &port) < 0 || port > UINT16_MAX))
                return -EINVAL;
        return set_string(value, field, expected);
}

void config_list_free(char **list)
{
        for (char **s = list; s && *s; s++)
                free(*s);
        free(list);
}

int config_list_split(const char *value, char ***ret)
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
        config_list_free(list);
        return -E2BIG;
}

static int set_list(const char *value, void *field, bool (*fits)(const char *word))
{
        char **list, ***to = field;
        int r = config_list_split(value, &list);

        if (r < 0)
                return r;
        for (char **s = list; *s; s++)
                if (!fits(*s)) {
                        config_list_free(list);
                        return -EINVAL;
                }
        config_list_free(*to);
        *to = list;
        return 0;
}

static bool is_absolute(const char *word)
{
        return *word == '/';
}

static int set_paths(const char *value, void *field, const char **expected)
{
        *expected = "absolute paths separated by blanks";
        return set_list(value, field, is_absolute);
}

static int set_role(const char *value, void *field, const char **expected)
{
        *expected = "standalone, controller or engine";
        return streq(value, "standalone") || streq(value, "controller") || streq(value, "engine")
                       ? set_string(value, field, expected)
                       : -EINVAL;
}

#define NAME_CHARACTERS "abcdefghijklmnopqrstuvwxyz0123456789.-"

/* As it stands in certificates and keys of the store. */
static int set_node_name(const char *value, void *field, const char **expected)
{
        *expected = "the name of a node: at most 63 of a-z, 0-9, dot and hyphen";
        return strlen(value) <= 63 && strspn(value, NAME_CHARACTERS) == strlen(value) ? set_string(value, field, expected)
                                                                                      : -EINVAL;
}

static bool is_host(const char *word)
{
        return strspn(word, NAME_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZ:[]") == strlen(word);
}

static int set_hosts(const char *value, void *field, const char **expected)
{
        *expected = "hosts such as 10.0.0.1:7443 or [2001:db8::1], separated by blanks";
        return set_list(value, field, is_host);
}

static bool is_url(const char *word)
{
        return startswith(word, "http://") || startswith(word, "https://");
}

static int set_mirrors(const char *value, void *field, const char **expected)
{
        *expected = "URLs of directories, with http:// or https://, separated by blanks";
        return set_list(value, field, is_url);
}

static int set_state(const char *value, void *field, const char **expected)
{
        char **list, **to = field;
        size_t n = 0;
        int r = config_list_split(value, &list);

        *expected = "one device, or two files, as absolute paths";
        if (r < 0)
                return r;
        while (list[n] && list[n][0] == '/')
                n++;
        if (list[n] || n > 2) {
                config_list_free(list);
                return -EINVAL;
        }
        for (size_t i = 0; i < 2; i++) {
                free(to[i]);
                to[i] = i < n ? list[i] : NULL;
        }
        free(list);
        return 0;
}

static int set_slots(const char *value, void *field, const char **expected)
{
        char **list, **to = field;
        int r = config_list_split(value, &list);

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
        config_list_free(list);
        return r;
}

#define FIELD(f) offsetof(struct config, f)
static const struct config_key keys[] = {
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

const struct config_key *config_key_find(const char *group, const char *name)
{
        for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
                if (group && streq(keys[i].name, name) && streq(keys[i].group, group))
                        return &keys[i];
        return NULL;
}
