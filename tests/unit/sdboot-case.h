/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the tests of the systemd-boot loader share: a directory as ESP, two boot files on it, and the calls that switch. */
#pragma once

#include <sys/stat.h>

#include "base/file.h"
#include "base/io.h"
#include "base/sha256.h"
#include "loader/loader.h"

/* Check has a macro of this name. */
#include "scratch.h"
#undef fail

static struct disk disk = { .path = "image" };
static struct loader loader;
static uint8_t digest_of_kernel[DIGEST_SIZE], digest_of_initrd[DIGEST_SIZE];

static inline void put(const char *path, const char *text)
{
        _cleanup_free_ char *copy = strdup(path);
        FILE *f;

        *strrchr(copy, '/') = '\0';
        ck_assert_int_eq(mkdir_parents(AT_FDCWD, copy, 0755), 0);
        f = fopen(path, "w");
        ck_assert_ptr_nonnull(f);
        ck_assert_uint_eq(fwrite(text, 1, strlen(text), f), strlen(text));
        fclose(f);
}

/* The names below a directory, sorted, on one line. */
static inline char *names(const char *path)
{
        struct buf b = {};
        struct dirent **list;
        int n = scandir(path, &list, NULL, alphasort);

        buf_puts(&b, "");
        for (int i = 0; i < n; i++) {
                if (list[i]->d_name[0] != '.')
                        buf_printf(&b, "%s%s", b.size ? " " : "", list[i]->d_name);
                free(list[i]);
        }
        if (n >= 0)
                free(list);
        return buf_take(&b);
}

static inline void check_names(const char *path, const char *expected)
{
        _cleanup_free_ char *found = names(path);

        ck_assert_str_eq(found, expected);
}
#define check_entries(expected) check_names("esp/loader/entries", expected)

static inline void open_it(void)
{
        struct error e = {};
        int r = loader_open(&loader, "systemd-boot", &disk, "esp", "efivars", true, &e);

        ck_assert_msg(r == 0, "%s", e.message);
}

static inline int file_with(const char *text)
{
        char path[] = "file-XXXXXX";
        int fd = mkstemp(path);

        ck_assert_int_ge(fd, 0);
        unlink(path);
        ck_assert_int_eq(io_pwrite(fd, text, strlen(text), 0), 0);
        return fd;
}

static inline int add_file(const char *text, uint8_t digest[static DIGEST_SIZE], struct error *e)
{
        int fd = file_with(text), r;

        ck_assert_int_eq(sha256_fd(fd, 0, UINT64_MAX, digest), 0);
        r = loader.ops->add_boot_file(&loader, fd, strlen(text), digest, e);
        fd_close(fd);
        return r;
}

static inline void setup(void)
{
        scratch_begin();
        ck_assert_int_eq(mkdir("esp", 0755), 0);
        ck_assert_int_eq(mkdir("efivars", 0755), 0);
        open_it();
        ck_assert_int_eq(add_file("kernel", digest_of_kernel, NULL), 0);
        ck_assert_int_eq(add_file("initrd", digest_of_initrd, NULL), 0);
}

static inline void teardown(void)
{
        io_set_ops(NULL);
        loader_close(&loader);
        scratch_end();
}

static inline struct entry_spec spec_of(uint64_t generation, int slot)
{
        return (struct entry_spec){ .generation = generation,
                                    .slot = slot,
                                    .version = slot ? "2.0" : "1.0",
                                    .root_partuuid = "11111111-2222-3333-4444-555555555555",
                                    .kernel = digest_of_kernel,
                                    .initrd = digest_of_initrd };
}

static inline int switch_to(uint64_t generation, int slot, int tries, struct error *e)
{
        struct entry_spec spec = spec_of(generation, slot);

        return loader.ops->switch_to(&loader, &spec, tries, e);
}
