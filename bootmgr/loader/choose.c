/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What systemd-boot 252 will start: its order of entries and its pins, computed. tests and
 * qemu/scenarios hold this against the real one. */
#include "loader/entry.h"

#include <strings.h>

#include "base/version.h"

static int compare_int(int a, int b)
{
        return a < b ? -1 : a > b;
}

/* NULL before anything. */
static int compare_string(const char *a, const char *b)
{
        if (!a || !b)
                return compare_int(a != NULL, b != NULL);
        return strcmp(a, b);
}

static int compare_version(const char *a, const char *b)
{
        return version_compare(a ?: "", b ?: "");
}

static bool exhausted(const struct entry *e)
{
        return e->name.counted && e->name.left == 0;
}

/* ASCII only, as in systemd-boot, whatever the locale. */
static char fold(char c)
{
        return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* The name as systemd-boot 252 knows the entry: lower case, with counter and suffix. */
static void full_id(const struct entry_name *name, char id[static ENTRY_NAME_MAX])
{
        size_t i = 0;

        for (; name->file[i]; i++)
                id[i] = fold(name->file[i]);
        id[i] = '\0';
}

int entry_compare(const struct entry *a, const struct entry *b)
{
        char id_a[ENTRY_NAME_MAX], id_b[ENTRY_NAME_MAX];
        int r;

        r = compare_int(a->automatic, b->automatic); /* put at the end once the others are sorted */
        if (r != 0 || a->automatic)
                return r;
        r = compare_int(exhausted(a), exhausted(b));
        if (r == 0)
                r = compare_int(!a->sort_key, !b->sort_key); /* those with a sort key come first */
        if (r == 0 && a->sort_key) {
                r = compare_string(a->sort_key, b->sort_key);
                if (r == 0)
                        r = compare_string(a->machine_id, b->machine_id);
                if (r == 0)
                        r = -compare_version(a->version, b->version);
        }
        if (r != 0)
                return r;
        full_id(&a->name, id_a);
        full_id(&b->name, id_b);
        r = -version_compare(id_a, id_b);
        if (r != 0 || !a->name.counted || !b->name.counted)
                return r;
        r = -compare_int(a->name.left, b->name.left);
        return r ?: compare_int(a->name.done, b->name.done);
}

/* One set of a pattern, "[a-z_]", *cursor behind its "["; moves behind its end. systemd-boot knows no negation. false
 * also for a set without an end. */
static bool match_set(const char **cursor, char c)
{
        const char *p = *cursor;
        bool found = false, ended = false;

        for (bool first = true, range = false; *p && !ended; first = false, p++) {
                if (*p == ']' && !first) {
                        ended = true;
                } else if (*p == '-' && range && p[1] && p[1] != ']') {
                        char low = p[-1];

                        p += p[1] == '\\' && p[2] ? 2 : 1;
                        found = found || (low <= c && c <= *p);
                        range = false; /* no chains */
                } else {
                        if (*p == '\\' && p[1])
                                p++;
                        found = found || *p == c;
                        range = true;
                }
        }
        *cursor = p;
        return found && ended;
}

/* efi_fnmatch() of 252: '*', '?', sets and escapes. */
static bool match(const char *pattern, const char *text)
{
        const char *star = NULL, *from = NULL;

        for (;;) {
                const char *p = pattern;
                bool ok;

                if (*p == '*') {
                        star = ++pattern;
                        from = text;
                        continue;
                }
                if (!*p && !*text)
                        return true;
                if (*p == '[' && *text) {
                        p++;
                        ok = match_set(&p, *text);
                } else {
                        bool escape = *p == '\\';

                        p += escape;
                        ok = *text && *p && (*p == *text || (*p == '?' && !escape));
                        p += ok;
                }
                if (ok) {
                        pattern = p;
                        text++;
                } else if (star && *from) {
                        pattern = star; /* the last star takes one more */
                        text = ++from;
                } else {
                        return false;
                }
        }
}

/* The first in sorted order whose name the pattern matches; -1: none. */
static int find_pinned(const struct entry *entries, size_t n, const char *pattern)
{
        _cleanup_free_ char *lower = strdup(pattern);
        int best = -1;

        for (char *p = lower; p && *p; p++)
                *p = fold(*p);
        for (size_t i = 0; lower && i < n; i++) {
                char id[ENTRY_NAME_MAX];

                full_id(&entries[i].name, id);
                if (entries[i].usable && match(lower, id) && (best < 0 || entry_compare(&entries[i], &entries[best]) < 0))
                        best = (int)i;
        }
        return best;
}

static bool is_saved(const char *pin)
{
        return pin && strcasecmp(pin, "@saved") == 0;
}

int entry_choose(const struct entry *entries, size_t n, const struct loader_pins *pins, const char **why)
{
        bool efi_saved = is_saved(pins->efi_default), conf_saved = is_saved(pins->conf_default);
        const struct {
                const char *pattern, *why;
        } pinned[] = {
                { pins->efi_oneshot, "chosen for one boot by the EFI variable LoaderEntryOneShot" },
                { efi_saved ? pins->efi_saved : pins->efi_default,
                  efi_saved ? "what was booted last, as the EFI variable LoaderEntryDefault wants it"
                            : "pinned by the EFI variable LoaderEntryDefault" },
                { conf_saved ? pins->efi_saved : pins->conf_default,
                  conf_saved ? "what was booted last, as 'default @saved' in loader.conf wants it"
                             : "pinned by 'default' in loader.conf" },
        };
        int best = -1;

        for (size_t i = 0; i < ARRAY_SIZE(pinned); i++) {
                int found = pinned[i].pattern ? find_pinned(entries, n, pinned[i].pattern) : -1;

                if (found < 0)
                        continue;
                if (why)
                        *why = pinned[i].why;
                return found;
        }
        for (size_t i = 0; i < n; i++)
                if (entries[i].usable && !entries[i].automatic &&
                    (best < 0 || entry_compare(&entries[i], &entries[best]) < 0))
                        best = (int)i;
        if (why)
                *why = best < 0 ? "there is no entry" : "first of the sorted list";
        return best;
}

static bool parse_switch(const char *value, bool before)
{
        static const char *const yes[] = { "1", "yes", "y", "true", "t", "on" }, *const no[] = { "0",     "no", "n",
                                                                                                 "false", "f",  "off" };

        for (size_t i = 0; i < ARRAY_SIZE(yes); i++)
                if (streq(value, yes[i]) || streq(value, no[i]))
                        return streq(value, yes[i]);
        return before;
}

int loader_conf_parse(const char *text, size_t size, struct loader_pins *ret)
{
        _cleanup_free_ char *copy = strndup(text, size);
        char *cursor = copy, *key, *value;

        if (!copy)
                return -ENOMEM;
        while (entry_line(&cursor, " \t", &key, &value)) {
                if (streq(key, "auto-entries"))
                        ret->no_automatic = !parse_switch(value, !ret->no_automatic);
                /* Of the special names only one is known; a line with another is as if it were not there. */
                if (!streq(key, "default") || (*value == '@' && !is_saved(value)))
                        continue;
                free(ret->conf_default);
                ret->conf_default = strdup(value);
                if (!ret->conf_default)
                        return -ENOMEM;
        }
        return 0;
}

void loader_pins_done(struct loader_pins *p)
{
        free(p->conf_default);
        free(p->efi_default);
        free(p->efi_saved);
        free(p->efi_oneshot);
        *p = (struct loader_pins){};
}
