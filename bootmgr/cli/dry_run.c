/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/dry_run.h"

#include "cli/cluster.h"
#include "cli/table.h"

int collect_differences(struct machine *m, const struct snapshot *s, bool with_text, struct difference_list *ret,
                        struct error *e)
{
        int now = machine_reference_slot(m);
        int r;

        r = snapshot_diff(&m->snapshots, s, with_text, ret, e);
        if (r < 0 || !m->config.etc_overlay || now == SLOT_NONE || now == s->slot)
                return r;
        return carried_diff(&m->snapshots, m->config.carried, s->slot, now, with_text, ret, e);
}

void print_differences(const struct difference_list *l)
{
        for (size_t i = 0; i < l->n; i++) {
                const struct difference *d = &l->items[i];

                printf("%-9s %s%s\n", change_to_string(d->change), d->path, d->carried ? "  (of this slot only)" : "");
                if (d->text)
                        fputs(d->text, stdout);
        }
}

json_t *differences_to_json(const struct difference_list *l)
{
        json_t *list = json_array();

        for (size_t i = 0; i < l->n; i++) {
                const struct difference *d = &l->items[i];

                json_array_append_new(list, json_pack("{s:s, s:s, s:b, s:o}", "path", d->path, "change",
                                                      change_to_string(d->change), "carried", d->carried, "text",
                                                      json_string_or_null(d->text)));
        }
        return list;
}

static int print_checks(const struct check_list *checks)
{
        static const struct column columns[] = { { "CHECK" }, { "RESULT" }, { "WHY", COLUMN_WRAP } };
        _cleanup_table_ struct table *t = table_new(columns, ARRAY_SIZE(columns));

        if (!t)
                return -ENOMEM;
        for (size_t i = 0; i < checks->n; i++) {
                table_row(t);
                table_set(t, 0, checks->items[i].name);
                table_set(t, 1, checks->items[i].ok ? "ok" : "refused");
                table_set(t, 2, checks->items[i].message);
        }
        return table_print(t);
}

/* What a rollback would give up; an empty list with a reason in `why` when that cannot be told. */
static void find_changes(struct machine *m, struct difference_list *ret, struct error *why)
{
        const struct slot_set *set = &m->state.set;
        _cleanup_snapshot_ struct snapshot s = {};

        if (set->previous == SLOT_NONE || !slot_has_snapshot(&set->slots[set->previous]) || m->snapshots.data < 0)
                fail(why, -ENOENT, NULL, "there is no snapshot to compare with");
        else if (snapshot_find(&m->snapshots, set->slots[set->previous].snapshot, &s, why) >= 0)
                collect_differences(m, &s, true, ret, why);
}

static void print_takeover(const struct slot_set *set)
{
        const char *version = set->previous == SLOT_NONE ? "none" : set->slots[set->previous].version;

        printf("\nConfiguration: nothing is restored (--without-snapshot). Version %s gets that of the running version\n"
               "as it is, without any hook: make sure that it can read it. It is sealed before, and comes back\n"
               "with the running version.\n",
               version);
}

/* NULL: the machine stands alone, or is an engine. */
static void print_fenced(const json_t *fenced, bool of_cluster)
{
        const json_t *name;
        size_t i;

        printf("\nNodes that would be fenced:");
        if (!fenced && of_cluster)
                printf(" a controller tells");
        else if (json_array_size(fenced) == 0)
                printf(" none%s", fenced ? "" : ": standalone machine");
        json_array_foreach(fenced, i, name) printf("%s %s", i ? "," : "", json_string_value(name));
        printf("\n");
}

static int print_dry_run(const struct slot_set *set, const struct rollback_options *options, const struct check_list *checks,
                         const struct difference_list *changes, const struct error *why, const json_t *fenced,
                         bool of_cluster)
{
        int r;

        r = print_checks(checks);
        if (r < 0)
                return r;
        if (options->without_snapshot)
                print_takeover(set);
        else if (why->message)
                printf("\nConfiguration that would be given up: cannot be told: %s\n", why->message);
        else if (changes->n == 0)
                printf("\nConfiguration that would be given up: none\n");
        else
                printf("\nConfiguration that would be given up (kept as discarded):\n\n");
        print_differences(changes);
        print_fenced(fenced, of_cluster);
        return 0;
}

static json_t *dry_run_to_json(const struct slot_set *set, const struct check_list *checks,
                               const struct difference_list *changes, const struct error *refusal, json_t *fenced)
{
        const char *to = set->previous == SLOT_NONE ? NULL : set->slots[set->previous].version;

        return json_pack("{s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "allowed", !refusal->message, "kind",
                         json_string_or_null(refusal->kind ? refusal->kind->name : NULL), "message",
                         json_string_or_null(refusal->message), "checks", check_list_to_json(checks), "hint",
                         json_string_or_null(refusal->hint), "to_version", json_string_or_null(to), "changes",
                         differences_to_json(changes), "fenced", fenced ? json_incref(fenced) : json_array());
}

int rollback_dry_run(struct cli *cli, struct machine *m, const struct rollback_options *options, struct error *e)
{
        _cleanup_checks_ struct check_list checks = {};
        _cleanup_(difference_list_done) struct difference_list changes = {};
        _cleanup_error_ struct error why = {};
        _cleanup_json_ json_t *fenced = NULL;
        bool of_cluster = is_member(m) && !options->local && !options->without_snapshot;
        int verdict, r;

        r = cluster_check_rollback(m, options, &checks, e);
        if (r >= 0 && of_cluster)
                r = cluster_dry_run(m, &checks, &fenced, e);
        if (r < 0)
                return r;
        if (!options->without_snapshot)
                find_changes(m, &changes, &why);
        verdict = check_list_verdict(&checks, e);
        if (cli->json) {
                r = cli_print_json(cli, dry_run_to_json(&m->state.set, &checks, &changes, e, fenced));
                cli->printed = true;
        } else if (!cli->quiet) {
                r = print_dry_run(&m->state.set, options, &checks, &changes, &why, fenced, of_cluster);
        }
        return r < 0 ? r : verdict;
}
