/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cluster: a machine becomes the first controller; others are let in. */
#include "base/clock.h"
#include "base/parse.h"
#include "cli/cli.h"
#include "cli/verb_cluster.h"
#include "cli/verbs.h"
#include "cluster/admit.h"
#include "cluster/change.h"
#include "cluster/home.h"
#include "cluster/node.h"
#include "cluster/request.h"
#include "slot/kinds.h"

#define TTL_DEFAULT (24 * 3600 * USEC_PER_SEC)
#define TTL_MAX     (30 * USEC_PER_DAY)

int cluster_load(struct verb_args *args, struct config *config, const char **ret_data, struct error *e)
{
        int r = config_load(verb_value(args, "config"), config, e);

        if (r >= 0)
                *ret_data = verb_value(args, "data") ?: config->data;
        return r;
}

int cluster_addresses(struct verb_args *args, const char *addresses[static JOIN_ADDRESSES + 1], struct error *e)
{
        size_t n = 0;

        for (int i = 0; i < args->n_seen; i++) {
                if (!streq(args->seen[i]->name, "address"))
                        continue;
                if (n == JOIN_ADDRESSES)
                        return fail(e, -E2BIG, &kind_usage, "at most %d addresses", JOIN_ADDRESSES);
                addresses[n++] = args->values[i];
        }
        addresses[n] = NULL;
        return 0;
}

unsigned cluster_api_port(const struct config *config)
{
        const char *colon = config->api_listen ? strrchr(config->api_listen, ':') : NULL;
        uint32_t port;

        return colon && parse_u32(colon + 1, &port) >= 0 && port > 0 && port <= UINT16_MAX ? port : API_PORT;
}

int cluster_open_machine(struct verb_args *args, struct machine *m, struct error *e)
{
        _cleanup_error_ struct error why = {};
        int r = cli_open_machine(args, m, &why);

        if (r >= 0)
                return 1;
        if (why.kind == &kind_no_machine && verb_has(args, "data"))
                return 0;
        *e = TAKE(why, (struct error){});
        return r;
}

/* The version that a cluster which is founded here would run. -EAGAIN: it is not confirmed, or not from a bundle. */
static int version_here(struct machine *m, struct version_id *ret, struct error *e)
{
        int slot = machine_reference_slot(m);
        const struct slot *running = slot == SLOT_NONE ? NULL : &m->state.set.slots[slot];

        if (!running) {
                fail(e, -EAGAIN, &kind_no_machine, "what runs here is in no slot: no cluster can go back to it");
        } else if (running->state != SLOT_CONFIRMED) {
                fail(e, -EAGAIN, &kind_no_machine, "version %s in slot %c is not confirmed yet", running->version,
                     slot_name(slot));
                return fail_hint(e, "'bootmgr status' says how it stands; try again when it is confirmed");
        } else if (is_all_zero(running->digest, DIGEST_SIZE)) {
                fail(e, -EAGAIN, &kind_no_machine,
                     "what runs in slot %c was not installed from a bundle, by which a cluster knows its version",
                     slot_name(slot));
        } else {
                strcpy(ret->version, running->version);
                memcpy(ret->digest, running->digest, DIGEST_SIZE);
                return 0;
        }
        return fail_hint(e, "install it as a bundle first, as on every machine: 'bootmgr upgrade system BUNDLE'");
}

/* Without one, nobody could ever join: found out before there are certificates, and not when somebody does. */
static int check_version(struct verb_args *args, struct error *e)
{
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        struct version_id version;
        int r = cluster_open_machine(args, &m, e);

        if (r == 0)
                cli_warn("the version of the machine of %s must have been installed from a bundle: nobody can look",
                         verb_value(args, "data"));
        return r > 0 ? version_here(&m, &version, e) : r;
}

int verb_cluster_init(struct verb_args *args, struct error *e)
{
        _cleanup_config_ struct config config = {};
        const char *data, *addresses[JOIN_ADDRESSES + 1] = {}, *name = verb_value(args, "name");
        char host[256] = "";
        int r = cluster_load(args, &config, &data, e);

        if (r < 0)
                return r;
        if (streq(config.cluster_role, "engine"))
                return fail(e, -EINVAL, &kind_usage, "this machine is an engine: Role= in bootmgr.conf(5) says so");
        gethostname(host, sizeof(host) - 1);
        r = cluster_addresses(args, addresses, e);
        if (r < 0)
                return r;
        if (!addresses[0])
                return fail(e, -EINVAL, &kind_usage,
                            "--address HOST|IP is missing: where do the other nodes reach this one?");
        r = check_version(args, e);
        if (r < 0)
                return r;
        r = cluster_init(data,
                         &(struct cluster_setup){ .cluster = args->n_positional ? args->positional[0] : "cluster",
                                                  .name = name ?: config.cluster_name ?: host,
                                                  .addresses = addresses,
                                                  .port = cluster_api_port(&config) },
                         now_realtime(), e);
        return r < 0 ? r
                     : cli_done(cli_from(args),
                                "this machine is a controller now; 'systemctl start bootmgr-etcd' starts its store");
}

int verb_cluster_token(struct verb_args *args, struct error *e)
{
        _cleanup_config_ struct config config = {};
        const char *data, *role_text = verb_value(args, "role") ?: "engine", *ttl_text = verb_value(args, "ttl");
        struct cli *cli = cli_from(args);
        enum node_role role;
        uint64_t ttl = TTL_DEFAULT, expires;
        char token[TOKEN_TEXT_MAX], when[TIME_TEXT_SIZE];
        int r;

        if (node_role_from_string(role_text, &role) < 0 || (role != ROLE_CONTROLLER && role != ROLE_ENGINE))
                return fail(e, -EINVAL, &kind_usage, "--role %s is neither controller nor engine", role_text);
        if (ttl_text && (parse_seconds(ttl_text, &ttl) < 0 || ttl == 0 || ttl > TTL_MAX))
                return fail(e, -EINVAL, &kind_usage, "--ttl %s is not a time of at most 30 days, such as 1h", ttl_text);
        r = cluster_load(args, &config, &data, e);
        if (r < 0)
                return r;
        expires = now_realtime() + ttl;
        r = cluster_make_token(data, role, expires, token, e);
        if (r < 0)
                return r;
        if (!cli->json)
                return puts(token) < 0 ? -EIO : 0;
        format_time(expires, when);
        return cli_print_json(cli, json_pack("{s:s, s:s, s:s}", "token", token, "role", role_text, "expires", when));
}

/* ---- the first record ---- */

struct founding {
        struct member self;
        struct version_id running;
        uint64_t epoch; /* the newest of which this node knows */
        const char *data;
};

static int decide_found(const struct cluster_view *view, struct plan *plan, void *userdata, struct error *e)
{
        const struct founding *f = userdata;

        if (view->record_revision)
                return 0;
        if (f->epoch == 0)
                return request_init(view, &f->self, &f->running, now_realtime(), plan, e);
        /* Its data was lost. In a cluster that begins again at epoch 1 nobody who knows a newer one hears anything. */
        fail(e, -ENODATA, &kind_store, "the store is empty, and this node was in epoch %llu of its cluster",
             (unsigned long long)f->epoch);
        return fail_hint(
                e,
                "put %s/cluster/etcd back from a copy that was made in epoch %llu (with an older one no node that was "
                "in that epoch does anything more); or remove %s/cluster/journal, and a new cluster is founded "
                "here, which every other node joins anew",
                f->data, (unsigned long long)f->epoch, f->data);
}

int verb_cluster_found(struct verb_args *args, struct error *e)
{
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        _cleanup_store_ struct store *store = NULL;
        struct founding f = {};
        int r;

        r = cli_open_machine(args, &m, e);
        if (r >= 0)
                r = cluster_self(m.data_path, &f.self, e);
        if (r < 0)
                return r;
        r = version_here(&m, &f.running, e);
        f.data = m.data_path;
        if (r >= 0)
                r = node_newest_epoch(&m, &f.epoch, e);
        if (r >= 0)
                r = cluster_open_store(m.data_path, NULL, &store, e);
        if (r >= 0)
                r = cluster_change(store, decide_found, &f, e);
        return r < 0 ? r : cli_done(cli_from(args), "the cluster runs version %s", f.running.version);
}
