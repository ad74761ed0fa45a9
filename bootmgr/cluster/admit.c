/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cluster/admit.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "cluster/ask.h"
#include "cluster/change.h"
#include "cluster/home.h"
#include "cluster/request.h"
#include "operation/messages.h"
#include "slot/kinds.h"

#define SWEEP_MAX 64 /* tokens that have expired, deleted when another is made */

static const char *id_text(const uint8_t id[static TOKEN_ID_SIZE], char text[static 2 * TOKEN_ID_SIZE + 1])
{
        hex_encode(id, TOKEN_ID_SIZE, text);
        return text;
}

static void plan_token(struct plan *plan, const struct token_record *record)
{
        _cleanup_json_ json_t *o = token_record_to_json(record);
        _cleanup_free_ char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
        char id[2 * TOKEN_ID_SIZE + 1];

        if (text)
                plan_put_text(plan, text, KEY_TOKENS "%s", id_text(record->id, id));
        else
                plan->failed = -ENOMEM;
}

static int read_token(const struct store_entry *entry, struct token_record *ret, struct error *e)
{
        _cleanup_json_ json_t *o = NULL;
        int r = json_parse_strict(entry->value, entry->size, "the record of a join token", &o, e);

        return r < 0 ? r : token_record_from_json(o, ret, e);
}

/* What can be used no more is of no use to anybody. */
static int sweep(struct store *store, uint64_t now, struct plan *plan, struct error *e)
{
        _cleanup_reply_ struct store_reply reply = {};
        size_t n = 0;
        int r = store_range_wait(store, &(struct store_range){ .key = KEY_TOKENS, .prefix = true }, &reply, e);

        for (size_t i = 0; r >= 0 && i < reply.n_entries && n < SWEEP_MAX; i++) {
                _cleanup_error_ struct error bad = {};
                struct token_record record;

                if (read_token(&reply.entries[i], &record, &bad) >= 0 && now < record.expires)
                        continue;
                plan_delete(plan, false, "%s", reply.entries[i].key);
                n++;
        }
        return r;
}

static int store_token(const char *data, const struct token_record *record, struct error *e)
{
        _cleanup_store_ struct store *store = NULL;
        _cleanup_reply_ struct store_reply reply = {};
        _cleanup_plan_ struct plan plan = {};
        char id[2 * TOKEN_ID_SIZE + 1];
        struct store_txn txn;
        int r = cluster_open_to_change(data, &store, e);

        if (r < 0)
                return e->kind == &kind_store ? fail_hint(e, "does bootmgr-etcd.service run?") : r;
        plan_compare(&plan, STORE_ABSENT, 0, KEY_TOKENS "%s", id_text(record->id, id));
        plan_token(&plan, record);
        r = sweep(store, now_realtime(), &plan, e);
        if (r >= 0)
                r = plan_failed(&plan, e);
        txn = plan_txn(&plan);
        if (r >= 0)
                r = store_commit_wait(store, &txn, &reply, e);
        if (r < 0)
                return fail_hint(e, "does bootmgr-etcd.service run?");
        return reply.done ? 0 : fail(e, -EEXIST, &kind_store, "the store has a token of this number already");
}

int cluster_make_token(const char *data, enum node_role role, uint64_t expires, char text[static TOKEN_TEXT_MAX],
                       struct error *e)
{
        _cleanup_close_ int home = -1;
        _cleanup_free_ char *ca = NULL;
        uint8_t fingerprint[SHA256_SIZE];
        struct token_record record;
        struct token token;
        int r = cluster_must_control(data, e);

        if (r >= 0)
                r = home = cluster_home(data, false, e);
        if (r >= 0)
                r = cluster_get(home, "ca.pem", &ca, e);
        if (r >= 0)
                r = certificate_fingerprint(ca, fingerprint, e);
        if (r >= 0)
                r = token_make(role, fingerprint, &token);
        if (r < 0)
                return r;
        r = token_record_make(&token, expires, &record);
        if (r >= 0)
                r = store_token(data, &record, e);
        if (r >= 0)
                token_format(&token, text);
        token_done(&token);
        return r;
}

/* ---- letting in ---- */

struct admission {
        struct store *store;
        const struct join_request *request;
        struct member who, self;
        uint64_t now, epoch;
        json_t *controllers; /* owned */
        bool again;          /* it was let in before */
        int home;            /* borrowed */
};

/* The token as it is now; `revision` 0: there is none. */
static int find_token(struct admission *a, struct token_record *ret, uint64_t *revision, struct error *e)
{
        _cleanup_reply_ struct store_reply reply = {};
        char id[2 * TOKEN_ID_SIZE + 1], key[STORE_KEY_MAX];
        int r;

        snprintf(key, sizeof(key), KEY_TOKENS "%s", id_text(a->request->token.id, id));
        r = store_range_wait(a->store, &(struct store_range){ .key = key }, &reply, e);
        if (r < 0)
                return r;
        if (reply.n_entries == 0) {
                fail(e, -EKEYREJECTED, &kind_token, "the join token is not one of this cluster");
                return fail_hint(e, "'bootmgr cluster token' on a controller makes one");
        }
        *revision = reply.entries[0].modified;
        return read_token(&reply.entries[0], ret, e);
}

/* The URL by which this controller is asked comes first: it is known to work. */
static int list_controllers(const struct cluster_view *view, struct admission *a)
{
        json_decref(a->controllers);
        a->controllers = json_pack("[s]", a->self.address);
        for (size_t i = 0; i < view->n_nodes && json_array_size(a->controllers) < ASK_URLS; i++) {
                const struct cluster_node *n = &view->nodes[i];

                if (n->member.role == ROLE_CONTROLLER && !node_is_fenced(view, n) && *n->member.address &&
                    !streq(n->member.address, a->self.address))
                        json_array_append_new(a->controllers, json_string(n->member.address));
        }
        return a->controllers ? 0 : -ENOMEM;
}

static int decide_admit(const struct cluster_view *view, struct plan *plan, void *userdata, struct error *e)
{
        struct admission *a = userdata;
        const struct cluster_node *n = cluster_view_node(view, a->who.name);
        struct token_record token;
        char id[2 * TOKEN_ID_SIZE + 1];
        uint64_t revision = 0;
        int r = find_token(a, &token, &revision, e);

        if (r >= 0)
                r = token_check(&a->request->token, &token, a->now, e);
        if (r < 0)
                return r;
        a->again = streq(token.used_by, a->who.name) && n && memcmp(n->member.key, a->who.key, sizeof(a->who.key)) == 0;
        if (*token.used_by && !a->again) {
                fail(e, -EKEYREJECTED, &kind_token, "the join token was used by %s", token.used_by);
                return fail_hint(e, "each machine needs its own: 'bootmgr cluster token' on a controller makes one");
        }
        a->epoch = view->record.epoch;
        r = list_controllers(view, a);
        if (r >= 0)
                r = request_join(view, &a->who, a->now, plan, e);
        /* Before it is a member: what is a member and never starts would keep every operation from being opened. */
        if (r >= 0 && a->who.role == ROLE_CONTROLLER)
                r = admit_check_store(a->home, view, a->who.name, e);
        if (r < 0 || a->again)
                return r;
        /* It joined with another token before: still, it must not be deleted meanwhile. */
        if (n)
                plan_compare(plan, STORE_QUIET, view->revision, KEY_NODES);
        strcpy(token.used_by, a->who.name);
        plan_compare(plan, STORE_REVISION, revision, KEY_TOKENS "%s", id_text(token.id, id));
        plan_token(plan, &token);
        return plan_failed(plan, e);
}

static void log_joined(const struct admission *a)
{
        char name[NODE_NAME_SIZE + 8], role[32];
        const char *const fields[] = { name, role, NULL };

        snprintf(name, sizeof(name), "NODE=%s", a->who.name);
        snprintf(role, sizeof(role), "ROLE=%s", node_role_to_string(a->who.role));
        log_event(MESSAGE_NODE_JOINED, fields, "%s joined the cluster as %s", a->who.name, node_role_to_string(a->who.role));
}

/* The certificate is made before the member: what cannot be certified is not let in. */
static int admit(struct admission *a, json_t **ret, struct error *e)
{
        const int home = a->home;
        _cleanup_pem_ char *ca_key = NULL;
        _cleanup_free_ char *ca = NULL, *certificate = NULL;
        int r = cluster_get(home, "ca.key", &ca_key, e);

        if (r >= 0)
                r = cluster_get(home, "ca.pem", &ca, e);
        if (r >= 0)
                r = ca_issue(ca_key, ca, a->request->csr, a->who.name, a->who.role, a->request->addresses, a->now,
                             &certificate, e);
        if (r >= 0)
                r = cluster_change(a->store, decide_admit, a, e);
        if (r < 0)
                return r;
        if (!a->again)
                log_joined(a);
        *ret = json_pack("{s:s, s:s, s:I, s:s, s:s, s:O}", "name", a->who.name, "role", node_role_to_string(a->who.role),
                         "epoch", (json_int_t)a->epoch, "ca", ca, "certificate", certificate, "controllers", a->controllers);
        if (!*ret)
                return -ENOMEM;
        if (a->who.role != ROLE_CONTROLLER)
                return 0;
        r = admit_controller(home, a->request, a->now, *ret, e);
        if (r < 0)
                json_decref(TAKE_PTR(*ret));
        return r;
}

int cluster_admit(const char *data, const struct join_request *request, uint64_t now, json_t **ret, struct error *e)
{
        struct admission a = { .request = request, .now = now, .who = { .role = request->token.role } };
        _cleanup_store_ struct store *store = NULL;
        _cleanup_close_ int home = -1;
        int r = cluster_must_control(data, e);

        if (r >= 0)
                r = home = cluster_home(data, false, e);
        if (r >= 0)
                r = cluster_self(data, &a.self, e);
        if (r >= 0)
                r = csr_key_digest(request->csr, a.who.key, e);
        if (r >= 0)
                r = cluster_open_to_change(data, &store, e);
        if (r < 0)
                return r;
        strcpy(a.who.name, request->name);
        strcpy(a.who.address, request->url);
        a.store = store;
        a.home = home;
        r = admit(&a, ret, e);
        json_decref(a.controllers);
        return r;
}
