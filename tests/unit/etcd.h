/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Real etcd servers on loopback, with the certificates that the product makes. They end with the process that started them.
 */
#pragma once

#include <arpa/inet.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "cluster/ca.h"
#include "store-cases.h"

#define MEMBERS_MAX 3

struct member {
        unsigned client_port, peer_port;
        pid_t pid;
};

static struct member members[MEMBERS_MAX];
static unsigned n_members;
static char etcd_dir[PATH_MAX];       /* certificates, data */
static char *store_ca, *store_ca_key; /* the store's own, not the cluster's */

static char *in_dir(const char *name)
{
        char *path = xasprintf("%s/%s", etcd_dir, name);

        ck_assert_ptr_nonnull(path);
        return path;
}

static void write_in_dir(const char *name, const char *text)
{
        _cleanup_free_ char *path = in_dir(name);

        ck_assert_int_eq(file_replace(AT_FDCWD, path, text, strlen(text), 0600), 0);
}

/* NAME.key and NAME.pem */
static void issue_to(const char *file, const char *ca_key, const char *ca, enum node_role role, uint64_t now)
{
        _cleanup_pem_ char *key = NULL;
        _cleanup_free_ char *csr = NULL, *certificate = NULL, *key_name = xasprintf("%s.key", file),
                            *name = xasprintf("%s.pem", file);

        ck_assert_int_eq(key_make(&key, NULL), 0);
        ck_assert_int_eq(csr_make(key, file, &csr, NULL), 0);
        ck_assert_int_eq(ca_issue(ca_key, ca, csr, file, role, NULL, now, &certificate, NULL), 0);
        write_in_dir(key_name, key);
        write_in_dir(name, certificate);
}

static unsigned free_port(void)
{
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t n = sizeof(address);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, n), 0);
        ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &n), 0);
        close(fd);
        return ntohs(address.sin_port);
}

static void member_start(unsigned i)
{
        _cleanup_buf_ struct buf cluster = {};
        _cleanup_free_ char *name = xasprintf("m%u", i), *data = in_dir(name), *log = xasprintf("%s/m%u.log", etcd_dir, i),
                            *client = xasprintf("https://127.0.0.1:%u", members[i].client_port),
                            *peer = xasprintf("https://127.0.0.1:%u", members[i].peer_port), *ca = in_dir("ca.pem"),
                            *key = in_dir("controller.key"), *pem = in_dir("controller.pem");

        for (unsigned k = 0; k < n_members; k++)
                buf_printf(&cluster, "%sm%u=https://127.0.0.1:%u", k ? "," : "", k, members[k].peer_port);
        members[i].pid = fork();
        ck_assert_int_ge(members[i].pid, 0);
        if (members[i].pid > 0)
                return;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        setpgid(0, 0);
        if (!freopen(log, "a", stdout) || dup2(1, 2) < 0)
                _exit(126);
        execlp("etcd", "etcd", "--name", name, "--data-dir", data, "--listen-client-urls", client, "--advertise-client-urls",
               client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", cluster.data,
               "--initial-cluster-state", "new", "--cert-file", pem, "--key-file", key, "--trusted-ca-file", ca,
               "--client-cert-auth", "--peer-cert-file", pem, "--peer-key-file", key, "--peer-trusted-ca-file", ca,
               "--peer-client-cert-auth", "--logger", "zap", "--log-outputs", "stdout", NULL);
        _exit(127);
}

static _unused_ void member_kill(unsigned i, int signal)
{
        ck_assert_int_eq(kill(members[i].pid, signal), 0);
        if (signal != SIGKILL)
                return;
        ck_assert_int_eq(waitpid(members[i].pid, NULL, 0), members[i].pid);
        members[i].pid = 0;
}

static void endpoint_list(const char *endpoints[static MEMBERS_MAX + 1], char text[static MEMBERS_MAX][40])
{
        for (unsigned i = 0; i < n_members; i++) {
                snprintf(text[i], 40, "https://127.0.0.1:%u", members[i].client_port);
                endpoints[i] = text[i];
        }
        endpoints[n_members] = NULL;
}

/* With the certificate NAME.pem, on what is listed. */
static int try_open_as(const char *name, const char *const *endpoints, sd_event *loop, struct store **ret)
{
        _cleanup_free_ char *ca = in_dir("ca.pem"), *pem = xasprintf("%s/%s.pem", etcd_dir, name),
                            *key = xasprintf("%s/%s.key", etcd_dir, name);

        return store_open_etcd(endpoints, &(struct client_tls){ ca, pem, key }, loop, ret, NULL);
}

static struct store *open_store(sd_event *loop)
{
        const char *endpoints[MEMBERS_MAX + 1];
        char text[MEMBERS_MAX][40];
        struct store *s;

        endpoint_list(endpoints, text);
        ck_assert_int_eq(try_open_as("controller", endpoints, loop, &s), 0);
        return s;
}

/* A range that is agreed on: the cluster has a leader. */
static void cluster_wait(void)
{
        for (unsigned i = 0; i < 8; i++) {
                _cleanup_store_ struct store *s = open_store(NULL);
                _cleanup_reply_ struct store_reply reply = {};

                if (store_range_wait(s, &(struct store_range){ "a" }, &reply, NULL) == 0)
                        return;
        }
        ck_abort_msg("etcd does not answer: see the logs in %s", etcd_dir);
}

static void cluster_start(unsigned n)
{
        uint64_t now = now_realtime();

        ck_assert_int_lt(snprintf(etcd_dir, sizeof(etcd_dir), "%s/bootmgr-etcd-XXXXXX",
                                  access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp"),
                         (int)sizeof(etcd_dir));
        ck_assert_ptr_nonnull(mkdtemp(etcd_dir));
        ck_assert_int_eq(ca_make("test", now, &store_ca_key, &store_ca, NULL), 0);
        write_in_dir("ca.pem", store_ca);
        issue_to("controller", store_ca_key, store_ca, ROLE_CONTROLLER, now);
        n_members = n;
        for (unsigned i = 0; i < n; i++)
                members[i] = (struct member){ free_port(), free_port() };
        for (unsigned i = 0; i < n; i++)
                member_start(i);
        cluster_wait();
}

static void cluster_stop(void)
{
        for (unsigned i = 0; i < n_members; i++)
                if (members[i].pid > 0)
                        member_kill(i, SIGKILL);
        store_ca = pem_free(store_ca);
        store_ca_key = pem_free(store_ca_key);
        ck_assert_int_eq(remove_tree(AT_FDCWD, etcd_dir), 0);
}
