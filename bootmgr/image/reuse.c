/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "image/reuse.h"

#include <fcntl.h>

#include "base/crew.h"
#include "base/file.h"
#include "base/io.h"
#include "base/sha256.h"
#include "image/format.h"

#define THREADS_MAX  8
#define BUFFERS_MAX  MIB(16)
#define COMPARE_FROM 8 /* of so many chunks one is the same in its place: then blocks of the others are compared */

/* A chunk of which a hint says that it is somewhere. */
struct candidate {
        uint64_t number;
        uint64_t source; /* chunk of the running slot, or IN_PLACE */
        bool found;
};
#define IN_PLACE UINT64_MAX

struct search {
        struct reuse *u;
        struct root_sink *root;
        const struct bundle_image *image;
        const uint8_t *index;
        struct candidate *candidates;
        uint8_t **buffers; /* of each thread */
        unsigned threads, slots;
        int direct; /* of the running slot; negative: none */
        struct progress *progress;
};

static const uint8_t *entry_of(const uint8_t *index, uint64_t number)
{
        return index + number * INDEX_ENTRY;
}

static void load_hint(int data, int slot, const char *suffix, struct hint *ret)
{
        _cleanup_free_ char *text = NULL, *index = NULL;
        const struct bundle_image *root;
        struct manifest m;
        char path[32];
        size_t size;

        snprintf(path, sizeof(path), "slots/%c%s/manifest", slot_name(slot), suffix);
        if (file_read(data, path, BUNDLE_MAX_MANIFEST, &text, &size) < 0 || manifest_parse(text, size, &m, NULL) < 0)
                return;
        root = manifest_image(&m, "root");
        snprintf(path, sizeof(path), "slots/%c%s/chunks", slot_name(slot), suffix);
        if (!root || file_read(data, path, INDEX_MAX, &index, &size) < 0 || size != root->n_chunks * INDEX_ENTRY)
                return;
        ret->image = *root;
        ret->index = (uint8_t *)TAKE_PTR(index);
}

static int by_digest(const void *a, const void *b, void *userdata)
{
        const struct hint *h = userdata;

        return memcmp(entry_of(h->index, *(const uint64_t *)a), entry_of(h->index, *(const uint64_t *)b), DIGEST_SIZE);
}

/* By digest, so that a chunk is found wherever it lies. */
static int sort_hint(struct hint *h)
{
        h->order = calloc(h->image.n_chunks, sizeof(*h->order));
        if (!h->order)
                return -ENOMEM;
        for (uint64_t i = 0; i < h->image.n_chunks; i++)
                h->order[i] = i;
        qsort_r(h->order, h->image.n_chunks, sizeof(*h->order), by_digest, h);
        return 0;
}

/* A chunk of this digest, or IN_PLACE for none. */
static uint64_t find_digest(const struct hint *h, const uint8_t *digest)
{
        uint64_t low = 0, high = h->order ? h->image.n_chunks : 0;

        while (low < high) {
                uint64_t middle = low + (high - low) / 2;
                int order = memcmp(entry_of(h->index, h->order[middle]), digest, DIGEST_SIZE);

                if (order == 0)
                        return h->order[middle];
                if (order < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        return IN_PLACE;
}

int reuse_look(struct reuse *u, int data, int slot, const struct range *running, int running_slot)
{
        *u = (struct reuse){};
        if (data < 0)
                return 0;
        load_hint(data, slot, "", &u->target);
        if (!u->target.index)
                load_hint(data, slot, SLOT_PART, &u->target);
        if (!running || running_slot == SLOT_NONE)
                return 0;
        load_hint(data, running_slot, "", &u->running);
        if (!u->running.index || u->running.image.size > running->size)
                return 0;
        u->from = running;
        return sort_hint(&u->running);
}

bool reuse_has_hints(const struct reuse *u)
{
        return u->target.index || u->from;
}

static bool matches(const uint8_t *entry, const uint8_t *data, uint32_t size)
{
        uint8_t digest[DIGEST_SIZE];

        if (get_le32(entry + I_STORED) == 0)
                return is_all_zero(data, size);
        return sha256_data(data, size, digest) >= 0 && memcmp(digest, entry + I_DIGEST, DIGEST_SIZE) == 0;
}

static int read_running(const struct search *s, uint64_t number, uint8_t *buffer, uint32_t size)
{
        uint64_t at = s->u->from->offset + number * s->image->chunk_size;
        bool aligned = ((at | size) & (DIRECT_ALIGNMENT - 1)) == 0;

        return io_pread(aligned && s->direct >= 0 ? s->direct : s->u->from->fd, buffer, size, at);
}

/* What cannot be read, or is something else than its hint says, comes from the bundle: only a failed write is an error. */
static int try_candidate(void *userdata, unsigned worker, unsigned slot, struct error *e)
{
        struct search *s = userdata;
        struct candidate *c = &s->candidates[slot];
        const uint8_t *entry = entry_of(s->index, c->number);
        uint64_t offset = c->number * s->image->chunk_size;
        uint32_t size = chunk_length(s->image, c->number);
        uint8_t *buffer = s->buffers[worker];
        int r;

        r = c->source == IN_PLACE ? root_read(s->root, offset, buffer, size) : read_running(s, c->source, buffer, size);
        c->found = r >= 0 && matches(entry, buffer, size);
        if (!c->found)
                return 0;
        if (c->source != IN_PLACE)
                return s->root->sink.write(&s->root->sink, offset, buffer, size, e);
        if (offset == 0) { /* it was zeroed, and comes back last */
                s->root->first_size = MIN(size, (uint32_t)FIRST_BLOCK);
                memcpy(s->root->first, buffer, s->root->first_size);
        }
        return 0;
}

static int candidate_done(void *userdata, unsigned slot, struct error *e)
{
        struct search *s = userdata;
        const struct candidate *c = &s->candidates[slot];
        uint32_t size = chunk_length(s->image, c->number);

        if (!c->found)
                return 0;
        s->u->present[c->number] = 1;
        *(c->source == IN_PLACE ? &s->u->kept : &s->u->copied) += size;
        if (s->progress) {
                s->progress->transfer.total = s->image->size;
                s->progress->transfer.reused += size;
        }
        return progress_report(s->progress, s->u->kept + s->u->copied, s->image->size, NULL);
}

static const struct crew_ops search_ops = { .work = try_candidate, .done = candidate_done };

static bool is_in_place(const struct search *s, uint64_t number)
{
        const struct hint *h = &s->u->target;

        return h->index && number < h->image.n_chunks && h->image.chunk_size == s->image->chunk_size &&
               memcmp(entry_of(h->index, number), entry_of(s->index, number), DIGEST_SIZE) == 0;
}

/* Whether a hint says where it is. Zeros are quicker made than copied. */
static bool find_candidate(const struct search *s, uint64_t number, struct candidate *ret)
{
        *ret = (struct candidate){ .number = number, .source = IN_PLACE };
        if (is_in_place(s, number))
                return true;
        if (!s->u->from || s->u->running.image.chunk_size != s->image->chunk_size ||
            get_le32(entry_of(s->index, number) + I_STORED) == 0)
                return false;
        ret->source = find_digest(&s->u->running, entry_of(s->index, number));
        /* Its last chunk is shorter, and cannot be the same as a whole one. */
        return ret->source != IN_PLACE && chunk_length(&s->u->running.image, ret->source) == chunk_length(s->image, number);
}

static bool is_like_before(const struct search *s)
{
        uint64_t same = 0;

        for (uint64_t i = 0; i < s->image->n_chunks; i++)
                same += is_in_place(s, i) && get_le32(entry_of(s->index, i) + I_STORED) > 0;
        return same * COMPARE_FROM >= s->image->n_chunks;
}

static int search_begin(struct search *s)
{
        unsigned fit = (unsigned)MAX(BUFFERS_MAX / s->image->chunk_size, UINT64_C(1));

        s->threads = io_is_system() ? MIN(2 * crew_processors(THREADS_MAX), MIN(fit, (unsigned)THREADS_MAX)) : 0;
        s->slots = MAX(2 * s->threads, 1U);
        s->candidates = calloc(s->slots, sizeof(*s->candidates));
        s->buffers = calloc(MAX(s->threads, 1U), sizeof(*s->buffers));
        if (!s->candidates || !s->buffers)
                return -ENOMEM;
        for (unsigned i = 0; i < MAX(s->threads, 1U); i++)
                if (!(s->buffers[i] = aligned_alloc(DIRECT_ALIGNMENT, s->image->chunk_size)))
                        return -ENOMEM;
        return 0;
}

static void search_end(struct search *s)
{
        for (unsigned i = 0; s->buffers && i < MAX(s->threads, 1U); i++)
                free(s->buffers[i]);
        free(s->buffers);
        free(s->candidates);
}

static int search_all(struct search *s, struct error *e)
{
        _cleanup_crew_ struct crew *crew = NULL;
        int r = crew_new(&search_ops, s, s->threads, s->slots, &crew);

        for (uint64_t i = 0; r >= 0 && i < s->image->n_chunks; i++) {
                struct candidate found;
                unsigned slot;

                if (!find_candidate(s, i, &found))
                        continue;
                r = crew_next(crew, &slot, e);
                if (r < 0)
                        break;
                s->candidates[slot] = found;
                r = crew_hand(crew, e);
        }
        return r < 0 ? r : crew_finish(crew, e);
}

int reuse_chunks(struct reuse *u, struct root_sink *root, const struct bundle_image *image, const uint8_t *index,
                 struct progress *progress, struct error *e)
{
        _cleanup_close_ int direct = u->from ? range_open_direct(u->from, O_RDONLY) : -1;
        struct search s = { .u = u, .root = root, .image = image, .index = index, .direct = direct, .progress = progress };
        int r = 0;

        u->present = calloc(MAX(image->n_chunks, UINT64_C(1)), 1);
        if (!u->present)
                return -ENOMEM;
        root->sink.present = u->present;
        if (!reuse_has_hints(u))
                return 0;
        root->compare = is_like_before(&s);
        r = search_begin(&s);
        if (r >= 0)
                r = search_all(&s, e);
        /* An install that was cut early had written little of what its hint says. */
        root->compare &= u->kept * COMPARE_FROM >= image->size;
        search_end(&s);
        return r;
}

void reuse_done(struct reuse *u)
{
        free(u->target.index);
        free(u->running.index);
        free(u->running.order);
        free(u->present);
        *u = (struct reuse){};
}
