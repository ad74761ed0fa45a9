/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* bootmgr.conf: every key, the defaults, drop-ins, and errors that name file, key and value. */
#include "slot/config.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/file.h"
#include "slot/kinds.h"

#include <check.h>
#include "suite.h"
#undef fail

static char dir[] = "/tmp/test-config.XXXXXX";
static char file[sizeof(dir) + 16];

static void set_up(void)
{
        strcpy(strrchr(dir, '.'), ".XXXXXX"); /* each test has its own */
        ck_assert_ptr_nonnull(mkdtemp(dir));
        snprintf(file, sizeof(file), "%s/conf", dir);
}

static void tear_down(void)
{
        ck_assert_int_eq(remove_tree(AT_FDCWD, dir), 0);
}

static void write_file(const char *name, const char *text)
{
        int fd = dir_open(AT_FDCWD, dir);
        const char *slash = strrchr(name, '/');

        if (slash) {
                char *parent = strndup(name, (size_t)(slash - name));

                ck_assert_int_eq(mkdir_parents(fd, parent, 0755), 0);
                free(parent);
        }
        ck_assert_int_eq(file_replace_volatile(fd, name, text, strlen(text), 0644), 0);
        fd_close(fd);
}

static void load(const char *text, struct config *c)
{
        struct error e = {};

        write_file("conf", text);
        ck_assert_msg(config_load(file, c, &e) == 0, "%s", e.message);
}

static void load_places(struct config *c)
{
        char vendor[sizeof(dir) + 8], system[sizeof(dir) + 8];
        struct error e = {};

        snprintf(vendor, sizeof(vendor), "%s/usr", dir);
        snprintf(system, sizeof(system), "%s/etc", dir);
        ck_assert_msg(config_load_from(vendor, system, c, &e) == 0, "%s", e.message);
}

static void check_defaults(const struct config *c)
{
        ck_assert_ptr_null(c->compatible);
        ck_assert_ptr_null(c->rollback_min_version);
        ck_assert_ptr_null(c->disk);
        ck_assert_ptr_null(c->esp);
        ck_assert_ptr_null(c->state[0]);
        ck_assert_ptr_null(c->state[1]);
        ck_assert_str_eq(c->data, "/data/bootmgr");
        for (int i = 0; i < SLOT_MAX; i++)
                ck_assert_ptr_null(c->slot_device[i]);
        ck_assert(c->etc_overlay);
        ck_assert_str_eq(c->loader, "systemd-boot");
        ck_assert_str_eq(c->cmdline, "");
        ck_assert_uint_eq(c->tries, 3);
        ck_assert_str_eq(c->carried[0], "/etc");
        ck_assert_ptr_null(c->carried[1]);
        ck_assert_ptr_null(c->shared[0]);
        ck_assert_uint_eq(c->hook_timeout, 60 * USEC_PER_SEC);
        ck_assert_ptr_null(c->fetch.mirrors);
        ck_assert_uint_eq(c->fetch.connections, 0);
        ck_assert_uint_eq(c->fetch.rate_limit, 0);
        ck_assert_uint_eq(c->fetch.retry, 300 * USEC_PER_SEC);
        ck_assert_ptr_null(c->fetch.proxy);
        ck_assert_ptr_null(c->fetch.ca_certificate);
        ck_assert_ptr_null(c->fetch.certificate);
        ck_assert_ptr_null(c->fetch.key);
        ck_assert_ptr_null(c->fetch.header_file);
        ck_assert_str_eq(c->trust_directory, "/etc/bootmgr/trust.d");
        ck_assert_uint_eq(c->trust_threshold, 1);
        ck_assert_uint_eq(c->health_deadline, 300 * USEC_PER_SEC);
        ck_assert_uint_eq(c->health_timeout, 60 * USEC_PER_SEC);
        ck_assert_ptr_null(c->api_listen);
        ck_assert_str_eq(c->api_certificate, "/data/bootmgr/cluster/node.pem");
        ck_assert_str_eq(c->api_key, "/data/bootmgr/cluster/node.key");
        ck_assert_ptr_null(c->api_client_ca);
        ck_assert_str_eq(c->api_tokens, "/etc/bootmgr/tokens");
        ck_assert_uint_eq(c->api_max_connections, 24576);
        ck_assert_uint_eq(c->max_auto_rollbacks, 3);
        ck_assert_str_eq(c->cluster_role, "standalone");
        ck_assert_ptr_null(c->cluster_name);
        ck_assert_ptr_null(c->controllers[0]);
}

START_TEST(defaults)
{
        struct config c;

        load("", &c);
        check_defaults(&c);
        config_done(&c);
        load("# nothing\n[Boot]\n", &c);
        check_defaults(&c);
        config_done(&c);
        load_places(&c); /* neither directory is there */
        check_defaults(&c);
        config_done(&c);
        ck_assert_ptr_null(c.data);
}
END_TEST

/* What says nothing says that the default holds. */
START_TEST(empty_values)
{
        struct config c;

        load("[System]\nCompatible=\nRollbackMinVersion=\n[Storage]\nDisk=\nEsp=\nState=\nSlots=\n[Boot]\nKernelCommandLine="
             "\n"
             "[Configuration]\nSharedPaths=\n",
             &c);
        check_defaults(&c);
        config_done(&c);
        load("[Configuration]\nCarriedPaths=\n", &c);
        ck_assert_ptr_null(c.carried[0]);
        config_done(&c);
}
END_TEST

START_TEST(every_key)
{
        struct config c;

        load("[System]\nCompatible=acme box\nRollbackMinVersion=16.2\n"
             "[Storage]\nDisk=/dev/sda\nEsp=/efi\nState=/one /two\nDataDirectory=/var/bootmgr\nSlots=a:/dev/x  "
             "h:/dev/y\nEtcOverlay=no\n"
             "[Boot]\nLoader=none\nKernelCommandLine=console=ttyS0,115200 quiet\nTries=9\n"
             "[Configuration]\nCarriedPaths=/etc /opt/etc\nSharedPaths=/data/a\n  /data/b\nHookTimeoutSec=5min\n"
             "[Fetch]\nMirrors=http://one/a "
             "https://two/b/\nConnections=9\nRateLimit=2M\nRetrySec=1h\nProxy=http://proxy:3128\n"
             "CaCertificate=/ca\nClientCertificate=/cert\nClientKey=/key\nHeaderFile=/headers\n"
             "[Trust]\nDirectory=/keys\nThreshold=2\n[Health]\nDeadlineSec=90\nCheckTimeoutSec=1500ms\n"
             "[API]\nListen=*:8443\nCertificate=/c\nKey=/k\nClientCA=/ca\nTokens=/t\nMaxConnections=16\n"
             "[Rollback]\nMaxAutomaticPerDay=0\n"
             "[Cluster]\nRole=engine\nName=n-1.example\nControllers=10.0.0.1 c2:7443 [2001:db8::1]:7443\n",
             &c);
        ck_assert_str_eq(c.compatible, "acme box");
        ck_assert_str_eq(c.rollback_min_version, "16.2");
        ck_assert_str_eq(c.disk, "/dev/sda");
        ck_assert_str_eq(c.esp, "/efi");
        ck_assert_str_eq(c.state[0], "/one");
        ck_assert_str_eq(c.state[1], "/two");
        ck_assert_str_eq(c.data, "/var/bootmgr");
        ck_assert_str_eq(c.slot_device[0], "/dev/x");
        ck_assert_ptr_null(c.slot_device[1]);
        ck_assert_str_eq(c.slot_device[7], "/dev/y");
        ck_assert(!c.etc_overlay);
        ck_assert_str_eq(c.loader, "none");
        ck_assert_str_eq(c.cmdline, "console=ttyS0,115200 quiet");
        ck_assert_uint_eq(c.tries, 9);
        ck_assert_str_eq(c.carried[1], "/opt/etc");
        ck_assert_ptr_null(c.carried[2]);
        ck_assert_str_eq(c.shared[0], "/data/a");
        ck_assert_str_eq(c.shared[1], "/data/b");
        ck_assert_ptr_null(c.shared[2]);
        ck_assert_uint_eq(c.hook_timeout, 300 * USEC_PER_SEC);
        ck_assert_str_eq(c.fetch.mirrors[0], "http://one/a");
        ck_assert_str_eq(c.fetch.mirrors[1], "https://two/b/");
        ck_assert_ptr_null(c.fetch.mirrors[2]);
        ck_assert_uint_eq(c.fetch.connections, 9);
        ck_assert_uint_eq(c.fetch.rate_limit, MIB(2));
        ck_assert_uint_eq(c.fetch.retry, 3600 * USEC_PER_SEC);
        ck_assert_str_eq(c.fetch.proxy, "http://proxy:3128");
        ck_assert_str_eq(c.fetch.ca_certificate, "/ca");
        ck_assert_str_eq(c.fetch.certificate, "/cert");
        ck_assert_str_eq(c.fetch.key, "/key");
        ck_assert_str_eq(c.fetch.header_file, "/headers");
        ck_assert_str_eq(c.trust_directory, "/keys");
        ck_assert_uint_eq(c.trust_threshold, 2);
        ck_assert_uint_eq(c.health_deadline, 90 * USEC_PER_SEC);
        ck_assert_uint_eq(c.health_timeout, 1500 * USEC_PER_MSEC);
        ck_assert_str_eq(c.api_listen, "*:8443");
        ck_assert_str_eq(c.api_certificate, "/c");
        ck_assert_str_eq(c.api_key, "/k");
        ck_assert_str_eq(c.api_client_ca, "/ca");
        ck_assert_str_eq(c.api_tokens, "/t");
        ck_assert_uint_eq(c.api_max_connections, 16);
        ck_assert_uint_eq(c.max_auto_rollbacks, 0);
        ck_assert_str_eq(c.cluster_role, "engine");
        ck_assert_str_eq(c.cluster_name, "n-1.example");
        ck_assert_str_eq(c.controllers[0], "10.0.0.1");
        ck_assert_str_eq(c.controllers[2], "[2001:db8::1]:7443");
        ck_assert_ptr_null(c.controllers[3]);
        config_done(&c);
}
END_TEST

static const struct {
        const char *group, *key, *value;
} bad[] = {
        { "System", "RollbackMinVersion", "one two" },
        { "Storage", "Disk", "sda" },
        { "Storage", "Esp", "boot" },
        { "Storage", "State", "/a /b /c" },
        { "Storage", "State", "/a b" },
        { "Storage", "DataDirectory", "data" },
        { "Storage", "DataDirectory", "" },
        { "Storage", "Slots", "i:/dev/x" },
        { "Storage", "Slots", "/dev/x" },
        { "Storage", "Slots", "a:x" },
        { "Storage", "Slots", "a:/x a:/y" },
        { "Storage", "EtcOverlay", "perhaps" },
        { "Boot", "Loader", "grub" },
        { "Boot", "Loader", "" },
        { "Boot", "Tries", "0" },
        { "Boot", "Tries", "10" },
        { "Boot", "Tries", "-1" },
        { "Boot", "Tries", "3x" },
        { "Boot", "KernelCommandLine", "quiet\nsplash" },
        { "Configuration", "CarriedPaths", "/etc opt" },
        { "Configuration", "SharedPaths", "x" },
        { "Configuration", "HookTimeoutSec", "soon" },
        { "Configuration", "HookTimeoutSec", "0" },
        { "Trust", "Directory", "keys" },
        { "Fetch", "Mirrors", "ftp://server/" },
        { "Fetch", "Mirrors", "https://one/ two" },
        { "Fetch", "Connections", "0" },
        { "Fetch", "Connections", "17" },
        { "Fetch", "RateLimit", "1023" },
        { "Fetch", "RateLimit", "fast" },
        { "Fetch", "RetrySec", "0" },
        { "Fetch", "ClientKey", "key.pem" },
        { "Fetch", "HeaderFile", "headers" },
        { "Trust", "Threshold", "0" },
        { "Trust", "Threshold", "17" },
        { "Health", "DeadlineSec", "999ms" },
        { "Health", "CheckTimeoutSec", "-5" },
        { "API", "Listen", "8443" },
        { "API", "Listen", "*:65536" },
        { "API", "Listen", "*:" },
        { "API", "Key", "key" },
        { "API", "MaxConnections", "15" },
        { "Rollback", "MaxAutomaticPerDay", "4" },
        { "Cluster", "Role", "leader" },
        { "Cluster", "Role", "" },
        { "Cluster", "Name", "Node_1" },
        { "Cluster", "Controllers", "10.0.0.1/x" },
};

START_TEST(bad_values_are_named)
{
        struct config c = { .tries = 77 };
        struct error e = {};
        char text[256], said[256];

        snprintf(text, sizeof(text), "[%s]\n%s=%s\n", bad[_i].group, bad[_i].key, bad[_i].value);
        write_file("conf", text);
        ck_assert_int_lt(config_load(file, &c, &e), 0);
        ck_assert_ptr_eq(e.kind, &kind_config_invalid);
        snprintf(said, sizeof(said), "[%s] %s=%s is not ", bad[_i].group, bad[_i].key, bad[_i].value);
        ck_assert_msg(strstr(e.message, said) && startswith(e.message, file), "%s", e.message);
        ck_assert_ptr_nonnull(e.hint);
        ck_assert_uint_eq(c.tries, 77); /* untouched */
        error_done(&e);
}
END_TEST

START_TEST(too_many_words)
{
        char text[512] = "[Configuration]\nCarriedPaths=";
        struct config c;

        for (int i = 0; i < 65; i++)
                strcat(text, "/x ");
        write_file("conf", text);
        ck_assert_int_eq(config_load(file, &c, NULL), -E2BIG);
        *strrchr(text, '/') = '\0';
        load(text, &c);
        ck_assert_str_eq(c.carried[63], "/x");
        ck_assert_ptr_null(c.carried[64]);
        config_done(&c);
}
END_TEST

START_TEST(not_a_configuration)
{
        struct config c;
        struct error e = {};

        ck_assert_int_eq(config_load(file, &c, &e), -ENOENT);
        ck_assert_msg(strstr(e.message, file), "%s", e.message);
        error_done(&e);
        write_file("conf", "[Boot]\nTries=1\n[Boot\n");
        ck_assert_int_eq(config_load(file, &c, &e), -EINVAL);
        ck_assert_msg(strstr(e.message, file) && strstr(e.message, "line 3"), "%s", e.message);
        ck_assert_ptr_eq(e.kind, &kind_config_invalid);
        error_done(&e);
}
END_TEST

/* libeconf would wait for a pipe, and read whatever comes. */
START_TEST(not_a_file_of_some_size)
{
        struct config c;
        struct error e = {};

        unlink(file);
        if (_i == 0)
                ck_assert_int_eq(mkfifo(file, 0600), 0);
        else if (_i == 1)
                ck_assert_int_eq(symlink("/dev/zero", file), 0);
        else
                write_file("conf", "[Boot]\n");
        if (_i == 2)
                ck_assert_int_eq(truncate(file, 256 * 1024 + 1), 0);
        ck_assert_int_eq(config_load(file, &c, &e), -EINVAL);
        ck_assert_msg(strstr(e.message, "256 KiB"), "%s", e.message);
        error_done(&e);
}
END_TEST

/* What the program says on stderr while it loads the file. */
static char *warnings_of(const char *text)
{
        FILE *f = tmpfile();
        int saved = dup(STDERR_FILENO);
        struct config c;
        char *said = calloc(1, 4096);

        ck_assert_ptr_nonnull(f);
        dup2(fileno(f), STDERR_FILENO);
        load(text, &c);
        dup2(saved, STDERR_FILENO);
        fd_close(saved);
        config_done(&c);
        rewind(f);
        ck_assert_int_ge((int)fread(said, 1, 4095, f), 0);
        fclose(f);
        return said;
}

START_TEST(unknown_keys_are_warned_about)
{
        static const struct {
                const char *text, *key, *group;
        } cases[] = {
                { "[Boot]\nTryes=1\nTries=2\n", "Tryes=", "[Boot]" },
                { "[Booot]\nTries=1\n", "Tries=", "[Booot]" },
                { "[Boot]\nDisk=/dev/sda\n", "Disk=", "[Boot]" },
                { "Tries=1\n", "Tries=", "[]" },
        };
        char *said = warnings_of(cases[_i].text);

        ck_assert_msg(strstr(said, file) && strstr(said, cases[_i].key) && strstr(said, cases[_i].group), "%s", said);
        ck_assert_ptr_eq(strchr(said, '\n'), strrchr(said, '\n')); /* one line, so the known key is not warned about */
        free(said);
        said = warnings_of("[Boot]\nTries=2\n");
        ck_assert_str_eq(said, "");
        free(said);
}
END_TEST

START_TEST(drop_ins)
{
        struct config c;

        write_file("usr/bootmgr.conf", "[Boot]\nTries=1\n[System]\nCompatible=vendor\n");
        load_places(&c);
        ck_assert_uint_eq(c.tries, 1);
        ck_assert_str_eq(c.compatible, "vendor");
        config_done(&c);
        write_file("etc/bootmgr.conf", "[Boot]\nTries=2\n");
        load_places(&c);
        ck_assert_uint_eq(c.tries, 2);
        ck_assert_ptr_null(c.compatible); /* the system's file stands for the vendor's */
        config_done(&c);
        write_file("usr/bootmgr.conf.d/50-v.conf", "[Boot]\nTries=5\nLoader=none\n[Configuration]\nSharedPaths=/v\n");
        write_file("etc/bootmgr.conf.d/20-s.conf", "[Boot]\nTries=4\n[Configuration]\nSharedPaths=/s /t\n");
        write_file("etc/bootmgr.conf.d/90-s.conf~", "[Boot]\nTries=9\n");
        write_file("etc/bootmgr.conf.d/.hidden.conf", "[Boot]\nTries=9\n");
        load_places(&c);
        ck_assert_uint_eq(c.tries, 5); /* by name, whichever directory */
        ck_assert_str_eq(c.shared[0], "/v");
        ck_assert_ptr_null(c.shared[1]);
        config_done(&c);
        write_file("etc/bootmgr.conf.d/50-v.conf", "[Boot]\nTries=6\n");
        load_places(&c);
        ck_assert_uint_eq(c.tries, 6);
        ck_assert_str_eq(c.loader, "systemd-boot"); /* the vendor's namesake is hidden */
        ck_assert_str_eq(c.shared[1], "/t");
        config_done(&c);
        write_file("etc/bootmgr.conf.d/60.conf", "[Storage]\nDisk=/dev/sda\n");
        write_file("etc/bootmgr.conf.d/70.conf", "[Storage]\nDisk=\n");
        load_places(&c);
        ck_assert_ptr_null(c.disk);
        config_done(&c);
}
END_TEST

START_TEST(errors_name_the_drop_in)
{
        char vendor[sizeof(dir) + 8], system[sizeof(dir) + 8];
        struct config c;
        struct error e = {};

        snprintf(vendor, sizeof(vendor), "%s/usr", dir);
        snprintf(system, sizeof(system), "%s/etc", dir);
        write_file("etc/bootmgr.conf", "[Boot]\nTries=2\n");
        write_file("usr/bootmgr.conf.d/50-v.conf", "[Boot]\nTries=many\n");
        ck_assert_int_lt(config_load_from(vendor, system, &c, &e), 0);
        ck_assert_msg(strstr(e.message, "/usr/bootmgr.conf.d/50-v.conf: [Boot] Tries=many"), "%s", e.message);
        error_done(&e);
        write_file("usr/bootmgr.conf.d/50-v.conf", "[Boot\n");
        ck_assert_int_lt(config_load_from(vendor, system, &c, &e), 0);
        ck_assert_msg(strstr(e.message, "50-v.conf"), "%s", e.message);
        error_done(&e);
        write_file("usr/bootmgr.conf.d/50-v.conf", "");
        write_file("etc/bootmgr.conf.d", "not a directory");
        ck_assert_int_lt(config_load_from(vendor, system, &c, &e), 0);
        ck_assert_msg(strstr(e.message, "/etc/bootmgr.conf.d"), "%s", e.message);
        error_done(&e);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("config");
        TCase *t = tcase_create("config");

        tcase_add_checked_fixture(t, set_up, tear_down);
        tcase_add_test(t, defaults);
        tcase_add_test(t, empty_values);
        tcase_add_test(t, every_key);
        tcase_add_loop_test(t, bad_values_are_named, 0, (int)ARRAY_SIZE(bad));
        tcase_add_test(t, too_many_words);
        tcase_add_test(t, not_a_configuration);
        tcase_add_loop_test(t, not_a_file_of_some_size, 0, 3);
        tcase_add_loop_test(t, unknown_keys_are_warned_about, 0, 4);
        tcase_add_test(t, drop_ins);
        tcase_add_test(t, errors_name_the_drop_in);
        suite_add_tcase(s, t);
        return suite_run(s);
}
