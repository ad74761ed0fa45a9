/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What systemd-boot 252 will start: its order of entries and its pins, computed. tests and
 * qemu/scenarios hold this against the real one. */
#include "loader/entry.h"

#include <ctype.h>
#include <fnmatch.h>

#include "base/buf.h"
#include "base/file.h"
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

/* The name as systemd-boot 252 knows the entry: lower case, with counter and suffix. */
static void full_id(const struct entry_name *name, char id[static ENTRY_NAME_MAX + 32])
{
        size_t n = strlen(name->id);

        memcpy(id, name->id, n);
        if (name->counted)
                snprintf(id + n, 32, "+%d-%d.conf", name->left, name->done);
        else
                strcpy(id + n, ".conf");
        for (char *p = id; *p; p++)
                *p = (char)tolower((unsigned char)*p);
}

int entry_compare(const struct entry *a, const struct entry *b)
{
        char id_a[ENTRY_NAME_MAX + 32], id_b[ENTRY_NAME_MAX + 32];
        int r;

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

/* The first in sorted order whose name the pattern matches; -1: none. */
static int find_pinned(const struct entry *entries, size_t n, const char *pattern)
{
        _cleanup_free_ char *lower = strdup(pattern);
        int best = -1;

        for (char *p = lower; p && *p; p++)
                *p = (char)tolower((unsigned char)*p);
        for (size_t i = 0; lower && i < n; i++) {
                char id[ENTRY_NAME_MAX + 32];

                full_id(&entries[i].name, id);
                if (entries[i].usable && fnmatch(lower, id, FNM_NOESCAPE) == 0 &&
                    (best < 0 || entry_compare(&entries[i], &entries[best]) < 0))
                        best = (int)i;
        }
        return best;
}

int entry_choose(const struct entry *entries, size_t n, const struct loader_pins *pins, const char **why)
{
        const struct {
                const char *pattern, *why;
        } pinned[] = {
                { pins->efi_oneshot, "chosen for one boot by the EFI variable LoaderEntryOneShot" },
                { pins->efi_default, "pinned by the EFI variable LoaderEntryDefault" },
                { pins->conf_default, "pinned by 'default' in loader.conf" },
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
                if (entries[i].usable && (best < 0 || entry_compare(&entries[i], &entries[best]) < 0))
                        best = (int)i;
        if (why)
                *why = best < 0 ? "there is no entry" : "first of the sorted list";
        return best;
}

int loader_conf_parse(const char *text, size_t size, struct loader_pins *ret)
{
        _cleanup_free_ char *copy = strndup(text, size);
        char *cursor = copy, *line, *value;

        if (!copy)
                return -ENOMEM;
        while ((line = line_next(&cursor))) {
                line += strspn(line, " \t");
                value = line + strcspn(line, " \t");
                if ((size_t)(value - line) != strlen("default") || !startswith(line, "default"))
                        continue;
                value += strspn(value, " \t");
                value[strcspn(value, " \t\r")] = '\0';
                free(ret->conf_default);
                ret->conf_default = *value ? strdup(value) : NULL;
        }
        return 0;
}

void loader_pins_done(struct loader_pins *p)
{
        free(p->conf_default);
        free(p->efi_default);
        free(p->efi_oneshot);
        *p = (struct loader_pins){};
}
