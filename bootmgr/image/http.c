/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A file on HTTP servers as a source. It is read forwards, and what comes next is fetched ahead, in pieces:
 *
 *      threads      fetch_range()  each a piece of its own     into a ring of buffers, in order of offset
 *      the reader   takes from the first piece, while it still arrives
 *
 * Where the server knows no ranges there is one thread, which fills one piece behind the other. Little is fetched ahead at
 * first, so that little is in vain if what was read first (the index) says that only parts are wanted. Signals are the
 * reader's: its waiting ends with them. */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>

#include "base/clock.h"
#include "image/climb.h"
#include "image/fetch.h"
#include "image/source.h"
#include "slot/kinds.h"

#define FIRST_PIECE FETCH_BEGINNING
#define PIECE_MIN   KIB(128)
#define PIECE_MAX   KIB(512)
#define PIECES      64
#define AHEAD_FIRST KIB(256)
#define AHEAD_MAX   MIB(4)
#define CONNECTIONS 4
#define SMALL       KIB(64) /* of parts of that size the answers to the requests are waited for, most of the time */

struct piece {
        uint64_t offset;
        size_t size, fill;
        uint8_t *data;
        bool done; /* nothing more comes */
};

struct worker {
        struct fetch_sink sink;
        struct http *h;
        struct piece *piece;
        pthread_t thread;
};

struct http {
        struct fetch *f;
        struct worker workers[FETCH_CONNECTIONS_MAX];
        unsigned n_workers;
        bool more_connections; /* nobody said how many there may be */
        int event;             /* something changed that the reader may wait for */
        pthread_mutex_t lock;  /* everything below, and workers from the time when there is more than one */
        pthread_cond_t room;
        struct climb climb; /* of the workers those beyond it wait */
        uint64_t arrived;   /* bytes */
        uint64_t waited;    /* by the reader, µs; atomic */
        struct piece pieces[PIECES];
        size_t head, n_pieces;
        uint64_t ahead, ahead_max; /* bytes of all buffers */
        uint64_t next;             /* where the next piece begins, if that is wanted */
        struct source_range *wanted;
        size_t n_wanted, next_wanted;
        bool all; /* there is no list of what is wanted */
        bool known, stopping;
        bool ended; /* a server without ranges has sent everything */
        int result;
        struct error error;
        uint64_t position; /* the reader's own */
};

static struct piece *piece_at(struct http *h, size_t i)
{
        return &h->pieces[(h->head + i) % PIECES];
}

static void tell_reader(struct http *h)
{
        eventfd_write(h->event, 1);
}

/* --- the threads, with the lock
 * --------------------------------------------------------------------------------------------- */

static struct piece *add_piece(struct http *h, uint64_t offset, size_t size)
{
        struct piece *p;

        if (h->n_pieces == PIECES || (h->n_pieces > 0 && h->ahead + size > h->ahead_max))
                return NULL;
        p = piece_at(h, h->n_pieces);
        *p = (struct piece){ .offset = offset, .size = size, .data = malloc(size) };
        if (!p->data)
                return NULL;
        h->n_pieces++;
        h->ahead += size;
        h->next = offset + size;
        return p;
}

static void drop_piece(struct http *h)
{
        struct piece *p = piece_at(h, 0);

        free(TAKE_PTR(p->data));
        h->ahead -= p->size;
        h->head = (h->head + 1) % PIECES;
        h->n_pieces--;
        if (h->all)
                h->ahead_max = MIN(h->ahead_max * 2, AHEAD_MAX);
        pthread_cond_broadcast(&h->room);
}

/* So that each connection has one that arrives, and the reader waits for none of them long. */
static uint64_t piece_size(const struct http *h)
{
        uint64_t share = h->ahead_max / (2 * MAX(h->climb.n, 1U));

        return MIN(MIN(PIECE_MAX, h->ahead_max / 2), MAX(PIECE_MIN, share));
}

/* From h->next on, what is fetched next; false: nothing. */
static bool plan(struct http *h, uint64_t *offset, size_t *size)
{
        uint64_t end = fetch_state(h->f).size;

        if (!h->known) { /* the first one, which is to show it */
                *offset = 0;
                *size = FIRST_PIECE;
                return h->n_pieces == 0;
        }
        *offset = h->next;
        if (!h->all) {
                while (h->next_wanted < h->n_wanted &&
                       h->wanted[h->next_wanted].offset + h->wanted[h->next_wanted].size <= h->next)
                        h->next_wanted++;
                if (h->next_wanted == h->n_wanted)
                        return false;
                *offset = MAX(h->next, h->wanted[h->next_wanted].offset);
                end = MIN(end, h->wanted[h->next_wanted].offset + h->wanted[h->next_wanted].size);
        }
        *size = (size_t)MIN(end - MIN(*offset, end), piece_size(h));
        return *size > 0;
}

static struct piece *next_piece(struct http *h)
{
        uint64_t offset;
        size_t size;

        return plan(h, &offset, &size) ? add_piece(h, offset, size) : NULL;
}

/* --- the threads
 * ------------------------------------------------------------------------------------------------------------ */

/* A server without ranges sends on: into the next piece, once there is room for it. */
static struct piece *go_on(struct http *h, struct piece *full)
{
        struct piece *p = NULL;

        full->done = true;
        tell_reader(h);
        h->known = true;
        while (!h->stopping && !(p = add_piece(h, full->offset + full->size, PIECE_MAX)))
                pthread_cond_wait(&h->room, &h->lock);
        return p;
}

static int take(struct fetch_sink *sink, const void *data, size_t n)
{
        struct worker *w = (struct worker *)sink;
        struct http *h = w->h;
        const uint8_t *from = data;
        int r = 0;

        pthread_mutex_lock(&h->lock);
        h->arrived += n;
        while (n > 0) {
                size_t part = MIN(n, w->piece->size - w->piece->fill);

                memcpy(w->piece->data + w->piece->fill, from, part);
                w->piece->fill += part;
                from += part;
                n -= part;
                if (n == 0)
                        break;
                w->piece = go_on(h, w->piece);
                if (!w->piece) {
                        r = -ECANCELED;
                        break;
                }
        }
        tell_reader(h);
        pthread_mutex_unlock(&h->lock);
        return r;
}

static void *fetch_pieces(void *userdata);

static int start_worker(struct http *h)
{
        struct worker *w = &h->workers[h->n_workers];
        sigset_t all, before;
        int r;

        *w = (struct worker){ .sink.take = take, .h = h };
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        r = -pthread_create(&w->thread, NULL, fetch_pieces, w);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (r >= 0)
                h->n_workers++;
        return r;
}

/* What cannot be started is not missed. */
static void start_workers(struct http *h)
{
        while (h->n_workers < h->climb.n && start_worker(h) >= 0)
                ;
}

static void climb(struct http *h)
{
        if (!h->more_connections || h->stopping || h->ended)
                return;
        climb_look(&h->climb, (struct climb_state){ .now = now_monotonic(),
                                                    .bytes = h->arrived,
                                                    .waited = __atomic_load_n(&h->waited, __ATOMIC_RELAXED) });
        start_workers(h);
}

static void *fetch_pieces(void *userdata)
{
        struct worker *w = userdata;
        struct http *h = w->h;

        pthread_mutex_lock(&h->lock);
        while (!h->stopping && !h->ended && h->result >= 0) {
                struct error e = {};
                uint64_t offset;
                size_t size;
                int r;

                w->piece = w - h->workers < h->climb.n ? next_piece(h) : NULL;
                if (!w->piece) {
                        pthread_cond_wait(&h->room, &h->lock);
                        continue;
                }
                offset = w->piece->offset;
                size = w->piece->size;
                pthread_mutex_unlock(&h->lock);
                r = fetch_range(h->f, offset, size, &w->sink, &e);
                pthread_mutex_lock(&h->lock);
                if (w->piece) {
                        h->ahead -= w->piece->size - w->piece->fill; /* the file ends before */
                        w->piece->size = w->piece->fill;
                        w->piece->done = true;
                }
                if (r < 0 && h->result >= 0) {
                        h->result = r;
                        h->error = TAKE(e, (struct error){});
                }
                error_done(&e);
                h->ended = !fetch_state(h->f).ranges;
                h->known = true;
                climb(h);
                pthread_cond_broadcast(&h->room);
                tell_reader(h);
        }
        pthread_mutex_unlock(&h->lock);
        return NULL;
}

/* --- the reader
 * ------------------------------------------------------------------------------------------------------------- */

static int wait_for_piece(struct source *s, struct http *h, struct error *e)
{
        struct pollfd p = { .fd = h->event, .events = POLLIN };
        uint64_t start = now_monotonic();
        eventfd_t count;

        if (poll(&p, 1, -1) < 0)
                return errno == EINTR ? source_interrupted(s, e) : fail_errno(e, -errno, "cannot wait for %s", s->where);
        eventfd_read(h->event, &count);
        __atomic_add_fetch(&h->waited, now_monotonic() - start, __ATOMIC_RELAXED);
        return 0;
}

/* With the lock. */
static int told(struct source *s, struct http *h, struct error *e)
{
        if (h->result == -ECANCELED)
                return source_interrupted(s, e);
        if (e && e->code == 0)
                *e = TAKE(h->error, (struct error){});
        return fail(e, h->result, &kind_fetch, "%s cannot be fetched", s->where);
}

static ssize_t http_read_at(struct source *s, uint64_t offset, void *data, size_t n, struct error *e)
{
        struct http *h = s->http;
        struct fetch_memory m = fetch_memory(data);
        int r;

        if (!fetch_state(h->f).ranges)
                return -EOPNOTSUPP;
        r = offset < s->size ? fetch_range(h->f, offset, MIN(n, s->size - offset), &m.sink, e) : 0;
        return r < 0 ? r : (ssize_t)m.done;
}

static int http_read_again(struct source *s, uint64_t offset, void *data, size_t n, bool (*is_right)(void *userdata),
                           void *userdata)
{
        struct http *h = s->http;

        return fetch_state(h->f).ranges ? fetch_again(h->f, offset, data, n, is_right, userdata) : -EBADMSG;
}

/* With the lock: whether no thread will ever bring what the reader asks for. */
static bool is_left_out(struct http *h)
{
        uint64_t offset;
        size_t size;

        if (!h->known || !fetch_state(h->f).ranges || h->position >= fetch_state(h->f).size)
                return false;
        if (h->n_pieces > 0)
                return h->position < piece_at(h, 0)->offset;
        return h->position < h->next || !plan(h, &offset, &size) || h->position < offset;
}

/* With the lock: from the piece that the reader has come to; 0: there is nothing yet. */
static size_t read_piece(struct http *h, void *data, size_t n)
{
        struct piece *p;

        while (h->n_pieces > 0 && piece_at(h, 0)->done && piece_at(h, 0)->offset + piece_at(h, 0)->fill <= h->position)
                drop_piece(h);
        p = piece_at(h, 0);
        if (h->n_pieces == 0 || h->position < p->offset || h->position >= p->offset + p->fill)
                return 0;
        n = (size_t)MIN((uint64_t)n, p->offset + p->fill - h->position);
        memcpy(data, p->data + (h->position - p->offset), n);
        h->position += n;
        return n;
}

static ssize_t http_read(struct source *s, void *data, size_t n, struct error *e)
{
        struct http *h = s->http;

        for (;;) {
                bool left_out, ended;
                ssize_t r;

                pthread_mutex_lock(&h->lock);
                r = (ssize_t)read_piece(h, data, n);
                if (r == 0 && h->result < 0)
                        r = told(s, h, e);
                left_out = is_left_out(h);
                ended = h->n_pieces == 0 && (h->ended || (h->known && h->position >= fetch_state(h->f).size));
                pthread_mutex_unlock(&h->lock);
                if (r != 0 || ended)
                        return r;
                if (left_out) {
                        r = http_read_at(s, h->position, data, n, e);
                        h->position += r > 0 ? (uint64_t)r : 0;
                        return r;
                }
                r = wait_for_piece(s, h, e);
                if (r < 0)
                        return r;
        }
}

static int http_skip(struct source *s, uint64_t n, struct error *e)
{
        struct http *h = s->http;

        if (!fetch_state(h->f).ranges)
                return -EOPNOTSUPP;
        pthread_mutex_lock(&h->lock);
        h->position += n;
        h->next = MAX(h->next, h->position);
        pthread_cond_broadcast(&h->room);
        pthread_mutex_unlock(&h->lock);
        return 0;
}

/* With the lock. Each has a request on its way. */
static void add_connections(struct http *h, const struct source_range *ranges, size_t n)
{
        uint64_t all = 0;
        unsigned many = (unsigned)MIN(n, (size_t)FETCH_CONNECTIONS_MAX);

        for (size_t i = 0; i < n; i++)
                all += ranges[i].size;
        if (!h->more_connections || !fetch_state(h->f).ranges || all >= n * SMALL || many <= h->climb.n)
                return;
        h->climb = climb_begin(many, many);
        start_workers(h);
}

static int http_want(struct source *s, const struct source_range *ranges, size_t n)
{
        struct http *h = s->http;
        struct source_range *copy = calloc(MAX(n, (size_t)1), sizeof(*copy));

        if (!copy)
                return -ENOMEM;
        if (n > 0)
                memcpy(copy, ranges, n * sizeof(*copy));
        pthread_mutex_lock(&h->lock);
        free(h->wanted);
        h->wanted = copy;
        h->n_wanted = n;
        h->next_wanted = 0;
        h->all = false;
        h->ahead_max = AHEAD_MAX;
        add_connections(h, ranges, n);
        pthread_cond_broadcast(&h->room);
        pthread_mutex_unlock(&h->lock);
        return 0;
}

static bool http_can_go_back(const struct source *s)
{
        struct http *h = s->http;

        return fetch_state(h->f).ranges;
}

/* At the end of the file every piece has come, and was dropped. */
static int http_go_back(struct source *s, uint64_t offset, struct error *e)
{
        struct http *h = s->http;
        bool at_end;

        pthread_mutex_lock(&h->lock);
        at_end = h->n_pieces == 0;
        if (at_end) {
                h->position = h->next = offset;
                h->n_wanted = h->next_wanted = 0;
                h->all = false;
        }
        pthread_mutex_unlock(&h->lock);
        return at_end ? 0 : fail(e, -EBUSY, &kind_fetch, "%s is being read", s->where);
}

static char *http_others(const struct source *s)
{
        struct http *h = s->http;

        return fetch_others(h->f);
}

static uint64_t http_fetched(const struct source *s)
{
        struct http *h = s->http;

        return fetch_state(h->f).received;
}

static void http_close(struct source *s)
{
        struct http *h = s->http;

        if (!h)
                return;
        pthread_mutex_lock(&h->lock);
        h->stopping = true;
        pthread_cond_broadcast(&h->room);
        pthread_mutex_unlock(&h->lock);
        if (h->f)
                fetch_stop(h->f);
        for (unsigned i = 0; i < h->n_workers; i++)
                pthread_join(h->workers[i].thread, NULL);
        while (h->n_pieces > 0)
                drop_piece(h);
        fetch_free(h->f);
        fd_close(h->event);
        error_done(&h->error);
        pthread_cond_destroy(&h->room);
        pthread_mutex_destroy(&h->lock);
        free(h->wanted);
        free(h);
}

static const struct source_ops http_ops = {
        .read = http_read,
        .skip = http_skip,
        .read_at = http_read_at,
        .read_again = http_read_again,
        .want = http_want,
        .go_back = http_go_back,
        .can_go_back = http_can_go_back,
        .fetched = http_fetched,
        .others = http_others,
        .close = http_close,
};

/* Errors show here, before anything else is done. */
static int wait_for_answer(struct source *s, struct http *h, struct error *e)
{
        for (;;) {
                bool arrived;
                int r = 0;

                pthread_mutex_lock(&h->lock);
                arrived = h->n_pieces > 0 && (piece_at(h, 0)->fill > 0 || piece_at(h, 0)->done);
                if (h->result < 0)
                        r = told(s, h, e);
                h->known |= arrived;
                pthread_mutex_unlock(&h->lock);
                if (r < 0 || arrived)
                        return r;
                r = wait_for_piece(s, h, e);
                if (r < 0)
                        return r;
        }
}

static void begin_to_climb(struct http *h, unsigned connections)
{
        pthread_mutex_lock(&h->lock);
        h->more_connections = connections == 0;
        h->climb = connections ? climb_begin(connections, connections) : climb_begin(CONNECTIONS, FETCH_CONNECTIONS_MAX);
        start_workers(h);
        pthread_mutex_unlock(&h->lock);
}

int http_open(const char *urls, const struct fetch_config *config, struct source *ret, struct error *e)
{
        struct http *h = calloc(1, sizeof(*h));
        int r;

        if (!h)
                return -ENOMEM;
        ret->ops = &http_ops;
        ret->http = h;
        ret->size = UINT64_MAX;
        pthread_mutex_init(&h->lock, NULL);
        pthread_cond_init(&h->room, NULL);
        h->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        h->all = true;
        h->ahead_max = AHEAD_FIRST;
        if (h->event < 0)
                return fail_errno(e, -errno, "cannot make an event descriptor");
        r = fetch_new(urls, config, &h->f, e);
        if (r < 0)
                return r;
        ret->where = strdup(fetch_where(h->f));
        ret->has_others = fetch_has_others(h->f);
        if (!ret->where)
                return -ENOMEM;
        h->climb = climb_begin(1, 1);
        r = start_worker(h);
        if (r >= 0)
                r = wait_for_answer(ret, h, e);
        ret->size = fetch_state(h->f).size;
        if (r >= 0 && fetch_state(h->f).ranges)
                begin_to_climb(h, config->connections);
        return r;
}
