/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cluster: a machine becomes the first controller; others are let in. */
#include "base/clock.h"
#include "base/parse.h"
#include "cli/cli.h"
#include "cli/verb_cluster.h"
#include "cli/verbs.h"
#include "cluster/admit.h"
#include "cluster/home.h"
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
