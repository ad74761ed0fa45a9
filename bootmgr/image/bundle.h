/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The bundle: header | manifest | signatures | chunk index | chunks. docs/formats.md gives every byte.
 * It is read strictly forwards, so that one pass over a pipe or an HTTP body without ranges will do, and
 * nothing of a part is acted on before that part is verified. */
#pragma once

#include "base/progress.h"
#include "slot/slot.h"

#define BUNDLE_MAX_IMAGES     16
#define BUNDLE_MAX_SIGNATURES 16
#define BUNDLE_MAX_MANIFEST   (64 * 1024)

struct bundle_image {
        char name[32];               /* "root", "kernel", "initrd", or any extra */
        uint64_t size;               /* bytes */
        uint8_t digest[DIGEST_SIZE]; /* SHA-256 of the whole content: kernel and initrd, which are named by it on the
                                      * ESP; zeros for others: their chunks' digests say the same */
        uint32_t chunk_size;         /* the largest; format 1: all but the last have it */
        uint32_t entry_size;         /* bytes of one entry in the index */
        uint64_t n_chunks;
        bool index_mapped;                 /* its index lies in a file that is mapped: who has read it lets the memory go */
        uint8_t index_digest[DIGEST_SIZE]; /* SHA-256 of its part of the index */
        struct verity verity;              /* of the root: its size is that of filesystem and tree together */
};

#define ETCD_MINOR_SIZE 16

struct manifest {
        unsigned format;
        char compatible[64];
        char version[SLOT_VERSION_SIZE];
        uint64_t security_version;
        char min_bootmgr[SLOT_VERSION_SIZE]; /* lowest bootmgr that may install it; "" none */
        char build_id[64];
        char etcd[ETCD_MINOR_SIZE]; /* MAJOR.MINOR of the etcd in it; "" not said */
        struct bundle_image images[BUNDLE_MAX_IMAGES];
        size_t n_images;
        uint8_t digest[DIGEST_SIZE]; /* SHA-256 of its exact bytes: the version's identity */
};
const struct bundle_image *manifest_image(const struct manifest *m, const char *name); /* NULL: none */
/* MAJOR.MINOR, two decimal numbers. */
bool etcd_minor_valid(const char *text);
/* Kernel or initrd: it lies on the ESP under its digest. */
static inline bool image_is_boot_file(const struct bundle_image *image)
{
        return streq(image->name, "kernel") || streq(image->name, "initrd");
}

struct bundle_signature {
        uint8_t key_id[DIGEST_SIZE]; /* SHA-256 of the public key as DER SubjectPublicKeyInfo */
        const char *key_name;        /* file in the trust directory; NULL: unknown */
        bool valid;
};

struct bundle;

/* Where a bundle's bytes come from: a file, a pipe, HTTP(S). One descriptor or connection to the end. */
struct source;
/* `where`: a path, "-", or http:// or https:// URLs of the same file, apart from each other by blanks. `config`: how to
 * fetch, must outlive the source; NULL: the defaults. kind_fetch. */
struct fetch_config;
int source_open(const char *where, const struct fetch_config *config, struct source **ret, struct error *e);
struct source *source_free(struct source *s);
/* Exactly n bytes; -ENODATA at a clean end before the first byte, kind_bundle_invalid on a short end. */
int source_read(struct source *s, void *data, size_t n, struct error *e);
int source_skip(struct source *s, uint64_t n, struct error *e);
/* The whole size, or UINT64_MAX when it is not known. */
uint64_t source_size(const struct source *s);
/* Exactly n bytes from `offset`, apart from where the reading is; from any thread, and several at the same time, each over a
 * connection of its own. -EOPNOTSUPP: a pipe, or a server without ranges. No signal ends it. */
int source_read_at(struct source *s, uint64_t offset, void *data, size_t n, struct error *e);
/* What will be read from here on, in order: only that is fetched ahead, and the rest is to be passed by source_skip(). What
 * is not in the list can still be read, slowly. */
struct source_range {
        uint64_t offset, size;
};
int source_want(struct source *s, const struct source_range *ranges, size_t n);
/* Reads on from `offset`, which was read or skipped before, once the end of the source was seen: source_read() returned
 * -ENODATA. Nothing is fetched until source_want() says what. Not of a pipe, nor of a server without ranges. */
bool source_can_go_back(const struct source *s);
int source_go_back(struct source *s, uint64_t offset, struct error *e);
/* Bytes that came over the network, or were read. */
uint64_t source_fetched(const struct source *s);

struct trust {
        const char *directory; /* *.pem public keys; NULL: signatures are listed, not judged (inspect) */
        unsigned threshold;    /* at least 1 */
};

/* Reads header, manifest and signatures; judges the signatures BEFORE the manifest is parsed. Refusals:
 * kind_bundle_invalid, kind_bundle_untrusted (none, unknown key, does not verify, fewer than the
 * threshold). The bundle takes the source over. */
int bundle_open(struct source *source, const struct trust *trust, struct bundle **ret, struct error *e);
/* The same of a file, or of one or several URLs, as source_open() takes them. A server that gives something else than a
 * bundle, or one that is not to be trusted, is left for the others, with a warning; where none will do it is the first one's
 * fault that is told. */
int bundle_open_from(const char *where, const struct fetch_config *config, const struct trust *trust, struct bundle **ret,
                     struct error *e);
struct bundle *bundle_free(struct bundle *b);
#define _cleanup_bundle_ _cleanup_(bundle_freep)
static inline void bundle_freep(struct bundle **b)
{
        *b = bundle_free(*b);
}

const struct manifest *bundle_manifest(const struct bundle *b);
/* The manifest's exact bytes; borrowed. */
const char *bundle_manifest_bytes(const struct bundle *b, size_t *ret_size);
const struct bundle_signature *bundle_signatures(const struct bundle *b, size_t *ret_n);

/* Where verified content of one image goes, several chunks at once; zeros come as data NULL. Called from several threads,
 * each part of the image once, nearly in order of offset. `data` lies in whole blocks of memory as `offset` lies in those of
 * the image; what is before and behind it in its first and last block is the sink's to write on. */
#define SINK_BLOCK 4096
struct io_queue;
struct chunk_sink {
        bool whole;             /* nothing need come */
        const uint8_t *present; /* of each chunk: 1, it is in its place and need not come; NULL: all come */
        /* What is handed to `queue` may be on its way yet when it returns: `data` stays until the queue's turn after the
         * next one. NULL: there is none. */
        int (*write)(struct chunk_sink *sink, uint64_t offset, void *data, size_t size, struct io_queue *queue,
                     struct error *e);
};
/* A large chunk index is kept in an unnamed file in this directory, and not in memory. Before the index is read. */
void bundle_keep_index(struct bundle *b, int directory);
/* Bytes that it is going to take there; 0 once it was read. */
uint64_t bundle_index_room(const struct bundle *b);
/* Copies the index of an image to the beginning of a file. */
int bundle_copy_index(const struct bundle *b, size_t image, int fd);
/* Reads the chunk index, verified against the manifest. bundle_extract() does it where it was not done before. */
int bundle_read_index(struct bundle *b, struct error *e);
/* After the chunk index, reads all images in manifest order into their
 * sinks (sinks[i] for image i; NULL: checked and dropped), chunks decoded, checked and written by as many threads as there
 * are processors. Every chunk is checked before its sink sees it. kind_content names image, chunk and offset: of the first
 * bad one, although what follows it may have been written. After the last byte the source must end. A bundle of a few
 * chunks, and any while a test's table of I/O is in force (base/io.h), is done in the caller's thread and in order. */
int bundle_extract(struct bundle *b, struct chunk_sink *const *sinks, struct progress *progress, struct error *e);
/* After that, what the sinks lack now: other chunks may have become missing. Where bundle_can_go_back() only: not from a
 * pipe, nor from a server without ranges. */
int bundle_extract_rest(struct bundle *b, struct chunk_sink *const *sinks, struct progress *progress, struct error *e);
bool bundle_can_go_back(const struct bundle *b);
/* Where the time went, µs: of the caller's thread (fetch), of all threads together (the rest). */
struct extract_times {
        uint64_t fetch, decode, check, write;
        unsigned threads;
        uint64_t queued; /* writes by io_uring (base/queue.h) */
};
/* Bytes read from its source, and of a delta from the full bundle. */
uint64_t bundle_fetched(const struct bundle *b);
const struct extract_times *bundle_extract_times(const struct bundle *b);
/* The verified index of an image as it lies in the bundle (docs/formats.md), for checking a slot later; NULL
 * before bundle_read_index(). Borrowed. */
const uint8_t *bundle_chunk_index(const struct bundle *b, size_t image, uint64_t *ret_size);

/* Of an image, in bytes, after bundle_read_index(): what of its content is zeros, which are nowhere, and what all of it
 * takes in this very file. */
struct bundle_sizes {
        uint64_t zeros, stored;
};
struct bundle_sizes bundle_image_sizes(const struct bundle *b, size_t image);

/* A delta: the same version, manifest, signatures and index, in another storage, which refers to the root of a base. */
struct bundle_delta {
        char version[SLOT_VERSION_SIZE]; /* of the base */
        uint8_t digest[DIGEST_SIZE];     /* its identity */
        uint64_t size;                   /* bytes of its root */
        char *url;                       /* of the full bundle; NULL: none. Owned by the bundle */
};
/* NULL: it is a full bundle. */
const struct bundle_delta *bundle_delta(const struct bundle *b);
struct range;
/* Where a slot holds the base, for bundle_extract(); NULL: nowhere. What is not there, or is not what it was, is fetched
 * from the full bundle, chunk by chunk, if there is a URL. Without a base what refers to it can only be dropped, and is: its
 * CRC is checked. Both must outlive the bundle's use. */
void bundle_use_base(struct bundle *b, const struct range *root, const struct fetch_config *config);
/* The full bundle that a delta names by its URL: the same version, or kind_bundle_invalid. kind_bundle_incompatible: it
 * names none. The URL is signed by nobody: HeaderFile= goes to the server that the delta came from, and to no other. */
int bundle_open_full(const struct bundle *b, const struct fetch_config *config, struct bundle **ret, struct error *e);
/* Opens it for the chunks that the base turns out to lack, once: whoever comes later, from any thread, is told the same.
 * After bundle_use_base(). kind_fetch: also where its server knows no ranges. */
int bundle_reach_full(struct bundle *b, struct error *e);
/* What came from it: bytes over the network, those of chunks among them, and chunks by what the delta lacked. */
enum delta_lack { LACKS_BASE, LACKS_BOOT_FILE, LACKS_FRAME, _DELTA_LACK_MAX };
struct full_use {
        uint64_t fetched, stored, chunks[_DELTA_LACK_MAX];
};
struct full_use bundle_full_use(const struct bundle *b);

/* Making one. */
struct bundle_spec {
        const char *compatible, *version, *min_bootmgr, *build_id; /* NULL: "" (build_id: from the content) */
        const char *etcd;                                          /* MAJOR.MINOR; NULL: not said */
        uint64_t security_version;
        const char *const *image_names; /* parallel arrays, n_images of them */
        const char *const *image_files;
        size_t n_images;
        const char *const *key_files; /* private keys, PEM; at least one */
        size_t n_keys;
        enum {
                CHUNKING_DEFAULT,
                CHUNKING_FIXED,   /* what every bootmgr reads */
                CHUNKING_CONTENT, /* where the content says so: an update fetches less */
        } chunking;
        uint32_t chunk_size; /* by content: on average; 0: the default */
        bool verity;         /* the root gets a hash tree of dm-verity behind it; not with CHUNKING_FIXED */
        int level;           /* zstd; 0: the default */
};
/* Reproducible to the byte for the same input (Ed25519 and RSA keys). `path` must not exist. */
int bundle_create(const char *path, const struct bundle_spec *spec, struct progress *progress, struct error *e);
struct delta_spec {
        const char *from, *bundle; /* paths or URLs of full bundles */
        const char *url;           /* where machines find the second one; NULL: nowhere */
        const struct fetch_config *config;
};
/* A delta of `bundle` for machines that run `from`. Reproducible to the byte. `path` must not exist. */
int bundle_make_delta(const char *path, const struct delta_spec *spec, struct progress *progress, struct error *e);
/* Adds signatures: writes a new file beside it and renames. Present ones of the same key are replaced. */
int bundle_sign(const char *path, const char *const *key_files, size_t n_keys, struct error *e);
/* An Ed25519 pair: PREFIX.key (0600) and PREFIX.pem; neither may exist. */
int bundle_keygen(const char *prefix, struct error *e);
