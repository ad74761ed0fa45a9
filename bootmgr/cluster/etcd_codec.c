/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/base64.h"
#include "base/json.h"
#include "base/parse.h"
#include "cluster/backend.h"
#include "cluster/etcd.h"
#include "slot/kinds.h"

/* gRPC's numbers for what went wrong. */
enum {
        CODE_INVALID = 3,
        CODE_DEADLINE = 4,
        CODE_DENIED = 7,
        CODE_EXHAUSTED = 8,
        CODE_OUT_OF_RANGE = 11,
        CODE_UNAVAILABLE = 14,
        CODE_UNAUTHENTICATED = 16,
};

/* ---- requests ---- */

static void put_bytes(struct buf *b, const char *name, const void *data, size_t size)
{
        buf_printf(b, "\"%s\":\"", name);
        base64_append(b, data, size);
        buf_puts(b, "\"");
}

/* All keys that begin with the prefix are those from it on, before the one whose last byte is one more. Ours are ASCII: it
 * never overflows. A NUL for both is all there are. */
static void put_prefix(struct buf *b, const char *prefix)
{
        char end[STORE_KEY_MAX + 1] = {};
        size_t n = strlen(prefix);

        memcpy(end, prefix, n);
        if (n > 0)
                end[n - 1]++;
        put_bytes(b, "key", n > 0 ? prefix : "", MAX(n, (size_t)1));
        buf_puts(b, ",");
        put_bytes(b, "range_end", end, MAX(n, (size_t)1));
}

char *etcd_range_body(const struct store_range *range)
{
        struct buf b = {};

        buf_puts(&b, "{");
        if (range->prefix)
                put_prefix(&b, range->key);
        else
                put_bytes(&b, "key", range->key, strlen(range->key));
        buf_printf(&b, ",\"revision\":\"%llu\"%s}", (unsigned long long)range->revision,
                   range->keys_only ? ",\"keys_only\":true" : "");
        return buf_take(&b);
}

static void put_compare(struct buf *b, const struct store_compare *c)
{
        unsigned long long revision = c->test == STORE_ABSENT ? 0 : c->revision;

        buf_puts(b, "{");
        if (c->test == STORE_QUIET) {
                put_prefix(b, c->key);
                buf_printf(b, ",\"target\":\"MOD\",\"result\":\"LESS\",\"mod_revision\":\"%llu\"}", revision + 1);
                return;
        }
        put_bytes(b, "key", c->key, strlen(c->key));
        if (c->test == STORE_VALUE) {
                buf_puts(b, ",\"target\":\"VALUE\",\"result\":\"EQUAL\",");
                put_bytes(b, "value", c->value, c->size);
                buf_puts(b, "}");
        } else {
                buf_printf(b, ",\"target\":\"MOD\",\"result\":\"EQUAL\",\"mod_revision\":\"%llu\"}", revision);
        }
}

static void put_write(struct buf *b, const struct store_write *w)
{
        buf_printf(b, "{\"request_%s\":{", w->delete ? "delete_range" : "put");
        if (w->prefix)
                put_prefix(b, w->key);
        else
                put_bytes(b, "key", w->key, strlen(w->key));
        if (!w->delete) {
                buf_puts(b, ",");
                put_bytes(b, "value", w->value, w->size);
        }
        buf_puts(b, "}}");
}

char *etcd_txn_body(const struct store_txn *txn)
{
        struct buf b = {};

        buf_puts(&b, "{\"compare\":[");
        for (size_t i = 0; i < txn->n_compares; i++) {
                buf_puts(&b, i ? "," : "");
                put_compare(&b, &txn->compares[i]);
        }
        buf_puts(&b, "],\"success\":[");
        for (size_t i = 0; i < txn->n_writes; i++) {
                buf_puts(&b, i ? "," : "");
                put_write(&b, &txn->writes[i]);
        }
        buf_puts(&b, "]}");
        return buf_take(&b);
}

char *etcd_watch_body(const char *prefix, uint64_t from)
{
        struct buf b = {};

        buf_puts(&b, "{\"create_request\":{");
        put_prefix(&b, prefix);
        buf_printf(&b, ",\"start_revision\":\"%llu\"}}", (unsigned long long)from);
        return buf_take(&b);
}

/* ---- answers ---- */

/* A number, as a string or as itself; 0 when it is not there. */
static int get_number(const json_t *o, const char *name, uint64_t *ret)
{
        const json_t *value = json_object_get(o, name);

        *ret = 0;
        if (!value)
                return 0;
        if (json_is_integer(value) && json_integer_value(value) >= 0) {
                *ret = (uint64_t)json_integer_value(value);
                return 0;
        }
        return json_is_string(value) && parse_u64(json_string_value(value), ret) >= 0 && *ret <= INT64_MAX ? 0 : -EBADMSG;
}

static int get_bytes(const json_t *o, const char *name, char **ret, size_t *ret_size)
{
        const json_t *value = json_object_get(o, name);
        int r;

        if (value && !json_is_string(value))
                return -EBADMSG;
        r = base64_decode(json_string_value(value) ?: "", json_string_length(value), ret, ret_size);
        return r >= 0 || r == -ENOMEM ? r : -EBADMSG;
}

/* The member, when it is an array; NULL is an empty one. */
static int get_list(const json_t *o, const char *name, json_t **ret)
{
        *ret = json_object_get(o, name);
        return !*ret || json_is_array(*ret) ? 0 : -EBADMSG;
}

static int get_revision(const json_t *o, uint64_t *ret)
{
        int r = get_number(json_object_get(o, "header"), "revision", ret);

        return r < 0 ? r : *ret > 0 ? 0 : -EBADMSG;
}

static int add_entry(struct store_reply *reply, const json_t *kv)
{
        _cleanup_free_ char *key = NULL, *value = NULL;
        struct store_entry entry = {};
        size_t length;
        int r = json_is_object(kv) ? get_bytes(kv, "key", &key, &length) : -EBADMSG;

        if (r >= 0)
                r = get_bytes(kv, "value", &value, &entry.size);
        if (r >= 0)
                r = get_number(kv, "create_revision", &entry.created);
        if (r >= 0)
                r = get_number(kv, "mod_revision", &entry.modified);
        if (r < 0)
                return r;
        if (strlen(key) != length || !store_key_valid(key) || entry.size > STORE_VALUE_MAX || entry.modified == 0)
                return -EBADMSG;
        entry.key = key;
        entry.value = value;
        return store_reply_add(reply, &entry);
}

static int parse(const char *text, size_t size, json_t **ret, struct error *e)
{
        int r = json_parse_strict(text, size, "etcd's answer", ret, e);

        if (r >= 0 && !json_is_object(*ret)) {
                json_decref(TAKE_PTR(*ret));
                r = -EBADMSG;
        }
        return r < 0 ? fail(e, r == -ENOMEM ? r : -EBADMSG, &kind_store, "etcd's answer is no JSON object") : 0;
}

/* Any failure to read an answer is one that is not as it should be. */
static int unexpected(struct error *e, int r, const char *what)
{
        return r >= 0 ? 0 : fail(e, r == -ENOMEM ? r : -EBADMSG, &kind_store, "%s of etcd is not as it should be", what);
}

static const struct {
        uint64_t code;
        int result;
} results[] = {
        { CODE_INVALID, -EINVAL },         { CODE_DEADLINE, -EAGAIN },     { CODE_DENIED, -EACCES },
        { CODE_EXHAUSTED, -ENOSPC },       { CODE_OUT_OF_RANGE, -ESTALE }, { CODE_UNAVAILABLE, -EAGAIN },
        { CODE_UNAUTHENTICATED, -EACCES },
};

/* An object with "code" is an error. */
static int fail_answer(const json_t *o, long status, struct error *e)
{
        const char *message = json_string_value(json_object_get(o, "message"))
                                      ?: json_string_value(json_object_get(o, "error"));
        uint64_t code = 0;
        int result = status >= 500 ? -EAGAIN : -EIO;

        (void)get_number(o, "code", &code);
        for (size_t i = 0; i < ARRAY_SIZE(results); i++)
                if (results[i].code == code)
                        result = results[i].result;
        /* Until somebody says that there is room again it takes nothing, whatever compaction has freed meanwhile. */
        if (message && strstr(message, "database space exceeded"))
                return fail(e, result, &kind_store,
                            "etcd: %.200s: 'systemctl restart bootmgr-etcd' on each controller, one by one, makes room",
                            message);
        if (message)
                return fail(e, result, &kind_store, "etcd: %.200s", message);
        return fail(e, result, &kind_store, "etcd answers %ld, code %llu", status, (unsigned long long)code);
}

int etcd_judge(long status, const char *body, size_t size, struct error *e)
{
        _cleanup_json_ json_t *o = NULL;

        if (json_parse_strict(body, size, "etcd's answer", &o, NULL) < 0 || !json_is_object(o))
                return fail(e, -EAGAIN, &kind_store, "etcd answers %ld and no JSON", status);
        if (status >= 300 || json_object_get(o, "code") || json_object_get(o, "error"))
                return fail_answer(o, status, e);
        return 0;
}

int etcd_parse_range(const char *body, size_t size, struct store_reply *ret, struct error *e)
{
        _cleanup_json_ json_t *o = NULL;
        _cleanup_reply_ struct store_reply reply = {};
        json_t *list, *kv;
        size_t i;
        int r = parse(body, size, &o, e);

        if (r >= 0)
                r = get_revision(o, &reply.revision);
        if (r >= 0)
                r = get_list(o, "kvs", &list);
        if (r < 0)
                return unexpected(e, r, "a range");
        json_array_foreach(list, i, kv)
        {
                r = add_entry(&reply, kv);
                if (r < 0)
                        return unexpected(e, r, "a key in a range");
        }
        *ret = TAKE(reply, (struct store_reply){});
        return 0;
}

int etcd_parse_txn(const char *body, size_t size, struct store_reply *ret, struct error *e)
{
        _cleanup_json_ json_t *o = NULL;
        struct store_reply reply = {};
        int r = parse(body, size, &o, e);

        if (r >= 0)
                r = get_revision(o, &reply.revision);
        if (r < 0)
                return unexpected(e, r, "a transaction");
        reply.done = json_is_true(json_object_get(o, "succeeded"));
        *ret = reply;
        return 0;
}

static int add_event(struct etcd_events *events, const json_t *event)
{
        const char *type = json_string_value(json_object_get(event, "type"));
        size_t n = events->entries.n_entries;
        uint64_t revision;
        int r;

        if (type && !streq(type, "DELETE") && !streq(type, "PUT"))
                return -EBADMSG;
        r = add_entry(&events->entries, json_object_get(event, "kv"));
        if (r < 0)
                return r;
        revision = events->entries.entries[n].modified;
        if (revision < events->revision)
                return -EBADMSG;
        events->revision = revision;
        events->deleted[n] = streq(type, "DELETE");
        return 0;
}

static int parse_result(const json_t *result, struct etcd_events *events)
{
        uint64_t compacted;
        json_t *list, *event;
        size_t i;
        int r = get_list(result, "events", &list);

        if (r >= 0)
                r = get_number(result, "compact_revision", &compacted);
        if (r < 0)
                return r;
        events->created = json_is_true(json_object_get(result, "created"));
        events->compacted = compacted > 0;
        events->ended = json_is_true(json_object_get(result, "canceled"));
        events->deleted = calloc(json_array_size(list) + 1, sizeof(bool));
        if (!events->deleted)
                return -ENOMEM;
        json_array_foreach(list, i, event)
        {
                r = add_event(events, event);
                if (r < 0)
                        return r;
        }
        return 0;
}

int etcd_parse_events(const char *line, size_t size, struct etcd_events *ret, struct error *e)
{
        _cleanup_json_ json_t *o = NULL;
        _cleanup_events_ struct etcd_events events = {};
        const json_t *result, *error;
        int r = parse(line, size, &o, e);

        if (r < 0)
                return r;
        result = json_object_get(o, "result");
        error = json_object_get(o, "error");
        if (error || json_object_get(o, "code"))
                return fail_answer(json_is_object(error) ? error : o, 200, e);
        r = json_is_object(result) ? parse_result(result, &events) : -EBADMSG;
        if (r < 0)
                return unexpected(e, r, "a watch");
        *ret = TAKE(events, (struct etcd_events){});
        return 0;
}

void etcd_events_done(struct etcd_events *events)
{
        store_reply_done(&events->entries);
        free(events->deleted);
        *events = (struct etcd_events){};
}
