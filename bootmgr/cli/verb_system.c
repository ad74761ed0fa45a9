/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* upgrade, rollback, finalize, abort: the whole system. */
#include "cli/bar.h"
#include "cli/cli.h"
#include "cli/cluster.h"
#include "cli/dry_run.h"
#include "cli/go_on.h"
#include "cli/remote.h"
#include "cli/verbs.h"
#include "cluster/node.h"
#include "cluster/once.h"
#include "operation/request.h"
#include "slot/kinds.h"
#include "storage/verified.h"

/* Whoever has prepared it may have been ended before the reboot was asked for: then it is asked for now. Who holds the
 * lock is about to do so. 0: there is nothing to be done. */
static int go_on_again(struct verb_args *args, struct machine *m, const char *verb, const char *id, struct error *e)
{
        struct cli *cli = args->context;
        _cleanup_json_ json_t *answer = NULL;
        _cleanup_bar_ struct bar bar;
        int r;

        bar_init(&bar, cli);
        if (verb_has(args, "no-reboot") || machine_lock(m, NULL) < 0 ||
            request_find(m, id, verb, args->positional[0], &answer, NULL) != REQUEST_STAGED)
                return 0;
        r = go_on(cli, m, false, &bar, e);
        return r < 0 ? r : 1;
}

/* Among the operations, and what was done at once: an enum request_state. */
static int find_known(struct machine *m, const char *verb, const char *id, const char *source, json_t **ret, struct error *e)
{
        char of[ONCE_OF_SIZE];
        int r = request_find(m, id, verb, source, ret, e);

        if (r == REQUEST_NEW)
                r = once_find_alone(m->data_path, id, verb, of, e);
        if (r == REQUEST_KNOWN && !*ret)
                *ret = json_pack("{s:s}", "result", "done");
        return r;
}

/* What --id= asks for was done before: 1, and its answer is printed; 0: it is new, or has no id. */
static int repeat(struct verb_args *args, struct machine *m, const char *verb, char id[static OPERATION_ID_SIZE],
                  struct error *e)
{
        struct cli *cli = args->context;
        _cleanup_json_ json_t *answer = NULL;
        int known, r = 0;

        *id = '\0';
        if (!verb_has(args, "id"))
                return 0;
        if (request_id(verb_value(args, "id"), id) < 0)
                return fail(e, -EINVAL, &kind_usage, "'%s' is not 32 hexadecimal digits", verb_value(args, "id"));
        known = find_known(m, verb, id, args->positional[0], &answer, e);
        if (known <= REQUEST_NEW)
                return known;
        if (known == REQUEST_STAGED)
                r = go_on_again(args, m, verb, id, e);
        if (r != 0)
                return r;
        r = cli_print_json(cli, TAKE_PTR(answer));
        return r < 0 ? r : 1;
}

static bool ask(const char *question)
{
        char answer[16] = "";

        fprintf(stderr, "%s [y/N] ", question);
        fflush(stderr);
        if (!fgets(answer, sizeof(answer), stdin))
                return false;
        return answer[0] == 'y' || answer[0] == 'Y';
}

/* From WRITE_IMAGE on, what was in the target slot is gone as a way back: said before it starts. */
static int announce_loss(const struct cli *cli, struct machine *m, bool yes, struct error *e)
{
        const struct slot *slot;
        int target, r;

        r = upgrade_target(m, &target, e);
        if (r < 0)
                return r;
        slot = &m->state.set.slots[target];
        if (!slot_has_system(slot))
                return 0;
        cli_warn("slot %c will be overwritten: from WRITE_IMAGE on, version %s in it is gone as a way back",
                 slot_name(target), slot->version);
        if (yes || cli->json || target != m->state.set.previous || isatty(STDIN_FILENO) != 1 || isatty(STDERR_FILENO) != 1)
                return 0;
        if (ask("Go on?"))
                return 0;
        fail(e, -ECANCELED, &kind_interrupted, "not confirmed: nothing was changed");
        return fail_hint(e, "answer y, or give --yes");
}

/* On a machine that did not run bootmgr when it started, or where somebody ended the unit. */
static void warn_not_awaited(const struct machine *m)
{
        if (!m->offline && !m->rescue && !switch_is_awaited())
                cli_warn("bootmgr-switch.service is not active: no shutdown will go on with what is prepared; "
                         "'systemctl start bootmgr-switch.service' lets the next one do so");
}

/* bootmgrd does it where there is one, so that a lost terminal stops nothing. */
static bool may_hand_over(const struct cli *cli, const struct verb_args *args)
{
        return !cli->worker && !cli_names_machine(args);
}

/* For those who may not even read the disk (`failed`, told in `e`), but whom polkit may allow more. */
static int hand_over_only(struct cli *cli, const struct remote_request *request, int failed, struct error *e)
{
        struct error why = {};
        int r;

        if (request->source && !cli->quiet)
                cli_warn("from WRITE_IMAGE on, what is in the other slot is gone as a way back");
        r = remote_run(cli, request, &why);
        if (r == REMOTE_ABSENT)
                return failed;
        error_done(e);
        *e = why;
        return r;
}

static int upgrade_here(struct verb_args *args, struct machine *m, struct error *e)
{
        struct cli *cli = args->context;
        char id[OPERATION_ID_SIZE];
        struct upgrade_options options = { .source = args->positional[0],
                                           .automatic = verb_has(args, "automatic"),
                                           .no_read_back = verb_has(args, "no-read-back"),
                                           .full_speed = verb_has(args, "full-speed"),
                                           .id = verb_has(args, "id") ? id : NULL };
        _cleanup_bar_ struct bar bar;
        int r;

        bar_init(&bar, cli);
        r = repeat(args, m, "upgrade", id, e);
        if (r != 0)
                return r < 0 ? r : 0;
        r = upgrade_prepare(m, &options, &bar.observer, e);
        return r < 0 ? r : go_on(cli, m, verb_has(args, "no-reboot"), &bar, e);
}

int verb_upgrade_system(struct verb_args *args, struct error *e)
{
        struct cli *cli = cli_from(args);
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        struct remote_request request = { .method = "Upgrade",
                                          .source = args->positional[0],
                                          .no_reboot = verb_has(args, "no-reboot"),
                                          .automatic = verb_has(args, "automatic"),
                                          .no_read_back = verb_has(args, "no-read-back"),
                                          .full_speed = verb_has(args, "full-speed") };
        int r;

        if (request.no_read_back && !cli->worker)
                cli_warn("the image will not be read back: what the device does not keep is found when it is used");
        r = cli_open_machine(args, &m, e);
        if (remote_may_help(args, r))
                return hand_over_only(cli, &request, r, e);
        if (r >= 0)
                warn_not_awaited(&m);
        if (r >= 0 && is_member(&m) && !m.rescue)
                return cluster_upgrade(args, &m, e);
        if (r >= 0)
                r = refuse_alone(args, e);
        if (r >= 0)
                r = announce_loss(cli, &m, verb_has(args, "yes"), e);
        if (r < 0)
                return r;
        if (may_hand_over(cli, args) && !streq(request.source, "-")) {
                r = remote_run(cli, &request, e);
                if (r != REMOTE_ABSENT)
                        return r;
        }
        return upgrade_here(args, &m, e);
}

int verb_upgrade_clear(struct verb_args *args, struct error *e)
{
        struct cli *cli = cli_from(args);
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        int r;

        r = cli_open_machine(args, &m, e);
        if (r >= 0)
                r = operation_clear_refused(&m, e);
        if (r >= 0)
                r = node_try_again(&m, e);
        return r < 0 ? r : cli_done(cli, "no version is refused any more");
}

/* The whole list belongs to a refusal: the error names the first of it only. */
static void attach_checks(struct cli *cli, struct machine *m, const struct rollback_options *options)
{
        _cleanup_checks_ struct check_list checks = {};

        if (cluster_check_rollback(m, options, &checks, NULL) >= 0)
                cli->checks = check_list_to_json(&checks);
}

static int rollback_here(struct verb_args *args, struct machine *m, const struct rollback_options *options, struct error *e)
{
        struct cli *cli = args->context;
        struct rollback_options with_id = *options;
        char id[OPERATION_ID_SIZE];
        _cleanup_bar_ struct bar bar;
        int r;

        bar_init(&bar, cli);
        r = repeat(args, m, "rollback", id, e);
        if (r != 0)
                return r < 0 ? r : 0;
        with_id.id = *id ? id : NULL;
        r = rollback_prepare(m, &with_id, &bar.observer, e);
        return r < 0 ? r : go_on(cli, m, verb_has(args, "no-reboot"), &bar, e);
}

/* What needs a right of its own on the bus is done here: who may do it is root. */
static bool is_plain(const struct rollback_options *options)
{
        return !options->local && !options->automatic && !options->without_snapshot;
}

static int rollback(struct verb_args *args, struct machine *m, const struct rollback_options *options,
                    const struct remote_request *request, struct error *e)
{
        struct cli *cli = args->context;
        int r = options->automatic ? 0 : node_must_be_free(m, e);

        if (r < 0)
                return r;
        if (may_hand_over(cli, args) && is_plain(options)) {
                r = remote_run(cli, request, e);

                if (r != REMOTE_ABSENT)
                        return r;
        }
        return rollback_here(args, m, options, e);
}

int verb_rollback_system(struct verb_args *args, struct error *e)
{
        struct cli *cli = cli_from(args);
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        struct remote_request request = { .method = "Rollback", .no_reboot = verb_has(args, "no-reboot") };
        struct rollback_options options = {
                .automatic = verb_has(args, "automatic"),
                .why = verb_has(args, "corrupt")     ? REASON_CORRUPT
                       : verb_has(args, "automatic") ? REASON_TRIGGER
                                                     : REASON_NONE,
                .reason = verb_value(args, "reason"),
                .local = verb_has(args, "local"),
                .without_snapshot = verb_has(args, "without-snapshot"),
        };
        bool dry = verb_has(args, "dry-run");
        int r;

        if (verb_has(args, "corrupt") && !verified_root_is_corrupt())
                return cli_done(cli, "the root that runs is not known to be damaged");
        r = cli_open_machine(args, &m, e);
        if (remote_may_help(args, r) && is_plain(&options) && !dry)
                return hand_over_only(cli, &request, r, e);
        if (r < 0)
                return r;
        if (dry)
                return rollback_dry_run(cli, &m, &options, e);
        if (is_member(&m) && is_plain(&options))
                r = cluster_rollback(args, &m, e);
        else if ((r = refuse_alone(args, e)) >= 0)
                r = rollback(args, &m, &options, &request, e);
        if (r < 0 && !verb_has(args, "automatic") && error_exit_status(e, r) == 3)
                attach_checks(cli, &m, &options);
        return r;
}

static int take_id(const struct verb_args *args, char id[static OPERATION_ID_SIZE], struct error *e)
{
        *id = '\0';
        if (verb_has(args, "id") && request_id(verb_value(args, "id"), id) < 0)
                return fail(e, -EINVAL, &kind_usage, "'%s' is not 32 hexadecimal digits", verb_value(args, "id"));
        return 0;
}

/* What is done at once. */
struct at_once {
        const char *verb;
        /* What it would be done to, or "": there is nothing, which the doing says. */
        void (*what)(struct machine *m, char of[static ONCE_OF_SIZE]);
        /* To that only, and success where that is gone; `of` "": to whatever is there. */
        int (*alone)(struct machine *m, const char *of, struct error *e);
        int (*member)(struct machine *m, const char *id, struct error *e);
};

/* `of`: what an earlier try was begun with, or "". */
static int do_once(struct machine *m, const struct at_once *v, const char *id, char of[static ONCE_OF_SIZE], struct error *e)
{
        int r = 0;

        if (!*of) {
                v->what(m, of);
                r = *of ? once_begin_alone(m->data_path, id, v->verb, of, e) : 0;
        }
        /* A power cut from here on: who repeats it does it to what is named there, and to nothing that came since. */
        if (r >= 0)
                r = v->alone(m, of, e);
        return r < 0 ? r : once_end_alone(m->data_path, id, v->verb, e);
}

/* Opened, looked up, done here or in the cluster (which itself remembers it, for all of its controllers), remembered. 1: it
 * was done before, and that is answered. */
static int at_once(struct verb_args *args, struct machine *m, const struct at_once *v, struct error *e)
{
        char id[OPERATION_ID_SIZE], of[ONCE_OF_SIZE] = "";
        int r;

        r = cli_open_machine(args, m, e);
        if (r >= 0)
                r = take_id(args, id, e);
        if (r >= 0 && is_member(m))
                return v->member(m, id, e);
        if (r >= 0 && *id)
                r = once_find_alone(m->data_path, id, v->verb, of, e);
        /* Begun, and not known to be done, is no answer yet. */
        if (r >= 0 && !*of)
                r = repeat(args, m, v->verb, id, e);
        if (r < 0 || (r > 0 && !*of))
                return r;
        return *id ? do_once(m, v, id, of, e) : v->alone(m, "", e);
}

/* The version that runs, by its generation. */
static void running_generation(struct machine *m, char of[static ONCE_OF_SIZE])
{
        int running = machine_reference_slot(m);

        *of = '\0';
        if (running != SLOT_NONE)
                snprintf(of, ONCE_OF_SIZE, "generation %llu", (unsigned long long)m->state.set.slots[running].generation);
}

static void what_to_finalize(struct machine *m, char of[static ONCE_OF_SIZE])
{
        int running = machine_reference_slot(m);

        *of = '\0';
        if (running != SLOT_NONE && m->state.set.slots[running].state == SLOT_CONFIRMED &&
            m->state.set.operation_state != OPERATION_STAGED)
                running_generation(m, of);
}

static int finalize_alone(struct machine *m, const char *of, struct error *e)
{
        char now[ONCE_OF_SIZE];

        running_generation(m, now);
        return *of && !streq(now, of) ? 0 : operation_finalize(m, e);
}

/* The operation that is prepared, by its id. */
static void what_to_abort(struct machine *m, char of[static ONCE_OF_SIZE])
{
        *of = '\0';
        if (m->state.set.operation_state == OPERATION_STAGED)
                hex_encode(m->state.set.operation_id, sizeof(m->state.set.operation_id), of);
}

static int abort_alone(struct machine *m, const char *of, struct error *e)
{
        uint8_t id[sizeof(m->state.set.operation_id)];

        if (!*of)
                return operation_abort(m, e);
        return hex_decode(of, id, sizeof(id)) < 0 ? 0 : operation_give_up(m, id, "aborted by an operator", e);
}

int verb_finalize(struct verb_args *args, struct error *e)
{
        static const struct at_once finalize = { "finalize", what_to_finalize, finalize_alone, cluster_finalize };
        struct cli *cli = cli_from(args);
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        int r;

        r = at_once(args, &m, &finalize, e);
        if (r != 0)
                return r < 0 ? r : 0;
        if (is_member(&m))
                return cli_done(cli, "the cluster gives up its way back: each node when it hears of it");
        return cli_done(cli, "the way back is given up; the security floor is %llu", (unsigned long long)m.state.set.floor);
}

static int abort_local(struct verb_args *args, struct error *e)
{
        struct cli *cli = cli_from(args);
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        int r;

        r = cli_open_machine(args, &m, e);
        if (r >= 0 && !is_member(&m))
                r = fail(e, -EINVAL, &kind_usage, "--local is for a member of a cluster: this machine stands alone");
        if (r >= 0)
                r = node_abort_local(&m, e);
        if (r < 0)
                return r;
        return cli_done(cli, r > 0 ? "the operation that was prepared here is given up: the next shutdown changes nothing"
                                   : "this node waits for its cluster no longer");
}

int verb_abort(struct verb_args *args, struct error *e)
{
        static const struct at_once give_up = { "abort", what_to_abort, abort_alone, cluster_abort };
        struct cli *cli = cli_from(args);
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        int r;

        if (verb_has(args, "local"))
                return abort_local(args, e);
        r = at_once(args, &m, &give_up, e);
        if (r != 0)
                return r < 0 ? r : 0;
        if (is_member(&m))
                return cli_done(cli, "the operation of the cluster is aborted");
        return cli_done(cli, "the prepared operation is given up: the next shutdown changes nothing");
}
