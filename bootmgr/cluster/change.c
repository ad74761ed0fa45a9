/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cluster/change.h"

#include "cluster/home.h"
#include "cluster/request.h"
#include "slot/kinds.h"

#define ROUNDS 32 /* of somebody else being quicker */

/* In the order of their keys, as a view wants them. Not the history, the log, the requests and the tokens: no decision
 * over a view needs them. */
static const struct {
        const char *key;
        bool prefix;
} parts[] = {
        { KEY_NODES, true },   { KEY_OPERATION, false }, { KEY_ORDERS, true },
        { KEY_RECORD, false }, { KEY_STATUS, true },     { KEY_VOTES, true },
};

static int read_part(struct store *s, size_t part, struct cluster_view *view, struct error *e)
{
        const struct store_range range = { .key = parts[part].key,
                                           .prefix = parts[part].prefix,
                                           .revision = view->revision };
        _cleanup_reply_ struct store_reply reply = {};
        int r = store_range_wait(s, &range, &reply, e);

        if (r < 0)
                return r;
        if (part == 0)
                view->revision = reply.revision;
        for (size_t i = 0; i < reply.n_entries && r >= 0; i++) {
                const struct store_entry *entry = &reply.entries[i];

                r = cluster_view_add(view, entry->key, entry->value, entry->size, entry->modified, e);
        }
        return r;
}

static int read_all(struct store *s, struct cluster_view *ret, struct error *e)
{
        _cleanup_cluster_view_ struct cluster_view view = {};
        int r = 0;

        for (size_t i = 0; i < ARRAY_SIZE(parts) && r >= 0; i++)
                r = read_part(s, i, &view, e);
        if (r >= 0)
                *ret = TAKE(view, (struct cluster_view){});
        return r;
}

int cluster_read(struct store *s, struct cluster_view *ret, struct error *e)
{
        int r = -ESTALE;

        /* Between two of its questions the revision may be compacted away, or be past in a store that keeps none. */
        for (int round = 0; round < ROUNDS && r == -ESTALE; round++) {
                if (e)
                        error_done(e);
                r = read_all(s, ret, e);
        }
        return r;
}

int cluster_open_to_change(const char *data, struct store **ret, struct error *e)
{
        _cleanup_store_ struct store *store = NULL;
        _cleanup_cluster_view_ struct cluster_view view = {};
        char name[NODE_NAME_SIZE];
        int r = cluster_must_control(data, e);

        if (r >= 0)
                r = cluster_name(data, name, e);
        if (r >= 0)
                r = cluster_open_store(data, NULL, &store, e);
        if (r >= 0)
                r = cluster_read(store, &view, e);
        if (r >= 0)
                r = request_control(&view, name, e);
        if (r >= 0)
                *ret = TAKE_PTR(store);
        return r;
}

/* 1: written, or nothing was to be. 0: not so. */
static int try_change(struct store *s, cluster_decide decide, void *userdata, struct error *e)
{
        _cleanup_cluster_view_ struct cluster_view view = {};
        _cleanup_plan_ struct plan plan = {};
        _cleanup_reply_ struct store_reply reply = {};
        struct store_txn txn;
        int r = cluster_read(s, &view, e);

        if (r >= 0)
                r = decide(&view, &plan, userdata, e);
        if (r >= 0)
                r = plan_failed(&plan, e);
        if (r < 0 || plan.n_writes == 0)
                return r < 0 ? r : 1;
        txn = plan_txn(&plan);
        r = store_commit_wait(s, &txn, &reply, e);
        if (r == -EREMOTEIO)
                return 0;
        return r < 0 ? r : reply.done;
}

int cluster_change(struct store *s, cluster_decide decide, void *userdata, struct error *e)
{
        for (int round = 0; round < ROUNDS; round++) {
                int r = try_change(s, decide, userdata, e);

                if (r != 0)
                        return r < 0 ? r : 0;
                if (e)
                        error_done(e);
        }
        return fail(e, -EAGAIN, &kind_store, "the cluster's store changes all the time, or loses every answer: try again");
}
