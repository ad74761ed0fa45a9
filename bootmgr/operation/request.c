/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "operation/request.h"

#include "slot/kinds.h"

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

int request_find(struct machine *m, const char *id, const char *verb, const char *source, json_t **ret, struct error *e)
{
        int r = machine_need_data(m, e);

        return r < 0 ? r : find_operation(m, id, verb, source, ret, e);
}
