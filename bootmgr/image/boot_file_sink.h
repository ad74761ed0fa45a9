/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Kernel and initrd on their way to the ESP: each waits, until everything is checked, in a file of the slot that is being
 * written (slots/b.part/kernel on data), where a second try finds what came of it. Inside image/ only.
 *
 *      boot_file_sinks_begin()
 *      boot_file_sink_look()   behind bundle_read_index()
 *      bundle_extract()        sink.present says what need not come
 *      boot_file_sink_add()
 *      boot_file_sinks_forget()
 */
#pragma once

#include "image/install.h"

struct boot_file_sink {
        struct chunk_sink sink;
        int fd;           /* what the file is made from; negative: it is there */
        bool old;         /* an earlier try wrote to it */
        uint8_t *present; /* of each chunk; NULL: none is */
        uint64_t kept;    /* bytes of content that were there */
};
#define BOOT_FILE_SINK_NONE ((struct boot_file_sink){ .fd = -1 })

/* Whether it has to come: no ESP has one of this content, the slot's own is one that has. */
bool boot_file_is_lacking(const struct bundle_image *image, const struct install_target *t);
/* Bytes on data that an earlier try took, and that this one takes or gives back. */
uint64_t boot_files_held(const struct install_target *t);

/* One for each image of the bundle. What is of no use now is removed, and the room for the rest taken. An image that is
 * neither root nor boot file need not come, nor one that the ESP has. kind_no_space: data is full. */
int boot_file_sinks_begin(struct boot_file_sink *s, const struct manifest *m, const struct install_target *t,
                          struct error *e);
/* Reads and hashes what an earlier try wrote; `index` of the image. */
int boot_file_sink_look(struct boot_file_sink *s, const struct bundle_image *image, const uint8_t *index);
int boot_file_sink_add(const struct boot_file_sink *s, const struct bundle_image *image, const struct install_target *t,
                       struct error *e);
void boot_file_sink_done(struct boot_file_sink *s);

/* They lie on the ESP, or there was no room. */
int boot_file_sinks_forget(const struct install_target *t, struct error *e);

/* slots/b, and with SLOT_PART behind it what is there while it is written (reuse.h). */
void slot_path(const struct install_target *t, const char *suffix, char path[static 32]);
int fail_data(struct error *e, int r, const char *what);
