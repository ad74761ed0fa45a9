/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* jansson, wrapped once: strict parsing, typed getters whose errors name the field. */
#pragma once

#include <jansson.h>

#include "base/error.h"

static inline void json_unrefp(json_t **j)
{
        json_decref(*j);
}
#define _cleanup_json_ _cleanup_(json_unrefp)

/* Parses exactly one JSON value from `size` bytes: duplicate keys, trailing text and depth over 32
 * are refused. `what` names the source in messages. */
int json_parse_strict(const char *text, size_t size, const char *what, json_t **ret, struct error *e);

/* Typed members. -ENOENT when it is missing, -EINVAL when its type is other, with the name in `e`.
 * Strings are borrowed from the object. */
int json_get_string(const json_t *o, const char *name, const char **ret, struct error *e);
int json_get_u64(const json_t *o, const char *name, uint64_t *ret, struct error *e);
int json_get_bool(const json_t *o, const char *name, bool *ret, struct error *e);
int json_get_array(const json_t *o, const char *name, json_t **ret, struct error *e);  /* borrowed */
int json_get_object(const json_t *o, const char *name, json_t **ret, struct error *e); /* borrowed */
/* As above, but a missing member leaves *ret as it was and is success. */
int json_opt_string(const json_t *o, const char *name, const char **ret, struct error *e);
int json_opt_u64(const json_t *o, const char *name, uint64_t *ret, struct error *e);

/* A string of any bytes, such as a message with a file's name in it: when it is not UTF-8, which JSON must be, escaped by
 * text_escape(). New reference, or NULL without memory. */
json_t *json_text(const char *s);
/* The same or JSON null for NULL; a time in RFC 3339 or null for 0. New references. */
json_t *json_string_or_null(const char *s);
json_t *json_time_or_null(uint64_t usec);

/* Every member of `o` must be in the NULL-terminated list: unknown ones are named and refused. */
int json_check_members(const json_t *o, const char *const *known, const char *what, struct error *e);
