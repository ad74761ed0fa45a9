/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A partition in memory, and what it was before. Input: its size in MiB (one byte), then pieces that are not zero: offset
 * (32 bits), length (16 bits), content. The I/O layer's calls go there; each write is shown to image_written(). */
#pragma once

#include "fuzz.h"

#include "base/io.h"

#define IMAGE_MAX MIB(64)
#define IMAGE_FD  1000

static uint8_t *image, *image_before;
static size_t image_size, image_writes;
static struct io_ops image_ops;

static void image_written(size_t at, const uint8_t *data, size_t n);

static ssize_t image_pread(int fd, void *data, size_t n, uint64_t at)
{
        must(fd == IMAGE_FD);
        if (at > INT64_MAX)
                return -EINVAL;
        if (at >= image_size)
                return 0;
        n = MIN(n, image_size - (size_t)at);
        memcpy(data, image + at, n);
        return (ssize_t)n;
}

static ssize_t image_pwrite(int fd, const void *data, size_t n, uint64_t at)
{
        must(fd == IMAGE_FD);
        must(at <= image_size && n <= image_size - at);
        image_written((size_t)at, data, n);
        memcpy(image + at, data, n);
        image_writes++;
        return (ssize_t)n;
}

static int image_fsync(int fd)
{
        must(fd == IMAGE_FD);
        return 0;
}

static uint8_t *image_map(void)
{
        uint8_t *p = mmap(NULL, IMAGE_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        must(p != MAP_FAILED);
        return p;
}

static void image_take(struct input *in)
{
        if (!image) {
                image = image_map();
                image_before = image_map();
                image_ops = io_system_ops;
                image_ops.pread = image_pread;
                image_ops.pwrite = image_pwrite;
                image_ops.fsync = image_fsync;
        }
        must(madvise(image, IMAGE_MAX, MADV_DONTNEED) == 0 && madvise(image_before, IMAGE_MAX, MADV_DONTNEED) == 0);
        image_size = MIB((size_t)take_byte(in) % (IMAGE_MAX / MIB(1)) + 1);
        image_writes = 0;
        while (in->size > 6) {
                uint64_t at = get_le32(in->data);
                size_t n = MIN((size_t)get_le16(in->data + 4), in->size - 6);

                if (at < image_size) {
                        size_t fits = MIN(n, image_size - (size_t)at);

                        memcpy(image + at, in->data + 6, fits);
                        memcpy(image_before + at, in->data + 6, fits);
                }
                in->data += 6 + n;
                in->size -= 6 + n;
        }
}
