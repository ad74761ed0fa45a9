/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cluster/replica.h"

#include "base/buf.h"

static bool is_of_view(const char *key)
{
        return !startswith(key, KEY_LOG) && !startswith(key, KEY_HISTORY) && !startswith(key, KEY_TOKENS) &&
               !startswith(key, KEY_REQUESTS);
}

/* Where the key is, or would be. */
static size_t find(const struct replica *r, const char *key, bool *ret_there)
{
        size_t from = 0, to = r->n;

        *ret_there = false;
        while (from < to) {
                size_t middle = (from + to) / 2;
                int order = strcmp(key, r->entries[middle].entry.key);

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

/* All at once: the votes of an operation go together, and each move would be of all that is behind. */
static void drop_deleted(struct replica *r)
{
        size_t kept = 0;

        for (size_t i = 0; i < r->n; i++) {
                if (r->entries[i].deleted)
                        entry_done(&r->entries[i].entry);
                else
                        r->entries[kept++] = r->entries[i];
        }
        r->n = kept;
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
                struct replica_entry *more = reallocarray(r->entries, n, sizeof(*more));

                if (!more)
                        return -ENOMEM;
                r->entries = more;
                r->allocated = n;
        }
        memmove(&r->entries[at + 1], &r->entries[at], (r->n++ - at) * sizeof(*r->entries));
        r->entries[at] = (struct replica_entry){ *entry, .changed = true };
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
                entry_done(&r->entries[at].entry);
                r->entries[at] = (struct replica_entry){ copy, .changed = true };
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
                entry_done(&r->entries[i].entry);
        r->n = 0;
        r->whole = true;
}

static void delete (struct replica *r, const char *key)
{
        bool there;
        size_t at = find(r, key, &there);

        if (!there)
                return;
        r->entries[at].deleted = r->whole = true;
}

int replica_change(struct replica *r, const struct store_change *changes, size_t n, uint64_t revision, bool fresh)
{
        int result = 0;

        if (fresh)
                clear(r);
        for (size_t i = 0; i < n && result >= 0; i++) {
                const struct store_change *c = &changes[i];

                if (!is_of_view(c->entry->key))
                        continue;
                if (c->deleted)
                        delete (r, c->entry->key);
                else
                        result = put(r, c->entry);
        }
        if (r->whole)
                drop_deleted(r);
        r->revision = revision;
        return result;
}

int replica_view(const struct replica *r, struct cluster_view *ret, struct error *e)
{
        _cleanup_cluster_view_ struct cluster_view view = { .revision = r->revision, .news = r->revision };
        int result = 0;

        for (size_t i = 0; result >= 0 && i < r->n; i++) {
                const struct store_entry *entry = &r->entries[i].entry;

                result = cluster_view_add(&view, entry->key, entry->value, entry->size, entry->modified, e);
        }
        if (result >= 0)
                *ret = TAKE(view, (struct cluster_view){});
        return result;
}

/* ---- keeping one up to date ---- */

/* What was said before the member was there belongs to it now. */
static void look_again(struct replica *r, const char *prefix, const char *of, const char *name)
{
        _cleanup_free_ char *key = xasprintf("%s%s/%s", prefix, of, name);
        bool there = false;
        size_t at = key ? find(r, key, &there) : 0;

        if (there)
                r->entries[at].changed = true;
        r->whole = r->whole || !key;
}

static void look_at_what_it_said(struct replica *r, const struct cluster_view *view, const char *name)
{
        const struct cluster_node *n = cluster_view_node(view, name);
        char id[CLUSTER_ID_TEXT_SIZE];

        if (!n)
                return;
        look_again(r, KEY_STATUS, node_role_to_string(n->member.role), name);
        if (!operation_is_open(view))
                return;
        id_to_text(view->operation.id, id);
        look_again(r, KEY_VOTES, id, name);
        look_again(r, KEY_ORDERS, id, name);
}

static bool is_word_of_a_node(const char *key)
{
        return startswith(key, KEY_STATUS) || startswith(key, KEY_VOTES);
}

/* 1: it is to be made of everything. Members stand before what they say. */
static int update_changed(struct replica *r, struct cluster_view *view, struct error *e)
{
        int result = 0;

        for (size_t i = 0; result == 0 && i < r->n; i++) {
                const struct store_entry *entry = &r->entries[i].entry;
                const char *name = startswith(entry->key, KEY_NODES);
                bool is_new;

                if (!r->entries[i].changed)
                        continue;
                is_new = name && !cluster_view_node(view, name);
                result = cluster_view_update(view, entry->key, entry->value, entry->size, entry->modified, e);
                if (!is_word_of_a_node(entry->key))
                        view->news = r->revision;
                if (result == 0 && is_new)
                        look_at_what_it_said(r, view, name);
        }
        return result ?: r->whole;
}

static enum record_type type_of(const char *key)
{
        static const struct {
                const char *prefix;
                enum record_type type;
        } types[] = { { KEY_STATUS, RECORD_STATUS }, { KEY_VOTES, RECORD_VOTE },          { KEY_ORDERS, RECORD_ORDER },
                      { KEY_NODES, RECORD_MEMBER },  { KEY_OPERATION, RECORD_OPERATION }, { KEY_RECORD, RECORD_CLUSTER } };

        for (size_t i = 0; i < ARRAY_SIZE(types); i++)
                if (startswith(key, types[i].prefix))
                        return types[i].type;
        return _RECORD_MAX;
}

/* A view that was brought half of the way would be of no revision at all: what cannot be read is found before. */
static bool can_be_read(const struct replica *r)
{
        union any_record room;

        for (size_t i = 0; i < r->n; i++) {
                const struct store_entry *entry = &r->entries[i].entry;
                enum record_type type = r->entries[i].changed ? type_of(entry->key) : _RECORD_MAX;

                if (type == _RECORD_MAX)
                        continue;
                if (record_decode(type, entry->value, entry->size, &room, NULL) < 0)
                        return false;
                record_done(type, &room);
        }
        return true;
}

int replica_update(struct replica *r, struct cluster_view *view, struct error *e)
{
        struct cluster_view whole;
        int result = 1;

        if (!r->whole && view->revision > 0 && can_be_read(r))
                result = update_changed(r, view, e);
        if (result != 0) {
                r->whole = true;
                result = replica_view(r, &whole, e);
                if (result < 0)
                        return result;
                cluster_view_done(view);
                *view = whole;
        }
        for (size_t i = 0; i < r->n; i++)
                r->entries[i].changed = false;
        r->whole = false;
        view->revision = r->revision;
        return 0;
}

void replica_done(struct replica *r)
{
        clear(r);
        free(r->entries);
        *r = (struct replica){};
}
