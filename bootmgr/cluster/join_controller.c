/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a machine has to do besides that joins as a controller. */
#include <fcntl.h>

#include "base/buf.h"
#include "base/clock.h"
#include "cluster/etcd_members.h"
#include "cluster/etcd_room.h"
#include "cluster/home.h"
#include "cluster/join.h"
#include "slot/kinds.h"

static int put_endpoints(int home, const struct join_answer *a, struct error *e)
{
        _cleanup_buf_ struct buf b = {};
        const json_t *url;
        size_t i;

        buf_printf(&b, "https://127.0.0.1:%d\n", STORE_PORT);
        json_array_foreach(a->endpoints, i, url) buf_printf(&b, "%s\n", json_string_value(url));
        return b.failed ? -ENOMEM : cluster_put(home, "store.endpoints", b.data, e);
}

static int check_store(int home, const struct join_answer *a, struct error *e)
{
        _cleanup_pem_ char *key = NULL;
        struct certificate c;
        int r = cluster_get(home, "store.key", &key, e);

        if (r >= 0)
                r = certificate_verify(a->store_ca, a->store_certificate, now_realtime(), &c, e);
        if (r >= 0 && !certificate_has_key(a->store_certificate, key))
                r = fail(e, -EKEYREJECTED, &kind_certificate, "the certificate of the store is for another key");
        return r;
}

int join_put_controller(const char *data, int home, const struct node_setup *setup, const struct join_answer *a,
                        struct error *e)
{
        char url[CLUSTER_TEXT_SIZE], peer[CLUSTER_TEXT_SIZE];
        const struct {
                const char *name, *text;
        } files[] = {
                { "ca.key", a->ca_key },
                { "store-ca.key", a->store_ca_key },
                { "store-ca.pem", a->store_ca },
                { "store.pem", a->store_certificate },
                { "address", url },
                { "learner", peer },
        };
        int r = check_store(home, a, e);

        cluster_url(setup->controller.addresses[0], setup->controller.port, url);
        cluster_url(setup->controller.addresses[0], PEER_PORT, peer);
        for (size_t i = 0; i < ARRAY_SIZE(files) && r >= 0; i++)
                r = cluster_put(home, files[i].name, files[i].text, e);
        if (r >= 0)
                r = put_endpoints(home, a, e);
        if (r >= 0)
                r = cluster_drop(home, "journal", e); /* as of an engine: cluster/join.c */
        if (r < 0)
                return r;
        return cluster_put_environment(home, data,
                                       &(struct cluster_setup){ .cluster = "bootmgr",
                                                                .name = setup->name,
                                                                .addresses = setup->controller.addresses },
                                       a->members, e);
}

static int refresh_endpoints(int home, struct error *e)
{
        struct etcd_members all;
        int r = etcd_members_read(home, &all, e);

        return r < 0 ? r : etcd_members_keep(home, &all, e);
}

int controller_promote(const char *data, uint64_t patience, struct error *e)
{
        _cleanup_close_ int home = cluster_home(data, false, e);
        _cleanup_free_ char *peer = NULL;
        int r = home;

        if (r >= 0 && faccessat(home, "learner", F_OK, 0) < 0) {
                r = refresh_endpoints(home, e);
                return r < 0 ? r : etcd_make_room(home, e);
        }
        if (r >= 0)
                r = cluster_get(home, "learner", &peer, e);
        if (r >= 0)
                r = etcd_members_promote(home, peer, now_monotonic() + patience, e);
        return r < 0 ? r : cluster_drop(home, "learner", e);
}
