/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* GET /api/cluster/bundles/DIGEST: what this controller keeps for its cluster, in ranges (RFC 9110, section 14; one at a
 * time). What lies under a digest never changes, so that the digest is its entity tag. */
#include <fcntl.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/parse.h"
#include "daemon/cluster.h"
#include "slot/kinds.h"

/* "bytes=A-B", "bytes=A-", "bytes=-N". 1: these bytes; 0: the whole, as for a header that cannot be understood; -ERANGE. */
static int parse_range(const char *text, uint64_t total, uint64_t *ret_from, uint64_t *ret_size)
{
        const char *spec = text ? startswith(text, "bytes=") : NULL, *dash = spec ? strchr(spec, '-') : NULL;
        _cleanup_free_ char *first = dash ? strndup(spec, (size_t)(dash - spec)) : NULL;
        uint64_t from = 0, last = UINT64_MAX;

        *ret_from = 0;
        *ret_size = total;
        if (!first || strchr(spec, ',') || (!*first && !dash[1]) || (*first && parse_u64(first, &from) < 0) ||
            (dash[1] && parse_u64(dash + 1, &last) < 0) || (*first && last < from))
                return 0;
        if (!*first) { /* the last N */
                from = total - MIN(last, total);
                last = UINT64_MAX;
        }
        if (from >= total)
                return -ERANGE;
        *ret_from = from;
        *ret_size = MIN(last, total - 1) - from + 1;
        return 1;
}

static int open_bundle(struct cluster *c, const char *name, uint64_t *ret_size, struct error *e)
{
        _cleanup_free_ char *path = NULL;
        uint8_t digest[DIGEST_SIZE];
        struct stat st;
        int fd = -ENOENT;

        /* The name becomes part of a path. */
        if (c->role == ROLE_CONTROLLER && hex_decode(name, digest, sizeof(digest)) >= 0) {
                path = cluster_bundle_path(c->config->data, digest);
                fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -ENOMEM;
        }
        if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
                fd_close(fd);
                return fail(e, -ENOENT, &kind_not_found, "this machine keeps no such bundle");
        }
        *ret_size = (uint64_t)st.st_size;
        return fd;
}

void nodes_handle_bundle(struct cluster *c, struct http_request *r)
{
        const char *only_if = http_header(r, "If-Range");
        struct http_part part = { .tag = r->argument };
        _cleanup_error_ struct error e = {};
        int result;

        part.fd = open_bundle(c, r->argument, &part.total, &e);
        if (part.fd < 0) {
                http_answer_error(r, &e);
                return;
        }
        result = parse_range(http_header(r, "Range"), part.total, &part.from, &part.size);
        if (result > 0 && only_if && !strstr(only_if, r->argument)) {
                result = 0;
                part.from = 0;
                part.size = part.total;
        }
        part.is_range = result > 0;
        part.is_outside = result == -ERANGE;
        if (part.is_outside)
                part.fd = fd_close(part.fd);
        http_answer_part(r, &part);
}
