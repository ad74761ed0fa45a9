/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What both backends share: bounds, calls and watches, waiting. */
#include "cluster/store.h"

#include "base/util.h"
#include "cluster/backend.h"
#include "slot/kinds.h"

int store_init(struct store *s, const struct store_ops *ops, sd_event *event, struct error *e)
{
        int r = 0;

        s->ops = ops;
        s->own_event = !event;
        if (event)
                s->event = sd_event_ref(event);
        else
                r = sd_event_new(&s->event);
        return r < 0 ? fail_errno(e, r, "cannot make an event loop") : 0;
}

struct store *store_close(struct store *s)
{
        sd_event *event;

        if (!s)
                return NULL;
        while (s->calls)
                store_cancel(s->calls);
        while (s->watches)
                store_watch_end(s->watches);
        event = s->event;
        s->ops->close(s);
        sd_event_unref(event);
        return NULL;
}

/* ---- bounds ---- */

bool store_key_valid(const char *key)
{
        size_t n = strnlen(key, STORE_KEY_MAX + 1);

        return n > 0 && n <= STORE_KEY_MAX &&
               strspn(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/:@+~-") == n;
}

static int check_key(const char *key, bool may_be_empty, struct error *e)
{
        if (store_key_valid(key) || (!*key && may_be_empty))
                return 0;
        return fail(e, -EINVAL, &kind_store, "'%.64s' cannot be a key of the store", key);
}

static int check_value(const char *key, size_t size, size_t *total, struct error *e)
{
        *total += strlen(key) + size;
        if (size <= STORE_VALUE_MAX && *total <= STORE_TXN_MAX)
                return 0;
        return fail(e, -EINVAL, &kind_store, "the value of %s has %zu bytes: more than the store takes at once", key, size);
}

static int by_key(const void *a, const void *b)
{
        return strcmp((*(const struct store_write *const *)a)->key, (*(const struct store_write *const *)b)->key);
}

/* Sorted: neighbours are compared. What begins with a prefix comes right behind it. */
static int check_once(const struct store_txn *txn, struct error *e)
{
        const struct store_write *writes[STORE_WRITES] = {};

        for (size_t i = 0; i < txn->n_writes; i++)
                writes[i] = &txn->writes[i];
        qsort(writes, txn->n_writes, sizeof(writes[0]), by_key);
        for (size_t i = 1; i < txn->n_writes; i++)
                if (streq(writes[i - 1]->key, writes[i]->key) ||
                    (writes[i - 1]->prefix && startswith(writes[i]->key, writes[i - 1]->key)))
                        return fail(e, -EINVAL, &kind_store, "%s is written twice in one transaction", writes[i]->key);
        return 0;
}

static int check_txn(const struct store_txn *txn, struct error *e)
{
        size_t total = 0;
        int r = 0;

        if (txn->n_compares > STORE_COMPARES || txn->n_writes > STORE_WRITES)
                return fail(e, -EINVAL, &kind_store, "a transaction with %zu compares and %zu writes: at most %d and %d",
                            txn->n_compares, txn->n_writes, STORE_COMPARES, STORE_WRITES);
        for (size_t i = 0; i < txn->n_compares && r >= 0; i++) {
                const struct store_compare *c = &txn->compares[i];

                r = check_key(c->key, c->test == STORE_QUIET, e);
                if (r >= 0)
                        r = check_value(c->key, c->test == STORE_VALUE ? c->size : 0, &total, e);
        }
        for (size_t i = 0; i < txn->n_writes && r >= 0; i++) {
                const struct store_write *w = &txn->writes[i];

                r = check_key(w->key, false, e);
                if (r >= 0 && w->prefix && !w->delete)
                        r = fail(e, -EINVAL, &kind_store, "%s: only a deletion has a prefix", w->key);
                if (r >= 0)
                        r = check_value(w->key, w->delete ? 0 : w->size, &total, e);
        }
        return r < 0 ? r : check_once(txn, e);
}

/* ---- calls ---- */

static int call_new(struct store *s, store_answered answered, void *userdata, struct store_call **ret)
{
        struct store_call *call = calloc(1, sizeof(*call));

        if (!call)
                return -ENOMEM;
        *call = (struct store_call){ .store = s, .next = s->calls, .answered = answered, .userdata = userdata };
        if (s->calls)
                s->calls->previous = call;
        s->calls = call;
        *ret = call;
        return 0;
}

static void call_free(struct store_call *call)
{
        struct store_call **from = call->previous ? &call->previous->next : &call->store->calls;

        *from = call->next;
        if (call->next)
                call->next->previous = call->previous;
        free(call);
}

void store_call_end(struct store_call *call, int result, const struct store_reply *reply, const struct error *e)
{
        static const struct store_reply nothing;
        store_answered answered = call->answered;
        void *userdata = call->userdata;

        call_free(call);
        answered(result, reply ?: &nothing, e, userdata);
}

void store_cancel(struct store_call *call)
{
        call->store->ops->cancel(call);
        call_free(call);
}

int store_range(struct store *s, const struct store_range *range, store_answered answered, void *userdata,
                struct store_call **ret, struct error *e)
{
        struct store_call *call;
        int r = check_key(range->key, range->prefix, e);

        if (r >= 0)
                r = call_new(s, answered, userdata, &call);
        if (r < 0)
                return r;
        r = s->ops->range(call, range, e);
        if (r < 0)
                call_free(call);
        else if (ret)
                *ret = call;
        return r;
}

int store_commit(struct store *s, const struct store_txn *txn, store_answered answered, void *userdata,
                 struct store_call **ret, struct error *e)
{
        struct store_call *call;
        int r = check_txn(txn, e);

        if (r >= 0)
                r = call_new(s, answered, userdata, &call);
        if (r < 0)
                return r;
        r = s->ops->commit(call, txn, e);
        if (r < 0)
                call_free(call);
        else if (ret)
                *ret = call;
        return r;
}

/* ---- waiting ---- */

struct waiting {
        bool answered;
        int result;
        struct store_reply *reply;
        struct error *e;
};

static void keep_answer(int result, const struct store_reply *reply, const struct error *e, void *userdata)
{
        struct waiting *w = userdata;

        w->answered = true;
        w->result = result;
        if (result < 0) {
                fail(w->e, result, e ? e->kind : NULL, "%s", e && e->message ? e->message : "the store failed");
                return;
        }
        w->reply->revision = reply->revision;
        w->reply->done = reply->done;
        for (size_t i = 0; i < reply->n_entries && w->result >= 0; i++)
                w->result = store_reply_add(w->reply, &reply->entries[i]);
}

static int wait_for(struct store *s, struct store_call *call, struct waiting *w)
{
        while (!w->answered) {
                int r = sd_event_run(s->event, UINT64_MAX);

                if (r == -EINTR)
                        continue;
                if (r < 0) {
                        store_cancel(call);
                        return fail_errno(w->e, r, "cannot wait for the store");
                }
        }
        return w->result;
}

static int finish_wait(struct waiting *w, int r, struct store_reply *ret)
{
        if (r < 0)
                store_reply_done(w->reply);
        else
                *ret = *w->reply;
        return r;
}

int store_range_wait(struct store *s, const struct store_range *range, struct store_reply *ret, struct error *e)
{
        struct store_reply reply = {};
        struct waiting w = { .reply = &reply, .e = e };
        struct store_call *call = NULL;
        int r = s->own_event ? store_range(s, range, keep_answer, &w, &call, e) : -EDEADLK;

        return finish_wait(&w, r < 0 ? r : wait_for(s, call, &w), ret);
}

int store_commit_wait(struct store *s, const struct store_txn *txn, struct store_reply *ret, struct error *e)
{
        struct store_reply reply = {};
        struct waiting w = { .reply = &reply, .e = e };
        struct store_call *call = NULL;
        int r = s->own_event ? store_commit(s, txn, keep_answer, &w, &call, e) : -EDEADLK;

        return finish_wait(&w, r < 0 ? r : wait_for(s, call, &w), ret);
}

/* ---- replies ---- */

int store_reply_add(struct store_reply *r, const struct store_entry *entry)
{
        size_t length = strlen(entry->key) + 1;
        struct store_entry *grown = r->entries;
        char *key;

        /* Grown in powers of two: 64, 128, … */
        if (r->n_entries == 0 || (r->n_entries >= 64 && (r->n_entries & (r->n_entries - 1)) == 0))
                grown = reallocarray(r->entries, MAX(r->n_entries * 2, (size_t)64), sizeof(*grown));
        if (!grown)
                return -ENOMEM;
        r->entries = grown;
        key = malloc(length + entry->size + 1);
        if (!key)
                return -ENOMEM;
        memcpy(key, entry->key, length);
        if (entry->size > 0)
                memcpy(key + length, entry->value, entry->size);
        key[length + entry->size] = '\0';
        r->entries[r->n_entries] = *entry;
        r->entries[r->n_entries].key = key;
        r->entries[r->n_entries].value = key + length;
        r->n_entries++;
        return 0;
}

void store_reply_done(struct store_reply *r)
{
        for (size_t i = 0; i < r->n_entries; i++)
                free(r->entries[i].key);
        free(r->entries);
        *r = (struct store_reply){};
}

/* ---- watches ---- */

static void watch_free(struct store_watch *w)
{
        free(w->prefix);
        free(w);
}

int store_watch(struct store *s, const char *prefix, uint64_t from, store_changed changed, void *userdata,
                struct store_watch **ret, struct error *e)
{
        struct store_watch *w;
        int r = check_key(prefix, true, e);

        if (r < 0)
                return r;
        w = calloc(1, sizeof(*w));
        if (!w)
                return -ENOMEM;
        *w = (struct store_watch){ .store = s, .next_revision = from, .changed = changed, .userdata = userdata };
        w->prefix = strdup(prefix);
        r = w->prefix ? s->ops->watch(w, e) : -ENOMEM;
        if (r < 0) {
                watch_free(w);
                return r;
        }
        w->next = s->watches;
        if (s->watches)
                s->watches->previous = w;
        s->watches = w;
        *ret = w;
        return 0;
}

bool store_watch_is_live(const struct store_watch *w)
{
        return w->live;
}

struct store_watch *store_watch_end(struct store_watch *w)
{
        struct store_watch **from;

        if (!w || w->ended)
                return NULL;
        w->store->ops->unwatch(w);
        from = w->previous ? &w->previous->next : &w->store->watches;
        *from = w->next;
        if (w->next)
                w->next->previous = w->previous;
        w->ended = true;
        if (!w->telling)
                watch_free(w);
        return NULL;
}

bool store_watch_tell(struct store_watch *w, const struct store_change *changes, size_t n, uint64_t revision, bool fresh)
{
        w->next_revision = revision + 1;
        w->telling = true;
        w->changed(changes, n, revision, fresh, w->userdata);
        w->telling = false;
        if (!w->ended)
                return true;
        watch_free(w);
        return false;
}
