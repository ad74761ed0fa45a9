/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/cluster.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/parse.h"
#include "cli/verbs.h"
#include "cluster/ask.h"
#include "cluster/bundles.h"
#include "cluster/change.h"
#include "cluster/node.h"
#include "cluster/once.h"
#include "cluster/progress.h"
#include "cluster/prune.h"
#include "cluster/request.h"
#include "operation/request.h"
#include "slot/kinds.h"

#define UPGRADE_PREPARE_LIMIT  (30 * 60 * USEC_PER_SEC)
#define ROLLBACK_PREPARE_LIMIT (60 * USEC_PER_SEC)
#define SWITCH_LIMIT           (10 * 60 * USEC_PER_SEC)
#define LEAD                   (15 * USEC_PER_SEC)
#define HISTORY_PATH           "/api/cluster/upgrade/history"
#define STATUS_PATH            "/api/cluster/upgrade/status"
#define LIMIT_MAX              USEC_PER_DAY
#define LEAD_MAX               (60 * USEC_PER_SEC) /* an instant further off is not waited for: system-shutdown/bootmgr-instant */
#define GATE_HINT                                                                                                           \
        "use the local procedure: on each controller run '/usr/lib/bootmgr/install.sh --rollback' and reboot it, then "     \
        "check "                                                                                                            \
        "with 'bootmgr show nodes'; the engines find out that the controllers run a previous version, and follow"

bool is_member(const struct machine *m)
{
        return m->snapshots.data >= 0 && cluster_role(m->data_path) != ROLE_STANDALONE;
}

int refuse_alone(const struct verb_args *args, struct error *e)
{
        static const char *const options[] = { "strict",       "engines", "max-unavailable", "one-instant", "prepare-limit",
                                               "switch-limit", "lead" };

        for (size_t i = 0; i < ARRAY_SIZE(options); i++)
                if (verb_has(args, options[i]))
                        return fail(e, -EINVAL, &kind_usage, "--%s is for a member of a cluster: this machine stands alone",
                                    options[i]);
        return 0;
}

static int open_store(struct machine *m, struct store **ret, struct error *e)
{
        if (cluster_role(m->data_path) == ROLE_CONTROLLER)
                return cluster_open_store(m->data_path, NULL, ret, e);
        fail(e, -EPERM, &kind_usage, "this machine is an engine: its cluster is told what to do on a controller");
        return fail_hint(e, "ask on one: 'bootmgr show nodes' lists them");
}

/* To open an operation, or to decide something at once. */
static int open_to_change(struct machine *m, struct store **ret, struct error *e)
{
        return cluster_role(m->data_path) == ROLE_CONTROLLER ? cluster_open_to_change(m->data_path, ret, e)
                                                             : open_store(m, ret, e);
}

/* ---- what is asked for ---- */

static int read_time(const struct verb_args *args, const char *option, uint64_t *ret, struct error *e)
{
        const char *text = verb_value(args, option);

        if (text && (parse_seconds(text, ret) < 0 || *ret == 0 || *ret > LIMIT_MAX))
                return fail(e, -EINVAL, &kind_usage, "--%s %s is not a time of at most a day, such as 90s", option, text);
        return 0;
}

static int read_engines(const struct verb_args *args, struct open_request *request, struct error *e)
{
        const char *mode = verb_value(args, "engines") ?: "together", *at_most = verb_value(args, "max-unavailable");

        request->max_unavailable = 1;
        if (!streq(mode, "together") && !streq(mode, "rolling"))
                return fail(e, -EINVAL, &kind_usage, "--engines %s is neither together nor rolling", mode);
        request->engines = streq(mode, "rolling") ? ENGINES_ROLLING : ENGINES_TOGETHER;
        if (request->engines == ENGINES_ROLLING && request->one_instant)
                return fail(e, -EINVAL, &kind_usage,
                            "--one-instant is for all at once, --engines rolling for one engine after the other");
        if (at_most && (parse_u64(at_most, &request->max_unavailable) < 0 || request->max_unavailable == 0 ||
                        request->max_unavailable > CLUSTER_MEMBERS_MAX || request->engines != ENGINES_ROLLING))
                return fail(e, -EINVAL, &kind_usage, "--max-unavailable %s is a number of engines, with --engines rolling",
                            at_most);
        return 0;
}

/* Said to people only. */
static const char *who_asks(void)
{
        return getenv("SUDO_USER") ?: getenv("USER") ?: "an operator";
}

static int read_request(const struct verb_args *args, struct open_request *request, struct error *e)
{
        static const char *const of_one[] = { "no-read-back", "full-speed" };
        enum operation_kind kind = request->kind;
        char id[OPERATION_ID_SIZE];
        int r;

        if (verb_has(args, "no-reboot"))
                return fail(e, -EINVAL, &kind_usage,
                            "--no-reboot is for a machine that stands alone: a cluster goes on by itself");
        if (verb_has(args, "automatic")) {
                fail(e, -EINVAL, &kind_usage,
                     "--automatic is for a machine that stands alone: a cluster does not record it");
                return fail_hint(e, "ask without it");
        }
        for (size_t i = 0; i < ARRAY_SIZE(of_one); i++) {
                if (!verb_has(args, of_one[i]))
                        continue;
                fail(e, -EINVAL, &kind_usage, "--%s is for a machine that stands alone: nodes are not told of it",
                     of_one[i]);
                return fail_hint(e, "ask without it");
        }
        *request = (struct open_request){
                .kind = kind,
                .strict = verb_has(args, "strict"),
                .one_instant = verb_has(args, "one-instant"),
                .prepare_limit = kind == OPERATION_UPGRADE ? UPGRADE_PREPARE_LIMIT : ROLLBACK_PREPARE_LIMIT,
                .switch_limit = SWITCH_LIMIT,
                .lead = LEAD,
                .requested_by = who_asks(),
        };
        if (verb_has(args, "id") &&
            (request_id(verb_value(args, "id"), id) < 0 || hex_decode(id, request->id, sizeof(request->id)) < 0))
                return fail(e, -EINVAL, &kind_usage, "'%s' is not 32 hexadecimal digits", verb_value(args, "id"));
        r = verb_has(args, "id") ? 0 : random_id(request->id);
        if (r >= 0)
                r = read_engines(args, request, e);
        if (r >= 0)
                r = read_time(args, "prepare-limit", &request->prepare_limit, e);
        if (r >= 0)
                r = read_time(args, "switch-limit", &request->switch_limit, e);
        if (r >= 0)
                r = read_time(args, "lead", &request->lead, e);
        if (r >= 0 && request->lead > LEAD_MAX)
                return fail(e, -EINVAL, &kind_usage, "--lead %s is more than 60s: no machine waits that long for its reset",
                            verb_value(args, "lead"));
        return r;
}

/* ---- operations, open or over ---- */

/* The one that is over, of that id (NULL: the newest). -ENOENT. */
static int load_over(struct store *store, const uint8_t *id, struct cluster_operation *ret, struct error *e)
{
        _cleanup_reply_ struct store_reply reply = {};
        char text[CLUSTER_ID_TEXT_SIZE] = "", key[sizeof(KEY_HISTORY) + CLUSTER_ID_TEXT_SIZE];
        const struct store_entry *newest = NULL;
        int r;

        snprintf(key, sizeof(key), KEY_HISTORY "%s", id ? id_to_text(id, text) : "");
        r = store_range_wait(store, &(struct store_range){ .key = key, .prefix = !id }, &reply, e);
        for (size_t i = 0; r >= 0 && i < reply.n_entries; i++)
                if (!newest || reply.entries[i].modified > newest->modified)
                        newest = &reply.entries[i];
        if (r < 0 || !newest)
                return r < 0 ? r : -ENOENT;
        return record_decode(RECORD_OPERATION, newest->value, newest->size, ret, e);
}

/* As a controller has printed it. */
static char *laggards_of(const json_t *printed)
{
        _cleanup_buf_ struct buf b = {};
        const json_t *node;
        size_t i;

        buf_puts(&b, "");
        json_array_foreach(json_object_get(printed, "nodes_failed"), i, node)
                buf_printf(&b, "%s: %s\n", json_string_value(json_object_get(node, "name")) ?: "?",
                           json_string_value(json_object_get(node, "reason")) ?: "it gave no reason");
        return buf_take(&b);
}

/* An engine asks a controller. */
static int ask_current(struct machine *m, struct operation *ret, json_t **ret_json, char **ret_laggards, struct error *e)
{
        _cleanup_close_ int home = cluster_home(m->data_path, false, e);
        _cleanup_json_ json_t *j = NULL;
        const struct ask ask = { .path = STATUS_PATH, .cancelled = cli_cancelled() };
        int r = home < 0 ? home : ask_as_node(home, &ask, &j, e);

        if (r >= 0)
                r = operation_from_json(j, ret, e);
        if (r < 0)
                return r;
        *ret_json = TAKE_PTR(j);
        *ret_laggards = laggards_of(*ret_json);
        return *ret_laggards ? 0 : -ENOMEM;
}

int cluster_load_current(struct machine *m, struct operation *ret, json_t **ret_json, char **ret_laggards, struct error *e)
{
        _cleanup_cluster_view_ struct cluster_view view = {};
        _cleanup_cluster_operation_ struct cluster_operation over = {};
        _cleanup_store_ struct store *store = NULL;
        const struct cluster_operation *op = &view.operation;
        int r;

        if (cluster_role(m->data_path) == ROLE_ENGINE)
                return ask_current(m, ret, ret_json, ret_laggards, e);
        r = open_store(m, &store, e);
        if (r >= 0)
                r = cluster_read(store, &view, e);
        if (r >= 0 && !operation_is_open(&view)) {
                r = load_over(store, NULL, &over, e);
                op = &over;
        }
        if (r >= 0)
                r = progress_of(&view, op, ret);
        if (r < 0)
                return r;
        *ret_json = progress_to_json(&view, op, PROGRESS_ALL_NODES);
        *ret_laggards = progress_laggards(&view, op);
        return *ret_json && *ret_laggards ? 0 : -ENOMEM;
}

static int newest_first(const void *a, const void *b)
{
        const struct cluster_operation *one = a, *two = b;

        return one->opened < two->opened ? 1 : one->opened > two->opened ? -1 : 0;
}

struct operations {
        struct cluster_operation *items; /* owned */
        size_t n;
};

static void operations_done(struct operations *ops)
{
        for (size_t i = 0; i < ops->n; i++)
                cluster_operation_done(&ops->items[i]);
        free(ops->items);
}

static int read_history(struct store *store, struct operations *ops, struct error *e)
{
        _cleanup_reply_ struct store_reply reply = {};
        int r = store_range_wait(store, &(struct store_range){ .key = KEY_HISTORY, .prefix = true }, &reply, e);

        ops->items = r < 0 ? NULL : calloc(MAX(reply.n_entries, (size_t)1), sizeof(*ops->items));
        if (!ops->items)
                return r < 0 ? r : -ENOMEM;
        for (size_t i = 0; r >= 0 && i < reply.n_entries; i++) {
                r = record_decode(RECORD_OPERATION, reply.entries[i].value, reply.entries[i].size, &ops->items[ops->n], e);
                ops->n += r >= 0;
        }
        if (ops->n > 1)
                qsort(ops->items, ops->n, sizeof(*ops->items), newest_first);
        return r;
}

static int ask_history(struct machine *m, json_t **ret, struct error *e)
{
        _cleanup_close_ int home = cluster_home(m->data_path, false, e);
        _cleanup_json_ json_t *j = NULL;
        int r = home < 0 ? home : ask_as_node(home, &(struct ask){ .path = HISTORY_PATH }, &j, e);

        if (r < 0)
                return r;
        *ret = json_incref(json_object_get(j, "operations"));
        return json_is_array(*ret) ? 0 : fail(e, -EPROTO, NULL, "the controller has told no history");
}

int cluster_load_history(struct machine *m, json_t **ret, struct error *e)
{
        _cleanup_cluster_view_ struct cluster_view view = {};
        _cleanup_(operations_done) struct operations ops = {};
        _cleanup_store_ struct store *store = NULL;
        int r;

        if (cluster_role(m->data_path) == ROLE_ENGINE)
                return ask_history(m, ret, e);
        r = open_store(m, &store, e);
        if (r >= 0)
                r = cluster_read(store, &view, e);
        if (r >= 0)
                r = read_history(store, &ops, e);
        if (r < 0)
                return r;
        *ret = json_array();
        if (operation_is_open(&view))
                json_array_append_new(*ret, progress_to_json(&view, &view.operation, PROGRESS_ALL_NODES));
        for (size_t i = 0; i < ops.n; i++)
                json_array_append_new(*ret, progress_to_json(&view, &ops.items[i], PROGRESS_FAILED_NODES));
        return 0;
}

static int print_operation(struct cli *cli, struct store *store, const uint8_t *id, struct error *e)
{
        _cleanup_cluster_view_ struct cluster_view view = {};
        _cleanup_cluster_operation_ struct cluster_operation over = {};
        char text[CLUSTER_ID_TEXT_SIZE];
        const struct cluster_operation *op = &view.operation;
        int r = cluster_read(store, &view, e);

        if (r >= 0 && (!operation_is_open(&view) || memcmp(op->id, id, CLUSTER_ID_SIZE) != 0)) {
                r = load_over(store, id, &over, e);
                op = &over;
        }
        if (r < 0)
                return r;
        if (cli->json)
                return cli_print_json(cli, progress_to_json(&view, op, PROGRESS_ALL_NODES));
        cli_say(cli,
                "%s of the cluster from version %s to version %s: operation %s, %s\n"
                "('bootmgr show upgrade status --watch' follows it)",
                operation_kind_to_string(op->kind), op->from.version, op->to.version, id_to_text(id, text),
                cluster_result_to_string(op->result));
        return 0;
}

/* ---- opening ---- */

struct opening {
        struct store *store;
        const struct open_request *request;
};

static int decide_open(const struct cluster_view *view, struct plan *plan, void *userdata, struct error *e)
{
        const struct opening *o = userdata;
        int r = request_open(view, o->request, now_realtime(), plan, e);

        return r < 0 || plan->n_writes == 0 ? r : prune_history(o->store, view, plan, e);
}

/* One that cannot be read any more is taken for the one that it was: a request may be repeated when its bundle is gone. */
static bool is_other_bundle(struct machine *m, const char *source, const struct cluster_operation *op)
{
        struct version_id found;

        return op->kind == OPERATION_UPGRADE && bundles_identify(m, source, &found, NULL) >= 0 &&
               !version_id_equal(&found, &op->to);
}

static bool has_other_options(const struct open_request *request, const struct cluster_operation *op)
{
        return op->strict != request->strict || op->one_instant != request->one_instant || op->engines != request->engines ||
               op->max_unavailable != request->max_unavailable;
}

/* Once for each id: one that is open, or over, is told. 1: it was; 0: the id is new. */
static int answer_known(struct cli *cli, struct machine *m, const char *source, struct store *store,
                        const struct cluster_view *view, const struct open_request *request, struct error *e)
{
        _cleanup_cluster_operation_ struct cluster_operation over = {};
        const struct cluster_operation *op = &view->operation;
        int r = 0;

        if (!operation_is_open(view) || memcmp(op->id, request->id, sizeof(op->id)) != 0) {
                r = load_over(store, request->id, &over, e);
                op = &over;
        }
        if (r == -ENOENT)
                return once_find(store, request->id, "", e);
        if (r < 0)
                return r;
        if (op->kind != request->kind || has_other_options(request, op) || is_other_bundle(m, source, op)) {
                fail(e, -EEXIST, &kind_id_reused, "the id was used for something else");
                return fail_hint(e, "make a new id for each request, and repeat a request with the same words");
        }
        r = print_operation(cli, store, request->id, e);
        return r < 0 ? r : 1;
}

/* 1: it was asked for before, and is told. 0: nothing stands against it that can be known without any node. */
static int look(struct verb_args *args, struct machine *m, struct store *store, const struct open_request *request,
                struct cluster_view *view, struct error *e)
{
        int r;

        cluster_view_done(view);
        r = cluster_read(store, view, e);
        if (r >= 0)
                r = answer_known(args->context, m, args->positional[0], store, view, request, e);
        return r != 0 ? r : request_check(view, request, e);
}

static int begin(struct verb_args *args, struct machine *m, struct open_request *request, struct store **store,
                 struct cluster_view *view, struct error *e)
{
        int r = read_request(args, request, e);

        if (r >= 0)
                r = open_to_change(m, store, e);
        return r < 0 ? r : look(args, m, *store, request, view, e);
}

static int open_operation(struct cli *cli, struct store *store, const struct open_request *request, struct error *e)
{
        struct opening opening = { store, request };
        int r = cluster_change(store, decide_open, &opening, e);

        return r < 0 ? r : print_operation(cli, store, request->id, e);
}

int cluster_upgrade(struct verb_args *args, struct machine *m, struct error *e)
{
        struct cli *cli = args->context;
        _cleanup_cluster_view_ struct cluster_view view = {};
        _cleanup_store_ struct store *store = NULL;
        struct open_request request = { .kind = OPERATION_UPGRADE };
        _cleanup_close_ int lock = -1;
        int r = begin(args, m, &request, &store, &view, e);

        if (r == 0)
                r = bundles_lock(m, &lock, e);
        /* Another upgrade may have been opened meanwhile: its bundle must not be taken for an old one. */
        if (r == 0)
                r = look(args, m, store, &request, &view, e);
        if (r != 0)
                return r < 0 ? r : 0;
        const struct version_id keep[] = { view.record.running, view.record.previous };
        r = bundles_keep(m, args->positional[0], keep, ARRAY_SIZE(keep), &request.to, e);
        if (r < 0)
                return r;
        /* A version from the factory never went through here: who joins later has it from nobody. */
        if (!cli->worker && version_id_equal(&request.to, &view.record.running))
                return cli_done(cli, "the cluster runs version %s already: its bundle is kept for nodes that lack it",
                                request.to.version);
        return open_operation(cli, store, &request, e);
}

int cluster_check_rollback(struct machine *m, const struct rollback_options *options, struct check_list *ret,
                           struct error *e)
{
        _cleanup_error_ struct error promised = {};
        int r = check_rollback(m, options, ret, e);

        if (r >= 0 && is_member(m) && (options->local || options->without_snapshot)) {
                node_must_be_free(m, &promised);
                r = check_list_add(ret, "cluster", &promised, "this node has promised it nothing");
        }
        for (size_t i = 0; r >= 0 && is_member(m) && i < ret->n; i++)
                if (!ret->items[i].ok && ret->items[i].kind == &kind_previous_too_old) {
                        free(ret->items[i].hint);
                        ret->items[i].hint = strdup(GATE_HINT);
                }
        return r;
}

int cluster_rollback(struct verb_args *args, struct machine *m, struct error *e)
{
        const struct rollback_options options = {};
        _cleanup_cluster_view_ struct cluster_view view = {};
        _cleanup_store_ struct store *store = NULL;
        _cleanup_checks_ struct check_list checks = {};
        struct open_request request = { .kind = OPERATION_ROLLBACK };
        int r = begin(args, m, &request, &store, &view, e);

        if (r != 0)
                return r < 0 ? r : 0;
        r = cluster_check_rollback(m, &options, &checks, e);
        if (r >= 0)
                r = check_list_verdict(&checks, e);
        return r < 0 ? r : open_operation(args->context, store, &request, e);
}

static json_t *would_be_fenced(const struct cluster_view *view)
{
        json_t *names = json_array();

        for (size_t i = 0; i < view->n_nodes; i++) {
                const struct cluster_node *n = &view->nodes[i];

                if (!node_is_fenced(view, n) && n->member.joined > view->record.previous_epoch)
                        json_array_append_new(names, json_string(n->member.name));
        }
        return names;
}

/* An engine knows of itself, and nothing decides here. */
static int engine_dry_run(struct check_list *checks)
{
        const struct error none = {};

        return check_list_add(
                checks, "cluster", &none,
                "of this engine alone: the cluster decides, asked on a controller, where --dry-run tells of all");
}

int cluster_dry_run(struct machine *m, struct check_list *checks, json_t **ret_fenced, struct error *e)
{
        const struct open_request request = { .kind = OPERATION_ROLLBACK };
        _cleanup_cluster_view_ struct cluster_view view = {};
        _cleanup_store_ struct store *store = NULL;
        _cleanup_error_ struct error why = {};
        int r;

        if (cluster_role(m->data_path) == ROLE_ENGINE)
                return engine_dry_run(checks);
        r = open_store(m, &store, e);
        if (r >= 0)
                r = cluster_read(store, &view, e);
        if (r < 0)
                return r;
        *ret_fenced = would_be_fenced(&view);
        request_check(&view, &request, &why);
        return check_list_add(checks, "cluster", &why,
                              "every controller runs the cluster's version, and no operation is open");
}

/* ---- at once ---- */

struct abortion {
        const char *who;
        bool tried; /* this one was open: when the store's answer was lost, that it is not any more is what was asked for */
        uint8_t id[CLUSTER_ID_SIZE];
};

static int decide_abort(const struct cluster_view *view, struct plan *plan, void *userdata, struct error *e)
{
        struct abortion *a = userdata;

        if (a->tried && (!operation_is_open(view) || memcmp(view->operation.id, a->id, sizeof(a->id)) != 0))
                return 0;
        if (!operation_is_open(view))
                return fail(e, -ENOENT, &kind_usage, "no operation of the cluster is open: there is nothing to abort");
        a->tried = true;
        memcpy(a->id, view->operation.id, sizeof(a->id));
        return request_abort(view, a->who, now_realtime(), plan, e);
}

static int decide_finalize(const struct cluster_view *view, struct plan *plan, void *userdata, struct error *e)
{
        return request_finalize(view, now_realtime(), plan, e);
}

static int change_once(struct machine *m, const char *id, const char *verb, cluster_decide decide, void *userdata,
                       struct error *e)
{
        _cleanup_store_ struct store *store = NULL;
        struct once once = { .verb = verb, .decide = decide, .userdata = userdata };
        int r = open_to_change(m, &store, e);

        if (r < 0 || (*id && hex_decode(id, once.id, sizeof(once.id)) < 0))
                return r < 0 ? r : -EINVAL;
        once.store = store;
        return cluster_change(store, once_decide, &once, e);
}

int cluster_abort(struct machine *m, const char *id, struct error *e)
{
        struct abortion a = { .who = who_asks() };

        return change_once(m, id, "abort", decide_abort, &a, e);
}

int cluster_finalize(struct machine *m, const char *id, struct error *e)
{
        return change_once(m, id, "finalize", decide_finalize, NULL, e);
}
