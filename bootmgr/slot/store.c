/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* docs/formats.md, "State record". Every field has its offset here and nowhere else. */
#include "slot/store.h"

#include <time.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/io.h"
#include "slot/kinds.h"

#define MAJOR 1
#define MINOR 0

static const uint8_t magic[8] = { 'B', 'O', 'O', 'T', 'M', 'G', 'R', 'S' };

/* header */
#define H_MAGIC     0
#define H_MAJOR     8
#define H_MINOR     10
#define H_LENGTH    12
#define H_SEQUENCE  16
#define H_RESERVED  24
#define H_CRC       28
#define HEADER_SIZE 32

/* payload */
#define P_N_SLOTS           0
#define P_PREVIOUS          1
#define P_PHASE             2
#define P_TARGET            3
#define P_OPERATION         4
#define P_OPERATION_STATE   5
#define P_OPERATION_REASON  6
#define P_FLAGS             7
#define P_OPERATION_FROM    8
#define P_OPERATION_TO      9
#define P_GENERATION        16
#define P_TARGET_GENERATION 24
#define P_FLOOR             32
#define P_OPERATION_ID      40
#define P_AUTO_ROLLBACKS    56
#define P_REFUSED           88
#define P_SLOTS             128
#define FLAG_AUTOMATIC      1
#define FLAG_FINALIZED      2
#define FLAG_ONCE           4

/* a slot */
#define S_VERSION          0
#define S_SECURITY_VERSION 64
#define S_GENERATION       72
#define S_DIGEST           80
#define S_SNAPSHOT         112
#define S_KERNEL           144
#define S_INITRD           160
#define S_LAST_BOOT        176
#define S_STATE            192
#define S_REASON           193
#define S_TRIES            194
#define S_ATTEMPTS         195
#define SLOT_SIZE          208
#define PAYLOAD_SIZE       (P_SLOTS + SLOT_MAX * SLOT_SIZE)

/* a root with a hash tree, behind the payload that every program knows: the table is there once one slot has such a root */
#define V_ROOT_HASH  0
#define V_BLOCKS     32
#define V_DIGEST     40 /* first half of that of the manifest: a program that does not know the table leaves it as it was */
#define V_SIZE       64
#define VERITY_TABLE (SLOT_MAX * V_SIZE)

_Static_assert(HEADER_SIZE + PAYLOAD_SIZE + VERITY_TABLE <= STATE_COPY_SIZE, "the record fits its copy");

static uint8_t encode_slot_number(int slot)
{
        return slot == SLOT_NONE ? 0xff : (uint8_t)slot;
}

static int decode_slot_number(uint8_t byte)
{
        return byte < SLOT_MAX ? byte : SLOT_NONE;
}

static void encode_slot(const struct slot *s, uint8_t *p)
{
        memcpy(p + S_VERSION, s->version, SLOT_VERSION_SIZE);
        put_le64(p + S_SECURITY_VERSION, s->security_version);
        put_le64(p + S_GENERATION, s->generation);
        memcpy(p + S_DIGEST, s->digest, DIGEST_SIZE);
        memcpy(p + S_SNAPSHOT, s->snapshot, DIGEST_SIZE);
        memcpy(p + S_KERNEL, s->kernel, BOOT_FILE_ID_SIZE);
        memcpy(p + S_INITRD, s->initrd, BOOT_FILE_ID_SIZE);
        memcpy(p + S_LAST_BOOT, s->last_boot, sizeof(s->last_boot));
        p[S_STATE] = (uint8_t)s->state;
        p[S_REASON] = (uint8_t)s->reason;
        p[S_TRIES] = s->tries;
        p[S_ATTEMPTS] = s->attempts;
}

static void decode_slot(const uint8_t *p, struct slot *s)
{
        memcpy(s->version, p + S_VERSION, SLOT_VERSION_SIZE);
        s->version[SLOT_VERSION_SIZE - 1] = '\0';
        s->security_version = get_le64(p + S_SECURITY_VERSION);
        s->generation = get_le64(p + S_GENERATION);
        memcpy(s->digest, p + S_DIGEST, DIGEST_SIZE);
        memcpy(s->snapshot, p + S_SNAPSHOT, DIGEST_SIZE);
        memcpy(s->kernel, p + S_KERNEL, BOOT_FILE_ID_SIZE);
        memcpy(s->initrd, p + S_INITRD, BOOT_FILE_ID_SIZE);
        memcpy(s->last_boot, p + S_LAST_BOOT, sizeof(s->last_boot));
        s->state = (enum slot_state)p[S_STATE];
        s->reason = (enum slot_reason)p[S_REASON];
        s->tries = p[S_TRIES];
        s->attempts = p[S_ATTEMPTS];
}

static bool has_verity(const struct slot_set *set)
{
        bool any = false;

        for (int i = 0; i < SLOT_MAX; i++)
                any = any || verity_is_set(&set->slots[i].verity);
        return any;
}

/* What is there of a slot without a tree is of another digest: nobody takes it for this slot's. */
static void encode_verity(const struct slot_set *set, uint8_t *p)
{
        for (int i = 0; i < SLOT_MAX; i++, p += V_SIZE) {
                const struct slot *s = &set->slots[i];

                if (!verity_is_set(&s->verity))
                        continue;
                memcpy(p + V_ROOT_HASH, s->verity.root_hash, VERITY_HASH_SIZE);
                put_le64(p + V_BLOCKS, s->verity.blocks);
                memcpy(p + V_DIGEST, s->digest, DIGEST_SIZE / 2);
        }
}

static void decode_verity(const uint8_t *p, struct slot_set *set)
{
        for (int i = 0; i < SLOT_MAX; i++, p += V_SIZE) {
                struct slot *s = &set->slots[i];

                if (get_le64(p + V_BLOCKS) > VERITY_MAX || memcmp(p + V_DIGEST, s->digest, DIGEST_SIZE / 2) != 0)
                        continue;
                s->verity.blocks = get_le64(p + V_BLOCKS);
                if (verity_is_set(&s->verity))
                        memcpy(s->verity.root_hash, p + V_ROOT_HASH, VERITY_HASH_SIZE);
        }
}

static void encode_set(const struct slot_set *set, uint8_t *p)
{
        p[P_N_SLOTS] = (uint8_t)set->n_slots;
        p[P_PREVIOUS] = encode_slot_number(set->previous);
        p[P_PHASE] = (uint8_t)set->phase;
        p[P_TARGET] = encode_slot_number(set->target);
        p[P_OPERATION] = (uint8_t)set->operation;
        p[P_OPERATION_STATE] = (uint8_t)set->operation_state;
        p[P_OPERATION_REASON] = (uint8_t)set->operation_reason;
        p[P_FLAGS] = (uint8_t)((set->operation_automatic ? FLAG_AUTOMATIC : 0) | (set->finalized ? FLAG_FINALIZED : 0) |
                               (set->once ? FLAG_ONCE : 0));
        p[P_OPERATION_FROM] = encode_slot_number(set->operation_from);
        p[P_OPERATION_TO] = encode_slot_number(set->operation_to);
        put_le64(p + P_GENERATION, set->generation);
        put_le64(p + P_TARGET_GENERATION, set->target_generation);
        put_le64(p + P_FLOOR, set->floor);
        memcpy(p + P_OPERATION_ID, set->operation_id, sizeof(set->operation_id));
        for (int i = 0; i < AUTO_ROLLBACK_MEMORY; i++)
                put_le64(p + P_AUTO_ROLLBACKS + 8 * i, set->auto_rollbacks[i]);
        memcpy(p + P_REFUSED, set->refused, DIGEST_SIZE);
        for (int i = 0; i < SLOT_MAX; i++)
                encode_slot(&set->slots[i], p + P_SLOTS + i * SLOT_SIZE);
}

static void decode_set(const uint8_t *p, struct slot_set *set)
{
        *set = (struct slot_set){
                .n_slots = p[P_N_SLOTS],
                .previous = decode_slot_number(p[P_PREVIOUS]),
                .phase = (enum switch_phase)p[P_PHASE],
                .target = decode_slot_number(p[P_TARGET]),
                .operation = (enum operation_kind)p[P_OPERATION],
                .operation_state = (enum operation_state)p[P_OPERATION_STATE],
                .operation_reason = (enum slot_reason)p[P_OPERATION_REASON],
                .operation_automatic = p[P_FLAGS] & FLAG_AUTOMATIC,
                .finalized = p[P_FLAGS] & FLAG_FINALIZED,
                .once = p[P_FLAGS] & FLAG_ONCE,
                .operation_from = decode_slot_number(p[P_OPERATION_FROM]),
                .operation_to = decode_slot_number(p[P_OPERATION_TO]),
                .generation = get_le64(p + P_GENERATION),
                .target_generation = get_le64(p + P_TARGET_GENERATION),
                .floor = get_le64(p + P_FLOOR),
        };
        memcpy(set->operation_id, p + P_OPERATION_ID, sizeof(set->operation_id));
        for (int i = 0; i < AUTO_ROLLBACK_MEMORY; i++)
                set->auto_rollbacks[i] = get_le64(p + P_AUTO_ROLLBACKS + 8 * i);
        memcpy(set->refused, p + P_REFUSED, DIGEST_SIZE);
        for (int i = 0; i < SLOT_MAX; i++)
                decode_slot(p + P_SLOTS + i * SLOT_SIZE, &set->slots[i]);
}

static uint32_t copy_crc(const uint8_t *copy, size_t length)
{
        return crc32c(crc32c(0, copy, H_CRC), copy + HEADER_SIZE, length);
}

void state_encode(const struct state *state, uint8_t *copy)
{
        size_t extra = MIN(state->n_extra, (size_t)(STATE_COPY_SIZE - HEADER_SIZE - PAYLOAD_SIZE)), length;

        memset(copy, 0, STATE_COPY_SIZE);
        memcpy(copy + HEADER_SIZE + PAYLOAD_SIZE, state->extra, extra);
        if (has_verity(&state->set))
                extra = MAX(extra, (size_t)VERITY_TABLE);
        if (extra >= VERITY_TABLE)
                encode_verity(&state->set, copy + HEADER_SIZE + PAYLOAD_SIZE);
        length = PAYLOAD_SIZE + extra;
        memcpy(copy + H_MAGIC, magic, sizeof(magic));
        put_le16(copy + H_MAJOR, MAJOR);
        put_le16(copy + H_MINOR, MINOR);
        put_le32(copy + H_LENGTH, (uint32_t)length);
        put_le64(copy + H_SEQUENCE, state->sequence);
        encode_set(&state->set, copy + HEADER_SIZE);
        put_le32(copy + H_CRC, copy_crc(copy, length));
}

/* The first record has 1. Behind one near the end every later one would count as older, and no write would have an effect.
 */
#define SEQUENCE_MAX (UINT64_C(1) << 63)

int state_decode(const uint8_t *copy, struct state *ret)
{
        uint32_t length = get_le32(copy + H_LENGTH);
        struct state state = {};

        if (memcmp(copy + H_MAGIC, magic, sizeof(magic)) != 0 || length > STATE_COPY_SIZE - HEADER_SIZE ||
            get_le32(copy + H_CRC) != copy_crc(copy, length))
                return -EBADMSG;
        if (get_le16(copy + H_MAJOR) != MAJOR || length < PAYLOAD_SIZE)
                return -EPROTONOSUPPORT;
        decode_set(copy + HEADER_SIZE, &state.set);
        state.sequence = get_le64(copy + H_SEQUENCE);
        if (state.sequence == 0 || state.sequence > SEQUENCE_MAX)
                return -EBADMSG;
        state.n_extra = length - PAYLOAD_SIZE;
        memcpy(state.extra, copy + HEADER_SIZE + PAYLOAD_SIZE, state.n_extra);
        if (state.n_extra >= VERITY_TABLE)
                decode_verity(state.extra, &state.set);
        if (slot_set_check(&state.set, NULL) < 0)
                return -EBADMSG;
        *ret = state;
        return 0;
}

/* No record gets here by being written, so one that begins here is newer than any that was ever valid. */
#define REBUILT_MIN (UINT64_C(1) << 40)
/* A damaged header above this says nothing: the damage lies in the sequence. */
#define REBUILT_MAX (UINT64_C(1) << 62)

/* What a header tells that is not part of a valid record; 0: nothing. */
static uint64_t damaged_sequence(const uint8_t *copy)
{
        uint64_t sequence = get_le64(copy + H_SEQUENCE);

        return memcmp(copy + H_MAGIC, magic, sizeof(magic)) == 0 && sequence < REBUILT_MAX ? sequence : 0;
}

/* Where a rebuilt record begins, `seen` being the highest sequence in the headers. A copy that could not be read this
 * time may be read the next time: it must not win then. The clock puts it above an earlier rebuilt one, too; where that is
 * not set the constant still is above every record that was never lost. */
static uint64_t rebuilt_sequence(uint64_t seen)
{
        return MAX(seen, MIN(MAX(now_realtime(), REBUILT_MIN), REBUILT_MAX));
}

/* A whole record of a format that this program does not know: its header still tells its age. */
static uint64_t unknown_sequence(int decoded, const uint8_t *copy)
{
        return decoded == -EPROTONOSUPPORT ? get_le64(copy + H_SEQUENCE) : 0;
}

int state_load(const struct state_place *place, struct state *ret, struct error *e)
{
        struct state best = {};
        uint64_t unknown = 0; /* sequence of the newest such record */
        uint64_t damaged = 0; /* highest in a header */
        bool unread = false;

        for (int i = 0; i < 2; i++) {
                uint8_t copy[STATE_COPY_SIZE] = {};
                struct state one;
                int r = io_pread(place->fd[i], copy, sizeof(copy), place->offset[i]);

                /* Once more: without this copy the machine goes by what the record said before, or by no record at all. */
                if (r < 0)
                        r = io_pread(place->fd[i], copy, sizeof(copy), place->offset[i]);
                unread |= r < 0;
                if (r >= 0)
                        r = state_decode(copy, &one);
                if (r == -EBADMSG)
                        damaged = MAX(damaged, damaged_sequence(copy));
                unknown = MAX(unknown, unknown_sequence(r, copy));
                if (r < 0)
                        continue;
                one.copy = i;
                one.n_valid = best.n_valid + 1;
                if (best.n_valid == 0 || one.sequence > best.sequence)
                        best = one;
                else
                        best.n_valid++;
        }
        /* A copy that is older than what a newer program wrote is history: deciding by it would undo that. */
        if (best.n_valid > 0 && best.sequence > unknown) {
                *ret = best;
                return 0;
        }
        if (unknown > 0)
                return fail(e, -EPROTONOSUPPORT, &kind_state_unreadable,
                            "the state record was written by a newer bootmgr in a format that this one does not know");
        *ret = (struct state){ .copy = 1, .sequence = rebuilt_sequence(damaged), .unread = unread };
        slot_set_init(&ret->set, 2);
        return fail(e, -ENODATA, &kind_state_unreadable, "no copy of the state record %s",
                    unread ? "can be read" : "is valid");
}

int state_load_patiently(const struct state_place *place, struct state *ret, unsigned seconds)
{
        for (;; seconds--) {
                int r = state_load(place, ret, NULL);

                if (r != -ENODATA || !ret->unread || seconds == 0)
                        return r;
                nanosleep(&(struct timespec){ .tv_sec = 1 }, NULL);
        }
}

static int write_copy(const struct state_place *place, int i, const uint8_t *copy)
{
        uint8_t back[STATE_COPY_SIZE];
        int r;

        r = io_pwrite(place->fd[i], copy, STATE_COPY_SIZE, place->offset[i]);
        if (r >= 0)
                r = io_fsync(place->fd[i]);
        if (r >= 0)
                r = io_pread(place->fd[i], back, sizeof(back), place->offset[i]);
        if (r >= 0 && memcmp(back, copy, sizeof(back)) != 0)
                r = -EIO;
        return r;
}

/* Writes copy i with the next sequence; `state` is untouched on failure. */
static int save_copy(const struct state_place *place, struct state *state, int i)
{
        uint8_t copy[STATE_COPY_SIZE];
        struct state next = *state;
        int r = 0;

        next.sequence++;
        state_encode(&next, copy);
        /* Two copies on their way at once could both be torn by one power cut. */
        if (state->n_valid > 0 && !state->flushed)
                r = io_fsync(place->fd[state->copy]);
        if (r >= 0)
                r = write_copy(place, i, copy);
        if (r < 0)
                return r;
        state->flushed = true;
        state->sequence = next.sequence;
        state->copy = i;
        state->n_valid = MIN(state->n_valid + 1, 2);
        return 0;
}

/* The older copy, then the other one: a power cut leaves one of them whole, the new record or that before, and once this is
 * over each of them alone is the new one. The first alone is a success too: what is durable is not taken back. */
int state_save(const struct state_place *place, struct state *state, struct error *e)
{
        bool rebuild = state->n_valid == 0;
        int r, second;

        r = slot_set_check(&state->set, e);
        if (r < 0)
                return r;
        r = save_copy(place, state, !state->copy);
        /* Over the only copy that is whole nothing is written. To rebuild, one of the two places is enough. */
        if (r >= 0 || rebuild) {
                second = save_copy(place, state, r < 0 ? state->copy : !state->copy);
                if (r >= 0 && second < 0)
                        state->n_valid = 1;
                r = r < 0 ? second : 0;
        }
        return r < 0 ? fail_errno(e, r, "cannot write the state record") : 0;
}

int state_format(const struct state_place *place, const struct slot_set *set, struct error *e)
{
        struct state state = { .set = *set, .copy = 1 };
        int r;

        r = state_save(place, &state, e);
        if (r >= 0 && state.n_valid < 2)
                r = fail(e, -EIO, NULL, "one of the two copies of the state record cannot be written");
        return r;
}

void state_place_close(struct state_place *place)
{
        if (place->fd[1] != place->fd[0])
                place->fd[1] = fd_close(place->fd[1]);
        place->fd[0] = fd_close(place->fd[0]);
        place->fd[1] = -1;
}
