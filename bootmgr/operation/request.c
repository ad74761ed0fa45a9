/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "operation/request.h"

#include "base/clock.h"
#include "base/file.h"
#include "slot/kinds.h"

#define REQUESTS     "requests.json"
#define REQUESTS_MAX (64 * 1024)

static int refuse_other(const char *id, struct error *e)
{
        fail(e, -EEXIST, &kind_id_reused, "the id %s was used for something else", id);
        return fail_hint(e, "make a new id for each request, and repeat a request with the same words");
}

static bool is_same(const struct operation *op, const char *verb, const char *source)
{
        if (op->kind == OPERATION_UPGRADE)
                return streq(verb, "upgrade") && streq(op->source, source);
        return op->kind == OPERATION_ROLLBACK && streq(verb, "rollback");
}

static int find_operation(struct machine *m, const char *id, const char *verb, const char *source, json_t **ret,
                          struct error *e)
{
        _cleanup_operation_ struct operation current = {};
        struct operation *ops = NULL;
        size_t n = 0;
        int r;

        r = operation_history(m, &ops, &n, e);
        for (size_t i = 0; r == 0 && i < n; i++) {
                struct operation *op = &ops[i];

                if (!streq(op->id, id))
                        continue;
                /* The newest is told as it really stands. */
                if (i == 0 && operation_current(m, &current, NULL) >= 0 && streq(current.id, id))
                        op = &current;
                if (!is_same(op, verb, source)) {
                        r = refuse_other(id, e);
                        continue;
                }
                r = i == 0 && op->staged && op->result == RESULT_IN_PROGRESS ? REQUEST_STAGED : REQUEST_KNOWN;
                *ret = operation_to_json(op);
        }
        for (size_t i = 0; i < n; i++)
                operation_done(&ops[i]);
        free(ops);
        return r;
}

/* One that is damaged holds nothing: what it kept is at most asked for once more. */
static json_t *load(struct machine *m)
{
        _cleanup_free_ char *text = NULL;
        _cleanup_json_ json_t *list = NULL;
        size_t size;

        if (file_read(m->snapshots.data, REQUESTS, REQUESTS_MAX, &text, &size) >= 0 &&
            json_parse_strict(text, size, REQUESTS, &list, NULL) >= 0 && json_is_array(list))
                return TAKE_PTR(list);
        return json_array();
}

static const char *member(const json_t *o, const char *name)
{
        return json_string_value(json_object_get(o, name));
}

int request_find(struct machine *m, const char *id, const char *verb, const char *source, json_t **ret, struct error *e)
{
        _cleanup_json_ json_t *list = NULL;
        json_t *request;
        size_t i;
        int r;

        r = machine_need_data(m, e);
        if (r >= 0)
                r = find_operation(m, id, verb, source, ret, e);
        if (r != 0)
                return r;
        list = load(m);
        json_array_foreach(list, i, request)
        {
                if (!streq(member(request, "id"), id))
                        continue;
                if (!streq(member(request, "verb"), verb))
                        return refuse_other(id, e);
                *ret = json_pack("{s:s}", "result", "done");
                return REQUEST_KNOWN;
        }
        return REQUEST_NEW;
}

int request_remember(struct machine *m, const char *id, const char *verb, struct error *e)
{
        _cleanup_json_ json_t *list = load(m);
        _cleanup_free_ char *text = NULL;
        int r;

        json_array_insert_new(
                list, 0, json_pack("{s:s, s:s, s:o}", "id", id, "verb", verb, "time", json_time_or_null(now_realtime())));
        while (json_array_size(list) > REQUEST_KEEP)
                json_array_remove(list, REQUEST_KEEP);
        text = json_dumps(list, JSON_INDENT(1));
        r = text ? file_replace(m->snapshots.data, REQUESTS, text, strlen(text), 0600) : -ENOMEM;
        return r < 0 ? fail_errno(e, r, "cannot write %s/" REQUESTS, m->data_path) : 0;
}
