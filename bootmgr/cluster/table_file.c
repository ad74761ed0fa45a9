/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The text of a local store: for people to read, where values are text. */
#include "base/base64.h"
#include "base/json.h"
#include "base/text.h"
#include "cluster/backend.h"
#include "cluster/table.h"
#include "slot/kinds.h"

#define FORMAT       1
#define REVISION_MAX (INT64_MAX / 2) /* nothing reaches it, and one more is still a number of JSON */

static json_t *entry_to_json(const struct store_entry *entry)
{
        json_t *o = json_pack("{s:s, s:I, s:I}", "key", entry->key, "created", (json_int_t)entry->created, "modified",
                              (json_int_t)entry->modified);
        _cleanup_buf_ struct buf b = {};
        json_t *value;

        if (entry->size > 0 && text_is_printable(entry->value, entry->size)) {
                value = json_stringn(entry->value, entry->size);
        } else {
                base64_append(&b, entry->value, entry->size);
                value = b.failed ? NULL : json_string(b.data ?: "");
        }
        if (json_object_set_new(o, b.data || entry->size == 0 ? "base64" : "text", value) == 0)
                return o;
        json_decref(o);
        return NULL;
}

char *table_format(const struct table *t)
{
        _cleanup_json_ json_t *keys = json_array(), *o = NULL;

        for (size_t i = 0; i < t->n_items; i++)
                if (json_array_append_new(keys, entry_to_json(&t->items[i]->entry)) < 0)
                        return NULL;
        o = json_pack("{s:i, s:I, s:O}", "format", FORMAT, "revision", (json_int_t)t->revision, "keys", keys);
        return o ? json_dumps(o, JSON_INDENT(1)) : NULL;
}

/* `*data` is malloc'ed. */
static int get_value(const json_t *o, char **data, size_t *size, struct error *e)
{
        const char *text = NULL, *encoded = NULL;
        int r = json_opt_string(o, "text", &text, e);

        if (r >= 0)
                r = json_opt_string(o, "base64", &encoded, e);
        if (r < 0)
                return r;
        if (!text == !encoded)
                return -EINVAL;
        if (encoded)
                return base64_decode(encoded, strlen(encoded), data, size);
        *size = strlen(text);
        *data = strdup(text);
        return *data ? 0 : -ENOMEM;
}

static int parse_entry(const json_t *o, struct table *t, struct error *e)
{
        struct store_entry entry = {};
        _cleanup_free_ char *data = NULL;
        const char *key;
        int r = json_get_string(o, "key", &key, e);

        if (r >= 0)
                r = json_get_u64(o, "created", &entry.created, e);
        if (r >= 0)
                r = json_get_u64(o, "modified", &entry.modified, e);
        if (r >= 0)
                r = get_value(o, &data, &entry.size, e);
        if (r < 0)
                return r;
        entry.key = (char *)key;
        entry.value = data;
        if (!store_key_valid(key) || entry.size > STORE_VALUE_MAX || entry.created < 2 || entry.created > entry.modified ||
            entry.modified > t->revision)
                return fail(e, -EBADMSG, &kind_store, "the key '%.64s' is not as it is written", key);
        return table_add(t, &entry) < 0 ? fail(e, -EBADMSG, &kind_store, "the key '%.64s' is out of order", key) : 0;
}

static int parse(const json_t *o, struct table *t, struct error *e)
{
        uint64_t format;
        json_t *keys, *key;
        size_t i;
        int r = json_get_u64(o, "format", &format, e);

        if (r >= 0 && format != FORMAT)
                return fail(e, -EPROTONOSUPPORT, &kind_store, "the local store has format %llu, this program knows %d",
                            (unsigned long long)format, FORMAT);
        if (r >= 0)
                r = json_get_u64(o, "revision", &t->revision, e);
        if (r >= 0)
                r = json_get_array(o, "keys", &keys, e);
        if (r < 0)
                return r;
        if (t->revision < 1 || t->revision > REVISION_MAX)
                return fail(e, -EBADMSG, &kind_store, "the local store has no revision");
        json_array_foreach(keys, i, key)
        {
                r = parse_entry(key, t, e);
                if (r < 0)
                        return fail(e, r == -ENOMEM ? r : -EBADMSG, &kind_store, "key %zu of the local store is damaged", i);
        }
        return 0;
}

int table_parse(const char *text, size_t size, struct table *ret, struct error *e)
{
        _cleanup_json_ json_t *o = NULL;
        int r = json_parse_strict(text, size, "the local store", &o, e);

        table_init(ret);
        if (r >= 0)
                r = parse(o, ret, e);
        if (r >= 0) {
                ret->known = ret->exact = ret->revision;
                return 0;
        }
        table_done(ret);
        return r == -ENOMEM || r == -EPROTONOSUPPORT ? r : -EBADMSG;
}
