/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "image/source.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/io.h"
#include "slot/kinds.h"

int source_interrupted(const struct source *s, struct error *e)
{
        return fail(e, -ECANCELED, &kind_interrupted, "interrupted while waiting for %s", s->where);
}

static ssize_t file_source_read(struct source *s, void *data, size_t n, struct error *e)
{
        ssize_t r = read(s->fd, data, n);

        if (r >= 0)
                return r;
        return errno == EINTR ? source_interrupted(s, e)
                              : fail(e, -errno, &kind_fetch, "cannot read %s: %s", s->where, error_text(-errno));
}

static int file_source_skip(struct source *s, uint64_t n, struct error *e)
{
        if (s->size == UINT64_MAX)
                return -EOPNOTSUPP;
        return lseek(s->fd, (off_t)n, SEEK_CUR) < 0 ? fail_errno(e, -errno, "cannot seek in %s", s->where) : 0;
}

static bool file_source_can_go_back(const struct source *s)
{
        return s->size != UINT64_MAX;
}

static int file_source_go_back(struct source *s, uint64_t offset, struct error *e)
{
        return lseek(s->fd, (off_t)offset, SEEK_SET) < 0 ? fail_errno(e, -errno, "cannot seek in %s", s->where) : 0;
}

static void file_source_close(struct source *s)
{
        if (s->fd != STDIN_FILENO)
                fd_close(s->fd);
}

static ssize_t file_source_read_at(struct source *s, uint64_t offset, void *data, size_t n, struct error *e)
{
        ssize_t r;

        if (s->size == UINT64_MAX)
                return -EOPNOTSUPP;
        r = pread(s->fd, data, n, (off_t)offset);
        return r < 0 ? fail(e, -errno, &kind_fetch, "cannot read %s: %s", s->where, error_text(-errno)) : r;
}

static const struct source_ops file_ops = {
        .read = file_source_read,
        .skip = file_source_skip,
        .read_at = file_source_read_at,
        .go_back = file_source_go_back,
        .can_go_back = file_source_can_go_back,
        .close = file_source_close,
};

static int open_file(const char *path, struct source *s, struct error *e)
{
        struct stat st;

        s->ops = &file_ops;
        s->where = strdup(path);
        s->fd = streq(path, "-") ? STDIN_FILENO : io_open(AT_FDCWD, path, O_RDONLY, 0);
        if (!s->where)
                return -ENOMEM;
        if (s->fd < 0)
                return fail(e, s->fd, &kind_fetch, "cannot open %s: %s", path, error_text(s->fd));
        if (fstat(s->fd, &st) < 0)
                return fail_errno(e, -errno, "cannot look at %s", path);
        if (S_ISDIR(st.st_mode))
                return fail(e, -EISDIR, &kind_bundle_invalid, "%s is a directory, not a bundle", path);
        s->size = S_ISREG(st.st_mode) ? (uint64_t)st.st_size : UINT64_MAX;
        return 0;
}

static int refuse_scheme(const char *where, struct error *e)
{
        fail(e, -EPROTONOSUPPORT, &kind_usage, "%s is not a URL that bootmgr fetches", where);
        fail_hint(e, "use http:// or https://, or a file");
        return -EPROTONOSUPPORT;
}

int source_open(const char *where, const struct fetch_config *config, struct source **ret, struct error *e)
{
        static const struct fetch_config defaults = FETCH_DEFAULTS;
        struct source *s = calloc(1, sizeof(*s));
        int r;

        if (!s)
                return -ENOMEM;
        s->fd = -1;
        if (startswith(where, "http://") || startswith(where, "https://"))
                r = http_open(where, config ?: &defaults, s, e);
        else if (strstr(where, "://"))
                r = refuse_scheme(where, e);
        else
                r = open_file(where, s, e);
        if (r < 0) {
                source_free(s);
                return r;
        }
        *ret = s;
        return 0;
}

struct source *source_free(struct source *s)
{
        if (!s)
                return NULL;
        if (s->ops)
                s->ops->close(s);
        free(s->where);
        free(s);
        return NULL;
}

int source_read(struct source *s, void *data, size_t n, struct error *e)
{
        char *p = data;
        size_t done = 0;

        while (done < n) {
                ssize_t r = s->ops->read(s, p + done, n - done, e);

                if (r < 0)
                        return (int)r;
                if (r == 0)
                        break;
                done += (size_t)r;
                s->done += (uint64_t)r;
                s->handed += (uint64_t)r;
        }
        if (done == n)
                return 0;
        if (done == 0)
                return -ENODATA;
        return fail(e, -EBADMSG, &kind_bundle_invalid, "%s ends after %llu bytes, in the middle of something", s->where,
                    (unsigned long long)s->done);
}

int source_skip(struct source *s, uint64_t n, struct error *e)
{
        uint8_t dropped[65536];
        int r = s->ops->skip ? s->ops->skip(s, n, e) : -EOPNOTSUPP;

        if (r >= 0)
                s->done += n;
        if (r != -EOPNOTSUPP)
                return r;
        for (r = 0; n > 0 && r >= 0;) {
                size_t part = MIN(n, (uint64_t)sizeof(dropped));

                r = source_read(s, dropped, part, e);
                n -= part;
        }
        return r;
}

int source_read_at(struct source *s, uint64_t offset, void *data, size_t n, struct error *e)
{
        char *p = data;
        size_t done = 0;

        if (!s->ops->read_at)
                return -EOPNOTSUPP;
        while (done < n) {
                ssize_t r = s->ops->read_at(s, offset + done, p + done, n - done, e);

                if (r < 0)
                        return (int)r;
                if (r == 0)
                        return fail(e, -EBADMSG, &kind_bundle_invalid,
                                    "%s ends after %llu bytes, in the middle of something", s->where,
                                    (unsigned long long)(offset + done));
                done += (size_t)r;
        }
        return 0;
}

int source_read_again(struct source *s, uint64_t offset, void *data, size_t n, bool (*is_right)(void *userdata),
                      void *userdata)
{
        return s->ops->read_again ? s->ops->read_again(s, offset, data, n, is_right, userdata) : -EBADMSG;
}

int source_want(struct source *s, const struct source_range *ranges, size_t n)
{
        return s->ops->want ? s->ops->want(s, ranges, n) : 0;
}

uint64_t source_fetched(const struct source *s)
{
        return s->ops->fetched ? s->ops->fetched(s) : s->handed;
}

bool source_can_go_back(const struct source *s)
{
        return s->ops->can_go_back && s->ops->can_go_back(s);
}

int source_go_back(struct source *s, uint64_t offset, struct error *e)
{
        int r = s->ops->go_back(s, offset, e);

        if (r >= 0)
                s->done = offset;
        return r;
}

uint64_t source_size(const struct source *s)
{
        return s->size;
}
