/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cluster/prune.h"

#define AT_ONCE 64 /* beside what the transaction itself writes; a store that has more has fewer after each */

void prune_log(uint64_t epoch, struct plan *plan)
{
        if (epoch > PRUNE_LOG)
                plan_delete(plan, false, KEY_LOG "%020llu", (unsigned long long)(epoch - PRUNE_LOG));
}

static int oldest_first(const void *a, const void *b)
{
        const struct store_entry *one = a, *two = b;

        return one->created < two->created ? -1 : one->created > two->created;
}

/* All but `keep` under the prefix, the oldest first. Who adds to them meanwhile makes none of these any younger. */
static int prune(struct store *s, const char *prefix, size_t keep, const char *needed, struct plan *plan, struct error *e)
{
        const struct store_range range = { .key = prefix, .prefix = true, .keys_only = true };
        _cleanup_reply_ struct store_reply reply = {};
        size_t surplus;
        int r = store_range_wait(s, &range, &reply, e);

        if (r < 0 || reply.n_entries <= keep)
                return r;
        qsort(reply.entries, reply.n_entries, sizeof(*reply.entries), oldest_first);
        surplus = MIN(reply.n_entries - keep, (size_t)AT_ONCE);
        for (size_t i = 0; i < surplus; i++)
                if (!needed || !streq(reply.entries[i].key, needed))
                        plan_delete(plan, false, "%s", reply.entries[i].key);
        return plan_failed(plan, e);
}

int prune_history(struct store *s, const struct cluster_view *view, struct plan *plan, struct error *e)
{
        char id[CLUSTER_ID_TEXT_SIZE], needed[sizeof(KEY_HISTORY) + CLUSTER_ID_TEXT_SIZE];

        snprintf(needed, sizeof(needed), KEY_HISTORY "%s", id_to_text(view->record.operation, id));
        return prune(s, KEY_HISTORY, PRUNE_OPERATIONS - 1, needed, plan, e);
}

int prune_requests(struct store *s, struct plan *plan, struct error *e)
{
        return prune(s, KEY_REQUESTS, PRUNE_REQUESTS - 1, NULL, plan, e);
}
