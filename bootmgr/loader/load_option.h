/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Boot options of the firmware: EFI_LOAD_OPTION (UEFI specification 2.10, section 3.1.3), as far as they name a file on a
 * GPT partition. A pure codec; the variables themselves are loader/firmware.h.
 *
 *      attributes (4) | size of the path (2) | description, UTF-16 | path: HD(...), File(...), End | arguments, UTF-16
 */
#pragma once

#include "base/buf.h"

#define LOAD_OPTION_ACTIVE UINT32_C(1)
#define LOAD_OPTION_MAX    4096 /* bytes; one with a kernel's command line has some 1200 */

struct load_option {
        uint32_t attributes;
        uint32_t partition;   /* number, from 1 */
        uint64_t start, size; /* of the partition, in sectors */
        uint8_t guid[16];     /* PARTUUID, as it lies in the variable */
        /* ASCII; owned */
        char *description;
        char *path;      /* with backslashes */
        char *arguments; /* NULL: none */
};

void load_option_done(struct load_option *o);
#define _cleanup_load_option_ _cleanup_(load_option_done)

/* Appends the bytes; -EINVAL for text that is not printable ASCII, -E2BIG for more than LOAD_OPTION_MAX. */
int load_option_format(const struct load_option *o, struct buf *ret);

/* -EINVAL for what is no load option, -ENOTSUP for one of another shape: a network card, text beyond ASCII, … */
int load_option_parse(const void *data, size_t size, struct load_option *ret);

/* A UUID as text in the byte order of EFI; -EINVAL. */
int efi_guid_parse(const char *text, uint8_t ret[static 16]);
