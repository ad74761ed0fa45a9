/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The store of a machine that stands alone: one file, replaced by each transaction. Other processes may have it open: each
 * takes the lock for a transaction, and reads the file when it is not the one that it has read before. */
#include <fcntl.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/io.h"
#include "base/log.h"
#include "cluster/backend.h"
#include "cluster/home.h"
#include "cluster/table.h"
#include "slot/kinds.h"

#define FILE_NAME LOCAL_STORE
#define LOCK_NAME "store.lock"
#define LOCK_USEC (2 * USEC_PER_SEC) /* a transaction takes milliseconds */
#define LOCK_STEP (5 * USEC_PER_MSEC)

/* What was answered at once and is told later. */
struct answer {
        struct answer *next;
        struct store_call *call;
        int result;
        struct store_reply reply;
        struct error e;
};

struct local {
        struct store store;
        int dir;
        char *path;
        struct stat seen; /* the file that was read or written last; st_ino 0: none */
        bool open;        /* what comes now comes behind what was found at first */
        struct table table;
        struct answer *answers, **last;
        sd_event_source *due, *inotify;
};

static struct local *local_of(struct store *s)
{
        return (struct local *)s;
}

static int load(struct local *l, struct table *ret, struct error *e)
{
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r = file_read(l->dir, FILE_NAME, TABLE_FILE_MAX, &text, &size);

        if (r == -ENOENT) {
                table_init(ret);
                return 0;
        }
        if (r < 0)
                return fail(e, r, &kind_store, "cannot read %s/" FILE_NAME ": %s", l->path, error_text(r));
        r = table_parse(text, size, ret, e);
        if (r < 0)
                fail_hint(e, "it is damaged, or of a newer bootmgr: %s/" FILE_NAME, l->path);
        return r;
}

/* What another process has written becomes known. */
static int refresh(struct local *l, struct error *e)
{
        struct table newer;
        struct stat st = {};
        int r;

        if (fstatat(l->dir, FILE_NAME, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno != ENOENT)
                return fail(e, -errno, &kind_store, "cannot read %s/" FILE_NAME ": %s", l->path, error_text(-errno));
        if (st.st_ino == l->seen.st_ino && st.st_size == l->seen.st_size && st.st_ctim.tv_sec == l->seen.st_ctim.tv_sec &&
            st.st_ctim.tv_nsec == l->seen.st_ctim.tv_nsec)
                return 0;
        r = load(l, &newer, e);
        if (r < 0)
                return r;
        r = l->open ? table_follow(&l->table, &newer) : table_replace(&l->table, &newer);
        if (r == -ENOMEM) {
                table_done(&newer);
                return r;
        }
        for (struct store_watch *w = l->store.watches; w && r == -ESTALE; w = w->next)
                w->next_revision = 0;
        l->seen = st;
        return 0;
}

static int take_lock(struct local *l, struct error *e)
{
        _cleanup_close_ int fd = io_open(l->dir, LOCK_NAME, O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
        uint64_t end = now_monotonic() + LOCK_USEC;

        if (fd < 0)
                return fail(e, fd, &kind_store, "cannot open %s/" LOCK_NAME ": %s", l->path, error_text(fd));
        while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
                if (errno != EWOULDBLOCK && errno != EINTR)
                        return fail(e, -errno, &kind_store, "cannot lock %s/" LOCK_NAME ": %s", l->path, error_text(-errno));
                if (now_monotonic() >= end)
                        return fail(e, -EBUSY, &kind_store, "another process holds %s/" LOCK_NAME, l->path);
                nanosleep(&(struct timespec){ .tv_nsec = LOCK_STEP * 1000 }, NULL);
        }
        return TAKE_FD(fd);
}

static int save(struct local *l, struct error *e)
{
        _cleanup_free_ char *text = table_format(&l->table);
        size_t size = text ? strlen(text) : 0;
        int r;

        if (!text)
                return -ENOMEM;
        if (size > TABLE_FILE_MAX)
                return fail(e, -ENOSPC, &kind_store, "the local store would have more than %llu MiB",
                            (unsigned long long)TABLE_FILE_MAX >> 20);
        r = file_replace(l->dir, FILE_NAME, text, size, 0600);
        if (r < 0)
                return fail(e, r, &kind_store, "cannot write %s/" FILE_NAME ": %s", l->path, error_text(r));
        if (fstatat(l->dir, FILE_NAME, &l->seen, AT_SYMLINK_NOFOLLOW) < 0)
                l->seen.st_ino = 0; /* it is read again */
        return 0;
}

/* 1: made and durable. 0: a compare does not hold. */
static int commit_locked(struct local *l, const struct store_txn *txn, struct error *e)
{
        uint64_t before;
        int r = refresh(l, e);

        if (r < 0)
                return r;
        before = l->table.revision;
        r = table_commit(&l->table, txn);
        if (r <= 0 || l->table.revision == before)
                return r;
        r = save(l, e);
        if (r >= 0)
                return 1;
        table_take_back(&l->table);
        /* The new file may be in its place, only not flushed: then it counts, and is found now. */
        l->seen.st_ino = 0;
        return refresh(l, NULL) < 0 || l->table.revision != before ? -EREMOTEIO : r;
}

/* ---- answers and changes are told from the loop ---- */

static void is_due(struct local *l)
{
        sd_event_source_set_enabled(l->due, SD_EVENT_ONESHOT);
}

static struct answer *answer_new(struct local *l, struct store_call *call)
{
        struct answer *a = calloc(1, sizeof(*a));

        if (!a)
                return NULL;
        a->call = call;
        *l->last = a;
        l->last = &a->next;
        return a;
}

static void answer_free(struct answer *a)
{
        store_reply_done(&a->reply);
        error_done(&a->e);
        free(a);
}

static void tell_answers(struct local *l)
{
        struct answer *a;

        while ((a = l->answers)) {
                l->answers = a->next;
                if (!l->answers)
                        l->last = &l->answers;
                store_call_end(a->call, a->result, &a->reply, &a->e);
                answer_free(a);
        }
}

/* As the watcher sees them; `found` keeps what they point to. */
static struct store_change *changes_of(const struct table_change *found, size_t n)
{
        struct store_change *changes = calloc(n + 1, sizeof(struct store_change) + sizeof(struct store_entry));
        struct store_entry *gone = (struct store_entry *)(changes + n + 1);

        for (size_t i = 0; i < n && changes; i++) {
                if (!found[i].now)
                        gone[i] = (struct store_entry){ found[i].before->entry.key, "", .modified = found[i].revision };
                changes[i] = (struct store_change){ found[i].now ? &found[i].now->entry : &gone[i], !found[i].now };
        }
        return changes;
}

static int tell_watch(struct local *l, struct store_watch *w)
{
        _cleanup_free_ struct store_change *changes = NULL;
        struct table_change *found;
        bool fresh = w->next_revision == 0;
        size_t n;
        int r = fresh ? -ESTALE : table_changes(&l->table, w->prefix, w->next_revision, &found, &n);

        if (r == -ESTALE) {
                fresh = true;
                r = table_all(&l->table, w->prefix, &found, &n);
        }
        if (r < 0)
                return r;
        changes = changes_of(found, n);
        if (!changes)
                r = -ENOMEM;
        else if (n > 0 || fresh)
                store_watch_tell(w, changes, n, l->table.revision, fresh);
        else
                w->next_revision = l->table.revision + 1;
        table_changes_done(found, n);
        return r;
}

/* From the beginning after each: who is told may end any watch. */
static int tell_watches(struct local *l)
{
        struct store_watch *w = l->store.watches;

        while (w) {
                if (w->next_revision > l->table.revision) {
                        w = w->next;
                        continue;
                }
                if (tell_watch(l, w) < 0)
                        return -ENOMEM;
                w = l->store.watches;
        }
        return 0;
}

static int on_due(sd_event_source *source, void *userdata)
{
        struct local *l = userdata;

        tell_answers(l);
        if (tell_watches(l) < 0)
                log_error("the local store has no memory to tell what changed");
        return 0;
}

static int on_inotify(sd_event_source *source, const struct inotify_event *event, void *userdata)
{
        struct local *l = userdata;
        _cleanup_error_ struct error e = {};

        if (refresh(l, &e) < 0)
                log_warning("%s", e.message ?: "the local store cannot be read");
        is_due(l);
        return 0;
}

/* ---- the interface ---- */

static int local_range(struct store_call *call, const struct store_range *range, struct error *e)
{
        struct local *l = local_of(call->store);
        struct answer *a = answer_new(l, call);

        if (!a)
                return -ENOMEM;
        a->result = refresh(l, &a->e);
        if (a->result >= 0)
                a->result = table_range(&l->table, range, &a->reply);
        if (a->result == -ESTALE)
                fail(&a->e, -ESTALE, &kind_store, "revision %llu of the store is not there",
                     (unsigned long long)range->revision);
        is_due(l);
        return 0;
}

static int local_commit(struct store_call *call, const struct store_txn *txn, struct error *e)
{
        struct local *l = local_of(call->store);
        struct answer *a = answer_new(l, call);
        _cleanup_close_ int lock = -1;

        if (!a)
                return -ENOMEM;
        lock = take_lock(l, &a->e);
        a->result = lock < 0 ? lock : commit_locked(l, txn, &a->e);
        if (a->result == -E2BIG)
                fail(&a->e, -E2BIG, &kind_store, "the local store does not delete more than %d keys at once", TABLE_HISTORY);
        if (a->result == -EREMOTEIO)
                fail(&a->e, -EREMOTEIO, &kind_store, "cannot say whether %s/" FILE_NAME " was written", l->path);
        a->reply.done = a->result == 1;
        a->reply.revision = l->table.revision;
        a->result = MIN(a->result, 0);
        is_due(l);
        return 0;
}

static void local_cancel(struct store_call *call)
{
        struct local *l = local_of(call->store);

        for (struct answer **at = &l->answers; *at; at = &(*at)->next) {
                struct answer *a = *at;

                if (a->call != call)
                        continue;
                *at = a->next;
                if (!*at)
                        l->last = at;
                answer_free(a);
                return;
        }
}

static int local_watch(struct store_watch *w, struct error *e)
{
        struct local *l = local_of(w->store);
        int r = 0;

        if (!l->inotify)
                r = sd_event_add_inotify_fd(l->store.event, &l->inotify, l->dir, IN_MOVED_TO | IN_ONLYDIR, on_inotify, l);
        if (r < 0)
                return fail_errno(e, r, "cannot watch %s", l->path);
        r = refresh(l, e);
        if (r < 0)
                return r;
        w->live = true;
        is_due(l);
        return 0;
}

static void local_unwatch(struct store_watch *w) {}

static void local_close(struct store *s)
{
        struct local *l = local_of(s);

        sd_event_source_disable_unref(l->due);
        sd_event_source_disable_unref(l->inotify);
        table_done(&l->table);
        fd_close(l->dir);
        free(l->path);
        free(l);
}

static const struct store_ops local_ops = {
        .range = local_range,
        .commit = local_commit,
        .cancel = local_cancel,
        .watch = local_watch,
        .unwatch = local_unwatch,
        .close = local_close,
};

int store_open_local(const char *directory, sd_event *event, struct store **ret, struct error *e)
{
        struct local *l = calloc(1, sizeof(*l));
        int r;

        if (!l)
                return -ENOMEM;
        l->last = &l->answers;
        table_init(&l->table);
        r = store_init(&l->store, &local_ops, event, e);
        if (r < 0) {
                free(l);
                return r;
        }
        l->path = strdup(directory);
        l->dir = l->path ? dir_open(AT_FDCWD, directory) : -ENOMEM;
        r = l->dir < 0 ? fail(e, l->dir, &kind_store, "cannot open %s: %s", directory, error_text(l->dir)) : 0;
        if (r >= 0)
                r = sd_event_add_defer(l->store.event, &l->due, on_due, l);
        if (r >= 0)
                r = sd_event_source_set_enabled(l->due, SD_EVENT_OFF);
        if (r >= 0)
                r = refresh(l, e);
        if (r < 0) {
                store_close(&l->store);
                return r;
        }
        l->open = true;
        *ret = &l->store;
        return 0;
}
