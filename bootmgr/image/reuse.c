/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "image/reuse.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/crew.h"
#include "base/file.h"
#include "base/io.h"
#include "image/alike.h"
#include "image/format.h"
#include "image/places.h"

#define THREADS_MAX  8
#define BUFFERS_MAX  MIB(4)   /* beside those of the extraction */
#define GROUP_SIZE   KIB(256) /* that is read and written as one */
#define GROUP_CHUNKS CHUNKS_AT_ONCE
#define COMPARE_FROM 8 /* of so many bytes one is the same in its place: then blocks of the others are compared */
#define IN_PLACE     UINT64_MAX
#define TURN         (USEC_PER_SEC / 10) /* of waiting for the end */

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
        bool alike;               /* everything is looked for in its place */
        struct group *groups;
        uint8_t **buffers; /* of each thread */
        size_t buffer_size;
        unsigned threads, slots;
        int direct; /* of the running slot; negative: none */
        struct progress *progress;
        uint8_t *found; /* of each chunk */
        pthread_t thread;
        bool beside, stop; /* it has a thread; it is to end, atomic */
        int result;        /* atomic; -EAGAIN: it is at work */
        struct error error;
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

void reuse_guess(struct reuse *u, const struct range *target, const struct range *running, const struct bundle_image *image,
                 const uint8_t *index)
{
        u->alike = u->target.index < 0 && slot_is_alike(target, image, index);
        if (running && !u->from && slot_is_alike(running, image, index))
                u->from = running;
}

bool reuse_has_hints(const struct reuse *u)
{
        return u->target.index >= 0 || u->alike || u->from;
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
                        r = s->root->sink.write(&s->root->sink, start, content + (start - g->first.offset), size, NULL, e);
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
                g->found = chunks_match(g->first, g->n_chunks, content);
                for (unsigned i = 0; i < g->n_chunks && w.offset < FIRST_BLOCK; i++, chunk_walk_next(&w))
                        if (g->found >> i & 1)
                                root_keep(s->root, w.offset, content + (w.offset - g->first.offset), w.size);
                return 0;
        }
        if (range_read(s->u->from, s->direct, g->source, (size_t)g->size, buffer, &content) < 0)
                return 0;
        g->found = chunks_match(g->first, g->n_chunks, content);
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
                        s->found[w.number] = 1;
                        __atomic_add_fetch(sum, w.size, __ATOMIC_RELAXED);
                }
        if (s->progress) {
                s->progress->transfer.total = s->image->size;
                s->progress->transfer.reused += *sum - before;
        }
        if (__atomic_load_n(&s->stop, __ATOMIC_RELAXED))
                return -ECANCELED;
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
        if (s->alike || is_in_place(&s->target, w))
                return true;
        if (!s->u->from || entry_is_zeros(w->entry))
                return false;
        if (!s->u->places) {
                *ret = w->offset + w->size <= s->u->from->size ? w->offset : IN_PLACE;
                return *ret != IN_PLACE;
        }
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

                if (s->found[w.number] || !find_source(s, &w, &source))
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

/* What hints name, and how much of it would lie in its place. */
static uint64_t mark_named(struct search *s)
{
        struct chunk_walk w;
        uint64_t same = 0, source;

        for (chunk_walk_begin(&w, s->image, s->index); w.entry; chunk_walk_next(&w)) {
                if (!find_source(s, &w, &source))
                        continue;
                s->u->present[w.number] = 1;
                s->u->named += w.size;
                same += source == IN_PLACE && !entry_is_zeros(w.entry) ? w.size : 0;
        }
        return same;
}

static int search_prepare(struct search *s)
{
        unsigned fit;
        int r = walk_target(s);

        if (r < 0)
                return r;
        s->root->compare = mark_named(s) * COMPARE_FROM >= s->image->size;
        s->buffer_size = MAX(s->image->chunk_size, (uint32_t)GROUP_SIZE) + 2 * SINK_BLOCK;
        fit = (unsigned)MAX(BUFFERS_MAX / s->buffer_size, UINT64_C(1));
        s->threads = io_is_system() ? MIN(2 * crew_processors(THREADS_MAX), MIN(fit, (unsigned)THREADS_MAX)) : 0;
        s->slots = MAX(2 * s->threads, 1U);
        s->groups = calloc(s->slots, sizeof(*s->groups));
        s->buffers = calloc(MAX(s->threads, 1U), sizeof(*s->buffers));
        s->found = calloc(MAX(s->image->n_chunks, UINT64_C(1)), 1);
        if (!s->groups || !s->buffers || !s->found)
                return -ENOMEM;
        for (unsigned i = 0; i < MAX(s->threads, 1U); i++)
                if (!(s->buffers[i] = aligned_alloc(DIRECT_ALIGNMENT, s->buffer_size)))
                        return -ENOMEM;
        return walk_target(s);
}

/* What takes room. */
static void free_buffers(struct search *s)
{
        for (unsigned i = 0; s->buffers && i < MAX(s->threads, 1U); i++)
                free(s->buffers[i]);
        free(TAKE_PTR(s->buffers));
}

static struct search *search_free(struct search *s)
{
        if (!s)
                return NULL;
        free_buffers(s);
        free(s->groups);
        free(s->found);
        chunk_walk_done(&s->target);
        fd_close(s->direct);
        error_done(&s->error);
        free(s);
        return NULL;
}

static void *search(void *userdata)
{
        struct search *s = userdata;
        uint64_t start = now_monotonic();
        int r = search_all(s, &s->error);

        /* What is not in its place after all: that of an install that was cut names everything. */
        if (r >= 0 && (s->u->target.index >= 0 || s->alike) && s->u->from) {
                chunk_walk_done(&s->target);
                s->alike = false;
                r = search_all(s, &s->error);
        }
        free_buffers(s);
        s->u->time = now_monotonic() - start;
        __atomic_store_n(&s->result, r, __ATOMIC_RELEASE);
        return NULL;
}

/* Signals are for who reads the bundle. Without a thread it takes longer. */
static void start(struct search *s, bool beside)
{
        sigset_t all, before;

        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        s->beside = beside && s->threads > 0 && pthread_create(&s->thread, NULL, search, s) == 0;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (!s->beside)
                search(s);
}

int reuse_begin(struct reuse *u, struct root_sink *root, const struct bundle_image *image, const uint8_t *index, bool beside,
                struct progress *progress, struct error *e)
{
        struct search *s;
        int r;

        u->present = calloc(MAX(image->n_chunks, UINT64_C(1)), 1);
        if (!u->present)
                return -ENOMEM;
        root->sink.present = u->present;
        if (!reuse_has_hints(u))
                return 0;
        u->search = s = calloc(1, sizeof(*s));
        if (!s)
                return -ENOMEM;
        *s = (struct search){
                .u = u, .root = root, .image = image, .index = index, .target.fd = -1, .alike = u->alike, .result = -EAGAIN
        };
        s->direct = u->from ? range_open_direct(u->from, O_RDONLY) : -1;
        s->progress = beside ? NULL : progress;
        r = search_prepare(s);
        if (r < 0) {
                u->search = search_free(s);
                return r;
        }
        start(s, beside);
        return s->beside ? 0 : reuse_end(u, 0, NULL, 0, 0, e);
}

int reuse_result(const struct reuse *u)
{
        return u->search ? __atomic_load_n(&u->search->result, __ATOMIC_ACQUIRE) : 0;
}

uint64_t reuse_found(const struct reuse *u)
{
        return __atomic_load_n(&u->kept, __ATOMIC_RELAXED) + __atomic_load_n(&u->copied, __ATOMIC_RELAXED);
}

static void stop(struct search *s)
{
        __atomic_store_n(&s->stop, true, __ATOMIC_RELAXED);
}

static bool has_ended(struct search *s)
{
        uint64_t until = now_monotonic() + TURN;
        struct timespec t = { .tv_sec = (time_t)(until / USEC_PER_SEC), .tv_nsec = (long)(until % USEC_PER_SEC) * 1000 };

        return !s->beside || pthread_clockjoin_np(s->thread, NULL, CLOCK_MONOTONIC, &t) != ETIMEDOUT;
}

int reuse_end(struct reuse *u, int r, struct progress *progress, uint64_t done, uint64_t total, struct error *e)
{
        struct search *s = u->search;

        if (!s)
                return r;
        for (;;) {
                if (r < 0)
                        stop(s);
                if (has_ended(s))
                        break;
                if (r >= 0)
                        r = progress_report(progress, done, total, NULL);
        }
        if (r >= 0)
                r = progress_report(progress, done, total, NULL);
        /* What the work beside it was ended by; not the echo of its own end. */
        if (s->result < 0 && s->result != -EAGAIN && !(s->stop && s->result == -ECANCELED)) {
                r = s->result;
                if (e && !e->code)
                        *e = TAKE(s->error, ((struct error){}));
        }
        /* An install that was cut early had written little of what its hint says. */
        s->root->compare &= u->kept * COMPARE_FROM >= s->image->size;
        for (uint64_t i = 0; i < s->image->n_chunks; i++)
                u->present[i] = s->found[i] || (s->beside && !u->present[i]);
        u->search = search_free(s);
        return r;
}

void reuse_done(struct reuse *u)
{
        if (u->search)
                (void)!reuse_end(u, -ECANCELED, NULL, 0, 0, NULL);
        fd_close(u->target.index);
        fd_close(u->running.index);
        places_free(u->places);
        free(u->present);
        *u = (struct reuse){ .target.index = -1, .running.index = -1 };
}
