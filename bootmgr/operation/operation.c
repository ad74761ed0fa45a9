/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The model of an operation and its JSON. */
#include "operation/operation.h"

#include "base/buf.h"
#include "base/clock.h"
#include "operation/record.h"

static const char *const step_states[_STEP_STATE_MAX] = {
        [STEP_WAITING] = "WAITING", [STEP_RUNNING] = "RUNNING", [STEP_DONE] = "DONE",
        [STEP_FAILED] = "FAILED",   [STEP_SKIPPED] = "SKIPPED",
};

static const char *const results[_RESULT_MAX] = {
        [RESULT_IN_PROGRESS] = "IN_PROGRESS", [RESULT_DONE] = "DONE",       [RESULT_PARTIAL] = "PARTIAL",
        [RESULT_FAILED] = "FAILED",           [RESULT_ABORTED] = "ABORTED",
};

const char *step_state_to_string(enum step_state s)
{
        return s < _STEP_STATE_MAX ? step_states[s] : "";
}

const char *operation_result_to_string(enum operation_result r)
{
        return r < _RESULT_MAX ? results[r] : "";
}

static int lookup(const char *const *names, int n, const char *name)
{
        for (int i = 0; i < n; i++)
                if (streq(names[i], name))
                        return i;
        return -EINVAL;
}

static int kind_from_string(const char *name)
{
        for (int k = 0; k < _OPERATION_KIND_MAX; k++)
                if (streq(operation_kind_to_string((enum operation_kind)k), name))
                        return k;
        return -EINVAL;
}

void operation_done(struct operation *op)
{
        for (size_t i = 0; i < op->n_steps; i++)
                free(TAKE_PTR(op->steps[i].message));
        free(TAKE_PTR(op->reason));
        free(TAKE_PTR(op->source));
        free(TAKE_PTR(op->fallback));
        op->n_steps = 0;
}

unsigned operation_progress(const struct operation *op)
{
        unsigned sum = 0;

        if (op->result == RESULT_DONE)
                return 100;
        for (size_t i = 0; i < op->n_steps; i++) {
                const struct step_record *s = &op->steps[i];
                /* One that was skipped by the end of the operation never began. */
                bool passed = s->state == STEP_DONE || (s->state == STEP_SKIPPED && s->start > 0);

                sum += passed ? 100 : s->progress;
        }
        return op->n_steps ? sum / (unsigned)op->n_steps : 0;
}

static json_t *slot_to_json(int slot)
{
        char name[2] = { slot == SLOT_NONE ? '\0' : slot_name(slot) };

        return json_string_or_null(slot == SLOT_NONE ? NULL : name);
}

static json_t *transfer_to_json(const struct step_transfer *t)
{
        return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "done", (json_int_t)t->done, "total", (json_int_t)t->total,
                         "fetched", (json_int_t)t->fetched, "reused", (json_int_t)t->reused, "rate", (json_int_t)t->rate,
                         "left", (json_int_t)t->left);
}

static json_t *step_to_json(const struct step_record *s)
{
        json_t *j = json_pack("{s:s, s:s, s:i, s:o, s:o, s:o}", "name", s->name, "state", step_state_to_string(s->state),
                              "progress", (int)s->progress, "start", json_time_or_null(s->start), "end",
                              json_time_or_null(s->end), "message", json_string_or_null(s->message));

        if (s->transfer.total > 0)
                json_object_set_new(j, "transfer", transfer_to_json(&s->transfer));
        return j;
}

/* Going to a slot by name is a rollback to those who read JSON: there are two words. What it is besides has a member
 * of its own. */
json_t *operation_to_json(const struct operation *op)
{
        bool activate = op->kind == OPERATION_ACTIVATE;
        enum operation_kind kind = activate ? OPERATION_ROLLBACK : op->kind;
        json_t *steps = json_array();

        for (size_t i = 0; i < op->n_steps; i++)
                json_array_append_new(steps, step_to_json(&op->steps[i]));
        return json_pack("{s:s, s:s, s:o, s:o, s:s, s:o, s:i, s:o, s:o, s:o, s:I, s:b, s:b, s:o, s:o, s:o, s:o, s:b, s:b, "
                         "s:b, s:b, s:o}",
                         "operation", operation_kind_to_string(kind), "id", op->id, "from_version",
                         json_string_or_null(*op->from_version ? op->from_version : NULL), "to_version",
                         json_string_or_null(*op->to_version ? op->to_version : NULL), "state",
                         operation_result_to_string(op->result), "reason", json_string_or_null(op->reason), "progress",
                         (int)operation_progress(op), "start", json_time_or_null(op->start), "end",
                         json_time_or_null(op->end), "steps", steps, "generation", (json_int_t)op->generation, "automatic",
                         op->automatic, "staged", op->staged, "from_slot", slot_to_json(op->from_slot), "to_slot",
                         slot_to_json(op->to_slot), "source", json_string_or_null(op->source), "fallback",
                         json_string_or_null(op->fallback), "local", op->local, "without_snapshot", op->without_snapshot,
                         "way_back", op->way_back, "activate", activate, "superseded_by",
                         json_string_or_null(*op->superseded_by ? op->superseded_by : NULL));
}

/* null and missing are the same for what may be null. */
static const char *string_or(const json_t *o, const char *name, const char *otherwise)
{
        const char *s = json_string_value(json_object_get(o, name));

        return s ?: otherwise;
}

static int get_time(const json_t *o, const char *name, uint64_t *ret)
{
        const char *text = string_or(o, name, NULL);

        *ret = 0;
        return text ? parse_time(text, ret) : 0;
}

static int dup_string(const json_t *o, const char *name, char **ret)
{
        const char *s = string_or(o, name, NULL);

        *ret = s ? strdup(s) : NULL;
        return s && !*ret ? -ENOMEM : 0;
}

static int transfer_from_json(const json_t *j, struct step_transfer *t, struct error *e)
{
        const struct {
                const char *name;
                uint64_t *value;
        } members[] = {
                { "done", &t->done },     { "total", &t->total }, { "fetched", &t->fetched },
                { "reused", &t->reused }, { "rate", &t->rate },   { "left", &t->left },
        };
        int r = 0;

        for (size_t i = 0; i < ARRAY_SIZE(members) && r >= 0; i++)
                r = json_opt_u64(j, members[i].name, members[i].value, e);
        return r;
}

static int step_from_json(const json_t *j, struct step_record *s, struct error *e)
{
        const char *name = NULL, *state = NULL;
        uint64_t progress = 0;
        int r;

        r = json_get_string(j, "name", &name, e);
        if (r >= 0)
                r = json_get_string(j, "state", &state, e);
        if (r >= 0)
                r = json_opt_u64(j, "progress", &progress, e);
        if (r < 0)
                return r;
        if (json_is_object(json_object_get(j, "transfer"))) {
                r = transfer_from_json(json_object_get(j, "transfer"), &s->transfer, e);
                if (r < 0)
                        return r;
        }
        r = lookup(step_states, _STEP_STATE_MAX, state);
        if (r < 0 || progress > 100 || strlen(name) >= sizeof(s->name))
                return fail(e, -EINVAL, NULL, "an operation's step %s with state %s is not understood", name, state);
        s->state = (enum step_state)r;
        s->progress = (unsigned)progress;
        strcpy(s->name, name);
        if (get_time(j, "start", &s->start) < 0 || get_time(j, "end", &s->end) < 0)
                return fail(e, -EINVAL, NULL, "an operation's step %s has a time that is none", name);
        return dup_string(j, "message", &s->message);
}

static int steps_from_json(const json_t *j, struct operation *op, struct error *e)
{
        json_t *steps;
        int r;

        r = json_get_array(j, "steps", &steps, e);
        if (r < 0)
                return r;
        if (json_array_size(steps) > OPERATION_MAX_STEPS)
                return fail(e, -E2BIG, NULL, "an operation with %zu steps is not understood", json_array_size(steps));
        for (size_t i = 0; i < json_array_size(steps); i++) {
                r = step_from_json(json_array_get(steps, i), &op->steps[i], e);
                op->n_steps = i + 1;
                if (r < 0)
                        return r;
        }
        return 0;
}

static int fields_from_json(const json_t *j, struct operation *op, struct error *e)
{
        const char *kind = NULL, *state = NULL, *id = NULL;
        int r;

        r = json_get_string(j, "operation", &kind, e);
        if (r >= 0)
                r = json_get_string(j, "state", &state, e);
        if (r >= 0)
                r = json_get_string(j, "id", &id, e);
        if (r >= 0)
                r = json_opt_u64(j, "generation", &op->generation, e);
        if (r < 0)
                return r;
        op->kind = (enum operation_kind)MAX(kind_from_string(kind), 0);
        if (op->kind == OPERATION_ROLLBACK && json_is_true(json_object_get(j, "activate")))
                op->kind = OPERATION_ACTIVATE;
        r = lookup(results, _RESULT_MAX, state);
        /* The id becomes part of a file's name. */
        if (r < 0 || op->kind == OPERATION_NONE || strlen(id) != OPERATION_ID_SIZE - 1 ||
            strspn(id, "0123456789abcdef") != OPERATION_ID_SIZE - 1)
                return fail(e, -EINVAL, NULL, "an operation %s in state %s is not understood", kind, state);
        op->result = (enum operation_result)r;
        strcpy(op->id, id);
        snprintf(op->from_version, sizeof(op->from_version), "%s", string_or(j, "from_version", ""));
        snprintf(op->to_version, sizeof(op->to_version), "%s", string_or(j, "to_version", ""));
        snprintf(op->superseded_by, sizeof(op->superseded_by), "%s", string_or(j, "superseded_by", ""));
        op->from_slot = slot_from_name(string_or(j, "from_slot", ""));
        op->to_slot = slot_from_name(string_or(j, "to_slot", ""));
        op->automatic = json_is_true(json_object_get(j, "automatic"));
        op->staged = json_is_true(json_object_get(j, "staged"));
        op->local = json_is_true(json_object_get(j, "local"));
        op->without_snapshot = json_is_true(json_object_get(j, "without_snapshot"));
        op->way_back = json_is_true(json_object_get(j, "way_back"));
        if (get_time(j, "start", &op->start) < 0 || get_time(j, "end", &op->end) < 0)
                return fail(e, -EINVAL, NULL, "operation %s has a time that is none", id);
        r = dup_string(j, "reason", &op->reason);
        if (r >= 0)
                r = dup_string(j, "source", &op->source);
        return r < 0 ? r : dup_string(j, "fallback", &op->fallback);
}

int operation_from_json(const json_t *j, struct operation *ret, struct error *e)
{
        struct operation op = { .from_slot = SLOT_NONE, .to_slot = SLOT_NONE };
        int r;

        r = fields_from_json(j, &op, e);
        if (r >= 0)
                r = steps_from_json(j, &op, e);
        if (r < 0) {
                operation_done(&op);
                return r;
        }
        *ret = op;
        return 0;
}

struct step_record *operation_step(struct operation *op, const char *name)
{
        for (size_t i = 0; i < op->n_steps; i++)
                if (streq(op->steps[i].name, name))
                        return &op->steps[i];
        return NULL;
}

void step_begin(struct step_record *s)
{
        s->state = STEP_RUNNING;
        s->progress = 0;
        s->start = now_realtime();
        s->end = 0;
}

void step_end(struct step_record *s, enum step_state state, const char *message)
{
        if (!s->start)
                s->start = now_realtime();
        s->end = now_realtime();
        s->state = state;
        if (state == STEP_DONE || state == STEP_SKIPPED)
                s->progress = 100;
        if (message) {
                free(s->message);
                s->message = strdup(message);
        }
}

void operation_end(struct operation *op, enum operation_result result, const char *reason)
{
        op->result = result;
        op->staged = false;
        op->end = now_realtime();
        if (reason) {
                free(op->reason);
                op->reason = strdup(reason);
        }
        for (size_t i = 0; i < op->n_steps; i++) {
                struct step_record *s = &op->steps[i];

                if (s->state == STEP_RUNNING)
                        step_end(s, result == RESULT_DONE ? STEP_DONE : STEP_FAILED, result == RESULT_DONE ? NULL : reason);
                else if (s->state == STEP_WAITING)
                        s->state = STEP_SKIPPED;
        }
}
