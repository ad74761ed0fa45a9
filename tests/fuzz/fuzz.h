/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the fuzz targets share. A target is one file fuzz-NAME.c with LLVMFuzzerTestOneInput(); what it looks for beyond
 * crashes and undefined behaviour it says with must(). Checksums that would stop every mutation are repaired before the
 * product sees the input: an attacker can compute them as well. */
#pragma once

#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

#define must(condition)                                                                                                     \
        do {                                                                                                                \
                if (!(condition)) {                                                                                         \
                        fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #condition);                             \
                        abort();                                                                                            \
                }                                                                                                           \
        } while (0)

/* Input that is taken piece by piece. */
struct input {
        const uint8_t *data;
        size_t size;
};

static _unused_ uint8_t take_byte(struct input *in)
{
        if (in->size == 0)
                return 0;
        in->size--;
        return *in->data++;
}

/* At most n bytes; a copy of exactly their size, so that reading behind it is found. A NUL is behind them when `text`. */
static _unused_ char *take_bytes(struct input *in, size_t n, bool text, size_t *ret_size)
{
        char *copy;

        n = MIN(n, in->size);
        copy = malloc(n + text + (n + text == 0));
        must(copy);
        memcpy(copy, in->data, n);
        if (text)
                copy[n] = '\0';
        in->data += n;
        in->size -= n;
        if (ret_size)
                *ret_size = n;
        return copy;
}

/* Up to the next byte `end`, which is dropped; as text. */
static _unused_ char *take_until(struct input *in, char end)
{
        const uint8_t *p = in->size ? memchr(in->data, end, in->size) : NULL;
        char *text = take_bytes(in, p ? (size_t)(p - in->data) : in->size, true, NULL);

        if (p)
                take_byte(in);
        return text;
}

static _unused_ void put_file(int dir, const char *name, const void *data, size_t size)
{
        _cleanup_close_ int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);

        must(fd >= 0);
        must(write(fd, data, size) == (ssize_t)size);
}

static _unused_ int memory_file(const void *data, size_t size)
{
        int fd = memfd_create("fuzz", MFD_CLOEXEC);

        must(fd >= 0);
        must(write(fd, data, size) == (ssize_t)size);
        return fd;
}

/* A directory of this process alone; `run` removes what is left of it. */
static _unused_ int scratch_open(char path[static PATH_MAX])
{
        must(snprintf(path, PATH_MAX, "%s/bootmgr-fuzz-XXXXXX", getenv("TMPDIR") ?: "/tmp") < PATH_MAX);
        must(mkdtemp(path));
        return dir_open(AT_FDCWD, path);
}

#ifndef FUZZ_HAS_INITIALIZE
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
        log_set_max_level(0);
        return 0;
}
#endif
