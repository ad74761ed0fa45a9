/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cluster/replica.h"

static bool is_of_view(const char *key)
{
        return !startswith(key, KEY_LOG) && !startswith(key, KEY_HISTORY);
}

/* Where the key is, or would be. */
static size_t find(const struct replica *r, const char *key, bool *ret_there)
{
        size_t from = 0, to = r->n;

        *ret_there = false;
        while (from < to) {
                size_t middle = (from + to) / 2;
                int order = strcmp(key, r->entries[middle].key);

                if (order == 0) {
                        *ret_there = true;
                        return middle;
                }
                if (order < 0)
                        to = middle;
                else
                        from = middle + 1;
        }
        return from;
}

static void entry_done(struct store_entry *entry)
{
        free(entry->key);
        free((void *)entry->value);
}

static void remove_at(struct replica *r, size_t at)
{
        entry_done(&r->entries[at]);
        memmove(&r->entries[at], &r->entries[at + 1], (--r->n - at) * sizeof(*r->entries));
}

static int copy_entry(const struct store_entry *from, struct store_entry *ret)
{
        char *value = malloc(from->size + 1);

        *ret = *from;
        ret->key = strdup(from->key);
        ret->value = value;
        if (!ret->key || !value) {
                entry_done(ret);
                return -ENOMEM;
        }
        memcpy(value, from->value, from->size);
        value[from->size] = '\0';
        return 0;
}

static int insert_at(struct replica *r, size_t at, const struct store_entry *entry)
{
        if (r->n == r->allocated) {
                size_t n = r->allocated ? 2 * r->allocated : 64;
                struct store_entry *more = reallocarray(r->entries, n, sizeof(*more));

                if (!more)
                        return -ENOMEM;
                r->entries = more;
                r->allocated = n;
        }
        memmove(&r->entries[at + 1], &r->entries[at], (r->n++ - at) * sizeof(*r->entries));
        r->entries[at] = *entry;
        return 0;
}

static int put(struct replica *r, const struct store_entry *entry)
{
        struct store_entry copy;
        bool there;
        size_t at = find(r, entry->key, &there);
        int result = copy_entry(entry, &copy);

        if (result < 0)
                return result;
        if (there) {
                entry_done(&r->entries[at]);
                r->entries[at] = copy;
                return 0;
        }
        result = insert_at(r, at, &copy);
        if (result < 0)
                entry_done(&copy);
        return result;
}

static void clear(struct replica *r)
{
        for (size_t i = 0; i < r->n; i++)
                entry_done(&r->entries[i]);
        r->n = 0;
}

int replica_change(struct replica *r, const struct store_change *changes, size_t n, uint64_t revision, bool fresh)
{
        if (fresh)
                clear(r);
        for (size_t i = 0; i < n; i++) {
                const struct store_change *c = &changes[i];
                bool there;
                size_t at;

                if (!is_of_view(c->entry->key))
                        continue;
                if (!c->deleted) {
                        int result = put(r, c->entry);

                        if (result < 0)
                                return result;
                        continue;
                }
                at = find(r, c->entry->key, &there);
                if (there)
                        remove_at(r, at);
        }
        r->revision = revision;
        return 0;
}

int replica_view(const struct replica *r, struct cluster_view *ret, struct error *e)
{
        _cleanup_cluster_view_ struct cluster_view view = { .revision = r->revision };
        int result = 0;

        for (size_t i = 0; result >= 0 && i < r->n; i++)
                result = cluster_view_add(&view, r->entries[i].key, r->entries[i].value, r->entries[i].size,
                                          r->entries[i].modified, e);
        if (result >= 0)
                *ret = TAKE(view, (struct cluster_view){});
        return result;
}

void replica_done(struct replica *r)
{
        clear(r);
        free(r->entries);
        *r = (struct replica){};
}
