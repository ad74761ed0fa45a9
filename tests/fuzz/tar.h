/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Archives from mutated tars, and what a restore may not touch. */
#pragma once

#include <sys/xattr.h>
#include <zstd.h>

#include "fuzz.h"

#define BLOCK 512

static uint64_t octal(const uint8_t *p, size_t n)
{
        uint64_t value = 0;

        for (size_t i = 0; i < n && p[i] >= '0' && p[i] <= '7'; i++)
                value = value << 3 | (uint64_t)(p[i] - '0');
        return value;
}

/* The checksum of every header, as far as they can be followed. */
static void repair_tar(uint8_t *tar, size_t size)
{
        for (size_t at = 0; at + BLOCK <= size;) {
                uint8_t *h = tar + at;
                char text[8];
                unsigned sum = 0;
                uint64_t content;

                if (is_all_zero(h, BLOCK))
                        return;
                memset(h + 148, ' ', 8);
                for (size_t i = 0; i < BLOCK; i++)
                        sum += h[i];
                snprintf(text, sizeof(text), "%06o", sum);
                memcpy(h + 148, text, 7);
                content = octal(h + 124, 11);
                if (content > size)
                        return;
                at += BLOCK + (content + BLOCK - 1) / BLOCK * BLOCK;
        }
}

/* A mutated tar as an archive in memory: compressed, unless it is to be read as it is. */
static int make_archive(uint8_t *tar, size_t size, bool raw, const void *trailer, size_t trailer_size)
{
        size_t room = ZSTD_compressBound(size), n;
        _cleanup_free_ uint8_t *frame = malloc(room);
        int fd;

        must(frame);
        if (raw)
                return memory_file(tar, size);
        repair_tar(tar, size);
        n = ZSTD_compress(frame, room, tar, size, 1);
        must(!ZSTD_isError(n));
        fd = memory_file(frame, n);
        must(trailer_size == 0 || write(fd, trailer, trailer_size) == (ssize_t)trailer_size);
        return fd;
}

/* Names, types, modes, owners, sizes, link targets, attributes, times and contents below a directory as one number. */
static uint32_t tree_digest(int dir, uint32_t crc)
{
        DIR *d = fdopendir(dir_open(dir, "."));
        struct dirent *e;
        uint32_t sum = 0;

        must(d);
        while ((e = readdir(d))) {
                char target[PATH_MAX], list[4096];
                struct stat st;
                uint32_t one;
                int fd;

                if (streq(e->d_name, ".") || streq(e->d_name, ".."))
                        continue;
                must(fstatat(dir, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0);
                one = crc32c(crc, e->d_name, strlen(e->d_name));
                one = crc32c(one, &st.st_mode, sizeof(st.st_mode));
                one = crc32c(one, &st.st_uid, sizeof(st.st_uid));
                one = crc32c(one, &st.st_gid, sizeof(st.st_gid));
                if (S_ISLNK(st.st_mode)) {
                        ssize_t n = readlinkat(dir, e->d_name, target, sizeof(target));

                        must(n >= 0);
                        one = crc32c(one, target, (size_t)n);
                } else if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) {
                        ssize_t n;

                        fd = openat(dir, e->d_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
                        must(fd >= 0);
                        n = flistxattr(fd, list, sizeof(list));
                        one = crc32c(one, list, n > 0 ? (size_t)n : 0);
                        while (S_ISREG(st.st_mode) && (n = read(fd, list, sizeof(list))) > 0)
                                one = crc32c(one, list, (size_t)n);
                        if (S_ISDIR(st.st_mode))
                                one = tree_digest(fd, one);
                        close(fd);
                }
                sum += one; /* in any order */
        }
        closedir(d);
        return crc32c(crc, &sum, sizeof(sum));
}

/* Bytes and files below a directory; no devices, and no file that has another name outside. */
static void measure(int dir, uint64_t *bytes, uint64_t *nodes)
{
        DIR *d = fdopendir(dir_open(dir, "."));
        struct dirent *e;

        must(d);
        while ((e = readdir(d))) {
                struct stat st;

                if (streq(e->d_name, ".") || streq(e->d_name, ".."))
                        continue;
                must(fstatat(dir, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0);
                must(!S_ISBLK(st.st_mode) && !S_ISCHR(st.st_mode) && !S_ISSOCK(st.st_mode));
                (*nodes)++;
                if (S_ISREG(st.st_mode))
                        *bytes += (uint64_t)st.st_size / (st.st_nlink ?: 1);
                if (S_ISDIR(st.st_mode)) {
                        int fd = openat(dir, e->d_name, O_RDONLY | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC);

                        must(fd >= 0);
                        measure(fd, bytes, nodes);
                        close(fd);
                }
        }
        closedir(d);
}
