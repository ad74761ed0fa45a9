/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "image/fetch.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "image/transfer.h"
#include "slot/kinds.h"

#define FIRST_TRIES    3                   /* of a server that never gave anything */
#define FIRST_PATIENCE (10 * USEC_PER_SEC) /* with one that may be starting */
#define LOOK           (USEC_PER_SEC / 2)

static bool is_transient(CURLcode code, long status)
{
        switch (code) {
        case CURLE_COULDNT_CONNECT:
        case CURLE_COULDNT_RESOLVE_HOST:
        case CURLE_COULDNT_RESOLVE_PROXY:
        case CURLE_PROXY: /* one that cannot reach the server says so in this way (SOCKS) */
        case CURLE_OPERATION_TIMEDOUT:
        case CURLE_PARTIAL_FILE:
        case CURLE_RECV_ERROR:
        case CURLE_SEND_ERROR:
        case CURLE_GOT_NOTHING:
        case CURLE_HTTP2:
        case CURLE_HTTP2_STREAM:
        case CURLE_SSL_CONNECT_ERROR: /* also of a connection that broke meanwhile; a wrong certificate is another one */
                return true;
        default:
                return status >= 500 || status == 408 || status == 429;
        }
}

/* It is not there, or not ready: a machine that starts together with its server meets it so. */
static bool may_be_starting(CURLcode code, long status)
{
        return code == CURLE_COULDNT_CONNECT || code == CURLE_PROXY ||
               (code == CURLE_OK && (status == 502 || status == 503 || status == 504));
}

static char *describe(const struct transfer *t, CURLcode code)
{
        switch (t->verdict) {
        case VERDICT_CHANGED:
                return strdup("it changed on the server while it was fetched");
        case VERDICT_OTHER:
                return strdup("it has another length than on the other servers");
        case VERDICT_NO_RANGES:
                return strdup("a part of it was asked for, and the server does not send that part");
        case VERDICT_NO_LENGTH:
                return strdup("the server does not say how long the file is, nor does another one");
        case VERDICT_SLOW:
                return strdup("another server is faster");
        case VERDICT_STALLED:
                return strdup("the server has stopped sending");
        default:
                break;
        }
        if (code == CURLE_OK && !is_answer(t->status) && t->away)
                return xasprintf("it redirects to %s, which answers %ld; HeaderFile= goes only to servers that the URL or "
                                 "Mirrors= names",
                                 t->away, t->status);
        if (code == CURLE_OK && !is_answer(t->status))
                return xasprintf("the server answers %ld", t->status);
        if (code == CURLE_OK)
                return strdup("the server ends the transfer too early");
        return strdup(*t->message ? t->message : curl.easy_strerror(code));
}

static bool is_progress(const struct transfer *t)
{
        return t->gained >= PROGRESS || (t->got > 0 && t->offset >= MIN(t->end, t->f->size));
}

static void note_failure(const struct transfer *t, struct mirror *m, bool progress, uint64_t now)
{
        if (progress || mirror_fails_anew(m, t->started))
                mirror_failed(m, progress, now);
        if (t->rest > 0)
                mirror_rests(m, t->rest, now);
}

/* With the lock: what this attempt says about its server; true: it made progress. One that sent next to nothing is not slow:
 * nothing was measured by which another one would be asked next. That one does not know ranges may be true of one of many
 * machines behind a name, or of a cache: the next answer may be the part. The handle of one that broke is not used again. */
static bool settle(struct transfer *t, CURLcode code)
{
        struct fetch *f = t->f;
        struct mirror *m = &f->mirrors[t->mirror];
        uint64_t now = now_monotonic();
        bool progress;

        m->users--;
        t->gained += t->got;
        progress = is_progress(t);
        if (progress) {
                t->gained = 0;
                t->last_progress = now;
                t->last_try = false;
                mirror_measured(m, t->got, now - t->started);
        }
        if (t->verdict == VERDICT_CHANGED || t->verdict == VERDICT_OTHER || t->verdict == VERDICT_NO_LENGTH)
                m->dead = true;
        else if (t->verdict == VERDICT_STALLED || t->verdict == VERDICT_NO_RANGES ||
                 (t->verdict == VERDICT_SLOW && !progress) ||
                 (t->verdict == VERDICT_NONE && is_transient(code, t->status)) ||
                 (code == CURLE_OK && is_answer(t->status) && t->offset < MIN(t->end, f->size) && f->size != UINT64_MAX))
                note_failure(t, m, progress, now);
        else if (t->verdict == VERDICT_NONE && (code != CURLE_OK || !is_answer(t->status)))
                m->dead = true;
        if (!m->seen && m->failures >= FIRST_TRIES && !may_be_starting(code, t->status))
                m->dead = true;
        transfer_release(t, code == CURLE_OK);
        return progress;
}

static bool is_complete(const struct transfer *t, CURLcode code)
{
        if (t->offset >= MIN(t->end, t->f->size))
                return t->f->size != UINT64_MAX || t->end != UINT64_MAX;
        return code == CURLE_OK && is_answer(t->status) && t->verdict == VERDICT_NONE && t->f->size == UINT64_MAX;
}

/* How long nothing may arrive. With servers that never showed that they are there it is not waited for long, nor with one of
 * several that may have it. */
static uint64_t patience(const struct transfer *t)
{
        const struct fetch *f = t->f;

        return !t->only && mirror_is_there(f->mirrors, f->n_mirrors) ? f->config->retry
                                                                     : MIN(f->config->retry, FIRST_PATIENCE);
}

static int pick(const struct transfer *t, uint64_t now, uint64_t *wait)
{
        int r;

        if (!t->only)
                return mirror_pick(t->f->mirrors, t->f->n_mirrors, now, wait);
        r = mirror_pick(&t->f->mirrors[t->mirror], 1, now, wait);
        return r < 0 ? r : (int)t->mirror;
}

/* With the lock: the server to ask next; waits for one. At the end of the time one that rests is asked all the same. */
static int choose(struct transfer *t, struct error *e)
{
        struct fetch *f = t->f;

        for (;;) {
                uint64_t wait = 0, now = now_monotonic(), until = t->last_progress + patience(t);
                int which = pick(t, now, &wait);

                if (fetch_is_stopped(f))
                        return -ECANCELED;
                if (which == -EAGAIN && now >= until && !t->last_try) {
                        t->last_try = true;
                        which = pick(t, now + wait, &wait);
                }
                if (which >= 0) {
                        f->mirrors[which].users++;
                        t->mirror = (size_t)which;
                        return 0;
                }
                if (which == -ENOENT || now >= until)
                        return fail(e, -EIO, &kind_fetch, "%s: %s", f->mirrors[t->mirror].where,
                                    f->why ?: "it cannot be fetched");
                fetch_wait(f, MIN(MIN(now + wait, until), now + LOOK)); /* another transfer may have found it well */
        }
}

static int fetch_locked(struct transfer *t, struct error *e)
{
        struct fetch *f = t->f;
        CURLcode code = CURLE_OK;
        bool progress;
        int r;

        while ((r = choose(t, e)) >= 0) {
                pthread_mutex_unlock(&f->lock);
                r = transfer_attempt(t, &code);
                pthread_mutex_lock(&f->lock);
                if (r < 0) {
                        f->mirrors[t->mirror].users--;
                        return r;
                }
                progress = settle(t, code);
                if (t->verdict == VERDICT_REFUSED)
                        return t->refused;
                if (t->verdict == VERDICT_STOPPED || fetch_is_stopped(f))
                        return -ECANCELED;
                if (is_complete(t, code))
                        return 0;
                free(f->why);
                f->why = describe(t, code);
                if (!progress || f->n_mirrors > 1)
                        log_info("%s: %s; trying again", f->mirrors[t->mirror].where, f->why ?: "out of memory");
        }
        return r;
}

static int fetch_transfer(struct transfer *t, struct error *e)
{
        struct fetch *f = t->f;
        int r;

        t->last_progress = now_monotonic();
        pthread_mutex_lock(&f->lock);
        f->asked = MAX(f->asked, t->end);
        r = fetch_locked(t, e);
        pthread_mutex_unlock(&f->lock);
        free(t->away);
        return r;
}

int fetch_range(struct fetch *f, uint64_t offset, uint64_t n, struct fetch_sink *sink, struct error *e)
{
        struct transfer t = { .f = f, .sink = sink, .offset = offset, .end = offset + n };

        return fetch_transfer(&t, e);
}

static int take_into_memory(struct fetch_sink *sink, const void *data, size_t n)
{
        struct fetch_memory *m = (struct fetch_memory *)sink;

        memcpy(m->data + m->done, data, n);
        m->done += n;
        return 0;
}

struct fetch_memory fetch_memory(void *data)
{
        return (struct fetch_memory){ .sink.take = take_into_memory, .data = data };
}

/* --- what came is wrong
 * ---------------------------------------------------------------------------------------------------- */

struct again {
        struct fetch *f;
        uint64_t offset;
        void *data;
        size_t n;
        bool (*is_right)(void *userdata);
        void *userdata;
        int last; /* the server that gave what is in `data` */
};

/* 1: it has it right; 0: it has something else; negative: it did not say. */
static int ask_one(struct again *a, size_t which)
{
        struct fetch_memory m = fetch_memory(a->data);
        struct transfer t = {
                .f = a->f, .sink = &m.sink, .offset = a->offset, .end = a->offset + a->n, .mirror = which, .only = true
        };
        int r = fetch_transfer(&t, NULL);

        if (r >= 0 && m.done < a->n)
                r = -ENODATA;
        if (r < 0)
                return r;
        a->last = (int)which;
        return a->is_right(a->userdata);
}

static void leave(struct again *a, size_t which)
{
        struct fetch *f = a->f;

        pthread_mutex_lock(&f->lock);
        f->mirrors[which].wrong = true;
        f->suspect = f->asked;
        pthread_mutex_unlock(&f->lock);
        log_warning("%s: it holds something else than another server, seen behind byte %llu; it is not asked any more",
                    f->mirrors[which].where, (unsigned long long)a->offset);
}

/* Who has sent what was wrong is not remembered, so all are asked: where one of them was left already it is known. Those
 * that were left for another part come last: nobody else may have this one. */
static int ask_all(struct again *a)
{
        struct fetch *f = a->f;
        bool wrong[MIRRORS_MAX] = {}, known;
        const size_t n = f->n_mirrors;
        int right = -1;

        pthread_mutex_lock(&f->lock);
        known = a->offset < f->suspect;
        pthread_mutex_unlock(&f->lock);
        for (size_t k = 0; k < 2 * n && !(right >= 0 && (known || k >= n)); k++) {
                size_t i = k % n;
                int r;

                if (f->mirrors[i].wrong != (k >= n)) /* it changes under `asking` only */
                        continue;
                r = ask_one(a, i);
                if (r == -ECANCELED)
                        return r;
                wrong[i] = r == 0;
                known |= wrong[i];
                right = r > 0 ? (int)i : right;
        }
        if (right < 0 || (a->last != right && ask_one(a, (size_t)right) <= 0))
                return -EBADMSG;
        for (size_t i = 0; i < n; i++)
                if (wrong[i] && !f->mirrors[i].wrong)
                        leave(a, i);
        return 0;
}

int fetch_again(struct fetch *f, uint64_t offset, void *data, size_t n, bool (*is_right)(void *userdata), void *userdata)
{
        struct again a = { f, offset, data, n, is_right, userdata, -1 };
        int r;

        if (!fetch_has_others(f))
                return -EBADMSG;
        pthread_mutex_lock(&f->asking);
        r = ask_all(&a);
        pthread_mutex_unlock(&f->asking);
        return r;
}

/* --- the file
 * --------------------------------------------------------------------------------------------------------------- */

/* For messages: no user:password@ and no query. */
static char *public_url(const char *url)
{
        const char *scheme = strstr(url, "://") + 3, *slash = scheme + strcspn(scheme, "/?"),
                   *at = memrchr(scheme, '@', (size_t)(slash - scheme));
        const char *host = at ? at + 1 : scheme;

        return xasprintf("%.*s%.*s", (int)(scheme - url), url, (int)strcspn(host, "?"), host);
}

static int add_mirror(struct fetch *f, char *url, struct error *e)
{
        struct mirror *m = &f->mirrors[f->n_mirrors];

        if (!url)
                return -ENOMEM;
        if (f->n_mirrors == MIRRORS_MAX || (!startswith(url, "http://") && !startswith(url, "https://"))) {
                fail(e, -EINVAL, &kind_usage, "%s is not one of at most %d URLs that begin with http:// or https://", url,
                     MIRRORS_MAX);
                free(url);
                return -EINVAL;
        }
        m->url = url;
        m->where = public_url(url);
        f->n_mirrors++;
        return m->where ? 0 : -ENOMEM;
}

/* Mirrors=: the last part of the path is the same everywhere. */
static int add_configured(struct fetch *f, struct error *e)
{
        const char *url = f->mirrors[0].url, *end = url + strcspn(url, "?#"), *name = memrchr(url, '/', (size_t)(end - url));
        int r = 0;

        for (char **m = f->config->mirrors; m && *m && r >= 0; m++) {
                size_t n = strlen(*m);

                while (n > 0 && (*m)[n - 1] == '/')
                        n--;
                r = add_mirror(f, xasprintf("%.*s%s", (int)n, *m, name), e);
        }
        return r;
}

static int prepare(struct fetch *f, const char *urls, struct error *e)
{
        _cleanup_free_ char *copy = strdup(urls);
        char *cursor = copy, *word;
        pthread_condattr_t monotonic;
        int r;

        pthread_condattr_init(&monotonic);
        pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
        pthread_mutex_init(&f->asking, NULL);
        pthread_mutex_init(&f->lock, NULL);
        pthread_cond_init(&f->wake, &monotonic);
        pthread_condattr_destroy(&monotonic);
        r = copy ? curl_read_headers(f->config, &f->headers, e) : -ENOMEM;
        while (r >= 0 && (word = strsep(&cursor, " \t\n")))
                if (*word)
                        r = add_mirror(f, strdup(word), e);
        return r < 0 ? r : add_configured(f, e);
}

int fetch_new(const char *urls, const struct fetch_config *config, struct fetch **ret, struct error *e)
{
        struct fetch *f;
        int r;

        r = curl_load(&kind_fetch, e);
        if (r < 0)
                return r;
        f = calloc(1, sizeof(*f));
        if (!f)
                return -ENOMEM;
        f->config = config;
        f->size = UINT64_MAX;
        r = prepare(f, urls, e);
        if (r < 0) {
                fetch_free(f);
                return r;
        }
        *ret = f;
        return 0;
}

struct fetch *fetch_free(struct fetch *f)
{
        if (!f)
                return NULL;
        for (size_t i = 0; i < f->n_idle; i++)
                curl.easy_cleanup(f->idle[i]);
        for (size_t i = 0; i < f->n_mirrors; i++) {
                free(f->mirrors[i].url);
                free(f->mirrors[i].where);
                free(f->mirrors[i].etag);
                free(f->mirrors[i].modified);
        }
        curl.slist_free_all(f->headers);
        free(f->why);
        pthread_cond_destroy(&f->wake);
        pthread_mutex_destroy(&f->lock);
        pthread_mutex_destroy(&f->asking);
        free(f);
        return NULL;
}

void fetch_stop(struct fetch *f)
{
        pthread_mutex_lock(&f->lock);
        f->stopping = true;
        pthread_cond_broadcast(&f->wake);
        pthread_mutex_unlock(&f->lock);
}

struct fetch_state fetch_state(struct fetch *f)
{
        struct fetch_state state;

        pthread_mutex_lock(&f->lock);
        state = (struct fetch_state){ .ranges = f->ranges, .size = f->size, .received = f->received };
        pthread_mutex_unlock(&f->lock);
        return state;
}

bool fetch_has_others(const struct fetch *f)
{
        return f->n_mirrors > 1;
}

const char *fetch_where(const struct fetch *f)
{
        return f->mirrors[0].where;
}

char *fetch_others(struct fetch *f)
{
        _cleanup_buf_ struct buf urls = {};

        pthread_mutex_lock(&f->lock);
        for (size_t i = 0; i < f->n_mirrors; i++)
                if (!f->mirrors[i].began)
                        buf_printf(&urls, "%s%s", urls.size ? " " : "", f->mirrors[i].url);
        pthread_mutex_unlock(&f->lock);
        return urls.size ? buf_take(&urls) : NULL;
}
