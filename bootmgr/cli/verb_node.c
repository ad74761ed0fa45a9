/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* node, show nodes: who is in the cluster. */
#include <fcntl.h>

#include "base/clock.h"
#include "base/file.h"
#include "cli/cli.h"
#include "cli/remote.h"
#include "cli/table.h"
#include "cli/verb_cluster.h"
#include "cli/verbs.h"
#include "cluster/admit.h"
#include "cluster/ask.h"
#include "cluster/change.h"
#include "cluster/home.h"
#include "cluster/nodes.h"
#include "cluster/renew.h"
#include "operation/request.h"
#include "slot/kinds.h"

#define REQUEST_MAX      KIB(256) /* a body of 64 KiB, and its escapes */
#define PROMOTE_PATIENCE (60 * USEC_PER_SEC)
#define CONNECTED_MSEC   5000L /* a controller that hangs must not keep the list of nodes back */

static const struct column columns[] = {
        { "NAME" }, { "ROLE" }, { "STATE" }, { "VERSION" }, { "GENERATION", COLUMN_RIGHT }, { "MESSAGE", COLUMN_WRAP },
};

static int print_nodes(const struct cli *cli, json_t *nodes)
{
        _cleanup_table_ struct table *t = NULL;
        const json_t *node;
        size_t i;

        if (cli->json || !nodes)
                return cli_print_json(cli, json_incref(nodes));
        t = table_new(columns, ARRAY_SIZE(columns));
        if (!t)
                return -ENOMEM;
        json_array_foreach(json_object_get(nodes, "nodes"), i, node)
        {
                static const char *const members[] = { "name", "role", "state", "version" };
                const json_t *generation = json_object_get(node, "generation");

                table_row(t);
                for (size_t k = 0; k < ARRAY_SIZE(members); k++)
                        table_set(t, k, json_string_value(json_object_get(node, members[k])) ?: "");
                if (json_is_integer(generation))
                        table_setf(t, 4, "%lld", (long long)json_integer_value(generation));
                table_set(t, 5, json_string_value(json_object_get(node, "message")) ?: "");
        }
        return table_print(t);
}

static int standalone_nodes(struct verb_args *args, json_t **ret, struct error *e)
{
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        _cleanup_json_ json_t *status = NULL;
        char host[256] = "";
        int r;

        r = cli_open_machine(args, &m, e);
        r = r >= 0 ? status_json(&m, &status, e) : remote_read(args, r, "GetStatus", &status, e);
        if (r < 0)
                return r;
        gethostname(host, sizeof(host) - 1);
        *ret = nodes_of_status(status, host);
        return *ret ? 0 : -ENOMEM;
}

/* Whom one controller hears of, and itself, into `connected`. */
static int ask_controller(int home, const struct member *controller, json_t *connected)
{
        const char *urls[] = { controller->address, NULL };
        struct ask ask = { .urls = urls, .path = "/api/cluster/node/connected", .patience_msec = CONNECTED_MSEC };
        _cleanup_json_ json_t *answer = NULL;
        const json_t *name;
        size_t i;
        int r = ask_as_node(home, &ask, &answer, NULL);

        if (r < 0)
                return r;
        json_object_set_new(connected, controller->name, json_true());
        json_array_foreach(json_object_get(answer, "nodes"), i, name)
        {
                json_object_set_new(connected, json_string_value(name), json_true());
        }
        return 0;
}

/* NULL: not known, for our own bootmgrd does not answer, or a controller does not say where it is. */
static json_t *ask_who_is_connected(const char *data, const struct cluster_view *view, const char *self)
{
        _cleanup_json_ json_t *connected = json_object();
        _cleanup_close_ int home = cluster_home(data, false, NULL);

        if (home < 0)
                return NULL;
        for (size_t i = 0; i < view->n_nodes; i++) {
                const struct member *m = &view->nodes[i].member;

                if (m->role != ROLE_CONTROLLER)
                        continue;
                if (!*m->address || (ask_controller(home, m, connected) < 0 && streq(m->name, self)))
                        return NULL;
        }
        return TAKE_PTR(connected);
}

static int controller_nodes(const char *data, json_t **ret, struct error *e)
{
        _cleanup_json_ json_t *connected = NULL;
        _cleanup_store_ struct store *store = NULL;
        _cleanup_cluster_view_ struct cluster_view view = {};
        struct member self;
        int r = cluster_self(data, &self, e);

        if (r >= 0)
                r = cluster_open_store(data, NULL, &store, e);
        if (r >= 0)
                r = cluster_read(store, &view, e);
        if (r < 0)
                return r;
        connected = ask_who_is_connected(data, &view, self.name);
        *ret = nodes_of_view(&view, self.name, connected);
        return *ret ? 0 : -ENOMEM;
}

/* What a controller says; but "self" is who asks. */
static int engine_nodes(const char *data, json_t **ret, struct error *e)
{
        _cleanup_close_ int home = cluster_home(data, false, e);
        struct member self;
        json_t *node;
        size_t i;
        int r = home;

        if (r >= 0)
                r = cluster_self(data, &self, e);
        if (r >= 0)
                r = ask_as_node(home, &(struct ask){ .path = "/api/cluster/nodes" }, ret, e);
        if (r < 0)
                return r;
        json_array_foreach(json_object_get(*ret, "nodes"), i, node)
        {
                const char *name = json_string_value(json_object_get(node, "name"));

                json_object_set_new(node, "self", json_boolean(streq(name, self.name)));
        }
        return 0;
}

int verb_show_nodes(struct verb_args *args, struct error *e)
{
        struct cli *cli = cli_from(args);
        _cleanup_config_ struct config config = {};
        _cleanup_json_ json_t *nodes = NULL;
        const char *data;
        int r = cluster_load(args, &config, &data, e);

        if (r < 0)
                return r;
        switch (cluster_role(data)) {
        case ROLE_CONTROLLER:
                r = controller_nodes(data, &nodes, e);
                break;
        case ROLE_ENGINE:
                r = engine_nodes(data, &nodes, e);
                break;
        default:
                r = standalone_nodes(args, &nodes, e);
        }
        return r < 0 ? r : print_nodes(cli, nodes);
}

/* A machine that stands alone is all there is. */
static int refuse_delete(const char *name, struct error *e)
{
        char host[256] = "";

        gethostname(host, sizeof(host) - 1);
        if (streq(name, host)) {
                fail(e, -EBUSY, &kind_usage, "%s is this machine, which is no member of a cluster", name);
                return fail_hint(e, "nodes that were fenced can be deleted, on a controller");
        }
        fail(e, -ENOENT, &kind_not_found, "there is no node '%.64s'", name);
        return fail_hint(e, "'bootmgr show nodes' lists them");
}

int verb_node_delete(struct verb_args *args, struct error *e)
{
        struct cli *cli = cli_from(args);
        _cleanup_config_ struct config config = {};
        const char *data, *name = args->positional[0];
        char id[OPERATION_ID_SIZE] = "";
        int r;

        if (verb_has(args, "id") && request_id(verb_value(args, "id"), id) < 0)
                return fail(e, -EINVAL, &kind_usage, "'%s' is not 32 hexadecimal digits", verb_value(args, "id"));
        r = cluster_load(args, &config, &data, e);
        if (r >= 0)
                r = cluster_role(data) == ROLE_STANDALONE ? refuse_delete(name, e) : cluster_remove(data, name, id, e);
        return r < 0 ? r : cli_done(cli, "%s is no member any more; with a new token it may join anew", name);
}

/* ---- joining ---- */

/* One line: the token. "-" is the standard input. */
static int read_token_file(const char *path, char **ret, struct error *e)
{
        const char *file = streq(path, "-") ? "/dev/stdin" : path;
        int r = file_read(AT_FDCWD, file, 4096, ret, NULL);

        if (r < 0)
                return fail(e, r, &kind_usage, "cannot read a token from %s: %s", path, error_text(r));
        (*ret)[strcspn(*ret, "\r\n")] = '\0';
        return 0;
}

/* Of the words, else as configured. */
static int take_controllers(const char *const *words, size_t n, char urls[static ASK_URLS][CLUSTER_TEXT_SIZE],
                            const char *list[static ASK_URLS + 1], struct error *e)
{
        if (n == 0) {
                fail(e, -EINVAL, &kind_usage, "no controller is named: at which is the cluster to be joined?");
                return fail_hint(e, "bootmgr node join https://CONTROLLER TOKEN; or Controllers= in bootmgr.conf(5)");
        }
        if (n > ASK_URLS)
                return fail(e, -E2BIG, &kind_usage, "at most %d controllers", ASK_URLS);
        for (size_t i = 0; i < n; i++) {
                if (controller_url(words[i], urls[i]) < 0)
                        return fail(e, -EINVAL, &kind_usage, "'%.200s' is not https://CONTROLLER[:PORT]", words[i]);
                list[i] = urls[i];
        }
        return 0;
}

static int print_joined(struct cli *cli, json_t *answer)
{
        const char *name = json_string_value(json_object_get(answer, "name")),
                   *role = json_string_value(json_object_get(answer, "role"));

        if (!cli->json)
                return cli_done(cli, "this machine is a node of the cluster now: %s %s%s", role, name,
                                streq(role, "controller") ? "; 'systemctl start bootmgr-etcd' starts its store" : "");
        return cli_print_json(cli, json_pack("{s:s, s:s, s:s, s:O, s:O}", "result", "done", "name", name, "role", role,
                                             "epoch", json_object_get(answer, "epoch"), "controllers",
                                             json_object_get(answer, "controllers")));
}

/* Whatever version runs here, the cluster's comes from a controller: into a slot. */
static int check_slots(struct verb_args *args, struct error *e)
{
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;

        return MIN(cluster_open_machine(args, &m, e), 0);
}

static int join_as_configured(struct cli *cli, struct verb_args *args, const char *token, size_t n_words, struct error *e)
{
        _cleanup_config_ struct config config = {};
        _cleanup_json_ json_t *answer = NULL;
        char urls[ASK_URLS][CLUSTER_TEXT_SIZE], host[256] = "";
        const char *list[ASK_URLS + 1] = {}, *addresses[JOIN_ADDRESSES + 1] = {}, *data, *const *words = args->positional;
        struct node_setup setup = { .controllers = list, .token = token, .controller.addresses = addresses };
        int r = cluster_load(args, &config, &data, e);

        if (r < 0)
                return r;
        if (node_role_from_string(config.cluster_role, &setup.role) < 0)
                setup.role = ROLE_STANDALONE;
        if (n_words == 0)
                for (words = (const char *const *)config.controllers; words[n_words];)
                        n_words++;
        r = take_controllers(words, n_words, urls, list, e);
        if (r >= 0)
                r = cluster_addresses(args, addresses, e);
        if (r < 0)
                return r;
        gethostname(host, sizeof(host) - 1);
        setup.name = verb_value(args, "name") ?: config.cluster_name ?: host;
        setup.controller.port = cluster_api_port(&config);
        r = check_slots(args, e);
        if (r >= 0)
                r = node_join(data, &setup, &answer, e);
        return r < 0 ? r : print_joined(cli, answer);
}

int verb_node_join(struct verb_args *args, struct error *e)
{
        struct cli *cli = cli_from(args);
        const char *file = verb_value(args, "token-file");
        size_t n = (size_t)args->n_positional;
        _cleanup_pem_ char *text = NULL;
        int r;

        if (!file && n == 0) {
                fail(e, -EINVAL, &kind_usage, "the token is missing");
                return fail_hint(e, "'bootmgr cluster token' on a controller makes one");
        }
        if (!file)
                return join_as_configured(cli, args, args->positional[n - 1], n - 1, e);
        r = read_token_file(file, &text, e);
        return r < 0 ? r : join_as_configured(cli, args, text, n, e);
}

/* ---- what bootmgrd hands over on standard input ---- */

typedef int (*request_handler)(const char *data, const char *text, size_t size, json_t **ret, struct error *e);

static int answer_as_controller(struct verb_args *args, request_handler handle, struct error *e)
{
        _cleanup_config_ struct config config = {};
        _cleanup_pem_ char *text = NULL;
        json_t *answer = NULL;
        const char *data;
        size_t size;
        int r = cluster_load(args, &config, &data, e);

        if (r < 0)
                return r;
        r = file_read(AT_FDCWD, "/dev/stdin", REQUEST_MAX, &text, &size);
        if (r < 0)
                return fail(e, r, &kind_usage, "cannot read what is asked: %s", error_text(r));
        r = cluster_must_control(data, e);
        if (r >= 0)
                r = handle(data, text, size, &answer, e);
        return r < 0 ? r : cli_print_json(cli_from(args), answer);
}

static int admit(const char *data, const char *text, size_t size, json_t **ret, struct error *e)
{
        _cleanup_join_request_ struct join_request request = {};
        int r = join_request_parse(text, size, &request, e);

        return r < 0 ? r : cluster_admit(data, &request, now_realtime(), ret, e);
}

int verb_cluster_admit(struct verb_args *args, struct error *e)
{
        return answer_as_controller(args, admit, e);
}

static int renew(const char *data, const char *text, size_t size, json_t **ret, struct error *e)
{
        _cleanup_renew_request_ struct renew_request request = {};
        int r = renew_request_parse(text, size, &request, e);

        return r < 0 ? r : cluster_renew(data, &request, now_realtime(), ret, e);
}

int verb_cluster_renew(struct verb_args *args, struct error *e)
{
        return answer_as_controller(args, renew, e);
}

int verb_node_renew(struct verb_args *args, struct error *e)
{
        struct cli *cli = cli_from(args);
        _cleanup_config_ struct config config = {};
        char when[TIME_TEXT_SIZE];
        uint64_t expires;
        bool renewed;
        const char *data;
        int r = cluster_load(args, &config, &data, e);

        if (r >= 0)
                r = node_renew(data, verb_has(args, "force"), now_realtime(), &expires, &renewed, e);
        if (r < 0)
                return r;
        format_time(expires, when);
        if (cli->json)
                return cli_print_json(cli,
                                      json_pack("{s:s, s:b, s:s}", "result", "done", "renewed", renewed, "expires", when));
        return cli_done(cli,
                        renewed ? "a new certificate, valid until %s" : "nothing is due: the certificate is valid until %s",
                        when);
}

/* Of bootmgr-promote.service, once etcd runs. */
int verb_cluster_promote(struct verb_args *args, struct error *e)
{
        _cleanup_config_ struct config config = {};
        const char *data;
        int r = cluster_load(args, &config, &data, e);

        if (r >= 0)
                r = cluster_must_control(data, e);
        if (r >= 0)
                r = controller_promote(data, PROMOTE_PATIENCE, e);
        return r < 0 ? r : cli_done(cli_from(args), "etcd is a full member");
}
