/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cluster/bundles.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/io.h"
#include "base/log.h"
#include "cluster/change.h"
#include "cluster/etcd_members.h"
#include "cluster/home.h"
#include "image/bundle.h"
#include "slot/kinds.h"

#define DIRECTORY CLUSTER_HOME "/bundles"
#define COPY_SIZE KIB(256)
#define PATIENCE  (20 * UINT64_C(1000000)) /* µs without a byte from any controller */

static char *path_of(const uint8_t digest[static DIGEST_SIZE], const char *suffix)
{
        _cleanup_free_ char *path = cluster_bundle_path(".", digest);

        return path ? xasprintf("%s%s", path, suffix) : NULL;
}

/* What is kept serves every node, whatever it runs, and who joins later. */
static int refuse_delta(const struct bundle *bundle, const char *where, struct error *e)
{
        const struct bundle_delta *delta = bundle_delta(bundle);

        if (!delta)
                return 0;
        fail(e, -EINVAL, &kind_bundle_incompatible,
             "%s is a delta to version %s: not every node of a cluster could install it", where, delta->version);
        return fail_hint(e, "give the full bundle%s%s", delta->url ? ": " : "", delta->url ?: "");
}

/* What an etcd of another minor version has written, this one may not read: with it there is no way back for the store. */
static int refuse_etcd(struct machine *m, const struct manifest *manifest, struct error *e)
{
        _cleanup_close_ int home = -1;
        _cleanup_free_ char *running = NULL;
        size_t n = strlen(manifest->etcd);
        int r;

        if (n == 0 || cluster_role(m->data_path) != ROLE_CONTROLLER)
                return 0;
        r = home = cluster_home(m->data_path, false, e);
        if (r >= 0)
                r = etcd_version(home, &running, e);
        if (r < 0 || (strncmp(running, manifest->etcd, n) == 0 && (running[n] == '.' || running[n] == '\0')))
                return r;
        fail(e, -EINVAL, &kind_bundle_incompatible, "version %s has etcd %s, and the store of this controller is etcd %s",
             manifest->version, manifest->etcd, running);
        return fail_hint(e,
                         "make a bundle whose etcd has the same major and minor version: there is no way back for a store");
}

int bundles_identify(struct machine *m, const char *where, struct version_id *ret, struct error *e)
{
        struct trust trust = { .directory = m->config.trust_directory, .threshold = m->config.trust_threshold };
        struct bundle *bundle;
        int r = bundle_open_from(where, &m->config.fetch, &trust, &bundle, e);

        if (r < 0)
                return r;
        *ret = (struct version_id){};
        strcpy(ret->version, bundle_manifest(bundle)->version);
        memcpy(ret->digest, bundle_manifest(bundle)->digest, DIGEST_SIZE);
        r = refuse_delta(bundle, where, e);
        if (r >= 0)
                r = refuse_etcd(m, bundle_manifest(bundle), e);
        bundle_free(bundle);
        return r;
}

/* ---- keeping ---- */

static int copy_to(struct source *source, int fd, struct error *e)
{
        _cleanup_free_ char *block = malloc(COPY_SIZE);
        uint64_t size = source_size(source);
        int r = block ? 0 : -ENOMEM;

        if (size == UINT64_MAX)
                return fail(e, -EINVAL, &kind_fetch,
                            "the source does not say how long the bundle is: a cluster needs a file or a URL");
        for (uint64_t at = 0, n; at < size && r >= 0; at += n) {
                n = MIN(size - at, COPY_SIZE);
                r = source_read(source, block, n, e);
                if (r < 0)
                        return r;
                r = io_pwrite(fd, block, n, at);
        }
        if (r >= 0)
                r = io_fsync(fd);
        return r < 0 ? fail_errno(e, r, "cannot copy the bundle to " DIRECTORY) : 0;
}

static int copy(struct machine *m, const char *from, const char *part, struct error *e)
{
        _cleanup_close_ int fd = -1;
        struct source *source;
        int r;

        r = source_open(from, &m->config.fetch, &source, e);
        if (r < 0)
                return r;
        fd = io_open(m->snapshots.data, part, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        r = fd < 0 ? fail_errno(e, fd, "cannot make %s/%s", m->data_path, part) : copy_to(source, fd, e);
        source_free(source);
        return r;
}

/* What was looked at and what was copied may be two, and pieces of the copy may come from several servers: what lies here
 * now is what counts, to its last chunk. */
static int check_copy(struct machine *m, const char *copied, const struct version_id *wanted, const char *source,
                      struct error *e)
{
        struct trust trust = { .directory = m->config.trust_directory, .threshold = m->config.trust_threshold };
        struct bundle *bundle;
        int r = bundle_open_from(copied, &m->config.fetch, &trust, &bundle, e);

        if (r < 0)
                return r;
        if (memcmp(bundle_manifest(bundle)->digest, wanted->digest, DIGEST_SIZE) != 0)
                r = fail(e, -EBADMSG, &kind_bundle_invalid, "%s changed while it was copied", source);
        else
                r = bundle_extract(bundle, NULL, NULL, e);
        bundle_free(bundle);
        return r;
}

static int copy_checked(struct machine *m, const char *from, const char *part, const struct version_id *wanted,
                        struct error *e)
{
        _cleanup_free_ char *copied = xasprintf("%s/%s", m->data_path, part);
        int r = copied ? copy(m, from, part, e) : -ENOMEM;

        return r < 0 ? r : check_copy(m, copied, wanted, from, e);
}

bool bundles_is_damage(const struct error *why)
{
        return why->kind == &kind_content || why->kind == &kind_bundle_invalid || why->kind == &kind_bundle_untrusted;
}

/* From all servers together, which is quickest. Where that is no whole bundle, from each of those that were named by itself:
 * one of them may be right. */
static int copy_from_any(struct machine *m, const char *source, const char *part, const struct version_id *wanted,
                         struct error *e)
{
        _cleanup_free_ char *words = strdup(source);
        char **mirrors = m->config.fetch.mirrors, *cursor = words, *word;
        int r = words ? copy_checked(m, source, part, wanted, e) : -ENOMEM;

        if (r >= 0 || !e || !bundles_is_damage(e) || access(source, F_OK) == 0)
                return r;
        m->config.fetch.mirrors = NULL;
        while (r < 0 && (word = strsep(&cursor, " \t\n"))) {
                struct error why = {};

                if (!*word || (streq(word, source) && !mirrors))
                        continue;
                log_warning("%s: it is copied from %s alone", e->message ?: error_text(r), word);
                if (copy_checked(m, word, part, wanted, &why) >= 0) {
                        error_done(e);
                        r = 0;
                }
                error_done(&why);
        }
        m->config.fetch.mirrors = mirrors;
        return r;
}

static bool is_kept(const char *name, const struct version_id *keep, size_t n)
{
        uint8_t digest[DIGEST_SIZE];

        if (hex_decode(name, digest, sizeof(digest)) < 0)
                return false;
        for (size_t i = 0; i < n; i++)
                if (version_id_is(&keep[i]) && memcmp(keep[i].digest, digest, sizeof(digest)) == 0)
                        return true;
        return false;
}

static void prune(int directory, const struct version_id *keep, size_t n)
{
        _cleanup_closedir_ DIR *dir = fdopendir(directory);
        struct dirent *entry;

        while (dir && (entry = readdir(dir)))
                if (*entry->d_name != '.' && !is_kept(entry->d_name, keep, n))
                        io_unlink(dirfd(dir), entry->d_name, 0);
}

static int open_directory(struct machine *m, struct error *e)
{
        int r = machine_need_data(m, e), fd;

        if (r < 0)
                return r;
        r = mkdir_parents(m->snapshots.data, DIRECTORY, 0700);
        fd = r < 0 ? r : dir_open(m->snapshots.data, DIRECTORY);
        return fd < 0 ? fail_errno(e, fd, "cannot open %s/" DIRECTORY, m->data_path) : fd;
}

static int make_room(struct machine *m, const struct version_id *keep, size_t n, struct error *e)
{
        int fd = open_directory(m, e);

        if (fd < 0)
                return fd;
        prune(fd, keep, n);
        return 0;
}

int bundles_lock(struct machine *m, int *ret, struct error *e)
{
        _cleanup_close_ int fd = open_directory(m, e);

        if (fd < 0)
                return fd;
        if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
                if (errno != EWOULDBLOCK)
                        return fail_errno(e, -errno, "cannot lock %s/" DIRECTORY, m->data_path);
                fail(e, -EBUSY, &kind_busy, "another upgrade of the cluster is being prepared on this controller");
                return fail_hint(e, "'bootmgr show upgrade status' shows it once it is open");
        }
        *ret = fd;
        fd = -1;
        return 0;
}

/* One that has decayed is copied anew. */
static bool is_kept_whole(struct machine *m, const char *path, const struct version_id *wanted)
{
        _cleanup_free_ char *kept = xasprintf("%s/%s", m->data_path, path);
        _cleanup_error_ struct error why = {};

        if (!kept || faccessat(m->snapshots.data, path, F_OK, 0) < 0)
                return false;
        if (check_copy(m, kept, wanted, kept, &why) >= 0)
                return true;
        log_warning("%s: it is copied anew", why.message ?: kept);
        return false;
}

int bundles_keep(struct machine *m, const char *source, const struct version_id *keep, size_t n_keep, struct version_id *ret,
                 struct error *e)
{
        _cleanup_free_ char *path = NULL, *part = NULL;
        _cleanup_error_ struct error why = {};
        int r;

        r = machine_need_data(m, e);
        if (r >= 0)
                r = bundles_identify(m, source, ret, e);
        if (r < 0)
                return r;
        path = path_of(ret->digest, "");
        part = path_of(ret->digest, ".part");
        if (!path || !part)
                return -ENOMEM;
        if (is_kept_whole(m, path, ret))
                return 0;
        r = make_room(m, keep, n_keep, e);
        if (r >= 0)
                r = copy_from_any(m, source, part, ret, &why);
        if (r < 0) {
                if (e && e->code == 0)
                        *e = TAKE(why, (struct error){});
                io_unlink(m->snapshots.data, part, 0); /* what is left of it would take room from what goes back */
                return r;
        }
        r = io_rename(m->snapshots.data, part, m->snapshots.data, path, 0);
        if (r >= 0)
                r = io_fsync_dir(m->snapshots.data, DIRECTORY);
        return r < 0 ? fail_errno(e, r, "cannot make %s/%s", m->data_path, path) : 0;
}

int bundles_drop(struct machine *m, const uint8_t digest[static DIGEST_SIZE], struct error *e)
{
        _cleanup_free_ char *path = path_of(digest, "");
        int r = path ? io_unlink(m->snapshots.data, path, 0) : -ENOMEM;

        return r < 0 && r != -ENOENT ? fail_errno(e, r, "cannot remove %s/%s", m->data_path, path) : 0;
}

/* ---- finding ---- */

static int replace_with(char **to, const struct machine *m, const char *name)
{
        char *path = xasprintf("%s/cluster/%s", m->data_path, name);

        if (!path)
                return -ENOMEM;
        free(*to);
        *to = path;
        return 0;
}

static int with_own_certificate(struct machine *m)
{
        struct fetch_config *f = &m->config.fetch;
        int r;

        /* It is asked for again in a while, of whoever is a controller then, and when something else was told. */
        f->retry = MIN(f->retry, PATIENCE);
        r = replace_with(&f->ca_certificate, m, "ca.pem");

        if (r >= 0)
                r = replace_with(&f->certificate, m, "node.pem");
        return r < 0 ? r : replace_with(&f->key, m, "node.key");
}

static void add_url(struct buf *urls, const char *controller, const char *hex)
{
        buf_printf(urls, "%s%s" BUNDLES_PATH "%s", urls->size ? " " : "", controller, hex);
}

/* A node's list is that of its joining; controllers have the newest one, in their store. */
static int list_of_node(struct machine *m, struct buf *urls, const char *hex, struct error *e)
{
        _cleanup_close_ int home = cluster_home(m->data_path, false, e);
        const char *controllers[CLIENT_ENDPOINTS + 1];
        _cleanup_free_ char *text = NULL;
        int r = home < 0 ? home : cluster_endpoints(home, "controllers", &text, controllers, e);

        for (size_t i = 0; r >= 0 && controllers[i]; i++)
                add_url(urls, controllers[i], hex);
        return r;
}

static int list_of_controller(struct machine *m, struct buf *urls, const char *hex, struct error *e)
{
        _cleanup_cluster_view_ struct cluster_view view = {};
        _cleanup_store_ struct store *store = NULL;
        int r = cluster_open_store(m->data_path, NULL, &store, e);

        if (r >= 0)
                r = cluster_read(store, &view, e);
        for (size_t i = 0; r >= 0 && i < view.n_nodes; i++)
                if (node_decides(&view.nodes[i]) && *view.nodes[i].member.address)
                        add_url(urls, view.nodes[i].member.address, hex);
        return r;
}

static int list_urls(struct machine *m, const uint8_t digest[static DIGEST_SIZE], char **ret, struct error *e)
{
        _cleanup_buf_ struct buf urls = {};
        char hex[2 * DIGEST_SIZE + 1];
        int r;

        hex_encode(digest, DIGEST_SIZE, hex);
        r = cluster_role(m->data_path) == ROLE_CONTROLLER ? list_of_controller(m, &urls, hex, e)
                                                          : list_of_node(m, &urls, hex, e);
        if (r >= 0 && urls.size == 0)
                return fail(e, -EHOSTUNREACH, &kind_fetch, "no controller is known that could have the version");
        if (r < 0)
                return r;
        *ret = buf_take(&urls);
        return *ret ? 0 : -ENOMEM;
}

int bundles_find(struct machine *m, const uint8_t digest[static DIGEST_SIZE], char **ret, struct error *e)
{
        _cleanup_free_ char *path = path_of(digest, "");
        int r;

        if (!path)
                return -ENOMEM;
        if (m->snapshots.data >= 0 && faccessat(m->snapshots.data, path, R_OK, 0) == 0) {
                *ret = xasprintf("%s/%s", m->data_path, path);
                return *ret ? 0 : -ENOMEM;
        }
        r = with_own_certificate(m);
        return r < 0 ? r : list_urls(m, digest, ret, e);
}
