/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whole files: reading with a bound, and the two ways of writing that survive a power cut. */
#pragma once

#include <sys/types.h>

#include "base/util.h"

/* Reads a file of at most `max` bytes. *ret is malloc'ed, NUL-terminated behind *ret_size bytes. -EFBIG when it is larger.
 * Below a directory only a regular file is read (-EINVAL), and nothing is waited for; with AT_FDCWD `path` is what a
 * person named, and may be a pipe. ret_size may be NULL. */
int file_read(int dirfd, const char *path, size_t max, char **ret, size_t *ret_size);

/* Creates `name` under `dirfd` durably, where no such name may exist (-EEXIST): temporary name,
 * fsync, renameat2(RENAME_NOREPLACE), fsync of the file again, fsync of the directory: the shortest sequence that is safe
 * on Linux vfat (tests/crash; an fsync of the directory before the rename as well changes nothing). The temporary name is
 * unlinked on failure. `name` may hold directories that exist. */
int file_create(int dirfd, const char *name, const void *data, size_t size, mode_t mode);

/* Replaces `name` atomically: temporary name, fsync, rename over it, fsync of the directory.
 * For journalling filesystems only (`data`), never on the ESP. */
int file_replace(int dirfd, const char *name, const void *data, size_t size, mode_t mode);

/* As file_replace without any flush: for progress that may be lost. */
int file_replace_volatile(int dirfd, const char *name, const void *data, size_t size, mode_t mode);

/* Makes a directory and its parents; 0 when it is there. */
int mkdir_parents(int dirfd, const char *path, mode_t mode);

/* Removes a tree below dirfd without following links; 0 when nothing is there. -EXDEV at a mount point,
 * the tree's own root too: what is mounted there stays. */
int remove_tree(int dirfd, const char *path);

/* Opens a directory O_PATH-free (O_RDONLY|O_DIRECTORY|O_CLOEXEC). fd or -errno. */
int dir_open(int dirfd, const char *path);

/* Splits a text into lines in place: returns the next line without its newline, NULL at the end.
 * *cursor starts at the text. */
char *line_next(char **cursor);
