/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cluster/table.h"

#include "cluster/backend.h"

#define SWAP(a, b)                                                                                                          \
        do {                                                                                                                \
                typeof(a) _swapped = (a);                                                                                   \
                (a) = (b);                                                                                                  \
                (b) = _swapped;                                                                                             \
        } while (0)

static struct table_item *item_new(const struct store_entry *entry)
{
        size_t length = strlen(entry->key) + 1;
        struct table_item *item = malloc(sizeof(*item) + length + entry->size + 1);
        char *key;

        if (!item)
                return NULL;
        key = (char *)(item + 1);
        memcpy(key, entry->key, length);
        if (entry->size > 0)
                memcpy(key + length, entry->value, entry->size);
        key[length + entry->size] = '\0';
        *item = (struct table_item){ 1, *entry };
        item->entry.key = key;
        item->entry.value = key + length;
        return item;
}

static struct table_item *item_ref(struct table_item *item)
{
        if (item)
                item->references++;
        return item;
}

static void item_unref(struct table_item *item)
{
        if (item && --item->references == 0)
                free(item);
}

static void change_done(struct table_change *c)
{
        item_unref(c->now);
        item_unref(c->before);
}

static const char *change_key(const struct table_change *c)
{
        return (c->now ?: c->before)->entry.key;
}

void table_init(struct table *t)
{
        memset(t, 0, sizeof(*t));
        t->revision = t->known = t->exact = 1;
}

void table_done(struct table *t)
{
        for (size_t i = 0; i < t->n_items; i++)
                item_unref(t->items[i]);
        for (size_t i = 0; i < t->n_history; i++)
                change_done(&t->history[i]);
        free(t->items);
        table_init(t);
}

/* Where the key is, or would be. */
static size_t find(struct table_item *const *items, size_t n, const char *key, bool *found)
{
        size_t low = 0, high = n;

        *found = false;
        while (low < high) {
                size_t middle = (low + high) / 2;
                int order = strcmp(items[middle]->entry.key, key);

                if (order < 0)
                        low = middle + 1;
                else
                        high = middle;
                *found |= order == 0;
        }
        return low;
}

static const struct store_entry *get(const struct table *t, const char *key)
{
        bool found;
        size_t at = find(t->items, t->n_items, key, &found);

        return found ? &t->items[at]->entry : NULL;
}

/* Makes `item` (NULL: none) what is under `key`. There is room. Returns what was there. */
static struct table_item *exchange(struct table_item **items, size_t *n, const char *key, struct table_item *item)
{
        struct table_item *before;
        bool found;
        size_t at = find(items, *n, key, &found), rest = *n - at;

        before = found ? items[at] : NULL;
        if (!found && item) {
                memmove(items + at + 1, items + at, rest * sizeof(*items));
                ++*n;
        }
        if (item)
                items[at] = item;
        else if (found) {
                memmove(items + at, items + at + 1, (rest - 1) * sizeof(*items));
                --*n;
        }
        return before;
}

/* Room for `n` more items and changes. Old changes go, those of one revision together. */
static int make_room(struct table *t, size_t n)
{
        struct table_item **grown = reallocarray(t->items, t->n_items + n + 1, sizeof(*grown));
        size_t drop = 0;

        if (!grown)
                return -ENOMEM;
        t->items = grown;
        if (n > TABLE_HISTORY) { /* only where another process has done much: nobody can follow that change by change */
                drop = t->n_history;
        } else if (t->n_history + n > TABLE_HISTORY) {
                drop = t->n_history + n - TABLE_HISTORY;
                while (drop < t->n_history && t->history[drop].revision == t->history[drop - 1].revision)
                        drop++;
        }
        for (size_t i = 0; i < drop; i++) {
                t->known = t->history[i].revision;
                change_done(&t->history[i]);
        }
        memmove(t->history, t->history + drop, (t->n_history - drop) * sizeof(t->history[0]));
        t->n_history -= drop;
        t->exact = MAX(t->exact, t->known);
        return 0;
}

int table_add(struct table *t, const struct store_entry *entry)
{
        struct table_item *item;

        if (t->n_items > 0 && strcmp(t->items[t->n_items - 1]->entry.key, entry->key) >= 0)
                return -EINVAL;
        /* Room in powers of two, as for thousands of keys one by one is too slow. */
        if ((t->n_items & (t->n_items - 1)) == 0 && make_room(t, t->n_items) < 0)
                return -ENOMEM;
        item = item_new(entry);
        if (!item)
                return -ENOMEM;
        t->items[t->n_items++] = item;
        return 0;
}

static bool is_quiet(const struct table *t, const char *prefix, uint64_t revision)
{
        for (size_t i = 0; i < t->n_items; i++)
                if (startswith(t->items[i]->entry.key, prefix) && t->items[i]->entry.modified > revision)
                        return false;
        return true;
}

static bool holds(const struct table *t, const struct store_compare *c)
{
        const struct store_entry *found = get(t, c->key);

        switch (c->test) {
        case STORE_ABSENT:
                return !found;
        case STORE_REVISION:
                return (found ? found->modified : 0) == c->revision;
        case STORE_VALUE:
                return found && found->size == c->size && (c->size == 0 || memcmp(found->value, c->value, c->size) == 0);
        case STORE_QUIET:
                return is_quiet(t, c->key, c->revision);
        }
        return false;
}

/* How many keys begin with the prefix; they lie behind each other, from *ret on. */
static size_t count_under(const struct table *t, const char *prefix, size_t *ret)
{
        bool found;
        size_t first = find(t->items, t->n_items, prefix, &found), at = first;

        while (at < t->n_items && startswith(t->items[at]->entry.key, prefix))
                at++;
        *ret = first;
        return at - first;
}

static size_t count_changes(const struct table *t, const struct store_txn *txn)
{
        size_t n = 0, first;

        for (size_t i = 0; i < txn->n_writes; i++)
                n += txn->writes[i].prefix ? count_under(t, txn->writes[i].key, &first) : 1;
        return n;
}

static void change(struct table *t, uint64_t revision, const char *key, struct table_item *now)
{
        struct table_item *before = exchange(t->items, &t->n_items, key, now);

        if (!before && !now)
                return;
        t->history[t->n_history++] = (struct table_change){ revision, item_ref(now), before };
        t->revision = revision;
}

static void carry_out(struct table *t, uint64_t revision, const struct store_write *w, struct table_item *fresh)
{
        size_t first, n;

        if (!w->prefix) {
                change(t, revision, w->key, fresh);
                return;
        }
        for (n = count_under(t, w->key, &first); n > 0; n--)
                change(t, revision, t->items[first]->entry.key, NULL);
}

int table_commit(struct table *t, const struct store_txn *txn)
{
        struct table_item *fresh[STORE_WRITES] = {};
        uint64_t revision = t->revision + 1;
        size_t n = count_changes(t, txn);
        int r = n > TABLE_HISTORY ? -E2BIG : 0;

        for (size_t i = 0; i < txn->n_compares; i++)
                if (!holds(t, &txn->compares[i]))
                        return 0;
        for (size_t i = 0; i < txn->n_writes && r >= 0; i++) {
                const struct store_write *w = &txn->writes[i];
                const struct store_entry *old = get(t, w->key);
                struct store_entry entry = { (char *)w->key, w->value, w->size, old ? old->created : revision, revision };

                if (!w->delete &&!(fresh[i] = item_new(&entry)))
                        r = -ENOMEM;
        }
        if (r >= 0)
                r = make_room(t, n);
        if (r < 0) {
                for (size_t i = 0; i < txn->n_writes; i++)
                        item_unref(fresh[i]);
                return r;
        }
        for (size_t i = 0; i < txn->n_writes; i++)
                carry_out(t, revision, &txn->writes[i], fresh[i]);
        return 1;
}

void table_take_back(struct table *t)
{
        uint64_t revision = t->revision;

        while (t->n_history > 0 && t->history[t->n_history - 1].revision == revision) {
                struct table_change *c = &t->history[--t->n_history];

                item_unref(exchange(t->items, &t->n_items, change_key(c), item_ref(c->before)));
                change_done(c);
        }
        t->revision = revision - 1;
}

static int add_to(struct store_reply *reply, struct store_entry entry, bool keys_only)
{
        if (keys_only)
                entry.size = 0;
        return store_reply_add(reply, &entry);
}

int table_range(const struct table *t, const struct store_range *range, struct store_reply *ret)
{
        uint64_t revision = range->revision ?: t->revision;
        struct store_reply reply = { .revision = t->revision };
        _cleanup_free_ struct table_item **items = NULL;
        size_t n = t->n_items;
        int r = 0;

        if (revision > t->revision || revision < t->exact)
                return -ESTALE;
        items = calloc(n + t->n_history + 1, sizeof(*items));
        if (!items)
                return -ENOMEM;
        if (n > 0)
                memcpy(items, t->items, n * sizeof(*items));
        for (size_t i = t->n_history; i > 0 && t->history[i - 1].revision > revision; i--)
                exchange(items, &n, change_key(&t->history[i - 1]), t->history[i - 1].before);
        for (size_t i = 0; i < n && r >= 0; i++)
                if (range->prefix ? startswith(items[i]->entry.key, range->key) != NULL
                                  : streq(items[i]->entry.key, range->key))
                        r = add_to(&reply, items[i]->entry, range->keys_only);
        if (r < 0)
                store_reply_done(&reply);
        else
                *ret = reply;
        return r;
}

int table_changes(const struct table *t, const char *prefix, uint64_t from, struct table_change **ret, size_t *ret_n)
{
        struct table_change *changes;
        size_t n = 0;

        if (from <= t->known)
                return -ESTALE;
        changes = calloc(t->n_history + 1, sizeof(*changes));
        if (!changes)
                return -ENOMEM;
        for (size_t i = 0; i < t->n_history; i++) {
                const struct table_change *c = &t->history[i];

                if (c->revision >= from && startswith(change_key(c), prefix))
                        changes[n++] = (struct table_change){ c->revision, item_ref(c->now), item_ref(c->before) };
        }
        *ret = changes;
        *ret_n = n;
        return 0;
}

int table_all(const struct table *t, const char *prefix, struct table_change **ret, size_t *ret_n)
{
        struct table_change *changes = calloc(t->n_items + 1, sizeof(*changes));
        size_t n = 0;

        if (!changes)
                return -ENOMEM;
        for (size_t i = 0; i < t->n_items; i++)
                if (startswith(t->items[i]->entry.key, prefix))
                        changes[n++] = (struct table_change){ t->items[i]->entry.modified, item_ref(t->items[i]), NULL };
        *ret = changes;
        *ret_n = n;
        return 0;
}

void table_changes_done(struct table_change *changes, size_t n)
{
        for (size_t i = 0; i < n; i++)
                change_done(&changes[i]);
        free(changes);
}

static int by_revision(const void *a, const void *b)
{
        const struct table_change *x = a, *y = b;

        return x->revision < y->revision ? -1 : x->revision > y->revision;
}

/* What differs, in the order of revisions; what was deleted was so at the newest. The changes borrow. */
static size_t differences(const struct table *old, const struct table *newer, struct table_change *changes)
{
        size_t n = 0, i = 0, k = 0;

        while (i < old->n_items || k < newer->n_items) {
                struct table_item *a = i < old->n_items ? old->items[i] : NULL,
                                  *b = k < newer->n_items ? newer->items[k] : NULL;
                int order = !a ? 1 : !b ? -1 : strcmp(a->entry.key, b->entry.key);

                if (order < 0)
                        changes[n++] = (struct table_change){ newer->revision, NULL, a };
                else if (order > 0 || a->entry.modified != b->entry.modified)
                        changes[n++] = (struct table_change){ b->entry.modified, b, order == 0 ? a : NULL };
                i += order <= 0;
                k += order >= 0;
        }
        qsort(changes, n, sizeof(*changes), by_revision);
        return n;
}

/* Whether what differs can be told as changes that came after what is known. */
static bool is_successor(const struct table *old, const struct table *newer, const struct table_change *changes, size_t n)
{
        if (newer->revision < old->revision || n > TABLE_HISTORY)
                return false;
        for (size_t i = 0; i < n; i++)
                if (changes[i].revision <= old->revision)
                        return false;
        return true;
}

int table_replace(struct table *t, struct table *newer)
{
        table_done(t);
        *t = *newer;
        table_init(newer);
        return -ESTALE;
}

int table_follow(struct table *t, struct table *newer)
{
        _cleanup_free_ struct table_change *changes = calloc(t->n_items + newer->n_items + 1, sizeof(*changes));
        size_t n;
        int r;

        if (!changes)
                return -ENOMEM;
        n = differences(t, newer, changes);
        if (!is_successor(t, newer, changes, n))
                return table_replace(t, newer);
        r = make_room(t, n);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i++)
                t->history[t->n_history++] = (struct table_change){ changes[i].revision, item_ref(changes[i].now),
                                                                    item_ref(changes[i].before) };
        if (newer->revision > t->revision)
                t->exact = newer->revision; /* what lay between is not known */
        t->revision = newer->revision;
        SWAP(t->items, newer->items);
        SWAP(t->n_items, newer->n_items);
        table_done(newer);
        return 0;
}
