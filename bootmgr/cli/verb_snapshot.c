/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* snapshot list, diff, verify, export. */
#include <fcntl.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/io.h"
#include "cli/cli.h"
#include "cli/dry_run.h"
#include "cli/table.h"
#include "cli/verbs.h"
#include "slot/kinds.h"

struct snapshots {
        struct snapshot *items; /* owned */
        size_t n;
};

static void snapshots_done(struct snapshots *l)
{
        for (size_t i = 0; i < l->n; i++)
                snapshot_done(&l->items[i]);
        free(l->items);
}
#define _cleanup_snapshots_ _cleanup_(snapshots_done)

static int open_with_snapshots(struct verb_args *args, struct machine *m, struct snapshots *ret, struct error *e)
{
        int r;

        r = cli_open_machine(args, m, e);
        if (r < 0)
                return r;
        if (m->snapshots.data < 0)
                return fail(e, -ENOENT, &kind_degraded, "%s", m->data_error.message ?: "there is no data directory");
        return snapshot_list(&m->snapshots, &ret->items, &ret->n, e);
}

/* By its id or the beginning of it. */
static int find(const struct snapshots *l, const char *id, const struct snapshot **ret, struct error *e)
{
        const struct snapshot *found = NULL;

        for (size_t i = 0; i < l->n; i++) {
                if (!*id || !startswith(l->items[i].id, id))
                        continue;
                if (found)
                        return fail(e, -EINVAL, &kind_usage, "more than one snapshot begins with '%s'", id);
                found = &l->items[i];
        }
        if (!found) {
                fail(e, -ENOENT, &kind_snapshot_missing, "there is no snapshot '%s'", id);
                return fail_hint(e, "'bootmgr snapshot list' shows them");
        }
        *ret = found;
        return 0;
}

/* The one that a rollback would restore. */
static int find_previous(const struct machine *m, const struct snapshots *l, const struct snapshot **ret, struct error *e)
{
        const struct slot_set *set = &m->state.set;

        if (set->previous == SLOT_NONE) {
                fail(e, -ENOENT, &kind_no_previous, "there is no previous slot whose snapshot could be meant");
                return fail_hint(e, "name one: 'bootmgr snapshot list' shows them");
        }
        for (size_t i = 0; i < l->n; i++)
                if (memcmp(l->items[i].digest, set->slots[set->previous].snapshot, DIGEST_SIZE) == 0) {
                        *ret = &l->items[i];
                        return 0;
                }
        return fail(e, -ENOENT, &kind_snapshot_missing, "the snapshot of slot %c is missing", slot_name(set->previous));
}

/* Whether the record names it: then it is kept. */
static bool is_pinned(const struct machine *m, const struct snapshot *s)
{
        for (int i = 0; i < m->state.set.n_slots; i++)
                if (memcmp(m->state.set.slots[i].snapshot, s->digest, DIGEST_SIZE) == 0)
                        return true;
        return false;
}

static json_t *snapshot_to_json(const struct machine *m, const struct snapshot *s)
{
        char digest[2 * DIGEST_SIZE + 1], slot[2] = { slot_name(s->slot) };
        json_t *paths = json_array();

        for (char **p = s->paths; p && *p; p++)
                json_array_append_new(paths, json_string(*p));
        hex_encode(s->digest, DIGEST_SIZE, digest);
        return json_pack("{s:s, s:s, s:s, s:I, s:s, s:o, s:I, s:I, s:I, s:b, s:o}", "id", s->id, "slot", slot, "version",
                         s->version, "generation", (json_int_t)s->generation, "digest", digest, "created",
                         json_time_or_null(s->created), "files", (json_int_t)s->files, "bytes", (json_int_t)s->bytes,
                         "skipped", (json_int_t)s->skipped, "pinned", is_pinned(m, s), "paths", paths);
}

static int print_list(const struct cli *cli, const struct machine *m, const struct snapshots *l)
{
        static const struct column columns[] = {
                { "ID" },   { "SLOT" }, { "VERSION" }, { "CREATED" }, { "FILES", COLUMN_RIGHT }, { "SIZE", COLUMN_RIGHT },
                { "KEPT" },
        };
        _cleanup_table_ struct table *t = table_new(columns, ARRAY_SIZE(columns));
        char text[TIME_TEXT_SIZE], size[SIZE_TEXT];

        if (!t)
                return -ENOMEM;
        for (size_t i = 0; i < l->n; i++) {
                const struct snapshot *s = &l->items[i];

                format_time(s->created, text);
                format_size(s->bytes, size);
                table_row(t);
                table_set(t, 0, s->id);
                table_setf(t, 1, "%c", slot_name(s->slot));
                table_set(t, 2, s->version);
                table_set(t, 3, text);
                table_setf(t, 4, "%llu", (unsigned long long)s->files);
                table_set(t, 5, size);
                table_set(t, 6, is_pinned(m, s) ? "pinned" : "until the next confirmation");
        }
        if (l->n == 0)
                cli_say(cli, "there is no snapshot");
        return table_print(t);
}

int verb_snapshot_list(struct verb_args *args, struct error *e)
{
        struct cli *cli = cli_from(args);
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        _cleanup_snapshots_ struct snapshots l = {};
        json_t *list;
        int r;

        r = open_with_snapshots(args, &m, &l, e);
        if (r < 0)
                return r;
        if (!cli->json)
                return print_list(cli, &m, &l);
        list = json_array();
        for (size_t i = 0; i < l.n; i++)
                json_array_append_new(list, snapshot_to_json(&m, &l.items[i]));
        return cli_print_json(cli, list);
}

int verb_snapshot_diff(struct verb_args *args, struct error *e)
{
        struct cli *cli = cli_from(args);
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        _cleanup_snapshots_ struct snapshots l = {};
        _cleanup_(difference_list_done) struct difference_list changes = {};
        const struct snapshot *s;
        int r;

        r = open_with_snapshots(args, &m, &l, e);
        if (r >= 0)
                r = args->n_positional ? find(&l, args->positional[0], &s, e) : find_previous(&m, &l, &s, e);
        if (r >= 0)
                r = collect_differences(&m, s, !verb_has(args, "no-text"), &changes, e);
        if (r < 0)
                return r;
        if (cli->json)
                return cli_print_json(cli, differences_to_json(&changes));
        if (changes.n == 0)
                cli_say(cli, "no difference from snapshot %s of version %s", s->id, s->version);
        print_differences(&changes);
        return 0;
}

int verb_snapshot_verify(struct verb_args *args, struct error *e)
{
        struct cli *cli = cli_from(args);
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        _cleanup_snapshots_ struct snapshots l = {};
        const struct snapshot *only = NULL;
        size_t checked = 0;
        int r;

        r = open_with_snapshots(args, &m, &l, e);
        if (r >= 0 && args->n_positional)
                r = find(&l, args->positional[0], &only, e);
        for (size_t i = 0; r >= 0 && i < l.n; i++) {
                if (only && only != &l.items[i])
                        continue;
                r = snapshot_verify(&m.snapshots, &l.items[i], e);
                checked++;
        }
        return r < 0 ? r : cli_done(cli, "%zu snapshot%s, sealed and whole", checked, checked == 1 ? "" : "s");
}

int verb_snapshot_export(struct verb_args *args, struct error *e)
{
        struct cli *cli = cli_from(args);
        const char *path = args->positional[1];
        _cleanup_machine_ struct machine m = MACHINE_CLOSED;
        _cleanup_snapshots_ struct snapshots l = {};
        _cleanup_close_ int fd = -1;
        const struct snapshot *s;
        int r;

        r = open_with_snapshots(args, &m, &l, e);
        if (r >= 0)
                r = find(&l, args->positional[0], &s, e);
        if (r < 0)
                return r;
        if (streq(path, "-"))
                return snapshot_export(&m.snapshots, s, STDOUT_FILENO, e);
        fd = io_open(AT_FDCWD, path, O_WRONLY | O_CREAT | O_EXCL, 0600);
        if (fd < 0)
                return fail_errno(e, fd, "cannot create %s", path);
        r = snapshot_export(&m.snapshots, s, fd, e);
        if (r >= 0)
                r = io_fsync(fd) < 0 ? fail_errno(e, -EIO, "cannot write %s", path) : 0;
        if (r < 0) {
                io_unlink(AT_FDCWD, path, 0);
                return r;
        }
        return cli_done(cli, "%s: snapshot %s of version %s", path, s->id, s->version);
}
