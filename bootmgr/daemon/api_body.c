/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/api_body.h"

#include <inttypes.h>

#include "operation/request.h"
#include "slot/kinds.h"

static const struct {
        const char *name;
        enum api_member member;
        size_t field;
} booleans[] = {
        { "no_reboot", API_NO_REBOOT, offsetof(struct api_body, no_reboot) },
        { "automatic", API_AUTOMATIC, offsetof(struct api_body, automatic) },
        { "prechecks_only", API_PRECHECKS_ONLY, offsetof(struct api_body, prechecks_only) },
        { "strict", API_CLUSTER, offsetof(struct api_body, strict) },
        { "one_instant", API_CLUSTER, offsetof(struct api_body, one_instant) },
};

static const struct {
        const char *name, *unit;
        size_t field;
} numbers[] = {
        { "max_unavailable", "", offsetof(struct api_body, max_unavailable) },
        { "prepare_limit_sec", "s", offsetof(struct api_body, prepare_limit) },
        { "switch_limit_sec", "s", offsetof(struct api_body, switch_limit) },
        { "lead_sec", "s", offsetof(struct api_body, lead) },
};

static int check_known(const json_t *j, unsigned members, struct error *e)
{
        const char *known[ARRAY_SIZE(booleans) + ARRAY_SIZE(numbers) + 4] = { "id" };
        size_t n = 1;

        if (members & API_SOURCE)
                known[n++] = "source";
        if (members & API_CLUSTER)
                known[n++] = "engines";
        for (size_t i = 0; i < ARRAY_SIZE(numbers) && (members & API_CLUSTER); i++)
                known[n++] = numbers[i].name;
        for (size_t i = 0; i < ARRAY_SIZE(booleans); i++)
                if (members & booleans[i].member)
                        known[n++] = booleans[i].name;
        return json_check_members(j, known, "the body", e);
}

static int read_booleans(const json_t *j, struct api_body *b, struct error *e)
{
        for (size_t i = 0; i < ARRAY_SIZE(booleans); i++) {
                int r = json_get_bool(j, booleans[i].name, (bool *)((char *)b + booleans[i].field), e);

                if (r == -EINVAL)
                        return r;
                error_done(e);
        }
        return 0;
}

static int read_id(const json_t *j, const char *key, struct api_body *b, struct error *e)
{
        char other[OPERATION_ID_SIZE];
        const char *id = NULL, *given;
        int r;

        r = json_opt_string(j, "id", &id, e);
        if (r < 0)
                return r;
        given = id ?: key;
        if (!given && b->prechecks_only)
                return 0;
        if (!given) {
                fail(e, -EINVAL, &kind_usage, "the request has no id: it could not be repeated safely");
                return fail_hint(e,
                                 "make one at random, 32 hexadecimal digits or a UUID, for the member \"id\" or the header "
                                 "Idempotency-Key; repeat the request with the same one");
        }
        if (request_id(given, b->id) < 0 || (key && request_id(key, other) < 0))
                return fail(e, -EINVAL, &kind_usage,
                            "the id is neither 32 hexadecimal digits, not all of them zero, nor a UUID");
        if (id && key && !streq(b->id, other))
                return fail(e, -EINVAL, &kind_usage, "the member \"id\" and the header Idempotency-Key differ");
        /* What only looks may be repeated anyhow. It must not stand for what is asked for with this id afterwards. */
        if (b->prechecks_only)
                *b->id = '\0';
        return 0;
}

/* The daemon has another working directory than anybody, and a standard input of its own. */
static int read_source(const json_t *j, struct api_body *b, struct error *e)
{
        const char *source;
        int r;

        r = json_get_string(j, "source", &source, e);
        if (r < 0)
                return r;
        if (*source != '/' && !strstr(source, "://"))
                return fail(e, -EINVAL, &kind_usage, "the source is neither an absolute path nor a URL");
        b->source = strdup(source);
        return b->source ? 0 : -ENOMEM;
}

/* What they mean together, and on a machine that stands alone, is said by `bootmgr`. */
static int read_cluster(const json_t *j, struct api_body *b, struct error *e)
{
        const char *mode = NULL;
        int r = json_opt_string(j, "engines", &mode, e);

        if (r < 0)
                return r;
        if (mode && !streq(mode, "together") && !streq(mode, "rolling"))
                return fail(e, -EINVAL, &kind_usage, "\"engines\" is neither \"together\" nor \"rolling\"");
        snprintf(b->engines, sizeof(b->engines), "%s", mode ?: "");
        for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
                uint64_t n = 0;

                r = json_opt_u64(j, numbers[i].name, &n, e);
                if (r < 0)
                        return r;
                if (json_object_get(j, numbers[i].name))
                        snprintf((char *)b + numbers[i].field, sizeof(b->lead), "%" PRIu64 "%s", n, numbers[i].unit);
        }
        return 0;
}

static int read_members(const json_t *j, const char *key, unsigned members, struct api_body *b, struct error *e)
{
        int r;

        if (!json_is_object(j))
                return fail(e, -EINVAL, &kind_usage, "the body is not a JSON object");
        r = check_known(j, members, e);
        if (r >= 0)
                r = read_booleans(j, b, e);
        if (r >= 0)
                r = read_id(j, key, b, e);
        if (r >= 0 && (members & API_SOURCE))
                r = read_source(j, b, e);
        if (r >= 0 && (members & API_CLUSTER))
                r = read_cluster(j, b, e);
        return r;
}

int api_body_parse(const char *text, size_t size, const char *key, unsigned members, struct api_body *ret, struct error *e)
{
        _cleanup_json_ json_t *j = NULL;
        struct error why = {};
        struct api_body b = {};
        int r;

        r = size ? json_parse_strict(text, size, "the body", &j, &why) : 0;
        if (!j && r >= 0)
                j = json_object();
        if (r >= 0)
                r = j ? read_members(j, key, members, &b, &why) : -ENOMEM;
        if (r >= 0) {
                *ret = b;
                return 0;
        }
        /* Whatever is wrong with it is the asker's. */
        fail(e, r, r == -ENOMEM ? NULL : &kind_usage, "%s", why.message ?: error_text(r));
        if (why.hint)
                fail_hint(e, "%s", why.hint);
        error_done(&why);
        api_body_done(&b);
        return r;
}

void api_body_done(struct api_body *b)
{
        free(TAKE_PTR(b->source));
}
