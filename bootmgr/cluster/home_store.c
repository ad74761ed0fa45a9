/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Apart from home.c, so that bootmgrd, which opens the store, needs no OpenSSL. */
#include <fcntl.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/io.h"
#include "cluster/home.h"

#define DIRECTORY     CLUSTER_HOME
#define ENDPOINTS_MAX 4096

int cluster_home(const char *data, bool make, struct error *e)
{
        _cleanup_free_ char *path = xasprintf("%s/" DIRECTORY, data);
        int r = path ? 0 : -ENOMEM, fd;

        if (r >= 0 && make)
                r = mkdir_parents(AT_FDCWD, path, 0700);
        fd = r < 0 ? r : dir_open(AT_FDCWD, path);
        return fd < 0 ? fail_errno(e, fd, "cannot open %s/" DIRECTORY, data) : fd;
}

int cluster_put(int home, const char *name, const char *text, struct error *e)
{
        int r = file_replace(home, name, text, strlen(text), 0600);

        return r < 0 ? fail_errno(e, r, "cannot write " DIRECTORY "/%s", name) : 0;
}

int cluster_get(int home, const char *name, char **ret, struct error *e)
{
        int r = file_read(home, name, PEM_MAX, ret, NULL);

        return r < 0 ? fail_errno(e, r, "cannot read " DIRECTORY "/%s", name) : 0;
}

int cluster_drop(int home, const char *name, struct error *e)
{
        int r = io_unlink(home, name, 0);

        return r < 0 && r != -ENOENT ? fail_errno(e, r, "cannot remove " DIRECTORY "/%s", name) : 0;
}

enum node_role cluster_home_role(int home)
{
        if (faccessat(home, "etcd.env", F_OK, 0) == 0)
                return ROLE_CONTROLLER;
        return faccessat(home, "controllers", F_OK, 0) == 0 ? ROLE_ENGINE : ROLE_STANDALONE;
}

enum node_role cluster_role(const char *data)
{
        _cleanup_error_ struct error e = {};
        _cleanup_close_ int home = cluster_home(data, false, &e);

        return home < 0 ? ROLE_STANDALONE : cluster_home_role(home);
}

static int default_path(char **path, const char *old, const char *data, const char *name)
{
        char *new;

        if (*path && (!old || !streq(*path, old)))
                return 0;
        new = xasprintf("%s/" DIRECTORY "/%s", data, name);
        if (!new)
                return -ENOMEM;
        free(*path);
        *path = new;
        return 0;
}

int cluster_serve(struct config *c)
{
        int r;

        if (cluster_role(c->data) != ROLE_CONTROLLER)
                return 0;
        if (!c->api_listen && !(c->api_listen = xasprintf("*:%d", API_PORT)))
                return -ENOMEM;
        r = default_path(&c->api_client_ca, NULL, c->data, "ca.pem");
        if (r >= 0)
                r = default_path(&c->api_certificate, CONFIG_CERTIFICATE, c->data, "node.pem");
        return r < 0 ? r : default_path(&c->api_key, CONFIG_KEY, c->data, "node.key");
}

int cluster_endpoints(int home, const char *name, char **ret_text, const char *ret[static CLIENT_ENDPOINTS + 1],
                      struct error *e)
{
        char *cursor, *line;
        size_t n = 0;
        int r = file_read(home, name, ENDPOINTS_MAX, ret_text, NULL);

        if (r < 0)
                return fail_errno(e, r, "cannot read " DIRECTORY "/%s", name);
        cursor = *ret_text;
        while (n < CLIENT_ENDPOINTS && (line = line_next(&cursor)))
                if (*line)
                        ret[n++] = line;
        ret[n] = NULL;
        return 0;
}

static int open_etcd(const char *data, int home, sd_event *event, struct store **ret, struct error *e)
{
        _cleanup_free_ char *text = NULL, *ca = xasprintf("%s/" DIRECTORY "/store-ca.pem", data),
                            *certificate = xasprintf("%s/" DIRECTORY "/store.pem", data),
                            *key = xasprintf("%s/" DIRECTORY "/store.key", data);
        const char *endpoints[CLIENT_ENDPOINTS + 1];
        int r = cluster_endpoints(home, "store.endpoints", &text, endpoints, e);

        if (r < 0)
                return r;
        if (!ca || !certificate || !key)
                return -ENOMEM;
        return store_open_etcd(endpoints, &(struct client_tls){ ca, certificate, key }, event, ret, e);
}

int cluster_open_store(const char *data, sd_event *event, struct store **ret, struct error *e)
{
        _cleanup_free_ char *path = xasprintf("%s/" DIRECTORY, data);
        _cleanup_close_ int home = cluster_home(data, true, e);

        if (home < 0)
                return home;
        if (!path)
                return -ENOMEM;
        if (cluster_home_role(home) == ROLE_CONTROLLER)
                return open_etcd(data, home, event, ret, e);
        return store_open_local(path, event, ret, e);
}

int cluster_name(const char *data, char ret[static NODE_NAME_SIZE], struct error *e)
{
        _cleanup_close_ int home = cluster_home(data, false, e);
        _cleanup_free_ char *text = NULL;
        int r = home < 0 ? home : file_read(home, "name", NODE_NAME_SIZE, &text, NULL);

        if (home < 0)
                return home;
        if (r < 0)
                return fail_errno(e, r, "cannot read " DIRECTORY "/name");
        text[strcspn(text, "\n")] = '\0';
        if (!node_name_valid(text))
                return fail(e, -EINVAL, NULL, DIRECTORY "/name holds no name of a node");
        strcpy(ret, text);
        return 0;
}

char *cluster_bundle_path(const char *data, const uint8_t digest[static DIGEST_SIZE])
{
        char hex[2 * DIGEST_SIZE + 1];

        hex_encode(digest, DIGEST_SIZE, hex);
        return xasprintf("%s/" DIRECTORY "/bundles/%s", data, hex);
}
