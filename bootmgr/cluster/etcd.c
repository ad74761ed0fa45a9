/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The store of a cluster: etcd, through its JSON gateway, over TLS with the controller's certificate. */
#include "cluster/etcd.h"

#include "cluster/backend.h"
#include "cluster/etcd_watch.h"
#include "slot/kinds.h"

/* A member that is stopped accepts connections and says nothing; one without a leader takes seconds to say so. */
#define RANGE_TIMEOUT  (4 * USEC_PER_SEC)
#define COMMIT_TIMEOUT (8 * USEC_PER_SEC)
#define DEADLINE       (20 * USEC_PER_SEC)

struct etcd {
        struct store store;
        struct client *client;
};

static struct client *client_of(struct store *s)
{
        return ((struct etcd *)s)->client;
}

static void finish(struct store_call *call, int result, const char *body, size_t size, const struct error *e,
                   int (*parse)(const char *, size_t, struct store_reply *, struct error *))
{
        _cleanup_reply_ struct store_reply reply = {};
        _cleanup_error_ struct error bad = {};

        if (result >= 0) {
                result = parse(body, size, &reply, &bad);
                e = &bad;
        }
        store_call_end(call, result, &reply, e);
}

static void on_range(int result, const char *body, size_t size, const struct error *e, void *userdata)
{
        finish(userdata, result, body, size, e, etcd_parse_range);
}

static void on_commit(int result, const char *body, size_t size, const struct error *e, void *userdata)
{
        finish(userdata, result, body, size, e, etcd_parse_txn);
}

int etcd_start_range(struct client *c, const struct store_range *range, struct client_ask ask, struct client_request **ret,
                     struct error *e)
{
        _cleanup_free_ char *body = etcd_range_body(range);

        if (!body)
                return -ENOMEM;
        ask.path = "/v3/kv/range";
        ask.body = body;
        ask.timeout = RANGE_TIMEOUT;
        ask.deadline = DEADLINE;
        ask.max = STORE_ANSWER_MAX;
        ask.judge = etcd_judge;
        return client_start(c, &ask, ret, e);
}

static int etcd_range(struct store_call *call, const struct store_range *range, struct error *e)
{
        struct client_ask ask = { .endpoint = -1, .answered = on_range, .userdata = call };

        return etcd_start_range(client_of(call->store), range, ask, (struct client_request **)&call->backend, e);
}

static int etcd_commit(struct store_call *call, const struct store_txn *txn, struct error *e)
{
        _cleanup_free_ char *body = etcd_txn_body(txn);
        struct client_ask ask = {
                .path = "/v3/kv/txn",
                .body = body,
                .once = true,
                .timeout = COMMIT_TIMEOUT,
                .deadline = DEADLINE,
                .max = STORE_ANSWER_MAX,
                .endpoint = -1,
                .judge = etcd_judge,
                .answered = on_commit,
                .userdata = call,
        };

        if (!body)
                return -ENOMEM;
        return client_start(client_of(call->store), &ask, (struct client_request **)&call->backend, e);
}

static void etcd_cancel(struct store_call *call)
{
        client_cancel(call->backend);
}

static int etcd_watch(struct store_watch *w, struct error *e)
{
        return etcd_watch_begin(w, client_of(w->store), e);
}

static void etcd_close(struct store *s)
{
        client_free(client_of(s));
        free(s);
}

static const struct store_ops etcd_ops = {
        .range = etcd_range,
        .commit = etcd_commit,
        .cancel = etcd_cancel,
        .watch = etcd_watch,
        .unwatch = etcd_watch_stop,
        .close = etcd_close,
};

int store_open_etcd(const char *const *endpoints, const struct client_tls *tls, sd_event *event, struct store **ret,
                    struct error *e)
{
        struct etcd *etcd = calloc(1, sizeof(*etcd));
        int r;

        if (!etcd)
                return -ENOMEM;
        r = store_init(&etcd->store, &etcd_ops, event, e);
        if (r < 0) {
                free(etcd);
                return r;
        }
        r = client_new(endpoints, tls, etcd->store.event, &kind_store, &etcd->client, e);
        if (r < 0) {
                store_close(&etcd->store);
                return r;
        }
        *ret = &etcd->store;
        return 0;
}
