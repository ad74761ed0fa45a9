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

struct check {
        const struct range *root;
        int direct; /* the same without the page cache, or negative: the file system has no such thing */
        const struct bundle_image *image;
        const uint8_t *index;
        uint64_t next;      /* chunk to be taken by the next free thread; atomic */
        uint64_t done;      /* atomic */
        uint64_t first_bad; /* UINT64_MAX: none; atomic */
        int error;          /* of reading; atomic */
        struct progress *progress;
};

/* The index says of a chunk of zeros that nothing is stored of it: then there is nothing to hash. */
static int compare_chunk(const uint8_t *entry, const uint8_t *data, uint32_t size, bool *same)
{
        uint8_t digest[DIGEST_SIZE];
        int r = 0;

        if (get_le32(entry + I_STORED) == 0) {
                *same = is_all_zero(data, size);
                return 0;
        }
        r = sha256_data(data, size, digest);
        *same = r >= 0 && memcmp(digest, entry + I_DIGEST, DIGEST_SIZE) == 0;
        return r;
}

static int check_chunk(struct check *c, uint64_t number, uint8_t *buffer)
{
        uint32_t size = chunk_length(c->image, number);
        uint64_t offset = c->root->offset + number * c->image->chunk_size;
        bool aligned = ((offset | size) & (DIRECT_ALIGNMENT - 1)) == 0, same;
        int r;

        r = io_pread(aligned && c->direct >= 0 ? c->direct : c->root->fd, buffer, size, offset);
        if (r >= 0)
                r = compare_chunk(c->index + number * INDEX_ENTRY, buffer, size, &same);
        if (r < 0)
                return r;
        if (!same && number < __atomic_load_n(&c->first_bad, __ATOMIC_RELAXED))
                __atomic_store_n(&c->first_bad, number, __ATOMIC_RELAXED);
        return 0;
}

static int report_bytes(struct check *c)
{
        uint64_t done = __atomic_load_n(&c->done, __ATOMIC_RELAXED) * c->image->chunk_size;

        if (c->progress)
                c->progress->transfer.total = c->image->size;
        return progress_report(c->progress, MIN(done, c->image->size), c->image->size, NULL);
}

static int check_loop(struct check *c, bool report)
{
        _cleanup_free_ uint8_t *buffer = aligned_alloc(DIRECT_ALIGNMENT, c->image->chunk_size);
        int r = buffer ? 0 : -ENOMEM;

        while (r >= 0 && __atomic_load_n(&c->first_bad, __ATOMIC_RELAXED) == UINT64_MAX &&
               __atomic_load_n(&c->error, __ATOMIC_RELAXED) == 0) {
                uint64_t number = __atomic_fetch_add(&c->next, 1, __ATOMIC_RELAXED);

                if (number >= c->image->n_chunks)
                        break;
                r = check_chunk(c, number, buffer);
                __atomic_fetch_add(&c->done, 1, __ATOMIC_RELAXED);
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
static int check_root(struct check *c)
{
        int processors = (int)crew_processors(THREADS_MAX);
        _cleanup_close_ int direct = range_open_direct(c->root, O_RDONLY);
        pthread_t threads[THREADS_MAX];
        int n = 0;

        c->first_bad = UINT64_MAX;
        c->direct = direct;
        posix_fadvise(c->root->fd, (off_t)c->root->offset, (off_t)c->image->size, POSIX_FADV_DONTNEED);
        while (n + 1 < processors && pthread_create(&threads[n], NULL, check_thread, c) == 0)
                n++;
        check_loop(c, true);
        while (n > 0)
                pthread_join(threads[--n], NULL);
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
                c.index = bundle_chunk_index(b, i, &size);
                r = check_root(&c);
                if (r < 0)
                        fail_errno(e, r, "cannot read the root back");
                else if (c.first_bad != UINT64_MAX)
                        r = fail(e, -EBADMSG, &kind_content, "the root reads back other than written, first at offset %llu",
                                 (unsigned long long)(c.first_bad * c.image->chunk_size));
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
        if (r < 0 || size != root->n_chunks * INDEX_ENTRY || sha256_data(index, size, found) < 0 ||
            memcmp(found, root->index_digest, DIGEST_SIZE) != 0)
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
        c.index = (const uint8_t *)index;
        if (c.image->size > root->size)
                return altered(e, slot, "its partition is smaller than its image");
        r = check_root(&c);
        if (r < 0)
                return fail_errno(e, r, "cannot read slot %c", slot_name(slot));
        if (c.first_bad == UINT64_MAX)
                return 0;
        snprintf(where, sizeof(where), "its root differs, first at offset %llu",
                 (unsigned long long)(c.first_bad * c.image->chunk_size));
        return altered(e, slot, where);
}
