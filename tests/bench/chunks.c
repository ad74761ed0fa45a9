/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What one way of chunking makes of two successive images; tests/bench/chunking asks for all of them.
 *
 *      chunks OLD NEW fixed|content|blocks SIZE LEVEL
 *
 * fixed: every SIZE bytes. content: as bundle create does it, with SIZE as the average (image/cut.h). blocks: by content
 * too, but only at multiples of 4096, by a hash of the block before. Each chunk is a zstd frame of LEVEL; zeros are not
 * stored, and what OLD holds anywhere in a chunk is not fetched; what NEW holds twice is fetched twice. One JSON object. */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <zstd.h>

#include "base/buf.h"
#include "base/sha256.h"
#include "image/cut.h"

#define BLOCK 4096

struct bytes {
        const uint8_t *data;
        size_t size;
};

struct chunk {
        size_t offset, size;
        uint8_t digest[SHA256_SIZE];
        bool zero, missing;
};

struct chunks {
        struct chunk *all;
        size_t n, room;
};

struct set {
        const uint8_t **slots;
        size_t mask;
};

static void die(const char *what)
{
        fprintf(stderr, "chunks: %s\n", what);
        exit(1);
}

static double now(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static struct bytes map(const char *path)
{
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        struct stat st;
        void *data;

        if (fd < 0 || fstat(fd, &st) < 0 || st.st_size == 0)
                die(path);
        data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
        if (data == MAP_FAILED)
                die(path);
        fd_close(fd);
        return (struct bytes){ data, (size_t)st.st_size };
}

static size_t cut_fixed(const uint8_t *data, size_t left, size_t size, size_t offset)
{
        return MIN(size, left);
}

static struct cut cut;

/* As bundle create does it: a run of zeros is one chunk, up to 64 MiB. */
static size_t cut_content(const uint8_t *data, size_t left, size_t size, size_t offset)
{
        bool zeros;

        return cut_next(&cut, data, MIN(left, (size_t)MIB(64)), offset, &zeros);
}

static size_t cut_blocks(const uint8_t *data, size_t left, size_t size, size_t offset)
{
        size_t most = MIN(left, size * 4);
        uint64_t limit = UINT64_MAX / (MAX(size - size / 4, (size_t)BLOCK) / BLOCK);

        for (size_t at = MAX(size / 4, (size_t)BLOCK); at < most; at += BLOCK) {
                uint64_t hash = 0;

                for (size_t i = at - BLOCK; i < at; i += 8)
                        hash = (hash ^ get_le64(data + i)) * UINT64_C(0x9e3779b97f4a7c15), hash ^= hash >> 29;
                if (hash != 0 && hash < limit) /* 0: zeros, which are not cut into small pieces */
                        return at;
        }
        return most;
}

static size_t (*const cuts[])(const uint8_t *data, size_t left, size_t size, size_t offset) = { cut_fixed, cut_content,
                                                                                                cut_blocks };
static const char *const names[] = { "fixed", "content", "blocks" };

static struct chunks split(struct bytes b, size_t way, size_t size)
{
        struct chunks c = {};

        for (size_t offset = 0; offset < b.size; offset += c.all[c.n++].size) {
                if (c.n == c.room) {
                        c.room = c.room ? c.room * 2 : 1024;
                        c.all = realloc(c.all, c.room * sizeof(*c.all));
                        if (!c.all)
                                die("no memory");
                }
                c.all[c.n] = (struct chunk){ .offset = offset,
                                             .size = cuts[way](b.data + offset, b.size - offset, size, offset) };
        }
        return c;
}

static void digest(struct bytes b, struct chunks *c)
{
        for (size_t i = 0; i < c->n; i++) {
                struct chunk *k = &c->all[i];

                k->zero = is_all_zero(b.data + k->offset, k->size);
                if (!k->zero && sha256_data(b.data + k->offset, k->size, k->digest) < 0)
                        die("SHA-256 failed");
        }
}

/* Where it is, or is missing. */
static const uint8_t **find(const struct set *s, const uint8_t *key)
{
        size_t at = get_le64(key) & s->mask;

        while (s->slots[at] && memcmp(s->slots[at], key, SHA256_SIZE) != 0)
                at = (at + 1) & s->mask;
        return &s->slots[at];
}

static size_t mark_missing(const struct chunks *from, struct chunks *to)
{
        struct set s = { .mask = 1024 };
        size_t ranges = 0;
        bool before = false;

        while (s.mask < from->n * 2)
                s.mask *= 2;
        s.slots = calloc(s.mask, sizeof(*s.slots));
        if (!s.slots)
                die("no memory");
        s.mask--;
        for (size_t i = 0; i < from->n; i++)
                if (!from->all[i].zero)
                        *find(&s, from->all[i].digest) = from->all[i].digest;
        for (size_t i = 0; i < to->n; i++) {
                to->all[i].missing = !to->all[i].zero && !*find(&s, to->all[i].digest);
                /* zeros take no room in the bundle: what is before and behind them lies side by side */
                if (!to->all[i].zero) {
                        ranges += to->all[i].missing && !before;
                        before = to->all[i].missing;
                }
        }
        free(s.slots);
        return ranges;
}

struct packed {
        uint64_t bundle, fetched, content, differs;
        double pack, unpack;
        size_t missing, zeros;
};

static void pack(struct bytes b, const struct chunks *c, int level, struct packed *p)
{
        ZSTD_CCtx *cctx = ZSTD_createCCtx();
        ZSTD_DCtx *dctx = ZSTD_createDCtx();
        size_t most = 0, n;
        uint8_t *stored, *again;

        for (size_t i = 0; i < c->n; i++)
                most = MAX(most, c->all[i].size);
        stored = malloc(ZSTD_compressBound(most));
        again = malloc(most);
        if (!cctx || !dctx || !stored || !again)
                die("no memory");
        for (size_t i = 0; i < c->n; i++) {
                const struct chunk *k = &c->all[i];
                double start = now();

                p->zeros += k->zero;
                if (k->zero)
                        continue;
                n = ZSTD_compressCCtx(cctx, stored, ZSTD_compressBound(most), b.data + k->offset, k->size, level);
                p->pack += now() - start;
                start = now();
                if (ZSTD_isError(n) || ZSTD_decompressDCtx(dctx, again, most, stored, n) != k->size)
                        die("zstd failed");
                p->unpack += now() - start;
                p->bundle += n;
                p->content += k->size;
                if (k->missing) {
                        p->fetched += n;
                        p->differs += k->size;
                        p->missing++;
                }
        }
        ZSTD_freeCCtx(cctx);
        ZSTD_freeDCtx(dctx);
        free(stored);
        free(again);
}

int main(int argc, char **argv)
{
        struct chunks old, new;
        struct packed p = {};
        struct bytes a, b;
        size_t way = 0, size, ranges;
        double start, split_s, digest_s;

        if (argc != 6)
                die("usage: chunks OLD NEW fixed|content|blocks SIZE LEVEL");
        while (way < ARRAY_SIZE(names) && !streq(names[way], argv[3]))
                way++;
        size = strtoul(argv[4], NULL, 10);
        if (way == ARRAY_SIZE(names) || size < BLOCK)
                die("no such way of chunking");
        cut_init(&cut, (uint32_t)size);
        a = map(argv[1]);
        b = map(argv[2]);
        old = split(a, way, size);
        start = now();
        new = split(b, way, size);
        split_s = now() - start;
        digest(a, &old);
        start = now();
        digest(b, &new);
        digest_s = now() - start;
        ranges = mark_missing(&old, &new);
        pack(b, &new, atoi(argv[5]), &p);
        printf("{\"size\": %zu, \"chunks\": %zu, \"zeros\": %zu, \"missing\": %zu, \"ranges\": %zu, \"content\": %llu, "
               "\"bundle\": %llu, "
               "\"missing_content\": %llu, \"fetched\": %llu, \"split_s\": %.4f, \"digest_s\": %.4f, \"pack_s\": %.4f, "
               "\"unpack_s\": %.4f}\n",
               b.size, new.n, p.zeros, p.missing, ranges, (unsigned long long)p.content, (unsigned long long)p.bundle,
               (unsigned long long)p.differs, (unsigned long long)p.fetched, split_s, digest_s, p.pack, p.unpack);
        return 0;
}
