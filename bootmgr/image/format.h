/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The byte layout of a bundle; docs/formats.md, "Bundle". Inside image/ only. */
#pragma once

#include "base/buf.h"
#include "image/bundle.h"

#define BUNDLE_MAGIC  "BOOTMGRB"
#define BUNDLE_FIXED  1 /* chunks of one length */
#define BUNDLE_CUT    2 /* each has its own */
#define BUNDLE_VERITY 3 /* the same, and the root has a hash tree */
#define BUNDLE_DELTA  4 /* of a header only: another storage of a version, against the root of a base */
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

/* the head of a delta: then its URL */
#define DELTA_HEAD    128
#define D_BASE        0   /* digest of the base's manifest */
#define D_VERSION     32  /* of the base; NUL-padded */
#define D_SIZE        96  /* u64: bytes of the base's root */
#define D_TABLE       104 /* u32: stored bytes of the table */
#define D_TABLE_CRC   108 /* u32 */
#define D_URL         112 /* u16: length */
#define D_RESERVED    114
#define D_CRC         124 /* u32: CRC-32C of the 124 bytes before, and of the URL */
#define DELTA_URL_MAX 2048

/* one chunk in its table: where the content of the index entry of the same number comes from */
#define DELTA_RECORD   28
#define R_OFFSET       0  /* u64: in the base's root */
#define R_LENGTH       8  /* u32: bytes there; 0: none */
#define R_DIGEST       12 /* the first bytes of their SHA-256 */
#define R_STORED       20 /* u32: bytes of the frame; 0: they are the content */
#define R_CRC          24 /* u32: CRC-32C of the frame */
#define R_DIGEST_SIZE  8
#define DELTA_BASE_MAX (512u * 1024) /* of the bytes that a frame refers to */

#define IMAGE_MAX     (UINT64_C(1) << 50)
#define CHUNK_MIN     4096u
#define CHUNK_MAX     (8u * 1024 * 1024) /* of which a thread needs three: memory is bounded */
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

struct delta;

struct bundle {
        struct source *source;
        struct fetch_config *fetch; /* owned, but not what it names: how the source is fetched; NULL: as its opener knows */
        struct header header;
        char *manifest_bytes;
        uint8_t *signature_block; /* as it lies in the file */
        struct manifest manifest;
        struct bundle_signature signatures[BUNDLE_MAX_SIGNATURES];
        char *key_names[BUNDLE_MAX_SIGNATURES];
        size_t n_signatures;
        uint8_t *index;  /* all images' entries, in order; verified */
        int index_file;  /* that it is mapped from; negative: it is in memory */
        int directory;   /* where that may be; negative: nowhere */
        uint64_t chunks; /* where they begin, once bundle_extract() has come there */
        struct extract_times times;
        struct delta *delta; /* NULL: a full bundle */
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
        uint64_t stored;      /* bytes that a full bundle stores of the image before it */
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

/* create.c: what is made is no file yet. */
int refuse_existing(const char *path, struct error *e);
/* A new file beside `path`, under a name that is removed when anything fails. */
int open_beside(const char *path, char **ret_name, struct error *e);
/* It gets its own name, which may not be taken; r < 0: it is removed. */
int finish_beside(int r, const char *name, const char *path, struct error *e);

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
/* Makes such a frame: its length, or -errno. */
ssize_t chunk_pack_patch(struct chunk_codec *c, const void *data, uint32_t size, const void *prefix, size_t prefix_size,
                         int level, uint8_t *stored, size_t room);
/* Without a look at what the content is; -EBADMSG: the stored bytes are no such content's. */
int chunk_decode(struct chunk_codec *c, const uint8_t *entry, uint32_t size, const uint8_t *stored, uint8_t *content);
/* The same for a frame of n bytes that refers to `prefix`, whose CRC was checked. */
int chunk_decode_patch(struct chunk_codec *c, uint32_t size, const void *prefix, size_t prefix_size, const uint8_t *stored,
                       size_t n, uint8_t *content);
/* Of so many chunks from `first` on, which lie one behind the other in `content`, a bit for each that is what its entry
 * says. */
#define CHUNKS_AT_ONCE 64
uint64_t chunks_match(struct chunk_walk first, uint64_t n, const uint8_t *content);
/* Whether `data` is what the entry says. */
bool chunk_matches(const uint8_t *entry, const uint8_t *data, uint32_t size);

/* delta.c: what a delta has in the place of the stored bytes of the index. */
struct delta_record {
        uint64_t offset;
        uint32_t length, stored, crc;
        uint8_t digest[R_DIGEST_SIZE];
};
bool delta_url_valid(const char *url);
void delta_record_encode(const struct delta_record *record, uint8_t bytes[static DELTA_RECORD]);
/* Bytes of head and URL in `ret`. */
int delta_head_encode(const struct bundle_delta *head, uint32_t table, uint32_t table_crc, struct buf *ret);
int delta_read_head(struct bundle *b, struct error *e);
int delta_read_table(struct bundle *b, struct error *e);
struct delta *delta_free(struct delta *d);
/* Bytes that are stored of the chunk where a walk stands, in this file. */
uint32_t chunk_stored(const struct bundle *b, const struct chunk_walk *w);
/* The chunk from the full bundle; kind_content, but never -EBADMSG, which is the delta's own. From any thread. */
int delta_fetch(struct bundle *b, struct chunk_codec *codec, const struct chunk_walk *w, enum delta_lack lack,
                uint8_t *content, struct error *e);

/* delta_base.c: what a delta takes from its base. */
struct base_window { /* of one thread: a piece of it in memory */
        uint8_t *room, *data;
        uint64_t offset, size;
};
size_t base_window_size(const struct bundle *b);
int base_window_new(const struct bundle *b, struct base_window *ret);
void base_window_done(struct base_window *win); /* also of none */
/* As chunk_decode(), of a chunk that is not zeros. n: it and the chunks behind it that come next. -ESTALE: the base is not
 * there. */
int delta_decode(const struct bundle *b, struct chunk_codec *codec, struct base_window *win, const struct chunk_walk *w,
                 uint64_t n, const uint8_t *stored, uint8_t *content);
/* The same with a look at what comes of it: -EBADMSG: the stored bytes are not what they should be; -ESTALE: the base. */
int delta_unpack(const struct bundle *b, struct chunk_codec *codec, struct base_window *win, const struct chunk_walk *w,
                 const uint8_t *stored, uint8_t *content);
/* Whether the base has all that an image needs of it. */
int delta_check_base(const struct bundle *b, size_t image, struct progress *progress, struct error *e);
