/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The byte layout of a bundle; docs/formats.md, "Bundle". Inside image/ only. */
#pragma once

#include "base/buf.h"
#include "image/bundle.h"

#define BUNDLE_MAGIC  "BOOTMGRB"
#define BUNDLE_FIXED  1 /* chunks of one length */
#define BUNDLE_CUT    2 /* each has its own */
#define BUNDLE_VERITY 3 /* the same, and the root has a hash tree */
#define BUNDLE_MINOR  0

/* header */
#define HEADER_SIZE  64
#define H_MAGIC      0
#define H_MAJOR      8
#define H_MINOR      10
#define H_MANIFEST   12 /* u32: length */
#define H_SIGNATURES 16 /* u32: length */
#define H_RESERVED   20
#define H_INDEX      24 /* u64: length */
#define H_TOTAL      32 /* u64: length of the whole file */
#define H_CRC        60 /* u32: CRC-32C of the 60 bytes before */

/* one signature: then its bytes; behind the last one the CRC-32C of the whole block */
#define SIGNATURE_HEADER    36
#define S_KEY               0
#define S_ALGORITHM         32 /* u16 */
#define S_LENGTH            34 /* u16 */
#define SIGNATURES_MAX_SIZE (64 * 1024)

/* one chunk in the index */
#define INDEX_ENTRY     40 /* of BUNDLE_FIXED */
#define INDEX_ENTRY_CUT 44
#define I_DIGEST        0
#define I_STORED        32 /* u32: stored bytes; 0: the chunk is zeros and not stored */
#define I_CRC           36 /* u32: CRC-32C of the stored bytes */
#define I_LENGTH        40 /* u32: bytes of content; BUNDLE_CUT only */

#define CHUNK_MIN     4096u
#define CHUNK_MAX     (16u * 1024 * 1024)
#define CHUNK_DEFAULT (256u * 1024)
#define CUT_DEFAULT   (16u * 1024) /* on average */
#define ZEROS_MAX     MIB(64)      /* of one entry, of one call of a sink: so that the progress moves */
#define INDEX_MAX     MIB(256)     /* over all images: 1.6 TiB of content in chunks of 256 KiB */

struct header {
        unsigned major;
        uint32_t manifest, signatures;
        uint64_t index, total;
};
void header_encode(const struct header *h, uint8_t bytes[static HEADER_SIZE]);
int header_decode(const uint8_t bytes[static HEADER_SIZE], struct header *ret, struct error *e);

struct bundle {
        struct source *source;
        struct header header;
        char *manifest_bytes;
        struct manifest manifest;
        struct bundle_signature signatures[BUNDLE_MAX_SIGNATURES];
        char *key_names[BUNDLE_MAX_SIGNATURES];
        size_t n_signatures;
        uint8_t *index; /* all images' entries, in order; verified */
        int index_file; /* that it is mapped from; negative: it is in memory */
        int directory;  /* where that may be; negative: nowhere */
        struct extract_times times;
};

/* bundle.c */
int bundle_allocate_index(struct bundle *b);           /* in memory or in a file, with nothing in it */
int bundle_damaged(struct error *e, const char *what); /* "the bundle's WHAT" */
/* As source_read(), where an end is damage too. */
int bundle_read_part(struct bundle *b, void *data, size_t size, const char *what, struct error *e);

/* manifest.c */
int manifest_parse(const char *text, size_t size, struct manifest *ret, struct error *e);
char *manifest_format(const struct manifest *m); /* owned by the caller; NULL: out of memory */

/* index.c: the chunks of an image, one behind the other. From memory, or from a file of which little is in memory.
 *
 *      for (chunk_walk_begin(&w, image, index); w.entry; chunk_walk_next(&w))
 */
struct chunk_walk {
        const struct bundle_image *image;
        const uint8_t *entry; /* of the chunk where it stands; NULL: behind the last one, or before what cannot be */
        uint64_t number, offset;
        uint32_t size;        /* of its content */
        const uint8_t *index; /* entries from number `first` on */
        uint64_t first, n;
        int fd; /* where more of them are; negative: nowhere */
        uint8_t *window;
};
void chunk_walk_begin(struct chunk_walk *w, const struct bundle_image *image, const uint8_t *index);
/* `fd` stays the caller's. chunk_walk_done() frees. */
int chunk_walk_begin_file(struct chunk_walk *w, const struct bundle_image *image, int fd);
void chunk_walk_next(struct chunk_walk *w);
void chunk_walk_done(struct chunk_walk *w);
/* From memory: whether each entry can be, and all together are the image; else *bad is the first one that cannot. */
bool index_is_complete(const struct bundle_image *image, const uint8_t *index, uint64_t *bad);
/* Whether a walk has come to the end, and each entry before it could be. */
bool chunk_walk_complete(const struct chunk_walk *w);
static inline bool entry_is_zeros(const uint8_t *entry)
{
        return get_le32(entry + I_STORED) == 0;
}
static inline bool format_is_known(uint64_t format)
{
        return format == BUNDLE_FIXED || format == BUNDLE_CUT || format == BUNDLE_VERITY;
}
static inline size_t index_entry_size(unsigned format)
{
        return format == BUNDLE_FIXED ? INDEX_ENTRY : INDEX_ENTRY_CUT;
}

/* sign.c: the block of signatures over the manifest's exact bytes. */
int signatures_make(const char *manifest, size_t size, const char *const *key_files, size_t n_keys, const uint8_t *old_block,
                    size_t old_size, struct buf *block, struct error *e);
/* Fills in `ret` (at most BUNDLE_MAX_SIGNATURES); with trust->directory judges them. names: owned key names. */
int signatures_check(const char *manifest, size_t size, const uint8_t *block, size_t block_size, const struct trust *trust,
                     struct bundle_signature *ret, size_t *ret_n, char **names, struct error *e);

/* chunks.c: one codec for each thread. */
struct chunk_codec {
        uint32_t chunk_size; /* the largest */
        uint32_t entry_size;
        struct ZSTD_CCtx_s *pack;
        struct ZSTD_DCtx_s *unpack;
        uint32_t zero_size; /* whose digest zero_digest is */
        uint8_t zero_digest[DIGEST_SIZE];
        uint64_t decode, check; /* µs spent so far */
};
struct chunk_codec *chunk_codec_new(uint32_t chunk_size, uint32_t entry_size);
struct chunk_codec *chunk_codec_free(struct chunk_codec *c);
size_t chunk_stored_max(uint32_t chunk_size);
/* Compresses one chunk into `stored` (chunk_stored_max() of it), fills in its index entry. */
int chunk_pack(struct chunk_codec *c, const void *data, uint32_t size, int level, uint8_t *entry, uint8_t *stored);
/* The index entry of `size` zeros. */
int chunk_zero_entry(struct chunk_codec *c, uint32_t size, uint8_t *entry);
/* Checks and decodes `stored`, as much of it as the entry says, into `content` (`size` bytes); of zeros nothing is decoded.
 * -EBADMSG: it does not match its entry. */
int chunk_unpack(struct chunk_codec *c, const uint8_t *entry, uint32_t size, const uint8_t *stored, uint8_t *content);
/* Whether `data` is what the entry says. */
bool chunk_matches(const uint8_t *entry, const uint8_t *data, uint32_t size);
