/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* SHA-256 (FIPS 180-4) of several messages at once: each in a lane of its own of wide registers. One message cannot be
 * hashed quicker than its chain of rounds allows, eight of them can: with AVX2 three times as much is hashed in a second as
 * by the library, with AVX-512 five times. Where the processor has instructions for SHA-256 the library is as quick, and is
 * used; so it is where there are no such registers, and of messages that would leave most of the lanes empty. */
#include "base/sha256.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <endian.h>
#include <pthread.h>

#define LANES      8
#define BLOCK      64
#define SHA_NI     (1U << 29) /* CPUID leaf 7, EBX */
#define MESSAGES   64         /* that are sorted at once */
#define WORTHWHILE 3          /* of the longest message there must be so many times as much */

typedef uint32_t lanes __attribute__((vector_size(4 * LANES)));
typedef uint8_t bytes __attribute__((vector_size(4 * LANES)));

static const uint32_t initial[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                     0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };

static const uint32_t k[64] = { 0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
                                0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
                                0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
                                0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
                                0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
                                0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
                                0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
                                0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
                                0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
                                0xc67178f2 };

#define ROTATE(x, n) ((x) >> (n) | (x) << (32 - (n)))
#define ALWAYS       static inline __attribute__((always_inline))

/* Eight words of each message, swapped: word i of message j becomes lane j of words[i]. */
ALWAYS void load(const uint8_t *const data[LANES], size_t at, lanes words[static LANES])
{
        lanes a[LANES], b[LANES];

        for (int i = 0; i < LANES; i++)
                memcpy(&a[i], data[i] + at, sizeof(a[i]));
        for (int i = 0; i < LANES; i += 2) {
                b[i] = __builtin_shufflevector(a[i], a[i + 1], 0, 8, 2, 10, 4, 12, 6, 14);
                b[i + 1] = __builtin_shufflevector(a[i], a[i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
        }
        for (int i = 0; i < LANES; i += 4)
                for (int j = 0; j < 2; j++) {
                        a[i + j] = __builtin_shufflevector(b[i + j], b[i + j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
                        a[i + j + 2] = __builtin_shufflevector(b[i + j], b[i + j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
                }
        for (int i = 0; i < LANES / 2; i++) {
                lanes low = __builtin_shufflevector(a[i], a[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
                lanes high = __builtin_shufflevector(a[i], a[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);

                words[i] = low;
                words[i + 4] = high;
        }
        for (int i = 0; i < LANES; i++)
                words[i] = (lanes)__builtin_shufflevector((bytes)words[i], (bytes)words[i], 3, 2, 1, 0, 7, 6, 5, 4, 11, 10,
                                                          9, 8, 15, 14, 13, 12, 19, 18, 17, 16, 23, 22, 21, 20, 27, 26, 25,
                                                          24, 31, 30, 29, 28);
}

/* The names of the standard, section 6.2.2. */
ALWAYS void hash_blocks(lanes state[static 8], const uint8_t *const data[LANES], size_t n)
{
        for (size_t at = 0; at < n * BLOCK; at += BLOCK) {
                lanes w[16], a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5],
                             g = state[6], h = state[7];

                load(data, at, w);
                load(data, at + BLOCK / 2, w + 8);
                for (int t = 0; t < 64; t += 16) {
#pragma GCC unroll 16
                        for (int i = 0; i < 16; i++) {
                                lanes t1, t2;

                                if (t > 0) {
                                        lanes x = w[(i + 1) % 16], y = w[(i + 14) % 16];

                                        w[i] += (ROTATE(x, 7) ^ ROTATE(x, 18) ^ x >> 3) + w[(i + 9) % 16] +
                                                (ROTATE(y, 17) ^ ROTATE(y, 19) ^ y >> 10);
                                }
                                t1 = h + (ROTATE(e, 6) ^ ROTATE(e, 11) ^ ROTATE(e, 25)) + ((e & f) ^ (~e & g)) + k[t + i] +
                                     w[i];
                                t2 = (ROTATE(a, 2) ^ ROTATE(a, 13) ^ ROTATE(a, 22)) + ((a & b) | (c & (a | b)));
                                h = g;
                                g = f;
                                f = e;
                                e = d + t1;
                                d = c;
                                c = b;
                                b = a;
                                a = t1 + t2;
                        }
                }
                state[0] += a;
                state[1] += b;
                state[2] += c;
                state[3] += d;
                state[4] += e;
                state[5] += f;
                state[6] += g;
                state[7] += h;
        }
}

__attribute__((target("avx2"))) static void hash_avx2(lanes state[static 8], const uint8_t *const data[LANES], size_t n)
{
        hash_blocks(state, data, n);
}

__attribute__((target("avx2,avx512f,avx512vl"))) static void hash_avx512(lanes state[static 8],
                                                                         const uint8_t *const data[LANES], size_t n)
{
        hash_blocks(state, data, n);
}

typedef void hash_lanes(lanes state[static 8], const uint8_t *const data[LANES], size_t n);

static hash_lanes *chosen;

static void choose(void)
{
        unsigned a, b = 0, c, d;

        if (__get_cpuid_count(7, 0, &a, &b, &c, &d) && b & SHA_NI)
                return;
        if (__builtin_cpu_supports("avx512vl"))
                chosen = hash_avx512;
        else if (__builtin_cpu_supports("avx2"))
                chosen = hash_avx2;
}

/* A message in its lane: whole blocks, then what is padded. */
struct lane {
        struct sha256_job *job; /* NULL: the lane is empty */
        const uint8_t *data;
        size_t n;    /* blocks from there */
        bool ending; /* they are the last */
        uint8_t tail[2 * BLOCK];
};

static void begin_tail(struct lane *l)
{
        size_t rest = l->job->size % BLOCK, n = rest + 1 + sizeof(uint64_t) > BLOCK ? 2 : 1;
        uint64_t bits;

        memset(l->tail, 0, sizeof(l->tail));
        if (rest > 0)
                memcpy(l->tail, (const uint8_t *)l->job->data + l->job->size - rest, rest);
        l->tail[rest] = 0x80;
        bits = htobe64((uint64_t)l->job->size * 8);
        memcpy(l->tail + n * BLOCK - sizeof(bits), &bits, sizeof(bits));
        l->data = l->tail;
        l->n = n;
        l->ending = true;
}

static void begin_message(struct lane *l, struct sha256_job *job, lanes state[static 8], int at)
{
        l->job = job;
        l->data = job->data;
        l->n = job->size / BLOCK;
        l->ending = false;
        for (int i = 0; i < 8; i++)
                state[i][at] = initial[i];
        if (l->n == 0)
                begin_tail(l);
}

static void end_message(struct lane *l, const lanes state[static 8], int at)
{
        for (int i = 0; i < 8; i++) {
                uint32_t word = htobe32(state[i][at]);

                memcpy(l->job->digest + sizeof(word) * (size_t)i, &word, sizeof(word));
        }
        l->job = NULL;
}

/* What the next call works on: each lane's next blocks, as many as every one has. 0: all is done. */
static size_t fill_lanes(struct lane each[static LANES], struct sha256_job *const **next, size_t *n, lanes state[static 8],
                         const uint8_t *data[static LANES])
{
        const uint8_t *some = NULL;
        size_t blocks = SIZE_MAX;

        for (int i = 0; i < LANES; i++) {
                if (!each[i].job && *n > 0) {
                        begin_message(&each[i], *(*next)++, state, i);
                        (*n)--;
                }
                if (!each[i].job)
                        continue;
                some = each[i].data;
                blocks = MIN(blocks, each[i].n);
        }
        for (int i = 0; i < LANES; i++)
                data[i] = each[i].job ? each[i].data : some; /* an empty one does what another does, for nothing */
        return some ? blocks : 0;
}

static void hash_all(hash_lanes *hash, struct sha256_job *const *jobs, size_t n)
{
        struct lane each[LANES] = {};
        const uint8_t *data[LANES];
        lanes state[8] = {};
        size_t blocks;

        while ((blocks = fill_lanes(each, &jobs, &n, state, data)) > 0) {
                hash(state, data, blocks);
                for (int i = 0; i < LANES; i++) {
                        struct lane *l = &each[i];

                        if (!l->job)
                                continue;
                        l->data += blocks * BLOCK;
                        l->n -= blocks;
                        if (l->n == 0 && l->ending)
                                end_message(l, state, i);
                        else if (l->n == 0)
                                begin_tail(l);
                }
        }
}

static int longest_first(const void *a, const void *b)
{
        const struct sha256_job *const *x = a, *const *y = b;

        return ((*x)->size < (*y)->size) - ((*x)->size > (*y)->size);
}

/* So that the lanes become empty at about the same time. false: one by one it is quicker. */
static bool hash_together(struct sha256_job *jobs, size_t n)
{
        static pthread_once_t once = PTHREAD_ONCE_INIT; /* to ask a virtual processor takes long */
        struct sha256_job *sorted[MESSAGES];
        size_t sum = 0;

        pthread_once(&once, choose);
        for (size_t i = 0; i < n; i++) {
                sorted[i] = &jobs[i];
                sum += jobs[i].size;
        }
        qsort(sorted, n, sizeof(*sorted), longest_first);
        if (!chosen || sum < WORTHWHILE * sorted[0]->size)
                return false;
        hash_all(chosen, sorted, n);
        return true;
}

#else

#define MESSAGES 1

static bool hash_together(struct sha256_job *jobs, size_t n)
{
        return false;
}

#endif

int sha256_each(struct sha256_job *jobs, size_t n)
{
        int r = 0;

        for (size_t done = 0, part; r >= 0 && done < n; done += part) {
                part = MIN(n - done, (size_t)MESSAGES);
                if (hash_together(jobs + done, part))
                        continue;
                for (size_t i = done; r >= 0 && i < done + part; i++)
                        r = sha256_data(jobs[i].data, jobs[i].size, jobs[i].digest);
        }
        return r;
}
