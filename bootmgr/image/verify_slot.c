/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whether a root holds what its chunk index says: read from the device, hashed by as many threads as there
 * are processors, since hashing is what takes the time; past the page cache, since what is on the device is what counts. */
#include <fcntl.h>
#include <pthread.h>

#include "base/crew.h"
#include "base/file.h"
#include "base/io.h"
#include "base/sha256.h"
#include "image/format.h"
#include "image/install.h"
#include "slot/kinds.h"

#define THREADS_MAX 8

#define MEMORY_MAX MIB(16)  /* of all buffers; with large chunks there are fewer threads */
#define PIECE_SIZE KIB(256) /* that is read as one; a chunk may be larger */

struct check {
        const struct range *root;
        int direct; /* the same without the page cache, or negative: the file system has no such thing */
        const struct bundle_image *image;
        pthread_mutex_t lock;
        struct chunk_walk next; /* chunk to be taken by the next free thread; with the lock */
        uint64_t done;          /* bytes; atomic */
        uint64_t first_bad;     /* offset of a chunk; UINT64_MAX: none; with the lock */
        int error;              /* of reading; atomic */
        struct progress *progress;
};

/* Chunks one behind the other, or one of zeros. */
struct piece {
        struct chunk_walk first;
        uint64_t n_chunks, size;
};

static bool take_piece(struct check *c, struct piece *p)
{
        struct chunk_walk *w = &c->next;

        pthread_mutex_lock(&c->lock);
        *p = (struct piece){ .first = *w };
        while (w->entry && c->first_bad == UINT64_MAX && p->n_chunks < CHUNKS_AT_ONCE &&
               (p->n_chunks == 0 || p->size + w->size <= PIECE_SIZE)) {
                p->size += w->size;
                p->n_chunks++;
                chunk_walk_next(w);
        }
        pthread_mutex_unlock(&c->lock);
        return p->n_chunks > 0;
}

static void found_bad(struct check *c, uint64_t offset)
{
        pthread_mutex_lock(&c->lock);
        c->first_bad = MIN(c->first_bad, offset);
        pthread_mutex_unlock(&c->lock);
}

/* There may be more of them than a buffer holds. */
static int check_zeros(struct check *c, uint64_t offset, uint64_t size, uint8_t *buffer)
{
        for (uint64_t done = 0, n; done < size; done += n) {
                uint8_t *content;
                int r;

                n = MIN(size - done, PIECE_SIZE);
                r = range_read(c->root, c->direct, offset + done, (size_t)n, buffer, &content);
                if (r < 0)
                        return r;
                if (!is_all_zero(content, (size_t)n)) {
                        found_bad(c, offset);
                        return 0;
                }
        }
        return 0;
}

static int check_piece(struct check *c, const struct piece *p, uint8_t *buffer)
{
        struct chunk_walk w = p->first;
        uint8_t *content;
        uint64_t good;
        int r;

        if (p->n_chunks == 1 && entry_is_zeros(w.entry))
                return check_zeros(c, w.offset, p->size, buffer);
        r = range_read(c->root, c->direct, w.offset, (size_t)p->size, buffer, &content);
        if (r < 0)
                return r;
        good = chunks_match(p->first, p->n_chunks, content);
        for (uint64_t i = 0; i < p->n_chunks; i++, chunk_walk_next(&w))
                if (!(good >> i & 1)) {
                        found_bad(c, w.offset);
                        break;
                }
        return 0;
}

static int report_bytes(struct check *c)
{
        uint64_t done = __atomic_load_n(&c->done, __ATOMIC_RELAXED);

        if (c->progress)
                c->progress->transfer.total = c->image->size;
        return progress_report(c->progress, done, c->image->size, NULL);
}

static size_t buffer_size(const struct check *c)
{
        return MAX(c->image->chunk_size, (uint32_t)PIECE_SIZE) + 2 * DIRECT_ALIGNMENT;
}

static int check_loop(struct check *c, bool report)
{
        _cleanup_free_ uint8_t *buffer = aligned_alloc(DIRECT_ALIGNMENT, buffer_size(c));
        int r = buffer ? 0 : -ENOMEM;
        struct piece p;

        while (r >= 0 && __atomic_load_n(&c->error, __ATOMIC_RELAXED) == 0 && take_piece(c, &p)) {
                r = check_piece(c, &p, buffer);
                __atomic_fetch_add(&c->done, p.size, __ATOMIC_RELAXED);
                if (r >= 0 && report)
                        r = report_bytes(c);
        }
        if (r < 0)
                __atomic_store_n(&c->error, r, __ATOMIC_RELAXED);
        return r;
}

static void *check_thread(void *userdata)
{
        check_loop(userdata, false);
        return NULL;
}

/* The calling thread takes part, and is the only one that reports. */
static int check_root(struct check *c, const uint8_t *index)
{
        int processors = (int)MAX(crew_processors(MIN(THREADS_MAX, MEMORY_MAX / buffer_size(c))), 1U);
        _cleanup_close_ int direct = range_open_direct(c->root, O_RDONLY);
        pthread_t threads[THREADS_MAX];
        int n = 0;

        pthread_mutex_init(&c->lock, NULL);
        chunk_walk_begin(&c->next, c->image, index);
        c->first_bad = UINT64_MAX;
        c->direct = direct;
        posix_fadvise(c->root->fd, (off_t)c->root->offset, (off_t)c->image->size, POSIX_FADV_DONTNEED);
        while (n + 1 < processors && pthread_create(&threads[n], NULL, check_thread, c) == 0)
                n++;
        check_loop(c, true);
        while (n > 0)
                pthread_join(threads[--n], NULL);
        pthread_mutex_destroy(&c->lock);
        /* The last chunk may have been another thread's. */
        return c->error < 0 || c->first_bad != UINT64_MAX ? c->error : report_bytes(c);
}

int install_verify(const struct bundle *b, const struct install_target *t, struct progress *progress, struct error *e)
{
        const struct manifest *m = bundle_manifest(b);
        uint64_t size;
        int r = 0;

        for (size_t i = 0; i < m->n_images && r >= 0; i++) {
                struct check c = { .root = t->root, .image = &m->images[i], .progress = progress };

                if (!streq(c.image->name, "root"))
                        continue;
                r = check_root(&c, bundle_chunk_index(b, i, &size));
                if (r < 0)
                        fail_errno(e, r, "cannot read the root back");
                else if (c.first_bad != UINT64_MAX)
                        r = fail(e, -EBADMSG, &kind_content, "the root reads back other than written, first at offset %llu",
                                 (unsigned long long)c.first_bad);
        }
        return r;
}

static int altered(struct error *e, int slot, const char *why)
{
        return fail(e, -EBADMSG, &kind_previous_altered, "slot %c cannot be shown to hold what was installed: %s",
                    slot_name(slot), why);
}

/* The manifest that the record names by its digest, and the index that this manifest names. */
static int load_index(int data, int slot, const uint8_t digest[static DIGEST_SIZE], struct manifest *m, char **ret_index,
                      struct error *e)
{
        _cleanup_free_ char *text = NULL, *index = NULL;
        const struct bundle_image *root;
        uint8_t found[DIGEST_SIZE];
        char path[32];
        uint64_t bad;
        size_t size;
        int r;

        snprintf(path, sizeof(path), "slots/%c/manifest", slot_name(slot));
        r = file_read(data, path, BUNDLE_MAX_MANIFEST, &text, &size);
        if (r < 0)
                return altered(e, slot, "the manifest kept on data is missing");
        r = manifest_parse(text, size, m, NULL);
        if (r < 0 || memcmp(m->digest, digest, DIGEST_SIZE) != 0)
                return altered(e, slot, "the manifest kept on data is another one");
        root = manifest_image(m, "root");
        snprintf(path, sizeof(path), "slots/%c/chunks", slot_name(slot));
        r = root ? file_read(data, path, INDEX_MAX, &index, &size) : -ENOENT;
        if (r < 0 || size != root->n_chunks * root->entry_size || sha256_data(index, size, found) < 0 ||
            memcmp(found, root->index_digest, DIGEST_SIZE) != 0 || !index_is_complete(root, (const uint8_t *)index, &bad))
                return altered(e, slot, "the chunk index kept on data is missing or another one");
        *ret_index = TAKE_PTR(index);
        return 0;
}

int install_check_slot(const struct range *root, int data, int slot, const uint8_t digest[static DIGEST_SIZE],
                       struct progress *progress, struct error *e)
{
        _cleanup_free_ char *index = NULL;
        struct manifest m;
        struct check c = { .root = root, .progress = progress };
        char where[64];
        int r;

        r = data < 0 ? altered(e, slot, "there is no data directory") : load_index(data, slot, digest, &m, &index, e);
        if (r < 0)
                return r;
        c.image = manifest_image(&m, "root");
        if (c.image->size > root->size)
                return altered(e, slot, "its partition is smaller than its image");
        r = check_root(&c, (const uint8_t *)index);
        if (r < 0)
                return fail_errno(e, r, "cannot read slot %c", slot_name(slot));
        if (c.first_bad == UINT64_MAX)
                return 0;
        snprintf(where, sizeof(where), "its root differs, first at offset %llu", (unsigned long long)c.first_bad);
        return altered(e, slot, where);
}
