/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "operation/record.h"

#include <fcntl.h>
#include <inttypes.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/io.h"
#include "base/log.h"

#define DIRECTORY          "operations"
#define OPERATION_FILE_MAX (256 * 1024)
#define INTERRUPTED        "interrupted: the process that carried it out is gone"

struct names {
        char **items; /* owned, highest sequence first */
        size_t n;
};

static void names_done(struct names *names)
{
        for (size_t i = 0; i < names->n; i++)
                free(names->items[i]);
        free(names->items);
}

static bool is_record(const char *name, unsigned *sequence)
{
        char id[OPERATION_ID_SIZE], end[8];

        return sscanf(name, "%8u-%32[0-9a-f]%7s", sequence, id, end) == 3 && streq(end, ".json");
}

static int compare_names(const void *a, const void *b)
{
        return strcmp(*(char *const *)b, *(char *const *)a);
}

static int list_names(struct machine *m, struct names *ret)
{
        _cleanup_closedir_ DIR *dir = NULL;
        _cleanup_(names_done) struct names names = {};
        struct dirent *entry;
        unsigned sequence;
        int fd;

        fd = m->snapshots.data < 0 ? -ENOENT : dir_open(m->snapshots.data, DIRECTORY);
        if (fd < 0)
                return fd;
        dir = fdopendir(fd);
        if (!dir) {
                fd_close(fd);
                return -ENOMEM;
        }
        while ((entry = readdir(dir))) {
                char **grown, *name;

                if (!is_record(entry->d_name, &sequence))
                        continue;
                grown = reallocarray(names.items, names.n + 1, sizeof(char *));
                if (!grown)
                        return -ENOMEM;
                names.items = grown;
                name = strdup(entry->d_name);
                if (!name)
                        return -ENOMEM;
                names.items[names.n++] = name;
        }
        if (names.n > 1)
                qsort(names.items, names.n, sizeof(char *), compare_names);
        *ret = TAKE(names, (struct names){});
        return 0;
}

static int load(struct machine *m, const char *name, struct operation *ret, struct error *e)
{
        _cleanup_free_ char *path = xasprintf(DIRECTORY "/%s", name), *text = NULL;
        _cleanup_json_ json_t *j = NULL;
        size_t size;
        int r;

        r = path ? file_read(m->snapshots.data, path, OPERATION_FILE_MAX, &text, &size) : -ENOMEM;
        if (r < 0)
                return fail_errno(e, r, "cannot read %s/%s", m->data_path, path);
        r = json_parse_strict(text, size, path, &j, e);
        if (r >= 0)
                r = operation_from_json(j, ret, e);
        if (r < 0)
                return r;
        is_record(name, &ret->sequence);
        return 0;
}

int operation_load_newest(struct machine *m, struct operation *ret, struct error *e)
{
        _cleanup_(names_done) struct names names = {};
        int r;

        r = list_names(m, &names);
        if (r < 0)
                return r == -ENOENT ? r : fail_errno(e, r, "cannot list %s/" DIRECTORY, m->data_path);
        /* A damaged file is reported and passed over: an older truth beats none. */
        for (size_t i = 0; i < names.n; i++) {
                struct error why = {};

                r = load(m, names.items[i], ret, &why);
                if (r >= 0)
                        return 0;
                log_warning("%s: %s", names.items[i], why.message ?: error_text(r));
                error_done(&why);
        }
        return -ENOENT;
}

int operation_history(struct machine *m, struct operation **ret, size_t *ret_n, struct error *e)
{
        _cleanup_(names_done) struct names names = {};
        struct operation *items;
        size_t n = 0;
        int r;

        r = list_names(m, &names);
        if (r < 0 && r != -ENOENT)
                return fail_errno(e, r, "cannot list %s/" DIRECTORY, m->data_path);
        items = calloc(MAX(names.n, 1U), sizeof(*items));
        if (!items)
                return -ENOMEM;
        for (size_t i = 0; i < names.n; i++) {
                struct error why = {};

                r = load(m, names.items[i], &items[n], &why);
                if (r >= 0)
                        n++;
                else
                        log_warning("%s: %s", names.items[i], why.message ?: error_text(r));
                error_done(&why);
        }
        *ret = items;
        *ret_n = n;
        return 0;
}

bool operation_is_of_record(const struct slot_set *set, const struct operation *op)
{
        char id[OPERATION_ID_SIZE];

        hex_encode(set->operation_id, sizeof(set->operation_id), id);
        return streq(id, op->id);
}

bool operation_is_superseded(const struct slot_set *set, const struct operation *op)
{
        return set->operation_state == OPERATION_STAGED || (op->sequence > 0 && !operation_is_of_record(set, op));
}

/* Whether only a living worker could carry it on. The record decides what is staged and what was switched:
 * it is written last, and the JSON may be one step behind it. */
static bool needs_worker(const struct machine *m, const struct operation *op)
{
        const struct slot_set *set = &m->state.set;
        bool same = operation_is_of_record(set, op);

        if (op->result != RESULT_IN_PROGRESS)
                return false;
        if (same && (set->operation_state == OPERATION_STAGED ||
                     (set->operation_state == OPERATION_RUNNING && set->phase == SWITCH_SWITCHED)))
                return false;
        if (op->staged)
                return true;
        return op->generation == 0 && (set->phase == SWITCH_NONE || !same);
}

/* What the record alone tells, when data is missing. */
static int from_record(struct machine *m, struct operation *ret)
{
        const struct slot_set *set = &m->state.set;
        static const enum operation_result results[_OPERATION_STATE_MAX] = {
                [OPERATION_IDLE] = RESULT_DONE,           [OPERATION_STAGED] = RESULT_IN_PROGRESS,
                [OPERATION_RUNNING] = RESULT_IN_PROGRESS, [OPERATION_DONE] = RESULT_DONE,
                [OPERATION_FAILED] = RESULT_FAILED,       [OPERATION_ABORTED] = RESULT_ABORTED,
        };

        if (set->operation == OPERATION_NONE)
                return -ENOENT;
        *ret = (struct operation){
                .kind = set->operation,
                .from_slot = set->operation_from,
                .to_slot = set->operation_to,
                .result = results[set->operation_state],
                .automatic = set->operation_automatic,
                .staged = set->operation_state == OPERATION_STAGED,
                .generation = set->target_generation,
        };
        hex_encode(set->operation_id, sizeof(set->operation_id), ret->id);
        if (set->operation_from != SLOT_NONE)
                strcpy(ret->from_version, set->slots[set->operation_from].version);
        if (set->operation_to != SLOT_NONE)
                strcpy(ret->to_version, set->slots[set->operation_to].version);
        if (set->operation_reason != REASON_NONE)
                ret->reason = strdup(slot_reason_to_string(set->operation_reason));
        return 0;
}

/* The operation before the newest; -ENOENT: there is none. */
static int load_second(struct machine *m, struct operation *ret)
{
        _cleanup_(names_done) struct names names = {};
        struct error why = {};
        int r;

        r = list_names(m, &names);
        if (r >= 0)
                r = names.n > 1 ? load(m, names.items[1], ret, &why) : -ENOENT;
        error_done(&why);
        return r;
}

/* A return that nobody asked for and that has done its work is part of what it ended: that is what failed. */
static void take_what_failed(struct machine *m, struct operation *op)
{
        _cleanup_operation_ struct operation before = {};

        if (!op->automatic || op->kind != OPERATION_ROLLBACK || op->result != RESULT_DONE || load_second(m, &before) < 0)
                return;
        if (before.result == RESULT_FAILED && streq(before.superseded_by, op->id)) {
                operation_done(op);
                *op = TAKE(before, (struct operation){});
        }
}

int operation_current(struct machine *m, struct operation *ret, struct error *e)
{
        int r;

        r = m->snapshots.data < 0 ? from_record(m, ret) : operation_load_newest(m, ret, e);
        if (r < 0)
                return r;
        if (m->snapshots.data >= 0 && needs_worker(m, ret) && !machine_is_locked_by_other(m) && m->lock < 0)
                operation_end(ret, RESULT_FAILED, INTERRUPTED);
        /* Its worker died between preparing and switching: it is prepared all the same. */
        if (ret->result == RESULT_IN_PROGRESS && m->state.set.operation_state == OPERATION_STAGED &&
            operation_is_of_record(&m->state.set, ret) && !machine_is_locked_by_other(m))
                ret->staged = true;
        if (m->snapshots.data >= 0)
                take_what_failed(m, ret);
        return 0;
}

void operation_close_orphan(struct machine *m)
{
        _cleanup_operation_ struct operation op = {};
        _cleanup_error_ struct error why = {};
        int r;

        r = m->snapshots.data < 0 ? -ENOENT : operation_load_newest(m, &op, &why);
        if (r >= 0 && needs_worker(m, &op)) {
                operation_end(&op, RESULT_FAILED, INTERRUPTED);
                r = operation_save(m, &op, true, &why);
        }
        if (r < 0 && r != -ENOENT)
                log_warning("%s: what was interrupted stays as it is", why.message ?: error_text(r));
}

int operation_begin(struct machine *m, struct operation *op, const char *id, struct error *e)
{
        _cleanup_(names_done) struct names names = {};
        uint8_t bytes[16];
        int r;

        r = id ? hex_decode(id, bytes, sizeof(bytes)) : random_id(bytes);
        if (r < 0)
                return fail_errno(e, r, "cannot make an operation id");
        hex_encode(bytes, sizeof(bytes), op->id);
        op->start = now_realtime();
        op->sequence = 1;
        if (list_names(m, &names) < 0 || names.n == 0)
                return 0;
        is_record(names.items[0], &op->sequence);
        op->sequence++;
        for (size_t i = OPERATION_KEEP; i < names.n; i++) {
                _cleanup_free_ char *old = xasprintf(DIRECTORY "/%s", names.items[i]);

                if (old)
                        io_unlink(m->snapshots.data, old, 0);
        }
        return 0;
}

int operation_save(struct machine *m, const struct operation *op, bool durable, struct error *e)
{
        _cleanup_json_ json_t *j = operation_to_json(op);
        _cleanup_free_ char *text = j ? json_dumps(j, JSON_INDENT(1)) : NULL;
        char path[sizeof(DIRECTORY) + OPERATION_ID_SIZE + 32];
        int r;

        if (m->snapshots.data < 0)
                return 0;
        if (!text)
                return -ENOMEM;
        snprintf(path, sizeof(path), DIRECTORY "/%08u-%s.json", op->sequence, op->id);
        r = mkdir_parents(m->snapshots.data, DIRECTORY, 0755);
        if (r >= 0)
                r = (durable ? file_replace : file_replace_volatile)(m->snapshots.data, path, text, strlen(text), 0644);
        return r < 0 ? fail_errno(e, r, "cannot write %s/%s", m->data_path, path) : 0;
}
