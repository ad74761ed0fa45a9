/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The state record on disk: docs/formats.md gives it byte by byte.
 *
 * Two copies of 4096 bytes, STATE_COPY_DISTANCE apart. A reader takes the valid copy with the
 * highest sequence; a writer writes the other one in place and flushes, then that one too. No parser, no allocation:
 * bootmgr-recover reads it in the initramfs. Bytes behind what this program knows are kept.
 */
#pragma once

#include "slot/slot.h"

#define STATE_COPY_SIZE     4096
#define STATE_COPY_DISTANCE (512 * 1024)

/* An open place for the record: a partition, a range of an image file, or two files. */
struct state_place {
        int fd[2]; /* of each copy; the same descriptor for a partition; -1: closed */
        uint64_t offset[2];
};

struct state {
        struct slot_set set;
        uint64_t sequence; /* of the copy it came from; none was valid: above all that ever was */
        int copy;          /* which copy that was, 0 or 1 */
        bool flushed;      /* that copy: written by this process. Another may have been killed before it flushed */
        bool unread;       /* none was valid, and one of them could not be read: it may be whole the next time */
        int n_valid;       /* valid copies found: 2 is normal, 1 is reported by status */
        uint8_t extra[STATE_COPY_SIZE]; /* payload bytes behind what every program knows … */
        size_t n_extra;                 /* … written back unchanged */
};

/* Reads both copies. -ENODATA: no copy is valid (state is then initialised and empty, and the next save writes both copies:
 * a caller that is told that one was `unread` gives it another chance before that, see operation/unread.h);
 * -EPROTONOSUPPORT: the newest is of an incompatible newer format. I/O errors of one copy count as invalid. */
int state_load(const struct state_place *place, struct state *ret, struct error *e);

/* The same, again each second for so many seconds while no copy can be read. */
int state_load_patiently(const struct state_place *place, struct state *ret, unsigned seconds);

/* Writes the older copy with the next sequence, flushes, reads back; then the other one with the sequence after that, in the
 * same way. Once the first is durable it is a success (n_valid is 1 then); when it is not, the other one stays as it is,
 * unless none was valid. On success state->sequence and ->copy are the new ones. The set is checked first
 * (slot_set_check): -EINVAL writes nothing. */
int state_save(const struct state_place *place, struct state *state, struct error *e);

/* Makes both copies valid; for init. */
int state_format(const struct state_place *place, const struct slot_set *set, struct error *e);

void state_place_close(struct state_place *place);

/* The codec, pure: for tests and fuzzers. `copy` holds STATE_COPY_SIZE bytes. */
void state_encode(const struct state *state, uint8_t *copy);
int state_decode(const uint8_t *copy, struct state *ret);
