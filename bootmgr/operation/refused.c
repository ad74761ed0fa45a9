/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "operation/refused.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/io.h"
#include "base/version.h"

#define REFUSED  "refused"
#define FILE_MAX (64 * 1024)
#define UNKNOWN  "-" /* of a version whose slot was written again before its refusal could be listed */

struct refusal {
        uint8_t digest[DIGEST_SIZE];
        char version[SLOT_VERSION_SIZE];
};

struct refusals {
        struct refusal items[REFUSED_KEEP]; /* newest first */
        size_t n;
};

static bool parse_line(char *line, struct refusal *ret)
{
        char *version = strchr(line, ' ');

        if (!version)
                return false;
        *version++ = '\0';
        if (hex_decode(line, ret->digest, DIGEST_SIZE) < 0 || (!streq(version, UNKNOWN) && !version_valid(version)))
                return false;
        snprintf(ret->version, sizeof(ret->version), "%s", version);
        return true;
}

/* A damaged line is passed over: it refuses nothing, and the next write drops it. */
static int load(struct machine *m, struct refusals *ret, struct error *e)
{
        _cleanup_free_ char *text = NULL;
        char *cursor, *line;
        int r;

        ret->n = 0;
        r = m->snapshots.data < 0 ? -ENOENT : file_read(m->snapshots.data, REFUSED, FILE_MAX, &text, NULL);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return fail_errno(e, r, "cannot read %s/" REFUSED, m->data_path);
        for (cursor = text; ret->n < REFUSED_KEEP && (line = line_next(&cursor));)
                ret->n += parse_line(line, &ret->items[ret->n]);
        return 0;
}

static int save(struct machine *m, const struct refusals *list, struct error *e)
{
        _cleanup_buf_ struct buf b = {};
        char hex[2 * DIGEST_SIZE + 1];
        int r;

        for (size_t i = 0; i < list->n; i++) {
                hex_encode(list->items[i].digest, DIGEST_SIZE, hex);
                buf_printf(&b, "%s %s\n", hex, list->items[i].version);
        }
        r = b.failed ? -ENOMEM : file_replace(m->snapshots.data, REFUSED, b.data ?: "", b.size, 0644);
        return r < 0 ? fail_errno(e, r, "cannot write %s/" REFUSED, m->data_path) : 0;
}

static ssize_t find(const struct refusals *list, const uint8_t digest[static DIGEST_SIZE])
{
        for (size_t i = 0; i < list->n; i++)
                if (memcmp(list->items[i].digest, digest, DIGEST_SIZE) == 0)
                        return (ssize_t)i;
        return -1;
}

static const char *version_of(const struct slot_set *set, const uint8_t digest[static DIGEST_SIZE])
{
        for (int i = 0; i < set->n_slots; i++)
                if (*set->slots[i].version && memcmp(set->slots[i].digest, digest, DIGEST_SIZE) == 0)
                        return set->slots[i].version;
        return UNKNOWN;
}

int refused_note(struct machine *m, struct error *e)
{
        const struct slot_set *set = &m->state.set;
        struct refusals list;
        size_t moved;
        int r;

        if (m->snapshots.data < 0 || is_all_zero(set->refused, DIGEST_SIZE))
                return 0;
        r = load(m, &list, e);
        if (r < 0 || find(&list, set->refused) >= 0)
                return r;
        moved = MIN(list.n, (size_t)REFUSED_KEEP - 1);
        memmove(list.items + 1, list.items, moved * sizeof(*list.items));
        memcpy(list.items[0].digest, set->refused, DIGEST_SIZE);
        snprintf(list.items[0].version, SLOT_VERSION_SIZE, "%s", version_of(set, set->refused));
        list.n = moved + 1;
        return save(m, &list, e);
}

int refused_has(struct machine *m, const uint8_t digest[static DIGEST_SIZE], struct error *e)
{
        struct refusals list;
        int r;

        if (memcmp(digest, m->state.set.refused, DIGEST_SIZE) == 0)
                return 1;
        r = load(m, &list, e);
        return r < 0 ? r : find(&list, digest) >= 0;
}

int refused_forget(struct machine *m, const uint8_t digest[static DIGEST_SIZE], struct error *e)
{
        struct refusals list;
        ssize_t at;
        int r;

        if (memcmp(m->state.set.refused, digest, DIGEST_SIZE) == 0)
                memset(m->state.set.refused, 0, DIGEST_SIZE);
        r = load(m, &list, e);
        at = r < 0 ? -1 : find(&list, digest);
        if (at < 0)
                return r;
        list.n--;
        memmove(list.items + at, list.items + at + 1, (list.n - (size_t)at) * sizeof(*list.items));
        return save(m, &list, e);
}

int refused_clear(struct machine *m, struct error *e)
{
        int r;

        memset(m->state.set.refused, 0, DIGEST_SIZE);
        r = m->snapshots.data < 0 ? -ENOENT : io_unlink(m->snapshots.data, REFUSED, 0);
        if (r >= 0)
                r = io_fsync(m->snapshots.data);
        return r < 0 && r != -ENOENT ? fail_errno(e, r, "cannot remove %s/" REFUSED, m->data_path) : 0;
}

json_t *refused_to_json(struct machine *m)
{
        json_t *array = json_array();
        struct refusals list;
        char hex[2 * DIGEST_SIZE + 1];

        load(m, &list, NULL);
        for (size_t i = 0; i < list.n; i++) {
                hex_encode(list.items[i].digest, DIGEST_SIZE, hex);
                json_array_append_new(array, json_pack("{s:s, s:s}", "digest", hex, "version", list.items[i].version));
        }
        return array;
}
