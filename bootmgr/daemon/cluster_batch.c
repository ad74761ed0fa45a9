/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What nodes say of themselves goes into the store together: one transaction at a time, and what comes meanwhile is the
 * next.
 *
 *      words ──as many as fit──▶ writing ──▶ store ─┬─ made ─▶ all are answered
 *        ▲                                          └─ a compare did not hold ─▶ each alone
 *      node, node, …
 *
 * When nobody else speaks nothing waits; when a thousand do, the store has a few dozen transactions to make. One whose
 * compares do not hold must not stand in the way of the others: so each is tried alone then. */
#include "cluster/request.h"
#include "daemon/cluster.h"

#define BYTES_MAX (STORE_TXN_MAX / 2) /* of values */

struct cluster_word {
        struct cluster_word *next;
        struct plan plan;
        control_made made;
        void *userdata;
};

/* A transaction that grows; everything in it is borrowed. */
struct batch {
        struct store_compare compares[STORE_COMPARES];
        struct store_write writes[STORE_WRITES];
        size_t n_compares, n_writes, bytes;
};

/* 1: it is there; -EEXIST: another one of the same key, and one of the two cannot hold. */
static int find_compare(const struct batch *b, const struct store_compare *c)
{
        for (size_t i = 0; i < b->n_compares; i++)
                if (streq(b->compares[i].key, c->key))
                        return b->compares[i].test == c->test && b->compares[i].revision == c->revision ? 1 : -EEXIST;
        return 0;
}

static bool is_written(const struct batch *b, const char *key)
{
        for (size_t i = 0; i < b->n_writes; i++)
                if (streq(b->writes[i].key, key))
                        return true;
        return false;
}

static bool fits(const struct batch *b, const struct plan *p)
{
        size_t bytes = b->bytes;

        if (b->n_compares + p->n_compares > STORE_COMPARES || b->n_writes + p->n_writes > STORE_WRITES)
                return false;
        for (size_t i = 0; i < p->n_compares; i++)
                if (find_compare(b, &p->compares[i]) < 0)
                        return false;
        for (size_t i = 0; i < p->n_writes; i++) {
                bytes += p->writes[i].size;
                if (p->writes[i].delete || is_written(b, p->writes[i].key))
                        return false;
        }
        return bytes <= BYTES_MAX;
}

static void add(struct batch *b, const struct plan *p)
{
        for (size_t i = 0; i < p->n_compares; i++)
                if (find_compare(b, &p->compares[i]) == 0)
                        b->compares[b->n_compares++] = p->compares[i];
        for (size_t i = 0; i < p->n_writes; i++) {
                b->bytes += p->writes[i].size;
                b->writes[b->n_writes++] = p->writes[i];
        }
}

static void word_free(struct cluster_word *w)
{
        plan_done(&w->plan);
        free(w);
}

static void words_free(struct cluster_word *words)
{
        for (struct cluster_word *w = words, *next; w; w = next) {
                next = w->next;
                word_free(w);
        }
}

static void write_next(struct cluster *c);

static void answer_all(struct cluster *c, struct cluster_word *words, int result, const struct error *e)
{
        for (struct cluster_word *w = words, *next; w; w = next) {
                next = w->next;
                w->made(c, result, e, w->userdata);
                word_free(w);
        }
}

static void try_alone(struct cluster *c, struct cluster_word *words)
{
        for (struct cluster_word *w = words, *next; w; w = next) {
                next = w->next;
                control_commit(c, &w->plan, w->made, w->userdata);
                word_free(w);
        }
}

static void on_written(int result, const struct store_reply *reply, const struct error *e, void *userdata)
{
        struct cluster *c = userdata;
        struct cluster_word *words = TAKE_PTR(c->writing);

        if (result >= 0 && reply->done)
                c->written = MAX(c->written, reply->revision);
        else if (result >= 0)
                result = -EAGAIN;
        if (result == -EAGAIN && words->next)
                try_alone(c, words);
        else
                answer_all(c, words, result, e);
        write_next(c);
}

/* The first goes in any case: what is wrong with it the store says. */
static void write_next(struct cluster *c)
{
        _cleanup_free_ struct batch *b = NULL;
        _cleanup_error_ struct error e = {};
        struct cluster_word **end = &c->words;
        int r = -ENOMEM;

        if (c->writing || !c->words)
                return;
        b = calloc(1, sizeof(*b));
        while (b && *end && (b->n_writes == 0 || fits(b, &(*end)->plan))) {
                add(b, &(*end)->plan);
                end = &(*end)->next;
        }
        if (!b)
                end = &c->words->next;
        c->writing = c->words;
        c->words = TAKE_PTR(*end);
        if (!c->words)
                c->words_end = &c->words;
        if (b)
                r = store_commit(c->store, &(struct store_txn){ b->compares, b->n_compares, b->writes, b->n_writes },
                                 on_written, c, NULL, &e);
        if (r >= 0)
                return;
        answer_all(c, TAKE_PTR(c->writing), r, &e);
        write_next(c);
}

void control_commit_together(struct cluster *c, struct plan *plan, control_made made, void *userdata)
{
        struct cluster_word *w = calloc(1, sizeof(*w));
        _cleanup_error_ struct error e = {};

        if (!w) {
                plan_done(plan);
                made(c, -ENOMEM, &e, userdata);
                return;
        }
        *w = (struct cluster_word){ NULL, TAKE(*plan, (struct plan){}), made, userdata };
        if (!c->words)
                c->words_end = &c->words;
        *c->words_end = w;
        c->words_end = &w->next;
        write_next(c);
}

bool control_is_writing(const struct cluster *c)
{
        return c->commits || c->words || c->writing;
}

void batch_done(struct cluster *c)
{
        words_free(TAKE_PTR(c->words));
        words_free(TAKE_PTR(c->writing));
}
