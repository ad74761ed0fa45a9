/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cluster/home.h"

#include <fcntl.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "slot/kinds.h"

#define DIRECTORY CLUSTER_HOME
#define TOKEN_KEY "bootmgr/tokens/"

static int put_file(int home, const char *name, const char *text, struct error *e)
{
        int r = file_replace(home, name, text, strlen(text), 0600);

        return r < 0 ? fail_errno(e, r, "cannot write " DIRECTORY "/%s", name) : 0;
}

static int get_file(int home, const char *name, char **ret, struct error *e)
{
        int r = file_read(home, name, PEM_MAX, ret, NULL);

        return r < 0 ? fail_errno(e, r, "cannot read " DIRECTORY "/%s", name) : 0;
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
                r = put_file(home, names[i], texts[i], e);
        return r;
}

/* IPv6 addresses stand in brackets in a URL. */
static void put_url(struct buf *b, const char *address, unsigned port)
{
        bool six = strchr(address, ':');

        buf_printf(b, "https://%s%s%s:%u", six ? "[" : "", address, six ? "]" : "", port);
}

static int write_environment(int home, const char *data, const struct cluster_setup *setup, struct error *e)
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
        buf_puts(&b, "# made by 'bootmgr cluster init'\n");
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
        buf_printf(&b, "\nETCD_INITIAL_CLUSTER=%s=", setup->name);
        put_url(&b, setup->addresses[0], PEER_PORT);
        buf_printf(&b, "\nETCD_INITIAL_CLUSTER_TOKEN=%s\nETCD_INITIAL_CLUSTER_STATE=new\n", setup->cluster);
        /* Off by default in etcd: its data would grow for ever. */
        buf_puts(&b, "ETCD_AUTO_COMPACTION_MODE=periodic\nETCD_AUTO_COMPACTION_RETENTION=1h\n"
                     "ETCD_QUOTA_BACKEND_BYTES=268435456\nETCD_LOGGER=zap\nETCD_LOG_OUTPUTS=stderr\n");
        return b.failed ? -ENOMEM : put_file(home, "etcd.env", b.data, e);
}

int cluster_init(const char *data, const struct cluster_setup *setup, uint64_t now, struct error *e)
{
        static const char *const cluster_files[] = { "ca.key", "ca.pem", "node.key", "node.pem" };
        static const char *const store_files[] = { "store-ca.key", "store-ca.pem", "store.key", "store.pem" };
        _cleanup_free_ char *store_name = xasprintf("%s.store", setup->cluster), *endpoints = NULL;
        _cleanup_close_ int home = home_open(data, true, e);
        int r;

        if (home < 0)
                return home;
        if (faccessat(home, "etcd.env", F_OK, 0) == 0) {
                fail(e, -EEXIST, &kind_usage, "this machine is a controller already");
                return fail_hint(e, "its certificates and the store are in %s/" DIRECTORY, data);
        }
        if (!node_name_valid(setup->cluster) || !node_name_valid(setup->name))
                return fail(e, -EINVAL, &kind_usage, "'%s' cannot be the name of a cluster, or '%s' not that of a node",
                            setup->cluster, setup->name);
        endpoints = xasprintf("https://127.0.0.1:%d\n", STORE_PORT);
        if (!store_name || !endpoints)
                return -ENOMEM;
        r = make_identity(home, setup, setup->cluster, cluster_files, now, e);
        if (r >= 0)
                r = make_identity(home, setup, store_name, store_files, now, e);
        if (r >= 0)
                r = put_file(home, "store.endpoints", endpoints, e);
        if (r >= 0)
                r = put_file(home, "name", setup->name, e);
        return r < 0 ? r : write_environment(home, data, setup, e);
}

static int store_token(const char *data, const struct token_record *record, struct error *e)
{
        _cleanup_json_ json_t *o = token_record_to_json(record);
        _cleanup_free_ char *text = o ? json_dumps(o, JSON_COMPACT) : NULL, *key = NULL;
        _cleanup_store_ struct store *store = NULL;
        _cleanup_reply_ struct store_reply reply = {};
        char id[2 * TOKEN_ID_SIZE + 1];
        int r;

        hex_encode(record->id, sizeof(record->id), id);
        key = xasprintf(TOKEN_KEY "%s", id);
        if (!text || !key)
                return -ENOMEM;
        r = cluster_open_store(data, NULL, &store, e);
        if (r < 0)
                return r;
        r = store_commit_wait(store,
                              &(struct store_txn){ .compares = &(struct store_compare){ STORE_ABSENT, key },
                                                   .n_compares = 1,
                                                   .writes = &(struct store_write){ key, false, text, strlen(text) },
                                                   .n_writes = 1 },
                              &reply, e);
        if (r < 0)
                return fail_hint(e, "does bootmgr-etcd.service run?");
        return reply.done ? 0 : fail(e, -EEXIST, &kind_store, "the store has a token of this number already");
}

int cluster_make_token(const char *data, enum node_role role, uint64_t expires, char text[static TOKEN_TEXT_MAX],
                       struct error *e)
{
        _cleanup_close_ int home = home_open(data, false, e);
        _cleanup_free_ char *ca = NULL;
        uint8_t fingerprint[SHA256_SIZE];
        struct token_record record;
        struct token token;
        int r;

        if (home < 0 || faccessat(home, "etcd.env", F_OK, 0) < 0) {
                error_done(e);
                fail(e, -ENOENT, &kind_usage, "this machine is no controller");
                return fail_hint(e, "'bootmgr cluster init' makes it one");
        }
        r = get_file(home, "ca.pem", &ca, e);
        if (r >= 0)
                r = certificate_fingerprint(ca, fingerprint, e);
        if (r >= 0)
                r = token_make(role, fingerprint, &token);
        if (r < 0)
                return r;
        r = token_record_make(&token, expires, &record);
        if (r >= 0)
                r = store_token(data, &record, e);
        if (r >= 0)
                token_format(&token, text);
        token_done(&token);
        return r;
}
