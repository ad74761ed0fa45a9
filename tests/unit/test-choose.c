/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What systemd-boot 252 will start, by its own rules (src/boot/efi/boot.c): order, counters, pins. */
#include "base/buf.h"
#include "loader/entry.h"

/* Check has a macro of this name. */
#include <check.h>
#include "suite.h"
#undef fail

#define ROW_MAX 6

/* "file|key value|key value…"; "!" in front: not usable; "@" in front: an automatic entry. */
struct row {
        const char *entries[ROW_MAX];
        const char *conf;                     /* loader.conf */
        const char *oneshot, *pinned, *saved; /* EFI variables */
        const char *chosen, *why;             /* file, or NULL */
};

#define OURS_7A      "bootmgr-7-a.conf|sort-key bootmgr|version 7"
#define OURS_8B      "bootmgr-8-b+3-0.conf|sort-key bootmgr|version 8"
#define OURS_8B_OVER "bootmgr-8-b+0-3.conf|sort-key bootmgr|version 8"

static const struct row rows[] = {
        /* the order */
        { { NULL }, .chosen = NULL, .why = "no entry" },
        { { OURS_7A, OURS_8B }, .chosen = "bootmgr-8-b+3-0.conf", .why = "first" },
        { { OURS_7A, OURS_8B_OVER }, .chosen = "bootmgr-7-a.conf" },
        { { OURS_7A, "!" OURS_8B }, .chosen = "bootmgr-7-a.conf" },
        { { "bootmgr-9-a.conf|sort-key bootmgr|version 9", "bootmgr-10-b.conf|sort-key bootmgr|version 10" },
          .chosen = "bootmgr-10-b.conf" },
        { { OURS_8B_OVER, "bootmgr-7-a+0-1.conf|sort-key bootmgr|version 7" },
          .chosen = "bootmgr-8-b+0-3.conf" }, /* the best exhausted one */
        { { OURS_8B, "debian.conf|sort-key debian|version 99" }, .chosen = "bootmgr-8-b+3-0.conf" },
        { { OURS_8B, "arch.conf|sort-key arch|version 1" }, .chosen = "arch.conf" },
        { { OURS_8B, "!arch.conf|sort-key arch|version 1" }, .chosen = "bootmgr-8-b+3-0.conf" },
        { { OURS_8B, "zzz.conf|version 99" }, .chosen = "bootmgr-8-b+3-0.conf" }, /* no sort-key: behind */
        { { OURS_8B_OVER, "zzz.conf|version 99" }, .chosen = "zzz.conf" },
        { { OURS_8B, "arch+0-1.conf|sort-key arch|version 1" }, .chosen = "bootmgr-8-b+3-0.conf" },
        { { OURS_8B, "x.conf|sort-key bootmgr|version 8~rc1" }, .chosen = "bootmgr-8-b+3-0.conf" },
        { { OURS_8B, "x.conf|sort-key bootmgr|version 8.1" }, .chosen = "x.conf" },
        { { OURS_8B, "x.conf|sort-key bootmgr" }, .chosen = "bootmgr-8-b+3-0.conf" },
        { { OURS_8B, "x.conf|sort-key bootmgr|version 99|machine-id 0" },
          .chosen = "bootmgr-8-b+3-0.conf" }, /* none before any */
        { { "b.conf|sort-key k|machine-id 2|version 9", "a.conf|sort-key k|machine-id 1|version 1" }, .chosen = "a.conf" },
        { { "a.conf|title x", "b.conf|title y" }, .chosen = "b.conf" }, /* by name, downwards */
        { { "k-9.conf|title x", "k-10.conf|title y" }, .chosen = "k-10.conf" },
        { { "K-9.conf|title x", "k-8.conf|title y" }, .chosen = "K-9.conf" }, /* names are folded */
        { { "a+1-0.conf|title x", "a+2-0.conf|title y" }, .chosen = "a+2-0.conf" },
        { { "a+1-1.conf|title x", "a+1-0.conf|title y" }, .chosen = "a+1-1.conf" }, /* the counter is part of the name */
        { { OURS_8B, "linux.efi|sort-key arch|version 1" }, .chosen = "linux.efi" },
        { { OURS_8B, "linux+0-1.efi|sort-key arch|version 1" }, .chosen = "bootmgr-8-b+3-0.conf" },
        /* automatic entries: never by themselves */
        { { "@auto-windows", OURS_8B_OVER }, .chosen = "bootmgr-8-b+0-3.conf" },
        { { "@auto-windows" }, .chosen = NULL },
        { { "@auto-windows", OURS_8B }, .conf = "default auto-windows", .chosen = "auto-windows", .why = "loader.conf" },
        { { "@auto-windows", OURS_8B }, .conf = "default *", .chosen = "bootmgr-8-b+3-0.conf", .why = "loader.conf" },
        { { "@auto-efi-shell", "@auto-efi-default" }, .conf = "default auto-efi-*", .chosen = "auto-efi-shell" },
        /* loader.conf */
        { { OURS_7A, OURS_8B }, .conf = "default bootmgr-7-a.conf", .chosen = "bootmgr-7-a.conf", .why = "loader.conf" },
        { { OURS_7A, OURS_8B },
          .conf = "default bootmgr-7-a",
          .chosen = "bootmgr-8-b+3-0.conf",
          .why = "first" }, /* with suffix */
        { { OURS_7A, OURS_8B }, .conf = "default BOOTMGR-7-*", .chosen = "bootmgr-7-a.conf" },
        { { OURS_7A, OURS_8B_OVER },
          .conf = "default bootmgr-8*",
          .chosen = "bootmgr-8-b+0-3.conf" }, /* tries do not matter */
        { { OURS_7A, OURS_8B }, .conf = "default bootmgr-?-a.conf", .chosen = "bootmgr-7-a.conf" },
        { { OURS_7A, OURS_8B }, .conf = "default bootmgr-[5-7]-a.conf", .chosen = "bootmgr-7-a.conf" },
        { { OURS_7A, OURS_8B },
          .conf = "default bootmgr-[!8]*",
          .chosen = "bootmgr-8-b+3-0.conf",
          .why = "loader.conf" }, /* no negation */
        { { OURS_7A, OURS_8B }, .conf = "default bootmgr-\\7-a.conf", .chosen = "bootmgr-7-a.conf" },
        { { OURS_7A, OURS_8B }, .conf = "default bootmgr-7-a.conf\\", .chosen = "bootmgr-8-b+3-0.conf" },
        { { OURS_7A, OURS_8B }, .conf = "default \"bootmgr-7-a.conf\"", .chosen = "bootmgr-7-a.conf" },
        { { OURS_7A, OURS_8B }, .conf = "default bootmgr-7-a.conf extra", .chosen = "bootmgr-8-b+3-0.conf" },
        { { OURS_7A, OURS_8B },
          .conf = "timeout 3\n#default bootmgr-7-a.conf\ndefaults bootmgr-7*",
          .chosen = "bootmgr-8-b+3-0.conf" },
        { { OURS_7A, OURS_8B }, .conf = "default x\r\n default \t bootmgr-7-a.conf \r\n", .chosen = "bootmgr-7-a.conf" },
        { { OURS_7A, OURS_8B },
          .conf = "default bootmgr-7*\ndefault",
          .chosen = "bootmgr-7-a.conf" }, /* without a value: no line */
        { { OURS_7A, OURS_8B },
          .conf = "default bootmgr-7*\ndefault @first",
          .chosen = "bootmgr-7-a.conf" }, /* unknown: no line */
        { { "!" OURS_7A, OURS_8B }, .conf = "default bootmgr-7-a.conf", .chosen = "bootmgr-8-b+3-0.conf", .why = "first" },
        { { OURS_7A, OURS_8B, "bootmgr-6-a.conf|sort-key bootmgr|version 6" },
          .conf = "default *-a.conf",
          .chosen = "bootmgr-7-a.conf" },
        /* EFI variables */
        { { OURS_7A, OURS_8B }, .pinned = "bootmgr-7-a.conf", .chosen = "bootmgr-7-a.conf", .why = "LoaderEntryDefault" },
        { { OURS_7A, OURS_8B }, .pinned = "Bootmgr-7-*", .chosen = "bootmgr-7-a.conf" },
        { { OURS_7A, OURS_8B }, .pinned = "gone.conf", .chosen = "bootmgr-8-b+3-0.conf", .why = "first" },
        { { OURS_7A, OURS_8B },
          .pinned = "gone.conf",
          .conf = "default bootmgr-7-a.conf",
          .chosen = "bootmgr-7-a.conf",
          .why = "loader.conf" },
        { { OURS_7A, OURS_8B },
          .pinned = "bootmgr-8*",
          .conf = "default bootmgr-7*",
          .chosen = "bootmgr-8-b+3-0.conf",
          .why = "LoaderEntryDefault" },
        { { OURS_7A, OURS_8B },
          .oneshot = "bootmgr-7-a.conf",
          .pinned = "bootmgr-8*",
          .chosen = "bootmgr-7-a.conf",
          .why = "OneShot" },
        { { OURS_7A, OURS_8B },
          .oneshot = "gone",
          .pinned = "bootmgr-7*",
          .chosen = "bootmgr-7-a.conf",
          .why = "LoaderEntryDefault" },
        /* @saved */
        { { OURS_7A, OURS_8B },
          .pinned = "@saved",
          .saved = "bootmgr-7-a.conf",
          .chosen = "bootmgr-7-a.conf",
          .why = "LoaderEntryDefault" },
        { { OURS_7A, OURS_8B }, .pinned = "@SAVED", .saved = "bootmgr-7-a.conf", .chosen = "bootmgr-7-a.conf" },
        { { OURS_7A, OURS_8B }, .pinned = "@saved", .chosen = "bootmgr-8-b+3-0.conf", .why = "first" },
        { { OURS_7A, OURS_8B },
          .conf = "default @saved",
          .saved = "bootmgr-7-a.conf",
          .chosen = "bootmgr-7-a.conf",
          .why = "loader.conf" },
        { { OURS_7A, OURS_8B },
          .conf = "default @saved",
          .saved = "bootmgr-7-a.conf",
          .pinned = "gone",
          .chosen = "bootmgr-7-a.conf",
          .why = "loader.conf" },
        { { OURS_7A, OURS_8B },
          .conf = "default @saved",
          .saved = "bootmgr-7-a.conf",
          .pinned = "bootmgr-8*",
          .chosen = "bootmgr-8-b+3-0.conf" },
        { { OURS_7A, OURS_8B },
          .conf = "default bootmgr-7*",
          .saved = "bootmgr-8-b+3-0.conf",
          .chosen = "bootmgr-7-a.conf" },
        { { OURS_7A, OURS_8B }, .saved = "bootmgr-7-a.conf", .chosen = "bootmgr-8-b+3-0.conf", .why = "first" },
        { { OURS_7A, "bootmgr-8-b+2-1.conf|sort-key bootmgr|version 8" },
          .pinned = "@saved",
          .saved = "bootmgr-8-b+3-0.conf",
          .chosen = "bootmgr-8-b+2-1.conf",
          .why = "first" },
};

static void make(const char *row, struct entry *entry)
{
        _cleanup_free_ char *copy = strdup(row + strspn(row, "!@"));
        char *content = strchrnul(copy, '|');

        for (char *p = content; *p; p++)
                if (*p == '|')
                        *p = '\n';
        if (*content)
                *content++ = '\0';
        if (*row == '@') {
                *entry = (struct entry){ .automatic = true };
                strcpy(entry->name.file, copy);
                strcpy(entry->name.id, copy);
        } else {
                ck_assert_int_eq(entry_parse(copy, content, strlen(content), entry), 0);
        }
        entry->usable = *row != '!';
}

/* In any order the directory may have. */
static void choose(const struct row *row, size_t n, size_t first)
{
        struct entry entries[ROW_MAX];
        struct loader_pins pins = { .efi_oneshot = (char *)row->oneshot,
                                    .efi_default = (char *)row->pinned,
                                    .efi_saved = (char *)row->saved };
        const char *why = NULL;
        int chosen;

        for (size_t i = 0; i < n; i++)
                make(row->entries[(i + first) % n], &entries[i]);
        if (row->conf)
                ck_assert_int_eq(loader_conf_parse(row->conf, strlen(row->conf), &pins), 0);
        chosen = entry_choose(entries, n, &pins, &why);
        ck_assert_pstr_eq(chosen < 0 ? NULL : entries[chosen].name.file, row->chosen);
        ck_assert_msg(!row->why || strstr(why, row->why), "%s, not %s", why, row->why);
        ck_assert_int_eq(entry_choose(entries, n, &pins, NULL), chosen);
        free(pins.conf_default);
        for (size_t i = 0; i < n; i++)
                entry_done(&entries[i]);
}

START_TEST(what_is_started)
{
        const struct row *row = &rows[_i];
        size_t n = 0;

        while (n < ROW_MAX && row->entries[n])
                n++;
        choose(row, n, 0);
        /* Automatic entries keep the order in which they are found. */
        for (size_t first = 1; first < n && !strchr(row->entries[0], '@'); first++)
                choose(row, n, first);
}
END_TEST

/* An order: for every two of them one answer, reversed when they are, and no circles. */
START_TEST(the_order_is_one)
{
        static const char *const all[] = {
                OURS_7A,
                OURS_8B,
                OURS_8B_OVER,
                "a.conf|title x",
                "b+0-1.conf|title x",
                "b+1-0.conf|title y",
                "c.conf|sort-key a|version 1",
                "c.conf|sort-key a|machine-id 1|version 2",
                "d.conf|sort-key a|machine-id 2",
                "e+0-3.conf|sort-key zz|version 5",
                "@auto-windows",
                "x.efi|sort-key bootmgr|version 8",
        };
        struct entry entries[ARRAY_SIZE(all)];

        for (size_t i = 0; i < ARRAY_SIZE(all); i++)
                make(all[i], &entries[i]);
        for (size_t i = 0; i < ARRAY_SIZE(all); i++)
                for (size_t j = 0; j < ARRAY_SIZE(all); j++) {
                        int ij = entry_compare(&entries[i], &entries[j]), ji = entry_compare(&entries[j], &entries[i]);

                        ck_assert((ij < 0) == (ji > 0) && (ij == 0) == (ji == 0) && (i != j || ij == 0));
                        for (size_t k = 0; k < ARRAY_SIZE(all); k++)
                                ck_assert(ij >= 0 || entry_compare(&entries[j], &entries[k]) >= 0 ||
                                          entry_compare(&entries[i], &entries[k]) < 0);
                }
        for (size_t i = 0; i < ARRAY_SIZE(all); i++)
                entry_done(&entries[i]);
}
END_TEST

/* The pattern language of efi_fnmatch(). */
START_TEST(patterns)
{
        static const struct {
                const char *pattern, *name;
                bool matches;
        } cases[] = {
                { "a.conf", "a.conf", true },
                { "a.con", "a.conf", false },
                { "a.conff", "a.conf", false },
                { "*", "a.conf", true },
                { "**f", "a.conf", true },
                { "*x", "a.conf", false },
                { "a*c*f", "abcdf.conf", true },
                { "a*.conf", "a.conf", true },
                { "?.conf", "a.conf", true },
                { "a.conf?", "a.conf", false },
                { "[abc].conf", "b.conf", true },
                { "[abc].conf", "d.conf", false },
                { "[a-c].conf", "b.conf", true },
                { "[a-c-e].conf", "d.conf", false },
                { "[a-].conf", "-.conf", true },
                { "[-a].conf", "-.conf", true },
                { "[]].conf", "].conf", true },
                { "[]a].conf", "a.conf", true },
                { "[a.conf", "a.conf", false },
                { "[\\]].conf", "].conf", true },
                { "[a-\\c].conf", "b.conf", true },
                { "[\\", "a.conf", false },
                { "x[!a].conf", "x!.conf", true },
                { "[^a].conf", "b.conf", false },
                { "\\*.conf", "*.conf", true },
                { "\\*.conf", "a.conf", false },
                { "\\?.conf", "a.conf", false },
                { "*[0-9]*", "k7.conf", true },
                { "*[0-9]", "k7.conf", false },
                { "a*a*b.conf", "aaaaaaaaaaaaaab.conf", true },
                { "", "a.conf", false },
        };
        _cleanup_free_ char *row = xasprintf("%s|title x", cases[_i].name);
        struct loader_pins pins = { .conf_default = (char *)cases[_i].pattern };
        const char *why = "";
        struct entry entry;

        make(row, &entry);
        ck_assert_int_eq(entry_choose(&entry, 1, &pins, &why), 0);
        ck_assert_msg((strstr(why, "loader.conf") != NULL) == cases[_i].matches, "%s %s", cases[_i].pattern, cases[_i].name);
        entry_done(&entry);
}
END_TEST

START_TEST(automatic_entries_can_be_off)
{
        static const struct {
                const char *conf;
                bool off;
        } cases[] = { { "", false },
                      { "auto-entries no", true },
                      { "auto-entries 0\nauto-entries maybe", true },
                      { "auto-entries off\nauto-entries yes", false },
                      { "auto-entries No", false } };
        struct loader_pins pins = {};

        ck_assert_int_eq(loader_conf_parse(cases[_i].conf, strlen(cases[_i].conf), &pins), 0);
        ck_assert_int_eq(pins.no_automatic, cases[_i].off);
        loader_pins_done(&pins);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("choose");
        TCase *t = tcase_create("choose");

        tcase_add_loop_test(t, what_is_started, 0, (int)ARRAY_SIZE(rows));
        tcase_add_test(t, the_order_is_one);
        tcase_add_loop_test(t, patterns, 0, 31);
        tcase_add_loop_test(t, automatic_entries_can_be_off, 0, 5);
        suite_add_tcase(s, t);
        return suite_run(s);
}
