/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "snapshot/archive.h"

#include <archive.h>
#include <archive_entry.h>
#include <locale.h>
#include <zstd.h>

#include "base/io.h"
#include "base/text.h"
#include "slot/kinds.h"
#include "snapshot/acl.h"
#include "snapshot/path.h"

#define IO_SIZE KIB(256)
/* 3 is zstd's default: what is sealed at a shutdown must not keep the machine waiting. Part of the format: another level
 * gives other bytes. */
#define ZSTD_LEVEL      "3"
#define SKIPPABLE_MAGIC UINT32_C(0x184D2A5B) /* any of 0x184D2A50 to 0x184D2A5F */

struct tar_writer {
        struct archive *archive;
        struct archive_entry *entry;
        struct sha256 *hash;
        char *buffer, *zeros; /* IO_SIZE each */
        locale_t locale;
        uint64_t offset;
        int fd;
        int error; /* of the output; libarchive has no room for it */
        bool given_up;
};

static int write_out(struct tar_writer *w, const void *data, size_t size)
{
        int r = w->fd < 0 ? 0 : io_pwrite(w->fd, data, size, w->offset);

        if (r >= 0)
                r = sha256_update(w->hash, data, size);
        if (r >= 0)
                w->offset += size;
        return r;
}

static la_ssize_t write_callback(struct archive *a, void *data, const void *buffer, size_t size)
{
        struct tar_writer *w = data;

        if (!w->given_up)
                w->error = write_out(w, buffer, size);
        if (w->error == 0 && !w->given_up)
                return (la_ssize_t)size;
        archive_set_error(a, EIO, "output");
        return -1;
}

static int fail_writer(struct tar_writer *w, const char *path, struct error *e)
{
        if (w->error < 0)
                return fail_write(e, w->error, "cannot write the archive");
        return fail(e, -EIO, NULL, "cannot put /%s into the archive: %s", path, archive_error_string(w->archive) ?: "");
}

static int open_writer(struct tar_writer *w)
{
        struct archive *a = w->archive;

        if (archive_write_set_format_pax(a) != ARCHIVE_OK || archive_write_add_filter_zstd(a) != ARCHIVE_OK ||
            archive_write_set_filter_option(a, "zstd", "compression-level", ZSTD_LEVEL) != ARCHIVE_OK ||
            archive_write_set_format_option(a, "pax", "xattrheader", "SCHILY") != ARCHIVE_OK ||
            archive_write_set_bytes_per_block(a, IO_SIZE) != ARCHIVE_OK ||
            /* Nothing may follow the frame: zstd(1) refuses padding. */
            archive_write_set_bytes_in_last_block(a, 1) != ARCHIVE_OK ||
            archive_write_open2(a, w, NULL, write_callback, NULL, NULL) != ARCHIVE_OK)
                return -EOPNOTSUPP;
        return 0;
}

int tar_writer_new(int fd, struct tar_writer **ret, struct error *e)
{
        _cleanup_tar_writer_ struct tar_writer *w = calloc(1, sizeof(*w));
        int r;

        if (!w)
                return -ENOMEM;
        w->fd = fd;
        w->archive = archive_write_new();
        w->entry = archive_entry_new();
        w->hash = sha256_new();
        w->buffer = malloc(IO_SIZE);
        w->zeros = calloc(1, IO_SIZE);
        w->locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
        if (!w->archive || !w->entry || !w->hash || !w->buffer || !w->zeros || !w->locale)
                return -ENOMEM;
        r = open_writer(w);
        if (r < 0)
                return fail(e, r, NULL, "libarchive cannot write pax archives with zstd: %s",
                            archive_error_string(w->archive) ?: "");
        *ret = TAKE_PTR(w);
        return 0;
}

void tar_writer_free(struct tar_writer *w)
{
        if (!w)
                return;
        /* Closing writes, and what was given up must not be written on; but without it libarchive 3.6 loses memory. */
        w->given_up = true;
        if (w->archive) {
                archive_write_close(w->archive);
                archive_write_free(w->archive);
        }
        archive_entry_free(w->entry);
        if (w->locale)
                freelocale(w->locale);
        sha256_free(w->hash);
        free(w->buffer);
        free(w->zeros);
        free(w);
}

static int describe(struct archive_entry *entry, const struct node *n)
{
        archive_entry_clear(entry);
        archive_entry_set_pathname(entry, n->path);
        archive_entry_set_mode(entry, n->mode);
        archive_entry_set_uid(entry, n->uid);
        archive_entry_set_gid(entry, n->gid);
        /* libarchive 3.6 writes a part of a second before 1970 so that tar reads another one. */
        archive_entry_set_mtime(entry, n->mtime.tv_sec, n->mtime.tv_sec < 0 ? 0 : n->mtime.tv_nsec);
        if (n->hardlink) {
                archive_entry_set_hardlink(entry, n->hardlink);
                return 0;
        }
        archive_entry_set_size(entry, (la_int64_t)n->size);
        if (n->target)
                archive_entry_set_symlink(entry, n->target);
        for (const struct xattr *x = n->xattrs; x; x = x->next) {
                int r = 0;

                if (streq(x->name, XATTR_ACL_ACCESS))
                        r = acl_to_entry(x, ARCHIVE_ENTRY_ACL_TYPE_ACCESS, entry);
                else if (streq(x->name, XATTR_ACL_DEFAULT))
                        r = acl_to_entry(x, ARCHIVE_ENTRY_ACL_TYPE_DEFAULT, entry);
                else
                        archive_entry_xattr_add_entry(entry, x->name, x->value, x->size);
                if (r < 0)
                        return r;
        }
        for (size_t i = 0; i < n->n_data; i++)
                archive_entry_sparse_add_entry(entry, (la_int64_t)n->data[i].offset, (la_int64_t)n->data[i].length);
        if (n->sparse && n->n_data == 0)
                archive_entry_sparse_add_entry(entry, 0, 0);
        return 0;
}

static int write_data(struct tar_writer *w, const char *data, size_t size)
{
        while (size > 0) {
                la_ssize_t n = archive_write_data(w->archive, data, size);

                if (n <= 0)
                        return -EIO;
                data += n;
                size -= (size_t)n;
        }
        return 0;
}

/* libarchive wants the holes too, and drops what it gets for them. */
static int write_hole(struct tar_writer *w, uint64_t length)
{
        int r = 0;

        for (; r >= 0 && length > 0; length -= MIN(length, IO_SIZE))
                r = write_data(w, w->zeros, (size_t)MIN(length, IO_SIZE));
        return r;
}

static int write_extent(struct tar_writer *w, const struct node *n, int fd, const struct extent *x, struct error *e)
{
        for (uint64_t done = 0; done < x->length;) {
                size_t size = (size_t)MIN(x->length - done, IO_SIZE);
                int r = io_pread(fd, w->buffer, size, x->offset + done);

                if (r < 0) {
                        struct stat st;

                        /* Reading behind the end says EIO as well. */
                        if (fstat(fd, &st) == 0 && (uint64_t)st.st_size < n->size)
                                return fail_changed(e, n->path);
                        return fail_errno(e, r, "cannot read /%s", n->path);
                }
                r = write_data(w, w->buffer, size);
                if (r < 0)
                        return fail_writer(w, n->path, e);
                done += size;
        }
        return 0;
}

static int write_content(struct tar_writer *w, const struct node *n, int fd, struct error *e)
{
        const struct extent whole = { 0, n->size };
        uint64_t at = 0;
        int r = 0;

        if (!n->sparse)
                return write_extent(w, n, fd, &whole, e);
        for (size_t i = 0; r >= 0 && i < n->n_data; i++) {
                r = write_hole(w, n->data[i].offset - at);
                if (r < 0)
                        return fail_writer(w, n->path, e);
                r = write_extent(w, n, fd, &n->data[i], e);
                at = n->data[i].offset + n->data[i].length;
        }
        if (r >= 0 && write_hole(w, n->size - at) < 0)
                r = fail_writer(w, n->path, e);
        return r;
}

/* Names are bytes. libarchive wants to store them as UTF-8, and from the C locale it can do so only with ASCII: the others
 * it stores as they are, marks so (hdrcharset=BINARY) and warns of it. That this mark is only where it is needed keeps
 * tar(1), which does not know it, quiet; that the locale is always the same keeps the bytes the same. */
static bool is_about_names(struct tar_writer *w)
{
        const char *text = archive_error_string(w->archive);

        return text && startswith(text, "Can't translate ");
}

static int write_header(struct tar_writer *w)
{
        locale_t before = uselocale(w->locale);
        int status = archive_write_header(w->archive, w->entry);

        uselocale(before);
        /* Every other warning is a loss: an attribute that does not fit. */
        return status == ARCHIVE_OK || (status == ARCHIVE_WARN && is_about_names(w)) ? 0 : -EIO;
}

int tar_writer_add(struct tar_writer *w, const struct node *n, int fd, struct error *e)
{
        int r = describe(w->entry, n);

        if (r < 0)
                return fail_errno(e, r, "the ACL of /%s has an unknown form", n->path);
        if (write_header(w) < 0)
                return fail_writer(w, n->path, e);
        r = S_ISREG(n->mode) && !n->hardlink ? write_content(w, n, fd, e) : 0;
        if (r >= 0 && archive_write_finish_entry(w->archive) != ARCHIVE_OK)
                r = fail_writer(w, n->path, e);
        return r;
}

int tar_trailer(const void *trailer, size_t size, struct buf *ret)
{
        uint8_t header[8];

        put_le32(header, SKIPPABLE_MAGIC);
        put_le32(header + 4, (uint32_t)size);
        buf_append(ret, header, sizeof(header));
        buf_append(ret, trailer, size);
        return ret->failed ? -ENOMEM : 0;
}

int tar_writer_finish(struct tar_writer *w, const void *trailer, size_t trailer_size, uint64_t *ret_size,
                      uint8_t digest[static SHA256_SIZE], struct error *e)
{
        _cleanup_buf_ struct buf frame = {};
        int r;

        if (archive_write_close(w->archive) != ARCHIVE_OK)
                return fail_writer(w, "", e);
        r = tar_trailer(trailer, trailer_size, &frame);
        if (r >= 0)
                r = write_out(w, frame.data, frame.size);
        if (r >= 0)
                r = sha256_final(w->hash, digest);
        if (r < 0)
                return fail_write(e, r, "cannot write the archive");
        *ret_size = w->offset;
        return 0;
}

/* What may come out of the decompressor for the headers of one node: libarchive takes up to 1 MiB for each extension. */
#define HEADERS_MAX MIB(4)
/* A list of a sparse file's extents costs memory before any of its data: its lines are at most 42 bytes for two blocks. */
#define MAP_MAX MIB(64)
/* 8 MiB; what is written with level 3 has 2 MiB. More memory than that is not asked for. */
#define WINDOW_LOG_MAX 23

struct tar_reader {
        struct archive *archive;
        ZSTD_DStream *zstd;
        ZSTD_inBuffer in;
        char *buffer, *content; /* IO_SIZE each: as stored, as decompressed */
        struct sha256 *hash;    /* of what was read; NULL: not asked for */
        uint8_t digest[SHA256_SIZE];
        uint64_t offset, end; /* in the file */
        uint64_t budget;      /* bytes that may still be decompressed for what is read now */
        bool within_frame;
        uint64_t size; /* of the present node */
        uint64_t at;   /* where its next data may begin */
        int fd;
        int error;
        char *path; /* of the present node, for messages */
};

static int refill(struct tar_reader *r)
{
        size_t n = (size_t)MIN(r->end - r->offset, IO_SIZE);
        int code = io_pread(r->fd, r->buffer, n, r->offset);

        if (code >= 0 && r->hash)
                code = sha256_update(r->hash, r->buffer, n);
        if (code < 0)
                return code;
        r->offset += n;
        r->in = (ZSTD_inBuffer){ .src = r->buffer, .size = n };
        return 0;
}

static la_ssize_t refuse_read(struct tar_reader *r, const char *why)
{
        archive_set_error(r->archive, EILSEQ, "%s", why);
        return -1;
}

/* Not libarchive's own filter: that one takes any window, filters within filters, and as much as comes. */
static la_ssize_t read_callback(struct archive *a, void *data, const void **ret)
{
        struct tar_reader *r = data;
        ZSTD_outBuffer out = { .dst = r->content, .size = IO_SIZE };

        while (out.pos < out.size) {
                size_t left;

                if (r->in.pos == r->in.size) {
                        if (r->offset == r->end)
                                break;
                        r->error = refill(r);
                        if (r->error < 0)
                                return refuse_read(r, "input");
                }
                left = ZSTD_decompressStream(r->zstd, &out, &r->in);
                if (ZSTD_isError(left))
                        return refuse_read(r, ZSTD_getErrorName(left));
                r->within_frame = left > 0;
        }
        if (out.pos == 0 && r->within_frame)
                return refuse_read(r, "unexpected end");
        if (out.pos > r->budget)
                return refuse_read(r, "more headers than a file can have");
        r->budget -= out.pos;
        *ret = r->content;
        return (la_ssize_t)out.pos;
}

/* For what the caller asks for next: `content` bytes, the list of its extents, the headers behind it, and what is read
 * ahead of them. Never more than that, so that nothing can be saved up. */
static void grant(struct tar_reader *r, uint64_t content)
{
        r->budget = content + MIN(content / 128, MAP_MAX) + HEADERS_MAX;
}

static int fail_reader(struct tar_reader *r, struct error *e)
{
        if (r->error < 0)
                return fail_errno(e, r->error, "cannot read the archive");
        return fail(e, -EBADMSG, &kind_snapshot_altered, "the archive is damaged%s%s: %s", r->path ? " at " : "",
                    r->path ?: "", archive_error_string(r->archive) ?: "unexpected end");
}

static int open_reader(struct tar_reader *r)
{
        /* Only what we write: every other format and filter is attack surface. */
        return archive_read_support_format_tar(r->archive) == ARCHIVE_OK &&
                               archive_read_open(r->archive, r, NULL, read_callback, NULL) == ARCHIVE_OK
                       ? 0
                       : -EBADMSG;
}

int tar_reader_new(int fd, const uint8_t *digest, struct tar_reader **ret, struct error *e)
{
        _cleanup_tar_reader_ struct tar_reader *r = calloc(1, sizeof(*r));
        struct stat st;

        if (!r)
                return -ENOMEM;
        if (fstat(fd, &st) < 0)
                return fail_errno(e, -errno, "cannot look at the archive");
        r->fd = fd;
        r->end = (uint64_t)st.st_size;
        r->archive = archive_read_new();
        r->zstd = ZSTD_createDStream();
        r->buffer = malloc(IO_SIZE);
        r->content = malloc(IO_SIZE);
        r->hash = digest ? sha256_new() : NULL;
        if (!r->archive || !r->zstd || !r->buffer || !r->content || (digest && !r->hash))
                return -ENOMEM;
        if (digest)
                memcpy(r->digest, digest, sizeof(r->digest));
        ZSTD_DCtx_setParameter(r->zstd, ZSTD_d_windowLogMax, WINDOW_LOG_MAX);
        grant(r, 0);
        if (open_reader(r) < 0)
                return fail_reader(r, e);
        *ret = TAKE_PTR(r);
        return 0;
}

void tar_reader_free(struct tar_reader *r)
{
        if (!r)
                return;
        archive_read_free(r->archive);
        ZSTD_freeDStream(r->zstd);
        sha256_free(r->hash);
        free(r->buffer);
        free(r->content);
        free(r->path);
        free(r);
}

/* tar(1) and libarchive write two characters of attribute names so: "=" and "%". */
static void decode_percent(char *name)
{
        char *to = name;

        for (const char *from = name; *from; to++) {
                uint8_t c;

                if (from[0] == '%' && from[1] && from[2] && hex_decode((char[]){ from[1], from[2], '\0' }, &c, 1) == 0) {
                        *to = (char)c;
                        from += 3;
                } else {
                        *to = *from++;
                }
        }
        *to = '\0';
}

static int read_xattrs(struct archive_entry *entry, struct node *n)
{
        const char *encoded;
        const void *value;
        size_t size;

        archive_entry_xattr_reset(entry);
        while (archive_entry_xattr_next(entry, &encoded, &value, &size) == ARCHIVE_OK) {
                _cleanup_free_ char *name = strdup(encoded);
                int r;

                if (!name)
                        return -ENOMEM;
                decode_percent(name);
                if (size > XATTR_VALUE_MAX || !xattr_is_wanted(name))
                        return -EBADMSG;
                r = xattr_add(&n->xattrs, name, value, size);
                if (r < 0)
                        return r;
        }
        return acl_from_entry(entry, n);
}

/* Takes over what libarchive says of an entry. */
static int take_entry(struct archive_entry *entry, const char *path, struct node *n)
{
        const char *hardlink = archive_entry_hardlink(entry), *target = archive_entry_symlink(entry);
        size_t size = strlen(path);

        while (size > 0 && path[size - 1] == '/')
                size--;
        n->path = strndup(path, size);
        n->mode = hardlink ? S_IFREG : archive_entry_mode(entry);
        n->uid = (uid_t)archive_entry_uid(entry);
        n->gid = (gid_t)archive_entry_gid(entry);
        n->mtime = (struct timespec){ .tv_sec = archive_entry_mtime(entry), .tv_nsec = archive_entry_mtime_nsec(entry) };
        n->size = !hardlink && S_ISREG(n->mode) ? (uint64_t)archive_entry_size(entry) : 0;
        n->hardlink = hardlink ? strdup(hardlink) : NULL;
        n->target = !hardlink && S_ISLNK(n->mode) && target ? strdup(target) : NULL;
        if (!n->path || (hardlink && !n->hardlink) || (!hardlink && S_ISLNK(n->mode) && !n->target))
                return -ENOMEM;
        return hardlink ? 0 : read_xattrs(entry, n);
}

static const char *entry_problem(const struct node *n)
{
        if (!path_is_clean(n->path))
                return "its name leads out of the archive";
        if (n->hardlink && !path_is_clean(n->hardlink))
                return "it is a link that leads out of the archive";
        if (!S_ISREG(n->mode) && !S_ISDIR(n->mode) && !S_ISLNK(n->mode) && !S_ISFIFO(n->mode))
                return "its type has no place in a snapshot";
        if (n->size > INT64_MAX)
                return "its size is not one";
        return NULL;
}

/* What was verified before it was read may have been written to since, by whoever has it open. */
static int check_end(struct tar_reader *r, struct error *e)
{
        uint8_t digest[SHA256_SIZE];
        int code = 0;

        while (r->hash && code >= 0 && r->offset < r->end)
                code = refill(r);
        if (r->hash && code >= 0)
                code = sha256_final(r->hash, digest);
        if (code < 0)
                return fail_errno(e, code, "cannot read the archive");
        if (r->hash && memcmp(digest, r->digest, sizeof(digest)) != 0)
                return fail(e, -EBADMSG, &kind_snapshot_altered, "the archive was altered while it was read");
        return 0;
}

int tar_reader_next(struct tar_reader *r, struct node *ret, struct error *e)
{
        _cleanup_node_ struct node n = {};
        struct archive_entry *entry;
        const char *path, *problem;
        int status, code;

        grant(r, r->size - r->at);
        status = archive_read_next_header(r->archive, &entry);
        free(TAKE_PTR(r->path));
        if (status == ARCHIVE_EOF)
                return check_end(r, e);
        /* Not ARCHIVE_WARN either: what it cannot read, it leaves out. */
        if (status != ARCHIVE_OK)
                return fail_reader(r, e);
        path = archive_entry_pathname(entry);
        if (!path)
                return fail(e, -EBADMSG, &kind_snapshot_altered, "the archive holds a file without a name");
        r->path = text_escape(path);
        code = take_entry(entry, path, &n);
        if (code == -ENOMEM || !r->path)
                return -ENOMEM;
        problem = code < 0 ? "its attributes are malformed" : entry_problem(&n);
        if (problem)
                return fail(e, -EBADMSG, &kind_snapshot_altered, "the archive holds %s: %s", r->path, problem);
        r->size = n.size;
        r->at = 0;
        grant(r, n.size);
        *ret = TAKE(n, (struct node){});
        return 1;
}

int tar_reader_block(struct tar_reader *r, const void **ret, size_t *ret_size, uint64_t *ret_offset, struct error *e)
{
        const void *data;
        la_int64_t offset;
        size_t size;

        for (;;) {
                int status = archive_read_data_block(r->archive, &data, &size, &offset);

                if (status == ARCHIVE_EOF)
                        return 0;
                if (status != ARCHIVE_OK)
                        return fail_reader(r, e);
                if (offset < 0 || (uint64_t)offset < r->at || (uint64_t)offset > r->size ||
                    size > r->size - (uint64_t)offset)
                        return fail(e, -EBADMSG, &kind_snapshot_altered, "the archive holds %s: data outside its size",
                                    r->path);
                if (size == 0)
                        continue; /* says where the file ends, behind a hole */
                *ret = data;
                *ret_size = size;
                *ret_offset = (uint64_t)offset;
                r->at = (uint64_t)offset + size;
                return 1;
        }
}
