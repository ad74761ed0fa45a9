/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/json.h"

#include "base/clock.h"
#include "base/text.h"

#define DEPTH_MAX 32

/* Nesting is bounded before jansson sees it (its own bound is 2048). */
static bool too_deep(const char *text, size_t size)
{
        bool string = false;
        int depth = 0;

        for (size_t i = 0; i < size; i++) {
                char c = text[i];

                if (string && c == '\\')
                        i++;
                else if (c == '"')
                        string = !string;
                else if (!string && (c == '{' || c == '['))
                        depth++;
                else if (!string && (c == '}' || c == ']'))
                        depth--;
                if (depth > DEPTH_MAX)
                        return true;
        }
        return false;
}

int json_parse_strict(const char *text, size_t size, const char *what, json_t **ret, struct error *e)
{
        json_error_t error;
        json_t *j;

        if (too_deep(text, size))
                return fail(e, -EINVAL, NULL, "%s is nested more than %d levels deep", what, DEPTH_MAX);
        j = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
        if (!j)
                return fail(e, -EINVAL, NULL, "%s is not valid JSON: line %d, column %d: %s", what, error.line, error.column,
                            error.text);
        *ret = j;
        return 0;
}

static int get(const json_t *o, const char *name, json_type type, const char *type_name, json_t **ret, struct error *e)
{
        json_t *member = json_object_get(o, name);

        if (!member)
                return fail(e, -ENOENT, NULL, "the member \"%s\" is missing", name);
        if (json_typeof(member) != type)
                return fail(e, -EINVAL, NULL, "the member \"%s\" is not %s", name, type_name);
        *ret = member;
        return 0;
}

int json_get_string(const json_t *o, const char *name, const char **ret, struct error *e)
{
        json_t *member;
        int r = get(o, name, JSON_STRING, "a string", &member, e);

        if (r < 0)
                return r;
        /* A NUL inside would make two readers see two strings. */
        if (strlen(json_string_value(member)) != json_string_length(member))
                return fail(e, -EINVAL, NULL, "the member \"%s\" holds a NUL byte", name);
        *ret = json_string_value(member);
        return 0;
}

int json_get_u64(const json_t *o, const char *name, uint64_t *ret, struct error *e)
{
        json_t *member;
        int r = get(o, name, JSON_INTEGER, "an integer", &member, e);

        if (r < 0)
                return r;
        if (json_integer_value(member) < 0)
                return fail(e, -EINVAL, NULL, "the member \"%s\" is negative", name);
        *ret = (uint64_t)json_integer_value(member);
        return 0;
}

int json_get_bool(const json_t *o, const char *name, bool *ret, struct error *e)
{
        json_t *member = json_object_get(o, name);

        if (!member)
                return fail(e, -ENOENT, NULL, "the member \"%s\" is missing", name);
        if (!json_is_boolean(member))
                return fail(e, -EINVAL, NULL, "the member \"%s\" is not true or false", name);
        *ret = json_is_true(member);
        return 0;
}

int json_get_array(const json_t *o, const char *name, json_t **ret, struct error *e)
{
        return get(o, name, JSON_ARRAY, "an array", ret, e);
}

int json_get_object(const json_t *o, const char *name, json_t **ret, struct error *e)
{
        return get(o, name, JSON_OBJECT, "an object", ret, e);
}

int json_opt_string(const json_t *o, const char *name, const char **ret, struct error *e)
{
        return json_object_get(o, name) ? json_get_string(o, name, ret, e) : 0;
}

int json_opt_u64(const json_t *o, const char *name, uint64_t *ret, struct error *e)
{
        return json_object_get(o, name) ? json_get_u64(o, name, ret, e) : 0;
}

json_t *json_text(const char *s)
{
        _cleanup_free_ char *escaped = NULL;
        json_t *j = json_string(s);

        if (j)
                return j;
        escaped = text_escape(s);
        return escaped ? json_string(escaped) : NULL;
}

json_t *json_string_or_null(const char *s)
{
        return s ? json_text(s) : json_null();
}

json_t *json_time_or_null(uint64_t usec)
{
        char text[TIME_TEXT_SIZE];

        if (usec == 0)
                return json_null();
        format_time(usec, text);
        return json_string(text);
}

int json_check_members(const json_t *o, const char *const *known, const char *what, struct error *e)
{
        const char *name;
        json_t *value;

        json_object_foreach((json_t *)o, name, value)
        {
                size_t i = 0;

                while (known[i] && !streq(known[i], name))
                        i++;
                if (!known[i])
                        return fail(e, -EINVAL, NULL, "%s has an unknown member \"%s\"", what, name);
        }
        return 0;
}
