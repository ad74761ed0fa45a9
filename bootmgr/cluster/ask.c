/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cluster/ask.h"

#include "slot/kinds.h"

#define TRIES_MAX 16

int ask_view(struct store *store, struct cluster_view *ret, struct error *e)
{
        _cleanup_cluster_view_ struct cluster_view view = {};
        _cleanup_reply_ struct store_reply reply = {};
        int r = store_range_wait(store, &(struct store_range){ .key = KEY_ALL, .prefix = true }, &reply, e);

        view.revision = reply.revision;
        for (size_t i = 0; r >= 0 && i < reply.n_entries; i++) {
                const struct store_entry *entry = &reply.entries[i];

                r = cluster_view_add(&view, entry->key, entry->value, entry->size, entry->modified, e);
        }
        if (r >= 0)
                *ret = TAKE(view, (struct cluster_view){});
        return r;
}

/* 1: it is written, or nothing was to be; 0: something changed, or nobody knows. */
static int try_once(struct store *store, ask_decide decide, void *userdata, struct error *e)
{
        _cleanup_cluster_view_ struct cluster_view view = {};
        _cleanup_reply_ struct store_reply reply = {};
        _cleanup_plan_ struct plan plan = {};
        struct store_txn txn;
        int r = ask_view(store, &view, e);

        if (r >= 0)
                r = decide(&view, userdata, &plan, e);
        if (r < 0)
                return r;
        if (plan.n_writes == 0)
                return 1;
        txn = plan_txn(&plan);
        r = store_commit_wait(store, &txn, &reply, e);
        if (r == -EREMOTEIO) {
                error_done(e);
                return 0;
        }
        return r < 0 ? r : reply.done;
}

int ask_commit(struct store *store, ask_decide decide, void *userdata, struct error *e)
{
        for (int i = 0; i < TRIES_MAX; i++) {
                int r = try_once(store, decide, userdata, e);

                if (r != 0)
                        return r < 0 ? r : 0;
        }
        return fail(e, -EAGAIN, &kind_store, "the cluster's store changed %d times while it was written to: try again",
                    TRIES_MAX);
}
