/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* PE/COFF: https://learn.microsoft.com/windows/win32/debug/pe-format */
#include "loader/uki.h"

#include "base/buf.h"
#include "base/io.h"

#define DOS_SIZE             64
#define DOS_PE_OFFSET        60
#define COFF_SIZE            26 /* with the signature before it and the magic of the optional header behind it */
#define COFF_MACHINE         4
#define COFF_N_SECTIONS      6
#define COFF_OPTIONAL_SIZE   20
#define COFF_OPTIONAL_MAGIC  24
#define SECTION_SIZE         40
#define SECTION_VIRTUAL_SIZE 8
#define SECTION_RAW_OFFSET   20
#define SECTIONS_MAX         96
#define OSREL_MAX            65536

#if defined(__x86_64__)
#define MACHINE 0x8664
#elif defined(__aarch64__)
#define MACHINE 0xaa64
#elif defined(__i386__)
#define MACHINE 0x14c
#elif defined(__arm__)
#define MACHINE 0x1c2
#else
#define MACHINE 0x5064 /* riscv64 */
#endif

/* Where a section lies in the file; the last of that name, of which only as many characters count as `name` has. */
static int find_section(int fd, const char *name, uint32_t *ret_offset, uint32_t *ret_size)
{
        uint8_t dos[DOS_SIZE], coff[COFF_SIZE], section[SECTION_SIZE];
        uint64_t pe, table;
        uint16_t magic;
        int r;

        r = io_pread(fd, dos, sizeof(dos), 0);
        if (r < 0 || memcmp(dos, "MZ", 2) != 0)
                return -ENOEXEC;
        pe = get_le32(dos + DOS_PE_OFFSET);
        r = io_pread(fd, coff, sizeof(coff), pe);
        if (r < 0 || memcmp(coff, "PE\0", 4) != 0 || get_le16(coff + COFF_MACHINE) != MACHINE)
                return -ENOEXEC;
        magic = get_le16(coff + COFF_OPTIONAL_MAGIC);
        if ((magic != 0x10b && magic != 0x20b) || get_le16(coff + COFF_N_SECTIONS) > SECTIONS_MAX)
                return -ENOEXEC;
        table = pe + COFF_OPTIONAL_MAGIC + get_le16(coff + COFF_OPTIONAL_SIZE);
        *ret_size = 0;
        for (uint64_t i = 0; i < get_le16(coff + COFF_N_SECTIONS); i++) {
                r = io_pread(fd, section, sizeof(section), table + i * SECTION_SIZE);
                if (r < 0)
                        return -ENOEXEC;
                if (memcmp(section, name, strlen(name)) != 0)
                        continue;
                *ret_offset = get_le32(section + SECTION_RAW_OFFSET);
                *ret_size = get_le32(section + SECTION_VIRTUAL_SIZE);
        }
        return *ret_size > 0 ? 0 : -ENOEXEC;
}

/* The fields of os-release(5) that make title, version and sort key, each list from the precise to the vague. */
enum field { PRETTY_NAME, IMAGE_ID, NAME, ID, IMAGE_VERSION, VERSION, VERSION_ID, BUILD_ID, _FIELD_MAX };

static char *pick(char *const *fields, const enum field *order, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (fields[order[i]])
                        return fields[order[i]];
        return NULL;
}

static int take_os_release(char *text, struct entry *entry)
{
        static const char *const names[_FIELD_MAX] = {
                [PRETTY_NAME] = "PRETTY_NAME",
                [IMAGE_ID] = "IMAGE_ID",
                [NAME] = "NAME",
                [ID] = "ID",
                [VERSION] = "VERSION",
                [IMAGE_VERSION] = "IMAGE_VERSION",
                [VERSION_ID] = "VERSION_ID",
                [BUILD_ID] = "BUILD_ID",
        };
        static const enum field titles[] = { PRETTY_NAME, IMAGE_ID, NAME, ID }, keys[] = { IMAGE_ID, ID },
                                versions[] = { IMAGE_VERSION, VERSION, VERSION_ID, BUILD_ID };
        char *fields[_FIELD_MAX] = {}, *cursor = text, *key, *value, *title, *version, *sort_key;

        while (entry_line(&cursor, "=", &key, &value))
                for (size_t i = 0; i < _FIELD_MAX; i++)
                        if (streq(key, names[i]))
                                fields[i] = value;
        title = pick(fields, titles, ARRAY_SIZE(titles));
        if (!title)
                return -ENOEXEC;
        version = pick(fields, versions, ARRAY_SIZE(versions));
        sort_key = pick(fields, keys, ARRAY_SIZE(keys));
        entry->title = strdup(title);
        entry->version = version ? strdup(version) : NULL;
        entry->sort_key = sort_key ? strdup(sort_key) : NULL;
        return !entry->title || (version && !entry->version) || (sort_key && !entry->sort_key) ? -ENOMEM : 0;
}

int uki_read(int fd, const char *file, struct entry *ret)
{
        _cleanup_free_ char *text = NULL;
        struct entry entry = { .usable = true };
        uint32_t offset, size;
        int r;

        r = entry_name_parse(file, &entry.name);
        if (r < 0)
                return -ENOEXEC;
        r = find_section(fd, ".osrel", &offset, &size);
        if (r < 0 || size > OSREL_MAX)
                return -ENOEXEC;
        text = calloc(1, (size_t)size + 1);
        if (!text)
                return -ENOMEM;
        r = io_pread(fd, text, size, offset);
        if (r >= 0)
                r = take_os_release(text, &entry);
        if (r < 0) {
                entry_done(&entry);
                return r == -ENOMEM ? r : -ENOEXEC;
        }
        *ret = entry;
        return 0;
}

bool pe_is_systemd_boot(int fd)
{
        uint32_t offset, size;

        return find_section(fd, ".sdmagic", &offset, &size) >= 0;
}
