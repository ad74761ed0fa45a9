/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cluster/request.h"

#include "base/buf.h"
#include "base/text.h"
#include "cluster/coordinator.h"
#include "slot/kinds.h"

/* bootmgrd there writes it as soon as it can. */
static int no_record_yet(struct error *e)
{
        fail(e, -ENOENT, NULL, "there is no cluster yet: its first controller has not written down which version runs");
        return fail_hint(e,
                         "that needs a confirmed version which was installed from a bundle: 'bootmgr status' on the first "
                         "controller, and 'journalctl -u bootmgrd', say what is missing");
}

static int refuse_open(const struct cluster_view *view, struct error *e)
{
        char id[CLUSTER_ID_TEXT_SIZE];

        if (!operation_is_open(view))
                return 0;
        return fail(e, -EBUSY, &kind_busy, "the operation %s of the cluster is open", id_to_text(view->operation.id, id));
}

static int check_rollback(const struct cluster_view *view, struct error *e)
{
        if (!version_id_is(&view->record.previous))
                return fail(e, -ENOENT, &kind_no_previous, "the cluster has no previous version");
        if (view->record.finalized)
                return fail(e, -EPERM, &kind_finalized, "the upgrade to version %s is finalized",
                            view->record.running.version);
        for (size_t i = 0; i < view->n_nodes; i++) {
                const struct cluster_node *n = &view->nodes[i];

                if (!node_decides(n) || node_is_fenced(view, n) || n->member.joined <= view->record.previous_epoch)
                        continue;
                fail(e, -EPERM, &kind_joined_after_snapshot, "the controller %s joined after the snapshot of version %s",
                     n->member.name, view->record.previous.version);
                return fail_hint(e, "remove it first: bootmgr node delete %s", n->member.name);
        }
        return 0;
}

int request_check(const struct cluster_view *view, const struct open_request *request, struct error *e)
{
        int r = refuse_open(view, e);

        if (r >= 0 && view->record_revision == 0)
                return no_record_yet(e);
        if (r >= 0 && request->kind == OPERATION_ROLLBACK)
                r = check_rollback(view, e);
        if (r >= 0 && request->kind == OPERATION_UPGRADE && version_id_equal(&request->to, &view->record.running))
                return fail(e, -EALREADY, NULL, "the cluster runs version %s already", request->to.version);
        for (size_t i = 0; r >= 0 && i < view->n_nodes; i++) {
                const struct cluster_node *n = &view->nodes[i];

                if (!node_decides(n) || node_is_fenced(view, n) || node_has_reached(view, n))
                        continue;
                fail(e, -EAGAIN, &kind_unhealthy, "the controller %s does not run the cluster's version %s", n->member.name,
                     view->record.running.version);
                return fail_hint(
                        e,
                        "'bootmgr show nodes' says how it stands; one that will not come back is taken out: bootmgr node "
                        "delete %s",
                        n->member.name);
        }
        return r;
}

int request_open(const struct cluster_view *view, const struct open_request *request, uint64_t now, struct plan *plan,
                 struct error *e)
{
        char id[CLUSTER_ID_TEXT_SIZE];
        struct cluster_operation op = {
                .kind = request->kind,
                .phase = PHASE_PREPARE,
                .result = CLUSTER_IN_PROGRESS,
                .from = view->record.running,
                .to = request->kind == OPERATION_ROLLBACK ? view->record.previous : request->to,
                .strict = request->strict,
                .one_instant = request->one_instant,
                .engines = request->engines,
                .max_unavailable = request->max_unavailable,
                .opened = now,
                .prepare_limit = request->prepare_limit,
                .switch_limit = request->switch_limit,
                .lead = request->lead,
                .deadline = now + request->prepare_limit,
                .before = view->record,
        };
        int r;

        if (operation_is_open(view) && memcmp(view->operation.id, request->id, sizeof(request->id)) == 0)
                return 0;
        r = request_check(view, request, e);
        if (r < 0)
                return r;
        memcpy(op.id, request->id, sizeof(op.id));
        text_format(op.requested_by, sizeof(op.requested_by), "%s", request->requested_by ?: "");
        plan_compare(plan, STORE_ABSENT, 0, KEY_OPERATION);
        plan_compare(plan, STORE_ABSENT, 0, KEY_HISTORY "%s", id_to_text(op.id, id));
        plan_compare(plan, STORE_ABSENT, 0, KEY_REQUESTS "%s", id);
        plan_compare(plan, STORE_REVISION, view->record_revision, KEY_RECORD);
        plan_compare(plan, STORE_QUIET, view->revision, KEY_NODES);
        plan_compare(plan, STORE_QUIET, view->revision, KEY_CONTROLLER);
        plan_put(plan, RECORD_OPERATION, &op, KEY_OPERATION);
        return plan_failed(plan, e);
}

int request_abort(const struct cluster_view *view, const char *who, uint64_t now, struct plan *plan, struct error *e)
{
        char reason[CLUSTER_TEXT_SIZE];

        if (!operation_is_open(view))
                return 0;
        if (view->operation.phase != PHASE_PREPARE)
                return fail(e, -EBUSY, &kind_busy, "the operation is committed: it goes on to version %s",
                            view->record.running.version);
        text_format(reason, sizeof(reason), "aborted by %s", who);
        coordinator_close(view, CLUSTER_ABORTED, reason, now, plan);
        return plan_failed(plan, e);
}

static void plan_record(const struct cluster_view *view, const struct cluster_record *record, struct plan *plan)
{
        plan_compare(plan, STORE_ABSENT, 0, KEY_OPERATION);
        plan_compare(plan, view->record_revision ? STORE_REVISION : STORE_ABSENT, view->record_revision, KEY_RECORD);
        plan_put(plan, RECORD_CLUSTER, record, KEY_RECORD);
        plan_put(plan, RECORD_CLUSTER, record, KEY_LOG "%020llu", (unsigned long long)record->epoch);
}

int request_finalize(const struct cluster_view *view, uint64_t now, struct plan *plan, struct error *e)
{
        struct cluster_record record = view->record; /* borrows what is unknown */
        int r = refuse_open(view, e);

        if (r < 0 || view->record.finalized)
                return r;
        record.finalized = true;
        record.origin = ORIGIN_FINALIZE;
        record.written = now;
        plan_record(view, &record, plan);
        return plan_failed(plan, e);
}

static void plan_member(const struct member *who, uint64_t epoch, uint64_t now, struct plan *plan)
{
        struct member member = { .role = who->role, .joined = epoch, .added = now };

        memcpy(member.name, who->name, sizeof(member.name));
        memcpy(member.address, who->address, sizeof(member.address));
        memcpy(member.key, who->key, sizeof(member.key));
        plan_compare(plan, STORE_ABSENT, 0, KEY_NODES "%s", who->name);
        plan_put(plan, RECORD_MEMBER, &member, KEY_NODES "%s", who->name);
}

static int check_name(const char *name, struct error *e)
{
        return node_name_valid(name) ? 0 : fail(e, -EINVAL, &kind_usage, "\"%s\" is not the name of a node", name);
}

int request_init(const struct cluster_view *view, const struct member *who, const struct version_id *running, uint64_t now,
                 struct plan *plan, struct error *e)
{
        const struct cluster_record record = { .epoch = 1, .running = *running, .origin = ORIGIN_INIT, .written = now };

        if (check_name(who->name, e) < 0)
                return -EINVAL;
        if (view->record_revision)
                return fail(e, -EEXIST, NULL, "there is a cluster already");
        /* Part of every snapshot that there will be. */
        plan_member(who, 0, now, plan);
        plan_record(view, &record, plan);
        return plan_failed(plan, e);
}

/* Somebody of that name is there. */
static int join_again(const struct cluster_view *view, const struct member *who, struct error *e)
{
        const struct cluster_node *n;
        int r = request_admit(view, who->name, &n, e);

        if (r < 0)
                return r;
        if (n->member.role == who->role && memcmp(n->member.key, who->key, sizeof(who->key)) == 0)
                return 0;
        fail(e, -EEXIST, &kind_usage, "the name %s is taken: the cluster has a member of that name", who->name);
        return fail_hint(e, "join with another --name, or delete it: bootmgr node delete %s", who->name);
}

static int refuse_fourth(const struct cluster_view *view, const struct member *who, struct plan *plan, struct error *e)
{
        size_t n = 0;

        if (who->role != ROLE_CONTROLLER)
                return 0;
        for (size_t i = 0; i < view->n_nodes; i++)
                n += node_decides(&view->nodes[i]);
        if (n < CLUSTER_CONTROLLERS) {
                plan_compare(plan, STORE_QUIET, view->revision, KEY_NODES); /* two of them would count the same */
                return 0;
        }
        fail(e, -E2BIG, &kind_usage, "the cluster has %zu controllers: it has 1 or %d", n, CLUSTER_CONTROLLERS);
        return fail_hint(e, "join as an engine, or delete a controller first: bootmgr node delete NAME");
}

int request_join(const struct cluster_view *view, const struct member *who, uint64_t now, struct plan *plan, struct error *e)
{
        int r = check_name(who->name, e);

        if (r >= 0 && cluster_view_node(view, who->name))
                return join_again(view, who, e);
        if (r >= 0)
                r = refuse_open(view, e);
        if (r < 0)
                return r;
        if (view->record_revision == 0)
                return no_record_yet(e);
        if (view->n_nodes == CLUSTER_MEMBERS_MAX)
                return fail(e, -E2BIG, NULL, "the cluster has %d members", CLUSTER_MEMBERS_MAX);
        r = refuse_fourth(view, who, plan, e);
        if (r < 0)
                return r;
        plan_compare(plan, STORE_ABSENT, 0, KEY_OPERATION);
        plan_compare(plan, STORE_REVISION, view->record_revision, KEY_RECORD);
        plan_member(who, view->record.epoch, now, plan);
        return plan_failed(plan, e);
}

int request_delete(const struct cluster_view *view, const char *name, struct plan *plan, struct error *e)
{
        const struct cluster_node *n = cluster_view_node(view, name);
        int r = refuse_open(view, e);

        if (r < 0 || !n)
                return r;
        plan_compare(plan, STORE_ABSENT, 0, KEY_OPERATION);
        plan_compare(plan, STORE_REVISION, view->record_revision, KEY_RECORD);
        plan_delete(plan, false, KEY_NODES "%s", name);
        /* FOLLOW and OPEN counted it: they fail. */
        plan_put(plan, RECORD_MEMBER, &n->member, KEY_DELETED);
        plan_delete(plan, false, KEY_STATUS "%s/%s", node_role_to_string(n->member.role), name);
        return plan_failed(plan, e);
}

static int refuse_fenced(const char *name, struct error *e)
{
        fail(e, -EPERM, &kind_joined_after_snapshot, "%s joined after the snapshot that the cluster went back to", name);
        return fail_hint(e, "an operator deletes it (bootmgr node delete %s), then it may join anew", name);
}

/* Its store may reach that of the others still, with a certificate that nobody has taken from it. */
static int refuse_former(const char *name, struct error *e)
{
        fail(e, -EPERM, &kind_not_authorized, "%s is no controller of the cluster any more", name);
        return fail_hint(e,
                         "ask another controller; to be one again it joins anew: 'bootmgr cluster token --role controller' "
                         "there, then 'bootmgr node join' here");
}

int request_control(const struct cluster_view *view, const char *name, struct error *e)
{
        const struct cluster_node *n = cluster_view_node(view, name);

        if (view->record_revision == 0)
                return 0;
        if (!n || !node_decides(n))
                return refuse_former(name, e);
        return node_is_fenced(view, n) ? refuse_fenced(name, e) : 0;
}

int request_admit(const struct cluster_view *view, const char *name, const struct cluster_node **ret, struct error *e)
{
        const struct cluster_node *n = cluster_view_node(view, name);

        if (!n)
                return fail(e, -ENOENT, &kind_not_authorized, "%s is no member of the cluster", name);
        if (node_is_fenced(view, n))
                return refuse_fenced(name, e);
        *ret = n;
        return 0;
}

int request_admit_key(const struct cluster_view *view, const char *name, const uint8_t key[static DIGEST_SIZE],
                      const struct cluster_node **ret, struct error *e)
{
        const struct cluster_node *n;
        int r = request_admit(view, name, &n, e);

        if (r < 0)
                return r;
        if (!is_all_zero(n->member.key, DIGEST_SIZE) && memcmp(n->member.key, key, DIGEST_SIZE) != 0)
                return fail(e, -ENOENT, &kind_not_authorized, "this certificate is not that of the member %s", name);
        *ret = n;
        return 0;
}

/* To take it without writing it would be to lose it: who says it hears nothing more of it. */
static int not_known_yet(const char *what, struct error *e)
{
        fail(e, -EAGAIN, &kind_store, "this controller has not heard of %s yet", what);
        return fail_hint(e, "try again, or ask another controller");
}

int request_vote(const struct cluster_view *view, const char *name, const uint8_t id[static CLUSTER_ID_SIZE],
                 const struct vote *vote, struct plan *plan, struct error *e)
{
        const struct cluster_node *n;
        char text[CLUSTER_ID_TEXT_SIZE];
        int r = request_admit(view, name, &n, e);

        if (r < 0 || memcmp(view->record.operation, id, CLUSTER_ID_SIZE) == 0)
                return r; /* or it is decided */
        if (!operation_is_open(view) || memcmp(view->operation.id, id, CLUSTER_ID_SIZE) != 0)
                return not_known_yet("that operation", e); /* or it was aborted: who asks again hears so, too */
        if (n->voted || view->operation.phase != PHASE_PREPARE)
                return 0;
        id_to_text(id, text);
        plan_compare(plan, STORE_REVISION, view->operation_revision, KEY_OPERATION);
        plan_compare(plan, STORE_ABSENT, 0, KEY_VOTES "%s/%s", text, name);
        plan_put(plan, RECORD_VOTE, vote, KEY_VOTES "%s/%s", text, name);
        return plan_failed(plan, e);
}

int request_status(const struct cluster_view *view, const char *name, const struct member_status *status, struct plan *plan,
                   struct error *e)
{
        const struct cluster_node *n;
        int r = request_admit(view, name, &n, e);

        if (r >= 0 && status->epoch > view->record.epoch)
                return not_known_yet("that epoch", e);
        /* What was said in an earlier epoch and arrives now is old news. */
        if (r < 0 || status->epoch < view->record.epoch)
                return r;
        plan_compare(plan, STORE_REVISION, view->record_revision, KEY_RECORD);
        plan_put(plan, RECORD_STATUS, status, KEY_STATUS "%s/%s", node_role_to_string(n->member.role), name);
        return plan_failed(plan, e);
}
