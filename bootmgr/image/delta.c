/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reading a delta: what stands in the place of the stored bytes of the index. Nobody has signed it, nor need he: whatever it
 * says, what comes of it is compared with the content digest in the index before it goes anywhere. */
#include <zstd.h>

#include "base/version.h"
#include "image/delta.h"
#include "image/source.h"
#include "slot/kinds.h"

/* --- head */

int delta_head_encode(const struct bundle_delta *head, uint32_t table, uint32_t table_crc, struct buf *ret)
{
        uint8_t bytes[DELTA_HEAD] = {};
        size_t url = strlen(head->url ?: "");

        memcpy(bytes + D_BASE, head->digest, DIGEST_SIZE);
        memcpy(bytes + D_VERSION, head->version, strlen(head->version));
        put_le64(bytes + D_SIZE, head->size);
        put_le32(bytes + D_TABLE, table);
        put_le32(bytes + D_TABLE_CRC, table_crc);
        put_le16(bytes + D_URL, (uint16_t)url);
        put_le32(bytes + D_CRC, crc32c(crc32c(0, bytes, D_CRC), head->url ?: "", url));
        buf_append(ret, bytes, sizeof(bytes));
        buf_append(ret, head->url ?: "", url);
        return ret->failed ? -ENOMEM : 0;
}

bool delta_url_valid(const char *url)
{
        if (strlen(url) > DELTA_URL_MAX || (!startswith(url, "http://") && !startswith(url, "https://")))
                return false;
        while ((unsigned char)*url > 0x20 && (unsigned char)*url <= 0x7e)
                url++;
        return !*url;
}

/* -EBADMSG: it cannot be. */
static int decode_head(struct delta *d, const uint8_t bytes[static DELTA_HEAD])
{
        memcpy(d->head.digest, bytes + D_BASE, DIGEST_SIZE);
        memcpy(d->head.version, bytes + D_VERSION, SLOT_VERSION_SIZE);
        d->head.size = get_le64(bytes + D_SIZE);
        d->table_size = get_le32(bytes + D_TABLE);
        d->table_crc = get_le32(bytes + D_TABLE_CRC);
        if (memchr(d->head.version, 0, SLOT_VERSION_SIZE) == NULL || !version_valid(d->head.version) ||
            (d->head.url && !delta_url_valid(d->head.url)) || d->head.size > IMAGE_MAX ||
            d->table_size > ZSTD_compressBound(d->n * DELTA_RECORD))
                return -EBADMSG;
        return 0;
}

int delta_read_head(struct bundle *b, struct error *e)
{
        struct delta *d = b->delta = calloc(1, sizeof(*d));
        uint8_t bytes[DELTA_HEAD];
        size_t url;
        int r;

        if (!d)
                return -ENOMEM;
        pthread_mutex_init(&d->lock, NULL);
        d->direct = -1;
        for (size_t i = 0; i < b->manifest.n_images; i++) {
                d->first[i] = d->n;
                d->n += b->manifest.images[i].n_chunks;
        }
        r = bundle_read_part(b, bytes, sizeof(bytes), "delta head is missing", e);
        if (r < 0)
                return r;
        url = get_le16(bytes + D_URL);
        if (url > DELTA_URL_MAX)
                return bundle_damaged(e, "delta head is damaged");
        d->head.url = url ? calloc(1, url + 1) : NULL;
        if (url && !d->head.url)
                return -ENOMEM;
        r = bundle_read_part(b, d->head.url, url, "delta head is cut off", e);
        if (r < 0)
                return r;
        if (crc32c(crc32c(0, bytes, D_CRC), d->head.url ?: "", url) != get_le32(bytes + D_CRC))
                return bundle_damaged(e, "delta head is damaged");
        return decode_head(d, bytes) < 0 ? bundle_damaged(e, "delta head says what cannot be") : 0;
}

struct delta *delta_free(struct delta *d)
{
        if (!d)
                return NULL;
        bundle_free(d->full);
        fd_close(d->direct);
        pthread_mutex_destroy(&d->lock);
        error_done(&d->why);
        free(d->head.url);
        free(d->table);
        free(d);
        return NULL;
}

const struct bundle_delta *bundle_delta(const struct bundle *b)
{
        return b->delta ? &b->delta->head : NULL;
}

/* --- table */

void delta_record_encode(const struct delta_record *record, uint8_t bytes[static DELTA_RECORD])
{
        put_le64(bytes + R_OFFSET, record->offset);
        put_le32(bytes + R_LENGTH, record->length);
        memcpy(bytes + R_DIGEST, record->digest, R_DIGEST_SIZE);
        put_le32(bytes + R_STORED, record->stored);
        put_le32(bytes + R_CRC, record->crc);
}

struct delta_record delta_record_at(const struct bundle *b, const struct chunk_walk *w)
{
        const uint8_t *bytes = b->delta->table + (b->delta->first[w->image - b->manifest.images] + w->number) * DELTA_RECORD;
        struct delta_record record = {
                .offset = get_le64(bytes + R_OFFSET),
                .length = get_le32(bytes + R_LENGTH),
                .stored = get_le32(bytes + R_STORED),
                .crc = get_le32(bytes + R_CRC),
        };

        memcpy(record.digest, bytes + R_DIGEST, R_DIGEST_SIZE);
        return record;
}

static bool record_can_be(const struct delta_record *r, const struct chunk_walk *w, uint64_t base)
{
        bool has_digest = r->length > 0 && r->stored > 0;

        if (r->offset > base || r->length > base - r->offset || (r->length == 0 && r->offset > 0) ||
            (r->stored == 0 && r->crc != 0) || r->stored > chunk_stored_max(w->image->chunk_size) ||
            (!has_digest && !is_all_zero(r->digest, R_DIGEST_SIZE)))
                return false;
        if (entry_is_zeros(w->entry))
                return r->length == 0 && r->stored == 0;
        if (r->stored == 0)
                return r->length == w->size || (r->length == 0 && image_is_boot_file(w->image));
        return r->length <= DELTA_BASE_MAX;
}

static int check_table(const struct bundle *b, struct error *e)
{
        for (size_t i = 0; i < b->manifest.n_images; i++) {
                struct chunk_walk w;
                uint64_t size;

                for (chunk_walk_begin(&w, &b->manifest.images[i], bundle_chunk_index(b, i, &size)); w.entry;
                     chunk_walk_next(&w)) {
                        struct delta_record record = delta_record_at(b, &w);

                        if (!record_can_be(&record, &w, b->delta->head.size))
                                return fail(e, -EBADMSG, &kind_bundle_invalid,
                                            "the bundle's delta table says what cannot be, first of chunk %llu of image %s",
                                            (unsigned long long)w.number, w.image->name);
                }
        }
        return 0;
}

struct table_part {
        const struct delta *d;
        const uint8_t *stored;
};

static bool table_is_right(void *userdata)
{
        const struct table_part *p = userdata;

        return crc32c(0, p->stored, p->d->table_size) == p->d->table_crc;
}

int delta_read_table(struct bundle *b, struct error *e)
{
        struct delta *d = b->delta;
        _cleanup_free_ uint8_t *stored = malloc(MAX(d->table_size, 1U));
        struct table_part part = { d, stored };
        size_t size = d->n * DELTA_RECORD, n;
        uint64_t at = b->source->done;
        int r;

        if (!stored)
                return -ENOMEM;
        r = bundle_read_part(b, stored, d->table_size, "delta table is missing", e);
        if (r < 0)
                return r;
        if (!table_is_right(&part))
                r = source_read_again(b->source, at, stored, d->table_size, table_is_right, &part);
        if (r < 0)
                return r == -ECANCELED ? r : bundle_damaged(e, "delta table is damaged");
        d->table = malloc(size);
        if (!d->table)
                return -ENOMEM;
        n = ZSTD_decompress(d->table, size, stored, d->table_size);
        return ZSTD_isError(n) || n != size ? bundle_damaged(e, "delta table is not of the index's length")
                                            : check_table(b, e);
}

uint32_t chunk_stored(const struct bundle *b, const struct chunk_walk *w)
{
        return b->delta ? delta_record_at(b, w).stored : get_le32(w->entry + I_STORED);
}

/* --- the full bundle */

/* SCHEME://HOST:PORT */
static size_t server_length(const char *url)
{
        const char *host = strstr(url, "://");

        return host ? (size_t)(host - url) + 3 + strcspn(host + 3, "/ ?#") : 0;
}

static bool same_server(const char *a, const char *b)
{
        size_t n = server_length(a);

        return n > 0 && n == server_length(b) && strncmp(a, b, n) == 0;
}

int bundle_open_full(const struct bundle *b, const struct fetch_config *config, struct bundle **ret, struct error *e)
{
        const struct bundle_delta *head = &b->delta->head;
        _cleanup_free_ struct fetch_config *own = NULL;
        _cleanup_bundle_ struct bundle *full = NULL;
        struct trust nobody = { .threshold = 1 };
        int r;

        if (!head->url) {
                fail(e, -ESTALE, &kind_bundle_incompatible, "the delta names no full bundle of version %s",
                     b->manifest.version);
                return fail_hint(e, "install the full bundle of version %s", b->manifest.version);
        }
        own = malloc(sizeof(*own));
        if (!own)
                return -ENOMEM;
        *own = *config;
        if (!same_server(b->source->where, head->url))
                own->header_file = NULL;
        r = bundle_open_from(head->url, own, &nobody, &full, e);
        if (r < 0)
                return r;
        if (!full->fetch)
                full->fetch = TAKE_PTR(own);
        /* Of the same bytes, whose signatures were judged. */
        if (full->delta || memcmp(full->manifest.digest, b->manifest.digest, DIGEST_SIZE) != 0) {
                fail(e, -EBADMSG, &kind_bundle_invalid, "%s is not the full bundle of version %s that the delta is of",
                     full->source->where, b->manifest.version);
                return fail_hint(e, "install the full bundle of version %s", b->manifest.version);
        }
        *ret = TAKE_PTR(full);
        return 0;
}

/* For chunks of it, here and there: nothing is fetched ahead. */
static int open_for_chunks(const struct bundle *b, const struct fetch_config *config, struct bundle **ret, struct error *e)
{
        _cleanup_bundle_ struct bundle *full = NULL;
        int r = bundle_open_full(b, config, &full, e);

        if (!full)
                return r;
        if (!bundle_can_go_back(full)) {
                fail(e, -EOPNOTSUPP, &kind_fetch, "%s knows no ranges, and the delta is not enough", full->source->where);
                return fail_hint(e, "install the full bundle of version %s", b->manifest.version);
        }
        r = source_want(full->source, NULL, 0);
        if (r >= 0)
                *ret = TAKE_PTR(full);
        return r;
}

int bundle_reach_full(struct bundle *b, struct error *e)
{
        struct delta *d = b->delta;
        int r = 0;

        pthread_mutex_lock(&d->lock);
        if (!d->full && d->why.code == 0)
                r = open_for_chunks(b, d->config, &d->full, &d->why);
        if (r < 0)
                fail(&d->why, r, r == -ECANCELED ? &kind_interrupted : NULL, "cannot open the full bundle: %s",
                     error_text(r));
        if (!d->full) {
                r = fail(e, d->why.code, d->why.kind, "%s", d->why.message);
                if (d->why.hint)
                        fail_hint(e, "%s", d->why.hint);
        }
        pthread_mutex_unlock(&d->lock);
        return r;
}

int delta_base_altered(const struct bundle *b, const struct chunk_walk *w, struct error *e)
{
        struct delta_record record = delta_record_at(b, w);

        if (record.length == 0)
                fail(e, -ESTALE, &kind_content, "the %s of version %s is not on the ESP, or damaged there", w->image->name,
                     b->delta->head.version);
        else
                fail(e, -ESTALE, &kind_content,
                     "the running slot is not what version %s was: chunk %llu of image %s needs %u bytes at offset %llu",
                     b->delta->head.version, (unsigned long long)w->number, w->image->name, record.length,
                     (unsigned long long)record.offset);
        return fail_hint(e, "install the full bundle of version %s", b->manifest.version);
}

/* Where a full bundle has it: the index says how much is stored before. */
static uint64_t full_offset(const struct bundle *full, const struct bundle *b, const struct chunk_walk *at)
{
        const struct header *h = &full->header;
        uint64_t offset = HEADER_SIZE + (uint64_t)h->manifest + h->signatures + h->index, size;

        for (size_t i = 0; &b->manifest.images[i] != at->image; i++) {
                struct chunk_walk w;

                for (chunk_walk_begin(&w, &b->manifest.images[i], bundle_chunk_index(b, i, &size)); w.entry;)
                        chunk_walk_next(&w);
                offset += w.stored;
        }
        return offset + at->stored;
}

struct full_chunk {
        struct chunk_codec *codec;
        const struct chunk_walk *w;
        const uint8_t *stored;
        uint8_t *content;
};

static bool full_chunk_is_right(void *userdata)
{
        const struct full_chunk *c = userdata;

        return chunk_unpack(c->codec, c->w->entry, c->w->size, c->stored, c->content) >= 0;
}

/* Nothing is wrong with the delta, and its other servers need not be asked. */
static int full_is_wrong(const struct bundle *b, const struct chunk_walk *w, struct error *e)
{
        fail(e, -EIO, &kind_content,
             "chunk %llu of image %s (offset %llu) does not match its digest in %s, the full bundle of the delta",
             (unsigned long long)w->number, w->image->name, (unsigned long long)w->offset, b->delta->full->source->where);
        fail_hint(e, "install the full bundle of version %s from somewhere else", b->manifest.version);
        return -EIO;
}

int delta_fetch(struct bundle *b, struct chunk_codec *codec, const struct chunk_walk *w, enum delta_lack lack,
                uint8_t *content, struct error *e)
{
        struct delta *d = b->delta;
        uint32_t n = get_le32(w->entry + I_STORED);
        _cleanup_free_ uint8_t *stored = n <= chunk_stored_max(w->image->chunk_size) ? malloc(MAX(n, 1U)) : NULL;
        struct full_chunk c = { codec, w, stored, content };
        int r;

        if (!stored)
                return -ENOMEM;
        if (!d->head.url || !d->config)
                return delta_base_altered(b, w, e);
        r = bundle_reach_full(b, e);
        if (r < 0)
                return r;
        r = source_read_at(d->full->source, full_offset(d->full, b, w), stored, n, e);
        if (r >= 0 && !full_chunk_is_right(&c))
                r = source_read_again(d->full->source, full_offset(d->full, b, w), stored, n, full_chunk_is_right, &c);
        if (r == -EBADMSG)
                r = full_is_wrong(b, w, e);
        if (lack == LACKS_BASE && delta_record_at(b, w).length == 0)
                lack = LACKS_BOOT_FILE;
        __atomic_add_fetch(&d->use.stored, n, __ATOMIC_RELAXED);
        __atomic_add_fetch(&d->use.chunks[lack], 1, __ATOMIC_RELAXED);
        return r;
}

struct full_use bundle_full_use(const struct bundle *b)
{
        struct full_use use = {};

        if (!b->delta)
                return use;
        pthread_mutex_lock(&b->delta->lock);
        use.fetched = b->delta->full ? source_fetched(b->delta->full->source) : 0;
        pthread_mutex_unlock(&b->delta->lock);
        use.stored = __atomic_load_n(&b->delta->use.stored, __ATOMIC_RELAXED);
        for (size_t i = 0; i < _DELTA_LACK_MAX; i++)
                use.chunks[i] = __atomic_load_n(&b->delta->use.chunks[i], __ATOMIC_RELAXED);
        return use;
}
