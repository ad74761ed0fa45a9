/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the tests of disks share: image files, the reference layout on them, and how it is found again. */
#pragma once

#include "base/io.h"
#include "storage/disk.h"
#include "storage/table.h"

/* Check has a macro of this name. */
#include "scratch.h"
#undef fail

static inline void make_file(const char *path, uint64_t size)
{
        int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(ftruncate(fd, (off_t)size), 0);
        close(fd);
}

static inline void write_at(const char *path, uint64_t offset, const char *text)
{
        int fd = open(path, O_WRONLY | O_CLOEXEC);

        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(io_pwrite(fd, text, strlen(text), offset), 0);
        close(fd);
}

/* With 4096-byte sectors FAT32 needs 256 MiB. */
static inline struct layout_spec spec_for(unsigned sector)
{
        return (struct layout_spec){ .esp_size = sector == 4096 ? MIB(260) : MIB(34),
                                     .root_size = MIB(4),
                                     .sector_size = sector,
                                     .image_size = sector == 4096 ? MIB(300) : MIB(64) };
}

static inline void make(const char *path, const struct layout_spec *spec)
{
        struct layout layout;
        struct error e = {};
        int r = layout_make(path, spec, &layout, &e);

        ck_assert_msg(r == 0, "%s", e.message);
        layout_done(&layout);
}

static inline void find(const char *path, struct disk *disk)
{
        struct disk_spec spec = { .path = path };
        struct error e = {};
        int r = disk_find(&spec, disk, &e);

        ck_assert_msg(r == 0, "%s", e.message);
}
