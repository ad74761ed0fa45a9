/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* https://uapi-group.org/specifications/specs/boot_loader_specification/, type 1 */
#include "loader/entry.h"

#include <ctype.h>
#include <inttypes.h>
#include <strings.h>

#include "base/buf.h"
#include "base/parse.h"

#define SUFFIX     ".conf"
#define UKI_SUFFIX ".efi"
#define OUR_PREFIX "bootmgr-"

/* At least one digit; *cursor moves behind the last. false also beyond INT_MAX. */
static bool parse_count(const char **cursor, int *ret)
{
        const char *p = *cursor;
        int value = 0;

        if (!isdigit((unsigned char)*p))
                return false;
        for (; isdigit((unsigned char)*p); p++)
                if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, *p - '0', &value))
                        return false;
        *cursor = p;
        *ret = value;
        return true;
}

/* "+LEFT" or "+LEFT-DONE" right before the suffix, which must be in lower case then; returns where the id ends. */
static const char *parse_counter(const char *file, const char *suffix, struct entry_name *name)
{
        const char *plus = strrchr(file, '+'), *p = plus ? plus + 1 : NULL;
        int left, done = 0;

        if (!p || !parse_count(&p, &left))
                return suffix;
        if (*p == '-') {
                p++;
                if (!parse_count(&p, &done))
                        return suffix;
        }
        if (p != suffix || (!streq(suffix, SUFFIX) && !streq(suffix, UKI_SUFFIX)))
                return suffix;
        name->counted = true;
        name->left = left;
        name->done = done;
        return plus;
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
        if (slot == SLOT_NONE || parse_u64(number, &generation) < 0 || generation == 0 || generation > GENERATION_MAX)
                return;
        entry_name_format(generation, slot, -1, 0, again);
        again[strlen(again) - strlen(SUFFIX)] = '\0';
        if (!streq(again, name->id))
                return;
        name->ours = true;
        name->generation = generation;
        name->slot = slot;
}

static const char *find_suffix(const char *file, const char *suffix)
{
        size_t length = strlen(file), n = strlen(suffix);

        return length > n && strcasecmp(file + length - n, suffix) == 0 ? file + length - n : NULL;
}

int entry_name_parse(const char *file, struct entry_name *ret)
{
        struct entry_name name = { .slot = SLOT_NONE };
        const char *conf = find_suffix(file, SUFFIX), *suffix = conf ?: find_suffix(file, UKI_SUFFIX), *end;

        if (!suffix || strlen(file) >= sizeof(name.file))
                return -EINVAL;
        strcpy(name.file, file);
        end = parse_counter(file, suffix, &name);
        memcpy(name.id, file, (size_t)(end - file));
        if (conf)
                parse_ours(&name);
        *ret = name;
        return 0;
}

void entry_name_format(uint64_t generation, int slot, int left, int done, char name[static ENTRY_NAME_MAX])
{
        if (left < 0)
                snprintf(name, ENTRY_NAME_MAX, OUR_PREFIX "%" PRIu64 "-%c" SUFFIX, generation, slot_name(slot));
        else
                snprintf(name, ENTRY_NAME_MAX, OUR_PREFIX "%" PRIu64 "-%c+%d-%d" SUFFIX, generation, slot_name(slot), left,
                         done);
}

static int set(char **field, const char *value)
{
        char *copy = strdup(value);

        if (!copy)
                return -ENOMEM;
        free(*field);
        *field = copy;
        return 0;
}

/* Slashes of either kind, also several, become one; one is in front. */
static char *normalise_path(const char *value)
{
        char *path = malloc(strlen(value) + 2), *to = path;

        if (!path)
                return NULL;
        *to++ = '/';
        for (; *value; value++) {
                char c = *value == '\\' ? '/' : *value;

                if (c != '/' || to[-1] != '/')
                        *to++ = c;
        }
        *to = '\0';
        return path;
}

/* What is started: the last of the lines `linux` and `efi`. */
static int set_loader(char **field, char **other, const char *value)
{
        free(*field);
        free(TAKE_PTR(*other));
        *field = normalise_path(value);
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
        char **grown, *path;

        while (entry->initrds && entry->initrds[n])
                n++;
        grown = reallocarray(entry->initrds, n + 2, sizeof(char *));
        if (!grown)
                return -ENOMEM;
        entry->initrds = grown;
        path = normalise_path(value);
        grown[n] = path;
        grown[n + 1] = NULL;
        return path ? 0 : -ENOMEM;
}

static int set_key(struct entry *entry, const char *key, const char *value)
{
        const struct {
                const char *key;
                char **field;
        } fields[] = {
                { "title", &entry->title },
                { "version", &entry->version },
                { "sort-key", &entry->sort_key },
                { "machine-id", &entry->machine_id },
                { "architecture", &entry->architecture },
        };

        for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
                if (streq(key, fields[i].key))
                        return set(fields[i].field, value);
        if (streq(key, "linux"))
                return set_loader(&entry->linux_, &entry->efi, value);
        if (streq(key, "efi"))
                return set_loader(&entry->efi, &entry->linux_, value);
        if (streq(key, "options"))
                return append_options(entry, value);
        if (streq(key, "initrd"))
                return append_initrd(entry, value);
        if (streq(key, CONFIRMED_KEY))
                entry->confirmed = streq(value, "yes");
        return 0;
}

bool entry_line(char **cursor, const char *separators, char **key, char **value)
{
        while (**cursor) {
                char *line = *cursor, *end = line + strcspn(line, "\n\r");

                *cursor = *end ? end + 1 : end;
                line += strspn(line, " \t");
                while (end > line && strchr(" \t", end[-1]))
                        end--;
                *end = '\0';
                if (*line == '#')
                        continue;
                *key = line;
                line += strcspn(line, separators);
                if (!*line)
                        continue;
                *line++ = '\0';
                *value = line + strspn(line, separators);
                if (**value == '"' && end[-1] == '"') {
                        (*value)++;
                        end[-1] = '\0';
                }
                return true;
        }
        return false;
}

int entry_parse(const char *file, const char *text, size_t size, struct entry *ret)
{
        _cleanup_free_ char *copy = NULL;
        struct entry entry = {};
        char *cursor, *key, *value;
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
        while (entry_line(&cursor, " \t", &key, &value)) {
                r = set_key(&entry, key, value);
                if (r < 0) {
                        entry_done(&entry);
                        return r;
                }
        }
        *ret = entry;
        return 0;
}

bool entry_is_for_machine(const struct entry *e)
{
        return !e->architecture || streq(e->architecture, EFI_MACHINE);
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

#define BOOT_FILE_CONTENT (BOOT_FILE_ID_SIZE - 1) /* bytes of the digest in an id */

void boot_file_make_id(const uint8_t digest[static DIGEST_SIZE], int slot, uint8_t id[static BOOT_FILE_ID_SIZE])
{
        memcpy(id, digest, BOOT_FILE_CONTENT);
        id[BOOT_FILE_CONTENT] = slot == BOOT_FILE_OF_RESCUE ? BOOT_FILE_OF_RESCUE : (uint8_t)(0x0a + slot);
}

bool boot_file_is_of(const uint8_t id[static BOOT_FILE_ID_SIZE], int slot)
{
        uint8_t own[BOOT_FILE_ID_SIZE], digest[DIGEST_SIZE] = {};

        boot_file_make_id(digest, slot, own);
        return slot != SLOT_NONE && own[BOOT_FILE_CONTENT] == id[BOOT_FILE_CONTENT];
}

bool boot_file_has_digest(const uint8_t id[static BOOT_FILE_ID_SIZE], const uint8_t digest[static DIGEST_SIZE])
{
        return memcmp(id, digest, BOOT_FILE_CONTENT) == 0;
}

void boot_file_path(const uint8_t id[static BOOT_FILE_ID_SIZE], char path[static BOOT_FILE_PATH_SIZE])
{
        strcpy(path, BOOT_FILE_DIRECTORY "/");
        hex_encode(id, BOOT_FILE_ID_SIZE, path + strlen(path));
}

bool boot_file_id(const char *path, uint8_t id[static BOOT_FILE_ID_SIZE])
{
        const char *hex = path ? startswith(path, "/bootmgr/") : NULL;

        return hex && hex_decode(hex, id, BOOT_FILE_ID_SIZE) >= 0;
}

/* Without it a systemd that dies freezes: nothing panics then, and no watchdog may run. Newer ones, which have
 * systemd.crash_action=, still take it. */
#define CRASH_KEY "systemd.crash_reboot"

static bool says_what_a_crash_does(const char *cmdline)
{
        _cleanup_free_ char *reboot = cmdline_get(cmdline, CRASH_KEY),
                            *action = cmdline_get(cmdline, "systemd.crash_action");

        return reboot || action || cmdline_has(cmdline, CRASH_KEY);
}

static void write_entry(const struct entry_spec *spec, bool crash_word, struct buf *b)
{
        char kernel[BOOT_FILE_PATH_SIZE], initrd[BOOT_FILE_PATH_SIZE], verity[VERITY_TEXT_SIZE] = "";
        bool verified = spec->verity && verity_is_set(spec->verity);

        boot_file_path(spec->kernel, kernel);
        buf_printf(b, "title %s%s (slot %c)\nversion %" PRIu64 "\nsort-key bootmgr%s\nlinux /%s\n",
                   spec->rollback ? "Previous version: " : "", spec->version, slot_name(spec->slot), spec->generation,
                   spec->rollback ? "-previous" : "", kernel);
        if (spec->initrd) {
                boot_file_path(spec->initrd, initrd);
                buf_printf(b, "initrd /%s\n", initrd);
        }
        if (verified)
                verity_format(spec->verity, verity);
        buf_printf(b,
                   "options root=PARTUUID=%s %s gpt panic=10%s bootmgr.slot=%c bootmgr.generation=%" PRIu64 "%s%s%s%s%s\n",
                   spec->root_partuuid, spec->writable_root ? "rw" : "ro", crash_word ? " " CRASH_KEY "=1" : "",
                   slot_name(spec->slot), spec->generation, verified ? " " VERITY_KEY "=" : "", verity,
                   spec->rollback ? " " ROLLBACK_WORD : "", spec->extra_cmdline && *spec->extra_cmdline ? " " : "",
                   spec->extra_cmdline ?: "");
}

int entry_format(const struct entry_spec *spec, char **ret, struct error *e)
{
        _cleanup_buf_ struct buf b = {};
        bool crash_word = !spec->extra_cmdline || !says_what_a_crash_does(spec->extra_cmdline);
        char *text;

        write_entry(spec, crash_word, &b);
        if (b.size > ENTRY_SIZE_MAX && crash_word) { /* an entry without it is better than none */
                buf_done(&b);
                write_entry(spec, false, &b);
        }
        if (!b.failed && b.size > ENTRY_SIZE_MAX) {
                size_t size = b.size;

                fail(e, -E2BIG, NULL, "the boot entry would have %zu bytes, more than the %d of one sector", size,
                     ENTRY_SIZE_MAX);
                return fail_hint(e, "shorten KernelCommandLine= by %zu characters", size - ENTRY_SIZE_MAX);
        }
        text = buf_take(&b);
        if (!text)
                return fail(e, -ENOMEM, NULL, "out of memory");
        *ret = text;
        return 0;
}
