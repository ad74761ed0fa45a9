/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cluster/home.h"

#include <fcntl.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/io.h"
#include "slot/kinds.h"

#define DIRECTORY CLUSTER_HOME

int cluster_must_control(const char *data, struct error *e)
{
        if (cluster_role(data) == ROLE_CONTROLLER)
                return 0;
        fail(e, -ENOENT, &kind_usage, "this machine is no controller");
        return fail_hint(e, "'bootmgr cluster init' makes it one");
}

/* The first line of a file. */
static int get_line(int home, const char *name, char *ret, size_t size, struct error *e)
{
        _cleanup_free_ char *text = NULL;
        int r = cluster_get(home, name, &text, e);

        if (r < 0)
                return r;
        text[strcspn(text, "\n")] = '\0';
        if (strlen(text) >= size)
                return fail(e, -EINVAL, NULL, DIRECTORY "/%s has a line of more than %zu bytes", name, size - 1);
        strcpy(ret, text);
        return 0;
}

int cluster_self(const char *data, struct member *ret, struct error *e)
{
        _cleanup_close_ int home = cluster_home(data, false, e);
        _cleanup_free_ char *ca = NULL, *certificate = NULL;
        struct member self = {};
        struct certificate c = {};
        int r = home;

        if (r >= 0)
                r = cluster_get(home, "ca.pem", &ca, e);
        if (r >= 0)
                r = cluster_get(home, "node.pem", &certificate, e);
        if (r >= 0)
                r = certificate_verify(ca, certificate, now_realtime(), &c, e);
        if (r >= 0)
                r = certificate_key_digest(certificate, self.key, e);
        if (r >= 0 && c.role == ROLE_CONTROLLER)
                r = get_line(home, "address", self.address, sizeof(self.address), e);
        if (r < 0)
                return r;
        self.role = c.role;
        strcpy(self.name, c.name);
        *ret = self;
        return 0;
}

int cluster_clear(int home, struct error *e)
{
        static const char *const files[] = { "learner",      "address",      "ca.key",          "node.pem", "store.pem",
                                             "store-ca.key", "store-ca.pem", "store.endpoints", "journal" };
        int r;

        for (size_t i = 0; i < ARRAY_SIZE(files); i++)
                if ((r = cluster_drop(home, files[i], e)) < 0)
                        return r;
        r = remove_tree(home, "etcd");
        return r < 0 ? fail_errno(e, r, "cannot remove " DIRECTORY "/etcd") : 0;
}

/* A CA and what it issues to this controller, under the four names. */
static int make_identity(int home, const struct cluster_setup *setup, const char *cluster, const char *const names[static 4],
                         uint64_t now, struct error *e)
{
        _cleanup_pem_ char *ca_key = NULL, *key = NULL;
        _cleanup_free_ char *ca = NULL, *csr = NULL, *certificate = NULL;
        int r = ca_make(cluster, now, &ca_key, &ca, e);

        if (r >= 0)
                r = key_make(&key, e);
        if (r >= 0)
                r = csr_make(key, setup->name, &csr, e);
        if (r >= 0)
                r = ca_issue(ca_key, ca, csr, setup->name, ROLE_CONTROLLER, setup->addresses, now, &certificate, e);
        if (r < 0)
                return r;
        const char *const texts[] = { ca_key, ca, key, certificate };
        for (size_t i = 0; i < ARRAY_SIZE(texts) && r >= 0; i++)
                r = cluster_put(home, names[i], texts[i], e);
        return r;
}

void cluster_url(const char *address, unsigned port, char ret[static CLUSTER_TEXT_SIZE])
{
        bool six = strchr(address, ':');

        snprintf(ret, CLUSTER_TEXT_SIZE, "https://%s%s%s:%u", six ? "[" : "", address, six ? "]" : "", port);
}

static void put_url(struct buf *b, const char *address, unsigned port)
{
        char url[CLUSTER_TEXT_SIZE];

        cluster_url(address, port, url);
        buf_puts(b, url);
}

int cluster_put_environment(int home, const char *data, const struct cluster_setup *setup, const char *members,
                            struct error *e)
{
        static const struct {
                const char *name, *file;
        } files[] = {
                { "CERT_FILE", "store.pem" },
                { "KEY_FILE", "store.key" },
                { "TRUSTED_CA_FILE", "store-ca.pem" },
                { "PEER_CERT_FILE", "store.pem" },
                { "PEER_KEY_FILE", "store.key" },
                { "PEER_TRUSTED_CA_FILE", "store-ca.pem" },
                { "DATA_DIR", "etcd" },
        };
        /* "::" takes both kinds, but a kernel without IPv6 has none. */
        const char *any = strchr(setup->addresses[0], ':') ? "::" : "0.0.0.0";
        _cleanup_free_ char *absolute = realpath(data, NULL);
        _cleanup_buf_ struct buf b = {};

        if (!absolute)
                return fail_errno(e, -errno, "cannot find %s", data);
        buf_puts(&b, "# made by bootmgr(1)\n");
        for (size_t i = 0; i < ARRAY_SIZE(files); i++)
                buf_printf(&b, "ETCD_%s=%s/" DIRECTORY "/%s\n", files[i].name, absolute, files[i].file);
        buf_printf(&b, "ETCD_NAME=%s\nETCD_CLIENT_CERT_AUTH=true\nETCD_PEER_CLIENT_CERT_AUTH=true\n", setup->name);
        buf_puts(&b, "ETCD_LISTEN_CLIENT_URLS=");
        put_url(&b, any, STORE_PORT);
        buf_puts(&b, "\nETCD_LISTEN_PEER_URLS=");
        put_url(&b, any, PEER_PORT);
        buf_puts(&b, "\nETCD_ADVERTISE_CLIENT_URLS=");
        put_url(&b, setup->addresses[0], STORE_PORT);
        buf_puts(&b, "\nETCD_INITIAL_ADVERTISE_PEER_URLS=");
        put_url(&b, setup->addresses[0], PEER_PORT);
        buf_printf(&b, "\nETCD_INITIAL_CLUSTER=");
        if (members) {
                buf_puts(&b, members);
        } else {
                buf_printf(&b, "%s=", setup->name);
                put_url(&b, setup->addresses[0], PEER_PORT);
        }
        buf_printf(&b, "\nETCD_INITIAL_CLUSTER_TOKEN=%s\nETCD_INITIAL_CLUSTER_STATE=%s\n", setup->cluster,
                   members ? "existing" : "new");
        /* Off by default in etcd: its data would grow for ever. */
        buf_puts(&b, "ETCD_AUTO_COMPACTION_MODE=periodic\nETCD_AUTO_COMPACTION_RETENTION=1h\n"
                     "ETCD_QUOTA_BACKEND_BYTES=268435456\nETCD_LOGGER=zap\nETCD_LOG_OUTPUTS=stderr\n");
        /* It warns of each request that has come through its gateway, which all of ours have. */
        buf_puts(&b, "ETCD_LOG_LEVEL=error\n");
        return b.failed ? -ENOMEM : cluster_put(home, "etcd.env", b.data, e);
}

int cluster_init(const char *data, const struct cluster_setup *setup, uint64_t now, struct error *e)
{
        static const char *const cluster_files[] = { "ca.key", "ca.pem", "node.key", "node.pem" };
        static const char *const store_files[] = { "store-ca.key", "store-ca.pem", "store.key", "store.pem" };
        _cleanup_free_ char *store_name = xasprintf("%s.store", setup->cluster), *endpoints = NULL;
        _cleanup_close_ int home = cluster_home(data, true, e);
        _cleanup_buf_ struct buf address = {};
        int r;

        if (home < 0)
                return home;
        if (cluster_home_role(home) != ROLE_STANDALONE) {
                fail(e, -EEXIST, &kind_usage, "this machine is %s already",
                     cluster_home_role(home) == ROLE_CONTROLLER ? "a controller" : "an engine of a cluster");
                return fail_hint(e, "its keys and certificates are in %s/" DIRECTORY, data);
        }
        if (!node_name_valid(setup->cluster) || !node_name_valid(setup->name))
                return fail(e, -EINVAL, &kind_usage, "'%s' cannot be the name of a cluster, or '%s' not that of a node",
                            setup->cluster, setup->name);
        endpoints = xasprintf("https://127.0.0.1:%d\n", STORE_PORT);
        put_url(&address, setup->addresses[0], setup->port);
        buf_puts(&address, "\n");
        if (!store_name || !endpoints || address.failed)
                return -ENOMEM;
        r = cluster_clear(home, e);
        if (r >= 0)
                r = make_identity(home, setup, setup->cluster, cluster_files, now, e);
        if (r >= 0)
                r = make_identity(home, setup, store_name, store_files, now, e);
        if (r >= 0)
                r = cluster_put(home, "store.endpoints", endpoints, e);
        if (r >= 0)
                r = cluster_put(home, "address", address.data, e);
        if (r >= 0)
                r = cluster_put(home, "name", setup->name, e);
        return r < 0 ? r : cluster_put_environment(home, data, setup, NULL, e);
}
