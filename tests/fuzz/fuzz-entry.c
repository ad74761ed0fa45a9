/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Boot entries and loader.conf: "NAME\nCONTENT", each ended by a NUL, the first of them loader.conf. What is chosen does not
 * depend on the order in which a directory is read, and our own names and texts come back as they were written. */
#include "fuzz.h"

#include "base/version.h"
#include "loader/entry.h"

#define ENTRIES_MAX 8

static void check_name(const struct entry_name *n)
{
        char name[ENTRY_NAME_MAX];
        struct entry_name again;

        must(strlen(n->id) <= strlen(n->file) && strlen(n->file) < ENTRY_NAME_MAX);
        must(!n->counted || (n->left >= 0 && n->done >= 0));
        if (!n->ours)
                return;
        must(n->slot >= 0 && n->slot < SLOT_MAX && n->generation > 0);
        entry_name_format(n->generation, n->slot, n->counted ? n->left : -1, n->done, name);
        must(entry_name_parse(name, &again) == 0 && again.ours && again.generation == n->generation);
        must(again.slot == n->slot && again.counted == n->counted && streq(again.id, n->id));
}

static void check_path(const char *path)
{
        must(!path || (path[0] == '/' && !strstr(path, "//") && !strchr(path, '\\')));
}

static void check_entry(const struct entry *e)
{
        check_name(&e->name);
        must(!e->linux_ || !e->efi);
        check_path(e->linux_);
        check_path(e->efi);
        for (char **s = e->initrds; s && *s; s++)
                check_path(*s);
}

/* What we would write for it is what we would read. */
static void check_ours(const struct entry *e)
{
        uint8_t id[BOOT_FILE_ID_SIZE], found[BOOT_FILE_ID_SIZE];
        struct entry_spec spec = { .generation = e->name.generation,
                                   .slot = e->name.slot,
                                   .version = e->version && version_valid(e->version) ? e->version : "1",
                                   .root_partuuid = "11111111-2222-3333-4444-555555555555",
                                   .kernel = id,
                                   .extra_cmdline = e->options };
        _cleanup_free_ char *text = NULL;
        struct entry again;

        memset(id, 0x5a, sizeof(id));
        if (!e->name.ours || entry_format(&spec, &text, NULL) < 0)
                return;
        must(strlen(text) <= ENTRY_SIZE_MAX);
        must(entry_parse(e->name.file, text, strlen(text), &again) == 0);
        must(streq(again.sort_key, "bootmgr") && boot_file_id(again.linux_, found) && memcmp(id, found, sizeof(id)) == 0);
        must(strtoull(again.version, NULL, 10) == e->name.generation);
        entry_done(&again);
}

static int sign(int n)
{
        return n < 0 ? -1 : n > 0;
}

static void check_choice(struct entry *entries, size_t n, const struct loader_pins *pins)
{
        struct entry reversed[ENTRIES_MAX];
        int forward = entry_choose(entries, n, pins, NULL), backward;

        for (size_t i = 0; i < n; i++) {
                reversed[n - 1 - i] = entries[i];
                must(entry_compare(&entries[i], &entries[i]) == 0);
                for (size_t j = 0; j < i; j++)
                        must(sign(entry_compare(&entries[i], &entries[j])) ==
                             -sign(entry_compare(&entries[j], &entries[i])));
        }
        backward = entry_choose(reversed, n, pins, NULL);
        must((forward < 0) == (backward < 0));
        if (forward < 0)
                return;
        must((size_t)forward < n && entries[forward].usable);
        must(entry_compare(&entries[forward], &reversed[backward]) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct input in = { data, size };
        struct entry entries[ENTRIES_MAX];
        struct loader_pins pins = {};
        size_t n = 0;

        if (size > ENTRY_READ_MAX)
                return 0;
        {
                _cleanup_free_ char *conf = take_until(&in, '\0');

                must(loader_conf_parse(conf, strlen(conf), &pins) == 0);
        }
        while (in.size > 0 && n < ENTRIES_MAX) {
                _cleanup_free_ char *name = take_until(&in, '\n'), *content = take_until(&in, '\0');

                if (entry_parse(name, content, strlen(content), &entries[n]) < 0)
                        continue;
                entries[n].usable = entries[n].linux_ || entries[n].efi;
                check_entry(&entries[n]);
                check_ours(&entries[n]);
                n++;
        }
        check_choice(entries, n, &pins);
        for (size_t i = 0; i < n; i++)
                entry_done(&entries[i]);
        loader_pins_done(&pins);
        return 0;
}
