/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "snapshot/metadata.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/version.h"
#include "slot/kinds.h"
#include "snapshot/path.h"

#define FORMAT       1
#define METADATA_MAX MIB(1)

void snapshot_done(struct snapshot *s)
{
        paths_free(s->paths);
        paths_free(s->absent);
        *s = (struct snapshot){};
}

void snapshot_id(const uint8_t digest[static DIGEST_SIZE], char id[static 17])
{
        hex_encode(digest, 8, id);
}

size_t paths_count(char *const *paths)
{
        size_t n = 0;

        while (paths && paths[n])
                n++;
        return n;
}

void paths_free(char **paths)
{
        for (char **p = paths; p && *p; p++)
                free(*p);
        free(paths);
}

int paths_add(char **paths, const char *path)
{
        char *copy = strdup(path);

        if (!copy)
                return -ENOMEM;
        paths[paths_count(paths)] = copy;
        return 0;
}

char **paths_copy(char *const *paths)
{
        char **copy = calloc(paths_count(paths) + 1, sizeof(*copy));

        for (char *const *p = paths; copy && p && *p; p++)
                if (paths_add(copy, *p) < 0) {
                        paths_free(copy);
                        return NULL;
                }
        return copy;
}

static json_t *paths_to_json(char *const *paths)
{
        json_t *list = json_array();

        for (char *const *p = paths; p && *p; p++)
                json_array_append_new(list, json_string(*p));
        return list;
}

static int paths_from_json(const json_t *o, const char *name, char ***ret, struct error *e)
{
        json_t *list, *item;
        char **paths;
        size_t i;
        int r = json_get_array(o, name, &list, e);

        if (r < 0)
                return r;
        paths = calloc(json_array_size(list) + 1, sizeof(*paths));
        if (!paths)
                return -ENOMEM;
        json_array_foreach(list, i, item)
        {
                const char *path = json_string_value(item);

                r = !path || path_problem(path) ? -EINVAL : paths_add(paths, path);
                if (r < 0) {
                        paths_free(paths);
                        return fail(e, r, NULL, "\"%s\" holds '%s', which is no path to restore", name, path ?: "");
                }
        }
        *ret = paths;
        return 0;
}

int metadata_trailer(const struct snapshot *s, struct buf *ret)
{
        json_t *j = json_pack("{s:i, s:o, s:o}", "format", FORMAT, "paths", paths_to_json(s->paths), "absent",
                              paths_to_json(s->absent));
        char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;

        json_decref(j);
        if (!text)
                return -ENOMEM;
        buf_puts(ret, text);
        free(text);
        return ret->failed ? -ENOMEM : 0;
}

static json_t *to_json(const struct snapshot *s)
{
        char digest[2 * DIGEST_SIZE + 1], created[TIME_TEXT_SIZE], slot[2] = {};

        hex_encode(s->digest, DIGEST_SIZE, digest);
        format_time(s->created, created);
        if (s->slot != SLOT_NONE)
                slot[0] = slot_name(s->slot);
        return json_pack("{s:i, s:s, s:s, s:s, s:I, s:s, s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "format", FORMAT, "digest",
                         digest, "slot", slot, "version", s->version, "generation", (json_int_t)s->generation, "created",
                         created, "files", (json_int_t)s->files, "bytes", (json_int_t)s->bytes, "nodes",
                         (json_int_t)s->nodes, "skipped", (json_int_t)s->skipped, "size", (json_int_t)s->size, "paths",
                         paths_to_json(s->paths), "absent", paths_to_json(s->absent));
}

int metadata_write(int dir, const char *stem, const struct snapshot *s, struct error *e)
{
        _cleanup_json_ json_t *j = to_json(s);
        _cleanup_free_ char *text = j ? json_dumps(j, JSON_INDENT(2)) : NULL;
        char name[STEM_SIZE + sizeof(METADATA_SUFFIX)];
        int r;

        if (!text)
                return -ENOMEM;
        snprintf(name, sizeof(name), "%s" METADATA_SUFFIX, stem);
        r = file_replace(dir, name, text, strlen(text), 0600);
        return r < 0 ? fail_write(e, r, "cannot write %s", name) : 0;
}

static int get_identity(const json_t *j, struct snapshot *s, struct error *e)
{
        const char *digest, *slot, *version, *created;
        int r;

        r = json_get_string(j, "digest", &digest, e);
        if (r >= 0)
                r = json_get_string(j, "slot", &slot, e);
        if (r >= 0)
                r = json_get_string(j, "version", &version, e);
        if (r >= 0)
                r = json_get_string(j, "created", &created, e);
        if (r < 0)
                return r;
        if (hex_decode(digest, s->digest, DIGEST_SIZE) < 0)
                return fail(e, -EINVAL, NULL, "\"digest\" is '%s'", digest);
        if (parse_time(created, &s->created) < 0)
                return fail(e, -EINVAL, NULL, "\"created\" is '%s'", created);
        s->slot = *slot ? slot_from_name(slot) : SLOT_NONE;
        if ((*slot && s->slot == SLOT_NONE) || (*version && !version_valid(version)))
                return fail(e, -EINVAL, NULL, "slot '%s' or version '%s' is not one", slot, version);
        snprintf(s->version, sizeof(s->version), "%s", version);
        snapshot_id(s->digest, s->id);
        return 0;
}

/* Two paths of which one holds the other would be exchanged one through the other. */
static int check_nesting(char *const *list, char *const *others, struct error *e)
{
        for (char *const *p = list; *p; p++)
                for (char *const *q = others; *q; q++)
                        if (p != q && path_below(*p, *q))
                                return fail(e, -EINVAL, NULL, "%s lies in %s", *p, *q);
        return 0;
}

static int check_all_nesting(const struct snapshot *s, struct error *e)
{
        char *const *lists[] = { s->paths, s->absent };
        int r = 0;

        for (size_t i = 0; r >= 0 && i < 4; i++)
                r = check_nesting(lists[i & 1], lists[i >> 1], e);
        return r;
}

static int from_json(const json_t *j, struct snapshot *s, struct error *e)
{
        const struct {
                const char *name;
                uint64_t *value;
        } numbers[] = { { "generation", &s->generation }, { "files", &s->files },     { "bytes", &s->bytes },
                        { "nodes", &s->nodes },           { "skipped", &s->skipped }, { "size", &s->size } };
        uint64_t format = 0;
        int r;

        r = json_get_u64(j, "format", &format, e);
        if (r >= 0 && format != FORMAT)
                return fail(e, -EINVAL, NULL, "\"format\" is %llu, this program knows %d", (unsigned long long)format,
                            FORMAT);
        if (r >= 0)
                r = get_identity(j, s, e);
        for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(numbers); i++)
                r = json_get_u64(j, numbers[i].name, numbers[i].value, e);
        if (r >= 0)
                r = paths_from_json(j, "paths", &s->paths, e);
        if (r >= 0)
                r = paths_from_json(j, "absent", &s->absent, e);
        return r < 0 ? r : check_all_nesting(s, e);
}

int metadata_read(int dir, const char *stem, struct snapshot *ret, struct error *e)
{
        char name[STEM_SIZE + sizeof(METADATA_SUFFIX)];
        _cleanup_snapshot_ struct snapshot s = {};
        _cleanup_error_ struct error why = {};
        _cleanup_free_ char *text = NULL;
        _cleanup_json_ json_t *j = NULL;
        size_t size = 0;
        int r;

        snprintf(name, sizeof(name), "%s" METADATA_SUFFIX, stem);
        r = file_read(dir, name, METADATA_MAX, &text, &size);
        if (r == -ENOENT)
                return fail(e, r, &kind_snapshot_missing, "there is no snapshot %s", stem);
        if (r < 0)
                return fail_errno(e, r, "cannot read %s", name);
        r = json_parse_strict(text, size, name, &j, &why);
        if (r >= 0)
                r = from_json(j, &s, &why);
        if (r < 0)
                return fail(e, -EBADMSG, &kind_snapshot_altered, "%s is damaged: %s", name, why.message ?: error_text(r));
        *ret = TAKE(s, (struct snapshot){});
        return 0;
}
