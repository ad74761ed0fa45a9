/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "image/transfer.h"

#include <strings.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/parse.h"

/* Without a byte the connection is given up; where another server could be asked, sooner. With less than PROGRESS: after
 * RetrySec=, but not before STALL; where another server could be asked, after that. */
#define STALL         (30 * USEC_PER_SEC)
#define STALL_LEAVING (8 * USEC_PER_SEC)
#define REST_MAX      UINT64_C(86400) /* seconds */
#define RATE_PERIOD   (5 * USEC_PER_SEC)

static void give_up(struct transfer *t, enum verdict verdict)
{
        if (t->verdict == VERDICT_NONE)
                t->verdict = verdict;
}

/* --- what a server answers
 * -------------------------------------------------------------------------------------------------- */

static bool is_same(const char *a, const char *b)
{
        return !a || !b || streq(a, b);
}

/* Before anything of an answer is used: what has arrived before and what arrives now must be of one file. */
static void judge(struct transfer *t)
{
        struct fetch *f = t->f;
        struct mirror *m = &f->mirrors[t->mirror];
        curl_off_t length = -1;
        uint64_t total;

        t->judged = true;
        curl.easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &t->status);
        if (!is_answer(t->status))
                return;
        curl.easy_getinfo(t->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
        total = t->status == 206 ? t->range_total : length >= 0 ? (uint64_t)length : UINT64_MAX;
        pthread_mutex_lock(&f->lock);
        if (m->seen && (m->etag || t->etag ? !streq(m->etag, t->etag) : !is_same(m->modified, t->modified)))
                give_up(t, VERDICT_CHANGED);
        else if (f->size != UINT64_MAX && total != UINT64_MAX && total != f->size)
                give_up(t, m->seen ? VERDICT_CHANGED : VERDICT_OTHER);
        else if (t->status == 206 ? t->range_start != t->begin : f->known && f->ranges)
                give_up(t, VERDICT_NO_RANGES);
        else if (t->status == 206 && total == UINT64_MAX && f->size == UINT64_MAX)
                give_up(t, VERDICT_NO_LENGTH);
        if (t->verdict == VERDICT_NONE) {
                t->drop = t->status == 206 ? 0 : t->begin;
                if (!f->known)
                        f->ranges = t->status == 206;
                if (!f->ranges)
                        t->end = UINT64_MAX;
                f->known = true;
                if (f->size == UINT64_MAX)
                        f->size = total;
                m->seen = true;
                m->began = m->began || t->offset < FETCH_BEGINNING;
                free(m->etag);
                free(m->modified);
                m->etag = TAKE_PTR(t->etag);
                m->modified = TAKE_PTR(t->modified);
        }
        pthread_mutex_unlock(&f->lock);
}

static char *header_value(const char *data, size_t n, const char *name)
{
        size_t start = strlen(name), end = n;

        if (n <= start || strncasecmp(data, name, start) != 0)
                return NULL;
        while (start < end && strchr(" \t", data[start]))
                start++;
        while (end > start && strchr(" \t\r\n", data[end - 1]))
                end--;
        return strndup(data + start, end - start);
}

/* "bytes 0-99/1234"; the length may be "*": not known (RFC 9110, 14.4). */
static void parse_content_range(struct transfer *t, const char *value)
{
        const char *words = startswith(value, "bytes "), *dash = words ? strchr(words, '-') : NULL,
                   *slash = dash ? strchr(dash, '/') : NULL;
        _cleanup_free_ char *start = slash ? strndup(words, (size_t)(dash - words)) : NULL;

        if (!start || parse_u64(start, &t->range_start) < 0)
                t->range_start = UINT64_MAX;
        if (!slash || parse_u64(slash + 1, &t->range_total) < 0)
                t->range_total = UINT64_MAX;
}

static size_t on_header(char *data, size_t size, size_t n, void *userdata)
{
        _cleanup_free_ char *range = NULL;
        struct transfer *t = userdata;
        char *value;

        n *= size;
        if (n > 5 && memcmp(data, "HTTP/", 5) == 0) { /* a redirection has headers of its own */
                free(TAKE_PTR(t->etag));
                free(TAKE_PTR(t->modified));
                t->range_start = t->range_total = UINT64_MAX;
        } else if ((value = header_value(data, n, "etag:"))) {
                free(t->etag);
                t->etag = value;
        } else if ((value = header_value(data, n, "last-modified:"))) {
                free(t->modified);
                t->modified = value;
        } else if ((range = header_value(data, n, "content-range:"))) {
                parse_content_range(t, range);
        }
        return n;
}

/* --- bytes
 * ------------------------------------------------------------------------------------------------------------------ */

bool fetch_is_stopped(const struct fetch *f)
{
        return f->stopping || (f->config->cancelled && *f->config->cancelled);
}

void fetch_wait(struct fetch *f, uint64_t until)
{
        uint64_t now;

        while ((now = now_monotonic()) < until && !fetch_is_stopped(f)) {
                uint64_t next = MIN(until, now + USEC_PER_SEC); /* the handler of a signal wakes nobody */
                struct timespec t = { .tv_sec = (time_t)(next / USEC_PER_SEC),
                                      .tv_nsec = (long)(next % USEC_PER_SEC) * 1000 };

                pthread_cond_timedwait(&f->wake, &f->lock, &t);
        }
}

/* All transfers wait for the same limit: each takes its turn behind the bytes of the others. */
static void arrived(struct fetch *f, size_t n)
{
        uint64_t now = now_monotonic();

        pthread_mutex_lock(&f->lock);
        f->received += n;
        if (f->config->rate_limit) {
                f->free_at = MAX(f->free_at, now) + n * USEC_PER_SEC / f->config->rate_limit;
                fetch_wait(f, f->free_at);
        }
        pthread_mutex_unlock(&f->lock);
}

/* Without what was waited for here: the rate limit, and a sink that takes no more. */
static void count(struct transfer *t, size_t n, uint64_t begin)
{
        t->last_byte = now_monotonic();
        t->counted_at += t->last_byte - begin;
        t->counted += n;
        if (t->counted >= PROGRESS) {
                t->counted = 0;
                t->counted_at = t->last_byte;
        }
}

static size_t on_body(char *data, size_t size, size_t n, void *userdata)
{
        struct transfer *t = userdata;
        uint64_t begin = now_monotonic();
        size_t old, wanted;

        n *= size;
        if (!t->judged)
                judge(t);
        if (!is_answer(t->status))
                return n; /* the server's words about its error are not the file */
        if (t->verdict != VERDICT_NONE)
                return 0; /* ends the transfer */
        arrived(t->f, n);
        old = (size_t)MIN(t->drop, (uint64_t)n);
        wanted = (size_t)MIN((uint64_t)n - old, t->end - t->offset);
        t->drop -= old;
        if (wanted > 0) {
                t->refused = t->sink->take(t->sink, data + old, wanted);
                if (t->refused < 0) {
                        give_up(t, VERDICT_REFUSED);
                        return 0;
                }
                t->offset += wanted;
                t->got += wanted;
        }
        count(t, n, begin);
        if (n == old + wanted)
                return n;
        give_up(t, VERDICT_COMPLETE); /* a server that sends more than was asked for */
        return 0;
}

/* With the lock: nothing has come for long, or so little for longer. */
static bool has_stalled(const struct transfer *t, uint64_t now)
{
        const struct fetch *f = t->f;
        bool other = mirror_has_other(f->mirrors, f->n_mirrors, t->mirror, now);

        return now > t->last_byte + (other ? STALL_LEAVING : STALL) ||
               now > t->counted_at + (other ? STALL : MAX(STALL, f->config->retry));
}

/* libcurl calls it at least once a second. */
static int on_progress(void *userdata, curl_off_t total, curl_off_t now_at, curl_off_t up, curl_off_t up_at)
{
        struct transfer *t = userdata;
        struct fetch *f = t->f;
        uint64_t now = now_monotonic();

        pthread_mutex_lock(&f->lock);
        if (fetch_is_stopped(f))
                give_up(t, VERDICT_STOPPED);
        else if (has_stalled(t, now))
                give_up(t, VERDICT_STALLED);
        else if (f->ranges && now > t->mark + RATE_PERIOD) {
                uint64_t rate = (t->got - t->mark_received) * USEC_PER_SEC / (now - t->mark);

                if (mirror_is_slow(f->mirrors, f->n_mirrors, t->mirror, rate, now))
                        give_up(t, VERDICT_SLOW);
                t->mark = now;
                t->mark_received = t->got;
        }
        pthread_mutex_unlock(&f->lock);
        return t->verdict != VERDICT_NONE;
}

/* --- one attempt
 * ------------------------------------------------------------------------------------------------------------ */

static CURL *take_handle(struct fetch *f)
{
        CURL *easy = NULL;

        pthread_mutex_lock(&f->lock);
        if (f->n_idle > 0)
                easy = f->idle[--f->n_idle];
        pthread_mutex_unlock(&f->lock);
        return easy ?: curl_handle(f->config);
}

void transfer_release(struct transfer *t, bool reuse)
{
        struct fetch *f = t->f;

        if (reuse && f->n_idle < ARRAY_SIZE(f->idle))
                f->idle[f->n_idle++] = t->easy;
        else
                curl.easy_cleanup(t->easy);
        t->easy = NULL;
}

/* A weak one (W/) promises nothing about bytes: no server takes it as a condition (RFC 9110, 13.1.5). */
static int make_headers(struct fetch *f, const struct mirror *m, const struct curl_slist *own, struct curl_slist **ret)
{
        _cleanup_free_ char *condition = NULL;
        struct curl_slist *list = NULL, *more;

        pthread_mutex_lock(&f->lock);
        if (m->seen && m->etag && !startswith(m->etag, "W/"))
                condition = xasprintf("If-Range: %s", m->etag);
        pthread_mutex_unlock(&f->lock);
        for (const struct curl_slist *h = own; h; h = h->next, list = more)
                if (!(more = curl.slist_append(list, h->data)))
                        goto fail;
        if (condition) {
                more = curl.slist_append(list, condition);
                if (!more)
                        goto fail;
                list = more;
        }
        *ret = list;
        return 0;
fail:
        curl.slist_free_all(list);
        return -ENOMEM;
}

static void free_headers(struct transfer *t)
{
        curl.slist_free_all(TAKE_PTR(t->headers));
        curl.slist_free_all(TAKE_PTR(t->bare));
}

/* Before each request, that of a redirection too. libcurl itself keeps the name and password of a URL, Authorization and
 * Cookie from other servers; what else the operator says to his own is nobody else's either. */
static int on_request(void *userdata, char *address, char *local, int port, int local_port)
{
        struct transfer *t = userdata;
        _cleanup_free_ char *origin = curl_origin(t->f->mirrors[t->mirror].url), *to = NULL;
        const char *url = NULL;

        free(TAKE_PTR(t->away));
        if (curl.easy_getinfo(t->easy, CURLINFO_EFFECTIVE_URL, &url) == CURLE_OK && url)
                to = curl_origin(url);
        if (!origin || !to)
                return CURL_PREREQFUNC_ABORT;
        if (!streq(origin, to))
                t->away = TAKE_PTR(to);
        return curl.easy_setopt(t->easy, CURLOPT_HTTPHEADER, t->away ? t->bare : t->headers) == CURLE_OK
                       ? CURL_PREREQFUNC_OK
                       : CURL_PREREQFUNC_ABORT;
}

static CURLcode perform(struct transfer *t, const char *range)
{
        const struct {
                CURLoption option;
                const void *value;
        } pointers[] = {
                { CURLOPT_URL, t->f->mirrors[t->mirror].url },
                { CURLOPT_RANGE, range },
                { CURLOPT_HTTPHEADER, t->headers },
                { CURLOPT_PREREQDATA, t },
                { CURLOPT_ERRORBUFFER, t->message },
                { CURLOPT_HEADERDATA, t },
                { CURLOPT_WRITEDATA, t },
                { CURLOPT_XFERINFODATA, t },
        };
        CURLcode r = CURLE_OK;

        for (size_t i = 0; i < ARRAY_SIZE(pointers) && r == CURLE_OK; i++)
                r = curl.easy_setopt(t->easy, pointers[i].option, pointers[i].value);
        if (r == CURLE_OK)
                r = curl.easy_setopt(t->easy, CURLOPT_HEADERFUNCTION, on_header);
        if (r == CURLE_OK)
                r = curl.easy_setopt(t->easy, CURLOPT_WRITEFUNCTION, on_body);
        if (r == CURLE_OK)
                r = curl.easy_setopt(t->easy, CURLOPT_XFERINFOFUNCTION, on_progress);
        if (r == CURLE_OK && t->f->headers)
                r = curl.easy_setopt(t->easy, CURLOPT_PREREQFUNCTION, on_request);
        if (r == CURLE_OK)
                r = curl.easy_perform(t->easy);
        curl.easy_setopt(t->easy, CURLOPT_HTTPHEADER, NULL); /* they are freed now, and so is the buffer of the message */
        curl.easy_setopt(t->easy, CURLOPT_ERRORBUFFER, NULL);
        return r;
}

int transfer_attempt(struct transfer *t, CURLcode *ret)
{
        const struct mirror *m = &t->f->mirrors[t->mirror];
        curl_off_t rest = 0;
        char range[48];
        int r;

        t->easy = take_handle(t->f);
        if (!t->easy)
                return -ENOMEM;
        r = make_headers(t->f, m, t->f->headers, &t->headers);
        if (r >= 0)
                r = make_headers(t->f, m, NULL, &t->bare);
        if (r < 0) {
                curl.easy_cleanup(t->easy);
                free_headers(t);
                return r;
        }
        if (t->end == UINT64_MAX)
                snprintf(range, sizeof(range), "%llu-", (unsigned long long)t->offset);
        else
                snprintf(range, sizeof(range), "%llu-%llu", (unsigned long long)t->offset, (unsigned long long)t->end - 1);
        t->status = 0;
        t->judged = false;
        t->verdict = VERDICT_NONE;
        t->message[0] = '\0';
        t->begin = t->offset;
        t->got = t->mark_received = t->counted = 0;
        t->started = t->last_byte = t->counted_at = t->mark = now_monotonic();
        *ret = perform(t, range);
        if (!t->judged)
                judge(t);
        curl.easy_getinfo(t->easy, CURLINFO_RETRY_AFTER, &rest);
        t->rest = rest > 0 ? MIN((uint64_t)rest, REST_MAX) * USEC_PER_SEC : 0;
        free_headers(t);
        free(TAKE_PTR(t->etag));
        free(TAKE_PTR(t->modified));
        return 0;
}
