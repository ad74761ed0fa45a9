/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a cluster's store or a node's journal holds. The first byte is the kind of value. Read, written and read again it is
 * the same, with what is not known; and what is accepted is within its bounds. */
#include "fuzz.h"

#include "cluster/record.h"
#include "base/version.h"

static void check_version(const struct version_id *v)
{
        must(!version_id_is(v) || (version_valid(v->version) && !is_all_zero(v->digest, sizeof(v->digest))));
}

static void check_record(const struct cluster_record *r)
{
        must(r->epoch > 0 && r->previous_epoch < r->epoch && r->n_fences <= CLUSTER_FENCES_MAX && r->origin < _ORIGIN_MAX);
        check_version(&r->running);
        check_version(&r->previous);
        must(version_id_is(&r->running));
        for (size_t i = 0; i < r->n_fences; i++)
                must(r->fences[i].from <= r->fences[i].to && cluster_record_fences(r, r->fences[i].to));
}

static void check_operation(const struct cluster_operation *op)
{
        must(op->kind == OPERATION_UPGRADE || op->kind == OPERATION_ROLLBACK);
        must(op->phase < _PHASE_MAX && op->result < _CLUSTER_RESULT_MAX && op->engines < _ENGINES_MODE_MAX);
        must(op->n_stragglers <= CLUSTER_MEMBERS_MAX && op->max_unavailable <= CLUSTER_MEMBERS_MAX);
        for (size_t i = 0; i < op->n_stragglers; i++)
                must(node_name_valid(op->stragglers[i].name));
        check_record(&op->before);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct input in = { data, size };
        enum record_type type = take_byte(&in) % _RECORD_MAX;
        size_t n;
        _cleanup_free_ char *text = take_bytes(&in, in.size, false, &n), *first = NULL, *second = NULL;
        _cleanup_error_ struct error e = {};
        union any_record a, b;

        if (record_decode(type, text, n, &a, &e) < 0) {
                must(e.message);
                return 0;
        }
        if (type == RECORD_CLUSTER)
                check_record(&a.record);
        if (type == RECORD_OPERATION)
                check_operation(&a.operation);
        if (type == RECORD_MEMBER)
                must(node_name_valid(a.member.name) && a.member.role < ROLE_OPERATOR);
        first = record_encode(type, &a);
        must(first && record_decode(type, first, strlen(first), &b, NULL) >= 0);
        second = record_encode(type, &b);
        must(second && streq(first, second));
        record_done(type, &a);
        record_done(type, &b);
        return 0;
}
