/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Making a bundle: chunks into an unnamed file first, since index and manifest come before them. They are read and
 * compressed by as many threads as there are processors, and written in their order: the same file wherever it is made. */
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>

#include "base/crew.h"
#include "base/file.h"
#include "base/io.h"
#include "base/sha256.h"
#include "base/version.h"
#include "image/format.h"
#include "image/hash_tree.h"
#include "image/split.h"
#include "slot/kinds.h"

#define LEVEL_DEFAULT 9

#define THREADS_MAX 16
#define SLOTS       2 /* chunks for each thread: one that it works on, one that waits for its turn to be written */

/* A chunk on its way through a thread. */
struct packed {
        uint64_t offset;
        uint32_t size;
        bool zeros;
        uint8_t entry[INDEX_ENTRY_CUT];
        uint8_t *stored;
};

struct maker {
        const struct bundle_spec *spec;
        const char *path; /* of the bundle */
        struct manifest manifest;
        struct buf index;
        int chunks; /* unnamed file */
        uint64_t chunks_size;
        uint64_t n_fixed; /* chunks, if all have one length */
        uint64_t done, all;
        struct progress *progress;

        unsigned threads, n_packed;
        struct packed *packed;
        struct chunk_codec **codecs;
        uint8_t **content; /* of each thread: what it read */
        struct cut cut;
        struct bundle_image *image;
        int fd; /* of its file */
};

static int too_many_chunks(const struct maker *m, const char *name, struct error *e)
{
        fail(e, -EFBIG, &kind_usage, "up to the image %s there are more than the %llu chunks that a bundle can hold", name,
             (unsigned long long)(INDEX_MAX / index_entry_size(m->manifest.format)));
        return fail_hint(e, "give a larger --chunk-size");
}

static int pack_chunk(void *userdata, unsigned worker, unsigned slot, struct error *e)
{
        struct maker *m = userdata;
        struct packed *p = &m->packed[slot];
        struct chunk_codec *codec = m->codecs[worker];
        int r;

        if (p->zeros)
                return chunk_zero_entry(codec, p->size, p->entry);
        r = io_pread(m->fd, m->content[worker], p->size, p->offset);
        return r < 0 ? r
                     : chunk_pack(codec, m->content[worker], p->size, m->spec->level ?: LEVEL_DEFAULT, p->entry, p->stored);
}

static int keep_chunk(void *userdata, unsigned slot, struct error *e)
{
        struct maker *m = userdata;
        struct packed *p = &m->packed[slot];
        uint32_t stored = get_le32(p->entry + I_STORED);
        int r = stored ? io_pwrite(m->chunks, p->stored, stored, m->chunks_size) : 0;

        if (r < 0)
                return r;
        m->chunks_size += stored;
        buf_append(&m->index, p->entry, m->image->entry_size);
        m->image->n_chunks++;
        m->done += p->size;
        return progress_report(m->progress, m->done, m->all, m->image->name);
}

static const struct crew_ops pack_ops = { .work = pack_chunk, .done = keep_chunk };

static int hand_chunk(struct maker *m, struct crew *crew, const struct split *s, struct error *e)
{
        unsigned slot;
        int r;

        if (m->index.size + (uint64_t)m->n_packed * m->image->entry_size > INDEX_MAX)
                return too_many_chunks(m, m->image->name, e);
        r = crew_next(crew, &slot, e);
        if (r < 0)
                return r;
        m->packed[slot].offset = s->offset;
        m->packed[slot].size = (uint32_t)s->size;
        m->packed[slot].zeros = s->zeros;
        return crew_hand(crew, e);
}

static int pack_chunks(struct maker *m, struct error *e)
{
        _cleanup_crew_ struct crew *crew = NULL;
        struct split s;
        int r = split_begin(&s, m->fd, m->image, m->manifest.format == BUNDLE_FIXED ? NULL : &m->cut);

        if (r >= 0)
                r = crew_new(&pack_ops, m, m->threads, m->n_packed, &crew);
        while (r >= 0 && s.size > 0) {
                r = hand_chunk(m, crew, &s, e);
                if (r >= 0)
                        r = split_next(&s);
        }
        if (r >= 0)
                r = crew_finish(crew, e);
        split_end(&s);
        return r;
}

/* The root with its hash tree behind it: what is packed then is a copy. */
static int append_tree(struct maker *m, int *fd, struct error *e)
{
        struct stat st;
        int r = fstat(*fd, &st) < 0 ? -errno : 0;

        if (r >= 0)
                r = hash_tree_append(*fd, (uint64_t)st.st_size, m->path, &m->image->verity, e);
        if (r < 0)
                return r;
        fd_close(*fd);
        *fd = r;
        /* It had another length when the images were looked at. */
        return verity_size(m->image->verity.blocks) == m->image->size ? 0 : -ESTALE;
}

static int pack_image(struct maker *m, struct bundle_image *image, const char *path, struct error *e)
{
        _cleanup_close_ int fd = io_open(AT_FDCWD, path, O_RDONLY, 0);
        size_t start = m->index.size;
        int r;

        if (fd < 0)
                return fail_errno(e, fd, "cannot open the image %s", path);
        m->image = image;
        if (m->spec->verity && streq(image->name, "root")) {
                r = append_tree(m, &fd, e);
                if (r < 0)
                        return fail_errno(e, r, "cannot pack the image %s", path);
        }
        m->fd = fd;
        r = image_is_boot_file(image) ? sha256_fd(fd, 0, image->size, image->digest) : 0;
        if (r >= 0)
                r = pack_chunks(m, e);
        if (r >= 0 && m->index.failed)
                r = -ENOMEM;
        if (r >= 0)
                r = sha256_data(m->index.data + start, m->index.size - start, image->index_digest);
        return r < 0 ? fail_errno(e, r, "cannot pack the image %s", path) : 0;
}

static int packed_begin(struct maker *m, uint32_t chunk_size)
{
        uint32_t entry_size = (uint32_t)index_entry_size(m->manifest.format);

        m->threads = io_is_system() && m->all > chunk_size ? crew_processors(THREADS_MAX) : 0;
        m->n_packed = m->threads ? SLOTS * m->threads : 1;
        m->packed = calloc(m->n_packed, sizeof(*m->packed));
        m->codecs = calloc(MAX(m->threads, 1U), sizeof(*m->codecs));
        m->content = calloc(MAX(m->threads, 1U), sizeof(*m->content));
        if (!m->packed || !m->codecs || !m->content)
                return -ENOMEM;
        for (unsigned i = 0; i < m->n_packed; i++)
                if (!(m->packed[i].stored = malloc(chunk_stored_max(chunk_size))))
                        return -ENOMEM;
        for (unsigned i = 0; i < MAX(m->threads, 1U); i++)
                if (!(m->codecs[i] = chunk_codec_new(chunk_size, entry_size)) || !(m->content[i] = malloc(chunk_size)))
                        return -ENOMEM;
        return 0;
}

static void packed_end(struct maker *m)
{
        for (unsigned i = 0; m->packed && i < m->n_packed; i++)
                free(m->packed[i].stored);
        for (unsigned i = 0; m->codecs && i < MAX(m->threads, 1U); i++)
                chunk_codec_free(m->codecs[i]);
        for (unsigned i = 0; m->content && i < MAX(m->threads, 1U); i++)
                free(m->content[i]);
        free(m->packed);
        free(m->codecs);
        free(m->content);
}

/* Kernel and initrd first: an install learns early that they do not fit; the root is the last. */
static int rank(const char *name)
{
        return streq(name, "kernel") ? 0 : streq(name, "initrd") ? 1 : streq(name, "root") ? 3 : 2;
}

static int add_image(struct maker *m, const char *name, const char *path, uint32_t chunk_size, struct error *e)
{
        struct bundle_image *image = &m->manifest.images[m->manifest.n_images];
        struct stat st;

        if (manifest_image(&m->manifest, name))
                return fail(e, -EEXIST, &kind_usage, "the image %s is given twice", name);
        if (strlen(name) >= sizeof(image->name) || !*name ||
            strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(name))
                return fail(e, -EINVAL, &kind_usage, "the image name '%s' is not made of a-z, 0-9 and -", name);
        if (stat(path, &st) < 0)
                return fail_errno(e, -errno, "cannot open the image %s", path);
        if (!S_ISREG(st.st_mode) || st.st_size == 0)
                return fail(e, -EINVAL, &kind_usage, "the image %s is not a file with content", path);
        strcpy(image->name, name);
        image->size = (uint64_t)st.st_size;
        if (m->spec->verity && streq(name, "root"))
                image->size = verity_size((image->size + VERITY_BLOCK - 1) / VERITY_BLOCK);
        image->chunk_size = chunk_size;
        image->entry_size = (uint32_t)index_entry_size(m->manifest.format);
        m->n_fixed += (image->size + chunk_size - 1) / chunk_size;
        if (m->manifest.format == BUNDLE_FIXED && m->n_fixed > INDEX_MAX / INDEX_ENTRY)
                return too_many_chunks(m, name, e);
        m->all += image->size;
        m->manifest.n_images++;
        return 0;
}

static bool is_printable(const char *s)
{
        while (*s && (unsigned char)*s >= 0x20 && (unsigned char)*s <= 0x7e)
                s++;
        return !*s;
}

static int fill_manifest(struct maker *m, struct error *e)
{
        const struct bundle_spec *spec = m->spec;
        struct manifest *to = &m->manifest;

        if (!spec->version || !version_valid(spec->version)) {
                fail(e, -EINVAL, &kind_usage, "'%s' is not a version", spec->version ?: "");
                return fail_hint(e, "1 to 63 of A-Z a-z 0-9 . _ ~ ^ + -, beginning with a letter or digit");
        }
        if (spec->min_bootmgr && *spec->min_bootmgr && !version_valid(spec->min_bootmgr))
                return fail(e, -EINVAL, &kind_usage, "'%s' is not a version", spec->min_bootmgr);
        if (spec->etcd && !etcd_minor_valid(spec->etcd))
                return fail(e, -EINVAL, &kind_usage, "'%s' is not the major and minor version of an etcd, as in 3.4",
                            spec->etcd);
        if (strlen(spec->compatible ?: "") >= sizeof(to->compatible) || strlen(spec->build_id ?: "") >= sizeof(to->build_id))
                return fail(e, -EINVAL, &kind_usage, "the compatible string or the build id is longer than %zu characters",
                            sizeof(to->compatible) - 1);
        if (!is_printable(spec->compatible ?: "") || !is_printable(spec->build_id ?: ""))
                return fail(e, -EINVAL, &kind_usage,
                            "the compatible string or the build id is not made of printable ASCII characters");
        if (spec->verity && spec->chunking == CHUNKING_FIXED) {
                fail(e, -EINVAL, &kind_usage,
                     "a hash tree does not go with chunks of one length: a bootmgr that knows "
                     "nothing else knows no hash tree either");
                return fail_hint(e, "leave out --chunking=fixed");
        }
        if (spec->security_version > INT64_MAX)
                return fail(e, -ERANGE, &kind_usage, "the security version %llu is too large",
                            (unsigned long long)spec->security_version);
        to->format = spec->chunking == CHUNKING_FIXED ? BUNDLE_FIXED : spec->verity ? BUNDLE_VERITY : BUNDLE_CUT;
        strcpy(to->version, spec->version);
        strcpy(to->compatible, spec->compatible ?: "");
        strcpy(to->min_bootmgr, spec->min_bootmgr ?: "");
        strcpy(to->build_id, spec->build_id ?: "");
        strcpy(to->etcd, spec->etcd ?: "");
        to->security_version = spec->security_version;
        return 0;
}

static int name_build(struct maker *m)
{
        uint8_t digest[DIGEST_SIZE];
        int r;

        if (*m->manifest.build_id)
                return 0;
        r = sha256_data(m->index.data, m->index.size, digest);
        if (r >= 0)
                hex_encode(digest, 8, m->manifest.build_id);
        return r;
}

/* Of the largest chunk. */
static int choose_chunk_size(struct maker *m, uint32_t *ret, struct error *e)
{
        bool by_content = m->manifest.format != BUNDLE_FIXED;
        uint32_t size = m->spec->chunk_size ?: by_content ? CUT_DEFAULT : CHUNK_DEFAULT;
        uint32_t max = by_content ? CHUNK_MAX / 4 : CHUNK_MAX;

        if (size < CHUNK_MIN || size > max || (size & (size - 1)))
                return fail(e, -EINVAL, &kind_usage, "the chunk size %u is not a power of two from %u to %u", size,
                            CHUNK_MIN, max);
        if (by_content)
                cut_init(&m->cut, size);
        *ret = by_content ? m->cut.max : size;
        return 0;
}

static int pack_images(struct maker *m, struct error *e)
{
        const struct bundle_spec *spec = m->spec;
        uint32_t chunk_size = 0;
        int r = choose_chunk_size(m, &chunk_size, e);

        if (r < 0)
                return r;
        if (spec->n_images == 0 || spec->n_images > BUNDLE_MAX_IMAGES)
                return fail(e, -EINVAL, &kind_usage, "%zu images: 1 to %d are possible", spec->n_images, BUNDLE_MAX_IMAGES);
        for (int place = 0; place <= 3; place++)
                for (size_t i = 0; i < spec->n_images && r >= 0; i++)
                        if (rank(spec->image_names[i]) == place)
                                r = add_image(m, spec->image_names[i], spec->image_files[i], chunk_size, e);
        if (r < 0)
                return r;
        r = packed_begin(m, chunk_size);
        for (size_t i = 0; i < m->manifest.n_images && r >= 0; i++)
                for (size_t j = 0; j < spec->n_images; j++)
                        if (streq(spec->image_names[j], m->manifest.images[i].name))
                                r = pack_image(m, &m->manifest.images[i], spec->image_files[j], e);
        return r < 0 ? r : name_build(m);
}

/* Header, manifest, signatures, and the index when it is given; then the rest, up to the header's total, from `rest` at
 * `from`. */
static int write_bundle(int fd, const struct header *h, const char *manifest, const char *signatures, const char *index,
                        int rest, uint64_t from)
{
        uint8_t header[HEADER_SIZE];
        uint64_t offset = HEADER_SIZE;
        int r;

        header_encode(h, header);
        r = io_pwrite(fd, header, sizeof(header), 0);
        if (r >= 0)
                r = io_pwrite(fd, manifest, h->manifest, offset);
        offset += h->manifest;
        if (r >= 0)
                r = io_pwrite(fd, signatures, h->signatures, offset);
        offset += h->signatures;
        if (r >= 0 && index)
                r = io_pwrite(fd, index, h->index, offset);
        offset += index ? h->index : 0;
        if (r >= 0)
                r = io_copy(rest, from, fd, offset, h->total - offset);
        return r < 0 ? r : io_fsync(fd);
}

int open_beside(const char *path, char **ret_name, struct error *e)
{
        char *name = xasprintf("%s.part", path);
        int fd = name ? io_open(AT_FDCWD, name, O_RDWR | O_CREAT | O_TRUNC, 0644) : -ENOMEM;

        if (fd < 0) {
                free(name);
                return fail_errno(e, fd, "cannot make %s.part", path);
        }
        *ret_name = name;
        return fd;
}

int finish_beside(int r, const char *name, const char *path, struct error *e)
{
        if (r >= 0)
                r = io_rename(AT_FDCWD, name, AT_FDCWD, path, RENAME_NOREPLACE);
        if (r >= 0)
                return 0;
        io_unlink(AT_FDCWD, name, 0);
        return fail_errno(e, r, "cannot write %s", path);
}

static int write_file(struct maker *m, const char *path, struct error *e)
{
        _cleanup_free_ char *manifest = manifest_format(&m->manifest), *name = NULL;
        _cleanup_buf_ struct buf signatures = {};
        _cleanup_close_ int fd = -1;
        struct header h = { .major = m->manifest.format, .index = m->index.size };
        int r;

        if (!manifest)
                return -ENOMEM;
        r = signatures_make(manifest, strlen(manifest), m->spec->key_files, m->spec->n_keys, NULL, 0, &signatures, e);
        if (r < 0)
                return r;
        fd = open_beside(path, &name, e);
        if (fd < 0)
                return fd;
        h.manifest = (uint32_t)strlen(manifest);
        h.signatures = (uint32_t)signatures.size;
        h.total = HEADER_SIZE + h.manifest + h.signatures + h.index + m->chunks_size;
        r = write_bundle(fd, &h, manifest, signatures.data, m->index.data, m->chunks, 0);
        return finish_beside(r, name, path, e);
}

int refuse_existing(const char *path, struct error *e)
{
        if (streq(path, "-")) {
                fail(e, -EINVAL, &kind_usage, "'-' is no file: a bundle is not written into a pipe");
                return fail_hint(e, "name a file; './-' would be one");
        }
        if (access(path, F_OK) < 0)
                return 0;
        fail(e, -EEXIST, &kind_usage, "%s exists already", path);
        return fail_hint(e, "remove it, or choose another name");
}

int bundle_create(const char *path, const struct bundle_spec *spec, struct progress *progress, struct error *e)
{
        struct maker m = { .spec = spec, .path = path, .progress = progress, .chunks = -1 };
        int r = refuse_existing(path, e);

        if (r < 0)
                return r;
        if (spec->n_keys == 0) {
                fail(e, -EINVAL, &kind_usage, "a bundle needs at least one key to be signed with");
                return fail_hint(e, "'bootmgr bundle keygen PREFIX' makes one, '--key PREFIX.key' signs with it");
        }
        r = fill_manifest(&m, e);
        if (r >= 0) {
                m.chunks = open_unnamed_beside(path);
                r = m.chunks < 0 ? fail_errno(e, m.chunks, "cannot make a file beside %s", path) : pack_images(&m, e);
        }
        if (r >= 0)
                r = write_file(&m, path, e);
        packed_end(&m);
        buf_done(&m.index);
        fd_close(m.chunks);
        return r;
}

/* What stands before the index of an existing bundle. */
static int read_head(int fd, struct header *h, char **manifest, uint8_t **block, struct error *e)
{
        uint8_t header[HEADER_SIZE];
        int r;

        r = io_pread(fd, header, sizeof(header), 0);
        if (r < 0)
                return fail(e, r, &kind_bundle_invalid, "this is not a bundle: it is shorter than a header");
        r = header_decode(header, h, e);
        if (r < 0)
                return r;
        *manifest = calloc(1, (size_t)h->manifest + 1);
        *block = malloc(MAX(h->signatures, 1U));
        if (!*manifest || !*block)
                return -ENOMEM;
        r = io_pread(fd, *manifest, h->manifest, HEADER_SIZE);
        if (r >= 0)
                r = io_pread(fd, *block, h->signatures, HEADER_SIZE + h->manifest);
        return r < 0 ? fail(e, r, &kind_bundle_invalid, "the bundle is cut off in its manifest or its signatures") : 0;
}

int bundle_sign(const char *path, const char *const *key_files, size_t n_keys, struct error *e)
{
        _cleanup_free_ char *manifest = NULL, *name = NULL;
        _cleanup_free_ uint8_t *block = NULL;
        _cleanup_close_ int from = io_open(AT_FDCWD, path, O_RDONLY, 0), to = -1;
        _cleanup_buf_ struct buf signatures = {};
        struct manifest parsed;
        struct header h;
        uint64_t rest, rest_size;
        int r;

        if (from < 0)
                return fail_errno(e, from, "cannot open %s", path);
        r = read_head(from, &h, &manifest, &block, e);
        if (r >= 0)
                r = manifest_parse(manifest, h.manifest, &parsed, e);
        if (r >= 0)
                r = signatures_make(manifest, h.manifest, key_files, n_keys, block, h.signatures, &signatures, e);
        if (r < 0)
                return r;
        to = open_beside(path, &name, e);
        if (to < 0)
                return to;
        rest = HEADER_SIZE + (uint64_t)h.manifest + h.signatures;
        rest_size = h.total - rest;
        h.signatures = (uint32_t)signatures.size;
        h.total = HEADER_SIZE + (uint64_t)h.manifest + h.signatures + rest_size;
        r = write_bundle(to, &h, manifest, signatures.data, NULL, from, rest);
        if (r >= 0)
                r = io_rename(AT_FDCWD, name, AT_FDCWD, path, 0);
        if (r < 0) {
                io_unlink(AT_FDCWD, name, 0);
                return fail_errno(e, r, "cannot write %s", path);
        }
        return 0;
}
