/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "snapshot/journal.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/io.h"
#include "base/log.h"
#include "snapshot/metadata.h"
#include "snapshot/path.h"

#define JOURNAL     "restore.journal"
#define JOURNAL_MAX MIB(1)

void journal_done(struct journal *j)
{
        paths_free(j->paths);
        *j = (struct journal){};
}

static int from_json(const json_t *o, struct journal *j, struct error *e)
{
        const char *digest;
        json_t *list, *item;
        size_t i;
        int r;

        r = json_get_u64(o, "generation", &j->generation, e);
        if (r >= 0)
                r = json_get_string(o, "digest", &digest, e);
        if (r >= 0)
                r = hex_decode(digest, j->digest, DIGEST_SIZE);
        if (r >= 0)
                r = json_get_array(o, "paths", &list, e);
        if (r < 0)
                return r;
        j->paths = calloc(json_array_size(list) + 1, sizeof(*j->paths));
        if (!j->paths)
                return -ENOMEM;
        json_array_foreach(list, i, item)
        {
                const char *path = json_string_value(item);

                r = !path || path_problem(path) ? -EINVAL : paths_add(j->paths, path);
                if (r < 0)
                        return r;
        }
        j->valid = true;
        return 0;
}

int journal_read(const struct snapshot_place *place, struct journal *ret, struct error *e)
{
        _cleanup_journal_ struct journal j = {};
        _cleanup_error_ struct error why = {};
        _cleanup_free_ char *text = NULL;
        _cleanup_json_ json_t *o = NULL;
        size_t size = 0;
        int r = file_read(place->data, JOURNAL, JOURNAL_MAX, &text, &size);

        if (r < 0 && r != -ENOENT)
                return fail_errno(e, r, "cannot read %s in the data directory", JOURNAL);
        if (r >= 0) {
                r = json_parse_strict(text, size, JOURNAL, &o, &why);
                if (r >= 0)
                        r = from_json(o, &j, &why);
                if (r == -ENOMEM)
                        return r;
                if (r < 0) {
                        log_warning("%s is damaged and not used: %s", JOURNAL, why.message ?: error_text(r));
                        journal_done(&j);
                }
        }
        *ret = TAKE(j, (struct journal){});
        return 0;
}

int journal_write(const struct snapshot_place *place, const struct journal *j, struct error *e)
{
        char digest[2 * DIGEST_SIZE + 1];
        _cleanup_json_ json_t *o = NULL;
        _cleanup_free_ char *text = NULL;
        json_t *paths = json_array();
        int r;

        for (char **p = j->paths; p && *p; p++)
                json_array_append_new(paths, json_string(*p));
        hex_encode(j->digest, DIGEST_SIZE, digest);
        o = json_pack("{s:I, s:s, s:o}", "generation", (json_int_t)j->generation, "digest", digest, "paths", paths);
        text = o ? json_dumps(o, JSON_COMPACT) : NULL;
        if (!text)
                return -ENOMEM;
        r = file_replace(place->data, JOURNAL, text, strlen(text), 0600);
        return r < 0 ? fail_write(e, r, "cannot write %s", JOURNAL) : 0;
}

int journal_remove(const struct snapshot_place *place, struct error *e)
{
        int r = io_unlink(place->data, JOURNAL, 0);

        /* Not flushed: where it comes back, the same is restored once more. */
        if (r == -ENOENT)
                return 0;
        return r < 0 ? fail_write(e, r, "cannot remove %s", JOURNAL) : 0;
}
