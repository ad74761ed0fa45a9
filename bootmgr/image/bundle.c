/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reading a bundle, strictly forwards: header, signatures judged over the manifest's bytes, only then the
 * manifest. What follows is extract.c's. */
#include <fcntl.h>
#include <sys/mman.h>

#include "base/io.h"
#include "base/log.h"
#include "base/sha256.h"
#include "image/format.h"
#include "image/source.h"
#include "slot/kinds.h"

#define INDEX_IN_MEMORY KIB(128) /* a larger one is better kept in a file */

int bundle_damaged(struct error *e, const char *what)
{
        fail(e, -EBADMSG, &kind_bundle_invalid, "the bundle's %s", what);
        return fail_hint(e, "fetch or copy it again");
}

void header_encode(const struct header *h, uint8_t bytes[static HEADER_SIZE])
{
        memset(bytes, 0, HEADER_SIZE);
        memcpy(bytes + H_MAGIC, BUNDLE_MAGIC, 8);
        put_le16(bytes + H_MAJOR, (uint16_t)h->major);
        put_le16(bytes + H_MINOR, BUNDLE_MINOR);
        put_le32(bytes + H_MANIFEST, h->manifest);
        put_le32(bytes + H_SIGNATURES, h->signatures);
        put_le64(bytes + H_INDEX, h->index);
        put_le64(bytes + H_TOTAL, h->total);
        put_le32(bytes + H_CRC, crc32c(0, bytes, H_CRC));
}

int header_decode(const uint8_t bytes[static HEADER_SIZE], struct header *ret, struct error *e)
{
        struct header h = {
                .major = get_le16(bytes + H_MAJOR),
                .manifest = get_le32(bytes + H_MANIFEST),
                .signatures = get_le32(bytes + H_SIGNATURES),
                .index = get_le64(bytes + H_INDEX),
                .total = get_le64(bytes + H_TOTAL),
        };

        if (memcmp(bytes + H_MAGIC, BUNDLE_MAGIC, 8) != 0)
                return fail(e, -EBADMSG, &kind_bundle_invalid, "this is not a bundle: it does not begin with %s",
                            BUNDLE_MAGIC);
        if (crc32c(0, bytes, H_CRC) != get_le32(bytes + H_CRC))
                return bundle_damaged(e, "header is damaged");
        if (!format_is_known(h.major) && h.major != BUNDLE_DELTA)
                return fail(e, -EPROTONOSUPPORT, &kind_bundle_incompatible,
                            "the bundle has format %u, this bootmgr knows %d to %d", h.major, BUNDLE_FIXED, BUNDLE_DELTA);
        if (h.manifest == 0 || h.manifest > BUNDLE_MAX_MANIFEST || h.signatures > SIGNATURES_MAX_SIZE ||
            h.index > INDEX_MAX || (h.major != BUNDLE_DELTA && h.index % index_entry_size(h.major)) ||
            h.total > (UINT64_C(1) << 60) || h.total < HEADER_SIZE + h.manifest + h.signatures + h.index)
                return bundle_damaged(e, "header has lengths that cannot be");
        *ret = h;
        return 0;
}

int bundle_read_part(struct bundle *b, void *data, size_t size, const char *what, struct error *e)
{
        int r = source_read(b->source, data, size, e);

        return r == -ENODATA ? bundle_damaged(e, what) : r;
}

static int read_head(struct bundle *b, const struct trust *trust, struct error *e)
{
        uint8_t header[HEADER_SIZE];
        int r;

        r = bundle_read_part(b, header, sizeof(header), "header is missing: it is empty", e);
        if (r >= 0)
                r = header_decode(header, &b->header, e);
        if (r < 0)
                return r;
        if (source_size(b->source) != UINT64_MAX && source_size(b->source) != b->header.total)
                return fail(e, -EBADMSG, &kind_bundle_invalid,
                            "the bundle has %llu bytes, its header says %llu: it is cut off or has trailing data",
                            (unsigned long long)source_size(b->source), (unsigned long long)b->header.total);
        b->manifest_bytes = calloc(1, (size_t)b->header.manifest + 1);
        b->signature_block = malloc(MAX(b->header.signatures, 1U));
        if (!b->manifest_bytes || !b->signature_block)
                return -ENOMEM;
        r = bundle_read_part(b, b->manifest_bytes, b->header.manifest, "manifest is missing", e);
        if (r >= 0)
                r = bundle_read_part(b, b->signature_block, b->header.signatures, "signatures are missing", e);
        if (r >= 0)
                r = signatures_check(b->manifest_bytes, b->header.manifest, b->signature_block, b->header.signatures, trust,
                                     b->signatures, &b->n_signatures, b->key_names, e);
        if (r >= 0)
                r = manifest_parse(b->manifest_bytes, b->header.manifest, &b->manifest, e);
        return r;
}

/* What another server may have right. */
static bool is_no_bundle(int r, const struct error *e)
{
        return r == -EBADMSG || (e && e->kind == &kind_bundle_untrusted);
}

/* ret_others: where else to ask, when this is no bundle: owned by the caller; NULL: nobody does. */
static int open_source(struct source *source, const struct trust *trust, struct bundle **ret, char **ret_others,
                       struct error *e)
{
        struct bundle *b = calloc(1, sizeof(*b));
        uint64_t chunks = 0;
        int r;

        if (!b) {
                source_free(source);
                return -ENOMEM;
        }
        b->source = source;
        b->index_file = b->directory = -1;
        r = read_head(b, trust, e);
        if (r >= 0 && b->header.major == BUNDLE_DELTA)
                r = delta_read_head(b, e);
        else if (r >= 0 && b->manifest.format != b->header.major)
                r = bundle_damaged(e, "header gives another format than the manifest");
        for (size_t i = 0; r >= 0 && i < b->manifest.n_images; i++)
                chunks += b->manifest.images[i].n_chunks;
        if (r >= 0 && chunks * index_entry_size(b->manifest.format) != b->header.index)
                r = bundle_damaged(e, "index has not as many chunks as the manifest says");
        if (r < 0) {
                if (ret_others && is_no_bundle(r, e) && source->ops->others)
                        *ret_others = source->ops->others(source);
                if (ret_others && *ret_others)
                        log_warning("%s: %s; another server is asked", source->where, e->message);
                bundle_free(b);
                return r;
        }
        *ret = b;
        return 0;
}

int bundle_open(struct source *source, const struct trust *trust, struct bundle **ret, struct error *e)
{
        return open_source(source, trust, ret, NULL, e);
}

static int ask(const char *where, const struct fetch_config *config, const struct trust *trust, struct bundle **ret,
               char **ret_others, struct error *e)
{
        struct source *source;
        int r = source_open(where, config, &source, e);

        return r < 0 ? r : open_source(source, trust, ret, ret_others, e);
}

int bundle_open_from(const char *where, const struct fetch_config *config, const struct trust *trust, struct bundle **ret,
                     struct error *e)
{
        static const struct fetch_config defaults = FETCH_DEFAULTS;
        _cleanup_free_ struct fetch_config *own = NULL;
        _cleanup_free_ char *others = NULL;
        _cleanup_error_ struct error first = {};
        int r = ask(where, config, trust, ret, &others, &first), found = r;

        if (others) {
                own = malloc(sizeof(*own));
                if (!own)
                        return -ENOMEM;
                *own = *(config ?: &defaults);
                own->mirrors = NULL; /* they are among the others */
        }
        while (others && found < 0 && found != -ECANCELED) {
                _cleanup_free_ char *urls = TAKE_PTR(others);
                _cleanup_error_ struct error why = {};

                found = ask(urls, own, trust, ret, &others, &why);
                if (found == -ECANCELED) {
                        error_done(&first);
                        first = TAKE(why, (struct error){});
                }
        }
        if (found < 0) {
                if (e)
                        *e = TAKE(first, (struct error){});
                return found == -ECANCELED ? found : r;
        }
        (*ret)->fetch = TAKE_PTR(own);
        return 0;
}

struct bundle *bundle_free(struct bundle *b)
{
        if (!b)
                return NULL;
        source_free(b->source);
        free(b->fetch);
        for (size_t i = 0; i < BUNDLE_MAX_SIGNATURES; i++)
                free(b->key_names[i]);
        delta_free(b->delta);
        free(b->signature_block);
        free(b->manifest_bytes);
        if (b->index_file >= 0)
                munmap(b->index, b->header.index);
        else
                free(b->index);
        fd_close(b->index_file);
        free(b);
        return NULL;
}

void bundle_keep_index(struct bundle *b, int directory)
{
        b->directory = directory;
}

static int map_index(struct bundle *b)
{
        _cleanup_close_ int fd = io_open(b->directory, ".", O_TMPFILE | O_RDWR, 0600);
        void *index;
        int r;

        if (fd < 0)
                return fd;
        r = io_allocate(fd, b->header.index); /* a mapping that finds no room would be the end */
        if (r >= 0)
                r = io_truncate(fd, b->header.index);
        if (r < 0)
                return r;
        index = mmap(NULL, b->header.index, PROT_READ, MAP_SHARED, fd, 0);
        if (index == MAP_FAILED)
                return -errno;
        b->index = index;
        b->index_file = TAKE_FD(fd);
        for (size_t i = 0; i < b->manifest.n_images; i++)
                b->manifest.images[i].index_mapped = true;
        return 0;
}

uint64_t bundle_index_room(const struct bundle *b)
{
        return !b->index && b->header.index > INDEX_IN_MEMORY ? b->header.index : 0;
}

int bundle_allocate_index(struct bundle *b)
{
        if (bundle_index_room(b) > 0 && b->directory >= 0 && map_index(b) >= 0)
                return 0;
        b->index = malloc(MAX(b->header.index, UINT64_C(1)));
        return b->index ? 0 : -ENOMEM;
}

int bundle_copy_index(const struct bundle *b, size_t image, int fd)
{
        uint64_t size;
        const uint8_t *index = bundle_chunk_index(b, image, &size);

        if (b->index_file < 0)
                return io_pwrite(fd, index, size, 0);
        return io_copy(b->index_file, (uint64_t)(index - b->index), fd, 0, size);
}

const struct manifest *bundle_manifest(const struct bundle *b)
{
        return &b->manifest;
}

const char *bundle_manifest_bytes(const struct bundle *b, size_t *ret_size)
{
        *ret_size = b->header.manifest;
        return b->manifest_bytes;
}

const struct bundle_signature *bundle_signatures(const struct bundle *b, size_t *ret_n)
{
        *ret_n = b->n_signatures;
        return b->signatures;
}

static const uint8_t *image_index(const struct bundle *b, size_t image)
{
        const uint8_t *p = b->index;

        for (size_t i = 0; i < image; i++)
                p += b->manifest.images[i].n_chunks * b->manifest.images[i].entry_size;
        return p;
}

const uint8_t *bundle_chunk_index(const struct bundle *b, size_t image, uint64_t *ret_size)
{
        *ret_size = b->manifest.images[image].n_chunks * b->manifest.images[image].entry_size;
        return b->index ? image_index(b, image) : NULL;
}

struct bundle_sizes bundle_image_sizes(const struct bundle *b, size_t image)
{
        struct bundle_sizes sizes = {};
        struct chunk_walk w;
        uint64_t size;

        for (chunk_walk_begin(&w, &b->manifest.images[image], bundle_chunk_index(b, image, &size)); w.entry;
             chunk_walk_next(&w)) {
                sizes.stored += chunk_stored(b, &w);
                sizes.zeros += entry_is_zeros(w.entry) ? w.size : 0;
        }
        return sizes;
}
