/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cluster/record.h"

#include "base/buf.h"
#include "base/text.h"
#include "base/version.h"

static const char *const phases[_PHASE_MAX] = {
        [PHASE_IDLE] = "IDLE",       [PHASE_PREPARE] = "PREPARE",     [PHASE_CONTROLLERS] = "CONTROLLERS",
        [PHASE_ENGINES] = "ENGINES", [PHASE_TAKE_BACK] = "TAKE_BACK",
};
static const char *const results[_CLUSTER_RESULT_MAX] = {
        [CLUSTER_IN_PROGRESS] = "IN_PROGRESS", [CLUSTER_DONE] = "DONE",       [CLUSTER_PARTIAL] = "PARTIAL",
        [CLUSTER_FAILED] = "FAILED",           [CLUSTER_ABORTED] = "ABORTED",
};
static const char *const modes[_ENGINES_MODE_MAX] = { [ENGINES_TOGETHER] = "together", [ENGINES_ROLLING] = "rolling" };
static const char *const origins[_ORIGIN_MAX] = {
        [ORIGIN_INIT] = "init",     [ORIGIN_COMMIT] = "commit",     [ORIGIN_GO_BACK] = "go-back",
        [ORIGIN_FOLLOW] = "follow", [ORIGIN_FINALIZE] = "finalize",
};
static const char *const kinds[] = { [OPERATION_UPGRADE] = "UPGRADE", [OPERATION_ROLLBACK] = "ROLLBACK" };

/* ---- the tables: one row for each member ---- */

enum field_type {
        FIELD_NUMBER, /* at most `max` */
        FIELD_BOOL,
        FIELD_ENUM,    /* one of `names` */
        FIELD_BYTES,   /* `max` bytes as hex; null: zeros */
        FIELD_TEXT,    /* less than `max` bytes, printable */
        FIELD_NAME,    /* of a member */
        FIELD_VERSION, /* struct version_id; null: none */
        FIELD_FENCES,
        FIELD_STRAGGLERS,
        FIELD_RECORD, /* struct cluster_record in an operation */
};

struct field {
        const char *name;
        enum field_type type;
        size_t offset;
        uint64_t max;
        const char *const *names;
        bool may_miss; /* since a later minor, or where none is said by leaving it out */
};

#define NUMBER(s, member, most)                                                                                             \
        {                                                                                                                   \
#member, FIELD_NUMBER, offsetof(struct s, member), most, NULL, false                                        \
        }
#define TIME(s, member)                                                                                                     \
        {                                                                                                                   \
#member "_usec", FIELD_NUMBER, offsetof(struct s, member), INT64_MAX, NULL, true                            \
        }
#define FLAG(s, member)                                                                                                     \
        {                                                                                                                   \
#member, FIELD_BOOL, offsetof(struct s, member), 0, NULL, false                                             \
        }
#define CHOICE(s, member, table)                                                                                            \
        {                                                                                                                   \
#member, FIELD_ENUM, offsetof(struct s, member), ARRAY_SIZE(table), table, false                            \
        }
#define BYTES(s, member)                                                                                                    \
        {                                                                                                                   \
#member, FIELD_BYTES, offsetof(struct s, member), sizeof(((struct s *)0)->member), NULL, true               \
        }
#define TEXT(s, member)                                                                                                     \
        {                                                                                                                   \
#member, FIELD_TEXT, offsetof(struct s, member), sizeof(((struct s *)0)->member), NULL, true                \
        }
#define OTHER(s, member, kind, optional)                                                                                    \
        {                                                                                                                   \
#member, kind, offsetof(struct s, member), 0, NULL, optional                                                \
        }

static const struct field record_fields[] = {
        NUMBER(cluster_record, epoch, CLUSTER_EPOCH_MAX),
        OTHER(cluster_record, running, FIELD_VERSION, false),
        OTHER(cluster_record, previous, FIELD_VERSION, true),
        NUMBER(cluster_record, previous_epoch, CLUSTER_EPOCH_MAX),
        FLAG(cluster_record, finalized),
        CHOICE(cluster_record, origin, origins),
        BYTES(cluster_record, operation),
        TIME(cluster_record, written),
        OTHER(cluster_record, fences, FIELD_FENCES, true),
        {},
};
static const struct field operation_fields[] = {
        BYTES(cluster_operation, id),
        CHOICE(cluster_operation, kind, kinds),
        CHOICE(cluster_operation, phase, phases),
        CHOICE(cluster_operation, result, results),
        OTHER(cluster_operation, from, FIELD_VERSION, false),
        OTHER(cluster_operation, to, FIELD_VERSION, false),
        NUMBER(cluster_operation, epoch, CLUSTER_EPOCH_MAX),
        FLAG(cluster_operation, strict),
        FLAG(cluster_operation, one_instant),
        { "formed", FIELD_BOOL, offsetof(struct cluster_operation, formed), 0, NULL, true },
        CHOICE(cluster_operation, engines, modes),
        NUMBER(cluster_operation, max_unavailable, CLUSTER_MEMBERS_MAX),
        TIME(cluster_operation, opened),
        TIME(cluster_operation, ended),
        TIME(cluster_operation, prepare_limit),
        TIME(cluster_operation, switch_limit),
        TIME(cluster_operation, lead),
        TIME(cluster_operation, deadline),
        TIME(cluster_operation, controllers_at),
        TIME(cluster_operation, engines_at),
        TEXT(cluster_operation, reason),
        TEXT(cluster_operation, requested_by),
        OTHER(cluster_operation, before, FIELD_RECORD, false),
        OTHER(cluster_operation, stragglers, FIELD_STRAGGLERS, true),
        { "stragglers_more", FIELD_NUMBER, offsetof(struct cluster_operation, stragglers_more), CLUSTER_MEMBERS_MAX, NULL,
          true },
        {},
};
static const struct field member_fields[] = {
        OTHER(member, name, FIELD_NAME, false),
        { "role", FIELD_ENUM, offsetof(struct member, role), ROLE_OPERATOR, node_roles, false }, /* a person is none */
        NUMBER(member, joined, CLUSTER_EPOCH_MAX),
        TIME(member, added),
        TEXT(member, address),
        BYTES(member, key),
        {},
};
static const struct field vote_fields[] = {
        FLAG(vote, yes), TEXT(vote, kind), TEXT(vote, message), TIME(vote, clock_error), {},
};
static const struct field order_fields[] = { TIME(order, at), {} };
static const struct field status_fields[] = {
        NUMBER(member_status, epoch, CLUSTER_EPOCH_MAX),
        FLAG(member_status, settled),
        FLAG(member_status, confirmed),
        OTHER(member_status, running, FIELD_VERSION, true),
        NUMBER(member_status, generation, GENERATION_MAX),
        TEXT(member_status, message),
        {},
};
static const struct field journal_fields[] = {
        BYTES(journal, prepared),
        NUMBER(journal, prepared_revision, INT64_MAX),
        BYTES(journal, over),
        NUMBER(journal, over_revision, INT64_MAX),
        NUMBER(journal, attempted, CLUSTER_EPOCH_MAX),
        NUMBER(journal, attempted_generation, GENERATION_MAX),
        NUMBER(journal, reached, CLUSTER_EPOCH_MAX),
        BYTES(journal, staged),
        {},
};

static const struct type {
        const char *what;
        const struct field *fields;
        size_t size, minor, unknown; /* offsets of the two that all have */
} types[_RECORD_MAX] = {
#define TYPE(s, text, table)                                                                                                \
        {                                                                                                                   \
                text, table, sizeof(struct s), offsetof(struct s, minor), offsetof(struct s, unknown)                       \
        }
        [RECORD_CLUSTER] = TYPE(cluster_record, "the cluster's record", record_fields),
        [RECORD_OPERATION] = TYPE(cluster_operation, "the cluster's operation", operation_fields),
        [RECORD_MEMBER] = TYPE(member, "a member of the cluster", member_fields),
        [RECORD_VOTE] = TYPE(vote, "a vote", vote_fields),
        [RECORD_ORDER] = TYPE(order, "an order", order_fields),
        [RECORD_STATUS] = TYPE(member_status, "a node's status", status_fields),
        [RECORD_JOURNAL] = TYPE(journal, "the cluster's journal", journal_fields),
};

static void *at(const void *record, size_t offset)
{
        return (uint8_t *)record + offset;
}

/* ---- reading ---- */

static int object_decode(const struct type *type, json_t *o, void *ret, struct error *e);
static void type_done(const struct type *type, void *record);

static int wrong(const struct field *f, const char *what, struct error *e)
{
        return fail(e, -EINVAL, NULL, "the member \"%s\" of %s is not valid", f->name, what);
}

static int get_number(const json_t *v, uint64_t max, uint64_t *ret)
{
        if (!json_is_integer(v) || json_integer_value(v) < 0 || (uint64_t)json_integer_value(v) > max)
                return -EINVAL;
        *ret = (uint64_t)json_integer_value(v);
        return 0;
}

/* Into `size` bytes; what is longer, holds a NUL or is not for people to read is refused. */
static int get_text(const json_t *v, char *ret, size_t size)
{
        if (!json_is_string(v) || json_string_length(v) >= size || strlen(json_string_value(v)) != json_string_length(v) ||
            !text_is_printable(json_string_value(v), json_string_length(v)))
                return -EINVAL;
        strcpy(ret, json_string_value(v));
        return 0;
}

static int get_version(const json_t *v, struct version_id *ret)
{
        const char *digest = json_string_value(json_object_get(v, "digest"));

        if (get_text(json_object_get(v, "version"), ret->version, sizeof(ret->version)) < 0 || !version_valid(ret->version))
                return -EINVAL;
        return digest && hex_decode(digest, ret->digest, DIGEST_SIZE) >= 0 && !is_all_zero(ret->digest, DIGEST_SIZE)
                       ? 0
                       : -EINVAL;
}

static int get_enum(const json_t *v, const struct field *f, int *ret)
{
        for (size_t i = 0; i < f->max; i++)
                if (f->names[i] && streq(f->names[i], json_string_value(v))) {
                        *ret = (int)i;
                        return 0;
                }
        return -EINVAL;
}

static int get_fences(const json_t *v, struct cluster_record *ret)
{
        size_t n = json_array_size(v);

        if (!json_is_array(v) || n > CLUSTER_FENCES_MAX)
                return -EINVAL;
        for (size_t i = 0; i < n; i++) {
                const json_t *range = json_array_get(v, i);
                struct fence *f = &ret->fences[i];

                if (get_number(json_object_get(range, "from"), CLUSTER_EPOCH_MAX, &f->from) < 0 ||
                    get_number(json_object_get(range, "to"), CLUSTER_EPOCH_MAX, &f->to) < 0 || f->from > f->to)
                        return -EINVAL;
        }
        ret->n_fences = n;
        return 0;
}

static int get_stragglers(const json_t *v, struct cluster_operation *ret)
{
        size_t n = json_array_size(v);

        if (!json_is_array(v) || n > CLUSTER_MEMBERS_MAX)
                return -EINVAL;
        ret->stragglers = calloc(n + (n == 0), sizeof(*ret->stragglers));
        if (!ret->stragglers)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                const json_t *one = json_array_get(v, i);
                struct straggler *s = &ret->stragglers[i];

                if (get_text(json_object_get(one, "name"), s->name, sizeof(s->name)) < 0 || !node_name_valid(s->name) ||
                    get_text(json_object_get(one, "reason"), s->reason, sizeof(s->reason)) < 0)
                        return -EINVAL;
        }
        ret->n_stragglers = n;
        return 0;
}

static int get_bytes(const json_t *v, const struct field *f, void *ret)
{
        return json_is_string(v) ? hex_decode(json_string_value(v), ret, f->max) : -EINVAL;
}

static int get_field(const struct field *f, json_t *v, void *ret, struct error *e)
{
        void *to = at(ret, f->offset);

        switch (f->type) {
        case FIELD_NUMBER:
                return get_number(v, f->max, to);
        case FIELD_BOOL:
                *(bool *)to = json_is_true(v);
                return json_is_boolean(v) ? 0 : -EINVAL;
        case FIELD_ENUM:
                return get_enum(v, f, to);
        case FIELD_BYTES:
                return get_bytes(v, f, to);
        case FIELD_TEXT:
                return get_text(v, to, f->max);
        case FIELD_NAME:
                return get_text(v, to, NODE_NAME_SIZE) >= 0 && node_name_valid(to) ? 0 : -EINVAL;
        case FIELD_VERSION:
                return get_version(v, to);
        case FIELD_FENCES:
                return get_fences(v, ret);
        case FIELD_STRAGGLERS:
                return get_stragglers(v, ret);
        case FIELD_RECORD:
                return object_decode(&types[RECORD_CLUSTER], v, to, e);
        }
        return -EINVAL;
}

/* What no single field can say. */
static int check_whole(const struct type *type, const void *record, struct error *e)
{
        const struct cluster_operation *op = record;
        const struct cluster_record *r = record;

        if (type == &types[RECORD_CLUSTER] && (r->epoch == 0 || r->previous_epoch >= r->epoch))
                return fail(e, -EINVAL, NULL, "%s has epoch %llu, and %llu before", type->what, (unsigned long long)r->epoch,
                            (unsigned long long)r->previous_epoch);
        if (type != &types[RECORD_OPERATION])
                return 0;
        if (is_all_zero(op->id, sizeof(op->id)))
                return fail(e, -EINVAL, NULL, "%s has no id", type->what);
        /* Decided and taken back, or ended, or neither: else two readers would see two decisions. */
        if ((op->phase == PHASE_PREPARE && op->epoch != 0) ||
            (op->phase > PHASE_PREPARE && op->epoch != op->before.epoch + 1) ||
            (op->phase == PHASE_IDLE) != (op->result != CLUSTER_IN_PROGRESS))
                return fail(e, -EINVAL, NULL, "%s is in phase %s with result %s in epoch %llu", type->what,
                            phases[op->phase], results[op->result], (unsigned long long)op->epoch);
        return 0;
}

static int keep_unknown(const struct type *type, json_t *o, void *ret, struct error *e)
{
        json_t *unknown = json_copy(o);

        *(json_t **)at(ret, type->unknown) = unknown;
        if (!unknown)
                return -ENOMEM;
        json_object_del(unknown, "format");
        json_object_del(unknown, "minor");
        for (const struct field *f = type->fields; f->name; f++)
                json_object_del(unknown, f->name);
        if (json_object_size(unknown) > CLUSTER_UNKNOWN_MAX)
                return fail(e, -EINVAL, NULL, "%s has %zu members that are not known", type->what,
                            json_object_size(unknown));
        return 0;
}

static int object_decode(const struct type *type, json_t *o, void *ret, struct error *e)
{
        uint64_t format, *minor = at(ret, type->minor);
        int r;

        if (!json_is_object(o) || get_number(json_object_get(o, "format"), INT64_MAX, &format) < 0 ||
            get_number(json_object_get(o, "minor"), UINT32_MAX, minor) < 0)
                return fail(e, -EINVAL, NULL, "%s does not say its format", type->what);
        if (format != CLUSTER_FORMAT)
                return fail(e, -EPROTONOSUPPORT, NULL, "%s has format %llu, this program knows %d", type->what,
                            (unsigned long long)format, CLUSTER_FORMAT);
        for (const struct field *f = type->fields; f->name; f++) {
                json_t *v = json_object_get(o, f->name);

                if (f->may_miss && (!v || json_is_null(v)))
                        continue;
                if (!v)
                        return fail(e, -EINVAL, NULL, "%s has no member \"%s\"", type->what, f->name);
                r = get_field(f, v, ret, e);
                if (r < 0)
                        return wrong(f, type->what, e);
        }
        r = keep_unknown(type, o, ret, e);
        return r < 0 ? r : check_whole(type, ret, e);
}

int record_decode(enum record_type type, const char *text, size_t size, void *ret, struct error *e)
{
        _cleanup_json_ json_t *o = NULL;
        _cleanup_free_ void *room = calloc(1, types[type].size);
        int r;

        if (!room)
                return fail_errno(e, -ENOMEM, "%s", types[type].what);
        if (size > CLUSTER_VALUE_MAX)
                return fail(e, -E2BIG, NULL, "%s has %zu bytes", types[type].what, size);
        r = json_parse_strict(text, size, types[type].what, &o, e);
        if (r < 0)
                return r;
        r = object_decode(&types[type], o, room, e);
        if (r < 0)
                type_done(&types[type], room);
        else
                memcpy(ret, room, types[type].size);
        return r;
}

/* ---- writing ---- */

static json_t *object_encode(const struct type *type, const void *record);

static json_t *put_bytes(const void *bytes, size_t size)
{
        char hex[2 * DIGEST_SIZE + 1];

        if (is_all_zero(bytes, size))
                return json_null();
        hex_encode(bytes, size, hex);
        return json_string(hex);
}

static json_t *put_version(const struct version_id *v)
{
        return version_id_is(v) ? json_pack("{s:s, s:o}", "version", v->version, "digest", put_bytes(v->digest, DIGEST_SIZE))
                                : json_null();
}

static json_t *put_fences(const struct cluster_record *r)
{
        json_t *a = json_array();

        for (size_t i = 0; i < r->n_fences; i++)
                json_array_append_new(a, json_pack("{s:I, s:I}", "from", (json_int_t)r->fences[i].from, "to",
                                                   (json_int_t)r->fences[i].to));
        return a;
}

static json_t *put_stragglers(const struct cluster_operation *op)
{
        json_t *a = json_array();

        for (size_t i = 0; i < op->n_stragglers; i++)
                json_array_append_new(a, json_pack("{s:s, s:o}", "name", op->stragglers[i].name, "reason",
                                                   json_text(op->stragglers[i].reason)));
        return a;
}

static json_t *put_field(const struct field *f, const void *record)
{
        const void *from = at(record, f->offset);

        switch (f->type) {
        case FIELD_NUMBER:
                return json_integer((json_int_t) * (const uint64_t *)from);
        case FIELD_BOOL:
                return json_boolean(*(const bool *)from);
        case FIELD_ENUM:
                return json_string(f->names[*(const int *)from]);
        case FIELD_BYTES:
                return put_bytes(from, f->max);
        case FIELD_TEXT:
                return json_text(from);
        case FIELD_NAME:
                return json_string(from);
        case FIELD_VERSION:
                return put_version(from);
        case FIELD_FENCES:
                return put_fences(record);
        case FIELD_STRAGGLERS:
                return put_stragglers(record);
        case FIELD_RECORD:
                return object_encode(&types[RECORD_CLUSTER], from);
        }
        return NULL;
}

static json_t *object_encode(const struct type *type, const void *record)
{
        json_t *unknown = *(json_t **)at(record, type->unknown), *o = unknown ? json_copy(unknown) : json_object();
        uint64_t minor = *(const uint64_t *)at(record, type->minor);

        /* Of the newest program that has written it: what it has added is still there. */
        json_object_set_new(o, "format", json_integer(CLUSTER_FORMAT));
        json_object_set_new(o, "minor", json_integer((json_int_t)MAX(minor, (uint64_t)CLUSTER_MINOR)));
        for (const struct field *f = type->fields; f->name; f++)
                if (json_object_set_new(o, f->name, put_field(f, record)) < 0) {
                        json_decref(o);
                        return NULL;
                }
        return o;
}

char *record_encode(enum record_type type, const void *record)
{
        _cleanup_json_ json_t *o = object_encode(&types[type], record);

        return o ? json_dumps(o, JSON_COMPACT) : NULL;
}

/* ---- ownership ---- */

static void type_done(const struct type *type, void *record)
{
        for (const struct field *f = type->fields; f->name; f++)
                if (f->type == FIELD_STRAGGLERS)
                        free(TAKE_PTR(((struct cluster_operation *)record)->stragglers));
                else if (f->type == FIELD_RECORD)
                        type_done(&types[RECORD_CLUSTER], at(record, f->offset));
        json_decref(*(json_t **)at(record, type->unknown));
        memset(record, 0, type->size);
}

void record_done(enum record_type type, void *record)
{
        type_done(&types[type], record);
}

/* The bytes, then what is owned. json_t is counted, and what is known to nobody is changed by nobody. */
int record_copy(enum record_type type, const void *record, void *ret)
{
        struct cluster_operation *op = ret;

        memcpy(ret, record, types[type].size);
        json_incref(*(json_t **)at(ret, types[type].unknown));
        if (type != RECORD_OPERATION)
                return 0;
        json_incref(op->before.unknown);
        op->stragglers = calloc(op->n_stragglers + (op->n_stragglers == 0), sizeof(*op->stragglers));
        if (!op->stragglers) {
                record_done(type, ret);
                return -ENOMEM;
        }
        if (op->n_stragglers > 0)
                memcpy(op->stragglers, ((const struct cluster_operation *)record)->stragglers,
                       op->n_stragglers * sizeof(*op->stragglers));
        return 0;
}

/* ---- words ---- */

const char *cluster_phase_to_string(enum cluster_phase phase)
{
        return phase < _PHASE_MAX ? phases[phase] : "";
}

const char *cluster_result_to_string(enum cluster_result result)
{
        return result < _CLUSTER_RESULT_MAX ? results[result] : "";
}

bool version_id_is(const struct version_id *v)
{
        return *v->version != '\0';
}

bool version_id_equal(const struct version_id *a, const struct version_id *b)
{
        return version_id_is(a) && version_id_is(b) && memcmp(a->digest, b->digest, DIGEST_SIZE) == 0;
}

bool cluster_record_fences(const struct cluster_record *record, uint64_t joined)
{
        for (size_t i = 0; i < record->n_fences; i++)
                if (joined >= record->fences[i].from && joined <= record->fences[i].to)
                        return true;
        return false;
}

int cluster_record_add_fence(struct cluster_record *record, uint64_t from, uint64_t to)
{
        for (size_t i = 0; i < record->n_fences; i++) {
                struct fence *f = &record->fences[i];

                if (from > f->to + 1 || to + 1 < f->from)
                        continue;
                f->from = MIN(f->from, from);
                f->to = MAX(f->to, to);
                return 0;
        }
        if (record->n_fences == CLUSTER_FENCES_MAX)
                return -ENOSPC;
        record->fences[record->n_fences++] = (struct fence){ from, to };
        return 0;
}
