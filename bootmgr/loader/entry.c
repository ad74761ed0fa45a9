/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* https://uapi-group.org/specifications/specs/boot_loader_specification/, type 1 */
#include "loader/entry.h"

#include <ctype.h>
#include <inttypes.h>
#include <strings.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/parse.h"

#define SUFFIX ".conf"
#define OUR_PREFIX "bootmgr-"

/* Reads digits backwards from *end; false when there is none or too many. */
static bool number_before(const char *start, const char **end, int *ret)
{
        const char *p = *end;
        int value = 0, factor = 1;

        while (p > start && isdigit((unsigned char)p[-1]) && factor <= 1000000) {
                value += (*--p - '0') * factor;
                factor *= 10;
        }
        if (p == *end || (p > start && isdigit((unsigned char)p[-1])))
                return false;
        *end = p;
        *ret = value;
        return true;
}

/* "+LEFT" or "+LEFT-DONE" right before the suffix; returns where the id ends. */
static const char *parse_counter(const char *file, const char *end, struct entry_name *name)
{
        const char *p = end;
        int first, second;

        if (!number_before(file, &p, &first) || p == file)
                return end;
        if (p[-1] == '+') {
                *name = (struct entry_name){ .counted = true, .left = first };
                return p - 1;
        }
        if (p[-1] != '-')
                return end;
        p--;
        if (!number_before(file, &p, &second) || p == file || p[-1] != '+')
                return end;
        *name = (struct entry_name){ .counted = true, .left = second, .done = first };
        return p - 1;
}

/* "bootmgr-<generation>-<slot>": exactly as we write it, so that nobody else's is taken for ours. */
static void parse_ours(struct entry_name *name)
{
        const char *p = startswith(name->id, OUR_PREFIX);
        char number[24], again[ENTRY_NAME_MAX];
        size_t digits = p ? strspn(p, "0123456789") : 0;
        uint64_t generation;
        int slot;

        if (digits == 0 || digits >= sizeof(number) || p[digits] != '-')
                return;
        memcpy(number, p, digits);
        number[digits] = '\0';
        slot = slot_from_name(p + digits + 1);
        if (slot == SLOT_NONE || parse_u64(number, &generation) < 0 || generation == 0)
                return;
        entry_name_format(generation, slot, -1, 0, again);
        again[strlen(again) - strlen(SUFFIX)] = '\0';
        if (!streq(again, name->id))
                return;
        name->ours = true;
        name->generation = generation;
        name->slot = slot;
}

int entry_name_parse(const char *file, struct entry_name *ret)
{
        struct entry_name name = { .slot = SLOT_NONE };
        size_t length = strlen(file), suffix = strlen(SUFFIX);
        const char *end;

        if (length <= suffix || length >= ENTRY_NAME_MAX || strcasecmp(file + length - suffix, SUFFIX) != 0)
                return -EINVAL;
        end = parse_counter(file, file + length - suffix, &name);
        memcpy(name.id, file, (size_t)(end - file));
        name.id[end - file] = '\0';
        name.slot = SLOT_NONE;
        parse_ours(&name);
        *ret = name;
        return 0;
}

void entry_name_format(uint64_t generation, int slot, int left, int done, char name[static ENTRY_NAME_MAX])
{
        if (left < 0)
                snprintf(name, ENTRY_NAME_MAX, OUR_PREFIX "%" PRIu64 "-%c" SUFFIX, generation, slot_name(slot));
        else
                snprintf(name, ENTRY_NAME_MAX, OUR_PREFIX "%" PRIu64 "-%c+%d-%d" SUFFIX, generation, slot_name(slot), left, done);
}

static int set(char **field, const char *value)
{
        free(*field);
        *field = strdup(value);
        return *field ? 0 : -ENOMEM;
}

static int append_options(struct entry *entry, const char *value)
{
        char *joined = entry->options ? xasprintf("%s %s", entry->options, value) : strdup(value);

        if (!joined)
                return -ENOMEM;
        free(entry->options);
        entry->options = joined;
        return 0;
}

static int append_initrd(struct entry *entry, const char *value)
{
        size_t n = 0;
        char **grown;

        while (entry->initrds && entry->initrds[n])
                n++;
        grown = reallocarray(entry->initrds, n + 2, sizeof(char *));
        if (!grown)
                return -ENOMEM;
        entry->initrds = grown;
        grown[n + 1] = NULL;
        grown[n] = strdup(value);
        return grown[n] ? 0 : -ENOMEM;
}

static int set_key(struct entry *entry, const char *key, const char *value)
{
        const struct {
                const char *key;
                char **field;
        } fields[] = {
                { "title", &entry->title },     { "version", &entry->version },   { "machine-id", &entry->machine_id },
                { "sort-key", &entry->sort_key }, { "linux", &entry->linux_ },    { "efi", &entry->efi },
                { "architecture", &entry->architecture },
        };

        for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
                if (streq(key, fields[i].key))
                        return set(fields[i].field, value);
        if (streq(key, "options"))
                return append_options(entry, value);
        if (streq(key, "initrd"))
                return append_initrd(entry, value);
        return 0;
}

/* One line: a key, blanks, the rest without blanks around it. */
static int parse_line(struct entry *entry, char *line)
{
        char *value, *end;

        line += strspn(line, " \t");
        end = line + strlen(line);
        while (end > line && strchr(" \t\r", end[-1]))
                *--end = '\0';
        if (!*line || *line == '#')
                return 0;
        value = line + strcspn(line, " \t");
        if (!*value)
                return 0;
        *value++ = '\0';
        value += strspn(value, " \t");
        /* systemd-boot strips one pair of quotes. */
        end = value + strlen(value);
        if (end > value + 1 && *value == '"' && end[-1] == '"') {
                end[-1] = '\0';
                value++;
        }
        return set_key(entry, line, value);
}

int entry_parse(const char *file, const char *text, size_t size, struct entry *ret)
{
        _cleanup_free_ char *copy = NULL;
        struct entry entry = {};
        char *cursor, *line;
        int r;

        if (size > ENTRY_READ_MAX)
                return -EFBIG;
        r = entry_name_parse(file, &entry.name);
        if (r < 0)
                return r;
        copy = strndup(text, size);
        if (!copy)
                return -ENOMEM;
        cursor = copy;
        while ((line = line_next(&cursor))) {
                r = parse_line(&entry, line);
                if (r < 0) {
                        entry_done(&entry);
                        return r;
                }
        }
        *ret = entry;
        return 0;
}

void entry_done(struct entry *e)
{
        free(e->title);
        free(e->version);
        free(e->machine_id);
        free(e->sort_key);
        free(e->linux_);
        free(e->efi);
        free(e->options);
        free(e->architecture);
        for (char **s = e->initrds; s && *s; s++)
                free(*s);
        free(e->initrds);
        *e = (struct entry){};
}

void boot_file_path(const uint8_t id[static BOOT_FILE_ID_SIZE], char path[static BOOT_FILE_PATH_SIZE])
{
        memcpy(path, "bootmgr/", 8);
        hex_encode(id, BOOT_FILE_ID_SIZE, path + 8);
}

int entry_format(const struct entry_spec *spec, char **ret, struct error *e)
{
        _cleanup_buf_ struct buf b = {};
        char kernel[BOOT_FILE_PATH_SIZE], initrd[BOOT_FILE_PATH_SIZE];
        char *text;

        boot_file_path(spec->kernel, kernel);
        buf_printf(&b, "title %s (slot %c)\nversion %" PRIu64 "\nsort-key bootmgr\nlinux /%s\n", spec->version,
                   slot_name(spec->slot), spec->generation, kernel);
        if (spec->initrd) {
                boot_file_path(spec->initrd, initrd);
                buf_printf(&b, "initrd /%s\n", initrd);
        }
        buf_printf(&b, "options root=PARTUUID=%s %s gpt panic=10 bootmgr.slot=%c bootmgr.generation=%" PRIu64 "%s%s\n",
                   spec->root_partuuid, spec->writable_root ? "rw" : "ro", slot_name(spec->slot), spec->generation,
                   spec->extra_cmdline && *spec->extra_cmdline ? " " : "", spec->extra_cmdline ?: "");
        if (!b.failed && b.size > ENTRY_SIZE_MAX) {
                size_t size = b.size;

                fail(e, -E2BIG, NULL, "the boot entry would have %zu bytes, more than the %d of one sector", size, ENTRY_SIZE_MAX);
                return fail_hint(e, "shorten KernelCommandLine= by %zu characters", size - ENTRY_SIZE_MAX);
        }
        text = buf_take(&b);
        if (!text)
                return fail(e, -ENOMEM, NULL, "out of memory");
        *ret = text;
        return 0;
}
