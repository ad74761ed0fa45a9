/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "image/reuse.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/crew.h"
#include "base/file.h"
#include "base/io.h"
#include "image/format.h"
#include "image/places.h"

#define THREADS_MAX  8
#define BUFFERS_MAX  MIB(16)
#define GROUP_SIZE   KIB(256) /* that is read and written as one */
#define GROUP_CHUNKS 64
#define COMPARE_FROM 8 /* of so many bytes one is the same in its place: then blocks of the others are compared */
#define IN_PLACE     UINT64_MAX

/* Chunks one behind the other, of which hints say that they are somewhere, one behind the other too. */
struct group {
        struct chunk_walk first;
        unsigned n_chunks;
        uint64_t size;
        uint64_t source; /* offset in the running slot, or IN_PLACE */
        uint64_t found;  /* bit by bit */
};

struct search {
        struct reuse *u;
        struct root_sink *root;
        const struct bundle_image *image;
        const uint8_t *index;
        struct chunk_walk target; /* goes along */
        struct group *groups;
        uint8_t **buffers; /* of each thread */
        size_t buffer_size;
        unsigned threads, slots;
        int direct; /* of the running slot; negative: none */
        struct progress *progress;
};

static void load_hint(int data, int slot, const char *suffix, struct hint *ret)
{
        _cleanup_free_ char *text = NULL;
        _cleanup_close_ int index = -1;
        const struct bundle_image *root;
        struct manifest m;
        struct stat st;
        char path[32];
        size_t size;

        snprintf(path, sizeof(path), "slots/%c%s/manifest", slot_name(slot), suffix);
        if (file_read(data, path, BUNDLE_MAX_MANIFEST, &text, &size) < 0 || manifest_parse(text, size, &m, NULL) < 0)
                return;
        root = manifest_image(&m, "root");
        snprintf(path, sizeof(path), "slots/%c%s/chunks", slot_name(slot), suffix);
        index = io_open(data, path, O_RDONLY, 0);
        if (!root || index < 0 || fstat(index, &st) < 0 || (uint64_t)st.st_size != root->n_chunks * root->entry_size)
                return;
        ret->image = *root;
        ret->index = TAKE(index, -1);
}

int reuse_look(struct reuse *u, int data, int slot, const struct range *running, int running_slot)
{
        int r;

        *u = (struct reuse){ .target.index = -1, .running.index = -1 };
        if (data < 0)
                return 0;
        load_hint(data, slot, "", &u->target);
        if (u->target.index < 0)
                load_hint(data, slot, SLOT_PART, &u->target);
        if (!running || running_slot == SLOT_NONE)
                return 0;
        load_hint(data, running_slot, "", &u->running);
        if (u->running.index < 0 || u->running.image.size > running->size)
                return 0;
        r = places_read(&u->running.image, u->running.index, &u->places);
        u->from = u->places ? running : NULL;
        return r;
}

bool reuse_has_hints(const struct reuse *u)
{
        return u->target.index >= 0 || u->from;
}

/* --- a group, in any thread */

static uint64_t block_end(uint64_t offset)
{
        return (offset + SINK_BLOCK - 1) / SINK_BLOCK * SINK_BLOCK;
}

static int read_target(const struct search *s, uint64_t offset, uint8_t *buffer, size_t size, uint8_t **ret)
{
        size_t before = offset % SINK_BLOCK;
        uint64_t start = offset - before, end = MIN(block_end(offset + size), s->root->range->size);

        *ret = buffer + before;
        return root_read(s->root, start, buffer, (size_t)(end - start));
}

/* They may be more than a buffer holds. */
static bool zeros_are_there(const struct search *s, const struct group *g, uint8_t *buffer)
{
        for (uint64_t done = 0, n; done < g->size; done += n) {
                uint8_t *at;

                n = MIN(g->size - done, (uint64_t)GROUP_SIZE);
                if (read_target(s, g->first.offset + done, buffer, (size_t)n, &at) < 0 || !is_all_zero(at, (size_t)n))
                        return false;
                if (g->first.offset + done < FIRST_BLOCK)
                        root_keep(s->root, g->first.offset + done, at, (size_t)n);
        }
        return true;
}

static uint64_t find_matches(const struct group *g, const uint8_t *content)
{
        struct chunk_walk w = g->first;
        uint64_t found = 0;

        for (unsigned i = 0; i < g->n_chunks; i++, chunk_walk_next(&w))
                if (chunk_matches(w.entry, content + (w.offset - g->first.offset), w.size))
                        found |= UINT64_C(1) << i;
        return found;
}

/* What was found in the running slot, as far as it is in one piece. The sink writes on what lies in the same block behind
 * such a piece: a chunk that begins there comes from the bundle. */
static int copy_found(const struct search *s, struct group *g, uint8_t *content, struct error *e)
{
        struct chunk_walk w = g->first;
        uint64_t start = 0, end = 0; /* of the piece, of the one before */
        size_t size = 0;
        int r = 0;

        for (unsigned i = 0; r >= 0 && i <= g->n_chunks; i++) {
                uint64_t bit = i < g->n_chunks ? UINT64_C(1) << i : 0;

                if (g->found & bit && size == 0 && end > 0 && w.offset - end < SINK_BLOCK)
                        g->found &= ~bit;
                if (g->found & bit) {
                        start = size == 0 ? w.offset : start;
                        size += w.size;
                } else if (size > 0) {
                        r = s->root->sink.write(&s->root->sink, start, content + (start - g->first.offset), size, e);
                        end = start + size;
                        size = 0;
                }
                if (i < g->n_chunks)
                        chunk_walk_next(&w);
        }
        return r;
}

/* What cannot be read, or is something else than its hint says, comes from the bundle: only a failed write is an error. */
static int try_group(void *userdata, unsigned worker, unsigned slot, struct error *e)
{
        struct search *s = userdata;
        struct group *g = &s->groups[slot];
        uint8_t *buffer = s->buffers[worker], *content, *to = buffer + g->first.offset % SINK_BLOCK;

        g->found = 0;
        if (entry_is_zeros(g->first.entry)) {
                g->found = zeros_are_there(s, g, buffer);
                return 0;
        }
        if (g->source == IN_PLACE) {
                struct chunk_walk w = g->first;

                if (read_target(s, g->first.offset, buffer, (size_t)g->size, &content) < 0)
                        return 0;
                g->found = find_matches(g, content);
                for (unsigned i = 0; i < g->n_chunks && w.offset < FIRST_BLOCK; i++, chunk_walk_next(&w))
                        if (g->found >> i & 1)
                                root_keep(s->root, w.offset, content + (w.offset - g->first.offset), w.size);
                return 0;
        }
        if (range_read(s->u->from, s->direct, g->source, (size_t)g->size, buffer, &content) < 0)
                return 0;
        g->found = find_matches(g, content);
        if (g->found)
                memmove(to, content, (size_t)g->size);
        return copy_found(s, g, to, e);
}

static int group_done(void *userdata, unsigned slot, struct error *e)
{
        struct search *s = userdata;
        const struct group *g = &s->groups[slot];
        struct chunk_walk w = g->first;
        uint64_t *sum = g->source == IN_PLACE ? &s->u->kept : &s->u->copied, before = *sum;

        for (unsigned i = 0; i < g->n_chunks; i++, chunk_walk_next(&w))
                if (g->found >> i & 1) {
                        s->u->present[w.number] = 1;
                        *sum += w.size;
                }
        if (s->progress) {
                s->progress->transfer.total = s->image->size;
                s->progress->transfer.reused += *sum - before;
        }
        return progress_report(s->progress, s->u->kept + s->u->copied, s->image->size, NULL);
}

static const struct crew_ops search_ops = { .work = try_group, .done = group_done };

/* --- which they are */

/* Both go forwards. */
static bool is_in_place(struct chunk_walk *target, const struct chunk_walk *w)
{
        while (target->entry && target->offset < w->offset)
                chunk_walk_next(target);
        if (!target->entry || target->offset != w->offset || target->size != w->size)
                return false;
        if (entry_is_zeros(w->entry) || entry_is_zeros(target->entry))
                return entry_is_zeros(w->entry) && entry_is_zeros(target->entry);
        return memcmp(target->entry + I_DIGEST, w->entry + I_DIGEST, DIGEST_SIZE) == 0;
}

/* Whether a hint says where it is. Zeros are quicker made than copied. */
static bool find_source(struct search *s, const struct chunk_walk *w, uint64_t *ret)
{
        *ret = IN_PLACE;
        if (is_in_place(&s->target, w))
                return true;
        if (!s->u->from || entry_is_zeros(w->entry))
                return false;
        *ret = places_find(s->u->places, w->entry + I_DIGEST, w->size);
        return *ret != IN_PLACE;
}

static bool goes_on(const struct search *s, const struct group *g, const struct chunk_walk *w, uint64_t source)
{
        return g->n_chunks > 0 && g->n_chunks < GROUP_CHUNKS && g->first.number + g->n_chunks == w->number &&
               !entry_is_zeros(g->first.entry) && !entry_is_zeros(w->entry) && g->size + w->size <= GROUP_SIZE &&
               source == (g->source == IN_PLACE ? IN_PLACE : g->source + g->size);
}

static int hand_group(struct search *s, struct crew *crew, struct group *g, struct error *e)
{
        unsigned slot;
        int r;

        if (g->n_chunks == 0)
                return 0;
        r = crew_next(crew, &slot, e);
        if (r < 0)
                return r;
        s->groups[slot] = *g;
        g->n_chunks = 0;
        return crew_hand(crew, e);
}

static int search_all(struct search *s, struct error *e)
{
        _cleanup_crew_ struct crew *crew = NULL;
        struct group g = {};
        struct chunk_walk w;
        int r = crew_new(&search_ops, s, s->threads, s->slots, &crew);

        for (chunk_walk_begin(&w, s->image, s->index); r >= 0 && w.entry; chunk_walk_next(&w)) {
                uint64_t source;

                if (!find_source(s, &w, &source))
                        continue;
                if (!goes_on(s, &g, &w, source)) {
                        r = hand_group(s, crew, &g, e);
                        g = (struct group){ .first = w, .source = source };
                }
                g.n_chunks++;
                g.size += w.size;
        }
        if (r >= 0)
                r = hand_group(s, crew, &g, e);
        return r < 0 ? r : crew_finish(crew, e);
}

static int walk_target(struct search *s)
{
        chunk_walk_done(&s->target);
        return s->u->target.index < 0 ? 0 : chunk_walk_begin_file(&s->target, &s->u->target.image, s->u->target.index);
}

static int search_begin(struct search *s)
{
        struct chunk_walk w;
        uint64_t same = 0;
        unsigned fit;
        int r = walk_target(s);

        if (r < 0)
                return r;
        for (chunk_walk_begin(&w, s->image, s->index); w.entry && s->target.entry; chunk_walk_next(&w))
                same += is_in_place(&s->target, &w) && !entry_is_zeros(w.entry) ? w.size : 0;
        s->root->compare = same * COMPARE_FROM >= s->image->size;
        s->buffer_size = MAX(s->image->chunk_size, (uint32_t)GROUP_SIZE) + 2 * SINK_BLOCK;
        fit = (unsigned)MAX(BUFFERS_MAX / s->buffer_size, UINT64_C(1));
        s->threads = io_is_system() ? MIN(2 * crew_processors(THREADS_MAX), MIN(fit, (unsigned)THREADS_MAX)) : 0;
        s->slots = MAX(2 * s->threads, 1U);
        s->groups = calloc(s->slots, sizeof(*s->groups));
        s->buffers = calloc(MAX(s->threads, 1U), sizeof(*s->buffers));
        if (!s->groups || !s->buffers)
                return -ENOMEM;
        for (unsigned i = 0; i < MAX(s->threads, 1U); i++)
                if (!(s->buffers[i] = aligned_alloc(DIRECT_ALIGNMENT, s->buffer_size)))
                        return -ENOMEM;
        return walk_target(s);
}

static void search_end(struct search *s)
{
        for (unsigned i = 0; s->buffers && i < MAX(s->threads, 1U); i++)
                free(s->buffers[i]);
        free(s->buffers);
        free(s->groups);
        chunk_walk_done(&s->target);
}

int reuse_chunks(struct reuse *u, struct root_sink *root, const struct bundle_image *image, const uint8_t *index,
                 struct progress *progress, struct error *e)
{
        _cleanup_close_ int direct = u->from ? range_open_direct(u->from, O_RDONLY) : -1;
        struct search s = {
                .u = u, .root = root, .image = image, .index = index, .target.fd = -1, .direct = direct, .progress = progress
        };
        int r = 0;

        u->present = calloc(MAX(image->n_chunks, UINT64_C(1)), 1);
        if (!u->present)
                return -ENOMEM;
        root->sink.present = u->present;
        if (!reuse_has_hints(u))
                return 0;
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
        fd_close(u->target.index);
        fd_close(u->running.index);
        places_free(u->places);
        free(u->present);
        *u = (struct reuse){ .target.index = -1, .running.index = -1 };
}
