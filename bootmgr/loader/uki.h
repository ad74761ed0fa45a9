/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Unified kernel images (Boot Loader Specification type 2), as far as systemd-boot sorts them: what the os-release in
 * the section .osrel of a PE file says. */
#pragma once

#include "loader/entry.h"

/* Reads one image, `file` its name below EFI/Linux; the entry is usable on return. -ENOEXEC: systemd-boot does not show
 * it (no PE file of this machine, no .osrel, no name in it). */
int uki_read(int fd, const char *file, struct entry *ret);

/* Whether the PE file is a systemd-boot: it has the section .sdmagic. */
bool pe_is_systemd_boot(int fd);
